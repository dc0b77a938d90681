#include "lamina/export.h"

#include <map>
#include <mutex>

#include "autograd/trace.h"
#include "core/fail.h"
#include "export/function_file.h"

namespace lamina {
namespace {

Arrays all_inputs(const Arrays& positional, const NamedArrays& named) {
  Arrays out = positional;
  for (const auto& [name, a] : named) out.push_back(a);
  return out;
}

// Whether f takes such arguments; `exactly`: with just these lengths recorded.
bool takes(const FunctionFile::Function& f, size_t positional, const NamedArrays& named, const Arrays& inputs,
           bool exactly) {
  if (f.positional != positional || f.names.size() != named.size()) return false;
  for (size_t i = 0; i < named.size(); ++i) {
    if (f.names[i] != named[i].first) return false;
  }
  if (!exactly) return fits(f.graph, inputs);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (f.graph.base.inputs[i] != ResultType{inputs[i].shape(), inputs[i].dtype()}) return false;
  }
  return true;
}

NamedArrays sorted(NamedArrays named, const char* op) {
  std::sort(named.begin(), named.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (size_t i = 1; i < named.size(); ++i) {
    if (named[i].first == named[i - 1].first) fail<ValueError>(op, "'{}' is named twice", named[i].first);
  }
  return named;
}

// "float32 (2, 3)", and with lengths of classes by their letters "float32 (a, 3)".
std::string describe_input(const GenericRecording& g, uint32_t input) {
  const Shape& s = g.base.inputs[input].shape;
  std::vector<std::string> lengths;
  for (int64_t n : s) lengths.push_back(std::to_string(n));
  for (size_t c = 0; c < g.classes.size(); ++c) {
    for (const auto& a : g.classes[c]) {
      if (a.input == input) lengths[a.axis] = std::string(1, static_cast<char>('a' + c));
    }
  }
  return fmt::format("{} ({}{})", g.base.inputs[input].dtype, fmt::join(lengths, ", "),
                     s.size() == 1 ? "," : "");
}

// "(float32 (2, 3), y=float32 (3,))", and what lengths may be: "(float32 (a, 3)), a from 5"
std::string describe(const FunctionFile::Function& f) {
  std::string out;
  for (size_t i = 0; i < f.graph.base.inputs.size(); ++i) {
    out += i ? ", " : "";
    if (i >= f.positional) out += f.names[i - f.positional] + "=";
    out += describe_input(f.graph, static_cast<uint32_t>(i));
  }
  out = "(" + out + ")";
  for (size_t c = 0; c < f.graph.ranges.size(); ++c) {
    const auto [least, most] = f.graph.ranges[c];
    const char letter = static_cast<char>('a' + c);
    if (least > 1) out += fmt::format(", {} from {}", letter, least);
    if (most < INT64_MAX) out += fmt::format(", {} up to {}", letter, most);
  }
  return out;
}

}  // namespace

struct FunctionExporter::Impl {
  std::string path;
  Function fun;
  FunctionFile file;
  Function probe;  // set for files of any shapes
  bool open = true;
};

FunctionExporter::FunctionExporter(std::string path, Function fun, std::string metadata)
    : impl_(new Impl{std::move(path), std::move(fun), {{}, std::move(metadata)}, {}}) {}
void FunctionExporter::set_shapeless(Function probe) { impl_->probe = probe ? std::move(probe) : impl_->fun; }
FunctionExporter::~FunctionExporter() = default;
FunctionExporter::FunctionExporter(FunctionExporter&&) noexcept = default;
FunctionExporter& FunctionExporter::operator=(FunctionExporter&&) noexcept = default;

void FunctionExporter::add(const Arrays& positional, const NamedArrays& named_inputs) {
  constexpr const char* kOp = "export_function";
  if (!impl_->open) fail<ValueError>(kOp, "'{}' has been closed", impl_->path);
  const NamedArrays named = sorted(named_inputs, kOp);
  const Arrays inputs = all_inputs(positional, named);
  for (const FunctionFile::Function& f : impl_->file.functions) {
    if (takes(f, positional.size(), named, inputs, !impl_->probe)) {
      fail<ValueError>(kOp, "'{}' already has a function of {}", impl_->path, describe(f));
    }
  }
  FunctionFile::Function f{positional.size(), {}, {}};
  for (const auto& [name, a] : named) f.names.push_back(name);
  // The caller's function takes its named arrays in the caller's order.
  std::map<std::string, size_t> place;
  for (size_t i = 0; i < f.names.size(); ++i) place[f.names[i]] = positional.size() + i;
  auto in_order = [&](const Function& fun) -> Function {
    return [&](const Arrays& in) {
      Arrays out(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(positional.size()));
      for (const auto& [name, a] : named_inputs) out.push_back(in[place[name]]);
      return fun(out);
    };
  };
  const Function fun = in_order(impl_->fun);
  if (impl_->probe) {
    f.graph = generalize(fun, in_order(impl_->probe), inputs);
  } else {
    f.graph.base = record(fun, inputs);
  }
  impl_->file.functions.push_back(std::move(f));
}

void FunctionExporter::close() {
  if (!impl_->open) return;
  write_function_file(impl_->path, impl_->file);
  impl_->open = false;
  impl_->file.functions.clear();
}

struct ImportedFunction::Impl {
  FunctionFile file;
  std::vector<Trace> traces;  // of the functions, in their order
};

Arrays ImportedFunction::operator()(const Arrays& positional, const NamedArrays& named_inputs) const {
  const NamedArrays named = sorted(named_inputs, "import_function");
  const Arrays inputs = all_inputs(positional, named);
  const auto& functions = impl_->file.functions;
  for (size_t i = 0; i < functions.size(); ++i) {
    if (takes(functions[i], positional.size(), named, inputs, true)) return impl_->traces[i].replay(inputs);
  }
  for (const FunctionFile::Function& f : functions) {
    if (takes(f, positional.size(), named, inputs, false)) return play(f.graph, inputs);
  }
  FunctionFile::Function got{positional.size(), {}, {}};
  for (const auto& [name, a] : named) got.names.push_back(name);
  for (const Array& a : inputs) got.graph.base.inputs.push_back({a.shape(), a.dtype()});
  std::string known;
  for (const FunctionFile::Function& f : functions) known += (known.empty() ? "" : " or ") + describe(f);
  fail<ValueError>("import_function", "the file has no function of {}; wanted {}", describe(got), known);
}

const std::string& ImportedFunction::metadata() const { return impl_->file.metadata; }

ImportedFunction import_function(const std::string& path) {
  auto impl = std::make_shared<ImportedFunction::Impl>();
  impl->file = read_function_file(path);
  for (const FunctionFile::Function& f : impl->file.functions) {
    Arrays like;
    for (const ResultType& t : f.graph.base.inputs) like.push_back(zeros(t.shape, t.dtype));
    impl->traces.emplace_back([&f](const Arrays& in) { return play(f.graph.base, in); }, like);
  }
  return ImportedFunction(std::move(impl));
}

}  // namespace lamina
