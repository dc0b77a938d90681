#pragma once

#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "bindings/ops.h"
#include "graph/node.h"
#include "io/tensor.h"

namespace lamina::bind {

// An array over the bytes of a loaded tensor, which its storage keeps alive.
Array adopt_tensor(const LoadedTensor& t);

// Arrays in row-major memory, ready to be written.
class Outgoing {
 public:
  void add(std::string name, const Array& a) {
    names_.push_back(std::move(name));
    arrays_.push_back(contiguous(a));
  }
  const std::vector<NamedTensor>& tensors() {
    evaluate_released(arrays_, "save");
    for (size_t i = 0; i < arrays_.size(); ++i) {
      const View v = arrays_[i].node()->view();
      const auto* bytes = static_cast<const std::byte*>(v.data);
      tensors_.push_back({names_[i], {v.dtype, v.shape, false, {bytes, arrays_[i].nbytes()}}});
    }
    return tensors_;
  }

 private:
  std::vector<std::string> names_;
  std::vector<Array> arrays_;
  std::vector<NamedTensor> tensors_;
};

bool is_path(PyObject* o);
std::string path_of(const py::object& file);
std::string with_extension(std::string path, const std::string& extension);
// Writes a text to an object with a write method, or to a path, at which nothing half-written is ever seen.
void write_text(const Any& file, const std::string& text);

// Writes to a path, or through a temporary file to an object with a write method.
template <class F>
void write_to(const Any& file, const std::string& extension, F write) {
  const py::object target = borrowed(file.object);
  if (is_path(file.object)) {
    const std::string path = with_extension(path_of(target), extension);
    const WithoutGil released;
    write(path);
    return;
  }
  if (!PyObject_HasAttrString(file.object, "write")) file.wrong();
  const py::object folder = py::module_::import("tempfile").attr("TemporaryDirectory")();
  const std::string path = py::cast<std::string>(folder.attr("name")) + "/data" + extension;
  {
    const WithoutGil released;
    write(path);
  }
  const py::object opened = py::module_::import("io").attr("open")(path, "rb");
  target.attr("write")(opened.attr("read")());
  opened.attr("close")();
  folder.attr("cleanup")();
}

// What a file is read from: its path, or the bytes that its read method gives.
struct Source {
  std::string path;
  py::object bytes;  // null where there is a path
  BufferRef buffer;
  std::span<const std::byte> view;
};

Source open_source(const Any& file);

// Defined with GGUF: what load() gives for such a file, with `blocks` all quantized tensors as they are
// stored.
py::object load_gguf_file(const Source& source, bool blocks, bool return_metadata);
void add_gguf(const Scope& core);

}  // namespace lamina::bind
