#pragma once

#include <array>
#include <span>

#include "backend/tile_types.h"
#include "fusion/tape.h"
#include "graph/node.h"
#include "ops/params.h"
#include "ops/table.h"

namespace lamina {

// What becomes of a kernel's result, tile by tile, in place of writing it.
struct Epilogue {
  TileEpilogue apply;
  int64_t work = 0;  // for an element, in multiply-adds of a product: threads pay for it too
};

// What a kernel gets: the op's parameters and views of its operands. Outputs have memory; output 0 may be
// input 0's own memory where the entry says in_place. With an epilogue, which is called once for each
// element, output 0 has none.
struct KernelCall {
  OpId op;
  const Params* params;
  std::span<const View> in;
  std::span<const View> out;
  const Epilogue* epilogue = nullptr;
  bool batch_invariant = false;  // float products give a row the same bits whatever else is in the batch

  template <class P>
  const P& as() const {
    return static_cast<const ParamsOf<P>&>(*params).value;
  }
};

struct KernelEntry {
  void (*run)(const KernelCall&) = nullptr;
  bool in_place = false;       // output 0 may take over input 0's memory when nobody else needs it
  bool contiguous_in = false;  // inputs must be row-contiguous
  // Whether the kernel takes an epilogue where its result has this dtype; null: never.
  bool (*takes_epilogue)(Dtype) = nullptr;
};

// A backend is a value: its kernels by op id, and its tile functions. An empty entry raises Unsupported.
struct Backend {
  const char* name;
  std::array<KernelEntry, kNumOps> kernels;
  TileFn (*tile)(OpId, Dtype);
  TileFn (*cast)(Dtype, Dtype);
  ReduceFn (*reduce)(OpId, Dtype);
  SpreadFn spread;
  const StreamCopy* streams;  // null: there is none
  // Pairs of ops that tapes run in one pass (fusion/tape.h); null: there are none.
  fusion::PairTest has_pair;
  TileFn (*pair)(OpId inner, OpId outer, bool left, Dtype);
  ReduceProductsFn (*reduce_products)(OpId, Dtype);
  void (*copy)(const View& in, const View& out);
  bool fuse;      // false: every op is a tape of its own
  bool computes;  // false: outputs get memory, nothing is written
};

// The backend that evaluates: the cpu backend, or what LAMINA_BACKEND=cpu|reference|null names.
const Backend& backend();
// Overrides it for this process; throws ValueError for an unknown name.
void set_backend(std::string_view name);

const Backend& cpu_backend();
const Backend& reference_backend();
const Backend& null_backend();

// The one error for an empty entry.
[[noreturn]] void unsupported(OpId op, Dtype dtype, const char* backend_name);

}  // namespace lamina
