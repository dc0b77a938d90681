#include <sys/utsname.h>

#include <fstream>
#include <string>

#include "backend/cpu/simd_target.h"
#include "bindings/device.h"
#include "core/cpu_caches.h"
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
      "the threads that work on one operation, the bytes of memory that the process may use, and "
      "those of its first processor's caches (`l3_cache_size` is 0 where none is known).\n"
      "@d The device; the default one by default.\n@raises ValueError Where this machine or build has no "
      "such device.\n"
      ">>> mx.device_info()['l1d_cache_size'] <= mx.device_info()['l2_cache_size']\nTrue\n",
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
        info["l1d_cache_size"] = cpu_caches().l1d;
        info["l2_cache_size"] = cpu_caches().l2;
        info["l3_cache_size"] = cpu_caches().l3;
        return info;
      });
}

}  // namespace lamina::bind
