// neon_dot.h - dot products of signed bytes with the instruction sdot, for dotprod.h and i8mm.h, which
// add those of unsigned bytes.
#ifndef SIMD_NEON_DOT_H
#define SIMD_NEON_DOT_H

#include "simd/neon_lanes.h"

// 4 rows have 16 registers of integer sums; 4 hold a step of the weights, 4 the bytes that it came
// from, 4 the scales. The f32 sums are in memory, where each is used once per quantisation block.
#define TILE_ROWS_QUANTIZED 4
#define STEPS_HELD          1

// 16 activations, among them those of the step: a register whose element x.index % 4 they are. The
// instructions below multiply by an element of a register; to broadcast it would take a vector unit.
// Volatile, so that it is loaded anew each time: loads cost nothing here, but a compiler that keeps
// all activations of the tile in registers has to spill sums instead.
//
//     cycles per 1,000 multiply-adds of q4 on a Neoverse N1, by llvm-mca: 72 and 60
static inline int8x16_t steps_of_4(ActivationStep x)
{
    return *(const volatile int8x16_t *)(const void *)(x.q + x.index / 4 * 16);
}

// The element that an instruction multiplies by is part of its encoding, so f(.., x, 0) to
// f(.., x, 3) are four instructions. x.index is a constant wherever the tile is unrolled.
#define DOT_STEP(f, sum, w, x)                          \
    ((x).index % 4 == 0   ? f(sum, w, steps_of_4(x), 0) \
     : (x).index % 4 == 1 ? f(sum, w, steps_of_4(x), 1) \
     : (x).index % 4 == 2 ? f(sum, w, steps_of_4(x), 2) \
                          : f(sum, w, steps_of_4(x), 3))

// sdot multiplies 4 signed bytes by 4 signed bytes per lane and adds the products to a 32-bit sum.
static inline int32x4_t sdot(int32x4_t sum, uint8x16_t w, ActivationStep x)
{
    return DOT_STEP(vdotq_laneq_s32, sum, vreinterpretq_s8_u8(w), x);
}

typedef VI NibbleSum;
static inline NibbleSum nibble_begin(int32_t start) { return vi_set1(SUM_BIAS + start); }
static inline NibbleSum nibble_add(NibbleSum s, VB w, ActivationStep x)
{
    EACH_REGISTER s.r[i] = sdot(s.r[i], w.r[i], x);
    return s;
}
static inline V nibble_end(NibbleSum s, int32_t start)
{
    (void)start;
    return biased_to_float(s);
}

// The products of parts and scales need up to 24 bits, so they have no bias.
typedef VI Part;
static inline Part part_begin(void) { return vi_set1(0); }
static inline VI part_sums(Part part) { return part; }

#include "simd/neon_scaled.h"

#endif
