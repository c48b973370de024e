// fuzz_options.c - a command line: the arguments after the program's name, each ended by a zero.

#include "base/error.h"
#include "fuzz.h"
#include "options.h"

enum { MAX_ARGUMENTS = 64 };

static void check_options(const Options *o)
{
    const SamplerOptions *s = &o->generate.sampler;
    FUZZ_CHECK(s->temperature >= 0 && s->temperature <= 1000, "%g", (double)s->temperature);
    FUZZ_CHECK(s->top_p >= 0 && s->top_p <= 1 && s->min_p >= 0 && s->min_p <= 1, "%g, %g",
               (double)s->top_p, (double)s->min_p);
    FUZZ_CHECK(s->repeat_penalty >= 0.01f && s->repeat_penalty <= 100, "%g",
               (double)s->repeat_penalty);
    FUZZ_CHECK(s->presence_penalty >= -2 && s->presence_penalty <= 2 &&
                   s->frequency_penalty >= -2 && s->frequency_penalty <= 2,
               "%g, %g", (double)s->presence_penalty, (double)s->frequency_penalty);
    FUZZ_CHECK(o->generate.stop_tokens.n <= MAX_STOP_TOKENS, "%zu", o->generate.stop_tokens.n);
    FUZZ_CHECK(o->generate.biases.n <= MAX_TOKEN_BIASES, "%zu", o->generate.biases.n);
    FUZZ_CHECK(o->parallel >= 1 && o->first_line >= 1 && o->chunk >= 1, "%zu", o->parallel);
    FUZZ_CHECK(o->generate.top_logprobs <= MAX_LOGPROBS, "%zu", o->generate.top_logprobs);
    FUZZ_CHECK(o->generate.stops.n <= MAX_STOPS, "%zu stops", o->generate.stops.n);
    FUZZ_CHECK(o->prompt.n <= MAX_PROMPT_PARTS, "%zu parts of the prompt", o->prompt.n);
    if (o->mode != MODE_HELP && o->mode != MODE_VERSION) {
        FUZZ_CHECK(o->engine.model, "no model");
        FUZZ_CHECK(!o->batch == (o->mode != MODE_BATCH), "mode %d", (int)o->mode);
        FUZZ_CHECK(o->batch || (!o->resume && !o->lines), "options of a batch without one");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Error err = {0};
    Options o;
    char *text = (char *)exact_block(size + 1), *argv[MAX_ARGUMENTS + 1] = {NULL};
    int argc = 1;
    if (size) {
        memcpy(text, data, size);
    }
    text[size] = 0;
    for (size_t at = 0; at < size && argc < MAX_ARGUMENTS; at += strlen(text + at) + 1) {
        argv[argc++] = text + at;
    }
    if (options_parse(&o, argc, argv, &err)) {
        fuzz_count("command lines that were accepted");
        check_options(&o);
    } else {
        FUZZ_CHECK(err.kind == ERROR_USAGE, "%d", (int)err.kind);
        FUZZ_CHECK(*err.message && !strchr(err.message, '\n'), "%s", err.message);
    }
    free(text);
    return 0;
}
