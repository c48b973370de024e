// quant_block.h - one block of the types that the quantiser writes, as GGUF stores it: scale, minimum
// and values.
#ifndef QUANT_BLOCK_H
#define QUANT_BLOCK_H

#include "ops.h"

// The scale of a block, which determines the weights that its values stand for.
typedef struct {
    WeightType type;                    // a type with a grid: see block_grids
    uint16_t half_scale, half_minimum;  // f16
    float scale, minimum, inverse;      // what they stand for, and 1 / scale, or 0
} BlockScale;

#define TABLE_VALUES 16  // in the table of a grid

// The numbers that a scale multiplies: those of a table, in ascending order, or, if `table` is NULL,
// the integers from low to high.
typedef struct {
    float low, high;
    const float *table;
    int bits;      // per stored value: 4, 5 or 8
    int zero;      // the stored form of the integer 0
    bool minimum;  // does a block also have a minimum, which is added?
} BlockGrid;

// Filled in for q8, q4, q4m, q4t, q5 and q5m; bits is 0 for other types.
extern const BlockGrid block_grids[N_WEIGHT_TYPES];

// A scale and a minimum, both rounded to the nearest finite number in f16.
BlockScale block_scale(WeightType type, float scale, float minimum);

// Rounds to the nearest integer in low .. high, ties to even: adding 1.5 * 2^23 drops the fraction. A
// NaN becomes low.
static inline float round_within(float x, float low, float high)
{
    x = x > low ? x : low;
    x = x < high ? x : high;
    return (x + 12582912.0f) - 12582912.0f;
}

// The index of the table's value nearest to y: the number of midpoints between values that y has
// reached. Faster than a binary search, whose branches are unpredictable.
static inline uint8_t table_index(const float *table, float y)
{
    int reached = 0;
    for (size_t k = 0; k + 1 < TABLE_VALUES; k++) {
        reached += !(y < (table[k] + table[k + 1]) / 2);
    }
    return (uint8_t)reached;
}

// Returns the stored form of the value nearest to x, unsigned, and sets the weight that it stands for.
static inline uint8_t block_round(const BlockScale *s, float x, float *weight)
{
    const BlockGrid *g = &block_grids[s->type];
    const float y = (x - s->minimum) * s->inverse;
    if (g->table) {
        const uint8_t index = table_index(g->table, y);
        *weight = s->scale * g->table[index];
        return index;
    }
    const float q = round_within(y, g->low, g->high);
    *weight = s->scale * q + s->minimum;
    return (uint8_t)((int)q + g->zero);  // for q8, a signed byte
}

// block_round for a whole block: stores the forms of the values nearest to the n columns at x, padded
// with that of the value nearest to 0.
void block_round_all(const BlockScale *s, const float *x, size_t n, uint8_t *values);

// The weight that a stored value stands for.
float block_weight(const BlockScale *s, uint8_t value);

// Converts a block and its QUANT_BLOCK values from and to bytes.
BlockScale block_read(WeightType type, const uint8_t *block, uint8_t *values);
void block_write(const BlockScale *s, const uint8_t *values, uint8_t *block);

// The largest finite number in f16, the type of scales and minimums.
#define LARGEST_F16 65504.0f

#endif
