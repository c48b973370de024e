// The kernels over the lanes of scalar.h.
#include "scalar.h"

#include "kernels.h"
