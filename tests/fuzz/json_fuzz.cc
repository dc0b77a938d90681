// libFuzzer target; any JSON text is a seed.
#include <cstdlib>
#include <string_view>

#include "io/json.h"
#include "lamina/error.h"

namespace {

bool is_json(std::string_view text) {
  lamina::JsonReader json("json", "fuzz", text);
  try {
    json.skip();
    json.end();
    return true;
  } catch (const lamina::Error&) { return false; }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  const std::string_view text(reinterpret_cast<const char*>(data), bytes);
  const bool good = is_json(text);
  if (good && !lamina::is_utf8(text)) std::abort();
  // Any text can be quoted, and then is a string of JSON where it is UTF-8.
  if (is_json(lamina::json_quote(text)) != lamina::is_utf8(text)) std::abort();
  return 0;
}
