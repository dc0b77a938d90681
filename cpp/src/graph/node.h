#pragma once

#include <atomic>
#include <complex>
#include <cstdint>
#include <exception>
#include <span>
#include <vector>

#include "core/ref.h"
#include "core/view.h"
#include "graph/op_id.h"
#include "graph/params.h"
#include "lamina/array.h"
#include "memory/buffer.h"

namespace lamina {

// Signals that a scheduled computation has ended, well or not.
struct Event;

enum class NodeState : uint8_t {
  kLazy,       // op + inputs
  kScheduled,  // a running or queued evaluation will fill it
  kReady,      // buffer, offset and strides are valid (a Scalar node: its bits are)
};

// One element of any dtype, in that dtype's own representation.
struct alignas(8) ScalarBits {
  unsigned char bytes[8] = {};
};

// Results of a several-output op, until its Output nodes have taken them.
struct Results : RefCounted {
  struct One {
    Shape shape;
    Dtype dtype;
    BufferRef buffer;
  };
  std::vector<One> items;
  static void destroy(Results* r) { delete r; }
};

// One value of a graph: shape and dtype, and either its memory or how to compute it.
struct Node : RefCounted {
  OpId op = OpId::Data;
  Dtype dtype = Dtype::kFloat32;
  std::atomic<NodeState> state{NodeState::kLazy};
  bool tracer = false;  // depends on an input of a transform
  bool kept = false;    // evaluated inside a transform, which still needs op and inputs
  uint8_t stream_index = 0;
  DeviceType device = DeviceType::kCpu;
  // Scratch of the evaluation that holds the planning lock.
  uint32_t mark = 0;
  uint32_t index = 0;
  uint32_t origin = 0;  // of a result of a replayed trace: the trace's number; plans are counted by it

  Shape shape;
  Strides strides;     // in elements; valid when kReady
  int64_t offset = 0;  // in elements from the buffer's start
  BufferRef buffer;
  ScalarBits scalar;  // value of OpId::Scalar; such a node is always ready and has no buffer
  Ref<Params> params;
  Ref<Results> results;       // set for several-output ops
  SmallVec<Node*, 3> inputs;  // counted references
  Ref<Event> event;           // set while kScheduled

  bool ready() const { return state.load(std::memory_order_acquire) == NodeState::kReady; }
  int64_t size() const {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;
  }
  template <class P>
  const P& as() const {
    return static_cast<const ParamsOf<P>&>(*params).value;
  }
  // The bytes of a ready node. Throws where an evaluation that failed has used up the memory.
  View view() const;
  // Drops op parameters and inputs; the memory stays.
  void detach();

  static Node* create();
  // Releases long chains without recursion.
  static void destroy(Node* n);
};

struct Event : RefCounted {
  std::atomic<bool> done{false};
  std::exception_ptr error;
  void wait();
  void set(std::exception_ptr e = nullptr);
  static void destroy(Event* e) { delete e; }
};

// Builds a lazy node; inputs are retained. Shape and dtype have been validated by the caller.
Array make_node(OpId op, Dtype dtype, const Shape& shape, std::span<const Array> inputs,
                Ref<Params> params = nullptr);
inline Array make_node(OpId op, Dtype dtype, const Shape& shape, std::initializer_list<Array> inputs,
                       Ref<Params> params = nullptr) {
  return make_node(op, dtype, shape, std::span<const Array>(inputs.begin(), inputs.size()),
                   std::move(params));
}
// The n results of a several-output op: shapes[i], dtypes[i].
std::vector<Array> make_tuple_node(OpId op, std::span<const Shape> shapes, std::span<const Dtype> dtypes,
                                   std::span<const Array> inputs, Ref<Params> params);

// Which result of its input an Output node is.
struct OutputParams {
  int index = 0;
  friend bool operator==(const OutputParams&, const OutputParams&) = default;
  template <class V>
  void fields(V& v) const {
    v.field("index", index);
  }
  template <class V>
  void fields(V& v) {
    v.field("index", index);
  }
};

}  // namespace lamina
