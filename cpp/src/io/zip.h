#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/file.h"

namespace lamina {

// ZIP archives (APPNOTE 6.3): stored and deflated entries, zip64. No encryption, no splitting, nothing before
// the archive. Errors in an archive's contents are ValueError and name the file.

struct ZipEntry {
  std::string name;
  bool deflated = false;
  uint32_t crc = 0;
  size_t header_begin = 0;      // of the local header
  size_t data_begin = 0;        // of the bytes as stored
  size_t compressed_bytes = 0;  // as stored
  size_t bytes = 0;             // as extracted
};

// Reads and checks the directory: all lengths inside the file, local headers that agree with it, entries that
// do not overlap, names that do not repeat, and no entry larger than its compressed bytes can inflate to.
std::vector<ZipEntry> parse_zip(std::span<const std::byte> archive, std::string_view file);

// Writes the entry's bytes to `out`, which has entry.bytes; checks their number and CRC.
void extract_zip_entry(std::span<const std::byte> archive, const ZipEntry& entry, std::span<std::byte> out,
                       std::string_view file);

// Writes an archive front to back; zip64 records only where they are needed.
class ZipWriter {
 public:
  explicit ZipWriter(AtomicFile& file) : file_(file) {}
  // Adds an entry whose contents are the parts one after another.
  void add(const std::string& name, std::initializer_list<std::span<const std::byte>> parts, bool deflate);
  // Writes the directory; nothing may be added after.
  void finish();

 private:
  size_t write_deflated(std::initializer_list<std::span<const std::byte>> parts);

  AtomicFile& file_;
  std::vector<ZipEntry> entries_;
};

}  // namespace lamina
