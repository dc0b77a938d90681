#pragma once

#include "core/fail.h"
#include "ops/common.h"
#include "ops/remake.h"

namespace lamina::remaking {

using Types = std::vector<ResultType>;

// One recipe with its operands, as the rules see it.
struct Case {
  const NodeRecipe& recipe;
  std::span<const Array> in;

  std::string_view name() const { return op_info(recipe.op).name; }
  const Shape& wanted() const { return recipe.results[0].shape; }
  Dtype dtype() const { return recipe.results[0].dtype; }
  const Shape& shape(size_t i) const { return in[i].shape(); }
  ResultType like(size_t i) const { return {in[i].shape(), in[i].dtype()}; }

  // Throws ValueError "[op] wants ..., got operands of ...".
  [[noreturn]] void wrong(std::string_view what) const;
  void want(bool ok, std::string_view what) const {
    if (!ok) wrong(what);
  }
  void operands(size_t least, size_t most) const {
    want(in.size() >= least && in.size() <= most, "another number of operands");
  }
  void axis(int64_t a, const Shape& s) const {
    want(a >= 0 && a < static_cast<int64_t>(s.size()), "an axis of the operand");
  }
  void same_dtypes() const {
    for (const Array& a : in) want(a.dtype() == in[0].dtype(), "operands of one dtype");
  }
  // The enumerators of E run from 0 to last.
  template <class E>
  void one_of(E value, E last) const {
    want(static_cast<int>(value) <= static_cast<int>(last), "a known mode");
  }
  template <class P>
  const P& as() const {
    const auto* p = dynamic_cast<const ParamsOf<P>*>(recipe.params.get());
    want(p != nullptr, "its parameters");
    return p->value;
  }
};

// Of ops with a kernel that are not about moving elements: remake_kernels.cc.
Types kernel_results(const Case& c);

}  // namespace lamina::remaking
