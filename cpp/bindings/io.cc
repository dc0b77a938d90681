#include <algorithm>
#include <array>
#include <filesystem>

#include "bindings/io.h"
#include "bindings/tree.h"
#include "io/file.h"
#include "io/npy.h"
#include "io/npz.h"
#include "io/safetensors.h"

namespace lamina::bind {

// An array over the bytes of a loaded tensor, which its storage keeps alive.
Array adopt_tensor(const LoadedTensor& t) {
  Array out(Node::create());
  Node* n = out.node();
  n->dtype = t.tensor.dtype;
  n->shape = t.tensor.shape;
  n->strides = row_major_strides(n->shape);
  if (t.tensor.fortran_order) {
    int64_t step = 1;
    for (size_t i = 0; i < n->shape.size(); ++i) {
      n->strides[i] = step;
      step *= n->shape[i];
    }
  }
  const auto distance = t.tensor.bytes.data() - static_cast<const std::byte*>(t.storage->data());
  n->buffer = t.storage;
  n->offset = distance / static_cast<int64_t>(itemsize(n->dtype));
  n->state.store(NodeState::kReady, std::memory_order_release);
  return out;
}

bool is_path(PyObject* o) {
  return PyUnicode_Check(o) || PyBytes_Check(o) || PyObject_HasAttrString(o, "__fspath__");
}

std::string path_of(const py::object& file) {
  const py::object path = py::module_::import("os").attr("fsdecode")(file);
  return py::cast<std::string>(path);
}

void write_text(const Any& file, const std::string& text) {
  if (PyObject_HasAttrString(file.object, "write")) {
    borrowed(file.object).attr("write")(text);
    return;
  }
  if (!PyUnicode_Check(file.object) && !PyObject_HasAttrString(file.object, "__fspath__")) file.wrong();
  AtomicFile out(path_of(borrowed(file.object)));
  out.write(std::as_bytes(std::span(text)));
  out.commit();
}

std::string with_extension(std::string path, const std::string& extension) {
  return path.ends_with(extension) ? path : path + extension;
}

Source open_source(const Any& file) {
  Source s;
  if (is_path(file.object)) {
    s.path = path_of(borrowed(file.object));
    return s;
  }
  if (!PyObject_HasAttrString(file.object, "read")) file.wrong();
  const py::object content = borrowed(file.object).attr("read")();
  if (!PyBytes_Check(content.ptr())) {
    throw TypeError("load(): the file's read() must return bytes, returned " + type_name(content.ptr()));
  }
  const auto size = static_cast<size_t>(PyBytes_GET_SIZE(content.ptr()));
  s.path = "<file object>";
  if (PyObject_HasAttrString(file.object, "name")) {
    s.path = py::cast<std::string>(py::str(borrowed(file.object).attr("name")));
  }
  s.buffer = allocate(size);
  std::memcpy(s.buffer->data(), PyBytes_AS_STRING(content.ptr()), size);
  s.view = {static_cast<const std::byte*>(s.buffer->data()), size};
  s.bytes = content;
  return s;
}

namespace {

py::dict dict_of(const std::vector<LoadedTensor>& tensors) {
  py::dict out;
  for (const LoadedTensor& t : tensors) out[t.name.c_str()] = wrapped(adopt_tensor(t));
  return out;
}

void save_arrays(const Any& file, Rest args, const py::dict& named, bool compressed) {
  Outgoing out;
  for (Py_ssize_t i = 0; i < args.count; ++i) {
    const std::string name = "arr_" + std::to_string(i);
    if (named.contains(name)) {
      throw ValueError("[savez] the name '" + name + "' is taken by a positional array");
    }
    const auto a = as_array(args.items[i]);
    if (!a) throw TypeError("savez() wants arrays, got " + type_name(args.items[i]));
    out.add(name, *a);
  }
  for (const auto& [key, value] : named) {
    const auto a = as_array(value.ptr());
    if (!a) throw TypeError("savez() wants arrays, got " + type_name(value.ptr()));
    out.add(py::cast<std::string>(key), *a);
  }
  const auto& tensors = out.tensors();
  write_to(file, ".npz", [&](const std::string& path) { save_npz(path, tensors, compressed); });
}

std::string format_of(const Source& s, const std::optional<std::string>& format) {
  std::string name = format.value_or(std::filesystem::path(s.path).extension().string());
  if (name.starts_with('.')) name.erase(0, 1);
  constexpr std::array kFormats{"npy", "npz", "safetensors", "gguf", "gguf_blocks"};
  if (std::find(kFormats.begin(), kFormats.end(), name) == kFormats.end()) {
    throw ValueError("[load] wanted a file of format npy, npz, safetensors or gguf, got '" + name + "' for " +
                     s.path);
  }
  return name;
}

LoadedSafetensors safetensors_from(const Source& s) {
  if (!s.buffer) return load_safetensors(s.path);
  const SafetensorsHeader header = parse_safetensors(s.view, s.path);
  LoadedSafetensors out;
  out.metadata = header.metadata;
  for (const TensorEntry& e : header.tensors) {
    // Bytes of a file object have no alignment to rely on.
    BufferRef storage = allocate(e.end - e.begin);
    std::memcpy(storage->data(), s.view.data() + header.data_begin + e.begin, e.end - e.begin);
    const std::span<const std::byte> bytes(static_cast<const std::byte*>(storage->data()), e.end - e.begin);
    out.tensors.push_back({e.name, {e.dtype, e.shape, false, bytes}, storage});
    check_bool_bytes("load", s.path, e.name, out.tensors.back().tensor);
  }
  return out;
}

py::object load(const Any& file, const std::optional<std::string>& format, bool return_metadata) {
  const Source s = open_source(file);
  const std::string kind = format_of(s, format);
  if (kind.starts_with("gguf")) return load_gguf_file(s, kind == "gguf_blocks", return_metadata);
  if (return_metadata && kind != "safetensors") {
    throw ValueError("[load] metadata belong to safetensors and GGUF files, got format " + kind);
  }
  if (kind == "npy")
    return wrapped(adopt_tensor(s.buffer ? read_npy(s.view, s.buffer, s.path) : load_npy(s.path)));
  if (kind == "npz") return dict_of(s.buffer ? read_npz(s.view, s.path) : load_npz(s.path));
  const LoadedSafetensors loaded = safetensors_from(s);
  const py::dict arrays = dict_of(loaded.tensors);
  if (!return_metadata) return arrays;
  py::dict metadata;
  for (const auto& [key, value] : loaded.metadata) metadata[key.c_str()] = value;
  return py::make_tuple(arrays, metadata);
}

}  // namespace

void add_io(const Scope& core) {
  def(core, "save(file: file | str | pathlib.Path, arr: array) -> None",
      "Writes one array as NumPy's .npy; the extension is added where it is missing.\n\n"
      "The file appears complete or not at all: it is written beside its place and renamed.\n"
      "@raises OSError The file cannot be written.\n"
      ">>> import io\n>>> f = io.BytesIO()\n>>> mx.save(f, mx.array([1, 2]))\n",
      [](Any file, const Array& arr) {
        Outgoing out;
        out.add("arr", arr);
        const HostTensor tensor = out.tensors()[0].tensor;
        write_to(file, ".npy", [&](const std::string& path) { save_npy(path, tensor); });
      });
  def(core, "savez(file: file | str | pathlib.Path, *args, **kwargs)",
      "Writes arrays as NumPy's .npz, positional ones as arr_0, arr_1, ...\n"
      "@raises OSError The file cannot be written.\n"
      ">>> import io\n>>> f = io.BytesIO()\n>>> mx.savez(f, a=mx.array([1, 2]))\n",
      [](Any file, Rest args, const py::dict& kwargs) { save_arrays(file, args, kwargs, false); });
  def(core, "savez_compressed(file: file | str | pathlib.Path, *args, **kwargs)",
      "Writes arrays as a compressed .npz, positional ones as arr_0, arr_1, ...\n"
      "@raises OSError The file cannot be written.\n"
      ">>> import io\n>>> f = io.BytesIO()\n>>> mx.savez_compressed(f, a=mx.array([1, 2]))\n",
      [](Any file, Rest args, const py::dict& kwargs) { save_arrays(file, args, kwargs, true); });
  def(core,
      "save_safetensors(file: file | str | pathlib.Path, arrays: dict[str, array], metadata: dict[str, str] "
      "| None = "
      "None)",
      "Writes named arrays as safetensors; the extension is added where it is missing.\n"
      "@metadata Text stored beside the arrays.\n@raises OSError The file cannot be written.\n"
      ">>> import io\n>>> f = io.BytesIO()\n>>> mx.save_safetensors(f, {'a': mx.array([1, 2])})\n",
      [](Any file, Any arrays, Any metadata) {
        if (!PyDict_Check(arrays.object)) arrays.wrong();
        Outgoing out;
        for (const auto& [key, value] : py::reinterpret_borrow<py::dict>(arrays.object)) {
          const auto a = as_array(value.ptr());
          if (!a || !PyUnicode_Check(key.ptr())) arrays.wrong();
          out.add(py::cast<std::string>(key), *a);
        }
        std::map<std::string, std::string> notes;
        if (metadata.object != Py_None) {
          if (!PyDict_Check(metadata.object)) metadata.wrong();
          for (const auto& [key, value] : py::reinterpret_borrow<py::dict>(metadata.object)) {
            if (!PyUnicode_Check(key.ptr()) || !PyUnicode_Check(value.ptr())) metadata.wrong();
            notes[py::cast<std::string>(key)] = py::cast<std::string>(value);
          }
        }
        const auto& tensors = out.tensors();
        write_to(file, ".safetensors",
                 [&](const std::string& path) { save_safetensors(path, tensors, notes); });
      });
  def(core,
      "load(file: file | str | pathlib.Path, /, format: str | None = None, return_metadata: bool = False, *, "
      "stream: "
      "StreamOrDevice = None) -> array | dict[str, array] | tuple[dict[str, array], dict[str, Any]]",
      "Reads .npy (one array), .npz, .safetensors or .gguf (a dict).\n\n"
      "Files on disk are mapped, but for .npz: memory is read when it is used, and a file that is renamed, "
      "replaced or removed stays readable while its arrays live. One that is cut short or overwritten in "
      "place meanwhile is not: load an open file for a copy.\n\n"
      "In a GGUF file, tensors of type q4_0, q4_1 and q8_0 named NAME.weight become NAME.weight, NAME.scales "
      "and NAME.biases as `quantize` makes them (group_size 32). Tensors of q5_0, q5_1, q2_k to q6_k, iq4_nl "
      "and iq4_xs stay as they are stored: uint8 of shape (..., rows, bytes of a row), for `dequantize` and "
      "`quantized_matmul` with that mode; the metadata 'lamina.tensor_types' tell the mode of each. With "
      "format 'gguf_blocks' all of them do.\n"
      "@format The format, where the name does not end in it: 'npy', 'npz', 'safetensors', 'gguf' or "
      "'gguf_blocks'.\n"
      "@return_metadata Return (arrays, metadata); safetensors and GGUF only.\n"
      "@raises ValueError The content is not valid, or the format is unknown.\n@raises OSError The file "
      "cannot be read.\n"
      ">>> import io\n>>> f = io.BytesIO()\n>>> mx.save(f, mx.array([1, 2]))\n>>> _ = f.seek(0)\n"
      ">>> mx.load(f, format='npy')\narray([1, 2], dtype=int32)\n",
      [](Any file, std::optional<std::string> format, bool return_metadata) {
        return load(file, format, return_metadata);
      });
  add_gguf(core);
}

}  // namespace lamina::bind
