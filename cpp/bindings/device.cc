#include "bindings/device.h"

#include <fmt/format.h>

#include <atomic>
#include <map>

#include "bindings/box.h"

namespace lamina::bind {
namespace {

PyObject* type_objects[2] = {};  // DeviceType.cpu and DeviceType.gpu

// A stream that is another one on each thread.
struct ThreadLocalStream {
  int id = 0;
  Device device;
};
Stream stream_of_thread(const ThreadLocalStream& s) {
  thread_local std::map<int, Stream> streams;
  const auto found = streams.find(s.id);
  if (found != streams.end()) return found->second;
  return streams.emplace(s.id, new_stream(s.device)).first->second;
}

void check_available(Device d, const char* function) {
  const int count = device_count(d.type);
  if (d.index < 0 || d.index >= count) {
    throw ValueError(fmt::format("[{}] {} is not available: this machine and build have {} of that type",
                                 function, to_string(d), count));
  }
}

Device device_argument(const Any& any) {
  const std::optional<Device> d = as_device(any.object);
  if (!d) any.wrong();
  check_available(*d, any.call->signature->name().c_str());
  return *d;
}

template <class T>
PyObject* compare_boxes(PyObject* l, PyObject* r, int op) {
  if ((op != Py_EQ && op != Py_NE) || !Box<T>::check(r)) return Py_NewRef(Py_NotImplemented);
  return PyBool_FromLong((Box<T>::of(l) == Box<T>::of(r)) == (op == Py_EQ));
}

PyObject* compare_devices(PyObject* l, PyObject* r, int op) {
  const std::optional<Device> d = as_device(r);
  if ((op != Py_EQ && op != Py_NE) || !d) return Py_NewRef(Py_NotImplemented);
  const Device& self = Box<Device>::of(l);
  const bool same = Box<Device>::check(r) ? self == *d : self.type == d->type;
  return PyBool_FromLong(same == (op == Py_EQ));
}

Py_hash_t hash_device(PyObject* self) {
  const Device& d = Box<Device>::of(self);
  return d.index * 2 + static_cast<Py_hash_t>(d.type);
}
Py_hash_t hash_stream(PyObject* self) {
  const Stream& s = Box<Stream>::of(self);
  return s.index * 4 + s.device.index * 2 + static_cast<Py_hash_t>(s.device.type);
}
Py_hash_t hash_type(PyObject* self) { return static_cast<Py_hash_t>(Box<DeviceType>::of(self)); }

PyObject* type_repr(PyObject* self) {
  return to_python(
      std::string(Box<DeviceType>::of(self) == DeviceType::kCpu ? "DeviceType.cpu" : "DeviceType.gpu"));
}
PyObject* device_repr(PyObject* self) { return to_python(to_string(Box<Device>::of(self))); }
PyObject* stream_repr(PyObject* self) { return to_python(to_string(Box<Stream>::of(self))); }
PyObject* local_stream_repr(PyObject* self) {
  const ThreadLocalStream& s = Box<ThreadLocalStream>::of(self);
  return to_python(fmt::format("ThreadLocalStream({}, {})", to_string(s.device), s.id));
}

void add_device_types(const Scope& core) {
  const Scope type = define_box<DeviceType>(core, "lamina.core.DeviceType", "A kind of device: cpu or gpu.",
                                            {slot(Py_tp_repr, type_repr), slot(Py_tp_hash, hash_type),
                                             slot(Py_tp_richcompare, compare_boxes<DeviceType>)});
  const char* names[] = {"cpu", "gpu"};
  for (int i = 0; i < 2; ++i) {
    type_objects[i] = Box<DeviceType>::make(static_cast<DeviceType>(i));
    for (const Scope* s : {&type, &core}) {
      if (PyObject_SetAttrString(s->object, names[i], type_objects[i]) < 0) throw py::error_already_set();
    }
    remember_property("DeviceType", names[i], "DeviceType", "");
  }
  def(type, "__reduce__(self) -> str | tuple", "What pickle needs: the name in the module.",
      [](PyObject* s) { return std::string(Box<DeviceType>::of(s) == DeviceType::kCpu ? "cpu" : "gpu"); });

  const Scope device = define_box<Device>(core, "lamina.core.Device",
                                          "Device(type, index=0)\n--\n\nOne device of the machine.",
                                          {slot(Py_tp_repr, device_repr), slot(Py_tp_hash, hash_device),
                                           slot(Py_tp_richcompare, compare_devices)});
  def_constructor(device, "Device(type: DeviceType, index: int = 0)", "One device of the machine.",
                  [](Any type_any, int index) {
                    if (!Box<DeviceType>::check(type_any.object)) type_any.wrong();
                    return Box<Device>::make({Box<DeviceType>::of(type_any.object), index});
                  });
  def_property(device, "type: DeviceType", "The kind of device.",
               [](PyObject* s) { return borrowed(type_objects[static_cast<int>(Box<Device>::of(s).type)]); });
  def_property(device, "index: int", "Its number among those of its kind.",
               [](PyObject* s) { return int64_t{Box<Device>::of(s).index}; });
  def(device, "__reduce__(self) -> tuple", "What pickle needs.", [](PyObject* s) {
    const Device& d = Box<Device>::of(s);
    return py::make_tuple(borrowed(reinterpret_cast<PyObject*>(Py_TYPE(s))),
                          py::make_tuple(borrowed(type_objects[static_cast<int>(d.type)]), d.index));
  });
}

void add_default_devices(const Scope& core) {
  def(core, "default_device() -> Device",
      "The device that this thread's new arrays belong to.\n>>> mx.default_device()\nDevice(cpu, 0)\n",
      [] { return default_device(); });
  def(core, "set_default_device(device: Device | DeviceType)",
      "Sets the device that this thread's new arrays belong to.\n@device The device.\n"
      "@raises ValueError Where this machine or build has no such device.\n>>> "
      "mx.set_default_device(mx.cpu)\n",
      [](Any device) { set_default_device(device_argument(device)); });
  def(core, "device_count(device_type: DeviceType) -> int",
      "Number of devices of that kind that this machine and build can use.\n@device_type The kind.\n>>> "
      "mx.device_count(mx.cpu)\n1\n",
      [](Any type) {
        if (!Box<DeviceType>::check(type.object)) type.wrong();
        return int64_t{device_count(Box<DeviceType>::of(type.object))};
      });
  def(core, "is_available(device: Device | DeviceType) -> bool",
      "True where that device can be used.\n@device The device.\n>>> mx.is_available(mx.cpu)\nTrue\n",
      [](Any any) {
        const std::optional<Device> d = as_device(any.object);
        if (!d) any.wrong();
        return d->index >= 0 && d->index < device_count(d->type);
      });
}

void add_stream_types(const Scope& core) {
  const Scope stream = define_box<Stream>(core, "lamina.core.Stream", "A queue of work on a device.",
                                          {slot(Py_tp_repr, stream_repr), slot(Py_tp_hash, hash_stream),
                                           slot(Py_tp_richcompare, compare_boxes<Stream>)});
  def_property(stream, "device: Device", "The stream's device.",
               [](PyObject* s) { return Box<Stream>::of(s).device; });
  def_property(stream, "index: int", "Its number.",
               [](PyObject* s) { return int64_t{Box<Stream>::of(s).index}; });
  def(core, "_rebuild_stream(device: Device, index: int) -> Stream", "The stream of a pickled state.",
      [](Any device, int index) { return find_stream(device_argument(device), index); });
  def(stream, "__reduce__(self) -> tuple", "What pickle needs.", [](PyObject* self) {
    const Stream& s = Box<Stream>::of(self);
    return py::make_tuple(py::module_::import("lamina.core").attr("_rebuild_stream"),
                          py::make_tuple(owned(to_python(s.device)), s.index));
  });
  const Scope local = define_box<ThreadLocalStream>(core, "lamina.core.ThreadLocalStream",
                                                    "A stream that is another one on each thread.",
                                                    {slot(Py_tp_repr, local_stream_repr)});
  def_property(local, "device: Device", "The stream's device.",
               [](PyObject* s) { return Box<ThreadLocalStream>::of(s).device; });
}

void add_streams(const Scope& core) {
  def(core, "default_stream(device: Device | DeviceType) -> Stream",
      "The stream of that device that this thread's work goes to.\n@device The device.\n"
      ">>> mx.default_stream(mx.cpu)\nStream(Device(cpu, 0), 0)\n",
      [](Any device) { return default_stream(device_argument(device)); });
  def(core, "set_default_stream(stream: Stream)",
      "Makes the stream the one that this thread's work goes to.\n@stream The stream.\n"
      ">>> mx.set_default_stream(mx.default_stream(mx.cpu))\n",
      [](Any stream) {
        if (!Box<Stream>::check(stream.object)) stream.wrong();
        set_default_stream(Box<Stream>::of(stream.object));
      });
  const auto make = [](Any device) { return new_stream(device_argument(device)); };
  def(core, "new_stream(device: Device | DeviceType) -> Stream",
      "A new queue of work on the device, beside the default one.\n@device The device.\n"
      ">>> s = mx.new_stream(mx.cpu)\n>>> mx.add(1, 2, stream=s)\narray(3, dtype=int32)\n",
      make);
  alias(core, "new_thread_unsafe_stream", "new_stream");
  def(core, "new_thread_local_stream(device: Device | DeviceType) -> ThreadLocalStream",
      "A stream that is another one on each thread that uses it.\n@device The device.\n"
      ">>> mx.add(1, 2, stream=mx.new_thread_local_stream(mx.cpu))\narray(3, dtype=int32)\n",
      [](Any device) {
        static std::atomic<int> next{0};
        return Box<ThreadLocalStream>::make({next++, device_argument(device)});
      });
  def(core, "clear_streams()",
      "Waits for all work of the default stream; streams need no clearing here.\n>>> mx.clear_streams()\n",
      [] {
        WithoutGil released;
        synchronize(default_stream(default_device()));
      });
  def(core, "synchronize(stream: Stream | ThreadLocalStream | Device | DeviceType | None = None)",
      "Waits until the stream's work is done.\n@stream The stream; by default the default device's.\n"
      ">>> mx.async_eval(mx.ones(3) + 1)\n>>> mx.synchronize()\n",
      [](Any any) {
        Stream stream = default_stream(default_device());
        if (any.object != Py_None) {
          const std::optional<Stream> given = as_stream(any.object);
          if (!given) any.wrong();
          stream = *given;
        }
        {
          WithoutGil released;
          synchronize(stream);
        }
        drop_given_up();
      });
}

// `with mx.stream(s):` the saved defaults of each entry, innermost last.
struct StreamContext {
  PyObject* target = nullptr;  // what it was made from
  struct Saved {
    Device device;
    Stream stream;
  };
  std::vector<Saved> saved;
  StreamContext() = default;
  StreamContext(StreamContext&& o) noexcept
      : target(std::exchange(o.target, nullptr)), saved(std::move(o.saved)) {}
  StreamContext(const StreamContext&) = delete;
  StreamContext& operator=(const StreamContext&) = delete;
  ~StreamContext() { Py_XDECREF(target); }
};

PyObject* make_context(const Any& any) {
  if (!as_stream(any.object)) any.wrong();
  StreamContext context;
  context.target = Py_NewRef(any.object);
  return Box<StreamContext>::make(std::move(context));
}

void enter(StreamContext& context) {
  const Stream stream = as_stream(context.target).value();
  const Device before = default_device();
  context.saved.push_back({before, default_stream(before)});
  set_default_device(stream.device);
  set_default_stream(stream);
}

void leave(StreamContext& context) {
  if (context.saved.empty()) throw ValueError("[stream] the context was left without having been entered");
  const StreamContext::Saved saved = context.saved.back();
  context.saved.pop_back();
  set_default_device(saved.device);
  set_default_stream(saved.stream);
}

void add_stream_context(const Scope& core) {
  const Scope type = define_box<StreamContext>(
      core, "lamina.core.StreamContext",
      "StreamContext(s)\n--\n\nMakes a stream the default one for a `with` block.", {});
  def_constructor(type, "StreamContext(s: Stream | ThreadLocalStream | Device | DeviceType)",
                  "Makes a stream the default one for a `with` block.",
                  [](Any s) { return make_context(s); });
  def(type, "__enter__(self) -> StreamContext", "Enters the block.", [](PyObject* self) {
    enter(Box<StreamContext>::of(self));
    return borrowed(self);
  });
  def(type,
      "__exit__(self, exc_type: object = None, exc_value: object = None, traceback: object = None) -> bool",
      "Leaves the block.", [](PyObject* self, PyObject*, PyObject*, PyObject*) {
        leave(Box<StreamContext>::of(self));
        return false;
      });
  def(core, "stream(s: Stream | ThreadLocalStream | Device | DeviceType) -> StreamContext",
      "A context in which `s` is the default stream and its device the default device.\n@s The stream or "
      "device.\n"
      ">>> with mx.stream(mx.cpu):\n...     x = mx.zeros(3) + 1\n",
      [](Any s) { return make_context(s); });
}

}  // namespace

std::optional<Device> as_device(PyObject* o) {
  if (Box<Device>::check(o)) return Box<Device>::of(o);
  if (Box<DeviceType>::check(o)) return Device{Box<DeviceType>::of(o), 0};
  return std::nullopt;
}

std::optional<Stream> as_stream(PyObject* o) {
  if (Box<Stream>::check(o)) return Box<Stream>::of(o);
  if (Box<ThreadLocalStream>::check(o)) return stream_of_thread(Box<ThreadLocalStream>::of(o));
  const std::optional<Device> d = as_device(o);
  if (!d) return std::nullopt;
  check_available(*d, "stream");
  return default_stream(*d);
}

PyObject* to_python(Device v) { return Box<Device>::make(v); }
PyObject* to_python(Stream v) { return Box<Stream>::make(v); }

void add_devices(const Scope& core) {
  add_device_types(core);
  add_default_devices(core);
  add_stream_types(core);
  add_streams(core);
  add_stream_context(core);
}

}  // namespace lamina::bind
