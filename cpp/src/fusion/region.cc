#include "fusion/region.h"

#include <algorithm>
#include <functional>

#include "core/fail.h"

namespace lamina::fusion {
namespace {

bool is_reduce(const Value& v) { return op_info(v.op).family == Family::kReduce; }

// Number of trailing axes of the input that hold all reduced ones, and else only lengths of 1; 0 if none do.
int trailing_axes(const Value& v, const Shape& in) {
  size_t left = v.axes.size(), d = in.size();
  while (left > 0 && d > 0) {
    --d;
    if (v.axes[left - 1] == static_cast<int64_t>(d)) {
      --left;
    } else if (in[d] != 1) {
      return 0;
    }
  }
  return left == 0 ? static_cast<int>(in.size() - d) : 0;
}

// Number k > 0 of trailing axes such that `row` is `full` with them at length 1, else 0.
int row_relation(const Shape& full, const Shape& row) {
  if (full.size() != row.size()) return 0;
  size_t k = 0;
  while (k < full.size() && row[full.size() - 1 - k] == 1) ++k;
  for (size_t i = 0; i + k < full.size(); ++i) {
    if (full[i] != row[i]) return 0;
  }
  // Leading ones of the suffix belong to both readings; keep the shortest suffix that differs.
  while (k > 0 && full[full.size() - k] == 1) --k;
  return static_cast<int>(k);
}

class Former {
 public:
  Former(const Graph& graph, const Options& options) : graph_(graph), options_(options) {
    consumers_.resize(graph.nodes);
    for (uint32_t i = 0; i < graph.nodes; ++i) {
      for (uint32_t in : graph.values[i].inputs) {
        if (in < graph.nodes) consumers_[in].push_back(i);
      }
    }
    out_.region_of.assign(graph.nodes, -1);
    out_.decisions.resize(graph.nodes);
  }

  Partition run() {
    for (uint32_t i = static_cast<uint32_t>(graph_.nodes); i-- > 0;) {
      if (!is_fusable(graph_, i)) continue;
      Decision& d = out_.decisions[i];
      if (consumers_[i].empty()) {
        start(i);
      } else if (d = join(i); out_.region_of[i] < 0) {
        start(i);
      }
    }
    if (options_.fuse) merge_siblings();
    drop_merged();
    // Regions are complete: none grows behind the back of its kernel.
    for (uint32_t i = static_cast<uint32_t>(graph_.nodes); i-- > 0;) {
      if (graph_.values[i].takes_epilogue && !consumers_[i].empty()) out_.decisions[i] = attach(i);
    }
    for (Region& r : out_.regions) std::reverse(r.nodes.begin(), r.nodes.end());
    return std::move(out_);
  }

 private:
  const Shape& shape_of(uint32_t v) const { return graph_.shapes[graph_.values[v].shape]; }

  void start(uint32_t i) {
    const Value& v = graph_.values[i];
    Region r;
    if (is_reduce(v)) {
      r.full_shape = graph_.values[v.inputs[0]].shape;
      r.row_shape = v.shape;
      r.row_axes = trailing_axes(v, shape_of(v.inputs[0]));
    } else {
      r.full_shape = r.row_shape = v.shape;
    }
    r.nodes.push_back(i);
    out_.region_of[i] = static_cast<int>(out_.regions.size());
    out_.regions.push_back(std::move(r));
  }

  // What keeps the consumers of node i from being in one region, if anything does.
  Decision consumers_apart(uint32_t i) const {
    for (uint32_t c : consumers_[i]) {
      if (out_.region_of[c] < 0) return {Refusal::kConsumerAlone, c};
    }
    const int id = out_.region_of[consumers_[i][0]];
    for (uint32_t c : consumers_[i]) {
      if (out_.region_of[c] != id) return {Refusal::kTwoRegions, c};
    }
    return {};
  }

  // Puts node i into the region of its consumers, or says what keeps it out.
  Decision join(uint32_t i) {
    const uint32_t first = consumers_[i][0];
    if (!options_.fuse) return {Refusal::kFusionOff, first};
    Decision apart = consumers_apart(i);
    if (apart.refusal == Refusal::kTwoRegions && merge_consumers(i)) apart = {};
    const int id = apart.refusal == Refusal::kNone ? out_.region_of[first] : earliest_region(i);
    if (id < 0) return apart;
    Region& r = region(id);
    if (r.nodes.size() >= options_.max_nodes) return {Refusal::kNodeLimit, first};
    const Region before{{}, r.full_shape, r.row_shape, r.row_axes, {}, -1};
    const Refusal unfit = is_reduce(graph_.values[i]) ? fit_reduce(i, r) : fit_elementwise(i, r);
    if (unfit != Refusal::kNone) return {unfit, first};
    r.nodes.push_back(i);
    if (external_inputs(r) > options_.max_inputs) {
      r.nodes.pop_back();
      r.full_shape = before.full_shape;
      r.row_shape = before.row_shape;
      r.row_axes = before.row_axes;
      return {Refusal::kInputLimit, first};
    }
    out_.region_of[i] = id;
    if (apart.refusal != Refusal::kNone) r.stored.push_back(i);
    return apart;
  }

  // The elementwise region of some consumers of node i that comes before all others, or -1. Of two kernels
  // that could take a region, one would lose it.
  int earliest_region(uint32_t i) const {
    int id = -1;
    const auto root = [this](int r) { return out_.regions[static_cast<size_t>(r)].nodes[0]; };
    const auto runs_at = [&](uint32_t c) { return out_.region_of[c] < 0 ? c : root(out_.region_of[c]); };
    for (uint32_t c : consumers_[i]) {
      const int other = out_.region_of[c];
      if (other >= 0 && (id < 0 || root(other) < root(id))) id = other;
    }
    if (id < 0) return -1;
    for (uint32_t c : consumers_[i]) {
      if (out_.region_of[c] != id && runs_at(c) < root(id)) return -1;
    }
    const Region& r = out_.regions[static_cast<size_t>(id)];
    const bool fits =
        r.row_axes == 0 && r.full_shape == graph_.values[i].shape && !is_reduce(graph_.values[i]);
    const auto reads = [this](uint32_t v) { return reads_kernel(v); };
    const bool taken = reads_kernel(i) && std::any_of(r.nodes.begin(), r.nodes.end(), reads);
    return fits && !taken ? id : -1;
  }
  bool reads_kernel(uint32_t v) const {
    const auto& in = graph_.values[v].inputs;
    return std::any_of(in.begin(), in.end(), [this](uint32_t p) { return graph_.values[p].takes_epilogue; });
  }

  Region& region(int id) { return out_.regions[static_cast<size_t>(id)]; }

  // Whether a region is elementwise and its roots are results of the graph that nothing in it reads: no path
  // leads from such a region to another.
  bool has_results_only(const Region& r) const {
    if (r.nodes.empty() || r.row_axes > 0 || !r.stored.empty()) return false;
    const uint32_t root = r.nodes[0];
    return consumers_[root].empty() && graph_.values[root].wanted;
  }
  bool can_merge(const Region& a, const Region& b) const {
    return has_results_only(a) && has_results_only(b) && a.full_shape == b.full_shape &&
           a.nodes.size() + b.nodes.size() <= options_.max_nodes &&
           external_inputs(a) + external_inputs(b) <= options_.max_inputs;
  }
  // Region `from` becomes part of `into`, whose nodes stay in descending order.
  void merge(int into, int from) {
    Region &a = region(into), &b = region(from);
    for (uint32_t i : b.nodes) out_.region_of[i] = into;
    a.nodes.insert(a.nodes.end(), b.nodes.begin(), b.nodes.end());
    std::sort(a.nodes.begin(), a.nodes.end(), std::greater<>());
    b.nodes.clear();
  }

  // Results that are computed of node i are computed together, where they can be.
  bool merge_consumers(uint32_t i) {
    const int id = out_.region_of[consumers_[i][0]];
    if (graph_.values[i].shape != region(id).full_shape) return false;
    for (uint32_t c : consumers_[i]) {
      const int other = out_.region_of[c];
      if (other == id) continue;
      if (!can_merge(region(id), region(other))) return false;
      merge(id, other);
    }
    return true;
  }

  // What a region reads of its full shape from outside.
  std::vector<uint32_t> full_inputs(int id) {
    std::vector<uint32_t> inputs;
    for (uint32_t i : region(id).nodes) {
      for (uint32_t in : graph_.values[i].inputs) {
        const bool outside = in >= graph_.nodes || out_.region_of[in] != id;
        if (outside && graph_.values[in].shape == region(id).full_shape) inputs.push_back(in);
      }
    }
    return inputs;
  }

  // Results that read the same are computed in one pass, where neither waits for what the other does not
  // read.
  void merge_siblings() {
    std::vector<int> reader(graph_.values.size(), -1);
    for (int id = 0; id < static_cast<int>(out_.regions.size()); ++id) {
      if (!has_results_only(region(id))) continue;
      std::vector<uint32_t> inputs = full_inputs(id);
      int at = id;
      for (uint32_t in : inputs) {
        const int other = reader[in];
        if (other < 0 || other == at || !same_nodes(inputs, full_inputs(other))) continue;
        if (!can_merge(region(other), region(at))) continue;
        merge(other, at);
        at = other;
      }
      for (uint32_t in : inputs) reader[in] = at;
    }
  }
  // Whether both lists hold the same values that are computed first.
  bool same_nodes(std::vector<uint32_t> a, std::vector<uint32_t> b) const {
    for (std::vector<uint32_t>* list : {&a, &b}) {
      std::erase_if(*list, [this](uint32_t v) { return v >= graph_.nodes; });
      std::sort(list->begin(), list->end());
      list->erase(std::unique(list->begin(), list->end()), list->end());
    }
    return a == b;
  }

  void drop_merged() {
    std::vector<int> number(out_.regions.size(), -1);
    int count = 0;
    for (size_t i = 0; i < number.size(); ++i) {
      if (!out_.regions[i].nodes.empty()) number[i] = count++;
    }
    if (count == static_cast<int>(number.size())) return;
    std::erase_if(out_.regions, [](const Region& r) { return r.nodes.empty(); });
    for (int& id : out_.region_of) id = id < 0 ? id : number[static_cast<size_t>(id)];
  }

  // Makes the region of kernel i's consumers its epilogue, or says what forbids it.
  Decision attach(uint32_t i) {
    const uint32_t first = consumers_[i][0];
    if (!options_.fuse) return {Refusal::kFusionOff, first};
    if (!options_.epilogues) return {Refusal::kNoEpilogue, first};
    if (const Decision apart = consumers_apart(i); apart.refusal != Refusal::kNone) return apart;
    const int id = out_.region_of[first];
    Region& r = out_.regions[static_cast<size_t>(id)];
    if (r.row_axes > 0) return {Refusal::kRowTape, first};
    if (graph_.values[i].shape != r.full_shape) return {Refusal::kShape, first};
    if (r.kernel >= 0) return {Refusal::kTaken, first};
    r.kernel = i;
    return {};
  }

  // Elementwise: the full shape, the row shape, or, while no row shape is known, one that can be it.
  Refusal fit_elementwise(uint32_t i, Region& r) {
    const uint32_t s = graph_.values[i].shape;
    if (s == r.full_shape) return Refusal::kNone;
    if (consumed_by_reduce(i)) return Refusal::kShape;
    if (r.row_axes > 0) return s == r.row_shape ? Refusal::kNone : Refusal::kShape;
    const int k = row_relation(graph_.shapes[r.full_shape], graph_.shapes[s]);
    if (k == 0) return Refusal::kShape;
    r.row_shape = s;
    r.row_axes = k;
    return Refusal::kNone;
  }

  Refusal fit_reduce(uint32_t i, Region& r) {
    const Value& v = graph_.values[i];
    const uint32_t in = graph_.values[v.inputs[0]].shape;
    const int k = trailing_axes(v, shape_of(v.inputs[0]));
    if (consumed_by_reduce(i)) return Refusal::kReducedTwice;
    if (r.row_axes > 0) {
      const bool same = in == r.full_shape && v.shape == r.row_shape && k == r.row_axes;
      return same ? Refusal::kNone : Refusal::kRows;
    }
    if (v.shape == r.full_shape) {  // what is there so far works on rows
      r.full_shape = in;
    } else if (in != r.full_shape) {
      return Refusal::kShape;
    }
    r.row_shape = v.shape;
    r.row_axes = k;
    return Refusal::kNone;
  }

  bool consumed_by_reduce(uint32_t i) const {
    return std::any_of(consumers_[i].begin(), consumers_[i].end(),
                       [this](uint32_t c) { return is_reduce(graph_.values[c]); });
  }

  size_t external_inputs(const Region& r) const {
    const int id = out_.region_of[r.nodes[0]];
    size_t n = 0;
    for (uint32_t i : r.nodes) {
      for (uint32_t in : graph_.values[i].inputs) n += in >= graph_.nodes || out_.region_of[in] != id;
    }
    return n;
  }

  const Graph& graph_;
  const Options& options_;
  std::vector<std::vector<uint32_t>> consumers_;
  Partition out_;
};

}  // namespace

bool is_fusable(const Graph& graph, uint32_t node) {
  const Value& v = graph.values[node];
  if (is_elementwise(v.op)) return true;
  return is_reduce(v) && trailing_axes(v, graph.shapes[graph.values[v.inputs[0]].shape]) > 0;
}

Partition form_regions(const Graph& graph, const Options& options) { return Former(graph, options).run(); }

void verify(const Graph& graph, const Partition& p) {
  std::vector<int> taken_by(graph.nodes, -1);  // kernels: the region that is their epilogue
  for (const Region& r : p.regions) {
    const int id = p.region_of[r.nodes.back()];
    for (uint32_t i : r.nodes) {
      const Value& v = graph.values[i];
      if (p.region_of[i] != id) fail<Error>("fusion", "node {} is listed in two regions", i);
      if (v.shape != r.full_shape && v.shape != r.row_shape) {
        fail<Error>("fusion", "node {} has neither the full nor the row shape of its region", i);
      }
      if (is_reduce(v) && graph.values[v.inputs[0]].shape != r.full_shape) {
        fail<Error>("fusion", "reduction {} reads something that has not the full shape", i);
      }
    }
    if (r.kernel < 0) continue;
    const Value& k = graph.values[static_cast<size_t>(r.kernel)];
    if (!k.takes_epilogue || k.shape != r.full_shape || r.row_axes > 0) {
      fail<Error>("fusion", "kernel {} cannot run its region as an epilogue", r.kernel);
    }
    taken_by[static_cast<size_t>(r.kernel)] = id;
  }
  for (uint32_t i = 0; i < graph.nodes; ++i) {
    for (uint32_t in : graph.values[i].inputs) {
      if (in >= graph.nodes) continue;
      if (taken_by[in] >= 0 && taken_by[in] != p.region_of[i]) {
        fail<Error>("fusion", "kernel {} with an epilogue is read by node {} outside", in, i);
      }
      if (p.region_of[in] < 0 || p.region_of[in] == p.region_of[i]) continue;
      const Region& r = p.regions[static_cast<size_t>(p.region_of[in])];
      const bool stored = std::find(r.stored.begin(), r.stored.end(), in) != r.stored.end();
      const int to = p.region_of[i];
      const uint32_t read_at = to < 0 ? i : p.regions[static_cast<size_t>(to)].nodes.back();
      if (r.nodes.back() != in && !(stored && read_at > r.nodes.back())) {
        fail<Error>("fusion", "node {} inside a region is read by node {} outside", in, i);
      }
    }
  }
}

std::string print(const Graph& graph, const Partition& p) {
  std::string text;
  for (const Region& r : p.regions) {
    text += fmt::format("region full={} row_axes={}:", graph.shapes[r.full_shape], r.row_axes);
    if (r.kernel >= 0) {
      text += fmt::format(" [{}]", op_info(graph.values[static_cast<size_t>(r.kernel)].op).name);
    }
    for (uint32_t i : r.nodes) text += fmt::format(" {}", op_info(graph.values[i].op).name);
    text += '\n';
  }
  return text;
}

}  // namespace lamina::fusion
