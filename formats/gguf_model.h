// gguf_model.h - a GGUF file as a checkpoint.
#ifndef GGUF_MODEL_H
#define GGUF_MODEL_H

#include "base/error.h"
#include "formats/checkpoint.h"

// Reads the mapped file of c, and further parts of a split model, except for the weights: fills the
// config, the sampling values, the list of tensors (with the types that they will have, and without
// data), and the sections `tokenizer` and `provenance` as a native file has them. Errors:
// ERROR_INPUT naming the file, the key or tensor, what was found and what was expected; ERROR_RUN
// if out of memory. checkpoint_open calls it, and closes c on failure.
bool gguf_model_open(Checkpoint *c, Error *err);
void gguf_model_close(GgufModel *m);  // NULL is allowed

// Writes tensor i in the layout of the kernels (tensors[i].bytes, aligned to 64) by all threads, and
// drops the pages of the file that it came from. Error: ERROR_INPUT naming the tensor if it has a
// value or scale that is not finite.
bool gguf_model_repack(const Checkpoint *c, size_t i, void *out, size_t threads, Error *err);

// See checkpoint_n_files and checkpoint_file.
size_t gguf_model_n_files(const GgufModel *m);
const char *gguf_model_file(const GgufModel *m, size_t i, const Mapping **file);

// See checkpoint_substitutes.
size_t gguf_model_substitutes(const Checkpoint *c, Substitute list[MAX_SUBSTITUTES]);

#endif
