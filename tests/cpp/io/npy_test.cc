#include "io/npy.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "io_test_util.h"

namespace lamina {
namespace {

using namespace io_test;

class NpyMode : public testing::TestWithParam<LoadMode> {};
INSTANTIATE_TEST_SUITE_P(Modes, NpyMode, testing::Values(LoadMode::kMap, LoadMode::kCopy));

TEST_P(NpyMode, ReadsEveryDtypeOfNumpy) {
  for (int i = 0; i < kNumDtypes; ++i) {
    const auto dtype = static_cast<Dtype>(i);
    const LoadedTensor loaded = load_npy(golden(std::string(dtype_name(dtype)) + ".npy"), GetParam());
    expect_pattern(loaded.tensor, dtype, {2, 3});
    EXPECT_EQ(loaded.storage->adopted(), GetParam() == LoadMode::kMap);
  }
}

TEST_P(NpyMode, ReadsOtherShapesAndVersions) {
  expect_pattern(load_npy(golden("scalar.npy"), GetParam()).tensor, Dtype::kInt64, {});
  expect_pattern(load_npy(golden("vector.npy"), GetParam()).tensor, Dtype::kFloat64, {5});
  expect_pattern(load_npy(golden("empty.npy"), GetParam()).tensor, Dtype::kFloat32, {0, 3});
  expect_pattern(load_npy(golden("version2.npy"), GetParam()).tensor, Dtype::kFloat32, {2, 3});
  expect_pattern(load_npy(golden("version3.npy"), GetParam()).tensor, Dtype::kFloat32, {2, 3});
}

TEST_P(NpyMode, SwapsBigEndianFiles) {
  for (Dtype dtype :
       {Dtype::kInt16, Dtype::kUInt32, Dtype::kInt64, Dtype::kFloat32, Dtype::kFloat64, Dtype::kComplex64}) {
    const LoadedTensor loaded =
        load_npy(golden("big_endian_" + std::string(dtype_name(dtype)) + ".npy"), GetParam());
    expect_pattern(loaded.tensor, dtype, {2, 3});
    EXPECT_TRUE(loaded.storage->writable());
  }
}

TEST_P(NpyMode, ColumnMajorFilesKeepTheirOrder) {
  const LoadedTensor loaded = load_npy(golden("fortran.npy"), GetParam());
  EXPECT_TRUE(loaded.tensor.fortran_order);
  EXPECT_EQ(loaded.tensor.shape, (Shape{2, 3, 4}));
  std::string wanted;
  for (int k = 0; k < 4; ++k) {
    for (int j = 0; j < 3; ++j) {
      for (int i = 0; i < 2; ++i) append_element(wanted, Dtype::kFloat32, (i * 3 + j) * 4 + k);
    }
  }
  EXPECT_EQ(as_string(loaded.tensor.bytes), wanted);
}

TEST(Npy, WritesWhatNumpyWrites) {
  TempDir dir;
  const auto same = [&](const std::string& name, const HostTensor& tensor) {
    save_npy(dir / "x", tensor);
    EXPECT_EQ(read_bytes(dir / "x"), read_bytes(golden(name))) << name;
  };
  for (int i = 0; i < kNumDtypes; ++i) {
    const auto dtype = static_cast<Dtype>(i);
    const std::string data = pattern(dtype, {2, 3});
    same(std::string(dtype_name(dtype)) + ".npy", {dtype, {2, 3}, false, as_span(data)});
  }
  const std::string scalar = pattern(Dtype::kInt64, {}), vector = pattern(Dtype::kFloat64, {5});
  same("scalar.npy", {Dtype::kInt64, {}, false, as_span(scalar)});
  same("vector.npy", {Dtype::kFloat64, {5}, true, as_span(vector)});
  same("empty.npy", {Dtype::kFloat32, {0, 3}, false, {}});
  const LoadedTensor columns = load_npy(golden("fortran.npy"));
  same("fortran.npy", columns.tensor);
}

TEST(Npy, LongHeaderTakesVersion2) {
  Shape shape;
  for (int i = 0; i < 30000; ++i) shape.push_back(1);
  const std::string data = pattern(Dtype::kInt8, {1});
  const HostTensor tensor{Dtype::kInt8, shape, false, as_span(data)};
  const std::string header = npy_header(tensor);
  EXPECT_EQ(header[6], 2);
  EXPECT_EQ(header.size() % 64, 0u);
  const NpyHeader read = parse_npy(as_span(header + data), "f");
  EXPECT_EQ(read.shape, shape);
  EXPECT_EQ(read.data_begin, header.size());
}

TEST(Npy, WriterChecksTheBytes) {
  TempDir dir;
  const std::string data(7, '\0');
  EXPECT_EQ(message_of<ValueError>([&] {
              save_npy(dir / "x", {Dtype::kInt16, {4}, false, as_span(data)});
            }),
            "[npy] tensor '" + (dir / "x") + "' of shape (4,) and dtype int16 has 8 bytes, got 7");
  EXPECT_EQ(dir.entries(), 0u);
}

std::string image_of(const std::string& dict, const std::string& data = "") {
  std::string image = "\x93NUMPY\x01";
  image += '\0';
  append(image, static_cast<uint16_t>(dict.size()));
  return image + dict + data;
}

NpyHeader parse(const std::string& dict, const std::string& data = std::string(4096, '\0')) {
  return parse_npy(as_span(image_of(dict, data)), "f");
}
std::string refusal(const std::string& dict, const std::string& data = std::string(4096, '\0')) {
  const std::string message = message_of<ValueError>([&] { parse(dict, data); });
  EXPECT_EQ(message.substr(0, 11), "[npy] 'f': ");
  return message.substr(std::min<size_t>(11, message.size()));
}

TEST(Npy, HeaderIsReadAsPythonWould) {
  const NpyHeader header = parse(" { \"shape\" : ( 3L , 4 ) , 'fortran_order':True,'descr':'=i4' } \n");
  EXPECT_EQ(header.shape, (Shape{3, 4}));
  EXPECT_EQ(header.dtype, Dtype::kInt32);
  EXPECT_TRUE(header.fortran_order);
  for (const auto& [descr, dtype] : std::vector<std::pair<std::string, Dtype>>{{"<f4", Dtype::kFloat32},
                                                                               {"f8", Dtype::kFloat64},
                                                                               {"|b1", Dtype::kBool},
                                                                               {"<u1", Dtype::kUInt8},
                                                                               {"|V2", Dtype::kBFloat16},
                                                                               {"bfloat16", Dtype::kBFloat16},
                                                                               {"<c8", Dtype::kComplex64}}) {
    EXPECT_EQ(parse("{'descr': '" + descr + "', 'fortran_order': False, 'shape': (2,), }").dtype, dtype)
        << descr;
  }
}

TEST(Npy, UnknownDtypesAreNamed) {
  const auto message = [](const std::string& descr) {
    return refusal("{'descr': " + descr + ", 'fortran_order': False, 'shape': (2,), }");
  };
  const std::string known =
      " is not supported; known are |b1, |u1, <u2, <u4, <u8, |i1, <i2, <i4, <i8, <f2, <f4, <f8, <V2, <c8";
  for (const char* descr : {"<c16", "<f16", "<U5", "|S3", "<M8[ns]", "|V3", "f4 ", "", "<", "x"}) {
    EXPECT_EQ(message("'" + std::string(descr) + "'"), "dtype '" + std::string(descr) + "'" + known);
  }
  EXPECT_EQ(message("'|O'"), "dtype '|O' (Python objects, which only pickle can read)" + known);
  EXPECT_EQ(message("[('a', '<f4')]"),
            "structured dtypes are not supported: [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }");
}

TEST(Npy, BadHeadersAreRefused) {
  EXPECT_EQ(refusal(""), "header at byte 0: wanted a dictionary, got the end");
  EXPECT_EQ(refusal("{}"), "the header has no 'descr'");
  EXPECT_EQ(refusal("{'descr': '<f4', 'fortran_order': False}"), "the header has no 'shape'");
  EXPECT_EQ(refusal("{'descr': '<f4', 'shape': ()}"), "the header has no 'fortran_order'");
  EXPECT_EQ(refusal("{'descr': '<f4', 'descr': '<f4'}"), "the header has 'descr' twice");
  EXPECT_EQ(refusal("{'x': 1}"), "the header has an unknown key 'x'");
  EXPECT_EQ(refusal("{'fortran_order': 1}"), "header at byte 18: wanted True or False, got '1'");
  for (const char* shape :
       {"(3)", "3", "[3]", "(3 4)", "(-1,)", "(,)", "(3,", "(1.5,)", "(3,,)", "(99999999999999999999,)"}) {
    EXPECT_NE(refusal("{'shape': " + std::string(shape) + ", 'descr': '<f4', 'fortran_order': False}")
                  .find("header at byte"),
              std::string::npos)
        << shape;
  }
  for (const char* dict :
       {"{'shape", "{'sh\\x61pe': ()}", "{'shape': () 'descr': '<f4'}", "{'shape': ()} x", "{,}"}) {
    EXPECT_NE(refusal(dict).find("header at byte"), std::string::npos) << dict;
  }
}

TEST(Npy, SizesMustFitTheFile) {
  EXPECT_EQ(refusal("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", "12345678901"),
            "shape (3,) of float32 needs 12 bytes, the file has 11 after its header");
  for (const char* shape :
       {"(9223372036854775807,)", "(4294967296, 4294967296)", "(2305843009213693952, 4)"}) {
    EXPECT_THROW(parse("{'descr': '<f4', 'fortran_order': False, 'shape': " + std::string(shape) + "}"),
                 ValueError);
  }
  EXPECT_EQ(
      parse(
          "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807, 0)}")
          .data_bytes,
      0u);
}

TEST(Npy, StartIsChecked) {
  const std::string good = read_bytes(golden("float32.npy"));
  const auto message = [](const std::string& image) {
    return message_of<ValueError>([&] { parse_npy(as_span(image), "f"); });
  };
  std::string image = good;
  image[3] = 'X';
  EXPECT_EQ(message(image), "[npy] 'f': not an npy file: it does not start with \\x93NUMPY");
  image = good;
  image[6] = 4;
  EXPECT_EQ(message(image), "[npy] 'f': format version 4.0, known are 1.0, 2.0 and 3.0");
  EXPECT_EQ(message("\x93NUM"), "[npy] 'f': the start needs 8 bytes, the file has 4");
  EXPECT_EQ(message(good.substr(0, 100)), "[npy] 'f': the header needs 128 bytes, the file has 100");
}

TEST(Npy, UnalignedElementsAreCopied) {
  const std::string data = pattern(Dtype::kFloat64, {2});
  for (size_t pad = 0; pad < 8; ++pad) {
    const std::string image =
        image_of("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}" + std::string(pad, ' '), data);
    BufferRef storage = allocate(image.size());
    std::memcpy(storage->data(), image.data(), image.size());
    const std::span<const std::byte> bytes{static_cast<const std::byte*>(storage->data()), image.size()};
    expect_pattern(read_npy(bytes, storage, "f").tensor, Dtype::kFloat64, {2});
  }
}

TEST(Npy, BoolsThatAreNeitherAreRefused) {
  std::string image = read_bytes(golden("bool.npy"));
  image.back() = 7;
  EXPECT_EQ(message_of<ValueError>([&] { read_npy(as_span(image), nullptr, "f"); }),
            "[npy] 'f': the bool tensor holds the byte 7 at 5, wanted 0 or 1");
}

TEST(Npy, TrailingBytesAreIgnored) {
  const std::string image = read_bytes(golden("float32.npy")) + "more";
  EXPECT_EQ(parse_npy(as_span(image), "f").data_bytes, 24u);
}

TEST(Npy, EveryTruncationIsRefused) {
  for (const char* name : {"float32.npy", "scalar.npy", "version3.npy", "empty.npy"}) {
    expect_truncations_refused(read_bytes(golden(name)), [](auto bytes) { parse_npy(bytes, "f"); });
  }
}

TEST(Npy, DamageIsHarmless) {
  for (const char* name : {"float32.npy", "fortran.npy", "big_endian_complex64.npy", "bool.npy"}) {
    expect_mutations_harmless(read_bytes(golden(name)), 5, 5000, [](auto bytes) {
      const LoadedTensor loaded = read_npy(bytes, nullptr, "f");
      ASSERT_EQ(loaded.tensor.bytes.size(), tensor_bytes(loaded.tensor.dtype, loaded.tensor.shape));
    });
  }
}

}  // namespace
}  // namespace lamina
