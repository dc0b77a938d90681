#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/thread_pool.h"
#include "core/view.h"
#include "lamina/quant.h"

namespace lamina {

// ints[0, blocks * block) = the codes of consecutive blocks, and the scales and biases of their groups.
using ReadIntegers = void(const uint8_t* codes, const uint8_t* block_scales, int64_t blocks, uint8_t* ints,
                          float* scales, float* biases);

// Elements as integers: each is scale * (code - offset), + bias where biased, with codes of 0 to `most` and
// one scale and bias for each `group` consecutive elements. The product is exact in float32.
struct IntegerForm {
  int group = 0, offset = 0, most = 0;
  bool biased = false;
  ReadIntegers* read = nullptr;  // null for a format whose elements are no such integers
};

// A format whose rows are whole blocks of `block` elements, each block `code_bytes` bytes of the codes and
// `scale_bytes` of the scales (0: the codes hold them). Blocks of a row follow one another in both arrays.
// A new format is a value of QuantFormat, a row of the table in formats.cc, and where it is worth it a
// decoder for vectors in backend/cpu/qmm_blocks.cc.
struct BlockFormat {
  std::string_view name;  // `mode` of the Python functions
  int64_t block;
  int bits;
  int64_t code_bytes, scale_bytes;
  Dtype code_dtype;  // of the array of codes, whose rows are cols / block * code_bytes bytes long
  // dst[0, blocks * block) = the values of consecutive blocks.
  void (*decode)(const uint8_t* codes, const uint8_t* scales, int64_t blocks, float* dst);
  IntegerForm integers = {};

  int64_t row_bytes(int64_t cols) const { return cols / block * code_bytes; }
  int64_t row_scale_bytes(int64_t cols) const { return cols / block * scale_bytes; }
};

// Any format but kAffine, which is described in affine.h.
const BlockFormat& block_format(QuantFormat format);
bool is_block_format(QuantFormat format);  // of any value that the type can hold
// The format of that name, kAffine for "affine"; and all names, for messages.
std::optional<QuantFormat> find_format(std::string_view name);
std::string format_names();

// w [.., cols] (float16, bfloat16 or float32, row-contiguous) = the values of codes [.., row_bytes /
// itemsize] and scales [.., row_scale_bytes] (uint8; null where the format has none), each rounded once.
// Codes and scales may have any strides. Raises DtypeError and ShapeError.
void block_dequantize(QuantFormat format, const View& codes, const View* scales, const View& w);

// Decodes row number `row` (leading axes flattened), whose codes and scales are consecutive bytes.
using RowDecoder = FunctionRef<void(int64_t row, const uint8_t* codes, const uint8_t* scales, float* dst)>;
// The same with another decoder.
void block_dequantize(QuantFormat format, const View& codes, const View* scales, const View& w,
                      const RowDecoder& decode);

}  // namespace lamina
