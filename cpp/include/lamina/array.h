#pragma once

#include <complex>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lamina/device.h"
#include "lamina/dtype.h"
#include "lamina/error.h"
#include "lamina/shape.h"

namespace lamina {

struct Node;

// The Dtype of a C++ element type.
template <class T>
struct DtypeOf;
#define LAMINA_DTYPE_OF(T, D)                \
  template <>                                \
  struct DtypeOf<T> {                        \
    static constexpr Dtype value = Dtype::D; \
  };
LAMINA_DTYPE_OF(bool, kBool)
LAMINA_DTYPE_OF(uint8_t, kUInt8)
LAMINA_DTYPE_OF(uint16_t, kUInt16)
LAMINA_DTYPE_OF(uint32_t, kUInt32)
LAMINA_DTYPE_OF(uint64_t, kUInt64)
LAMINA_DTYPE_OF(int8_t, kInt8)
LAMINA_DTYPE_OF(int16_t, kInt16)
LAMINA_DTYPE_OF(int32_t, kInt32)
LAMINA_DTYPE_OF(int64_t, kInt64)
LAMINA_DTYPE_OF(float16_t, kFloat16)
LAMINA_DTYPE_OF(bfloat16_t, kBFloat16)
LAMINA_DTYPE_OF(float, kFloat32)
LAMINA_DTYPE_OF(double, kFloat64)
LAMINA_DTYPE_OF(std::complex<float>, kComplex64)
#undef LAMINA_DTYPE_OF

// A cheap handle to a lazy n-dimensional array. Copies share the same node.
//
//   lamina::Array a({1.f, 2.f, 3.f, 4.f}, {2, 2});
//   lamina::Array b = lamina::matmul(a, a) + 1.0;
//   b.eval();                       // computes here, not before
//   float x = b.data<float>()[0];   // 8
class Array {
 public:
  // An empty handle; every use but assignment throws ValueError.
  Array() = default;
  // 0-d constants.
  Array(bool v);
  Array(int v);
  Array(int64_t v);
  Array(float v);
  Array(double v);  // float32, as MLX reads a Python float
  Array(std::complex<float> v);
  Array(double v, Dtype dtype);
  Array(int64_t v, Dtype dtype);
  Array(std::complex<double> v, Dtype dtype);
  // A copy of row-major host data.
  template <class T>
  Array(std::initializer_list<T> values, const Shape& shape)
      : Array(copy_host(values.begin(), values.size(), DtypeOf<T>::value, shape)) {}
  template <class T>
  Array(std::span<const T> values, const Shape& shape)
      : Array(copy_host(values.data(), values.size(), DtypeOf<T>::value, shape)) {}
  // A copy of `count` elements at `data`; throws ShapeError where count differs from the shape's.
  static Array copy_host(const void* data, size_t count, Dtype dtype, const Shape& shape);
  // Adopts memory without a copy; `release` runs when the last array over it dies. Strides in elements.
  static Array adopt(void* data, Dtype dtype, const Shape& shape, const Strides& strides, bool writable,
                     std::function<void()> release);

  explicit Array(Node* node);  // shares the node
  Array(const Array& o);
  Array(Array&& o) noexcept : node_(std::exchange(o.node_, nullptr)) {}
  Array& operator=(const Array& o);
  Array& operator=(Array&& o) noexcept {
    std::swap(node_, o.node_);
    return *this;
  }
  ~Array();

  const Shape& shape() const;
  int64_t shape(int axis) const;  // negative axes count from the end
  int ndim() const { return static_cast<int>(shape().size()); }
  int64_t size() const;  // elements
  Dtype dtype() const;
  size_t itemsize() const { return lamina::itemsize(dtype()); }
  size_t nbytes() const { return static_cast<size_t>(size()) * itemsize(); }
  Stream stream() const;

  // Computes the array; an error of a kernel or of memory is thrown here and the array stays unevaluated.
  void eval() const;
  // True once the values are in memory.
  bool is_available() const;
  // The one element of a 1-element array, converted to T.
  template <class T>
  T item() const;
  // Row-major host data; evaluates, and throws ValueError where the layout is not row-contiguous.
  template <class T>
  const T* data() const {
    return static_cast<const T*>(host_data(DtypeOf<T>::value));
  }
  // Strides in elements of the evaluated array.
  const Strides& strides() const;

  bool valid() const { return node_ != nullptr; }
  Node* node() const { return node_; }
  // True where both handles share one node.
  bool same(const Array& o) const { return node_ == o.node_; }

 private:
  const void* host_data(Dtype wanted) const;
  Node* node_ = nullptr;
};

// Computes all of them (shared parts once). See Array::eval for errors.
void eval(std::span<const Array> arrays);
inline void eval(std::initializer_list<Array> arrays) {
  eval(std::span<const Array>(arrays.begin(), arrays.size()));
}
// Starts the computation on the arrays' stream and returns.
void async_eval(std::span<const Array> arrays);

// Whether products of float matrices (matmul, addmm, gather_mm, exact quantized products) give a row the same
// bits alone and in any batch. For the process; an evaluation goes by what is set when it is asked for. Off
// at the start, or what LAMINA_BATCH_INVARIANT=1|0 says (else ValueError).
bool batch_invariant();
// Returns the setting before.
bool set_batch_invariant(bool on);

}  // namespace lamina
