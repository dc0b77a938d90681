#include <sys/utsname.h>

#include <fstream>
#include <string>

#include "backend/cpu/simd_target.h"
#include "bindings/device.h"
#include "core/thread_pool.h"
#include "memory/system_memory.h"

namespace lamina::bind {
namespace {

// The processor's name as the system reports it; the architecture where it reports none.
std::string processor_name(const std::string& architecture) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) return line.substr(colon + 2);
  }
  return architecture;
}

}  // namespace

void add_device_info(const Scope& core) {
  def(core, "device_info(d: None | Device | DeviceType = None) -> dict[str, str | int]",
      "What there is to know of a device: its name and architecture, the SIMD target of the kernels in use, "
      "the "
      "threads that work on one operation, and the bytes of memory that the process may use.\n"
      "@d The device; the default one by default.\n@raises ValueError Where this machine or build has no "
      "such device.\n"
      ">>> sorted(mx.device_info())\n['architecture', 'device_name', 'memory_size', 'simd', 'threads']\n",
      [](Any any) {
        if (any.object != Py_None) {
          const std::optional<Device> d = as_device(any.object);
          if (!d) any.wrong();
          if (d->index < 0 || d->index >= device_count(d->type)) {
            throw ValueError("[device_info] " + to_string(*d) + " is not available on this machine");
          }
        }
        utsname system;
        uname(&system);
        init_simd_target();
        py::dict info;
        info["device_name"] = processor_name(system.machine);
        info["architecture"] = std::string(system.machine);
        info["memory_size"] = physical_memory_bytes();
        info["simd"] = std::string(simd_target_name());
        info["threads"] = num_threads();
        return info;
      });
}

}  // namespace lamina::bind
