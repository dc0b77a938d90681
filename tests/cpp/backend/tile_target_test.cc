#include <cstdlib>
#include <set>

#include "backend/cpu/amx.h"
#include "tile_testing.h"

namespace lamina {
namespace {

std::string message_of(void (*f)()) {
  try {
    f();
  } catch (const ValueError& e) { return e.what(); }
  return "nothing thrown";
}

TEST(SimdTarget, ForcingOneChangesTheKernels) {
  const std::string before = simd_target_name();
  std::set<TileFn> kernels;
  for (const std::string& name : supported_simd_targets()) {
    set_simd_target(name);
    EXPECT_EQ(simd_target_name(), name);
    kernels.insert(simd_tile(OpId::Exp, Dtype::kFloat32));
  }
  // AVX3_DL and AMX share AVX3's elementwise kernels; every other target has its own.
  size_t shared = 0;
  for (const std::string& name : supported_simd_targets()) shared += name == "avx3_dl" || name == "amx";
  EXPECT_EQ(kernels.size() + shared, supported_simd_targets().size());
  set_simd_target("sse2");
  EXPECT_EQ(simd_tile(OpId::Exp, Dtype::kFloat32), reference_tile(OpId::Exp, Dtype::kFloat32));
  set_simd_target(before);
}

TEST(SimdTarget, TilesAreInUseWhereTheTargetSaysSo) {
  if (!cpu::amx_supported()) GTEST_SKIP() << "this CPU or system has no AMX tiles";
  const std::string before = simd_target_name();
  for (const std::string& name : supported_simd_targets()) {
    set_simd_target(name);
    EXPECT_EQ(cpu::amx_active(), name == "amx") << name;
  }
  set_simd_target(before);
  EXPECT_EQ(supported_simd_targets().front(), "amx");
}

TEST(SimdTarget, UnknownNamesAreValueErrors) {
  EXPECT_EQ(message_of([] { set_simd_target("neon"); }).find("[LAMINA_SIMD] wanted one of "), 0u);
  EXPECT_NE(message_of([] { set_simd_target("neon"); }).find("got 'neon'"), std::string::npos);
  EXPECT_EQ(message_of([] { set_simd_target("avx2,avx3"); }).find("[LAMINA_SIMD] wanted one of "), 0u);
}

// The variable is read when the first kernel is looked up, so each case needs a fresh process.
void look_up_with(const char* value) {
  setenv("LAMINA_SIMD", value, 1);
  int code;
  try {
    // Twice: a bad name goes on failing.
    for (int i = 0; i < 2; ++i) {
      try {
        simd_tile(OpId::Add, Dtype::kFloat32);
      } catch (const ValueError& e) {
        if (i == 1) throw;
      }
    }
    std::fprintf(stderr, "uses %s\n", simd_target_name());
    code = 0;
  } catch (const ValueError& e) {
    std::fprintf(stderr, "%s\n", e.what());
    code = 3;
  }
  std::exit(code);
}

TEST(SimdTargetDeathTest, TheVariableForcesATargetOrRaises) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(look_up_with("sse2"), ::testing::ExitedWithCode(0), "uses sse2");
  for (const std::string& name : supported_simd_targets()) {
    EXPECT_EXIT(look_up_with(name.c_str()), ::testing::ExitedWithCode(0), "uses " + name);
  }
  EXPECT_EXIT(look_up_with("fast"), ::testing::ExitedWithCode(3), "wanted one of .*sse2, got 'fast'");
  EXPECT_EXIT(look_up_with(""), ::testing::ExitedWithCode(0), "uses ");
}

}  // namespace
}  // namespace lamina
