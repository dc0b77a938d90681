#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace lamina::zip {

// Numbers of the format that reader and writer share.
inline constexpr uint32_t kLocalSignature = 0x04034b50;
inline constexpr uint32_t kDirectorySignature = 0x02014b50;
inline constexpr uint32_t kEndSignature = 0x06054b50;
inline constexpr uint32_t kEnd64Signature = 0x06064b50;
inline constexpr uint32_t kLocator64Signature = 0x07064b50;
inline constexpr size_t kLocalBytes = 30;
inline constexpr size_t kDirectoryBytes = 46;
inline constexpr size_t kEndBytes = 22;
inline constexpr size_t kEnd64Bytes = 56;
inline constexpr size_t kLocator64Bytes = 20;
inline constexpr uint32_t kFull32 = 0xffffffff;  // "see the zip64 record"
inline constexpr uint16_t kFull16 = 0xffff;
inline constexpr uint16_t kExtra64 = 1;
inline constexpr uint16_t kStored = 0;
inline constexpr uint16_t kDeflated = 8;
inline constexpr uint16_t kEncryptedFlag = 1;
inline constexpr uint16_t kUtf8Flag = 1 << 11;

// The little-endian number of Bytes bytes at `at`, which must lie inside.
template <class T>
T get(std::span<const std::byte> data, size_t at) {
  T value = 0;
  for (size_t i = sizeof(T); i-- > 0;)
    value = static_cast<T>(uint64_t{value} << 8 | static_cast<uint64_t>(data[at + i]));
  return value;
}

template <class T>
void put(std::string& out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) out += static_cast<char>(uint64_t{value} >> 8 * i & 0xff);
}

}  // namespace lamina::zip
