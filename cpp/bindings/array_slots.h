#pragma once

#include <vector>

#include "bindings/box.h"

namespace lamina::bind {

// The slots of the array type, by topic.
void append_number_slots(std::vector<PyType_Slot>& slots);
void append_index_slots(std::vector<PyType_Slot>& slots);
void append_buffer_slots(std::vector<PyType_Slot>& slots);

PyObject* array_repr(PyObject* self);
// The one element of an array as a Python number; ValueError where there is not exactly one.
PyObject* array_item(const Array& a);
// Nested lists of Python numbers; a number for a 0-d array.
PyObject* array_tolist(const Array& a);

// The array type and what belongs to it alone; functions shared with the module come from the topics' files.
Scope add_array_type(const Scope& core);
void add_array_export(const Scope& type);
void add_indexing(const Scope& core, const Scope& type);
void add_printing(const Scope& core);

}  // namespace lamina::bind
