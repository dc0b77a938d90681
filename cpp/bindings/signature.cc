#include "bindings/signature.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace lamina::bind {
namespace {

std::string_view trimmed(std::string_view s) {
  const size_t first = s.find_first_not_of(' ');
  if (first == std::string_view::npos) return {};
  return s.substr(first, s.find_last_not_of(' ') - first + 1);
}

// Position of `wanted` outside brackets and quotes, npos where there is none.
size_t find_outside(std::string_view s, char wanted, size_t from = 0) {
  int depth = 0;
  bool quoted = false;
  for (size_t i = from; i < s.size(); ++i) {
    const char c = s[i];
    if (c == '\'') quoted = !quoted;
    if (quoted) continue;
    if (depth == 0 && c == wanted) return i;
    if (c == '(' || c == '[') ++depth;
    if (c == ')' || c == ']') --depth;
  }
  return std::string_view::npos;
}

std::vector<std::string_view> split_outside(std::string_view s, char separator) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0; begin <= s.size();) {
    const size_t end = std::min(find_outside(s, separator, begin), s.size());
    const std::string_view part = trimmed(s.substr(begin, end - begin));
    if (!part.empty()) parts.push_back(part);
    begin = end + 1;
  }
  return parts;
}

PyObject* parse_default(std::string_view text) {
  if (text == "None") return Py_NewRef(Py_None);
  if (text == "True") return Py_NewRef(Py_True);
  if (text == "False") return Py_NewRef(Py_False);
  if (text.size() >= 2 && text.front() == '(' && text.back() == ')') {
    py::list items;
    for (std::string_view item : split_outside(text.substr(1, text.size() - 2), ',')) {
      items.append(py::reinterpret_steal<py::object>(parse_default(item)));
    }
    return py::tuple(items).release().ptr();
  }
  if (text.size() >= 2 && text.front() == '\'') {
    return checked(PyUnicode_FromStringAndSize(text.data() + 1, static_cast<Py_ssize_t>(text.size()) - 2));
  }
  long long integer = 0;
  const char* end = text.data() + text.size();
  if (std::from_chars(text.data(), end, integer).ptr == end) return checked(PyLong_FromLongLong(integer));
  double number = 0;
  if (std::from_chars(text.data(), end, number).ptr == end) return checked(PyFloat_FromDouble(number));
  if (PyObject* named = named_default(text)) return named;
  throw std::runtime_error(fmt::format("a signature has the default '{}', which nobody knows", text));
}

bool literal(const Parameter& p) {
  return p.default_text.front() == '(' || p.default_text == "None" || !named_default(p.default_text);
}

}  // namespace

Signature::Signature(std::string_view text) : text_(text) {
  const size_t open = text.find('(');
  const size_t close = open + 1 + find_outside(text.substr(open + 1), ')');
  name_ = std::string(text.substr(0, open));
  const size_t arrow = text.find("-> ", close);
  returns_ = arrow == std::string_view::npos ? "None" : std::string(text.substr(arrow + 3));
  ParameterKind kind = ParameterKind::kNormal;
  for (std::string_view part : split_outside(text.substr(open + 1, close - open - 1), ',')) {
    if (part == "/") {
      for (Parameter& p : parameters_) p.kind = ParameterKind::kPositionalOnly;
    } else if (part == "*") {
      kind = ParameterKind::kKeywordOnly;
    } else if (part.substr(0, 2) == "**") {
      var_keyword_ = static_cast<int>(parameters_.size());
      add_parameter(part.substr(2), ParameterKind::kVarKeyword);
    } else if (part.front() == '*') {
      var_positional_ = static_cast<int>(parameters_.size());
      add_parameter(part.substr(1), ParameterKind::kVarPositional);
      kind = ParameterKind::kKeywordOnly;
    } else {
      if (kind == ParameterKind::kNormal) ++positional_;
      add_parameter(part, kind);
    }
  }
}

void Signature::add_parameter(std::string_view text, ParameterKind kind) {
  Parameter p;
  p.kind = kind;
  const size_t equals = find_outside(text, '=');
  if (equals != std::string_view::npos) {
    p.default_text = std::string(trimmed(text.substr(equals + 1)));
    p.fallback = parse_default(p.default_text);
    text = trimmed(text.substr(0, equals));
  }
  const size_t colon = find_outside(text, ':');
  p.name = std::string(trimmed(text.substr(0, colon)));
  if (colon != std::string_view::npos) p.type = std::string(trimmed(text.substr(colon + 1)));
  p.key = checked(PyUnicode_InternFromString(p.name.c_str()));
  if (p.name == "stream" && p.type == "StreamOrDevice") stream_ = static_cast<int>(parameters_.size());
  parameters_.push_back(std::move(p));
}

std::string Signature::for_inspect(bool method) const {
  std::string out = "(";
  bool star = false;
  const auto positional_only =
      static_cast<size_t>(std::count_if(parameters_.begin(), parameters_.end(), [](const Parameter& p) {
        return p.kind == ParameterKind::kPositionalOnly;
      }));
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& p = parameters_[i];
    if (i > 0) out += ", ";
    if (p.kind == ParameterKind::kKeywordOnly && !star) {
      out += "*, ";
      star = true;
    }
    if (p.kind == ParameterKind::kVarPositional) {
      out += '*';
      star = true;
    }
    if (p.kind == ParameterKind::kVarKeyword) out += "**";
    if (method && i == 0) out += '$';
    out += p.name;
    if (p.fallback) out += "=" + (literal(p) ? p.default_text : std::string("None"));
    if (positional_only == i + 1) out += ", /";
  }
  return out + ")";
}

int Signature::find_keyword(PyObject* key) const {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (parameters_[i].key == key) return static_cast<int>(i);
  }
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (PyUnicode_Compare(parameters_[i].key, key) == 0) return static_cast<int>(i);
  }
  return -1;
}

void Signature::take_keyword(Call& call, PyObject* key, PyObject* value) const {
  const int at = find_keyword(key);
  const auto kind = at < 0 ? ParameterKind::kVarKeyword : parameters_[static_cast<size_t>(at)].kind;
  if (kind == ParameterKind::kNormal || kind == ParameterKind::kKeywordOnly) {
    if (call.slots[at])
      throw TypeError(fmt::format("{}() got two values for argument '{}'", name_,
                                  parameters_[static_cast<size_t>(at)].name));
    call.slots[at] = value;
    return;
  }
  if (var_keyword_ >= 0) {
    if (PyDict_SetItem(call.keywords.ptr(), key, value) < 0) throw py::error_already_set();
    return;
  }
  const std::string text = py::str(key);
  if (at >= 0 && kind == ParameterKind::kPositionalOnly) {
    throw TypeError(fmt::format("{}() takes argument '{}' by position only: {}", name_, text, text_));
  }
  throw TypeError(fmt::format("{}() has no argument '{}': {}", name_, text, text_));
}

void Signature::fill_defaults(Call& call, int first) const {
  for (size_t i = static_cast<size_t>(first); i < parameters_.size(); ++i) {
    if (call.slots[i]) continue;
    const Parameter& p = parameters_[i];
    if (p.kind == ParameterKind::kVarPositional || p.kind == ParameterKind::kVarKeyword) continue;
    if (!p.fallback) {
      throw TypeError(fmt::format("{}() misses argument '{}', wanted {}: {}", name_, p.name, p.type, text_));
    }
    call.slots[i] = p.fallback;
  }
}

void Signature::match(Call& call, int first, PyObject* const* args, Py_ssize_t count,
                      PyObject* keywords) const {
  call.signature = this;
  const Py_ssize_t room = positional_ - first;
  const Py_ssize_t taken = std::min(count, room);
  for (Py_ssize_t i = 0; i < taken; ++i) call.slots[first + i] = args[i];
  if (count > room) {
    if (var_positional_ < 0) {
      throw TypeError(
          fmt::format("{}() takes at most {} positional arguments, got {}: {}", name_, room, count, text_));
    }
    call.rest = args + taken;
    call.rest_count = count - taken;
  }
  if (var_keyword_ >= 0) call.keywords = py::dict();
  const Py_ssize_t named = keywords ? PyTuple_GET_SIZE(keywords) : 0;
  for (Py_ssize_t i = 0; i < named; ++i) take_keyword(call, PyTuple_GET_ITEM(keywords, i), args[count + i]);
  fill_defaults(call, first);
}

}  // namespace lamina::bind
