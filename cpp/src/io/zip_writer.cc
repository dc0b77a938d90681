#include <zlib.h>

#include <algorithm>
#include <limits>

#include "core/fail.h"
#include "io/zip.h"
#include "io/zip_format.h"

namespace lamina {
namespace {

using namespace zip;

constexpr uint16_t kVersion = 20, kVersion64 = 45;
constexpr uint16_t kUnixHost = 3 << 8;
constexpr uint32_t kFileMode = 0100644u << 16;
constexpr uint32_t kDate = 0x00210000;  // 1 January 1980, midnight: equal tensors make equal files

uint16_t flags_of(const std::string& name) {
  for (char c : name) {
    if (static_cast<unsigned char>(c) >= 0x80) return kUtf8Flag;
  }
  return 0;
}

// A 64-bit value in a 32-bit field: full where the zip64 record has it.
uint32_t field32(uint64_t value) { return value >= kFull32 ? kFull32 : static_cast<uint32_t>(value); }

// The local header. Its length depends on `wide` and the name alone, so that it can be written again at the
// end.
std::string local_header(const ZipEntry& entry, bool wide) {
  std::string out;
  put(out, kLocalSignature);
  put(out, wide ? kVersion64 : kVersion);
  put(out, flags_of(entry.name));
  put(out, entry.deflated ? kDeflated : kStored);
  put(out, kDate);
  put(out, entry.crc);
  put(out, wide ? kFull32 : static_cast<uint32_t>(entry.compressed_bytes));
  put(out, wide ? kFull32 : static_cast<uint32_t>(entry.bytes));
  put(out, static_cast<uint16_t>(entry.name.size()));
  put(out, static_cast<uint16_t>(wide ? 20 : 0));
  out += entry.name;
  if (wide) {
    put(out, kExtra64);
    put(out, uint16_t{16});
    put(out, uint64_t{entry.bytes});
    put(out, uint64_t{entry.compressed_bytes});
  }
  return out;
}

std::string directory_entry(const ZipEntry& entry) {
  std::string extra;
  for (uint64_t value :
       {uint64_t{entry.bytes}, uint64_t{entry.compressed_bytes}, uint64_t{entry.header_begin}}) {
    if (value >= kFull32) put(extra, value);
  }
  const uint16_t version = extra.empty() ? kVersion : kVersion64;
  std::string out;
  put(out, kDirectorySignature);
  put(out, static_cast<uint16_t>(kUnixHost | version));
  put(out, version);
  put(out, flags_of(entry.name));
  put(out, entry.deflated ? kDeflated : kStored);
  put(out, kDate);
  put(out, entry.crc);
  put(out, field32(entry.compressed_bytes));
  put(out, field32(entry.bytes));
  put(out, static_cast<uint16_t>(entry.name.size()));
  put(out, static_cast<uint16_t>(extra.empty() ? 0 : extra.size() + 4));
  put(out, uint16_t{0});  // comment
  put(out, uint16_t{0});  // disk
  put(out, uint16_t{0});  // internal attributes
  put(out, kFileMode);
  put(out, field32(entry.header_begin));
  out += entry.name;
  if (!extra.empty()) {
    put(out, kExtra64);
    put(out, static_cast<uint16_t>(extra.size()));
    out += extra;
  }
  return out;
}

std::string end_records(uint64_t count, uint64_t begin, uint64_t end) {
  std::string out;
  const uint64_t bytes = end - begin;
  if (count >= kFull16 || bytes >= kFull32 || begin >= kFull32) {
    put(out, kEnd64Signature);
    put(out, uint64_t{kEnd64Bytes - 12});
    put(out, static_cast<uint16_t>(kUnixHost | kVersion64));
    put(out, kVersion64);
    put(out, uint64_t{0});  // this disk, the directory's disk
    put(out, count);
    put(out, count);
    put(out, bytes);
    put(out, begin);
    put(out, kLocator64Signature);
    put(out, uint32_t{0});
    put(out, end);
    put(out, uint32_t{1});
  }
  const auto count16 = static_cast<uint16_t>(count >= kFull16 ? kFull16 : count);
  put(out, kEndSignature);
  put(out, uint32_t{0});
  put(out, count16);
  put(out, count16);
  put(out, field32(bytes));
  put(out, field32(begin));
  put(out, uint16_t{0});
  return out;
}

}  // namespace

size_t ZipWriter::write_deflated(std::initializer_list<std::span<const std::byte>> parts) {
  z_stream stream{};
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    throw OutOfMemory("[zip] no memory to deflate");
  }
  struct Ender {
    z_stream& stream;
    ~Ender() { deflateEnd(&stream); }
  } const ender{stream};
  const uint64_t begin = file_.offset();
  std::vector<std::byte> out(size_t{256} << 10);
  const auto pump = [&](int flush) {
    do {
      stream.next_out = reinterpret_cast<Bytef*>(out.data());
      stream.avail_out = static_cast<uInt>(out.size());
      deflate(&stream, flush);
      file_.write(std::span(out).first(out.size() - stream.avail_out));
    } while (stream.avail_out == 0);
  };
  for (std::span<const std::byte> part : parts) {
    while (!part.empty()) {
      const size_t n = std::min<size_t>(part.size(), std::numeric_limits<uInt>::max());
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(part.data()));
      stream.avail_in = static_cast<uInt>(n);
      pump(Z_NO_FLUSH);
      part = part.subspan(n);
    }
  }
  pump(Z_FINISH);
  return file_.offset() - begin;
}

void ZipWriter::add(const std::string& name, std::initializer_list<std::span<const std::byte>> parts,
                    bool deflate) {
  if (name.size() > kFull16)
    fail<ValueError>("zip", "a name of {} bytes, at most {} fit", name.size(), kFull16);
  ZipEntry entry;
  entry.name = name;
  entry.deflated = deflate;
  entry.header_begin = file_.offset();
  for (std::span<const std::byte> part : parts) {
    entry.bytes += part.size();
    entry.crc =
        static_cast<uint32_t>(crc32_z(entry.crc, reinterpret_cast<const Bytef*>(part.data()), part.size()));
  }
  entry.compressed_bytes = entry.bytes;
  // Deflated data may be a little larger than the original; that must not change the header's length.
  const bool wide = entry.bytes + entry.bytes / 1000 + (1 << 16) >= kFull32;
  file_.write(local_header(entry, wide));
  entry.data_begin = file_.offset();
  if (deflate) {
    entry.compressed_bytes = write_deflated(parts);
    file_.overwrite(entry.header_begin, local_header(entry, wide));
  } else {
    for (std::span<const std::byte> part : parts) file_.write(part);
  }
  entries_.push_back(std::move(entry));
}

void ZipWriter::finish() {
  const uint64_t begin = file_.offset();
  for (const ZipEntry& entry : entries_) file_.write(directory_entry(entry));
  const uint64_t end = file_.offset();
  file_.write(end_records(entries_.size(), begin, end));
}

}  // namespace lamina
