// fuzz_prompt_cache.c - the file of a prompt cache, opened and then read as a forward pass reads
// it.
//
//     mode 1 | pages 1 | cut 2 | patches (offset 2, byte 1) x n | bytes of tokens and pages,
//     repeated
//
// A valid file is made, then patched. The bits of `mode`: 1 the checksum stays that of the valid
// file, 2 the last `cut` bytes are missing, 4 keys and values are f16, 8 what was read is written
// again and has to give the same file; the upper half is n. The program maps files, so the bytes go
// to one, which has no name.
#include <unistd.h>

#include "base/buffer.h"
#include "base/checksum.h"
#include "base/error.h"
#include "base/files.h"
#include "batch/prompt_cache.h"
#include "fuzz.h"

enum { CONTEXT = 128, PAGES_AT = 4096, CRC_AT = 12, HEADER = 128 };
#define MODEL UINT64_C(0x0123456789abcdef)

static char path[64];

static void write_whole(const uint8_t *data, size_t size)
{
    static int file = -1;
    if (file < 0) {
        char name[] = "/tmp/fuzz_prompt_cache.XXXXXX";
        file = mkstemp(name);
        unlink(name);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    FUZZ_CHECK(ftruncate(file, 0) == 0 && pwrite(file, data, size, 0) == (ssize_t)size, "%s", path);
}

static void put_crc(uint8_t *data, size_t size)
{
    if (size < HEADER) {
        return;
    }
    Crc32 tables;
    crc32_init(&tables);
    put_u32(data + CRC_AT, crc32_update(&tables, 0, data + CRC_AT + 4, size - CRC_AT - 4));
}

// A valid file with n_pages pages, whose contents come from the input.
static uint8_t *make_file(const Cache *cache, size_t n_pages, Input in, size_t *size)
{
    static const uint8_t magic[8] = {0x89, 'R', 'U', 'N', 'k', 'v', 0x1a, '\n'};
    const uint64_t model = MODEL, page_bytes = cache->page_bytes;
    const size_t tokens = n_pages * PAGE_POSITIONS * sizeof(int32_t);
    *size = PAGES_AT + n_pages * cache->page_bytes;
    uint8_t *data = exact_block(*size);
    memset(data, 0, *size);
    for (size_t i = 0; in.size && i < tokens; i++) {
        data[HEADER + i] = in.data[i % in.size];
    }
    for (size_t i = PAGES_AT; in.size && i < *size; i++) {
        data[i] = in.data[i % in.size];
    }
    memcpy(data, magic, sizeof magic);
    put_u32(data + 8, 1);
    put_u32(data + 16, *size);  // and zeros above
    memcpy(data + 24, &model, sizeof model);
    const size_t fields[] = {cache->f16,        PAGE_POSITIONS,  cache->n_layers,
                             cache->n_kv_heads, cache->head_dim, n_pages};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        put_u32(data + 32 + 4 * i, fields[i]);
    }
    memcpy(data + 56, &page_bytes, sizeof page_bytes);
    put_crc(data, *size);
    return data;
}

// Writes the pages that sequence 0 has to another file, which has to be the same, byte for byte.
static void write_again(const Cache *cache, size_t n_pages, const uint8_t *right, size_t size)
{
    char name[] = "/tmp/fuzz_prompt_cache.XXXXXX";
    const int file = mkstemp(name);
    FUZZ_CHECK(file >= 0 && close(file) == 0, "%s", name);
    PromptCache p = {.path = name, .model = {"", MODEL}};
    Error err = {0};
    Buffer written = {0};
    FUZZ_CHECK(prompt_cache_save(&p, cache, 0, n_pages * PAGE_POSITIONS, &err), "%s", err.message);
    FUZZ_CHECK(p.use == CACHE_FILE_WRITTEN, "%d", (int)p.use);
    FUZZ_CHECK(p.settled && read_file(name, SIZE_MAX, &written, &err), "%s", err.message);
    FUZZ_CHECK(written.size == size && memcmp(written.data, right, size) == 0, "%zu bytes, %zu",
               written.size, size);
    buffer_free(&written);
    unlink(name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input in = {data, size};
    Error err = {0};
    Cache cache = {0};
    PromptCache p = {0};
    const Config config = {.dim = 4,
                           .hidden_dim = 4,
                           .n_layers = 2,
                           .n_heads = 2,
                           .n_kv_heads = 2,
                           .head_dim = 2,
                           .vocab_size = 256,
                           .context_length = CONTEXT,
                           .rope_theta = 10000};
    const size_t mode = take_number(&in, 1), n_pages = take_number(&in, 1) % 6,
                 cut = take_number(&in, 2);
    const Input patches = take_bytes(&in, 3 * (mode >> 4));
    FUZZ_CHECK(cache_create(&cache, &config, CONTEXT, 1, mode & 4, &err), "%s", err.message);

    uint8_t *bytes = make_file(&cache, n_pages, in, &size);
    uint8_t *right = exact_block(size);
    memcpy(right, bytes, size);
    for (size_t i = 0; i + 3 <= patches.size; i += 3) {
        const size_t at = (patches.data[i] | (size_t)patches.data[i + 1] << 8) % size;
        bytes[at] = patches.data[i + 2];
    }
    const bool same = memcmp(bytes, right, size) == 0;
    const size_t missing = !(mode & 2) ? 0 : cut < size ? cut : size;
    if (!(mode & 1)) {
        put_crc(bytes, size - missing);
    }
    write_whole(bytes, size - missing);

    if (prompt_cache_open(&p, path, (CachedModel){"", MODEL}, &cache, &err)) {
        fuzz_count("inputs that were opened");
        FUZZ_CHECK(!missing, "a file of which %zu bytes are missing", missing);
        const int *tokens = (const int *)(const void *)(bytes + HEADER);
        const size_t length = cache_reuse_prefix(&cache, 0, tokens, n_pages * PAGE_POSITIONS);
        const size_t most = n_pages * PAGE_POSITIONS < CONTEXT ? n_pages * PAGE_POSITIONS : CONTEXT;
        FUZZ_CHECK(length == most, "%zu of %zu positions", length, most);
        for (size_t i = 0; i * PAGE_POSITIONS < length; i++) {
            const uint8_t *page = bytes + PAGES_AT + i * cache.page_bytes;
            const char *found = cache_page(&cache, 0, i * PAGE_POSITIONS);
            FUZZ_CHECK(memcmp(found, page, cache.page_bytes) == 0, "page %zu", i);
        }
        if (mode & 8 && same && n_pages && length == n_pages * PAGE_POSITIONS) {
            write_again(&cache, n_pages, right, size);
        }
    } else {
        FUZZ_CHECK(missing || !same, "%s", err.message);
        check_error(&err);
    }
    cache_free(&cache);
    prompt_cache_close(&p);
    free(right);
    free(bytes);
    return 0;
}
