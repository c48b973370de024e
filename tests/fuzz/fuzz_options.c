// fuzz_options.c - a command line: the arguments after the program's name, each ended by a zero.

#include "base/error.h"
#include "fuzz.h"

// The options are private to run.c, which has the other main.
#define main run_main
#include "run.c"
#undef main

enum { MAX_ARGUMENTS = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Error err = {0};
    Options o = default_options;
    char *text = (char *)exact_block(size + 1), *argv[MAX_ARGUMENTS + 1] = {NULL};
    int argc = 1;
    if (size) {
        memcpy(text, data, size);
    }
    text[size] = 0;
    for (size_t at = 0; at < size && argc < MAX_ARGUMENTS; at += strlen(text + at) + 1) {
        argv[argc++] = text + at;
    }
    if (parse_options(argc, argv, &o, &err) && check_options(&o, &err)) {
        fuzz_count("command lines that were accepted");
        FUZZ_CHECK(o.model, "no model");
        FUZZ_CHECK(o.temperature >= 0 && o.temperature <= 1000, "%g", o.temperature);
        FUZZ_CHECK(o.top_p >= 0 && o.top_p <= 1 && o.min_p >= 0 && o.min_p <= 1, "%g, %g", o.top_p,
                   o.min_p);
        FUZZ_CHECK(o.repeat_penalty >= 0.01 && o.repeat_penalty <= 100, "%g", o.repeat_penalty);
        FUZZ_CHECK(o.parallel >= 1 && o.first_line >= 1 && o.chunk >= 1, "%zu", o.parallel);
        FUZZ_CHECK(o.n_stops <= MAX_STOPS, "%zu stops", o.n_stops);
        FUZZ_CHECK(o.batch || (!o.resume && !o.lines), "options of a batch without one");
    } else {
        FUZZ_CHECK(err.kind == ERROR_USAGE, "%d", (int)err.kind);
        FUZZ_CHECK(*err.message && !strchr(err.message, '\n'), "%s", err.message);
    }
    free(text);
    return 0;
}
