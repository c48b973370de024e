// compensate.h - how later columns of a matrix compensate the rounding errors of a column (GPTQ).
#ifndef COMPENSATE_H
#define COMPENSATE_H

#include "base/error.h"

// From h (n, stride), the sum of x x^T over activations x, makes the upper triangular u (n, n) with
// u^T u = H^-1, where H is h with a tenth of its mean diagonal added to the diagonal
// (ErrorMeasure.compensation). Computed in double precision in one order: the same bits for any
// number of threads. Returns NULL, with *err set only if out of memory (ERROR_RUN), if h is zero or
// not finite; the caller frees the result.
float *compensation_create(const float *h, size_t n, size_t stride, size_t threads, Error *err);

#endif
