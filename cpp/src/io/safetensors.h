#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/tensor.h"

namespace lamina {

// The safetensors format: 8 bytes of header length, a JSON header, then the tensors' bytes without gaps.
// F8_E4M3 and F8_E8M0 are read as uint8. Errors in a file's contents are ValueError and name the file.

// A tensor lies at bytes [begin, end) of the data, which starts at SafetensorsHeader::data_begin.
struct TensorEntry {
  std::string name;
  Dtype dtype;
  Shape shape;
  size_t begin, end;
};

struct SafetensorsHeader {
  std::vector<TensorEntry> tensors;  // in the order of their bytes
  std::map<std::string, std::string> metadata;
  size_t data_begin = 0;
};

// Reads and checks the header of a whole file: lengths, names that repeat, dtypes, shapes against byte
// counts, and that the tensors cover the data exactly. `file` is the name for messages.
SafetensorsHeader parse_safetensors(std::span<const std::byte> bytes, std::string_view file);
// The same from the header alone, for a file of `file_bytes`.
SafetensorsHeader parse_safetensors_header(std::string_view json, size_t file_bytes, std::string_view file);

struct LoadedSafetensors {
  std::vector<LoadedTensor> tensors;
  std::map<std::string, std::string> metadata;
};

// With kMap all tensors share the mapping, but for those that an old writer left unaligned, which are copied.
LoadedSafetensors load_safetensors(const std::string& path, LoadMode mode = LoadMode::kMap);

// Writes the tensors, wide dtypes first and then by name, so that each is aligned. Row-major only. Throws
// ValueError for names that repeat or are not UTF-8, before anything is written.
void save_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                      const std::map<std::string, std::string>& metadata = {});

}  // namespace lamina
