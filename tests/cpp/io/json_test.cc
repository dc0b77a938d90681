#include "io/json.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "io_test_util.h"

namespace lamina {
namespace {

using io_test::message_of;

std::string read_string(std::string_view text) {
  JsonReader json("op", "f", text);
  std::string out = json.string();
  json.end();
  return out;
}
int64_t read_number(std::string_view text) {
  JsonReader json("op", "f", text);
  const int64_t out = json.natural_number();
  json.end();
  return out;
}
void skip(std::string_view text) {
  JsonReader json("op", "f", text);
  json.skip();
  json.end();
}

TEST(Json, Strings) {
  EXPECT_EQ(read_string(" \"\" "), "");
  EXPECT_EQ(read_string(R"("a\"\\\/\b\f\n\r\tz")"), "a\"\\/\b\f\n\r\tz");
  EXPECT_EQ(read_string(R"("\u0041\u00e9\u20AC\uD83D\ude00")"), "A\u00e9\u20ac\U0001F600");
  EXPECT_EQ(read_string("\"\u00e9\u20ac\U0001F600\x7f\""), "\u00e9\u20ac\U0001F600\x7f");
  EXPECT_EQ(read_string("\"\\u0000\""), std::string(1, '\0'));
}

TEST(Json, BadStringsAreRefused) {
  for (std::string_view bad :
       {"", "x", "\"", "\"a", "\"\\", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\ud800\"",
        "\"\\ud800\\u0041\"", "\"\\udc00\"", "\"a\nb\"", "\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"",
        "\"\xe2\x82\"", "\"\xf4\x90\x80\x80\"", "\"\x80\"", "\"a\" b"}) {
    EXPECT_THROW(read_string(bad), ValueError) << bad;
  }
}

TEST(Json, QuoteIsUndoneByReading) {
  const std::string text = std::string("a\"b\\c/\n\t\x01\x1f\u00e9\U0001F600") + '\0';
  EXPECT_EQ(read_string(json_quote(text)), text);
  EXPECT_EQ(json_quote("a\"\n"), "\"a\\\"\\u000a\"");
}

TEST(Json, Utf8IsStrict) {
  for (std::string_view good : {"", "a", "\u00e9", "\u07ff", "\u0800", "\xed\x9f\xbf", "\ue000", "\uffff",
                                "\U00010000", "\U0010ffff"}) {
    EXPECT_TRUE(is_utf8(good));
  }
  for (std::string_view bad : {"\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
                               "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "a\xff"}) {
    EXPECT_FALSE(is_utf8(bad));
  }
}

TEST(Json, NaturalNumbers) {
  EXPECT_EQ(read_number("0"), 0);
  EXPECT_EQ(read_number(" 120 "), 120);
  EXPECT_EQ(read_number("9223372036854775807"), INT64_MAX);
  for (std::string_view bad : {"", "-1", "01", "1.0", "1e3", "1E3", "+1", "9223372036854775808",
                               "99999999999999999999999", "x", "\"1\""}) {
    EXPECT_THROW(read_number(bad), ValueError) << bad;
  }
}

TEST(Json, ObjectsAndArrays) {
  JsonReader json("op", "f", R"( {"a": [1, 2 ,3], "b" : [ ], "a":[4]} )");
  std::vector<std::pair<std::string, int64_t>> seen;
  json.object(
      [&](const std::string& key) { json.array([&] { seen.emplace_back(key, json.natural_number()); }); });
  json.end();
  const std::vector<std::pair<std::string, int64_t>> wanted = {{"a", 1}, {"a", 2}, {"a", 3}, {"a", 4}};
  EXPECT_EQ(seen, wanted);
}

TEST(Json, SkipReadsAnyValueAndNothingElse) {
  for (std::string_view good : {"null", "true", "false", "0", "-0", "1.5e-3", "1E+2", "\"x\"", "[]", "{}",
                                R"([1,[2,{"a":null}],"b"])", R"({"a":{"b":[{}]},"c":-1})"}) {
    EXPECT_NO_THROW(skip(good)) << good;
  }
  for (std::string_view bad :
       {"",    "nul",     "True",     "-",     "01",         "1.", ".5", "1e",  "1e+", "[1,]", "[1 2]",
        "[,]", "{\"a\"}", "{\"a\":}", "{a:1}", "{\"a\":1,}", "[",  "{",  "[1}", "1 2", "NaN",  "'x'"}) {
    EXPECT_THROW(skip(bad), ValueError) << bad;
  }
}

TEST(Json, DepthIsBounded) {
  EXPECT_NO_THROW(skip(std::string(64, '[') + std::string(64, ']')));
  EXPECT_EQ(message_of<ValueError>([] { skip(std::string(100000, '[')); }),
            "[op] 'f': JSON at byte 64: wanted at most 64 levels, got one more");
}

TEST(Json, ErrorsSayWhereAndWhat) {
  EXPECT_EQ(message_of<ValueError>([] { skip("{\"a\" 1}"); }),
            "[op] 'f': JSON at byte 5: wanted ':', got '1'");
  EXPECT_EQ(message_of<ValueError>([] { skip("[1 "); }),
            "[op] 'f': JSON at byte 3: wanted ',' or ']', got the end");
  EXPECT_EQ(message_of<ValueError>([] { skip("\x01"); }),
            "[op] 'f': JSON at byte 0: wanted a value, got byte 0x01");
}

TEST(Json, NullIsOptional) {
  JsonReader json("op", "f", "[null, {}]");
  std::vector<bool> nulls;
  json.array([&] {
    nulls.push_back(json.null());
    if (!nulls.back()) json.skip();
  });
  EXPECT_EQ(nulls, (std::vector<bool>{true, false}));
}

}  // namespace
}  // namespace lamina
