#include "graph/eval.h"

#include <array>
#include <memory>
#include <mutex>
#include <unordered_set>
#include <utility>

#include "core/fail.h"
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

bool pending(const Node* n) { return n->state.load(std::memory_order_acquire) != NodeState::kReady; }

// Collects the lazy nodes below the outputs in post-order, without recursion.
class Collector {
 public:
  // `dry`: for a job that is looked at and not run, in which the arrays of `there` have values.
  explicit Collector(Job& job, bool dry = false, std::span<const Array> there = {}) : job_(job), dry_(dry) {
    for (const Array& a : there) there_.insert(a.node());
    if (++current_mark == 0) ++current_mark;
  }

  void visit(Node* root) {
    if (!enter(root)) return;
    while (!stack_.empty()) {
      auto& [node, next] = stack_.back();
      if (next < node->inputs.size()) {
        Node* in = node->inputs[next++];
        enter(in);
      } else {
        finish(node);
        stack_.pop_back();
      }
    }
  }

  void number_operands() {
    const auto n = static_cast<uint32_t>(job_.nodes.size());
    std::vector<uint32_t> uses(n + job_.leaves.size(), 0);
    job_.operand_begin.reserve(n + 1);
    for (const Ref<Node>& node : job_.nodes) {
      job_.operand_begin.push_back(static_cast<uint32_t>(job_.operands.size()));
      for (Node* in : node->inputs) {
        const uint32_t id = pending_here(in) ? in->index : n + in->index;
        ++uses[id];
        job_.operands.push_back(id);
      }
    }
    job_.operand_begin.push_back(static_cast<uint32_t>(job_.operands.size()));
    // Each node and leaf is also held once by the job itself.
    job_.wanted.resize(n);
    for (uint32_t i = 0; i < n; ++i) {
      job_.wanted[i] = job_.nodes[i]->refs.load(std::memory_order_relaxed) > uses[i] + 1;
    }
    job_.leaf_owned.resize(job_.leaves.size());
    for (size_t i = 0; i < job_.leaves.size(); ++i) {
      job_.leaf_owned[i] = job_.leaves[i]->refs.load(std::memory_order_relaxed) == uses[n + i] + 1;
    }
    job_.filled.assign(n, 0);
  }

 private:
  // A node of this job: lazy, or scheduled by this very job.
  bool pending_here(const Node* n) const { return n->event == job_.event; }

  bool enter(Node* n) {
    if (n->mark == current_mark) return false;
    n->mark = current_mark;
    const NodeState state = n->state.load(std::memory_order_acquire);
    if (state != NodeState::kLazy || (dry_ && (n->op == OpId::Placeholder || there_.count(n)))) {
      if (state == NodeState::kScheduled) job_.waits.push_back(n->event);
      n->index = static_cast<uint32_t>(job_.leaves.size());
      job_.leaves.emplace_back(n);
      return false;
    }
    if (n->op == OpId::Placeholder) {
      fail<ValueError>(
          "eval", "an array inside a function being traced by compile, vmap or explain has no value yet");
    }
    stack_.emplace_back(n, 0);
    return true;
  }

  void finish(Node* n) {
    n->index = static_cast<uint32_t>(job_.nodes.size());
    n->event = job_.event;
    if (n->origin != 0 && (job_.origins.empty() || job_.origins.back() != n->origin)) {
      job_.origins.push_back(n->origin);
    }
    job_.nodes.emplace_back(n);
  }

  Job& job_;
  bool dry_;
  std::unordered_set<const Node*> there_;
  std::vector<std::pair<Node*, size_t>> stack_;
};

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
        n->state.store(NodeState::kReady, std::memory_order_release);
        if (!n->kept) finished.push_back(n);
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
  event->set(std::move(error));
}

void run_job(Job& job) {
  std::exception_ptr error;
  try {
    for (const Ref<Event>& e : job.waits) {
      e->wait();
      if (e->error) std::rethrow_exception(e->error);
    }
    for (const Ref<Node>& leaf : job.leaves) {
      if (pending(leaf.get())) evaluate(std::array{Array(leaf.get())}, false);
    }
    engine->run(job);
  } catch (...) { error = std::current_exception(); }
  settle(job, std::move(error));
}

}  // namespace

void set_engine(Engine* e) { engine = e; }

void evaluate(std::span<const Array> arrays, bool async) {
  auto job = std::make_shared<Job>();
  std::vector<Ref<Event>> others;
  std::function<void()> now;
  {
    std::lock_guard lock(planning_mutex);
    bool any = false;
    for (const Array& a : arrays) {
      const NodeState state = a.node()->state.load(std::memory_order_acquire);
      if (state == NodeState::kScheduled) others.push_back(a.node()->event);
      any |= state == NodeState::kLazy;
    }
    if (any) {
      job->event = Ref<Event>(new Event);
      try {
        Collector collect(*job);
        for (const Array& a : arrays) {
          if (a.node()->state.load(std::memory_order_relaxed) == NodeState::kLazy) collect.visit(a.node());
        }
        job->stream = arrays.front().node()->stream_index;
        collect.number_operands();
        engine->extend_key(*job);
      } catch (...) {
        unschedule(*job);
        throw;
      }
      for (const Ref<Node>& n : job->nodes) {
        n->state.store(NodeState::kScheduled, std::memory_order_release);
        if (tracing.depth > 0 && n->tracer && !n->kept) {
          n->kept = true;
          tracing.kept.push_back(n);
        }
      }
      if (!async) others.push_back(job->event);
      now = enqueue(
          job->stream, [job] { run_job(*job); }, async);
    }
  }
  if (now) now();
  if (async) return;
  for (const Ref<Event>& e : others) {
    e->wait();
    if (e->error) std::rethrow_exception(e->error);
  }
}

Job job_of(std::span<const Array> arrays, std::span<const Array> there) {
  Job job;
  std::lock_guard lock(planning_mutex);
  job.event = Ref<Event>(new Event);
  try {
    Collector collect(job, true, there);
    for (const Array& a : arrays) {
      if (a.node()->state.load(std::memory_order_relaxed) == NodeState::kLazy) collect.visit(a.node());
    }
    collect.number_operands();
    engine->extend_key(job);
  } catch (...) {
    unschedule(job);
    throw;
  }
  unschedule(job);
  return job;
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
      if (n->ready()) finished.push_back(n.get());
    }
  }
  for (Node* n : finished) n->detach();
}

}  // namespace lamina
