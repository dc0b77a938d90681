#include <algorithm>
#include <array>

#include "core/fail.h"
#include "explain/words.h"
#include "lamina/explain.h"

namespace lamina {

std::string in_bytes(uint64_t n) {
  if (n < 1000) return fmt::format("{} B", n);
  static constexpr const char* kUnits[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
  double x = static_cast<double>(n) / 1000;
  size_t unit = 0;
  for (; x >= 999.95 && unit + 1 < std::size(kUnits); ++unit) x /= 1000;
  return fmt::format("{:.1f} {}", x, kUnits[unit]);
}

std::string in_flops(double n) {
  static constexpr const char* kUnits[] = {"", " k", " M", " G", " T", " P"};
  size_t unit = 0;
  for (; n >= 999.95 && unit + 1 < std::size(kUnits); ++unit) n /= 1000;
  return unit == 0 ? fmt::format("{:.0f}", n) : fmt::format("{:.1f}{}", n, kUnits[unit]);
}

std::string type_of(const Explanation::Value& v) { return fmt::format("{} {}", v.dtype, v.shape); }

std::string reference(const Explanation& e, uint32_t value) {
  const Explanation::Value& v = e.values[value];
  if (!v.name.empty()) return v.name;
  return fmt::format("{}{}", v.source == Explanation::Source::kConstant ? "constant " : "%", value);
}

const char* word_of(Explanation::Kind kind) {
  static constexpr std::array<const char*, 4> kWords{"tape", "kernel", "view", "kernel with epilogue"};
  return kWords[static_cast<size_t>(kind)];
}

const char* word_of(Explanation::Source source) {
  static constexpr std::array<const char*, 3> kWords{"input", "constant", "computed"};
  return kWords[static_cast<size_t>(source)];
}

std::string counted(uint64_t n, const char* what) {
  return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
}

namespace {

using Kind = Explanation::Kind;
using Value = Explanation::Value;
using Row = std::vector<std::string>;

constexpr size_t kCellLetters = 48;  // of a list in one cell; its first entry may be longer

// "multiply x2, exp, add, ... (12)": equal neighbours once, long lists cut short.
std::string joined(const std::vector<std::string>& words) {
  std::string text;
  size_t parts = 0;
  for (size_t i = 0; i < words.size(); ++parts) {
    size_t end = i + 1;
    while (end < words.size() && words[end] == words[i]) ++end;
    const std::string more = words[i] + (end - i > 1 ? fmt::format(" x{}", end - i) : "");
    if (parts > 0 && text.size() + more.size() > kCellLetters) {
      return text + fmt::format(", ... ({} in all)", words.size());
    }
    text += (parts > 0 ? ", " : "") + more;
    i = end;
  }
  return text;
}

// Rows as columns two blanks apart; `right` says which columns end flush. The last column is not padded.
std::string aligned(const std::vector<Row>& rows, const std::vector<bool>& right) {
  std::vector<size_t> width(right.size(), 0);
  for (const Row& r : rows) {
    for (size_t c = 0; c < r.size(); ++c) width[c] = std::max(width[c], r[c].size());
  }
  std::string text;
  for (const Row& r : rows) {
    std::string line = " ";
    for (size_t c = 0; c < r.size(); ++c) {
      line += right[c] ? fmt::format(" {:>{}}", r[c], width[c]) : fmt::format(" {:<{}}", r[c], width[c]);
      if (c + 1 < r.size()) line += ' ';
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + '\n';
  }
  return text;
}

std::string values_text(const Explanation& e) {
  std::vector<Row> rows;
  for (uint32_t i = 0; i < e.values.size(); ++i) {
    const Value& v = e.values[i];
    if (v.source == Explanation::Source::kComputed) continue;
    const bool scalar = v.source == Explanation::Source::kConstant && !v.name.empty();
    if (!scalar) rows.push_back({reference(e, i), type_of(v)});
  }
  return rows.empty() ? "" : "reads\n" + aligned(rows, {false, false});
}

Row row_of(const Explanation& e, size_t number) {
  const Explanation::Step& s = e.steps[number];
  std::vector<std::string> ops, reads, results;
  for (uint32_t v : s.values) ops.push_back(e.values[v].op);
  for (uint32_t v : s.reads) reads.push_back(reference(e, v));
  const std::vector<uint32_t>& made = s.writes.empty() ? s.values : s.writes;
  for (uint32_t v : made) { results.push_back(fmt::format("{} {}", reference(e, v), type_of(e.values[v]))); }
  Row row{std::to_string(number + 1), word_of(s.kind), joined(ops), joined(results), joined(reads)};
  if (s.kind == Kind::kView) {
    row.insert(row.end(), {"", "", ""});
  } else {
    row.insert(row.end(),
               {in_bytes(s.bytes_read), in_bytes(s.bytes_written), s.flops ? in_flops(*s.flops) : "?"});
  }
  return row;
}

std::string steps_text(const Explanation& e) {
  if (e.steps.empty()) return "";
  std::vector<Row> rows{{"step", "kind", "ops", "result", "from", "read", "written", "flop"}};
  for (size_t i = 0; i < e.steps.size(); ++i) rows.push_back(row_of(e, i));
  std::string text = "steps\n" + aligned(rows, {true, false, false, false, false, true, true, true});
  for (size_t i = 0; i < e.steps.size(); ++i) {
    for (uint32_t v : e.steps[i].copied) {
      text += fmt::format("  step {} first copies {}: its elements do not lie in row-major order\n", i + 1,
                          reference(e, v));
    }
  }
  return text;
}

std::string unfused_text(const Explanation& e) {
  if (e.unfused.empty()) return "";
  std::vector<Row> rows;
  auto place = [&](uint32_t v) {
    return fmt::format("{} {} (step {})", reference(e, v), e.values[v].op, e.values[v].step + 1);
  };
  for (const Explanation::Unfused& u : e.unfused) {
    rows.push_back({place(u.producer), "->", place(u.consumer), u.reason});
  }
  return "not fused\n" + aligned(rows, {false, false, false, false});
}

}  // namespace

std::string to_text(const Explanation& e) {
  size_t ops = 0, inside = 0;
  for (const Value& v : e.values) {
    ops += v.step >= 0;
    inside += v.step >= 0 && !v.in_memory;
  }
  if (ops == 0) return "nothing to compute\n" + values_text(e);
  double flops = 0;
  for (const Explanation::Step& s : e.steps) flops += s.flops.value_or(0);
  const size_t fused = e.count(Kind::kWithEpilogue);
  std::string text =
      fmt::format("{}: {}, {}{}, {}; the plan {}\n", counted(ops, "op"),
                  counted(e.count(Kind::kTape), "tape"), counted(e.count(Kind::kKernel) + fused, "kernel"),
                  fused ? fmt::format(" ({} with epilogue)", fused) : "",
                  counted(e.count(Kind::kView), "view"), e.plan_known ? "is in the cache" : "is new");
  text += fmt::format("{} read, {} written, {} flop; {} never in memory ({})\n", in_bytes(e.bytes_read()),
                      in_bytes(e.bytes_written()), in_flops(flops), counted(inside, "value"),
                      in_bytes(e.bytes_saved()));
  text += values_text(e) + steps_text(e);
  std::vector<std::string> results;
  for (uint32_t v : e.outputs) results.push_back(reference(e, v));
  if (!results.empty()) text += "results\n  " + joined(results) + "\n";
  return text + unfused_text(e);
}

}  // namespace lamina
