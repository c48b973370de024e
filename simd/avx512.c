// The kernels over the lanes of avx512.h.
#include "avx512.h"

#include "kernels.h"
