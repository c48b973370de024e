// cache.h - all that persists between two forward calls: keys and values, the tables of RoPE, the
// mask.
//
// The cache is addressed by (sequence, position), and it alone knows how many tokens of a sequence
// it holds. Keys and values lie in pages of PAGE_POSITIONS positions, allocated as sequences grow.
// Sequences that begin with the same tokens share full pages, found in the prefix cache:
//
//     sequence 0   [page 4]-[page 7]-[page 2        its last page is filling
//     sequence 1   [page 4]-[page 7]-[page 5]-[page 1
//
// A page that no sequence uses any more stays in the prefix cache until its memory is needed: pages
// wait for that in the LRU list, and the least recently used goes first.
#ifndef CACHE_H
#define CACHE_H

#include "base/error.h"
#include "formats/config.h"

// Its fields are at the end of this file. Of these others read the sizes; the rest is cache.c's.
typedef struct Cache Cache;

// --- Life

// A cache of n_sequences empty sequences of up to `context` positions; keys and values are f16 or
// f32. Error: ERROR_RUN without memory.
bool cache_create(Cache *cache, const Config *config, size_t context, size_t n_sequences, bool f16,
                  Error *err);
void cache_free(Cache *cache);

// Pages that so many positions take.
size_t pages_for(size_t positions);

// Bytes that a sequence takes when its context is full; false where that overflows.
bool cache_sequence_bytes(const Config *config, size_t context, bool f16, size_t *bytes);

// Lets the cache have memory for max_pages pages at most (never less than one full sequence takes).
// An append that needs more is an error: the caller sees to it that sequences do not outgrow this
// together.
void cache_limit(Cache *cache, size_t max_pages);

// --- Sequences

// Positions that a sequence holds, 0 .. length - 1: n_past, and the position of its next token.
size_t cache_length(const Cache *cache, size_t sequence);

// Appends `token` to a sequence, and tells its position. The caller then stores its key and value
// for each layer and head (cache_page). Errors: ERROR_INPUT where the context is full; ERROR_RUN
// without memory or where all pages are in use.
bool cache_append(Cache *cache, size_t sequence, int token, size_t *position, Error *err);

// Forgets what a sequence holds beyond its first `length` positions.
void cache_truncate(Cache *cache, size_t sequence, size_t length);

// --- What attention reads and writes

// The page that holds a position of a sequence, page_bytes: for each (layer, kv_head) in turn its
// keys, k_bytes, then its values, v_bytes (layouts in simd/simd.h). And all pages of a sequence.
char *cache_page(const Cache *cache, size_t sequence, size_t position);
void *const *cache_sequence_pages(const Cache *cache, size_t sequence);

// The tokens of a page, PAGE_POSITIONS of them once it is full.
const int *cache_page_tokens(const Cache *cache, size_t sequence, size_t position);

// Bytes from the start of any page to the keys of a head; its values follow k_bytes later.
size_t cache_head_offset(const Cache *cache, size_t layer, size_t kv_head);

// What the query at a position sees: itself and all before it, or as many as the window has.
Visible cache_visible(const Cache *cache, size_t position);

// --- The prefix cache

// Publishes the page that this position completes, once its keys and values are stored: other
// sequences may use it from now on. For a position within a page it does nothing. Where a page of
// the same tokens is published already, the sequence takes that one and frees its own.
void cache_publish(Cache *cache, size_t sequence, size_t position);

// Extends a sequence by published pages: `tokens` (n) are those that the sequence is to have from
// its first position on. Returns its length then, which stays as it was if that is within a page,
// or if no page goes on with these tokens. It is never more than n: a caller that wants the logits
// of the last token keeps that one back.
size_t cache_reuse_prefix(Cache *cache, size_t sequence, const int *tokens, size_t n);

// Publishes pages that lie in the caller's memory: those of a sequence that begins with `tokens`
// (n_pages, PAGE_POSITIONS), page i at data + i * page_bytes, aligned to 64. They are only read,
// must outlive the cache, and do not count against its limit.
bool cache_adopt(Cache *cache, const int *tokens, void *data, size_t n_pages, Error *err);

// --- Fields

#define NO_PAGE SIZE_MAX

// A page, and where it stands: states and transitions are drawn in cache.c.
typedef struct {
    void *data;           // page_bytes of keys and values; the cache's own, unless
    bool borrowed;        // .. they are the caller's (cache_adopt): never written, always published
    size_t n_users;       // sequences that have the page
    uint64_t serial;      // of a published page: its number, never given twice; 0: not published
    uint64_t parent;      // of a published page: the serial of the page before it, 0 for the first
    size_t next;          // in its list (free pages, or a bucket of the prefix cache), or NO_PAGE
    size_t older, newer;  // neighbours in the LRU list, or NO_PAGE
    int tokens[PAGE_POSITIONS];  // of its positions, as far as it is filled
} Page;

typedef struct {
    size_t length;  // positions held
    size_t n_pages;
    void **pages;  // (n_pages): page i, of positions i * PAGE_POSITIONS .., as attention reads them
    size_t *ids;   // (n_pages): the same as indices of Cache.pages
} CachedSequence;

// Arrays are the cache's own.
struct Cache {
    // Sizes, constant but for max_pages (cache_limit).
    size_t n_layers, n_kv_heads, head_dim;
    size_t context;           // positions that a sequence can hold
    size_t window;            // positions that a query sees, itself included; 0: all
    bool f16;                 // type of keys and values: f16 or f32
    size_t k_bytes, v_bytes;  // of one head in a page
    size_t page_bytes;        // n_layers * n_kv_heads * (k_bytes + v_bytes)
    size_t n_sequences;
    size_t max_pages;  // bound on n_owned

    CachedSequence *sequences;  // (n_sequences)
    Page *pages;                // (n_pages): in use or not; borrowed ones included
    size_t n_pages, n_owned;    // n_owned: those that are not borrowed

    size_t free_page, n_free;  // list of free pages
    size_t lru_oldest, lru_newest, n_lru;

    size_t *buckets;       // (n_buckets) the prefix cache, a hash table: first pages, or NO_PAGE
    size_t n_buckets;      // a power of two
    uint64_t last_serial;  // the last that was given

    float *mask;                 // (2 * context + LANES), see cache_visible
    double *rope_frequency;      // (head_dim / 2)
    float *rope_cos, *rope_sin;  // (context, head_dim / 2), of which the first
    size_t n_angles;             // .. positions are filled
};

#endif
