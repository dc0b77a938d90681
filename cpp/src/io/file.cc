#include "io/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "core/fail.h"

namespace lamina {
namespace {

constexpr size_t kMostPerCall = size_t{1} << 30;  // the kernel moves a little less than 2^31 bytes at once

std::string message_of(int error) { return std::generic_category().message(error); }

template <class Call>
auto retry_if_interrupted(const Call& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

}  // namespace

InputFile::InputFile(std::string path) : path_(std::move(path)) {
  // Not blocking, so that a pipe without a writer is refused instead of waited for.
  fd_ = retry_if_interrupted([&] { return open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); });
  if (fd_ < 0) fail<IoError>("file", "cannot open '{}': {}", path_, message_of(errno));
  struct stat info {};
  const int error = fstat(fd_, &info) == 0 ? 0 : errno;
  if (error == 0 && S_ISREG(info.st_mode)) {
    size_bytes_ = static_cast<size_t>(info.st_size);
    return;
  }
  close(fd_);
  const std::string why = error != 0              ? message_of(error)
                          : S_ISDIR(info.st_mode) ? "a directory"
                                                  : "not a regular file";
  fail<IoError>("file", "cannot read '{}': {}", path_, why);
}

InputFile::~InputFile() { close(fd_); }

void InputFile::read_at(size_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const size_t wanted = std::min(out.size(), kMostPerCall);
    const ssize_t got =
        retry_if_interrupted([&] { return pread(fd_, out.data(), wanted, static_cast<off_t>(offset)); });
    if (got < 0) fail<IoError>("file", "cannot read '{}' at {}: {}", path_, offset, message_of(errno));
    if (got == 0) fail<IoError>("file", "'{}' ends at {}, wanted {} bytes more", path_, offset, out.size());
    out = out.subspan(static_cast<size_t>(got));
    offset += static_cast<size_t>(got);
  }
}

BufferRef InputFile::map() const {
  const size_t bytes = size_bytes_;
  if (bytes == 0) return adopt(nullptr, 0, false, nullptr);
  void* pages = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd_, 0);
  if (pages == MAP_FAILED) fail<IoError>("file", "cannot map '{}': {}", path_, message_of(errno));
  try {
    return adopt(pages, bytes, false, [pages, bytes] { munmap(pages, bytes); });
  } catch (...) {
    munmap(pages, bytes);
    throw;
  }
}

BufferRef InputFile::copy() const {
  BufferRef buffer = allocate(size_bytes_);
  read_at(0, {static_cast<std::byte*>(buffer->data()), size_bytes_});
  return buffer;
}

FileBytes map_file(const std::string& path) {
  InputFile file(path);
  return {path, file.map(), file.size_bytes()};
}

FileBytes read_file(const std::string& path) {
  InputFile file(path);
  return {path, file.copy(), file.size_bytes()};
}

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const fs::file_status status = fs::status(path_, ignored);
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    fail<IoError>("file", "cannot write '{}': {}", path_,
                  fs::is_directory(status) ? "a directory" : "not a regular file");
  }
  if (fs::is_symlink(fs::symlink_status(path_, ignored)) && fs::exists(status))
    path_ = fs::canonical(path_).string();
  static std::atomic<uint64_t> counter{0};
  do {
    temporary_ = fmt::format("{}.tmp.{}.{}", path_, getpid(), counter.fetch_add(1));
    fd_ = retry_if_interrupted(
        [&] { return open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); });
  } while (fd_ < 0 && errno == EEXIST);
  if (fd_ < 0) fail<IoError>("file", "cannot write '{}': {}", path_, message_of(errno));
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) close(fd_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void AtomicFile::fail_with_errno(const char* what) const {
  fail<IoError>("file", "cannot {} '{}': {}", what, path_, message_of(errno));
}

void AtomicFile::write_all(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t wanted = std::min(bytes.size(), kMostPerCall);
    const ssize_t put =
        retry_if_interrupted([&] { return pwrite(fd_, bytes.data(), wanted, static_cast<off_t>(offset)); });
    if (put < 0) fail_with_errno("write");
    bytes = bytes.subspan(static_cast<size_t>(put));
    offset += static_cast<uint64_t>(put);
  }
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  write_all(offset_, bytes);
  offset_ += bytes.size();
}

void AtomicFile::overwrite(uint64_t offset, std::string_view text) {
  write_all(offset, std::as_bytes(std::span(text)));
}

void AtomicFile::commit() {
  if (retry_if_interrupted([&] { return fsync(fd_); }) != 0) fail_with_errno("flush");
  if (close(std::exchange(fd_, -1)) != 0 && errno != EINTR) fail_with_errno("close");
  if (rename(temporary_.c_str(), path_.c_str()) != 0) fail_with_errno("rename to");
  temporary_.clear();
  // The new name is safe only when the directory is; some file systems cannot do that, and the file is whole
  // anyway.
  const std::string directory = std::filesystem::path(path_).parent_path().string();
  const int fd = open(directory.empty() ? "." : directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

}  // namespace lamina
