// model.h - the transformer: its weights, its cache, and the one forward pass.
//
// Three things with three lives: the Model is const once loaded and may be shared; the Cache is all
// that persists between two forward calls; the Scratch need not survive a call.
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

#include "base/error.h"
#include "cache.h"

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
    Matrix lm_head;     // (vocab_size, dim); the embedding where tied
    bool quantized;     // some weights are multiplied as integers
    size_t read_bytes;  // weights that a forward pass over one token reads
} Model;

// Takes the weights from an open checkpoint, which must outlive the model.
bool model_create(Model *m, Checkpoint *c, Error *err);
void model_free(Model *m);

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
    size_t per_thread;   // floats each thread has for its own tile of queries, scores and results
    float *own;          // (threads, per_thread)
    size_t *logit_rows;  // (max_logits): rows that ask for logits
    size_t *bad_layer;   // (threads): first layer whose input was not finite, or SIZE_MAX
    void *memory;        // of all the buffers
    size_t memory_bytes;
} Scratch;

typedef struct {
    size_t max_rows;    // of one pass
    size_t max_logits;  // rows of one pass that ask for logits
    size_t threads;     // that run a pass
} ScratchSizes;

// Buffers for passes over this cache, or another of the same context.
bool scratch_create(Scratch *s, const Config *config, const Cache *cache, ScratchSizes sizes,
                    Error *err);
void scratch_free(Scratch *s);

// Runs n rows, 1 to max_rows, in the order given: each is appended to its sequence in the cache and
// sees what that has up to itself. Results do not depend on which other rows are run along, nor on
// the number of threads. Errors: ERROR_INPUT where a sequence is full, a token is out of range or
// the model computes a value that is not finite (naming the layer); ERROR_RUN without memory. After
// an error the sequences are as long as they were.
bool forward(const Model *m, Cache *cache, Scratch *s, Row *rows, size_t n, Error *err);

#endif
