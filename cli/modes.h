// modes.h - what the program can do, one function each.
//
// A mode gets an engine that is open as far as it needs (run.c has the table), the options and the
// output, and does all of its work; what it makes goes to the output. After an interruption it
// returns true: what was finished has been written. Errors are those of the functions that it
// calls.
#ifndef MODES_H
#define MODES_H

#include "base/error.h"
#include "cli/output.h"
#include "engine.h"
#include "options.h"

// Of the program: --version prints it, and converted files name it.
#define PROGRAM_VERSION "0.1.0"

// Continues or answers one prompt.
bool mode_complete(Engine *e, const Options *o, Output *out, Error *err);

// Answers line by line, on a terminal.
bool mode_converse(Engine *e, const Options *o, Output *out, Error *err);

// Answers a file of requests.
bool mode_batch(Engine *e, const Options *o, Output *out, Error *err);

// Prints the prompt's tokens.
bool mode_tokenize(Engine *e, const Options *o, Output *out, Error *err);

// Prints how probable the model finds the prompt.
bool mode_score(Engine *e, const Options *o, Output *out, Error *err);

// Measures the model's speed.
bool mode_bench(Engine *e, const Options *o, Output *out, Error *err);

// Prints what the checkpoint holds.
bool mode_info(Engine *e, const Options *o, Output *out, Error *err);

// Writes the model as a native checkpoint.
bool mode_convert(Engine *e, const Options *o, Output *out, Error *err);

// Compares the checkpoint's checksums.
bool mode_verify(Engine *e, const Options *o, Output *out, Error *err);

#endif
