// dotprod.h - the dot products of ARMv8.2's sdot, for the lanes of neon_lanes.h. Most AArch64
// processors since 2018 have it: Cortex-A76 (Raspberry Pi 5), Neoverse N1 (Graviton2), Apple's M1.
#ifndef SIMD_LANES_H
#define SIMD_LANES_H

#include "simd/neon_dot.h"

#define KERNELS      kernels_dotprod
#define KERNELS_NAME "dotprod"

// Signed bytes after 128 is subtracted (flipping the top bit), which makes the start unnecessary.
typedef VI ByteSum;
static inline ByteSum byte_begin(int32_t start)
{
    (void)start;
    return nibble_begin(0);
}
static inline ByteSum byte_add(ByteSum s, VB w, ActivationStep x)
{
    EACH_REGISTER s.r[i] = sdot(s.r[i], veorq_u8(w.r[i], vdupq_n_u8(128)), x);
    return s;
}
static inline V byte_end(ByteSum s) { return biased_to_float(s); }

#endif
