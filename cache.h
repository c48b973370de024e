// cache.h - all that persists between two forward calls: keys and values, the RoPE tables, the
// mask.
//
// The cache is addressed by (sequence, position), and is the only place that stores the length of a
// sequence. Keys and values are in pages of PAGE_POSITIONS positions, allocated as sequences grow.
// Sequences that begin with the same tokens share full pages, found in the prefix cache:
//
//     sequence 0   [page 4]-[page 7]-[page 2        its last page is filling
//     sequence 1   [page 4]-[page 7]-[page 5]-[page 1
//
// A full page that no sequence uses any more stays in the prefix cache and enters the LRU list.
// When no page is free and the cache may not grow, the least recently used one is evicted.
// Sequences whose common tokens end within a page cannot share that page, but one can start with a
// copy of it, which costs less than running its tokens.
#ifndef CACHE_H
#define CACHE_H

#include "base/error.h"
#include "formats/config.h"

// Its fields are at the end of this file. Other files read only the sizes and the RoPE tables; the
// rest is private to cache.c.
typedef struct Cache Cache;

// --- Creating and freeing

// A cache of n_sequences empty sequences of up to `context` positions; keys and values are f16 or
// f32. Error: ERROR_RUN if out of memory.
bool cache_create(Cache *cache, const Config *config, size_t context, size_t n_sequences, bool f16,
                  Error *err);
void cache_free(Cache *cache);

// How many pages that many positions take.
size_t pages_for(size_t positions);

// Bytes that a sequence takes when its context is full; false if that overflows.
bool cache_sequence_bytes(const Config *config, size_t context, bool f16, size_t *bytes);

// Limits the cache to the memory of max_pages pages (but never less than one full sequence takes).
// An append that needs more is an error: the caller must keep the sequences together within the
// limit. To be called before the first append: pages that exist are not freed.
void cache_limit(Cache *cache, size_t max_pages);

// How many pages sequences can still take before an append fails, unless memory runs out.
size_t cache_spare_pages(const Cache *cache);

// --- Sequences

// Positions that a sequence holds, 0 .. length - 1: n_past, and the position of its next token.
size_t cache_length(const Cache *cache, size_t sequence);

// Appends `token` to a sequence and sets *position to its position. The caller then stores its key
// and value for each layer and head (cache_page). Errors: ERROR_INPUT if the context is full;
// ERROR_RUN if out of memory or if all pages are in use.
bool cache_append(Cache *cache, size_t sequence, int token, size_t *position, Error *err);

// Cuts a sequence to its first `length` positions.
void cache_truncate(Cache *cache, size_t sequence, size_t length);

// Empties a sequence whose positions have all been run, and publishes its last page though it is
// not full, for cache_copy_prefix. Only the last RETIRED_PAGES such pages are kept.
void cache_retire(Cache *cache, size_t sequence);

// --- What attention reads and writes

// The page that holds a position of a sequence (page_bytes). For each (layer, kv_head) in turn it
// has the keys (k_bytes), then the values (v_bytes); simd/simd.h has their layouts.
char *cache_page(const Cache *cache, size_t sequence, size_t position);
// All pages of a sequence, in order.
void *const *cache_sequence_pages(const Cache *cache, size_t sequence);

// The tokens of a page, PAGE_POSITIONS of them once it is full.
const int *cache_page_tokens(const Cache *cache, size_t sequence, size_t position);

// Bytes from the start of a page to the keys of a head; its values follow k_bytes later.
size_t cache_head_offset(const Cache *cache, size_t layer, size_t kv_head);

// What the query at a position sees in a layer: itself and all positions before it, or, if the layer
// has the window, those in it.
Visible cache_visible(const Cache *cache, size_t layer, size_t position);

// The cosines and sines of one RoPE set.
typedef struct {
    size_t rotary_dim;  // dimensions of a head that are rotated
    double *frequency;  // (rotary_dim / 2)
    double factor;      // by which cosines and sines are multiplied
    float *cos, *sin;   // (context, rotary_dim / 2), of which the cache fills as many positions as
                        // its longest sequence has
} RopeTable;

// The table by which a layer rotates queries and keys; NULL if it does not.
const RopeTable *cache_rope(const Cache *cache, size_t layer);

// --- The prefix cache

// Publishes the page that this position completes, once its keys and values are stored: other
// sequences may use it from now on. Does nothing if the position does not complete a page. If a
// page with the same prefix is already published, the sequence takes that one and frees its own.
void cache_publish(Cache *cache, size_t sequence, size_t position);

// Extends a sequence with published pages: `tokens` (n) are the tokens that the sequence will have,
// from its first position. Returns its new length, which does not change if it is within a page or
// if no page continues with these tokens. It is never more than n: a caller that wants the logits
// of the last token holds that token back.
size_t cache_reuse_prefix(Cache *cache, size_t sequence, const int *tokens, size_t n);

// Extends a sequence whose last page is full by a part of a page: a copy of the published page that
// begins with the most of the sequence's next tokens, among the pages published last. Arguments and
// result as for cache_reuse_prefix, which is called first.
size_t cache_copy_prefix(Cache *cache, size_t sequence, const int *tokens, size_t n);

// Extends a sequence that ends with a page to `length` positions within its next page, by a copy of
// that page of another sequence: one that is at least as long and has the same tokens up to there.
// So a prompt that both have is shared to its last token, not only in full pages. False if there is
// no memory for a page; then the sequence stays as it was.
bool cache_copy_page(Cache *cache, size_t sequence, size_t from, size_t length);

// Publishes pages in the caller's memory: those of a sequence that begins with `tokens`
// (n_pages, PAGE_POSITIONS), page i at data + i * page_bytes, aligned to 64. They are only read,
// must outlive the cache, and do not count towards its limit. Error: ERROR_RUN if out of memory.
bool cache_adopt(Cache *cache, const int *tokens, void *data, size_t n_pages, Error *err);

// --- Fields

#define NO_PAGE SIZE_MAX

// Stands for the token of a position that is not filled.
#define UNFILLED (-1)

// Pages of ended sequences that are kept though not full: a few for each running request.
#define RETIRED_PAGES 128

// A page and its state; cache.c has a drawing of the states.
typedef struct {
    void *data;           // page_bytes of keys and values; owned by the cache, unless
    bool borrowed;        // .. the caller owns them (cache_adopt): never written, always published
    size_t n_users;       // sequences that have the page
    uint64_t serial;      // of a published page: its number, never reused; 0: not published
    uint64_t parent;      // of a published page: the serial of the page before it, 0 for the first
    size_t next;          // in its list (free pages, or a bucket of the prefix cache), or NO_PAGE
    size_t older, newer;  // neighbours in the LRU list, or NO_PAGE
    // The child of this page that was published last, and the child of this page's parent that was
    // published before it. NO_PAGE if there is none; the page may have been evicted since.
    size_t newest_child, older_sibling;
    int tokens[PAGE_POSITIONS];  // of its positions, as far as it is filled, then, if it is
                                 // published, UNFILLED
} Page;

typedef struct {
    size_t id;
    uint64_t serial;  // 0: none; if the page's own differs, it has been evicted since
} RetiredPage;

typedef struct {
    size_t length;  // positions held
    size_t n_pages;
    void **pages;  // (n_pages): page i, from position i * PAGE_POSITIONS, as attention reads it
    size_t *ids;   // (n_pages): the same pages as indices into Cache.pages
} CachedSequence;

// The cache owns all arrays.
struct Cache {
    // Sizes, constant except for max_pages (cache_limit).
    size_t n_layers, n_kv_heads, head_dim;
    size_t rotary_dim;     // dimensions of a head that RoPE rotates
    bool long_rope;        // this context has other angles than the model's original one (LongRoPE)
    size_t context;        // positions that a sequence can hold
    size_t window;         // positions that a query sees, itself included; 0: all ..
    uint8_t *layer_flags;  // (n_layers): .. which some layers do anyway, see Config
    bool f16;              // type of keys and values: f16 or f32
    size_t k_bytes, v_bytes;  // of one head in a page
    size_t page_bytes;        // n_layers * n_kv_heads * (k_bytes + v_bytes)
    size_t n_sequences;
    size_t max_pages;  // bound on n_owned

    CachedSequence *sequences;  // (n_sequences)
    Page *pages;                // (n_pages): in use or not, including borrowed ones
    size_t n_pages, n_owned;    // n_owned: those that are not borrowed

    size_t free_page, n_free;  // list of free pages
    size_t lru_oldest, lru_newest, n_lru;

    size_t *buckets;       // (n_buckets) the prefix cache, a hash table: first pages, or NO_PAGE
    size_t n_buckets;      // a power of two
    uint64_t last_serial;  // the last one assigned
    size_t newest_first;   // as Page.newest_child, of those without a parent
    RetiredPage retired[RETIRED_PAGES];  // a ring
    size_t next_retired;                 // its oldest

    // (2 * context + LANES) each, see fill_mask; filled if some layer needs it
    float *mask, *window_mask;
    RopeTable rope[2];  // that of the model; and that of layers with the window, if it differs
    size_t n_ropes;     // 1 or 2
    size_t n_angles;    // positions that are filled in their cosines and sines
};

#endif
