#pragma once

#include <string>
#include <string_view>

#include "io/tensor.h"

namespace lamina {

// NumPy's .npy format, versions 1 to 3. bfloat16 is written as '<V2', as NumPy does for ml_dtypes; '<V2' and
// 'bfloat16' are read as bfloat16. Big-endian files are read, with the bytes swapped. Dtypes that lamina has
// not (structured, object, string, date, complex128, ...) are refused by name. Errors are ValueError and name
// the file.

struct NpyHeader {
  Dtype dtype;
  Shape shape;
  bool fortran_order = false;
  bool big_endian = false;
  size_t data_begin = 0;  // the elements are at [data_begin, data_begin + data_bytes)
  size_t data_bytes = 0;
};

// Reads and checks the header; the elements must lie inside `bytes`. What follows them is ignored, as NumPy
// does.
NpyHeader parse_npy(std::span<const std::byte> bytes, std::string_view file);

// The tensor whose file image is `bytes`, inside `storage`; copied where it is big-endian or not aligned.
LoadedTensor read_npy(std::span<const std::byte> bytes, BufferRef storage, std::string_view file);

LoadedTensor load_npy(const std::string& path, LoadMode mode = LoadMode::kMap);
void save_npy(const std::string& path, const HostTensor& tensor);

// The header that stands before the tensor's bytes; a multiple of 64 bytes long.
std::string npy_header(const HostTensor& tensor);

}  // namespace lamina
