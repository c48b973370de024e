// fuzz_gguf.c - opens a GGUF file, which is the input itself, walks its keys and tensors, and reads
// its tokenizer. It computes nothing with them, and so tries many more files than fuzz_gguf_model.c.

#include "base/buffer.h"
#include "base/error.h"
#include "base/files.h"
#include "formats/gguf.h"
#include "formats/gguf_vocabulary.h"
#include "fuzz.h"
#include "tokenizer.h"

// Checks that these bytes lie within the file.
static void check_place(Input file, const void *data, size_t size)
{
    const uint8_t *p = data;
    FUZZ_CHECK(p >= file.data && p <= file.data + file.size &&
                   size <= (size_t)(file.data + file.size - p),
               "%zu bytes", size);
}

static void walk(const Gguf *g, Input file)
{
    for (size_t i = 0; i < g->n_keys; i++) {
        const GgufKey *k = &g->keys[i];
        const uint8_t *at = k->data;
        check_place(file, k->name.data, k->name.size);
        for (size_t n = 0; n < k->count; n++) {
            if (k->type == GGUF_TEXT) {
                const GgufText text = gguf_take_text(&at);
                check_place(file, text.data, text.size);
            } else {
                (void)gguf_element(k, n);
            }
        }
    }
    for (size_t i = 0; i < g->n_tensors; i++) {
        check_place(file, g->tensors[i].name.data, g->tensors[i].name.size);
        check_place(file, g->tensors[i].data, g->tensors[i].bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *block = exact_block(size);
    if (size) {
        memcpy(block, data, size);
    }
    Error err = {0};
    Gguf g;
    if (gguf_open(&g, "fuzz", (Mapping){block, size, NULL}, &err)) {
        fuzz_count("inputs that were opened");
        walk(&g, (Input){block, size});
        Buffer section = {0};
        size_t vocab_size = 0;
        Tokenizer *t;
        if (!gguf_read_vocabulary(&g, &vocab_size, &section, &err)) {
            check_error(&err);
        } else if (tokenizer_open_section(&t, "fuzz", (const uint8_t *)section.data, section.size,
                                          vocab_size, &err)) {
            tokenizer_free(t);
        } else {
            check_error(&err);
        }
        buffer_free(&section);
        gguf_close(&g);
    } else {
        check_error(&err);
    }
    free(block);
    return 0;
}
