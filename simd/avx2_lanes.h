// avx2_lanes.h - the 16 lanes in two registers of 8, for avx2.h and avxvnni.h, which add the dot
// products of bytes. Needs AVX2, FMA and F16C.
//
// scalar.h defines what each primitive does. The comments here say why the instructions give the
// same bits where that is not obvious. IEEE 754 defines +, -, *, /, fused multiply-add and the
// conversions, so those are equal by nature.
#ifndef SIMD_AVX2_LANES_H
#define SIMD_AVX2_LANES_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "simd/simd.h"

// Of the 16 registers a sum takes two: 6 rows by one group are 12 registers of sums, 2 of weights
// and 1 of an activation.
#define TILE_ROWS 6

// Groups of 16 outputs that a tile of so many rows has: 4 to 6 sums of two registers each, enough
// to hide the latency of the multiply-add.
static inline size_t tile_groups(size_t rows) { return rows == 1 ? 4 : rows <= 3 ? 2 : 1; }

typedef struct {
    __m256 a, b;
} V;

static inline V v_zero(void) { return (V){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
static inline V v_set1(float x) { return (V){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
static inline V v_load(const float *p) { return (V){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
static inline void v_store(float *p, V x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
static inline V v_add(V x, V y) { return (V){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
static inline V v_sub(V x, V y) { return (V){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
static inline V v_mul(V x, V y) { return (V){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
static inline V v_div(V x, V y) { return (V){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
static inline V v_fma(V x, V y, V z)
{
    return (V){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
// maxps and minps return their second operand where either is a NaN, as v_max and v_min promise.
static inline V v_max(V x, V y) { return (V){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
static inline V v_min(V x, V y) { return (V){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
// "Not less than, unordered, quiet" keeps z where x or y is a NaN, as C's x < y ? 0 : z does.
static inline V v_zero_where_less(V x, V y, V z)
{
    return (V){_mm256_and_ps(_mm256_cmp_ps(x.a, y.a, _CMP_NLT_UQ), z.a),
               _mm256_and_ps(_mm256_cmp_ps(x.b, y.b, _CMP_NLT_UQ), z.b)};
}
// See scalar.h: the addition rounds, so the bits follow from IEEE 754.
static inline V v_round(V x) { return v_sub(v_add(x, v_set1(12582912.0f)), v_set1(12582912.0f)); }
// The biased exponent n + 127, shifted to where f32 has it. n is an integer already: the conversion
// does not round.
static inline __m256 pow2_8(__m256 n)
{
    __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(e, 23));
}
static inline V v_pow2(V n) { return (V){pow2_8(n.a), pow2_8(n.b)}; }
// bf16 is the upper half of an f32.
static inline __m256 load_bf16_8(const uint16_t *p)
{
    __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}
static inline V v_load_bf16(const uint16_t *p) { return (V){load_bf16_8(p), load_bf16_8(p + 8)}; }
static inline V v_load_f16(const uint16_t *p)
{
    return (V){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
               _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}
// Rounds halves to even whatever the rounding mode (F16C).
static inline void v_store_f16(uint16_t *p, V x)
{
    _mm_storeu_si128((__m128i *)p,
                     _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128((__m128i *)(p + 8),
                     _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline __m256 load_i8_8(const int8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
static inline V v_load_i8(const int8_t *p) { return (V){load_i8_8(p), load_i8_8(p + 8)}; }
// The tree of scalar.h: the halves of the 16 lanes, of the 8, of the 4, and the last two.
static inline float v_sum(V x)
{
    __m256 b = _mm256_add_ps(x.a, x.b);
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
static inline float v_reduce_max(V x)
{
    __m256 b = _mm256_max_ps(x.a, x.b);
    __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

// Magnitudes compared as integers: the order of the bits of non-negative floats is the order of
// their values, with NaNs above infinity.
static inline float v_abs_max(V x, V y)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i m = _mm256_max_epu32(
        _mm256_max_epu32(_mm256_and_si256(_mm256_castps_si256(x.a), magnitude),
                         _mm256_and_si256(_mm256_castps_si256(x.b), magnitude)),
        _mm256_max_epu32(_mm256_and_si256(_mm256_castps_si256(y.a), magnitude),
                         _mm256_and_si256(_mm256_castps_si256(y.b), magnitude)));
    __m128i o = _mm_max_epu32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
    o = _mm_max_epu32(o, _mm_shuffle_epi32(o, 0x4e));
    o = _mm_max_epu32(o, _mm_shuffle_epi32(o, 0xb1));
    return _mm_cvtss_f32(_mm_castsi128_ps(o));
}
// packs works on each 128-bit half by itself; the permutation puts the quarters back in order.
static inline void v_store_i8(int8_t *p, V x)
{
    __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b));
    words = _mm256_permute4x64_epi64(words, 0xd8);
    _mm_storeu_si128((__m128i *)p, _mm_packs_epi16(_mm256_castsi256_si128(words),
                                                   _mm256_extracti128_si256(words, 1)));
}

typedef struct {
    __m256i a, b;
} VI;
typedef VI VB;

static inline V vi_to_float(VI x) { return (V){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
static inline VB vb_load(const uint8_t *p)
{
    return (VB){_mm256_loadu_si256((const __m256i *)p),
                _mm256_loadu_si256((const __m256i *)(p + 32))};
}
static inline VB vb_low(VB x)
{
    const __m256i low = _mm256_set1_epi8(15);
    return (VB){_mm256_and_si256(x.a, low), _mm256_and_si256(x.b, low)};
}
// There is no shift of bytes: shift 16-bit words, then clear what came in from the neighbour.
static inline VB vb_high(VB x)
{
    const __m256i low = _mm256_set1_epi8(15);
    return (VB){_mm256_and_si256(_mm256_srli_epi16(x.a, 4), low),
                _mm256_and_si256(_mm256_srli_epi16(x.b, 4), low)};
}
static inline VB vb_or(VB x, VB y)
{
    return (VB){_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)};
}
// As above: the mask clears what came in from the neighbour.
static inline __m256i bits_8(__m256i x, const int left, const uint8_t mask)
{
    x = left < 0 ? _mm256_srli_epi16(x, -left) : _mm256_slli_epi16(x, left);
    return _mm256_and_si256(x, _mm256_set1_epi8((char)mask));
}
static inline VB vb_bits(VB x, const int left, const uint8_t mask)
{
    return (VB){bits_8(x.a, left, mask), bits_8(x.b, left, mask)};
}
static inline VB vb_lookup(const uint8_t *table, VB x)
{
    const __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
    return (VB){_mm256_shuffle_epi8(t, x.a), _mm256_shuffle_epi8(t, x.b)};
}
// The 4 activations of a step, for every lane.
static inline __m256i broadcast_4(ActivationStep x)
{
    int32_t four;
    memcpy(&four, x.q + 4 * x.index, sizeof four);
    return _mm256_set1_epi32(four);
}

#endif
