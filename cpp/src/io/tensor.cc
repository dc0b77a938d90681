#include "io/tensor.h"

#include <algorithm>

#include "core/fail.h"

namespace lamina {

size_t tensor_bytes(Dtype dtype, const Shape& shape) {
  int64_t bytes = 0;
  if (__builtin_mul_overflow(num_elements(shape), static_cast<int64_t>(itemsize(dtype)), &bytes)) {
    fail<ShapeError>("shape", "{} of {} has more bytes than 63 bits can count", shape, dtype);
  }
  return static_cast<size_t>(bytes);
}

void check_host_tensor(const char* op, const std::string& name, const HostTensor& tensor) {
  const size_t wanted = tensor_bytes(tensor.dtype, tensor.shape);
  if (tensor.bytes.size() != wanted) {
    fail<ValueError>(op, "tensor '{}' of shape {} and dtype {} has {} bytes, got {}", name, tensor.shape,
                     tensor.dtype, wanted, tensor.bytes.size());
  }
}

void check_bool_bytes(const char* op, std::string_view file, std::string_view name,
                      const HostTensor& tensor) {
  if (tensor.dtype != Dtype::kBool) return;
  auto bad =
      std::find_if(tensor.bytes.begin(), tensor.bytes.end(), [](std::byte b) { return b > std::byte{1}; });
  if (bad == tensor.bytes.end()) return;
  const std::string what = name.empty() ? "the bool tensor" : fmt::format("bool tensor '{}'", name);
  fail<ValueError>(op, "'{}': {} holds the byte {} at {}, wanted 0 or 1", file, what, static_cast<int>(*bad),
                   bad - tensor.bytes.begin());
}

}  // namespace lamina
