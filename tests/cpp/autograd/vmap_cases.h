#pragma once

#include "vmap_testing.h"

namespace lamina::testing {

// One function or more for every op of the tables.
std::vector<Case> elementwise_cases();
std::vector<Case> view_cases();
std::vector<Case> reduction_cases();
std::vector<Case> indexing_cases();
std::vector<Case> matrix_cases();

}  // namespace lamina::testing
