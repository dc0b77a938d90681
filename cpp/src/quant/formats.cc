#include "quant/formats.h"

#include <algorithm>
#include <vector>

#include "core/fail.h"
#include "core/thread_pool.h"
#include "quant/fp_blocks.h"
#include "quant/gguf_blocks.h"

namespace lamina {
namespace {

constexpr bool kBiased = true;

template <QuantFormat kFormat>
constexpr BlockFormat gguf_row(std::string_view name, int64_t block, int bits, int64_t bytes, int group,
                               int offset, bool biased = false) {
  return {name,
          block,
          bits,
          bytes,
          0,
          Dtype::kUInt8,
          gguf_decode<kFormat>,
          {group, offset, offset == 128 ? 255 : (1 << bits) - 1, biased, gguf_integers<kFormat>}};
}

constexpr IntegerForm e2m1_form(int group, ReadIntegers* read) {
  return {group, kE2m1Offset, 2 * kE2m1Offset, false, read};
}

// By QuantFormat, kAffine left out.
constexpr BlockFormat kFormats[] = {
    {"mxfp4", 32, 4, 16, 1, Dtype::kUInt32, decode_mxfp4, e2m1_form(32, mxfp4_integers)},
    {"mxfp8", 32, 8, 32, 1, Dtype::kUInt32, decode_mxfp8},
    {"nvfp4", 16, 4, 8, 1, Dtype::kUInt32, decode_nvfp4, e2m1_form(16, nvfp4_integers)},
    // Elements and bytes of a block, bits; elements of a group, offset.
    gguf_row<QuantFormat::kQ4_0>("q4_0", 32, 4, 18, 32, 8),
    gguf_row<QuantFormat::kQ4_1>("q4_1", 32, 4, 20, 32, 0, kBiased),
    gguf_row<QuantFormat::kQ5_0>("q5_0", 32, 5, 22, 32, 16),
    gguf_row<QuantFormat::kQ5_1>("q5_1", 32, 5, 24, 32, 0, kBiased),
    gguf_row<QuantFormat::kQ8_0>("q8_0", 32, 8, 34, 32, 128),
    gguf_row<QuantFormat::kQ2K>("q2_k", 256, 2, 84, 16, 0, kBiased),
    gguf_row<QuantFormat::kQ3K>("q3_k", 256, 3, 110, 16, 4),
    gguf_row<QuantFormat::kQ4K>("q4_k", 256, 4, 144, 32, 0, kBiased),
    gguf_row<QuantFormat::kQ5K>("q5_k", 256, 5, 176, 32, 0, kBiased),
    gguf_row<QuantFormat::kQ6K>("q6_k", 256, 6, 210, 16, 32),
    gguf_row<QuantFormat::kIq4Nl>("iq4_nl", 32, 4, 18, 32, 128),
    gguf_row<QuantFormat::kIq4Xs>("iq4_xs", 256, 4, 136, 32, 128),
    {"fp8", 128, 8, 128, 4, Dtype::kUInt32, decode_fp8},
};

// Row `row` (leading axes flattened) of a View as consecutive bytes: in place where they are, else in `copy`.
const uint8_t* row_bytes_of(const View& v, int64_t row, std::vector<uint8_t>& copy) {
  const auto item = static_cast<int64_t>(itemsize(v.dtype));
  int64_t offset = 0;
  for (size_t axis = v.shape.size() - 1; axis-- > 0;) {
    offset += row % v.shape[axis] * v.strides[axis];
    row /= v.shape[axis];
  }
  const uint8_t* first = v.as<uint8_t>() + offset * item;
  const int64_t n = v.shape.back(), step = v.strides.back() * item;
  if (n <= 1 || step == item) return first;
  copy.resize(static_cast<size_t>(n * item));
  for (int64_t i = 0; i < n; ++i) std::copy_n(first + i * step, item, copy.data() + i * item);
  return copy.data();
}

template <class T>
void dequantize_blocks(const View& codes, const View* scales, const View& w, const RowDecoder& decode) {
  const int64_t cols = w.shape.back(), rows = w.size() / cols;
  parallel_ranges(rows, std::max<int64_t>(1, 16384 / cols), [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> code_copy, scale_copy;
    std::vector<float> values(static_cast<size_t>(cols));
    for (int64_t row = begin; row < end; ++row) {
      const uint8_t* scale = scales ? row_bytes_of(*scales, row, scale_copy) : nullptr;
      decode(row, row_bytes_of(codes, row, code_copy), scale, values.data());
      T* dst = w.as<T>() + row * cols;
      for (int64_t i = 0; i < cols; ++i) dst[i] = T(values[static_cast<size_t>(i)]);
    }
  });
}

void check_blocks(const BlockFormat& f, const View& codes, const View* scales, const View& w) {
  constexpr const char* kOp = "dequantize";
  if (codes.dtype != f.code_dtype || (scales && scales->dtype != Dtype::kUInt8)) {
    fail<DtypeError>(kOp, "{} wants codes of {} and scales of uint8, got {} and {}", f.name, f.code_dtype,
                     codes.dtype, scales ? scales->dtype : Dtype::kUInt8);
  }
  if ((scales != nullptr) != (f.scale_bytes > 0)) {
    fail<ValueError>(kOp, "{} {} scales", f.name, scales ? "has no" : "wants");
  }
  Shape code_shape = w.shape, scale_shape = w.shape;
  if (w.shape.empty() || w.shape.back() % f.block != 0) {
    fail<ShapeError>(kOp, "{} wants a last axis divisible by {}, got shape {}", f.name, f.block, w.shape);
  }
  code_shape.back() = f.row_bytes(w.shape.back()) / static_cast<int64_t>(itemsize(f.code_dtype));
  scale_shape.back() = f.row_scale_bytes(w.shape.back());
  if (codes.shape != code_shape || (scales && scales->shape != scale_shape)) {
    fail<ShapeError>(kOp, "{} wants codes and scales of shapes {} and {}, got {} and {}", f.name, code_shape,
                     scale_shape, codes.shape, scales ? scales->shape : scale_shape);
  }
}

}  // namespace

const BlockFormat& block_format(QuantFormat format) {
  const size_t i = static_cast<size_t>(format);
  if (i == 0 || i > std::size(kFormats)) fail<ValueError>("quantize", "format {} has no blocks", i);
  return kFormats[i - 1];
}

bool is_block_format(QuantFormat format) {
  return static_cast<size_t>(format) >= 1 && static_cast<size_t>(format) <= std::size(kFormats);
}

std::optional<QuantFormat> find_format(std::string_view name) {
  if (name == "affine") return QuantFormat::kAffine;
  for (size_t i = 0; i < std::size(kFormats); ++i) {
    if (kFormats[i].name == name) return static_cast<QuantFormat>(i + 1);
  }
  return std::nullopt;
}

std::string format_names() {
  std::string out = "affine";
  for (const BlockFormat& f : kFormats) out.append(", ").append(f.name);
  return out;
}

void block_dequantize(QuantFormat format, const View& codes, const View* scales, const View& w,
                      const RowDecoder& decode) {
  const BlockFormat& f = block_format(format);
  check_blocks(f, codes, scales, w);
  if (w.size() == 0) return;
  switch (w.dtype) {
    case Dtype::kFloat32: return dequantize_blocks<float>(codes, scales, w, decode);
    case Dtype::kFloat16: return dequantize_blocks<float16_t>(codes, scales, w, decode);
    case Dtype::kBFloat16: return dequantize_blocks<bfloat16_t>(codes, scales, w, decode);
    default: fail<DtypeError>("dequantize", "wanted float16, bfloat16 or float32, got {}", w.dtype);
  }
}

void block_dequantize(QuantFormat format, const View& codes, const View* scales, const View& w) {
  const BlockFormat& f = block_format(format);
  block_dequantize(format, codes, scales, w, [&](int64_t, const uint8_t* c, const uint8_t* s, float* dst) {
    f.decode(c, s, w.shape.back() / f.block, dst);
  });
}

}  // namespace lamina
