// json.h - reading and writing JSON.
//
// The reader is strict: what it takes is RFC 8259 to the letter, in UTF-8, with no name twice in an
// object. It is bounded in depth and in values, so that no text makes it slow or large.
#ifndef JSON_H
#define JSON_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

// Arrays and objects inside each other, at most. Requests need 6.
#define JSON_MAX_DEPTH 64
// Values in a text, at most: with that, a text of any kind takes 16 MB beside itself.
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

// Values lie in the order of the text: what is inside an array or object follows it.
//
//     {"a": [1, 2], "b": 3}      value   {}  a:[]  1  2  b:3
//                                extent   5    3  1  1    1
typedef struct {
    JsonKind kind;
    uint32_t count;    // values directly inside
    uint32_t extent;   // itself and all inside: this + extent is its next sibling
    size_t offset;     // of its first byte in the text
    const char *name;  // of a member of an object: name_size bytes; else NULL
    size_t name_size;
    const char *text;  // of a string its bytes, of a number its characters: size of them
    size_t size;
} JsonValue;  // name and text end with a NUL that their sizes do not count

// The name of a member, and where it stands.
typedef struct {
    const char *text;
    size_t size, offset;
} JsonName;

// A text that was read. Reading another into the same Json reuses its memory.
typedef struct {
    JsonValue *values;  // (capacity), owned; the first is the whole text
    size_t n_values, capacity;
    char *text;  // (text_capacity), owned: of all strings and numbers
    size_t text_capacity;
    JsonName *names;  // (names_capacity), owned: scratch, to find a name that is there twice
    size_t names_capacity;
} Json;

// Reads `size` bytes as one JSON text. Errors: ERROR_INPUT with the byte's offset, what is there
// and what was wanted; ERROR_RUN without memory. The bytes need not outlive the call.
bool json_read(Json *json, const char *bytes, size_t size, Error *err);
void json_free(Json *json);

// The member of that name, or NULL.
const JsonValue *json_member(const JsonValue *object, const char *name);

// The first value inside an array or object that has one, and the one after another there.
static inline const JsonValue *json_first(const JsonValue *v) { return v + 1; }
static inline const JsonValue *json_next(const JsonValue *v) { return v + v->extent; }

const char *json_kind(const JsonValue *v);  // "a string", "true", ... for messages

// *out = a number that is whole and within 0 .. 2^64 - 1, to the digit; false where the value is
// not. With a point or an exponent (1e3, 2.0) it must be below 2^53.
bool json_whole(const JsonValue *v, uint64_t *out);

// A number's value, to the nearest double. Numbers beyond the doubles are refused when read.
double json_real(const JsonValue *number);

// Adds a JSON string of the bytes: quotes, backslashes, control characters and Unicode's ends of
// lines are escaped, and what is not UTF-8 becomes U+FFFD.
void json_add_string(Buffer *out, const char *bytes, size_t size);

// Adds a number with so many decimals; null where it is not finite.
void json_add_real(Buffer *out, double value, int decimals);

// Writes JSON into a buffer, in which an error sticks (buffer_check). It puts the commas, and the
// names of members: `name` is NULL inside an array.
//
//     JsonWriter w = {out};
//     json_open(&w, NULL, '{');                        {
//     json_put_count(&w, "tokens", 3);                 {"tokens": 3
//     json_open(&w, "best", '[');                      {"tokens": 3, "best": [
//     json_put_real(&w, NULL, 0.5, 2);                 {"tokens": 3, "best": [0.50
//     json_close(&w, ']'), json_close(&w, '}');        {"tokens": 3, "best": [0.50]}
typedef struct {
    Buffer *out;
    bool follows;  // a value stands before the next one: it needs a comma
} JsonWriter;

void json_open(JsonWriter *w, const char *name, char bracket);
void json_close(JsonWriter *w, char bracket);
void json_put_string(JsonWriter *w, const char *name, const char *bytes, size_t size);
void json_put_text(JsonWriter *w, const char *name, const char *text);  // NULL: null
void json_put_count(JsonWriter *w, const char *name, uint64_t value);
void json_put_real(JsonWriter *w, const char *name, double value, int decimals);
void json_put_bool(JsonWriter *w, const char *name, bool value);
void json_put_null(JsonWriter *w, const char *name);
void json_put_json(JsonWriter *w, const char *name, const char *json, size_t size);  // as it is

// Going out of use: json_add_string and json_add_real, checked at once.
bool json_string(Buffer *out, const char *bytes, size_t size, Error *err);
bool json_number(Buffer *out, double value, int decimals, Error *err);

#endif
