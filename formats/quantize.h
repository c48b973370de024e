// quantize.h - the one quantiser: rows of f32 to the blocks of a weight type.
#ifndef QUANTIZE_H
#define QUANTIZE_H

#include "formats/descend.h"
#include "formats/pack.h"

// Can weights be converted to this type? True for f32, f16, bf16, q8, q4, q4m, q4t, q5 and q5m.
// K-quants are only carried over from files that have them.
bool quantize_has(WeightType type);

// In place of a type to quantise to: keep the matrix's own.
#define KEEP_TYPE N_WEIGHT_TYPES

// How the error of a matrix is measured. Without either array all columns count the same.
typedef struct {
    // (cols): by how much the squared error of a column's weights counts, such as the mean square of
    // its activations; at least 0, finite. NULL: all the same.
    const float *importance;
    // (cols, cols): the upper triangular U with U^T U = H^-1, where H = sum of x x^T over
    // activations x (compensation_create). The error of each column is then compensated by later
    // columns (GPTQ, arXiv:2210.17323). NULL: no compensation.
    const float *compensation;
    // H itself, with which quantize_matrix improves the values that GPTQ chose (descend.h). Without h
    // it does not.
    ErrorProducts products;
} ErrorMeasure;

// Quantises a row of cols values, which are changed if errors are compensated, and writes its
// blocks: row_format_bytes(row_format_of(type), cols) of them. The result depends on nothing but
// the arguments. Returns false, and sets *refused to the first such value, if one is no number or the
// type cannot hold it; the blocks are then incomplete.
bool quantize_row(WeightType type, float *x, size_t cols, const ErrorMeasure *measure,
                  uint8_t *blocks, float *refused);

// The largest magnitude that a type holds in any place; in f16 and bf16 larger values are also held
// that are nearer to this one than to infinity.
float quantize_most(WeightType type);

// Quantises a matrix of any type to `type` with `threads` threads. *out has room for the result,
// padding included (matrix_bytes). Errors: ERROR_INPUT naming row, value and limit (but not the
// matrix) if a value is no number or the type cannot hold it; ERROR_RUN if out of memory.
bool quantize_matrix(const Matrix *from, WeightType type, const ErrorMeasure *measure, void *out,
                     size_t threads, Error *err);

#endif
