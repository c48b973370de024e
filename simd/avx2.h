// avx2.h - the 16 lanes in two registers of 8. Needs AVX2, FMA and F16C.
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

#define KERNELS      kernels_avx2
#define KERNELS_NAME "avx2"

// Of the 16 registers a sum takes two: 6 rows by one group are 12 registers of sums, 2 of weights
// and 1 of an activation. Quantised: 4 rows have 8 registers of integer sums. Both nibbles of the
// bytes loaded are held (2 steps).
#define TILE_ROWS           6
#define TILE_ROWS_QUANTIZED 4
#define STEPS_HELD          2

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
static inline __m256i broadcast_4(const int8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof four);
    return _mm256_set1_epi32(four);
}

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
static inline NibbleSum nibble_add(NibbleSum s, VB w, const int8_t *x)
{
    const __m256i four = broadcast_4(x);
    return (VI){_mm256_add_epi16(s.a, _mm256_maddubs_epi16(w.a, four)),
                _mm256_add_epi16(s.b, _mm256_maddubs_epi16(w.b, four))};
}
static inline VI nibble_end(NibbleSum s, int32_t start)
{
    const __m256i ones = _mm256_set1_epi16(1), first = _mm256_set1_epi32(start);
    return (VI){_mm256_add_epi32(_mm256_madd_epi16(s.a, ones), first),
                _mm256_add_epi32(_mm256_madd_epi16(s.b, ones), first)};
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
static inline ByteSum byte_add(ByteSum s, VB w, const int8_t *x)
{
    const __m256i four = broadcast_4(x);
    return (VI){_mm256_add_epi32(s.a, byte_products(w.a, four)),
                _mm256_add_epi32(s.b, byte_products(w.b, four))};
}
static inline VI byte_end(ByteSum s) { return s; }

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
static inline ScaledSum scaled_add(ScaledSum s, VB w, const int8_t *x)
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
static inline ScaledSum scaled_add_6(ScaledSum s, VB w, const int8_t *x)
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
