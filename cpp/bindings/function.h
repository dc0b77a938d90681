#pragma once

#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "bindings/from_python.h"
#include "graph/stream.h"

namespace lamina::bind {

// Everything Python needs of one bound function; lives as long as the process.
struct Function {
  Function(std::string_view text, std::string_view doc, bool method);
  Signature signature;
  std::string documentation;
  PyMethodDef definition = {};
  bool method;
};

// Where functions go: a module or a type.
struct Scope {
  PyObject* object;  // borrowed
  std::string name;  // "lamina.core.random", "array"
  bool is_type;
};
// Adds the function under its own name (or `name`) and remembers it for the stub file.
void install(const Scope& scope, Function& function, const char* name = nullptr);
// A second name for what `scope` already has.
void alias(const Scope& scope, const char* name, const char* existing);
// (scope name, name, signature text, docstring, is a method) of every function: what the stub file is made
// from.
PyObject* list_functions();

namespace detail {

template <class F>
struct Traits : Traits<decltype(&F::operator())> {};
template <class R, class C, class... Args>
struct Traits<R (C::*)(Args...) const> {
  using Result = R;
  using Arguments = std::tuple<std::decay_t<Args>...>;
  static constexpr int kCount = sizeof...(Args);
};

// Makes the stream of a stream= argument current for a scope.
class StreamArgument {
 public:
  explicit StreamArgument(const Call& call) {
    const int at = call.signature->stream();
    if (at < 0 || call.slots[at] == Py_None) return;
    const std::optional<Stream> stream = as_stream(call.slots[at]);
    if (!stream) wrong_type(call, at, call.slots[at]);
    scope_.emplace(*stream);
  }

 private:
  std::optional<StreamScope> scope_;
};

template <class F, size_t... I>
PyObject* convert_and_call(const Call& call, std::index_sequence<I...>) {
  using T = Traits<F>;
  StreamArgument stream(call);
  if constexpr (std::is_void_v<typename T::Result>) {
    F{}(From<std::tuple_element_t<I, typename T::Arguments>>::get(call, static_cast<int>(I))...);
    return Py_NewRef(Py_None);
  } else {
    return to_python(
        F{}(From<std::tuple_element_t<I, typename T::Arguments>>::get(call, static_cast<int>(I))...));
  }
}

// The C function of a bound F; one function, and one method, for each type of F.
template <class F, bool kMethod>
struct Bound {
  static inline Function* function = nullptr;

  static PyObject* call(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
    return guarded([&] {
      Call c;
      if constexpr (kMethod) c.slots[0] = self;
      function->signature.match(c, kMethod ? 1 : 0, args, count, keywords);
      return convert_and_call<F>(c, std::make_index_sequence<static_cast<size_t>(Traits<F>::kCount)>());
    });
  }
};

using FastCall = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t, PyObject*);

inline PyCFunction as_c_function(FastCall f) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(f));
}

}  // namespace detail

// Binds a captureless lambda as a function of a module, or as a method where the scope is a type. The lambda
// takes the signature's parameters in order; a last parameter `stream` is handled here and not passed on.
// `quick`, where given, is called instead and falls back to Bound<F, false>::call for all but the plainest
// calls.
template <class F>
void def(const Scope& scope, std::string_view signature, std::string_view doc, F,
         detail::FastCall quick = nullptr) {
  static_assert(std::is_empty_v<F>);
  auto bind = [&]<bool kMethod>(std::bool_constant<kMethod>) {
    using B = detail::Bound<F, kMethod>;
    B::function = new Function(signature, doc, kMethod);
    B::function->definition.ml_meth = detail::as_c_function(quick ? quick : &B::call);
    install(scope, *B::function);
  };
  if (scope.is_type) {
    bind(std::true_type());
  } else {
    bind(std::false_type());
  }
}

// A function of the module that is also a method of `array`: its first parameter, which is positional-only,
// is self.
template <class F>
void def_both(const Scope& module, const Scope& type, std::string_view signature, std::string_view doc, F f) {
  def(module, signature, doc, f);
  // "sum(a: array, /, axis..." becomes "sum(self, axis...".
  std::string text(signature);
  const size_t open = text.find('(') + 1;
  const size_t slash = text.find(", /", open);
  const size_t comma = text.find(',', open);
  const size_t first_end =
      comma != std::string::npos && comma == slash ? slash + 3 : std::min(comma, text.find(')', open));
  std::string rest = text.substr(first_end);
  const size_t later_slash = rest.find(", /");
  if (later_slash != std::string::npos) rest.erase(later_slash, 3);
  def(type, text.substr(0, open) + "self" + rest, doc, f);
}

}  // namespace lamina::bind
