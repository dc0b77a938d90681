#include "io/npz.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <string>
#include <vector>

#include "io/npy.h"
#include "io/zip.h"
#include "io/zip_format.h"
#include "io_test_util.h"
#include "lamina/memory.h"

namespace lamina {
namespace {

using namespace io_test;

const LoadedTensor& find(const std::vector<LoadedTensor>& tensors, const std::string& name) {
  auto it = std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.name == name; });
  EXPECT_NE(it, tensors.end()) << name;
  return *it;
}

TEST(Npz, ReadsWhatNumpyWrites) {
  for (const char* name : {"stored.npz", "deflated.npz"}) {
    const std::vector<LoadedTensor> tensors = load_npz(golden(name));
    expect_pattern(find(tensors, "a").tensor, Dtype::kFloat32, {2, 3});
    expect_pattern(find(tensors, "b/c").tensor, Dtype::kInt8, {7});
    expect_pattern(find(tensors, "d").tensor, Dtype::kBool, {});
  }
  const std::vector<LoadedTensor> deflated = load_npz(golden("deflated.npz"));
  EXPECT_EQ(deflated.size(), 4u);
  EXPECT_EQ(as_string(find(deflated, "zeros").tensor.bytes), std::string(64 * 64 * 4, '\0'));
}

TEST(Npz, ReadsZip64AndCommentsAndFolders) {
  std::vector<LoadedTensor> tensors = load_npz(golden("zip64.npz"));
  ASSERT_EQ(tensors.size(), 1u);
  expect_pattern(find(tensors, "a").tensor, Dtype::kFloat32, {2, 3});
  tensors = load_npz(golden("comment.npz"));
  ASSERT_EQ(tensors.size(), 1u);
  expect_pattern(find(tensors, "\u00e9").tensor, Dtype::kFloat32, {2, 3});
}

TEST(Npz, RoundTripOfEveryDtype) {
  TempDir dir;
  std::vector<std::string> data;
  std::vector<NamedTensor> tensors;
  data.reserve(100);
  for (int i = 0; i < kNumDtypes; ++i) {
    for (const Shape& shape : {Shape{}, Shape{0}, Shape{7}, Shape{30, 5, 20}}) {
      const auto dtype = static_cast<Dtype>(i);
      data.push_back(pattern(dtype, shape));
      tensors.push_back({std::string(dtype_name(dtype)) + "\u00e9" + to_string(shape),
                         {dtype, shape, false, as_span(data.back())}});
    }
  }
  size_t stored_bytes = 0;
  for (bool compressed : {false, true}) {
    save_npz(dir / "x", tensors, compressed);
    const std::vector<LoadedTensor> loaded = load_npz(dir / "x");
    ASSERT_EQ(loaded.size(), tensors.size());
    for (const NamedTensor& t : tensors)
      expect_pattern(find(loaded, t.name).tensor, t.tensor.dtype, t.tensor.shape);
    const size_t bytes = read_bytes(dir / "x").size();
    if (compressed) { EXPECT_LT(2 * bytes, stored_bytes); }
    stored_bytes = bytes;
  }
}

TEST(Npz, ManyTensorsNeedAZip64Directory) {
  TempDir dir;
  std::vector<NamedTensor> tensors;
  const std::string data = pattern(Dtype::kInt16, {3});
  for (int i = 0; i < 66000; ++i)
    tensors.push_back({std::to_string(i), {Dtype::kInt16, {3}, false, as_span(data)}});
  save_npz(dir / "x", tensors, false);
  const std::vector<LoadedTensor> loaded = load_npz(dir / "x");
  ASSERT_EQ(loaded.size(), tensors.size());
  EXPECT_EQ(loaded[65999].name, "65999");
  expect_pattern(loaded[65999].tensor, Dtype::kInt16, {3});
}

TEST(Npz, LargeDataSpansManyBuffers) {
  TempDir dir;
  // Partly random, so that neither deflate's output nor its input fits one pump.
  std::mt19937 rng(3);
  std::string data(3'000'000, '\0');
  for (size_t i = 0; i < data.size(); i += 1 + i / 500'000) data[i] = static_cast<char>(rng());
  for (bool compressed : {false, true}) {
    save_npz(dir / "x", {{"t", {Dtype::kUInt8, {3'000'000}, false, as_span(data)}}}, compressed);
    EXPECT_EQ(as_string(load_npz(dir / "x")[0].tensor.bytes), data);
  }
}

TEST(Npz, EmptyArchive) {
  TempDir dir;
  save_npz(dir / "x", {}, true);
  EXPECT_EQ(read_bytes(dir / "x").size(), 22u);
  EXPECT_TRUE(load_npz(dir / "x").empty());
}

TEST(Npz, WriterRefusesBeforeItWrites) {
  TempDir dir;
  const NamedTensor tensor{"a", {Dtype::kInt8, {0}, false, {}}};
  EXPECT_EQ(message_of<ValueError>([&] {
              save_npz(dir / "x", {tensor, tensor}, false);
            }),
            "[npz] the name 'a' is taken");
  NamedTensor other = tensor;
  other.name = "\xff";
  EXPECT_THROW(save_npz(dir / "x", {other}, false), ValueError);
  other.name = std::string(70000, 'n');
  EXPECT_EQ(message_of<ValueError>([&] { save_npz(dir / "x", {other}, false); }),
            "[zip] a name of 70004 bytes, at most 65535 fit");
  EXPECT_EQ(dir.entries(), 0u);
}

// One entry of an archive made by hand; the fields may lie.
struct RawEntry {
  std::string name = "a.npy";
  std::string data = npy_header({Dtype::kUInt8, {4}, false, {}}) + "1234";
  uint16_t flags = 0, method = 0;
  int64_t bytes = -1, compressed_bytes = -1, header_begin = -1;
  int64_t crc = -1;
  std::string local_name;
};

std::string make_archive(std::vector<RawEntry> entries) {
  std::string body, directory;
  for (RawEntry& e : entries) {
    if (e.crc < 0)
      e.crc = static_cast<int64_t>(crc32_z(0, reinterpret_cast<const Bytef*>(e.data.data()), e.data.size()));
    if (e.bytes < 0) e.bytes = static_cast<int64_t>(e.data.size());
    if (e.compressed_bytes < 0) e.compressed_bytes = static_cast<int64_t>(e.data.size());
    if (e.header_begin < 0) e.header_begin = static_cast<int64_t>(body.size());
    if (e.local_name.empty()) e.local_name = e.name;
    zip::put(body, zip::kLocalSignature);
    for (uint16_t v : {uint16_t{20}, e.flags, e.method, uint16_t{0}, uint16_t{0}}) zip::put(body, v);
    for (int64_t v : {e.crc, e.compressed_bytes, e.bytes}) zip::put(body, static_cast<uint32_t>(v));
    zip::put(body, static_cast<uint16_t>(e.local_name.size()));
    zip::put(body, uint16_t{0});
    body += e.local_name + e.data;
    zip::put(directory, zip::kDirectorySignature);
    for (uint16_t v : {uint16_t{20}, uint16_t{20}, e.flags, e.method, uint16_t{0}, uint16_t{0}})
      zip::put(directory, v);
    for (int64_t v : {e.crc, e.compressed_bytes, e.bytes}) zip::put(directory, static_cast<uint32_t>(v));
    zip::put(directory, static_cast<uint16_t>(e.name.size()));
    directory.append(8 + 4, '\0');
    zip::put(directory, static_cast<uint32_t>(e.header_begin));
    directory += e.name;
  }
  std::string end;
  zip::put(end, zip::kEndSignature);
  zip::put(end, uint32_t{0});
  for (int i = 0; i < 2; ++i) zip::put(end, static_cast<uint16_t>(entries.size()));
  zip::put(end, static_cast<uint32_t>(directory.size()));
  zip::put(end, static_cast<uint32_t>(body.size()));
  zip::put(end, uint16_t{0});
  return body + directory + end;
}

std::vector<LoadedTensor> read(const std::string& archive) { return read_npz(as_span(archive), "f"); }
std::string refusal(const std::vector<RawEntry>& entries) {
  return message_of<ValueError>([&] { read(make_archive(entries)); });
}

std::string deflated(const std::string& data) {
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(data.size() + 100, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

RawEntry deflated_entry(int64_t bytes_more = 0) {
  RawEntry entry;
  entry.method = 8;
  entry.crc =
      static_cast<int64_t>(crc32_z(0, reinterpret_cast<const Bytef*>(entry.data.data()), entry.data.size()));
  entry.bytes = static_cast<int64_t>(entry.data.size()) + bytes_more;
  entry.data = deflated(entry.data);
  return entry;
}

TEST(Zip, HandMadeArchivesAreRead) {
  EXPECT_EQ(as_string(read(make_archive({RawEntry{}}))[0].tensor.bytes), "1234");
  EXPECT_EQ(as_string(read(make_archive({deflated_entry()}))[0].tensor.bytes), "1234");
}

TEST(Zip, DamagedContentsAreRefused) {
  RawEntry bad_crc;
  bad_crc.crc = 1;
  const std::string start = "[zip] 'f': entry 'a.npy' is damaged: CRC ", finish = ", wanted 00000001";
  EXPECT_EQ(refusal({bad_crc}).substr(0, start.size()), start);
  EXPECT_EQ(refusal({bad_crc}).substr(start.size() + 8), finish);
  EXPECT_EQ(refusal({deflated_entry(1)}), "[zip] 'f': entry 'a.npy' inflates to fewer bytes than it says");
  EXPECT_EQ(refusal({deflated_entry(-1)}), "[zip] 'f': entry 'a.npy' inflates to more bytes than it says");
  RawEntry cut = deflated_entry();
  cut.data.resize(cut.data.size() - 3);
  EXPECT_EQ(refusal({cut}), "[zip] 'f': entry 'a.npy' is cut short");
  RawEntry noise = deflated_entry();
  noise.data[0] = static_cast<char>(0xff);
  EXPECT_EQ(refusal({noise}), "[zip] 'f': entry 'a.npy' is damaged");
  RawEntry longer = deflated_entry();
  longer.data += "xx";
  EXPECT_EQ(refusal({longer}), "[zip] 'f': entry 'a.npy' has bytes after its end");
}

TEST(Zip, BombsAreRefusedBeforeMemoryIsTaken) {
  RawEntry bomb = deflated_entry();
  bomb.bytes = 0xfffffff0;
  const size_t peak = get_peak_memory();
  EXPECT_EQ(refusal({bomb}), "[zip] 'f': entry 'a.npy' says that its " + std::to_string(bomb.data.size()) +
                                 " bytes become 4294967280, which cannot be");
  RawEntry stored;
  stored.bytes = 100;
  EXPECT_NE(refusal({stored}).find("which cannot be"), std::string::npos);
  EXPECT_EQ(get_peak_memory(), peak);
}

TEST(Zip, OverlappingEntriesAreRefused) {
  RawEntry second;
  second.name = "b.npy";
  second.header_begin = 0;
  second.local_name = "a.npy";
  EXPECT_EQ(refusal({RawEntry{}, second}),
            "[zip] 'f': the local header of entry 'b.npy' does not agree with the directory");
  // An entry whose stored bytes hold another entry.
  RawEntry inner;
  inner.name = "b.npy";
  const std::string inner_archive = make_archive({inner});
  RawEntry outer;
  outer.data = inner_archive.substr(0, 30 + 5 + inner.data.size());
  inner.header_begin = 30 + 5;
  EXPECT_EQ(refusal({outer, inner}), "[zip] 'f': entry 'b.npy' overlaps another");
}

TEST(Zip, FeaturesWeLackAreNamed) {
  RawEntry encrypted;
  encrypted.flags = 1;
  EXPECT_EQ(refusal({encrypted}), "[zip] 'f': entry 'a.npy' is encrypted");
  RawEntry lzma;
  lzma.method = 14;
  EXPECT_EQ(refusal({lzma}),
            "[zip] 'f': entry 'a.npy' has compression method 14, known are 0 (stored) and 8 (deflated)");
  RawEntry other;
  other.name = "readme.txt";
  EXPECT_EQ(refusal({other}), "[npz] 'f': entry 'readme.txt' is no array: its name does not end in .npy");
  other.name = "\xff.npy";
  EXPECT_EQ(refusal({other}), "[zip] 'f': the name of the entry at 167 is not UTF-8");
  EXPECT_EQ(refusal({RawEntry{}, RawEntry{}}), "[zip] 'f': the name 'a.npy' repeats");
  RawEntry pickled;
  pickled.data = "not an array";
  EXPECT_EQ(refusal({pickled}), "[npy] 'f/a.npy': not an npy file: it does not start with \\x93NUMPY");
}

TEST(Zip, PlacesAreChecked) {
  RawEntry beyond;
  beyond.header_begin = 5000;
  EXPECT_NE(refusal({beyond}).find("a local header at 5000 needs 30 bytes"), std::string::npos);
  RawEntry huge;
  huge.bytes = huge.compressed_bytes = 100000;
  EXPECT_NE(refusal({huge}).find("an entry at 35 needs 100000 bytes"), std::string::npos);
  const std::string good = make_archive({RawEntry{}});
  const auto message = [](const std::string& archive) {
    return message_of<ValueError>([&] { read(archive); });
  };
  EXPECT_EQ(message("x" + good).substr(0, 40), "[zip] 'f': the directory should be 51 by");
  EXPECT_EQ(message(""), "[zip] 'f': wanted at least 22 bytes, got 0");
  EXPECT_EQ(message(std::string(100, 'x')), "[zip] 'f': not a zip archive, or cut short: no end record");
  std::string counted = good;
  counted[counted.size() - 12] = 2;
  EXPECT_EQ(message(counted), "[zip] 'f': the directory has 1 entries, its end says 2");
}

TEST(Npz, EveryTruncationIsRefused) {
  for (const char* name : {"stored.npz", "deflated.npz", "zip64.npz"}) {
    expect_truncations_refused(read_bytes(golden(name)), [](auto bytes) { read_npz(bytes, "f"); });
  }
}

TEST(Npz, DamageIsHarmless) {
  for (const char* name : {"stored.npz", "deflated.npz", "zip64.npz", "comment.npz"}) {
    expect_mutations_harmless(read_bytes(golden(name)), 23, 4000, [](auto bytes) {
      for (const LoadedTensor& t : read_npz(bytes, "f")) {
        ASSERT_EQ(t.tensor.bytes.size(), tensor_bytes(t.tensor.dtype, t.tensor.shape));
      }
    });
  }
}

}  // namespace
}  // namespace lamina
