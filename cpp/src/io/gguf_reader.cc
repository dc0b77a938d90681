#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <span>
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

static_assert(std::endian::native == std::endian::little);

constexpr const char* kOp = "gguf";
constexpr size_t kWindowBytes = size_t{1} << 20;
constexpr size_t kMostValueBytes = size_t{1} << 30;  // no header needs more, and each is copied

// Reads a file front to back, from memory or through a window of its bytes.
class Cursor {
 public:
  using Fill = std::function<void(size_t offset, std::span<std::byte> out)>;

  Cursor(std::span<const std::byte> bytes, std::string_view file)
      : file_(file), file_bytes_(bytes.size()), window_(bytes) {}
  Cursor(size_t file_bytes, Fill fill, std::string_view file)
      : file_(file), file_bytes_(file_bytes), fill_(std::move(fill)) {}

  size_t offset() const { return begin_ + at_; }
  size_t left() const { return file_bytes_ - offset(); }
  size_t file_bytes() const { return file_bytes_; }

  template <class... Args>
  [[noreturn]] void bad(fmt::format_string<Args...> format, Args&&... args) const {
    fail<ValueError>(kOp, "'{}': {}", file_, fmt::format(format, std::forward<Args>(args)...));
  }

  // The next bytes, until the next call.
  std::span<const std::byte> take(size_t bytes, std::string_view what) {
    if (bytes > left()) {
      bad("{} at {} needs {} bytes, the file ends at {}", what, offset(), bytes, file_bytes_);
    }
    if (bytes > kMostValueBytes) {
      bad("{} at {} has {} bytes, wanted at most {}", what, offset(), bytes, kMostValueBytes);
    }
    if (bytes > window_.size() - at_) refill(bytes);
    const auto out = window_.subspan(at_, bytes);
    at_ += bytes;
    return out;
  }

  template <class T>
  T number(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }

  std::string text(std::string_view what) {
    const auto length = number<uint64_t>(what);
    const auto bytes = take(length, what);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  std::string name(std::string_view what) {
    const size_t begin = offset();
    std::string out = text(what);
    if (!is_utf8(out)) bad("{} at {} is not UTF-8", what, begin);
    return out;
  }

  // A count of things of at least `least` bytes each, so that no more are announced than can follow.
  size_t count(size_t least, std::string_view what) {
    const auto n = number<uint64_t>(what);
    if (n > left() / least) bad("{} {} need at least {} bytes each, {} are left", n, what, least, left());
    return n;
  }

 private:
  void refill(size_t bytes) {
    begin_ += at_;
    at_ = 0;
    storage_.resize(std::min(std::max(bytes, kWindowBytes), file_bytes_ - begin_));
    fill_(begin_, storage_);
    window_ = storage_;
  }

  std::string_view file_;
  size_t file_bytes_;
  Fill fill_;
  std::vector<std::byte> storage_;
  std::span<const std::byte> window_;
  size_t begin_ = 0, at_ = 0;
};

class HeaderReader {
 public:
  explicit HeaderReader(Cursor cursor) : in_(std::move(cursor)) {}

  GgufHeader read() {
    read_start();
    const auto tensors = in_.number<uint64_t>("the number of tensors");
    const auto values = in_.number<uint64_t>("the number of metadata values");
    // A metadata value is at least a name's length, a type and a byte; a tensor a length and four numbers.
    require_room(values, 13, "metadata values");
    for (uint64_t i = 0; i < values; ++i) read_pair();
    require_room(tensors, 24, "tensors");
    for (uint64_t i = 0; i < tensors; ++i) read_entry();
    place_tensors();
    return std::move(header_);
  }

 private:
  void require_room(uint64_t n, size_t least, std::string_view what) const {
    if (n > in_.left() / least) {
      in_.bad("{} {} need at least {} bytes each, {} are left", n, what, least, in_.left());
    }
  }

  void read_start() {
    const auto magic = in_.take(kMagic.size(), "the start");
    if (std::memcmp(magic.data(), kMagic.data(), kMagic.size()) != 0) {
      in_.bad("not a GGUF file: it does not start with GGUF");
    }
    header_.version = in_.number<uint32_t>("the version");
    if (header_.version != 0 && (header_.version & 0xffff) == 0) {
      in_.bad("a big-endian file, wanted a little-endian one");
    }
    if (header_.version != 2 && header_.version != 3) {
      in_.bad("GGUF version {}, known are 2 and 3", header_.version);
    }
  }

  void read_pair() {
    std::string name = in_.name("a metadata name");
    if (!names_.insert(name).second) in_.bad("metadata '{}' repeats", name);
    GgufValue value = read_value(in_.number<uint32_t>("a metadata type"), name);
    if (name == kAlignmentKey) read_alignment(value);
    header_.metadata.emplace_back(std::move(name), std::move(value));
  }

  void read_alignment(const GgufValue& value) {
    const auto* number = std::get_if<GgufNumbers>(&value.value);
    if (!number || number->array || number->dtype != Dtype::kUInt32)
      in_.bad("{} is no uint32", kAlignmentKey);
    std::memcpy(&alignment_, number->bytes.data(), sizeof alignment_);
    if (!std::has_single_bit(alignment_) || alignment_ > kMostAlignment) {
      in_.bad("{} is {}, wanted a power of two up to {}", kAlignmentKey, alignment_, kMostAlignment);
    }
  }

  GgufNumbers read_numbers(Dtype dtype, size_t count, bool array, const std::string& name) {
    const auto bytes = in_.take(count * itemsize(dtype), "a metadata value");
    GgufNumbers out{dtype, array, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}};
    if (dtype == Dtype::kBool &&
        std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return b > std::byte{1}; })) {
      in_.bad("metadata '{}' holds a bool that is neither 0 nor 1", name);
    }
    return out;
  }

  GgufValue read_value(uint32_t type, const std::string& name) {
    if (const auto dtype = dtype_of(kValueTypes, type)) return {read_numbers(*dtype, 1, false, name)};
    if (type == kStringValue) return {in_.text("a metadata text")};
    if (type == kArrayValue) return read_array(name, 1);
    in_.bad("metadata '{}' has the unknown type {}", name, type);
  }

  GgufValue read_array(const std::string& name, int depth) {
    if (depth > kMostNesting) in_.bad("metadata '{}' nests more than {} arrays", name, kMostNesting);
    const auto type = in_.number<uint32_t>("an array's type");
    if (const auto dtype = dtype_of(kValueTypes, type)) {
      const size_t n = in_.count(itemsize(*dtype), "array elements");
      return {read_numbers(*dtype, n, true, name)};
    }
    if (type == kStringValue) {
      std::vector<std::string> texts;  // grows with what is there, not with what is announced
      for (size_t n = in_.count(8, "array elements"); n-- > 0;) texts.push_back(in_.text("an array's text"));
      return {std::move(texts)};
    }
    if (type != kArrayValue) in_.bad("metadata '{}' is an array of the unknown type {}", name, type);
    std::vector<GgufValue> values;
    for (size_t n = in_.count(12, "array elements"); n-- > 0;) values.push_back(read_array(name, depth + 1));
    return {std::move(values)};
  }

  void read_entry() {
    GgufEntry entry;
    entry.name = in_.name("a tensor's name");
    if (!tensor_names_.insert(entry.name).second) in_.bad("the tensor name '{}' repeats", entry.name);
    const auto axes = in_.number<uint32_t>("a tensor's number of axes");
    if (axes > kMostGgufAxes) {
      in_.bad("tensor '{}' has {} axes, wanted at most {}", entry.name, axes, kMostGgufAxes);
    }
    entry.shape = Shape(axes, 0);
    for (size_t i = axes; i-- > 0;) {  // the file has the innermost axis first
      const auto length = in_.number<uint64_t>("a tensor's shape");
      if (length > INT64_MAX) in_.bad("tensor '{}' has an axis of {} elements", entry.name, length);
      entry.shape[i] = static_cast<int64_t>(length);
    }
    entry.type = tensor_type(in_.number<uint32_t>("a tensor's type"), entry.name);
    entry.begin = in_.number<uint64_t>("a tensor's offset");
    entry.bytes = bytes_of(entry);
    header_.tensors.push_back(std::move(entry));
  }

  GgufType tensor_type(uint32_t number, const std::string& name) const {
    if (const auto dtype = dtype_of(kPlainTensors, number)) return {*dtype, std::nullopt};
    if (const auto blocks = gguf_format(number)) return {Dtype::kUInt8, blocks};
    const auto* foreign = std::find_if(kForeignTensors.begin(), kForeignTensors.end(),
                                       [&](auto& t) { return t.number == number; });
    if (foreign == kForeignTensors.end()) in_.bad("tensor '{}' has the unknown type {}", name, number);
    in_.bad("tensor '{}' has type {} ({}), which lamina does not read", name, foreign->name, number);
  }

  size_t bytes_of(const GgufEntry& entry) const {
    int64_t elems = static_cast<int64_t>(itemsize(entry.type.dtype)), bytes = 0;
    if (entry.type.blocks) {
      const BlockFormat& block = block_format(*entry.type.blocks);
      const int64_t row = entry.shape.empty() ? 1 : entry.shape.back();
      if (row % block.block != 0) {
        in_.bad("tensor '{}' of shape {} has rows that are no whole blocks of {} elements ({})", entry.name,
                entry.shape, block.block, block.name);
      }
    }
    const bool empty = std::find(entry.shape.begin(), entry.shape.end(), 0) != entry.shape.end();
    bool overflow = false;
    for (int64_t d : entry.shape) overflow = overflow || __builtin_mul_overflow(elems, d, &elems);
    if (empty) return 0;
    bytes = elems;
    if (entry.type.blocks) {
      const BlockFormat& block = block_format(*entry.type.blocks);
      overflow = overflow || __builtin_mul_overflow(elems / block.block, block.code_bytes, &bytes);
    }
    if (overflow) {
      in_.bad("tensor '{}' of shape {} has more bytes than 63 bits can count", entry.name, entry.shape);
    }
    return static_cast<size_t>(bytes);
  }

  // Turns offsets into the data into offsets into the file, and checks them.
  void place_tensors() {
    const size_t data_begin = (in_.offset() + alignment_ - 1) / alignment_ * alignment_;
    const size_t data_bytes = in_.file_bytes() > data_begin ? in_.file_bytes() - data_begin : 0;
    std::vector<const GgufEntry*> order;
    for (GgufEntry& entry : header_.tensors) {
      if (entry.begin % alignment_ != 0) {
        in_.bad("tensor '{}' starts at {} of the data, no multiple of the alignment {}", entry.name,
                entry.begin, alignment_);
      }
      if (entry.begin > data_bytes || entry.bytes > data_bytes - entry.begin) {
        in_.bad("tensor '{}' has {} bytes at {} of the data, which has {} bytes", entry.name, entry.bytes,
                entry.begin, data_bytes);
      }
      entry.begin += data_begin;
      if (entry.bytes > 0) order.push_back(&entry);
    }
    std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->begin < b->begin; });
    for (size_t i = 1; i < order.size(); ++i) {
      const GgufEntry &a = *order[i - 1], &b = *order[i];
      if (a.begin + a.bytes > b.begin) in_.bad("tensors '{}' and '{}' overlap", a.name, b.name);
    }
  }

  Cursor in_;
  GgufHeader header_;
  uint32_t alignment_ = kDefaultAlignment;
  std::unordered_set<std::string> names_, tensor_names_;
};

Shape stored_shape(const GgufEntry& entry) {
  Shape shape = entry.shape;
  if (entry.type.blocks) {
    const BlockFormat& block = block_format(*entry.type.blocks);
    shape.back() = shape.back() / block.block * block.code_bytes;
  }
  return shape;
}

LoadedGgufTensor make_gguf_tensor(const GgufEntry& entry, const std::byte* data, BufferRef storage) {
  LoadedTensor out{
      entry.name, {entry.type.dtype, stored_shape(entry), false, {data, entry.bytes}}, std::move(storage)};
  if (reinterpret_cast<uintptr_t>(data) % itemsize(entry.type.dtype) != 0) {
    out.storage = allocate(entry.bytes);
    if (entry.bytes > 0) std::memcpy(out.storage->data(), data, entry.bytes);
    out.tensor.bytes = {static_cast<const std::byte*>(out.storage->data()), entry.bytes};
  }
  return {std::move(out), entry.type.blocks};
}

}  // namespace

GgufHeader parse_gguf(std::span<const std::byte> bytes, std::string_view file) {
  return HeaderReader(Cursor(bytes, file)).read();
}

LoadedGguf read_gguf(std::span<const std::byte> bytes, const BufferRef& storage, std::string_view file) {
  GgufHeader header = parse_gguf(bytes, file);
  LoadedGguf out{{}, std::move(header.metadata)};
  for (const GgufEntry& entry : header.tensors) {
    out.tensors.push_back(
        make_gguf_tensor(entry, bytes.data() + (entry.bytes > 0 ? entry.begin : 0), storage));
  }
  return out;
}

LoadedGguf load_gguf(const std::string& path, LoadMode mode) {
  const InputFile file(path);
  const auto fill = [&](size_t offset, std::span<std::byte> out) { file.read_at(offset, out); };
  GgufHeader header = HeaderReader(Cursor(file.size_bytes(), fill, path)).read();
  LoadedGguf out{{}, std::move(header.metadata)};
  const BufferRef mapping = mode == LoadMode::kMap ? file.map() : nullptr;
  for (const GgufEntry& entry : header.tensors) {
    BufferRef storage = mapping;
    size_t offset = entry.bytes > 0 ? entry.begin : 0;
    if (mode == LoadMode::kCopy) {
      storage = allocate(entry.bytes);
      file.read_at(offset, {static_cast<std::byte*>(storage->data()), entry.bytes});
      offset = 0;
    }
    const auto* data = static_cast<const std::byte*>(storage->data()) + offset;
    out.tensors.push_back(make_gguf_tensor(entry, data, std::move(storage)));
  }
  return out;
}

}  // namespace lamina
