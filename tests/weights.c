// weights.c - packs rows of quantisation blocks and writes what the kernels read there.
//
//     weights CODE ROWS COLS SIMD <blocks >values
//
// CODE is the format's number in GGUF. Writes the matrix as f32 (ROWS, COLS), and "exact" or
// "rounded" to stderr. For tests/test_weights.py.
#include "base/memory.h"
#include "formats/pack.h"

#include <stdio.h>
#include <stdlib.h>

// Packs `rows` rows of `bytes` bytes each; rows are missing from the last group.
static bool pack(const RowFormat *format, const uint8_t *source, size_t bytes, Matrix *m)
{
    bool exact = true;
    for (size_t r = 0; r < m->rows; r += LANES) {
        const void *rows[LANES] = {NULL};
        for (size_t i = 0; i < LANES && r + i < m->rows; i++) {
            rows[i] = source + (r + i) * bytes;
        }
        void *data = (void *)(uintptr_t)m->data;
        exact &= weight_pack(format, rows, m->cols,
                             matrix_group(m->type, m->cols, data, r / LANES));
    }
    return exact;
}

int main(int argc, char **argv)
{
    Error err = {0};
    const RowFormat *format = argc == 5 ? row_format_find((uint32_t)atoi(argv[1])) : NULL;
    if (!format || !ops_select(argv[4], &err)) {
        fprintf(stderr, "usage: weights CODE ROWS COLS SIMD\n%s\n", err.message);
        return 2;
    }
    Matrix m = {format->type, (size_t)atoi(argv[2]), (size_t)atoi(argv[3]), NULL};
    size_t bytes = 0, size = 0;
    row_format_bytes(format, m.cols, &bytes);
    matrix_bytes(m.type, m.rows, m.cols, &size);
    uint8_t *source = malloc(m.rows * bytes);
    float *row = alloc_zeroed(m.cols, sizeof *row);
    m.data = alloc_zeroed(size, 1);
    if (!source || !row || !m.data || fread(source, bytes, m.rows, stdin) != m.rows) {
        fprintf(stderr, "weights: expected %zu rows of %zu bytes\n", m.rows, bytes);
        return 3;
    }
    fprintf(stderr, "%s\n", pack(format, source, bytes, &m) ? "exact" : "rounded");
    for (size_t r = 0; r < m.rows; r++) {
        matrix_row(&m, r, row);
        fwrite(row, sizeof *row, m.cols, stdout);
    }
    free((void *)(uintptr_t)m.data);
    free(source);
    free(row);
    return 0;
}
