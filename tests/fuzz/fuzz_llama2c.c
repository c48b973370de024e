// fuzz_llama2c.c - opens llama2.c's three kinds of checkpoint, and runs forward passes of an
// accepted model.
//
//     mode 1 | token 1 | the file's header | contents
//
// If mode is odd, the file gets the length that its header requires, filled by repeating the
// contents; if mode % 4 is 3, the sizes in the header are brought into range first. Otherwise the
// rest of the input is the file.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuzz_model.h"

#define MAGIC    0x616b3432u
#define MAX_FILE ((size_t)1 << 16)

// The length that a file with this header must have; 0 if that is too much to try.
static size_t required_size(const uint8_t *file, size_t size)
{
    const bool v0 = get_u32(file) != MAGIC;
    const uint8_t *fields = v0 ? file : file + 8;
    const size_t header = v0 ? 28 : 256;
    if (size < header) {
        return 0;
    }
    size_t v[7];
    for (size_t i = 0; i < 7; i++) {
        const int32_t value = (int32_t)get_u32(fields + 4 * i);
        v[i] = (size_t)(value < 0 ? -(int64_t)value : value);
        if (v[i] == 0 || v[i] > 4096) {
            return 0;
        }
    }
    const size_t dim = v[0], hidden = v[1], layers = v[2], vocab = v[5], seq_len = v[6];
    const size_t head_dim = dim / v[3], kv_dim = v[4] * head_dim;
    const bool tied = v0 ? (int32_t)get_u32(fields + 20) > 0 : file[36];
    const size_t norms = (2 * layers + 1) * dim;
    const size_t matrices = (tied ? 1 : 2) * vocab * dim +
                            layers * (2 * dim * dim + 2 * kv_dim * dim + 3 * dim * hidden);
    const size_t group = get_u32(file + 4) == 2 && !v0 ? get_u32(file + 37) : 0;
    const size_t total = header + 4 * norms + (v0 ? 4 * seq_len * head_dim : 0) +
                         (group ? matrices + 4 * (matrices / group) : 4 * matrices);
    return total < MAX_FILE ? total : 0;
}

// Brings the sizes in a header into the range of a small model.
static void shrink_header(uint8_t *file)
{
    uint8_t *fields = get_u32(file) != MAGIC ? file : file + 8;
    static const size_t most[] = {8, 60, 3, 3, 3, 50, 128};
    enum { DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCAB, SEQ_LEN, N };
    size_t v[N];
    for (size_t i = 0; i < N; i++) {
        v[i] = 1 + get_u32(fields + 4 * i) % most[i];
    }
    v[HEADS] *= v[KV_HEADS];
    v[DIM] *= 2 * v[HEADS];
    const bool negative = (int32_t)get_u32(fields + 4 * VOCAB) < 0;
    for (size_t i = 0; i < N; i++) {
        put_u32(fields + 4 * i, i == VOCAB && negative ? (size_t)0 - v[i] : v[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input in = {data, size};
    const size_t mode = take_number(&in, 1), token = take_number(&in, 1);
    if (in.size >= 8 && memcmp(in.data, "\x89RUN", 4) == 0) {
        return 0;  // native checkpoints have targets of their own
    }
    const bool has_fields = in.size >= 8 + 7 * 4;
    uint8_t *given = exact_block(in.size);
    if (in.size) {
        memcpy(given, in.data, in.size);
    }
    if (mode % 4 == 3 && has_fields) {
        shrink_header(given);
    }
    const size_t required = mode % 2 && has_fields ? required_size(given, in.size) : 0;
    const size_t length = required ? required : in.size;
    const size_t header = required ? (get_u32(given) == MAGIC ? 256 : 28) : 0;
    const size_t contents = in.size - header;
    uint8_t *file = exact_block(length);
    for (size_t i = 0; i < length; i++) {
        file[i] = i < in.size ? given[i] : contents ? given[header + (i - header) % contents] : 0;
    }
    free(given);
    run_checkpoint(file, length, token);
    return 0;
}
