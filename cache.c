// cache.c - keys, values, RoPE tables and the mask. See cache.h.
#include "cache.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/memory.h"

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
                     .window = config->sliding_window,
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

size_t cache_length(const Cache *cache, size_t sequence)
{
    return cache->sequences[sequence].length;
}

bool cache_append(Cache *cache, size_t sequence, int token, size_t *position, Error *err)
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

void cache_publish(Cache *cache, size_t sequence, size_t position)
{
    if (position % PAGE_POSITIONS != PAGE_POSITIONS - 1) {
        return;
    }
    CachedSequence *s = &cache->sequences[sequence];
    const size_t index = position / PAGE_POSITIONS, id = s->ids[index];
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

size_t cache_reuse_prefix(Cache *cache, size_t sequence, const int *tokens, size_t n)
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

char *cache_page(const Cache *cache, size_t sequence, size_t position)
{
    return cache->sequences[sequence].pages[position / PAGE_POSITIONS];
}

const int *cache_page_tokens(const Cache *cache, size_t sequence, size_t position)
{
    return cache->pages[cache->sequences[sequence].ids[position / PAGE_POSITIONS]].tokens;
}

size_t cache_head_offset(const Cache *cache, size_t layer, size_t kv_head)
{
    return (layer * cache->n_kv_heads + kv_head) * (cache->k_bytes + cache->v_bytes);
}

Visible cache_visible(const Cache *cache, size_t position)
{
    const size_t end = position + 1;
    return (Visible){.begin = cache->window && end > cache->window ? end - cache->window : 0,
                     .end = end,
                     .mask = cache->mask + (cache->context - position)};
}
