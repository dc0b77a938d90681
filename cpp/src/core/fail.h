#pragma once

#include <fmt/format.h>

#include <string_view>

#include "lamina/dtype.h"
#include "lamina/error.h"
#include "lamina/shape.h"

template <>
struct fmt::formatter<lamina::Shape> : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(const lamina::Shape& s, Context& ctx) const {
    return fmt::formatter<std::string_view>::format(lamina::to_string(s), ctx);
  }
};
template <>
struct fmt::formatter<lamina::Dtype> : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(lamina::Dtype t, Context& ctx) const {
    return fmt::formatter<std::string_view>::format(lamina::dtype_name(t), ctx);
  }
};

namespace lamina {

// Throws E with "[op] message"; the message is a fmt format checked at compile time.
template <class E, class... Args>
[[noreturn]] void fail(std::string_view op, fmt::format_string<Args...> format, Args&&... args) {
  throw E(fmt::format("[{}] {}", op, fmt::format(format, std::forward<Args>(args)...)));
}

}  // namespace lamina
