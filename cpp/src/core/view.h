#pragma once

#include "lamina/dtype.h"
#include "lamina/shape.h"

namespace lamina {

// What a kernel sees of an array: the address of element [0, 0, ...], and how to step from there.
// Strides are in elements and may be zero or negative. A View owns nothing.
struct View {
  void* data = nullptr;
  Dtype dtype = Dtype::kFloat32;
  Shape shape;
  Strides strides;

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  int64_t size() const {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;
  }
  // True where the elements lie in row-major order without gaps (axes of length 1 do not count).
  bool row_contiguous() const {
    if (size() == 0) return true;
    int64_t step = 1;
    for (size_t i = shape.size(); i-- > 0;) {
      if (shape[i] != 1 && strides[i] != step) return false;
      step *= shape[i];
    }
    return true;
  }
};

}  // namespace lamina
