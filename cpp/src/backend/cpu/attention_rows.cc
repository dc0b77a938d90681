#include "backend/cpu/attention_rows.h"
#include "backend/cpu/jobs.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/cpu/attention_codes.h"
#include "backend/cpu/attention_direct.h"
#include "backend/cpu/gemm_scratch.h"
#include "core/thread_pool.h"

namespace lamina::cpu {
namespace {

constexpr int64_t kFloat = static_cast<int64_t>(sizeof(float));
// Rows of a job at most, and where jobs are few at least: they share the packing of keys and values.
constexpr int64_t kMostRows = 224, kFewRows = 56;
// Units of work for each thread that even out their lengths.
constexpr int64_t kUnitsPerThread = 4;

KeyRange common(KeyRange a, KeyRange b) { return {std::max(a.begin, b.begin), std::min(a.end, b.end)}; }
KeyRange moved(KeyRange a, int64_t by) { return {a.begin + by, a.end + by}; }
KeyRange joined(KeyRange a, KeyRange b) { return {std::min(a.begin, b.begin), std::max(a.end, b.end)}; }

// Rows [row0, row0 + rows) of a group.
struct Job {
  int64_t group, row0, rows;
  KeyRange tiles;      // by number
  int64_t parts = -1;  // where its tiles' sums are, if several units work on it

  bool shared() const { return parts >= 0; }
  int64_t work() const { return rows * (tiles.end - tiles.begin); }
};
struct Unit {
  const Job* job;
  KeyRange tiles;
};

// Sums, peaks and totals of some rows in one block of memory.
struct RowSums {
  float *sums, *peak, *total;
  RowSums(float* memory, int64_t rows, int64_t ld)
      : sums(memory), peak(memory + rows * ld), total(peak + rows) {}
  // A multiple of a cache line.
  static int64_t elems(int64_t rows, int64_t ld) { return rows * ld + attention_row(2 * rows); }
};

// Floats of what is packed for a job.
struct Room {
  int64_t queries, panel, work;

  Room(const AttentionTask& task, bool codes, int64_t rows) {
    const int64_t dim = task.dim, ld = attention_row(task.v_dim);
    queries = codes ? AttentionCodes::query_floats(rows, dim) : rows * dim + kAttentionLanes;
    panel = std::max(codes ? AttentionCodes::panel_floats(dim) : kAttentionPanel * dim, kAttentionPanel * ld);
    work = std::max(codes ? AttentionCodes::work_floats(dim) : (kAttentionPanel + 1) * attention_row(dim),
                    (kAttentionPanel + 1) * ld);
  }
};

// The tiles of a job, one at a time.
class Tiles {
 public:
  Tiles(const AttentionTask& task, const Job& job)
      : task_(task),
        job_(job),
        codes_(task.key_format == RowFormat::kCodes8 || task.key_format == RowFormat::kCodes4),
        ld_(attention_row(task.v_dim)),
        room_(task, codes_, job.rows),
        queries_(room_.queries * kFloat),
        scores_(job.rows * kScoreStep * kFloat),
        seen_(job.rows * static_cast<int64_t>(sizeof(KeyRange))),
        panel_(room_.panel * kFloat),
        work_(room_.work * kFloat) {
    for (int64_t r = 0; r < job.rows; ++r) seen_.as<KeyRange>()[r] = task.seen(job.group, job.row0 + r);
    pack_queries();
  }

  void run(int64_t tile, const RowSums& out) {
    tile_ = tile;
    score();
    each_block([&](int64_t r0, int64_t rows) {
      const KeyRange all = span(r0, rows);
      for (int64_t r = r0; r < r0 + rows; ++r) {
        float* scores = row_scores(r);
        const KeyRange own = span(r, 1);
        if (!own.empty()) {
          task_.mask(job_.group, job_.row0 + r, tile * kAttentionTile + own.begin, own.end - own.begin,
                     scores + own.begin);
        }
        kernels_.softmax(own, all, task_.cap, scores, out.peak + r, out.total + r);
      }
      if (all.empty()) std::fill_n(out.sums + r0 * ld_, rows * ld_, 0.0f);
    });
    add_values(out.sums);
  }

 private:
  template <class F>
  void each_block(F f) const {
    for (int64_t r = 0; r < job_.rows; r += kernels_.block) f(r, std::min(kernels_.block, job_.rows - r));
  }
  float* row_scores(int64_t r) const { return scores_.as<float>() + r * kScoreStep; }

  // Keys of the tile that some of the rows see, counted from its first.
  KeyRange span(int64_t r0, int64_t rows) const { return span(tile_, r0, rows); }
  KeyRange span(int64_t tile, int64_t r0, int64_t rows) const {
    const KeyRange* seen = seen_.as<KeyRange>();
    const KeyRange all = moved(joined(seen[r0], seen[r0 + rows - 1]), -tile * kAttentionTile);
    return common(all, {0, kAttentionTile});
  }
  KeyRange span_of(int64_t tile) const { return span(tile, 0, job_.rows); }

  // Sets the row of zeros that rows that are not there are taken from.
  void clear_work() {
    const int64_t row = attention_row(task_.dim);
    std::fill_n(work_.as<float>() + kAttentionPanel * row, row, 0.0f);
  }
  // Where the queries of a block are.
  float* block_queries(int64_t r0) const {
    return queries_.as<float>() + (codes_ ? AttentionCodes::query_floats(r0, task_.dim) : r0 * task_.dim);
  }

  void pack_queries() {
    if (!codes_) clear_work();
    RowPanel rows;
    each_block([&](int64_t r0, int64_t n) {
      rows.count = 0;
      task_.queries(job_.group, job_.row0 + r0, n, rows, work_.as<float>());
      if (codes_) {
        code_kernels_.pack_queries(rows, task_.key_format, task_.dim, task_.factor, block_queries(r0),
                                   work_.as<float>());
      } else {
        kernels_.pack_queries(rows, task_.dim, task_.factor, block_queries(r0), work_.as<float>());
      }
    });
  }

  // Rows of keys or values of a panel: those from its first to its last that some row sees.
  void find(bool values, int64_t tile, int64_t p, RowPanel& out, float* copy) const {
    const KeyRange part = common(span_of(tile), {p, p + kAttentionPanel});
    out.count = part.begin - p;
    std::fill_n(out.rows, out.count, nullptr);
    const int64_t first = tile * kAttentionTile + part.begin, n = part.end - part.begin;
    values ? task_.values(job_.group, first, n, out, copy) : task_.keys(job_.group, first, n, out, copy);
  }

  // The rows that come after panel p: the next panel's, the values' after the keys, or the next tile's. None
  // where they would have to be copied.
  void find_next(bool values, int64_t p, KeyRange all, RowPanel& out) const {
    out.count = 0;
    if (p + kAttentionPanel < all.end) {
      find(values, tile_, p + kAttentionPanel, out, nullptr);
    } else if (!values) {
      find(true, tile_, first_panel(all), out, nullptr);
    } else if (tile_ + 1 < job_.tiles.end) {
      find(false, tile_ + 1, 0, out, nullptr);
    }
  }
  static int64_t first_panel(KeyRange all) { return all.begin / kAttentionPanel * kAttentionPanel; }

  // Calls f(panel, p, part) for each panel p of the tile's keys or values, of which `part` are seen.
  template <class F>
  void each_panel(bool values, F f) {
    const KeyRange all = span_of(tile_);
    RowPanel panels[2];
    for (int64_t p = first_panel(all), i = 0; p < all.end; p += kAttentionPanel, i = 1 - i) {
      RowPanel &now = panels[i], &ahead = panels[1 - i];
      if (now.count == 0) find(values, tile_, p, now, work_.as<float>());
      now.ahead = &ahead;
      find_next(values, p, all, ahead);
      f(now, p, common(all, {p, p + kAttentionPanel}));
    }
  }

  bool is_direct(const RowPanel& rows, int64_t dim) const {
    return job_.rows <= direct_.most_rows && direct_.takes(rows.format, dim);
  }
  // Whether every row sees all these keys of the tile.
  bool all_see(KeyRange keys) const {
    const KeyRange last = span(job_.rows - 1, 1), first = span(0, 1);
    return last.begin <= keys.begin && first.end >= keys.end;
  }

  void score() {
    if (!codes_) clear_work();
    const int64_t dim = task_.dim;
    float *panel = panel_.as<float>(), *work = work_.as<float>();
    each_panel(false, [&](const RowPanel& rows, int64_t p, KeyRange part) {
      const bool direct =
          codes_ ? job_.rows <= code_kernels_.direct_rows && code_kernels_.takes(dim) : is_direct(rows, dim);
      if (direct) {
        const auto scores = codes_ ? code_kernels_.direct_scores : direct_.scores;
        return scores(job_.rows, rows, dim, queries_.as<float>(), row_scores(0) + p);
      }
      (codes_ ? code_kernels_.pack_keys : kernels_.pack_keys)(rows, dim, panel, work);
      const auto scores = codes_ ? code_kernels_.scores : kernels_.scores;
      each_block([&](int64_t r0, int64_t n) {
        if (common(span(r0, n), part).empty()) return;
        scores(n, dim, block_queries(r0), panel, row_scores(r0) + p);
      });
    });
  }

  void add_values(float* sums) {
    each_panel(true, [&](const RowPanel& rows, int64_t p, KeyRange part) {
      // Where all rows see all of them: what has the weight 0 need not be looked at.
      if (is_direct(rows, task_.v_dim) && all_see(part)) {
        direct_.values(job_.rows, rows, part.begin - p, part.end - part.begin, task_.v_dim,
                       row_scores(0) + part.begin, sums, part.begin != span_of(tile_).begin);
        return;
      }
      const bool finite = kernels_.load_rows(rows, task_.v_dim, panel_.as<float>(), ld_);
      const auto add = [&](int64_t r0, int64_t n, KeyRange keys, bool more) {
        kernels_.values(n, keys.end - keys.begin, row_scores(r0) + keys.begin,
                        panel_.as<float>() + (keys.begin - p) * ld_, ld_, sums + r0 * ld_, more);
      };
      each_block([&](int64_t r0, int64_t n) {
        const KeyRange all = span(r0, n), now = common(all, part);
        if (now.empty()) return;
        if (finite) return add(r0, n, now, now.begin != all.begin);
        // What a row does not see has the weight 0, which hides any number but no infinity.
        if (now.begin == all.begin) std::fill_n(sums + r0 * ld_, n * ld_, 0.0f);
        for (int64_t r = r0; r < r0 + n; ++r) {
          const KeyRange own = common(span(r, 1), part);
          if (!own.empty()) add(r, 1, own, true);
        }
      });
    });
  }

  const AttentionTask& task_;
  const Job& job_;
  const AttentionTiles& kernels_ = attention_tiles();
  const AttentionDirect& direct_ = attention_direct();
  const AttentionCodes& code_kernels_ = attention_codes();
  const bool codes_;  // keys are codes
  const int64_t ld_;  // floats of a loaded row of values
  const Room room_;
  int64_t tile_ = 0;
  // Panels of queries; scores of a tile; what each row sees; a packed panel of keys, or a loaded one of
  // values; rows before they are packed.
  Scratch queries_, scores_, seen_, panel_, work_;
};

// Rows of a job from the first tile on: what was summed so far.
class State {
 public:
  State(const AttentionTask& task, const Job& job)
      : task_(task),
        job_(job),
        ld_(attention_row(task.v_dim)),
        memory_(RowSums::elems(job.rows, ld_) * kFloat),
        state_(memory_.as<float>(), job.rows, ld_) {
    std::fill_n(state_.sums, job.rows * ld_, 0.0f);
    for (int64_t r = 0; r < job.rows; ++r) {
      state_.peak[r] = task.sink(job.group, job.row0 + r);
      state_.total[r] = state_.peak[r] == -INFINITY ? 0.0f : 1.0f;
    }
  }
  void add(const RowSums& tile) {
    attention_tiles().combine(job_.rows, ld_, tile.sums, tile.peak, tile.total, state_.sums, state_.peak,
                              state_.total);
  }
  void finish() {
    attention_tiles().divide(job_.rows, ld_, state_.total, state_.sums);
    for (int64_t r = 0; r < job_.rows; ++r) {
      task_.store(job_.group, job_.row0 + r, state_.sums + r * ld_, state_.peak[r], state_.total[r]);
    }
  }

 private:
  const AttentionTask& task_;
  const Job& job_;
  const int64_t ld_;
  Scratch memory_;
  RowSums state_;
};

// Who does which tiles of which rows.
class Schedule {
 public:
  explicit Schedule(const AttentionTask& task) : task_(task), ld_(attention_row(task.v_dim)) {
    for (int64_t most = kMostRows; most >= kFewRows; most /= 2) {
      make_jobs(most);
      if (static_cast<int64_t>(jobs_.size()) >= wanted()) break;
    }
    // The longest first, so that no thread is left alone with one at the end.
    std::stable_sort(jobs_.begin(), jobs_.end(),
                     [](const Job& a, const Job& b) { return a.work() > b.work(); });
    make_units();
  }

  void run() {
    Scratch parts(parts_elems_ * kFloat);
    const auto part = [&](const Job& job, int64_t tile) {
      const int64_t step = RowSums::elems(job.rows, ld_);
      return RowSums(parts.as<float>() + job.parts + (tile - job.tiles.begin) * step, job.rows, ld_);
    };
    parallel_for(static_cast<int64_t>(units_.size()), [&](int64_t i) {
      const Unit& unit = units_[static_cast<size_t>(i)];
      if (!unit.job->shared()) return run_whole(*unit.job);
      Tiles tiles(task_, *unit.job);
      for (int64_t t = unit.tiles.begin; t < unit.tiles.end; ++t) tiles.run(t, part(*unit.job, t));
    });
    if (parts_elems_ == 0) return;
    parallel_for(static_cast<int64_t>(jobs_.size()), [&](int64_t i) {
      const Job& job = jobs_[static_cast<size_t>(i)];
      if (!job.shared()) return;
      State state(task_, job);
      for (int64_t t = job.tiles.begin; t < job.tiles.end; ++t) state.add(part(job, t));
      state.finish();
    });
  }

 private:
  static int64_t wanted() { return kUnitsPerThread * num_threads(); }

  void make_jobs(int64_t most) {
    jobs_.clear();
    for (int64_t g = 0; g < task_.groups; ++g) {
      const int64_t rows = task_.rows(g), height = attention_tiles().block;
      // As many as it takes, of about one length, in whole blocks.
      const int64_t length = ceil_div(ceil_div(rows, ceil_div(rows, most)), height) * height;
      for (int64_t begin = 0; begin < rows; begin += length) {
        const int64_t end = std::min(rows, begin + length);
        const KeyRange all = joined(task_.seen(g, begin), task_.seen(g, end - 1));
        jobs_.push_back(
            {g, begin, end - begin, {all.begin / kAttentionTile, ceil_div(all.end, kAttentionTile)}});
      }
    }
  }

  // A unit for each job; several for the tiles of one where jobs are few.
  void make_units() {
    int64_t work = 0;
    for (const Job& job : jobs_) work += job.work();
    const bool few = static_cast<int64_t>(jobs_.size()) < wanted() && num_threads() > 1;
    for (Job& job : jobs_) {
      const int64_t tiles = job.tiles.end - job.tiles.begin;
      const int64_t units = few ? std::min(tiles, ceil_div(job.work() * wanted(), work)) : 1;
      if (units > 1) {
        job.parts = parts_elems_;
        parts_elems_ += tiles * RowSums::elems(job.rows, ld_);
      }
      for (int64_t u = 0; u < units; ++u) {
        units_.push_back(
            {&job, {job.tiles.begin + u * tiles / units, job.tiles.begin + (u + 1) * tiles / units}});
      }
    }
  }

  void run_whole(const Job& job) {
    State state(task_, job);
    Tiles tiles(task_, job);
    Scratch memory(RowSums::elems(job.rows, ld_) * kFloat);
    const RowSums tile(memory.as<float>(), job.rows, ld_);
    for (int64_t t = job.tiles.begin; t < job.tiles.end; ++t) {
      tiles.run(t, tile);
      state.add(tile);
    }
    state.finish();
  }

  const AttentionTask& task_;
  const int64_t ld_;
  std::vector<Job> jobs_;
  std::vector<Unit> units_;
  int64_t parts_elems_ = 0;
};

}  // namespace

void attend(const AttentionTask& task) { Schedule(task).run(); }

}  // namespace lamina::cpu
