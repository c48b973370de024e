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

typedef bool ModeFunction(Engine *e, const Options *o, Output *out, Error *err);

ModeFunction mode_complete;  // continues or answers one prompt
ModeFunction mode_converse;  // answers line by line, on a terminal
ModeFunction mode_batch;     // answers a file of requests
ModeFunction mode_tokenize;  // prints the prompt's tokens
ModeFunction mode_score;     // prints how probable the model finds the prompt
ModeFunction mode_bench;     // measures the model's speed
ModeFunction mode_info;      // prints what the checkpoint holds
ModeFunction mode_verify;    // compares the checkpoint's checksums

#endif
