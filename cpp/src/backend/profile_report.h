#pragma once

#include <string>
#include <vector>

#include "lamina/profile.h"

namespace lamina {

// What a profile looks like to people and to other programs.
std::string profile_table(const Profile& profile, size_t rows);
// Chrome trace JSON; the highest memory use is marked at `peak_at` seconds.
std::string profile_trace(const Profile& profile, double peak_at);

}  // namespace lamina
