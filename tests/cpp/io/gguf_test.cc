#include "io/gguf.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "io_test_util.h"
#include "lamina/memory.h"
#include "quant/formats.h"
#include "quant/gguf_blocks.h"

namespace lamina {
namespace {

using namespace io_test;

void append_text(std::string& out, const std::string& text) {
  append(out, uint64_t{text.size()});
  out += text;
}

// The parts of a file, to be bent one at a time.
struct Image {
  std::string magic = "GGUF";
  uint32_t version = 3;
  uint64_t tensors = 0, values = 0;
  std::string body, data;

  Image& value(const std::string& name, uint32_t type, const std::string& bytes) {
    append_text(body, name);
    append(body, type);
    body += bytes;
    ++values;
    return *this;
  }
  // `lengths` innermost first, as files have them.
  Image& tensor(const std::string& name, const std::vector<uint64_t>& lengths, uint32_t type,
                uint64_t offset) {
    append_text(body, name);
    append(body, static_cast<uint32_t>(lengths.size()));
    for (uint64_t d : lengths) append(body, d);
    append(body, type);
    append(body, offset);
    ++tensors;
    return *this;
  }
  std::string bytes(size_t alignment = 32) const {
    std::string out = magic;
    append(out, version);
    append(out, tensors);
    append(out, values);
    out += body;
    if (!data.empty()) out.resize((out.size() + alignment - 1) / alignment * alignment, '\0');
    return out + data;
  }
};

template <class T>
std::string raw(T value) {
  std::string out;
  append(out, value);
  return out;
}

GgufHeader parse(const std::string& image) { return parse_gguf(as_span(image), "f"); }

std::string refusal(const std::string& image) {
  const std::string message = message_of<ValueError>([&] { parse(image); });
  const std::string prefix = "[gguf] 'f': ";
  EXPECT_EQ(message.substr(0, prefix.size()), prefix);
  return message.substr(std::min(prefix.size(), message.size()));
}
std::string refusal(const Image& image) { return refusal(image.bytes()); }

const LoadedGgufTensor& find(const LoadedGguf& file, const std::string& name) {
  auto it = std::find_if(file.tensors.begin(), file.tensors.end(),
                         [&](const auto& t) { return t.loaded.name == name; });
  EXPECT_NE(it, file.tensors.end()) << name;
  return *it;
}

const GgufValue& value_of(const GgufMetadata& metadata, const std::string& name) {
  auto it = std::find_if(metadata.begin(), metadata.end(), [&](const auto& p) { return p.first == name; });
  EXPECT_NE(it, metadata.end()) << name;
  return it->second;
}

template <class T>
void expect_number(const GgufMetadata& metadata, const std::string& name, Dtype dtype, T value) {
  const auto* number = std::get_if<GgufNumbers>(&value_of(metadata, name).value);
  ASSERT_NE(number, nullptr) << name;
  EXPECT_EQ(number->dtype, dtype) << name;
  EXPECT_FALSE(number->array) << name;
  EXPECT_EQ(number->bytes, raw(value)) << name;
}

class GgufMode : public testing::TestWithParam<LoadMode> {};
INSTANTIATE_TEST_SUITE_P(Modes, GgufMode, testing::Values(LoadMode::kMap, LoadMode::kCopy));

TEST_P(GgufMode, ReadsWhatTheReferenceWrites) {
  const LoadedGguf file = load_gguf(golden("kinds.gguf"), GetParam());
  const GgufMetadata& m = file.metadata;
  EXPECT_EQ(m.size(), 18u);
  EXPECT_EQ(std::get<std::string>(value_of(m, "general.architecture").value), "test");
  expect_number(m, "n.uint8", Dtype::kUInt8, uint8_t{200});
  expect_number(m, "n.int8", Dtype::kInt8, int8_t{-100});
  expect_number(m, "n.uint16", Dtype::kUInt16, uint16_t{60000});
  expect_number(m, "n.int16", Dtype::kInt16, int16_t{-30000});
  expect_number(m, "n.uint32", Dtype::kUInt32, uint32_t{4000000000});
  expect_number(m, "n.int32", Dtype::kInt32, int32_t{-2000000000});
  expect_number(m, "n.uint64", Dtype::kUInt64, (uint64_t{1} << 63) + 1);
  expect_number(m, "n.int64", Dtype::kInt64, -(int64_t{1} << 62));
  expect_number(m, "n.float32", Dtype::kFloat32, 0.25F);
  expect_number(m, "n.float64", Dtype::kFloat64, 0.1);
  expect_number(m, "n.bool", Dtype::kBool, uint8_t{1});
  EXPECT_EQ(std::get<std::string>(value_of(m, "text").value), "caf\u00e9 \"quoted\"\n");
  const auto& bools = std::get<GgufNumbers>(value_of(m, "list.bool").value);
  EXPECT_TRUE(bools.array);
  EXPECT_EQ(bools.bytes, std::string("\1\0\1", 3));
  EXPECT_EQ(std::get<GgufNumbers>(value_of(m, "list.int32").value).bytes,
            raw(int32_t{1}) + raw(int32_t{-2}) + raw(int32_t{3}));
  EXPECT_EQ(std::get<std::vector<std::string>>(value_of(m, "list.text").value),
            (std::vector<std::string>{"a", "", "\u4e16"}));
  const auto& lists = std::get<std::vector<GgufValue>>(value_of(m, "list.list").value);
  ASSERT_EQ(lists.size(), 3u);
  EXPECT_EQ(std::get<GgufNumbers>(lists[1].value).bytes, raw(int32_t{3}));
  for (Dtype dtype : {Dtype::kFloat32, Dtype::kFloat16, Dtype::kBFloat16, Dtype::kFloat64, Dtype::kInt8,
                      Dtype::kInt16, Dtype::kInt32, Dtype::kInt64}) {
    expect_pattern(find(file, "t." + std::string(dtype_name(dtype))).loaded.tensor, dtype, {2, 3});
  }
  expect_pattern(find(file, "four").loaded.tensor, Dtype::kFloat32, {2, 1, 3, 2});
  expect_pattern(find(file, "vector").loaded.tensor, Dtype::kFloat32, {5});
}

TEST_P(GgufMode, BlocksComeAsTheyAreStored) {
  const std::string image = read_bytes(golden("blocks.gguf"));
  const GgufHeader header = parse_gguf(as_span(image), "f");
  const LoadedGguf file = load_gguf(golden("blocks.gguf"), GetParam());
  ASSERT_EQ(file.tensors.size(), kGgufBlockTypes.size());
  for (size_t i = 0; i < kGgufBlockTypes.size(); ++i) {
    const BlockFormat& block = block_format(kGgufBlockTypes[i].format);
    const LoadedGgufTensor& t = find(file, std::string(block.name));
    EXPECT_EQ(t.blocks, kGgufBlockTypes[i].format);
    EXPECT_EQ(t.loaded.tensor.dtype, Dtype::kUInt8);
    EXPECT_EQ(t.loaded.tensor.shape, (Shape{2, block.row_bytes(256)}));
    const GgufEntry& entry = header.tensors[i];
    EXPECT_EQ(entry.shape, (Shape{2, 256}));
    EXPECT_EQ(as_string(t.loaded.tensor.bytes), image.substr(entry.begin, entry.bytes));
  }
}

TEST_P(GgufMode, TensorsKeepTheirStorageAlive) {
  const size_t adopted = adopted_bytes();
  LoadedGguf file = load_gguf(golden("kinds.gguf"), GetParam());
  const LoadedTensor kept = find(file, "t.float32").loaded;
  file.tensors.clear();
  expect_pattern(kept.tensor, Dtype::kFloat32, {2, 3});
  EXPECT_EQ(kept.storage->adopted(), GetParam() == LoadMode::kMap);
  EXPECT_EQ(adopted_bytes() > adopted, GetParam() == LoadMode::kMap);
}

TEST_P(GgufMode, FileErrorsAreTyped) {
  TempDir dir;
  EXPECT_THROW(load_gguf(dir / "none", GetParam()), IoError);
  for (const char* text : {"", "GGU", "GGUF", "nonsense of some length that is no file"}) {
    write_bytes(dir / "x", text);
    EXPECT_THROW(load_gguf(dir / "x", GetParam()), ValueError);
  }
}

TEST_P(GgufMode, HeadersLongerThanOneReadAreRead) {
  TempDir dir;
  std::vector<std::string> texts;
  for (int i = 0; i < 300000; ++i) texts.push_back("token " + std::to_string(i));
  GgufNumbers numbers{Dtype::kFloat32, true, std::string(size_t{3} << 20, '\1')};
  const std::string data = pattern(Dtype::kFloat32, {5});
  save_gguf(dir / "x", {{{"t", {Dtype::kFloat32, {5}, false, as_span(data)}}, {}}},
            {{"texts", {texts}}, {"numbers", {numbers}}});
  const LoadedGguf file = load_gguf(dir / "x", GetParam());
  EXPECT_EQ(std::get<std::vector<std::string>>(value_of(file.metadata, "texts").value), texts);
  EXPECT_EQ(std::get<GgufNumbers>(value_of(file.metadata, "numbers").value).bytes, numbers.bytes);
  expect_pattern(find(file, "t").loaded.tensor, Dtype::kFloat32, {5});
}

// The tensors of a loaded file as a writer takes them.
std::vector<NamedGgufTensor> writable(const LoadedGguf& file) {
  std::vector<NamedGgufTensor> out;
  for (const LoadedGgufTensor& t : file.tensors) out.push_back({{t.loaded.name, t.loaded.tensor}, t.blocks});
  return out;
}

TEST(Gguf, WritesWhatTheReferenceWrites) {
  TempDir dir;
  for (const char* name : {"kinds.gguf", "blocks.gguf"}) {
    const LoadedGguf file = load_gguf(golden(name));
    save_gguf(dir / "x", writable(file), file.metadata);
    EXPECT_EQ(read_bytes(dir / "x"), read_bytes(golden(name))) << name;
  }
  EXPECT_EQ(dir.entries(), 1u);
}

TEST(Gguf, AlignmentIsKept) {
  TempDir dir;
  const std::string a = pattern(Dtype::kInt8, {3}), b = pattern(Dtype::kFloat64, {2});
  save_gguf(dir / "x",
            {{{"a", {Dtype::kInt8, {3}, false, as_span(a)}}, {}},
             {{"b", {Dtype::kFloat64, {2}, false, as_span(b)}}, {}}},
            {{"general.alignment", {GgufNumbers{Dtype::kUInt32, false, raw(uint32_t{512})}}}});
  const GgufHeader header = parse(read_bytes(dir / "x"));
  for (const GgufEntry& t : header.tensors) EXPECT_EQ(t.begin % 512, 0u);
  expect_pattern(find(load_gguf(dir / "x"), "b").loaded.tensor, Dtype::kFloat64, {2});
}

TEST(Gguf, UnalignedTensorsAreCopied) {
  Image image;
  image.value("general.alignment", 4, raw(uint32_t{1}));
  image.tensor("a", {3}, 24, 0).tensor("b", {2}, 0, 3);
  image.data = pattern(Dtype::kInt8, {3}) + pattern(Dtype::kFloat32, {2});
  const std::string bytes = image.bytes(1);
  BufferRef storage = allocate(bytes.size());
  std::memcpy(storage->data(), bytes.data(), bytes.size());
  const LoadedGguf file =
      read_gguf({static_cast<const std::byte*>(storage->data()), bytes.size()}, storage, "f");
  expect_pattern(find(file, "a").loaded.tensor, Dtype::kInt8, {3});
  expect_pattern(find(file, "b").loaded.tensor, Dtype::kFloat32, {2});
}

TEST(Gguf, EmptyAndScalarTensors) {
  TempDir dir;
  const std::string one = pattern(Dtype::kFloat32, {});
  save_gguf(dir / "x", {{{"e", {Dtype::kFloat32, {0, 3}, false, {}}}, {}},
                        {{"s", {Dtype::kFloat32, {}, false, as_span(one)}}, {}},
                        {{"q", {Dtype::kUInt8, {0, 18}, false, {}}}, QuantFormat::kQ4_0}});
  const LoadedGguf file = load_gguf(dir / "x");
  expect_pattern(find(file, "e").loaded.tensor, Dtype::kFloat32, {0, 3});
  expect_pattern(find(file, "s").loaded.tensor, Dtype::kFloat32, {});
  EXPECT_EQ(find(file, "q").loaded.tensor.shape, (Shape{0, 18}));
  save_gguf(dir / "none", {});
  EXPECT_TRUE(load_gguf(dir / "none").tensors.empty());
}

TEST(Gguf, StartIsChecked) {
  Image image;
  EXPECT_NO_THROW(parse(image.bytes()));
  image.version = 2;
  EXPECT_NO_THROW(parse(image.bytes()));
  image.version = 1;
  EXPECT_EQ(refusal(image), "GGUF version 1, known are 2 and 3");
  image.version = 3U << 24;
  EXPECT_EQ(refusal(image), "a big-endian file, wanted a little-endian one");
  image.magic = "GGML";
  EXPECT_EQ(refusal(image), "not a GGUF file: it does not start with GGUF");
  EXPECT_EQ(refusal(std::string("GGUF\3\0\0", 7)), "the version at 4 needs 4 bytes, the file ends at 7");
}

TEST(Gguf, CountsAreHeldAgainstTheBytes) {
  Image image;
  image.values = uint64_t{1} << 62;
  EXPECT_EQ(refusal(image), "4611686018427387904 metadata values need at least 13 bytes each, 0 are left");
  image.values = 0;
  image.tensors = 3;
  EXPECT_EQ(refusal(image), "3 tensors need at least 24 bytes each, 0 are left");
  const std::string huge = raw(uint64_t{1} << 61);
  EXPECT_EQ(refusal(Image().value("k", 9, raw(uint32_t{12}) + huge)),
            "2305843009213693952 array elements need at least 8 bytes each, 0 are left");
  EXPECT_EQ(refusal(Image().value("k", 9, raw(uint32_t{8}) + huge)),
            "2305843009213693952 array elements need at least 8 bytes each, 0 are left");
  EXPECT_EQ(refusal(Image().value("k", 9, raw(uint32_t{9}) + huge)),
            "2305843009213693952 array elements need at least 12 bytes each, 0 are left");
  EXPECT_EQ(refusal(Image().value("k", 8, raw(~uint64_t{0}))),
            "a metadata text at 45 needs 18446744073709551615 bytes, the file ends at 45");
}

TEST(Gguf, MetadataIsChecked) {
  EXPECT_EQ(refusal(Image().value("k", 13, "12345678")), "metadata 'k' has the unknown type 13");
  EXPECT_EQ(refusal(Image().value("k", 9, raw(uint32_t{99}) + raw(uint64_t{0}))),
            "metadata 'k' is an array of the unknown type 99");
  EXPECT_EQ(refusal(Image().value("k", 7, "\2")), "metadata 'k' holds a bool that is neither 0 nor 1");
  EXPECT_EQ(refusal(Image().value("k", 0, "1").value("k", 0, "1")), "metadata 'k' repeats");
  EXPECT_EQ(refusal(Image().value("\xff", 0, "1")), "a metadata name at 24 is not UTF-8");
  std::string nested = raw(uint32_t{9});
  for (int i = 0; i < 9; ++i) nested += raw(uint64_t{1}) + raw(uint32_t{9});
  EXPECT_EQ(refusal(Image().value("k", 9, nested + raw(uint64_t{0}))),
            "metadata 'k' nests more than 8 arrays");
}

TEST(Gguf, AlignmentIsChecked) {
  const auto with = [](uint32_t alignment) { return Image().value("general.alignment", 4, raw(alignment)); };
  EXPECT_NO_THROW(parse(with(64).bytes()));
  EXPECT_EQ(refusal(with(0)), "general.alignment is 0, wanted a power of two up to 1048576");
  EXPECT_EQ(refusal(with(48)), "general.alignment is 48, wanted a power of two up to 1048576");
  EXPECT_EQ(refusal(with(1U << 31)), "general.alignment is 2147483648, wanted a power of two up to 1048576");
  EXPECT_EQ(refusal(Image().value("general.alignment", 10, raw(uint64_t{32}))),
            "general.alignment is no uint32");
}

TEST(Gguf, ShapesAreChecked) {
  const auto of = [](const std::vector<uint64_t>& lengths, uint32_t type) {
    Image image;
    image.tensor("t", lengths, type, 0);
    image.data = std::string(64, '\0');
    return image;
  };
  EXPECT_NO_THROW(parse(of({4, 2, 2}, 0).bytes()));
  EXPECT_EQ(refusal(of({17}, 0)), "tensor 't' has 68 bytes at 0 of the data, which has 64 bytes");
  EXPECT_EQ(refusal(of({uint64_t{1} << 63}, 0)), "tensor 't' has an axis of 9223372036854775808 elements");
  EXPECT_EQ(refusal(of({uint64_t{1} << 32, uint64_t{1} << 32}, 24)),
            "tensor 't' of shape (4294967296, 4294967296) has more bytes than 63 bits can count");
  EXPECT_EQ(refusal(of({uint64_t{1} << 61}, 28)),
            "tensor 't' of shape (2305843009213693952,) has more bytes than 63 bits can count");
  EXPECT_NO_THROW(parse(of({0, uint64_t{1} << 62, uint64_t{1} << 62}, 28).bytes()));
  EXPECT_EQ(refusal(of({16}, 2)),
            "tensor 't' of shape (16,) has rows that are no whole blocks of 32 elements (q4_0)");
  EXPECT_EQ(refusal(of({}, 12)),
            "tensor 't' of shape () has rows that are no whole blocks of 256 elements (q4_k)");
  EXPECT_EQ(refusal(of(std::vector<uint64_t>(9, 1), 0)), "tensor 't' has 9 axes, wanted at most 8");
}

TEST(Gguf, TypesThatAreNotReadAreNamed) {
  EXPECT_EQ(refusal(Image().tensor("t", {256}, 16, 0)),
            "tensor 't' has type IQ2_XXS (16), which lamina does not read");
  EXPECT_EQ(refusal(Image().tensor("t", {256}, 4, 0)), "tensor 't' has the unknown type 4");
  EXPECT_EQ(refusal(Image().tensor("t", {256}, 4000, 0)), "tensor 't' has the unknown type 4000");
}

TEST(Gguf, PlacesAreChecked) {
  const auto two = [](uint64_t a, uint64_t b) {
    Image image;
    image.tensor("a", {10}, 0, a).tensor("b", {8}, 0, b);
    image.data = std::string(96, '\0');
    return image;
  };
  EXPECT_NO_THROW(parse(two(0, 64).bytes()));
  EXPECT_NO_THROW(parse(two(32, 0).bytes()));
  EXPECT_EQ(refusal(two(0, 32)), "tensors 'a' and 'b' overlap");
  EXPECT_EQ(refusal(two(32, 64)), "tensors 'a' and 'b' overlap");
  EXPECT_EQ(refusal(two(0, 0)).substr(0, 7), "tensors");
  EXPECT_EQ(refusal(two(0, 4)), "tensor 'b' starts at 4 of the data, no multiple of the alignment 32");
  EXPECT_EQ(refusal(two(0, 96)), "tensor 'b' has 32 bytes at 96 of the data, which has 96 bytes");
  EXPECT_EQ(refusal(two(0, ~uint64_t{31})),
            "tensor 'b' has 32 bytes at 18446744073709551584 of the data, which has 96 bytes");
  EXPECT_EQ(refusal(Image().tensor("a", {1}, 0, 0).tensor("a", {1}, 0, 0)), "the tensor name 'a' repeats");
}

TEST(Gguf, WriterRefusesBeforeItWrites) {
  TempDir dir;
  write_bytes(dir / "x", "old");
  const std::string data(36, '\0');
  const auto tensor = [&](const std::string& name, Dtype dtype = Dtype::kFloat32, const Shape& shape = {9},
                          std::optional<QuantFormat> blocks = {}) {
    return NamedGgufTensor{{name, {dtype, shape, false, as_span(data)}}, blocks};
  };
  const auto message = [&](const std::vector<NamedGgufTensor>& tensors, const GgufMetadata& metadata = {}) {
    return message_of<ValueError>([&] { save_gguf(dir / "x", tensors, metadata); });
  };
  const GgufNumbers number{Dtype::kUInt8, false, "1"};
  EXPECT_EQ(message({tensor("a"), tensor("a")}), "[save_gguf] the tensor's name 'a' is taken");
  EXPECT_EQ(message({tensor("\xff")}), "[save_gguf] a tensor's name is not UTF-8: '\xff'");
  EXPECT_EQ(
      message({tensor("a", Dtype::kUInt32)}),
      "[save_gguf] tensor 'a' has dtype uint32; GGUF has float16, bfloat16, float32, float64, int8, int16, "
      "int32 and int64");
  EXPECT_EQ(message({tensor("a", Dtype::kFloat32, {1, 1, 1, 1, 1, 1, 1, 1, 9})}),
            "[save_gguf] tensor 'a' of shape (1, 1, 1, 1, 1, 1, 1, 1, 9) has more than 8 axes");
  EXPECT_EQ(
      message({tensor("a", Dtype::kUInt8, {36}, QuantFormat::kQ8_0)}),
      "[save_gguf] tensor 'a' of type q8_0 wants uint8 rows of whole blocks of 34 bytes, got (36,) of uint8");
  EXPECT_EQ(message({tensor("a", Dtype::kFloat32, {9}, QuantFormat::kQ4_0)}),
            "[save_gguf] tensor 'a' of type q4_0 wants uint8 rows of whole blocks of 18 bytes, got (9,) of "
            "float32");
  EXPECT_EQ(message({}, {{"k", {number}}, {"k", {number}}}),
            "[save_gguf] the metadata value's name 'k' is taken");
  EXPECT_EQ(message({}, {{"k", {GgufNumbers{Dtype::kFloat16, false, "12"}}}}),
            "[save_gguf] metadata 'k' wants bool, integers, float32 or float64, got float16");
  EXPECT_EQ(message({}, {{"k", {std::vector<GgufValue>{{number}}}}}),
            "[save_gguf] metadata 'k' wants a list of texts or a list of lists and 1-d arrays");
  EXPECT_EQ(message({}, {{"general.alignment", {number}}}),
            "[save_gguf] general.alignment must be a uint32, a power of two up to 1048576");
  EXPECT_EQ(read_bytes(dir / "x"), "old");
  EXPECT_EQ(dir.entries(), 1u);
}

// A golden file without the padding after its last tensor, which no reader needs.
std::string without_padding(const std::string& image) {
  size_t end = 0;
  for (const GgufEntry& t : parse_gguf(as_span(image), "f").tensors) end = std::max(end, t.begin + t.bytes);
  return image.substr(0, end);
}

TEST(Gguf, EveryTruncationIsRefused) {
  for (const char* name : {"kinds.gguf", "blocks.gguf"}) {
    expect_truncations_refused(without_padding(read_bytes(golden(name))),
                               [](auto bytes) { parse_gguf(bytes, "f"); });
  }
}

TEST(Gguf, DamageIsHarmless) {
  for (const char* name : {"kinds.gguf", "blocks.gguf"}) {
    expect_mutations_harmless(read_bytes(golden(name)), 37, 6000, [](auto bytes) {
      for (const GgufEntry& t : parse_gguf(bytes, "f").tensors) {
        ASSERT_LE(t.bytes, bytes.size());
        ASSERT_LE(t.begin, bytes.size() - t.bytes);
      }
    });
  }
}

}  // namespace
}  // namespace lamina
