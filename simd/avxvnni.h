// avxvnni.h - AVX-VNNI's dot products of bytes, for the lanes of avx2_lanes.h. For processors without
// AVX-512 that have vpdpbusd for registers of 256 bits: Intel's from the 12th generation on.
#ifndef SIMD_LANES_H
#define SIMD_LANES_H

#include "simd/avx2_lanes.h"

#ifdef DPBUSD_IN_C
#define KERNELS      kernels_avxvnni_in_c
#define KERNELS_NAME "avxvnni, its instruction in C"
#else
#define KERNELS      kernels_avxvnni
#define KERNELS_NAME "avxvnni"
#endif

// 6 rows have 12 registers of integer sums; 2 hold a step of the weights and 1 the activations. The
// f32 sums are in memory, where each is used once per quantisation block.
#define TILE_ROWS_QUANTIZED 6
#define STEPS_HELD          1

// vpdpbusd multiplies 4 unsigned weights by 4 signed activations per lane and adds the products to a
// 32-bit sum, without saturation. It takes bytes up to 255 as well as nibbles, and any start.
#ifdef DPBUSD_IN_C
// For tests on machines with AVX2 that lack the instruction. Not inlined: there are thousands.
__attribute__((noinline)) static __m256i dpbusd(__m256i sum, __m256i weights, __m256i activations)
{
    int32_t s[8];
    uint8_t w[32];
    int8_t x[32];
    memcpy(s, &sum, sizeof s);
    memcpy(w, &weights, sizeof w);
    memcpy(x, &activations, sizeof x);
    for (int i = 0; i < 32; i++) {
        s[i / 4] += w[i] * x[i];
    }
    memcpy(&sum, s, sizeof s);
    return sum;
}
#else
static inline __m256i dpbusd(__m256i sum, __m256i weights, __m256i activations)
{
    return _mm256_dpbusd_avx_epi32(sum, weights, activations);
}
#endif

typedef VI NibbleSum;
static inline NibbleSum nibble_begin(int32_t start)
{
    return (VI){_mm256_set1_epi32(start), _mm256_set1_epi32(start)};
}
static inline NibbleSum nibble_add(NibbleSum s, VB w, ActivationStep x)
{
    const __m256i four = broadcast_4(x);
    return (VI){dpbusd(s.a, w.a, four), dpbusd(s.b, w.b, four)};
}
static inline V nibble_end(NibbleSum s, int32_t start)
{
    (void)start;
    return vi_to_float(s);
}

typedef VI ByteSum;
static inline ByteSum byte_begin(int32_t start) { return nibble_begin(start); }
static inline ByteSum byte_add(ByteSum s, VB w, ActivationStep x) { return nibble_add(s, w, x); }
static inline V byte_end(ByteSum s) { return vi_to_float(s); }

// Parts and their scales are multiplied as f32, which is faster than as integers and as exact: all
// values are below 2^24.
typedef V VS;
static inline VS vs_load(const int8_t *p) { return v_load_i8(p); }
static inline VS vs_one(void) { return v_set1(1.0f); }
typedef struct {
    VI part;
    V total;
} ScaledSum;
static inline ScaledSum scaled_begin(void) { return (ScaledSum){nibble_begin(0), v_zero()}; }
static inline ScaledSum scaled_add(ScaledSum s, VB w, ActivationStep x)
{
    s.part = nibble_add(s.part, w, x);
    return s;
}
// The instruction wants unsigned weights: 32 times the activations is taken away again.
static inline ScaledSum scaled_add_6(ScaledSum s, VB w, ActivationStep x)
{
    const __m256i four = broadcast_4(x);
    const __m256i offset = dpbusd(_mm256_setzero_si256(), _mm256_set1_epi8(32), four);
    s.part.a = _mm256_sub_epi32(dpbusd(s.part.a, w.a, four), offset);
    s.part.b = _mm256_sub_epi32(dpbusd(s.part.b, w.b, four), offset);
    return s;
}
static inline ScaledSum scaled_part(ScaledSum s, VS scale)
{
    return (ScaledSum){nibble_begin(0), v_fma(vi_to_float(s.part), scale, s.total)};
}
static inline V scaled_end(ScaledSum s) { return s.total; }

#endif
