#include <algorithm>
#include <map>

#include "bindings/io.h"
#include "core/fail.h"
#include "io/gguf.h"
#include "ops/gguf.h"
#include "quant/formats.h"
#include "quant/gguf_blocks.h"

namespace lamina::bind {
namespace {

constexpr const char* kTypesKey = "lamina.tensor_types";

// Vocabularies hold bytes that are not UTF-8; Python's own way to keep such bytes in a str.
py::object gguf_text(const std::string& text) {
  PyObject* out = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "surrogateescape");
  if (!out) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(out);
}
std::string gguf_bytes(PyObject* text) {
  PyObject* bytes = PyUnicode_AsEncodedString(text, "utf-8", "surrogateescape");
  if (!bytes) throw py::error_already_set();
  const auto owner = py::reinterpret_steal<py::object>(bytes);
  return {PyBytes_AS_STRING(bytes), static_cast<size_t>(PyBytes_GET_SIZE(bytes))};
}

py::object python_value(const GgufValue& value) {
  if (const auto* numbers = std::get_if<GgufNumbers>(&value.value)) {
    BufferRef storage = allocate(numbers->bytes.size());
    std::memcpy(storage->data(), numbers->bytes.data(), numbers->bytes.size());
    const auto count = static_cast<int64_t>(numbers->bytes.size() / itemsize(numbers->dtype));
    const std::span<const std::byte> bytes(static_cast<const std::byte*>(storage->data()),
                                           numbers->bytes.size());
    return wrapped(
        adopt_tensor({"", {numbers->dtype, numbers->array ? Shape{count} : Shape{}, false, bytes}, storage}));
  }
  if (const auto* text = std::get_if<std::string>(&value.value)) return gguf_text(*text);
  py::list out;
  if (const auto* texts = std::get_if<std::vector<std::string>>(&value.value)) {
    for (const std::string& text : *texts) out.append(gguf_text(text));
  } else {
    for (const GgufValue& one : std::get<std::vector<GgufValue>>(value.value)) out.append(python_value(one));
  }
  return out;
}

GgufValue numbers_value(const std::string& name, const Array& array) {
  if (array.ndim() > 1) {
    throw ValueError(fmt::format("[save_gguf] metadata '{}' wants an array of at most one axis, got shape {}",
                                 name, array.shape()));
  }
  const Array flat = contiguous(array);
  evaluate_released(flat, "save");
  const View v = flat.node()->view();
  return {GgufNumbers{v.dtype, array.ndim() == 1, {static_cast<const char*>(v.data), flat.nbytes()}}};
}

GgufValue metadata_value(const std::string& name, PyObject* value, int depth) {
  if (PyUnicode_Check(value)) return {gguf_bytes(value)};
  if (PyList_Check(value) || PyTuple_Check(value)) {
    const std::vector<py::object> items = *as_items(value);
    const auto is_text = [](const py::object& o) { return PyUnicode_Check(o.ptr()) != 0; };
    if (std::all_of(items.begin(), items.end(), is_text)) {
      std::vector<std::string> texts;
      for (const py::object& item : items) texts.push_back(gguf_bytes(item.ptr()));
      return {std::move(texts)};
    }
    if (depth > 16) throw ValueError(fmt::format("[save_gguf] metadata '{}' nests too many lists", name));
    std::vector<GgufValue> values;
    for (const py::object& item : items) values.push_back(metadata_value(name, item.ptr(), depth + 1));
    return {std::move(values)};
  }
  if (scalar_kind(value) == ScalarKind::kNone) {
    if (const auto array = as_array(value)) return numbers_value(name, *array);
  }
  throw TypeError(
      fmt::format("save_gguf(): metadata '{}' wants array, str or list[str], got {}; a number is an array "
                  "of the dtype to be written",
                  name, type_name(value)));
}

std::string text_key(const Any& argument, py::handle key) {
  if (!PyUnicode_Check(key.ptr())) argument.wrong();
  return py::cast<std::string>(key);
}

// The formats by tensor that the metadata name.
std::map<std::string, QuantFormat> tensor_types(PyObject* value) {
  if (!PyDict_Check(value)) {
    throw TypeError(
        fmt::format("save_gguf(): metadata '{}' wants dict[str, str], got {}", kTypesKey, type_name(value)));
  }
  std::map<std::string, QuantFormat> out;
  for (const auto& [name, type] : py::reinterpret_borrow<py::dict>(value)) {
    if (!PyUnicode_Check(name.ptr()) || !PyUnicode_Check(type.ptr())) {
      throw TypeError(fmt::format("save_gguf(): metadata '{}' wants dict[str, str]", kTypesKey));
    }
    const auto format = find_format(py::cast<std::string>(type));
    if (!format || !gguf_number(*format)) {
      throw ValueError(fmt::format("[save_gguf] tensor '{}' has the unknown type '{}'",
                                   py::cast<std::string>(name), py::cast<std::string>(type)));
    }
    out.emplace(py::cast<std::string>(name), *format);
  }
  return out;
}

// NAME of "NAME.weight".
std::string stem_of(const std::string& name) {
  constexpr std::string_view kWeight = ".weight";
  return name.ends_with(kWeight) ? name.substr(0, name.size() - kWeight.size()) : name;
}

void put_new(const Source& source, const py::dict& arrays, const std::string& name, const Array& array) {
  if (arrays.contains(name.c_str())) {
    throw ValueError(
        fmt::format("[gguf] '{}': the name '{}' repeats after q4_0, q4_1 and q8_0 have got scales "
                    "and biases; format 'gguf_blocks' leaves them as they are",
                    source.path, name));
  }
  arrays[py::str(name)] = wrapped(array);
}

void save(const Any& file, const Any& arrays, const Any& metadata) {
  if (!PyDict_Check(arrays.object)) arrays.wrong();
  std::map<std::string, QuantFormat> types;
  GgufMetadata values;
  if (metadata.object != Py_None) {
    if (!PyDict_Check(metadata.object)) metadata.wrong();
    for (const auto& [key, value] : py::reinterpret_borrow<py::dict>(metadata.object)) {
      const std::string name = text_key(metadata, key);
      if (name == kTypesKey) {
        types = tensor_types(value.ptr());
      } else {
        values.emplace_back(name, metadata_value(name, value.ptr(), 0));
      }
    }
  }
  Outgoing out;
  for (const auto& [key, value] : py::reinterpret_borrow<py::dict>(arrays.object)) {
    const std::string name = text_key(arrays, key);
    const auto array = as_array(value.ptr());
    if (!array) arrays.wrong();
    out.add(name, *array);
  }
  std::vector<NamedGgufTensor> tensors;
  for (const NamedTensor& named : out.tensors()) {
    const auto type = types.find(named.name);
    tensors.push_back({named, type == types.end() ? std::nullopt : std::optional(type->second)});
    if (type != types.end()) types.erase(type);
  }
  if (!types.empty()) {
    throw ValueError(fmt::format("[save_gguf] '{}' names the tensor '{}', which is not there", kTypesKey,
                                 types.begin()->first));
  }
  write_to(file, ".gguf", [&](const std::string& path) { save_gguf(path, tensors, values); });
}

}  // namespace

py::object load_gguf_file(const Source& source, bool blocks, bool return_metadata) {
  const LoadedGguf file =
      source.buffer ? read_gguf(source.view, source.buffer, source.path) : load_gguf(source.path);
  py::dict arrays, types;
  for (const LoadedGgufTensor& t : file.tensors) {
    const Array array = adopt_tensor(t.loaded);
    const std::string& name = t.loaded.name;
    if (!t.blocks || blocks || !gguf_is_affine(*t.blocks)) {
      put_new(source, arrays, name, array);
      if (t.blocks) types[py::str(name)] = py::str(std::string(block_format(*t.blocks).name));
      continue;
    }
    const std::vector<Array> parts = gguf_to_affine(array, *t.blocks);
    put_new(source, arrays, name, parts[0]);
    put_new(source, arrays, stem_of(name) + ".scales", parts[1]);
    put_new(source, arrays, stem_of(name) + ".biases", parts[2]);
  }
  if (!return_metadata) return arrays;
  py::dict metadata;
  for (const auto& [name, value] : file.metadata) metadata[py::str(name)] = python_value(value);
  if (!types.empty()) metadata[kTypesKey] = types;
  return py::make_tuple(arrays, metadata);
}

void add_gguf(const Scope& core) {
  def(core,
      "save_gguf(file: file | str | pathlib.Path, arrays: dict[str, array], metadata: dict[str, Any] | None "
      "= "
      "None)",
      "Writes named arrays as GGUF, version 3; the extension is added where it is missing.\n\n"
      "The file appears complete or not at all: it is written beside its place and renamed.\n"
      "@arrays Arrays of float16, bfloat16, float32, float64 or a signed integer dtype; or uint8 blocks of "
      "shape (..., rows, bytes of a row) whose type the metadata name.\n"
      "@metadata Text, lists of text, arrays of at most one axis (bool, integers, float32, float64), or "
      "lists "
      "of such lists. The entry 'lamina.tensor_types', a dict of names and types such as 'q4_k', is not "
      "written but says what blocks are, as `load` returns it.\n"
      "@raises OSError The file cannot be written.\n@raises ValueError A dtype or name that GGUF has not.\n"
      ">>> import io\n>>> f = io.BytesIO()\n"
      ">>> mx.save_gguf(f, {'a': mx.array([1, 2])}, {'general.name': 'two'})\n>>> _ = f.seek(0)\n"
      ">>> mx.load(f, format='gguf', return_metadata=True)\n"
      "({'a': array([1, 2], dtype=int32)}, {'general.name': 'two'})\n",
      [](Any file, Any arrays, Any metadata) { save(file, arrays, metadata); });
}

}  // namespace lamina::bind
