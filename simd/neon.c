// The kernels over the lanes of neon.h.
#include "neon.h"

#include "kernels.h"
