#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "lamina/dtype.h"

namespace lamina::gguf {

// Numbers of the format that reader and writer share.
inline constexpr std::string_view kMagic = "GGUF";
inline constexpr uint32_t kVersion = 3;
inline constexpr uint32_t kDefaultAlignment = 32;
inline constexpr uint32_t kMostAlignment = 1U << 20;
inline constexpr std::string_view kAlignmentKey = "general.alignment";
inline constexpr int kMostNesting = 8;

// Types of metadata values that are not numbers.
inline constexpr uint32_t kStringValue = 8;
inline constexpr uint32_t kArrayValue = 9;

struct NumberedDtype {
  uint32_t number;
  Dtype dtype;
};
inline constexpr std::array<NumberedDtype, 11> kValueTypes{{{0, Dtype::kUInt8},
                                                            {1, Dtype::kInt8},
                                                            {2, Dtype::kUInt16},
                                                            {3, Dtype::kInt16},
                                                            {4, Dtype::kUInt32},
                                                            {5, Dtype::kInt32},
                                                            {6, Dtype::kFloat32},
                                                            {7, Dtype::kBool},
                                                            {10, Dtype::kUInt64},
                                                            {11, Dtype::kInt64},
                                                            {12, Dtype::kFloat64}}};
inline constexpr std::array<NumberedDtype, 8> kPlainTensors{{{0, Dtype::kFloat32},
                                                             {1, Dtype::kFloat16},
                                                             {24, Dtype::kInt8},
                                                             {25, Dtype::kInt16},
                                                             {26, Dtype::kInt32},
                                                             {27, Dtype::kInt64},
                                                             {28, Dtype::kFloat64},
                                                             {30, Dtype::kBFloat16}}};

template <size_t N>
std::optional<Dtype> dtype_of(const std::array<NumberedDtype, N>& table, uint32_t number) {
  for (const NumberedDtype& row : table) {
    if (row.number == number) return row.dtype;
  }
  return std::nullopt;
}
template <size_t N>
std::optional<uint32_t> number_of(const std::array<NumberedDtype, N>& table, Dtype dtype) {
  for (const NumberedDtype& row : table) {
    if (row.dtype == dtype) return row.number;
  }
  return std::nullopt;
}

// Tensor types that exist and are not read, to be refused by name.
struct ForeignType {
  uint32_t number;
  std::string_view name;
};
inline constexpr std::array<ForeignType, 14> kForeignTensors{{{9, "Q8_1"},
                                                              {15, "Q8_K"},
                                                              {16, "IQ2_XXS"},
                                                              {17, "IQ2_XS"},
                                                              {18, "IQ3_XXS"},
                                                              {19, "IQ1_S"},
                                                              {21, "IQ3_S"},
                                                              {22, "IQ2_S"},
                                                              {29, "IQ1_M"},
                                                              {34, "TQ1_0"},
                                                              {35, "TQ2_0"},
                                                              {39, "MXFP4"},
                                                              {40, "NVFP4"},
                                                              {41, "Q1_0"}}};

}  // namespace lamina::gguf
