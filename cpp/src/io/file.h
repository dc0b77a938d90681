#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "memory/buffer.h"

namespace lamina {

// A regular file open for reading. Errors are IoError and name the file.
class InputFile {
 public:
  explicit InputFile(std::string path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& path() const { return path_; }
  // Bytes that the file had when it was opened.
  size_t size_bytes() const { return size_bytes_; }
  // Fills `out` from `offset`; throws where the file ends before that.
  void read_at(size_t offset, std::span<std::byte> out) const;
  // The whole file mapped read-only, or copied. The mapping outlives this object.
  BufferRef map() const;
  BufferRef copy() const;

 private:
  std::string path_;
  int fd_ = -1;
  size_t size_bytes_ = 0;
};

// The bytes of a whole file; `buffer` may be larger.
struct FileBytes {
  std::string path;
  BufferRef buffer;
  size_t size_bytes = 0;

  std::span<const std::byte> bytes() const {
    return {static_cast<const std::byte*>(buffer->data()), size_bytes};
  }
};
FileBytes map_file(const std::string& path);
FileBytes read_file(const std::string& path);

// Writes a file that appears complete or not at all: the bytes go to NAME.tmp.<unique> beside it, commit()
// brings them to the disk and renames. Without commit the temporary file is removed. A symbolic link's target
// is replaced, not the link; something that is no regular file is refused. Errors are IoError and name the
// file.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Appends.
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  // Changes bytes written before.
  void overwrite(uint64_t offset, std::string_view text);
  // Bytes written so far.
  uint64_t offset() const { return offset_; }
  void commit();

 private:
  [[noreturn]] void fail_with_errno(const char* what) const;
  void write_all(uint64_t offset, std::span<const std::byte> bytes);

  std::string path_;
  std::string temporary_;
  int fd_ = -1;
  uint64_t offset_ = 0;
};

}  // namespace lamina
