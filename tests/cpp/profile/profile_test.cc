// mx.profile's core: what is recorded, its costs, and the files it makes.
#include "lamina/profile.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "backend/cost.h"
#include "graph/profiler.h"
#include "graph/stream.h"
#include "io/json.h"
#include "lamina/fft.h"
#include "lamina/linalg.h"
#include "lamina/memory.h"
#include "lamina/ops.h"

namespace lamina {
namespace {

using Kind = ProfileEvent::Kind;

Array floats(const Shape& shape) {
  Array x = random::normal(shape, Dtype::kFloat32, std::nullopt, std::nullopt, random::key(1));
  x.eval();
  return x;
}

template <class F>
std::vector<ProfileEvent> recorded(F work) {
  Profile p;
  p.start();
  work();
  p.stop();
  return p.events();
}

std::vector<ProfileEvent> of_kind(const std::vector<ProfileEvent>& events, Kind kind) {
  std::vector<ProfileEvent> out;
  std::copy_if(events.begin(), events.end(), std::back_inserter(out),
               [kind](const ProfileEvent& e) { return e.kind == kind; });
  return out;
}

struct CostCase {
  const char* name;  // of the event
  Array result;
  double flops;
  uint64_t read, written;
};

TEST(Profile, CostsFollowTheDefinitions) {
  const Array a = floats({3, 4}), b = floats({4, 5}), batch = floats({2, 3, 4}), line = floats({6, 64});
  const Array q = floats({1, 4, 5, 8}), k = floats({1, 2, 7, 8}), v = floats({1, 2, 7, 6});
  const Array image = floats({2, 9, 9, 4}), weight = floats({6, 3, 3, 4});
  const Array square = matmul(b, transpose(b)) + eye(4, 4);
  const Array spread = broadcast_to(floats({1, 4}), {3, 4}), index = Array({1, 0}, {2});
  square.eval();
  const std::vector<CostCase> cases = {
      {"matmul", matmul(a, b), 2 * 3 * 4 * 5, 4 * (12 + 20), 4 * 15},
      {"matmul", matmul(batch, b), 2 * 2 * 3 * 4 * 5, 4 * (24 + 20), 4 * 30},
      {"matmul", matmul(astype(a, Dtype::kComplex64), astype(b, Dtype::kComplex64)), 8 * 3 * 4 * 5,
       8 * (12 + 20), 8 * 15},
      {"segmented_mm", segmented_mm(a, b, Array({0, 3, 1, 4, 2, 2}, {3, 2})), 2 * 3 * 5 * (3 + 3 + 0),
       4 * (12 + 20) + 8 * 6, 4 * 45},
      // Two indices read two of three matrices.
      {"gather_mm", gather_mm(batch, floats({3, 4, 5}), std::nullopt, index), 2 * 2 * 3 * 4 * 5,
       4 * (24 + 40 + 2), 4 * 30},
      {"scaled_dot_product_attention", fast::scaled_dot_product_attention(q, k, v, 1.f),
       2.0 * 4 * 5 * 7 * (8 + 6), 4 * (160 + 112 + 84), 4 * (4 * 5 * 6 + 4 * 5)},
      // Row i of 5 sees 3 + i of the 7 keys: 3 + 4 + 5 + 6 + 7.
      {"scaled_dot_product_attention", fast::scaled_dot_product_attention(q, k, v, 1.f, std::nullopt, true),
       2.0 * 4 * 25 * (8 + 6), 4 * (160 + 112 + 84), 4 * (4 * 5 * 6 + 4 * 5)},
      {"conv_general", conv_general(image, weight), 2.0 * (2 * 7 * 7 * 6) * (3 * 3 * 4), 4 * (648 + 216),
       4 * 588},
      {"fft", fft::fft(astype(line, Dtype::kComplex64)), 5.0 * 6 * 64 * 6, 8 * 384, 8 * 384},
      {"fft", fft::rfft(line), 2.5 * 6 * 64 * 6, 4 * 384, 8 * 6 * 33},
      {"sort", sort(line), 6.0 * 64 * 6, 4 * 384, 4 * 384},
      {"scan", scan(line, ScanKind::kSum, 1, false, true), 384, 4 * 384, 4 * 384},
      {"cholesky", linalg::cholesky(square), 64.0 / 3, 64, 64},
      {"gather", take(line, index, 0), 0, 4 * 128 + 4 * 2, 4 * 128},
      {"multiply+add", a * 2.0 + 1.0, 24, 48 + 8, 48},
      {"add", a + spread, 12, 48 + 16, 48},
      {"exp+sum", sum(exp(a), Axes{-1}), 24, 48, 12},
      {"astype", astype(a, Dtype::kInt32), 0, 48, 48},
  };
  for (const CostCase& c : cases) {
    const auto events = recorded([&] { c.result.eval(); });
    const auto found =
        std::find_if(events.begin(), events.end(), [&](const ProfileEvent& e) { return e.name == c.name; });
    std::string all;
    for (const ProfileEvent& e : events) all += e.name + " ";
    ASSERT_NE(found, events.end()) << c.name << " is not among: " << all;
    EXPECT_DOUBLE_EQ(found->flops, c.flops) << c.name;
    EXPECT_EQ(found->bytes_read, c.read) << c.name;
    EXPECT_EQ(found->bytes_written, c.written) << c.name;
  }
}

TEST(Profile, NamesFusedOpsAndCopiesAndPlans) {
  const Array x = floats({12, 10, 3});
  const auto events = recorded([&] {
    Array y = x;
    for (int i = 0; i < 3; ++i) y = sin(y);
    for (int i = 0; i < 16; ++i) y = i % 2 ? y * 1.5 : y + 0.5;
    y.eval();
    linalg::qr(transpose(floats({3, 10, 12})))[0].eval();
    reshape(transpose(x), {-1}).eval();
  });
  const auto named = [&](const char* name) {
    return std::count_if(events.begin(), events.end(), [&](const ProfileEvent& e) { return e.name == name; });
  };
  EXPECT_EQ(named("sin*3+add+multiply+add+multiply+add+multiply+add+multiply+add+multiply+add+5 more"), 1);
  EXPECT_EQ(named("copy for qr"), 1);
  EXPECT_EQ(named("copy of reshape"), 1);
  EXPECT_GE(named("plan"), 3);
  EXPECT_GE(named("eval"), 3);
}

TEST(Profile, RecordsNothingOutsideItsBlock) {
  const Array x = floats({8});
  Profile p;
  (x + 1.0).eval();
  EXPECT_TRUE(p.events().empty());
  p.start();
  (x + 2.0).eval();
  p.stop();
  const size_t count = p.events().size();
  EXPECT_GT(count, 0u);
  (x + 3.0).eval();
  EXPECT_EQ(p.events().size(), count);
  EXPECT_EQ(profiling::recorders.load(), 0);
  p.start();  // anew
  p.stop();
  EXPECT_TRUE(p.events().empty());
}

TEST(Profile, StartAndStopMustAlternate) {
  Profile p;
  EXPECT_THROW(p.stop(), ValueError);
  p.start();
  EXPECT_THROW(p.start(), ValueError);
  p.stop();
  EXPECT_THROW(p.stop(), ValueError);
  {
    Profile left;
    left.start();
  }
  EXPECT_EQ(profiling::recorders.load(), 0);
}

TEST(Profile, NestedProfilesBothRecord) {
  const Array x = floats({8});
  Profile outer, inner;
  outer.start();
  (x + 1.0).eval();
  inner.start();
  (x * 2.0).eval();
  inner.stop();
  (x - 3.0).eval();
  outer.stop();
  const auto names = [](const Profile& p) {
    std::vector<std::string> out;
    for (const auto& e : of_kind(p.events(), Kind::kTape)) out.push_back(e.name);
    return out;
  };
  EXPECT_EQ(names(outer), (std::vector<std::string>{"add", "multiply", "subtract"}));
  EXPECT_EQ(names(inner), (std::vector<std::string>{"multiply"}));
}

TEST(Profile, AFailedEvaluationLeavesAValidProfile) {
  const Array x = floats({3});
  const auto events = recorded([&] {
    EXPECT_THROW((take(x, Array(int64_t{7}), 0) + 1.0).eval(), IndexError);
    (x + 1.0).eval();
  });
  const auto tapes = of_kind(events, Kind::kTape);
  ASSERT_EQ(tapes.size(), 1u);
  EXPECT_EQ(tapes[0].name, "add");
  EXPECT_EQ(of_kind(events, Kind::kSync).size(), 2u);
}

TEST(Profile, KeepsTheFirstEventsAndCountsTheOthers) {
  const Array x = floats({8});
  Profile p(10);
  p.start();
  for (int i = 0; i < 50; ++i) (x + 1.0).eval();
  p.stop();
  EXPECT_EQ(p.events().size(), 10u);
  EXPECT_GE(p.dropped(), 90u);  // a tape and a wait each
  EXPECT_NE(p.table().find(std::to_string(p.dropped()) + " events dropped: the profile keeps 10"),
            std::string::npos);
}

TEST(Profile, ThreadsAndStreamsAreTold) {
  const Stream other = new_stream({DeviceType::kCpu, 0});
  const Array x = floats({64});
  const auto events = recorded([&] {
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 20; ++i) (x * 2.0).eval();
      });
    }
    Array first, second;
    {
      const StreamScope scope(other);
      first = x + 1.0;
    }
    second = exp(first);
    second.eval();
    async_eval(std::array{x - 1.0});
    synchronize({0, {}});
    for (auto& t : threads) t.join();
  });
  const auto tapes = of_kind(events, Kind::kTape);
  EXPECT_EQ(std::count_if(tapes.begin(), tapes.end(), [](const auto& e) { return e.name == "multiply"; }),
            60);
  for (const ProfileEvent& e : tapes) EXPECT_EQ(e.stream, e.name == "add" ? other.index : 0) << e.name;
  int threads = 0;
  for (const ProfileEvent& e : events) threads = std::max(threads, e.thread + 1);
  EXPECT_GE(threads, 4);  // three of ours, the caller or the streams' threads
  EXPECT_TRUE(std::is_sorted(events.begin(), events.end(),
                             [](const auto& a, const auto& b) { return a.start < b.start; }));
}

TEST(Profile, MemoryIsSeenAtItsHighest) {
  const Array x = floats({1 << 16});
  const size_t before = get_active_memory(), bytes = size_t{1} << 18;
  Profile p;
  p.start();
  sum(matmul(reshape(x * 2.0, {256, 256}), reshape(x, {256, 256}))).eval();
  p.stop();
  // The factor and the product at once; blocks are at most an eighth larger than what was asked for.
  EXPECT_GE(p.peak_memory(), before + 2 * bytes);
  EXPECT_LE(p.peak_memory(), before + 2 * bytes + bytes / 2);
}

TEST(Profile, PeaksAndRoofline) {
  const MachinePeaks peaks = machine_peaks();
  EXPECT_GT(peaks.flops, 1e8);
  EXPECT_GT(peaks.bandwidth, 1e8);
  EXPECT_GT(peaks.threads, 0);
  const MachinePeaks again = machine_peaks();
  EXPECT_EQ(again.flops, peaks.flops);
  const MachinePeaks toy{100, 10, 1};
  EXPECT_DOUBLE_EQ(roofline(50, 1, 1, toy).share, 0.5);
  EXPECT_FALSE(roofline(50, 1, 1, toy).by_memory);
  EXPECT_DOUBLE_EQ(roofline(10, 5, 2, toy).share, 0.25);
  EXPECT_TRUE(roofline(10, 5, 2, toy).by_memory);
}

struct TraceCounts {
  int slices = 0, marks = 0, threads = 0, counters = 0;
};

// Reads a trace with the strict reader: what it does not know fails.
TraceCounts read_trace(const std::string& text) {
  TraceCounts counts;
  JsonReader json("test", "trace", text);
  json.object([&](const std::string& key) {
    if (key != "traceEvents") return json.skip();
    json.array([&] {
      json.object([&](const std::string& member) {
        if (member != "ph") return json.skip();
        const std::string phase = json.string();
        counts.slices += phase == "X";
        counts.marks += phase == "i";
        counts.threads += phase == "M";
        counts.counters += phase == "C";
      });
    });
  });
  json.end();
  return counts;
}

TEST(Profile, SavesATraceThatParses) {
  const Array x = floats({16, 16});
  Profile p;
  p.start();
  matmul(x, x).eval();
  (x + 1.0).eval();
  p.stop();
  const std::string path = testing::TempDir() + "lamina_profile_test.json";
  p.save(path);
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  const TraceCounts counts = read_trace(text.str());
  EXPECT_EQ(counts.slices, static_cast<int>(p.events().size()));
  EXPECT_EQ(counts.counters, counts.slices);
  EXPECT_EQ(counts.marks, 2);
  EXPECT_EQ(counts.threads, 1);
  std::filesystem::remove(path);
  EXPECT_THROW(p.save(testing::TempDir() + "no/such/folder/trace.json"), IoError);
  read_trace(Profile().trace());  // of nothing
}

}  // namespace
}  // namespace lamina
