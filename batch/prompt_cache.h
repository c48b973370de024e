// prompt_cache.h - the keys and values of the start of a prompt, kept in a file between runs.
//
// The file is written by a run that finds none, or whose first prompt has no page in common with
// the one there is: with all full pages of that prompt. A later run takes as many of these pages as
// its prompts begin with, and leaves the file alone. A new file is written beside the old one and
// renamed, so that several runs may use one file.
#ifndef PROMPT_CACHE_H
#define PROMPT_CACHE_H

#include "base/error.h"
#include "base/files.h"
#include "cache.h"

typedef struct {
    const char *path;  // the caller's; NULL: there is no such file, and all calls do nothing
    uint64_t model;    // checkpoint_fingerprint of the model
    Mapping file;      // owned: read by the cache
    bool settled;      // the file is as this run leaves it
} PromptCache;

// Maps the file, if there is one, and publishes its pages in the cache. The cache reads them where
// they are, so it has to be freed before the file is closed. Errors: ERROR_INPUT naming what is
// wrong: the file is damaged, or of another model, layout or type of keys and values.
bool prompt_cache_open(PromptCache *p, const char *path, uint64_t model, Cache *cache, Error *err);
void prompt_cache_close(PromptCache *p);

// Writes the file, with the full pages among the first n positions of a sequence; only the first
// call of a run does anything. `shared` is how many positions of its prompt the sequence found in
// the cache while that had no pages but the file's: if any, the file was of use and stays. Error:
// ERROR_RUN.
bool prompt_cache_save(PromptCache *p, const Cache *cache, size_t sequence, size_t n, size_t shared,
                       Error *err);

#endif
