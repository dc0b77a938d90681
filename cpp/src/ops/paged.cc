#include "ops/common.h"
#include "quant/kv_rows.h"

namespace lamina::fast {
namespace {

constexpr Dtype kHalf = Dtype::kFloat16, kInt32 = Dtype::kInt32;

bool is_stored_float(Dtype t) { return is_floating(t) && t != Dtype::kFloat64; }

// Bits of an element of a pool of codes; 0 where it holds floats.
int bits_of(Dtype pool) { return pool == Dtype::kInt8 ? 8 : pool == Dtype::kUInt8 ? 4 : 0; }

void check_index_vector(const Array& a, int64_t length, const char* op, const char* name) {
  if (a.dtype() != kInt32 || a.ndim() != 1 || a.shape(0) != length) {
    fail<ShapeError>(op, "{} must be int32 of shape ({},), got {} of shape {}", name, length, a.dtype(),
                     a.shape());
  }
}

// Elements of a row of a pool; checks that scales are there for codes, and only for them.
int64_t check_pool(const Array& pool, const std::optional<Array>& scales, const char* op, const char* name) {
  if (pool.ndim() != 4) {
    fail<ShapeError>(op, "{} must have 4 axes (blocks, heads, positions, D), got shape {}", name,
                     pool.shape());
  }
  const int bits = bits_of(pool.dtype());
  if (bits == 0 && !is_stored_float(pool.dtype())) {
    fail<DtypeError>(op, "{} must be float32, float16, bfloat16, int8 (8 bits) or uint8 (4 bits), got {}",
                     name, pool.dtype());
  }
  if ((bits != 0) != scales.has_value()) {
    fail<ValueError>(op, "{} of {} {} scales, got {}", name, pool.dtype(), bits ? "wants" : "takes no",
                     scales ? "an array" : "None");
  }
  const int64_t elems = bits == 4 ? 2 * pool.shape(-1) : pool.shape(-1);
  if (scales) {
    Shape wanted = pool.shape();
    wanted.back() = kv_groups(elems);
    if (scales->dtype() != kHalf || scales->shape() != wanted) {
      fail<ShapeError>(op, "{} of {} wants float16 scales of shape {}, got {} of shape {}", name,
                       pool.shape(), wanted, scales->dtype(), scales->shape());
    }
  }
  return elems;
}

void check_operands(const Array& queries, const Array& key_pool, const Array& value_pool, const Array& tables,
                    const PagedAttention& options) {
  const char* op = "paged_attention";
  if (queries.ndim() != 3 || !is_stored_float(queries.dtype())) {
    fail<ShapeError>(op,
                     "queries must be float32, float16 or bfloat16 of shape (T, H, D), got {} of shape {}",
                     queries.dtype(), queries.shape());
  }
  const int64_t dim = check_pool(key_pool, options.key_scales, op, "key_pool");
  check_pool(value_pool, options.value_scales, op, "value_pool");
  const int64_t heads = queries.shape(1), kv_heads = key_pool.shape(1);
  const bool same = key_pool.shape(0) == value_pool.shape(0) && kv_heads == value_pool.shape(1) &&
                    key_pool.shape(2) == value_pool.shape(2);
  if (!same || dim != queries.shape(2) || dim == 0 || kv_heads == 0 || heads % kv_heads != 0 ||
      key_pool.shape(2) == 0) {
    fail<ShapeError>(
        op,
        "queries {}, key_pool {} and value_pool {} do not fit: equal head dim (at least 1), equal "
        "blocks, heads and positions, query heads a multiple of key heads",
        queries.shape(), key_pool.shape(), value_pool.shape());
  }
  if (tables.ndim() != 2 || tables.dtype() != kInt32) {
    fail<ShapeError>(op, "tables must be int32 of shape (B, N), got {} of shape {}", tables.dtype(),
                     tables.shape());
  }
  if (options.window && *options.window < 1) {
    fail<ValueError>(op, "window must be at least 1, got {}", *options.window);
  }
  if (options.softcap && !(*options.softcap > 0)) {
    fail<ValueError>(op, "softcap must be positive, got {}", *options.softcap);
  }
  if (options.sinks && (options.sinks->ndim() != 1 || options.sinks->shape(0) != heads)) {
    fail<ShapeError>(op, "sinks must have shape ({},), got {}", heads, options.sinks->shape());
  }
  if (options.sinks && !is_floating(options.sinks->dtype())) {
    fail<DtypeError>(op, "sinks must be floating, got {}", options.sinks->dtype());
  }
}

}  // namespace

Array paged_attention(const Array& queries, const Array& key_pool, const Array& value_pool,
                      const Array& tables, const Array& query_ends, const Array& lengths,
                      const PagedAttention& options) {
  check_operands(queries, key_pool, value_pool, tables, options);
  check_index_vector(query_ends, tables.shape(0), "paged_attention", "query_ends");
  check_index_vector(lengths, tables.shape(0), "paged_attention", "lengths");
  std::vector<Array> inputs{queries, key_pool, value_pool, tables, query_ends, lengths};
  PagedAttentionParams p;
  p.scale = static_cast<float>(options.scale);
  p.softcap = static_cast<float>(options.softcap.value_or(0));
  p.window = options.window.value_or(0);
  if (options.sinks) inputs.push_back(astype(*options.sinks, Dtype::kFloat32)), p.has_sinks = true;
  if (options.key_scales) inputs.push_back(*options.key_scales), p.has_key_scales = true;
  if (options.value_scales) inputs.push_back(*options.value_scales), p.has_value_scales = true;
  const int64_t v_dim =
      value_pool.shape(-1) * (p.has_value_scales && bits_of(value_pool.dtype()) == 4 ? 2 : 1);
  return make_node(OpId::PagedAttention, queries.dtype(), {queries.shape(0), queries.shape(1), v_dim}, inputs,
                   make_params(p));
}

Array cache_write(const Array& pool, const Array& rows, const Array& slots) {
  const char* op = "cache_write";
  if (pool.ndim() != 4) {
    fail<ShapeError>(op, "pool must have 4 axes (blocks, heads, positions, D), got shape {}", pool.shape());
  }
  if (rows.ndim() != 3 || rows.shape(1) != pool.shape(1) || rows.shape(2) != pool.shape(3)) {
    fail<ShapeError>(op, "rows must have shape (T, {}, {}) for a pool of {}, got {}", pool.shape(1),
                     pool.shape(3), pool.shape(), rows.shape());
  }
  const bool converts = is_stored_float(pool.dtype()) && is_stored_float(rows.dtype());
  if (rows.dtype() != pool.dtype() && !converts) {
    fail<DtypeError>(op, "rows of {} do not go into a pool of {}", rows.dtype(), pool.dtype());
  }
  check_index_vector(slots, rows.shape(0), op, "slots");
  return make_node(OpId::CacheWrite, pool.dtype(), pool.shape(), {pool, rows, slots});
}

std::vector<Array> quantize_kv(const Array& rows, int bits) {
  const char* op = "quantize_kv";
  if (rows.ndim() < 1 || !is_stored_float(rows.dtype())) {
    fail<DtypeError>(op, "rows must be float32, float16 or bfloat16 of shape (..., D), got {} of shape {}",
                     rows.dtype(), rows.shape());
  }
  if (bits != 8 && bits != 4) fail<ValueError>(op, "bits must be 8 or 4, got {}", bits);
  const int64_t dim = rows.shape(-1);
  if (bits == 4 && dim % 2 != 0) fail<ShapeError>(op, "rows of 4 bits have an even length, got {}", dim);
  Shape codes = rows.shape(), scales = rows.shape();
  codes.back() = kv_code_bytes(dim, bits);
  scales.back() = kv_groups(dim);
  const Shape shapes[] = {codes, scales};
  const Dtype dtypes[] = {bits == 8 ? Dtype::kInt8 : Dtype::kUInt8, kHalf};
  QuantizeKvParams p;
  p.bits = bits;
  return make_tuple_node(OpId::QuantizeKv, shapes, dtypes, std::span(&rows, 1), make_params(p));
}

}  // namespace lamina::fast
