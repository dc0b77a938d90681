#include "core/cpu_caches.h"

#include <sched.h>
#include <unistd.h>

#include <charconv>
#include <fstream>
#include <string_view>

namespace lamina {
namespace {

std::string cache_field(const std::string& folder, const char* name) {
  std::ifstream file(folder + name);
  std::string line;
  std::getline(file, line);
  return line;
}

// Bytes of "48K" or "2M"; 0 for anything else.
int64_t cache_size_of(std::string_view text) {
  int64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || n <= 0 || n > (int64_t{1} << 30)) return 0;
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  return unit == "K" ? n << 10 : unit == "M" ? n << 20 : unit == "G" ? n << 30 : unit.empty() ? n : 0;
}

// Processors in a list like "0-3,8"; 0 where it is none.
int processors_in(std::string_view list) {
  int count = 0;
  while (!list.empty()) {
    int first = 0, last = 0;
    auto at = std::from_chars(list.data(), list.data() + list.size(), first);
    if (at.ec != std::errc()) return 0;
    list.remove_prefix(static_cast<size_t>(at.ptr - list.data()));
    last = first;
    if (!list.empty() && list[0] == '-') {
      list.remove_prefix(1);
      at = std::from_chars(list.data(), list.data() + list.size(), last);
      if (at.ec != std::errc() || last < first) return 0;
      list.remove_prefix(static_cast<size_t>(at.ptr - list.data()));
    }
    count += last - first + 1;
    if (!list.empty() && list[0] != ',') return 0;
    if (!list.empty()) list.remove_prefix(1);
  }
  return count;
}

// Takes over a size that a cache of its level can have.
void take_cache_size(int64_t& size, int64_t found, int64_t least, int64_t most) {
  if (found >= least && found <= most) size = found;
}

constexpr int64_t kKilobyte = 1 << 10, kMegabyte = 1 << 20;

void take_cache_level(CpuCaches& c, int level, int64_t bytes) {
  if (level == 1) take_cache_size(c.l1d, bytes, 8 * kKilobyte, kMegabyte);
  if (level == 2) take_cache_size(c.l2, bytes, 64 * kKilobyte, 64 * kMegabyte);
  if (level == 3) take_cache_size(c.l3, bytes, 256 * kKilobyte, 4096 * kMegabyte);
}

// What the C library reads from the processor itself: there also where /sys is not.
CpuCaches caches_by_sysconf() {
  CpuCaches c;
#ifdef _SC_LEVEL1_DCACHE_SIZE
  take_cache_level(c, 1, sysconf(_SC_LEVEL1_DCACHE_SIZE));
  take_cache_level(c, 2, sysconf(_SC_LEVEL2_CACHE_SIZE));
  take_cache_level(c, 3, sysconf(_SC_LEVEL3_CACHE_SIZE));
#endif
  return c;
}

int first_usable_cpu() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 0;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &set)) return i;
  }
  return 0;
}

}  // namespace

CpuCaches read_cpu_caches(const std::string& root, int cpu, CpuCaches otherwise) {
  CpuCaches c = otherwise;
  const std::string folder = root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cache/index";
  for (int i = 0; i < 8; ++i) {
    const std::string index = folder + std::to_string(i) + "/";
    const std::string level = cache_field(index, "level"), type = cache_field(index, "type");
    if (level.size() != 1 || (type != "Data" && type != "Unified")) continue;
    take_cache_level(c, level[0] - '0', cache_size_of(cache_field(index, "size")));
    const int sharing = level == "3" ? processors_in(cache_field(index, "shared_cpu_list")) : 0;
    if (sharing > 0) c.l3_cpus = sharing;
  }
  return c;
}

const CpuCaches& cpu_caches() {
  static const CpuCaches caches = read_cpu_caches("", first_usable_cpu(), caches_by_sysconf());
  return caches;
}

bool follows_many_streams() {
#if defined(__x86_64__)
  static const bool amd = __builtin_cpu_is("amd");
  return amd;
#else
  return false;
#endif
}

}  // namespace lamina
