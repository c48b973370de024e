// prompt_cache.h - the keys and values of the start of a prompt, kept in a file between runs.
//
// A run writes the file if there is none, or if its first prompt has no page in common with the
// file, which then holds all full pages of that prompt. A later run reuses those pages that its
// prompts begin with, and leaves the file as it is. A file of another model, or with another type
// of keys and values, is refused and stays. A new file is written under a temporary name and
// renamed, so several runs may use one file.
#ifndef PROMPT_CACHE_H
#define PROMPT_CACHE_H

#include "base/error.h"
#include "base/files.h"
#include "cache.h"

// The model that computed the keys and values. The file stores its name for messages.
typedef struct {
    const char *path;      // the caller's
    uint64_t fingerprint;  // checkpoint_fingerprint
} CachedModel;

// What a run did with the file.
typedef enum {
    CACHE_FILE_LEFT,      // nothing: it fits, could not be written, or save was not called
    CACHE_FILE_WRITTEN,   // there was no file
    CACHE_FILE_REPLACED,  // its prompt was a different one
    CACHE_FILE_NO_PAGE,   // nothing: the prompt does not fill a page
} CacheFileUse;

typedef struct {
    const char *path;  // the caller's; NULL: no prompt cache, and all calls do nothing
    CachedModel model;
    Mapping file;      // owned: the cache reads it
    size_t n_tokens;   // whose keys and values are in the file
    bool settled;      // this run will not write the file (again);
    CacheFileUse use;  // .. what it did with the file
    size_t n_common;   // .. tokens that the prompts of the file and the run begin with
} PromptCache;

// Maps the file, if there is one, and publishes its pages in the cache. The cache reads them in
// place, so it must be freed before prompt_cache_close. Errors: ERROR_INPUT if the file cannot be
// read, is damaged, or is of another model, layout or type of keys and values, saying which;
// ERROR_RUN if it cannot be mapped or memory runs out.
bool prompt_cache_open(PromptCache *p, const char *path, CachedModel model, Cache *cache,
                       Error *err);
void prompt_cache_close(PromptCache *p);

// Writes the full pages among the first n positions of a sequence to the file, unless that begins
// with the same page: then it is useful as it is. Only the first call of a run does anything.
// Error: ERROR_RUN.
bool prompt_cache_save(PromptCache *p, const Cache *cache, size_t sequence, size_t n, Error *err);

#endif
