#include "graph/eval.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "core/fail.h"
#include "graph/profiler.h"
#include "graph/stream_queue.h"

namespace lamina {
namespace {

Engine* engine = nullptr;
uint32_t current_mark = 0;

struct Tracing {
  int depth = 0;
  std::vector<Ref<Node>> kept;
};
thread_local Tracing tracing;

bool invariant_by_environment() {
  const char* value = std::getenv("LAMINA_BATCH_INVARIANT");
  const std::string_view text = value ? value : "";
  if (!text.empty() && text != "0" && text != "1") {
    fail<ValueError>("LAMINA_BATCH_INVARIANT", "wanted 0 or 1, got '{}'", text);
  }
  return text == "1";
}

std::atomic<bool>& invariant_setting() {
  static std::atomic<bool> on{invariant_by_environment()};
  return on;
}

bool pending(const Node* n) { return n->state.load(std::memory_order_acquire) != NodeState::kReady; }

void next_mark() {
  if (++current_mark == 0) ++current_mark;
}

// Something that the job reads and does not compute.
void add_leaf(Job& job, Node* n) {
  n->mark = current_mark;
  if (n->state.load(std::memory_order_acquire) == NodeState::kScheduled) job.waits.push_back(n->event);
  n->index = static_cast<uint32_t>(job.leaves.size());
  job.leaves.emplace_back(n);
}

void add_node(Job& job, Node* n) {
  if (n->origin != 0 && std::find(job.origins.begin(), job.origins.end(), n->origin) == job.origins.end()) {
    job.origins.push_back(n->origin);
  }
  job.nodes.emplace_back(n);
}

// Collects the lazy nodes below the outputs in post-order, without recursion.
class Collector {
 public:
  // `dry`: for a job that is looked at and not run, in which the arrays of `there` have values.
  explicit Collector(Job& job, bool dry = false, std::span<const Array> there = {}) : job_(job), dry_(dry) {
    for (const Array& x : there) there_.insert(x.node());
    next_mark();
  }

  void visit(Node* root) {
    if (!enter(root)) return;
    while (!stack_.empty()) {
      auto& [node, next] = stack_.back();
      if (next < node->inputs.size()) {
        Node* in = node->inputs[next++];
        enter(in);
      } else {
        mixed_ |= node->stream_index != job_.stream;
        node->index = static_cast<uint32_t>(job_.nodes.size());
        node->event = job_.event;
        add_node(job_, node);
        stack_.pop_back();
      }
    }
  }

  // True where some node belongs to another stream than the job.
  bool mixed() const { return mixed_; }

 private:
  bool enter(Node* n) {
    if (n->mark == current_mark) return false;
    n->mark = current_mark;
    const bool lazy = n->state.load(std::memory_order_acquire) == NodeState::kLazy;
    if (!lazy || (dry_ && (n->op == OpId::Placeholder || there_.count(n)))) {
      add_leaf(job_, n);
      return false;
    }
    if (n->op == OpId::Placeholder) {
      fail<ValueError>(
          "eval", "an array inside a function being traced by compile, vmap or explain has no value yet");
    }
    stack_.emplace_back(n, 0);
    return true;
  }

  Job& job_;
  bool dry_;
  bool mixed_ = false;
  std::unordered_set<const Node*> there_;
  std::vector<std::pair<Node*, size_t>> stack_;
};

// What a transform will differentiate after this evaluation: tracers and what they read, by value.
std::vector<uint8_t> read_by_gradients(const Job& job) {
  std::vector<uint8_t> needed(job.nodes.size() + job.leaves.size(), 0);
  for (uint32_t i = 0; i < job.nodes.size(); ++i) {
    if (!job.nodes[i]->tracer) continue;
    needed[i] = 1;
    for (uint32_t in : job.inputs(i)) needed[in] = 1;
  }
  return needed;
}

// Says which values each node reads, and whose memory nobody else needs.
void number_operands(Job& job) {
  const auto n = static_cast<uint32_t>(job.nodes.size());
  std::vector<uint32_t> uses(n + job.leaves.size(), 0);
  job.operand_begin.reserve(n + 1);
  for (const Ref<Node>& node : job.nodes) {
    job.operand_begin.push_back(static_cast<uint32_t>(job.operands.size()));
    for (Node* in : node->inputs) {
      const uint32_t id = in->event == job.event ? in->index : n + in->index;
      ++uses[id];
      job.operands.push_back(id);
    }
  }
  job.operand_begin.push_back(static_cast<uint32_t>(job.operands.size()));
  // Each node and leaf is also held once by the job itself.
  job.wanted.resize(n);
  for (uint32_t i = 0; i < n; ++i) {
    job.wanted[i] = job.nodes[i]->refs.load(std::memory_order_relaxed) > uses[i] + 1;
  }
  job.leaf_owned.resize(job.leaves.size());
  for (size_t i = 0; i < job.leaves.size(); ++i) {
    job.leaf_owned[i] = job.leaves[i]->refs.load(std::memory_order_relaxed) == uses[n + i] + 1;
  }
  job.filled.assign(n, 0);
  if (tracing.depth == 0) {
    for (uint32_t i = 0; i < job.leaves.size(); ++i) {
      if (pending(job.leaves[i].get())) job.unsettled.push_back(i);
    }
    return;
  }
  const std::vector<uint8_t> needed = read_by_gradients(job);
  for (uint32_t i = 0; i < n; ++i) job.wanted[i] |= needed[i];
  for (size_t i = 0; i < job.leaves.size(); ++i) job.leaf_owned[i] &= !needed[n + i];
}

void unschedule(Job& job) {
  for (const Ref<Node>& n : job.nodes) {
    n->event.reset();
    n->state.store(NodeState::kLazy, std::memory_order_release);
  }
}

// Ends a job: filled nodes become ready and let go of their inputs, the others are lazy again.
void settle(Job& job, std::exception_ptr error) {
  std::vector<Node*> finished;
  {
    std::lock_guard lock(planning_mutex);
    for (size_t i = 0; i < job.nodes.size(); ++i) {
      Node* n = job.nodes[i].get();
      n->event.reset();
      if (job.filled[i]) {
        if (!n->kept) {
          n->op = OpId::Data;  // before others may see it as ready
          finished.push_back(n);
        }
        n->state.store(NodeState::kReady, std::memory_order_release);
      } else {
        n->buffer.reset();
        n->state.store(NodeState::kLazy, std::memory_order_release);
      }
    }
  }
  for (Node* n : finished) n->detach();
  Ref<Event> event = job.event;
  job.nodes.clear();
  job.leaves.clear();
  job.place.reset();
  event->set(std::move(error));
}

void wait_for(Event& event, int stream) {
  if (event.done.load(std::memory_order_acquire)) return;
  const profiling::Wait wait("another stream", stream);
  event.wait();
}

// Looks again at leaves that other jobs held, once those are settled: steps that follow each other in the
// background work in place too.
void own_unsettled(Job& job) {
  if (job.unsettled.empty()) return;
  const size_t n = job.nodes.size();
  std::vector<uint32_t> uses(job.leaves.size(), 0);
  for (uint32_t id : job.operands) {
    if (id >= n) ++uses[id - n];
  }
  for (uint32_t i : job.unsettled) {
    job.leaf_owned[i] = job.leaves[i]->refs.load(std::memory_order_acquire) == uses[i] + 1;
  }
}

void run_job(Job& job) {
  std::exception_ptr error;
  try {
    for (const Ref<Event>& e : job.waits) {
      wait_for(*e, job.stream);
      if (e->error) std::rethrow_exception(e->error);
    }
    for (const Ref<Node>& leaf : job.leaves) {
      if (pending(leaf.get())) evaluate(std::array{Array(leaf.get())}, false, "eval inside an evaluation");
    }
    own_unsettled(job);
    engine->run(job);
  } catch (...) { error = std::current_exception(); }
  settle(job, std::move(error));
}

using Jobs = std::vector<std::shared_ptr<Job>>;

// How often a value's computation changes the stream on its way from the leaves, by node.
std::vector<uint32_t> stream_levels(const Job& job) {
  std::vector<uint32_t> level(job.nodes.size(), 0);
  for (size_t i = 0; i < job.nodes.size(); ++i) {
    const Node& n = *job.nodes[i];
    for (const Node* in : n.inputs) {
      if (in->event != job.event) continue;
      level[i] = std::max(level[i], level[in->index] + (in->stream_index != n.stream_index));
    }
  }
  return level;
}

// Takes the nodes of a job over several streams apart: a job for each level and stream, lower levels first,
// so that each waits only for earlier ones.
Jobs split(Job& whole) {
  const std::vector<uint32_t> level = stream_levels(whole);
  std::map<std::pair<uint32_t, int>, std::shared_ptr<Job>> parts;
  for (size_t i = 0; i < whole.nodes.size(); ++i) {
    auto& part = parts[{level[i], whole.nodes[i]->stream_index}];
    if (!part) {
      part = std::make_shared<Job>();
      part->stream = whole.nodes[i]->stream_index;
      part->event = Ref<Event>(new Event);
    }
    add_node(*part, whole.nodes[i].get());
  }
  Jobs jobs;
  for (auto& [place, part] : parts) jobs.push_back(std::move(part));
  // Who else holds a node is counted: the parts alone are to hold theirs.
  whole.nodes.clear();
  whole.leaves.clear();
  return jobs;
}

// Finds the leaves of a part, which are ready or belong to earlier parts.
void find_leaves(Job& part) {
  next_mark();
  for (size_t i = 0; i < part.nodes.size(); ++i) {
    Node* n = part.nodes[i].get();
    n->mark = current_mark;
    n->index = static_cast<uint32_t>(i);
    n->event = part.event;
  }
  for (const Ref<Node>& n : part.nodes) {
    for (Node* in : n->inputs) {
      if (in->mark != current_mark) add_leaf(part, in);
    }
  }
}

void schedule(Job& job) {
  for (const Ref<Node>& n : job.nodes) {
    n->state.store(NodeState::kScheduled, std::memory_order_release);
    if (tracing.depth > 0 && n->tracer && !n->kept) {
      n->kept = true;
      tracing.kept.push_back(n);
    }
  }
}

// The lazy arrays in the order of the longest way from what is there to each, where another order came: of
// the gradients of a deep function the last layer's come first, and what the others read can go in between.
// Empty where the order is this already. The job holds all nodes, producers first.
std::vector<Node*> by_height(const Job& job, std::span<const Array> arrays) {
  std::vector<Node*> roots;
  std::vector<uint32_t> height(job.nodes.size(), 0);
  for (size_t i = 0; i < job.nodes.size(); ++i) {
    for (const Node* in : job.nodes[i]->inputs) {
      if (in->event == job.event) height[i] = std::max(height[i], height[in->index] + 1);
    }
  }
  for (const Array& a : arrays) {
    if (a.node()->event == job.event) roots.push_back(a.node());
  }
  const auto lower = [&](const Node* a, const Node* b) { return height[a->index] < height[b->index]; };
  if (std::is_sorted(roots.begin(), roots.end(), lower)) return {};
  std::stable_sort(roots.begin(), roots.end(), lower);
  return roots;
}

const Node* first_lazy(std::span<const Array> arrays) {
  for (const Array& a : arrays) {
    if (a.node()->state.load(std::memory_order_acquire) == NodeState::kLazy) return a.node();
  }
  return nullptr;
}

// The jobs of one evaluation, in the order in which to enqueue them. Nearly always there is one only.
struct Planned {
  Jobs before;
  std::shared_ptr<Job> last;
};

void finish_planning(Job& job) {
  job.batch_invariant = batch_invariant();
  number_operands(job);
  engine->extend_key(job);
  schedule(job);
}

void finish_parts(Planned& planned) {
  planned.before = split(*planned.last);
  planned.last = planned.before.back();
  planned.before.pop_back();
  for (const auto& job : planned.before) {
    find_leaves(*job);
    finish_planning(*job);
  }
  find_leaves(*planned.last);
  finish_planning(*planned.last);
}

// Plans what computes the lazy ones among the arrays. Called under the planning lock; where it throws,
// nothing is scheduled.
Planned plan(std::span<const Array> arrays) {
  Planned planned;
  const Node* first = first_lazy(arrays);
  if (!first) return planned;
  planned.last = std::make_shared<Job>();
  Job& whole = *planned.last;
  whole.stream = first->stream_index;
  whole.event = Ref<Event>(new Event);
  try {
    bool mixed = false;
    const auto collect = [&](auto&& visit_all) {
      Collector collector(whole);
      visit_all(collector);
      mixed = collector.mixed();
    };
    collect([&](Collector& c) {
      for (const Array& a : arrays) {
        if (a.node()->state.load(std::memory_order_relaxed) == NodeState::kLazy) c.visit(a.node());
      }
    });
    const std::vector<Node*> roots = arrays.size() > 1 ? by_height(whole, arrays) : std::vector<Node*>();
    if (!roots.empty()) {
      whole.nodes.clear();
      whole.leaves.clear();
      whole.waits.clear();
      whole.origins.clear();
      collect([&](Collector& c) {
        for (Node* root : roots) c.visit(root);
      });
    }
    if (mixed) {
      finish_parts(planned);
    } else {
      finish_planning(whole);
    }
  } catch (...) {
    for (const auto& job : planned.before) unschedule(*job);
    unschedule(*planned.last);
    throw;
  }
  return planned;
}

// Makes the nodes of jobs that will not run lazy again, and tells who waits for them.
void give_up(std::span<const std::shared_ptr<Job>> jobs, const std::exception_ptr& error) {
  for (const std::shared_ptr<Job>& job : jobs) {
    unschedule(*job);
    job->event->set(error);
  }
}

// Hands the planned jobs to their streams. What this thread is to run itself goes into `inside`, or is
// returned for the last one; `events` gets what a caller that waits has to wait for. Where it throws, the
// jobs that no stream has are lazy again.
std::function<void()> enqueue_all(const Planned& planned, bool async, std::shared_ptr<void> place,
                                  std::vector<Ref<Event>>& events,
                                  std::vector<std::function<void()>>& inside) {
  Jobs left = planned.before;
  if (planned.last) left.push_back(planned.last);
  events.reserve(events.size() + left.size());
  inside.reserve(left.size());
  size_t queued = 0;  // by streams
  std::function<void()> now;
  try {
    for (const std::shared_ptr<Job>& job : left) {
      const bool last = job == planned.last;
      job->place = place;
      if (!last || !async) events.push_back(job->event);
      auto work = enqueue(
          job->stream, [job] { run_job(*job); }, !last || async);
      if (last) {
        now = std::move(work);
      } else if (work) {
        inside.push_back(std::move(work));
      } else {
        ++queued;
      }
    }
  } catch (...) {
    // Inside an evaluation all jobs are this thread's own, and elsewhere all but the last are the streams'.
    give_up(std::span(left).subspan(queued), std::current_exception());
    throw;
  }
  return now;
}

}  // namespace

void set_engine(Engine* e) { engine = e; }

bool batch_invariant() { return invariant_setting().load(std::memory_order_relaxed); }
bool set_batch_invariant(bool on) { return invariant_setting().exchange(on, std::memory_order_relaxed); }

void evaluate(std::span<const Array> arrays, bool async, const char* why) {
  const Node* first = first_lazy(arrays);
  std::shared_ptr<void> place;
  if (async) {
    if (!first) return;
    place = place_in_queue(first->stream_index);
  }
  profiling::Wait wait(why, first ? first->stream_index : -1);
  std::vector<Ref<Event>> events;
  std::vector<std::function<void()>> inside;  // where this thread does a stream's work: all of it
  std::function<void()> now;
  {
    std::lock_guard lock(planning_mutex);
    for (const Array& a : arrays) {
      const Node* n = a.node();
      if (n->state.load(std::memory_order_acquire) == NodeState::kScheduled) events.push_back(n->event);
    }
    now = enqueue_all(plan(arrays), async, std::move(place), events, inside);
  }
  place.reset();
  for (const auto& work : inside) work();
  if (now) now();
  if (async || events.empty()) return wait.forget();
  for (const Ref<Event>& e : events) {
    e->wait();
    if (e->error) std::rethrow_exception(e->error);
  }
}

void with_job_of(std::span<const Array> arrays, std::span<const Array> there,
                 const std::function<void(const Job&)>& f) {
  Job job;
  std::lock_guard lock(planning_mutex);
  job.event = Ref<Event>(new Event);
  if (const Node* first = first_lazy(arrays)) job.stream = first->stream_index;
  try {
    Collector collect(job, true, there);
    for (const Array& a : arrays) {
      if (a.node()->state.load(std::memory_order_relaxed) == NodeState::kLazy) collect.visit(a.node());
    }
    if (collect.mixed()) fail<ValueError>("explain", "wants a graph on one stream, got ops of several");
    number_operands(job);
    engine->extend_key(job);
    f(job);
  } catch (...) {
    unschedule(job);
    throw;
  }
  unschedule(job);
}

TraceScope::TraceScope() { ++tracing.depth; }
TraceScope::~TraceScope() {
  if (--tracing.depth > 0) return;
  std::vector<Ref<Node>> kept = std::move(tracing.kept);
  tracing.kept.clear();
  std::vector<Node*> finished;
  {
    std::lock_guard lock(planning_mutex);
    for (const Ref<Node>& n : kept) {
      n->kept = false;
      if (!n->ready()) continue;
      n->op = OpId::Data;  // before others may read it
      finished.push_back(n.get());
    }
  }
  for (Node* n : finished) n->detach();
}

}  // namespace lamina
