// neon_scaled.h - sums of parts that have scales of their own, for neon.h and neon_dot.h, which define
//
//     Part                  the sum of a part, to which nibble_add adds
//     part_begin()          a sum of 0
//     part_sums(part)       its sum in each lane
#ifndef SIMD_NEON_SCALED_H
#define SIMD_NEON_SCALED_H

typedef VI VS;
static inline VS vs_load(const int8_t *p) { return vi_load_i8(p); }
static inline VS vs_one(void) { return vi_set1(1); }
typedef struct {
    Part part;
    VI total;
} ScaledSum;
static inline ScaledSum scaled_begin(void) { return (ScaledSum){part_begin(), vi_set1(0)}; }
static inline ScaledSum scaled_add(ScaledSum s, VB w, ActivationStep x)
{
    s.part = nibble_add(s.part, w, x);
    return s;
}
static inline ScaledSum scaled_add_6(ScaledSum s, VB w, ActivationStep x)
{
    EACH_REGISTER w.r[i] = vsubq_u8(w.r[i], vdupq_n_u8(32));
    return scaled_add(s, w, x);
}
static inline ScaledSum scaled_part(ScaledSum s, VS scale)
{
    const VI part = part_sums(s.part);
    EACH_REGISTER s.total.r[i] = vmlaq_s32(s.total.r[i], part.r[i], scale.r[i]);
    s.part = part_begin();
    return s;
}
static inline V scaled_end(ScaledSum s) { return vi_to_float(s.total); }

#endif
