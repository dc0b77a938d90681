#include "io/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string>

#include "io_test_util.h"
#include "lamina/memory.h"

namespace lamina {
namespace {

using namespace io_test;
namespace fs = std::filesystem;

TEST(File, MapAndCopyGiveTheBytes) {
  TempDir dir;
  const std::string path = dir / "x", text(100000, 'q');
  write_bytes(path, text);
  const size_t active = get_active_memory(), adopted = adopted_bytes();
  FileBytes mapped = map_file(path);
  EXPECT_EQ(as_string(mapped.bytes()), text);
  EXPECT_FALSE(mapped.buffer->writable());
  EXPECT_EQ(adopted_bytes() - adopted, text.size());
  EXPECT_EQ(get_active_memory(), active);
  FileBytes copied = read_file(path);
  EXPECT_EQ(as_string(copied.bytes()), text);
  EXPECT_TRUE(copied.buffer->writable());
  mapped.buffer.reset();
  EXPECT_EQ(adopted_bytes(), adopted);
}

TEST(File, MappingOutlivesTheFile) {
  TempDir dir;
  write_bytes(dir / "x", "still here");
  FileBytes mapped = map_file(dir / "x");
  fs::remove(dir / "x");
  EXPECT_EQ(as_string(mapped.bytes()), "still here");
}

TEST(File, EmptyFileIsFine) {
  TempDir dir;
  write_bytes(dir / "x", "");
  EXPECT_TRUE(map_file(dir / "x").bytes().empty());
  EXPECT_TRUE(read_file(dir / "x").bytes().empty());
}

TEST(File, WhatCannotBeReadIsNamed) {
  TempDir dir;
  const std::string gone = dir / "gone", pipe = dir / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  for (auto* open : {&map_file, &read_file}) {
    EXPECT_EQ(message_of<IoError>([&] { open(gone); }),
              "[file] cannot open '" + gone + "': No such file or directory");
    EXPECT_EQ(message_of<IoError>([&] { open("/"); }), "[file] cannot read '/': a directory");
    EXPECT_EQ(message_of<IoError>([&] { open(pipe); }),
              "[file] cannot read '" + pipe + "': not a regular file");
  }
}

TEST(File, FileThatShrinksIsAnError) {
  TempDir dir;
  const std::string path = dir / "x";
  write_bytes(path, "0123456789");
  InputFile file(path);
  fs::resize_file(path, 4);
  EXPECT_EQ(message_of<IoError>([&] { file.copy(); }),
            "[file] '" + path + "' ends at 4, wanted 6 bytes more");
}

TEST(AtomicFile, AppearsOnlyWhenCommitted) {
  TempDir dir;
  const std::string path = dir / "x";
  {
    AtomicFile file(path);
    file.write("hello ");
    file.write("world");
    EXPECT_EQ(file.offset(), 11u);
    file.overwrite(0, "J");
    EXPECT_FALSE(fs::exists(path));
    EXPECT_EQ(dir.entries(), 1u);
    file.commit();
  }
  EXPECT_EQ(read_bytes(path), "Jello world");
  EXPECT_EQ(dir.entries(), 1u);
}

TEST(AtomicFile, KeepsTheOldFileWithoutCommit) {
  TempDir dir;
  write_bytes(dir / "x", "old");
  try {
    AtomicFile file(dir / "x");
    file.write("new");
    throw 1;
  } catch (int) {}
  EXPECT_EQ(read_bytes(dir / "x"), "old");
  EXPECT_EQ(dir.entries(), 1u);
}

TEST(AtomicFile, TwoWritersOfOneNameDoNotMix) {
  TempDir dir;
  AtomicFile a(dir / "x"), b(dir / "x");
  a.write("aaaa");
  b.write("bb");
  a.commit();
  EXPECT_EQ(read_bytes(dir / "x"), "aaaa");
  b.commit();
  EXPECT_EQ(read_bytes(dir / "x"), "bb");
}

TEST(AtomicFile, ReplacesTheTargetOfALink) {
  TempDir dir;
  write_bytes(dir / "real", "old");
  fs::create_symlink(dir / "real", dir / "link");
  AtomicFile file(dir / "link");
  file.write("new");
  file.commit();
  EXPECT_TRUE(fs::is_symlink(dir / "link"));
  EXPECT_EQ(read_bytes(dir / "real"), "new");
}

TEST(AtomicFile, HasOrdinaryPermissions) {
  TempDir dir;
  const mode_t mask = umask(0022);
  AtomicFile file(dir / "x");
  file.commit();
  umask(mask);
  struct stat info {};
  ASSERT_EQ(stat((dir / "x").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0644u);
}

TEST(AtomicFile, RefusesWhatIsNoFile) {
  TempDir dir;
  EXPECT_EQ(message_of<IoError>([] { AtomicFile file("/dev/null"); }),
            "[file] cannot write '/dev/null': not a regular file");
  EXPECT_EQ(message_of<IoError>([&] { AtomicFile file(dir / "."); }),
            "[file] cannot write '" + (dir / ".") + "': a directory");
  EXPECT_EQ(message_of<IoError>([&] { AtomicFile file(dir / "no/x"); }),
            "[file] cannot write '" + (dir / "no/x") + "': No such file or directory");
}

// In a child that may write 1000 bytes to a file: status 7 where the error is typed and nothing is left
// behind.
int write_too_much(const TempDir& dir) {
  signal(SIGXFSZ, SIG_IGN);
  rlimit limit{1000, 1000};
  setrlimit(RLIMIT_FSIZE, &limit);
  try {
    AtomicFile file(dir / "x");
    file.write(std::string(5000, 'x'));
    file.commit();
    return 1;
  } catch (const IoError& e) {
    if (std::string(e.what()) != "[file] cannot write '" + (dir / "x") + "': File too large") return 2;
  }
  return dir.entries() == 1 && read_bytes(dir / "x") == "old" ? 7 : 3;
}

TEST(AtomicFile, FailedWriteLeavesNothingBehind) {
  TempDir dir;
  write_bytes(dir / "x", "old");
  const pid_t pid = fork();
  if (pid == 0) _exit(write_too_much(dir));
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7) << status;
}

}  // namespace
}  // namespace lamina
