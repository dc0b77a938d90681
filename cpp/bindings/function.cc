#include "bindings/box.h"

#include <fmt/format.h>

namespace lamina::bind {
namespace {

struct Listed {
  std::string scope, name;
  const Function* function;
};
std::vector<Listed>& listed() {
  static auto* all = new std::vector<Listed>;
  return *all;
}

}  // namespace

Function::Function(std::string_view text, std::string_view doc, bool is_method)
    : signature(text), documentation(document(signature, doc, is_method)), method(is_method) {
  definition.ml_name = signature.name().c_str();
  definition.ml_flags = METH_FASTCALL | METH_KEYWORDS;
  definition.ml_doc = documentation.c_str();
}

void install(const Scope& scope, Function& function, const char* name) {
  py::object made;
  if (scope.is_type) {
    made = owned(PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(scope.object), &function.definition));
  } else {
    const py::object module_name = owned(PyUnicode_FromString(scope.name.c_str()));
    made = owned(PyCFunction_NewEx(&function.definition, scope.object, module_name.ptr()));
  }
  if (!name) name = function.definition.ml_name;
  if (PyObject_SetAttrString(scope.object, name, made.ptr()) < 0) throw py::error_already_set();
  listed().push_back({scope.name, name, &function});
}

void alias(const Scope& scope, const char* name, const char* existing) {
  const py::object value = owned(PyObject_GetAttrString(scope.object, existing));
  if (PyObject_SetAttrString(scope.object, name, value.ptr()) < 0) throw py::error_already_set();
  for (size_t i = 0; i < listed().size(); ++i) {
    const Listed& l = listed()[i];
    if (l.scope == scope.name && l.name == existing) {
      listed().push_back({scope.name, name, l.function});
      return;
    }
  }
}

void remember_function(const std::string& scope, const std::string& name, const Function* function) {
  listed().push_back({scope, name, function});
}

PyObject* list_functions() {
  py::list out;
  for (const Listed& l : listed()) {
    const std::string& doc = l.function->documentation;
    out.append(py::make_tuple(l.scope, l.name, l.function->signature.text(),
                              doc.substr(doc.find("--\n\n") + 4), l.function->method));
  }
  return out.release().ptr();
}

}  // namespace lamina::bind
