// Few rows of 8-bit activations in the tiles of AMX: sixteen weight rows at a time are the left operand, so
// that weights come from memory once and in its order, whatever the number of activations.
#include <algorithm>

#include "backend/cpu/amx.h"
#include "backend/cpu/qmm_kernel.h"
#include "backend/cpu/simd_target.h"

#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/qmm_tile_stream.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/qmm_row_lanes_forms-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

#if HWY_TARGET == HWY_AVX3_DL

constexpr int64_t kRows = row_lanes::kRows, kTileBytes = 1024;
// A step is a chunk of codes, or two where a group needs them. Its codes are spread to bytes three steps
// before their dots are scaled, and multiplied two steps before: tiles and vectors wait for what the other
// ones have just stored.
constexpr int64_t kSpreadAhead = 3, kDotAhead = 2, kSlots = 2;

AmxShape shape_of(int64_t lanes, int64_t cols) {
  AmxShape shape = amx_whole_tiles();
  for (int i : {0, 1, 2, 3, 6, 7}) shape.row_bytes[i] = static_cast<uint16_t>(cols * 4);
  for (int i : {4, 5}) shape.row_bytes[i] = static_cast<uint16_t>(lanes * 4);
  for (int i : {6, 7}) shape.rows[i] = static_cast<uint8_t>(lanes);
  return shape;
}

// The weight rows of the lanes of totals of two rows.
struct RowsOfTotals {
  alignas(64) int32_t at[8][16];
  constexpr RowsOfTotals() : at() {
    for (int i = 0; i < 8; ++i) {
      for (int lane = 0; lane < 16; ++lane) at[i][lane] = 2 * i + lane / 8;
    }
  }
};
constexpr RowsOfTotals kRowsOfTotals;

// Tiles that rest for 0.2 us take 0.3 us to wake up: a product that nobody wants keeps them awake.
HWY_INLINE void stay_awake() { amx_dot_u8s8<0, 4, 6>(); }

// Sixteen weight rows against kCols rows of activations. A vector of totals has one weight row, or two where
// there are 8 rows of activations. kLanes as in row_lanes::multiply.
template <class Codes, int kLanes, int kCols>
class Block {
 public:
  Block(const row_lanes::RowPointers& rows, int64_t words, int64_t groups, const QmmTileInput& x,
        const row_lanes::Edges& edges, row_lanes::Ahead ahead, bool offset)
      : rows_(rows), words_(words), groups_(groups), x_(x), edges_(edges), ahead_(ahead), offset_(offset) {}

  // out[row * kCols + activation]
  HWY_INLINE void run(float* out) {
    __m512 totals[kTotals];
    unroll<kTotals>([&](auto i) HWY_ATTR { totals[i] = _mm512_setzero_ps(); });
    for (int64_t g = 0; edges_.biases && g < groups_; ++g) {
      if (g % 16 == 0) stay_awake();
      const __m512 sums = _mm512_load_ps(x_.sums + g * 16);
      add(edges_.biases + g * kRows, totals, [&](auto) HWY_ATTR { return sums; });
    }
    const int64_t steps = (words_ + kStepWords - 1) / kStepWords;
    for (int64_t s = -kSpreadAhead; s < steps; ++s) {
      if (s + kSpreadAhead < steps) spread(s + kSpreadAhead);
      if (s + kDotAhead >= 0 && s + kDotAhead < steps) {
        multiply(s + kDotAhead);
      } else {
        if (s + kDotAhead == steps) finish(steps);
        stay_awake();
      }
      if (s >= 0) scale(s, totals);
    }
    unroll<kTotals>([&](auto i) HWY_ATTR { _mm512_store_ps(out + 16 * i, totals[i]); });
  }

 private:
  static constexpr int kPlanes = Codes::kPlanes, kChunks = kLanes == 32 ? 2 : 1,
                       kGroups = kLanes < 16 ? 16 / kLanes : 1, kPieces = kPlanes * kChunks,
                       kTiles = std::min(kGroups, 2), kTotals = kCols, kTotalRows = 16 / kCols;
  // Of four groups the first two are stored before those of two steps before are scaled.
  static constexpr int64_t kDotSlots = kGroups == 4 ? 4 : kSlots;
  static constexpr int64_t kStepWords = 16 * kChunks, kTileLanes = std::min(kLanes, 16);

  // Into the second-level cache: the first one is full of what is worked on.
  HWY_INLINE void fetch() {
    constexpr int kBytes = 4 * Codes::kBytes;
    unroll<(kBytes + 63) / 64>([&](auto i) HWY_ATTR { __builtin_prefetch(ahead_ + 64 * i, 0, 2); });
    ahead_ += kBytes;
  }

  HWY_INLINE void spread(int64_t step) {
    uint8_t* to = codes_[step % kSlots];
    unroll<kChunks>([&](auto c) HWY_ATTR {
      const auto chunk = Codes::chunk(step * kStepWords + 16 * c, words_);
      for (int64_t r = 0; r < kRows; r += 4) {
        fetch();
        unroll<4>([&](auto i) HWY_ATTR {
          const VI w = Codes::load(rows_.at[r + i], chunk);
          unroll<kPlanes>([&](auto j) HWY_ATTR {
            const VI codes = plane_of<8 / kPlanes, static_cast<int>(j)>(w);
            _mm512_store_si512(to + (c * kPlanes + j) * kTileBytes + (r + i) * 64, codes.raw);
          });
        });
      }
    });
  }

  // Two groups at a time, or one, in tiles 0 and 1 or 2 and 3. They are stored when the next ones begin:
  // tiles that have just been multiplied would be waited for.
  template <int kSet>
  HWY_INLINE void multiply_groups(const uint8_t* codes, const int32_t* units, int32_t* dots) {
    store_groups<2 - kSet>();
    pending_ = dots;
    unroll<kTiles>([&](auto t) HWY_ATTR { amx_zero<kSet + static_cast<int>(t)>(); });
    unroll<kPieces>([&](auto p) HWY_ATTR {
      unroll<kTiles>([&](auto t) HWY_ATTR {
        constexpr int kT = static_cast<int>(t);
        amx_load<4 + kT>(codes + p * kTileBytes + kT * kTileLanes * 4, 64);
        amx_load<6 + kT>(units + (p * 16 + kT * kTileLanes) * kCols, kCols * 4);
        amx_dot_u8s8<kSet + kT, 4 + kT, 6 + kT>();
      });
    });
  }
  template <int kSet>
  HWY_INLINE void store_groups() {
    if (!pending_) return;
    unroll<kTiles>([&](auto t) HWY_ATTR {
      constexpr int kT = static_cast<int>(t);
      amx_store<kSet + kT>(pending_ + kT * kRows * kCols, kCols * 4);
    });
    pending_ = nullptr;
  }

  HWY_INLINE void multiply(int64_t step) {
    const uint8_t* codes = codes_[step % kSlots];
    const int32_t* units = x_.units + step * kPieces * 16 * kCols;
    int32_t* dots = dots_[step % kDotSlots];
    if constexpr (kGroups == 4) {
      multiply_groups<0>(codes, units, dots);
      multiply_groups<2>(codes + 2 * kTileLanes * 4, units + 2 * kTileLanes * kCols,
                         dots + 2 * kRows * kCols);
    } else if (step % 2 == 0) {
      multiply_groups<0>(codes, units, dots);
    } else {
      multiply_groups<2>(codes, units, dots);
    }
  }
  HWY_INLINE void finish(int64_t steps) {
    if (kGroups == 4 || steps % 2 == 0) {
      store_groups<2>();
    } else {
      store_groups<0>();
    }
  }

  // totals[i] += factor(i) * the edges of its rows.
  template <class Factor>
  static HWY_INLINE void add(const float* edges, __m512* totals, const Factor& factor) {
    if constexpr (kTotalRows == 1) {
      unroll<kTotals>([&](auto i) HWY_ATTR {
        totals[i] = _mm512_fmadd_ps(factor(i), _mm512_set1_ps(edges[i]), totals[i]);
      });
    } else {
      const __m512 all = _mm512_load_ps(edges);
      unroll<kTotals>([&](auto i) HWY_ATTR {
        const __m512i rows = _mm512_load_si512(kRowsOfTotals.at[i]);
        totals[i] = _mm512_fmadd_ps(factor(i), _mm512_permutexvar_ps(rows, all), totals[i]);
      });
    }
  }

  HWY_INLINE void scale(int64_t step, __m512* totals) {
    const int32_t* dots = dots_[step % kDotSlots];
    for (int64_t k = 0, g = step * kGroups; k < kGroups && g < groups_; ++k, ++g, dots += kRows * kCols) {
      const __m512 scales = _mm512_load_ps(x_.scales + g * 16);
      const __m512i starts = offset_ ? _mm512_load_si512(x_.starts + g * 16) : _mm512_setzero_si512();
      add(edges_.scales + g * kRows, totals, [&](auto i) HWY_ATTR {
        const __m512i dot = _mm512_add_epi32(_mm512_load_si512(dots + 16 * i), starts);
        return _mm512_mul_ps(_mm512_cvtepi32_ps(dot), scales);
      });
    }
  }

  const row_lanes::RowPointers& rows_;
  const int64_t words_, groups_;
  const QmmTileInput& x_;
  const row_lanes::Edges edges_;
  row_lanes::Ahead ahead_;
  const bool offset_;
  int32_t* pending_ = nullptr;  // where the tiles multiplied last are to go
  alignas(64) uint8_t codes_[kSlots][kPieces * kTileBytes];
  alignas(64) int32_t dots_[kDotSlots][kGroups * kRows * kCols];
};

template <class Codes, bool kWidened, int kLanes, int kCols>
void stream_cols(const QmmWeights& w, const QmmRowSpan& span, const QmmTileInput& x, int64_t m, float* tile,
                 void* work) {
  const AmxTiles held(shape_of(std::min(kLanes, 16), kCols));
  const int64_t groups = w.integer_groups(), words = stream_words(w), end = span.row0 + span.count;
  alignas(64) float totals[kRows * kCols], turned[kCols * kRows];
  const auto block = [&](row_lanes::LaneRows lanes, const row_lanes::RowPointers& rows,
                         const row_lanes::Edges& edges, row_lanes::Ahead ahead) HWY_ATTR {
    Block<Codes, kLanes, kCols>(rows, words, groups, x, edges, ahead, w.integers.offset != 0).run(totals);
    const auto of_row = [&](int64_t r) { return totals + r * kCols; };
    float* out = tile + (lanes.first - span.row0);
    if (const int64_t count = end - lanes.first; count >= kRows) {
      transpose_words_of(of_row, kRows, m, out, span.count);
    } else {
      transpose_words_of(of_row, kRows, m, turned, kRows);
      for (int64_t i = 0; i < m; ++i) std::copy_n(turned + i * kRows, count, out + i * span.count);
    }
  };
  row_lanes::each_block<kWidened>(w, span, m, work, stay_awake, block);
}

struct Streams {
  using Fn = void (*)(const QmmWeights&, const QmmRowSpan&, const QmmTileInput&, int64_t, float*, void*);
  template <class Codes, bool kWidened, int kLanes, bool kShort>
  static void run(const QmmWeights& w, const QmmRowSpan& span, const QmmTileInput& x, int64_t m, float* tile,
                  void* work) {
    const auto run =
        x.cols == 8 ? stream_cols<Codes, kWidened, kLanes, 8> : stream_cols<Codes, kWidened, kLanes, 16>;
    run(w, span, x, m, tile, work);
  }
  template <class Codes, bool kWidened, int kLanes, bool kShort>
  static constexpr Fn kFn = run<Codes, kWidened, kLanes, kShort>;
};

bool streams(const QmmWeights& w) { return row_lanes::kernel_for<Streams>(w) != nullptr; }

void stream(const QmmWeights& w, const QmmRowSpan& span, const QmmTileInput& x, int64_t m, float* tile,
            void* work) {
  row_lanes::kernel_for<Streams>(w)(w, span, x, m, tile, work);
}

void fill(const QmmWeights& w, const QmmInt8Row* rows, int64_t m, int64_t units, const QmmTileInput& x) {
  constexpr int64_t kSome = 64;
  alignas(64) float turned[kSome * 16];
  for (int64_t u = 0; u < units; u += kSome) {
    const int64_t n = std::min(kSome, units - u);
    // Rows past the last one are made up of it.
    const auto row = [&](int64_t i) {
      return reinterpret_cast<const float*>(rows[std::min(i, m - 1)].units + u);
    };
    transpose_words_of(row, 16, n, turned, 16);
    for (int64_t i = 0; i < n; ++i) {
      std::copy_n(reinterpret_cast<const int32_t*>(turned + i * 16), x.cols, x.units + (u + i) * x.cols);
    }
  }
  const auto edges = [&](auto part, void* dst) {
    const auto row = [&](int64_t i) {
      return reinterpret_cast<const float*>(rows[std::min(i % x.cols, m - 1)].*part);
    };
    transpose_words_of(row, 16, w.integer_groups(), static_cast<float*>(dst), 16);
  };
  edges(&QmmInt8Row::scales, x.scales);
  edges(&QmmInt8Row::sums, x.sums);
  edges(&QmmInt8Row::starts, x.starts);
}

#endif

}  // namespace

const QmmTileStream* qmm_tile_stream_kernels() {
#if HWY_TARGET == HWY_AVX3_DL
  static constexpr QmmTileStream kTable = {streams, fill, stream};
  return &kTable;
#else
  return nullptr;
#endif
}

}  // namespace lamina::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina::cpu {

HWY_EXPORT(qmm_tile_stream_kernels);

const QmmTileStream& qmm_tile_stream() {
  init_simd_target();
  return *HWY_DYNAMIC_DISPATCH(qmm_tile_stream_kernels)();
}

}  // namespace lamina::cpu
#endif
