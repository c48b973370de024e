// fuzz_gguf_model.c - opens a GGUF file, made of an input as fuzz_gguf.h describes, and runs forward
// passes of an accepted model.

#include <stddef.h>
#include <stdint.h>

#include "fuzz_gguf.h"
#include "fuzz_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input in = {data, size};
    const size_t mode = take_number(&in, 1), token = take_number(&in, 1);
    size_t file_size;
    uint8_t *file = gguf_file(mode, token, in, &file_size);
    if (file_size < 4 || memcmp(file, "GGUF", 4) != 0) {
        free(file);
        return 0;  // other files have targets of their own
    }
    run_checkpoint(file, file_size, token);
    return 0;
}
