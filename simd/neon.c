// The kernels over the lanes of neon.h.
#include "simd/neon.h"

#include "simd/kernels.h"
