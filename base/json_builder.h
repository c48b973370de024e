// json_builder.h - JSON values made in memory, laid out as json_read lays them out (json.h).
//
//     JsonBuilder b = {0};
//     const size_t list = build_open(&b, NULL, JSON_ARRAY);
//     const size_t message = build_open(&b, NULL, JSON_OBJECT);
//     build_text(&b, "role", "user", 4);
//     build_close(&b, message);
//     build_close(&b, list);                     [{"role": "user"}]
//
// Values are known by their index until all are built, because the array moves while it grows.
#ifndef JSON_BUILDER_H
#define JSON_BUILDER_H

#include "base/error.h"
#include "base/json.h"

// Start from {0}. Names and texts are not copied: they must outlive the values. As with a Buffer,
// an error sticks; check once, at the end.
typedef struct {
    JsonValue *values;  // (capacity), owned: n in use; values[0] is the root
    size_t n, capacity;
    size_t lacking;  // bytes that could not be allocated; 0: no error
} JsonBuilder;

// Begins an array or object. What is added until build_close is inside it. `name` is NULL for an
// element of an array and for the root. Returns its index.
size_t build_open(JsonBuilder *b, const char *name, JsonKind kind);
void build_close(JsonBuilder *b, size_t index);

// Adds a string, which may hold any bytes. Returns its index.
size_t build_text(JsonBuilder *b, const char *name, const char *text, size_t size);

// Adds a copy of a value with all its descendants and its name.
void build_copy(JsonBuilder *b, const JsonValue *v);

// Were all values added? Error: ERROR_RUN.
bool build_check(const JsonBuilder *b, Error *err);

void build_free(JsonBuilder *b);

#endif
