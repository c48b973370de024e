// quant_block.c - one block of the types that the quantiser writes. See quant_block.h.
#include "formats/quant_block.h"

#include <string.h>

#include "base/memory.h"

// The values of q4t.
static const float q4t_table[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                    1,    13,   25,  38,  53,  69,  89,  113};

const BlockGrid block_grids[N_WEIGHT_TYPES] = {[WEIGHT_Q8] = {-127, 127, NULL},
                                               [WEIGHT_Q4] = {-8, 7, NULL},
                                               [WEIGHT_Q4M] = {0, 15, NULL},
                                               [WEIGHT_Q4T] = {0, 0, q4t_table}};

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

float block_weight(const BlockScale *s, uint8_t value)
{
    const float *table = block_grids[s->type].table;
    const int q = s->type == WEIGHT_Q8   ? (int8_t)value
                  : s->type == WEIGHT_Q4 ? (int)value - 8
                                         : (int)value;
    return s->scale * (table ? table[value] : (float)q) + s->minimum;
}

BlockScale block_read(WeightType type, const uint8_t *block, uint8_t *values)
{
    uint16_t scale, minimum = 0;
    memcpy(&scale, block, sizeof scale);
    block += sizeof scale;
    if (type == WEIGHT_Q4M) {
        memcpy(&minimum, block, sizeof minimum);
        block += sizeof minimum;
    }
    if (type == WEIGHT_Q8) {
        memcpy(values, block, QUANT_BLOCK);
    } else {
        for (size_t i = 0; i < QUANT_BLOCK / 2; i++) {
            values[i] = block[i] & 15;
            values[i + QUANT_BLOCK / 2] = block[i] >> 4;
        }
    }
    return from_halves(type, scale, minimum);
}

void block_write(const BlockScale *s, const uint8_t *values, uint8_t *block)
{
    memcpy(block, &s->half_scale, sizeof s->half_scale);
    block += sizeof s->half_scale;
    if (s->type == WEIGHT_Q4M) {
        memcpy(block, &s->half_minimum, sizeof s->half_minimum);
        block += sizeof s->half_minimum;
    }
    if (s->type == WEIGHT_Q8) {
        memcpy(block, values, QUANT_BLOCK);
        return;
    }
    for (size_t i = 0; i < QUANT_BLOCK / 2; i++) {
        block[i] = (uint8_t)(values[i] | values[i + QUANT_BLOCK / 2] << 4);
    }
}
