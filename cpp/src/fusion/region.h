#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lamina/shape.h"
#include "ops/table.h"

namespace lamina::fusion {

// What fusion needs to know of a graph: structure only. Values are numbered: the nodes, then the leaves.
struct Value {
  OpId op = OpId::Data;
  Dtype dtype = Dtype::kFloat32;
  uint32_t shape = 0;            // index into Graph::shapes
  std::vector<uint32_t> inputs;  // producers; empty for leaves
  Axes axes;                     // of reductions
  bool wanted = false;           // needed outside the graph
  bool takes_epilogue = false;   // a kernel that can run a tape on the tiles of its result
};
struct Graph {
  size_t nodes = 0;
  std::vector<Value> values;
  // Distinct shapes. Lengths are canonical: 1 stays 1, other lengths are replaced one to one.
  std::vector<Shape> shapes;
};

// Whether a node may be part of a tape: elementwise ops, casts, and reductions over trailing axes.
bool is_fusable(const Graph& graph, uint32_t node);

// Nodes that run as one tape. Every node has the region's full shape, or its row shape: the full shape with
// the trailing `row_axes` lengths at 1.
struct Region {
  std::vector<uint32_t> nodes;  // producers first; the last one is the root, others may be results too
  uint32_t full_shape = 0;
  uint32_t row_shape = 0;
  int row_axes = 0;  // 0: elementwise only
  // Nodes but the root that nodes outside read, all behind the root: outputs of the tape.
  std::vector<uint32_t> stored;
  // The kernel that runs the tape as its epilogue, tile by tile; its result has the full shape. -1: none.
  int64_t kernel = -1;
};

struct Options {
  bool fuse = true;        // false: each fusable node is a region of its own
  size_t max_nodes = 192;  // of a region
  size_t max_inputs = 24;
  bool epilogues = true;
};

// Why a value goes through memory on its way to a consumer.
enum class Refusal : uint8_t {
  kNone,           // it does not: producer and consumers share a region; or nothing reads it
  kFusionOff,      // Options::fuse is false
  kConsumerAlone,  // a consumer runs by itself: a kernel, a view, a reduction over other than trailing axes
  kTwoRegions,     // its consumers are in different regions
  kShape,          // neither the full nor the row shape of the consumers' region
  kRows,           // a reduction over other rows than those of the region
  kReducedTwice,   // a reduction whose result is reduced again
  kNodeLimit,      // Options::max_nodes
  kInputLimit,     // Options::max_inputs
  kNoEpilogue,     // Options::epilogues is false
  kRowTape,        // of a kernel whose consumers work on rows
  kTaken,          // of a kernel whose consumers are the epilogue of another one
};
// What was decided for a node, and the consumer that it was decided by.
struct Decision {
  Refusal refusal = Refusal::kNone;
  uint32_t consumer = 0;
};

// Partitions the fusable nodes into regions. A node joins
// the region of its consumers where all of them are in that one region, so no path leaves a region and comes
// back. It also joins the elementwise region of some of them where all others come behind the root of that,
// and is stored for them. Elementwise regions of results that nothing reads become one where they read the
// same. region_of[i] is the region of node i, or -1 for nodes that run by themselves and for kernels. A
// kernel takes a region as its epilogue where all its consumers are in it.
struct Partition {
  std::vector<Region> regions;
  std::vector<int> region_of;
  // By node: why not all its consumers are in its region, or in the one that it takes.
  std::vector<Decision> decisions;
};
Partition form_regions(const Graph& graph, const Options& options = {});

// Throws Error where a rule above is broken; run between passes.
void verify(const Graph& graph, const Partition& partition);
// One line per region, for golden tests and explain.
std::string print(const Graph& graph, const Partition& partition);

}  // namespace lamina::fusion
