// quant_block.c - one block of the types that the quantiser writes. See quant_block.h.
#include "formats/quant_block.h"

#include <string.h>

#include "base/memory.h"

// The values of q4t.
static const float q4t_table[TABLE_VALUES] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                              1,    13,   25,  38,  53,  69,  89,  113};

const BlockGrid block_grids[N_WEIGHT_TYPES] = {
    [WEIGHT_Q8] = {.low = -127, .high = 127, .bits = 8},
    [WEIGHT_Q4] = {.low = -8, .high = 7, .bits = 4, .zero = 8},
    [WEIGHT_Q4M] = {.low = 0, .high = 15, .bits = 4, .minimum = true},
    [WEIGHT_Q4T] = {.table = q4t_table, .bits = 4},
    [WEIGHT_Q5] = {.low = -16, .high = 15, .bits = 5, .zero = 16},
    [WEIGHT_Q5M] = {.low = 0, .high = 31, .bits = 5, .minimum = true},
};

// The nearest finite number in f16.
static uint16_t nearest_half(float x)
{
    return f32_to_f16(x > LARGEST_F16 ? LARGEST_F16 : x < -LARGEST_F16 ? -LARGEST_F16 : x);
}

static BlockScale from_halves(WeightType type, uint16_t scale, uint16_t minimum)
{
    BlockScale s = {.type = type, .half_scale = scale, .half_minimum = minimum};
    s.scale = f16_to_f32(scale);
    s.minimum = f16_to_f32(minimum);
    s.inverse = s.scale != 0 ? 1.0f / s.scale : 0;
    return s;
}

BlockScale block_scale(WeightType type, float scale, float minimum)
{
    return from_halves(type, nearest_half(scale), nearest_half(minimum));
}

void block_round_all(const BlockScale *s, const float *x, size_t n, uint8_t *values)
{
    const BlockGrid *g = &block_grids[s->type];
    float y[QUANT_BLOCK] = {0};
    int stored[QUANT_BLOCK] = {0};
    memcpy(y, x, n * sizeof *x);
    for (size_t i = 0; i < QUANT_BLOCK; i++) {
        y[i] = (y[i] - s->minimum) * s->inverse;
    }
    for (size_t k = 0; k + 1 < TABLE_VALUES && g->table; k++) {
        const float middle = (g->table[k] + g->table[k + 1]) / 2;
        for (size_t i = 0; i < QUANT_BLOCK; i++) {
            stored[i] += !(y[i] < middle);
        }
    }
    for (size_t i = 0; i < QUANT_BLOCK && !g->table; i++) {
        stored[i] = (int)round_within(y[i], g->low, g->high) + g->zero;
    }
    for (size_t i = 0; i < QUANT_BLOCK; i++) {
        values[i] = (uint8_t)stored[i];
    }
}

float block_weight(const BlockScale *s, uint8_t value)
{
    const BlockGrid *g = &block_grids[s->type];
    const int q = s->type == WEIGHT_Q8 ? (int8_t)value : (int)value - g->zero;
    return s->scale * (g->table ? g->table[value] : (float)q) + s->minimum;
}

// Unpacks values of 4 bits, or of 5: then bit i of fifth_bits is the highest one of value i.
static void read_nibbles(const uint8_t *nibbles, uint32_t fifth_bits, uint8_t *values)
{
    for (size_t i = 0; i < QUANT_BLOCK; i++) {
        const uint8_t pair = nibbles[i % (QUANT_BLOCK / 2)];
        const uint8_t low = i < QUANT_BLOCK / 2 ? pair & 15 : pair >> 4;
        values[i] = (uint8_t)(low | (fifth_bits >> i & 1) << 4);
    }
}

BlockScale block_read(WeightType type, const uint8_t *block, uint8_t *values)
{
    const BlockGrid *g = &block_grids[type];
    uint16_t scale, minimum = 0;
    uint32_t fifth_bits = 0;
    memcpy(&scale, block, sizeof scale);
    block += sizeof scale;
    if (g->minimum) {
        memcpy(&minimum, block, sizeof minimum);
        block += sizeof minimum;
    }
    if (g->bits == 5) {
        memcpy(&fifth_bits, block, sizeof fifth_bits);
        block += sizeof fifth_bits;
    }
    if (g->bits == 8) {
        memcpy(values, block, QUANT_BLOCK);
    } else {
        read_nibbles(block, fifth_bits, values);
    }
    return from_halves(type, scale, minimum);
}

void block_write(const BlockScale *s, const uint8_t *values, uint8_t *block)
{
    const BlockGrid *g = &block_grids[s->type];
    memcpy(block, &s->half_scale, sizeof s->half_scale);
    block += sizeof s->half_scale;
    if (g->minimum) {
        memcpy(block, &s->half_minimum, sizeof s->half_minimum);
        block += sizeof s->half_minimum;
    }
    if (g->bits == 8) {
        memcpy(block, values, QUANT_BLOCK);
        return;
    }
    if (g->bits == 5) {
        uint32_t fifth_bits = 0;
        for (size_t i = 0; i < QUANT_BLOCK; i++) {
            fifth_bits |= (uint32_t)values[i] >> 4 << i;
        }
        memcpy(block, &fifth_bits, sizeof fifth_bits);
        block += sizeof fifth_bits;
    }
    for (size_t i = 0; i < QUANT_BLOCK / 2; i++) {
        block[i] = (uint8_t)((values[i] & 15) | (values[i + QUANT_BLOCK / 2] & 15) << 4);
    }
}
