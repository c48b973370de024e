// prompt_cache.h - the keys and values of a prompt's beginning, kept in a file between runs.
//
// A file is written by the first run whose prompt finds nothing in it, because it is not there or
// holds another beginning: with all full pages of that prompt. Every later run takes as many of
// them as its own prompts begin with, and leaves the file alone. It is written beside and renamed,
// so that runs may share it.
#ifndef PROMPT_CACHE_H
#define PROMPT_CACHE_H

#include "base/error.h"
#include "base/files.h"
#include "model.h"

typedef struct {
    const char *path;  // the caller's; NULL: no such file is wanted, and all calls do nothing
    uint64_t model;    // checkpoint_fingerprint of the model
    Mapping file;      // read by the cache
    bool settled;      // nothing is to be written any more
} PromptCache;

// Maps the file, where there is one, and publishes its pages in the cache, which must be closed
// first. Errors: ERROR_INPUT naming what is wrong: it is damaged, or of another model, type of keys
// and values or layout.
bool prompt_cache_open(PromptCache *p, const char *path, uint64_t model, Cache *cache, Error *err);
void prompt_cache_close(PromptCache *p);

// Writes the file, once, from the full pages among the first n positions of a sequence. `shared` is
// what the sequence has found of its prompt in the cache when that held the file's pages alone:
// with any of it the file stays. Error: ERROR_RUN.
bool prompt_cache_save(PromptCache *p, const Cache *cache, size_t sequence, size_t n, size_t shared,
                       Error *err);

#endif
