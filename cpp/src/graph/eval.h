#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "graph/node.h"

namespace lamina {

// Computes the arrays. Async: returns once the work is queued on the streams' threads, which it waits for
// where their queue is full. `why`, a literal, names the wait in profiles.
void evaluate(std::span<const Array> arrays, bool async, const char* why = "eval");

// Bytes of a row-contiguous array; throws OutOfMemory where they overflow.
size_t byte_count(const Shape& shape, Dtype dtype);

// A ready array with row-major memory of its own and undefined contents.
Array uninitialized(const Shape& shape, Dtype dtype);

// What an evaluation does on one stream: lazy nodes, producers first, and what they read. Operands are
// numbered: the nodes from 0, then the leaves (arrays that are ready when the job runs).
struct Job {
  std::vector<Ref<Node>> nodes;
  std::vector<Ref<Node>> leaves;
  std::vector<uint32_t> operands;       // of all nodes, one after the other
  std::vector<uint32_t> operand_begin;  // nodes.size() + 1 positions in operands
  std::vector<uint8_t> wanted;          // by node: held by somebody outside the job
  std::vector<uint8_t> leaf_owned;      // by leaf: held by this job's nodes alone
  std::vector<uint32_t> unsettled;      // leaves that other jobs still held when this one was planned
  std::vector<uint8_t> filled;          // by node: the engine has put its result into the node
  std::vector<uint32_t> key;            // structure without sizes: equal keys share a plan
  std::vector<Ref<Event>> waits;        // of leaves that other jobs compute
  std::vector<uint32_t> origins;        // traces whose results are among the nodes
  Ref<Event> event;
  std::shared_ptr<void> place;  // in the stream's queue, of an asynchronous evaluation
  int stream = 0;
  bool batch_invariant = false;  // as set when the evaluation was asked for; plans do not depend on it

  Node* value(uint32_t i) const { return i < nodes.size() ? nodes[i].get() : leaves[i - nodes.size()].get(); }
  std::span<const uint32_t> inputs(size_t node) const {
    return std::span(operands).subspan(operand_begin[node], operand_begin[node + 1] - operand_begin[node]);
  }
};

// Shows f the job that evaluating these arrays would be, inputs of a traced function and the arrays of
// `there` taken for arrays that are there. Nothing is scheduled, and nobody plans meanwhile. ValueError for
// ops of several streams.
void with_job_of(std::span<const Array> arrays, std::span<const Array> there,
                 const std::function<void(const Job&)>& f);

// Turns a job's nodes into memory.
class Engine {
 public:
  virtual ~Engine() = default;
  // Appends what else a plan depends on (layouts, broadcasts) to the key; called under the planning lock.
  virtual void extend_key(Job& job) = 0;
  // Fills every wanted node (buffer, offset, strides) and marks it in job.filled; throws on failure.
  virtual void run(Job& job) = 0;
};
// The backend layer installs its engine when the program is loaded.
void set_engine(Engine* engine);

// While one lives on a thread, tracers evaluated there keep their op and inputs.
class TraceScope {
 public:
  TraceScope();
  ~TraceScope();
  TraceScope(const TraceScope&) = delete;
  TraceScope& operator=(const TraceScope&) = delete;
};

}  // namespace lamina
