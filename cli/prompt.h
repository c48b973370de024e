// prompt.h - the prompt of a single run: where it comes from, its tokens, and the file that keeps
// its keys and values.
#ifndef PROMPT_H
#define PROMPT_H

#include "base/error.h"
#include "batch/prompt_cache.h"
#include "cli/output.h"
#include "encode.h"
#include "engine.h"
#include "options.h"

// Is there no prompt but what a user may type at a terminal?
bool prompt_is_typed(const Options *o);

// Reads the prompt - from options, files or standard input - into *out, which is empty before. With
// --truncate-prompt, it is shortened to fit the engine's context, if that has one. Errors:
// ERROR_USAGE if no prompt was given and the model needs one; ERROR_INPUT if it cannot be read or
// encoded; ERROR_RUN if out of memory.
bool prompt_read(const Engine *e, const Options *o, Prompt *out, Error *err);

// Can the template write the system message of the command line, if there is one? Error:
// ERROR_INPUT.
bool prompt_check_system(const Engine *e, const Options *o, Error *err);

// Opens the file of --prompt-cache for the engine's cache, which exists by then. Closing it closes
// the engine's cache first, as that reads the file's pages; with the statistics it says what became
// of a file that the prompt does not fit.
bool prompt_cache_attach(PromptCache *p, Engine *e, const Options *o, Error *err);
void prompt_cache_detach(PromptCache *p, Engine *e, const Output *out);

#endif
