#include "io/safetensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "io_test_util.h"
#include "lamina/memory.h"

namespace lamina {
namespace {

using namespace io_test;

std::string image_of(const std::string& json, const std::string& data) {
  std::string image;
  append(image, static_cast<uint64_t>(json.size()));
  return image + json + data;
}

SafetensorsHeader parse(const std::string& image) { return parse_safetensors(as_span(image), "f"); }

std::string refusal(const std::string& json, const std::string& data) {
  const std::string message = message_of<ValueError>([&] { parse(image_of(json, data)); });
  const std::string prefix = "[safetensors] 'f': ";
  EXPECT_EQ(message.substr(0, prefix.size()), prefix);
  return message.substr(std::min(prefix.size(), message.size()));
}

const LoadedTensor& find(const LoadedSafetensors& file, const std::string& name) {
  auto it =
      std::find_if(file.tensors.begin(), file.tensors.end(), [&](const auto& t) { return t.name == name; });
  EXPECT_NE(it, file.tensors.end()) << name;
  return *it;
}

class SafetensorsMode : public testing::TestWithParam<LoadMode> {};
INSTANTIATE_TEST_SUITE_P(Modes, SafetensorsMode, testing::Values(LoadMode::kMap, LoadMode::kCopy));

TEST_P(SafetensorsMode, ReadsEveryDtypeOfTheReferenceWriter) {
  const LoadedSafetensors file = load_safetensors(golden("all.safetensors"), GetParam());
  EXPECT_EQ(file.tensors.size(), static_cast<size_t>(kNumDtypes) + 3);
  for (int i = 0; i < kNumDtypes; ++i) {
    const auto dtype = static_cast<Dtype>(i);
    expect_pattern(find(file, "t." + std::string(dtype_name(dtype))).tensor, dtype, {2, 3});
  }
  expect_pattern(find(file, "empty").tensor, Dtype::kFloat32, {0, 3});
  expect_pattern(find(file, "scalar").tensor, Dtype::kFloat32, {});
  expect_pattern(find(file, "\u00e9\"\\").tensor, Dtype::kInt8, {5});
  const std::map<std::string, std::string> metadata = {{"format", "np"}, {"note", "caf\u00e9 \"quoted\"\n"}};
  EXPECT_EQ(file.metadata, metadata);
}

TEST_P(SafetensorsMode, TensorsKeepTheirStorageAlive) {
  const size_t adopted = adopted_bytes(), active = get_active_memory();
  LoadedSafetensors file = load_safetensors(golden("all.safetensors"), GetParam());
  const LoadedTensor kept = find(file, "t.float32");
  file.tensors.clear();
  expect_pattern(kept.tensor, Dtype::kFloat32, {2, 3});
  EXPECT_EQ(kept.storage->adopted(), GetParam() == LoadMode::kMap);
  EXPECT_EQ(kept.storage->writable(), GetParam() == LoadMode::kCopy);
  EXPECT_EQ(adopted_bytes() > adopted, GetParam() == LoadMode::kMap);
  EXPECT_EQ(get_active_memory() > active, GetParam() == LoadMode::kCopy);
}

TEST_P(SafetensorsMode, UnalignedFilesOfOldWritersAreRead) {
  TempDir dir;
  const std::string json =
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})";
  write_bytes(dir / "x", image_of(json, pattern(Dtype::kUInt8, {1}) + pattern(Dtype::kFloat32, {2})));
  const LoadedSafetensors file = load_safetensors(dir / "x", GetParam());
  expect_pattern(find(file, "a").tensor, Dtype::kUInt8, {1});
  expect_pattern(find(file, "b").tensor, Dtype::kFloat32, {2});
}

TEST_P(SafetensorsMode, BoolsThatAreNeitherAreRefused) {
  TempDir dir;
  write_bytes(dir / "x", image_of(R"({"m":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}})", "\1\2\1"));
  EXPECT_EQ(message_of<ValueError>([&] { load_safetensors(dir / "x", GetParam()); }),
            "[safetensors] '" + (dir / "x") + "': bool tensor 'm' holds the byte 2 at 1, wanted 0 or 1");
}

TEST_P(SafetensorsMode, FileErrorsAreTyped) {
  TempDir dir;
  EXPECT_THROW(load_safetensors(dir / "none", GetParam()), IoError);
  for (const char* text : {"", "\1\2\3", "\xff\xff\xff\xff\xff\xff\xff\xff{}"}) {
    write_bytes(dir / "x", text);
    EXPECT_THROW(load_safetensors(dir / "x", GetParam()), ValueError);
  }
}

TEST_P(SafetensorsMode, RoundTripOfEveryDtype) {
  TempDir dir;
  std::vector<std::string> data;
  std::vector<NamedTensor> tensors;
  data.reserve(100);
  for (int i = 0; i < kNumDtypes; ++i) {
    for (const Shape& shape : {Shape{}, Shape{0}, Shape{7}, Shape{3, 5, 2}}) {
      const auto dtype = static_cast<Dtype>(i);
      data.push_back(pattern(dtype, shape));
      tensors.push_back(
          {std::string(dtype_name(dtype)) + to_string(shape), {dtype, shape, false, as_span(data.back())}});
    }
  }
  const std::map<std::string, std::string> metadata = {{"", "empty"}, {"k\n", "\u00e9"}};
  save_safetensors(dir / "x", tensors, metadata);
  const LoadedSafetensors file = load_safetensors(dir / "x", GetParam());
  EXPECT_EQ(file.tensors.size(), tensors.size());
  EXPECT_EQ(file.metadata, metadata);
  for (const NamedTensor& t : tensors)
    expect_pattern(find(file, t.name).tensor, t.tensor.dtype, t.tensor.shape);
  // Aligned as written: nothing had to be copied.
  if (GetParam() == LoadMode::kMap) {
    for (const LoadedTensor& t : file.tensors) EXPECT_EQ(t.storage, file.tensors[0].storage) << t.name;
  }
}

TEST(Safetensors, WritesWhatTheReferenceWrites) {
  TempDir dir;
  const std::string a = pattern(Dtype::kFloat32, {2, 2}), b = pattern(Dtype::kFloat32, {3}),
                    c = pattern(Dtype::kUInt8, {3});
  save_safetensors(dir / "x",
                   {{"c", {Dtype::kUInt8, {3}, false, as_span(c)}},
                    {"b", {Dtype::kFloat32, {3}, false, as_span(b)}},
                    {"a", {Dtype::kFloat32, {2, 2}, false, as_span(a)}}},
                   {{"k", "v"}});
  EXPECT_EQ(read_bytes(dir / "x"), read_bytes(golden("small.safetensors")));
}

TEST(Safetensors, EmptyFileHasAnEmptyObject) {
  TempDir dir;
  save_safetensors(dir / "x", {});
  EXPECT_EQ(read_bytes(dir / "x"), image_of("{}      ", ""));
  EXPECT_TRUE(load_safetensors(dir / "x").tensors.empty());
}

TEST(Safetensors, WriterRefusesBeforeItWrites) {
  TempDir dir;
  write_bytes(dir / "x", "old");
  const std::string data(12, '\0');
  const auto tensor = [&](const std::string& name) {
    return NamedTensor{name, {Dtype::kFloat32, {3}, false, as_span(data)}};
  };
  const auto message = [&](const std::vector<NamedTensor>& tensors,
                           const std::map<std::string, std::string>& metadata = {}) {
    return message_of<ValueError>([&] { save_safetensors(dir / "x", tensors, metadata); });
  };
  EXPECT_EQ(message({tensor("a"), tensor("a")}), "[safetensors] the name 'a' is taken");
  EXPECT_EQ(message({tensor("__metadata__")}), "[safetensors] the name '__metadata__' is taken");
  EXPECT_EQ(message({tensor("\xff")}), "[safetensors] a tensor's name is not UTF-8: '\xff'");
  EXPECT_EQ(message({tensor("a")}, {{"k", "\xff"}}), "[safetensors] metadata 'k' is not UTF-8");
  NamedTensor columns = tensor("a"), lacking = tensor("a");
  columns.tensor.fortran_order = true;
  EXPECT_EQ(message({columns}), "[safetensors] tensor 'a' must be row-major, got column-major");
  lacking.tensor.shape = {4};
  EXPECT_EQ(message({lacking}),
            "[safetensors] tensor 'a' of shape (4,) and dtype float32 has 16 bytes, got 12");
  EXPECT_EQ(read_bytes(dir / "x"), "old");
  EXPECT_EQ(dir.entries(), 1u);
}

std::string one(const std::string& fields) { return "{\"t\":{" + fields + "}}"; }
std::string two(const std::string& first, const std::string& second) {
  return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + first +
         R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}";
}

TEST(Safetensors, LengthsAreChecked) {
  EXPECT_EQ(message_of<ValueError>([] { parse("1234567"); }),
            "[safetensors] 'f': wanted at least 8 bytes, got 7");
  EXPECT_EQ(message_of<ValueError>([] { parse(image_of("{}", "").substr(0, 9)); }),
            "[safetensors] 'f': a header of 2 bytes, but the file has only 9 bytes");
  std::string image;
  append(image, uint64_t{100'000'001});
  EXPECT_EQ(
      message_of<ValueError>([&] { parse(image); }),
      "[safetensors] 'f': a header of 100000001 bytes, wanted at most 100000000: not a safetensors file?");
}

TEST(Safetensors, OffsetsMustCoverTheData) {
  EXPECT_NO_THROW(parse(image_of(two("[4,8]", "[0,4]"), "12345678")));
  EXPECT_EQ(refusal(two("[0,4]", "[2,6]"), "123456"), "tensor 'b' starts at byte 2 of the data, wanted 4");
  EXPECT_EQ(refusal(two("[0,4]", "[0,4]"), "1234"), "tensor 'b' starts at byte 0 of the data, wanted 4");
  EXPECT_EQ(refusal(two("[0,4]", "[5,9]"), "123456789"), "tensor 'b' starts at byte 5 of the data, wanted 4");
  EXPECT_EQ(refusal(two("[0,4]", "[4,8]"), "1234567"),
            "tensor 'b' ends at byte 8 of the data, which has 7 bytes");
  EXPECT_EQ(refusal(two("[0,4]", "[4,8]"), "123456789"),
            "the tensors end at byte 8 of the data, which has 9 bytes");
  EXPECT_EQ(refusal("{}", "1"), "the tensors end at byte 0 of the data, which has 1 bytes");
}

TEST(Safetensors, ShapesMustFitTheOffsets) {
  const auto message = [](const std::string& shape, const std::string& offsets) {
    return refusal(one("\"dtype\":\"F32\",\"shape\":" + shape + ",\"data_offsets\":" + offsets), "1234");
  };
  EXPECT_EQ(message("[2]", "[0,4]"),
            "tensor 't' of shape (2,) and dtype float32 does not fit data_offsets [0, 4]");
  EXPECT_EQ(message("[]", "[4,0]"),
            "tensor 't' of shape () and dtype float32 does not fit data_offsets [4, 0]");
  EXPECT_EQ(message("[4611686018427387904]", "[0,0]"),
            "tensor 't' of shape (4611686018427387904,) and dtype float32 does not fit data_offsets [0, 0]");
  EXPECT_EQ(message("[4294967296,4294967296,4294967296]", "[0,4]"),
            "tensor 't' of shape (4294967296, 4294967296, 4294967296) and dtype float32 does not fit "
            "data_offsets [0, 4]");
  EXPECT_EQ(message("[1]", "[4]"), "JSON at byte 47: wanted two data_offsets, got 1");
  EXPECT_THROW(parse(image_of(one(R"("dtype":"F32","shape":[-1],"data_offsets":[0,4])"), "1234")),
               ValueError);
}

TEST(Safetensors, EmptyTensorsMayHaveHugeOtherAxes) {
  const std::string json =
      one(R"("dtype":"F64","shape":[4611686018427387904,4611686018427387904,0],"data_offsets":[0,0])");
  EXPECT_EQ(parse(image_of(json, "")).tensors[0].shape.size(), 3u);
}

TEST(Safetensors, NamesMustNotRepeat) {
  const std::string t = R"("t":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  EXPECT_EQ(refusal("{" + t + "," + t + "}", ""), "the name 't' repeats");
  EXPECT_EQ(refusal(R"({"__metadata__":{},"__metadata__":{}})", ""), "the name '__metadata__' repeats");
  EXPECT_EQ(refusal(R"({"__metadata__":{"a":"b","a":"c"}})", ""), "metadata 'a' repeats");
  EXPECT_EQ(refusal(one(R"("dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0])"), ""),
            "tensor 't' has dtype twice");
}

TEST(Safetensors, FieldsMustBeThere) {
  EXPECT_EQ(refusal(one(R"("shape":[0],"data_offsets":[0,0])"), ""), "tensor 't' has no dtype");
  EXPECT_EQ(refusal(one(R"("dtype":"U8","data_offsets":[0,0])"), ""), "tensor 't' has no shape");
  EXPECT_EQ(refusal(one(R"("dtype":"U8","shape":[0])"), ""), "tensor 't' has no data_offsets");
  EXPECT_NO_THROW(parse(image_of(one(R"("x":[{"y":1}],"dtype":"U8","shape":[0],"data_offsets":[0,0])"), "")));
  EXPECT_NO_THROW(parse(image_of(R"({"__metadata__":null})", "")));
}

TEST(Safetensors, UnknownDtypesAreNamed) {
  for (const char* name : {"F8_E5M2", "F4", "C128", "f32", ""}) {
    EXPECT_EQ(
        refusal(one("\"dtype\":\"" + std::string(name) + R"(","shape":[4],"data_offsets":[0,4])"), "1234"),
        "tensor 't' has dtype \"" + std::string(name) +
            "\"; known are BOOL, U8, U16, U32, U64, I8, I16, I32, I64, F16, F32, F64, BF16, C64, "
            "F8_E4M3, F8_E8M0");
  }
}

TEST(Safetensors, EightBitFloatsAreBytes) {
  for (const char* name : {"F8_E4M3", "F8_E8M0"}) {
    const std::string json =
        one("\"dtype\":\"" + std::string(name) + R"(","shape":[4],"data_offsets":[0,4])");
    EXPECT_EQ(parse(image_of(json, "1234")).tensors[0].dtype, Dtype::kUInt8);
  }
}

TEST(Safetensors, HeaderMustBeJsonAndNothingElse) {
  EXPECT_EQ(refusal("[]", ""), "JSON at byte 0: wanted an object, got '['");
  EXPECT_EQ(refusal("{}x", ""), "JSON at byte 2: wanted the end, got 'x'");
  EXPECT_EQ(refusal("", ""), "JSON at byte 0: wanted an object, got the end");
  EXPECT_EQ(refusal(R"({"__metadata__":{"a":1}})", ""), "JSON at byte 21: wanted a string, got '1'");
}

TEST(Safetensors, EveryTruncationIsRefused) {
  for (const char* name : {"small.safetensors", "all.safetensors"}) {
    expect_truncations_refused(read_bytes(golden(name)), [](auto bytes) { parse_safetensors(bytes, "f"); });
  }
}

TEST(Safetensors, DamageIsHarmless) {
  for (const char* name : {"small.safetensors", "all.safetensors"}) {
    expect_mutations_harmless(read_bytes(golden(name)), 11, 6000, [](auto bytes) {
      const SafetensorsHeader header = parse_safetensors(bytes, "f");
      // What was accepted must lie inside the file.
      for (const TensorEntry& t : header.tensors) {
        ASSERT_LE(header.data_begin + t.end, bytes.size());
        ASSERT_EQ(t.end - t.begin, tensor_bytes(t.dtype, t.shape));
      }
    });
  }
}

}  // namespace
}  // namespace lamina
