#include "lamina/linalg.h"
#include "ops/common.h"

// The gated delta rule, a chunk of time steps at once: what a step writes depends on what the earlier steps
// of its chunk wrote, which is a triangular system; only the states between chunks follow one another.
namespace lamina::fast {
namespace {

constexpr const char* kGatedDelta = "gated_delta_update";
constexpr int64_t kStepsPerChunk = 64;

// Queries and keys (B, Hk, 1, T, Dk), values (B, Hk, R, T, Dv), gates (B, Hk, R, T): R heads of values share
// keys.
struct Steps {
  Array q, k, v, gamma, beta;
  int64_t length() const { return v.shape(3); }
};

void check_shapes(const Array& q, const Array& k, const Array& v, const Array& gamma, const Array& beta) {
  const bool ranks = q.ndim() == 4 && k.ndim() == 4 && v.ndim() == 4;
  const bool fit = ranks && q.shape() == k.shape() && q.shape(0) == v.shape(0) && q.shape(1) == v.shape(1) &&
                   q.shape(2) > 0 && v.shape(2) % q.shape(2) == 0;
  if (!fit) {
    fail<ShapeError>(
        kGatedDelta,
        "wants q and k (B, T, Hk, Dk) and v (B, T, Hv, Dv), Hv a multiple of Hk, got {}, {} and {}",
        q.shape(), k.shape(), v.shape());
  }
  const Shape gates(v.shape().begin(), v.shape().end() - 1);
  if (gamma.shape() != gates || beta.shape() != gates) {
    fail<ShapeError>(kGatedDelta, "gamma and beta must have shape {}, got {} and {}", gates, gamma.shape(),
                     beta.shape());
  }
}

// (B, T, H, ...) as (B, Hk, H / Hk, T, ...).
Array by_head(const Array& x, int64_t key_heads) {
  Shape shape{x.shape(0), x.shape(1), key_heads, x.shape(2) / key_heads};
  Axes order{0, 2, 3, 1};
  if (x.ndim() == 4) {
    shape.push_back(x.shape(3));
    order.push_back(4);
  }
  return transpose(reshape(x, shape), order);
}

// Steps [begin, begin + chunks * length) as (B, Hk, R, chunks, length, ...).
Array chunked(const Array& x, int64_t begin, int64_t chunks, int64_t length) {
  Shape start(x.shape().size(), 0), stop = x.shape();
  start[3] = begin;
  stop[3] = begin + chunks * length;
  const Array part = slice(x, start, stop);
  Shape shape(part.shape().begin(), part.shape().begin() + 3);
  shape.push_back(chunks);
  shape.push_back(length);
  if (x.ndim() == 5) shape.push_back(x.shape(4));
  return reshape(part, shape);
}

// The row (index, as axis -2) not in front of the column, or behind it, of an n x n matrix.
Array lower_triangle(int64_t n, bool strict) {
  const Array i = arange(0, n, 1, Dtype::kInt32);
  const Array row = expand_dims(i, {1});
  return strict ? greater(row, i) : greater_equal(row, i);
}

Array flipped(const Array& x) { return swapaxes(x, -1, -2); }
Array chunk_of(const Array& x, int64_t c) {
  return squeeze(slice(x, Shape{0, 0, 0, c, 0, 0},
                       Shape{x.shape(0), x.shape(1), x.shape(2), c + 1, x.shape(4), x.shape(5)}),
                 Axes{3});
}

// What a run of chunks needs beside the states between them, each (B, Hk, R, chunks, ...).
struct Chunks {
  Array values;   // (C, Dv): what each step writes into an empty state
  Array removed;  // (C, Dk): times the state: what it writes less for it
  Array weights;  // (C, C): of the writes in each step's output
  Array queries;  // (C, Dk): times the state: the rest of the output
  Array keys;     // (C, Dk): times the writes: the next state
  Array decay;    // (1, 1): of the state over the chunk
};

Chunks make_chunks(const Steps& s, int64_t begin, int64_t chunks, int64_t n) {
  const Array q = chunked(s.q, begin, chunks, n), k = chunked(s.k, begin, chunks, n),
              v = chunked(s.v, begin, chunks, n);
  const Array gamma = expand_dims(chunked(s.gamma, begin, chunks, n), {-1}),
              beta = expand_dims(chunked(s.beta, begin, chunks, n), {-1});
  const Array since = scan(gamma, ScanKind::kProd, 4, false, true);  // decay of the state before the chunk
  const Array reads = multiply(multiply(beta, since), k);
  if (n == 1) {
    return {multiply(beta, v),
            reads,
            matmul(q, flipped(k)),
            multiply(since, q),
            broadcast_to(k, reads.shape()),
            since};
  }
  const Dtype t = v.dtype();
  const Array zero(int64_t{0}, t), one(int64_t{1}, t);
  const Array later = lower_triangle(n, true), seen = lower_triangle(n, false);
  // decays[t, i]: the product of gamma over (i, t]. Not a quotient of products, since gamma may be 0.
  const Array decays = scan(where(later, gamma, one), ScanKind::kProd, 4, false, true);
  const Array among = multiply(multiply(beta, decays), matmul(k, flipped(k)));
  const Array system = add(where(later, among, zero), eye(n, n, 0, t));
  const Array both[] = {multiply(beta, v), reads};
  const Array solved = linalg::solve_triangular(system, concatenate(both, -1), false);
  const int64_t dv = v.shape(-1), dk = k.shape(-1);
  Shape start(6, 0), stop = solved.shape();
  stop[5] = dv;
  const Array values = slice(solved, start, stop);
  start[5] = dv;
  stop[5] = dv + dk;
  start[4] = 0;
  const Array removed = slice(solved, start, stop);
  const Array weights = where(seen, multiply(decays, matmul(q, flipped(k))), zero);
  Shape last(6, 0), end = decays.shape();
  last[4] = n - 1;
  const Array to_end = flipped(slice(decays, last, end));
  end[5] = 1;
  return {values, removed, weights, multiply(since, q), multiply(to_end, k), slice(since, last, end)};
}

// Appends the outputs (B, Hk, R, C, Dv) of the chunks and returns the state (B, Hk, R, Dv, Dk) behind them.
Array run_chunks(const Chunks& all, Array state, std::vector<Array>& outputs) {
  for (int64_t c = 0; c < all.values.shape(3); ++c) {
    const Array transposed = flipped(state);
    const Array writes = subtract(chunk_of(all.values, c), matmul(chunk_of(all.removed, c), transposed));
    outputs.push_back(
        add(matmul(chunk_of(all.queries, c), transposed), matmul(chunk_of(all.weights, c), writes)));
    state = add(multiply(chunk_of(all.decay, c), state), matmul(flipped(writes), chunk_of(all.keys, c)));
  }
  return state;
}

Steps make_steps(const Array& q, const Array& k, const Array& v, const Array& gamma, const Array& beta,
                 const std::optional<Array>& mask) {
  const int64_t heads = q.shape(2);
  Steps s{by_head(q, heads), by_head(k, heads), by_head(v, heads), by_head(gamma, heads),
          by_head(beta, heads)};
  if (!mask) return s;
  const Shape steps{q.shape(0), q.shape(1)};
  if (mask->ndim() != 2 || broadcast_shapes(mask->shape(), steps, kGatedDelta) != steps) {
    fail<ShapeError>(kGatedDelta, "mask must broadcast to {}, got shape {}", steps, mask->shape());
  }
  const Array flags = expand_dims(astype(*mask, Dtype::kBool), {1, 2});  // (B, 1, 1, T)
  const Array wide = expand_dims(flags, {-1});
  const Array zero(int64_t{0}, v.dtype()), one(int64_t{1}, v.dtype());
  s.q = where(wide, s.q, zero);
  s.k = where(wide, s.k, zero);
  s.v = where(wide, s.v, zero);
  s.gamma = where(flags, s.gamma, one);
  s.beta = where(flags, s.beta, zero);
  return s;
}

}  // namespace

std::vector<Array> gated_delta_update(const Array& q, const Array& k, const Array& v, const Array& gamma,
                                      const Array& beta, const std::optional<Array>& initial_state,
                                      const std::optional<Array>& mask) {
  check_shapes(q, k, v, gamma, beta);
  const Dtype out = to_inexact(promote(q.dtype(), k.dtype())), t = promote(out, Dtype::kFloat32);
  for (const Array* x : {&q, &k, &v, &gamma, &beta}) {
    if (is_complex(x->dtype())) fail<DtypeError>(kGatedDelta, "wants real dtypes, got {}", x->dtype());
  }
  const int64_t batch = v.shape(0), length = v.shape(1), heads = v.shape(2), dv = v.shape(3), dk = k.shape(3);
  const Shape whole{batch, heads, dv, dk}, grouped{batch, k.shape(2), heads / k.shape(2), dv, dk};
  if (initial_state && (initial_state->shape() != whole || is_complex(initial_state->dtype()))) {
    fail<ShapeError>(kGatedDelta, "initial_state must be real and of shape {}, got {} of shape {}", whole,
                     initial_state->dtype(), initial_state->shape());
  }
  Array state = initial_state ? reshape(astype(*initial_state, t), grouped) : zeros(grouped, t);
  const Steps steps =
      make_steps(astype(q, t), astype(k, t), astype(v, t), astype(gamma, t), astype(beta, t), mask);
  if (length == 0 || batch == 0 || heads == 0) return {zeros(v.shape(), out), reshape(state, whole)};
  const int64_t full = length / kStepsPerChunk, rest = length % kStepsPerChunk;
  std::vector<Array> outputs;
  if (full > 0) state = run_chunks(make_chunks(steps, 0, full, kStepsPerChunk), state, outputs);
  if (rest > 0) state = run_chunks(make_chunks(steps, full * kStepsPerChunk, 1, rest), state, outputs);
  const Array y = outputs.size() == 1 ? outputs[0] : concatenate(outputs, 3);
  return {astype(reshape(transpose(y, Axes{0, 3, 1, 2, 4}), v.shape()), out), reshape(state, whole)};
}

}  // namespace lamina::fast
