// fuzz_jinja.c - compiles a template and renders it.
//
//     template [0 | a JSON object with the variables]
//
// Without variables it gets a short chat in Armenian. Where the template has neither Armenian nor
// escapes, no Armenian in the output may be marked as the template's own.

#include "base/error.h"
#include "base/json.h"
#include "fuzz.h"
#include "text/jinja.h"

static const char chat[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \" բարի \\n\"},"
    "{\"role\": \"user\", \"content\": \"Ողջույն և ՄԵԿ <|ա|>\", \"n\": 1},"
    "{\"role\": \"assistant\", \"content\": \"այո</think>ոչ\", \"tool_calls\": [{\"id\": \"ա\","
    " \"function\": {\"name\": \"է\", \"arguments\": {\"q\": [1, 2.5, null, true]}}}]}],"
    " \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"է\", \"parameters\": {}}}],"
    " \"documents\": null, \"add_generation_prompt\": true, \"bos_token\": \"<s>\", \"i\": 7,"
    " \"l\": [3, 1, 2], \"s\": \"Hello, World\", \"d\": {\"a\": 1, \"b\": [\"x\"]}}";

// Parsed once: it is the same for most inputs.
static const JsonValue *armenian_chat(void)
{
    static Json json;
    Error err = {0};
    FUZZ_CHECK(json.values || json_read(&json, chat, sizeof chat - 1, &err), "%s", err.message);
    return json.values;
}

static bool has_armenian(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if ((uint8_t)text[i] >= 0xd4 && (uint8_t)text[i] <= 0xd6) {
            return true;
        }
    }
    return false;
}

static void check_output(const JinjaOutput *out, bool marks)
{
    size_t at = 0;
    for (size_t i = 0; i < out->n_spans; i++) {
        const TextSpan s = out->spans[i];
        FUZZ_CHECK(s.size && s.text == out->text + at, "span %zu", i);
        FUZZ_CHECK(s.special == !out->sources[i], "span %zu", i);
        FUZZ_CHECK(!marks || !s.special || !has_armenian(s.text, s.size), "span %zu", i);
        at += s.size;
    }
    FUZZ_CHECK(at == out->size, "%zu of %zu bytes", at, out->size);
}

static void render(const JinjaTemplate *t, const JsonValue *root, bool marks)
{
    JinjaVariable variables[16];
    size_t n = 0;
    const JsonValue *v = json_first(root);
    for (; n < root->count && n < 16; n++, v = json_next(v)) {
        const bool user = !strcmp(v->name, "messages") || !strcmp(v->name, "tools");
        variables[n] = (JinjaVariable){v->name, v, user};
    }
    JinjaInput input = {variables, n, 2026, 2, 28, JINJA_LIMITS};
    input.limits.steps = 2000;
    input.limits.memory = (size_t)256 << 10;
    JinjaOutput out = {0};
    Error err = {0};
    if (jinja_render(t, &input, &out, &err)) {
        fuzz_count("templates that were rendered");
        check_output(&out, marks);
    } else if (!out.refused) {
        check_error(&err);
    }
    jinja_output_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    const size_t n = zero ? (size_t)(zero - data) : size;
    char *source = (char *)exact_block(n);
    if (n) {
        memcpy(source, data, n);
    }
    Error err = {0};
    Json json = {0};
    JinjaTemplate *t;
    if (!jinja_compile(&t, "fuzz", source, n, &err)) {
        check_error(&err);
        FUZZ_CHECK(!t, "%p", (void *)t);
    } else if (!zero) {
        render(t, armenian_chat(), !has_armenian(source, n) && (!n || !memchr(source, '\\', n)));
    } else if (json_read(&json, (const char *)zero + 1, size - n - 1, &err) &&
               json.values->kind == JSON_OBJECT) {
        render(t, json.values, false);
    }
    json_free(&json);
    jinja_free(t);
    free(source);
    return 0;
}
