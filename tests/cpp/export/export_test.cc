#include "lamina/export.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>

#include "io/safetensors.h"
#include "lamina/linalg.h"
#include "lamina/ops.h"

namespace lamina {
namespace {

class Export : public testing::Test {
 protected:
  Export() : folder_(std::filesystem::path(testing::TempDir()) / unique_name()) {
    std::filesystem::create_directory(folder_);
  }
  ~Export() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name = "f.lamina") const { return (folder_ / name).string(); }

  ImportedFunction round_trip(const Function& fun, const Arrays& inputs) {
    FunctionExporter exporter(path(), fun);
    exporter.add(inputs);
    exporter.close();
    return import_function(path());
  }

  // Writes a file with this text in place of the graphs of the one at path().
  void rewrite(const std::string& graphs) {
    LoadedSafetensors file = load_safetensors(path(), LoadMode::kCopy);
    std::vector<NamedTensor> tensors;
    for (const LoadedTensor& t : file.tensors) tensors.push_back({t.name, t.tensor});
    file.metadata["lamina.functions"] = graphs;
    save_safetensors(path("changed"), tensors, file.metadata);
  }
  std::string graphs() const {
    return load_safetensors(path(), LoadMode::kCopy).metadata["lamina.functions"];
  }

 private:
  static std::string unique_name() {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    return std::string("lamina_export_") + info->name();
  }
  std::filesystem::path folder_;
};

std::string refusal(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) { return e.what(); }
  return "nothing was thrown";
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from << " in " << text;
  return text.replace(at, from.size(), to);
}

bool same_bits(const Array& a, const Array& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && array_equal(a, b, true).item<bool>();
}

// Uses parameters of every kind: axes, shapes with negative strides, floats, enums, several results.
Arrays rich(const Arrays& in) {
  const Array& x = in[0];
  const Array flipped = slice(x, {3, 0}, {-5, 6}, {-1, 2});
  const Array gathered = take(x, Array({2, 0, 3}, Shape{3}), 0);
  const std::vector<Array> factors = linalg::qr(x);
  return {flipped, gathered, factors[1], softmax(x, Axes{-1}),
          scan(x, ScanKind::kMax, 1, true, false) + arange(0.5, 6.0, 1.0)};
}

const Shape kShape{4, 6};
Array sample() { return sin(reshape(arange(0.0, 24.0, 1.0), kShape)); }

TEST_F(Export, GivesTheSameBits) {
  const Array x = sample();
  const Arrays want = rich({x}), got = round_trip(rich, {x})({x});
  ASSERT_EQ(want.size(), got.size());
  for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(same_bits(want[i], got[i])) << i;
}

TEST_F(Export, KeepsConstantsOfEveryDtype) {
  for (int i = 0; i < kNumDtypes; ++i) {
    const auto dtype = static_cast<Dtype>(i);
    const Array held = astype(arange(int64_t{0}, 5, 1), dtype), one(int64_t{1}, dtype);
    held.eval();
    auto fun = [&](const Arrays& in) { return Arrays{where(in[0], held, one)}; };
    const Array choose = less(arange(int64_t{0}, 5, 1), Array(3));
    EXPECT_TRUE(same_bits(fun({choose})[0], round_trip(fun, {choose})({choose})[0])) << dtype_name(dtype);
  }
}

TEST_F(Export, ChoosesByInputs) {
  FunctionExporter exporter(
      path(), [](const Arrays& in) { return Arrays{in.size() == 2 ? in[0] - in[1] : negative(in[0])}; },
      "minus");
  const Array a(5), b(3);
  exporter.add({a});
  exporter.add({a}, {{"b", b}});
  EXPECT_NE(refusal([&] { exporter.add({b}); }).find("already has a function of (int32 ())"),
            std::string::npos);
  exporter.close();
  EXPECT_NE(refusal([&] { exporter.add({a, b}); }).find("has been closed"), std::string::npos);
  const ImportedFunction f = import_function(path());
  EXPECT_EQ(f.metadata(), "minus");
  EXPECT_EQ(f({a})[0].item<int>(), -5);
  EXPECT_EQ(f({a}, {{"b", b}})[0].item<int>(), 2);
  EXPECT_EQ(
      refusal([&] {
        f({a, b});
      }),
      "[import_function] the file has no function of (int32 (), int32 ()); wanted (int32 ()) or (int32 (), "
      "b=int32 ())");
}

TEST_F(Export, NamedArraysComeInAnyOrder) {
  FunctionExporter exporter(path(),
                            [](const Arrays& in) { return Arrays{in[0] * 100 + in[1] * 10 + in[2]}; });
  exporter.add({Array(1)}, {{"z", Array(2)}, {"a", Array(3)}});
  exporter.close();
  const ImportedFunction f = import_function(path());
  EXPECT_EQ(f({Array(4)}, {{"z", Array(5)}, {"a", Array(6)}})[0].item<int>(), 456);
  EXPECT_EQ(f({Array(4)}, {{"a", Array(6)}, {"z", Array(5)}})[0].item<int>(), 456);
}

TEST_F(Export, GradientsFlowThroughAnImportedFunction) {
  const Array x = sample();
  auto plain = [](const Arrays& in) { return Arrays{sum(square(tanh(in[0])))}; };
  const ImportedFunction f = round_trip(plain, {x});
  EXPECT_TRUE(same_bits(grad(plain)({x})[0], grad([&](const Arrays& in) { return f(in); })({x})[0]));
}

TEST_F(Export, NothingIsWrittenWithoutClose) {
  { FunctionExporter(path(), rich).add({sample()}); }
  EXPECT_FALSE(std::filesystem::exists(path()));
}

struct Damage {
  const char *from, *to, *message;
};

TEST_F(Export, RefusesWhatDoesNotFit) {
  round_trip([](const Arrays& in) { return Arrays{slice(sum(in[0], Axes{1}), {1}, {3})}; }, {sample()});
  const std::string good = graphs();
  const Damage cases[] = {
      {"\"op\":\"sum\"", "\"op\":\"summ\"", "wanted an op of this library, got 'summ'"},
      {"\"axes\":[1]", "\"axes\":[2]", "[sum] wants sorted, distinct axes of the operand"},
      {"\"start\":[1]", "\"start\":[3]", "[slice] wants a box inside the operand"},
      {"\"start\":[1]", "\"start\":[-1]", "[slice] wants a box inside the operand"},
      {"\"start\":[1]", "\"begin\":[1]", "wanted a parameter of slice, got begin"},
      {"\"start\":[1],", "", "wanted 2 parameters of slice, got 1"},
      {"\"in\":[0]", "\"in\":[1]", "wanted a number below 1, got 1"},
      {"\"in\":[0]", "\"in\":[]", "[sum] wants another number of operands"},
      {"[\"float32\",[2]]", "[\"float32\",[4]]", "[slice] wants a box inside the operand"},
      {"[\"float32\",[2]]", "[\"int8\",[2]]", "[slice] wants the results that follow from its operands"},
      {"[\"float32\",[2]]", "[\"float3\",[2]]", "float3"},
      {"\"positional\":1", "\"positional\":0", "wanted a name for each input that is not positional"},
      {"\"outputs\":[3]", "\"outputs\":[4]", "wanted a number below 4, got 4"},
      {"\"outputs\"", "\"results\"", "wanted a part of a function, got results"},
  };
  for (const Damage& d : cases) {
    rewrite(replaced(good, d.from, d.to));
    const std::string message = refusal([&] { import_function(path("changed")); });
    EXPECT_NE(message.find(d.message), std::string::npos) << message;
  }
}

TEST_F(Export, RefusesOtherVersionsAndFiles) {
  save_safetensors(path(), {}, {{"lamina.version", "2"}, {"lamina.functions", "[]"}, {"metadata", ""}});
  EXPECT_NE(refusal([&] { import_function(path()); }).find("is of version 2, this library reads version 1"),
            std::string::npos);
  save_safetensors(path(), {}, {});
  EXPECT_NE(refusal([&] { import_function(path()); }).find("holds no exported functions"), std::string::npos);
}

TEST_F(Export, RefusesRulesThatDoNotFit) {
  FunctionExporter exporter(path(), [](const Arrays& in) { return Arrays{flatten(in[0]) * 2}; });
  exporter.set_shapeless();
  exporter.add({sample()});
  exporter.close();
  const Array wide = ones({3, 7});
  EXPECT_EQ(import_function(path())({wide})[0].shape(), Shape{21});
  const std::string good = graphs();
  const Damage cases[] = {
      {"\"classes\":[[[0,0]]", "\"classes\":[[[0,2]]", "wanted a number below 2, got 2"},
      {"\"classes\":[[[0,0]]", "\"classes\":[[]", "wanted an axis, got none"},
      {"\"lengths\":[[", "\"lengths\":[[0,-1],[", "wanted lengths of each class, got 3"},
      {"\"rules\":[[1,0,0,0", "\"rules\":[[1,0,7,0", "wanted rules of sizes that there are, got others"},
      {"\"rules\":[[1,0,0,0", "\"rules\":[[1,0,0,9", "wanted a number below 4, got 9"},
      {"[1,[0,1]]", "[1,[0,2]]", "wanted a number below 2, got 2"},
  };
  for (const Damage& d : cases) {
    rewrite(replaced(good, d.from, d.to));
    const std::string message = refusal([&] { import_function(path("changed")); });
    EXPECT_NE(message.find(d.message), std::string::npos) << message;
  }
  rewrite(replaced(good, "[24,[]]", "[25,[]]"));
  EXPECT_NE(refusal([&] { import_function(path("changed"))({wide}); }).find("[reshape]"), std::string::npos);
}

// Every digit of the graph in turn made another one: the file is refused, or the function runs.
TEST_F(Export, ChangedDigitsNeverReachMemoryOutside) {
  const Array x = sample();
  FunctionExporter exporter(path(), rich);
  exporter.set_shapeless();
  exporter.add({x});
  exporter.close();
  const std::string good = graphs();
  int refused = 0, ran = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    if (good[i] < '0' || good[i] > '9') continue;
    std::string text = good;
    text[i] = static_cast<char>('0' + (good[i] - '0' + 1 + static_cast<int>(i % 7)) % 10);
    rewrite(text);
    try {
      const ImportedFunction f = import_function(path("changed"));
      eval(f({x}));
      ++ran;
      eval(f({ones({9, 6})}));
    } catch (const Error&) { ++refused; }
  }
  EXPECT_GT(refused, ran);
  EXPECT_GT(ran, 0);
}

TEST(Dot, NamesAndOps) {
  const Array x(1.0f);
  const std::string text = graph_to_dot({exp(x)}, {{"an \"x\"", x}});
  EXPECT_NE(text.find("digraph"), std::string::npos);
  EXPECT_NE(text.find("label=\"exp\\nfloat32 ()\", shape=box"), std::string::npos) << text;
  EXPECT_NE(text.find("an \\\"x\\\"\\nfloat32 ()"), std::string::npos) << text;
  EXPECT_NE(text.find("n1 -> n0"), std::string::npos);
}

}  // namespace
}  // namespace lamina
