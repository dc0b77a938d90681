#include <fmt/format.h>

#include <map>

#include "bindings/signature.h"

namespace lamina::bind {
namespace {

// What parameters of a usual name are, so that each function describes only what is special to it.
const std::map<std::string_view, std::string_view>& glossary() {
  static const std::map<std::string_view, std::string_view> words = {
      {"a", "Input array, of any shape."},
      {"b", "Second input; its shape broadcasts with the first's."},
      {"x", "Input array."},
      {"axis", "Axis to work along; negative axes count from the end."},
      {"axes", "Axes to work along; negative axes count from the end."},
      {"keepdims", "Keep the reduced axes with length 1."},
      {"dtype", "Dtype of the result."},
      {"shape", "Lengths of the axes."},
      {"stream", "Stream or device to run on; the current one by default."},
      {"key", "Random key, uint32 of shape (2,); by default the next one of the implicit sequence."},
      {"ddof", "Delta degrees of freedom: the divisor is n - ddof."},
      {"indices", "Integer indices; negative ones count from the end."},
      {"reverse", "Accumulate from the end."},
      {"inclusive", "Include the element itself in its result."},
      {"fun", "The function."},
      {"copy", "True: always copy; False: never copy, raise ValueError instead; None: copy where needed."},
      {"file", "File name, path or binary file object."},
      {"rtol", "Relative tolerance."},
      {"atol", "Absolute tolerance."},
      {"equal_nan", "Whether NaN equals NaN."},
      {"group_size", "Elements of the last axis that share a scale; 64 by default."},
      {"bits", "Bits of a packed element; 4 by default."},
      {"arrays", "Input arrays."},
      {"arys", "Input arrays."},
      {"arr", "The array."},
      {"arrays_and_dtypes", "Arrays and dtypes."},
      {"args", "Positional arguments."},
      {"kwargs", "Keyword arguments."},
      {"self", "The array."},
  };
  return words;
}

struct Parts {
  std::string prose, returns, raises, examples;
  std::map<std::string, std::string, std::less<>> parameters;
};

std::string_view next_line(std::string_view& text) {
  const size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  return line;
}

void add_directive(Parts& parts, std::string_view line) {
  const size_t space = line.find(' ');
  const std::string_view word = line.substr(1, space - 1), rest = line.substr(space + 1);
  if (word == "returns") {
    parts.returns = std::string(rest);
  } else if (word == "raises") {
    const size_t gap = rest.find(' ');
    parts.raises += fmt::format("{}\n    {}\n", rest.substr(0, gap), rest.substr(gap + 1));
  } else {
    parts.parameters[std::string(word)] = std::string(rest);
  }
}

Parts split_text(std::string_view text) {
  Parts parts;
  bool example = false;
  while (!text.empty()) {
    const std::string_view line = next_line(text);
    example |= line.substr(0, 4) == ">>> ";
    if (!example && !line.empty() && line.front() == '@') {
      add_directive(parts, line);
    } else {
      std::string& to = example ? parts.examples : parts.prose;
      to += line;
      to += '\n';
    }
  }
  while (!parts.prose.empty() && parts.prose.back() == '\n') parts.prose.pop_back();
  return parts;
}

std::string describe(const Parameter& p, const Parts& parts) {
  const auto own = parts.parameters.find(p.name);
  if (own != parts.parameters.end()) return own->second;
  const auto usual = glossary().find(p.name);
  return usual == glossary().end() ? std::string() : std::string(usual->second);
}

std::string parameter_section(const Signature& signature, const Parts& parts, bool method) {
  std::string out;
  for (size_t i = method ? 1 : 0; i < signature.parameters().size(); ++i) {
    const Parameter& p = signature.parameters()[i];
    const char* stars = p.kind == ParameterKind::kVarPositional ? "*"
                        : p.kind == ParameterKind::kVarKeyword  ? "**"
                                                                : "";
    out += stars + p.name;
    if (!p.type.empty()) out += " : " + p.type;
    if (p.fallback) out += ", default " + p.default_text;
    const std::string text = describe(p, parts);
    out += text.empty() ? "\n" : "\n    " + text + "\n";
  }
  return out.empty() ? out : "\n\nParameters\n----------\n" + out;
}

}  // namespace

std::string document(const Signature& signature, std::string_view text, bool method) {
  const Parts parts = split_text(text);
  std::string out = signature.name() + signature.for_inspect(method) + "\n--\n\n" + parts.prose;
  out += parameter_section(signature, parts, method);
  if (signature.returns() != "None") {
    out += out.back() == '\n' ? "\n" : "\n\n";
    out += "Returns\n-------\n" + signature.returns() + "\n";
    if (!parts.returns.empty()) out += "    " + parts.returns + "\n";
  }
  if (!parts.raises.empty()) out += "\nRaises\n------\n" + parts.raises;
  if (!parts.examples.empty()) out += "\nExamples\n--------\n" + parts.examples;
  return out;
}

}  // namespace lamina::bind
