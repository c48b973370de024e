// fuzz_checkpoint.c - opens a native checkpoint, made of an input as fuzz_native.h describes, and
// runs forward passes of an accepted model.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuzz_model.h"
#include "fuzz_native.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input in = {data, size};
    const size_t mode = take_number(&in, 1), token = take_number(&in, 1);
    const NativeFile file = native_file(mode, token, in, true);
    run_checkpoint(file.data, file.size, token);
    return 0;
}
