#include "explain/layers.h"

#include <algorithm>

namespace lamina {
namespace {

constexpr int kSweeps = 6;    // over all rows, down and up in turn
constexpr double kLane = 10;  // width of an edge where it passes a row

class Layers {
 public:
  Layers(const std::vector<Box>& boxes, const std::vector<std::pair<size_t, size_t>>& edges, Box gap)
      : boxes_(boxes), edges_(edges), gap_(gap), rows_(boxes.size(), 0) {}

  Drawing run() {
    assign_rows();
    split_edges();
    for (int sweep = 0; sweep < kSweeps; ++sweep) order(sweep % 2 == 0);
    place();
    return finish();
  }

 private:
  // Boxes in an order in which edges point forward.
  std::vector<size_t> sorted() const {
    std::vector<std::vector<size_t>> below(boxes_.size());
    std::vector<size_t> waits(boxes_.size(), 0), out;
    for (const auto& [from, to] : edges_) {
      below[from].push_back(to);
      ++waits[to];
    }
    for (size_t i = 0; i < boxes_.size(); ++i) {
      if (waits[i] == 0) out.push_back(i);
    }
    for (size_t next = 0; next < out.size(); ++next) {
      for (size_t b : below[out[next]]) {
        if (--waits[b] == 0) out.push_back(b);
      }
    }
    return out;
  }

  void assign_rows() {
    std::vector<std::vector<size_t>> above(boxes_.size()), below(boxes_.size());
    for (const auto& [from, to] : edges_) {
      above[to].push_back(from);
      below[from].push_back(to);
    }
    const std::vector<size_t> order = sorted();
    for (size_t b : order) {
      for (size_t a : above[b]) rows_[b] = std::max(rows_[b], rows_[a] + 1);
    }
    for (size_t i = order.size(); i-- > 0;) {
      const size_t b = order[i];
      if (!above[b].empty() || below[b].empty() || boxes_[b].row == Box::Row::kFirst) continue;
      size_t lowest = rows_[below[b][0]];
      for (size_t c : below[b]) lowest = std::min(lowest, rows_[c]);
      rows_[b] = lowest - 1;
    }
    const size_t last = rows_.empty() ? 0 : *std::max_element(rows_.begin(), rows_.end());
    for (size_t b = 0; b < boxes_.size(); ++b) {
      if (boxes_[b].row == Box::Row::kLast) rows_[b] = last;
    }
  }

  size_t add(size_t row, Box box) {
    const size_t item = width_.size();
    width_.push_back(box.width);
    height_.push_back(box.height);
    up_.emplace_back();
    down_.emplace_back();
    members_[row].push_back(item);
    return item;
  }

  // Edges over several rows get a lane in each row between.
  void split_edges() {
    const size_t last = rows_.empty() ? 0 : *std::max_element(rows_.begin(), rows_.end());
    members_.resize(last + 1);
    for (size_t i = 0; i < boxes_.size(); ++i) add(rows_[i], boxes_[i]);
    for (const auto& [from, to] : edges_) {
      lanes_.emplace_back();
      size_t end = from;
      for (size_t row = rows_[from] + 1; row < rows_[to]; ++row) {
        const size_t lane = add(row, {kLane, 0, Box::Row::kAny});
        connect(end, lane);
        lanes_.back().push_back(lane);
        end = lane;
      }
      connect(end, to);
    }
    rank_.resize(width_.size());
    for (const auto& row : members_) renumber(row);
  }

  void connect(size_t from, size_t to) {
    down_[from].push_back(to);
    up_[to].push_back(from);
  }

  void renumber(const std::vector<size_t>& row) {
    for (size_t i = 0; i < row.size(); ++i) rank_[row[i]] = static_cast<double>(i);
  }

  static double mean(const std::vector<size_t>& of, const std::vector<double>& value, double otherwise) {
    if (of.empty()) return otherwise;
    double sum = 0;
    for (size_t i : of) sum += value[i];
    return sum / static_cast<double>(of.size());
  }

  void order(bool downwards) {
    for (size_t r = 0; r < members_.size(); ++r) {
      std::vector<size_t>& row = members_[downwards ? r : members_.size() - 1 - r];
      std::vector<std::pair<double, size_t>> keyed;
      for (size_t i : row) keyed.emplace_back(mean(downwards ? up_[i] : down_[i], rank_, rank_[i]), i);
      std::stable_sort(keyed.begin(), keyed.end(),
                       [](const auto& a, const auto& b) { return a.first < b.first; });
      for (size_t i = 0; i < row.size(); ++i) row[i] = keyed[i].second;
      renumber(row);
    }
  }

  double between(size_t left, size_t right) const { return (width_[left] + width_[right]) / 2 + gap_.width; }

  // Centres: towards the mean of the neighbours, and at least `gap` apart.
  void place() {
    centre_.assign(width_.size(), 0);
    for (const auto& row : members_) {
      for (size_t i = 1; i < row.size(); ++i)
        centre_[row[i]] = centre_[row[i - 1]] + between(row[i - 1], row[i]);
    }
    for (int sweep = 0; sweep < 2 * kSweeps; ++sweep) {
      for (size_t r = 0; r < members_.size(); ++r) {
        const bool downwards = sweep % 2 == 0;
        settle(members_[downwards ? r : members_.size() - 1 - r], downwards);
      }
    }
  }

  // The places nearest to the wanted ones that keep order and distance: boxes that push each other share the
  // mean of what they want.
  void settle(const std::vector<size_t>& row, bool downwards) {
    struct Run {
      double start = 0, total = 0;  // of the first box; sum of what the boxes want the first one to be
      size_t first = 0, count = 0;
    };
    std::vector<double> offset(row.size(), 0);
    for (size_t i = 1; i < row.size(); ++i) offset[i] = offset[i - 1] + between(row[i - 1], row[i]);
    std::vector<Run> runs;
    for (size_t i = 0; i < row.size(); ++i) {
      const auto& neighbours = downwards ? up_[row[i]] : down_[row[i]];
      const double want = mean(neighbours, centre_, centre_[row[i]]) - offset[i];
      runs.push_back({want, want, i, 1});
      while (runs.size() > 1 && runs[runs.size() - 2].start > runs.back().start) {
        const Run right = runs.back();
        runs.pop_back();
        Run& left = runs.back();
        left.total += right.total;
        left.count += right.count;
        left.start = left.total / static_cast<double>(left.count);
      }
    }
    for (const Run& run : runs) {
      for (size_t k = 0; k < run.count; ++k) centre_[row[run.first + k]] = run.start + offset[run.first + k];
    }
  }

  Drawing finish() {
    Drawing out;
    double left = 0, right = 0;
    for (size_t i = 0; i < width_.size(); ++i) {
      left = i == 0 ? centre_[i] - width_[i] / 2 : std::min(left, centre_[i] - width_[i] / 2);
      right = i == 0 ? centre_[i] + width_[i] / 2 : std::max(right, centre_[i] + width_[i] / 2);
    }
    std::vector<double> top(width_.size(), 0), bottom(width_.size(), 0);
    double y = 0;
    for (const auto& row : members_) {
      double tallest = 0;
      for (size_t i : row) tallest = std::max(tallest, height_[i]);
      for (size_t i : row) {
        top[i] = y;
        bottom[i] = y + tallest;
      }
      y += tallest + gap_.height;
    }
    for (size_t i = 0; i < boxes_.size(); ++i) {
      out.at.push_back({centre_[i] - width_[i] / 2 - left, top[i]});
      out.row_end.push_back(bottom[i]);
    }
    for (const auto& lanes : lanes_) {
      out.routes.emplace_back();
      for (size_t lane : lanes) {
        out.routes.back().push_back({centre_[lane] - left, top[lane]});
        out.routes.back().push_back({centre_[lane] - left, bottom[lane]});
      }
    }
    out.size = {right - left, std::max(0.0, y - gap_.height), Box::Row::kAny};
    return out;
  }

  const std::vector<Box>& boxes_;
  const std::vector<std::pair<size_t, size_t>>& edges_;
  Box gap_;
  std::vector<size_t> rows_;
  // Boxes, then lanes.
  std::vector<double> width_, height_, rank_, centre_;
  std::vector<std::vector<size_t>> up_, down_, members_, lanes_;
};

}  // namespace

Drawing draw_layers(const std::vector<Box>& boxes, const std::vector<std::pair<size_t, size_t>>& edges,
                    Box gap) {
  return Layers(boxes, edges, gap).run();
}

}  // namespace lamina
