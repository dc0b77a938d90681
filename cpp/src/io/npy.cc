#include "io/npy.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <utility>

#include "core/fail.h"
#include "io/file.h"

namespace lamina {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr const char* kOp = "npy";
constexpr std::string_view kMagic = "\x93NUMPY";

// In the order of Dtype, as NumPy's array protocol names them.
constexpr std::array<std::string_view, kNumDtypes> kDescrs = {
    "|b1", "|u1", "<u2", "<u4", "<u8", "|i1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8", "<V2", "<c8"};

struct Descr {
  Dtype dtype;
  bool big_endian;
};

// The dtype of "<f4", ">i2", "|b1", "f8", "float32", ...; nothing for those we do not have.
std::optional<Descr> find_descr(std::string_view text) {
  if (text == "bfloat16") return Descr{Dtype::kBFloat16, false};
  bool big_endian = false;
  std::string_view rest = text;
  if (!rest.empty() && std::string_view("<>|=").find(rest[0]) != std::string_view::npos) {
    big_endian = rest[0] == '>';
    rest.remove_prefix(1);
  }
  for (size_t i = 0; i < kDescrs.size(); ++i) {
    if (rest == kDescrs[i].substr(1)) return Descr{static_cast<Dtype>(i), big_endian};
  }
  return std::nullopt;
}

// Reads the header's Python dictionary: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
class HeaderReader {
 public:
  HeaderReader(std::string_view text, std::string_view file) : text_(text), file_(file) {}

  NpyHeader read() {
    expect('{', "a dictionary");
    while (!take('}')) {
      member(string());
      if (!take(',') && peek() != '}') fail_here("',' or '}'");
    }
    if (peek() != '\0' || at_ < text_.size()) fail_here("the end");
    if (!descr_ || !shape_ || !fortran_order_) {
      const char* missing = !descr_ ? "descr" : (!shape_ ? "shape" : "fortran_order");
      fail<ValueError>(kOp, "'{}': the header has no '{}'", file_, missing);
    }
    return {descr_->dtype, *shape_, *fortran_order_, descr_->big_endian};
  }

 private:
  void member(const std::string& key) {
    expect(':', "':'");
    const auto once = [&](const auto& field) {
      if (field) fail<ValueError>(kOp, "'{}': the header has '{}' twice", file_, key);
    };
    if (key == "descr") {
      once(descr_);
      descr_ = descr();
    } else if (key == "fortran_order") {
      once(fortran_order_);
      fortran_order_ = boolean();
    } else if (key == "shape") {
      once(shape_);
      shape_ = shape();
    } else {
      fail<ValueError>(kOp, "'{}': the header has an unknown key '{}'", file_, key);
    }
  }

  // The next character that is not white space, which stays; '\0' at the end.
  char peek() {
    constexpr std::string_view kSpace = " \t\n\r\f\v";
    while (at_ < text_.size() && kSpace.find(text_[at_]) != std::string_view::npos) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char c) {
    if (peek() != c || at_ >= text_.size()) return false;
    ++at_;
    return true;
  }
  void expect(char c, std::string_view wanted) {
    if (!take(c)) fail_here(wanted);
  }
  [[noreturn]] void fail_here(std::string_view wanted) {
    const char c = peek();
    const std::string got = at_ >= text_.size() ? "the end"
                            : c > ' ' && c < 0x7f
                                ? fmt::format("'{}'", c)
                                : fmt::format("byte 0x{:02x}", static_cast<unsigned char>(c));
    fail<ValueError>(kOp, "'{}': header at byte {}: wanted {}, got {}", file_, at_, wanted, got);
  }

  std::string string() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') fail_here("a string");
    const size_t begin = ++at_;
    while (at_ < text_.size() && text_[at_] != quote) {
      if (text_[at_] == '\\' || static_cast<unsigned char>(text_[at_]) < 0x20) fail_here("a plain string");
      ++at_;
    }
    if (at_ >= text_.size()) fail_here("the string's end");
    return std::string(text_.substr(begin, at_++ - begin));
  }

  bool boolean() {
    peek();
    for (auto [word, value] : {std::pair<std::string_view, bool>{"True", true}, {"False", false}}) {
      if (text_.substr(at_, word.size()) != word) continue;
      at_ += word.size();
      return value;
    }
    fail_here("True or False");
  }

  int64_t number() {
    const char first = peek();
    if (first < '0' || first > '9') fail_here("a length");
    int64_t value = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      if (__builtin_mul_overflow(value, int64_t{10}, &value) ||
          __builtin_add_overflow(value, int64_t{text_[at_] - '0'}, &value)) {
        fail_here("a length below 2^63");
      }
    }
    if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // Python 2 wrote long integers so
    return value;
  }

  Shape shape() {
    Shape out;
    expect('(', "a tuple");
    while (!take(')')) {
      out.push_back(number());
      const bool comma = take(',');
      if (!comma && (peek() != ')' || out.size() == 1)) fail_here(out.size() == 1 ? "','" : "',' or ')'");
    }
    return out;
  }

  Descr descr() {
    if (peek() == '[')
      fail<ValueError>(kOp, "'{}': structured dtypes are not supported: {}", file_, text_.substr(at_));
    const std::string text = string();
    if (auto found = find_descr(text)) return *found;
    const char* hint =
        text.find('O') == std::string::npos ? "" : " (Python objects, which only pickle can read)";
    fail<ValueError>(kOp, "'{}': dtype '{}'{} is not supported; known are {}", file_, text, hint,
                     fmt::join(kDescrs, ", "));
  }

  std::string_view text_, file_;
  size_t at_ = 0;
  std::optional<Descr> descr_;
  std::optional<Shape> shape_;
  std::optional<bool> fortran_order_;
};

size_t little_endian(std::span<const std::byte> bytes) {
  size_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<size_t>(bytes[i]);
  return value;
}

// Reverses the bytes of every number of `width` bytes.
void swap_bytes(std::byte* data, size_t bytes, size_t width) {
  for (size_t i = 0; i + width <= bytes; i += width) std::reverse(data + i, data + i + width);
}

}  // namespace

NpyHeader parse_npy(std::span<const std::byte> bytes, std::string_view file) {
  const auto require = [&](size_t wanted, const char* what) {
    if (bytes.size() < wanted) {
      fail<ValueError>(kOp, "'{}': {} needs {} bytes, the file has {}", file, what, wanted, bytes.size());
    }
  };
  require(8, "the start");
  if (std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    fail<ValueError>(kOp, "'{}': not an npy file: it does not start with \\x93NUMPY", file);
  }
  const int major = static_cast<int>(bytes[6]), minor = static_cast<int>(bytes[7]);
  if (major < 1 || major > 3 || minor != 0) {
    fail<ValueError>(kOp, "'{}': format version {}.{}, known are 1.0, 2.0 and 3.0", file, major, minor);
  }
  const size_t length_bytes = major == 1 ? 2 : 4, header_begin = 8 + length_bytes;
  require(header_begin, "the header's length");
  const size_t length = little_endian(bytes.subspan(8, length_bytes));
  require(header_begin + length, "the header");
  const auto* text = reinterpret_cast<const char*>(bytes.data()) + header_begin;
  NpyHeader header = HeaderReader({text, length}, file).read();
  header.data_begin = header_begin + length;
  header.data_bytes = tensor_bytes(header.dtype, header.shape);
  const size_t left = bytes.size() - header.data_begin;
  if (header.data_bytes > left) {
    fail<ValueError>(kOp, "'{}': shape {} of {} needs {} bytes, the file has {} after its header", file,
                     header.shape, header.dtype, header.data_bytes, left);
  }
  return header;
}

LoadedTensor read_npy(std::span<const std::byte> bytes, BufferRef storage, std::string_view file) {
  const NpyHeader header = parse_npy(bytes, file);
  const size_t width = header.dtype == Dtype::kComplex64 ? 4 : itemsize(header.dtype);
  LoadedTensor out{"", {header.dtype, header.shape, header.fortran_order, {}}, std::move(storage)};
  out.tensor.bytes = bytes.subspan(header.data_begin, header.data_bytes);
  const bool swap = header.big_endian && width > 1;
  if (swap || reinterpret_cast<uintptr_t>(out.tensor.bytes.data()) % itemsize(header.dtype) != 0) {
    BufferRef copy = allocate(header.data_bytes);
    auto* data = static_cast<std::byte*>(copy->data());
    std::copy(out.tensor.bytes.begin(), out.tensor.bytes.end(), data);
    if (swap) swap_bytes(data, header.data_bytes, width);
    out.storage = std::move(copy);
    out.tensor.bytes = {data, header.data_bytes};
  }
  check_bool_bytes(kOp, file, "", out.tensor);
  return out;
}

LoadedTensor load_npy(const std::string& path, LoadMode mode) {
  const FileBytes file = mode == LoadMode::kMap ? map_file(path) : read_file(path);
  return read_npy(file.bytes(), file.buffer, path);
}

std::string npy_header(const HostTensor& tensor) {
  const Shape& shape = tensor.shape;
  std::string dict = fmt::format("{{'descr': '{}', 'fortran_order': {}, 'shape': {}, }}",
                                 kDescrs[static_cast<size_t>(tensor.dtype)],
                                 tensor.fortran_order && shape.size() > 1 ? "True" : "False", shape);
  // The dictionary ends with spaces and a newline, so that the elements start at a multiple of 64.
  const auto padded = [&](size_t length_bytes) {
    return (8 + length_bytes + dict.size() + 1 + 63) / 64 * 64;
  };
  const size_t length_bytes = padded(2) - 10 <= 0xffff ? 2 : 4;
  const size_t length = padded(length_bytes) - 8 - length_bytes;
  std::string header(kMagic);
  header += length_bytes == 2 ? '\1' : '\2';
  header += '\0';
  for (size_t i = 0; i < length_bytes; ++i) header += static_cast<char>(length >> 8 * i & 0xff);
  dict.resize(length - 1, ' ');
  return header + dict + '\n';
}

void save_npy(const std::string& path, const HostTensor& tensor) {
  check_host_tensor(kOp, path, tensor);
  AtomicFile file(path);
  file.write(npy_header(tensor));
  file.write(tensor.bytes);
  file.commit();
}

}  // namespace lamina
