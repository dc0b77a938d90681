#include "lamina/explain.h"

#include <algorithm>
#include <optional>

#include "bindings/box.h"
#include "bindings/compile.h"
#include "bindings/io.h"
#include "bindings/ops.h"
#include "bindings/tree.h"
#include "explain/words.h"

namespace lamina::bind {
namespace {

// What explain() found: the steps of a call, the traces of a compiled function, or both.
struct Explained {
  std::string name;
  std::optional<Explanation> plan;
  std::vector<TraceNote> traces;
  bool compiled = false;
  size_t trace = 0;              // that the call would take
  std::vector<std::string> why;  // it would trace
};

template <class T, class F>
py::list list_from(const std::vector<T>& items, F f) {
  py::list out;
  for (const T& item : items) out.append(f(item));
  return out;
}
py::list numbers(const std::vector<uint32_t>& v) {
  return list_from(v, [](uint32_t i) { return py::int_(i); });
}
py::list texts(const std::vector<std::string>& v) {
  return list_from(v, [](const std::string& s) { return py::str(s); });
}

py::dict value_dict(const Explanation::Value& v) {
  py::dict out;
  out["op"] = v.op;
  out["name"] = v.name;
  out["params"] = v.params;
  out["dtype"] = std::string(dtype_name(v.dtype));
  out["shape"] = owned(to_python(v.shape));
  out["source"] = word_of(v.source);
  out["inputs"] = numbers(v.inputs);
  out["step"] = v.step < 0 ? py::object(py::none()) : py::object(py::int_(v.step));
  out["result"] = v.result;
  out["in_memory"] = v.in_memory;
  return out;
}

py::dict step_dict(const Explanation& e, const Explanation::Step& s) {
  py::dict out;
  out["kind"] = word_of(s.kind);
  out["ops"] = list_from(s.values, [&e](uint32_t v) { return py::str(e.values[v].op); });
  out["values"] = numbers(s.values);
  out["reads"] = numbers(s.reads);
  out["writes"] = numbers(s.writes);
  out["copied"] = numbers(s.copied);
  out["phases"] = s.phases;
  out["bytes_read"] = s.bytes_read;
  out["bytes_written"] = s.bytes_written;
  out["flops"] = s.flops ? py::object(py::float_(*s.flops)) : py::object(py::none());
  return out;
}

py::dict unfused_dict(const Explanation::Unfused& u) {
  py::dict out;
  out["producer"] = u.producer;
  out["consumer"] = u.consumer;
  out["reason"] = u.reason;
  return out;
}

py::dict trace_dict(const TraceNote& t) {
  py::dict out;
  out["why"] = texts(t.why);
  out["nodes"] = t.nodes;
  out["calls"] = t.calls;
  out["plans"] = t.plans;
  out["evaluations"] = t.evaluations;
  return out;
}

py::list steps_of(const Explained& x) {
  if (!x.plan) return py::list();
  return list_from(x.plan->steps, [&x](const auto& s) { return step_dict(*x.plan, s); });
}
py::list values_of(const Explained& x) { return x.plan ? list_from(x.plan->values, value_dict) : py::list(); }
py::list unfused_of(const Explained& x) {
  return x.plan ? list_from(x.plan->unfused, unfused_dict) : py::list();
}
py::list trace_list(const Explained& x) { return list_from(x.traces, trace_dict); }

uint64_t plans_of(const Explained& x) {
  uint64_t n = 0;
  for (const TraceNote& t : x.traces) n += t.plans;
  return n;
}

py::dict as_dict(const Explained& x) {
  py::dict out;
  out["name"] = x.name;
  if (x.plan) {
    out["values"] = values_of(x);
    out["steps"] = steps_of(x);
    out["unfused"] = unfused_of(x);
    out["outputs"] = numbers(x.plan->outputs);
    out["plan_known"] = x.plan->plan_known;
    out["backend"] = x.plan->backend;
  }
  if (x.compiled) {
    out["traces"] = trace_list(x);
    out["plans"] = plans_of(x);
  }
  return out;
}

std::string joined(const std::vector<std::string>& parts) {
  constexpr size_t kMost = 4;
  std::string text;
  for (size_t i = 0; i < std::min(kMost, parts.size()); ++i) text += (i ? "; " : "") + parts[i];
  if (parts.size() > kMost) text += "; and " + std::to_string(parts.size() - kMost) + " more";
  return text;
}

std::string traces_text(const Explained& x) {
  uint64_t calls = 0, evaluations = 0;
  for (const TraceNote& t : x.traces) {
    calls += t.calls;
    evaluations += t.evaluations;
  }
  std::string text = "compiled: " + counted(x.traces.size(), "trace") + ", " + counted(calls, "call") + ", " +
                     counted(calls - std::min<uint64_t>(calls, x.traces.size()), "replay") + "; " +
                     counted(plans_of(x), "plan") + " for " + counted(evaluations, "evaluation") + "\n";
  if (x.traces.empty()) return text;
  std::vector<std::vector<std::string>> rows{
      {"trace", "nodes", "calls", "plans", "evaluations", "traced because"}};
  for (const TraceNote& t : x.traces) {
    rows.push_back({std::to_string(t.number), std::to_string(t.nodes), std::to_string(t.calls),
                    std::to_string(t.plans), std::to_string(t.evaluations), joined(t.why)});
  }
  size_t width[5] = {};
  for (const auto& row : rows) {
    for (size_t c = 0; c < 5; ++c) width[c] = std::max(width[c], row[c].size());
  }
  for (const auto& row : rows) {
    for (size_t c = 0; c < 5; ++c) text += "  " + std::string(width[c] - row[c].size(), ' ') + row[c];
    text += "  " + row[5] + "\n";
  }
  return text;
}

std::string as_text(const Explained& x) {
  std::string text = x.name + "\n";
  if (x.compiled) text += traces_text(x);
  if (x.compiled && x.plan) {
    text += x.trace ? "this call would replay trace " + std::to_string(x.trace) + "\n"
                    : "this call would trace: " + joined(x.why) + "\n";
  }
  if (x.plan) text += to_text(*x.plan);
  text.pop_back();  // the last line end
  return text;
}

const Explanation& plan_of(const Explained& x) {
  if (!x.plan) throw ValueError("[explain] there is no graph to draw: call explain with arguments");
  return *x.plan;
}

Explained explain_call(PyObject* fun, Rest args, const py::dict& kwargs) {
  if (!PyCallable_Check(fun)) {
    throw TypeError("explain(): argument 'fun' wants a callable, got " + type_name(fun));
  }
  Explained out;
  const py::object name = py::getattr(borrowed(fun), "__name__", py::none());
  out.name = PyUnicode_Check(name.ptr()) ? py::cast<std::string>(name) : type_name(fun);
  out.compiled = is_compiled(fun);
  if (out.compiled) out.traces = traces_of(fun);
  if (out.compiled && args.count == 0 && kwargs.empty()) return out;
  py::tuple positional(static_cast<size_t>(args.count));
  for (Py_ssize_t i = 0; i < args.count; ++i) positional[static_cast<size_t>(i)] = borrowed(args.items[i]);
  // The implicit sequence of random keys goes on as if nothing had been called.
  const TreeSnapshot random(
      py::object(py::module_::import("lamina.core").attr("random").attr("state")).ptr());
  const Preview p =
      out.compiled ? preview_compiled(fun, positional, kwargs) : preview(fun, positional, kwargs);
  out.trace = p.trace;
  out.why = p.why;
  NamedArrays names;
  for (size_t i = 0; i < p.inputs.size(); ++i) names.emplace_back(p.names.at(i), p.inputs[i]);
  out.plan = lamina::explain(p.outputs, names, p.there);
  return out;
}

PyObject* represent(PyObject* self) {
  return guarded([&] { return to_python(as_text(Box<Explained>::of(self))); });
}

void write_svg(const Any& file, Rest args, const py::dict& kwargs) {
  auto array_in = [](PyObject* o) -> const Array& {
    if (is_array(o)) return value_of(o);
    throw TypeError("export_to_svg(): arguments want arrays, got " + type_name(o));
  };
  Arrays outputs;
  for (Py_ssize_t i = 0; i < args.count; ++i) outputs.push_back(array_in(args.items[i]));
  NamedArrays names;
  for (const auto& [key, value] : kwargs) {
    names.emplace_back(py::cast<std::string>(key), array_in(value.ptr()));
  }
  write_text(file, to_svg(lamina::explain(outputs, names)));
}

void add_type(const Scope& core) {
  const Scope type = define_box<Explained>(
      core, "lamina.core.Explanation",
      "What `explain` found. Its text is for people; the attributes and `to_dict` are for programs.",
      {slot(Py_tp_repr, &represent), slot(Py_tp_str, &represent)});
  def_property(type, "values: list[dict[str, Any]]", "Values of the graph: ops, inputs and constants.",
               [](PyObject* s) { return py::object(values_of(Box<Explained>::of(s))); });
  def_property(type, "steps: list[dict[str, Any]]",
               "Tapes, kernels and views in the order in which they run.",
               [](PyObject* s) { return py::object(steps_of(Box<Explained>::of(s))); });
  def_property(type, "unfused: list[dict[str, Any]]", "Values that pass through memory, with the reason.",
               [](PyObject* s) { return py::object(unfused_of(Box<Explained>::of(s))); });
  def_property(type, "traces: list[dict[str, Any]]", "Traces of a compiled function, with the reason.",
               [](PyObject* s) { return py::object(trace_list(Box<Explained>::of(s))); });
  def_property(type, "plans: int", "Plans made for the results of a compiled function.",
               [](PyObject* s) { return static_cast<int64_t>(plans_of(Box<Explained>::of(s))); });
  def_property(type, "plan_known: bool", "Whether the plan cache has the plan of the graph.",
               [](PyObject* s) {
                 const Explained& x = Box<Explained>::of(s);
                 return x.plan && x.plan->plan_known;
               });
  def(type, "to_dict(self) -> dict[str, Any]",
      "Everything as dicts, lists, numbers and texts, as `json` takes them.\n"
      ">>> mx.explain(mx.exp, mx.zeros(3)).to_dict()['steps'][0]['ops']\n['exp']\n",
      [](PyObject* self) { return py::object(as_dict(Box<Explained>::of(self))); });
  def(type, "to_svg(self) -> str",
      "The graph as a drawing: tapes are boxes round their ops.\n"
      "@raises ValueError There is no graph: `explain` had no arguments.\n"
      ">>> mx.explain(mx.exp, mx.zeros(3)).to_svg()[:4]\n'<svg'\n",
      [](PyObject* self) { return to_svg(plan_of(Box<Explained>::of(self))); });
  def(type, "_repr_svg_(self) -> str | None",
      "The drawing, for notebooks; None without a graph or for a large one.",
      [](PyObject* self) -> py::object {
        // What a notebook would draw by itself has a size that can be looked at.
        constexpr size_t kMostValues = 2000;
        const Explained& x = Box<Explained>::of(self);
        if (!x.plan || x.plan->values.size() > kMostValues) return py::none();
        return py::str(to_svg(*x.plan));
      });
}

}  // namespace

void add_explain(const Scope& core) {
  add_type(core);
  def(core, "explain(fun: Callable, *args, **kwargs) -> Explanation",
      "Says which kernels a function becomes, what is fused, what is not and why, and why it was traced.\n\n"
      "With arguments, `fun` (plain, compiled, or a transform of one) runs on placeholders like them, and "
      "what "
      "it returns is planned as evaluating all of it together would be; nothing is evaluated. A compiled "
      "function replays the trace that such a call would take. Without arguments, a compiled function tells "
      "of "
      "its traces: why each was made, how many calls took it, and how many plans were made to evaluate the "
      "results. Sizes never make a plan.\n"
      "@fun The function. Side effects of a plain function happen; a compiled one's captured state stays.\n"
      "@args Arrays, trees of arrays and constants, as `fun` takes them.\n@kwargs The same by keyword.\n"
      "@raises ValueError `fun` evaluates something that depends on an argument.\n"
      ">>> e = mx.explain(lambda x: mx.exp(x).sum(-1), mx.zeros((4, 8)))\n"
      ">>> [step['ops'] for step in e.steps if step['kind'] == 'tape']\n[['exp', 'sum']]\n",
      [](Any fun, Rest args, const py::dict& kwargs) {
        return owned(Box<Explained>::make(explain_call(fun.object, args, kwargs)));
      });
  def(core, "export_to_svg(file: object, *args, **kwargs) -> None",
      "Draws the unevaluated nodes below some arrays, and what of them is fused, as SVG.\n"
      "@file A path, or an object with a write method.\n@args The arrays at the end of the graph.\n"
      "@kwargs Arrays whose names the drawing shows.\n@raises OSError The file cannot be written.\n"
      ">>> import io\n>>> f, x = io.StringIO(), mx.array(1.0)\n>>> mx.export_to_svg(f, mx.exp(x), x=x)\n"
      ">>> '>exp<' in f.getvalue()\nTrue\n",
      [](Any file, Rest args, const py::dict& kwargs) { write_svg(file, args, kwargs); });
}

}  // namespace lamina::bind
