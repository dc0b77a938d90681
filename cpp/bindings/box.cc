#include "bindings/box.h"

namespace lamina::bind {
namespace {

struct ListedProperty {
  std::string scope, name, type, doc;
};
std::vector<ListedProperty>& listed_properties() {
  static auto* all = new std::vector<ListedProperty>;
  return *all;
}

}  // namespace

void remember_property(const std::string& scope, const std::string& name, const std::string& type,
                       const std::string& doc) {
  listed_properties().push_back({scope, name, type, doc});
}

PyObject* list_properties() {
  py::list out;
  for (const ListedProperty& p : listed_properties())
    out.append(py::make_tuple(p.scope, p.name, p.type, p.doc));
  return out.release().ptr();
}

PyTypeObject* make_heap_type(const char* name, size_t bytes, const std::string& doc,
                             std::vector<PyType_Slot> slots, unsigned flags) {
  slots.push_back({Py_tp_doc, const_cast<char*>(doc.c_str())});
  slots.push_back({0, nullptr});
  PyType_Spec spec = {name, static_cast<int>(bytes), 0, static_cast<unsigned>(Py_TPFLAGS_DEFAULT) | flags,
                      slots.data()};
  return reinterpret_cast<PyTypeObject*>(checked(PyType_FromSpec(&spec)));
}

Scope add_type(const Scope& module, PyTypeObject* type) {
  const std::string full = type->tp_name;
  const std::string name = full.substr(full.rfind('.') + 1);
  auto* object = reinterpret_cast<PyObject*>(type);
  if (PyObject_SetAttrString(module.object, name.c_str(), object) < 0) throw py::error_already_set();
  return {object, module.name == "lamina.core" ? name : module.name + "." + name, true};
}

}  // namespace lamina::bind
