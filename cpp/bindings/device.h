#pragma once

#include "bindings/function.h"

namespace lamina::bind {

// The device that a Device or DeviceType object means; nullopt for other objects.
std::optional<Device> as_device(PyObject* o);

void add_devices(const Scope& core);
void add_memory(const Scope& core);
void add_device_info(const Scope& core);

}  // namespace lamina::bind
