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
        m->head = m->embedding;
    } else {
        ok = ok && checkpoint_matrix(c, "head", p->vocab_size, p->dim, &m->head, err);
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
// Cache

static bool head_bytes(const Config *p, bool f16, size_t *k_bytes, size_t *v_bytes,
                       size_t *page_bytes)
{
    size_t value = f16 ? 2 : 4, heads;
    return size_mul(p->head_dim, PAGE_POSITIONS * value, k_bytes) &&
           size_mul(round_up(p->head_dim, LANES), PAGE_POSITIONS * value, v_bytes) &&
           size_mul(p->n_layers, p->n_kv_heads, &heads) &&
           size_mul(heads, *k_bytes + *v_bytes, page_bytes);
}

size_t cache_pages(size_t positions) { return (positions + PAGE_POSITIONS - 1) / PAGE_POSITIONS; }

bool cache_sequence_bytes(const Config *config, size_t context, bool f16, size_t *bytes)
{
    size_t k, v, page;
    return head_bytes(config, f16, &k, &v, &page) && size_mul(page, cache_pages(context), bytes);
}

bool cache_create(Cache *cache, const Config *config, size_t context, size_t n_sequences, bool f16,
                  Error *err)
{
    const size_t half = config->head_dim / 2, pages = cache_pages(context);
    const size_t mask_size = 2 * context + LANES;
    *cache = (Cache){.n_layers = config->n_layers,
                     .n_kv_heads = config->n_kv_heads,
                     .head_dim = config->head_dim,
                     .context = context,
                     .f16 = f16,
                     .n_sequences = n_sequences,
                     .max_pages = pages * n_sequences,
                     .free_page = NO_PAGE,
                     .oldest = NO_PAGE,
                     .newest = NO_PAGE,
                     .n_buckets = 1};
    if (!head_bytes(config, f16, &cache->k_bytes, &cache->v_bytes, &cache->page_bytes)) {
        return error_memory(err, "a page of keys and values", SIZE_MAX);
    }
    while (cache->n_buckets < cache->max_pages) {
        cache->n_buckets *= 2;
    }
    cache->sequences = calloc(n_sequences, sizeof *cache->sequences);
    cache->pages = calloc(cache->max_pages, sizeof *cache->pages);
    cache->buckets = calloc(cache->n_buckets, sizeof *cache->buckets);
    cache->mask = memory_map(mask_size * sizeof *cache->mask);
    cache->rope_frequency = calloc(half, sizeof *cache->rope_frequency);
    cache->rope_cos = memory_map(context * half * sizeof *cache->rope_cos);
    cache->rope_sin = memory_map(context * half * sizeof *cache->rope_sin);
    bool ok = cache->sequences && cache->pages && cache->buckets && cache->mask &&
              cache->rope_frequency && cache->rope_cos && cache->rope_sin;
    for (size_t i = 0; ok && i < n_sequences; i++) {
        cache->sequences[i].pages = calloc(pages, sizeof *cache->sequences[i].pages);
        cache->sequences[i].ids = calloc(pages, sizeof *cache->sequences[i].ids);
        ok = cache->sequences[i].pages && cache->sequences[i].ids;
    }
    if (!ok) {
        cache_free(cache);
        return error_memory(err, "the cache's tables",
                            (mask_size + 2 * context * half) * sizeof(float));
    }
    for (size_t i = 0; i < cache->n_buckets; i++) {
        cache->buckets[i] = NO_PAGE;
    }
    for (size_t i = 0; i < mask_size; i++) {
        const bool before_window = config->sliding_window && i + config->sliding_window <= context;
        cache->mask[i] = i > context || before_window ? -INFINITY : 0;
    }
    rope_frequencies(cache->rope_frequency, config->head_dim, config->rope_theta,
                     &config->rope_scaling);
    return true;
}

void cache_free(Cache *cache)
{
    for (size_t i = 0; cache->sequences && i < cache->n_sequences; i++) {
        free(cache->sequences[i].pages);
        free(cache->sequences[i].ids);
    }
    for (size_t i = 0; cache->pages && i < cache->n_pages; i++) {
        if (!cache->pages[i].borrowed) {
            memory_unmap(cache->pages[i].data, cache->page_bytes);
        }
    }
    const size_t half = cache->head_dim / 2;
    free(cache->sequences);
    free(cache->pages);
    free(cache->buckets);
    free(cache->rope_frequency);
    memory_unmap(cache->mask, (2 * cache->context + LANES) * sizeof *cache->mask);
    memory_unmap(cache->rope_cos, cache->context * half * sizeof *cache->rope_cos);
    memory_unmap(cache->rope_sin, cache->context * half * sizeof *cache->rope_sin);
    *cache = (Cache){0};
}

void cache_limit(Cache *cache, size_t max_pages)
{
    const size_t least = cache_pages(cache->context);
    max_pages = max_pages < least ? least : max_pages;
    cache->max_pages = max_pages < cache->max_pages ? max_pages : cache->max_pages;
}

// --- The list of kept pages

static void keep_page(Cache *cache, size_t id)
{
    Page *page = &cache->pages[id];
    page->older = cache->newest;
    page->newer = NO_PAGE;
    *(cache->newest == NO_PAGE ? &cache->oldest : &cache->pages[cache->newest].newer) = id;
    cache->newest = id;
    cache->n_kept++;
}

static void unkeep_page(Cache *cache, size_t id)
{
    const Page *page = &cache->pages[id];
    *(page->older == NO_PAGE ? &cache->oldest : &cache->pages[page->older].newer) = page->newer;
    *(page->newer == NO_PAGE ? &cache->newest : &cache->pages[page->newer].older) = page->older;
    cache->n_kept--;
}

// --- The table of published pages

static size_t *find_bucket(const Cache *cache, uint64_t parent, const int *tokens)
{
    uint64_t h = HASH_BEGIN ^ parent;
    for (size_t i = 0; i < PAGE_POSITIONS; i++) {
        h = hash_step(h, (uint32_t)tokens[i]);
    }
    return &cache->buckets[(h ^ h >> 32) & (cache->n_buckets - 1)];
}

static size_t find_page(const Cache *cache, uint64_t parent, const int *tokens)
{
    size_t id = *find_bucket(cache, parent, tokens);
    while (id != NO_PAGE &&
           (cache->pages[id].parent != parent ||
            memcmp(cache->pages[id].tokens, tokens, sizeof(Page){0}.tokens) != 0)) {
        id = cache->pages[id].next;
    }
    return id;
}

static void publish_page(Cache *cache, size_t id, uint64_t parent)
{
    Page *page = &cache->pages[id];
    size_t *bucket = find_bucket(cache, parent, page->tokens);
    page->serial = ++cache->last_serial;
    page->parent = parent;
    page->next = *bucket;
    *bucket = id;
}

// Pages after this one in a sequence are not found any more, and are the next to be forgotten.
static void unpublish_page(Cache *cache, size_t id)
{
    Page *page = &cache->pages[id];
    size_t *link = find_bucket(cache, page->parent, page->tokens);
    while (*link != id) {
        link = &cache->pages[*link].next;
    }
    *link = page->next;
    page->serial = 0;
}

// --- Pages and sequences

static void set_page(Cache *cache, CachedSequence *s, size_t index, size_t id)
{
    s->ids[index] = id;
    s->pages[index] = cache->pages[id].data;
}

// A published page gets one more user.
static void use_page(Cache *cache, size_t id)
{
    Page *page = &cache->pages[id];
    if (page->n_users++ == 0 && !page->borrowed) {
        unkeep_page(cache, id);
    }
}

static void release_page(Cache *cache, size_t id)
{
    Page *page = &cache->pages[id];
    if (--page->n_users > 0 || page->borrowed) {
        return;
    }
    if (page->serial) {
        keep_page(cache, id);
    } else {
        page->next = cache->free_page;
        cache->free_page = id;
        cache->n_free++;
    }
}

// A page of zeros with one user: a free one, new memory, or a kept one. NO_PAGE: an error.
static size_t take_page(Cache *cache, Error *err)
{
    size_t id = cache->free_page;
    void *data = NULL;
    if (id != NO_PAGE) {
        cache->free_page = cache->pages[id].next;
        cache->n_free--;
    } else if (cache->n_owned < cache->max_pages && (data = memory_map(cache->page_bytes))) {
        id = cache->n_pages++;
        cache->n_owned++;
        cache->pages[id] = (Page){.data = data};
    } else if (cache->oldest != NO_PAGE) {
        id = cache->oldest;
        unkeep_page(cache, id);
        unpublish_page(cache, id);
    } else if (cache->n_owned < cache->max_pages) {
        error_memory(err, "a page of keys and values", cache->page_bytes);
        return NO_PAGE;
    } else {
        error_set(err, ERROR_RUN, "all %zu pages of keys and values are in use", cache->max_pages);
        return NO_PAGE;
    }
    if (!data) {
        // The lanes past the last position are read, then masked: no NaN may be there.
        memset(cache->pages[id].data, 0, cache->page_bytes);
    }
    cache->pages[id].n_users = 1;
    return id;
}

// Makes a sequence's last page, which a truncation has cut within, one that can be written to.
static bool own_last_page(Cache *cache, CachedSequence *s, Error *err)
{
    const size_t id = s->ids[s->n_pages - 1];
    if (cache->pages[id].n_users == 1 && !cache->pages[id].borrowed) {
        unpublish_page(cache, id);
        return true;
    }
    const size_t copy = take_page(cache, err);
    if (copy == NO_PAGE) {
        return false;
    }
    memcpy(cache->pages[copy].data, cache->pages[id].data, cache->page_bytes);
    memcpy(cache->pages[copy].tokens, cache->pages[id].tokens, sizeof cache->pages[id].tokens);
    release_page(cache, id);
    set_page(cache, s, s->n_pages - 1, copy);
    return true;
}

void cache_truncate(Cache *cache, size_t sequence, size_t length)
{
    CachedSequence *s = &cache->sequences[sequence];
    s->length = length < s->length ? length : s->length;
    while (s->n_pages > cache_pages(s->length)) {
        release_page(cache, s->ids[--s->n_pages]);
    }
}

// Makes the angles of all positions before `length`.
static void fill_angles(Cache *cache, size_t length)
{
    const size_t half = cache->head_dim / 2;
    for (; cache->n_angles < length; cache->n_angles++) {
        rope_angles(cache->rope_cos + cache->n_angles * half,
                    cache->rope_sin + cache->n_angles * half, cache->rope_frequency, half,
                    cache->n_angles);
    }
}

// Appends a position to a sequence: gives it a page and its angles.
static bool cache_append(Cache *cache, size_t sequence, int token, size_t *position, Error *err)
{
    CachedSequence *s = &cache->sequences[sequence];
    const size_t slot = s->length % PAGE_POSITIONS;
    if (s->length == cache->context) {
        return error_set(err, ERROR_INPUT, "the context is full: %zu positions", cache->context);
    }
    if (slot == 0) {
        const size_t id = take_page(cache, err);
        if (id == NO_PAGE) {
            return false;
        }
        set_page(cache, s, s->n_pages++, id);
    } else if (cache->pages[s->ids[s->n_pages - 1]].serial && !own_last_page(cache, s, err)) {
        return false;
    }
    cache->pages[s->ids[s->n_pages - 1]].tokens[slot] = token;
    *position = s->length++;
    fill_angles(cache, s->length);
    return true;
}

// The serial of the page before page `index` of a sequence.
static uint64_t parent_serial(const Cache *cache, const CachedSequence *s, size_t index)
{
    return index ? cache->pages[s->ids[index - 1]].serial : 0;
}

// Publishes the page that a row has completed. Where the same is there already, the sequence takes
// that one, and its own becomes free.
static void cache_publish(Cache *cache, const Row *row)
{
    CachedSequence *s = &cache->sequences[row->sequence];
    const size_t index = row->position / PAGE_POSITIONS, id = s->ids[index];
    if (row->position % PAGE_POSITIONS != PAGE_POSITIONS - 1) {
        return;
    }
    const uint64_t parent = parent_serial(cache, s, index);
    const size_t same = find_page(cache, parent, cache->pages[id].tokens);
    if (same == NO_PAGE) {
        publish_page(cache, id, parent);
        return;
    }
    use_page(cache, same);
    release_page(cache, id);
    set_page(cache, s, index, same);
}

size_t cache_share(Cache *cache, size_t sequence, const int *tokens, size_t n)
{
    CachedSequence *s = &cache->sequences[sequence];
    n = n < cache->context ? n : cache->context;
    while (s->length % PAGE_POSITIONS == 0 && s->length + PAGE_POSITIONS <= n) {
        const uint64_t parent = parent_serial(cache, s, s->n_pages);
        const size_t id = find_page(cache, parent, tokens + s->length);
        if (id == NO_PAGE) {
            break;
        }
        use_page(cache, id);
        set_page(cache, s, s->n_pages++, id);
        s->length += PAGE_POSITIONS;
    }
    fill_angles(cache, s->length);
    return s->length;
}

bool cache_adopt(Cache *cache, const int *tokens, void *data, size_t n_pages, Error *err)
{
    size_t count, bytes;
    Page *pages = NULL;
    if (size_add(cache->n_pages, cache->max_pages, &count) && size_add(count, n_pages, &count) &&
        size_mul(count, sizeof *pages, &bytes)) {
        pages = realloc(cache->pages, bytes);
    }
    if (!pages) {
        return error_memory(err, "the table of pages", n_pages * sizeof *pages);
    }
    cache->pages = pages;
    uint64_t parent = 0;
    for (size_t i = 0; i < n_pages; i++, tokens += PAGE_POSITIONS) {
        size_t id = find_page(cache, parent, tokens);
        if (id == NO_PAGE) {
            id = cache->n_pages++;
            pages[id] = (Page){.data = (char *)data + i * cache->page_bytes, .borrowed = true};
            memcpy(pages[id].tokens, tokens, sizeof pages[id].tokens);
            publish_page(cache, id, parent);
        }
        parent = pages[id].serial;
    }
    return true;
}

static char *cache_head(const Cache *cache, const Row *row, size_t layer, size_t kv_head,
                        size_t *k_offset)
{
    *k_offset = (layer * cache->n_kv_heads + kv_head) * (cache->k_bytes + cache->v_bytes);
    return cache->sequences[row->sequence].pages[row->position / PAGE_POSITIONS];
}

// --------------------------------------------------------------------------------------------
// Scratch

bool scratch_create(Scratch *s, const Config *p, size_t context, size_t max_rows, size_t max_logits,
                    size_t threads, Error *err)
{
    const size_t heads_per_kv = p->n_heads / p->n_kv_heads;
    const size_t parts = (heads_per_kv + MAX_QUERIES - 1) / MAX_QUERIES * max_rows;
    const size_t dims = round_up(p->head_dim, LANES);
    const size_t tile_rows = max_rows + max_rows / ACTIVATION_TILE + 1;  // whole tiles of any n
    const size_t chunks = (context + CHUNK_POSITIONS - 1) / CHUNK_POSITIONS;
    *s = (Scratch){
        .threads = threads,
        .max_rows = max_rows,
        .max_logits = max_logits,
        .dim_stride = round_up(p->dim, BLOCK),
        .q_stride = round_up(p->n_heads * p->head_dim, BLOCK),
        .kv_stride = round_up(p->n_kv_heads * p->head_dim, BLOCK),
        .hidden_stride = round_up(p->hidden_dim, BLOCK),
        .vocab_stride = round_up(p->vocab_size, BLOCK),
        .result_stride = dims + LANES,
        // Results of chunks are kept only where there are few rows: enough for every thread to have
        // a few.
        .n_results = max_rows * p->n_heads + 4 * threads * p->n_heads * chunks,
        .per_thread = MAX_QUERIES * (p->head_dim + CHUNK_POSITIONS + dims + LANES),
    };
    s->per_thread = round_up(s->per_thread, LANES);
    // A thread's own row begins a cache line in each buffer.
    const size_t own_stride = round_up(s->dim_stride, 64);
    const size_t own_blocks = round_up(own_stride / BLOCK, LANES);
    const struct {
        void *pointer;  // to the buffer's pointer
        size_t count, stride, value_bytes;
    } buffers[] = {
        {&s->x, max_rows, s->dim_stride, 4},
        {&s->normed.x, max_rows, s->dim_stride, 4},
        {&s->normed.q, tile_rows, s->dim_stride, 1},
        {&s->normed.q_scale, tile_rows, s->dim_stride / BLOCK, 4},
        {&s->normed.q_total, tile_rows, s->dim_stride / BLOCK, 4},
        {&s->normed.q_begin4, tile_rows, s->dim_stride / BLOCK, 4},
        {&s->normed.q_begin8, tile_rows, s->dim_stride / BLOCK, 4},
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
        {&s->attended.q_scale, tile_rows, s->q_stride / BLOCK, 4},
        {&s->attended.q_total, tile_rows, s->q_stride / BLOCK, 4},
        {&s->attended.q_begin4, tile_rows, s->q_stride / BLOCK, 4},
        {&s->attended.q_begin8, tile_rows, s->q_stride / BLOCK, 4},
        {&s->gate.x, max_rows, s->hidden_stride, 4},
        {&s->gate.q, tile_rows, s->hidden_stride, 1},
        {&s->gate.q_scale, tile_rows, s->hidden_stride / BLOCK, 4},
        {&s->gate.q_total, tile_rows, s->hidden_stride / BLOCK, 4},
        {&s->gate.q_begin4, tile_rows, s->hidden_stride / BLOCK, 4},
        {&s->gate.q_begin8, tile_rows, s->hidden_stride / BLOCK, 4},
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
    s->asking = calloc(max_logits, sizeof *s->asking);
    s->bad_layer = calloc(threads, sizeof *s->bad_layer);
    if (!s->memory || !s->tiles || !s->asking || !s->bad_layer) {
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
    free(s->asking);
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
    const size_t x = team.id * a->stride, block = team.id * round_up(a->stride / BLOCK, LANES);
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
    matmul(team, m, in, out, out_stride, pass->n, false);
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
    size_t k_offset;
    char *page = cache_head(cache, row, layer, kv_head, &k_offset);
    rope(k, cache->rope_cos + row->position * half, cache->rope_sin + row->position * half, hd);
    store_kv(page + k_offset, page + k_offset + cache->k_bytes, row->position % PAGE_POSITIONS, k,
             s->v + r * s->kv_stride + kv_head * hd, hd, cache->f16);
}

// attended = the results of a row's heads first .. first + n - 1, their slots combined in order;
// first * head_dim is a multiple of BLOCK, and so is n * head_dim but for the last heads of a row.
static void finish_heads(const Pass *pass, size_t r, size_t first, size_t n)
{
    const Config *p = &pass->m->config;
    const Scratch *s = pass->s;
    const size_t hd = p->head_dim, last = round_up((first + n) * hd, BLOCK);
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
    const bool whole = pass->n_slots == 1 && (!pass->m->quantized || hd % BLOCK == 0);
    float *own = s->own + team.id * s->per_thread, *scores = own + MAX_QUERIES * hd;
    float *part = scores + MAX_QUERIES * CHUNK_POSITIONS;
    // Threads take turns, since the later tiles of a prompt see more positions: a tile with all key
    // heads where there are many, so that few lines of memory are written by two threads.
    const size_t n_items = pass->n_tiles * p->n_kv_heads * pass->n_slots;
    const size_t turn = pass->n_tiles < 4 * team.size ? 1 : p->n_kv_heads * pass->n_slots;
    for (size_t n = 0, item; (item = (n / turn * team.size + team.id) * turn + n % turn) < n_items;
         n++) {
        const AttentionTile *tile = &s->tiles[item / pass->n_slots / p->n_kv_heads];
        const size_t kv_head = item / pass->n_slots % p->n_kv_heads, slot = item % pass->n_slots;
        const Row *row = &pass->rows[tile->row];
        const float *mask[MAX_QUERIES];
        float *total[MAX_QUERIES] = {0};
        size_t from[MAX_QUERIES] = {0}, to[MAX_QUERIES], t = 0, k_offset;
        const bool own_chunk = pass->n_slots == 1 || slot == row->position / CHUNK_POSITIONS;
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
                mask[t] = cache->mask + (cache->context - position);
                to[t] = position + 1;
                from[t] = p->sliding_window && to[t] > p->sliding_window ? to[t] - p->sliding_window
                                                                         : 0;
                total[t] = s->results +
                           (((tile->row + r) * p->n_heads + head) * pass->n_slots + slot) *
                               s->result_stride;
            }
        }
        cache_head(cache, row, layer, kv_head, &k_offset);
        Attend a = {.n_queries = t,
                    .head_dim = hd,
                    .q = own,
                    .begin = from,
                    .end = to,
                    .mask = mask,
                    .pages = cache->sequences[row->sequence].pages,
                    .k_offset = k_offset,
                    .v_offset = k_offset + cache->k_bytes,
                    .f16 = cache->f16,
                    .scores = scores,
                    .out = part,
                    .out_stride = s->result_stride};
        const size_t longest = row[tile->n_rows - 1].position + 1;
        const size_t chunks = (longest + CHUNK_POSITIONS - 1) / CHUNK_POSITIONS;
        const bool all = pass->n_slots == 1;
        const size_t first_chunk = all ? from[0] / CHUNK_POSITIONS : slot;
        const size_t last_chunk = all || chunks < slot + 1 ? chunks : slot + 1;
        for (t = 0; t < a.n_queries; t++) {
            memset(total[t], 0, s->result_stride * sizeof *total[t]);
        }
        for (a.chunk = first_chunk; a.chunk < last_chunk; a.chunk++) {
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
        while (unit_heads * hd % BLOCK != 0) {
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

    matmul(team, &b->o_proj, &s->attended, s->x, s->dim_stride, pass->n, true);
    team_barrier(team);
}

// x += down_proj(silu(gate_proj(normed)) * up_proj(normed))
static void mlp(Team team, const Pass *pass, const Activations *normed, const Block *b)
{
    Scratch *s = pass->s;
    size_t begin, end;
    matmul(team, &b->gate_proj, normed, s->gate.x, s->hidden_stride, pass->n, false);
    matmul(team, &b->up_proj, normed, s->up, s->hidden_stride, pass->n, false);
    matmul_split(team, &b->up_proj, &begin, &end);  // what this thread has just computed of both
    for (size_t r = 0; r < pass->n; r++) {
        float *gate = s->gate.x + r * s->hidden_stride + begin;
        swiglu(gate, s->up + r * s->hidden_stride + begin, end - begin);
        if (pass->m->quantized) {
            quantize(&s->gate, r, begin, end);
        }
    }
    team_barrier(team);
    matmul(team, &b->down_proj, &s->gate, s->x, s->dim_stride, pass->n, true);
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
    const Activations normed = norm_rows(team, pass, m->norm, s->asking, pass->n_logits,
                                         p->n_layers);
    matmul(team, &m->head, &normed, s->logits, s->vocab_stride, pass->n_logits, false);
    matmul_split(team, &m->head, &begin, &end);
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
    const size_t max_rows = heads_per_kv < MAX_QUERIES ? MAX_QUERIES / heads_per_kv : 1;
    size_t longest = 0;
    for (size_t r = 0, n_rows; r < pass->n; r += n_rows) {
        const Row *row = &pass->rows[r];
        for (n_rows = 1; n_rows < max_rows && r + n_rows < pass->n; n_rows++) {
            if (row[n_rows].sequence != row->sequence) {
                break;
            }
        }
        for (size_t head = 0; head < heads_per_kv; head += MAX_QUERIES) {
            size_t n_heads = heads_per_kv - head < MAX_QUERIES ? heads_per_kv - head : MAX_QUERIES;
            s->tiles[pass->n_tiles++] = (AttentionTile){r, n_rows, head, n_heads};
        }
        longest = row[n_rows - 1].position >= longest ? row[n_rows - 1].position + 1 : longest;
    }
    const size_t chunks = (longest + CHUNK_POSITIONS - 1) / CHUNK_POSITIONS;
    const bool few = pass->n_tiles * p->n_kv_heads < 4 * s->threads &&
                     pass->n * p->n_heads * chunks <= s->n_results;
    pass->n_slots = s->threads > 1 && few ? chunks : 1;
    pass->one_each = heads_per_kv <= MAX_QUERIES;
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
        return error_set(err, ERROR_RUN, "a forward pass of %zu rows, wanted 1 to %zu", n,
                         s->max_rows);
    }
    for (; done < n; done++) {
        if (rows[done].token < 0 || (size_t)rows[done].token >= m->config.vocab_size) {
            error_set(err, ERROR_INPUT, "token %d, wanted 0 to %zu", rows[done].token,
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
            s->asking[pass.n_logits] = done;
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
            cache_publish(cache, &rows[r]);
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
