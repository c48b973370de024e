// AVX2: the kernels over 16 lanes in two registers (avx2.h). The macros and types of that header
// are what kernels.h is written in, so the order of the two includes matters.
#include "simd/avx2.h"

#include "simd/kernels.h"
