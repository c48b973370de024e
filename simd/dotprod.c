// NEON with dot products: the kernels over 16 lanes in four registers (dotprod.h). The macros and
// types of that header are what kernels.h is written in, so the order of the two includes matters.
#include "simd/dotprod.h"

#include "simd/kernels.h"
