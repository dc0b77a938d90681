#include "backend/cpu/measured.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <thread>
#include <vector>

#include "backend/cpu/kernel_choice.h"
#include "gemm_testing.h"
#include "lamina/error.h"

namespace lamina::testing {
namespace {

namespace fs = std::filesystem;
using namespace cpu;

constexpr MeasuredRates kSome{1e11, 2.5e11, 4e11, 0, 1.5e12};

void expect_same(const MeasuredRates& a, const MeasuredRates& b) {
  EXPECT_EQ(a.f32, b.f32);
  EXPECT_EQ(a.bf16_dot, b.bf16_dot);
  EXPECT_EQ(a.int8_dot, b.int8_dot);
  EXPECT_EQ(a.amx_bf16, b.amx_bf16);
  EXPECT_EQ(a.amx_int8, b.amx_int8);
}

std::string text_of(const fs::path& file) {
  std::ifstream in(file);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

class Rates : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "lamina-rates-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string place(const char* name) const { return (folder_ / name).string(); }
  std::string with_text(const std::string& text) const {
    std::ofstream(place("rates")) << text;
    return place("rates");
  }

  fs::path folder_;
};

TEST_F(Rates, ComeBackFromAFileOfTheirKeyOnly) {
  const std::string file = place("new/folder/rates");
  EXPECT_FALSE(read_rates(file, "key"));
  ASSERT_TRUE(write_rates(file, "key", kSome));
  const auto read = read_rates(file, "key");
  ASSERT_TRUE(read);
  expect_same(*read, kSome);
  EXPECT_FALSE(read_rates(file, "another key"));
  EXPECT_FALSE(read_rates(file, "ke"));
  EXPECT_EQ(std::distance(fs::directory_iterator(place("new/folder")), {}), 1) << "something is left over";
}

TEST_F(Rates, DamagedFilesAreNoFiles) {
  ASSERT_TRUE(write_rates(place("whole"), "key", kSome));
  const std::string whole = text_of(place("whole"));
  ASSERT_TRUE(read_rates(with_text(whole), "key"));
  for (size_t n = 0; n < whole.size(); ++n) {
    EXPECT_FALSE(read_rates(with_text(whole.substr(0, n)), "key")) << "cut at " << n;
  }
  EXPECT_FALSE(read_rates(with_text(whole + "\n"), "key"));
  EXPECT_FALSE(read_rates(with_text(std::string(100000, 'x')), "key"));
  for (const char* rate : {"-1e+11", "nan", "inf", "1e+99", "1", "1e+11 ", "", "0x10", "fast"}) {
    std::string text = whole;
    text.replace(text.find("1e+11"), 5, rate);
    EXPECT_FALSE(read_rates(with_text(text), "key")) << rate;
  }
  std::string other_format = whole;
  other_format.replace(other_format.find("rates 1"), 7, "rates 2");
  EXPECT_FALSE(read_rates(with_text(other_format), "key"));
}

TEST_F(Rates, WhatIsNoFileIsNeitherReadNorWritten) {
  fs::create_directory(place("directory"));
  ASSERT_EQ(mkfifo(place("pipe").c_str(), 0600), 0);
  std::ofstream(place("text")) << "a file where a folder is wanted";
  for (const char* name : {"directory", "pipe", "text/rates"}) {
    SCOPED_TRACE(name);
    EXPECT_FALSE(read_rates(place(name), "key"));
    EXPECT_FALSE(write_rates(place(name), "key", kSome));
    const KnownRates fresh = read_or_measure(place(name));
    EXPECT_EQ(fresh.file, "");
    EXPECT_FALSE(fresh.from_file);
  }
  EXPECT_EQ(read_or_measure("").file, "");
}

TEST_F(Rates, AreMeasuredOnceAndThenRead) {
  const std::string file = place("rates");
  const KnownRates first = read_or_measure(file), second = read_or_measure(file);
  EXPECT_FALSE(first.from_file);
  EXPECT_EQ(first.file, file);
  EXPECT_TRUE(second.from_file);
  const KnownRates again = read_or_measure(with_text("damaged"));
  EXPECT_FALSE(again.from_file);
  EXPECT_TRUE(read_or_measure(file).from_file);
}

TEST_F(Rates, ManyAtOnceLeaveOneWholeFile) {
  const std::string file = place("folder/rates");
  std::vector<KnownRates> found(6);
  std::vector<std::thread> threads;
  for (KnownRates& f : found) threads.emplace_back([&f, &file] { f = read_or_measure(file); });
  for (std::thread& t : threads) t.join();
  for (const KnownRates& f : found) EXPECT_EQ(f.file, file);
  EXPECT_TRUE(read_rates(file, rates_key()));
  EXPECT_EQ(std::distance(fs::directory_iterator(place("folder")), {}), 1) << "something is left over";
}

TEST(MeasuredRates, AreThereForWhatTheProcessorHas) {
  const MeasuredRates rates = measure_rates();
  const auto has = [](const char* target) {
    const std::vector<std::string> names = supported_simd_targets();
    return std::find(names.begin(), names.end(), target) != names.end();
  };
  EXPECT_EQ(rates.f32 > 0, has("avx2"));
  EXPECT_EQ(rates.bf16_dot > 0, bf16_dot_supported());
  EXPECT_EQ(rates.int8_dot > 0, has("avx3_dl"));
  EXPECT_EQ(rates.amx_bf16 > 0, has("amx"));
  EXPECT_EQ(rates.amx_int8 > 0, has("amx"));
  EXPECT_EQ(&known_rates(), &known_rates());
}

// Sets variables of the environment, and sets them back.
class Variables {
 public:
  void set(const char* name, const char* value) {
    const char* before = std::getenv(name);
    before_.emplace_back(name, before ? std::optional<std::string>(before) : std::nullopt);
    value ? setenv(name, value, 1) : unsetenv(name);
  }
  Variables() = default;
  Variables(const Variables&) = delete;
  Variables& operator=(const Variables&) = delete;
  ~Variables() {
    for (size_t i = before_.size(); i-- > 0;) {
      const auto& [name, value] = before_[i];
      value ? setenv(name.c_str(), value->c_str(), 1) : unsetenv(name.c_str());
    }
  }

 private:
  std::vector<std::pair<std::string, std::optional<std::string>>> before_;
};

TEST(RatesFile, LiesInTheFirstFolderThatIsNamed) {
  const auto folder = [](const char* own, const char* xdg, const char* home) {
    Variables v;
    v.set("LAMINA_CACHE_DIR", own), v.set("XDG_CACHE_HOME", xdg), v.set("HOME", home);
    const fs::path file = rates_file();
    EXPECT_TRUE(file.empty() || file.filename() == "rates-" + rates_key() + ".txt") << file;
    return file.parent_path().string();
  };
  EXPECT_EQ(folder("/own", "/xdg", "/home"), "/own");
  EXPECT_EQ(folder("", "/xdg", "/home"), "/xdg/lamina");
  EXPECT_EQ(folder(nullptr, "relative", "/home"), "/home/.cache/lamina");
  EXPECT_EQ(folder(nullptr, nullptr, "/home"), "/home/.cache/lamina");
  EXPECT_EQ(folder(nullptr, nullptr, ""), "");
  EXPECT_EQ(folder(nullptr, nullptr, nullptr), "");
}

std::string message_of(const char* value) {
  try {
    set_bf16_dot(value);
  } catch (const ValueError& e) { return e.what(); }
  return "nothing thrown";
}

TEST(KernelChoice, DotsAreForOneTargetAndWhereTheyAreWanted) {
  for_each_target([](const char* target) {
    SCOPED_TRACE(target);
    const std::string_view name = target;
    const auto otherwise = name == "amx" ? BFloat16Products::kTiles : BFloat16Products::kFloat32;
    set_bf16_dot("off");
    EXPECT_EQ(bfloat16_products(), otherwise);
    if (bf16_dot_supported()) {
      set_bf16_dot("on");
      EXPECT_EQ(bfloat16_products(), name == "avx3_dl" ? BFloat16Products::kDots : otherwise);
    }
    set_bf16_dot("");
    const MeasuredRates& rates = known_rates().rates;
    const bool gain = bf16_dot_supported() && rates.bf16_dot >= kDotGain * rates.f32;
    EXPECT_EQ(bfloat16_products(), name == "avx3_dl" && gain ? BFloat16Products::kDots : otherwise);
  });
}

TEST(KernelChoice, UnknownSettingsAreValueErrors) {
  EXPECT_EQ(message_of("yes"), "[LAMINA_BF16_DOT] wanted on or off, got 'yes'");
  EXPECT_EQ(message_of("ON"), "[LAMINA_BF16_DOT] wanted on or off, got 'ON'");
  if (!bf16_dot_supported()) {
    EXPECT_EQ(message_of("on"), "[LAMINA_BF16_DOT] wanted 'on', but this CPU or build has no avx512_bf16");
  }
}

// The variable is read once, at the first product, whatever the target.
void choose_with(const char* value) {
  setenv("LAMINA_BF16_DOT", value, 1);
  std::string said;
  for (int i = 0; i < 2; ++i) {
    try {
      said = bfloat16_products_name();
    } catch (const ValueError& e) { said = e.what(); }
  }
  std::fprintf(stderr, "%s\n", said.c_str());
  std::exit(0);
}

TEST(KernelChoiceDeathTest, TheVariableChoosesOrRaises) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(choose_with("maybe"), ::testing::ExitedWithCode(0), "wanted on or off, got 'maybe'");
  EXPECT_EXIT(choose_with("off"), ::testing::ExitedWithCode(0), "float32|amx tiles");
}

}  // namespace
}  // namespace lamina::testing
