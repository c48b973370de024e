// model.h - the transformer: its weights, its cache, and the one forward pass.
//
// Three things with three lives: the Model is const once loaded and may be shared; the Cache is all
// that persists between two forward calls; the Scratch need not survive a call.
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

#include "checkpoint.h"

typedef struct {
    const float *attn_norm;        // (dim)
    Matrix q_proj;                 // (n_heads * head_dim, dim)
    Matrix k_proj, v_proj;         // (n_kv_heads * head_dim, dim)
    const float *q_bias;           // (n_heads * head_dim), or NULL
    const float *k_bias, *v_bias;  // (n_kv_heads * head_dim), or NULL
    Matrix o_proj;                 // (dim, n_heads * head_dim)
    const float *mlp_norm;         // (dim)
    Matrix gate_proj;              // (hidden_dim, dim)
    Matrix up_proj;                // (hidden_dim, dim)
    Matrix down_proj;              // (dim, hidden_dim)
} Block;

typedef struct {
    Config config;
    const char *path;   // the checkpoint's, for messages
    Matrix embedding;   // (vocab_size, dim)
    Block *blocks;      // (n_layers), owned
    const float *norm;  // (dim)
    Matrix head;        // (vocab_size, dim); the embedding where tied
    bool quantized;     // some weights are multiplied as integers
    size_t read_bytes;  // weights that a forward pass over one token reads
} Model;

// Takes the weights from an open checkpoint, which must outlive the model.
bool model_create(Model *m, Checkpoint *c, Error *err);
void model_free(Model *m);

// PAGE_POSITIONS positions of one sequence or, as far as their beginnings are the same tokens, of
// several. A page is in one of four states:
//
//     n_users  serial
//        0       0     free: in the list of free pages
//        1       0     filling: the last page of one sequence
//       1 ..    1 ..   published: full, and found by its tokens (cache_share)
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

// Forgets what a sequence has beyond its first `length` positions.
void cache_truncate(Cache *cache, size_t sequence, size_t length);

// Extends a sequence by the published pages that go on with its tokens: `tokens` (n) are those that
// it is to have from its first position on. Returns its length, which stays where it is if that is
// within a page. At most n positions: a caller that wants logits of the last token keeps that one
// back.
size_t cache_share(Cache *cache, size_t sequence, const int *tokens, size_t n);

// Publishes pages that the caller has: the first n_pages of a sequence of `tokens` (n_pages,
// PAGE_POSITIONS), page i at data + i * page_bytes, aligned to 64. They are only read, and must
// outlive the cache. They do not count against the limit.
bool cache_adopt(Cache *cache, const int *tokens, void *data, size_t n_pages, Error *err);

// One token of one sequence to be run.
typedef struct {
    int token;
    size_t sequence;
    bool wants_logits;
    size_t position;  // set by forward: the next one of the sequence
    const float
        *logits;  // set by forward where wanted: (vocab_size), in the scratch, until the next call
} Row;

typedef struct {
    size_t row, n_rows;    // rows of one sequence at consecutive positions
    size_t head, n_heads;  // among the query heads that share a key head
} AttentionTile;

// Buffers of a forward pass of at most max_rows rows, of which max_logits ask for logits. Row
// lengths are padded with zeros to whole blocks.
typedef struct {
    size_t threads, max_rows, max_logits;
    float *x;                // (max_rows, dim_stride): the residual stream
    Activations normed;      // (max_rows, dim)
    Activations normed_own;  // (threads, dim): of a single row, which each thread makes for itself
    float *q;                // (max_rows, q_stride)
    float *k, *v;            // (max_rows, kv_stride)
    Activations attended;    // (max_rows, n_heads * head_dim)
    Activations gate;        // (max_rows, hidden_dim)
    float *up;               // (max_rows, hidden_stride)
    float *logits;           // (max_logits, vocab_stride)
    size_t dim_stride, q_stride, kv_stride, hidden_stride, vocab_stride;
    AttentionTile *tiles;  // at most one a row and part of the heads
    size_t result_stride;  // of Attend.out
    float *results;        // (n_results, result_stride): of queries, or of chunks of queries
    size_t n_results;
    size_t per_thread;  // floats each thread has for its own tile of queries, scores and results
    float *own;         // (threads, per_thread)
    size_t *asking;     // (max_logits): rows that ask for logits
    size_t *bad_layer;  // (threads): first layer whose input was not finite, or SIZE_MAX
    void *memory;       // of all the buffers
    size_t memory_bytes;
} Scratch;

bool scratch_create(Scratch *s, const Config *config, size_t context, size_t max_rows,
                    size_t max_logits, size_t threads, Error *err);
void scratch_free(Scratch *s);

// Runs n rows, 1 to max_rows, in the order given: each is appended to its sequence in the cache and
// sees what that has up to itself. Results do not depend on which other rows are run along, nor on
// the number of threads. Errors: ERROR_INPUT where a sequence is full, a token is out of range or
// the model computes a value that is not finite (naming the layer); ERROR_RUN without memory. After
// an error the sequences are as long as they were.
bool forward(const Model *m, Cache *cache, Scratch *s, Row *rows, size_t n, Error *err);

#endif
