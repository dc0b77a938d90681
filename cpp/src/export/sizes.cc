#include "export/sizes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>

#include "core/fail.h"
#include "export/slots.h"

namespace lamina {
namespace {

using Form = SizeRule::Form;
using Classes = std::vector<std::vector<GenericRecording::AxisOf>>;
// How much each class has grown.
using Growth = std::vector<int64_t>;

// Products of up to three lengths and squares of one are what shapes and counts are made of.
constexpr size_t kMostClasses = 6;
// Growths of one class that are tried: three give a square, the last one checks it.
constexpr int64_t kSteps[] = {1, 3, 6};
// Lengths from which on a graph stops to grow, as that of a[:100] does, are looked for up to this growth.
constexpr int64_t kFarStep = 4096;

double form_of(double p, Form form) {
  switch (form) {
    case Form::kReciprocal: return 1 / p;
    case Form::kReciprocalRoot: return 1 / std::sqrt(p);
    case Form::kRoot: return std::sqrt(p);
    default: return p;
  }
}

// The whole number nearest to what gives v in this form; nullopt where it has none.
std::optional<int64_t> before_form(double v, Form form) {
  double p = v;
  if (form == Form::kReciprocal) p = 1 / v;
  if (form == Form::kReciprocalRoot) p = 1 / (v * v);
  if (form == Form::kRoot) p = v * v;
  if (!(std::abs(p) < 0x1p53)) return std::nullopt;
  return std::llround(p);
}

SlotValue in_form(const Recording& base, const Slot& slot, int64_t p, Form form) {
  return rounded(base, slot, form_of(static_cast<double>(p), form));
}

int64_t sum_of(const std::vector<SizeRule::Term>& terms, const Growth& growth) {
  int64_t sum = 0;
  for (const SizeRule::Term& t : terms) {
    int64_t product = t.factor;
    bool overflow = false;
    for (uint32_t c : t.classes) overflow |= __builtin_mul_overflow(product, growth[c], &product);
    overflow |= __builtin_add_overflow(sum, product, &sum);
    if (overflow) fail<ValueError>("shapeless", "a length of the graph does not fit 63 bits");
  }
  return sum;
}

SlotValue value_of(const Recording& base, const SizeRule& r, const Growth& growth) {
  const int64_t p = sum_of(r.terms, growth);
  return r.integer ? SlotValue{true, p, 0} : in_form(base, r.slot, p, r.form);
}

Classes classes_of(const Arrays& inputs) {
  std::map<int64_t, std::vector<GenericRecording::AxisOf>> by_length;
  for (uint32_t i = 0; i < inputs.size(); ++i) {
    for (uint32_t k = 0; k < inputs[i].shape().size(); ++k) {
      if (inputs[i].shape()[k] > 1) by_length[inputs[i].shape()[k]].push_back({i, k});
    }
  }
  Classes out;
  for (auto& [length, axes] : by_length) out.push_back(std::move(axes));
  return out;
}

class Analysis {
 public:
  Analysis(const Function& fun, const Function& probe, const Arrays& inputs)
      : probe_(probe),
        inputs_(inputs),
        base_(record(fun, inputs)),
        slots_(slots_of(base_)),
        classes_(classes_of(inputs)) {}

  GenericRecording run() {
    for (uint32_t c = 0; c < classes_.size(); ++c) {
      bool varies = free_.size() < kMostClasses;
      for (int64_t step : kSteps) varies = varies && at({{c, step}}) != nullptr;
      if (varies) free_.push_back(c);
    }
    std::vector<SizeRule> rules;
    // Each round either finds all rules or takes one class out.
    while (!find_rules(rules)) rules.clear();
    const std::vector<GenericRecording::Range> ranges = ranges_of(rules);
    GenericRecording out{std::move(base_), {}, ranges, std::move(rules)};
    std::vector<uint32_t> place(classes_.size());
    for (uint32_t c : free_) {
      place[c] = static_cast<uint32_t>(out.classes.size());
      out.classes.push_back(std::move(classes_[c]));
    }
    for (SizeRule& r : out.rules) {
      for (SizeRule::Term& t : r.terms) {
        for (uint32_t& c : t.classes) c = place[c];
      }
    }
    return out;
  }

 private:
  using Steps = std::map<uint32_t, int64_t>;  // class -> growth

  // The slots' values where these classes have grown; null where the function refuses or builds another
  // graph.
  const std::vector<SlotValue>* at(const Steps& steps) {
    auto [it, fresh] = seen_.try_emplace(steps);
    if (!fresh) return it->second ? &*it->second : nullptr;
    std::vector<Shape> shapes;
    for (const Array& a : inputs_) shapes.push_back(a.shape());
    for (const auto& [c, growth] : steps) {
      for (const auto& [input, axis] : classes_[c]) shapes[input][axis] += growth;
    }
    Arrays like;
    for (size_t i = 0; i < inputs_.size(); ++i) like.push_back(zeros(shapes[i], inputs_[i].dtype()));
    try {
      const Recording r = record(probe_, like);
      if (same_structure(base_, r)) it->second = slots_of(r).values;
    } catch (const Error&) {
      // A length that the function refuses: the class keeps its own.
      return nullptr;
    }
    return it->second ? &*it->second : nullptr;
  }

  void drop(uint32_t c) { free_.erase(std::find(free_.begin(), free_.end(), c)); }

  bool find_rules(std::vector<SizeRule>& rules) {
    // Pairs and triples of classes that grow together.
    for (const Steps& steps : together()) {
      if (at(steps)) continue;
      drop(steps.rbegin()->first);
      return false;
    }
    for (size_t s = 0; s < slots_.slots.size(); ++s) {
      const std::optional<uint32_t> first = first_class_of(s);
      if (!first) continue;
      std::optional<SizeRule> rule;
      for (Form form : {Form::kPlain, Form::kReciprocal, Form::kReciprocalRoot, Form::kRoot}) {
        if (!rule && (form == Form::kPlain || !slots_.values[s].integer)) rule = fit(s, form);
      }
      if (!rule) {
        drop(*first);
        return false;
      }
      rules.push_back(std::move(*rule));
    }
    return holds(rules);
  }

  // Every set of two or three free classes, each grown by one.
  std::vector<Steps> together() const {
    std::vector<Steps> out;
    for (size_t i = 0; i < free_.size(); ++i) {
      for (size_t j = i + 1; j < free_.size(); ++j) {
        out.push_back({{free_[i], 1}, {free_[j], 1}});
        for (size_t k = j + 1; k < free_.size(); ++k) {
          out.push_back({{free_[i], 1}, {free_[j], 1}, {free_[k], 1}});
        }
      }
    }
    return out;
  }

  // The first free class whose growth changes the slot.
  std::optional<uint32_t> first_class_of(size_t s) {
    for (uint32_t c : free_) {
      for (int64_t step : kSteps) {
        if ((*at({{c, step}}))[s] != slots_.values[s]) return c;
      }
    }
    return std::nullopt;
  }

  // The number before the form, where the form gives the slot's value exactly.
  std::optional<int64_t> plain(size_t s, const SlotValue& v, Form form) const {
    if (v.integer) return v.whole;
    const std::optional<int64_t> p = before_form(v.real, form);
    if (!p || in_form(base_, slots_.slots[s], *p, form) != v) return std::nullopt;
    return p;
  }

  std::optional<SizeRule> fit(size_t s, Form form) {
    bool exact = true;
    auto p = [&](const Steps& steps) {
      const std::optional<int64_t> v = plain(s, steps.empty() ? slots_.values[s] : (*at(steps))[s], form);
      exact = exact && v.has_value();
      return v.value_or(0);
    };
    SizeRule rule{slots_.slots[s], slots_.values[s].integer, form, {}};
    auto term = [&rule](int64_t factor, std::vector<uint32_t> classes) {
      if (factor != 0 || classes.empty()) rule.terms.push_back({factor, std::move(classes)});
    };
    const int64_t p0 = p({});
    term(p0, {});
    for (uint32_t c : free_) {
      // a + q = p(1) - p0 and 3 a + 9 q = p(3) - p0.
      const int64_t one = p({{c, 1}}) - p0, three = p({{c, 3}}) - p0;
      if ((three - 3 * one) % 6 != 0) return std::nullopt;
      const int64_t q = (three - 3 * one) / 6;
      term(one - q, {c});
      term(q, {c, c});
    }
    for (const Steps& steps : together()) {
      // What the smaller sets of these classes do not explain.
      Growth growth(classes_.size(), 0);
      std::vector<uint32_t> classes;
      for (const auto& [c, step] : steps) {
        growth[c] = step;
        classes.push_back(c);
      }
      term(p(steps) - sum_of(rule.terms, growth), classes);
    }
    return exact ? std::optional(std::move(rule)) : std::nullopt;
  }

  // Whether the rules say what the function does for other lengths, of one class and of all.
  bool holds(const std::vector<SizeRule>& rules) {
    for (uint32_t c : free_) {
      if (!holds_at(rules, {{c, kSteps[2]}})) {
        drop(c);
        return false;
      }
    }
    Steps all;
    for (uint32_t c : free_) all[c] = 2 + static_cast<int64_t>(all.size());
    if (free_.size() < 2 || holds_at(rules, all)) return true;
    drop(free_.back());
    return false;
  }

  int64_t recorded_length(uint32_t c) const {
    return inputs_[classes_[c][0].input].shape()[classes_[c][0].axis];
  }

  // Where between a length for which the rules hold and one for which they do not they end: the last good
  // one.
  int64_t end_of(const std::vector<SizeRule>& rules, uint32_t c, int64_t good, int64_t bad) {
    while (std::abs(good - bad) > 1) {
      const int64_t middle = good + (bad - good) / 2;
      (holds_at(rules, {{c, middle - recorded_length(c)}}) ? good : bad) = middle;
    }
    return good;
  }

  GenericRecording::Range range_of(const std::vector<SizeRule>& rules, uint32_t c) {
    const int64_t length = recorded_length(c);
    GenericRecording::Range out{length, INT64_MAX};
    // Shorter by 1, 2, 4, ...: what ends does so once.
    for (int64_t step = 1; out.least > 0; step *= 2) {
      const int64_t next = std::max<int64_t>(0, length - step);
      if (!holds_at(rules, {{c, next - length}})) {
        out.least = end_of(rules, c, out.least, next);
        break;
      }
      out.least = next;
    }
    if (!holds_at(rules, {{c, kFarStep}})) {
      out.most = end_of(rules, c, length + kSteps[2], length + kFarStep);
    }
    return out;
  }

  // Of each free class alone, and then of pairs where the range of one ends: what does not hold at such a
  // corner, or for the shortest of all, takes the range back to the recorded length.
  std::vector<GenericRecording::Range> ranges_of(const std::vector<SizeRule>& rules) {
    std::vector<GenericRecording::Range> out;
    for (uint32_t c : free_) out.push_back(range_of(rules, c));
    for (size_t i = 0; i < free_.size(); ++i) {
      for (size_t j = i + 1; j < free_.size(); ++j) {
        for (int corner = 0; corner < 4; ++corner) {
          fit_corner(rules, out, {i, j}, {(corner & 1) != 0, (corner & 2) != 0});
        }
      }
    }
    Steps shortest;
    for (size_t i = 0; i < free_.size(); ++i) shortest[free_[i]] = out[i].least - recorded_length(free_[i]);
    if (free_.size() > 1 && !holds_at(rules, shortest)) {
      for (size_t i = 0; i < free_.size(); ++i) out[i].least = recorded_length(free_[i]);
    }
    return out;
  }

  void fit_corner(const std::vector<SizeRule>& rules, std::vector<GenericRecording::Range>& ranges,
                  std::array<size_t, 2> pair, std::array<bool, 2> high) {
    Steps steps;
    bool ends = false;
    for (size_t k = 0; k < 2; ++k) {
      const auto [least, most] = ranges[pair[k]];
      const int64_t length = recorded_length(free_[pair[k]]);
      ends |= high[k] ? most < INT64_MAX : least > 1;
      steps[free_[pair[k]]] = high[k] ? std::min(most, length + kFarStep) - length : least - length;
    }
    if (!ends || holds_at(rules, steps)) return;
    for (size_t k = 0; k < 2; ++k) {
      const int64_t length = recorded_length(free_[pair[k]]);
      (high[k] ? ranges[pair[k]].most : ranges[pair[k]].least) = length;
    }
  }

  bool holds_at(const std::vector<SizeRule>& rules, const Steps& steps) {
    const std::vector<SlotValue>* actual = at(steps);
    if (!actual) return false;
    Growth growth(classes_.size(), 0);
    for (const auto& [c, step] : steps) growth[c] = step;
    std::vector<SlotValue> wanted = slots_.values;
    size_t s = 0;
    for (const SizeRule& r : rules) {
      while (slots_.slots[s] != r.slot) ++s;
      wanted[s] = value_of(base_, r, growth);
    }
    return wanted == *actual;
  }

  const Function& probe_;
  const Arrays& inputs_;
  Recording base_;
  SlotList slots_;
  Classes classes_;
  std::vector<uint32_t> free_;
  std::map<Steps, std::optional<std::vector<SlotValue>>> seen_;
};

int64_t length_of(const Arrays& inputs, const GenericRecording::AxisOf& a) {
  return inputs[a.input].shape()[a.axis];
}

}  // namespace

GenericRecording generalize(const Function& fun, const Function& probe, const Arrays& inputs) {
  return Analysis(fun, probe, inputs).run();
}

bool fits(const GenericRecording& g, const Arrays& inputs) {
  if (inputs.size() != g.base.inputs.size()) return false;
  std::vector<Shape> wanted;
  for (size_t i = 0; i < inputs.size(); ++i) {
    wanted.push_back(g.base.inputs[i].shape);
    if (inputs[i].dtype() != g.base.inputs[i].dtype || inputs[i].shape().size() != wanted[i].size()) {
      return false;
    }
  }
  for (size_t c = 0; c < g.classes.size(); ++c) {
    const int64_t length = length_of(inputs, g.classes[c][0]);
    if (c < g.ranges.size() && (length < g.ranges[c].least || length > g.ranges[c].most)) return false;
    for (const auto& [input, axis] : g.classes[c]) wanted[input][axis] = length;
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].shape() != wanted[i]) return false;
  }
  return true;
}

Arrays play(const GenericRecording& g, const Arrays& inputs, uint32_t origin) {
  Growth growth;
  for (const auto& axes : g.classes) {
    const auto [input, axis] = axes[0];
    growth.push_back(length_of(inputs, axes[0]) - g.base.inputs[input].shape[axis]);
  }
  std::map<std::pair<bool, uint32_t>, NewValues> changed;  // (of a node, item) -> values
  for (const SizeRule& r : g.rules) {
    changed[{r.slot.where == Slot::Where::kNode, r.slot.item}].emplace_back(r.slot.index,
                                                                            value_of(g.base, r, growth));
  }
  Arrays values = inputs;
  for (uint32_t i = 0; i < g.base.constants.size(); ++i) {
    const auto it = changed.find({false, i});
    const Array& a = g.base.constants[i];
    values.push_back(it == changed.end() ? a : with_slots(a, it->second));
  }
  Arrays operands;
  for (uint32_t i = 0; i < g.base.nodes.size(); ++i) {
    const Recording::Item& item = g.base.nodes[i];
    operands.clear();
    for (uint32_t o : item.operands) operands.push_back(values[o]);
    const auto it = changed.find({true, i});
    const NodeRecipe recipe = it == changed.end() ? item.recipe : with_slots(item.recipe, it->second);
    values.push_back(remake_inferred(recipe, operands));
  }
  Arrays outputs;
  for (uint32_t o : g.base.outputs) {
    outputs.push_back(values[o]);
    if (o >= inputs.size() + g.base.constants.size()) outputs.back().node()->origin = origin;
  }
  return outputs;
}

}  // namespace lamina
