// fuzz_convert.c - converts a GGUF file, made of an input as fuzz_gguf.h describes, to a native
// checkpoint. What was written must open and have the tensors that the source had.

#include <stdbool.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/files.h"
#include "formats/checkpoint.h"
#include "formats/convert.h"
#include "fuzz_gguf.h"

// The file that is written, used again for each input.
static FILE *written_file(void)
{
    static FILE *file;
    file = file ? file : tmpfile();
    FUZZ_CHECK(file && ftruncate(fileno(file), 0) == 0 && lseek(fileno(file), 0, SEEK_SET) == 0,
               "a temporary file");
    return file;
}

// Opens what was written and compares it.
static void check_written(Checkpoint *source, Buffer *written)
{
    Error err = {0};
    Checkpoint c;
    uint8_t *block = exact_block(written->size);
    memcpy(block, written->data, written->size);
    const Mapping file = {block, written->size, NULL};
    FUZZ_CHECK(checkpoint_open_mapping(&c, "written", file, 1, &err) &&
                   checkpoint_verify(&c, 1, &err),
               "%s", err.message);
    FUZZ_CHECK(c.n_tensors == source->n_tensors, "%zu tensors", c.n_tensors);
    if (!checkpoint_load(source, 1, NULL, &err)) {
        FUZZ_CHECK(err.kind == ERROR_RUN, "%s", err.message);
    } else {
        for (size_t i = 0; i < c.n_tensors; i++) {
            const Tensor *a = &source->tensors[i], *b = &c.tensors[i];
            FUZZ_CHECK(strcmp(a->name, b->name) == 0 && a->bytes == b->bytes &&
                           memcmp(a->matrix.data, b->matrix.data, a->bytes) == 0,
                       "%s", a->name);
        }
    }
    checkpoint_close(&c);
    free(block);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input in = {data, size};
    const size_t mode = take_number(&in, 1), token = take_number(&in, 1);
    size_t file_size;
    uint8_t *file = gguf_file(mode, token, in, &file_size);
    Error err = {0};
    Checkpoint c;
    if (file_size >= 4 && memcmp(file, "GGUF", 4) == 0 &&
        checkpoint_open_mapping(&c, "fuzz", (Mapping){file, file_size, NULL}, 1, &err)) {
        Buffer written = {0};
        const Conversion v = {.provenance = c.provenance,
                              .tokenizer = c.tokenizer,
                              .type = KEEP_TYPE,
                              .head_type = KEEP_TYPE,
                              .threads = 1};
        const int fd = fileno(written_file());
        if (checkpoint_convert(&c, &v, fd, "written", &err)) {
            fuzz_count("inputs that were converted");
            FUZZ_CHECK(lseek(fd, 0, SEEK_SET) == 0 &&
                           read_all(fd, "written", SIZE_MAX / 2, &written, &err),
                       "%s", err.message);
            check_written(&c, &written);
        } else {
            check_error(&err);
        }
        buffer_free(&written);
        checkpoint_close(&c);
    } else if (err.kind) {
        check_error(&err);
    }
    free(file);
    return 0;
}
