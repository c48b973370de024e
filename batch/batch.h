// batch.h - many prompts: reads requests, keeps the model's sequences busy, writes results in the
// order of the requests, and continues where an earlier run ended.
#ifndef BATCH_H
#define BATCH_H

#include <signal.h>

#include "base/error.h"
#include "batch/prompt_cache.h"
#include "engine.h"
#include "options.h"

// What a batch has done so far. "This run" leaves out what --resume found.
typedef struct {
    size_t done;            // requests with a result; at the end, with one in the output
    size_t failed;          // results in the output that are errors
    size_t kept;            // results that --resume found in the output
    size_t total;           // requests of the input, where they could be counted; else 0
    uint64_t first_failed;  // line of the first that failed
    size_t prompt_tokens;   // of the requests that this run has answered
    size_t shared_tokens;   // those of them that were found in the cache
    size_t new_tokens;      // tokens of their answers
    double seconds;         // since the start of this run
} BatchStats;

// What a batch needs beside an engine. Nothing in it is owned.
typedef struct {
    const Options *options;     // the command line: input, output, all that requests do not set
    uint64_t fingerprint;       // checkpoint_fingerprint of the model
    PromptCache *prompt_cache;  // of the engine's cache
    const volatile sig_atomic_t *interrupted;              // not 0: end soon
    void (*progress)(void *arg, const BatchStats *stats);  // called now and then; or NULL
    void *arg;                                             // handed to progress
} BatchSetup;

// Runs a batch over all sequences of the engine's cache. The engine has rows for a chunk and one
// for each sequence, and logits for as many. True: the input is done, or the run was interrupted;
// requests that failed are counted. Errors: ERROR_USAGE where the output exists, or cannot be
// resumed; ERROR_INPUT where the input cannot be read, or the results in the output are not those
// of these requests; ERROR_RUN where writing fails or there is no memory. In any case finished
// results are in the output.
bool batch_run(Engine *e, const BatchSetup *setup, BatchStats *stats, Error *err);

#endif
