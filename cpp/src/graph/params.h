#pragma once

#include <complex>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <vector>

#include "core/ref.h"
#include "lamina/dtype.h"
#include "lamina/shape.h"

namespace lamina {

// Parameters of one op, whatever their type. A concrete type is a plain struct P with
//   friend bool operator==(const P&, const P&) = default;
//   template <class V> void fields(V& v) const;   // v.field("axes", axes) or v.size("shape", shape)
// A `size` is an argument of a plan: it may differ between two runs of one plan; a `field` may not.
struct Params : RefCounted {
  virtual ~Params() = default;
  virtual bool equals(const Params& o) const = 0;
  // Appends the fields (not the sizes) to a plan key.
  virtual void append_structure(std::vector<uint32_t>& key) const = 0;
  // "axes=(1,), keepdims=1"
  virtual std::string describe() const = 0;
  static void destroy(Params* p) { delete p; }
};

namespace detail {

struct KeyWriter {
  std::vector<uint32_t>& key;
  template <class T>
  void field(const char*, const T& v) {
    add(v);
  }
  template <class T>
  void size(const char*, const T&) {}
  void add(bool v) { key.push_back(v); }
  void add(int v) { key.push_back(static_cast<uint32_t>(v)); }
  void add(int64_t v) {
    key.push_back(static_cast<uint32_t>(v));
    key.push_back(static_cast<uint32_t>(static_cast<uint64_t>(v) >> 32));
  }
  void add(double v) {
    int64_t b;
    static_assert(sizeof b == sizeof v);
    __builtin_memcpy(&b, &v, sizeof b);
    add(b);
  }
  void add(float v) { add(static_cast<double>(v)); }
  void add(Dtype v) { key.push_back(static_cast<uint32_t>(v)); }
  template <class T, size_t N>
  void add(const SmallVec<T, N>& v) {
    key.push_back(static_cast<uint32_t>(v.size()));
    for (const T& x : v) add(x);
  }
  template <class E>
  requires std::is_enum_v<E>
  void add(E v) { key.push_back(static_cast<uint32_t>(v)); }
};

struct Describer {
  std::string text;
  template <class T>
  void field(const char* name, const T& v) {
    if (!text.empty()) text += ", ";
    text += name;
    text += '=';
    add(v);
  }
  template <class T>
  void size(const char* name, const T& v) {
    field(name, v);
  }
  void add(Dtype v) { text += dtype_name(v); }
  void add(const Shape& v) { text += to_string(v); }
  template <class T>
  void add(const T& v) {
    if constexpr (std::is_enum_v<T>) {
      text += std::to_string(static_cast<int>(v));
    } else {
      text += std::to_string(v);
    }
  }
};

}  // namespace detail

template <class P>
struct ParamsOf final : Params {
  P value;
  explicit ParamsOf(P v) : value(std::move(v)) {}
  bool equals(const Params& o) const override {
    return typeid(o) == typeid(*this) && static_cast<const ParamsOf&>(o).value == value;
  }
  void append_structure(std::vector<uint32_t>& key) const override {
    detail::KeyWriter w{key};
    value.fields(w);
  }
  std::string describe() const override {
    detail::Describer d;
    value.fields(d);
    return d.text;
  }
};

template <class P>
Ref<Params> make_params(P value) {
  return Ref<Params>(new ParamsOf<P>(std::move(value)));
}

}  // namespace lamina
