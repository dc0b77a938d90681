#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_set>

#include "core/fail.h"
#include "io/file.h"
#include "io/gguf.h"
#include "io/gguf_format.h"
#include "io/json.h"
#include "quant/formats.h"
#include "quant/gguf_blocks.h"

namespace lamina {
namespace {

using namespace gguf;

constexpr const char* kOp = "save_gguf";

template <class T>
void put(std::string& out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

void put_text(std::string& out, std::string_view text) {
  put(out, static_cast<uint64_t>(text.size()));
  out += text;
}

uint32_t value_type(Dtype dtype, const std::string& name) {
  const auto number = number_of(kValueTypes, dtype);
  if (!number) {
    fail<DtypeError>(kOp, "metadata '{}' wants bool, integers, float32 or float64, got {}", name, dtype);
  }
  return *number;
}

void put_value(std::string& out, const GgufValue& value, const std::string& name, int depth);

void put_list(std::string& out, const std::vector<GgufValue>& values, const std::string& name, int depth) {
  if (depth >= kMostNesting)
    fail<ValueError>(kOp, "metadata '{}' nests more than {} lists", name, kMostNesting);
  put(out, kArrayValue);
  put(out, kArrayValue);
  put(out, static_cast<uint64_t>(values.size()));
  for (const GgufValue& value : values) {
    const auto* numbers = std::get_if<GgufNumbers>(&value.value);
    if (std::holds_alternative<std::string>(value.value) || (numbers && !numbers->array)) {
      fail<ValueError>(kOp, "metadata '{}' wants a list of texts or a list of lists and 1-d arrays", name);
    }
    std::string element;
    put_value(element, value, name, depth + 1);
    out += element.substr(sizeof(uint32_t));  // the outer array has said that its elements are arrays
  }
}

// The value's type and bytes.
void put_value(std::string& out, const GgufValue& value, const std::string& name, int depth) {
  if (const auto* numbers = std::get_if<GgufNumbers>(&value.value)) {
    const uint32_t type = value_type(numbers->dtype, name);
    if (numbers->array) {
      put(out, kArrayValue);
      put(out, type);
      put(out, static_cast<uint64_t>(numbers->bytes.size() / itemsize(numbers->dtype)));
    } else {
      put(out, type);
    }
    out += numbers->bytes;
  } else if (const auto* text = std::get_if<std::string>(&value.value)) {
    put(out, kStringValue);
    put_text(out, *text);
  } else if (const auto* texts = std::get_if<std::vector<std::string>>(&value.value)) {
    put(out, kArrayValue);
    put(out, kStringValue);
    put(out, static_cast<uint64_t>(texts->size()));
    for (const std::string& one : *texts) put_text(out, one);
  } else {
    put_list(out, std::get<std::vector<GgufValue>>(value.value), name, depth);
  }
}

size_t alignment_of(const GgufMetadata& metadata) {
  const auto row =
      std::find_if(metadata.begin(), metadata.end(), [](auto& p) { return p.first == kAlignmentKey; });
  if (row == metadata.end()) return kDefaultAlignment;
  const auto* number = std::get_if<GgufNumbers>(&row->second.value);
  uint32_t alignment = 0;
  if (number && !number->array && number->dtype == Dtype::kUInt32) {
    std::memcpy(&alignment, number->bytes.data(), sizeof alignment);
  }
  if (!std::has_single_bit(alignment) || alignment > kMostAlignment) {
    fail<ValueError>(kOp, "{} must be a uint32, a power of two up to {}", kAlignmentKey, kMostAlignment);
  }
  return alignment;
}

size_t padding(size_t offset, size_t alignment) { return (alignment - offset % alignment) % alignment; }

// The shape that the table says, in elements, and the number of the type.
struct TableRow {
  Shape shape;
  uint32_t type;
};
TableRow table_row(const NamedGgufTensor& t) {
  const HostTensor& tensor = t.named.tensor;
  TableRow row{tensor.shape, 0};
  if (tensor.shape.size() > kMostGgufAxes) {
    fail<ShapeError>(kOp, "tensor '{}' of shape {} has more than {} axes", t.named.name, tensor.shape,
                     kMostGgufAxes);
  }
  if (t.blocks) {
    const auto number = gguf_number(*t.blocks);
    if (!number) fail<ValueError>(kOp, "tensor '{}' is in no format of GGUF", t.named.name);
    const BlockFormat& block = block_format(*t.blocks);
    if (tensor.dtype != Dtype::kUInt8 || tensor.shape.empty() ||
        tensor.shape.back() % block.code_bytes != 0) {
      fail<ShapeError>(kOp,
                       "tensor '{}' of type {} wants uint8 rows of whole blocks of {} bytes, got {} of {}",
                       t.named.name, block.name, block.code_bytes, tensor.shape, tensor.dtype);
    }
    row.shape.back() = tensor.shape.back() / block.code_bytes * block.block;
    row.type = *number;
    return row;
  }
  const auto number = number_of(kPlainTensors, tensor.dtype);
  if (!number) {
    fail<DtypeError>(kOp,
                     "tensor '{}' has dtype {}; GGUF has float16, bfloat16, float32, float64, int8, int16, "
                     "int32 and int64",
                     t.named.name, tensor.dtype);
  }
  row.type = *number;
  return row;
}

void check_gguf_for_saving(const std::vector<NamedGgufTensor>& tensors, const GgufMetadata& metadata) {
  std::unordered_set<std::string_view> names;
  const auto check_name = [&](const std::string& name, const char* what) {
    if (!is_utf8(name)) fail<ValueError>(kOp, "a {}'s name is not UTF-8: '{}'", what, name);
    if (!names.insert(name).second) fail<ValueError>(kOp, "the {}'s name '{}' is taken", what, name);
  };
  for (const NamedGgufTensor& t : tensors) {
    check_name(t.named.name, "tensor");
    check_host_tensor(kOp, t.named.name, t.named.tensor);
    if (t.named.tensor.fortran_order) {
      fail<ValueError>(kOp, "tensor '{}' must be row-major, got column-major", t.named.name);
    }
  }
  names.clear();
  for (const auto& [name, value] : metadata) check_name(name, "metadata value");
}

std::string make_gguf_header(const std::vector<NamedGgufTensor>& tensors, const GgufMetadata& metadata,
                             size_t alignment) {
  std::string out(kMagic);
  put(out, kVersion);
  put(out, static_cast<uint64_t>(tensors.size()));
  put(out, static_cast<uint64_t>(metadata.size()));
  for (const auto& [name, value] : metadata) {
    put_text(out, name);
    put_value(out, value, name, 0);
  }
  size_t at = 0;
  for (const NamedGgufTensor& t : tensors) {
    const TableRow row = table_row(t);
    put_text(out, t.named.name);
    put(out, static_cast<uint32_t>(row.shape.size()));
    for (size_t i = row.shape.size(); i-- > 0;) put(out, static_cast<uint64_t>(row.shape[i]));
    put(out, row.type);
    put(out, static_cast<uint64_t>(at));
    at += t.named.tensor.bytes.size();
    at += padding(at, alignment);
  }
  out.append(padding(out.size(), alignment), '\0');
  return out;
}

}  // namespace

void save_gguf(const std::string& path, const std::vector<NamedGgufTensor>& tensors,
               const GgufMetadata& metadata) {
  check_gguf_for_saving(tensors, metadata);
  const size_t alignment = alignment_of(metadata);
  const std::string header = make_gguf_header(tensors, metadata, alignment);
  AtomicFile file(path);
  file.write(header);
  for (const NamedGgufTensor& t : tensors) {
    file.write(t.named.tensor.bytes);
    file.write(std::string(padding(file.offset(), alignment), '\0'));
  }
  file.commit();
}

}  // namespace lamina
