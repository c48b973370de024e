// fuzz_tokenizer_llama2c.c - opens llama2.c's tokenizer.bin, and encodes and decodes a text with an
// accepted tokenizer.
//
//     mode 1 | pieces 2 | text length 1 | text | file
//
// The bits of `mode`: 1 names of special tokens count, 2 BOS is put first.

#include <stdint.h>

#include "base/error.h"
#include "fuzz_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input in = {data, size};
    const size_t mode = take_number(&in, 1), vocab = take_number(&in, 2);
    const Input text = take_bytes(&in, take_number(&in, 1));
    uint8_t *file = exact_block(in.size);
    memcpy(file, in.data, in.size);
    Error err = {0};
    Tokenizer *t;
    if (tokenizer_open_llama2c_bytes(&t, "fuzz", file, in.size, vocab, &err)) {
        encode_text(t, text, mode & 1, mode & 2, false);
        tokenizer_free(t);
    } else {
        check_error(&err);
    }
    free(file);
    return 0;
}
