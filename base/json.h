// json.h - reading and writing JSON.
//
// The reader is strict: it accepts RFC 8259 to the letter, in UTF-8, without duplicate names in an
// object. It is bounded in depth and in number of values, so no input makes it slow or large.
#ifndef JSON_H
#define JSON_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

// --------------------------------------------------------------------------------------------
// Reading

// The deepest nesting of arrays and objects. Requests need 6.
#define JSON_MAX_DEPTH 64
// The most values in a text. This bounds the memory for any text to its size plus 20 MiB: 56 bytes
// per value, and 24 per name.
#define JSON_MAX_VALUES ((size_t)1 << 18)

typedef enum {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
} JsonKind;

// Values are stored in the order of the text: the children of an array or object follow it.
//
//     {"a": [1, 2], "b": 3}      value   {}  a:[]  1  2  b:3
//                                extent   5    3   1  1   1
//
// `name` and `text` end with a NUL that their sizes do not count; a string may contain others.
typedef struct {
    JsonKind kind;
    uint32_t count;    // children of an array or object: values directly inside
    uint32_t extent;   // this value and all its descendants: this + extent is the next sibling
    size_t offset;     // of its first byte in the text that was read
    const char *name;  // (name_size) bytes, of a member of an object; else NULL
    size_t name_size;
    const char *text;  // (size) bytes: a string decoded, a number as it was written
    size_t size;
} JsonValue;

// The name of a member, and the offset of the member's value in the text.
typedef struct {
    const char *text;
    size_t size, offset;
} JsonName;

// A parsed text. Start from {0}; reading another text into the same Json reuses its memory.
typedef struct {
    JsonValue *values;  // (capacity), owned: n_values in use; values[0] is the text's root
    size_t n_values, capacity;
    char *text;  // (text_capacity), owned: the bytes of all names, strings and numbers
    size_t text_capacity;
    JsonName *names;  // (names_capacity), owned: sorted here to find duplicates
    size_t names_capacity;
} Json;

// Reads `size` bytes as one JSON text, which need not outlive the call. Errors: ERROR_INPUT with
// the offset of the byte, what was found and what was expected; ERROR_RUN if out of memory.
bool json_read(Json *json, const char *bytes, size_t size, Error *err);
void json_free(Json *json);

// The member of an object with that name, or NULL.
const JsonValue *json_member(const JsonValue *object, const char *name);

// The first child of an array or object that has one, and the sibling after a child. The caller
// counts the children (`count`): there is no end marker.
static inline const JsonValue *json_first(const JsonValue *v) { return v + 1; }
static inline const JsonValue *json_next(const JsonValue *v) { return v + v->extent; }

// "a string", "true", ..: the kind of a value, for messages.
const char *json_kind(const JsonValue *v);

// Is the value a whole number from 0 to 2^64 - 1? Then *out is exactly that number. If it is
// written with a decimal point or an exponent (1e3, 2.0), it must be below 2^53.
bool json_whole(const JsonValue *v, uint64_t *out);

// A number's value, rounded to the nearest double. The reader refuses numbers out of range.
double json_real(const JsonValue *number);

// --------------------------------------------------------------------------------------------
// Writing

// Adds the bytes as a JSON string. Quotes, backslashes, control characters and Unicode's line
// separators are escaped; bytes that are not UTF-8 become U+FFFD.
void json_add_string(Buffer *out, const char *bytes, size_t size);

// Writes JSON into a buffer, which remembers if memory ran out (buffer_check). The writer adds the
// commas and the names of members; `name` is NULL for an element of an array and for the root.
//
//     JsonWriter w = {.out = out};
//     json_open(&w, NULL, '{');                        {
//     json_put_count(&w, "tokens", 3);                 {"tokens": 3
//     json_open(&w, "best", '[');                      {"tokens": 3, "best": [
//     json_put_real(&w, NULL, 0.5, 2);                 {"tokens": 3, "best": [0.50
//     json_close(&w, ']'), json_close(&w, '}');        {"tokens": 3, "best": [0.50]}
typedef struct {
    Buffer *out;   // not owned
    bool follows;  // the next value follows another in the same array or object: comma first
} JsonWriter;

// The name of a member, which may hold any bytes; its value follows, without a name.
void json_put_name(JsonWriter *w, const char *bytes, size_t size);
void json_open(JsonWriter *w, const char *name, char bracket);
void json_close(JsonWriter *w, char bracket);
void json_put_string(JsonWriter *w, const char *name, const char *bytes, size_t size);
void json_put_text(JsonWriter *w, const char *name, const char *text);  // NULL becomes null
void json_put_count(JsonWriter *w, const char *name, uint64_t value);
// NaN and infinities, which JSON lacks, become null.
void json_put_real(JsonWriter *w, const char *name, double value, int decimals);
void json_put_bool(JsonWriter *w, const char *name, bool value);
void json_put_null(JsonWriter *w, const char *name);
// A value that is already JSON: copied unchanged.
void json_put_json(JsonWriter *w, const char *name, const char *json, size_t size);
// A value as it was read, with all that is in it.
void json_put_value(JsonWriter *w, const char *name, const JsonValue *v);

#endif
