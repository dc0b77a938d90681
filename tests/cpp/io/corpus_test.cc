#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "../../fuzz/harness.h"
#include "io_test_util.h"

namespace lamina {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> files_in(const std::string& folder) {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(std::string(LAMINA_SOURCE_DIR) + "/tests/" + folder)) {
    if (entry.is_regular_file()) out.push_back(entry.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

// A copy of its own size, so that a read past the end is seen by AddressSanitizer.
bool run_file(std::string_view format, const fs::path& path) {
  const std::string image = io_test::read_bytes(path.string());
  const std::vector<char> bytes(image.begin(), image.end());
  return fuzz::run(format, std::as_bytes(std::span(bytes)));
}

class Corpus : public testing::TestWithParam<size_t> {
 protected:
  // The harness of npz sets a limit.
  ~Corpus() override { set_memory_limit(limit_); }
  const size_t limit_ = get_memory_limit();
};
INSTANTIATE_TEST_SUITE_P(Formats, Corpus, testing::Range(size_t{0}, fuzz::kFormats.size()),
                         [](const auto& p) { return std::string(fuzz::kFormats[p.param].name); });

// What fuzzing found stays: inputs that reach new code, and all that once broke a reader.
TEST_P(Corpus, IsReadOrRefused) {
  const std::string_view format = fuzz::kFormats[GetParam()].name;
  const std::vector<fs::path> files = files_in("fuzz/corpus/" + std::string(format));
  int read = 0;
  for (const fs::path& path : files) { EXPECT_NO_THROW(read += run_file(format, path) ? 1 : 0) << path; }
  EXPECT_GT(files.size(), 10u);
  EXPECT_GT(read, 0);
  EXPECT_LT(read, static_cast<int>(files.size()));
}

TEST_P(Corpus, GoldenFilesAreRead) {
  const std::string_view format = fuzz::kFormats[GetParam()].name;
  for (const fs::path& path : files_in("golden/io")) {
    if (path.extension() != "." + std::string(format)) continue;
    EXPECT_TRUE(run_file(format, path)) << path;
  }
}

}  // namespace
}  // namespace lamina
