#include <fmt/format.h>

#include "bindings/array_slots.h"
#include "graph/node.h"

namespace lamina::bind {
namespace {

// Digits after the point; -1 prints six significant digits instead.
int precision = -1;

constexpr int64_t kShown = 3;             // elements of an axis shown at either end
constexpr int64_t kLongest = 2 * kShown;  // longest axis shown in full

void print_real(std::string& out, double v) {
  if (v != v) {
    out += "nan";
  } else if (precision >= 0) {
    fmt::format_to(std::back_inserter(out), "{:.{}f}", v, precision);
  } else {
    fmt::format_to(std::back_inserter(out), "{:.6g}", v);
  }
}

void print_complex(std::string& out, std::complex<float> v) {
  print_real(out, static_cast<double>(v.real()));
  std::string imaginary;
  print_real(imaginary, static_cast<double>(v.imag()));
  if (imaginary.front() != '-') out += '+';
  out += imaginary + "j";
}

void print_element(std::string& out, const char* p, Dtype t) {
  auto as = [p]<class T>(T) { return *reinterpret_cast<const T*>(p); };
  auto number = [&out](auto v) { fmt::format_to(std::back_inserter(out), "{}", +v); };
  switch (t) {
    case Dtype::kBool: out += as(false) ? "True" : "False"; break;
    case Dtype::kUInt8: number(as(uint8_t{})); break;
    case Dtype::kUInt16: number(as(uint16_t{})); break;
    case Dtype::kUInt32: number(as(uint32_t{})); break;
    case Dtype::kUInt64: number(as(uint64_t{})); break;
    case Dtype::kInt8: number(as(int8_t{})); break;
    case Dtype::kInt16: number(as(int16_t{})); break;
    case Dtype::kInt32: number(as(int32_t{})); break;
    case Dtype::kInt64: number(as(int64_t{})); break;
    case Dtype::kFloat16: print_real(out, static_cast<double>(static_cast<float>(as(float16_t{})))); break;
    case Dtype::kBFloat16: print_real(out, static_cast<double>(static_cast<float>(as(bfloat16_t{})))); break;
    case Dtype::kFloat32: print_real(out, static_cast<double>(as(float{}))); break;
    case Dtype::kFloat64: print_real(out, as(double{})); break;
    case Dtype::kComplex64: print_complex(out, as(std::complex<float>{})); break;
  }
}

// One axis and those below it: "[0, 1, 2, ..., 9]", rows on lines of their own.
void print_axis(std::string& out, const View& v, const char* data, size_t axis) {
  const bool last = axis + 1 == v.shape.size();
  const std::string gap = last ? ", " : ",\n" + std::string(7 + axis, ' ');
  const int64_t step = v.strides[axis] * static_cast<int64_t>(itemsize(v.dtype)), n = v.shape[axis];
  out += '[';
  for (int64_t i = 0; i < n; ++i) {
    if (i > 0) out += gap;
    if (n > kLongest && i == kShown) {
      out += "..." + gap;
      i = n - kShown;
    }
    if (last) {
      print_element(out, data + i * step, v.dtype);
    } else {
      print_axis(out, v, data + i * step, axis + 1);
    }
  }
  out += ']';
}

std::string to_text(const Array& a) {
  evaluate_released(a, "print");
  const View v = a.node()->view();
  std::string out = "array(";
  const auto* data = static_cast<const char*>(v.data);
  if (v.shape.empty()) {
    print_element(out, data, v.dtype);
  } else {
    print_axis(out, v, data, 0);
  }
  return fmt::format("{}, dtype={})", out, dtype_name(v.dtype));
}

struct PrintOptions {
  int precision;
};
struct PrintContext {
  int inside, before;
};

void add_print_types(const Scope& core) {
  const Scope options = define_box<PrintOptions>(
      core, "lamina.core.PrintOptions", "PrintOptions(precision=-1)\n--\n\nHow arrays are printed.", {});
  def_constructor(options, "PrintOptions(precision: int = -1)", "How arrays are printed.",
                  [](int digits) { return Box<PrintOptions>::make({digits}); });
  def_property(options, "precision: int", "Digits after the point; -1 for six significant digits.",
               [](PyObject* s) { return int64_t{Box<PrintOptions>::of(s).precision}; });
  const Scope context = define_box<PrintContext>(core, "lamina.core._PrintOptionsContext",
                                                 "Print options for a `with` block.", {});
  def(context, "__enter__(self) -> PrintOptions", "Enters the block.", [](PyObject* self) {
    PrintContext& c = Box<PrintContext>::of(self);
    c.before = std::exchange(precision, c.inside);
    return Box<PrintOptions>::make({precision});
  });
  def(context,
      "__exit__(self, exc_type: object = None, exc_value: object = None, traceback: object = None) -> bool",
      "Leaves the block.", [](PyObject* self, PyObject*, PyObject*, PyObject*) {
        precision = Box<PrintContext>::of(self).before;
        return false;
      });
}

}  // namespace

PyObject* array_repr(PyObject* self) {
  return guarded([&] { return to_python(to_text(value_of(self))); });
}

void add_printing(const Scope& core) {
  add_print_types(core);
  def(core, "set_printoptions(precision: int = -1)",
      "Sets how arrays are printed.\n@precision Digits after the point; -1 for six significant digits.\n"
      ">>> mx.set_printoptions(precision=2)\n>>> mx.array(1 / 3)\narray(0.33, dtype=float32)\n>>> "
      "mx.set_printoptions()\n",
      [](int digits) { precision = digits; });
  def(core, "get_printoptions() -> PrintOptions",
      "How arrays are printed now.\n>>> mx.get_printoptions().precision\n-1\n",
      [] { return Box<PrintOptions>::make({precision}); });
  def(core, "printoptions(precision: int = -1)",
      "Print options for a `with` block.\n@precision Digits after the point; -1 for six significant digits.\n"
      ">>> with mx.printoptions(precision=1):\n...     print(mx.array(0.25))\narray(0.2, dtype=float32)\n",
      [](int digits) {
        return Box<PrintContext>::make({digits, precision});
      });
}

}  // namespace lamina::bind
