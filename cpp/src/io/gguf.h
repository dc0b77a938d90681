#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "io/tensor.h"
#include "lamina/quant.h"

namespace lamina {

// The GGUF format, versions 2 and 3, little-endian: counts, typed metadata, a table of tensors, then their
// bytes, each at a multiple of the alignment (metadata general.alignment, 32 where it is missing). Errors in
// a file's contents are ValueError and name the file.

// A number, or with `array` a list of them: the elements' bytes. Dtypes are bool, the eight integers, float32
// and float64.
struct GgufNumbers {
  Dtype dtype = Dtype::kUInt32;
  bool array = false;
  std::string bytes;
};
struct GgufValue;
// Texts are bytes: tokens of some vocabularies are not UTF-8.
struct GgufValue {
  std::variant<GgufNumbers, std::string, std::vector<std::string>, std::vector<GgufValue>> value;
};
// In the order of the file, each name once.
using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;

// What a tensor's bytes are: plain elements of `dtype`, or blocks, whose bytes then are uint8.
struct GgufType {
  Dtype dtype = Dtype::kFloat32;
  std::optional<QuantFormat> blocks;
};

// A tensor at bytes [begin, begin + bytes) of the file. `shape` counts elements, outermost axis first.
struct GgufEntry {
  std::string name;
  GgufType type;
  Shape shape;
  size_t begin = 0, bytes = 0;
};

struct GgufHeader {
  uint32_t version = 0;
  GgufMetadata metadata;
  std::vector<GgufEntry> tensors;  // in the order of the table
};

// Reads and checks the header of a whole file: counts and lengths against the bytes that are there, names
// that repeat, types, shapes, and that tensors lie inside the file, aligned, without overlap.
GgufHeader parse_gguf(std::span<const std::byte> bytes, std::string_view file);

// A tensor of blocks is uint8 of shape [.., rows, bytes of a row].
struct LoadedGgufTensor {
  LoadedTensor loaded;
  std::optional<QuantFormat> blocks;
};
struct LoadedGguf {
  std::vector<LoadedGgufTensor> tensors;
  GgufMetadata metadata;
};

// The file whose image is `bytes`, inside `storage`, which the tensors share but for unaligned ones.
LoadedGguf read_gguf(std::span<const std::byte> bytes, const BufferRef& storage, std::string_view file);
LoadedGguf load_gguf(const std::string& path, LoadMode mode = LoadMode::kMap);

// What a writer takes: plain elements, or with `blocks` uint8 of shape [.., rows, bytes of a row].
struct NamedGgufTensor {
  NamedTensor named;
  std::optional<QuantFormat> blocks;
};

// Writes version 3, tensors in the order given. Throws ValueError before anything is written: for names that
// repeat or are not UTF-8, dtypes that the format has not, more than kMostGgufAxes axes, rows that are no
// whole blocks, lists that mix types, and a general.alignment that is no uint32 power of two.
inline constexpr size_t kMostGgufAxes = 8;
void save_gguf(const std::string& path, const std::vector<NamedGgufTensor>& tensors,
               const GgufMetadata& metadata = {});

}  // namespace lamina
