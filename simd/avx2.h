// avx2.h - AVX2's dot products of bytes, for the lanes of avx2_lanes.h.
#ifndef SIMD_LANES_H
#define SIMD_LANES_H

#include "simd/avx2_lanes.h"

#define KERNELS      kernels_avx2
#define KERNELS_NAME "avx2"

// 4 rows have 8 registers of integer sums. Both nibbles of the bytes loaded are held (2 steps).
#define TILE_ROWS_QUANTIZED 4
#define STEPS_HELD          2

// vpmaddubsw multiplies unsigned weights by signed activations and adds pairs of products as 16-bit
// integers, with saturation. Two products of nibbles are at most 2 * 15 * 127 in magnitude, and 8
// steps of them 30480: nothing saturates or overflows, so the sums stay in 16 bits for the whole
// block, and only the end widens them (vpmaddwd by ones adds the two pairs of a lane).
typedef VI NibbleSum;
static inline NibbleSum nibble_begin(int32_t start)
{
    (void)start;
    return (VI){_mm256_setzero_si256(), _mm256_setzero_si256()};
}
static inline NibbleSum nibble_add(NibbleSum s, VB w, ActivationStep x)
{
    const __m256i four = broadcast_4(x);
    return (VI){_mm256_add_epi16(s.a, _mm256_maddubs_epi16(w.a, four)),
                _mm256_add_epi16(s.b, _mm256_maddubs_epi16(w.b, four))};
}
static inline V nibble_end(NibbleSum s, int32_t start)
{
    const __m256i ones = _mm256_set1_epi16(1), first = _mm256_set1_epi32(start);
    return vi_to_float((VI){_mm256_add_epi32(_mm256_madd_epi16(s.a, ones), first),
                            _mm256_add_epi32(_mm256_madd_epi16(s.b, ones), first)});
}

// Products of bytes up to 255 would saturate the 16-bit pairs. So 128 is subtracted first, which
// makes the start (-128 times the sum of the activations) unnecessary, and w x becomes |w| (sign(w)
// x): |w| is at most 128, so a pair is at most 2 * 128 * 127 = 32512 and fits. |w| is the same for
// all rows and computed once. Pairs are widened to 32 bits at every step.
typedef VI ByteSum;
static inline ByteSum byte_begin(int32_t start)
{
    (void)start;
    return (VI){_mm256_setzero_si256(), _mm256_setzero_si256()};
}
static inline __m256i byte_products(__m256i w, __m256i four)
{
    // Flipping the top bit subtracts 128: an unsigned byte becomes a signed one.
    w = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(four, w));
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
static inline ByteSum byte_add(ByteSum s, VB w, ActivationStep x)
{
    const __m256i four = broadcast_4(x);
    return (VI){_mm256_add_epi32(s.a, byte_products(w.a, four)),
                _mm256_add_epi32(s.b, byte_products(w.b, four))};
}
static inline V byte_end(ByteSum s) { return vi_to_float(s); }

// A scale stands twice in its lane, as a 16-bit integer: the vpmaddwd that widens the two pairs of a
// lane multiplies them by it at no cost.
typedef VI VS;
static inline __m256i twice_16(const int8_t *p)
{
    const __m256i wide = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
    const __m128i low_twice = _mm_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13);
    return _mm256_shuffle_epi8(wide, _mm256_broadcastsi128_si256(low_twice));
}
static inline VS vs_load(const int8_t *p) { return (VS){twice_16(p), twice_16(p + 8)}; }
static inline VS vs_one(void) { return (VS){_mm256_set1_epi16(1), _mm256_set1_epi16(1)}; }

// In 4 steps a pair's sum is at most 8 * 31 * 127 = 31496, or 8 * 32 * 127 = 32512 in magnitude: it
// stays in 16 bits until the part ends. (See above for weights up to 15 and 8 steps.)
typedef struct {
    VI pairs, total;
} ScaledSum;
static inline ScaledSum scaled_begin(void)
{
    const VI zero = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    return (ScaledSum){zero, zero};
}
static inline ScaledSum scaled_add(ScaledSum s, VB w, ActivationStep x)
{
    s.pairs = nibble_add(s.pairs, w, x);
    return s;
}
// w x becomes |w| (sign(w) x), as with bytes.
static inline __m256i signed_pairs(__m256i w, __m256i four)
{
    w = _mm256_sub_epi8(w, _mm256_set1_epi8(32));
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(four, w));
}
static inline ScaledSum scaled_add_6(ScaledSum s, VB w, ActivationStep x)
{
    const __m256i four = broadcast_4(x);
    s.pairs.a = _mm256_add_epi16(s.pairs.a, signed_pairs(w.a, four));
    s.pairs.b = _mm256_add_epi16(s.pairs.b, signed_pairs(w.b, four));
    return s;
}
static inline ScaledSum scaled_part(ScaledSum s, VS scale)
{
    s.total.a = _mm256_add_epi32(s.total.a, _mm256_madd_epi16(s.pairs.a, scale.a));
    s.total.b = _mm256_add_epi32(s.total.b, _mm256_madd_epi16(s.pairs.b, scale.b));
    s.pairs = (VI){_mm256_setzero_si256(), _mm256_setzero_si256()};
    return s;
}
static inline V scaled_end(ScaledSum s) { return vi_to_float(s.total); }

#endif
