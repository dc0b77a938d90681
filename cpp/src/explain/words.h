#pragma once

#include <string>

#include "lamina/explain.h"

namespace lamina {

// How the text and the drawing name things.
const char* word_of(Explanation::Kind kind);
const char* word_of(Explanation::Source source);
std::string counted(uint64_t n, const char* what);            // "1 tape", "2 tapes"
std::string in_bytes(uint64_t n);                             // "1.5 kB"
std::string in_flops(double n);                               // "2.1 M"
std::string type_of(const Explanation::Value& v);             // "float32 (3, 4)"
std::string reference(const Explanation& e, uint32_t value);  // "x", "2.0", "constant 7", "%3"

}  // namespace lamina
