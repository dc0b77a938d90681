#include "backend/profile_report.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <string_view>

#include "io/json.h"

namespace lamina {
namespace {

using Kind = ProfileEvent::Kind;

// Events of one name together.
struct Group {
  std::string name;
  Kind kind = Kind::kKernel;
  size_t calls = 0;
  double seconds = 0, bytes = 0, flops = 0;
};

std::vector<Group> groups_of(const std::vector<ProfileEvent>& events) {
  std::map<std::pair<Kind, std::string_view>, Group> found;
  for (const ProfileEvent& e : events) {
    Group& g = found[{e.kind, e.name}];
    g.name = e.name;
    g.kind = e.kind;
    ++g.calls;
    g.seconds += e.duration;
    g.bytes += static_cast<double>(e.bytes_read) + static_cast<double>(e.bytes_written);
    g.flops += e.flops;
  }
  std::vector<Group> out;
  for (auto& [key, g] : found) out.push_back(std::move(g));
  std::stable_sort(out.begin(), out.end(),
                   [](const Group& a, const Group& b) { return a.seconds > b.seconds; });
  return out;
}

bool is_work(const Group& g) { return g.kind != Kind::kSync && g.kind != Kind::kPlan; }

std::string mebibytes(size_t bytes) { return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / 0x1p20); }

std::string shortened(const std::string& name, size_t width) {
  return name.size() <= width ? name : name.substr(0, width - 3) + "...";
}

void append_work(std::string& text, const std::vector<Group>& groups, size_t rows,
                 const MachinePeaks& peaks) {
  constexpr size_t kWidth = 40;
  double total = 0;
  for (const Group& g : groups) total += is_work(g) ? g.seconds : 0;
  text += fmt::format("{:{}} {:>8} {:>10} {:>6} {:>10} {:>9} {:>8} {:>8}  {}\n", "kernel", kWidth, "calls",
                      "ms", "time", "us each", "GFLOP/s", "GB/s", "of peak", "bound");
  size_t shown = 0, left = 0;
  for (const Group& g : groups) {
    if (!is_work(g)) continue;
    if (shown == rows) {
      ++left;
      continue;
    }
    ++shown;
    const Roofline r = roofline(g.flops, g.bytes, g.seconds, peaks);
    const double time = std::max(g.seconds, 1e-9);
    text += fmt::format("{:{}} {:>8} {:>10.3f} {:>5.1f}% {:>10.2f} {:>9.2f} {:>8.2f} {:>7.1f}%  {}\n",
                        shortened(g.name, kWidth), kWidth, g.calls, g.seconds * 1e3,
                        total > 0 ? g.seconds / total * 100 : 0.0,
                        g.seconds * 1e6 / static_cast<double>(g.calls), g.flops / time * 1e-9,
                        g.bytes / time * 1e-9, r.share * 100, r.by_memory ? "memory" : "compute");
  }
  if (left > 0) text += fmt::format("and {} kernels more\n", left);
}

void append_others(std::string& text, const std::vector<Group>& groups, Kind kind, std::string_view title) {
  std::string line;
  for (const Group& g : groups) {
    if (g.kind != kind) continue;
    line += fmt::format("{}{} {}x {:.3f} ms", line.empty() ? "" : ", ", g.name, g.calls, g.seconds * 1e3);
  }
  if (!line.empty()) text += fmt::format("{}: {}\n", title, line);
}

// A member of a JSON object, after others.
void member(std::string& json, std::string_view name, double value) {
  json += fmt::format(",\"{}\":{:.6g}", name, value);
}
void member(std::string& json, std::string_view name, uint64_t value) {
  json += fmt::format(",\"{}\":{}", name, value);
}

void append_event(std::string& json, const ProfileEvent& e, const MachinePeaks& peaks, int process) {
  json += fmt::format(
      "{{\"name\":{},\"cat\":\"{}\",\"ph\":\"X\",\"ts\":{:.3f},\"dur\":{:.3f},\"pid\":{},\"tid\":{},\"args\":"
      "{{",
      json_quote(e.name), kind_name(e.kind), e.start * 1e6, e.duration * 1e6, process, e.thread);
  json += fmt::format("\"detail\":{},\"stream\":{}", json_quote(e.detail), e.stream);
  if (e.kind != Kind::kSync && e.kind != Kind::kPlan) {
    const double bytes = static_cast<double>(e.bytes_read) + static_cast<double>(e.bytes_written);
    const Roofline r = roofline(e.flops, bytes, e.duration, peaks);
    member(json, "bytes_read", e.bytes_read);
    member(json, "bytes_written", e.bytes_written);
    member(json, "flops", e.flops);
    member(json, "share_of_peak", r.share);
    json += fmt::format(",\"bound\":\"{}\"", r.by_memory ? "memory" : "compute");
  }
  member(json, "active_memory", static_cast<uint64_t>(e.active_memory));
  json += "}},\n";
}

void append_memory(std::string& json, const ProfileEvent& e, int process) {
  json += fmt::format(
      "{{\"name\":\"active memory\",\"ph\":\"C\",\"ts\":{:.3f},\"pid\":{},\"args\":{{\"bytes\":{}}}}},\n",
      (e.start + e.duration) * 1e6, process, e.active_memory);
}

void append_mark(std::string& json, const std::string& text, double at, int process) {
  json += fmt::format(
      "{{\"name\":{},\"cat\":\"note\",\"ph\":\"i\",\"s\":\"g\",\"ts\":{:.3f},\"pid\":{},\"tid\":0}},\n",
      json_quote(text), at * 1e6, process);
}

std::string dropped_note(const Profile& profile, size_t kept) {
  return fmt::format("{} events dropped: the profile keeps {}", profile.dropped(), kept);
}

}  // namespace

std::string profile_table(const Profile& profile, size_t rows) {
  const std::vector<ProfileEvent> events = profile.events();
  const MachinePeaks peaks = machine_peaks();
  const std::vector<Group> groups = groups_of(events);
  std::string text;
  append_work(text, groups, rows, peaks);
  append_others(text, groups, Kind::kPlan, "plans made");
  append_others(text, groups, Kind::kSync, "waits");
  text += fmt::format("block: {:.3f} ms; memory: {} at most\n", profile.seconds() * 1e3,
                      mebibytes(profile.peak_memory()));
  text += fmt::format("peak of {} threads: {:.1f} GFLOP/s of float32 multiply-adds, {:.1f} GB/s read\n",
                      peaks.threads, peaks.flops * 1e-9, peaks.bandwidth * 1e-9);
  if (profile.dropped() > 0) text += dropped_note(profile, events.size()) + "\n";
  return text;
}

std::string profile_trace(const Profile& profile, double peak_at) {
  const std::vector<ProfileEvent> events = profile.events();
  const MachinePeaks peaks = machine_peaks();
  const int process = static_cast<int>(getpid());
  std::string json = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
  int threads = 0;
  for (const ProfileEvent& e : events) {
    append_event(json, e, peaks, process);
    append_memory(json, e, process);
    threads = std::max(threads, e.thread + 1);
  }
  for (int t = 0; t < threads; ++t) {
    json += fmt::format(
        "{{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":{},\"tid\":{},\"args\":{{\"name\":\"thread "
        "{}\"}}}},\n",
        process, t, t);
  }
  append_mark(json, fmt::format("most memory: {}", mebibytes(profile.peak_memory())), peak_at, process);
  if (profile.dropped() > 0)
    append_mark(json, dropped_note(profile, events.size()), profile.seconds(), process);
  append_mark(json, "end of the profile", profile.seconds(), process);
  json.resize(json.size() - 2);  // the last comma
  json +=
      fmt::format("\n],\"otherData\":{{\"dropped\":{},\"peak_flops\":{:.6g},\"peak_bandwidth\":{:.6g}}}}}\n",
                  profile.dropped(), peaks.flops, peaks.bandwidth);
  return json;
}

}  // namespace lamina
