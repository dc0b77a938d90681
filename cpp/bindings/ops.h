#pragma once

#include "bindings/function.h"

namespace lamina::bind {

// Functions of the module by topic; those that are methods too go into `type` as well.
void add_table_ops(const Scope& core, const Scope& type);
void add_creation(const Scope& core);
void add_elementwise(const Scope& core, const Scope& type);
void add_shape_ops(const Scope& core, const Scope& type);
void add_joining(const Scope& core, const Scope& type);
void add_reductions(const Scope& core, const Scope& type);
void add_sorting(const Scope& core, const Scope& type);
void add_gathering(const Scope& core);
void add_linear_algebra(const Scope& core);
void add_linalg(const Scope& core, const Scope& linalg);
void add_fft(const Scope& fft);
void add_einsum(const Scope& core);
void add_quantization(const Scope& core);
void add_random(const Scope& random);
void add_fast(const Scope& fast);
void add_distributed(const Scope& distributed);
void add_evaluation(const Scope& core);
void add_profile(const Scope& core);
void add_transforms(const Scope& core);
void add_custom_functions(const Scope& core);
void add_compile(const Scope& core);
void add_explain(const Scope& core);
void add_convolutions(const Scope& core);
void add_export(const Scope& core);
void add_io(const Scope& core);

}  // namespace lamina::bind
