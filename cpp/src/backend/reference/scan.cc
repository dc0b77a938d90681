#include "backend/reference/scan.h"

#include "backend/reference/layout.h"
#include "backend/reference/scan_ops.h"
#include "core/fail.h"

namespace lamina::reference {
namespace {

template <class Op, class T>
void scan_line(const char* in, int64_t in_step, char* out, int64_t out_step, int64_t n, bool inclusive) {
  auto sum = Op::identity();
  for (int64_t i = 0; i < n; ++i) {
    const auto next = widen(*reinterpret_cast<const T*>(in + i * in_step));
    const auto before = sum;
    sum = i == 0 ? next : Op::join(sum, next);
    *reinterpret_cast<T*>(out + i * out_step) = static_cast<T>(inclusive ? sum : before);
  }
}

template <ScanKind kKind>
void scan_kind(const View& in, const View& out, int64_t axis, bool reverse, bool inclusive) {
  const auto a = static_cast<size_t>(axis);
  const View from = drop_axis(in, axis), to = drop_axis(out, axis);
  const auto lines = collapse_views<2>({&from, &to});
  const int64_t n = in.shape[a], sign = reverse ? -1 : 1;
  visit_dtype(in.dtype, [&]<class T>(std::type_identity<T>) {
    if constexpr (ScanOp<kKind, T>::kSupported) {
      const int64_t in_step = in.strides[a] * static_cast<int64_t>(sizeof(T));
      const int64_t out_step = out.strides[a] * static_cast<int64_t>(sizeof(T));
      for_each_row(lines, 0, n == 0 ? 0 : lines.size(), [&](const auto& at, int64_t count) {
        const char* first_in = static_cast<const char*>(in.data) + at[0] + (reverse ? (n - 1) * in_step : 0);
        char* first_out = static_cast<char*>(out.data) + at[1] + (reverse ? (n - 1) * out_step : 0);
        for (int64_t i = 0; i < count; ++i) {
          scan_line<ScanOp<kKind, T>, T>(first_in + i * lines.inner_stride(0), sign * in_step,
                                         first_out + i * lines.inner_stride(1), sign * out_step, n,
                                         inclusive);
        }
      });
    } else {
      fail<DtypeError>("scan", "logaddexp is for floating and complex dtypes, got {}", dtype_name(in.dtype));
    }
  });
}

}  // namespace

void scan(ScanKind kind, const View& in, const View& out, int64_t axis, bool reverse, bool inclusive) {
  // Among 0 and 1 the minimum is the product, whose identity is a bool too.
  if (in.dtype == Dtype::kBool && kind == ScanKind::kMin) kind = ScanKind::kProd;
  switch (kind) {
    case ScanKind::kSum: return scan_kind<ScanKind::kSum>(in, out, axis, reverse, inclusive);
    case ScanKind::kProd: return scan_kind<ScanKind::kProd>(in, out, axis, reverse, inclusive);
    case ScanKind::kMax: return scan_kind<ScanKind::kMax>(in, out, axis, reverse, inclusive);
    case ScanKind::kMin: return scan_kind<ScanKind::kMin>(in, out, axis, reverse, inclusive);
    case ScanKind::kLogAddExp: return scan_kind<ScanKind::kLogAddExp>(in, out, axis, reverse, inclusive);
  }
}

}  // namespace lamina::reference
