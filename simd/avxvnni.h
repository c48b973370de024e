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

static inline VI vi_set1(int32_t x) { return (VI){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
static inline VI vi_sub(VI x, VI y)
{
    return (VI){_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)};
}
static inline VB vb_set1(int8_t byte)
{
    return (VB){_mm256_set1_epi8(byte), _mm256_set1_epi8(byte)};
}
static inline VI vi_dpbusd(VI sum, VB w, ActivationStep x)
{
    const __m256i four = broadcast_4(x);
    return (VI){dpbusd(sum.a, w.a, four), dpbusd(sum.b, w.b, four)};
}

#include "simd/dpbusd.h"

#endif
