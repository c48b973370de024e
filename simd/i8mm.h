// i8mm.h - the dot products of ARMv8.6's usdot, for the lanes of neon_lanes.h. Apple's M2, Neoverse V1
// (Graviton3) and their successors have it.
#ifndef SIMD_LANES_H
#define SIMD_LANES_H

#include "simd/neon_dot.h"

#define KERNELS      kernels_i8mm
#define KERNELS_NAME "i8mm"

// usdot multiplies unsigned bytes by signed ones, so weights are multiplied as they are stored.
typedef VI ByteSum;
static inline ByteSum byte_begin(int32_t start) { return nibble_begin(start); }
static inline ByteSum byte_add(ByteSum s, VB w, ActivationStep x)
{
    EACH_REGISTER s.r[i] = DOT_STEP(vusdotq_laneq_s32, s.r[i], w.r[i], x);
    return s;
}
static inline V byte_end(ByteSum s) { return biased_to_float(s); }

#endif
