#include "core/cpu_caches.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace lamina {
namespace {

namespace fs = std::filesystem;

// A made-up /sys.
class Caches : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(testing::TempDir()) / ("caches_" + std::to_string(::getpid()));
    fs::remove_all(root_);
  }
  void TearDown() override { fs::remove_all(root_); }
  void put(int cpu, int index, const std::string& level, const std::string& type, const std::string& size,
           const std::string& sharing) {
    const fs::path folder = root_ / ("sys/devices/system/cpu/cpu" + std::to_string(cpu)) / "cache" /
                            ("index" + std::to_string(index));
    fs::create_directories(folder);
    std::ofstream(folder / "level") << level << "\n";
    std::ofstream(folder / "type") << type << "\n";
    std::ofstream(folder / "size") << size << "\n";
    std::ofstream(folder / "shared_cpu_list") << sharing << "\n";
  }
  CpuCaches read(int cpu) const { return read_cpu_caches(root_.string(), cpu); }

 private:
  fs::path root_;
};

TEST_F(Caches, NothingThere) {
  const CpuCaches c = read(0), least;
  EXPECT_EQ(c.l1d, least.l1d);
  EXPECT_EQ(c.l2, least.l2);
  EXPECT_EQ(c.l3, 0);
  EXPECT_EQ(c.l3_cpus, 1);
}

TEST_F(Caches, SizesOfOneProcessor) {
  put(3, 0, "1", "Data", "48K", "3");
  put(3, 1, "1", "Instruction", "64K", "3");
  put(3, 2, "2", "Unified", "2M", "3,35");
  put(3, 3, "3", "Unified", "107520K", "0-15,32-47");
  const CpuCaches c = read(3);
  EXPECT_EQ(c.l1d, 48 << 10);
  EXPECT_EQ(c.l2, 2 << 20);
  EXPECT_EQ(c.l3, int64_t{107520} << 10);
  EXPECT_EQ(c.l3_cpus, 32);
  EXPECT_EQ(read(0).l1d, CpuCaches{}.l1d);
}

TEST_F(Caches, NonsenseIsLeftOut) {
  put(0, 0, "1", "Data", "0K", "0");
  put(0, 1, "2", "Unified", "many", "0");
  put(0, 2, "3", "Unified", "99999999999G", "0-");
  put(0, 3, "33", "Unified", "1M", "0");
  put(0, 4, "1", "Data", "900M", "");
  const CpuCaches c = read(0), least;
  EXPECT_EQ(c.l1d, least.l1d);
  EXPECT_EQ(c.l2, least.l2);
  EXPECT_EQ(c.l3, 0);
  EXPECT_EQ(c.l3_cpus, 1);
}

TEST_F(Caches, WhatIsNotThereStays) {
  put(0, 0, "2", "Unified", "1024K", "0");
  const CpuCaches known{48 << 10, 512 << 10, 32 << 20, 8};
  const CpuCaches c = read_cpu_caches((fs::path(testing::TempDir()) / "no").string(), 0, known);
  EXPECT_EQ(c.l1d, known.l1d);
  EXPECT_EQ(c.l3_cpus, 8);
  EXPECT_EQ(read(0).l2, 1 << 20);
}

TEST(CpuCaches, OfThisMachineAreInOrder) {
  const CpuCaches& c = cpu_caches();
  EXPECT_GE(c.l1d, 8 << 10);
  EXPECT_GT(c.l2, c.l1d);
  EXPECT_GE(c.l3, 0);
  EXPECT_GE(c.l3_cpus, 1);
  EXPECT_EQ(&c, &cpu_caches());
}

}  // namespace
}  // namespace lamina
