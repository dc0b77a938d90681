#include "backend/cpu/measured.h"

#include <cpuid.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "backend/cpu/rate_kernel.h"
#include "backend/cpu/simd_target.h"
#include "graph/profiler.h"
#include "io/file.h"
#include "lamina/error.h"
#include "lamina/version.h"

namespace lamina::cpu {
namespace {

bool has_target(std::string_view name) {
  const std::vector<std::string> names = supported_simd_targets();
  return std::find(names.begin(), names.end(), name) != names.end();
}

struct Field {
  std::string_view name;
  double MeasuredRates::*rate;
};
constexpr Field kFields[] = {{"f32", &MeasuredRates::f32},
                             {"bf16_dot", &MeasuredRates::bf16_dot},
                             {"int8_dot", &MeasuredRates::int8_dot},
                             {"amx_bf16", &MeasuredRates::amx_bf16},
                             {"amx_int8", &MeasuredRates::amx_int8}};

struct Probe {
  const RateLoop* loop;
  double MeasuredRates::*rate;
  int64_t rounds = 64;
};

int64_t time_of(const Probe& p) {
  const int64_t start = profiling::now();
  p.loop->run(p.rounds);
  return std::max<int64_t>(profiling::now() - start, 1);
}

// In turns, so that what disturbs the machine for a while disturbs them all.
void measure(std::span<Probe> probes, MeasuredRates& rates) {
  constexpr int64_t kLeastNanoseconds = 30'000;
  constexpr int kTurns = 10;
  for (Probe& p : probes) {
    while (time_of(p) < kLeastNanoseconds) p.rounds *= 2;
  }
  for (int turn = 0; turn < kTurns; ++turn) {
    for (const Probe& p : probes) {
      const double ops = p.loop->ops * static_cast<double>(p.rounds);
      rates.*p.rate = std::max(rates.*p.rate, ops * 1e9 / static_cast<double>(time_of(p)));
    }
  }
}

// FNV-1a.
uint64_t hash_of(std::string_view text) {
  uint64_t h = 0xcbf29ce484222325;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return h;
}

// As the system reports it of its first processor; empty where it does not.
std::string microcode() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("microcode", 0) == 0) return line;
  }
  return "";
}

// Folder of the user's files that can be made anew at any time.
std::filesystem::path cache_folder() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::filesystem::path(value ? value : "");
  };
  if (auto own = variable("LAMINA_CACHE_DIR"); !own.empty()) return own;
  // Relative ones are invalid, says the XDG specification.
  if (const auto base = variable("XDG_CACHE_HOME"); base.is_absolute()) return base / "lamina";
  if (const auto home = variable("HOME"); home.is_absolute()) return home / ".cache" / "lamina";
  return {};
}

constexpr std::string_view kHead = "lamina rates 1", kEnd = "end";
constexpr size_t kMostBytes = 4096;

// The next line of the text, which loses it; nothing where no whole line is left.
std::optional<std::string_view> take_line(std::string_view& text) {
  const size_t end = text.find('\n');
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end + 1);
  return line;
}

// The number in a line "name value", where it can be a rate.
std::optional<double> rate_in(std::string_view line, std::string_view name) {
  if (line.substr(0, name.size()) != name || line.size() <= name.size() || line[name.size()] != ' ')
    return {};
  line.remove_prefix(name.size() + 1);
  double value = -1;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
  if (error != std::errc() || end != line.data() + line.size()) return {};
  const bool plausible = value == 0 || (value >= 1e6 && value <= 1e18);
  return plausible ? std::optional(value) : std::nullopt;
}

std::optional<MeasuredRates> parse_rates(std::string_view text, const std::string& key) {
  if (take_line(text) != kHead || take_line(text) != "key " + key) return {};
  MeasuredRates rates;
  for (const Field& f : kFields) {
    const std::optional<std::string_view> line = take_line(text);
    const std::optional<double> rate = line ? rate_in(*line, f.name) : std::nullopt;
    if (!rate) return {};
    rates.*f.rate = *rate;
  }
  const bool whole = take_line(text) == kEnd && text.empty();
  return whole ? std::optional(rates) : std::nullopt;
}

std::string text_of(const std::string& key, const MeasuredRates& rates) {
  std::string text = fmt::format("{}\nkey {}\n", kHead, key);
  for (const Field& f : kFields) text += fmt::format("{} {:.6g}\n", f.name, rates.*f.rate);
  return text += fmt::format("{}\n", kEnd);
}

}  // namespace

bool bf16_dot_supported() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kBFloat16 = 1u << 5;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & kBFloat16) && has_target("avx3_dl");
}

MeasuredRates measure_rates() {
  MeasuredRates rates;
  std::vector<Probe> vectors;
  if (has_target("avx2")) {
    vectors.push_back({has_target("avx3") ? &kRateF32Avx512 : &kRateF32Avx2, &MeasuredRates::f32});
  }
  if (bf16_dot_supported()) vectors.push_back({&kRateBFloat16Dot, &MeasuredRates::bf16_dot});
  if (has_target("avx3_dl")) vectors.push_back({&kRateInt8Dot, &MeasuredRates::int8_dot});
  measure(vectors, rates);
  // Last: they slow vectors down for some time.
  if (has_target("amx")) {
    Probe tiles[] = {{&kRateAmxBFloat16, &MeasuredRates::amx_bf16},
                     {&kRateAmxInt8, &MeasuredRates::amx_int8}};
    measure(tiles, rates);
  }
  return rates;
}

std::string rates_key() {
  unsigned model = 0, a = 0, b = 0, c = 0, d = 0;
  std::string facts = microcode();
  // Vendor, flags, more flags of two leaves. What else leaf 1 has in b is of one processor among several.
  if (__get_cpuid(0, &a, &b, &c, &d)) facts += fmt::format(" {:x} {:x} {:x}", b, c, d);
  if (__get_cpuid(1, &model, &b, &c, &d)) facts += fmt::format(" {:x} {:x} {:x}", model, c, d);
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) facts += fmt::format(" {:x} {:x} {:x}", b, c, d);
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) facts += fmt::format(" {:x}", a);
  for (const std::string& target : supported_simd_targets()) facts += " " + target;
  const unsigned base = model >> 8 & 15;
  const unsigned family = base == 15 ? base + (model >> 20 & 255) : base;
  return fmt::format("{}-{}-{}-{}-{:016x}", library_version(), family,
                     (model >> 4 & 15) | (model >> 12 & 0xf0), model & 15, hash_of(facts));
}

std::string rates_file() {
  const std::filesystem::path folder = cache_folder();
  return folder.empty() ? "" : (folder / ("rates-" + rates_key() + ".txt")).string();
}

std::optional<MeasuredRates> read_rates(const std::string& file, const std::string& key) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(file, error)) return {};
  try {
    const InputFile in(file);
    std::string text(std::min(in.size_bytes(), kMostBytes), '\0');
    in.read_at(0, std::as_writable_bytes(std::span(text)));
    return parse_rates(text, key);
  } catch (const IoError&) { return {}; }
}

bool write_rates(const std::string& file, const std::string& key, const MeasuredRates& rates) {
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(file).parent_path(), error);
  try {
    AtomicFile out(file);
    out.write(text_of(key, rates));
    out.commit();
    return true;
  } catch (const IoError&) { return false; }
}

KnownRates read_or_measure(const std::string& file) {
  if (file.empty()) return {measure_rates(), "", false};
  const std::string key = rates_key();
  if (const auto kept = read_rates(file, key)) return {*kept, file, true};
  const MeasuredRates fresh = measure_rates();
  if (const auto others = read_rates(file, key)) return {*others, file, true};
  const bool written = write_rates(file, key, fresh);
  return {fresh, written ? file : "", false};
}

const KnownRates& known_rates() {
  // No lock that a fork could find held: threads may measure at once, and then the first to end counts.
  static std::atomic<const KnownRates*> known{nullptr};
  if (const KnownRates* k = known.load(std::memory_order_acquire)) return *k;
  auto made = std::make_unique<const KnownRates>(read_or_measure(rates_file()));
  const KnownRates* first = nullptr;
  if (known.compare_exchange_strong(first, made.get(), std::memory_order_acq_rel)) return *made.release();
  return *first;
}

}  // namespace lamina::cpu
