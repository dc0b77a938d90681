#include "lamina/array.h"

#include <array>
#include <bit>
#include <cstring>

#include "core/axis_error.h"
#include "core/fail.h"
#include "graph/eval.h"
#include "graph/node.h"

namespace lamina {
namespace {

Node* checked(Node* n) {
  if (!n) fail<ValueError>("array", "an empty array handle has no value");
  return n;
}

Node* scalar_node(Dtype dtype, double re, double im, int64_t i) {
  Node* n = Node::create();
  n->op = OpId::Scalar;
  n->dtype = dtype;
  n->state.store(NodeState::kReady, std::memory_order_relaxed);
  auto put = [n](auto v) { std::memcpy(n->scalar.bytes, &v, sizeof v); };
  switch (dtype) {
    case Dtype::kBool: put(static_cast<uint8_t>(i != 0)); break;
    case Dtype::kUInt8:
    case Dtype::kInt8: put(static_cast<uint8_t>(i)); break;
    case Dtype::kUInt16:
    case Dtype::kInt16: put(static_cast<uint16_t>(i)); break;
    case Dtype::kUInt32:
    case Dtype::kInt32: put(static_cast<uint32_t>(i)); break;
    case Dtype::kUInt64:
    case Dtype::kInt64: put(i); break;
    case Dtype::kFloat16: put(float16_t(static_cast<float>(re))); break;
    case Dtype::kBFloat16: put(bfloat16_t(static_cast<float>(re))); break;
    case Dtype::kFloat32: put(static_cast<float>(re)); break;
    case Dtype::kFloat64: put(re); break;
    case Dtype::kComplex64:
      n->scalar =
          std::bit_cast<ScalarBits>(std::array<float, 2>{static_cast<float>(re), static_cast<float>(im)});
      break;
  }
  return n;
}

// The integer nearest to zero from v; the ends of the range where v is outside it, 0 for NaN.
int64_t truncate(double v) {
  if (!(v == v)) return 0;
  if (v >= 0x1p63) return INT64_MAX;
  if (v < -0x1p63) return INT64_MIN;
  return static_cast<int64_t>(v);
}

Node* float_scalar(double v, Dtype dtype) {
  return scalar_node(dtype, v, 0, dtype == Dtype::kBool ? v != 0 : truncate(v));
}
Node* int_scalar(int64_t v, Dtype dtype) { return scalar_node(dtype, static_cast<double>(v), 0, v); }

template <class T>
T convert(const Node& n) {
  const View v = n.view();
  switch (n.dtype) {
    case Dtype::kBool: return static_cast<T>(*v.as<bool>());
    case Dtype::kUInt8: return static_cast<T>(*v.as<uint8_t>());
    case Dtype::kUInt16: return static_cast<T>(*v.as<uint16_t>());
    case Dtype::kUInt32: return static_cast<T>(*v.as<uint32_t>());
    case Dtype::kUInt64: return static_cast<T>(*v.as<uint64_t>());
    case Dtype::kInt8: return static_cast<T>(*v.as<int8_t>());
    case Dtype::kInt16: return static_cast<T>(*v.as<int16_t>());
    case Dtype::kInt32: return static_cast<T>(*v.as<int32_t>());
    case Dtype::kInt64: return static_cast<T>(*v.as<int64_t>());
    case Dtype::kFloat16: return static_cast<T>(static_cast<float>(*v.as<float16_t>()));
    case Dtype::kBFloat16: return static_cast<T>(static_cast<float>(*v.as<bfloat16_t>()));
    case Dtype::kFloat32: return static_cast<T>(*v.as<float>());
    case Dtype::kFloat64: return static_cast<T>(*v.as<double>());
    case Dtype::kComplex64: {
      const float* c = v.as<float>();
      if constexpr (std::is_same_v<T, std::complex<float>>) return {c[0], c[1]};
      return static_cast<T>(c[0]);
    }
  }
  return T();
}

}  // namespace

Array::Array(Node* node) : node_(node) { Ref<Node>::retain(node_); }
Array::Array(const Array& o) : node_(o.node_) { Ref<Node>::retain(node_); }
Array& Array::operator=(const Array& o) {
  Array copy(o);
  std::swap(node_, copy.node_);
  return *this;
}
Array::~Array() { Ref<Node>::release(node_); }

Array::Array(bool v) : Array(int_scalar(v, Dtype::kBool)) {}
Array::Array(int v) : Array(int_scalar(v, Dtype::kInt32)) {}
Array::Array(int64_t v) : Array(int_scalar(v, Dtype::kInt64)) {}
Array::Array(float v) : Array(float_scalar(v, Dtype::kFloat32)) {}
Array::Array(double v) : Array(float_scalar(v, Dtype::kFloat32)) {}
Array::Array(std::complex<float> v) : Array(std::complex<double>(v), Dtype::kComplex64) {}
Array::Array(double v, Dtype dtype) : Array(float_scalar(v, dtype)) {}
Array::Array(int64_t v, Dtype dtype) : Array(int_scalar(v, dtype)) {}
Array::Array(std::complex<double> v, Dtype dtype) {
  if (!is_complex(dtype)) fail<DtypeError>("array", "a complex value does not fit dtype {}", dtype);
  *this = Array(scalar_node(dtype, v.real(), v.imag(), 0));
}

Array Array::copy_host(const void* data, size_t count, Dtype dtype, const Shape& shape) {
  const int64_t wanted = num_elements(shape);
  if (wanted != static_cast<int64_t>(count)) {
    fail<ShapeError>("array", "shape {} wants {} elements, {} came", shape, wanted, count);
  }
  Array out = uninitialized(shape, dtype);
  if (count) std::memcpy(out.node()->buffer->data(), data, count * lamina::itemsize(dtype));
  return out;
}

size_t byte_count(const Shape& shape, Dtype dtype) {
  int64_t bytes = 0;
  if (__builtin_mul_overflow(num_elements(shape), static_cast<int64_t>(itemsize(dtype)), &bytes)) {
    fail<OutOfMemory>("allocate", "a {} array of shape {} has more bytes than can be addressed", dtype,
                      shape);
  }
  return static_cast<size_t>(bytes);
}

Array uninitialized(const Shape& shape, Dtype dtype) {
  Array out(Node::create());
  Node* n = out.node();
  n->dtype = dtype;
  n->shape = shape;
  n->strides = row_major_strides(shape);
  n->buffer = allocate(byte_count(shape, dtype));
  n->state.store(NodeState::kReady, std::memory_order_release);
  return out;
}

Array Array::adopt(void* data, Dtype dtype, const Shape& shape, const Strides& strides, bool writable,
                   std::function<void()> release) {
  if (strides.size() != shape.size()) {
    fail<ShapeError>("array", "{} strides for shape {}", strides.size(), shape);
  }
  Array out(Node::create());
  Node* n = out.node();
  n->dtype = dtype;
  n->shape = shape;
  n->strides = strides;
  const auto item = static_cast<int64_t>(lamina::itemsize(dtype));
  int64_t low = 0, high = 0;
  for (size_t i = 0; i < shape.size(); ++i) {
    const int64_t reach = (shape[i] - 1) * strides[i];
    (reach < 0 ? low : high) += reach;
  }
  n->offset = -low;
  const bool empty = num_elements(shape) == 0;
  const size_t bytes = empty ? 0 : static_cast<size_t>((high - low + 1) * item);
  n->buffer = lamina::adopt(static_cast<char*>(data) + low * item, bytes, writable, std::move(release));
  n->state.store(NodeState::kReady, std::memory_order_release);
  return out;
}

const Shape& Array::shape() const { return checked(node_)->shape; }
int64_t Array::shape(int axis) const {
  const Shape& s = shape();
  const int n = static_cast<int>(s.size());
  if (axis < -n || axis >= n)
    fail<AxisError>("shape", "axis {} is out of bounds for an array with {} axes", axis, n);
  return s[static_cast<size_t>(axis < 0 ? axis + n : axis)];
}
int64_t Array::size() const { return checked(node_)->size(); }
Dtype Array::dtype() const { return checked(node_)->dtype; }
Stream Array::stream() const { return {checked(node_)->stream_index, {node_->device, 0}}; }
bool Array::is_available() const { return checked(node_)->ready(); }
void Array::eval() const { lamina::eval(std::span<const Array>(this, 1)); }

const Strides& Array::strides() const {
  eval();
  return node_->strides;
}

template <class T>
T Array::item() const {
  if (size() != 1) fail<ValueError>("item", "wants an array of one element, got shape {}", shape());
  evaluate(std::span<const Array>(this, 1), false, "item");
  return convert<T>(*node_);
}
#define LAMINA_ITEM(T) template T Array::item<T>() const;
LAMINA_ITEM(bool)
LAMINA_ITEM(uint8_t)
LAMINA_ITEM(uint16_t)
LAMINA_ITEM(uint32_t)
LAMINA_ITEM(uint64_t)
LAMINA_ITEM(int8_t)
LAMINA_ITEM(int16_t)
LAMINA_ITEM(int32_t)
LAMINA_ITEM(int64_t)
LAMINA_ITEM(float)
LAMINA_ITEM(double)
LAMINA_ITEM(std::complex<float>)
#undef LAMINA_ITEM

const void* Array::host_data(Dtype wanted) const {
  if (dtype() != wanted) fail<DtypeError>("data", "array is {}, asked as {}", dtype(), wanted);
  evaluate(std::span<const Array>(this, 1), false, "host view");
  const View v = node_->view();
  if (!v.row_contiguous()) {
    fail<ValueError>("data", "array with shape {} is not row-contiguous; use contiguous()", v.shape);
  }
  return v.data;
}

void eval(std::span<const Array> arrays) {
  for (const Array& a : arrays) checked(a.node());
  evaluate(arrays, false);
}
void async_eval(std::span<const Array> arrays) {
  for (const Array& a : arrays) checked(a.node());
  evaluate(arrays, true);
}

}  // namespace lamina
