// descend.h - improves single values of a quantised row until no change of one helps any more.
#ifndef DESCEND_H
#define DESCEND_H

#include "ops.h"

// Measures the error of a row as e^T H e, where e = rounded - exact weights.
typedef struct {
    const float *h;  // (cols, stride): symmetric, with a positive diagonal
    size_t stride;
} ErrorProducts;

// Replaces values in the blocks of a row (row_format_of(type)) as long as that makes the error
// smaller; the scales stay. `exact` (cols) are the weights before any rounding; `gradient` is
// scratch space for cols values. The result depends on nothing but the arguments.
void descend_row(WeightType type, const float *exact, size_t cols, const ErrorProducts *products,
                 float *gradient, uint8_t *blocks);

#endif
