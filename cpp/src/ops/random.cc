#include <cmath>
#include <limits>
#include <mutex>

#include "core/fork_locks.h"
#include "ops/common.h"

// docs/random.md states every formula; the numbers are those of MLX for the same key.
namespace lamina::random {
namespace {

struct KeyState {
  std::mutex mutex;
  Array key;
};
KeyState& key_state() {
  static KeyState* s = new KeyState;
  return *s;
}
void lock_state() { key_state().mutex.lock(); }
void unlock_state() { key_state().mutex.unlock(); }
[[maybe_unused]] const int at_fork_random =
    at_fork(ForkRank::kRandom, {lock_state, unlock_state, unlock_state});

Array key_or_next(const std::optional<Array>& key, const char* op) {
  if (!key) return next_key();
  if (key->dtype() != Dtype::kUInt32 || key->shape() != Shape{2}) {
    fail<ValueError>(op, "a key must be uint32 of shape (2,), got {} of shape {}", key->dtype(),
                     key->shape());
  }
  return *key;
}

void check_floating(Dtype dtype, const char* op) {
  if (!is_floating(dtype)) fail<DtypeError>(op, "wants a floating dtype, got {}", dtype);
}

// An operand that does not broadcast to the shape that was asked for would make a result of another.
void check_fits(const Array& a, const Shape& shape, const char* op, const char* name) {
  if (broadcasts_to(a.shape(), shape)) return;
  fail<ShapeError>(op, "{} of shape {} does not broadcast to shape {}", name, a.shape(), shape);
}

Array constant(double v, Dtype t) { return Array(v, t); }

// The largest number of the dtype below 1.
double below_one(Dtype t) {
  switch (t) {
    case Dtype::kFloat16: return 1 - 0x1p-11;
    case Dtype::kBFloat16: return 1 - 0x1p-8;
    case Dtype::kFloat64: return 1 - 0x1p-53;
    default: return 1 - 0x1p-24;
  }
}

// Uniform in (-1, 1) as float32 (or float64), the argument of inverse error functions.
Array symmetric(const Shape& shape, Dtype t, const Array& key) {
  const double low = t == Dtype::kFloat64 ? std::nextafter(-1.0, 0.0) : -below_one(Dtype::kFloat32);
  return uniform(constant(low, t), constant(1, t), shape, t, key);
}

Dtype wide(Dtype t) { return t == Dtype::kFloat64 ? t : Dtype::kFloat32; }

}  // namespace

Array key(uint64_t seed) {
  return Array({static_cast<uint32_t>(seed >> 32), static_cast<uint32_t>(seed)}, Shape{2});
}

void seed(uint64_t value) { set_state(key(value)); }

Array state() {
  KeyState& s = key_state();
  std::lock_guard lock(s.mutex);
  if (!s.key.valid()) s.key = key(0);
  return s.key;
}

void set_state(const Array& k) {
  if (k.dtype() != Dtype::kUInt32 || k.shape() != Shape{2}) {
    fail<ValueError>("random", "a state must be uint32 of shape (2,), got {} of shape {}", k.dtype(),
                     k.shape());
  }
  KeyState& s = key_state();
  std::lock_guard lock(s.mutex);
  s.key = k;
}

Array next_key() {
  KeyState& s = key_state();
  std::lock_guard lock(s.mutex);
  if (!s.key.valid()) s.key = key(0);
  const Array pair = split_keys(s.key, 2);
  s.key = take(pair, Array(0), 0);
  return take(pair, Array(1), 0);
}

Array bits(const Shape& shape, int width, const std::optional<Array>& key) {
  const Array k = key_or_next(key, "bits");
  num_elements(shape);
  for (int64_t d : shape) {
    if (d < 0) fail<ShapeError>("bits", "lengths must not be negative, got shape {}", shape);
  }
  if (width != 1 && width != 2 && width != 4)
    fail<ValueError>("bits", "width must be 1, 2 or 4, got {}", width);
  const Dtype t = width == 1 ? Dtype::kUInt8 : width == 2 ? Dtype::kUInt16 : Dtype::kUInt32;
  return make_node(OpId::RandomBits, t, shape, {k}, make_params(RandomBitsParams{width}));
}

Array split_keys(const Array& key, int num) {
  if (num < 0) fail<ValueError>("split", "num must not be negative, got {}", num);
  return bits({num, 2}, 4, key);
}

std::vector<Array> split(const Array& key, int num) {
  const Array all = split_keys(key, num);
  std::vector<Array> out;
  for (int64_t i = 0; i < num; ++i) out.push_back(take(all, Array(i), 0));
  return out;
}

Array uniform(const Array& low, const Array& high, const Shape& shape, Dtype dtype,
              const std::optional<Array>& key) {
  check_floating(dtype, "uniform");
  check_fits(low, shape, "uniform", "low");
  check_fits(high, shape, "uniform", "high");
  const Array k = key_or_next(key, "uniform");
  const Array lo = astype(low, dtype), hi = astype(high, dtype);
  const Dtype t = wide(dtype);
  const Array w = multiply(astype(bits(shape, 4, k), t), constant(0x1p-32, t));
  const Array u = minimum(astype(w, dtype), constant(below_one(dtype), dtype));
  // The width and the product are rounded to the dtype, whatever they are fused with.
  const Array width = astype(subtract(astype(hi, t), astype(lo, t)), dtype);
  return add(astype(multiply(astype(width, t), astype(u, t)), dtype), lo);
}

Array normal(const Shape& shape, Dtype dtype, const std::optional<Array>& loc,
             const std::optional<Array>& scale, const std::optional<Array>& key) {
  const Array k = key_or_next(key, "normal");
  if (is_complex(dtype)) {
    Shape pairs = shape;
    pairs.push_back(2);
    const Array e = erfinv(symmetric(pairs, Dtype::kFloat32, k));
    Array z = squeeze(view(e, Dtype::kComplex64), Axes{-1});
    if (scale) z = multiply(astype(*scale, dtype), z);
    return loc ? add(z, astype(*loc, dtype)) : z;
  }
  check_floating(dtype, "normal");
  const Array e = astype(erfinv(symmetric(shape, wide(dtype), k)), dtype);
  const Array root = constant(std::sqrt(2.0), dtype);
  Array z = multiply(scale ? multiply(root, astype(*scale, dtype)) : root, e);
  if (loc) z = add(z, astype(*loc, dtype));
  return broadcast_to(z, shape);
}

Array randint(const Array& low, const Array& high, const Shape& shape, Dtype dtype,
              const std::optional<Array>& key) {
  if (!is_integer(dtype)) fail<DtypeError>("randint", "wants an integer dtype, got {}", dtype);
  const Array u =
      uniform(astype(low, Dtype::kFloat32), astype(high, Dtype::kFloat32), shape, Dtype::kFloat32, key);
  const Array top = subtract(astype(high, dtype), Array(int64_t{1}, dtype));
  return maximum(minimum(astype(floor(u), dtype), top), astype(low, dtype));
}

Array bernoulli(const Array& p, const std::optional<Shape>& shape, const std::optional<Array>& key) {
  const Shape out = shape.value_or(p.shape());
  check_fits(p, out, "bernoulli", "p");
  const Array limit =
      multiply(astype(p, Dtype::kFloat32), constant(std::nextafter(0x1p32f, INFINITY), Dtype::kFloat32));
  return less(astype(bits(out, 4, key_or_next(key, "bernoulli")), Dtype::kFloat32), limit);
}

Array truncated_normal(const Array& lower, const Array& upper, const std::optional<Shape>& shape, Dtype dtype,
                       const std::optional<Array>& key) {
  check_floating(dtype, "truncated_normal");
  const Shape out = shape.value_or(broadcast_shapes(lower.shape(), upper.shape(), "truncated_normal"));
  const Array lo = astype(lower, dtype), hi = astype(upper, dtype);
  const Array root = constant(std::sqrt(2.0), dtype);
  const Array u = uniform(erf(divide(lo, root)), erf(divide(hi, root)), out, dtype, key);
  return clip(multiply(root, erfinv(u)), lo, hi);
}

Array gumbel(const Shape& shape, Dtype dtype, const std::optional<Array>& key) {
  const Array u = uniform(constant(0, dtype), constant(1, dtype), shape, dtype, key);
  return negative(log(negative(log(u))));
}

Array categorical(const Array& logits, int64_t axis, const std::optional<Shape>& shape,
                  std::optional<int64_t> num_samples, const std::optional<Array>& key) {
  if (shape && num_samples) fail<ValueError>("categorical", "wants shape or num_samples, both came");
  const int64_t at = normalize_axis(axis, logits.ndim(), "categorical");
  const Shape rest = drop_dims(logits.shape(), {at});
  auto noise = [&](const Shape& s) { return gumbel(s, Dtype::kFloat32, key); };
  if (num_samples) {
    Shape wide_shape = logits.shape();
    wide_shape.push_back(*num_samples);
    return argmax(add(expand_dims(logits, {-1}), noise(wide_shape)), at);
  }
  Shape extra;
  if (shape) {
    const bool fits = shape->size() >= rest.size() &&
                      std::equal(rest.begin(), rest.end(), shape->end() - static_cast<int64_t>(rest.size()));
    if (!fits) {
      fail<ShapeError>("categorical", "shape {} must end in {}, the logits' shape without axis {}", *shape,
                       rest, axis);
    }
    extra = Shape(shape->begin(), shape->end() - static_cast<int64_t>(rest.size()));
  }
  Shape wide_shape = extra;
  for (int64_t d : logits.shape()) wide_shape.push_back(d);
  return argmax(add(logits, noise(wide_shape)), at + static_cast<int64_t>(extra.size()));
}

Array permutation(int64_t n, const std::optional<Array>& key) {
  if (n < 0) fail<ValueError>("permutation", "n must not be negative, got {}", n);
  return argsort(bits({n}, 4, key), 0);
}

Array permutation(const Array& x, int64_t axis, const std::optional<Array>& key) {
  const int64_t at = normalize_axis(axis, x.ndim(), "permutation");
  return take(x, permutation(x.shape()[static_cast<size_t>(at)], key), at);
}

}  // namespace lamina::random
