// The kernels over the lanes of scalar.h.
#include "simd/scalar.h"

#include "simd/kernels.h"
