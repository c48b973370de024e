// The kernels over the lanes of avx512.h.
#include "simd/avx512.h"

#include "simd/kernels.h"
