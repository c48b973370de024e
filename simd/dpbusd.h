// dpbusd.h - dot products of bytes with vpdpbusd (VNNI), for avx512.h and avxvnni.h, which define the
// lanes and
//
//     vi_set1(x)              x in all lanes of a VI
//     vi_sub(a, b)            a - b
//     vb_set1(byte)           the byte in all 4 bytes of each lane of a VB
//     vi_dpbusd(sum, w, x)    sum + the products of 4 unsigned weights and the 4 signed activations
//                             of a step, per lane, in 32 bits and without saturation
//
// The instruction takes bytes up to 255 as well as nibbles, and any initial sum.
#ifndef SIMD_DPBUSD_H
#define SIMD_DPBUSD_H

typedef VI NibbleSum;
static inline NibbleSum nibble_begin(int32_t start) { return vi_set1(start); }
static inline NibbleSum nibble_add(NibbleSum s, VB w, ActivationStep x)
{
    return vi_dpbusd(s, w, x);
}
static inline V nibble_end(NibbleSum s, int32_t start)
{
    (void)start;
    return vi_to_float(s);
}

typedef VI ByteSum;
static inline ByteSum byte_begin(int32_t start) { return vi_set1(start); }
static inline ByteSum byte_add(ByteSum s, VB w, ActivationStep x) { return vi_dpbusd(s, w, x); }
static inline V byte_end(ByteSum s) { return vi_to_float(s); }

// Parts and their scales are multiplied as f32, which is faster than as integers and just as exact:
// all values are below 2^24.
typedef V VS;
static inline VS vs_load(const int8_t *p) { return v_load_i8(p); }
static inline VS vs_one(void) { return v_set1(1.0f); }
typedef struct {
    VI part;
    V total;
} ScaledSum;
static inline ScaledSum scaled_begin(void) { return (ScaledSum){vi_set1(0), v_zero()}; }
static inline ScaledSum scaled_add(ScaledSum s, VB w, ActivationStep x)
{
    s.part = vi_dpbusd(s.part, w, x);
    return s;
}
// The instruction needs unsigned weights, so 32 times the activations is subtracted again.
static inline ScaledSum scaled_add_6(ScaledSum s, VB w, ActivationStep x)
{
    const VI offset = vi_dpbusd(vi_set1(0), vb_set1(32), x);
    s.part = vi_sub(vi_dpbusd(s.part, w, x), offset);
    return s;
}
static inline ScaledSum scaled_part(ScaledSum s, VS scale)
{
    return (ScaledSum){vi_set1(0), v_fma(vi_to_float(s.part), scale, s.total)};
}
static inline V scaled_end(ScaledSum s) { return s.total; }

#endif
