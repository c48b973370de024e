// tensors.h - which tensors a model has.
#ifndef TENSORS_H
#define TENSORS_H

#include "base/error.h"
#include "formats/checkpoint.h"

// Lists the tensors of a model of this config, in the order of a native file (docs/format.md):
// names and shapes; types and data are zeros. The caller frees the array. Error: ERROR_RUN.
bool list_tensors(const Config *config, Tensor **tensors, size_t *n, Error *err);

#endif
