#include "core/cgroup.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace lamina {
namespace {

namespace fs = std::filesystem;

// A made-up /proc and /sys.
class Cgroup : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(testing::TempDir()) / ("cgroup_" + std::to_string(::getpid()));
    fs::remove_all(root_);
  }
  void TearDown() override { fs::remove_all(root_); }
  void put(const std::string& path, const std::string& text) {
    fs::path full = root_ / path;
    fs::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }
  std::string root() const { return root_.string(); }

 private:
  fs::path root_;
};

TEST_F(Cgroup, NothingThere) {
  EXPECT_EQ(cgroup_cpu_quota(root()), 0);
  EXPECT_EQ(cgroup_memory_limit_bytes(root()), 0u);
}

TEST_F(Cgroup, Version2InAContainer) {
  put("proc/self/cgroup", "0::/\n");
  put("sys/fs/cgroup/cpu.max", "150000 100000\n");
  put("sys/fs/cgroup/memory.max", "1073741824\n");
  EXPECT_EQ(cgroup_cpu_quota(root()), 1.5);
  EXPECT_EQ(cgroup_memory_limit_bytes(root()), 1073741824u);
}

TEST_F(Cgroup, Version2Unlimited) {
  put("proc/self/cgroup", "0::/user.slice\n");
  put("sys/fs/cgroup/user.slice/cpu.max", "max 100000\n");
  put("sys/fs/cgroup/user.slice/memory.max", "max\n");
  EXPECT_EQ(cgroup_cpu_quota(root()), 0);
  EXPECT_EQ(cgroup_memory_limit_bytes(root()), 0u);
}

TEST_F(Cgroup, TightestAncestorCounts) {
  put("proc/self/cgroup", "0::/a/b/c\n");
  put("sys/fs/cgroup/a/cpu.max", "200000 100000\n");
  put("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  put("sys/fs/cgroup/a/b/c/cpu.max", "400000 100000\n");
  put("sys/fs/cgroup/a/b/memory.max", "4096000\n");
  put("sys/fs/cgroup/a/b/c/memory.max", "8192000\n");
  EXPECT_EQ(cgroup_cpu_quota(root()), 2);
  EXPECT_EQ(cgroup_memory_limit_bytes(root()), 4096000u);
}

TEST_F(Cgroup, Version1WithJointControllers) {
  put("proc/self/cgroup", "5:cpu,cpuacct:/docker/1234\n4:memory:/docker/1234\n3:cpuset:/docker\n");
  put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n");
  put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  put("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n");
  EXPECT_EQ(cgroup_cpu_quota(root()), 0.5);
  EXPECT_EQ(cgroup_memory_limit_bytes(root()), 536870912u);
}

TEST_F(Cgroup, Version1Unlimited) {
  put("proc/self/cgroup", "1:cpu:/\n2:memory:/\n");
  put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(cgroup_cpu_quota(root()), 0);
  EXPECT_EQ(cgroup_memory_limit_bytes(root()), 0u);
}

TEST_F(Cgroup, CpusetIsNotTakenForCpu) {
  put("proc/self/cgroup", "3:cpuset:/\n");
  put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n");
  put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_cpu_quota(root()), 0);
}

TEST_F(Cgroup, DamagedFilesAreNoLimit) {
  put("proc/self/cgroup", "garbage\n0:\n::\n0::/x\n");
  put("sys/fs/cgroup/x/cpu.max", "abc def\n");
  put("sys/fs/cgroup/x/memory.max", "\n");
  EXPECT_EQ(cgroup_cpu_quota(root()), 0);
  EXPECT_EQ(cgroup_memory_limit_bytes(root()), 0u);
}

TEST(Cpus, AtLeastOneAndNeverMoreThanTheMask) {
  EXPECT_GE(usable_cpu_count(), 1);
  EXPECT_LE(usable_cpu_count(), affinity_cpu_count());
}

}  // namespace
}  // namespace lamina
