#include "graph/node.h"

#include <condition_variable>
#include <mutex>
#include <new>

#include "core/fail.h"
#include "core/fork_locks.h"
#include "graph/stream.h"
#include "memory/pool.h"

namespace lamina {
namespace {

// Nodes whose count fell to zero while another is being destroyed on this thread.
struct Graveyard {
  std::vector<Node*> pending;
  bool draining = false;
};
thread_local Graveyard graveyard;

void free_node(Node* n) {
  for (Node* in : n->inputs) Ref<Node>::release(in);
  n->~Node();
  pool_free(n, sizeof(Node));
}

std::mutex event_mutex;
// Never destroyed: a stream's thread may still signal while the process exits.
std::condition_variable& event_changed = *new std::condition_variable;

// A condition that threads waited for, which the child has not, cannot be used again.
void renew_events() {
  event_mutex.unlock();
  new (&event_changed) std::condition_variable;
}
[[maybe_unused]] const int at_fork_events =
    at_fork(ForkRank::kEvents, {[] { event_mutex.lock(); }, [] { event_mutex.unlock(); }, renew_events});

}  // namespace

View Node::view() const {
  View v;
  v.dtype = dtype;
  v.shape = shape;
  v.strides = strides;
  if (op == OpId::Scalar) {
    v.data = const_cast<unsigned char*>(scalar.bytes);
  } else if (buffer) {
    v.data = static_cast<char*>(buffer->data()) + offset * static_cast<int64_t>(itemsize(dtype));
  } else {
    fail<ValueError>("eval", "the memory of an input {} {} was used up by an evaluation that failed", dtype,
                     shape);
  }
  return v;
}

void Node::detach() {
  if (op != OpId::Data) op = OpId::Data;  // others may be reading what is so already
  params.reset();
  SmallVec<Node*, 3> old = std::move(inputs);
  inputs.clear();
  for (Node* in : old) Ref<Node>::release(in);
}

Node* Node::create() { return new (pool_allocate(sizeof(Node))) Node(); }

void Node::destroy(Node* n) {
  graveyard.pending.push_back(n);
  if (graveyard.draining) return;
  graveyard.draining = true;
  while (!graveyard.pending.empty()) {
    Node* next = graveyard.pending.back();
    graveyard.pending.pop_back();
    free_node(next);
  }
  graveyard.draining = false;
}

void Event::wait() {
  if (done.load(std::memory_order_acquire)) return;
  std::unique_lock lock(event_mutex);
  event_changed.wait(lock, [this] { return done.load(std::memory_order_acquire); });
}

void Event::set(std::exception_ptr e) {
  {
    std::lock_guard lock(event_mutex);
    error = std::move(e);
    done.store(true, std::memory_order_release);
  }
  event_changed.notify_all();
}

Array make_node(OpId op, Dtype dtype, const Shape& shape, std::span<const Array> inputs, Ref<Params> params) {
  Node* n = Node::create();
  n->op = op;
  n->dtype = dtype;
  n->shape = shape;
  n->params = std::move(params);
  const Stream stream = current_stream();
  n->stream_index = static_cast<uint8_t>(stream.index);
  n->device = stream.device.type;
  n->inputs.reserve(inputs.size());
  for (const Array& a : inputs) {
    Ref<Node>::retain(a.node());
    n->inputs.push_back(a.node());
    n->tracer |= a.node()->tracer;
  }
  return Array(n);
}

std::vector<Array> make_tuple_node(OpId op, std::span<const Shape> shapes, std::span<const Dtype> dtypes,
                                   std::span<const Array> inputs, Ref<Params> params) {
  Array tuple = make_node(op, dtypes[0], shapes[0], inputs, std::move(params));
  Ref<Results> results(new Results);
  for (size_t i = 0; i < shapes.size(); ++i) results->items.push_back({shapes[i], dtypes[i], nullptr});
  tuple.node()->results = std::move(results);
  std::vector<Array> outs;
  for (size_t i = 0; i < shapes.size(); ++i) {
    outs.push_back(make_node(OpId::Output, dtypes[i], shapes[i], {tuple},
                             make_params(OutputParams{static_cast<int>(i)})));
  }
  return outs;
}

}  // namespace lamina
