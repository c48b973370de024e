// The kernels over the lanes of avx2.h.
#include "simd/avx2.h"

#include "simd/kernels.h"
