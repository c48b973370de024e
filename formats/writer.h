// writer.h - writes native checkpoints (docs/format.md).
#ifndef WRITER_H
#define WRITER_H

#include "base/error.h"
#include "base/progress.h"
#include "formats/checkpoint.h"

// A checkpoint to be written.
typedef struct {
    const Config *config;
    const Sampling *sampling;
    Bytes provenance, tokenizer;
    Bytes chat;             // data NULL: there is none
    const Tensor *tensors;  // (n_tensors), in the order of docs/format.md; their data is not read
    size_t n_tensors;
    // The bytes of tensor i, which are asked for once, in order, and used until the next call. NULL
    // on failure.
    const void *(*data)(void *arg, size_t i, Error *err);
    void *arg;
} NewCheckpoint;

// Writes a checkpoint to a descriptor at the start of an empty file; `name` is for messages. The
// header comes last, as it has the checksums: until then the file begins with zeros and is refused
// by every reader. Errors: ERROR_RUN if writing fails; those of `data`.
bool checkpoint_write(const NewCheckpoint *n, int fd, const char *name, const Progress *progress,
                      Error *err);

#endif
