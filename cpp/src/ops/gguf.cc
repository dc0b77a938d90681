#include "ops/gguf.h"

#include "ops/common.h"
#include "quant/formats.h"

namespace lamina {
namespace {

// bytes[.., begin:end:step]
Array last_axis(const Array& a, int64_t begin, int64_t end, int64_t step = 1) {
  Shape start(a.shape().size(), 0), stop = a.shape();
  Strides steps(a.shape().size(), 1);
  start.back() = begin;
  stop.back() = end;
  steps.back() = step;
  return slice(a, start, stop, steps);
}

Array small(int64_t v) { return Array(v, Dtype::kUInt8); }

// 16 bytes of nibbles, low halves first, as 16 bytes with neighbours side by side.
Array neighbours_together(const Array& nibbles) {
  std::vector<Array> halves;
  for (const Array& half : {bitwise_and(nibbles, small(15)), right_shift(nibbles, small(4))}) {
    halves.push_back(bitwise_or(last_axis(half, 0, 16, 2), left_shift(last_axis(half, 1, 16, 2), small(4))));
  }
  return concatenate(halves, -1);
}

}  // namespace

bool gguf_is_affine(QuantFormat format) {
  return format == QuantFormat::kQ4_0 || format == QuantFormat::kQ4_1 || format == QuantFormat::kQ8_0;
}

std::vector<Array> gguf_to_affine(const Array& blocks, QuantFormat format) {
  const BlockFormat& block = block_format(format);
  if (!gguf_is_affine(format)) fail<ValueError>("gguf", "{} has no affine form", block.name);
  if (blocks.dtype() != Dtype::kUInt8 || blocks.ndim() == 0 || blocks.shape(-1) % block.code_bytes != 0) {
    fail<ShapeError>("gguf", "{} wants uint8 rows of whole blocks of {} bytes, got {} of {}", block.name,
                     block.code_bytes, blocks.shape(), blocks.dtype());
  }
  Shape edges = blocks.shape(), words = blocks.shape(), split = blocks.shape();
  edges.back() /= block.code_bytes;
  words.back() = edges.back() * (format == QuantFormat::kQ8_0 ? 8 : 4);
  split.back() = edges.back();
  split.push_back(block.code_bytes);
  const Array each = reshape(blocks, split);
  const auto half = [&](int64_t at) {
    return reshape(view(contiguous(last_axis(each, at, at + 2)), Dtype::kFloat16), edges);
  };
  const auto factor = [](double v) { return Array(v, Dtype::kFloat16); };
  const Array scales = half(0);
  const int64_t begin = format == QuantFormat::kQ4_1 ? 4 : 2;
  Array codes = last_axis(each, begin, block.code_bytes);
  codes = format == QuantFormat::kQ8_0 ? bitwise_xor(codes, small(128)) : neighbours_together(codes);
  const Array biases = format == QuantFormat::kQ4_1   ? half(2)
                       : format == QuantFormat::kQ4_0 ? multiply(scales, factor(-8))
                                                      : multiply(scales, factor(-128));
  return {reshape(view(contiguous(codes), Dtype::kUInt32), words), scales, biases};
}

}  // namespace lamina
