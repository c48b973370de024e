// NEON with dot products of unsigned bytes: the kernels over 16 lanes in four registers (i8mm.h).
// The macros and types of that header are what kernels.h is written in, so the order of the two
// includes matters.
#include "simd/i8mm.h"

#include "simd/kernels.h"
