// convert.h - any checkpoint that can be opened, as a native one.
#ifndef CONVERT_H
#define CONVERT_H

#include "base/error.h"
#include "base/progress.h"
#include "formats/checkpoint.h"
#include "formats/quantize.h"

// Is asked about each matrix that is quantised, in the order of the tensors.
typedef struct {
    // Sets how the error of the matrix of that name is measured, which is valid until the next call;
    // false, with an Error, if the conversion must fail. NULL: all columns are alike.
    bool (*measure)(void *arg, const char *name, ErrorMeasure *out, Error *err);
    void *arg;
} QuantizationGuide;

// What the new file has besides the config and the tensors of the old one.
typedef struct {
    Bytes provenance, tokenizer;
    Bytes chat;  // data NULL: there is none
    // The weight types of the blocks' matrices, and of embedding and head; KEEP_TYPE: as they are.
    WeightType type, head_type;
    QuantizationGuide guide;
    size_t threads;
    Progress progress;
} Conversion;

// Writes checkpoint c to a descriptor at the start of an empty file; `name` is for messages. A
// GGUF file's weights need not be loaded: they are then repacked tensor by tensor. The bytes of the
// result depend neither on the number of threads nor on the kernel set. Errors: ERROR_INPUT if a
// tensor is missing, is not part of such a model, or has a value that is not finite or that its new
// type cannot hold; ERROR_RUN if out of memory or writing fails; those of the guide.
bool checkpoint_convert(const Checkpoint *c, const Conversion *v, int fd, const char *name,
                        Error *err);

#endif
