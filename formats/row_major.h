// row_major.h - matrices that a native file has row by row, as a converter writes them for --convert.
#ifndef ROW_MAJOR_H
#define ROW_MAJOR_H

#include "base/error.h"
#include "formats/checkpoint.h"

// Sets *bytes to the size of such a matrix, which has no padding; false if that overflows.
bool row_major_bytes(WeightType type, size_t rows, size_t cols, size_t *bytes);

// Packs tensor i, which has its rows (Tensor.rows), into the layout of the kernels (tensors[i].bytes,
// aligned to 64) with `threads` threads, and drops the pages of the file that it came from. Error:
// ERROR_INPUT naming the tensor if it has a value that is not finite.
bool row_major_repack(const Checkpoint *c, size_t i, void *out, size_t threads, Error *err);

#endif
