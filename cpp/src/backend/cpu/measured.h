#pragma once

#include <optional>
#include <string>

namespace lamina::cpu {

// What one core of this processor was measured to do, in operations a second; a multiply-add is two of them,
// so that a bfloat16 dot that is as fast as a float32 multiply-add has twice its rate. 0 is what the
// processor, the system or this build has not. They do not depend on the SIMD target in use.
struct MeasuredRates {
  double f32 = 0;       // float32 multiply-adds in the widest vectors
  double bf16_dot = 0;  // vdpbf16ps of 512 bits (avx512_bf16)
  double int8_dot = 0;  // vpdpbusd of 512 bits (avx512_vnni)
  double amx_bf16 = 0, amx_int8 = 0;
};

// Whether this CPU and build have vdpbf16ps.
bool bf16_dot_supported();

// Runs each loop for tens of microseconds, some of them in turns, and takes the best: 2 ms in all.
MeasuredRates measure_rates();

// What rates belong to: this library's version, the processor's model, microcode and flags, and the system.
std::string rates_key();
// The file that keeps them: named by the key, in LAMINA_CACHE_DIR, XDG_CACHE_HOME/lamina or
// HOME/.cache/lamina, whichever is set first; empty where none is.
std::string rates_file();
// The rates in a file. Nothing where it is not there, unreadable, cut short, of another key, or wrong in any
// other way.
std::optional<MeasuredRates> read_rates(const std::string& file, const std::string& key);
// Makes the folder and the file, which appears whole or not at all. False where that cannot be done.
bool write_rates(const std::string& file, const std::string& key, const MeasuredRates& rates);

struct KnownRates {
  MeasuredRates rates;
  std::string file;        // that holds them; empty where none could be written
  bool from_file = false;  // rather than measured by this process
};
// Those of `file`, or fresh ones, which are kept there where possible. If another process was faster to write
// them, its ones count for both.
KnownRates read_or_measure(const std::string& file);
// Those of this process: the first call reads or measures, later ones give the same.
const KnownRates& known_rates();

}  // namespace lamina::cpu
