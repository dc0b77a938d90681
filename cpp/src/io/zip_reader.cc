#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <unordered_set>
#include <utility>

#include "core/fail.h"
#include "io/json.h"
#include "io/zip.h"
#include "io/zip_format.h"

namespace lamina {
namespace {

using namespace zip;

constexpr const char* kOp = "zip";
constexpr size_t kMaxInflation = 1032;  // deflate's best: 258 bytes from two bits

// The directory of one archive being read.
class DirectoryReader {
 public:
  DirectoryReader(std::span<const std::byte> archive, std::string_view file) : data_(archive), file_(file) {}

  std::vector<ZipEntry> read() {
    find_end();
    std::vector<ZipEntry> entries;
    size_t at = directory_begin_;
    while (at < directory_end_) entries.push_back(read_entry(at));
    if (entries.size() != count_) {
      bad("the directory has {} entries, its end says {}", entries.size(), count_);
    }
    check_names(entries);
    check_overlap(entries);
    return entries;
  }

 private:
  template <class... Args>
  [[noreturn]] void bad(fmt::format_string<Args...> format, Args&&... args) const {
    fail<ValueError>(kOp, "'{}': {}", file_, fmt::format(format, std::forward<Args>(args)...));
  }

  // Throws unless [at, at + bytes) lies before `end`.
  void require(size_t at, size_t bytes, size_t end, const char* what) const {
    if (at > end || bytes > end - at)
      bad("{} at {} needs {} bytes, but there it ends at {}", what, at, bytes, end);
  }

  void find_end() {
    if (data_.size() < kEndBytes) bad("wanted at least {} bytes, got {}", kEndBytes, data_.size());
    // A comment of up to 65,535 bytes may follow the end record and must reach the end of the file.
    const size_t last = data_.size() - kEndBytes;
    const size_t first = last > 0xffff ? last - 0xffff : 0;
    for (size_t at = last + 1; at-- > first;) {
      if (get<uint32_t>(data_, at) == kEndSignature && get<uint16_t>(data_, at + 20) == last - at)
        return read_end(at);
    }
    bad("not a zip archive, or cut short: no end record");
  }

  void read_end(size_t at) {
    if (get<uint16_t>(data_, at + 4) != 0 && get<uint16_t>(data_, at + 4) != kFull16) bad("a split archive");
    uint64_t count = get<uint16_t>(data_, at + 10);
    uint64_t bytes = get<uint32_t>(data_, at + 12), begin = get<uint32_t>(data_, at + 16);
    size_t end = at;
    if (at >= kLocator64Bytes && get<uint32_t>(data_, at - kLocator64Bytes) == kLocator64Signature) {
      const uint64_t record = get<uint64_t>(data_, at - kLocator64Bytes + 8);
      if (record > at - kLocator64Bytes || at - kLocator64Bytes - record < kEnd64Bytes ||
          get<uint32_t>(data_, record) != kEnd64Signature) {
        bad("no zip64 end record at {}", record);
      }
      count = get<uint64_t>(data_, record + 32);
      bytes = get<uint64_t>(data_, record + 40);
      begin = get<uint64_t>(data_, record + 48);
      end = record;
    }
    if (begin > end || bytes != end - begin) {
      bad("the directory should be {} bytes at {}, but its end is at {}", bytes, begin, end);
    }
    count_ = count;
    directory_begin_ = begin;
    directory_end_ = end;
  }

  ZipEntry read_entry(size_t& at) const {
    require(at, kDirectoryBytes, directory_end_, "a directory entry");
    if (get<uint32_t>(data_, at) != kDirectorySignature) bad("no directory entry at {}", at);
    const uint16_t flags = get<uint16_t>(data_, at + 8), method = get<uint16_t>(data_, at + 10);
    const size_t name_bytes = get<uint16_t>(data_, at + 28), extra_bytes = get<uint16_t>(data_, at + 30);
    const size_t comment_bytes = get<uint16_t>(data_, at + 32), name_begin = at + kDirectoryBytes;
    require(name_begin, name_bytes + extra_bytes + comment_bytes, directory_end_, "a directory entry");
    ZipEntry entry;
    entry.name.assign(reinterpret_cast<const char*>(data_.data()) + name_begin, name_bytes);
    if (!is_utf8(entry.name)) bad("the name of the entry at {} is not UTF-8", at);
    if (flags & kEncryptedFlag) bad("entry '{}' is encrypted", entry.name);
    if (method != kStored && method != kDeflated) {
      bad("entry '{}' has compression method {}, known are 0 (stored) and 8 (deflated)", entry.name, method);
    }
    entry.deflated = method == kDeflated;
    entry.crc = get<uint32_t>(data_, at + 16);
    uint64_t fields[] = {get<uint32_t>(data_, at + 24), get<uint32_t>(data_, at + 20),
                         get<uint32_t>(data_, at + 42)};
    read_extra64(data_.subspan(name_begin + name_bytes, extra_bytes), fields, entry.name);
    entry.bytes = fields[0];
    entry.compressed_bytes = fields[1];
    entry.header_begin = fields[2];
    at = name_begin + name_bytes + extra_bytes + comment_bytes;
    read_local_header(entry, method);
    return entry;
  }

  // Replaces each full field, in this order: bytes, compressed bytes, place of the local header.
  void read_extra64(std::span<const std::byte> extra, std::span<uint64_t, 3> fields,
                    const std::string& name) const {
    while (extra.size() >= 4) {
      const uint16_t id = get<uint16_t>(extra, 0);
      const size_t bytes = get<uint16_t>(extra, 2);
      if (bytes > extra.size() - 4) break;
      std::span<const std::byte> body = extra.subspan(4, bytes);
      extra = extra.subspan(4 + bytes);
      if (id != kExtra64) continue;
      for (uint64_t& field : fields) {
        if (field != kFull32) continue;
        if (body.size() < 8) bad("the zip64 record of entry '{}' is too short", name);
        field = get<uint64_t>(body, 0);
        body = body.subspan(8);
      }
      return;
    }
  }

  void read_local_header(ZipEntry& entry, uint16_t method) const {
    const size_t at = entry.header_begin;
    require(at, kLocalBytes, directory_begin_, "a local header");
    const size_t name_bytes = get<uint16_t>(data_, at + 26), extra_bytes = get<uint16_t>(data_, at + 28);
    require(at + kLocalBytes, name_bytes + extra_bytes, directory_begin_, "a local header");
    const std::string_view name{reinterpret_cast<const char*>(data_.data()) + at + kLocalBytes, name_bytes};
    if (get<uint32_t>(data_, at) != kLocalSignature || name != entry.name ||
        get<uint16_t>(data_, at + 8) != method) {
      bad("the local header of entry '{}' does not agree with the directory", entry.name);
    }
    entry.data_begin = at + kLocalBytes + name_bytes + extra_bytes;
    require(entry.data_begin, entry.compressed_bytes, directory_begin_, "an entry");
    const bool possible = entry.deflated ? entry.bytes / kMaxInflation <= entry.compressed_bytes
                                         : entry.bytes == entry.compressed_bytes;
    if (!possible) {
      bad("entry '{}' says that its {} bytes become {}, which cannot be", entry.name, entry.compressed_bytes,
          entry.bytes);
    }
  }

  void check_names(const std::vector<ZipEntry>& entries) const {
    std::unordered_set<std::string_view> names;
    for (const ZipEntry& entry : entries) {
      if (!names.insert(entry.name).second) bad("the name '{}' repeats", entry.name);
    }
  }

  void check_overlap(const std::vector<ZipEntry>& entries) const {
    std::vector<const ZipEntry*> order;
    order.reserve(entries.size());
    for (const ZipEntry& entry : entries) order.push_back(&entry);
    std::sort(order.begin(), order.end(),
              [](const ZipEntry* a, const ZipEntry* b) { return a->header_begin < b->header_begin; });
    size_t end = 0;
    for (const ZipEntry* entry : order) {
      if (entry->header_begin < end) bad("entry '{}' overlaps another", entry->name);
      end = entry->data_begin + entry->compressed_bytes;
    }
  }

  std::span<const std::byte> data_;
  std::string_view file_;
  uint64_t count_ = 0;
  size_t directory_begin_ = 0, directory_end_ = 0;
};

// Inflates raw deflate data that must become exactly `out`. Returns what is wrong, or null.
const char* inflate_all(std::span<const std::byte> in, std::span<std::byte> out) {
  z_stream stream{};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) throw OutOfMemory("[zip] no memory to inflate");
  constexpr size_t kMost = std::numeric_limits<uInt>::max();
  std::byte beyond{};  // catches data that goes on after `out` is full
  int status = Z_OK;
  bool overrun = false;
  while (status == Z_OK && !overrun) {
    if (stream.avail_in == 0 && !in.empty()) {
      const size_t n = std::min(in.size(), kMost);
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
      stream.avail_in = static_cast<uInt>(n);
      in = in.subspan(n);
    }
    const bool full = out.empty();
    const size_t room = full ? 1 : std::min(out.size(), kMost);
    stream.next_out = reinterpret_cast<Bytef*>(full ? &beyond : out.data());
    stream.avail_out = static_cast<uInt>(room);
    status = inflate(&stream, Z_NO_FLUSH);
    const size_t made = room - stream.avail_out;
    overrun = full && made != 0;
    if (!full) out = out.subspan(made);
  }
  const bool leftover = stream.avail_in != 0 || !in.empty();
  inflateEnd(&stream);
  if (overrun) return "inflates to more bytes than it says";
  if (status == Z_BUF_ERROR) return "is cut short";
  if (status != Z_STREAM_END) return "is damaged";
  if (!out.empty()) return "inflates to fewer bytes than it says";
  return leftover ? "has bytes after its end" : nullptr;
}

}  // namespace

std::vector<ZipEntry> parse_zip(std::span<const std::byte> archive, std::string_view file) {
  return DirectoryReader(archive, file).read();
}

void extract_zip_entry(std::span<const std::byte> archive, const ZipEntry& entry, std::span<std::byte> out,
                       std::string_view file) {
  const std::span<const std::byte> in = archive.subspan(entry.data_begin, entry.compressed_bytes);
  if (entry.deflated) {
    if (const char* wrong = inflate_all(in, out))
      fail<ValueError>(kOp, "'{}': entry '{}' {}", file, entry.name, wrong);
  } else {
    std::copy(in.begin(), in.end(), out.begin());
  }
  const auto crc = static_cast<uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(out.data()), out.size()));
  if (crc != entry.crc) {
    fail<ValueError>(kOp, "'{}': entry '{}' is damaged: CRC {:08x}, wanted {:08x}", file, entry.name, crc,
                     entry.crc);
  }
}

}  // namespace lamina
