// llama2c.h - llama2.c's three kinds of checkpoint.
#ifndef LLAMA2C_H
#define LLAMA2C_H

#include "base/error.h"
#include "formats/checkpoint.h"

// Reads the mapped file of c as one: v0 (floats without a magic number; a negative vocab_size says
// that the head is not the embedding), v1 (floats) or v2 (int8 in groups; widened to floats). Fills
// the config and the tensors, which are copies in the layout of the kernels, made by all threads,
// and closes the mapping. Called by checkpoint_open, which cleans up after an error.
bool llama2c_open(Checkpoint *c, size_t threads, Error *err);

#endif
