#include "lamina/profile.h"

#include <fmt/format.h>

#include "bindings/box.h"
#include "bindings/io.h"
#include "bindings/ops.h"

namespace lamina::bind {
namespace {

using Kind = ProfileEvent::Kind;

bool is_work(const ProfileEvent& e) { return e.kind != Kind::kSync && e.kind != Kind::kPlan; }

Roofline roofline_of(const ProfileEvent& e) {
  const double bytes = static_cast<double>(e.bytes_read) + static_cast<double>(e.bytes_written);
  return roofline(e.flops, bytes, e.duration, machine_peaks());
}

// "compute", "memory", or None of what does no work.
py::object bound_of(const ProfileEvent& e) {
  if (!is_work(e)) return py::none();
  return py::str(roofline_of(e).by_memory ? "memory" : "compute");
}
py::object share_of(const ProfileEvent& e) {
  if (!is_work(e)) return py::none();
  return py::float_(roofline_of(e).share);
}

py::dict event_dict(const ProfileEvent& e) {
  py::dict d;
  d["kind"] = kind_name(e.kind);
  d["name"] = e.name;
  d["detail"] = e.detail;
  d["start"] = e.start;
  d["duration"] = e.duration;
  d["thread"] = e.thread;
  d["stream"] = e.stream;
  d["bytes_read"] = e.bytes_read;
  d["bytes_written"] = e.bytes_written;
  d["flops"] = e.flops;
  d["active_memory"] = e.active_memory;
  d["share"] = share_of(e);
  d["bound"] = bound_of(e);
  return d;
}

const ProfileEvent& event(PyObject* o) { return Box<ProfileEvent>::of(o); }
Profile& profile(PyObject* o) { return Box<Profile>::of(o); }

PyObject* event_repr(PyObject* self) {
  const ProfileEvent& e = event(self);
  return to_python(fmt::format("ProfileEvent({} {}{}{}, {:.1f} us)", kind_name(e.kind), e.name,
                               e.detail.empty() ? "" : ", ", e.detail, e.duration * 1e6));
}
PyObject* profile_repr(PyObject* self) {
  return guarded([&] {
    const Profile& p = profile(self);
    return to_python(fmt::format("Profile({} events, {:.3f} ms{})", p.events().size(), p.seconds() * 1e3,
                                 p.recording() ? ", recording" : ""));
  });
}

std::string table_text(const Profile& p, size_t rows) {
  const WithoutGil released;
  return p.table(rows);
}
PyObject* profile_str(PyObject* self) {
  return guarded([&] { return to_python(table_text(profile(self), 30)); });
}

size_t not_negative(int64_t n, const char* function, const char* argument) {
  if (n < 0)
    throw ValueError(fmt::format("[{}] wants {} that is not negative, got {}", function, argument, n));
  return static_cast<size_t>(n);
}

void add_event_type(const Scope& core) {
  const Scope type = define_box<ProfileEvent>(core, "lamina.core.ProfileEvent",
                                              "One thing that took time in a profiled block: a kernel, a "
                                              "tape of fused ops, a copy, a plan or a wait.",
                                              {slot(Py_tp_repr, event_repr)});
  def_property(type, "kind: str",
               "kernel, tape (ops fused into one pass), kernel with epilogue (such ops on the tiles of a "
               "product), copy, plan or sync (a wait).",
               [](PyObject* s) { return std::string(kind_name(event(s).kind)); });
  def_property(type, "name: str", "The kernel, the fused ops joined by +, or what was waited for.",
               [](PyObject* s) { return event(s).name; });
  def_property(type, "detail: str", "Dtype and shape of the result.",
               [](PyObject* s) { return event(s).detail; });
  def_property(type, "start: float", "Seconds from the beginning of the block.",
               [](PyObject* s) { return event(s).start; });
  def_property(type, "duration: float", "Seconds.", [](PyObject* s) { return event(s).duration; });
  def_property(type, "thread: int", "Its thread; numbered in the order in which they were first seen.",
               [](PyObject* s) { return int64_t{event(s).thread}; });
  def_property(type, "stream: int", "The stream's index; -1 for none.",
               [](PyObject* s) { return int64_t{event(s).stream}; });
  def_property(type, "bytes_read: int", "Bytes of the operands, what is broadcast counted once.",
               [](PyObject* s) { return static_cast<int64_t>(event(s).bytes_read); });
  def_property(type, "bytes_written: int", "Bytes of the results.",
               [](PyObject* s) { return static_cast<int64_t>(event(s).bytes_written); });
  def_property(type, "flops: float", "Arithmetic operations of the definition.",
               [](PyObject* s) { return event(s).flops; });
  def_property(type, "active_memory: int", "Bytes of array memory in use while it ran.",
               [](PyObject* s) { return event(s).active_memory; });
  def_property(type, "share: float | None",
               "The least time that the machine's measured peaks allow, over the time it took; None of plans "
               "and waits.",
               [](PyObject* s) { return share_of(event(s)); });
  def_property(type, "bound: str | None", "Which peak that is: compute or memory; None of plans and waits.",
               [](PyObject* s) { return bound_of(event(s)); });
}

void add_context(const Scope& type) {
  def(type, "__enter__(self) -> Profile", "Begins to record; what an earlier block has left is forgotten.",
      [](PyObject* self) {
        profile(self).start();
        return borrowed(self);
      });
  def(type,
      "__exit__(self, exc_type: object = None, exc_value: object = None, traceback: object = None) -> bool",
      "Stops recording, also where the block has raised.",
      [](PyObject* self, PyObject*, PyObject*, PyObject*) {
        profile(self).stop();
        return false;
      });
}

py::dict profile_dict(const Profile& p) {
  py::list events;
  for (const ProfileEvent& e : p.events()) events.append(event_dict(e));
  const MachinePeaks peaks = machine_peaks();
  py::dict machine;
  machine["flops"] = peaks.flops;
  machine["bandwidth"] = peaks.bandwidth;
  machine["threads"] = peaks.threads;
  py::dict d;
  d["seconds"] = p.seconds();
  d["peak_memory"] = p.peak_memory();
  d["dropped"] = p.dropped();
  d["machine"] = machine;
  d["events"] = events;
  return d;
}

void add_reports(const Scope& type) {
  def_property(type, "events: list[ProfileEvent]", "What happened, by start.", [](PyObject* self) {
    py::list out;
    for (ProfileEvent& e : profile(self).events()) out.append(owned(Box<ProfileEvent>::make(std::move(e))));
    return py::object(out);
  });
  def_property(type, "dropped: int", "Events that came after the profile was full.",
               [](PyObject* self) { return profile(self).dropped(); });
  def_property(type, "seconds: float", "Length of the block.",
               [](PyObject* self) { return profile(self).seconds(); });
  def_property(type, "peak_memory: int", "The most bytes of array memory in use.",
               [](PyObject* self) { return profile(self).peak_memory(); });
  def(type, "table(self, rows: int = 30) -> str",
      "Time by kernel, the longest first; then plans, waits, memory and the machine's peaks.\n\n"
      "A kernel's share of the peak is the least time that its flops or its bytes need on this machine, over "
      "the "
      "time it took; above 100% where caches serve it faster than memory could.\n"
      "@rows Kernels to list, at most.\n@raises ValueError For a negative number of rows.\n"
      ">>> with mx.profile() as p:\n...     mx.eval(mx.ones(3) + 1)\n>>> 'add' in p.table()\nTrue\n",
      [](PyObject* self, int64_t rows) {
        return table_text(profile(self), not_negative(rows, "table", "rows"));
      });
  def(type, "to_dict(self) -> dict",
      "The profile as plain dicts, lists, strings and numbers: seconds, peak_memory, dropped, machine "
      "(measured "
      "flops and bandwidth a second, threads) and events.\n"
      ">>> with mx.profile() as p:\n...     mx.eval(mx.ones(3) + 1)\n>>> p.to_dict()['dropped']\n0\n",
      [](PyObject* self) { return profile_dict(profile(self)); });
  def(type, "save(self, file: str | pathlib.Path) -> None",
      "Writes the events as Chrome trace JSON, which Perfetto and chrome://tracing open.\n\n"
      "The file appears complete or not at all: it is written beside its place and renamed.\n"
      "@file Path of the file.\n@raises OSError Where it cannot be written.\n"
      ">>> import tempfile, pathlib\n>>> path = pathlib.Path(tempfile.mkdtemp()) / 'trace.json'\n"
      ">>> with mx.profile() as p:\n...     mx.eval(mx.ones(3) + 1)\n>>> p.save(path)\n>>> "
      "path.exists()\nTrue\n",
      [](PyObject* self, Any file) {
        if (!is_path(file.object)) file.wrong();
        const std::string path = path_of(borrowed(file.object));
        const WithoutGil released;
        profile(self).save(path);
      });
}

}  // namespace

void add_profile(const Scope& core) {
  add_event_type(core);
  const Scope type =
      define_box<Profile>(core, "lamina.core.Profile", "What a `with mx.profile()` block has recorded.",
                          {slot(Py_tp_repr, profile_repr), slot(Py_tp_str, profile_str)});
  add_context(type);
  add_reports(type);
  def(core, "profile(max_events: int = 500000) -> Profile",
      "A context manager that records each kernel that runs, each graph that is planned and each wait.\n\n"
      "All threads and streams of the process are recorded. Blocks may nest or overlap; each records what "
      "happens in it. While nothing is profiled an evaluation pays one load of a flag for it.\n"
      "@max_events Events to keep, of about 100 bytes each; later ones are counted in `dropped`.\n"
      "@returns The profile: print it for a table, or see its `events`, `to_dict` and `save`.\n"
      "@raises ValueError For a negative `max_events`, and on entering a profile that records.\n"
      ">>> x = mx.ones((64, 64))\n>>> with mx.profile() as p:\n...     mx.eval(mx.exp(x @ x) + 1)\n"
      ">>> [e.name for e in p.events if e.flops > 0]\n['matmul+exp+add']\n",
      [](int64_t max_events) {
        return Box<Profile>::make(Profile(not_negative(max_events, "profile", "max_events")));
      });
}

}  // namespace lamina::bind
