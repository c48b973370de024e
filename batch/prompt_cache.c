// prompt_cache.c - the keys and values of a prompt's beginning, kept in a file.
//
//     header 128 | tokens, i32 (n_pages, PAGE_POSITIONS) | zeros to 4096 | page | page | ...
//
// Pages lie in the file as they do in memory (model.h) and are used where they are mapped. Since
// arithmetic is the same bits everywhere, so is the file, whichever machine wrote it. All of it is
// checked before anything is used: the checksum covers every byte after it, and each field of the
// header has one value that fits this model and this program.
#include "batch/prompt_cache.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checksum.h"
#include "base/memory.h"

#define PAGES_ALIGNMENT 4096

// The header as it lies in the file, little-endian.
typedef struct {
    uint8_t magic[8];
    uint32_t version;
    uint32_t crc;  // of all bytes after this field
    uint64_t file_bytes;
    uint64_t model;  // checkpoint_fingerprint
    uint32_t f16;    // 1: keys and values are f16, 0: f32
    uint32_t page_positions;
    uint32_t n_layers, n_kv_heads, head_dim;
    uint32_t n_pages;
    uint64_t page_bytes;
    uint8_t zeros[64];
} Header;
_Static_assert(sizeof(Header) == 128, "the header has 128 bytes");

#define CRC_FROM (offsetof(Header, crc) + sizeof(uint32_t))

static Header make_header(const PromptCache *p, const Cache *cache)
{
    return (Header){.magic = {0x89, 'R', 'U', 'N', 'k', 'v', 0x1a, '\n'},
                    .version = 1,
                    .model = p->model,
                    .f16 = cache->f16,
                    .page_positions = PAGE_POSITIONS,
                    .n_layers = (uint32_t)cache->n_layers,
                    .n_kv_heads = (uint32_t)cache->n_kv_heads,
                    .head_dim = (uint32_t)cache->head_dim,
                    .page_bytes = cache->page_bytes};
}

// Where the pages begin, and where the file ends.
static bool file_layout(const Cache *cache, size_t n_pages, size_t *pages, size_t *end)
{
    size_t bytes;
    *pages = round_up(sizeof(Header) + n_pages * PAGE_POSITIONS * sizeof(int32_t), PAGES_ALIGNMENT);
    return size_mul(n_pages, cache->page_bytes, &bytes) && size_add(*pages, bytes, end);
}

static bool check_file(const PromptCache *p, const Cache *cache, Header *h, size_t *pages,
                       Error *err)
{
    const Header want = make_header(p, cache);
    size_t end;
    if (p->file.size < sizeof *h) {
        return error_set(err, ERROR_INPUT,
                         "%s: has %zu bytes: not a prompt cache, whose header alone has %zu",
                         p->path, p->file.size, sizeof *h);
    }
    memcpy(h, p->file.data, sizeof *h);
    if (memcmp(h->magic, want.magic, sizeof h->magic) != 0) {
        return error_set(err, ERROR_INPUT, "%s: is not a prompt cache", p->path);
    }
    const struct {
        const char *name;
        uint64_t found, wanted;
    } fields[] = {{"version", h->version, want.version},
                  {"file_bytes", h->file_bytes, p->file.size},
                  {"model", h->model, want.model},
                  {"f16", h->f16, want.f16},
                  {"page_positions", h->page_positions, want.page_positions},
                  {"n_layers", h->n_layers, want.n_layers},
                  {"n_kv_heads", h->n_kv_heads, want.n_kv_heads},
                  {"head_dim", h->head_dim, want.head_dim},
                  {"page_bytes", h->page_bytes, want.page_bytes}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (fields[i].found != fields[i].wanted) {
            return error_set(err, ERROR_INPUT,
                             "%s: %s is %llu, expected %llu: damaged, or of another model or --kv",
                             p->path, fields[i].name, (unsigned long long)fields[i].found,
                             (unsigned long long)fields[i].wanted);
        }
    }
    if (!file_layout(cache, h->n_pages, pages, &end) || end != p->file.size) {
        return error_set(err, ERROR_INPUT, "%s: has %zu bytes, not those of n_pages, %u", p->path,
                         p->file.size, (unsigned)h->n_pages);
    }
    Crc32 tables;
    crc32_init(&tables);
    const uint32_t crc = crc32_update(&tables, 0, p->file.data + CRC_FROM, p->file.size - CRC_FROM);
    if (crc != h->crc) {
        return error_set(err, ERROR_INPUT, "%s: crc is %08x, expected %08x: the file is damaged",
                         p->path, (unsigned)h->crc, (unsigned)crc);
    }
    return true;
}

bool prompt_cache_open(PromptCache *p, const char *path, uint64_t model, Cache *cache, Error *err)
{
    *p = (PromptCache){.path = path, .model = model, .settled = !path};
    if (!path || (access(path, F_OK) != 0 && errno == ENOENT)) {
        return true;
    }
    Header h = {0};
    size_t pages = 0;
    if (!mapping_open(&p->file, path, err)) {
        return false;
    }
    if (!check_file(p, cache, &h, &pages, err) ||
        !cache_adopt(cache, (const int *)(const void *)(p->file.data + sizeof h),
                     (char *)p->file.address + pages, h.n_pages, err)) {
        prompt_cache_close(p);
        return false;
    }
    return true;
}

void prompt_cache_close(PromptCache *p)
{
    mapping_close(&p->file);
    *p = (PromptCache){0};
}

typedef struct {
    int fd;
    const char *name;
    Crc32 tables;
    uint32_t crc;  // of what was put so far
} Writer;

static bool put(Writer *w, const void *data, size_t size, Error *err)
{
    w->crc = crc32_update(&w->tables, w->crc, data, size);
    return write_all(w->fd, w->name, data, size, err);
}

// Writes a whole file of the first h->n_pages of a sequence; the header last, with the checksum.
static bool write_file(Writer *w, Header *h, const Cache *cache, const CachedSequence *s,
                       size_t pages, Error *err)
{
    static const uint8_t zeros[PAGES_ALIGNMENT];
    const size_t tokens = PAGE_POSITIONS * sizeof(int32_t);
    crc32_init(&w->tables);
    w->crc = crc32_update(&w->tables, 0, (const uint8_t *)h + CRC_FROM, sizeof *h - CRC_FROM);
    bool ok = write_all(w->fd, w->name, h, sizeof *h, err);
    for (size_t i = 0; ok && i < h->n_pages; i++) {
        ok = put(w, cache->pages[s->ids[i]].tokens, tokens, err);
    }
    ok = ok && put(w, zeros, pages - sizeof *h - h->n_pages * tokens, err);
    for (size_t i = 0; ok && i < h->n_pages; i++) {
        ok = put(w, s->pages[i], cache->page_bytes, err);
    }
    h->crc = w->crc;
    if (ok && (lseek(w->fd, 0, SEEK_SET) != 0 || !write_all(w->fd, w->name, h, sizeof *h, err) ||
               fsync(w->fd) != 0)) {
        ok = error_set(err, ERROR_RUN, "%s: cannot be written: %s", w->name, strerror(errno));
    }
    return ok;
}

bool prompt_cache_save(PromptCache *p, const Cache *cache, size_t sequence, size_t n, size_t shared,
                       Error *err)
{
    Header h = make_header(p, cache);
    size_t pages, end;
    h.n_pages = (uint32_t)(n / PAGE_POSITIONS);
    if (p->settled || shared || !h.n_pages || !file_layout(cache, h.n_pages, &pages, &end)) {
        p->settled = true;
        return true;
    }
    p->settled = true;
    h.file_bytes = end;
    char *temporary;
    Writer w = {.fd = create_beside(p->path, &temporary, err), .name = p->path};
    if (w.fd < 0) {
        return false;
    }
    bool ok = write_file(&w, &h, cache, &cache->sequences[sequence], pages, err);
    close(w.fd);
    if (ok && rename(temporary, p->path) != 0) {
        ok = error_set(err, ERROR_RUN, "%s: cannot be replaced: %s", p->path, strerror(errno));
    }
    if (!ok) {
        unlink(temporary);
    }
    free(temporary);
    return ok;
}
