#include "lamina/profile.h"

#include <algorithm>

#include "backend/profile_report.h"
#include "core/fail.h"
#include "graph/profiler.h"
#include "io/file.h"

namespace lamina {

struct Profile::Impl {
  size_t max_events = 0;
  std::shared_ptr<profiling::Recorder> recorder;  // of the last block; null before the first
};

namespace {

double seconds_of(int64_t nanoseconds) { return static_cast<double>(nanoseconds) * 1e-9; }

}  // namespace

const char* kind_name(ProfileEvent::Kind kind) {
  switch (kind) {
    case ProfileEvent::Kind::kKernel: return "kernel";
    case ProfileEvent::Kind::kTape: return "tape";
    case ProfileEvent::Kind::kWithEpilogue: return "kernel with epilogue";
    case ProfileEvent::Kind::kCopy: return "copy";
    case ProfileEvent::Kind::kPlan: return "plan";
    case ProfileEvent::Kind::kSync: return "sync";
  }
  return "";
}

Profile::Profile(size_t max_events) : impl_(std::make_unique<Impl>()) { impl_->max_events = max_events; }
Profile::Profile(Profile&&) noexcept = default;
Profile::~Profile() {
  if (impl_) profiling::detach(impl_->recorder);
}

bool Profile::recording() const {
  const auto guard = profiling::lock();
  return impl_->recorder && impl_->recorder->end == 0;
}

void Profile::start() {
  if (!profiling::attach(impl_->recorder, impl_->max_events)) {
    fail<ValueError>("profile", "wants a profile that does not record, got one that does");
  }
}

void Profile::stop() {
  if (!profiling::detach(impl_->recorder)) {
    fail<ValueError>("profile", "wants a profile that records, got one that does not");
  }
}

std::vector<ProfileEvent> Profile::events() const {
  std::vector<ProfileEvent> out;
  const auto guard = profiling::lock();
  if (!impl_->recorder) return out;
  const profiling::Recorder& r = *impl_->recorder;
  out.reserve(r.records.size());
  std::vector<int> threads;  // as they came
  for (const auto& record : r.records) {
    const profiling::Sample& s = record.sample;
    auto thread = std::find(threads.begin(), threads.end(), record.thread);
    if (thread == threads.end()) thread = threads.insert(thread, record.thread);
    ProfileEvent e;
    e.kind = s.kind;
    e.name = *r.texts[record.name];
    e.detail = *r.texts[record.detail];
    // A wait that began before the block counts from its beginning.
    const int64_t start = std::max(s.start, r.start);
    e.start = seconds_of(start - r.start);
    e.duration = seconds_of(std::max(s.end, start) - start);
    e.thread = static_cast<int>(thread - threads.begin());
    e.stream = s.stream;
    e.bytes_read = s.bytes_read;
    e.bytes_written = s.bytes_written;
    e.flops = s.flops;
    e.active_memory = s.active_memory;
    out.push_back(std::move(e));
  }
  std::stable_sort(out.begin(), out.end(), [](const ProfileEvent& a, const ProfileEvent& b) {
    return a.start != b.start ? a.start < b.start : a.duration > b.duration;
  });
  return out;
}

size_t Profile::dropped() const {
  const auto guard = profiling::lock();
  return impl_->recorder ? impl_->recorder->dropped : 0;
}

double Profile::seconds() const {
  const auto guard = profiling::lock();
  if (!impl_->recorder) return 0;
  const profiling::Recorder& r = *impl_->recorder;
  return seconds_of((r.end != 0 ? r.end : profiling::now()) - r.start);
}

size_t Profile::peak_memory() const {
  const auto guard = profiling::lock();
  return impl_->recorder ? impl_->recorder->peak_memory : 0;
}

std::string Profile::table(size_t rows) const { return profile_table(*this, rows); }

std::string Profile::trace() const {
  double peak_at = 0;
  {
    const auto guard = profiling::lock();
    if (impl_->recorder) peak_at = seconds_of(impl_->recorder->peak_at - impl_->recorder->start);
  }
  return profile_trace(*this, peak_at);
}

void Profile::save(const std::string& path) const {
  const std::string text = trace();
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace lamina
