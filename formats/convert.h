// convert.h - any checkpoint that can be opened, as a native one.
#ifndef CONVERT_H
#define CONVERT_H

#include "base/error.h"
#include "base/progress.h"
#include "formats/checkpoint.h"

// What the new file has besides the config and the tensors of the old one.
typedef struct {
    Bytes provenance, tokenizer;
    Bytes chat;  // data NULL: there is none
    size_t threads;
    Progress progress;
} Conversion;

// Writes checkpoint c to a descriptor at the start of an empty file; `name` is for messages. A
// GGUF file's weights need not be loaded: they are then repacked tensor by tensor. The bytes of the
// result do not depend on the number of threads. Errors: ERROR_INPUT if a tensor is missing, is not
// part of such a model, or has a value that is not finite; ERROR_RUN if out of memory or writing
// fails.
bool checkpoint_convert(const Checkpoint *c, const Conversion *v, int fd, const char *name,
                        Error *err);

#endif
