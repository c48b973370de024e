// AVX-512: the kernels over 16 lanes in one register (avx512.h). The macros and types of that
// header are what kernels.h is written in, so the order of the two includes matters.
#include "simd/avx512.h"

#include "simd/kernels.h"
