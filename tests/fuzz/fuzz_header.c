// fuzz_header.c - opens a native checkpoint, made of an input as fuzz_native.h describes but
// without contents, and walks its tensors. It computes nothing with them, and so tries many more
// files than fuzz_checkpoint.c.

#include "base/error.h"
#include "base/files.h"
#include "formats/row_major.h"
#include "fuzz_native.h"
#include "model.h"

// Checks that these bytes lie within the file.
static void check_place(const NativeFile *file, const void *data, size_t size)
{
    const uint8_t *p = data;
    FUZZ_CHECK(p >= file->data && p <= file->data + file->size &&
                   size <= (size_t)(file->data + file->size - p),
               "%zu bytes", size);
}

static void check_tensor(const NativeFile *file, const Tensor *t)
{
    size_t bytes = t->bytes;
    const Matrix *m = &t->matrix;
    if (t->rows) {
        FUZZ_CHECK(!m->data && row_major_bytes(m->type, m->rows, m->cols, &bytes), "%s", t->name);
    }
    check_place(file, t->rows ? t->rows : m->data, bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input in = {data, size};
    const size_t mode = take_number(&in, 1), token = take_number(&in, 1);
    const NativeFile file = native_file(mode, token, in, false);
    if (file.size < 4 || memcmp(file.data, "\x89RUN", 4) != 0) {
        free(file.data);
        return 0;  // llama2.c's checkpoints have a target of their own
    }
    Error err = {0};
    Checkpoint c;
    Model m = {0};
    if (checkpoint_open_mapping(&c, "fuzz", (Mapping){file.data, file.size, NULL}, 1, &err)) {
        for (size_t i = 0; i < c.n_tensors; i++) {
            check_tensor(&file, &c.tensors[i]);
        }
        check_place(&file, c.tokenizer.data, c.tokenizer.size);
        fuzz_count("inputs that were opened");
        if (!c.config.vocab_only && !model_create(&m, &c, &err)) {
            check_error(&err);
        }
        model_free(&m);
        checkpoint_close(&c);
    } else {
        check_error(&err);
    }
    free(file.data);
    return 0;
}
