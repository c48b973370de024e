// prompt_cache.c - the keys and values of the start of a prompt, in a file. See prompt_cache.h.
//
//     0        128                                          4096 * k
//     | header | tokens, i32 (n_pages, PAGE_POSITIONS) | zeros | page | page | ..
//
// Pages have the same layout in the file and in memory (cache.h), and are aligned, so the cache
// reads them in the mapped file and copies nothing. Keys and values are the same bits on every
// machine, and so is the file. All of it is checked before any of it is used: the checksum covers
// every byte after it, and each field of the header, except the model's name, has only one value
// that fits this model, this program and the size of the file.
#include "batch/prompt_cache.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checksum.h"
#include "base/memory.h"

// Pages begin at a multiple of this: the usual page size of the system's memory, and more than the
// 64 bytes that kernels need.
#define PAGES_ALIGNMENT 4096

// The header in the file, little-endian.
typedef struct {
    uint8_t magic[8];
    uint32_t version;
    uint32_t crc;  // CRC-32 of all bytes of the file after this field
    uint64_t file_bytes;
    uint64_t model;           // checkpoint_fingerprint, its last bit flipped if Cache.long_rope
    uint32_t f16;             // 1: keys and values are f16; 0: f32
    uint32_t page_positions;  // PAGE_POSITIONS
    uint32_t n_layers, n_kv_heads, head_dim;
    uint32_t n_pages;
    uint64_t page_bytes;  // of the keys and values in a page
    char model_name[64];  // file name of the model without its folder, cut to fit, then zeros
} CacheFileHeader;
_Static_assert(offsetof(CacheFileHeader, version) == 8 && offsetof(CacheFileHeader, crc) == 12 &&
                   offsetof(CacheFileHeader, file_bytes) == 16 &&
                   offsetof(CacheFileHeader, model) == 24 && offsetof(CacheFileHeader, f16) == 32 &&
                   offsetof(CacheFileHeader, page_positions) == 36 &&
                   offsetof(CacheFileHeader, n_layers) == 40 &&
                   offsetof(CacheFileHeader, n_kv_heads) == 44 &&
                   offsetof(CacheFileHeader, head_dim) == 48 &&
                   offsetof(CacheFileHeader, n_pages) == 52 &&
                   offsetof(CacheFileHeader, page_bytes) == 56 &&
                   offsetof(CacheFileHeader, model_name) == 64 && sizeof(CacheFileHeader) == 128,
               "the header has 128 bytes, with its fields where the file has them");

// The first byte that the checksum covers.
#define CRC_FROM (offsetof(CacheFileHeader, crc) + sizeof(uint32_t))

// The header that a file for this cache must have, except for the fields that depend on its pages.
static CacheFileHeader make_header(const PromptCache *p, const Cache *cache)
{
    CacheFileHeader h = {.magic = {0x89, 'R', 'U', 'N', 'k', 'v', 0x1a, '\n'},
                         .version = 1,
                         .model = p->model.fingerprint ^ cache->long_rope,
                         .f16 = cache->f16,
                         .page_positions = PAGE_POSITIONS,
                         .n_layers = (uint32_t)cache->n_layers,
                         .n_kv_heads = (uint32_t)cache->n_kv_heads,
                         .head_dim = (uint32_t)cache->head_dim,
                         .page_bytes = cache->page_bytes};
    const char *path = p->model.path, *slash = strrchr(path, '/');
    snprintf(h.model_name, sizeof h.model_name, "%s", slash ? slash + 1 : path);
    return h;
}

// The offsets where the pages begin and the file ends. False if the latter overflows.
static bool file_layout(const Cache *cache, size_t n_pages, size_t *pages, size_t *end)
{
    size_t bytes;
    *pages = round_up(sizeof(CacheFileHeader) + n_pages * PAGE_POSITIONS * sizeof(int32_t),
                      PAGES_ALIGNMENT);
    return size_mul(n_pages, cache->page_bytes, &bytes) && size_add(*pages, bytes, end);
}

// What a user can do about a file that does not fit this run.
#define DELETE_IT "; delete it so that the next run writes a new one, or use another file"

// Checks what a user may have mixed up: the file, the program, the model, or --kv.
static bool check_origin(const PromptCache *p, const CacheFileHeader *h,
                         const CacheFileHeader *expected, Error *err)
{
    static const char *const types[] = {"f32", "f16"};
    if (memcmp(h->magic, expected->magic, sizeof h->magic) != 0) {
        return error_set(err, ERROR_INPUT, "%s: is not a prompt cache", p->path);
    }
    if (h->version != expected->version) {
        return error_set(err, ERROR_INPUT,
                         "%s: is a prompt cache of version %u, expected %u" DELETE_IT, p->path,
                         (unsigned)h->version, (unsigned)expected->version);
    }
    if (h->model == (expected->model ^ 1)) {
        return error_set(
            err, ERROR_INPUT,
            "%s: was made with a --context on the other side of the model's original one, "
            "from where on LongRoPE has other angles" DELETE_IT,
            p->path);
    }
    if (h->model != expected->model) {
        const int length = (int)strnlen(h->model_name, sizeof h->model_name);
        return error_set(
            err, ERROR_INPUT, "%s: was made with another model%s%.*s%s than %s" DELETE_IT, p->path,
            length ? " (" : "", length, h->model_name, length ? ")" : "", p->model.path);
    }
    return h->f16 == expected->f16 || h->f16 > 1 ||
           error_set(err, ERROR_INPUT,
                     "%s: holds keys and values in %s, and this run has them in %s: --kv %s fits "
                     "it" DELETE_IT,
                     p->path, types[h->f16], types[expected->f16], types[h->f16]);
}

// Checks each field of a header that does not depend on the number of pages. Apart from those that
// check_origin looks at, they can be wrong only in a damaged file.
static bool check_cache_header(const PromptCache *p, const Cache *cache, const CacheFileHeader *h,
                               Error *err)
{
    const CacheFileHeader expected = make_header(p, cache);
    if (!check_origin(p, h, &expected, err)) {
        return false;
    }
    const struct {
        const char *name;
        uint64_t found, expected;
    } fields[] = {{"file_bytes", h->file_bytes, p->file.size},
                  {"f16", h->f16, expected.f16},
                  {"page_positions", h->page_positions, expected.page_positions},
                  {"n_layers", h->n_layers, expected.n_layers},
                  {"n_kv_heads", h->n_kv_heads, expected.n_kv_heads},
                  {"head_dim", h->head_dim, expected.head_dim},
                  {"page_bytes", h->page_bytes, expected.page_bytes}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (fields[i].found != fields[i].expected) {
            return error_set(err, ERROR_INPUT,
                             "%s: is damaged: %s is %llu, expected %llu" DELETE_IT, p->path,
                             fields[i].name, (unsigned long long)fields[i].found,
                             (unsigned long long)fields[i].expected);
        }
    }
    return true;
}

// Checks the mapped file, and copies its header to *h. *pages is the offset of its pages.
static bool check_file(const PromptCache *p, const Cache *cache, CacheFileHeader *h, size_t *pages,
                       Error *err)
{
    size_t end;
    if (p->file.size < sizeof *h) {
        return error_set(err, ERROR_INPUT,
                         "%s: is not a prompt cache: has %zu bytes, expected at least %zu", p->path,
                         p->file.size, sizeof *h);
    }
    memcpy(h, p->file.data, sizeof *h);
    if (!check_cache_header(p, cache, h, err)) {
        return false;
    }
    if (!file_layout(cache, h->n_pages, pages, &end) || end != p->file.size) {
        return error_set(
            err, ERROR_INPUT,
            "%s: is damaged: has %zu bytes, which does not match n_pages, %u" DELETE_IT, p->path,
            p->file.size, (unsigned)h->n_pages);
    }
    Crc32 tables;
    crc32_init(&tables);
    const uint32_t crc = crc32_update(&tables, 0, p->file.data + CRC_FROM, p->file.size - CRC_FROM);
    if (crc != h->crc) {
        return error_set(err, ERROR_INPUT, "%s: is damaged: crc is %08x, expected %08x" DELETE_IT,
                         p->path, (unsigned)h->crc, (unsigned)crc);
    }
    return true;
}

// The tokens in the mapped file: (n_tokens).
static const int *file_tokens(const PromptCache *p)
{
    return (const int *)(const void *)(p->file.data + sizeof(CacheFileHeader));
}

bool prompt_cache_open(PromptCache *p, const char *path, CachedModel model, Cache *cache,
                       Error *err)
{
    *p = (PromptCache){.path = path, .model = model, .settled = !path};
    if (!path || (access(path, F_OK) != 0 && errno == ENOENT)) {
        return true;
    }
    CacheFileHeader h = {0};
    size_t pages = 0;
    if (!mapping_open(&p->file, path, err)) {
        return false;
    }
    if (!check_file(p, cache, &h, &pages, err) ||
        !cache_adopt(cache, file_tokens(p), (char *)p->file.address + pages, h.n_pages, err)) {
        prompt_cache_close(p);
        return false;
    }
    p->n_tokens = (size_t)h.n_pages * PAGE_POSITIONS;
    return true;
}

void prompt_cache_close(PromptCache *p)
{
    mapping_close(&p->file);
    *p = (PromptCache){0};
}

// Writes the parts of a file and computes their checksum. After an error it writes nothing more.
typedef struct {
    int fd;
    const char *name;  // of the file, for messages
    Crc32 tables;
    uint32_t crc;  // of what was written so far
    bool ok;
    Error *err;  // the caller's: set if !ok
} CacheFileWriter;

static void write_part(CacheFileWriter *w, const void *data, size_t size)
{
    w->crc = crc32_update(&w->tables, w->crc, data, size);
    w->ok = w->ok && write_all(w->fd, w->name, data, size, w->err);
}

// Writes a file of the first h->n_pages pages of a sequence. The header is written twice: without
// the checksum at first, and again when that is known.
static bool write_file(CacheFileWriter *w, CacheFileHeader *h, const Cache *cache, size_t sequence)
{
    static const uint8_t zeros[PAGES_ALIGNMENT];
    const size_t tokens = PAGE_POSITIONS * sizeof(int32_t);
    const size_t pages = h->file_bytes - h->n_pages * cache->page_bytes;
    crc32_init(&w->tables);
    w->ok = write_all(w->fd, w->name, h, sizeof *h, w->err);
    w->crc = crc32_update(&w->tables, 0, (const uint8_t *)h + CRC_FROM, sizeof *h - CRC_FROM);
    for (size_t i = 0; i < h->n_pages; i++) {
        write_part(w, cache_page_tokens(cache, sequence, i * PAGE_POSITIONS), tokens);
    }
    write_part(w, zeros, pages - sizeof *h - h->n_pages * tokens);
    for (size_t i = 0; i < h->n_pages; i++) {
        write_part(w, cache_page(cache, sequence, i * PAGE_POSITIONS), cache->page_bytes);
    }
    h->crc = w->crc;
    if (w->ok &&
        (lseek(w->fd, 0, SEEK_SET) != 0 || !write_all(w->fd, w->name, h, sizeof *h, w->err))) {
        w->ok = error_set(w->err, ERROR_RUN, "%s: cannot be written: %s", w->name, strerror(errno));
    }
    return w->ok;
}

// The length of the longest common prefix of the file's tokens and the first n of a sequence.
static size_t common_tokens(const PromptCache *p, const Cache *cache, size_t sequence, size_t n)
{
    const size_t most = p->n_tokens < n ? p->n_tokens : n;
    size_t i = 0;
    while (i < most &&
           cache_page_tokens(cache, sequence, i)[i % PAGE_POSITIONS] == file_tokens(p)[i]) {
        i++;
    }
    return i;
}

bool prompt_cache_save(PromptCache *p, const Cache *cache, size_t sequence, size_t n, Error *err)
{
    size_t pages, end;
    if (p->settled) {
        return true;
    }
    CacheFileHeader h = make_header(p, cache);
    h.n_pages = (uint32_t)(n / PAGE_POSITIONS);
    p->settled = true;
    p->n_common = common_tokens(p, cache, sequence, n);
    p->use = h.n_pages ? CACHE_FILE_LEFT : CACHE_FILE_NO_PAGE;
    if (p->n_common >= PAGE_POSITIONS || !h.n_pages ||
        !file_layout(cache, h.n_pages, &pages, &end)) {
        return true;
    }
    h.file_bytes = end;
    NewFile file;
    if (!new_file_create(&file, p->path, err)) {
        return false;
    }
    CacheFileWriter w = {.fd = file.fd, .name = p->path, .err = err};
    const bool written = write_file(&w, &h, cache, sequence);
    const bool ok = new_file_close(&file, written, err) && written;
    p->use = !ok ? CACHE_FILE_LEFT : p->file.data ? CACHE_FILE_REPLACED : CACHE_FILE_WRITTEN;
    return ok;
}
