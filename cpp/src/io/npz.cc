#include "io/npz.h"

#include <unordered_set>
#include <utility>

#include "core/fail.h"
#include "io/file.h"
#include "io/json.h"
#include "io/npy.h"
#include "io/zip.h"

namespace lamina {
namespace {

constexpr const char* kOp = "npz";
constexpr std::string_view kSuffix = ".npy";

}  // namespace

std::vector<LoadedTensor> read_npz(std::span<const std::byte> archive, std::string_view file) {
  std::vector<LoadedTensor> tensors;
  for (const ZipEntry& entry : parse_zip(archive, file)) {
    if (entry.name.ends_with('/')) continue;  // a folder
    if (!entry.name.ends_with(kSuffix)) {
      fail<ValueError>(kOp, "'{}': entry '{}' is no array: its name does not end in {}", file, entry.name,
                       kSuffix);
    }
    BufferRef image = allocate(entry.bytes);
    const std::span<std::byte> bytes{static_cast<std::byte*>(image->data()), entry.bytes};
    extract_zip_entry(archive, entry, bytes, file);
    tensors.push_back(read_npy(bytes, std::move(image), fmt::format("{}/{}", file, entry.name)));
    tensors.back().name = entry.name.substr(0, entry.name.size() - kSuffix.size());
  }
  return tensors;
}

std::vector<LoadedTensor> load_npz(const std::string& path) {
  const FileBytes file = map_file(path);
  return read_npz(file.bytes(), path);
}

void save_npz(const std::string& path, const std::vector<NamedTensor>& tensors, bool compressed) {
  std::unordered_set<std::string_view> names;
  for (const NamedTensor& t : tensors) {
    check_host_tensor(kOp, t.name, t.tensor);
    if (!is_utf8(t.name)) fail<ValueError>(kOp, "a tensor's name is not UTF-8: '{}'", t.name);
    if (!names.insert(t.name).second) fail<ValueError>(kOp, "the name '{}' is taken", t.name);
  }
  AtomicFile file(path);
  ZipWriter zip(file);
  for (const NamedTensor& t : tensors) {
    const std::string header = npy_header(t.tensor);
    zip.add(t.name + std::string(kSuffix), {std::as_bytes(std::span(header)), t.tensor.bytes}, compressed);
  }
  zip.finish();
  file.commit();
}

}  // namespace lamina
