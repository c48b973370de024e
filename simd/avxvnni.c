// AVX-VNNI: the kernels over 16 lanes in two registers (avxvnni.h). The macros and types of that
// header are what kernels.h is written in, so the order of the two includes matters.
#include "simd/avxvnni.h"

#include "simd/kernels.h"
