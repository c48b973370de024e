// Plain C: the kernels over 16 lanes in an array (scalar.h). They run anywhere and define what the
// other sets must compute. The macros and types of that header are what kernels.h is written in, so
// the order of the two includes matters.
#include "simd/scalar.h"

#include "simd/kernels.h"
