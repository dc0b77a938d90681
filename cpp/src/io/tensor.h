#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "lamina/dtype.h"
#include "lamina/shape.h"
#include "memory/buffer.h"

namespace lamina {

// Elements in host memory, without gaps: row by row, or column by column where fortran_order is set.
// Little-endian. Owns nothing.
struct HostTensor {
  Dtype dtype = Dtype::kFloat32;
  Shape shape;
  bool fortran_order = false;
  std::span<const std::byte> bytes;
};

// What a writer takes: a name and a tensor that stays alive during the call.
struct NamedTensor {
  std::string name;
  HostTensor tensor;
};

// What a reader gives: `tensor.bytes` lies inside `storage`, aligned to the dtype's size. Storage that is a
// mapped file is not writable and may be shared by many tensors.
struct LoadedTensor {
  std::string name;
  HostTensor tensor;
  BufferRef storage;
};

// Whether a reader maps the file, so that pages come in when they are used and are shared with other
// processes, or copies it, which survives that the file is cut short later.
enum class LoadMode { kMap, kCopy };

// Bytes that a tensor of this dtype and shape has. Throws ShapeError where they do not fit 63 bits.
size_t tensor_bytes(Dtype dtype, const Shape& shape);
// Throws ValueError where a writer's tensor has not the bytes that its dtype and shape ask for.
void check_host_tensor(const char* op, const std::string& name, const HostTensor& tensor);
// Throws ValueError where a bool tensor read from `file` holds bytes other than 0 and 1.
void check_bool_bytes(const char* op, std::string_view file, std::string_view name, const HostTensor& tensor);

}  // namespace lamina
