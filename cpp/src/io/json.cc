#include "io/json.h"

#include <fmt/format.h>

#include "core/fail.h"

namespace lamina {
namespace {

constexpr int kMaxDepth = 64;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Bytes of the UTF-8 sequence at the front of `text`; 0 where it is none.
size_t sequence_bytes(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(i < text.size() ? text[i] : 0); };
  const auto tail = [&](size_t i, unsigned low = 0x80, unsigned high = 0xbf) {
    return byte(i) >= low && byte(i) <= high;
  };
  const unsigned b = byte(0);
  if (b < 0x80) return 1;
  if (b >= 0xc2 && b <= 0xdf) return tail(1) ? 2 : 0;
  if (b >= 0xe0 && b <= 0xef)
    return tail(1, b == 0xe0 ? 0xa0 : 0x80, b == 0xed ? 0x9f : 0xbf) && tail(2) ? 3 : 0;
  if (b >= 0xf0 && b <= 0xf4) {
    return tail(1, b == 0xf0 ? 0x90 : 0x80, b == 0xf4 ? 0x8f : 0xbf) && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

void append_utf8(std::string& out, uint32_t code) {
  const auto put = [&](uint32_t byte) { out += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6);
    put(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  } else {
    put(0xf0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3f));
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  }
}

}  // namespace

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t n = sequence_bytes(text);
    if (n == 0) return false;
    text.remove_prefix(n);
  }
  return true;
}

std::string json_quote(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string JsonReader::describe() const {
  if (at_ >= text_.size()) return "the end";
  const char c = text_[at_];
  return c > ' ' && c < 0x7f ? fmt::format("'{}'", c)
                             : fmt::format("byte 0x{:02x}", static_cast<unsigned char>(c));
}

void JsonReader::fail_at(size_t offset, std::string_view wanted, std::string_view got) const {
  fail<ValueError>(op_, "'{}': JSON at byte {}: wanted {}, got {}", file_, offset, wanted, got);
}

void JsonReader::skip_space() {
  while (at_ < text_.size() &&
         (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) {
    ++at_;
  }
}

void JsonReader::expect(char c, std::string_view wanted) {
  skip_space();
  if (at_ >= text_.size() || text_[at_] != c) fail_at(at_, wanted, describe());
  ++at_;
}

void JsonReader::open(char bracket, std::string_view wanted) {
  expect(bracket, wanted);
  if (++depth_ > kMaxDepth) fail_at(at_ - 1, fmt::format("at most {} levels", kMaxDepth), "one more");
}

// Moves on to the next member or element; false after the closing bracket.
bool JsonReader::next(char closing, bool first) {
  skip_space();
  if (at_ < text_.size() && text_[at_] == closing) {
    ++at_;
    --depth_;
    return false;
  }
  if (!first) expect(',', fmt::format("',' or '{}'", closing));
  return true;
}

uint32_t JsonReader::hex4() {
  uint32_t code = 0;
  for (int i = 0; i < 4; ++i, ++at_) {
    const char c = at_ < text_.size() ? text_[at_] : '\0';
    const char lower = static_cast<char>(c | 0x20);
    if (!is_digit(c) && (lower < 'a' || lower > 'f')) fail_at(at_, "four hexadecimal digits", describe());
    code = code * 16 + static_cast<uint32_t>(is_digit(c) ? c - '0' : lower - 'a' + 10);
  }
  return code;
}

// The rest of an escape, after its backslash.
void JsonReader::escape(std::string& out) {
  constexpr std::string_view kShort = "\"\\/bfnrt", kMeaning = "\"\\/\b\f\n\r\t";
  const char c = at_ < text_.size() ? text_[at_] : '\0';
  if (const size_t known = kShort.find(c); known != std::string_view::npos) {
    out += kMeaning[known];
    ++at_;
    return;
  }
  if (c != 'u') fail_at(at_, "an escape", describe());
  const size_t start = at_++;
  uint32_t code = hex4();
  if (code >= 0xd800 && code < 0xdc00 && text_.substr(at_, 2) == "\\u") {
    at_ += 2;
    const uint32_t low = hex4();
    if (low < 0xdc00 || low > 0xdfff) fail_at(start, "a surrogate pair", "half of one");
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
  } else if (code >= 0xd800 && code < 0xe000) {
    fail_at(start, "a surrogate pair", "half of one");
  }
  append_utf8(out, code);
}

std::string JsonReader::string() {
  expect('"', "a string");
  std::string out;
  for (;;) {
    const size_t begin = at_;
    while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\\' &&
           static_cast<unsigned char>(text_[at_]) >= 0x20) {
      const size_t n = sequence_bytes(text_.substr(at_));
      if (n == 0) fail_at(at_, "UTF-8", describe());
      at_ += n;
    }
    out.append(text_.substr(begin, at_ - begin));
    if (at_ >= text_.size() || static_cast<unsigned char>(text_[at_]) < 0x20)
      fail_at(at_, "'\"'", describe());
    if (text_[at_++] == '"') return out;
    escape(out);
  }
}

int64_t JsonReader::natural_number() {
  skip_space();
  const size_t begin = at_;
  int64_t value = 0;
  while (at_ < text_.size() && is_digit(text_[at_])) {
    if (__builtin_mul_overflow(value, int64_t{10}, &value) ||
        __builtin_add_overflow(value, int64_t{text_[at_] - '0'}, &value)) {
      fail_at(begin, "a number below 2^63", "a larger one");
    }
    ++at_;
  }
  if (at_ == begin) fail_at(at_, "a whole number", describe());
  if (text_[begin] == '0' && at_ > begin + 1) fail_at(begin, "a number", "a leading zero");
  if (at_ < text_.size() && (text_[at_] == '.' || (text_[at_] | 0x20) == 'e')) {
    fail_at(at_, "a whole number", describe());
  }
  return value;
}

int64_t JsonReader::integer() {
  skip_space();
  const bool negative = at_ < text_.size() && text_[at_] == '-';
  if (!negative) return natural_number();
  ++at_;
  if (at_ >= text_.size() || !is_digit(text_[at_])) fail_at(at_, "a digit", describe());
  return -natural_number();
}

bool JsonReader::null() {
  skip_space();
  if (at_ >= text_.size() || text_[at_] != 'n') return false;
  skip_word("null");
  return true;
}

void JsonReader::skip_word(std::string_view word) {
  if (text_.substr(at_, word.size()) != word) fail_at(at_, "a value", describe());
  at_ += word.size();
}

void JsonReader::skip_number() {
  const auto digits = [&] {
    const size_t begin = at_;
    while (at_ < text_.size() && is_digit(text_[at_])) ++at_;
    if (at_ == begin) fail_at(at_, "a digit", describe());
    return begin;
  };
  if (text_[at_] == '-') ++at_;
  const size_t whole = digits();
  if (text_[whole] == '0' && at_ > whole + 1) fail_at(whole, "a number", "a leading zero");
  if (at_ < text_.size() && text_[at_] == '.') {
    ++at_;
    digits();
  }
  if (at_ < text_.size() && (text_[at_] | 0x20) == 'e') {
    ++at_;
    if (at_ < text_.size() && (text_[at_] == '+' || text_[at_] == '-')) ++at_;
    digits();
  }
}

void JsonReader::skip() {
  skip_space();
  const char c = at_ < text_.size() ? text_[at_] : '\0';
  switch (c) {
    case '{': return object([&](const std::string&) { skip(); });
    case '[': return array([&] { skip(); });
    case '"': return static_cast<void>(string());
    case 't': return skip_word("true");
    case 'f': return skip_word("false");
    case 'n': return skip_word("null");
    default: break;
  }
  if (c != '-' && !is_digit(c)) fail_at(at_, "a value", describe());
  skip_number();
}

void JsonReader::end() {
  skip_space();
  if (at_ < text_.size()) fail_at(at_, "the end", describe());
}

}  // namespace lamina
