// repack.h - the rows of a matrix, as a file has them, packed for the kernels by all threads.
#ifndef REPACK_H
#define REPACK_H

#include "formats/pack.h"

// Where a file has the rows of a matrix.
typedef struct {
    const RowFormat *format;
    const uint8_t *data;  // of the first row; the others follow
    size_t row_bytes;
    // The rows are those of heads of this size, in the order of a RoPE that rotates neighbours
    // (unrotated_row); 0: they are in order.
    size_t head_dim;
} MatrixRows;

// Packs the rows of m, whose type is rows->format->type, into `out` (matrix_bytes, aligned to 64) by
// `threads` threads. Sets *exact as weight_pack does. Returns what the matrix has that no model can
// use (row_format_check), or NULL.
const char *repack_matrix(const Matrix *m, const MatrixRows *rows, void *out, size_t threads,
                          bool *exact);

#endif
