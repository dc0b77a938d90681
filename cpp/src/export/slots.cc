#include "export/slots.h"

#include <cmath>
#include <cstring>
#include <type_traits>

#include "core/fail.h"
#include "ops/params_of.h"

namespace lamina {
namespace {

// Ops whose result's shape does not follow from operands and parameters.
bool takes_shape(OpId op) {
  switch (op) {
    case OpId::Broadcast:
    case OpId::Reshape:
    case OpId::Slice:
    case OpId::AsStrided:
    case OpId::Arange:
    case OpId::RandomBits:
    case OpId::Fft: return true;
    default: return false;
  }
}

struct SizeReader {
  std::vector<SlotValue>& out;
  template <class T>
  void field(const char*, const T&) {}
  template <class T>
  void size(const char*, const T& v) {
    if constexpr (std::is_floating_point_v<T>) {
      out.push_back({false, 0, static_cast<double>(v)});
    } else if constexpr (std::is_integral_v<T>) {
      out.push_back({true, static_cast<int64_t>(v), 0});
    } else {
      for (const auto& x : v) size("", x);
    }
  }
};

struct SizeWriter {
  const std::vector<SlotValue>& values;
  size_t next;
  template <class T>
  void field(const char*, T&) {}
  template <class T>
  void size(const char*, T& v) {
    if constexpr (std::is_floating_point_v<T>) {
      v = static_cast<T>(values[next++].real);
    } else if constexpr (std::is_integral_v<T>) {
      v = static_cast<T>(values[next++].whole);
    } else {
      for (auto& x : v) size("", x);
    }
  }
};

template <class P>
const P& params_as(const NodeRecipe& r) {
  return static_cast<const ParamsOf<P>&>(*r.params).value;
}

std::vector<SlotValue> values_of(const NodeRecipe& r) {
  std::vector<SlotValue> out;
  if (takes_shape(r.op)) {
    for (int64_t n : r.results[0].shape) out.push_back({true, n, 0});
  }
  with_params(r.op, [&]<class P>(P) {
    if constexpr (!std::is_same_v<P, NoParams>) {
      SizeReader reader{out};
      params_as<P>(r).fields(reader);
    }
  });
  return out;
}

bool is_scalar(const Array& a) { return a.node()->op == OpId::Scalar; }

SlotValue value_of_scalar(const Array& a) {
  if (is_inexact(a.dtype())) return {false, 0, a.item<double>()};
  return {true, a.item<int64_t>(), 0};
}

bool same_bytes(const Array& a, const Array& b) {
  if (a.same(b)) return true;
  const Array x = contiguous(a), y = contiguous(b);
  eval({x, y});
  return x.nbytes() == 0 || std::memcmp(x.node()->view().data, y.node()->view().data, x.nbytes()) == 0;
}

}  // namespace

SlotList slots_of(const Recording& r) {
  SlotList out;
  for (uint32_t i = 0; i < r.constants.size(); ++i) {
    if (!is_scalar(r.constants[i]) || is_complex(r.constants[i].dtype())) continue;
    out.slots.push_back({Slot::Where::kConstant, i, 0});
    out.values.push_back(value_of_scalar(r.constants[i]));
  }
  for (uint32_t i = 0; i < r.nodes.size(); ++i) {
    const std::vector<SlotValue> values = values_of(r.nodes[i].recipe);
    for (uint32_t k = 0; k < values.size(); ++k) out.slots.push_back({Slot::Where::kNode, i, k});
    out.values.insert(out.values.end(), values.begin(), values.end());
  }
  return out;
}

Array with_slots(const Array& scalar, const NewValues& values) {
  const SlotValue& v = values.back().second;
  return v.integer ? Array(v.whole, scalar.dtype()) : Array(v.real, scalar.dtype());
}

NodeRecipe with_slots(const NodeRecipe& recipe, const NewValues& values) {
  std::vector<SlotValue> all = values_of(recipe);
  for (const auto& [index, value] : values) all.at(index) = value;
  NodeRecipe out = recipe;
  size_t next = 0;
  if (takes_shape(recipe.op)) {
    for (int64_t& n : out.results[0].shape) n = all[next++].whole;
  }
  with_params(recipe.op, [&]<class P>(P) {
    if constexpr (!std::is_same_v<P, NoParams>) {
      P changed = params_as<P>(recipe);
      SizeWriter writer{all, next};
      changed.fields(writer);
      out.params = make_params(std::move(changed));
    }
  });
  return out;
}

SlotValue rounded(const Recording& r, const Slot& slot, double value) {
  if (slot.where == Slot::Where::kConstant) {
    return value_of_scalar(Array(value, r.constants[slot.item].dtype()));
  }
  return values_of(with_slots(r.nodes[slot.item].recipe, {{slot.index, {false, 0, value}}}))[slot.index];
}

bool same_structure(const Recording& a, const Recording& b) {
  if (a.nodes.size() != b.nodes.size() || a.constants.size() != b.constants.size() ||
      a.outputs != b.outputs) {
    return false;
  }
  for (size_t i = 0; i < a.constants.size(); ++i) {
    const Array &x = a.constants[i], &y = b.constants[i];
    if (x.dtype() != y.dtype() || x.shape() != y.shape() || is_scalar(x) != is_scalar(y)) return false;
    if ((!is_scalar(x) || is_complex(x.dtype())) && !same_bytes(x, y)) return false;
  }
  for (size_t i = 0; i < a.nodes.size(); ++i) {
    const Recording::Item &x = a.nodes[i], &y = b.nodes[i];
    const NodeRecipe &p = x.recipe, &q = y.recipe;
    if (p.op != q.op || x.operands != y.operands || p.results.size() != q.results.size()) return false;
    for (size_t k = 0; k < p.results.size(); ++k) {
      if (p.results[k].dtype != q.results[k].dtype ||
          p.results[k].shape.size() != q.results[k].shape.size()) {
        return false;
      }
    }
    std::vector<uint32_t> p_fields, q_fields;
    if (p.params) p.params->append_structure(p_fields);
    if (q.params) q.params->append_structure(q_fields);
    if (p_fields != q_fields || values_of(p).size() != values_of(q).size()) return false;
  }
  return true;
}

}  // namespace lamina
