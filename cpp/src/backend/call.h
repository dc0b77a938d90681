#pragma once

#include <memory>

#include "backend/plan.h"
#include "graph/call.h"

namespace lamina {

// The graph of a body as a job that can run again and again, on one thread at a time.
class PreparedCall final : public CallScratch {
 public:
  PreparedCall(const CallBody& body, const Backend& backend);

  // The job reads `value` in place of its input number `input`, and may take its memory if `owned`.
  void set_input(size_t input, Node* value, bool owned);
  // What an input stands for while the job runs; other nodes are themselves.
  const Node* given(const Node* n) const;
  // Lets go of inputs and of all memory.
  void clear();

  Job job;
  std::shared_ptr<const Plan> plan;
  std::vector<Array> outputs;  // nodes of the job, or what it reads
  const Backend* backend;

 private:
  std::vector<Array> inputs_;      // placeholders
  std::vector<Ref<Node>> values_;  // what they stand for
  std::vector<int64_t> leaf_of_;   // by input: its place among the job's leaves; -1 where it is not read
};

// One for an evaluation of `body`, given back when that is over.
class CallLease {
 public:
  CallLease(const CallBody& body, const Backend& backend);
  ~CallLease();
  CallLease(const CallLease&) = delete;
  CallLease& operator=(const CallLease&) = delete;
  PreparedCall& operator*() const { return *prepared_; }
  PreparedCall* operator->() const { return prepared_.get(); }

 private:
  const CallBody& body_;
  std::unique_ptr<PreparedCall> prepared_;
};

}  // namespace lamina
