#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bindings/errors.h"

namespace lamina::bind {

enum class ParameterKind : uint8_t { kPositionalOnly, kNormal, kVarPositional, kKeywordOnly, kVarKeyword };

struct Parameter {
  std::string name, type, default_text;
  ParameterKind kind = ParameterKind::kNormal;
  PyObject* key = nullptr;       // the interned name
  PyObject* fallback = nullptr;  // the default; null where the argument is required
};

inline constexpr int kMaxParameters = 16;
class Signature;

// The arguments of one call, one slot for each parameter. Slots are borrowed references.
struct Call {
  const Signature* signature = nullptr;
  PyObject* slots[kMaxParameters] = {};
  PyObject* const* rest = nullptr;  // what *args took
  Py_ssize_t rest_count = 0;
  py::object keywords;  // what **kwargs took: a new dict
};

// A function's name, parameters and result, from its text as a stub file has it:
//   "sum(a: array, /, axis: int | None = None, *, stream: StreamOrDevice = None) -> array"
// The same text feeds argument matching, __text_signature__, the docstring, error messages and the stub.
class Signature {
 public:
  explicit Signature(std::string_view text);

  const std::string& name() const { return name_; }
  const std::string& returns() const { return returns_; }
  const std::string& text() const { return text_; }
  const std::vector<Parameter>& parameters() const { return parameters_; }
  // Position of the parameter named `stream`; -1 where there is none.
  int stream() const { return stream_; }
  // "(a, /, axis=None, *, stream=None)": what inspect.signature reads.
  std::string for_inspect(bool method) const;

  // Fills the call's slots from position `first` on; throws TypeError naming what is missing or too many.
  void match(Call& call, int first, PyObject* const* args, Py_ssize_t count, PyObject* keywords) const;

 private:
  void add_parameter(std::string_view text, ParameterKind kind);
  int find_keyword(PyObject* key) const;
  void take_keyword(Call& call, PyObject* key, PyObject* value) const;
  void fill_defaults(Call& call, int first) const;

  std::string text_, name_, returns_;
  std::vector<Parameter> parameters_;
  int positional_ = 0;  // parameters that a position can fill
  int var_positional_ = -1, var_keyword_ = -1, stream_ = -1;
};

// A value of one of the names a default may be: a dtype. Null where the name is unknown.
PyObject* named_default(std::string_view name);

// NumPy-style documentation from a signature and a short text:
//   summary and paragraphs; lines "@param text", "@returns text", "@raises Type text"; ">>> " examples.
std::string document(const Signature& signature, std::string_view text, bool method);

}  // namespace lamina::bind
