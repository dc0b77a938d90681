#include "export/function_file.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <unordered_map>

#include "core/fail.h"
#include "export/slots.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "ops/params_of.h"

namespace lamina {
namespace {

using Form = SizeRule::Form;

constexpr int64_t kVersion = 1;
constexpr const char *kGraphs = "lamina.functions", *kVersionKey = "lamina.version", *kMetadata = "metadata";

// ---- writing ----

// Parameters as a JSON object. Floating-point numbers are strings in C's %a format, which is exact.
struct FieldWriter {
  std::string& out;
  bool first = true;
  template <class T>
  void field(const char* name, const T& v) {
    if (!first) out += ',';
    first = false;
    out += json_quote(name) + ':';
    add(v);
  }
  template <class T>
  void size(const char* name, const T& v) {
    field(name, v);
  }
  void add(double v) { out += fmt::format("\"{:a}\"", v); }
  void add(float v) { add(static_cast<double>(v)); }
  template <class T, size_t N>
  void add(const SmallVec<T, N>& v) {
    out += fmt::format("[{}]", fmt::join(v.begin(), v.end(), ","));
  }
  template <class T>
  requires std::is_integral_v<T> || std::is_enum_v<T>
  void add(T v) { out += std::to_string(static_cast<int64_t>(v)); }
};

void write_params(const NodeRecipe& r, std::string& out) {
  with_params(r.op, [&]<class P>(P) {
    if constexpr (!std::is_same_v<P, NoParams>) {
      const auto* p = dynamic_cast<const ParamsOf<P>*>(r.params.get());
      if (!p) fail<ValueError>("export_function", "{} has parameters of another op", op_info(r.op).name);
      out += ",\"params\":{";
      FieldWriter w{out};
      p->value.fields(w);
      out += '}';
    } else if (r.params) {
      fail<ValueError>("export_function", "{} has parameters that a file does not hold", op_info(r.op).name);
    }
  });
}

void write_types(const std::vector<ResultType>& types, std::string& out) {
  out += '[';
  for (size_t i = 0; i < types.size(); ++i) {
    const Shape& s = types[i].shape;
    out += fmt::format("{}[\"{}\",[{}]]", i ? "," : "", dtype_name(types[i].dtype),
                       fmt::join(s.begin(), s.end(), ","));
  }
  out += ']';
}

// Classes as lists of [input, axis]; the least and the most length of each, -1 for any; rules as [of a node,
// item, index, form, [[factor, [class, ...]], ...]].
void write_sizes(const GenericRecording& g, std::string& out) {
  if (g.classes.empty()) return;
  out += ",\"classes\":[";
  for (size_t i = 0; i < g.classes.size(); ++i) {
    out += i ? ",[" : "[";
    for (size_t k = 0; k < g.classes[i].size(); ++k) {
      out += fmt::format("{}[{},{}]", k ? "," : "", g.classes[i][k].input, g.classes[i][k].axis);
    }
    out += ']';
  }
  out += "],\"lengths\":[";
  for (size_t i = 0; i < g.ranges.size(); ++i) {
    const auto [least, most] = g.ranges[i];
    out += fmt::format("{}[{},{}]", i ? "," : "", least, most == INT64_MAX ? -1 : most);
  }
  out += "],\"rules\":[";
  for (size_t i = 0; i < g.rules.size(); ++i) {
    const SizeRule& r = g.rules[i];
    out += fmt::format("{}[{},{},{},{},[", i ? "," : "", static_cast<int>(r.slot.where), r.slot.item,
                       r.slot.index, static_cast<int>(r.form));
    for (size_t k = 0; k < r.terms.size(); ++k) {
      out += fmt::format("{}[{},[{}]]", k ? "," : "", r.terms[k].factor, fmt::join(r.terms[k].classes, ","));
    }
    out += "]]";
  }
  out += ']';
}

std::string graph_json(const FunctionFile::Function& f, const std::vector<size_t>& constants) {
  const Recording& r = f.graph.base;
  std::string out = fmt::format("{{\"positional\":{},\"names\":[", f.positional);
  for (size_t i = 0; i < f.names.size(); ++i) out += (i ? "," : "") + json_quote(f.names[i]);
  out += "],\"inputs\":";
  write_types(r.inputs, out);
  out += fmt::format(",\"constants\":[{}],\"nodes\":[", fmt::join(constants, ","));
  for (size_t i = 0; i < r.nodes.size(); ++i) {
    const Recording::Item& item = r.nodes[i];
    out += fmt::format("{}{{\"op\":{},\"in\":[{}],\"out\":", i ? "," : "",
                       json_quote(op_info(item.recipe.op).name), fmt::join(item.operands, ","));
    write_types(item.recipe.results, out);
    write_params(item.recipe, out);
    out += '}';
  }
  out += fmt::format("],\"outputs\":[{}]", fmt::join(r.outputs, ","));
  write_sizes(f.graph, out);
  return out + '}';
}

// ---- reading ----

Shape read_lengths(JsonReader& json) {
  Shape out;
  json.array([&] { out.push_back(json.natural_number()); });
  return out;
}

std::vector<ResultType> read_types(JsonReader& json) {
  std::vector<ResultType> out;
  json.array([&] {
    ResultType t{{}, Dtype::kFloat32};
    int part = 0;
    json.array([&] {
      const size_t at = json.offset();
      if (part == 0) t.dtype = dtype_from_name(json.string());
      if (part == 1) t.shape = read_lengths(json);
      if (part++ > 1) json.fail_at(at, "a dtype and a shape", "more");
    });
    if (part != 2) json.fail_at(json.offset(), "a dtype and a shape", "less");
    out.push_back(t);
  });
  return out;
}

uint32_t read_below(JsonReader& json, size_t most) {
  const size_t at = json.offset();
  const int64_t n = json.natural_number();
  if (static_cast<uint64_t>(n) >= most) {
    json.fail_at(at, fmt::format("a number below {}", most), std::to_string(n));
  }
  return static_cast<uint32_t>(n);
}

std::vector<uint32_t> read_numbers(JsonReader& json, size_t below) {
  std::vector<uint32_t> out;
  json.array([&] { out.push_back(read_below(json, below)); });
  return out;
}

// Fills the field called `name`; visit each field of a parameter struct with it.
struct FieldReader {
  JsonReader& json;
  const std::string& name;
  bool found = false;
  int fields = 0;
  template <class T>
  void field(const char* field_name, T& v) {
    ++fields;
    if (name != field_name) return;
    found = true;
    read(v);
  }
  template <class T>
  void size(const char* field_name, T& v) {
    field(field_name, v);
  }
  void read(double& v) {
    const size_t at = json.offset();
    const std::string text = json.string();
    char* end = nullptr;
    v = std::strtod(text.c_str(), &end);
    if (text.empty() || *end) json.fail_at(at, "a floating-point number", text);
  }
  void read(float& v) {
    double wide = 0;
    read(wide);
    v = static_cast<float>(wide);
  }
  void read(int64_t& v) { v = json.integer(); }
  template <class T>
  requires(std::is_integral_v<T> || std::is_enum_v<T>) void read(T& v) {
    const size_t at = json.offset();
    const int64_t n = json.integer();
    const int64_t most = std::is_same_v<T, bool> ? 1 : std::is_enum_v<T> ? 255 : INT32_MAX;
    if (n > most || n < (std::is_same_v<T, int> ? INT32_MIN : 0)) {
      json.fail_at(at, fmt::format("a number up to {}", most), std::to_string(n));
    }
    v = static_cast<T>(n);
  }
  template <size_t N>
  void read(SmallVec<int64_t, N>& v) {
    v.clear();
    json.array([&] { v.push_back(json.integer()); });
  }
};

Ref<Params> read_params(JsonReader& json, OpId op) {
  return with_params(op, [&]<class P>(P p) -> Ref<Params> {
    int seen = 0, wanted = 0;
    json.object([&](const std::string& key) {
      FieldReader r{json, key};
      p.fields(r);
      if (!r.found) { json.fail_at(json.offset(), fmt::format("a parameter of {}", op_info(op).name), key); }
      ++seen;
      wanted = r.fields;
    });
    if constexpr (std::is_same_v<P, NoParams>) {
      return nullptr;
    } else {
      if (seen != wanted) {
        json.fail_at(json.offset(), fmt::format("{} parameters of {}", wanted, op_info(op).name),
                     std::to_string(seen));
      }
      return make_params(p);
    }
  });
}

OpId op_from_name(const JsonReader& json, size_t at, const std::string& name) {
  static const auto& by_name = *[] {
    auto* all = new std::unordered_map<std::string_view, OpId>;
    for (int i = 0; i < kNumOps; ++i) all->emplace(op_info(static_cast<OpId>(i)).name, static_cast<OpId>(i));
    return all;
  }();
  const auto it = by_name.find(name);
  if (it == by_name.end()) json.fail_at(at, "an op of this library", "'" + name + "'");
  return it->second;
}

Recording::Item read_node(JsonReader& json, size_t below) {
  Recording::Item item;
  bool named = false;
  json.object([&](const std::string& key) {
    const size_t at = json.offset();
    if (key == "op") {
      item.recipe.op = op_from_name(json, at, json.string());
      named = true;
    } else if (key == "in") {
      item.operands = read_numbers(json, below);
    } else if (key == "out") {
      item.recipe.results = read_types(json);
    } else if (key == "params" && named) {
      item.recipe.params = read_params(json, item.recipe.op);
    } else {
      json.fail_at(at, "op, in, out and params", key);
    }
  });
  if (!named) json.fail_at(json.offset(), "a node with an op", "none");
  return item;
}

// The elements of an array of fixed length: read(i) reads number i.
template <class F>
void read_fixed(JsonReader& json, int count, const F& read) {
  int i = 0;
  json.array([&] {
    if (i == count) json.fail_at(json.offset(), fmt::format("{} elements", count), "more");
    read(i++);
  });
  if (i != count) json.fail_at(json.offset(), fmt::format("{} elements", count), std::to_string(i));
}

std::vector<GenericRecording::AxisOf> read_class(JsonReader& json, const Recording& r) {
  std::vector<GenericRecording::AxisOf> out;
  json.array([&] {
    GenericRecording::AxisOf a{0, 0};
    read_fixed(json, 2, [&](int i) {
      if (i == 0) a.input = read_below(json, r.inputs.size());
      if (i == 1) a.axis = read_below(json, r.inputs[a.input].shape.size());
    });
    out.push_back(a);
  });
  if (out.empty()) json.fail_at(json.offset(), "an axis", "none");
  return out;
}

GenericRecording::Range read_range(JsonReader& json) {
  GenericRecording::Range out;
  read_fixed(json, 2, [&](int i) { (i == 0 ? out.least : out.most) = json.integer(); });
  if (out.most == -1) out.most = INT64_MAX;
  return out;
}

SizeRule read_rule(JsonReader& json, const GenericRecording& g) {
  SizeRule rule;
  read_fixed(json, 5, [&](int i) {
    const Recording& r = g.base;
    if (i == 0) rule.slot.where = static_cast<Slot::Where>(read_below(json, 2));
    const bool node = rule.slot.where == Slot::Where::kNode;
    if (i == 1) rule.slot.item = read_below(json, node ? r.nodes.size() : r.constants.size());
    if (i == 2) rule.slot.index = read_below(json, UINT32_MAX);
    if (i == 3) rule.form = static_cast<Form>(read_below(json, 4));
    if (i < 4) return;
    json.array([&] {
      SizeRule::Term t{0, {}};
      read_fixed(json, 2, [&](int k) {
        if (k == 0) t.factor = json.integer();
        if (k == 1) t.classes = read_numbers(json, g.classes.size());
      });
      rule.terms.push_back(std::move(t));
    });
  });
  return rule;
}

// Rules name slots that there are, in their order; what a slot holds is known from the recording.
void check_rules(const JsonReader& json, GenericRecording& g) {
  const SlotList slots = slots_of(g.base);
  size_t s = 0;
  for (SizeRule& r : g.rules) {
    while (s < slots.slots.size() && slots.slots[s] != r.slot) ++s;
    if (s == slots.slots.size()) json.fail_at(json.offset(), "rules of sizes that there are", "others");
    r.integer = slots.values[s++].integer;
  }
}

FunctionFile::Function read_function(JsonReader& json, const Arrays& tensors) {
  FunctionFile::Function f;
  Recording& r = f.graph.base;
  json.object([&](const std::string& key) {
    const size_t at = json.offset();
    if (key == "positional") {
      f.positional = static_cast<size_t>(json.natural_number());
    } else if (key == "names") {
      json.array([&] { f.names.push_back(json.string()); });
    } else if (key == "inputs") {
      r.inputs = read_types(json);
    } else if (key == "constants") {
      for (uint32_t i : read_numbers(json, tensors.size())) r.constants.push_back(tensors[i]);
    } else if (key == "nodes") {
      json.array([&] { r.nodes.push_back(read_node(json, r.values())); });
    } else if (key == "outputs") {
      r.outputs = read_numbers(json, r.values());
    } else if (key == "classes") {
      json.array([&] { f.graph.classes.push_back(read_class(json, r)); });
    } else if (key == "lengths") {
      json.array([&] { f.graph.ranges.push_back(read_range(json)); });
    } else if (key == "rules") {
      json.array([&] { f.graph.rules.push_back(read_rule(json, f.graph)); });
    } else {
      json.fail_at(at, "a part of a function", key);
    }
  });
  check_rules(json, f.graph);
  if (!f.graph.ranges.empty() && f.graph.ranges.size() != f.graph.classes.size()) {
    json.fail_at(json.offset(), "lengths of each class", std::to_string(f.graph.ranges.size()));
  }
  if (f.positional > r.inputs.size() || r.inputs.size() - f.positional != f.names.size()) {
    json.fail_at(json.offset(), "a name for each input that is not positional", "another number of names");
  }
  return f;
}

// ---- constants ----

Array constant_over(const LoadedTensor& t) {
  Array out(Node::create());
  Node* n = out.node();
  n->dtype = t.tensor.dtype;
  n->shape = t.tensor.shape;
  if (n->shape.empty()) {
    n->op = OpId::Scalar;
    std::memcpy(n->scalar.bytes, t.tensor.bytes.data(), t.tensor.bytes.size());
  } else {
    n->strides = row_major_strides(n->shape);
    n->buffer = t.storage;
    n->offset = (t.tensor.bytes.data() - static_cast<const std::byte*>(t.storage->data())) /
                static_cast<int64_t>(itemsize(n->dtype));
  }
  n->state.store(NodeState::kReady, std::memory_order_release);
  return out;
}

std::string tensor_name(size_t i) { return fmt::format("constant.{}", i); }

}  // namespace

void write_function_file(const std::string& path, const FunctionFile& file) {
  std::vector<Array> arrays;
  std::unordered_map<const Node*, size_t> numbers;
  std::string graphs;
  for (const FunctionFile::Function& f : file.functions) {
    std::vector<size_t> constants;
    for (const Array& a : f.graph.base.constants) {
      const auto [it, fresh] = numbers.emplace(a.node(), arrays.size());
      if (fresh) arrays.push_back(contiguous(a));
      constants.push_back(it->second);
    }
    graphs += (graphs.empty() ? "[" : ",") + graph_json(f, constants);
  }
  eval(arrays);
  std::vector<NamedTensor> tensors;
  for (size_t i = 0; i < arrays.size(); ++i) {
    const View v = arrays[i].node()->view();
    const auto* bytes = static_cast<const std::byte*>(v.data);
    tensors.push_back({tensor_name(i), {v.dtype, v.shape, false, {bytes, arrays[i].nbytes()}}});
  }
  save_safetensors(
      path, tensors,
      {{kGraphs, graphs + "]"}, {kVersionKey, std::to_string(kVersion)}, {kMetadata, file.metadata}});
}

FunctionFile read_function_file(const std::string& path) {
  constexpr const char* kOp = "import_function";
  const LoadedSafetensors loaded = load_safetensors(path);
  auto text = [&](const char* key) -> const std::string& {
    const auto it = loaded.metadata.find(key);
    if (it == loaded.metadata.end()) {
      fail<ValueError>(kOp, "'{}' holds no exported functions: wanted the metadata '{}'", path, key);
    }
    return it->second;
  };
  JsonReader version(kOp, path, text(kVersionKey));
  if (const int64_t v = version.natural_number(); v != kVersion) {
    fail<ValueError>(kOp, "'{}' is of version {}, this library reads version {}", path, v, kVersion);
  }
  std::unordered_map<std::string_view, const LoadedTensor*> by_name;
  for (const LoadedTensor& t : loaded.tensors) by_name.emplace(t.name, &t);
  Arrays tensors;
  for (size_t i = 0; i < loaded.tensors.size(); ++i) {
    const auto it = by_name.find(tensor_name(i));
    if (it == by_name.end()) fail<ValueError>(kOp, "'{}': wanted a tensor {}", path, tensor_name(i));
    tensors.push_back(constant_over(*it->second));
  }
  FunctionFile file;
  JsonReader json(kOp, path, text(kGraphs));
  json.array([&] { file.functions.push_back(read_function(json, tensors)); });
  json.end();
  file.metadata = text(kMetadata);
  return file;
}

}  // namespace lamina
