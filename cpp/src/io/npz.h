#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "io/tensor.h"

namespace lamina {

// NumPy's .npz format: a zip archive of npy files, whose names without ".npy" are the tensors' names.

// All tensors of an archive in memory, in the order of its directory. `file` is the name for messages.
std::vector<LoadedTensor> read_npz(std::span<const std::byte> archive, std::string_view file);
std::vector<LoadedTensor> load_npz(const std::string& path);

// Throws ValueError for names that repeat or are not UTF-8, before anything is written.
void save_npz(const std::string& path, const std::vector<NamedTensor>& tensors, bool compressed);

}  // namespace lamina
