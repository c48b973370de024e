// batch.h - many prompts through one model: reads requests, keeps the sequences of the cache busy,
// writes results in the order of the requests, and continues where an earlier run ended.
#ifndef BATCH_H
#define BATCH_H

#include <signal.h>

#include "base/error.h"
#include "batch/prompt_cache.h"
#include "engine.h"
#include "options.h"

// What a batch has done so far. "This run" excludes the results that --resume found.
typedef struct {
    size_t done;            // requests with a result; at the end, results in the output
    size_t failed;          // results in the output that are errors
    size_t kept;            // results that --resume found in the output
    size_t total;           // requests in the input; 0 if they could not be counted
    uint64_t first_failed;  // line of the first request that failed; 0: none
    size_t prompt_tokens;   // of the requests that this run has answered
    size_t shared_tokens;   // those of prompt_tokens that were found in the cache
    size_t new_tokens;      // tokens of their answers
    size_t proposed;        // tokens that were looked up for them (lookup.h)
    size_t accepted;        // those of them that were right
    double seconds;         // since the start of this run
} BatchStats;

// What a batch needs besides an engine. Nothing in it is owned.
typedef struct {
    const Options *options;     // the command line: input, output, defaults of requests
    uint64_t fingerprint;       // checkpoint_fingerprint of the model
    PromptCache *prompt_cache;  // of the engine's cache
    const volatile sig_atomic_t *interrupted;              // nonzero: end soon
    void (*progress)(void *arg, const BatchStats *stats);  // called from time to time; or NULL
    // Called once for each constraint that has unknown keywords, with the line of the first request
    // that has it; or NULL.
    void (*notes)(uint64_t line, const char *notes);
    void *arg;  // passed to progress
} BatchSetup;

// Rows of prompts that a pass can score (`echo` with `logprobs`) beside a row of each sequence:
// enough to multiply by tiles, and with a vocabulary of 150,000 no more than 20 MB of logits.
#define SCORED_ROWS 32

// Runs a batch over all sequences of the engine's cache. The engine must have rows for a chunk and
// one more per sequence, and logits for SCORED_ROWS and one row per sequence. Returns true when the input is done
// or the run was interrupted; a request that fails is no error, but is counted in *stats. Errors:
// ERROR_USAGE if the output exists, or cannot be resumed; ERROR_INPUT if the input cannot be read,
// or the results in the output are not those of these requests; ERROR_RUN if writing fails or
// memory runs out. In any case the output has all results up to the first unfinished one, as far as
// they could be written.
bool batch_run(Engine *e, const BatchSetup *setup, BatchStats *stats, Error *err);

#endif
