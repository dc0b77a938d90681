#include <sys/utsname.h>

#include <fstream>
#include <string>

#include "backend/cpu/kernel_choice.h"
#include "backend/cpu/measured.h"
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

// Text, or None where there is none.
py::object text_or_none(const std::string& text) {
  return text.empty() ? py::none() : py::object(py::str(text));
}

py::dict kernel_choices() {
  const cpu::KnownRates* known = nullptr;
  {
    const py::gil_scoped_release released;
    known = &cpu::known_rates();
  }
  py::dict rates;
  rates["float32"] = known->rates.f32;
  rates["avx512_bf16"] = known->rates.bf16_dot;
  rates["vnni"] = known->rates.int8_dot;
  rates["amx_bf16"] = known->rates.amx_bf16;
  rates["amx_int8"] = known->rates.amx_int8;
  py::dict info;
  info["float32"] = std::string(cpu::float32_products_name());
  info["bfloat16"] = std::string(cpu::bfloat16_products_name());
  info["int8"] = std::string(cpu::int8_products_name());
  info["rates"] = rates;
  info["from_file"] = known->from_file;
  info["file"] = text_or_none(known->file);
  return info;
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
  def(core, "_kernel_choices() -> dict[str, object]",
      "Which kernels do matrix products of float32, of bfloat16 and with 8-bit activations, and the rates of "
      "one core that were measured to choose them, in operations a second (0: the processor has none).\n",
      [] { return kernel_choices(); });
}

}  // namespace lamina::bind
