#include "io/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numeric>
#include <optional>
#include <tuple>
#include <unordered_set>
#include <utility>

#include "core/fail.h"
#include "io/file.h"
#include "io/json.h"

namespace lamina {
namespace {

constexpr const char* kOp = "safetensors";
constexpr size_t kPrefixBytes = 8;
constexpr size_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr std::string_view kMetadataKey = "__metadata__";

// In the order of Dtype.
constexpr std::array<std::string_view, kNumDtypes> kDtypeNames = {
    "BOOL", "U8", "U16", "U32", "U64", "I8", "I16", "I32", "I64", "F16", "F32", "F64", "BF16", "C64"};

// 8-bit floats that are read as their bytes, as MLX does.
constexpr std::array<std::string_view, 2> kByteNames = {"F8_E4M3", "F8_E8M0"};

std::string_view format_name(Dtype t) { return kDtypeNames[static_cast<size_t>(t)]; }

Dtype read_dtype(JsonReader& json, std::string_view file, std::string_view tensor) {
  const std::string name = json.string();
  const auto* it = std::find(kDtypeNames.begin(), kDtypeNames.end(), name);
  if (std::find(kByteNames.begin(), kByteNames.end(), name) != kByteNames.end()) return Dtype::kUInt8;
  if (it == kDtypeNames.end()) {
    fail<ValueError>(kOp, "'{}': tensor '{}' has dtype {}; known are {}, {}", file, tensor, json_quote(name),
                     fmt::join(kDtypeNames, ", "), fmt::join(kByteNames, ", "));
  }
  return static_cast<Dtype>(it - kDtypeNames.begin());
}

Shape read_shape(JsonReader& json) {
  Shape shape;
  json.array([&] { shape.push_back(json.natural_number()); });
  return shape;
}

std::pair<size_t, size_t> read_offsets(JsonReader& json) {
  const size_t at = json.offset();
  SmallVec<int64_t> ends;
  json.array([&] { ends.push_back(json.natural_number()); });
  if (ends.size() != 2) json.fail_at(at, "two data_offsets", std::to_string(ends.size()));
  return {static_cast<size_t>(ends[0]), static_cast<size_t>(ends[1])};
}

void check_length(const TensorEntry& entry, std::string_view file) {
  int64_t bytes = static_cast<int64_t>(itemsize(entry.dtype));
  bool overflow = false;
  for (int64_t d : entry.shape) overflow = overflow || __builtin_mul_overflow(bytes, d, &bytes);
  const bool empty = std::find(entry.shape.begin(), entry.shape.end(), 0) != entry.shape.end();
  if (empty) bytes = 0;
  if ((overflow && !empty) || entry.begin > entry.end ||
      entry.end - entry.begin != static_cast<size_t>(bytes)) {
    fail<ValueError>(kOp, "'{}': tensor '{}' of shape {} and dtype {} does not fit data_offsets [{}, {}]",
                     file, entry.name, entry.shape, entry.dtype, entry.begin, entry.end);
  }
}

TensorEntry read_entry(JsonReader& json, const std::string& name, std::string_view file) {
  std::optional<Dtype> dtype;
  std::optional<Shape> shape;
  std::optional<std::pair<size_t, size_t>> offsets;
  const auto once = [&](const auto& field, const std::string& key) {
    if (field) fail<ValueError>(kOp, "'{}': tensor '{}' has {} twice", file, name, key);
  };
  json.object([&](const std::string& key) {
    if (key == "dtype") {
      once(dtype, key);
      dtype = read_dtype(json, file, name);
    } else if (key == "shape") {
      once(shape, key);
      shape = read_shape(json);
    } else if (key == "data_offsets") {
      once(offsets, key);
      offsets = read_offsets(json);
    } else {
      json.skip();
    }
  });
  if (!dtype || !shape || !offsets) {
    fail<ValueError>(kOp, "'{}': tensor '{}' has no {}", file, name,
                     !dtype ? "dtype" : (!shape ? "shape" : "data_offsets"));
  }
  TensorEntry entry{name, *dtype, *shape, offsets->first, offsets->second};
  check_length(entry, file);
  return entry;
}

void read_metadata(JsonReader& json, std::map<std::string, std::string>& metadata, std::string_view file) {
  if (json.null()) return;
  json.object([&](const std::string& key) {
    if (!metadata.emplace(key, json.string()).second)
      fail<ValueError>(kOp, "'{}': metadata '{}' repeats", file, key);
  });
}

// The tensors must lie end to end and fill the data: then none overlaps another or leaves the file.
void check_coverage(std::vector<TensorEntry>& tensors, size_t data_bytes, std::string_view file) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  size_t at = 0;
  for (const TensorEntry& entry : tensors) {
    if (entry.begin != at) {
      fail<ValueError>(kOp, "'{}': tensor '{}' starts at byte {} of the data, wanted {}", file, entry.name,
                       entry.begin, at);
    }
    if (entry.end > data_bytes) {
      fail<ValueError>(kOp, "'{}': tensor '{}' ends at byte {} of the data, which has {} bytes", file,
                       entry.name, entry.end, data_bytes);
    }
    at = entry.end;
  }
  if (at != data_bytes) {
    fail<ValueError>(kOp, "'{}': the tensors end at byte {} of the data, which has {} bytes", file, at,
                     data_bytes);
  }
}

// Length of the JSON header, given the first 8 bytes and the size of the file.
size_t header_length(std::span<const std::byte> prefix, size_t file_bytes, std::string_view file) {
  if (file_bytes < kPrefixBytes) {
    fail<ValueError>(kOp, "'{}': wanted at least {} bytes, got {}", file, kPrefixBytes, file_bytes);
  }
  uint64_t length = 0;
  for (size_t i = kPrefixBytes; i-- > 0;) length = length << 8 | static_cast<uint64_t>(prefix[i]);
  if (length > kMaxHeaderBytes) {
    fail<ValueError>(kOp, "'{}': a header of {} bytes, wanted at most {}: not a safetensors file?", file,
                     length, kMaxHeaderBytes);
  }
  if (length > file_bytes - kPrefixBytes) {
    fail<ValueError>(kOp, "'{}': a header of {} bytes, but the file has only {} bytes", file, length,
                     file_bytes);
  }
  return length;
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

LoadedTensor make_tensor(const TensorEntry& entry, const std::byte* data, BufferRef storage,
                         std::string_view file) {
  const size_t bytes = entry.end - entry.begin;
  LoadedTensor out{entry.name, {entry.dtype, entry.shape, false, {data, bytes}}, std::move(storage)};
  if (reinterpret_cast<uintptr_t>(data) % itemsize(entry.dtype) != 0) {
    out.storage = allocate(bytes);
    std::memcpy(out.storage->data(), data, bytes);
    out.tensor.bytes = {static_cast<const std::byte*>(out.storage->data()), bytes};
  }
  check_bool_bytes(kOp, file, entry.name, out.tensor);
  return out;
}

void check_for_saving(const std::vector<NamedTensor>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::unordered_set<std::string_view> names{kMetadataKey};
  for (const NamedTensor& t : tensors) {
    check_host_tensor(kOp, t.name, t.tensor);
    if (!is_utf8(t.name)) fail<ValueError>(kOp, "a tensor's name is not UTF-8: '{}'", t.name);
    if (!names.insert(t.name).second) fail<ValueError>(kOp, "the name '{}' is taken", t.name);
    if (t.tensor.fortran_order)
      fail<ValueError>(kOp, "tensor '{}' must be row-major, got column-major", t.name);
  }
  for (const auto& [key, value] : metadata) {
    if (!is_utf8(key) || !is_utf8(value)) fail<ValueError>(kOp, "metadata '{}' is not UTF-8", key);
  }
}

std::string make_header(const std::vector<const NamedTensor*>& tensors,
                        const std::map<std::string, std::string>& metadata) {
  std::string json = "{";
  if (!metadata.empty()) {
    json += json_quote(kMetadataKey) + ":{";
    for (const auto& [key, value] : metadata) json += json_quote(key) + ":" + json_quote(value) + ",";
    json.back() = '}';
    json += ',';
  }
  size_t at = 0;
  for (const NamedTensor* t : tensors) {
    const size_t end = at + t->tensor.bytes.size();
    json +=
        fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}},", json_quote(t->name),
                    format_name(t->tensor.dtype), fmt::join(t->tensor.shape, ","), at, end);
    at = end;
  }
  if (json.back() == ',') json.pop_back();
  json += '}';
  json.append((8 - json.size() % 8) % 8, ' ');
  if (json.size() > kMaxHeaderBytes) {
    fail<ValueError>(kOp, "names and metadata need a header of {} bytes, at most {} fit", json.size(),
                     kMaxHeaderBytes);
  }
  return json;
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view text, size_t file_bytes, std::string_view file) {
  SafetensorsHeader header;
  JsonReader json(kOp, file, text);
  std::unordered_set<std::string> names;
  json.object([&](const std::string& key) {
    if (!names.insert(key).second) fail<ValueError>(kOp, "'{}': the name '{}' repeats", file, key);
    if (key == kMetadataKey) {
      read_metadata(json, header.metadata, file);
    } else {
      header.tensors.push_back(read_entry(json, key, file));
    }
  });
  json.end();
  header.data_begin = kPrefixBytes + text.size();
  check_coverage(header.tensors, file_bytes - header.data_begin, file);
  return header;
}

SafetensorsHeader parse_safetensors(std::span<const std::byte> bytes, std::string_view file) {
  const size_t length = header_length(bytes, bytes.size(), file);
  return parse_safetensors_header(as_text(bytes.subspan(kPrefixBytes, length)), bytes.size(), file);
}

LoadedSafetensors load_safetensors(const std::string& path, LoadMode mode) {
  const InputFile file(path);
  std::array<std::byte, kPrefixBytes> prefix{};
  file.read_at(0, std::span(prefix).first(std::min(kPrefixBytes, file.size_bytes())));
  std::string json(header_length(prefix, file.size_bytes(), path), '\0');
  file.read_at(kPrefixBytes, std::as_writable_bytes(std::span(json)));
  SafetensorsHeader header = parse_safetensors_header(json, file.size_bytes(), path);

  LoadedSafetensors out;
  out.metadata = std::move(header.metadata);
  const BufferRef mapping = mode == LoadMode::kMap ? file.map() : nullptr;
  for (const TensorEntry& entry : header.tensors) {
    BufferRef storage = mapping;
    size_t offset = header.data_begin + entry.begin;
    if (mode == LoadMode::kCopy) {
      storage = allocate(entry.end - entry.begin);
      file.read_at(offset, {static_cast<std::byte*>(storage->data()), entry.end - entry.begin});
      offset = 0;
    }
    const auto* data = static_cast<const std::byte*>(storage->data()) + offset;
    out.tensors.push_back(make_tensor(entry, data, std::move(storage), path));
  }
  return out;
}

void save_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  check_for_saving(tensors, metadata);
  std::vector<const NamedTensor*> order;
  for (const NamedTensor& t : tensors) order.push_back(&t);
  std::sort(order.begin(), order.end(), [](const NamedTensor* a, const NamedTensor* b) {
    const size_t wa = itemsize(a->tensor.dtype), wb = itemsize(b->tensor.dtype);
    return wa != wb ? wa > wb : a->name < b->name;
  });
  const std::string json = make_header(order, metadata);
  std::string prefix(kPrefixBytes, '\0');
  for (size_t i = 0; i < kPrefixBytes; ++i) prefix[i] = static_cast<char>(json.size() >> 8 * i & 0xff);
  AtomicFile file(path);
  file.write(prefix);
  file.write(json);
  for (const NamedTensor* t : order) file.write(t->tensor.bytes);
  file.commit();
}

}  // namespace lamina
