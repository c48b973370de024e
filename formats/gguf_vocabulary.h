// gguf_vocabulary.h - the tokenizer in a GGUF file's keys.
#ifndef GGUF_VOCABULARY_H
#define GGUF_VOCABULARY_H

#include "base/buffer.h"
#include "base/error.h"
#include "formats/gguf.h"

// Reads the keys tokenizer.ggml.* and adds the section `tokenizer` of a native checkpoint to *out
// (docs/format.md). *vocab_size is the number of rows of the embedding, of which those without a
// token become absent pieces; 0 is replaced by the number of tokens. Errors: ERROR_INPUT naming the
// key, what was found and what was expected; ERROR_RUN if out of memory.
bool gguf_read_vocabulary(const Gguf *g, size_t *vocab_size, Buffer *out, Error *err);

#endif
