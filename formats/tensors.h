// tensors.h - which tensors a model has.
#ifndef TENSORS_H
#define TENSORS_H

#include "base/error.h"
#include "formats/checkpoint.h"

// Lists the tensors of a model of this config, in the order of a native file (docs/format.md):
// names and shapes; types and data are zeros. The caller frees the array. Error: ERROR_RUN.
bool list_tensors(const Config *config, Tensor **tensors, size_t *n, Error *err);

// Of the name of a tensor of a block what follows the block's, "mlp.router" of "blocks.3.mlp.router";
// NULL of any other name.
const char *name_in_block(const char *name);

// Is this the router of a block's experts? It keeps its type whatever the others are converted to: it
// is small, and a small error in it chooses other experts.
bool is_router(const char *name);

#endif
