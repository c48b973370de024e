// batch.h - many prompts: reads requests, keeps the model's sequences busy, writes results in the
// order of the requests, and goes on where a run was broken off.
#ifndef BATCH_H
#define BATCH_H

#include <signal.h>

#include "base/error.h"
#include "batch/prompt_cache.h"
#include "batch/request.h"

// What a batch has done so far.
typedef struct {
    size_t done;    // requests with a result, --resume's included; at the end, those written
    size_t failed;  // of those written
    size_t kept;    // of them found in the results file
    size_t total;   // lines of the input, where they could be counted: else 0
    uint64_t first_failed;  // line of the first that failed
    size_t prompt_tokens;   // of this run
    size_t shared_tokens;   // of them found in the cache
    size_t new_tokens;      // of this run
    double seconds;         // since the start
} BatchStats;

typedef struct {
    const char *input, *output;  // "-" or NULL: standard input, output
    bool resume;
    uint64_t first_line;  // the number of the input's first line
    size_t chunk;         // prompt tokens in a pass, beside one token of each answer
    RequestDefaults defaults;
    PromptCache *prompt_cache;
    const volatile sig_atomic_t *interrupted;  // not 0: end soon
    // Called now and then with what is done so far, or NULL.
    void (*progress)(const BatchStats *stats);
} BatchOptions;

// Runs a batch over all sequences of the cache. The scratch has room for `chunk` rows and one for
// each sequence, and for as many logits as there are sequences. True: the input is done, or it was
// interrupted; requests that failed are counted. Errors: ERROR_USAGE where the output exists, or
// does not allow to resume; ERROR_INPUT where the input cannot be read or the results in the output
// are not of these requests; ERROR_RUN where writing fails or memory ends. Whatever the return,
// finished results are in the output.
bool batch_run(const BatchOptions *options, const Model *model, Cache *cache, Scratch *scratch,
               BatchStats *stats, Error *err);

#endif
