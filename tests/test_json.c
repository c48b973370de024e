// test_json.c - the JSON reader and writer.
//
// The reader accepts what RFC 8259 allows and refuses everything else, naming the byte. The cases
// are of the kinds of the well-known conformance suite (seriot.ch/parsing_json): y must be read, n
// must be refused; where the RFC leaves the choice to the implementation, ours reads (a) or refuses
// (r). The writer is compared with the text it should make, and with the reader.
#include <math.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"
#include "unit.h"

typedef struct {
    char verdict;  // y, n, a, r: as above
    const char *text;
    size_t size;
} Case;

#define C(verdict, text)               \
    {                                  \
        verdict, text, sizeof text - 1 \
    }

static const Case cases[] = {
    // --- structure
    C('y', "[]"),
    C('y', "{}"),
    C('y', "[[]]"),
    C('y', "[[],[[]],{}]"),
    C('y', "{\"\":0}"),
    C('y', "{\"a\":[]}"),
    C('y', "{\"a\":{\"a\":{\"a\":1}}}"),
    C('y', "{\"a\":1,\"b\":2}"),
    C('y', "{\"a\":1,\"A\":2}"),
    C('y', "{\"a\\u0000b\":1,\"a\\u0000c\":2}"),
    C('y', "{\"\\u0061\":1,\"b\":2}"),
    C('y', "[null,1,\"1\",{}]"),
    C('y', " [1] "),
    C('y', "\t\r\n [\t\r\n 1\t\r\n ,\t\r\n 2\t\r\n ]\t\r\n "),
    C('y', " { \"a\" : 1 , \"b\" : [ ] } "),
    C('y', "null"),
    C('y', "true"),
    C('y', "false"),
    C('y', "42"),
    C('y', "-0.1"),
    C('y', "\"a\""),
    C('y', "\"\""),
    C('y', "[1]\n"),
    C('n', ""),
    C('n', " "),
    C('n', "\n"),
    C('n', "["),
    C('n', "]"),
    C('n', "{"),
    C('n', "}"),
    C('n', "[1"),
    C('n', "[1,"),
    C('n', "[1,]"),
    C('n', "[,1]"),
    C('n', "[,]"),
    C('n', "[1,,2]"),
    C('n', "[1 2]"),
    C('n', "[1;2]"),
    C('n', "[1}"),
    C('n', "[1]]"),
    C('n', "[1]x"),
    C('n', "[1][2]"),
    C('n', "1 2"),
    C('n', "{}{}"),
    C('n', "{\"a\"}"),
    C('n', "{\"a\":}"),
    C('n', "{\"a\":1,}"),
    C('n', "{,\"a\":1}"),
    C('n', "{\"a\":1,,\"b\":2}"),
    C('n', "{\"a\":1 \"b\":2}"),
    C('n', "{\"a\" 1}"),
    C('n', "{\"a\",1}"),
    C('n', "{\"a\"::1}"),
    C('n', "{\"a\":1]"),
    C('n', "{:1}"),
    C('n', "{1:1}"),
    C('n', "{null:1}"),
    C('n', "{[]:1}"),
    C('n', "{a:1}"),
    C('n', "{'a':1}"),
    C('n', "{\"a\":1"),
    C('n', "{\"a\":"),
    C('n', "{\"a\""),
    C('n', "{\"a"),
    C('n', "{\"a\":1}#"),
    C('n', "{\"a\":1}//"),
    C('n', "{\"a\":1}/**/"),
    C('n', "{\"a\":/*b*/1}"),
    C('n', "[1]\0"),
    C('n', "\0"),
    C('n', "[\0]"),
    C('n', "<html>"),
    C('n', "[<null>]"),
    C('n', "*"),
    C('n', "[*]"),
    C('n', "\xc3\xa5"),
    C('n', "[\xc3\xa5]"),
    C('n', "[\x0c]"),
    C('n', "[\x0b]"),
    C('n', "\xc2\xa0[]"),
    C('n', "[\xe2\x81\xa0]"),
    C('n', "\xe2\x80\xa8[]"),
    C('r', "\xef\xbb\xbf{}"),
    C('n', "\xef\xbb{}"),
    C('n', "\xff\xfe[\0]\0"),
    C('r', "{\"a\":1,\"a\":1}"),
    C('r', "{\"a\":1,\"b\":2,\"a\":3}"),
    C('r', "{\"\":1,\"\":2}"),
    C('r', "{\"\\u0061\":1,\"a\":2}"),
    C('y', "[{\"a\":1},{\"a\":2}]"),
    C('y', "{\"a\":{\"a\":1}}"),
    // --- words
    C('n', "[nul]"),
    C('n', "[nulll]"),
    C('n', "[tru]"),
    C('n', "[truee]"),
    C('n', "[fals]"),
    C('n', "[falsee]"),
    C('n', "[True]"),
    C('n', "[NULL]"),
    C('n', "nul"),
    C('n', "t"),
    C('n', "[undefined]"),
    C('n', "[true false]"),
    // --- numbers
    C('y', "[0]"),
    C('y', "[-0]"),
    C('y', "[-1]"),
    C('y', "[123456789]"),
    C('y', "[123.456789]"),
    C('y', "[0.1]"),
    C('y', "[0e1]"),
    C('y', "[0E+1]"),
    C('y', "[0e+1]"),
    C('y', "[1e1]"),
    C('y', "[1E22]"),
    C('y', "[1E-2]"),
    C('y', "[1e+2]"),
    C('y', "[20e1]"),
    C('y', "[1.5e-3]"),
    C('y', "[-123]"),
    C('y', "[-0.0000000000000000000000000000000000000000000000000000000000000000000000000001]"),
    C('y', "[123123e-1]"),
    C('a', "[123123123123123123123123123123]"),
    C('a', "[-123123123123123123123123123123]"),
    C('a', "[1e-400]"),
    C('a', "[123e-10000000]"),
    C('r', "[1e400]"),
    C('r', "[-1e400]"),
    C('r', "[1e99999999999999999999]"),
    C('r', "[0.4e006699999999999999999999999999999999]"),
    C('n', "[-]"),
    C('n', "[+1]"),
    C('n', "[+0]"),
    C('n', "[++1]"),
    C('n', "[--1]"),
    C('n', "[- 1]"),
    C('n', "[01]"),
    C('n', "[-01]"),
    C('n', "[00]"),
    C('n', "[012.3]"),
    C('n', "[.1]"),
    C('n', "[-.1]"),
    C('n', "[1.]"),
    C('n', "[-1.]"),
    C('n', "[0.]"),
    C('n', "[1.e1]"),
    C('n', "[.e1]"),
    C('n', "[0.e1]"),
    C('n', "[1e]"),
    C('n', "[1e+]"),
    C('n', "[1e-]"),
    C('n', "[0E]"),
    C('n', "[1.0e]"),
    C('n', "[1ee2]"),
    C('n', "[1e1.5]"),
    C('n', "[1.2.3]"),
    C('n', "[1 000]"),
    C('n', "[1_000]"),
    C('n', "[1,000.0.0]"),
    C('n', "[0x1F]"),
    C('n', "[1F]"),
    C('n', "[1a]"),
    C('n', "[-a]"),
    C('n', "[NaN]"),
    C('n', "[nan]"),
    C('n', "[Inf]"),
    C('n', "[Infinity]"),
    C('n', "[-Infinity]"),
    C('n', "[-NaN]"),
    C('n', "[1+2]"),
    C('n', "[0-1]"),
    C('n', "[\xef\xbc\x91]"),  // a full-width digit
    C('n', "-"),
    C('n', "1e"),
    C('n', "1."),
    C('n', "[1\xe5]"),
    C('n', "[0\xe5]"),
    // --- strings
    C('y', "[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]"),
    C('y', "[\"\\u0060\\u012a\\u12AB\"]"),
    C('y', "[\"\\uD801\\udc37\"]"),
    C('y', "[\"\\ud83d\\ude39\\ud83d\\udc8d\"]"),
    C('y', "[\"\\\\u0000\"]"),
    C('y', "[\"\\u0000\"]"),
    C('y', "[\"\\uFFFF\\uFFFE\\uFDD0\"]"),
    C('y', "[\"\\uDBFF\\uDFFE\"]"),
    C('y', "[\"\\u005C\\u0022\"]"),
    C('y', "[\"a/*b*/c\"]"),
    C('y', "[\"\x7f\"]"),
    C('y', "[\"\xc2\x80\xdf\xbf\"]"),
    C('y', "[\"\xe0\xa0\x80\xef\xbf\xbf\"]"),
    C('y', "[\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"]"),
    C('y', "[\"\xed\x9f\xbf\xee\x80\x80\"]"),
    C('y', "[\"\xe2\x80\xa8\xe2\x80\xa9\"]"),
    C('y', "[\"\xef\xbb\xbf\"]"),
    C('y', "[\"new\\u000Aline\"]"),
    C('r', "[\"\\uD800\"]"),
    C('r', "[\"\\uDC00\"]"),
    C('r', "[\"\\uD800abc\"]"),
    C('r', "[\"\\uD800\\n\"]"),
    C('r', "[\"\\uD800\\uD800\"]"),
    C('r', "[\"\\uDd1ea\"]"),
    C('r', "[\"\\uDC00\\uD800\"]"),
    C('r', "[\"\\ud800\\u0041\"]"),
    C('r', "[\"\x80\"]"),
    C('r', "[\"\xff\"]"),
    C('r', "[\"\xc3\"]"),
    C('r', "[\"\xc0\xaf\"]"),
    C('r', "[\"\xe0\x80\x80\"]"),
    C('r', "[\"\xed\xa0\x80\"]"),
    C('r', "[\"\xf4\x90\x80\x80\"]"),
    C('r', "[\"\xf0\x80\x80\x80\"]"),
    C('r', "[\"\xfc\x80\x80\x80\x80\x80\"]"),
    C('r', "[\"\xe6\x97\"]"),
    C('r', "{\"\xff\":1}"),
    C('n', "[\""),
    C('n', "\""),
    C('n', "[\"a]"),
    C('n', "[\"\\\"]"),
    C('n', "[\"\\"),
    C('n', "[\"\\a\"]"),
    C('n', "[\"\\x41\"]"),
    C('n', "[\"\\U0041\"]"),
    C('n', "[\"\\'\"]"),
    C('n', "[\"\\0\"]"),
    C('n', "[\"\\ \"]"),
    C('n', "[\"\\\n\"]"),
    C('n', "[\"\\\0\"]"),
    C('n', "[\"\\\xc3\xa5\"]"),
    C('n', "[\"\\u\"]"),
    C('n', "[\"\\u1\"]"),
    C('n', "[\"\\u00A\"]"),
    C('n', "[\"\\u00G0\"]"),
    C('n', "[\"\\u 123\"]"),
    C('n', "[\"\\u-123\"]"),
    C('n', "[\"\\uD834\\u\"]"),
    C('n', "[\"\\uD834\\uDd\"]"),
    C('n', "[\"\\uD800\\"),
    C('n', "[\"\\u12"),
    C('n', "[\"\t\"]"),
    C('n', "[\"\n\"]"),
    C('n', "[\"\x1f\"]"),
    C('n', "[\"a\0b\"]"),
    C('n', "['a']"),
    C('n', "[a]"),
    C('n', "a"),
    C('n', "[\"a\"\"b\"]"),
    C('n', "[\"a\",\n4\n,1"),
    C('n', "[\\n]"),
    C('n', "\\u0020[]"),
    C('n', "[`a`]"),
    C('n', "{\"a\":\"a"),
};

// Reads a copy that ends where the memory does: the sanitizers see a byte too many.
static bool reads(Json *json, const char *text, size_t size, Error *err)
{
    char *copy = malloc(size ? size : 1);
    if (!copy) {
        exit(1);
    }
    memcpy(copy, text, size);
    const bool ok = json_read(json, copy, size, err);
    free(copy);
    return ok;
}

TEST(test_the_reader_takes_what_rfc_8259_allows_and_nothing_else)
{
    Json json = {0};
    const size_t n = sizeof cases / sizeof *cases;
    CHECK(n >= 150, "%zu cases, expected at least 150", n);
    for (size_t i = 0; i < n; i++) {
        const Case *c = &cases[i];
        Error err = {0};
        const bool want = c->verdict == 'y' || c->verdict == 'a';
        const bool got = reads(&json, c->text, c->size, &err);
        CHECK(got == want, "case %zu, %s: %s, expected %s (%s)", i, c->text,
              got ? "read" : "refused", want ? "read" : "refused", err.message);
        CHECK(got || (err.kind == ERROR_INPUT && strncmp(err.message, "byte ", 5) == 0),
              "case %zu, %s: message %s, expected the byte", i, c->text, err.message);
        if (got) {
            CHECK(json.values[0].extent == json.n_values, "case %zu: extent %u of %zu values", i,
                  (unsigned)json.values[0].extent, json.n_values);
        }
    }
    json_free(&json);
}

TEST(test_no_beginning_of_a_text_is_a_text)
{
    static const char text[] = "{\"a\": [1.5e3, true, null, \"\\u00e5\\ud83d\\ude39\xc3\xa5\"], "
                               "\"b\": {\"c\": -0}, \"d\": [[], {}, \"\"]}";
    Json json = {0};
    Error err = {0};
    for (size_t size = 0; size < sizeof text - 1; size++) {
        CHECK(!reads(&json, text, size, &err), "the first %zu bytes were read", size);
    }
    CHECK(reads(&json, text, sizeof text - 1, &err), "%s", err.message);
    json_free(&json);
}

TEST(test_no_changed_byte_upsets_the_reader)
{
    static const char text[] =
        "{\"a\": [1.5e3, true, null, \"\\u00e5\\ud83d\\ude39\xc3\xa5\"], \"b\": {\"c\": -0}}";
    Json json = {0};
    Error err = {0};
    size_t n_read = 0;
    for (size_t i = 0; i < sizeof text - 1; i++) {
        for (int byte = 0; byte < 256; byte++) {
            char changed[sizeof text];
            memcpy(changed, text, sizeof text);
            changed[i] = (char)byte;
            n_read += reads(&json, changed, sizeof text - 1, &err);
        }
    }
    CHECK(n_read > sizeof text, "%zu texts were read, expected at least each unchanged one",
          n_read);
    json_free(&json);
}

TEST(test_errors_name_the_byte_what_is_there_and_what_was_expected)
{
    static const struct {
        const char *text, *message;
    } wrong[] = {
        {"[1,]", "byte 3: found ']', expected a value"},
        {"{\"a\" 1}", "byte 5: found '1', expected a colon"},
        {"[1\x01]", "byte 2: found 0x01, expected a comma or ]"},
        {"[\"\\x\"]", "byte 3: found 'x', expected one of \"\\/bfnrtu after a backslash"},
        {"{\"a\":", "byte 5: the text ends, expected a value"},
        {"{\"a\":1,\"b\":2,\"a\":3}", "byte 17: duplicate name a"},
        {"[\"\\udc00\"]", "byte 2: \\udc00 is half of a surrogate pair, expected both"},
        {"[01]", "byte 2: found '1', expected no digit after a leading zero"},
    };
    Json json = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        Error err = {0};
        CHECK(!reads(&json, wrong[i].text, strlen(wrong[i].text), &err), "%s was read",
              wrong[i].text);
        CHECK(strcmp(err.message, wrong[i].message) == 0, "%s: \"%s\", expected \"%s\"",
              wrong[i].text, err.message, wrong[i].message);
    }
    json_free(&json);
}

TEST(test_strings_are_decoded)
{
    static const struct {
        const char *text, *bytes;
        size_t size;
    } strings[] = {
        {"\"\"", "", 0},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8},
        {"\"a\\u0000b\"", "a\0b", 3},
        {"\"\\u007f\\u0080\\u07ff\\u0800\\uffff\"", "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf",
         11},
        {"\"\\ud800\\udc00\\udbff\\udfff\"", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 8},
        {"\"\xe2\x82\xac \\u20AC \\u20ac\"", "\xe2\x82\xac \xe2\x82\xac \xe2\x82\xac", 11},
    };
    Json json = {0};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        Error err = {0};
        const bool ok = reads(&json, strings[i].text, strlen(strings[i].text), &err);
        CHECK(ok, "%s: %s", strings[i].text, err.message);
        const JsonValue *v = json.values;
        CHECK(ok && v->kind == JSON_STRING && v->size == strings[i].size &&
                  memcmp(v->text, strings[i].bytes, v->size + 1) == 0,
              "%s: %zu bytes, expected %zu", strings[i].text, v->size, strings[i].size);
    }
    json_free(&json);
}

TEST(test_values_are_found_where_they_stand)
{
    static const char text[] = "{\"a\": [10, [20, 30], {}], \"bc\": {\"a\": \"x\"}, \"b\": true}";
    Json json = {0};
    Error err = {0};
    CHECK(reads(&json, text, sizeof text - 1, &err), "%s", err.message);
    const JsonValue *root = json.values, *a = json_member(root, "a");
    CHECK(root->kind == JSON_OBJECT && root->count == 3, "%u members", (unsigned)root->count);
    CHECK(a && a->kind == JSON_ARRAY && a->count == 3 && a->offset == 6, "a is %s",
          a ? json_kind(a) : "missing");
    const JsonValue *second = json_next(json_first(a)), *third = json_next(second);
    CHECK(second->kind == JSON_ARRAY && second->count == 2, "%s", json_kind(second));
    CHECK(strcmp(json_next(json_first(second))->text, "30") == 0, "%s",
          json_next(json_first(second))->text);
    CHECK(third->kind == JSON_OBJECT && third->count == 0, "%s", json_kind(third));
    const JsonValue *bc = json_member(root, "bc"), *b = json_member(root, "b");
    CHECK(bc && json_member(bc, "a") && strcmp(json_member(bc, "a")->text, "x") == 0, "no bc.a");
    CHECK(b && b->kind == JSON_TRUE && b->name_size == 1, "no b");
    CHECK(!json_member(root, "x") && !json_member(root, "c"), "a member that is not there");
    json_free(&json);
}

TEST(test_depth_and_number_of_values_are_bounded)
{
    enum { DEEP = 100000 };
    Json json = {0};
    Error err = {0};
    char *text = malloc(2 * JSON_MAX_VALUES + 2 * DEEP);
    if (!text) {
        exit(1);
    }
    for (size_t depth = JSON_MAX_DEPTH; depth <= JSON_MAX_DEPTH + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        CHECK(reads(&json, text, 2 * depth, &err) == (depth == JSON_MAX_DEPTH), "depth %zu", depth);
    }
    memset(text, '[', DEEP);
    CHECK(!reads(&json, text, DEEP, &err) && strstr(err.message, "byte 64"), "%s", err.message);
    for (size_t extra = 0; extra <= 1; extra++) {
        const size_t n = JSON_MAX_VALUES - 1 + extra;  // inside of one array
        text[0] = '[';
        for (size_t i = 0; i < n; i++) {
            memcpy(text + 1 + 2 * i, "1,", 2);
        }
        text[2 * n] = ']';
        CHECK(reads(&json, text, 2 * n + 1, &err) == (extra == 0), "%zu values", n + 1);
    }
    free(text);
    json_free(&json);
}

TEST(test_an_object_of_many_names_is_read_fast_and_a_duplicate_is_found)
{
    Json json = {0};
    Buffer text = {0};
    Error err = {0};
    buffer_add_text(&text, "{");
    for (int i = 0; i < 100000; i++) {
        buffer_addf(&text, "\"name%06d\":0,", i * 7919 % 100000);
    }
    const size_t size = text.size;
    buffer_add_text(&text, "\"name\":0}");
    CHECK(buffer_check(&text, &err) && reads(&json, text.data, text.size, &err), "%s", err.message);
    text.size = size;
    buffer_add_text(&text, "\"name000007\":0}");
    CHECK(buffer_check(&text, &err) && !reads(&json, text.data, text.size, &err) &&
              strstr(err.message, "duplicate name name000007"),
          "%s", err.message);
    buffer_free(&text);
    json_free(&json);
}

TEST(test_whole_numbers_are_exact_and_others_are_not_whole)
{
    static const struct {
        const char *text;
        bool whole;
        uint64_t value;
    } numbers[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"7", true, 7},
        {"9007199254740993", true, 9007199254740993u},
        {"18446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"99999999999999999999999", false, 0},
        {"1e3", true, 1000},
        {"100.0", true, 100},
        {"15e-1", false, 0},
        {"0.5", false, 0},
        {"-1", false, 0},
        {"1e16", false, 0},
        {"\"7\"", false, 0},
        {"true", false, 0},
        {"[7]", false, 0},
    };
    Json json = {0};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        Error err = {0};
        uint64_t value = 0;
        CHECK(reads(&json, numbers[i].text, strlen(numbers[i].text), &err), "%s", err.message);
        const bool whole = json_whole(json.values, &value);
        CHECK(whole == numbers[i].whole && (!whole || value == numbers[i].value),
              "%s: whole %d, %llu", numbers[i].text, whole, (unsigned long long)value);
    }
    json_free(&json);
}

TEST(test_doubles_come_back_as_they_were_written)
{
    Json json = {0};
    uint64_t state = 1;
    for (size_t i = 0; i < 20000; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        double value;
        memcpy(&value, &state, sizeof value);
        if (!isfinite(value)) {
            continue;
        }
        char text[64];
        const int size = snprintf(text, sizeof text, "%.17g", value);
        Error err = {0};
        CHECK(reads(&json, text, (size_t)size, &err), "%s: %s", text, err.message);
        const double got = json_real(json.values);
        CHECK(memcmp(&got, &value, sizeof got) == 0, "%s came back as %.17g", text, got);
    }
    json_free(&json);
}

TEST(test_strings_that_are_written_are_read_back)
{
    Json json = {0};
    Buffer out = {0};
    Error err = {0};
    char bytes[300];
    size_t size = 0;
    for (int c = 0; c < 128; c++) {
        bytes[size++] = (char)c;
    }
    memcpy(bytes + size, "\xc3\xa5\xf0\x9f\x98\x80\xe2\x80\xa8", 9);
    size += 9;
    json_add_string(&out, bytes, size);
    CHECK(buffer_check(&out, &err) && reads(&json, out.data, out.size, &err), "%s", err.message);
    CHECK(json.values[0].size == size && memcmp(json.values[0].text, bytes, size) == 0,
          "%zu bytes, expected %zu", json.values[0].size, size);
    buffer_free(&out);
    json_free(&json);
}

TEST(test_strings_are_escaped_and_mended_as_they_are_written)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *expected;
    } strings[] = {
        {NULL, 0, "\"\""},
        {"plain", 5, "\"plain\""},
        {"a\"b\\c/", 6, "\"a\\\"b\\\\c/\""},
        {"\n\r\t\b\x01\x7f", 6, "\"\\n\\r\\t\\u0008\\u0001\x7f\""},
        {"a\0b", 3, "\"a\\u0000b\""},
        // Unicode's line ends would split a line of JSON.
        {"\xc2\x85\xe2\x80\xa8\xe2\x80\xa9\n", 9, "\"\\u0085\\u2028\\u2029\\n\""},
        {"\xc3\xa5\xe2\x80\xaa", 5, "\"\xc3\xa5\xe2\x80\xaa\""},
        // Bytes that are not UTF-8, and a character that the end cuts off.
        {"a\xff\xc3", 3, "\"a" UTF8_REPLACEMENT UTF8_REPLACEMENT "\""},
        {"\xf0\x9f\x98", 3, "\"" UTF8_REPLACEMENT "\""},
        {"\xffz", 2, "\"" UTF8_REPLACEMENT "z\""},
    };
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        Buffer out = {0};
        json_add_string(&out, strings[i].bytes, strings[i].size);
        CHECK(strcmp(out.data, strings[i].expected) == 0, "case %zu: %s, expected %s", i, out.data,
              strings[i].expected);
        buffer_free(&out);
    }
}

// What the writer made is the expected text, and the reader reads it.
static void check_written(const Buffer *out, const char *expected)
{
    Error err = {0};
    Json json = {0};
    CHECK(buffer_check(out, &err), "%s", err.message);
    CHECK(strcmp(out->data, expected) == 0, "%s, expected %s", out->data, expected);
    CHECK(reads(&json, out->data, out->size, &err), "%s: %s", out->data, err.message);
    json_free(&json);
}

TEST(test_the_writer_puts_commas_and_names_at_every_depth)
{
    Buffer out = {0};
    JsonWriter w = {.out = &out};
    json_open(&w, NULL, '{');
    json_put_count(&w, "count", UINT64_MAX);
    json_open(&w, "list", '[');
    json_open(&w, NULL, '[');
    json_close(&w, ']');
    json_open(&w, NULL, '{');
    json_put_bool(&w, "yes", true);
    json_put_bool(&w, "no", false);
    json_close(&w, '}');
    json_put_null(&w, NULL);
    json_put_text(&w, NULL, "text");
    json_close(&w, ']');
    json_put_string(&w, "string", "a\"b", 3);
    json_open(&w, "last", '{');
    json_close(&w, '}');
    json_close(&w, '}');
    check_written(&out, "{\"count\": 18446744073709551615, \"list\": [[], {\"yes\": true, "
                        "\"no\": false}, null, \"text\"], \"string\": \"a\\\"b\", \"last\": {}}");
    buffer_free(&out);
}

TEST(test_the_writer_escapes_names_and_copies_json_as_it_is)
{
    Buffer out = {0};
    JsonWriter w = {.out = &out};
    json_open(&w, NULL, '{');
    json_put_json(&w, "a \"name\"\n", "[1,2]", 5);
    json_put_json(&w, "", "1e3", 3);
    json_close(&w, '}');
    check_written(&out, "{\"a \\\"name\\\"\\n\": [1,2], \"\": 1e3}");
    buffer_free(&out);
}

TEST(test_the_writer_makes_null_of_what_json_has_no_value_for)
{
    Buffer out = {0};
    JsonWriter w = {.out = &out};
    json_open(&w, NULL, '[');
    json_put_real(&w, NULL, 0.125, 2);
    json_put_real(&w, NULL, -1, 0);
    json_put_real(&w, NULL, (double)NAN, 3);
    json_put_real(&w, NULL, (double)INFINITY, 3);
    json_put_real(&w, NULL, -(double)INFINITY, 3);
    json_put_text(&w, NULL, NULL);
    json_close(&w, ']');
    check_written(&out, "[0.12, -1, null, null, null, null]");
    buffer_free(&out);
}

TEST(test_a_buffer_without_memory_takes_nothing_more_until_it_is_cleared)
{
    Buffer out = {0};
    Error err = {0};
    JsonWriter w = {.out = &out};
    json_open(&w, NULL, '[');
    json_put_count(&w, NULL, 1);
    CHECK(buffer_check(&out, &err), "%s", err.message);
    buffer_add(&out, "", SIZE_MAX);  // more than there is: refused before a byte is read
    json_put_count(&w, NULL, 2);
    json_put_text(&w, NULL, "text");
    json_close(&w, ']');
    CHECK(!buffer_check(&out, &err) && err.kind == ERROR_RUN, "kind %d", (int)err.kind);
    CHECK(strcmp(out.data, "[1") == 0, "%s, expected what was added before the failure", out.data);
    buffer_clear(&out);
    w = (JsonWriter){.out = &out};
    json_put_count(&w, NULL, 3);
    check_written(&out, "3");
    buffer_free(&out);
}

int main(int argc, char **argv)
{
    return unit_main(argc, argv,
                     (UnitTest[]){
                         UNIT(test_the_reader_takes_what_rfc_8259_allows_and_nothing_else),
                         UNIT(test_no_beginning_of_a_text_is_a_text),
                         UNIT(test_no_changed_byte_upsets_the_reader),
                         UNIT(test_errors_name_the_byte_what_is_there_and_what_was_expected),
                         UNIT(test_strings_are_decoded),
                         UNIT(test_values_are_found_where_they_stand),
                         UNIT(test_depth_and_number_of_values_are_bounded),
                         UNIT(test_an_object_of_many_names_is_read_fast_and_a_duplicate_is_found),
                         UNIT(test_whole_numbers_are_exact_and_others_are_not_whole),
                         UNIT(test_doubles_come_back_as_they_were_written),
                         UNIT(test_strings_that_are_written_are_read_back),
                         UNIT(test_strings_are_escaped_and_mended_as_they_are_written),
                         UNIT(test_the_writer_puts_commas_and_names_at_every_depth),
                         UNIT(test_the_writer_escapes_names_and_copies_json_as_it_is),
                         UNIT(test_the_writer_makes_null_of_what_json_has_no_value_for),
                         UNIT(test_a_buffer_without_memory_takes_nothing_more_until_it_is_cleared),
                         {0},
                     });
}
