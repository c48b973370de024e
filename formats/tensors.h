// tensors.h - which tensors a model has.
#ifndef TENSORS_H
#define TENSORS_H

#include "base/error.h"
#include "formats/checkpoint.h"

// Lists the tensors of a model of this config, in the order of a native file (docs/format.md):
// names and shapes; types and data are zeros. The caller frees the array. Error: ERROR_RUN.
bool list_tensors(const Config *config, Tensor **tensors, size_t *n, Error *err);

// The name of a block's tensor without the prefix of the block: "mlp.router" for
// "blocks.3.mlp.router". NULL for any other name.
const char *name_in_block(const char *name);

// Is this the router of a block's experts? It always keeps its type when others are converted: it
// is small, and a small error in it selects other experts.
bool is_router(const char *name);

#endif
