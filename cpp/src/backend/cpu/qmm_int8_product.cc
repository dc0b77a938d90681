#include <algorithm>
#include <bit>

#include "backend/cpu/amx.h"
#include "backend/cpu/gemm_scratch.h"
#include "backend/cpu/jobs.h"
#include "backend/cpu/qmm_problem.h"

namespace lamina::cpu {
namespace {

// Activations of rows [row0, row0 + count) in 8 bits.
class Int8Rows {
 public:
  Int8Rows(const QmmArgs& q, const QmmProblem& p, int64_t planes, int64_t row0, int64_t count)
      : q_(q),
        p_(p),
        planes_(planes),
        row0_(row0),
        units_(q.k / 4),
        edges_(p.w.integer_groups() + kQmmPad),
        memory_(count * (q.k + 3 * edges_ * 4)),
        count_(count) {}

  // Makes row i.
  void make(int64_t i) const {
    Scratch row(q_.k * 4);
    qmm_load_row(q_, p_, row0_ + i, row.as<float>());
    qmm_int8().quantize_row(p_.w, planes_, row.as<float>(), at(i));
  }
  const Int8Rows& made() const {
    for (int64_t i = 0; i < count_; ++i) make(i);
    return *this;
  }

  QmmInt8Row at(int64_t i) const {
    auto* units = memory_.as<int32_t>() + i * units_;
    auto* edges = memory_.as<float>() + count_ * units_ + i * 3 * edges_;
    return {units, edges, edges + edges_, reinterpret_cast<int32_t*>(edges + 2 * edges_)};
  }

 private:
  const QmmArgs& q_;
  const QmmProblem& p_;
  int64_t planes_, row0_, units_, edges_;
  Scratch memory_;
  int64_t count_;
};

// Rows of activations for which the tiles of AMX serve, with weights that are read as they lie.
constexpr int64_t kLeastTileStream = 5, kMostTileStream = 16;

// All activations, few of them, in the order in which weights that are read as they lie meet them.
class ArrangedRows {
 public:
  ArrangedRows(const QmmArgs& q, const QmmProblem& p, bool parallel)
      : rows_(q, p, qmm_int8_stream().planes(p.w), 0, q.m),
        each_(qmm_int8_stream().units_of(p.w)),
        units_(q.m * each_ * 4) {
    run_jobs(q.m, parallel && q.m > 2, [&](int64_t i) {
      rows_.make(i);
      x_[i] = rows_.at(i);
      auto* to = units_.as<int32_t>() + i * each_;
      qmm_int8_stream().arrange(p.w, x_[i].units, to);
      x_[i].units = to;
    });
  }
  const QmmInt8Row* rows() const { return x_; }
  int64_t units() const { return each_; }  // of a row

 private:
  Int8Rows rows_;
  int64_t each_;
  Scratch units_;
  QmmInt8Row x_[std::max(kQmmStreamed, kMostTileStream)];
};

// stream(span, tile, work) for all weight rows, as QmmInt8Stream::stream.
template <class Stream>
void stream_spans(const QmmArgs& q, const QmmProblem& p, bool parallel, const Stream& stream) {
  const int64_t step = qmm_rows_per_job(q, p);
  run_jobs(ceil_div(q.n, step), parallel, [&](int64_t job) {
    const int64_t row0 = job * step, count = std::min(step, q.n - row0);
    Scratch tile(q.m * count * 4), work(qmm_int8_stream().work_bytes(p.w));
    const QmmRowSpan span{row0, count, row0 + (parallel ? num_threads() : 1) * step};
    stream(span, tile.as<float>(), work.as<void>());
    qmm_finish_tile(q, p, tile.as<float>(), 0, q.m, row0, count, count);
  });
}

void multiply_streamed(const QmmArgs& q, const QmmProblem& p, bool parallel) {
  const ArrangedRows x(q, p, parallel);
  stream_spans(q, p, parallel, [&](const QmmRowSpan& span, float* tile, void* work) {
    qmm_int8_stream().stream(p.w, span, x.rows(), q.m, tile, work);
  });
}

void multiply_tile_stream(const QmmArgs& q, const QmmProblem& p, bool parallel) {
  const ArrangedRows rows(q, p, parallel);
  const int64_t edges = p.w.integer_groups() * 16, cols = q.m > 8 ? 16 : 8;
  Scratch units(cols * rows.units() * 4), scales(edges * 4), sums(edges * 4), starts(edges * 4);
  const QmmTileInput x{cols, units.as<int32_t>(), scales.as<float>(), sums.as<float>(), starts.as<int32_t>()};
  qmm_tile_stream().fill(p.w, rows.rows(), q.m, rows.units(), x);
  stream_spans(q, p, parallel, [&](const QmmRowSpan& span, float* tile, void* work) {
    qmm_tile_stream().stream(p.w, span, x, q.m, tile, work);
  });
}

// The activations, interleaved as register tiles of `mr` rows read them.
class PanelRows {
 public:
  PanelRows(const QmmArgs& q, const QmmProblem& p, int64_t planes, int64_t mr, bool parallel)
      : k_(q.k), groups_(p.w.integer_groups()), units_(q.m * q.k), edges_(q.m * groups_ * 3 * 4) {
    run_jobs(ceil_div(q.m, mr), parallel, [&](int64_t i) {
      const int64_t row0 = i * mr, count = std::min(mr, q.m - row0);
      interleave(Int8Rows(q, p, planes, row0, count).made(), row0, count);
    });
  }
  const int32_t* units(int64_t row0) const { return units_.as<int32_t>() + row0 * (k_ / 4); }
  const float* edges(int64_t row0) const { return edges_.as<float>() + row0 * groups_ * 3; }

 private:
  void interleave(const Int8Rows& rows, int64_t row0, int64_t count) {
    auto* units = const_cast<int32_t*>(this->units(row0));
    auto* edges = reinterpret_cast<int32_t*>(const_cast<float*>(this->edges(row0)));
    for (int64_t i = 0; i < count; ++i) {
      const QmmInt8Row x = rows.at(i);
      for (int64_t u = 0; u < k_ / 4; ++u) units[u * count + i] = x.units[u];
      for (int64_t g = 0; g < groups_; ++g) {
        edges[3 * g * count + i] = std::bit_cast<int32_t>(x.scales[g]);
        edges[(3 * g + 1) * count + i] = std::bit_cast<int32_t>(x.sums[g]);
        edges[(3 * g + 2) * count + i] = x.starts[g];
      }
    }
  }

  int64_t k_, groups_;
  Scratch units_, edges_;
};

// Rows of activations from which packed codes are widened once instead of in each register tile.
constexpr int64_t kWidenRows = 25;

void multiply_panels(const QmmArgs& q, const QmmProblem& p, bool parallel) {
  const QmmInt8& kernels = qmm_int8();
  const int64_t groups = p.w.integer_groups(), nr = kernels.nr, mr = kernels.mr;
  const int64_t planes = q.m < kWidenRows ? qmm_int8_stream().planes(p.w) : 1;
  const PanelRows x(q, p, planes, mr, parallel);
  const int64_t panels = ceil_div(q.n, nr);
  const int64_t each = std::clamp<int64_t>(panels / (4 * num_threads()), 1, 8);
  run_jobs(ceil_div(panels, each), parallel, [&](int64_t job) {
    Scratch words(kernels.panel_words(p.w, planes) * nr * 4), w_edges(groups * nr * 2 * 4), tile(mr * nr * 4);
    const int64_t end = std::min(q.n, (job + 1) * each * nr);
    QmmPanelArgs a{};
    a.group = p.w.integers.group, a.groups = groups, a.biased = p.w.integers.biased;
    a.words = words.as<int32_t>(), a.w_edges = w_edges.as<float>(), a.tile = tile.as<float>(), a.ld = nr;
    for (int64_t col0 = job * each * nr; col0 < end; col0 += nr) {
      kernels.pack(p.w, planes, col0, words.as<int32_t>(), w_edges.as<float>());
      // The next panel's codes come in behind the arithmetic of this one.
      const int64_t next = std::clamp<int64_t>(end - col0 - nr, 0, nr);
      a.next = p.w.codes + (col0 + nr) * p.w.row_bytes();
      for (int64_t row0 = 0; row0 < q.m; row0 += mr) {
        a.rows = std::min(mr, q.m - row0);
        a.units = x.units(row0), a.x_edges = x.edges(row0);
        a.next_bytes = row0 == 0 ? next * p.w.row_bytes() : 0;
        kernels.multiply(p.w, planes, a);
        qmm_finish_tile(q, p, a.tile, row0, a.rows, col0, std::min(nr, q.n - col0), nr);
      }
    }
  });
}

// Rows of activations from which tiles are worth their widened codes.
constexpr int64_t kLeastTileRows = 10;

// The activations as AMX's right operand: tiles of 16 rows, the last one filled up with its last row.
class TileRows {
 public:
  TileRows(const QmmArgs& q, const QmmProblem& p, bool parallel)
      : k_(q.k),
        groups_(p.w.integer_groups()),
        units_(tiles(q) * kQmmTileCols * q.k),
        edges_(tiles(q) * kQmmTileCols * groups_ * 2 * 4) {
    run_jobs(tiles(q), parallel, [&](int64_t i) {
      const int64_t row0 = i * kQmmTileCols, count = std::min(kQmmTileCols, q.m - row0);
      fill(Int8Rows(q, p, 1, row0, count).made(), i, count);
    });
  }
  static int64_t tiles(const QmmArgs& q) { return ceil_div(q.m, kQmmTileCols); }
  int32_t* units(int64_t tile) const { return units_.as<int32_t>() + tile * kQmmTileCols * (k_ / 4); }
  float* scales(int64_t tile) const { return edges_.as<float>() + tile * kQmmTileCols * groups_ * 2; }
  float* sums(int64_t tile) const { return scales(tile) + kQmmTileCols * groups_; }

 private:
  void fill(const Int8Rows& rows, int64_t tile, int64_t count) {
    qmm_tiles().interleave(rows.at(0).units, count, k_ / 4, units(tile));
    for (int64_t m = 0; m < kQmmTileCols; ++m) {
      for (int64_t g = 0; g < groups_; ++g) {
        const QmmInt8Row row = rows.at(std::min(m, count - 1));
        scales(tile)[g * kQmmTileCols + m] = row.scales[g];
        sums(tile)[g * kQmmTileCols + m] = row.sums[g];
      }
    }
  }

  int64_t k_, groups_;
  Scratch units_, edges_;
};

AmxShape tile_shape(int64_t group) {
  const auto depth = static_cast<uint16_t>(std::min<int64_t>(group, 64));
  AmxShape shape = amx_whole_tiles();
  for (int i = 4; i < 7; ++i) shape.row_bytes[i] = depth;
  shape.rows[7] = static_cast<uint8_t>(depth / 4);
  return shape;
}

// Products of 64 weight rows at a time, on one thread.
class TileBlock {
 public:
  TileBlock(const QmmArgs& q, const QmmProblem& p, const TileRows& x)
      : q_(q),
        p_(p),
        x_(x),
        tiles_(TileRows::tiles(q)),
        groups_(p.w.integer_groups()),
        depth_(std::min(q.k, tiles_ > kFewTiles ? kDepth : kLongDepth)),
        edges_(2 * groups_ * kQmmTileRows * 4),
        codes_(kQmmTileRows * depth_ + 64),
        totals_(tiles_ * kElems * 4) {}

  // Rows from row0 on. Rows from `next` on are wanted after them.
  void run(int64_t row0, int64_t next) {
    const IntegerForm& form = p_.w.integers;
    float *w_scales = edges_.as<float>(), *w_biases = w_scales + groups_ * kQmmTileRows;
    qmm_codes().edges(p_.w, row0, kQmmTileRows, w_scales, w_biases);
    for (int64_t t = 0; t < tiles_; ++t) {
      kernels_.add_biases(form.biased ? groups_ : 0, w_biases, x_.sums(t), totals(t));
    }
    {
      const AmxTiles held(tile_shape(form.group));
      for (int64_t k = 0; k < q_.k; k += depth_) add_steps(row0, next, k);
    }
    alignas(64) float tile[kElems];
    const int64_t count = std::min(kQmmTileRows, q_.n - row0);
    for (int64_t t = 0; t < tiles_; ++t) {
      const int64_t m0 = t * kQmmTileCols, m = std::min(kQmmTileCols, q_.m - m0);
      kernels_.turn(totals(t), tile);
      qmm_finish_tile(q_, p_, tile, m0, m, row0, count, kQmmTileRows);
    }
  }

 private:
  static constexpr int64_t kElems = kQmmTileRows * kQmmTileCols;
  // Codes of a row that are widened at a time, a whole number of every format's blocks. Those of 64 rows stay
  // in the first-level cache for many activations; few of them wait for memory, which likes long runs.
  static constexpr int64_t kDepth = 256, kLongDepth = 256, kFewTiles = 2;

  float* totals(int64_t t) const { return totals_.as<float>() + t * kElems; }

  void add_steps(int64_t row0, int64_t next, int64_t k) {
    const int64_t group = p_.w.integers.group, depth = std::min(depth_, q_.k - k), g = k / group;
    kernels_.widen(p_.w, row0, k, depth, codes_.as<uint8_t>());
    QmmTileArgs a{};
    a.codes = codes_.as<uint8_t>(), a.codes_ld = depth;
    a.group = group, a.groups = depth / group;
    a.w_scales = edges_.as<float>() + g * kQmmTileRows;
    const auto bytes_of = [&](int64_t elems) { return elems * p_.w.row_bytes() / q_.k; };
    const bool more = k + depth < q_.k;
    if (more || next + kQmmTileRows <= q_.n) {
      a.next = p_.w.codes + (more ? row0 : next) * p_.w.row_bytes() + (more ? bytes_of(k + depth) : 0);
      a.next_ld = p_.w.row_bytes();
      a.next_bytes = bytes_of(std::min(depth_, more ? q_.k - k - depth : q_.k));
    }
    for (int64_t t = 0; t < tiles_; ++t) {
      a.units = x_.units(t) + k / 4 * kQmmTileCols, a.x_scales = x_.scales(t) + g * kQmmTileCols;
      a.totals = totals(t);
      (p_.w.integers.offset == 0 ? kernels_.multiply_unsigned : kernels_.multiply_signed)(a);
      a.next_bytes = 0;
    }
  }

  const QmmArgs& q_;
  const QmmProblem& p_;
  const TileRows& x_;
  const QmmTiles& kernels_ = qmm_tiles();
  const int64_t tiles_, groups_, depth_;
  Scratch edges_, codes_, totals_;
};

void multiply_tiles(const QmmArgs& q, const QmmProblem& p, bool parallel) {
  const TileRows x(q, p, parallel);
  const int64_t blocks = ceil_div(q.n, kQmmTileRows);
  const int64_t each = std::clamp<int64_t>(blocks / (4 * num_threads()), 1, 8);
  run_jobs(ceil_div(blocks, each), parallel, [&](int64_t job) {
    TileBlock block(q, p, x);
    const int64_t end = std::min(q.n, (job + 1) * each * kQmmTileRows);
    for (int64_t row0 = job * each * kQmmTileRows; row0 < end; row0 += kQmmTileRows) {
      block.run(row0, row0 + kQmmTileRows);
    }
  });
}

}  // namespace

void qmm_multiply_int8(const QmmArgs& q, const QmmProblem& p, bool parallel) {
  // All give the same bits.
  if (amx_active() && q.m >= kLeastTileStream && q.m <= kMostTileStream && qmm_tile_stream().streams(p.w)) {
    return multiply_tile_stream(q, p, parallel);
  }
  if (q.m <= qmm_int8_stream().most_rows(p.w)) return multiply_streamed(q, p, parallel);
  if (amx_active() && q.m >= kLeastTileRows) return multiply_tiles(q, p, parallel);
  multiply_panels(q, p, parallel);
}

}  // namespace lamina::cpu
