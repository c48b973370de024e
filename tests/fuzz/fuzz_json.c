// fuzz_json.c - the JSON reader. What it takes is written again and read again: the same values
// have to come of it.

#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"
#include "fuzz.h"

static void write_value(Buffer *out, const JsonValue *v)
{
    Error err = {0};
    bool ok = true;
    if (v->name) {
        ok = json_string(out, v->name, v->name_size, &err) && buffer_append(out, ":", 1, &err);
    }
    if (v->kind == JSON_STRING) {
        ok = ok && json_string(out, v->text, v->size, &err);
    } else if (v->kind == JSON_NUMBER) {
        ok = ok && buffer_append(out, v->text, v->size, &err);
    } else if (v->kind == JSON_ARRAY || v->kind == JSON_OBJECT) {
        const bool array = v->kind == JSON_ARRAY;
        const JsonValue *end = v + v->extent, *inside = json_first(v);
        ok = ok && buffer_append(out, array ? "[" : "{", 1, &err);
        for (size_t i = 0; ok && i < v->count; i++, inside = json_next(inside)) {
            FUZZ_CHECK(inside < end && (array ? !inside->name : !!inside->name), "value %zu", i);
            ok = !i || buffer_append(out, ",", 1, &err);
            write_value(out, inside);
        }
        FUZZ_CHECK(inside == end, "extent %u", (unsigned)v->extent);
        ok = ok && buffer_append(out, array ? "]" : "}", 1, &err);
    } else {
        const char *word = v->kind == JSON_NULL ? "null" : v->kind == JSON_TRUE ? "true" : "false";
        ok = ok && buffer_append(out, word, strlen(word), &err);
    }
    FUZZ_CHECK(ok, "%s", err.message);
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
