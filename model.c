// model.c - the transformer, from top to bottom as in the papers: Llama (arXiv:2302.13971) with
// grouped-query attention (arXiv:2305.13245).
//
//     x = embedding[token]
//     each layer:  h  = norm(x);  q, k, v = W_q h, W_k h, W_v h;  q, k rotated by position (RoPE)
//                  x += W_o softmax(q k^T / sqrt(head_dim) + mask) v
//                  h  = norm(x)
//                  x += W_down (silu(W_gate h) * W_up h)
//     logits = W_lm_head norm(x)
//
// Its relatives differ in switches (Config), each described where it acts: norms, activation,
// factors, biases, and what a layer sees and rotates.
//
// n_rows tokens, from one sequence or from many, go through it together. A pass reads and writes
// these buffers of the Scratch:
//
//     x ---------.                                       (n_rows, dim)
//     |        normed              norm                  (n_rows, dim)
//     |        q, k, v             q_proj k_proj v_proj  (n_rows, n_heads or n_kv_heads * head_dim)
//     |        |  '--> cache       k (rotated) and v     pages of PAGE_POSITIONS positions
//     |        attended            attention             (n_rows, n_heads * head_dim): q is rotated
//     |        |                                         in a copy, where it is loaded
//     x += <-----'                 o_proj                (n_rows, dim)
//     x ---------.
//     |        normed              norm                  (n_rows, dim)
//     |        gate, up            gate_proj up_proj     (n_rows, hidden_dim)
//     |        gate                silu(gate) * up       (n_rows, hidden_dim)
//     x += <-----'                 down_proj             (n_rows, dim)
//     :                            all other layers
//     '------- normed              norm                  (n_logits, dim): of the logit_rows
//              logits              lm_head               (n_logits, vocab_size)
//
// Every thread walks the whole graph, step by step (base/threads.h), and claims pieces of each step:
// ranges of outputs, rows or attention items, but never part of a sum, so neither the number of
// threads nor who claims what changes a bit. A new step begins where something is read that other
// threads wrote. With a single row, the ends of steps cost as much as the small ones take. The
// embedding, five per layer, numbered below (with experts seven), and the lm_head are always needed;
// the others only if there are several rows, heads to finish after their items, or more heads per
// kv_head than fit into a tile.
#include "model.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "formats/tensors.h"

// One call of forward, as all threads see it; plan_pass sets the last four fields.
typedef struct {
    const Model *model;
    Cache *cache;
    Scratch *scratch;
    const Row *rows;  // (n_rows)
    size_t n_rows, n_logits;
    size_t n_tiles;       // of queries, in scratch->tiles
    size_t n_splits;      // results per (row, head): 1, or the splits of the longest context
    bool store_in_item;   // only one item reads the key and value of a row, and it stores them
    bool finish_in_item;  // an attention item can finish its heads by itself
} Pass;

// A unit of work in attention: the queries of a tile that share kv_head, with the keys and values
// of one split, or of all splits if n_splits is 1.
typedef struct {
    const AttentionTile *tile;
    size_t kv_head, split;
} Item;

// How a part of a block, attention or mlp, ends: its last product, and what follows that.
typedef struct {
    const Matrix *w;    // o_proj or down_proj
    const float *bias;  // (dim), or NULL
    const float *norm;  // (dim), or NULL
} Branch;

// A matrix among those of a step, and what it computes.
typedef struct {
    const Matrix *w;
    const float *bias;  // (w->rows), or NULL
    OutputRows out;
} Projection;

// Rows of x that are normalised for the next step, or have been: in a step of their own, or, a
// single one, by each thread for itself.
typedef struct {
    const float *weight;  // (dim); NULL: x as it is
    const size_t *from;   // (n): which rows of x; NULL: 0 .. n - 1
    size_t n;
    size_t x_step;  // the step that made x, see check_finite
    bool ready;
    Activations h;  // (n, dim), when they are ready
} Normed;

// The two parts of a block, in this order.
static void attention(Team, const Pass *, size_t layer, Normed *);
static void mlp(Team, const Pass *, size_t layer, Normed *);
static void experts(Team, const Pass *, size_t layer, Normed *);
// Defined below forward: the steps of these two, and what precedes and follows the graph.
static Normed norm(Team, const Pass *, Normed rows);
static const Activations *normed_rows(Team, const Pass *, Normed *);
static Units units_of(const Matrix *, const TeamStep *, size_t *offset);
static void project(const Projection *, const Activations *in, Units);
static void add_branch(Team, const Pass *, const Branch *, const Activations *in);
static void norm_branch(Team, const Pass *, const float *norm);
static void add_columns(const Pass *, Units);
static void norm_all_heads(Team, const Pass *, const Block *);
static void route(const Pass *, size_t n_groups);
static void gather_row(const Pass *, const Activations *h, size_t row);
static Activations slots_of(const Activations *, const ExpertRows *);
static void mix_columns(const Pass *, Units);
static void gate_experts(Team, const Pass *, const Block *, Normed *h, size_t n_groups);
static void expert_outputs(const Pass *, const Block *, size_t n_groups, Units);
static void observe_slots(Team, const Pass *, size_t layer);
static Item nth_item(const Pass *, size_t index);
static void place_head(const Pass *, size_t layer, size_t row, size_t kv_head);
static void attend_item(Team, const Pass *, size_t layer, const Item *item);
static void finish_rows(Team, const Pass *);
static bool append_rows(Pass *, Row *rows, Error *err);
static void clear_rows(const Pass *);
static void drop_rows(Cache *, const Row *rows, size_t n_rows);
static void plan_pass(Pass *);
static bool check_finite(const Pass *, Error *err);

// --------------------------------------------------------------------------------------------
// The graph

// A scale of Config as a factor: Granite's multipliers are given, plain Llama has none.
static float scale_factor(double scale) { return scale != 0 ? (float)scale : 1.0f; }

static void scale_values(float *x, size_t n, float factor)
{
    for (size_t i = 0; i < n && factor != 1.0f; i++) {
        x[i] *= factor;
    }
}

// x = embedding[token] * embedding_scale, or what a pass over later blocks begins with
static void embed(Team team, const Pass *pass)
{
    const Scratch *s = pass->scratch;
    const size_t dim = pass->model->config.dim;
    const float scale = scale_factor(pass->model->config.embedding_scale);
    const float *in = s->range ? s->range->in : NULL;
    TeamStep step = team_step(team, pass->n_rows);
    while (team_claim(&step)) {
        for (size_t r = step.begin; r < step.end; r++) {
            float *x = s->x + r * s->dim_stride;
            if (in) {
                memcpy(x, in + r * dim, dim * sizeof *x);
            } else {
                matrix_row(&pass->model->embedding, (size_t)pass->rows[r].token, x);
                scale_values(x, dim, scale);
            }
            // norm reads the padding, where a pass that failed may have left NaNs (0 * NaN).
            memset(x + dim, 0, (s->dim_stride - dim) * sizeof *x);
        }
    }
}

static void observe(Team team, const Pass *pass, size_t layer, BlockInput input,
                    const Activations *in, size_t n_rows)
{
    const Observer *o = pass->scratch->observer;
    if (o) {
        o->see(team, o->arg, layer, input, in, n_rows);
    }
}

// x += attention(norm(x));  x += mlp(norm(x))
//
// This is NORM_PRE. NORM_POST, x += norm(attention(x)), has the norms after the parts instead
// (OLMo 2, arXiv:2501.00656), NORM_SANDWICH before and after them (Gemma 2, arXiv:2408.00118).
static void block(Team team, const Pass *pass, size_t layer)
{
    const Block *b = &pass->model->blocks[layer];
    const size_t n = pass->n_rows;
    Normed h = norm(team, pass, (Normed){.weight = b->attn_norm, .n = n, .x_step = layer});
    observe(team, pass, layer, INPUT_ATTN, &h.h, n);
    attention(team, pass, layer, &h);
    h = norm(team, pass, (Normed){.weight = b->mlp_norm, .n = n, .x_step = layer + 1});
    observe(team, pass, layer, INPUT_MLP, &h.h, n);
    if (pass->model->config.n_experts) {
        experts(team, pass, layer, &h);
    } else {
        mlp(team, pass, layer, &h);
    }
}

// ATTENTION. The work is cut into items, which the threads claim. With two kv_heads and a
// context of two splits, they are numbered like this:
//
//                          kv_head 0              kv_head 1
//                          split 0     split 1    split 0     split 1
//     tile 0  rows 0..5    item 0      item 1     item 2      item 3
//     tile 1  rows 6..11   item 4      item 5     item 6      item 7
//
// tile:   up to TILE_QUERIES queries (row, head): consecutive rows of one sequence, times the heads
//         that share kv_head. A key or value is loaded once for all of them.
// split:  SPLIT_POSITIONS positions of the context. If few rows with a long context would leave
//         threads idle, each item has one split; otherwise an item runs through all splits.
//
// For each of its queries, an item computes a result over the visible positions j of a split,
//
//     s_j = q k_j / sqrt(head_dim)        max = max_j s_j
//     sum = sum_j e^(s_j - max)           o   = sum_j e^(s_j - max) v_j         (head_dim)
//
// and combines the results of several splits by rescaling them to the larger max (online softmax,
// arXiv:1805.02867). At the end attended = o / sum. max and sum are taken within one split, and
// splits are always combined in ascending order, so the cut into items does not change a bit.
static void attention(Team team, const Pass *pass, size_t layer, Normed *h)
{
    const Block *b = &pass->model->blocks[layer];
    const Scratch *s = pass->scratch;
    const size_t n = pass->n_rows, n_kv_heads = pass->model->config.n_kv_heads;

    // 1. q (n_rows, n_heads * head_dim), k and v (n_rows, n_kv_heads * head_dim).
    const Projection products[] = {{&b->q_proj, b->q_bias, {s->q, s->q_stride, n}},
                                   {&b->k_proj, b->k_bias, {s->k, s->kv_stride, n}},
                                   {&b->v_proj, b->v_bias, {s->v, s->kv_stride, n}}};
    TeamStep step = team_step(team, matmul_units(&b->q_proj) + 2 * matmul_units(&b->k_proj));
    while (team_claim(&step)) {
        size_t offset = 0;
        for (size_t i = 0; i < 3; i++) {
            const Units units = units_of(products[i].w, &step, &offset);
            project(&products[i], normed_rows(team, pass, h), units);
        }
    }
    if (pass->model->config.qk_norm == QK_NORM_FULL) {
        norm_all_heads(team, pass, b);
    }

    // Keys and values that several items read must be in the cache before any item begins. If only
    // one item reads those of a row, it stores them itself, which saves a step.
    step = team_step(team, pass->store_in_item ? 0 : n * n_kv_heads);
    while (team_claim(&step)) {
        for (size_t i = step.begin; i < step.end; i++) {
            place_head(pass, layer, i / n_kv_heads, i % n_kv_heads);
        }
    }

    // 2. attended, or the results of unfinished heads.
    step = team_step(team, pass->n_tiles * n_kv_heads * pass->n_splits);
    while (team_claim(&step)) {
        for (size_t i = step.begin; i < step.end; i++) {
            const Item item = nth_item(pass, i);
            attend_item(team, pass, layer, &item);
        }
    }
    if (!pass->finish_in_item) {
        finish_rows(team, pass);
    }

    // 3. x.
    observe(team, pass, layer, INPUT_O, &s->attended, n);
    add_branch(team, pass, &(Branch){&b->o_proj, b->o_bias, b->attn_post_norm}, &s->attended);
}

// gate = silu(gate_proj(in)) * up_proj(in), the columns of these units, quantised for down_proj: n
// rows of gate, from `first` on. Gemma has the tanh form of gelu in place of silu. The two products
// have the same shape, so the units of both are the same columns.
static void gated(const Pass *pass, const Block *b, const Activations *in, size_t first, size_t n,
                  Units units)
{
    const Scratch *s = pass->scratch;
    const Activations gate = slots_of(&s->gate, &(ExpertRows){.first = first, .n = n});
    float *up = s->up + first * s->hidden_stride;
    const size_t begin = units.begin * QUANT_BLOCK, end = units.end * QUANT_BLOCK;
    project(&(Projection){&b->gate_proj, b->gate_bias, {gate.x, s->hidden_stride, n}}, in, units);
    project(&(Projection){&b->up_proj, b->up_bias, {up, s->hidden_stride, n}}, in, units);
    for (size_t r = 0; r < n; r++) {
        const size_t columns = r * s->hidden_stride + begin;
        if (pass->model->config.activation == ACTIVATION_GELU_TANH) {
            geglu(gate.x + columns, up + columns, end - begin);
        } else {
            swiglu(gate.x + columns, up + columns, end - begin);
        }
        if (pass->model->quantized) {
            quantize(&gate, r, begin, end);
        }
    }
}

// x += down_proj(silu(gate_proj(h)) * up_proj(h))                       (SwiGLU, arXiv:2002.05202)
static void mlp(Team team, const Pass *pass, size_t layer, Normed *h)
{
    const Block *b = &pass->model->blocks[layer];
    const Scratch *s = pass->scratch;
    const size_t n = pass->n_rows;
    // 4. gate.
    TeamStep step = team_step(team, matmul_units(&b->gate_proj));
    while (team_claim(&step)) {
        gated(pass, b, normed_rows(team, pass, h), 0, n, (Units){step.begin, step.end});
    }
    // 5. x.
    observe(team, pass, layer, INPUT_DOWN, &s->gate, n);
    add_branch(team, pass, &(Branch){&b->down_proj, b->down_bias, b->mlp_post_norm}, &s->gate);
}

// EXPERTS in place of the mlp (arXiv:1701.06538; as in Qwen 3, arXiv:2505.09388). A token goes
// through the mlps that a router chooses for it, and adds their outputs with weights p:
//
//     x += sum of p_e mlp_e(h) over the n_experts_used experts e with the largest (router h)_e
//     p  = softmax of these (router h)_e
//
// Rows are gathered by expert, so that a pass reads the matrices of each expert once. A gathered row
// is in a slot. With four rows that use two experts of five,
//
//     row 0: 1, 4    row 1: 0, 4    row 2: 1, 2    row 3: 0, 4
//
//     group     0         1         2       3
//     expert    0         1         2       4
//     rows      1  3      0  2      2       0  1  3
//
// Of equal logits the lower expert is chosen, and a row adds its outputs in the order of the
// experts, so the other rows of the pass do not change a bit of it. The groups are known only after
// routing. Until then n_groups is an upper limit on their number; groups without rows come last.
static void experts(Team team, const Pass *pass, size_t layer, Normed *h)
{
    const Block *b = &pass->model->blocks[layer];
    const Scratch *s = pass->scratch;
    const Config *p = &pass->model->config;
    const size_t n = pass->n_rows, n_routes = n * p->n_experts_used;
    const size_t n_groups = n_routes < p->n_experts ? n_routes : p->n_experts;
    const Projection router = {&b->router, NULL, {s->router, s->router_stride, n}};
    TeamStep step = team_step(team, matmul_units(&b->router));
    while (team_claim(&step)) {
        project(&router, normed_rows(team, pass, h), (Units){step.begin, step.end});
    }
    step = team_step(team, 1);
    while (team_claim(&step)) {
        route(pass, n_groups);
    }
    // A single row needs no copies.
    step = team_step(team, n > 1 ? n : 0);
    while (team_claim(&step)) {
        for (size_t r = step.begin; r < step.end; r++) {
            gather_row(pass, &h->h, r);
        }
    }
    gate_experts(team, pass, b, h, n_groups);
    observe_slots(team, pass, layer);
    step = team_step(team, (p->dim + QUANT_BLOCK - 1) / QUANT_BLOCK);
    while (team_claim(&step)) {
        const Units units = {step.begin, step.end};
        expert_outputs(pass, b, n_groups, units);
        mix_columns(pass, units);
        if (!b->mlp_post_norm) {
            add_columns(pass, units);
        }
    }
    norm_branch(team, pass, b->mlp_post_norm);
}

// logits = lm_head(norm(x)) * logit_scale, for the rows that want them   (n_logits, vocab_size)
// and, in Gemma 2, logit_cap * tanh(logits / logit_cap).
static void lm_head(Team team, const Pass *pass)
{
    const Model *m = pass->model;
    const Scratch *s = pass->scratch;
    const size_t n = pass->n_logits, n_layers = m->config.n_layers;
    Normed h = norm(team, pass,
                    (Normed){.weight = m->norm, .from = s->logit_rows, .n = n, .x_step = n_layers});
    TeamStep step = team_step(team, matmul_units(&m->lm_head));
    while (team_claim(&step)) {
        const Units units = {step.begin, step.end};
        const size_t begin = units.begin * QUANT_BLOCK, end = units.end * QUANT_BLOCK;
        int not_finite = 0;
        matmul(&m->lm_head, normed_rows(team, pass, &h),
               (OutputRows){s->logits, s->vocab_stride, n}, units);
        for (size_t r = 0; r < n; r++) {
            float *logits = s->logits + r * s->vocab_stride + begin;
            scale_values(logits, end - begin, scale_factor(m->config.logit_scale));
            for (size_t i = 0; i < end - begin; i++) {
                not_finite |= !(fabsf(logits[i]) <= FLT_MAX);
            }
            if (m->config.logit_cap != 0) {
                soft_cap(logits, end - begin, (float)m->config.logit_cap);
            }
        }
        if (not_finite && s->bad_step[team.id] > n_layers + 1) {
            s->bad_step[team.id] = n_layers + 1;
        }
    }
}

// Copies x to where the caller of a pass over some blocks wants it.
static void leave_blocks(Team team, const Pass *pass, float *out)
{
    const Scratch *s = pass->scratch;
    const size_t dim = pass->model->config.dim;
    TeamStep step = team_step(team, pass->n_rows);
    while (team_claim(&step)) {
        for (size_t r = step.begin; r < step.end; r++) {
            memcpy(out + r * dim, s->x + r * s->dim_stride, dim * sizeof *out);
        }
    }
}

// The pass: what each thread of the team runs.
static void forward_pass(Team team, void *arg)
{
    const Pass *pass = arg;
    const BlockRange all = {.end = pass->model->config.n_layers};
    const BlockRange *range = pass->scratch->range ? pass->scratch->range : &all;
    embed(team, pass);
    for (size_t layer = range->begin; layer < range->end; layer++) {
        block(team, pass, layer);
        team_adapt(team, pass->n_rows);
    }
    if (pass->n_logits) {
        lm_head(team, pass);
    }
    if (range->out) {
        leave_blocks(team, pass, range->out);
    }
}

bool forward(const Model *m, Cache *cache, Scratch *s, Row *rows, size_t n_rows, Error *err)
{
    Pass pass = {.model = m, .cache = cache, .scratch = s, .rows = rows, .n_rows = n_rows};
    if (!append_rows(&pass, rows, err)) {
        return false;
    }
    plan_pass(&pass);
    team_run(s->threads, forward_pass, &pass);
    if (!check_finite(&pass, err)) {
        clear_rows(&pass);
        drop_rows(cache, rows, n_rows);
        return false;
    }
    // Full pages now hold the keys and values of their tokens: other sequences may share them.
    for (size_t r = 0; r < n_rows; r++) {
        cache_publish(cache, rows[r].sequence, rows[r].position);
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// Normalisation and projections

// Rows of activations that begin this many values and quantisation blocks after the first.
static Activations activations_from(const Activations *a, size_t values, size_t blocks, size_t tile)
{
    return (Activations){.stride = a->stride,
                         .tile = tile,
                         .x = a->x + values,
                         .q = a->q + values,
                         .q_scale = a->q_scale + blocks,
                         .q_total = a->q_total + blocks,
                         .q_begin4 = a->q_begin4 + blocks,
                         .q_begin8 = a->q_begin8 + blocks};
}

// The row of s->thread_normed that belongs to this thread, as reserve_buffers lays it out: each
// array starts on its own cache line, so that no thread writes to a line that another thread reads.
static Activations thread_row(const Scratch *s, Team team)
{
    const Activations *a = &s->thread_normed;
    const size_t blocks = round_up(a->stride / QUANT_BLOCK, LANES);
    return activations_from(a, team.id * a->stride, team.id * blocks, 1);
}

// The mean of n squares, which is finite only if all values are; its bits are of no interest.
static float mean_square(const float *x, size_t n)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += x[i] * x[i];
    }
    return sum / (float)n;
}

// Row i of the result of norm, into row i of `out`.
static void norm_row(Team team, const Pass *pass, const Normed *rows, const Activations *out,
                     size_t i)
{
    const Scratch *s = pass->scratch;
    const Config *p = &pass->model->config;
    const float *x = s->x + (rows->from ? rows->from[i] : i) * s->dim_stride;
    const float mean = rows->weight ? rms_norm(out->x + i * s->dim_stride, x, rows->weight, p->dim,
                                               (float)p->norm_eps)
                                    : mean_square(x, p->dim);
    if (!isfinite(mean) && s->bad_step[team.id] > rows->x_step) {
        s->bad_step[team.id] = rows->x_step;
    }
    if (pass->model->quantized) {
        quantize(out, i, 0, s->dim_stride);
    }
}

// h = x / sqrt(mean(x^2) + eps) * weight (n, dim), quantised if the model is; x itself if weight is
// NULL. Row i of the result comes from row from[i] of x, or from row i if `from` is NULL.
//
// This is a step, but not if there is only one row: then each thread computes it for itself when it
// needs it (normed_rows). Waiting for another thread to do it would take as long, and this saves two
// steps per layer.
//
// x passes through here before anything reads it (what the last block makes, only in the rows that
// want logits; what leaves a range of blocks, in the pass that goes on from there), so a value that
// is not finite is detected here, at no cost: mean(x^2) is not finite either. It is recorded under x_step, the step that made x (0 the embedding, i + 1 block i; see
// check_finite), and the pass continues: no thread may leave it before the others.
static Normed norm(Team team, const Pass *pass, Normed rows)
{
    const Scratch *s = pass->scratch;
    // An observer wants to see a single row too.
    rows.ready = rows.n > 1 || s->observer;
    rows.h = rows.ready ? s->normed : thread_row(s, team);
    if (!rows.weight) {
        rows.h.x = s->x;
    }
    TeamStep step = team_step(team, rows.ready ? rows.n : 0);
    while (team_claim(&step)) {
        for (size_t i = step.begin; i < step.end; i++) {
            norm_row(team, pass, &rows, &rows.h, i);
        }
    }
    return rows;
}

// The rows that norm has made, or makes now. The thread must hold a piece of a step that reads them.
static const Activations *normed_rows(Team team, const Pass *pass, Normed *rows)
{
    if (!rows->ready) {
        norm_row(team, pass, rows, &rows->h, 0);
        rows->ready = true;
    }
    return &rows->h;
}

// The units of a matrix in a piece of a step that numbers the units of several matrices one after
// the other. *offset is the number of its first one, and becomes that of the next matrix.
static Units units_of(const Matrix *w, const TeamStep *step, size_t *offset)
{
    const size_t n = matmul_units(w), first = *offset;
    *offset += n;
    if (step->end <= first || step->begin >= *offset) {
        return (Units){0, 0};
    }
    return (Units){step->begin > first ? step->begin - first : 0,
                   step->end < *offset ? step->end - first : n};
}

// out = W in + bias, the outputs of these units.
static void project(const Projection *p, const Activations *in, Units units)
{
    matmul(p->w, in, p->out, units);
    for (size_t r = 0; p->bias && r < p->out.n_rows; r++) {
        float *out = p->out.x + r * p->out.stride;
        for (size_t i = units.begin * QUANT_BLOCK; i < units.end * QUANT_BLOCK && i < p->w->rows;
             i++) {
            out[i] += p->bias[i];
        }
    }
}

// x += branch * residual_scale in columns begin .. end - 1 of a row.
static void add_scaled(const Pass *pass, size_t row, size_t begin, size_t end)
{
    const Scratch *s = pass->scratch;
    const float scale = scale_factor(pass->model->config.residual_scale);
    float *x = s->x + row * s->dim_stride;
    const float *branch = s->branch + row * s->dim_stride;
    for (size_t i = begin; i < end; i++) {
        x[i] += branch[i] * scale;
    }
}

// The same in the columns of these units of all rows.
static void add_columns(const Pass *pass, Units units)
{
    for (size_t r = 0; r < pass->n_rows; r++) {
        add_scaled(pass, r, units.begin * QUANT_BLOCK, units.end * QUANT_BLOCK);
    }
}

// x += norm(branch) * residual_scale, if there is such a norm.
static void norm_branch(Team team, const Pass *pass, const float *norm)
{
    const Scratch *s = pass->scratch;
    const Config *p = &pass->model->config;
    TeamStep step = team_step(team, norm ? pass->n_rows : 0);
    while (team_claim(&step)) {
        for (size_t r = step.begin; r < step.end; r++) {
            float *row = s->branch + r * s->dim_stride;
            rms_norm(row, row, norm, p->dim, (float)p->norm_eps);
            add_scaled(pass, r, 0, p->dim);
        }
    }
}

// x += norm(W in + bias) * residual_scale: adds what attention or mlp has made to the residual stream.
// Plain Llama does it in the product, without the rest; other models first compute the branch. A
// norm of it needs whole rows, so it is a step of its own.
static void add_branch(Team team, const Pass *pass, const Branch *b, const Activations *in)
{
    const Scratch *s = pass->scratch;
    const size_t n = pass->n_rows;
    const bool plain = !b->bias && !b->norm &&
                       scale_factor(pass->model->config.residual_scale) == 1.0f;
    const Projection branch = {b->w, b->bias, {s->branch, s->dim_stride, n}};
    TeamStep step = team_step(team, matmul_units(b->w));
    while (team_claim(&step)) {
        const Units units = {step.begin, step.end};
        if (plain) {
            matmul_add(b->w, in, (OutputRows){s->x, s->dim_stride, n}, units);
            continue;
        }
        project(&branch, in, units);
        if (!b->norm) {
            add_columns(pass, units);
        }
    }
    norm_branch(team, pass, b->norm);
}

// q = rms_norm(q), k = rms_norm(k), each row over all of its heads together, before RoPE (OLMo 2,
// arXiv:2501.00656). The units are the rows of q and of k.
static void norm_all_heads(Team team, const Pass *pass, const Block *b)
{
    const Scratch *s = pass->scratch;
    const Config *p = &pass->model->config;
    const float eps = (float)p->norm_eps;
    TeamStep step = team_step(team, 2 * pass->n_rows);
    while (team_claim(&step)) {
        for (size_t i = step.begin; i < step.end; i++) {
            float *q = s->q + i / 2 * s->q_stride, *k = s->k + i / 2 * s->kv_stride;
            if (i % 2 == 0) {
                rms_norm(q, q, b->q_norm, p->n_heads * p->head_dim, eps);
            } else {
                rms_norm(k, k, b->k_norm, p->n_kv_heads * p->head_dim, eps);
            }
        }
    }
}

// --------------------------------------------------------------------------------------------
// Experts

// Slots for n > 0 rows of an expert, in full tiles (activation_tile).
static size_t slots_of_rows(size_t n) { return n + n / ACTIVATION_TILE + 1; }

// The rows of a group in activations that have a row for each slot, in tiles of their own.
static Activations slots_of(const Activations *a, const ExpertRows *rows)
{
    const size_t values = rows->first * a->stride;
    return activations_from(a, values, values / QUANT_BLOCK, activation_tile(rows->n));
}

// The matrices of one expert.
static Block expert_block(const Config *p, const Block *b, size_t expert)
{
    const size_t first = expert * p->hidden_dim;
    return (Block){.gate_proj = matrix_rows(&b->gate_proj, first, p->hidden_dim),
                   .up_proj = matrix_rows(&b->up_proj, first, p->hidden_dim),
                   .down_proj = matrix_rows(&b->down_proj, expert * p->dim, p->dim)};
}

// Chooses the experts with the n_used largest logits; at equal ones, the lower expert. Fills in
// chosen (n_used) in ascending order.
static void choose_experts(const float *logits, size_t n_experts, size_t n_used, size_t *chosen)
{
    size_t n = 0;
    for (size_t e = 0; e < n_experts; e++) {
        size_t at = n;
        while (at > 0 && logits[e] > logits[chosen[at - 1]]) {
            at--;
        }
        if (at < n_used) {
            n += n < n_used;
            memmove(chosen + at + 1, chosen + at, (n - at - 1) * sizeof *chosen);
            chosen[at] = e;
        }
    }
    for (size_t i = 1; i < n; i++) {
        const size_t e = chosen[i];
        size_t at = i;
        for (; at > 0 && chosen[at - 1] > e; at--) {
            chosen[at] = chosen[at - 1];
        }
        chosen[at] = e;
    }
}

// The routes of a row: to which experts, and how much each counts.
static void route_row(const Config *p, const float *logits, Route *routes)
{
    size_t chosen[MOST_EXPERTS_USED];
    float weights[MOST_EXPERTS_USED];
    const size_t n = p->n_experts_used, padded = round_up(n, LANES);
    // 0, or NaN if a logit is not finite: one that chooses nobody shall be found too (check_finite).
    float zero = 0;
    for (size_t e = 0; e < p->n_experts; e++) {
        zero += 0 * logits[e];
    }
    choose_experts(logits, p->n_experts, n, chosen);
    for (size_t i = 0; i < padded; i++) {
        weights[i] = i < n ? logits[chosen[i]] : -INFINITY;
    }
    softmax(weights, padded, 1);
    for (size_t i = 0; i < n; i++) {
        routes[i] = (Route){.group = chosen[i], .weight = weights[i] + zero};
    }
}

// Makes groups of the experts that have rows: counts these, then gives them their slots. Until then
// a route's group is the number of its expert.
static void make_groups(const Pass *pass, size_t n_groups)
{
    const Scratch *s = pass->scratch;
    const size_t n_experts = pass->model->config.n_experts;
    size_t group_of[MOST_EXPERTS] = {0}, counts[MOST_EXPERTS] = {0}, end = 0, n = 0;
    const size_t n_routes = pass->n_rows * pass->model->config.n_experts_used;
    for (size_t i = 0; i < n_routes; i++) {
        counts[s->routes[i].group]++;
    }
    for (size_t e = 0; e < n_experts; e++) {
        if (counts[e]) {
            group_of[e] = n;
            s->groups[n++] = (ExpertRows){e, end, 0};
            end += slots_of_rows(counts[e]);
        }
    }
    for (; n < n_groups; n++) {
        s->groups[n] = (ExpertRows){0, end, 0};
    }
    for (size_t i = 0; i < n_routes; i++) {
        Route *route = &s->routes[i];
        route->group = group_of[route->group];
        route->slot = s->groups[route->group].first + s->groups[route->group].n++;
    }
}

// Chooses the experts of all rows.
static void route(const Pass *pass, size_t n_groups)
{
    const Scratch *s = pass->scratch;
    const Config *p = &pass->model->config;
    for (size_t r = 0; r < pass->n_rows; r++) {
        route_row(p, s->router + r * s->router_stride, s->routes + r * p->n_experts_used);
    }
    make_groups(pass, n_groups);
    // An observer sees all slots, also those between the groups.
    if (s->observer) {
        memset(s->gate.x, 0, s->n_slots * s->hidden_stride * sizeof *s->gate.x);
    }
}

// Copies a row of h into its slots.
static void gather_row(const Pass *pass, const Activations *h, size_t row)
{
    const Scratch *s = pass->scratch;
    const size_t n_used = pass->model->config.n_experts_used;
    for (size_t i = 0; i < n_used; i++) {
        const Route *route = &s->routes[row * n_used + i];
        const ExpertRows *group = &s->groups[route->group];
        const Activations in = slots_of(&s->slot_normed, group);
        const size_t at = route->slot - group->first;
        memcpy(in.x + at * in.stride, h->x + row * h->stride, in.stride * sizeof *in.x);
        if (pass->model->quantized) {
            quantize(&in, at, 0, in.stride);
        }
    }
}

// gate of all slots. The units are those of the groups, one group after the other.
static void gate_experts(Team team, const Pass *pass, const Block *b, Normed *h, size_t n_groups)
{
    const Scratch *s = pass->scratch;
    const Config *p = &pass->model->config;
    TeamStep step = team_step(team, n_groups * (p->hidden_dim / QUANT_BLOCK));
    while (team_claim(&step)) {
        size_t offset = 0;
        for (size_t g = 0; g < n_groups && s->groups[g].n; g++) {
            const ExpertRows *rows = &s->groups[g];
            const Block expert = expert_block(p, b, rows->expert);
            const Units units = units_of(&expert.gate_proj, &step, &offset);
            const Activations in = slots_of(&s->slot_normed, rows);
            if (units.begin < units.end) {
                gated(pass, &expert, pass->n_rows == 1 ? normed_rows(team, pass, h) : &in,
                      rows->first, rows->n, units);
            }
        }
    }
}

// slot_out = down_proj(gate) of all slots, the columns of these units.
static void expert_outputs(const Pass *pass, const Block *b, size_t n_groups, Units units)
{
    const Scratch *s = pass->scratch;
    for (size_t g = 0; g < n_groups && s->groups[g].n; g++) {
        const ExpertRows *rows = &s->groups[g];
        const Block expert = expert_block(&pass->model->config, b, rows->expert);
        const Activations in = slots_of(&s->gate, rows);
        float *out = s->slot_out + rows->first * s->dim_stride;
        matmul(&expert.down_proj, &in, (OutputRows){out, s->dim_stride, rows->n}, units);
    }
}

// branch = the outputs of a row's experts, added with their weights, in the columns of these units.
static void mix_columns(const Pass *pass, Units units)
{
    const Scratch *s = pass->scratch;
    const size_t n_used = pass->model->config.n_experts_used;
    const size_t begin = units.begin * QUANT_BLOCK, end = units.end * QUANT_BLOCK;
    for (size_t r = 0; r < pass->n_rows; r++) {
        float *branch = s->branch + r * s->dim_stride;
        memset(branch + begin, 0, (end - begin) * sizeof *branch);
        for (size_t i = 0; i < n_used; i++) {
            const Route *route = &s->routes[r * n_used + i];
            const float *out = s->slot_out + route->slot * s->dim_stride;
            for (size_t k = begin; k < end; k++) {
                branch[k] += route->weight * out[k];
            }
        }
    }
}

// Shows all slots to an observer, as many rows at a time as a pass has at most.
static void observe_slots(Team team, const Pass *pass, size_t layer)
{
    const Scratch *s = pass->scratch;
    for (size_t first = 0; s->observer && first < s->n_slots; first += s->max_rows) {
        const size_t left = s->n_slots - first, n = left < s->max_rows ? left : s->max_rows;
        const Activations in = slots_of(&s->gate, &(ExpertRows){.first = first, .n = n});
        observe(team, pass, layer, INPUT_DOWN, &in, n);
    }
}

// --------------------------------------------------------------------------------------------
// Attention's items

// The item of a number, which counts splits, then kv_heads, then tiles.
static Item nth_item(const Pass *pass, size_t index)
{
    const size_t n_kv_heads = pass->model->config.n_kv_heads, head = index / pass->n_splits;
    return (Item){.tile = &pass->scratch->tiles[head / n_kv_heads],
                  .kv_head = head % n_kv_heads,
                  .split = index % pass->n_splits};
}

// RoPE of a query or key (head_dim) at its position, unless its layer has no table. Models that
// normalise heads one by one do so before it (Qwen 3, arXiv:2505.09388) or after it (Hunyuan); the
// weights of the norm are (head_dim).
static void rotate(const Config *p, const RopeTable *table, const float *norm_weight, float *x,
                   size_t position)
{
    if (p->qk_norm == QK_NORM_HEAD) {
        rms_norm(x, x, norm_weight, p->head_dim, (float)p->norm_eps);
    }
    if (table) {
        const size_t angles = position * (table->rotary_dim / 2);
        rope(x, table->cos + angles, table->sin + angles, table->rotary_dim);
    }
    if (p->qk_norm == QK_NORM_HEAD_AFTER_ROPE) {
        rms_norm(x, x, norm_weight, p->head_dim, (float)p->norm_eps);
    }
}

// Stores the key and value of one head of a row in the cache. A page holds
//
//     | keys, values of head 0 | keys, values of head 1 | ..     of layer 0, then of layer 1, ..
//
// and the kernel interleaves keys and values with those of the page's other positions, as attention
// reads them (simd/simd.h).
static void store_head(const Pass *pass, size_t layer, size_t row, size_t kv_head)
{
    const Cache *cache = pass->cache;
    const Scratch *s = pass->scratch;
    const size_t hd = cache->head_dim, position = pass->rows[row].position;
    const float *k = s->k + row * s->kv_stride + kv_head * hd;  // (head_dim)
    const float *v = s->v + row * s->kv_stride + kv_head * hd;  // (head_dim)
    char *keys = cache_page(cache, pass->rows[row].sequence, position) +
                 cache_head_offset(cache, layer, kv_head);
    store_kv(keys, keys + cache->k_bytes, position % PAGE_POSITIONS, k, v, hd, cache->f16);
}

// The same for the key and value of a row that has just been computed: rotates the key first.
static void place_head(const Pass *pass, size_t layer, size_t row, size_t kv_head)
{
    const Scratch *s = pass->scratch;
    float *k = s->k + row * s->kv_stride + kv_head * pass->cache->head_dim;
    rotate(&pass->model->config, cache_rope(pass->cache, layer), pass->model->blocks[layer].k_norm,
           k, pass->rows[row].position);
    store_head(pass, layer, row, kv_head);
}

// The result of a (row, head) over a split, or over all splits if n_splits is 1. Results are
// (n_rows, n_heads, n_splits, result_stride), so those to be combined are adjacent. Each is
//
//     | o (head_dim, padded to LANES) | max | sum | padding to LANES |
static float *result_of(const Pass *pass, size_t row, size_t head, size_t split)
{
    const size_t i = (row * pass->model->config.n_heads + head) * pass->n_splits + split;
    return pass->scratch->results + i * pass->scratch->result_stride;
}

// The factor that queries have in Ministral 3 because of their position, else 1.
static float query_scale(const Config *p, size_t position)
{
    if (p->query_beta == 0) {
        return 1.0f;
    }
    return (float)query_factor(p->query_beta, p->rope_scaling.original_context, position);
}

// Copies an item's queries, rotated and multiplied by the scale of the scores, into queries (n, head_dim). Sets
// what each of them sees and where its result goes, and clears that result. Returns n.
static size_t load_queries(const Pass *pass, size_t layer, const Item *item, float *queries,
                           Visible *visible, float **results)
{
    const Scratch *s = pass->scratch;
    const Config *p = &pass->model->config;
    const AttentionTile *tile = item->tile;
    const size_t hd = p->head_dim, first_head = item->kv_head * (p->n_heads / p->n_kv_heads);
    const double plain_scale = 1.0 / sqrt((double)hd);
    const float scale = (float)(p->attention_scale != 0 ? p->attention_scale : plain_scale);
    const RopeTable *table = cache_rope(pass->cache, layer);
    const float *norm_weight = pass->model->blocks[layer].q_norm;
    size_t t = 0;
    for (size_t row = tile->row; row < tile->row + tile->n_rows; row++) {
        const size_t position = pass->rows[row].position;
        const Visible seen = cache_visible(pass->cache, layer, position);
        const float row_scale = scale * query_scale(p, position);
        for (size_t h = 0; h < tile->n_heads; h++, t++) {
            const size_t head = first_head + tile->head + h;
            float *q = queries + t * hd;
            memcpy(q, s->q + row * s->q_stride + head * hd, hd * sizeof *q);
            rotate(p, table, norm_weight, q, position);
            for (size_t i = 0; i < hd; i++) {
                q[i] *= row_scale;
            }
            visible[t] = seen;
            results[t] = result_of(pass, row, head, item->split);
            // sum = 0: nothing seen yet.
            memset(results[t], 0, s->result_stride * sizeof *results[t]);
        }
    }
    return t;
}

// Combines the results of all splits for n heads of a row, starting with `first`, and computes
// attended = o / sum, quantised for o_proj. If the model is quantised, the heads must begin and end
// with a quantisation block (or with the row).
static void finish_heads(const Pass *pass, size_t row, size_t first, size_t n)
{
    const Scratch *s = pass->scratch;
    const size_t hd = pass->model->config.head_dim;
    for (size_t head = first; head < first + n; head++) {
        float *result = result_of(pass, row, head, 0);
        for (size_t split = 1; split < pass->n_splits; split++) {
            attend_combine(result, result_of(pass, row, head, split), hd);
        }
        attend_finish(s->attended.x + row * s->q_stride + head * hd, result, hd);
    }
    if (pass->model->quantized) {
        quantize(&s->attended, row, first * hd, round_up((first + n) * hd, QUANT_BLOCK));
    }
}

// Computes the results of an item's queries, and finishes its heads if finish_in_item says so.
static void attend_item(Team team, const Pass *pass, size_t layer, const Item *item)
{
    const Scratch *s = pass->scratch;
    const Cache *cache = pass->cache;
    const AttentionTile *tile = item->tile;
    const size_t hd = cache->head_dim;
    const Row *row = &pass->rows[tile->row], *last_row = row + tile->n_rows - 1;
    const bool all_splits = pass->n_splits == 1;
    // Of a row's items for this kv_head, only the one whose split holds the row's position reads
    // the new key and value.
    if (pass->store_in_item && (all_splits || item->split == row->position / SPLIT_POSITIONS)) {
        place_head(pass, layer, tile->row, item->kv_head);
    }

    float *queries = s->thread_scratch + team.id * s->thread_stride;  // (TILE_QUERIES, head_dim)
    float *scores = queries + TILE_QUERIES * hd;               // (TILE_QUERIES, SPLIT_POSITIONS)
    float *partial = scores + TILE_QUERIES * SPLIT_POSITIONS;  // (TILE_QUERIES, result_stride)
    float *results[TILE_QUERIES];
    Visible visible[TILE_QUERIES];
    const size_t n_queries = load_queries(pass, layer, item, queries, visible, results);
    const size_t k_offset = cache_head_offset(cache, layer, item->kv_head);
    Attend a = {.n_queries = n_queries,
                .head_dim = hd,
                .q = queries,
                .visible = visible,
                .pages = cache_sequence_pages(cache, row->sequence),
                .k_offset = k_offset,
                .v_offset = k_offset + cache->k_bytes,
                .f16 = cache->f16,
                .cap = (float)pass->model->config.attention_cap,
                .scores = scores,
                .out = partial,
                .out_stride = s->result_stride};

    // Nothing is visible after the last query's position or before the first query's window. An
    // item with all splits skips those before the window; one with a single split leaves sum = 0.
    const size_t reached = last_row->position / SPLIT_POSITIONS + 1;
    const size_t window = cache_visible(cache, layer, row->position).begin;
    const size_t first = all_splits ? window / SPLIT_POSITIONS : item->split;
    const size_t end = all_splits || reached < item->split + 1 ? reached : item->split + 1;
    for (a.split = first; a.split < end; a.split++) {
        attend(&a);
        for (size_t t = 0; t < n_queries; t++) {
            attend_combine(results[t], partial + t * s->result_stride, hd);
        }
    }
    const size_t first_head = item->kv_head * (pass->model->config.n_heads / cache->n_kv_heads);
    for (size_t r = 0; pass->finish_in_item && r < tile->n_rows; r++) {
        finish_heads(pass, tile->row + r, first_head + tile->head, tile->n_heads);
    }
}

// Finishes all heads if their results were made by several items, or if heads share a quantisation
// block. A unit is the smallest number of heads that ends with a block. With head_dim 48,
//
//     heads                   | 0       | 1       | 2       | 3       |
//     quantisation blocks     | 0    | 1    | 2    | 3    | 4    | 5    |
//     units                   | 0                 | 1                 |
static void finish_rows(Team team, const Pass *pass)
{
    const Config *p = &pass->model->config;
    size_t unit_heads = 1;
    while (unit_heads * p->head_dim % QUANT_BLOCK != 0) {
        unit_heads++;
    }
    const size_t row_units = (p->n_heads + unit_heads - 1) / unit_heads;
    TeamStep step = team_step(team, pass->n_rows * row_units);
    while (team_claim(&step)) {
        for (size_t unit = step.begin; unit < step.end; unit++) {
            const size_t first = unit % row_units * unit_heads, left = p->n_heads - first;
            finish_heads(pass, unit / row_units, first, left < unit_heads ? left : unit_heads);
        }
    }
}

// --------------------------------------------------------------------------------------------
// Before and after the graph

// Removes rows from their sequences again, last row first, so that each sequence ends at the
// position of its first row: the length that it had before the pass.
static void drop_rows(Cache *cache, const Row *rows, size_t n_rows)
{
    for (; n_rows > 0; n_rows--) {
        cache_truncate(cache, rows[n_rows - 1].sequence, rows[n_rows - 1].position);
    }
}

// Stores zeros as the keys and values of all rows. A sequence that is cut goes on in its last page,
// and the mask would not hide a NaN behind its end (see take_page in cache.c).
static void clear_rows(const Pass *pass)
{
    const Config *p = &pass->model->config;
    const Scratch *s = pass->scratch;
    memset(s->k, 0, pass->n_rows * s->kv_stride * sizeof *s->k);
    memset(s->v, 0, pass->n_rows * s->kv_stride * sizeof *s->v);
    for (size_t layer = 0; layer < p->n_layers; layer++) {
        for (size_t i = 0; i < pass->n_rows * p->n_kv_heads; i++) {
            store_head(pass, layer, i / p->n_kv_heads, i % p->n_kv_heads);
        }
    }
}

// Assigns one row its position in the cache, and its place among the logits if it wants them.
static bool append_row(Pass *pass, Row *row, size_t index, Error *err)
{
    Scratch *s = pass->scratch;
    const size_t vocab_size = pass->model->config.vocab_size;
    if (row->token < 0 || (size_t)row->token >= vocab_size) {
        return error_set(err, ERROR_INPUT, "token %d, expected 0 to %zu", row->token,
                         vocab_size - 1);
    }
    if (row->wants_logits && pass->n_logits == s->max_logits) {
        return error_set(err, ERROR_RUN, "logits for more than %zu rows", s->max_logits);
    }
    if (!cache_append(pass->cache, row->sequence, row->token, &row->position, err)) {
        return false;
    }
    row->logits = NULL;
    if (row->wants_logits) {
        row->logits = s->logits + pass->n_logits * s->vocab_stride;
        s->logit_rows[pass->n_logits++] = index;
    }
    return true;
}

// Appends all rows to their sequences, in order, or none if there is an error.
static bool append_rows(Pass *pass, Row *rows, Error *err)
{
    const size_t max_rows = pass->scratch->max_rows;
    if (pass->n_rows < 1 || pass->n_rows > max_rows) {
        return error_set(err, ERROR_RUN, "a forward pass of %zu rows, expected 1 to %zu",
                         pass->n_rows, max_rows);
    }
    for (size_t r = 0; r < pass->n_rows; r++) {
        if (!append_row(pass, &rows[r], r, err)) {
            drop_rows(pass->cache, rows, r);
            return false;
        }
    }
    return true;
}

static size_t count_splits(size_t positions)
{
    return (positions + SPLIT_POSITIONS - 1) / SPLIT_POSITIONS;
}

// Cuts the rows into tiles: as many consecutive rows of a sequence as fit into TILE_QUERIES queries
// with all heads that share a kv_head, or if not even one row fits, some of its heads. With 24
// queries:
//
//     heads per kv_head       a tile                            tiles of 14 rows of a sequence
//              4              6 rows x 4 heads                  rows 0..5, 6..11, 12..13
//             50              1 row x 24 heads, and 24, and 2   row 0 thrice, row 1 thrice, ..
//
// Returns the longest context, in positions.
static size_t cut_tiles(Pass *pass)
{
    const Config *p = &pass->model->config;
    const size_t heads_per_kv = p->n_heads / p->n_kv_heads;
    const size_t rows_per_tile = heads_per_kv < TILE_QUERIES ? TILE_QUERIES / heads_per_kv : 1;
    size_t longest = 0;
    for (size_t r = 0, n; r < pass->n_rows; r += n) {
        const Row *row = &pass->rows[r];
        for (n = 1; n < rows_per_tile && r + n < pass->n_rows; n++) {
            if (row[n].sequence != row->sequence) {
                break;
            }
        }
        for (size_t head = 0; head < heads_per_kv; head += TILE_QUERIES) {
            const size_t left = heads_per_kv - head;
            const size_t n_heads = left < TILE_QUERIES ? left : TILE_QUERIES;
            pass->scratch->tiles[pass->n_tiles++] = (AttentionTile){r, n, head, n_heads};
        }
        longest = row[n - 1].position >= longest ? row[n - 1].position + 1 : longest;
    }
    return longest;
}

// Decides how attention is cut into items, and which step stores keys and values and finishes
// heads. Also makes the scratch ready: the tiles of activations, and bad_step.
static void plan_pass(Pass *pass)
{
    const Config *p = &pass->model->config;
    Scratch *s = pass->scratch;
    const size_t splits = count_splits(cut_tiles(pass));
    // Contexts are split between threads if items with all splits do not keep them busy: with four
    // per thread, the last to finish is not far behind the others. (Tiles of many rows may need
    // more results than there is room for.)
    const bool few_items = pass->n_tiles * p->n_kv_heads < 4 * s->threads;
    const bool room = pass->n_rows * p->n_heads * splits <= s->n_results;
    pass->n_splits = s->threads > 1 && few_items && room ? splits : 1;
    // Only one item reads the key of a row if no later row of its sequence is in the pass, and if
    // the heads of a kv_head fit into one tile.
    pass->store_in_item = p->n_heads / p->n_kv_heads <= TILE_QUERIES;
    for (size_t r = 0; r < pass->n_rows; r++) {
        const Row *row = &pass->rows[r];
        if (row->position + 1 != cache_length(pass->cache, row->sequence)) {
            pass->store_in_item = false;
        }
    }
    pass->finish_in_item = pass->n_splits == 1 &&
                           (!pass->model->quantized || p->head_dim % QUANT_BLOCK == 0);
    s->normed.tile = s->attended.tile = s->gate.tile = activation_tile(pass->n_rows);
    // For all threads that were requested: the team may be smaller.
    for (size_t t = 0; t < s->threads; t++) {
        s->bad_step[t] = SIZE_MAX;
    }
}

// Reports the first step whose output is not finite, on whichever thread. Steps are numbered: 0 the
// embedding, then the blocks, and after these the lm_head.
static bool check_finite(const Pass *pass, Error *err)
{
    const Model *m = pass->model;
    size_t bad = SIZE_MAX;
    for (size_t t = 0; t < pass->scratch->threads; t++) {
        bad = pass->scratch->bad_step[t] < bad ? pass->scratch->bad_step[t] : bad;
    }
    if (bad == SIZE_MAX) {
        return true;
    }
    if (bad == 0) {
        return error_set(err, ERROR_INPUT, "%s: the embedding of a token is not finite", m->path);
    }
    if (bad <= m->config.n_layers) {
        return error_set(err, ERROR_INPUT, "%s: blocks.%zu computes a value that is not finite",
                         m->path, bad - 1);
    }
    return error_set(err, ERROR_INPUT, "%s: lm_head computes a value that is not finite", m->path);
}

// --------------------------------------------------------------------------------------------
// Scratch

// All buffers of values, f32 or quantised, are in one piece of memory, which costs nothing until it
// is touched and can be backed by huge pages. A Layout collects their places before the memory is
// allocated:
//
//     offset    0              64 i                  64 j                  bytes
//               | x | (unused) | normed.x | (unused) | normed.q | ..       |
//
// Each starts on a cache line, so no two share one. An overflow sticks and is checked once, at the
// end.
enum { MAX_BUFFERS = 43 };  // 13, and 6 for each of the 5 Activations

typedef struct {
    struct {
        void *pointer;  // to the pointer that will hold the buffer's address
        size_t offset;
    } buffers[MAX_BUFFERS];
    size_t n, bytes;
    bool overflows;
} Layout;

static void layout_add(Layout *l, void *pointer, size_t rows, size_t stride, size_t value_bytes)
{
    size_t size;
    l->buffers[l->n].pointer = pointer;
    l->buffers[l->n++].offset = l->bytes;
    if (!size_mul(rows, stride * value_bytes, &size) || !size_add(l->bytes, size, &l->bytes) ||
        l->bytes > SIZE_MAX / 2) {
        l->overflows = true;
        l->bytes = 0;
    }
    l->bytes = round_up(l->bytes, 64);
}

// The arrays of Activations: x (rows, stride), and for quant_rows rows, in full tiles, the
// quantised values (stride) and four numbers for each of the `blocks` quantisation blocks.
static void reserve_activations(Layout *l, Activations *a, size_t rows, size_t quant_rows,
                                size_t stride, size_t blocks)
{
    a->stride = stride;
    layout_add(l, &a->x, rows, stride, sizeof *a->x);
    layout_add(l, &a->q, quant_rows, stride, sizeof *a->q);
    layout_add(l, &a->q_scale, quant_rows, blocks, sizeof *a->q_scale);
    layout_add(l, &a->q_total, quant_rows, blocks, sizeof *a->q_total);
    layout_add(l, &a->q_begin4, quant_rows, blocks, sizeof *a->q_begin4);
    layout_add(l, &a->q_begin8, quant_rows, blocks, sizeof *a->q_begin8);
}

static void reserve_buffers(Layout *l, Scratch *s)
{
    const size_t rows = s->max_rows, f32 = sizeof(float);
    // Quantised rows are in full tiles (activation_tile): a pass over any number of rows up to
    // max_rows may need a few more, less than one per tile.
    const size_t padded_rows = rows + rows / ACTIVATION_TILE + 1;
    // The rows of thread_normed belong to different threads: each starts on a cache line in every
    // array.
    const size_t thread_stride = round_up(s->dim_stride, 64);
    const size_t thread_blocks = round_up(thread_stride / QUANT_BLOCK, LANES);
    layout_add(l, &s->x, rows, s->dim_stride, f32);
    layout_add(l, &s->branch, rows, s->dim_stride, f32);
    reserve_activations(l, &s->normed, rows, padded_rows, s->dim_stride,
                        s->dim_stride / QUANT_BLOCK);
    reserve_activations(l, &s->thread_normed, s->threads, s->threads, thread_stride, thread_blocks);
    layout_add(l, &s->q, rows, s->q_stride, f32);
    layout_add(l, &s->k, rows, s->kv_stride, f32);
    layout_add(l, &s->v, rows, s->kv_stride, f32);
    reserve_activations(l, &s->attended, rows, padded_rows, s->q_stride, s->q_stride / QUANT_BLOCK);
    const size_t mlp_rows = s->n_slots ? s->n_slots : padded_rows;
    reserve_activations(l, &s->gate, mlp_rows, mlp_rows, s->hidden_stride,
                        s->hidden_stride / QUANT_BLOCK);
    layout_add(l, &s->up, mlp_rows, s->hidden_stride, f32);
    layout_add(l, &s->logits, s->max_logits, s->vocab_stride, f32);
    reserve_activations(l, &s->slot_normed, s->n_slots, s->n_slots, s->dim_stride,
                        s->dim_stride / QUANT_BLOCK);
    layout_add(l, &s->slot_out, s->n_slots, s->dim_stride, f32);
    layout_add(l, &s->router, rows, s->router_stride, f32);
    layout_add(l, &s->routes, s->n_routes, 1, sizeof *s->routes);
    layout_add(l, &s->groups, s->n_groups, 1, sizeof *s->groups);
    layout_add(l, &s->results, s->n_results, s->result_stride, f32);
    layout_add(l, &s->thread_scratch, s->threads, s->thread_stride, f32);
}

bool scratch_create(Scratch *s, const Config *p, const Cache *cache, ScratchSizes sizes, Error *err)
{
    const size_t rows = sizes.max_rows, threads = sizes.threads;
    const size_t heads_per_kv = p->n_heads / p->n_kv_heads;
    const size_t row_tiles = (heads_per_kv + TILE_QUERIES - 1) / TILE_QUERIES;
    const size_t result_stride = round_up(p->head_dim, LANES) + LANES;
    *s = (Scratch){
        .max_rows = rows,
        .max_logits = sizes.max_logits,
        .threads = threads,
        .dim_stride = round_up(p->dim, QUANT_BLOCK),
        .q_stride = round_up(p->n_heads * p->head_dim, QUANT_BLOCK),
        .kv_stride = round_up(p->n_kv_heads * p->head_dim, QUANT_BLOCK),
        .hidden_stride = round_up(p->hidden_dim, QUANT_BLOCK),
        .vocab_stride = round_up(p->vocab_size, QUANT_BLOCK),
        .router_stride = round_up(p->n_experts, QUANT_BLOCK),
        .n_routes = rows * p->n_experts_used,
        .result_stride = result_stride,
        // One per (row, head), and for a few rows one per split too: enough to give every thread a
        // few items.
        .n_results = rows * p->n_heads + 4 * threads * p->n_heads * count_splits(cache->context),
        .thread_stride = round_up(TILE_QUERIES * (p->head_dim + SPLIT_POSITIONS + result_stride),
                                  LANES),
    };
    s->n_groups = s->n_routes < p->n_experts ? s->n_routes : p->n_experts;
    s->n_slots = s->n_routes + s->n_routes / ACTIVATION_TILE + s->n_groups;
    Layout layout = {0};
    reserve_buffers(&layout, s);
    if (layout.overflows) {
        return error_memory(err, "activations", SIZE_MAX);
    }
    s->memory = memory_map(layout.bytes);
    s->memory_bytes = layout.bytes;
    s->tiles = calloc(row_tiles * rows, sizeof *s->tiles);
    s->logit_rows = calloc(sizes.max_logits, sizeof *s->logit_rows);
    s->bad_step = calloc(threads, sizeof *s->bad_step);
    if (!s->memory || !s->tiles || !s->logit_rows || !s->bad_step) {
        scratch_free(s);
        return error_memory(err, "activations", layout.bytes);
    }
    // The pointers have several types, so their bytes are copied.
    for (size_t i = 0; i < layout.n; i++) {
        void *buffer = (char *)s->memory + layout.buffers[i].offset;
        memcpy(layout.buffers[i].pointer, &buffer, sizeof buffer);
    }
    return true;
}

void scratch_free(Scratch *s)
{
    memory_unmap(s->memory, s->memory_bytes);
    free(s->tiles);
    free(s->logit_rows);
    free(s->bad_step);
    *s = (Scratch){0};
}

// --------------------------------------------------------------------------------------------
// Weights

// Finds the weights of one layer by their names, blocks.LAYER.NAME (docs/format.md). The checkpoint
// checks their shapes, so later code need not check the file.
static bool find_block(Block *b, size_t layer, const Checkpoint *c, Error *err)
{
    const Config *p = &c->config;
    const size_t q_dim = p->n_heads * p->head_dim, kv_dim = p->n_kv_heads * p->head_dim;
    const bool full = p->qk_norm == QK_NORM_FULL;
    const bool pre = p->norm_placement != NORM_POST, post = p->norm_placement != NORM_PRE;
    const size_t n_mlps = p->n_experts ? p->n_experts : 1;
    const struct {
        const char *name;
        size_t rows, cols;
        Matrix *out;
    } matrices[] = {
        {"attn.q_proj", q_dim, p->dim, &b->q_proj},
        {"attn.k_proj", kv_dim, p->dim, &b->k_proj},
        {"attn.v_proj", kv_dim, p->dim, &b->v_proj},
        {"attn.o_proj", p->dim, q_dim, &b->o_proj},
        {"mlp.gate_proj", n_mlps * p->hidden_dim, p->dim, &b->gate_proj},
        {"mlp.up_proj", n_mlps * p->hidden_dim, p->dim, &b->up_proj},
        {"mlp.down_proj", n_mlps * p->dim, p->hidden_dim, &b->down_proj},
        {"mlp.router", p->n_experts, p->dim, &b->router},
    };
    const struct {
        const char *name;
        bool present;
        size_t size;
        const float **out;
    } vectors[] = {
        {"attn.q_bias", p->qkv_bias, q_dim, &b->q_bias},
        {"attn.k_bias", p->qkv_bias, kv_dim, &b->k_bias},
        {"attn.v_bias", p->qkv_bias, kv_dim, &b->v_bias},
        {"attn.q_norm", p->qk_norm, full ? q_dim : p->head_dim, &b->q_norm},
        {"attn.k_norm", p->qk_norm, full ? kv_dim : p->head_dim, &b->k_norm},
        {"attn.o_bias", p->o_bias, p->dim, &b->o_bias},
        {"mlp.gate_bias", p->mlp_bias, p->hidden_dim, &b->gate_bias},
        {"mlp.up_bias", p->mlp_bias, p->hidden_dim, &b->up_bias},
        {"mlp.down_bias", p->mlp_bias, p->dim, &b->down_bias},
        {"attn_norm", pre, p->dim, &b->attn_norm},
        {"mlp_norm", pre, p->dim, &b->mlp_norm},
        {"attn_post_norm", post, p->dim, &b->attn_post_norm},
        {"mlp_post_norm", post, p->dim, &b->mlp_post_norm},
    };
    char name[48];
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) {
        snprintf(name, sizeof name, "blocks.%zu.%s", layer, matrices[i].name);
        if (matrices[i].rows &&
            !checkpoint_matrix(c, name, matrices[i].rows, matrices[i].cols, matrices[i].out, err)) {
            return false;
        }
    }
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        snprintf(name, sizeof name, "blocks.%zu.%s", layer, vectors[i].name);
        if (vectors[i].present &&
            !checkpoint_vector(c, name, vectors[i].size, vectors[i].out, err)) {
            return false;
        }
    }
    return true;
}

static bool find_weights(Model *m, const Checkpoint *c, Error *err)
{
    const Config *p = &m->config;
    if (!checkpoint_matrix(c, "embedding", p->vocab_size, p->dim, &m->embedding, err)) {
        return false;
    }
    for (size_t layer = 0; layer < p->n_layers; layer++) {
        if (!find_block(&m->blocks[layer], layer, c, err)) {
            return false;
        }
    }
    if (!checkpoint_vector(c, "norm", p->dim, &m->norm, err)) {
        return false;
    }
    // A tied model uses one matrix to look tokens up and to score them.
    m->lm_head = m->embedding;
    return p->tied_head || checkpoint_matrix(c, "head", p->vocab_size, p->dim, &m->lm_head, err);
}

// How many bytes of a tensor a pass over one token reads: of an embedding that is not also the
// lm_head next to nothing, of the matrices of experts those that are used.
static size_t bytes_of_token(const Model *m, const Tensor *t)
{
    const Config *p = &m->config;
    const Matrix *w = &t->matrix;
    size_t bytes;
    if ((w->data == m->embedding.data && !p->tied_head) ||
        !matrix_bytes(w->type, w->rows, w->cols, &bytes)) {
        return 0;
    }
    const char *part = name_in_block(t->name);
    const bool of_experts = p->n_experts && part && strncmp(part, "mlp.", 4) == 0 && !t->vector &&
                            !is_router(t->name);
    return of_experts ? bytes / p->n_experts * p->n_experts_used : bytes;
}

bool model_create(Model *m, const Checkpoint *c, Error *err)
{
    const size_t n_layers = c->config.n_layers;
    *m = (Model){.config = c->config, .path = c->path, .blocks = calloc(n_layers, sizeof(Block))};
    if (!m->blocks) {
        return error_memory(err, "the list of blocks", n_layers * sizeof(Block));
    }
    if (!find_weights(m, c, err)) {
        model_free(m);
        return false;
    }
    for (size_t i = 0; i < c->n_tensors; i++) {
        m->read_bytes += bytes_of_token(m, &c->tensors[i]);
        m->quantized |= weight_types[c->tensors[i].matrix.type].quantized;
    }
    return true;
}

void model_free(Model *m)
{
    free(m->blocks);
    *m = (Model){0};
}
