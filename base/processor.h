// processor.h - which instructions this processor and its operating system support, beyond those
// that every processor of the architecture has.
#ifndef PROCESSOR_H
#define PROCESSOR_H

#include <stdbool.h>

#if defined(__x86_64__)
// AVX2, FMA and F16C.
bool processor_has_avx2(void);
// Those and AVX-VNNI: vpdpbusd for registers of 256 bits, in VEX encoding.
bool processor_has_avxvnni(void);
// Those of processor_has_avx2 and AVX-512 F, BW, DQ, VL and VNNI.
bool processor_has_avx512(void);
#elif defined(__aarch64__)
// FEAT_DotProd: sdot. On an operating system that we cannot ask, neither is there.
bool processor_has_dotprod(void);
// FEAT_DotProd and FEAT_I8MM: usdot too.
bool processor_has_i8mm(void);
#endif

#endif
