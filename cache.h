// cache.h - the one owner of all that persists between two forward calls.
#ifndef CACHE_H
#define CACHE_H

#include "base/error.h"
#include "formats/checkpoint.h"

// PAGE_POSITIONS positions of one sequence or, as far as their beginnings are the same tokens, of
// several. A page is in one of four states:
//
//     n_users  serial
//        0       0     free: in the list of free pages
//        1       0     filling: the last page of one sequence
//       1 ..    1 ..   published: full, and found by its tokens (cache_reuse_prefix)
//        0      1 ..   kept: published, used by no sequence at present; in the list of kept pages
typedef struct {
    void *data;       // page_bytes of keys and values
    bool borrowed;    // the data is of cache_adopt's caller: read only, and never another page's
    size_t n_users;   // sequences that have it
    uint64_t serial;  // a published page's own number, never given again; 0: not published
    uint64_t parent;  // the serial of the page before it, and so all tokens before it; 0: none
    size_t next;      // the next page with the same hash, or the next free one; NO_PAGE: none
    size_t older, newer;         // neighbours in the list of kept pages, or NO_PAGE
    int tokens[PAGE_POSITIONS];  // as far as it is filled
} Page;

#define NO_PAGE SIZE_MAX

// What a sequence has in the cache.
typedef struct {
    size_t length;  // positions filled: the next token's position
    void **pages;   // (n_pages): page i holds positions i * PAGE_POSITIONS ..; see page_bytes
    size_t *ids;    // (n_pages): the same pages as indices of Cache.pages
    size_t n_pages;
} CachedSequence;

// The one owner of everything that persists between two forward calls.
//
// A page holds for every layer and key head in turn its keys, then its values (simd/simd.h has the
// layout of both). Pages are allocated as sequences grow, up to max_pages.
//
// Full pages are shared. What a position holds depends on its token and on all before it, and on
// nothing else, to the bit; so a page is published when it is full, under the hash of its tokens
// and of its parent's serial, and any sequence that has the same tokens up to there can have it
// too. Only full pages are shared, so a page that is written to has one user. Pages that no
// sequence uses any more are kept until their memory is needed: the one unused longest goes first,
// of one sequence the last page before the first.
//
//     sequence 0   [page 4]-[page 7]-[page 2        the last page is filling
//     sequence 1   [page 4]-[page 7]-[page 5]-[page 1
//
// The mask is one band, zero up to the middle and -infinity from there on. The row of the query at
// position p is the window that starts at mask + context - p: its element j is 0 for j <= p.
typedef struct {
    size_t n_layers, n_kv_heads, head_dim;
    size_t context;             // positions a sequence can have
    size_t window;              // positions that a query sees, itself included; 0: all
    bool f16;                   // type of keys and values: f16 or f32
    size_t k_bytes, v_bytes;    // keys and values of one head in a page
    size_t page_bytes;          // n_layers * n_kv_heads * (k_bytes + v_bytes)
    CachedSequence *sequences;  // (n_sequences)
    size_t n_sequences;
    Page *pages;                 // (n_pages): those with memory, whether in use or not
    size_t n_pages;              // borrowed ones included
    size_t n_owned;              // those whose memory is the cache's own: at most max_pages
    size_t max_pages;            // memory for as many
    size_t free_page;            // the first of the list of free pages, or NO_PAGE
    size_t n_free, n_kept;       // lengths of the two lists
    size_t oldest, newest;       // ends of the list of kept pages, or NO_PAGE
    uint64_t last_serial;        // the last that was given
    size_t *buckets;             // (n_buckets): the first page of each hash, or NO_PAGE
    size_t n_buckets;            // a power of two
    float *mask;                 // (2 * context + LANES)
    double *rope_frequency;      // (head_dim / 2)
    float *rope_cos, *rope_sin;  // (context, head_dim / 2), filled up to
    size_t n_angles;             // this position
} Cache;

bool cache_create(Cache *cache, const Config *config, size_t context, size_t n_sequences, bool f16,
                  Error *err);
void cache_free(Cache *cache);

// Pages that a sequence of so many positions has.
size_t cache_pages(size_t positions);

// Bytes that a sequence of `context` positions needs when it is full.
bool cache_sequence_bytes(const Config *config, size_t context, bool f16, size_t *bytes);

// Takes memory for at most so many pages, and at least for one whole sequence. A forward pass that
// needs more is an error; the caller sees to it that sequences do not outgrow this together.
void cache_limit(Cache *cache, size_t max_pages);

// How many positions of a sequence are filled: the next token's position.
size_t cache_length(const Cache *cache, size_t sequence);

// Appends the next position, that of `token`, to a sequence: gives it a page and its angles. Its key
// and value are the caller's to store (cache_page). Errors: ERROR_INPUT where the context is full;
// ERROR_RUN without memory.
bool cache_append(Cache *cache, size_t sequence, int token, size_t *position, Error *err);

// Publishes the page that this position of a sequence completes, once its keys and values are
// stored; for a position within a page it does nothing. Where the same page is published already,
// the sequence takes that one, and its own becomes free.
void cache_publish(Cache *cache, size_t sequence, size_t position);

// The page that holds a position of a sequence.
char *cache_page(const Cache *cache, size_t sequence, size_t position);

// The tokens of that page, PAGE_POSITIONS of them once it is full.
const int *cache_page_tokens(const Cache *cache, size_t sequence, size_t position);

// Bytes from the start of any page to the keys of a head; its values follow k_bytes after.
size_t cache_head_offset(const Cache *cache, size_t layer, size_t kv_head);

// What the query at a position sees: itself and all before it, or as many as the window has.
Visible cache_visible(const Cache *cache, size_t position);

// Forgets what a sequence has beyond its first `length` positions.
void cache_truncate(Cache *cache, size_t sequence, size_t length);

// Extends a sequence by the published pages that go on with its tokens: `tokens` (n) are those that
// it is to have from its first position on. Returns its length, which stays where it is if that is
// within a page. At most n positions: a caller that wants logits of the last token keeps that one
// back.
size_t cache_reuse_prefix(Cache *cache, size_t sequence, const int *tokens, size_t n);

// Publishes pages that the caller has: the first n_pages of a sequence of `tokens` (n_pages,
// PAGE_POSITIONS), page i at data + i * page_bytes, aligned to 64. They are only read, and must
// outlive the cache. They do not count against the limit.
bool cache_adopt(Cache *cache, const int *tokens, void *data, size_t n_pages, Error *err);

#endif
