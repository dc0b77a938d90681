#include <algorithm>
#include <iterator>
#include <memory>
#include <utility>

#include "autograd/rules.h"
#include "autograd/trace.h"

// Functions with rules of their own, and checkpoints, which are closed functions without rules.
namespace lamina {
namespace autograd {

const CustomParams& custom_params(const Node& n) { return static_cast<const CustomParams&>(*n.params); }

bool is_open(const CustomCall& call, Flow flow) {
  return !call.function.closed && !(flow == Flow::kForward && call.function.rules.jvp);
}

namespace {

// What a function runs on: of a closed call nothing but the call itself leads back to the primals.
Arrays inside_of(const Arrays& primals, bool closed) {
  Arrays inside = primals;
  if (!closed) return inside;
  for (Array& p : inside) {
    p = make_node(OpId::StopGradient, p.dtype(), p.shape(), {p}, Ref<Params>(new ClosedParams));
  }
  return inside;
}

Arrays outputs_of(const CustomFunction& function, const Arrays& primals, const Arrays& results) {
  auto call = std::make_shared<CustomCall>(CustomCall{function, primals, {}});
  Arrays outs;
  for (size_t i = 0; i < results.size(); ++i) {
    call->outputs.emplace_back(results[i].shape(), results[i].dtype());
    outs.push_back(make_node(OpId::CustomOutput, results[i].dtype(), results[i].shape(), {results[i]},
                             Ref<Params>(new CustomParams(call, i))));
  }
  return outs;
}

}  // namespace

Arrays call_custom(const CustomFunction& function, const Arrays& primals) {
  return outputs_of(function, primals, function.fun(inside_of(primals, function.closed)));
}

namespace {

constexpr const char* kName = "custom_function";

// A gradient or tangent of an array of that shape and dtype; other floating dtypes are converted.
void check_derivative(const char* rule, const char* what, size_t i, const Array& got, const Shape& shape,
                      Dtype dtype) {
  if (!got.valid() || !is_inexact(dtype)) return;
  if (got.shape() != shape) {
    fail<ShapeError>(kName, "the rule for {} must give {} {} the shape {}, gave {}", rule, what, i, shape,
                     got.shape());
  }
  if (!is_inexact(got.dtype()) || (is_complex(got.dtype()) && !is_complex(dtype))) {
    fail<DtypeError>(kName, "the rule for {} must give {} {} a dtype that converts to {}, gave {}", rule,
                     what, i, dtype, got.dtype());
  }
}

void check_count(const char* rule, const char* what, size_t wanted, size_t got) {
  if (wanted == got) return;
  fail<ValueError>(kName, "the rule for {} must give one {} for each of {} arrays, gave {}", rule, what,
                   wanted, got);
}

// Output i of a rule for vmap with the mapped axis in front.
Array placed_in_front(const CustomCall& call, size_t i, const Array& got, int axis, int64_t size) {
  const auto& [shape, dtype] = call.outputs[i];
  if (!got.valid()) fail<ValueError>(kName, "the rule for vmap gave an empty handle as output {}", i);
  if (axis < -1 || axis >= got.ndim()) {
    fail<ValueError>(kName, "the rule for vmap gave axis {} for output {} of shape {}", axis, i, got.shape());
  }
  if (got.dtype() != dtype) {
    fail<DtypeError>(kName, "the rule for vmap must give output {} the dtype {}, gave {}", i, dtype,
                     got.dtype());
  }
  Shape wanted = shape;
  if (axis >= 0) wanted.insert(wanted.begin() + std::min(axis, static_cast<int>(shape.size())), size);
  if (got.shape() != wanted) {
    fail<ShapeError>(kName, "the rule for vmap must give output {} the shape {} (mapped axis {}), gave {}", i,
                     wanted, axis, got.shape());
  }
  if (axis >= 0) return moveaxis(got, axis, 0);
  wanted.insert(wanted.begin(), size);
  return broadcast_to(got, wanted);
}

// The primals at some places as a function's only arguments: no derivative of the others is asked for, and so
// none of theirs can be infinite or missing.
struct SomePrimals {
  Function fun;
  Arrays all;
  std::vector<size_t> places;

  SomePrimals(const Function& f, Arrays primals, const std::function<bool(size_t)>& wanted)
      : fun(f), all(std::move(primals)) {
    for (size_t i = 0; i < all.size(); ++i) {
      if (wanted(i)) places.push_back(i);
    }
  }
  Arrays of(const Arrays& a) const {
    Arrays out;
    for (size_t i : places) out.push_back(a[i]);
    return out;
  }
  Arrays operator()(const Arrays& some) const {
    Arrays given = all;
    for (size_t k = 0; k < places.size(); ++k) given[places[k]] = some[k];
    return fun(given);
  }
};

}  // namespace

Arrays custom_gradients(const CustomCall& call, const Arrays& cotangents, const Arrays& outputs,
                        const std::vector<bool>& wants) {
  const CustomFunction& f = call.function;
  if (!f.rules.vjp) {
    // What runs again waits for the cotangents: run any earlier, its results would be kept until then.
    Arrays wait;
    std::copy_if(cotangents.begin(), cotangents.end(), std::back_inserter(wait),
                 [](const Array& c) { return c.valid(); });
    const SomePrimals some(f.fun, depends(call.primals, wait), [&](size_t i) { return wants[i]; });
    const Arrays found = vjp(some, some.of(some.all), cotangents).second;
    Arrays grads(call.primals.size());
    for (size_t k = 0; k < found.size(); ++k) grads[some.places[k]] = found[k];
    return grads;
  }
  Arrays c = cotangents, o = outputs, again;
  for (size_t i = 0; i < o.size(); ++i) {
    if (!o[i].valid()) {
      // Outputs that nothing uses have no node any more: their values come from the function's graph.
      if (again.empty()) again = f.fun(call.primals);
      o[i] = again[i];
    }
    if (!c[i].valid()) c[i] = zeros_like(o[i]);
  }
  Arrays grads = f.rules.vjp(call.primals, c, o);
  check_count("vjp", "gradient", call.primals.size(), grads.size());
  for (size_t i = 0; i < grads.size(); ++i) {
    check_derivative("vjp", "gradient", i, grads[i], call.primals[i].shape(), call.primals[i].dtype());
  }
  return grads;
}

Arrays custom_tangents(const CustomCall& call, const Arrays& tangents) {
  const CustomFunction& f = call.function;
  if (!f.rules.jvp) {
    const SomePrimals some(f.fun, call.primals, [&](size_t i) { return tangents[i].valid(); });
    return jvp(some, some.of(call.primals), some.of(tangents)).second;
  }
  Arrays outs = f.rules.jvp(call.primals, tangents);
  check_count("jvp", "tangent", call.outputs.size(), outs.size());
  for (size_t i = 0; i < outs.size(); ++i) {
    const auto& [shape, dtype] = call.outputs[i];
    check_derivative("jvp", "tangent", i, outs[i], shape, dtype);
    if (outs[i].valid() && is_inexact(dtype)) outs[i] = astype(outs[i], dtype);
  }
  return outs;
}

Arrays custom_mapped(const CustomCall& call, const Arrays& primals, const std::vector<bool>& mapped,
                     int64_t size) {
  std::vector<int> in_axes;
  for (bool m : mapped) in_axes.push_back(m ? 0 : -1);
  const auto [outs, axes] = call.function.rules.vmap(primals, in_axes);
  check_count("vmap", "output", call.outputs.size(), outs.size());
  check_count("vmap", "axis", outs.size(), axes.size());
  Arrays all;
  for (size_t i = 0; i < outs.size(); ++i) all.push_back(placed_in_front(call, i, outs[i], axes[i], size));
  return all;
}

namespace {

Arrays first(const Arrays& a, size_t n) {
  return Arrays(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(n));
}

// Rules of a function of n arrays, over more primals, to which they give no derivative.
CustomRules beside_captured(const CustomRules& rules, size_t n) {
  CustomRules out;
  if (rules.vjp) {
    out.vjp = [rule = rules.vjp, n](const Arrays& primals, const Arrays& cotangents, const Arrays& outputs) {
      Arrays grads = rule(first(primals, n), cotangents, outputs);
      check_count("vjp", "gradient", n, grads.size());
      grads.resize(primals.size());
      return grads;
    };
  }
  if (rules.jvp) {
    out.jvp = [rule = rules.jvp, n](const Arrays& primals, const Arrays& tangents) {
      return rule(first(primals, n), first(tangents, n));
    };
  }
  if (rules.vmap) {
    out.vmap = [rule = rules.vmap, n](const Arrays& primals, const std::vector<int>& axes) {
      return rule(first(primals, n),
                  std::vector<int>(axes.begin(), axes.begin() + static_cast<std::ptrdiff_t>(n)));
    };
  }
  return out;
}

// The function runs here and never again: its graph does, with what it captured as primals too, so that
// transforms find them.
Function with_rules(const Function& fun, const CustomRules& rules, bool closed) {
  return [fun, rules, closed](const Arrays& primals) {
    const Arrays inside = inside_of(primals, closed);
    const Arrays results = fun(inside);
    auto trace = std::make_shared<Trace>(inside, results, true);
    const size_t n = primals.size();
    Arrays all = primals, scalars = trace->take_constants();
    std::vector<size_t> captured;
    for (size_t i = 0; i < scalars.size(); ++i) {
      if (scalars[i].node()->op == OpId::Scalar) continue;
      captured.push_back(i);
      all.push_back(std::exchange(scalars[i], Array()));
    }
    auto again = [trace = std::shared_ptr<const Trace>(trace), captured, scalars, n](const Arrays& given) {
      Arrays constants = scalars;
      for (size_t i = 0; i < captured.size(); ++i) constants[captured[i]] = given[n + i];
      return trace->replay(first(given, n), constants);
    };
    return outputs_of({again, beside_captured(rules, n), closed, captured.size()}, all, results);
  };
}

}  // namespace
}  // namespace autograd

Function checkpoint(const Function& fun) { return autograd::with_rules(fun, {}, true); }

Function custom_function(const Function& fun, const CustomRules& rules) {
  return autograd::with_rules(fun, rules, rules.vjp != nullptr);
}

Function custom_vjp(const Function& fun,
                    const std::function<Arrays(const Arrays&, const Arrays&, const Arrays&)>& rule) {
  return custom_function(fun, {rule, nullptr, nullptr});
}

}  // namespace lamina
