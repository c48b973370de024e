// llama2c.h - llama2.c's three kinds of checkpoint.
#ifndef LLAMA2C_H
#define LLAMA2C_H

#include "base/error.h"
#include "formats/checkpoint.h"

// Reads the mapped file of c as one of them: v0 (f32, no magic number), v1 (f32) or v2 (int8 in
// groups, widened to f32). Fills the config and the tensors, which all threads copy into the layout
// of the kernels, and closes the mapping. Errors: ERROR_INPUT naming the field, the value found and
// the value expected; ERROR_RUN if out of memory. checkpoint_open calls it, and closes c on
// failure.
bool llama2c_open(Checkpoint *c, size_t threads, Error *err);

#endif
