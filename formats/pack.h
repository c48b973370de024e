// pack.h - from rows of quantisation blocks, as other programs' files have them, to the interleaved
// layout of the kernels: the one writer of that layout.
#ifndef PACK_H
#define PACK_H

#include "base/memory.h"  // refuses machines of another byte order
#include "ops.h"

// How a file stores a row of a matrix: one block of block_bytes after the other, each with the
// values of block_cols columns.
typedef struct {
    const char *name;  // as GGUF's documentation has it: "Q4_K"
    uint32_t code;     // its number in GGUF's table of tensors
    size_t block_cols, block_bytes;
    WeightType type;  // what it is packed as
} RowFormat;

// The format with that number in a GGUF file; NULL: none that can be packed.
const RowFormat *row_format_find(uint32_t code);

// Does the format have single values, not blocks of them? Vectors have such formats.
static inline bool row_format_is_plain(const RowFormat *format) { return format->block_cols == 1; }

// The value of column `col` in a row of single values.
float row_value(const RowFormat *format, const uint8_t *row, size_t col);

// What a row of `cols` columns has that no model can use, such as "a scale that is not finite", or
// NULL.
const char *row_format_check(const RowFormat *format, const uint8_t *row, size_t cols);

// The format whose blocks hold the same values as a weight type's. Each type has one.
const RowFormat *row_format_of(WeightType type);

// Sets *bytes to the size of a row of `cols` columns, which are rounded up to whole blocks; false if
// that overflows.
bool row_format_bytes(const RowFormat *format, size_t cols, size_t *bytes);

// Packs a group of LANES rows of `cols` columns each. rows[i] points to the blocks of row i, or is
// NULL for a row of padding. `group` is where the group begins in the data of a matrix of
// format->type (matrix_group). Returns whether every weight has exactly the value that it has in
// the file; other weights have the nearest that the type can hold in a scale of f16 (IQ4_XS, MXFP4)
// or among the 32 values of a block of q5m (Q2_K).
bool weight_pack(const RowFormat *format, const void *const rows[LANES], size_t cols, void *group);

// RoPE rotates neighbouring values (2i, 2i + 1) of a head in llama2.c's and llama.cpp's files of
// llama, and values (i, i + head_dim / 2) in our kernels. This is the row of the file that becomes
// row r of q or k: of a head's rows first the even ones, then the odd ones.
static inline size_t unrotated_row(size_t r, size_t head_dim)
{
    const size_t half = head_dim / 2, in_head = r % head_dim;
    return r - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
}

#endif
