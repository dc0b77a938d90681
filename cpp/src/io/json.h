#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace lamina {

// True where `text` is UTF-8 without overlong forms, surrogates or code points past U+10FFFF.
bool is_utf8(std::string_view text);
// `text`, which must be UTF-8, as a JSON string with its quotes.
std::string json_quote(std::string_view text);

// Reads JSON (RFC 8259, UTF-8) front to back, with the caller saying what it wants next. Throws ValueError
// "[op] 'file': JSON at byte N: wanted X, got Y". Keeps views of all three arguments.
class JsonReader {
 public:
  JsonReader(std::string_view op, std::string_view file, std::string_view text)
      : op_(op), file_(file), text_(text) {}

  // Calls member(key) for each member of an object; it must read the value. Keys may repeat.
  template <class F>
  void object(const F& member) {
    open('{', "an object");
    for (bool first = true; next('}', first); first = false) {
      std::string key = string();
      expect(':', "':'");
      member(key);
    }
  }
  // Calls element() for each element of an array; it must read it.
  template <class F>
  void array(const F& element) {
    open('[', "an array");
    for (bool first = true; next(']', first); first = false) element();
  }
  std::string string();
  // A whole number from 0 to 2^63 - 1, written without sign, point or exponent.
  int64_t natural_number();
  // A whole number from -(2^63 - 1) to 2^63 - 1.
  int64_t integer();
  // True, and the null read, where null comes next.
  bool null();
  // Reads any value and forgets it.
  void skip();
  // Throws unless only white space is left.
  void end();
  // Throws the reader's error about the value read last.
  [[noreturn]] void fail_at(size_t offset, std::string_view wanted, std::string_view got) const;
  size_t offset() const { return at_; }

 private:
  void skip_space();
  void open(char bracket, std::string_view wanted);
  void expect(char c, std::string_view wanted);
  bool next(char closing, bool first);
  void skip_number();
  void skip_word(std::string_view word);
  uint32_t hex4();
  void escape(std::string& out);
  std::string describe() const;

  std::string_view op_, file_, text_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace lamina
