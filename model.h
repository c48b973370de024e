// model.h - the transformer: its weights, the buffers of a pass, and the one forward pass.
//
// Three objects have different lifetimes:
//
//     Model     const once loaded; any number of caches and threads may share it
//     Cache     all that persists between two calls of forward (cache.h)
//     Scratch   the buffers of one call; their contents need not survive it
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

#include "base/error.h"
#include "base/threads.h"
#include "cache.h"
#include "formats/checkpoint.h"

// The weights of one layer. Matrices are (outputs, inputs), in the checkpoint's memory.
typedef struct {
    const float *attn_norm;        // (dim); NULL with NORM_POST
    Matrix q_proj;                 // (n_heads * head_dim, dim)
    Matrix k_proj, v_proj;         // (n_kv_heads * head_dim, dim)
    const float *q_bias;           // (n_heads * head_dim), or NULL
    const float *k_bias, *v_bias;  // (n_kv_heads * head_dim), or NULL
    const float *q_norm, *k_norm;  // (head_dim); with QK_NORM_FULL as long as the biases; or NULL
    Matrix o_proj;                 // (dim, n_heads * head_dim)
    const float *o_bias;           // (dim), or NULL
    const float *attn_post_norm;   // (dim); NULL with NORM_PRE
    const float *mlp_norm;         // (dim); NULL with NORM_POST
    Matrix router;                 // (n_experts, dim), if there are experts; then the next three
                                   // are the matrices of all experts, one below the other
    Matrix gate_proj, up_proj;     // (hidden_dim, dim)
    const float *gate_bias;        // (hidden_dim), or NULL
    const float *up_bias;          // (hidden_dim), or NULL
    Matrix down_proj;              // (dim, hidden_dim)
    const float *down_bias;        // (dim), or NULL
    const float *mlp_post_norm;    // (dim); NULL with NORM_PRE
} Block;

typedef struct {
    Config config;
    const char *path;   // of the checkpoint, for messages; the caller's
    Matrix embedding;   // (vocab_size, dim)
    Block *blocks;      // (n_layers), owned
    const float *norm;  // (dim)
    Matrix lm_head;     // (vocab_size, dim); the embedding itself if the two are tied
    bool quantized;     // some weights are multiplied as integers, so activations are quantised too
    size_t read_bytes;  // bytes of weights that a pass over one token reads
} Model;

// Finds the weights in an open checkpoint, which must outlive the model: nothing is copied. Errors:
// ERROR_INPUT naming a tensor that is missing or has the wrong shape; ERROR_RUN if out of memory.
bool model_create(Model *m, const Checkpoint *c, Error *err);
void model_free(Model *m);

// One token of one sequence: what the caller requests and what forward returns.
typedef struct {
    int token;
    size_t sequence;
    bool wants_logits;
    size_t position;      // set by forward: the next one of the sequence
    const float *logits;  // set by forward: (vocab_size) in the scratch, valid until the next call;
                          // NULL unless wants_logits
} Row;

// At most TILE_QUERIES queries that are computed together, as they read the same keys and values.
typedef struct {
    size_t row, n_rows;    // rows of one sequence at consecutive positions
    size_t head, n_heads;  // within the group of query heads that share a kv_head
} AttentionTile;

typedef struct {
    size_t max_rows;    // of one pass
    size_t max_logits;  // rows of one pass that want logits
    size_t threads;     // that run a pass
} ScratchSizes;

// What the matrices of a block read: q, k and v; o; gate and up; down.
typedef enum { INPUT_ATTN, INPUT_O, INPUT_MLP, INPUT_DOWN, N_BLOCK_INPUTS } BlockInput;

// Sees those activations while a pass computes. All threads of the team call `see`, which does its
// work in steps; in->x is (n_rows, in->stride).
typedef struct {
    void (*see)(Team team, void *arg, size_t layer, BlockInput input, const Activations *in,
                size_t n_rows);
    void *arg;
} Observer;

// A pass over some of the blocks: begin .. end - 1.
typedef struct {
    size_t begin, end;
    // (n_rows, dim): what enters block `begin`; NULL: the embeddings of the tokens
    const float *in;
    // (n_rows, dim), set to what leaves block end - 1; may be `in`; NULL: not wanted
    float *out;
} BlockRange;

// An expert that a row goes through: its group, the slot (among those of all groups), and how much
// the output counts.
typedef struct {
    size_t group, slot;
    float weight;
} Route;

// A group: n rows, in slots from the first one on, that go through an expert.
typedef struct {
    size_t expert, first, n;
} ExpertRows;

// The buffers of a pass. Rows of floats are padded with zeros to a multiple of QUANT_BLOCK, their
// stride, so kernels see only full quantisation blocks.
typedef struct {
    size_t max_rows, max_logits, threads;  // see ScratchSizes
    const Observer *observer;              // of the passes, the caller's; NULL: none
    const BlockRange *range;               // of the passes, the caller's; NULL: all blocks

    float *x;                   // (max_rows, dim_stride): the residual stream
    float *branch;              // (max_rows, dim_stride): what attention or mlp adds to it
    Activations normed;         // (max_rows, dim): where norm has several rows
    Activations thread_normed;  // (threads, dim): where it has one row, a copy for each thread
    float *q;                   // (max_rows, q_stride): queries
    float *k, *v;               // (max_rows, kv_stride): keys and values on their way to the cache
    Activations attended;       // (max_rows, n_heads * head_dim): what attention hands to o_proj
    Activations gate;           // (max_rows, hidden_dim): silu(gate) * up, what down_proj reads
    float *up;                  // (max_rows, hidden_stride)
    float *logits;              // (max_logits, vocab_stride)

    // With experts, gate and up have n_slots rows instead, as these have.
    Activations slot_normed;  // (n_slots, dim): the rows of normed, by groups
    float *slot_out;          // (n_slots, dim_stride): what an expert makes of each
    float *router;            // (max_rows, router_stride): the logits of all experts
    Route *routes;            // (max_rows, n_experts_used): of a row in the order of the experts
    ExpertRows *groups;       // (n_groups): in the order of the experts, then empty ones
    size_t n_routes, n_groups, n_slots;  // 0 without experts
    size_t router_stride;                // floats

    size_t dim_stride, q_stride, kv_stride, hidden_stride, vocab_stride;  // floats

    AttentionTile *tiles;  // room for one tile per (row, TILE_QUERIES heads of a kv_head)
    float *results;        // (n_results, result_stride): one per (row, head, split)
    size_t n_results;
    size_t result_stride;   // floats per result, see Attend.out
    float *thread_scratch;  // (threads, thread_stride): queries, scores and results of an item
    size_t thread_stride;   // floats

    size_t *logit_rows;  // (max_logits): the rows that want logits, in order
    size_t *bad_step;    // (threads): where a thread first found a value that is not finite

    void *memory;  // of all buffers but tiles, logit_rows and bad_step; owned, as those are
    size_t memory_bytes;
} Scratch;

// Allocates buffers for passes over this cache, or over another with the same context. Error:
// ERROR_RUN if out of memory.
bool scratch_create(Scratch *s, const Config *config, const Cache *cache, ScratchSizes sizes,
                    Error *err);
void scratch_free(Scratch *s);

// Runs n_rows rows, 1 to max_rows, in the order given. Each is appended to its sequence in the
// cache, and sees that sequence (of it the sliding window, if there is one) up to and including
// itself. The same call serves a single token, a chunk of a prompt, a batch, or a text to score.
//
// The bits of the results depend neither on the other rows of the call nor on the number of
// threads. Errors: ERROR_INPUT if a context is full, a token is out of range, or the model computes
// a value that is not finite (naming the layer); ERROR_RUN if out of memory. After an error the
// sequences are as long as they were before.
bool forward(const Model *m, Cache *cache, Scratch *s, Row *rows, size_t n_rows, Error *err);

#endif
