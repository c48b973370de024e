// jinja.c - renders many templates in one process, for tests/test_jinja.py.
//
//     jinja < requests > answers
//     jinja REPEATS < requests > answers     renders each so often; for each a line on stderr with
//                                            the processor time of compiling it, and of one
//                                            rendering, in microseconds
//
// All numbers are u32 in the machine's byte order:
//
//     request    year, month, day; length of the template, the bytes; length of a JSON object with
//                the variables, the bytes
//     answer     0: length of the text, the bytes, number of spans, for each: length, is it the
//                template's
//                1: the template refused, 2: it failed, 3: it does not compile; length of the
//                message, the bytes
//
// The variables messages, tools and documents are the user's. In them ["bytes", "<hexadecimal>"]
// stands for a string of those bytes, which need not be UTF-8.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/json.h"
#include "text/jinja.h"

typedef struct {
    char *bytes;
    uint32_t size;
} Blob;

static bool put(const void *data, size_t size)
{
    return size == 0 || fwrite(data, 1, size, stdout) == size;
}

static bool put_number(size_t n)
{
    const uint32_t number = (uint32_t)n;
    return put(&number, sizeof number);
}

static bool put_text(const char *text, size_t size) { return put_number(size) && put(text, size); }

static bool get_blob(Blob *b)
{
    if (fread(&b->size, sizeof b->size, 1, stdin) != 1) {
        return false;
    }
    char *grown = realloc(b->bytes, b->size + (size_t)1);
    b->bytes = grown ? grown : b->bytes;
    return grown && fread(b->bytes, 1, b->size, stdin) == b->size;
}

static bool is_user(const char *name)
{
    return !strcmp(name, "messages") || !strcmp(name, "tools") || !strcmp(name, "documents");
}

// Turns ["bytes", "c3ff"] into a string of these bytes, in place.
static void unwrap_bytes(Json *json)
{
    for (size_t i = 0; i < json->n_values; i++) {
        JsonValue *v = &json->values[i];
        if (v->kind != JSON_ARRAY || v->count != 2 || v[1].kind != JSON_STRING ||
            strcmp(v[1].text, "bytes") != 0 || v[2].kind != JSON_STRING) {
            continue;
        }
        char *to = (char *)(uintptr_t)v[2].text;
        const size_t n = v[2].size / 2;
        for (size_t k = 0; k < n; k++) {
            char digits[3] = {to[2 * k], to[2 * k + 1], '\0'};
            to[k] = (char)strtol(digits, NULL, 16);
        }
        v->kind = JSON_STRING;
        v->text = to;
        v->size = n;
    }
}

static bool put_output(const JinjaOutput *out)
{
    bool ok = put_number(0) && put_text(out->text, out->size) && put_number(out->n_spans);
    for (size_t i = 0; i < out->n_spans; i++) {
        ok = ok && put_number(out->spans[i].size) && put_number(out->spans[i].special);
    }
    return ok;
}

// Renders `repeats` times; *time: processor time of one rendering, in microseconds.
static bool answer(const uint32_t date[3], const JinjaTemplate *t, const Json *json, size_t repeats,
                   double *time)
{
    JinjaVariable variables[64];
    size_t n = 0;
    const JsonValue *v = json_first(json->values);
    for (; n < json->values->count && n < 64; n++, v = json_next(v)) {
        variables[n] = (JinjaVariable){v->name, v, is_user(v->name)};
    }
    const JinjaInput input = {variables, n, (int)date[0], (int)date[1], (int)date[2], JINJA_LIMITS};
    JinjaOutput out = {0};
    Error err = {0};
    bool ok = true;
    const clock_t start = clock();
    for (size_t i = 0; i < repeats; i++) {
        ok = jinja_render(t, &input, &out, &err);
    }
    *time = (double)(clock() - start) * 1e6 / CLOCKS_PER_SEC / (double)repeats;
    const bool written = ok ? put_output(&out)
                            : put_number(out.refused ? 1 : 2) &&
                                  put_text(err.message, strlen(err.message));
    jinja_output_free(&out);
    return written;
}

int main(int argc, char **argv)
{
    const size_t repeats = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;
    Blob source = {0}, context = {0};
    Json json = {0};
    uint32_t date[3];
    bool ok = true;
    while (ok && fread(date, sizeof date, 1, stdin) == 1) {
        JinjaTemplate *t = NULL;
        Error err = {0};
        double rendering = 0;
        if (!get_blob(&source) || !get_blob(&context) ||
            !json_read(&json, context.bytes, context.size, &err)) {
            fprintf(stderr, "%s\n", err.message);
            ok = false;
            break;
        }
        const clock_t start = clock();
        const bool compiled = jinja_compile(&t, "template", source.bytes, source.size, &err);
        const double compiling = (double)(clock() - start) * 1e6 / CLOCKS_PER_SEC;
        if (compiled) {
            unwrap_bytes(&json);
            ok = answer(date, t, &json, repeats, &rendering);
        } else {
            ok = put_number(3) && put_text(err.message, strlen(err.message));
        }
        if (argc > 1) {
            fprintf(stderr, "%.1f %.1f\n", compiling, rendering);
        }
        jinja_free(t);
    }
    free(source.bytes);
    free(context.bytes);
    json_free(&json);
    return ok && fflush(stdout) == 0 ? 0 : ERROR_RUN;
}
