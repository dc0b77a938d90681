#include "core/cgroup.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <functional>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

namespace lamina {
namespace {

std::optional<double> read_number(std::string_view text) {
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

std::optional<std::string> first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!file || !std::getline(file, line)) return std::nullopt;
  return line;
}

// Where a controller's groups may be mounted, and the path of our group in it.
struct Membership {
  std::vector<std::string> mounts;
  std::string path;
};

bool lists_controller(std::string_view controllers, std::string_view name) {
  while (!controllers.empty()) {
    size_t comma = std::min(controllers.find(','), controllers.size());
    if (controllers.substr(0, comma) == name) return true;
    controllers.remove_prefix(std::min(comma + 1, controllers.size()));
  }
  return false;
}

// Lines of /proc/self/cgroup read "id:controllers:path"; v2 has id 0 and no controllers.
std::vector<Membership> memberships(const std::string& root, const std::string& controller) {
  std::vector<Membership> found;
  const std::string base = root + "/sys/fs/cgroup";
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    size_t first = line.find(':');
    size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      found.push_back({{base, base + "/unified"}, path});
    } else if (lists_controller(controllers, controller)) {
      found.push_back({{base + "/" + controller, base + "/" + controllers}, path});
    }
  }
  return found;
}

// The smallest value that `read` finds in our groups and all their ancestors. Inside a container the path may
// name directories that only the host sees; walking up reaches the mount's root, which is ours then.
double tightest(const std::string& root, const std::string& controller,
                const std::function<std::optional<double>(const std::string& directory)>& read) {
  double least = 0;
  for (const Membership& member : memberships(root, controller)) {
    for (const std::string& mount : member.mounts) {
      std::string path = member.path == "/" ? "" : member.path;
      for (;;) {
        std::optional<double> value = read(mount + path);
        if (value && *value > 0 && (least == 0 || *value < least)) least = *value;
        if (path.empty()) break;
        size_t slash = path.rfind('/');
        path.resize(slash == std::string::npos ? 0 : slash);
      }
    }
  }
  return least;
}

std::optional<double> read_cpu_quota(const std::string& directory) {
  if (auto v2 = first_line(directory + "/cpu.max")) {
    std::istringstream words(*v2);
    std::string quota, period;
    words >> quota >> period;
    auto q = read_number(quota), p = read_number(period);
    if (q && p && *p > 0) return *q / *p;
    return std::nullopt;
  }
  auto quota = first_line(directory + "/cpu.cfs_quota_us"),
       period = first_line(directory + "/cpu.cfs_period_us");
  if (!quota || !period) return std::nullopt;
  auto q = read_number(*quota), p = read_number(*period);
  if (q && p && *q > 0 && *p > 0) return *q / *p;
  return std::nullopt;
}

std::optional<double> read_memory_limit(const std::string& directory) {
  for (const char* name : {"/memory.max", "/memory.limit_in_bytes"}) {
    auto line = first_line(directory + name);
    if (!line) continue;
    auto bytes = read_number(*line);
    // v1 writes "no limit" as the largest page multiple below 2^63.
    if (bytes && *bytes < 0x1p62) return bytes;
  }
  return std::nullopt;
}

}  // namespace

double cgroup_cpu_quota(const std::string& root) { return tightest(root, "cpu", read_cpu_quota); }

uint64_t cgroup_memory_limit_bytes(const std::string& root) {
  return static_cast<uint64_t>(tightest(root, "memory", read_memory_limit));
}

int affinity_cpu_count() {
  // The kernel refuses a mask shorter than its own, so the mask grows until it fits.
  for (int cpus = 1024; cpus <= (1 << 20); cpus *= 2) {
    cpu_set_t* set = CPU_ALLOC(static_cast<size_t>(cpus));
    if (set == nullptr) return 1;
    size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(cpus));
    int count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
  return 1;
}

int usable_cpu_count() {
  int cpus = affinity_cpu_count();
  double quota = cgroup_cpu_quota();
  if (quota > 0 && quota < cpus) cpus = static_cast<int>(std::ceil(quota));
  return std::max(cpus, 1);
}

}  // namespace lamina
