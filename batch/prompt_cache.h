// prompt_cache.h - the keys and values of the start of a prompt, kept in a file between runs.
//
// The file is written by a run that finds none, or whose first prompt has no page in common with
// the one there is: with all full pages of that prompt. A later run takes as many of these pages as
// its prompts begin with, and leaves the file alone. A file of another model or another type of
// keys and values is refused, and stays. A new file is written beside the old one and
// renamed, so that several runs may use one file.
#ifndef PROMPT_CACHE_H
#define PROMPT_CACHE_H

#include "base/error.h"
#include "base/files.h"
#include "cache.h"

// The model that keys and values are of. Its path is the caller's; the file has the name in it.
typedef struct {
    const char *path;
    uint64_t fingerprint;  // checkpoint_fingerprint
} CachedModel;

// What a run did with the file.
typedef enum {
    CACHE_FILE_LEFT,      // nothing, as it fits, or nothing yet
    CACHE_FILE_WRITTEN,   // there was none
    CACHE_FILE_REPLACED,  // its prompt was another
    CACHE_FILE_NO_PAGE,   // nothing, as the prompt does not fill a page
} CacheFileUse;

typedef struct {
    const char *path;  // the caller's; NULL: there is no such file, and all calls do nothing
    CachedModel model;
    Mapping file;      // owned: read by the cache
    size_t n_tokens;   // that the file has keys and values of
    bool settled;      // the file is as this run leaves it:
    CacheFileUse use;  // .. what was done with it
    size_t n_common;   // .. tokens that the prompts of file and run begin with
} PromptCache;

// Maps the file, if there is one, and publishes its pages in the cache. The cache reads them where
// they are, so it has to be freed before the file is closed. Errors: ERROR_INPUT naming what is
// wrong: the file is damaged, or of another model, layout or type of keys and values.
bool prompt_cache_open(PromptCache *p, const char *path, CachedModel model, Cache *cache,
                       Error *err);
void prompt_cache_close(PromptCache *p);

// Writes the file, with the full pages among the first n positions of a sequence, unless it begins
// with the same page: then it is of use and stays. Only the first call of a run does anything.
// Error: ERROR_RUN.
bool prompt_cache_save(PromptCache *p, const Cache *cache, size_t sequence, size_t n, Error *err);

#endif
