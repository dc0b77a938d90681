#include "backend/cpu/qmm_blocks.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/qmm_kernel.h"
#include "backend/cpu/simd_target.h"
#include "quant/formats.h"
#include "quant/fp_blocks.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/qmm_blocks.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/qmm_decode-inl.h"
#include "backend/cpu/qmm_gguf-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

// The longest block of any format.
constexpr int64_t kMostBlock = 256;
// Elements of four weight rows that are decoded at a time: 8 KB, which stays in L1 beside the activations.
constexpr int64_t kChunk = 512;
constexpr int64_t kRowBlock = 4;
static_assert(kChunk % kMostBlock == 0 && kGemmDepth % kMostBlock == 0);

using DecodeFn = decltype(BlockFormat::decode);

// Blocks of kGroup elements of kBits bits with one byte of scale each.
template <class Reader, int kGroup, int kBits>
void decode_small_floats(const std::array<float, 256>& scale_of, const uint8_t* codes, const uint8_t* scales,
                         int64_t blocks, float* dst) {
  const Reader reader;
  const int64_t lanes = lane_count();
  for (int64_t b = 0; b < blocks; ++b) {
    const V scale = hn::Set(D(), scale_of[scales[b]]);
    for (int64_t i = 0; i < kGroup; i += lanes) {
      hn::StoreU(hn::Mul(reader.load(codes, i), scale), D(), dst + i);
    }
    codes += kGroup * kBits / 8;
    dst += kGroup;
  }
}

void decode_mxfp4(const uint8_t* codes, const uint8_t* scales, int64_t blocks, float* dst) {
  decode_small_floats<E2m1Reader, 32, 4>(kE8m0, codes, scales, blocks, dst);
}
void decode_mxfp8(const uint8_t* codes, const uint8_t* scales, int64_t blocks, float* dst) {
  decode_small_floats<E4m3Reader, 32, 8>(kE8m0, codes, scales, blocks, dst);
}
void decode_nvfp4(const uint8_t* codes, const uint8_t* scales, int64_t blocks, float* dst) {
  decode_small_floats<E2m1Reader, 16, 4>(kE4m3, codes, scales, blocks, dst);
}

// Blocks of 128 with a float32 scale each, at any address.
void decode_fp8(const uint8_t* codes, const uint8_t* scales, int64_t blocks, float* dst) {
  const E4m3Reader reader;
  const int64_t lanes = lane_count();
  for (int64_t b = 0; b < blocks; ++b, codes += 128, dst += 128) {
    float value;
    std::memcpy(&value, scales + 4 * b, 4);
    const V scale = hn::Set(D(), value);
    for (int64_t i = 0; i < 128; i += lanes) hn::StoreU(hn::Mul(reader.load(codes, i), scale), D(), dst + i);
  }
}

// The decoder of a format: with vectors, or where it has none the plain one.
DecodeFn decoder_of(QuantFormat format) {
#if LAMINA_SIMD_TARGET
  if (GgufDecode* decode = gguf::vector_decoder(format)) return decode;
#endif
  switch (format) {
    case QuantFormat::kMxfp4: return decode_mxfp4;
    case QuantFormat::kMxfp8: return decode_mxfp8;
    case QuantFormat::kNvfp4: return decode_nvfp4;
    case QuantFormat::kFp8: return decode_fp8;
    default: return block_format(format).decode;
  }
}

// Decodes rows of one matrix.
class BlockRows {
 public:
  explicit BlockRows(const QmmWeights& w)
      : w_(w), format_(block_format(w.format)), decode_(decoder_of(w.format)) {}

  // dst[0, n) = elements [first, first + n) of row `row`; the range may begin and end within a block.
  void range(int64_t row, int64_t first, int64_t n, float* dst) const {
    const int64_t block = format_.block, end = first + n;
    int64_t at = first;
    while (at < end) {
      const int64_t skip = at % block;
      if (skip == 0 && end - at >= block) {
        const int64_t whole = (end - at) / block;
        decode(row, at / block, whole, dst + (at - first));
        at += whole * block;
        continue;
      }
      HWY_ALIGN float part[kMostBlock];
      decode(row, at / block, 1, part);
      const int64_t some = std::min(block - skip, end - at);
      std::copy_n(part + skip, some, dst + (at - first));
      at += some;
    }
  }

 private:
  void decode(int64_t row, int64_t block, int64_t blocks, float* dst) const {
    const auto* scales = static_cast<const uint8_t*>(w_.scales);
    decode_(w_.codes + row * w_.code_row_bytes + block * format_.code_bytes,
            scales ? scales + row * w_.scale_row_bytes + block * format_.scale_bytes : nullptr, blocks, dst);
  }

  const QmmWeights& w_;
  const BlockFormat& format_;
  DecodeFn decode_;
};

// acc[(r * kCols + i) * lanes ..] += x row i times decoded row r over n steps, lane by lane.
template <int kRows, int kCols>
void add_products(const float* HWY_RESTRICT rows, const float* HWY_RESTRICT x, int64_t ldx, int64_t n,
                  float* HWY_RESTRICT acc, int64_t acc_ld) {
  const int64_t lanes = lane_count();
  V sums[kRows][kCols];
  unroll<kRows>([&](auto r) HWY_ATTR {
    unroll<kCols>([&](auto i) HWY_ATTR { sums[r][i] = hn::Load(D(), acc + r * acc_ld + i * lanes); });
  });
  for (int64_t k = 0; k < n; k += lanes) {
    V w[kRows];
    unroll<kRows>([&](auto r) HWY_ATTR { w[r] = hn::Load(D(), rows + r * kChunk + k); });
    unroll<kCols>([&](auto i) HWY_ATTR {
      const V xv = hn::Load(D(), x + i * ldx + k);
      unroll<kRows>([&](auto r) HWY_ATTR { sums[r][i] = hn::MulAdd(w[r], xv, sums[r][i]); });
    });
  }
  unroll<kRows>([&](auto r) HWY_ATTR {
    unroll<kCols>([&](auto i) HWY_ATTR { hn::Store(sums[r][i], D(), acc + r * acc_ld + i * lanes); });
  });
}

// kRowBlock weight rows against all activations; rows past `count` repeat the last one.
void stream_block(const BlockRows& decoder, int64_t cols, int64_t row0, int64_t count, const QmmInput& x,
                  float* tile, int64_t ld, float* rows, float* acc) {
  const int64_t lanes = lane_count(), acc_ld = x.m * lanes;
  std::fill_n(acc, kRowBlock * acc_ld, 0.0f);
  for (int64_t k = 0; k < cols; k += kChunk) {
    const int64_t n = std::min(kChunk, cols - k);
    for (int64_t r = 0; r < kRowBlock; ++r) {
      decoder.range(row0 + std::min(r, count - 1), k, n, rows + r * kChunk);
    }
    int64_t i = 0;
    for (; i + 2 <= x.m; i += 2) {
      add_products<kRowBlock, 2>(rows, x.values + i * x.ld + k, x.ld, n, acc + i * lanes, acc_ld);
    }
    if (i < x.m) {
      add_products<kRowBlock, 1>(rows, x.values + i * x.ld + k, x.ld, n, acc + i * lanes, acc_ld);
    }
  }
  for (int64_t i = 0; i < x.m; ++i) {
    for (int64_t r = 0; r < count; ++r) {
      tile[i * ld + r] = hn::GetLane(hn::SumOfLanes(D(), hn::Load(D(), acc + r * acc_ld + i * lanes)));
    }
  }
}

void stream(const QmmWeights& w, int64_t row0, int64_t rows, const QmmInput& x, float* tile, int64_t ld,
            float* work) {
  const BlockRows decoder(w);
  float* acc = work + kRowBlock * kChunk;
  for (int64_t first = 0; first < rows; first += kRowBlock) {
    stream_block(decoder, w.cols, row0 + first, std::min(kRowBlock, rows - first), x, tile + first, ld, work,
                 acc);
  }
}

int64_t stream_elems(const QmmWeights&) {
  return kRowBlock * kChunk + kRowBlock * kQmmStreamRows * lane_count();
}

int64_t arranged_elems(const QmmWeights& w) { return (w.cols + kQmmPad - 1) / kQmmPad * kQmmPad; }

void arrange(const QmmWeights& w, const float* x, float* values, float* sums) {
  std::copy_n(x, w.cols, values);
  std::fill(values + w.cols, values + arranged_elems(w), 0.0f);
  std::fill_n(sums, w.groups() + kQmmPad, 0.0f);
}

// Rows past the last one of the matrix repeat it: their columns of the product are thrown away.
void transposed(const QmmWeights& w, int64_t k0, int64_t depth, int64_t col0, int64_t cols, float* dst) {
  const BlockRows decoder(w);
  const int64_t nr = 2 * lane_count();
  HWY_ALIGN float rows[4 * kGemmDepth];
  for (int64_t c = 0; c < cols; c += nr) {
    float* panel = dst + c * depth;
    if (nr < 4) {  // the baseline's panels of two columns
      for (int64_t r = 0; r < nr; ++r) {
        decoder.range(std::min(col0 + c + r, w.rows - 1), k0, depth, rows);
        for (int64_t k = 0; k < depth; ++k) panel[k * nr + r] = rows[k];
      }
      continue;
    }
    for (int64_t r = 0; r < nr; r += 4) {
      for (int64_t q = 0; q < 4; ++q) {
        decoder.range(std::min(col0 + c + r + q, w.rows - 1), k0, depth, rows + q * kGemmDepth);
      }
      transpose_four(rows, kGemmDepth, depth, panel + r, nr);
    }
  }
}

void plain(const QmmWeights& w, int64_t k0, int64_t depth, int64_t col0, int64_t cols, float* dst) {
  const BlockRows decoder(w);
  const int64_t nr = 2 * lane_count();
  HWY_ALIGN float row[kGemmDepth];
  for (int64_t k = 0; k < depth; ++k) {
    for (int64_t c = 0; c < cols; c += kGemmDepth) {
      const int64_t n = std::min(kGemmDepth, cols - c), padded = (n + nr - 1) / nr * nr;
      decoder.range(k0 + k, col0 + c, n, row);
      std::fill(row + n, row + padded, 0.0f);
      for (int64_t i = 0; i < padded; i += nr) { std::copy_n(row + i, nr, dst + (c + i) * depth + k * nr); }
    }
  }
}

}  // namespace

decltype(BlockFormat::decode) block_decoder(QuantFormat format) { return decoder_of(format); }

const QmmBlocks* block_kernels() {
  static constexpr QmmBlocks kTable = {{arranged_elems, arrange, stream_elems, stream}, {transposed, plain}};
  return &kTable;
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(block_kernels);
HWY_EXPORT(block_decoder);

const QmmBlocks& qmm_blocks() {
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(block_kernels)();
}

void dequantize_blocks(QuantFormat format, const View& codes, const View* scales, const View& w) {
  init_simd_target();
  const auto decode = HWY_DYNAMIC_DISPATCH(block_decoder)(format);
  const int64_t blocks = w.shape.back() / block_format(format).block;
  block_dequantize(format, codes, scales, w, [&](int64_t, const uint8_t* c, const uint8_t* s, float* dst) {
    decode(c, s, blocks, dst);
  });
}

}  // namespace lamina::cpu
#endif
