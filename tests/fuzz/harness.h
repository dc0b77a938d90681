#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "io/gguf.h"
#include "io/json.h"
#include "io/npy.h"
#include "io/npz.h"
#include "io/safetensors.h"
#include "lamina/error.h"
#include "lamina/memory.h"
#include "quant/formats.h"

// What every file must survive: a parser reads it or throws an Error. Anything else that is thrown, and every
// report of a sanitizer, is a finding. The fuzz programs and the replay of the corpus share these functions.
namespace lamina::fuzz {

inline void require(bool truth, const char* what) {
  if (!truth) throw std::logic_error(what);
}

inline void require_size(const HostTensor& t) {
  require(t.bytes.size() == tensor_bytes(t.dtype, t.shape), "the bytes are those of the shape");
}

inline bool is_json(std::string_view text) {
  JsonReader json("json", "fuzz", text);
  try {
    json.skip();
    json.end();
    return true;
  } catch (const Error&) { return false; }
}

inline void read_json(std::span<const std::byte> file) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  require(!is_json(text) || is_utf8(text), "JSON is UTF-8");
  require(is_json(json_quote(text)) == is_utf8(text), "any UTF-8 text can be quoted");
  if (!is_json(text)) throw ValueError("no JSON");
}

inline void read_npy(std::span<const std::byte> file) {
  const LoadedTensor t = lamina::read_npy(file, nullptr, "fuzz");
  require_size(t.tensor);
  // What was read can be written, and then reads the same.
  std::string image = npy_header(t.tensor);
  image.append(reinterpret_cast<const char*>(t.tensor.bytes.data()), t.tensor.bytes.size());
  const NpyHeader again = parse_npy(std::as_bytes(std::span(image)), "again");
  require(again.dtype == t.tensor.dtype && again.shape == t.tensor.shape, "a header reads as written");
}

inline void read_npz(std::span<const std::byte> file) {
  static const size_t limit = set_memory_limit(size_t{256} << 20);
  static_cast<void>(limit);
  for (const LoadedTensor& t : lamina::read_npz(file, "fuzz")) require_size(t.tensor);
}

inline void read_safetensors(std::span<const std::byte> file) {
  const SafetensorsHeader header = parse_safetensors(file, "fuzz");
  size_t end = header.data_begin;
  for (const TensorEntry& t : header.tensors) {
    require(t.end - t.begin == tensor_bytes(t.dtype, t.shape), "offsets fit the shape");
    require(header.data_begin + t.begin == end, "tensors lie end to end");
    end = header.data_begin + t.end;
  }
  require(end == file.size(), "tensors fill the file");
}

inline void read_gguf(std::span<const std::byte> file) {
  const LoadedGguf loaded = lamina::read_gguf(file, nullptr, "fuzz");
  for (const LoadedGgufTensor& t : loaded.tensors) {
    require_size(t.loaded.tensor);
    if (!t.blocks) continue;
    const BlockFormat& format = block_format(*t.blocks);
    const auto bytes = t.loaded.tensor.bytes;
    const auto size = static_cast<size_t>(format.code_bytes);
    require(bytes.size() % size == 0, "blocks are whole");
    std::vector<float> out(static_cast<size_t>(format.block));
    for (size_t at = 0; at < bytes.size(); at += size) {
      format.decode(reinterpret_cast<const uint8_t*>(bytes.data()) + at, nullptr, 1, out.data());
    }
  }
}

struct Format {
  std::string_view name;  // the folder of its corpus
  void (*read)(std::span<const std::byte>);
};
inline constexpr std::array<Format, 5> kFormats{{{"json", read_json},
                                                 {"npy", read_npy},
                                                 {"npz", read_npz},
                                                 {"safetensors", read_safetensors},
                                                 {"gguf", read_gguf}}};

// Reads a file in the named format; false where it was refused.
inline bool run(std::string_view name, std::span<const std::byte> file) {
  const auto* format =
      std::find_if(kFormats.begin(), kFormats.end(), [&](auto& f) { return f.name == name; });
  require(format != kFormats.end(), "the format is known");
  try {
    format->read(file);
    return true;
  } catch (const Error&) { return false; }
}

}  // namespace lamina::fuzz
