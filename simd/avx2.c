// The kernels over the lanes of avx2.h.
#include "avx2.h"

#include "kernels.h"
