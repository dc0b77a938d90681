#pragma once

#include "backend/reference/scan_kind.h"
#include "core/view.h"

namespace lamina::cpu {

// Running reduction along `axis`; in and out have one shape and dtype and may be the same memory.
// `reverse` runs from the end; exclusive (`inclusive` = false) starts with the identity and leaves out the
// own element. float16 and bfloat16 run in float32. One order of operations for given shapes, whatever the
// thread count.
void scan(ScanKind kind, const View& in, const View& out, int64_t axis, bool reverse, bool inclusive);

}  // namespace lamina::cpu
