#include <fmt/format.h>

#include "bindings/box.h"
#include "bindings/ops.h"

// lamina.core.distributed for one process: a group of size one, in which every reduction is its operand. More
// processes need a transport, which this build has not.
namespace lamina::bind {
namespace {

struct Group {};

constexpr const char* kGroup = "@group The group; None for the one there is.\n";

void check_group(const Any& group) {
  if (group.object != Py_None && !Box<Group>::check(group.object)) group.wrong();
}

// A collective whose result in a group of one is its operand.
void def_identity(const Scope& scope, const std::string& name, const std::string& summary) {
  def(scope, name + "(x: array, *, group: Group | None = None, stream: StreamOrDevice = None) -> array",
      summary + " In a group of one: the array itself.\n" + kGroup + ">>> mx.distributed." + name +
          "(mx.array([1, 2]))\narray([1, 2], dtype=int32)\n",
      [](const Array& x, Any group) {
        check_group(group);
        return x;
      });
}

bool known_backend(const std::string& name) {
  for (const char* known : {"any", "ring", "mpi", "nccl", "jaccl"}) {
    if (name == known) return true;
  }
  return false;
}

[[noreturn]] void refuse(const char* function, int64_t peer) {
  throw ValueError(
      fmt::format("[{}] a group of one has nobody to exchange arrays with, got rank {}", function, peer));
}

void add_group(const Scope& scope) {
  const Scope type = define_box<Group>(scope, "lamina.core.distributed.Group",
                                       "Processes that work together: in this build a group of one.", {});
  def(type, "rank(self) -> int", "This process's number in the group.\n>>> mx.distributed.init().rank()\n0\n",
      [](PyObject*) { return int64_t{0}; });
  def(type, "size(self) -> int", "Number of processes in the group.\n>>> mx.distributed.init().size()\n1\n",
      [](PyObject*) { return int64_t{1}; });
  def(type, "split(self, color: int, key: int = -1) -> Group",
      "Would split the group by colour.\n@color Processes of one colour stay together.\n"
      "@key Orders the ranks of the new group.\n@raises RuntimeError Always: one process cannot be split.\n"
      ">>> mx.distributed.init().split(0)\n"
      "Traceback (most recent call last):\n    ...\nRuntimeError: [split] a group of one process cannot be "
      "split further\n",
      [](PyObject*, int64_t, int64_t) {
        throw Error("[split] a group of one process cannot be split further");
      });
}

}  // namespace

void add_distributed(const Scope& scope) {
  add_group(scope);
  def(scope, "is_available(backend: str = 'any') -> bool",
      "Whether processes can be joined through that backend: this build has none.\n@backend Its name.\n"
      ">>> mx.distributed.is_available()\nFalse\n",
      [](const std::string&) { return false; });
  def(scope,
      "init(strict: bool = False, backend: str = 'any', *, all_gather_factory: Callable[[int, int], "
      "Callable[[bytes, int], bytes]] | None = None) -> Group",
      "The group of all processes: a group of one here.\n@strict Raise instead where no backend is "
      "available.\n"
      "@backend 'any', 'ring', 'mpi', 'nccl' or 'jaccl'.\n@all_gather_factory Accepted for MLX's signature.\n"
      "@raises ValueError For another backend.\n@raises RuntimeError Where strict, since there is none.\n"
      ">>> mx.distributed.init().size()\n1\n",
      [](bool strict, const std::string& backend, Any) {
        if (!known_backend(backend)) {
          throw ValueError(fmt::format(
              "[init] wanted backend 'any', 'ring', 'mpi', 'nccl' or 'jaccl', got '{}'", backend));
        }
        if (strict)
          throw Error(fmt::format("[init] this build has no distributed backend (asked for '{}')", backend));
        return owned(Box<Group>::make({}));
      });
  def_identity(scope, "all_sum", "The sum over all processes.");
  def_identity(scope, "all_max", "The largest of each element over all processes.");
  def_identity(scope, "all_min", "The smallest of each element over all processes.");
  def_identity(scope, "all_gather", "The arrays of all processes along the first axis.");
  def_identity(scope, "sum_scatter", "This process's part of the sum over all processes.");
  def(scope,
      "send(x: array, dst: int, *, group: Group | None = None, stream: StreamOrDevice = None) -> array",
      std::string("Would send an array to another process.\n@dst Rank of the receiver.\n") + kGroup +
          "@raises ValueError Always in a group of one.\n"
          ">>> mx.distributed.send(mx.ones(2), 1)\n"
          "Traceback (most recent call last):\n    ...\nValueError: [send] a group of one has nobody to "
          "exchange arrays with, got rank 1\n",
      [](const Array&, int64_t peer, Any) -> Array { refuse("send", peer); });
  def(scope,
      "recv(shape: Sequence[int], dtype: Dtype, src: int, *, group: Group | None = None, stream: "
      "StreamOrDevice = "
      "None) -> array",
      std::string(
          "Would receive an array from another process.\n@shape Its shape.\n@dtype Its dtype.\n@src Rank "
          "of the sender.\n") +
          kGroup +
          "@raises ValueError Always in a group of one.\n"
          ">>> mx.distributed.recv((2,), mx.float32, 1)\n"
          "Traceback (most recent call last):\n    ...\nValueError: [recv] a group of one has nobody to "
          "exchange arrays with, got rank 1\n",
      [](Any, Dtype, int64_t peer, Any) -> Array { refuse("recv", peer); });
  def(scope,
      "recv_like(x: array, src: int, *, group: Group | None = None, stream: StreamOrDevice = None) -> array",
      std::string("Would receive an array of the shape and dtype of `x`.\n@src Rank of the sender.\n") +
          kGroup +
          "@raises ValueError Always in a group of one.\n"
          ">>> mx.distributed.recv_like(mx.ones(2), 1)\n"
          "Traceback (most recent call last):\n    ...\nValueError: [recv_like] a group of one has nobody to "
          "exchange arrays with, got rank 1\n",
      [](const Array&, int64_t peer, Any) -> Array { refuse("recv_like", peer); });
}

}  // namespace lamina::bind
