// row_major.c - matrices row by row, brought into the layout of the kernels. See row_major.h.
#include "formats/row_major.h"

#include "base/memory.h"
#include "formats/repack.h"

bool row_major_bytes(WeightType type, size_t rows, size_t cols, size_t *bytes)
{
    size_t row_bytes;
    return row_format_bytes(row_format_of(type), cols, &row_bytes) &&
           size_mul(rows, row_bytes, bytes);
}

bool row_major_repack(const Checkpoint *c, size_t i, void *out, size_t threads, Error *err)
{
    const Tensor *t = &c->tensors[i];
    const Matrix *m = &t->matrix;
    MatrixRows rows = {.format = row_format_of(m->type), .data = t->rows};
    row_format_bytes(rows.format, m->cols, &rows.row_bytes);
    bool exact;
    const char *bad = repack_matrix(m, &rows, out, threads, &exact);
    mapping_drop(&c->file, t->rows, m->rows * rows.row_bytes);
    return !bad || error_set(err, ERROR_INPUT, "%s: tensor %s has %s", c->path, t->name, bad);
}
