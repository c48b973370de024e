// model.c - the whole transformer, from top to bottom as in the paper (Llama, arXiv:2302.13971;
// grouped queries, arXiv:2305.13245):
//
//     x = embedding[token]
//     each block:  x += o_proj(attention(norm(x)))
//                  x += down_proj(silu(gate_proj(norm(x))) * up_proj(norm(x)))
//     logits = head(norm(x))
//
// All of a forward pass is one parallel region. Every thread walks the whole graph and takes its
// share of each step - a range of outputs, of rows or of attention tiles, never a part of a sum -
// with a barrier where a step reads what other threads wrote: for a single row five times a layer,
// after q, k and v; attention; o_proj; gate and up; down_proj.
#include "model.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"

// --------------------------------------------------------------------------------------------
// Weights

static bool block_create(Block *b, size_t layer, const Config *p, Checkpoint *c, Error *err)
{
    size_t q_dim = p->n_heads * p->head_dim, kv_dim = p->n_kv_heads * p->head_dim;
    const struct {
        const char *name;
        size_t rows, cols;
        Matrix *out;
    } matrices[] = {
        {"attn.q_proj", q_dim, p->dim, &b->q_proj},
        {"attn.k_proj", kv_dim, p->dim, &b->k_proj},
        {"attn.v_proj", kv_dim, p->dim, &b->v_proj},
        {"attn.o_proj", p->dim, q_dim, &b->o_proj},
        {"mlp.gate_proj", p->hidden_dim, p->dim, &b->gate_proj},
        {"mlp.up_proj", p->hidden_dim, p->dim, &b->up_proj},
        {"mlp.down_proj", p->dim, p->hidden_dim, &b->down_proj},
    };
    char name[48];
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) {
        snprintf(name, sizeof name, "blocks.%zu.%s", layer, matrices[i].name);
        if (!checkpoint_matrix(c, name, matrices[i].rows, matrices[i].cols, matrices[i].out, err)) {
            return false;
        }
    }
    const struct {
        const char *name;
        size_t size;
        const float **out;
    } biases[] = {{"attn.q_bias", q_dim, &b->q_bias},
                  {"attn.k_bias", kv_dim, &b->k_bias},
                  {"attn.v_bias", kv_dim, &b->v_bias}};
    for (size_t i = 0; p->qkv_bias && i < sizeof biases / sizeof *biases; i++) {
        snprintf(name, sizeof name, "blocks.%zu.%s", layer, biases[i].name);
        if (!checkpoint_vector(c, name, biases[i].size, biases[i].out, err)) {
            return false;
        }
    }
    snprintf(name, sizeof name, "blocks.%zu.attn_norm", layer);
    if (!checkpoint_vector(c, name, p->dim, &b->attn_norm, err)) {
        return false;
    }
    snprintf(name, sizeof name, "blocks.%zu.mlp_norm", layer);
    return checkpoint_vector(c, name, p->dim, &b->mlp_norm, err);
}

bool model_create(Model *m, Checkpoint *c, Error *err)
{
    const Config *p = &c->config;
    *m = (Model){.config = *p, .path = c->path, .blocks = calloc(p->n_layers, sizeof(Block))};
    if (!m->blocks) {
        return error_memory(err, "the list of blocks", p->n_layers * sizeof(Block));
    }
    bool ok = checkpoint_matrix(c, "embedding", p->vocab_size, p->dim, &m->embedding, err);
    for (size_t layer = 0; ok && layer < p->n_layers; layer++) {
        ok = block_create(&m->blocks[layer], layer, p, c, err);
    }
    ok = ok && checkpoint_vector(c, "norm", p->dim, &m->norm, err);
    if (p->tied_head) {
        m->lm_head = m->embedding;
    } else {
        ok = ok && checkpoint_matrix(c, "head", p->vocab_size, p->dim, &m->lm_head, err);
    }
    for (size_t i = 0; ok && i < c->n_tensors; i++) {
        size_t bytes;
        const Matrix *t = &c->tensors[i].matrix;
        const bool looked_up = t->data == m->embedding.data &&
                               !p->tied_head;  // only a row of it is read
        if (!looked_up && matrix_bytes(t->type, t->rows, t->cols, &bytes)) {
            m->read_bytes += bytes;
        }
        m->quantized |= weight_types[t->type].quantized;
    }
    if (!ok) {
        model_free(m);
    }
    return ok;
}

void model_free(Model *m)
{
    free(m->blocks);
    *m = (Model){0};
}

// --------------------------------------------------------------------------------------------
// Scratch

bool scratch_create(Scratch *s, const Config *p, const Cache *cache, ScratchSizes sizes, Error *err)
{
    const size_t max_rows = sizes.max_rows, max_logits = sizes.max_logits, threads = sizes.threads;
    const size_t heads_per_kv = p->n_heads / p->n_kv_heads;
    const size_t parts = (heads_per_kv + TILE_QUERIES - 1) / TILE_QUERIES * max_rows;
    const size_t dims = round_up(p->head_dim, LANES);
    const size_t tile_rows = max_rows + max_rows / ACTIVATION_TILE + 1;  // whole tiles of any n
    const size_t chunks = (cache->context + SPLIT_POSITIONS - 1) / SPLIT_POSITIONS;
    *s = (Scratch){
        .threads = threads,
        .max_rows = max_rows,
        .max_logits = max_logits,
        .dim_stride = round_up(p->dim, QUANT_BLOCK),
        .q_stride = round_up(p->n_heads * p->head_dim, QUANT_BLOCK),
        .kv_stride = round_up(p->n_kv_heads * p->head_dim, QUANT_BLOCK),
        .hidden_stride = round_up(p->hidden_dim, QUANT_BLOCK),
        .vocab_stride = round_up(p->vocab_size, QUANT_BLOCK),
        .result_stride = dims + LANES,
        // Results of chunks are kept only where there are few rows: enough for every thread to have
        // a few.
        .n_results = max_rows * p->n_heads + 4 * threads * p->n_heads * chunks,
        .per_thread = TILE_QUERIES * (p->head_dim + SPLIT_POSITIONS + dims + LANES),
    };
    s->per_thread = round_up(s->per_thread, LANES);
    // A thread's own row begins a cache line in each buffer.
    const size_t own_stride = round_up(s->dim_stride, 64);
    const size_t own_blocks = round_up(own_stride / QUANT_BLOCK, LANES);
    const struct {
        void *pointer;  // to the buffer's pointer
        size_t count, stride, value_bytes;
    } buffers[] = {
        {&s->x, max_rows, s->dim_stride, 4},
        {&s->normed.x, max_rows, s->dim_stride, 4},
        {&s->normed.q, tile_rows, s->dim_stride, 1},
        {&s->normed.q_scale, tile_rows, s->dim_stride / QUANT_BLOCK, 4},
        {&s->normed.q_total, tile_rows, s->dim_stride / QUANT_BLOCK, 4},
        {&s->normed.q_begin4, tile_rows, s->dim_stride / QUANT_BLOCK, 4},
        {&s->normed.q_begin8, tile_rows, s->dim_stride / QUANT_BLOCK, 4},
        {&s->normed_own.x, threads, own_stride, 4},
        {&s->normed_own.q, threads, own_stride, 1},
        {&s->normed_own.q_scale, threads, own_blocks, 4},
        {&s->normed_own.q_total, threads, own_blocks, 4},
        {&s->normed_own.q_begin4, threads, own_blocks, 4},
        {&s->normed_own.q_begin8, threads, own_blocks, 4},
        {&s->q, max_rows, s->q_stride, 4},
        {&s->k, max_rows, s->kv_stride, 4},
        {&s->v, max_rows, s->kv_stride, 4},
        {&s->attended.x, max_rows, s->q_stride, 4},
        {&s->attended.q, tile_rows, s->q_stride, 1},
        {&s->attended.q_scale, tile_rows, s->q_stride / QUANT_BLOCK, 4},
        {&s->attended.q_total, tile_rows, s->q_stride / QUANT_BLOCK, 4},
        {&s->attended.q_begin4, tile_rows, s->q_stride / QUANT_BLOCK, 4},
        {&s->attended.q_begin8, tile_rows, s->q_stride / QUANT_BLOCK, 4},
        {&s->gate.x, max_rows, s->hidden_stride, 4},
        {&s->gate.q, tile_rows, s->hidden_stride, 1},
        {&s->gate.q_scale, tile_rows, s->hidden_stride / QUANT_BLOCK, 4},
        {&s->gate.q_total, tile_rows, s->hidden_stride / QUANT_BLOCK, 4},
        {&s->gate.q_begin4, tile_rows, s->hidden_stride / QUANT_BLOCK, 4},
        {&s->gate.q_begin8, tile_rows, s->hidden_stride / QUANT_BLOCK, 4},
        {&s->up, max_rows, s->hidden_stride, 4},
        {&s->logits, max_logits, s->vocab_stride, 4},
        {&s->results, s->n_results, s->result_stride, 4},
        {&s->own, threads, s->per_thread, 4},
    };
    const size_t n_buffers = sizeof buffers / sizeof *buffers;
    size_t place[sizeof buffers / sizeof *buffers], total = 0;
    for (size_t i = 0; i < n_buffers; i++) {
        size_t size;
        place[i] = total;
        if (!size_mul(buffers[i].count, buffers[i].stride * buffers[i].value_bytes, &size) ||
            !size_add(total, size, &total) || total > SIZE_MAX / 2) {
            return error_memory(err, "activations", SIZE_MAX);
        }
        total = round_up(total, 64);
    }
    s->memory = memory_map(total);
    s->memory_bytes = total;
    s->tiles = calloc(parts, sizeof *s->tiles);
    s->logit_rows = calloc(max_logits, sizeof *s->logit_rows);
    s->bad_layer = calloc(threads, sizeof *s->bad_layer);
    if (!s->memory || !s->tiles || !s->logit_rows || !s->bad_layer) {
        scratch_free(s);
        return error_memory(err, "activations", total);
    }
    for (size_t i = 0; i < n_buffers; i++) {
        void *buffer = (char *)s->memory + place[i];
        memcpy(buffers[i].pointer, &buffer, sizeof buffer);
    }
    s->normed.stride = s->dim_stride;
    s->normed_own.stride = own_stride;
    s->attended.stride = s->q_stride;
    s->gate.stride = s->hidden_stride;
    return true;
}

void scratch_free(Scratch *s)
{
    memory_unmap(s->memory, s->memory_bytes);
    free(s->tiles);
    free(s->logit_rows);
    free(s->bad_layer);
    *s = (Scratch){0};
}

// --------------------------------------------------------------------------------------------
// Forward

typedef struct {
    const Model *m;
    Cache *cache;
    Scratch *s;
    const Row *rows;
    size_t n;
    size_t n_logits;
    size_t n_tiles;
    size_t n_slots;  // results a query has before they are combined: 1, or one for each chunk of
                     // its context
    bool one_each;   // all rows are of different sequences: no other row sees a row's key and value
} Pass;

// A thread's row of s->normed_own, as scratch_create lays them out.
static Activations normed_own(const Scratch *s, Team team)
{
    const Activations *a = &s->normed_own;
    const size_t x = team.id * a->stride,
                 block = team.id * round_up(a->stride / QUANT_BLOCK, LANES);
    return (Activations){.stride = a->stride,
                         .tile = 1,
                         .x = a->x + x,
                         .q = a->q + x,
                         .q_scale = a->q_scale + block,
                         .q_total = a->q_total + block,
                         .q_begin4 = a->q_begin4 + block,
                         .q_begin8 = a->q_begin8 + block};
}

// Returns rms_norm(x), row i of it from row from[i] of x (from row i where `from` is NULL), n rows;
// notes the layer where a value is not finite. The threads share the rows, and wait for each other.
// A single row each makes for itself: they would wait as long for the one that made it.
static Activations norm_rows(Team team, const Pass *pass, const float *weight, const size_t *from,
                             size_t n, size_t layer)
{
    Scratch *s = pass->s;
    const Config *p = &pass->m->config;
    const Activations normed = n == 1 ? normed_own(s, team) : s->normed;
    size_t begin = 0, end = 1;
    if (n > 1) {
        team_split(team, n, &begin, &end);
    }
    for (size_t r = begin; r < end; r++) {
        const float *x = s->x + (from ? from[r] : r) * s->dim_stride;
        const float mean = rms_norm(normed.x + r * s->dim_stride, x, weight, p->dim, p->norm_eps);
        if (!isfinite(mean) && s->bad_layer[team.id] > layer) {
            s->bad_layer[team.id] = layer;
        }
        if (pass->m->quantized) {
            quantize(&normed, r, 0, s->dim_stride);
        }
    }
    if (n > 1) {
        team_barrier(team);
    }
    return normed;
}

// out = projection of `in`, plus the bias where there is one (each thread adds it to what it has
// just computed).
static void project(Team team, const Pass *pass, const Matrix *m, const Activations *in,
                    const float *bias, float *out, size_t out_stride)
{
    size_t begin, end;
    matmul(team, m, in, (OutputRows){out, out_stride, pass->n});
    if (!bias) {
        return;
    }
    matmul_split(team, m, &begin, &end);
    for (size_t r = 0; r < pass->n; r++) {
        for (size_t i = begin; i < end && i < m->rows; i++) {
            out[r * out_stride + i] += bias[i];
        }
    }
}

// Rotates the key of a row's head, and puts key and value into the cache.
static void store_head(const Pass *pass, size_t r, size_t layer, size_t kv_head)
{
    const Cache *cache = pass->cache;
    const Scratch *s = pass->s;
    const Row *row = &pass->rows[r];
    const size_t hd = cache->head_dim, half = hd / 2;
    float *k = s->k + r * s->kv_stride + kv_head * hd;
    const size_t k_offset = cache_head_offset(cache, layer, kv_head);
    char *page = cache_page(cache, row->sequence, row->position);
    rope(k, cache->rope_cos + row->position * half, cache->rope_sin + row->position * half, hd);
    store_kv(page + k_offset, page + k_offset + cache->k_bytes, row->position % PAGE_POSITIONS, k,
             s->v + r * s->kv_stride + kv_head * hd, hd, cache->f16);
}

// attended = the results of a row's heads first .. first + n - 1, their slots combined in order;
// first * head_dim is a multiple of QUANT_BLOCK, and so is n * head_dim but for the last heads of a row.
static void finish_heads(const Pass *pass, size_t r, size_t first, size_t n)
{
    const Config *p = &pass->m->config;
    const Scratch *s = pass->s;
    const size_t hd = p->head_dim, last = round_up((first + n) * hd, QUANT_BLOCK);
    for (size_t h = first; h < first + n; h++) {
        float *total = s->results + (r * p->n_heads + h) * pass->n_slots * s->result_stride;
        for (size_t slot = 1; slot < pass->n_slots; slot++) {
            attend_combine(total, total + slot * s->result_stride, hd);
        }
        attend_finish(s->attended.x + r * s->q_stride + h * hd, total, hd);
    }
    if (pass->m->quantized) {
        quantize(&s->attended, r, first * hd, last);
    }
}

// x += o_proj(softmax(q k^T / sqrt(head_dim) + mask) v), with q, k, v = projections of normed, q
// and k rotated.
static void attention(Team team, const Pass *pass, const Activations *normed, size_t layer)
{
    const Config *p = &pass->m->config;
    const Block *b = &pass->m->blocks[layer];
    const Cache *cache = pass->cache;
    Scratch *s = pass->s;
    const size_t hd = p->head_dim, heads_per_kv = p->n_heads / p->n_kv_heads, half = hd / 2;
    size_t begin, end;

    project(team, pass, &b->q_proj, normed, b->q_bias, s->q, s->q_stride);
    project(team, pass, &b->k_proj, normed, b->k_bias, s->k, s->kv_stride);
    project(team, pass, &b->v_proj, normed, b->v_bias, s->v, s->kv_stride);
    team_barrier(team);

    // Keys and values that other items than their own will read are stored first.
    if (!pass->one_each) {
        team_split(team, pass->n * p->n_kv_heads, &begin, &end);
        for (size_t unit = begin; unit < end; unit++) {
            store_head(pass, unit / p->n_kv_heads, layer, unit % p->n_kv_heads);
        }
        team_barrier(team);
    }

    // Scores, mask, softmax, weighted sum. An item is a tile of queries of one key head over one
    // slot: a chunk of the positions where there are few tiles, else all chunks in turn.
    const float scale = (float)(1.0 / sqrt((double)hd));
    const bool whole = pass->n_slots == 1 && (!pass->m->quantized || hd % QUANT_BLOCK == 0);
    float *own = s->own + team.id * s->per_thread, *scores = own + TILE_QUERIES * hd;
    float *part = scores + TILE_QUERIES * SPLIT_POSITIONS;
    // Threads take turns, since the later tiles of a prompt see more positions: a tile with all key
    // heads where there are many, so that few lines of memory are written by two threads.
    const size_t n_items = pass->n_tiles * p->n_kv_heads * pass->n_slots;
    const size_t turn = pass->n_tiles < 4 * team.size ? 1 : p->n_kv_heads * pass->n_slots;
    for (size_t n = 0, item; (item = (n / turn * team.size + team.id) * turn + n % turn) < n_items;
         n++) {
        const AttentionTile *tile = &s->tiles[item / pass->n_slots / p->n_kv_heads];
        const size_t kv_head = item / pass->n_slots % p->n_kv_heads, slot = item % pass->n_slots;
        const Row *row = &pass->rows[tile->row];
        Visible visible[TILE_QUERIES];
        float *total[TILE_QUERIES] = {0};
        size_t t = 0;
        const bool own_chunk = pass->n_slots == 1 || slot == row->position / SPLIT_POSITIONS;
        if (pass->one_each && own_chunk) {
            store_head(pass, tile->row, layer, kv_head);
        }
        for (size_t r = 0; r < tile->n_rows; r++) {
            for (size_t h = 0; h < tile->n_heads; h++, t++) {
                const size_t head = kv_head * heads_per_kv + tile->head + h,
                             position = row[r].position;
                float *q = own + t * hd;
                memcpy(q, s->q + (tile->row + r) * s->q_stride + head * hd, hd * sizeof *q);
                rope(q, cache->rope_cos + position * half, cache->rope_sin + position * half, hd);
                for (size_t i = 0; i < hd; i++) {
                    q[i] *= scale;
                }
                visible[t] = cache_visible(cache, position);
                total[t] = s->results +
                           (((tile->row + r) * p->n_heads + head) * pass->n_slots + slot) *
                               s->result_stride;
            }
        }
        const size_t k_offset = cache_head_offset(cache, layer, kv_head);
        Attend a = {.n_queries = t,
                    .head_dim = hd,
                    .q = own,
                    .visible = visible,
                    .pages = cache->sequences[row->sequence].pages,
                    .k_offset = k_offset,
                    .v_offset = k_offset + cache->k_bytes,
                    .f16 = cache->f16,
                    .scores = scores,
                    .out = part,
                    .out_stride = s->result_stride};
        const size_t longest = row[tile->n_rows - 1].position + 1;
        const size_t chunks = (longest + SPLIT_POSITIONS - 1) / SPLIT_POSITIONS;
        const bool all = pass->n_slots == 1;
        const size_t first_chunk = all ? visible[0].begin / SPLIT_POSITIONS : slot;
        const size_t last_chunk = all || chunks < slot + 1 ? chunks : slot + 1;
        for (t = 0; t < a.n_queries; t++) {
            memset(total[t], 0, s->result_stride * sizeof *total[t]);
        }
        for (a.split = first_chunk; a.split < last_chunk; a.split++) {
            attend(&a);
            for (t = 0; t < a.n_queries; t++) {
                attend_combine(total[t], part + t * s->result_stride, hd);
            }
        }
        for (size_t r = 0; whole && r < tile->n_rows; r++) {
            finish_heads(pass, tile->row + r, kv_head * heads_per_kv + tile->head, tile->n_heads);
        }
    }
    team_barrier(team);

    // Where heads have several slots, or share blocks, that is a step of its own: a unit is as many
    // heads of a row as make whole blocks.
    if (!whole) {
        size_t unit_heads = 1;
        while (unit_heads * hd % QUANT_BLOCK != 0) {
            unit_heads++;
        }
        const size_t units = (p->n_heads + unit_heads - 1) / unit_heads;
        team_split(team, pass->n * units, &begin, &end);
        for (size_t unit = begin; unit < end; unit++) {
            const size_t first = unit % units * unit_heads, left = p->n_heads - first;
            finish_heads(pass, unit / units, first, left < unit_heads ? left : unit_heads);
        }
        team_barrier(team);
    }

    matmul_add(team, &b->o_proj, &s->attended, (OutputRows){s->x, s->dim_stride, pass->n});
    team_barrier(team);
}

// x += down_proj(silu(gate_proj(normed)) * up_proj(normed))
static void mlp(Team team, const Pass *pass, const Activations *normed, const Block *b)
{
    Scratch *s = pass->s;
    size_t begin, end;
    matmul(team, &b->gate_proj, normed, (OutputRows){s->gate.x, s->hidden_stride, pass->n});
    matmul(team, &b->up_proj, normed, (OutputRows){s->up, s->hidden_stride, pass->n});
    matmul_split(team, &b->up_proj, &begin, &end);  // what this thread has just computed of both
    for (size_t r = 0; r < pass->n; r++) {
        float *gate = s->gate.x + r * s->hidden_stride + begin;
        swiglu(gate, s->up + r * s->hidden_stride + begin, end - begin);
        if (pass->m->quantized) {
            quantize(&s->gate, r, begin, end);
        }
    }
    team_barrier(team);
    matmul_add(team, &b->down_proj, &s->gate, (OutputRows){s->x, s->dim_stride, pass->n});
    team_barrier(team);
}

static void block(Team team, const Pass *pass, size_t layer)
{
    const Block *b = &pass->m->blocks[layer];
    Activations normed = norm_rows(team, pass, b->attn_norm, NULL, pass->n, layer);
    attention(team, pass, &normed, layer);
    normed = norm_rows(team, pass, b->mlp_norm, NULL, pass->n, layer + 1);
    mlp(team, pass, &normed, b);
}

static void forward_pass(Team team, void *arg)
{
    const Pass *pass = arg;
    const Model *m = pass->m;
    const Config *p = &m->config;
    Scratch *s = pass->s;
    size_t begin, end;
    team_split(team, pass->n, &begin, &end);
    for (size_t r = begin; r < end; r++) {
        matrix_row(&m->embedding, (size_t)pass->rows[r].token, s->x + r * s->dim_stride);
    }
    team_barrier(team);
    for (size_t layer = 0; layer < p->n_layers; layer++) {
        block(team, pass, layer);
    }
    if (!pass->n_logits) {
        return;
    }
    const Activations normed = norm_rows(team, pass, m->norm, s->logit_rows, pass->n_logits,
                                         p->n_layers);
    matmul(team, &m->lm_head, &normed, (OutputRows){s->logits, s->vocab_stride, pass->n_logits});
    matmul_split(team, &m->lm_head, &begin, &end);
    for (size_t r = 0; r < pass->n_logits; r++) {
        bool finite = true;
        for (size_t i = begin; i < end; i++) {
            finite &= fabsf(s->logits[r * s->vocab_stride + i]) <= FLT_MAX;
        }
        if (!finite && s->bad_layer[team.id] > p->n_layers + 1) {
            s->bad_layer[team.id] = p->n_layers + 1;
        }
    }
}

// Cuts the rows into tiles of queries, each of one sequence at consecutive positions, and decides
// whether their contexts are split between threads as well, and who stores keys and values.
static void plan_attention(Pass *pass)
{
    const Config *p = &pass->m->config;
    Scratch *s = pass->s;
    const size_t heads_per_kv = p->n_heads / p->n_kv_heads;
    const size_t max_rows = heads_per_kv < TILE_QUERIES ? TILE_QUERIES / heads_per_kv : 1;
    size_t longest = 0;
    for (size_t r = 0, n_rows; r < pass->n; r += n_rows) {
        const Row *row = &pass->rows[r];
        for (n_rows = 1; n_rows < max_rows && r + n_rows < pass->n; n_rows++) {
            if (row[n_rows].sequence != row->sequence) {
                break;
            }
        }
        for (size_t head = 0; head < heads_per_kv; head += TILE_QUERIES) {
            size_t n_heads = heads_per_kv - head < TILE_QUERIES ? heads_per_kv - head
                                                                : TILE_QUERIES;
            s->tiles[pass->n_tiles++] = (AttentionTile){r, n_rows, head, n_heads};
        }
        longest = row[n_rows - 1].position >= longest ? row[n_rows - 1].position + 1 : longest;
    }
    const size_t chunks = (longest + SPLIT_POSITIONS - 1) / SPLIT_POSITIONS;
    const bool few = pass->n_tiles * p->n_kv_heads < 4 * s->threads &&
                     pass->n * p->n_heads * chunks <= s->n_results;
    pass->n_slots = s->threads > 1 && few ? chunks : 1;
    pass->one_each = heads_per_kv <= TILE_QUERIES;
    for (size_t r = 0; r < pass->n; r++) {
        const Row *row = &pass->rows[r];
        if (row->position + 1 != pass->cache->sequences[row->sequence].length) {
            pass->one_each = false;
        }
    }
}

// What the numbers in bad_layer stand for.
static bool non_finite(const Model *m, size_t layer, Error *err)
{
    if (layer == 0) {
        return error_set(err, ERROR_INPUT, "%s: the embedding of a token is not finite", m->path);
    }
    if (layer <= m->config.n_layers) {
        return error_set(err, ERROR_INPUT, "%s: blocks.%zu computes a value that is not finite",
                         m->path, layer - 1);
    }
    return error_set(err, ERROR_INPUT, "%s: the head computes a value that is not finite", m->path);
}

bool forward(const Model *m, Cache *cache, Scratch *s, Row *rows, size_t n, Error *err)
{
    Pass pass = {.m = m, .cache = cache, .s = s, .rows = rows, .n = n};
    size_t done = 0, bad = SIZE_MAX;
    if (n < 1 || n > s->max_rows) {
        return error_set(err, ERROR_RUN, "a forward pass of %zu rows, expected 1 to %zu", n,
                         s->max_rows);
    }
    for (; done < n; done++) {
        if (rows[done].token < 0 || (size_t)rows[done].token >= m->config.vocab_size) {
            error_set(err, ERROR_INPUT, "token %d, expected 0 to %zu", rows[done].token,
                      m->config.vocab_size - 1);
            goto undo;
        }
        if (!cache_append(cache, rows[done].sequence, rows[done].token, &rows[done].position,
                          err)) {
            goto undo;
        }
        if (rows[done].wants_logits && pass.n_logits == s->max_logits) {
            error_set(err, ERROR_RUN, "logits for more than %zu rows", s->max_logits);
            done++;
            goto undo;
        }
        if (rows[done].wants_logits) {
            s->logit_rows[pass.n_logits] = done;
            rows[done].logits = s->logits + pass.n_logits++ * s->vocab_stride;
        } else {
            rows[done].logits = NULL;
        }
    }
    plan_attention(&pass);
    s->normed.tile = s->attended.tile = s->gate.tile = activation_tile(n);
    for (size_t t = 0; t < s->threads;
         t++) {  // of the team that is wanted: it may come out smaller
        s->bad_layer[t] = SIZE_MAX;
    }
    team_run(s->threads, forward_pass, &pass);
    for (size_t t = 0; t < s->threads; t++) {
        bad = s->bad_layer[t] < bad ? s->bad_layer[t] : bad;
    }
    if (bad == SIZE_MAX) {
        for (size_t r = 0; r < n; r++) {
            cache_publish(cache, rows[r].sequence, rows[r].position);
        }
        return true;
    }
    non_finite(m, bad, err);
undo:
    for (; done > 0; done--) {
        cache_truncate(cache, rows[done - 1].sequence, rows[done - 1].position);
    }
    return false;
}
