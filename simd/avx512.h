// avx512.h - the 16 lanes in one register. Needs AVX-512 F, BW, DQ, VL and VNNI.
//
// scalar.h defines what each primitive does. The comments here say why the instructions give the
// same bits where that is not obvious. IEEE 754 defines +, -, *, /, fused multiply-add and the
// conversions, so those are equal by nature.
#ifndef SIMD_LANES_H
#define SIMD_LANES_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "simd/simd.h"

#define KERNELS      kernels_avx512
#define KERNELS_NAME "avx512"

// 32 registers: 12 rows by 2 groups are 24 sums; the rest hold 2 vectors of weights and an
// activation. Quantised: 12 rows have 12 f32 sums and 12 integer sums of the block; with one step
// of weights, scales and activations that is 28, and two steps would not fit. A row's integer sum
// is freed as soon as its last step is added.
#define TILE_ROWS           12
#define TILE_ROWS_QUANTIZED 12
#define STEPS_HELD          1
#define ENDS_ROW_BY_ROW     1

// Groups of 16 outputs that a tile of so many rows has: at most 24 sums. One row alone has 4, as
// many as a multiply-add takes cycles; it waits for memory anyway.
static inline size_t tile_groups(size_t rows) { return rows <= 6 ? 4 : 2; }

typedef __m512 V;

static inline V v_zero(void) { return _mm512_setzero_ps(); }
static inline V v_set1(float a) { return _mm512_set1_ps(a); }
static inline V v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, V a) { _mm512_storeu_ps(p, a); }
static inline V v_add(V a, V b) { return _mm512_add_ps(a, b); }
static inline V v_sub(V a, V b) { return _mm512_sub_ps(a, b); }
static inline V v_mul(V a, V b) { return _mm512_mul_ps(a, b); }
static inline V v_div(V a, V b) { return _mm512_div_ps(a, b); }
static inline V v_fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
// maxps and minps return their second operand where either is a NaN, as v_max and v_min promise.
static inline V v_max(V a, V b) { return _mm512_max_ps(a, b); }
static inline V v_min(V a, V b) { return _mm512_min_ps(a, b); }
// "Not less than, unordered, quiet" keeps x where a or b is a NaN, as C's a < b ? 0 : x does.
static inline V v_zero_where_less(V a, V b, V x)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ), x);
}
// See scalar.h: the addition rounds, so the bits follow from IEEE 754.
static inline V v_round(V a)
{
    return _mm512_sub_ps(_mm512_add_ps(a, _mm512_set1_ps(12582912.0f)),
                         _mm512_set1_ps(12582912.0f));
}
// The biased exponent n + 127, shifted to where f32 has it. n is an integer already: the conversion
// does not round.
static inline V v_pow2(V n)
{
    __m512i e = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(e, 23));
}
// bf16 is the upper half of an f32.
static inline V v_load_bf16(const uint16_t *p)
{
    __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}
static inline V v_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
// Rounds halves to even whatever the rounding mode.
static inline void v_store_f16(uint16_t *p, V a)
{
    _mm256_storeu_si256((__m256i *)p,
                        _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline V v_load_i8(const int8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
// The tree of scalar.h: the halves of the 16 lanes, of the 8, of the 4, and the last two.
// (_mm512_reduce_add_ps leaves its order to the compiler.)
static inline float v_sum(V a)
{
    __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
static inline float v_reduce_max(V a)
{
    __m256 b = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

// Magnitudes compared as integers: the order of the bits of non-negative floats is the order of
// their values, with NaNs above infinity.
static inline float v_abs_max(V a, V b)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i m = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(a), magnitude),
                                 _mm512_and_si512(_mm512_castps_si512(b), magnitude));
    __m256i n = _mm256_max_epu32(_mm512_castsi512_si256(m), _mm512_extracti64x4_epi64(m, 1));
    __m128i o = _mm_max_epu32(_mm256_castsi256_si128(n), _mm256_extracti128_si256(n, 1));
    o = _mm_max_epu32(o, _mm_shuffle_epi32(o, 0x4e));
    o = _mm_max_epu32(o, _mm_shuffle_epi32(o, 0xb1));
    return _mm_cvtss_f32(_mm_castsi128_ps(o));
}
static inline void v_store_i8(int8_t *p, V a)
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(a)));
}

typedef __m512i VI;
typedef __m512i VB;

static inline V vi_to_float(VI a) { return _mm512_cvtepi32_ps(a); }
static inline VB vb_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
static inline VB vb_low(VB a) { return _mm512_and_si512(a, _mm512_set1_epi8(15)); }
// There is no shift of bytes: shift 16-bit words, then clear what came in from the neighbour.
static inline VB vb_high(VB a)
{
    return _mm512_and_si512(_mm512_srli_epi16(a, 4), _mm512_set1_epi8(15));
}
static inline VB vb_or(VB a, VB b) { return _mm512_or_si512(a, b); }
// As above: the mask clears what came in from the neighbour.
static inline VB vb_bits(VB a, const int left, const uint8_t mask)
{
    a = left < 0 ? _mm512_srl_epi16(a, _mm_cvtsi32_si128(-left))
                 : _mm512_sll_epi16(a, _mm_cvtsi32_si128(left));
    return _mm512_and_si512(a, _mm512_set1_epi8((char)mask));
}
static inline VB vb_lookup(const uint8_t *table, VB a)
{
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table)), a);
}
// The 4 activations of a step, for every lane.
static inline __m512i broadcast_4(ActivationStep x)
{
    int32_t four;
    memcpy(&four, x.q + 4 * x.index, sizeof four);
    return _mm512_set1_epi32(four);
}

static inline VI vi_set1(int32_t x) { return _mm512_set1_epi32(x); }
static inline VI vi_sub(VI a, VI b) { return _mm512_sub_epi32(a, b); }
static inline VB vb_set1(int8_t byte) { return _mm512_set1_epi8(byte); }
static inline VI vi_dpbusd(VI sum, VB w, ActivationStep x)
{
    return _mm512_dpbusd_epi32(sum, w, broadcast_4(x));
}

#include "simd/dpbusd.h"

#endif
