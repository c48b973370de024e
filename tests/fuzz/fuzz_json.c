// fuzz_json.c - the JSON reader. What it accepts is written and read again, and has to give the
// same values.

#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"
#include "fuzz.h"

// Writes a value without spaces. Names may contain NULs, so the JsonWriter's cannot stand for them.
static void write_value(Buffer *out, const JsonValue *v)
{
    if (v->name) {
        json_add_string(out, v->name, v->name_size);
        buffer_add_text(out, ":");
    }
    if (v->kind == JSON_STRING) {
        json_add_string(out, v->text, v->size);
    } else if (v->kind == JSON_NUMBER) {
        buffer_add(out, v->text, v->size);
    } else if (v->kind == JSON_ARRAY || v->kind == JSON_OBJECT) {
        const bool array = v->kind == JSON_ARRAY;
        const JsonValue *end = v + v->extent, *child = json_first(v);
        buffer_add_text(out, array ? "[" : "{");
        for (size_t i = 0; i < v->count; i++, child = json_next(child)) {
            FUZZ_CHECK(child < end && (array ? !child->name : !!child->name), "value %zu", i);
            buffer_add_text(out, i ? "," : "");
            write_value(out, child);
        }
        FUZZ_CHECK(child == end, "extent %u", (unsigned)v->extent);
        buffer_add_text(out, array ? "]" : "}");
    } else {
        buffer_add_text(out, json_kind(v));  // null, true or false
    }
}

static bool same_bytes(const char *a, size_t a_size, const char *b, size_t b_size)
{
    return a_size == b_size && (!a_size || memcmp(a, b, a_size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Error err = {0};
    Json json = {0}, again = {0};
    Buffer text = {0};
    if (!json_read(&json, (const char *)data, size, &err)) {
        check_error(&err);
        json_free(&json);
        return 0;
    }
    fuzz_count("inputs that were JSON");
    write_value(&text, json.values);
    FUZZ_CHECK(buffer_check(&text, &err), "%s", err.message);
    FUZZ_CHECK(json_read(&again, text.data, text.size, &err), "%s", err.message);
    FUZZ_CHECK(again.n_values == json.n_values, "%zu of %zu", again.n_values, json.n_values);
    for (size_t i = 0; i < json.n_values; i++) {
        const JsonValue *a = &json.values[i], *b = &again.values[i];
        FUZZ_CHECK(a->kind == b->kind && a->extent == b->extent &&
                       same_bytes(a->name, a->name_size, b->name, b->name_size) &&
                       same_bytes(a->text, a->size, b->text, b->size),
                   "value %zu", i);
        uint64_t whole;
        if (a->kind == JSON_NUMBER && json_whole(a, &whole)) {
            FUZZ_CHECK(json_real(a) >= 0, "value %zu", i);
        }
    }
    buffer_free(&text);
    json_free(&again);
    json_free(&json);
    return 0;
}
