// json_builder.c - JSON values made in memory. See json_builder.h.
#include "base/json_builder.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

// Makes room for n more values.
static bool reserve_values(JsonBuilder *b, size_t n)
{
    if (b->lacking) {
        return false;
    }
    if (n <= b->capacity - b->n) {
        return true;
    }
    size_t capacity, bytes;
    if (!size_add(b->n, n, &capacity) || !size_mul(capacity, 2, &capacity) ||
        !size_mul(capacity, sizeof *b->values, &bytes)) {
        b->lacking = SIZE_MAX;
        return false;
    }
    JsonValue *values = realloc(b->values, bytes);
    if (!values) {
        b->lacking = bytes;
        return false;
    }
    b->values = values;
    b->capacity = capacity;
    return true;
}

static size_t append_value(JsonBuilder *b, const char *name, JsonValue v)
{
    if (!reserve_values(b, 1)) {
        return 0;
    }
    v.name = name;
    v.name_size = name ? strlen(name) : 0;
    v.extent = 1;
    b->values[b->n] = v;
    return b->n++;
}

size_t build_open(JsonBuilder *b, const char *name, JsonKind kind)
{
    return append_value(b, name, (JsonValue){.kind = kind});
}

void build_close(JsonBuilder *b, size_t index)
{
    if (b->lacking) {
        return;
    }
    JsonValue *v = &b->values[index];
    v->extent = (uint32_t)(b->n - index);
    v->count = 0;
    for (const JsonValue *child = json_first(v); child < b->values + b->n;
         child = json_next(child)) {
        v->count++;
    }
}

size_t build_text(JsonBuilder *b, const char *name, const char *text, size_t size)
{
    return append_value(b, name, (JsonValue){.kind = JSON_STRING, .text = text, .size = size});
}

void build_copy(JsonBuilder *b, const JsonValue *v)
{
    if (reserve_values(b, v->extent)) {
        memcpy(b->values + b->n, v, v->extent * sizeof *v);
        b->n += v->extent;
    }
}

bool build_check(const JsonBuilder *b, Error *err)
{
    return !b->lacking || error_memory(err, "messages", b->lacking);
}

void build_free(JsonBuilder *b)
{
    free(b->values);
    *b = (JsonBuilder){0};
}
