// compensate.h - how later columns of a matrix compensate the rounding errors of a column (GPTQ).
#ifndef COMPENSATE_H
#define COMPENSATE_H

#include "base/error.h"

// Damps h (n, stride), the sum of x x^T over activations x: adds a tenth of the mean of its
// diagonal to the diagonal. So columns that are rarely active in the text, or correlated only by
// chance, do not have to compensate much.
void damp_products(float *h, size_t n, size_t stride);

// From h, damped, makes the upper triangular u (n, n) with u^T u = h^-1 (ErrorMeasure.compensation).
// Computed in double precision in one order: the same bits for any number of threads. Returns NULL,
// with *err set only if out of memory (ERROR_RUN), if h is zero or not finite; the caller frees the
// result.
float *compensation_create(const float *h, size_t n, size_t stride, size_t threads, Error *err);

#endif
