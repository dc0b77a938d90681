#include "backend/plan.h"

#include <algorithm>
#include <atomic>
#include <list>
#include <mutex>
#include <unordered_map>

#include "backend/step_recorder.h"
#include "core/fail.h"
#include "core/fork_locks.h"

namespace lamina {
namespace {

constexpr size_t kCacheWords = size_t{16} << 20;  // of keys that the plan cache keeps at most

// Distinct shapes of a job in order of first use; lengths other than 1 become numbers in order of first use.
class ShapeTable {
 public:
  uint32_t id(const Shape& s) {
    if (!shapes_.empty() && shapes_[last_] == s) return last_;
    for (uint32_t i = 0; i < shapes_.size(); ++i) {
      if (shapes_[i] == s) return last_ = i;
    }
    shapes_.push_back(s);
    return last_ = static_cast<uint32_t>(shapes_.size()) - 1;
  }
  std::vector<Shape> canonical() const {
    std::vector<int64_t> lengths;
    std::vector<Shape> out;
    for (const Shape& s : shapes_) {
      Shape c;
      for (int64_t d : s) {
        if (d == 1) {
          c.push_back(1);
          continue;
        }
        size_t at = 0;
        while (at < lengths.size() && lengths[at] != d) ++at;
        if (at == lengths.size()) lengths.push_back(d);
        c.push_back(static_cast<int64_t>(at) + 2);
      }
      out.push_back(std::move(c));
    }
    return out;
  }

 private:
  std::vector<Shape> shapes_;
  uint32_t last_ = 0;
};

bool is_reduce(OpId op) { return op_info(op).family == Family::kReduce; }

// Views that are their input: a tape reads that instead.
bool is_transparent(OpId op) {
  return op == OpId::Identity || op == OpId::StopGradient || op == OpId::CustomOutput;
}

// Wires fusable nodes past transparent views. Views that nothing reads afterwards lose their inputs: they
// need no step.
void see_through(fusion::Graph& g) {
  std::vector<uint32_t> readers(g.nodes, 0);
  for (uint32_t i = 0; i < g.nodes; ++i) {
    const bool fusable = fusion::is_fusable(g, i);
    for (uint32_t& in : g.values[i].inputs) {
      while (fusable && in < g.nodes && is_transparent(g.values[in].op)) in = g.values[in].inputs[0];
      if (in < g.nodes) ++readers[in];
    }
  }
  for (uint32_t i = static_cast<uint32_t>(g.nodes); i-- > 0;) {
    fusion::Value& v = g.values[i];
    if (!is_transparent(v.op) || v.wanted || readers[i] > 0) continue;
    if (v.inputs[0] < g.nodes) --readers[v.inputs[0]];
    v.inputs.clear();
  }
}

fusion::Graph describe(const Job& job, const Backend& backend) {
  fusion::Graph g;
  ShapeTable table;
  g.nodes = job.nodes.size();
  for (uint32_t i = 0; i < job.nodes.size() + job.leaves.size(); ++i) {
    const Node* n = job.value(i);
    fusion::Value v;
    v.dtype = n->dtype;
    v.shape = table.id(n->shape);
    if (i < job.nodes.size()) {
      v.op = n->op;
      const auto in = job.inputs(i);
      v.inputs.assign(in.begin(), in.end());
      v.wanted = job.wanted[i] != 0;
      if (is_reduce(v.op)) v.axes = n->as<AxesParams>().axes;
      const KernelEntry& entry = backend.kernels[static_cast<size_t>(v.op)];
      v.takes_epilogue = entry.takes_epilogue && entry.takes_epilogue(v.dtype);
    }
    g.values.push_back(std::move(v));
  }
  g.shapes = table.canonical();
  see_through(g);
  return g;
}

// The step of a region, by itself or as the epilogue of its kernel.
Step tape_step(const fusion::Graph& graph, const fusion::Region& r, const Backend& backend) {
  Step step;
  step.kind = r.kernel >= 0 ? Step::Kind::kWithEpilogue : Step::Kind::kTape;
  const uint32_t root = r.nodes.back();
  step.node = r.kernel >= 0 ? static_cast<uint32_t>(r.kernel) : root;
  step.tape =
      std::make_unique<BoundTape>(bind(fusion::lower(graph, r, backend.has_pair), r.row_axes, backend));
  for (uint32_t v : r.nodes) {
    const fusion::Value& value = graph.values[v];
    if (value.shape == r.full_shape) step.full_value = v;
    if (is_reduce(value.op) && r.full_shape != value.shape) step.full_value = value.inputs[0];
  }
  if (graph.values[step.full_value].shape != r.full_shape) step.full_value = root;
  return step;
}

// Steps in the order of the nodes that they end with, but a kernel with an epilogue runs as soon as what both
// read is there: were it to wait for the tape's root, the kernel's operands would have to.
class StepOrder {
 public:
  StepOrder(const Job& job, const fusion::Graph& graph, const fusion::Partition& parts)
      : job_(job), graph_(graph), parts_(parts), region_at_(parts.regions.size(), 0), taken_(graph.nodes, 0) {
    for (const fusion::Region& r : parts.regions) {
      if (r.kernel >= 0) taken_[static_cast<size_t>(r.kernel)] = 1;
    }
  }

  bool runs_with_tape(uint32_t node) const { return taken_[node] != 0; }

  // Steps come in the order of `node`, that of a region at its root.
  void add(uint32_t node, Step step) {
    uint32_t at = node, after = 0;
    const int region = parts_.region_of[node];
    if (step.kind == Step::Kind::kWithEpilogue) {
      at = step.node;
      for (uint32_t v : job_.inputs(step.node)) at = std::max(at, place_of(v));
      for (uint32_t v : step.tape->tape.inputs) at = std::max(at, place_of(v));
      after = node + 1;
      moved_ = true;
    }
    if (region >= 0) region_at_[static_cast<size_t>(region)] = at;
    steps_.push_back({at, after, std::move(step)});
  }

  std::vector<Step> take() {
    if (moved_) {
      std::stable_sort(steps_.begin(), steps_.end(), [](const Placed& a, const Placed& b) {
        return std::pair(a.at, a.after) < std::pair(b.at, b.after);
      });
    }
    std::vector<Step> out;
    out.reserve(steps_.size());
    for (Placed& p : steps_) out.push_back(std::move(p.step));
    return out;
  }

 private:
  struct Placed {
    uint32_t at, after;
    Step step;
  };

  uint32_t place_of(uint32_t v) const {
    if (v >= graph_.nodes) return 0;
    const int region = parts_.region_of[v];
    return region < 0 ? v : region_at_[static_cast<size_t>(region)];
  }

  const Job& job_;
  const fusion::Graph& graph_;
  const fusion::Partition& parts_;
  std::vector<uint32_t> region_at_;
  std::vector<uint8_t> taken_;
  std::vector<Placed> steps_;
  bool moved_ = false;
};

void find_last_uses(const Job& job, Plan& plan) {
  std::vector<int64_t> last(job.nodes.size() + job.leaves.size(), -1);
  for (size_t s = 0; s < plan.steps.size(); ++s) {
    const Step& step = plan.steps[s];
    if (step.tape) {
      for (uint32_t v : step.tape->tape.inputs) last[v] = static_cast<int64_t>(s);
      for (const auto& o : step.tape->tape.outputs) last[o.node] = static_cast<int64_t>(s);
    }
    if (step.kind != Step::Kind::kTape) {
      for (uint32_t v : job.inputs(step.node)) last[v] = static_cast<int64_t>(s);
      last[step.node] = static_cast<int64_t>(s);
    }
  }
  for (uint32_t v = 0; v < last.size(); ++v) {
    if (last[v] >= 0) plan.steps[static_cast<size_t>(last[v])].last_uses.push_back(v);
  }
}

uint64_t hash_key(const std::vector<uint32_t>& key) {
  uint64_t h = 0x9e3779b97f4a7c15u;
  for (uint32_t w : key) {
    h = (h ^ w) * 0xff51afd7ed558ccdu;
    h ^= h >> 29;
  }
  return h;
}

// Least recently used plans leave first.
struct Cache {
  std::mutex mutex;
  std::list<std::shared_ptr<const Plan>> plans;
  std::unordered_multimap<uint64_t, std::list<std::shared_ptr<const Plan>>::iterator> by_hash;
  size_t words = 0;
  PlanCounters counters;
  std::unordered_map<uint32_t, PlanCounters> by_origin;

  void count(const Job& job, uint64_t PlanCounters::*what) {
    ++(counters.*what);
    for (uint32_t o : job.origins) {
      if (const auto it = by_origin.find(o); it != by_origin.end()) ++(it->second.*what);
    }
  }
};
Cache& cache() {
  static Cache* c = new Cache;
  return *c;
}

void lock_plans() { cache().mutex.lock(); }
void unlock_plans() { cache().mutex.unlock(); }
[[maybe_unused]] const int at_fork_plans =
    at_fork(ForkRank::kPlans, {lock_plans, unlock_plans, unlock_plans});

std::shared_ptr<const Plan> lookup(Cache& c, uint64_t hash, const std::vector<uint32_t>& key) {
  const auto [begin, end] = c.by_hash.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    if ((*it->second)->key == key) {
      c.plans.splice(c.plans.begin(), c.plans, it->second);
      return *it->second;
    }
  }
  return nullptr;
}

void evict(Cache& c) {
  while (c.words > kCacheWords && c.plans.size() > 1) {
    const auto victim = std::prev(c.plans.end());
    const auto [begin, end] = c.by_hash.equal_range(hash_key((*victim)->key));
    for (auto it = begin; it != end; ++it) {
      if (it->second == victim) {
        c.by_hash.erase(it);
        break;
      }
    }
    c.words -= (*victim)->key.size();
    c.plans.erase(victim);
  }
}

}  // namespace

void append_shape_key(Job& job) {
  std::vector<uint32_t>& key = job.key;
  ShapeTable table;
  const auto n = static_cast<uint32_t>(job.nodes.size());
  key.push_back(n);
  for (uint32_t i = 0; i < n; ++i) {
    const Node* node = job.nodes[i].get();
    key.push_back(static_cast<uint32_t>(node->op) | static_cast<uint32_t>(node->dtype) << 16 |
                  static_cast<uint32_t>(job.wanted[i]) << 24);
    key.push_back(table.id(node->shape));
    const auto in = job.inputs(i);
    key.push_back(static_cast<uint32_t>(in.size()));
    key.insert(key.end(), in.begin(), in.end());
    if (node->params) node->params->append_structure(key);
  }
  for (const Ref<Node>& leaf : job.leaves) {
    key.push_back(static_cast<uint32_t>(leaf->dtype));
    key.push_back(table.id(leaf->shape));
  }
  for (const Shape& s : table.canonical()) {
    key.push_back(static_cast<uint32_t>(s.size()));
    for (int64_t d : s) key.push_back(static_cast<uint32_t>(d));
  }
}

void append_backend_key(Job& job, const Backend& backend) {
  job.key.push_back(static_cast<uint32_t>(backend.name[0]));
}

std::shared_ptr<const Plan> make_plan(const Job& job, const Backend& backend, PlanNotes* notes) {
  fusion::Graph graph = describe(job, backend);
  fusion::Options options;
  options.fuse = backend.fuse;
  fusion::Partition parts = fusion::form_regions(graph, options);
  fusion::verify(graph, parts);
  auto plan = std::make_shared<Plan>();
  plan->key = job.key;
  StepOrder order(job, graph, parts);
  for (uint32_t i = 0; i < graph.nodes; ++i) {
    const int region = parts.region_of[i];
    if (region >= 0) {
      const fusion::Region& r = parts.regions[static_cast<size_t>(region)];
      if (r.nodes.back() == i) order.add(i, tape_step(graph, r, backend));
      continue;
    }
    if (order.runs_with_tape(i)) continue;
    Step step;
    step.node = i;
    if (op_info(graph.values[i].op).family == Family::kView) {
      if (graph.values[i].inputs.empty()) continue;
      step.kind = Step::Kind::kView;
    }
    order.add(i, std::move(step));
  }
  plan->steps = order.take();
  find_last_uses(job, *plan);
  if (notes) *notes = {std::move(graph), std::move(parts)};
  return plan;
}

std::shared_ptr<const Plan> find_plan(const Job& job, const Backend& backend) {
  Cache& c = cache();
  const uint64_t hash = hash_key(job.key);
  {
    std::lock_guard lock(c.mutex);
    if (auto found = lookup(c, hash, job.key)) {
      c.count(job, &PlanCounters::hits);
      return found;
    }
    c.count(job, &PlanCounters::misses);
  }
  const int64_t start = profiling::on() ? profiling::now() : 0;
  std::shared_ptr<const Plan> plan = make_plan(job, backend);
  if (start != 0) record_planning(job, start);
  std::lock_guard lock(c.mutex);
  if (auto found = lookup(c, hash, job.key)) return found;
  c.plans.push_front(plan);
  c.by_hash.emplace(hash, c.plans.begin());
  c.words += plan->key.size();
  evict(c);
  return plan;
}

void count_plan_use(const Job& job) {
  Cache& c = cache();
  std::lock_guard lock(c.mutex);
  c.count(job, &PlanCounters::hits);
}

PlanCounters plan_counters() {
  Cache& c = cache();
  std::lock_guard lock(c.mutex);
  return c.counters;
}

PlanCounters plan_counters(uint32_t origin) {
  Cache& c = cache();
  std::lock_guard lock(c.mutex);
  const auto it = c.by_origin.find(origin);
  return it == c.by_origin.end() ? PlanCounters{} : it->second;
}

bool plan_is_known(const Job& job) {
  Cache& c = cache();
  const uint64_t hash = hash_key(job.key);
  std::lock_guard lock(c.mutex);
  return lookup(c, hash, job.key) != nullptr;
}

uint32_t new_origin() {
  static std::atomic<uint32_t> next{1};
  const uint32_t origin = next.fetch_add(1, std::memory_order_relaxed);
  Cache& c = cache();
  std::lock_guard lock(c.mutex);
  c.by_origin.try_emplace(origin);
  return origin;
}

void forget_origin(uint32_t origin) {
  Cache& c = cache();
  std::lock_guard lock(c.mutex);
  c.by_origin.erase(origin);
}

std::string describe_plan(const Job& job, const Plan& plan) {
  static constexpr const char* kKinds[] = {"view", "kernel", "tape", "kernel with epilogue"};
  std::string text;
  for (const Step& s : plan.steps) {
    const Node* n = job.nodes[s.node].get();
    text += fmt::format("{} {} {} {}\n", kKinds[static_cast<int>(s.kind)], op_info(n->op).name, n->dtype,
                        n->shape);
    if (s.tape) text += fusion::print(s.tape->tape);
  }
  return text;
}

}  // namespace lamina
