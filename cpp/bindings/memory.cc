#include "lamina/memory.h"

#include "bindings/device.h"
#include "graph/node.h"
#include "memory/buffer.h"
#include "memory/counters.h"

namespace lamina::bind {
namespace {

size_t byte_argument(int64_t bytes, const char* function) {
  if (bytes < 0)
    throw ValueError(std::string("[") + function + "] wants a number of bytes that is not negative, got " +
                     std::to_string(bytes));
  return static_cast<size_t>(bytes);
}

// Bytes of the memory below the arrays, each buffer once.
size_t buffer_bytes(Rest arrays) {
  size_t total = 0;
  std::vector<const Buffer*> seen;
  for (Py_ssize_t i = 0; i < arrays.count; ++i) {
    if (!is_array(arrays.items[i]))
      throw TypeError("get_array_buffer_size() wants arrays, got " + type_name(arrays.items[i]));
    const Array& a = value_of(arrays.items[i]);
    evaluate_released(a);
    const Buffer* b = a.node()->buffer.get();
    if (!b || std::find(seen.begin(), seen.end(), b) != seen.end()) continue;
    seen.push_back(b);
    total += b->bytes();
  }
  return total;
}

}  // namespace

void add_memory(const Scope& core) {
  def(core, "get_active_memory() -> int",
      "Bytes of array memory in use.\n>>> mx.get_active_memory() >= 0\nTrue\n",
      [] { return get_active_memory(); });
  def(core, "get_peak_memory() -> int",
      "The most bytes in use since the start or the last `reset_peak_memory`.\n"
      ">>> mx.get_peak_memory() >= mx.get_active_memory()\nTrue\n",
      [] { return get_peak_memory(); });
  def(core, "reset_peak_memory()", "Starts counting the peak anew.\n>>> mx.reset_peak_memory()\n",
      [] { reset_peak_memory(); });
  def(core, "get_cache_memory() -> int",
      "Bytes of freed memory kept for reuse.\n>>> mx.get_cache_memory() >= 0\nTrue\n",
      [] { return get_cache_memory(); });
  def(core, "get_system_allocation_count() -> int",
      "How often memory for arrays, graphs and kernels had to come from the operating system, since the "
      "start; a loop over the same shapes raises it in its first rounds only.\n"
      ">>> mx.get_system_allocation_count() >= 0\nTrue\n",
      [] { return static_cast<int64_t>(system_allocation_count()); });
  def(core, "get_memory_limit() -> int",
      "Bytes that arrays and the cache may take together.\n>>> mx.get_memory_limit() > 0\nTrue\n",
      [] { return get_memory_limit(); });
  def(core, "set_memory_limit(limit: int) -> int",
      "Sets the bytes that arrays and the cache may take together; beyond them an evaluation raises "
      "MemoryError.\n"
      "@limit Bytes.\n@returns The limit before.\n>>> old = mx.set_memory_limit(8 << 30)\n>>> "
      "mx.set_memory_limit(old) == 8 << 30\nTrue\n",
      [](int64_t limit) { return set_memory_limit(byte_argument(limit, "set_memory_limit")); });
  def(core, "set_cache_limit(limit: int) -> int",
      "Sets the bytes of freed memory that are kept for reuse; 0 keeps none.\n@limit Bytes.\n@returns The "
      "limit before.\n"
      ">>> old = mx.set_cache_limit(1 << 30)\n>>> mx.set_cache_limit(old) == 1 << 30\nTrue\n",
      [](int64_t limit) { return set_cache_limit(byte_argument(limit, "set_cache_limit")); });
  def(core, "set_wired_limit(limit: int) -> int",
      "Sets nothing: memory of a CPU needs no wiring.\n@limit Bytes.\n@returns The limit before, always "
      "0.\n>>> mx.set_wired_limit(0)\n0\n",
      [](int64_t limit) {
        byte_argument(limit, "set_wired_limit");
        return int64_t{0};
      });
  def(core, "clear_cache()",
      "Returns the freed memory that was kept for reuse to the system.\n>>> mx.clear_cache()\n>>> "
      "mx.get_cache_memory()\n0\n",
      [] { clear_cache(); });
  def(core, "get_array_buffer_size(*arrays: array) -> int",
      "Bytes of the memory below the arrays; arrays that share memory count once.\n"
      ">>> a = mx.zeros(4) + 1\n>>> mx.get_array_buffer_size(a, a) >= 16\nTrue\n",
      [](Rest arrays) { return buffer_bytes(arrays); });
}

}  // namespace lamina::bind
