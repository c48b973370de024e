// test_gguf.c - unit tests of the GGUF container (formats/gguf.c) and of rows in the kernels' layout
// (formats/pack.c).
#include <math.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "formats/gguf.h"
#include "formats/pack.h"
#include "unit.h"

// --------------------------------------------------------------------------------------------
// A file, made byte by byte

static void put(Buffer *b, uint64_t value, size_t bytes) { buffer_add(b, &value, bytes); }

static void put_text(Buffer *b, const char *text)
{
    put(b, strlen(text), 8);
    buffer_add_text(b, text);
}

static void put_key(Buffer *b, const char *name, GgufValueType type)
{
    put_text(b, name);
    put(b, type, 4);
}

// Two keys of numbers, one of texts, and two tensors: F32 (2 x 3) at 0 and Q4_0 (32) at 32.
static Buffer small_file(void)
{
    Buffer b = {0};
    const float half = 0.5f;
    buffer_add_text(&b, "GGUF");
    put(&b, 3, 4), put(&b, 2, 8), put(&b, 3, 8);
    put_key(&b, "count", GGUF_I32), put(&b, (uint32_t)-7, 4);
    put_key(&b, "a.real", GGUF_F32), buffer_add(&b, &half, 4);
    put_key(&b, "words", GGUF_ARRAY), put(&b, GGUF_TEXT, 4), put(&b, 2, 8);
    put_text(&b, "one"), put_text(&b, "");
    put_text(&b, "w"), put(&b, 2, 4), put(&b, 2, 8), put(&b, 3, 8), put(&b, 0, 4), put(&b, 0, 8);
    put_text(&b, "q"), put(&b, 1, 4), put(&b, 32, 8), put(&b, 2, 4), put(&b, 32, 8);
    while (b.size % 32) {
        put(&b, 0, 1);
    }
    for (int i = 0; i < 32 + 18; i++) {
        put(&b, (uint64_t)i, 1);
    }
    return b;
}

// Opens a copy that ends where the block of memory ends, so that a sanitizer sees every read past
// it.
static bool opens(const char *data, size_t size, Error *err)
{
    Gguf g;
    uint8_t *copy = malloc(size ? size : 1);
    if (size) {
        memcpy(copy, data, size);
    }
    const bool ok = gguf_open(&g, "file", (Mapping){copy, size, NULL}, err);
    gguf_close(&g);
    free(copy);
    return ok;
}

TEST(test_keys_and_tensors_are_found_by_name)
{
    Buffer b = small_file();
    Error err = {0};
    Gguf g;
    const bool ok = gguf_open(&g, "file", (Mapping){(uint8_t *)b.data, b.size, NULL}, &err);
    CHECK(ok, "%s", err.message);
    if (ok) {
        double count = 0, real = 0;
        const GgufKey *words = gguf_key(&g, "words");
        CHECK(gguf_number(gguf_key(&g, "count"), &count) && count == -7, "count %g", count);
        CHECK(gguf_number(gguf_key(&g, "a.real"), &real) && real == 0.5, "real %g", real);
        CHECK(words && words->array && words->count == 2, "an array of two texts");
        const uint8_t *at = words->data;
        const GgufText one = gguf_take_text(&at), none = gguf_take_text(&at);
        CHECK(one.size == 3 && memcmp(one.data, "one", 3) == 0 && none.size == 0, "\"one\", \"\"");
        CHECK(!gguf_key(&g, "word") && !gguf_tensor(&g, "q.weight"), "no such names");
        const GgufTensor *w = gguf_tensor(&g, "w"), *q = gguf_tensor(&g, "q");
        CHECK(w->bytes == 24 && w->dims[0] == 2 && w->dims[1] == 3 && w->data[5] == 5, "w");
        CHECK(q->bytes == 18 && strcmp(q->type->name, "Q4_0") == 0 && q->data[0] == 32, "q");
    }
    gguf_close(&g);
    buffer_free(&b);
}

TEST(test_every_prefix_of_a_file_is_refused)
{
    Buffer b = small_file();
    for (size_t size = 0; size < b.size; size++) {
        Error err = {0};
        CHECK(!opens(b.data, size, &err) && err.kind == ERROR_INPUT, "%zu bytes: %s", size,
              err.message);
    }
    buffer_free(&b);
}

TEST(test_every_byte_may_be_wrong)
{
    Buffer b = small_file();
    size_t opened = 0;
    for (size_t at = 0; at < b.size; at++) {
        for (int bit = 0; bit < 8; bit++) {
            Error err = {0};
            b.data[at] = (char)(b.data[at] ^ 1 << bit);
            const bool ok = opens(b.data, b.size, &err);
            opened += ok;
            CHECK(ok || err.kind == ERROR_INPUT, "byte %zu: %s", at, err.message);
            b.data[at] = (char)(b.data[at] ^ 1 << bit);
        }
    }
    CHECK(opened > 8 * (32 + 18), "opened %zu: at least those whose values differ", opened);
    buffer_free(&b);
}

// --------------------------------------------------------------------------------------------
// Rows

// Packs 16 equal rows of one block and reads row `row` back. Returns what is wrong with the block.
static const char *repack_block(uint32_t code, const uint8_t *block, float *out, size_t row)
{
    const RowFormat *format = row_format_find(code);
    const void *rows[LANES];
    const char *bad = row_format_check(format, block, format->block_cols);
    size_t bytes;
    matrix_bytes(format->type, LANES, format->block_cols, &bytes);
    uint8_t *group = alloc_zeroed(bytes, 1);
    for (size_t i = 0; i < LANES; i++) {
        rows[i] = block;
    }
    weight_pack(format, rows, format->block_cols, group);
    if (!bad) {
        matrix_row(&(Matrix){format->type, LANES, format->block_cols, group}, row, out);
    }
    free(group);
    return bad;
}

TEST(test_rows_keep_their_values)
{
    // Scale 0.5 (f16 0x3800), values 0 .. 15 and 15 .. 0.
    uint8_t q4[18] = {0, 0x38}, q8[34] = {0, 0x38};
    for (int i = 0; i < 16; i++) {
        q4[2 + i] = (uint8_t)(i | (15 - i) << 4);
    }
    for (int i = 0; i < 32; i++) {
        q8[2 + i] = (uint8_t)(i ? i - 16 : -128);
    }
    float x[32], y[32];
    CHECK(!repack_block(2, q4, x, 3) && !repack_block(8, q8, y, 15), "finite");
    for (int i = 0; i < 32; i++) {
        const int value = i < 16 ? i : 31 - i;
        CHECK(x[i] == 0.5f * (float)(value - 8), "Q4_0 column %d: %g", i, (double)x[i]);
        CHECK(y[i] == 0.5f * (float)(i ? i - 16 : -128), "Q8_0 column %d: %g", i, (double)y[i]);
    }
}

// The scales of these formats become products, or are powers of two, that f16 may not have.
TEST(test_scales_that_the_other_type_cannot_hold_are_named)
{
    static uint8_t iq4_xs[136], q2_k[84], mxfp4[17];
    static const struct {
        uint32_t code;
        uint8_t *block, *byte, held, beyond;            // one byte with two values
    } cases[] = {{23, iq4_xs, iq4_xs + 1, 0x67, 0x68},  // 1792 or 2048 times -32
                 {10, q2_k, q2_k + 0, 0x10, 0x20},      // 1 or 2 times -32768
                 {39, mxfp4, mxfp4, 143, 144}};         // 2^15 or 2^16
    float x[SUPERBLOCK];
    q2_k[83] = 0x78;  // 32768
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        *cases[i].byte = cases[i].held;
        const char *bad = repack_block(cases[i].code, cases[i].block, x, 0);
        CHECK(!bad, "type %u: %s", cases[i].code, bad ? bad : "accepted");
        *cases[i].byte = cases[i].beyond;
        bad = repack_block(cases[i].code, cases[i].block, x, 0);
        CHECK(bad && strstr(bad, "65504"), "type %u: %s", cases[i].code, bad ? bad : "accepted");
    }
}

TEST(test_f16_values_are_exact)
{
    static const struct {
        uint16_t bits;
        float value;
    } cases[] = {{0x0000, 0},        {0x3c00, 1},         {0xc000, -2},
                 {0x7bff, 65504},    {0x0001, 0x1p-24f},  {0x83ff, -0x3ffp-24f},
                 {0x0400, 0x1p-14f}, {0x3555, 0x555p-12f}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[2];
        memcpy(bytes, &cases[i].bits, sizeof bytes);
        const float value = row_value(row_format_find(1), bytes, 0);
        CHECK(value == cases[i].value, "%04x: %g", cases[i].bits, (double)value);
    }
}

TEST(test_what_is_not_finite_is_named)
{
    uint8_t q4[18] = {0, 0x7c}, q41[20] = {0, 0x3c, 1, 0xfc};
    const float nan = NAN;
    uint8_t f32[4];
    float x[32];
    memcpy(f32, &nan, sizeof f32);
    const char *bad[] = {repack_block(2, q4, x, 0), repack_block(3, q41, x, 0),
                         repack_block(0, f32, x, 0)};
    CHECK(bad[0] && strstr(bad[0], "scale"), "Q4_0: %s", bad[0] ? bad[0] : "none");
    CHECK(bad[1] && strstr(bad[1], "scale"), "Q4_1: %s", bad[1] ? bad[1] : "none");
    CHECK(bad[2] && strstr(bad[2], "value"), "F32: %s", bad[2] ? bad[2] : "none");
}

int main(int argc, char **argv)
{
    return unit_main(argc, argv,
                     (UnitTest[]){UNIT(test_keys_and_tensors_are_found_by_name),
                                  UNIT(test_every_prefix_of_a_file_is_refused),
                                  UNIT(test_every_byte_may_be_wrong),
                                  UNIT(test_rows_keep_their_values),
                                  UNIT(test_scales_that_the_other_type_cannot_hold_are_named),
                                  UNIT(test_f16_values_are_exact),
                                  UNIT(test_what_is_not_finite_is_named),
                                  {0}});
}
