// cache.c - keys and values in pages that sequences share, the RoPE tables, the mask.
//
// Every bit of the key and value of a position depends only on its token and on the tokens before
// it. So two sequences that begin with the same tokens have the same pages, and can share them.
// When a page is full, it is published in the prefix cache, a hash table whose keys are the tokens
// of the page and the serial of its parent, the page before it:
//
//     page 4             page 7             page 5
//     serial 1           serial 2           serial 9
//     parent 0 (none)    parent 1           parent 2
//     tokens 0..31       tokens 32..63      tokens 64..95
//
// As the parent stands for everything before the page, a lookup compares only PAGE_POSITIONS
// tokens, however long the context is. Serials are never reused: when a page is unpublished, the
// pages after it name a parent that no longer exists, and cannot be found any more either.
//
// A page's life:
//
//              take_page            cache_publish
//       free ------------> filling ---------------> published <------------------.
//        ^                  |  ^ ^                   |     |                     | use_page
//        '------------------'  | '-------------------'     | release_page by its |
//           release_page       |    own_last_page          v last user           |
//                              '---------------------- unused -------------------'
//                                 take_page: the
//                                 least recently used
//
//     state       n_users   serial   where it is
//     free           0        0      the list of free pages
//     filling        1        0      one sequence: its last page, and in a pass all that it appends
//     published     1..      1..     sequences, and the prefix cache
//     unused         0       1..     the LRU list, and the prefix cache
//
// When a sequence ends, its last page is published too, though it is not full: the positions behind
// its tokens are marked UNFILLED. No lookup finds it, so no sequence ever shares it. But like a
// full page, it can be copied by a sequence that begins the page with the same tokens
// (cache_copy_prefix):
//
//     page 2   [header, header, header, line 1 .. ]        published
//     page 8   [header, header, header|                    a copy, whose first three positions count
//
// Each page knows its child that was published last, and each child the one published before it.
// These links are not maintained when a page is evicted. So whoever follows them compares the
// parent's serial, and stops after CHILDREN_SEARCHED pages, because a page that is published again
// may close a cycle.
//
// A page that is written to must have one user and must not be published. As only full pages are
// published, the only case that needs care is a sequence that was cut within a published page.
// Before it writes to that page, it takes the page out of the prefix cache if it is the only user,
// and otherwise makes a copy (own_last_page, copy-on-write).
//
// Borrowed pages (cache_adopt) stay published as long as the cache exists. They are never written
// and are never in the LRU list.
#include "cache.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/memory.h"

// How many pages are compared to find one to copy: enough for the last requests of a batch, and few
// enough that the time is negligible beside that of a token.
#define CHILDREN_SEARCHED 64

// --------------------------------------------------------------------------------------------
// Sizes and tables

// A page has all layers and heads of its positions, so one count of users serves them all:
//
//     layer 0, head 0    layer 0, head 1         layer 1, head 0
//     | keys | values  | keys | values  |  ..  | keys | values  |  ..
//       k_bytes v_bytes                                           page_bytes in all
//
// The kernels read values in groups of LANES dimensions, so those are padded (simd/simd.h).
static bool page_layout(const Config *p, bool f16, size_t *k_bytes, size_t *v_bytes,
                        size_t *page_bytes)
{
    const size_t value = f16 ? 2 : 4;
    size_t heads;
    return size_mul(p->head_dim, PAGE_POSITIONS * value, k_bytes) &&
           size_mul(round_up(p->head_dim, LANES), PAGE_POSITIONS * value, v_bytes) &&
           size_mul(p->n_layers, p->n_kv_heads, &heads) &&
           size_mul(heads, *k_bytes + *v_bytes, page_bytes);
}

size_t pages_for(size_t positions) { return (positions + PAGE_POSITIONS - 1) / PAGE_POSITIONS; }

bool cache_sequence_bytes(const Config *config, size_t context, bool f16, size_t *bytes)
{
    size_t k, v, page;
    return page_layout(config, f16, &k, &v, &page) && size_mul(page, pages_for(context), bytes);
}

static size_t mask_bytes(const Cache *cache)
{
    return (2 * cache->context + LANES) * sizeof *cache->mask;
}

// Of the cosines, or of the sines.
static size_t rope_bytes(const Cache *cache)
{
    return cache->context * (cache->rotary_dim / 2) * sizeof(float);
}

// The frequencies, and room for the angles of all positions (fill_angles).
static bool allocate_rope(const Cache *cache, RopeTable *table)
{
    table->rotary_dim = cache->rotary_dim;
    table->frequency = calloc(cache->rotary_dim / 2, sizeof *table->frequency);
    table->cos = memory_map(rope_bytes(cache));
    table->sin = memory_map(rope_bytes(cache));
    return table->frequency && table->cos && table->sin;
}

// Allocates everything but pages. On failure cache_free frees what was allocated. The large tables
// come from memory_map: a mask that no layer needs, and those parts of the RoPE tables that a short
// run never reaches, are never backed by memory.
static bool allocate_tables(Cache *cache)
{
    const size_t pages = pages_for(cache->context);
    cache->sequences = calloc(cache->n_sequences, sizeof *cache->sequences);
    cache->pages = calloc(cache->max_pages, sizeof *cache->pages);
    cache->buckets = calloc(cache->n_buckets, sizeof *cache->buckets);
    cache->mask = memory_map(mask_bytes(cache));
    cache->window_mask = memory_map(mask_bytes(cache));
    cache->layer_flags = calloc(cache->n_layers, sizeof *cache->layer_flags);
    if (!cache->sequences || !cache->pages || !cache->buckets || !cache->mask ||
        !cache->window_mask || !cache->layer_flags) {
        return false;
    }
    for (size_t i = 0; i < cache->n_ropes; i++) {
        if (!allocate_rope(cache, &cache->rope[i])) {
            return false;
        }
    }
    for (size_t i = 0; i < cache->n_sequences; i++) {
        CachedSequence *s = &cache->sequences[i];
        s->pages = calloc(pages, sizeof *s->pages);
        s->ids = calloc(pages, sizeof *s->ids);
        if (!s->pages || !s->ids) {
            return false;
        }
    }
    return true;
}

// One array serves the queries of all positions; the row of each position starts elsewhere in it:
//
//     index       0 ..         context - w    ..         context    ..      2 * context + LANES - 1
//     mask        -inf .. -inf -inf  0   0    ..    0    0    -inf -inf     ..     -inf
//     p = 2                               j = 0     1    2    3    4        ..
//     p = 0                                         j = 0     1    2        ..
//
// Element j of the row of position p is mask[context - p + j]: 0 for p - w < j <= p, where w is the
// sliding window (without one, that is 0, the zeros begin at 0). Rows continue for LANES elements
// after the context, since kernels read full vectors.
static void fill_mask(float *mask, size_t context, size_t window)
{
    for (size_t i = 0; i < 2 * context + LANES; i++) {
        const bool before_window = window && i + window <= context;
        mask[i] = i > context || before_window ? -INFINITY : 0;
    }
}

// Do the queries of a layer see only the last `window` positions? Gemma 3 and others mix such layers
// with full ones, which still see far at a fraction of the work.
static bool has_window(const Cache *cache, size_t layer)
{
    return cache->window && !(cache->layer_flags[layer] & LAYER_FULL);
}

// A model may have layers of both kinds. A mask that none of them needs is not filled.
static void fill_masks(Cache *cache)
{
    size_t n_windows = 0;
    for (size_t layer = 0; layer < cache->n_layers; layer++) {
        n_windows += has_window(cache, layer);
    }
    if (n_windows < cache->n_layers) {
        fill_mask(cache->mask, cache->context, 0);
    }
    if (n_windows) {
        fill_mask(cache->window_mask, cache->context, cache->window);
    }
}

// Computes the angles of all positions below `length` when they are first needed: few runs reach
// the end of a long context.
static void fill_angles(Cache *cache, size_t length)
{
    const size_t half = cache->rotary_dim / 2;
    for (; cache->n_angles < length; cache->n_angles++) {
        const size_t at = cache->n_angles * half;
        for (size_t i = 0; i < cache->n_ropes; i++) {
            const RopeTable *t = &cache->rope[i];
            rope_angles(t->cos + at, t->sin + at, t->frequency, half, cache->n_angles, t->factor);
        }
    }
}

// Table 0 has the model's base and scaling:
//
//     all layers, or those without a window     rope[0]    rope_theta, rope_scaling
//     layers with a window, if they have a      rope[1]    window_rope_theta, unscaled: they see
//     base of their own (Gemma 3)                          nothing so far that it needs scaling
static void fill_frequencies(Cache *cache, const Config *p)
{
    static const RopeScaling unscaled = {.kind = ROPE_UNSCALED};
    rope_frequencies(cache->rope[0].frequency, cache->rotary_dim, p->rope_theta, &p->rope_scaling,
                     cache->context);
    cache->rope[0].factor = rope_attention_factor(&p->rope_scaling);
    if (cache->n_ropes > 1) {
        rope_frequencies(cache->rope[1].frequency, cache->rotary_dim, p->window_rope_theta,
                         &unscaled, cache->context);
        cache->rope[1].factor = 1;
    }
}

bool cache_create(Cache *cache, const Config *config, size_t context, size_t n_sequences, bool f16,
                  Error *err)
{
    *cache = (Cache){.n_layers = config->n_layers,
                     .n_kv_heads = config->n_kv_heads,
                     .head_dim = config->head_dim,
                     .rotary_dim = config->rotary_dim ? config->rotary_dim : config->head_dim,
                     .long_rope = rope_is_long(&config->rope_scaling, context),
                     .context = context,
                     .window = config->sliding_window,
                     .n_ropes = config->window_rope_theta != 0 ? 2 : 1,
                     .f16 = f16,
                     .n_sequences = n_sequences,
                     .max_pages = pages_for(context) * n_sequences,
                     .free_page = NO_PAGE,
                     .lru_oldest = NO_PAGE,
                     .lru_newest = NO_PAGE,
                     .newest_first = NO_PAGE,
                     .n_buckets = 1};
    // Sizes come from a file and from the command line, so their products may overflow.
    if (!page_layout(config, f16, &cache->k_bytes, &cache->v_bytes, &cache->page_bytes)) {
        return error_memory(err, "a page of keys and values", SIZE_MAX);
    }
    // A bucket for each page: chains have one or two.
    while (cache->n_buckets < cache->max_pages) {
        cache->n_buckets *= 2;
    }
    if (!allocate_tables(cache)) {
        const size_t bytes = 2 * (mask_bytes(cache) + cache->n_ropes * rope_bytes(cache));
        cache_free(cache);
        return error_memory(err, "the cache's tables", bytes);
    }
    for (size_t i = 0; i < cache->n_buckets; i++) {
        cache->buckets[i] = NO_PAGE;
    }
    memcpy(cache->layer_flags, config->layer_flags, cache->n_layers);
    fill_masks(cache);
    fill_frequencies(cache, config);
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
    free(cache->sequences);
    free(cache->pages);
    free(cache->buckets);
    free(cache->layer_flags);
    memory_unmap(cache->mask, mask_bytes(cache));
    memory_unmap(cache->window_mask, mask_bytes(cache));
    for (size_t i = 0; i < cache->n_ropes; i++) {
        free(cache->rope[i].frequency);
        memory_unmap(cache->rope[i].cos, rope_bytes(cache));
        memory_unmap(cache->rope[i].sin, rope_bytes(cache));
    }
    *cache = (Cache){0};
}

void cache_limit(Cache *cache, size_t max_pages)
{
    const size_t least = pages_for(cache->context);
    max_pages = max_pages < least ? least : max_pages;
    cache->max_pages = max_pages < cache->max_pages ? max_pages : cache->max_pages;
}

size_t cache_spare_pages(const Cache *cache)
{
    return cache->max_pages - cache->n_owned + cache->n_free + cache->n_lru;
}

// --------------------------------------------------------------------------------------------
// The LRU list: unused pages. Doubly linked, as a page may leave it from anywhere when it is reused

// A page that has just lost its last user is the newest. A sequence releases its pages from the
// last to the first, so the end of a text is evicted before its beginning.
static void lru_add(Cache *cache, size_t id)
{
    Page *page = &cache->pages[id];
    page->older = cache->lru_newest;
    page->newer = NO_PAGE;
    *(page->older == NO_PAGE ? &cache->lru_oldest : &cache->pages[page->older].newer) = id;
    cache->lru_newest = id;
    cache->n_lru++;
}

static void lru_remove(Cache *cache, size_t id)
{
    const Page *page = &cache->pages[id];
    const size_t older = page->older, newer = page->newer;
    *(older == NO_PAGE ? &cache->lru_oldest : &cache->pages[older].newer) = newer;
    *(newer == NO_PAGE ? &cache->lru_newest : &cache->pages[newer].older) = older;
    cache->n_lru--;
}

// --------------------------------------------------------------------------------------------
// The prefix cache: a hash table of published pages, chained through Page.next

// The head of the chain for a page with these tokens and this parent.
static size_t *find_bucket(const Cache *cache, uint64_t parent, const int *tokens)
{
    uint64_t h = HASH_BEGIN ^ parent;
    for (size_t i = 0; i < PAGE_POSITIONS; i++) {
        h = hash_step(h, (uint32_t)tokens[i]);
    }
    // A step only mixes upwards, so the upper half is folded into the bits that are used.
    return &cache->buckets[(h ^ h >> 32) & (cache->n_buckets - 1)];
}

// The published page with these tokens and this parent, or NO_PAGE.
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

// The serial of a parent; 0 for NO_PAGE, the parent of a first page.
static uint64_t serial_of(const Cache *cache, size_t parent)
{
    return parent == NO_PAGE ? 0 : cache->pages[parent].serial;
}

static void publish_page(Cache *cache, size_t id, size_t parent)
{
    Page *page = &cache->pages[id];
    size_t *newest = parent == NO_PAGE ? &cache->newest_first : &cache->pages[parent].newest_child;
    page->serial = ++cache->last_serial;
    page->parent = serial_of(cache, parent);
    page->newest_child = NO_PAGE;
    page->older_sibling = *newest;
    *newest = id;
    size_t *bucket = find_bucket(cache, page->parent, page->tokens);
    page->next = *bucket;
    *bucket = id;
}

static size_t count_common(const int *a, const int *b, size_t n)
{
    size_t i = 0;
    while (i < n && a[i] == b[i]) {
        i++;
    }
    return i;
}

// Of the newest children of a page (NO_PAGE: of the first pages), the one that begins with the most
// of these tokens; *common is their number. NO_PAGE if no child begins with the first token.
static size_t find_similar(const Cache *cache, size_t parent, const int *tokens, size_t n,
                           size_t *common)
{
    const uint64_t serial = serial_of(cache, parent);
    size_t id = parent == NO_PAGE ? cache->newest_first : cache->pages[parent].newest_child;
    size_t best = NO_PAGE;
    *common = 0;
    for (size_t i = 0; i < CHILDREN_SEARCHED && id != NO_PAGE; i++) {
        const Page *page = &cache->pages[id];
        if (!page->serial || page->parent != serial) {
            break;  // evicted; the rest are older
        }
        const size_t count = count_common(page->tokens, tokens, n);
        if (count > *common) {
            *common = count;
            best = id;
        }
        id = page->older_sibling;
    }
    return best;
}

// The pages that follow this one cannot be found any more. They stay in the LRU list until they are
// evicted in turn.
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

// --------------------------------------------------------------------------------------------
// Pages

// A sequence has its pages both as indices, which survive a realloc of the table, and as pointers
// to their data, the array that attention reads.
static void set_page(Cache *cache, CachedSequence *s, size_t index, size_t id)
{
    s->ids[index] = id;
    s->pages[index] = cache->pages[id].data;
}

// Adds a user to a published page.
static void use_page(Cache *cache, size_t id)
{
    Page *page = &cache->pages[id];
    if (page->n_users++ == 0 && !page->borrowed) {
        lru_remove(cache, id);
    }
}

static void free_page(Cache *cache, size_t id)
{
    cache->pages[id].next = cache->free_page;
    cache->free_page = id;
    cache->n_free++;
}

// Removes a user from a page. A published page without users is kept for the next sequence with the
// same tokens.
static void release_page(Cache *cache, size_t id)
{
    Page *page = &cache->pages[id];
    if (--page->n_users > 0 || page->borrowed) {
        return;
    }
    if (page->serial) {
        lru_add(cache, id);
    } else {
        free_page(cache, id);
    }
}

// Returns a zeroed page with one user: a free one, else new memory, else the least recently used of
// the LRU list. NO_PAGE on an error.
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
    } else if (cache->lru_oldest != NO_PAGE) {
        id = cache->lru_oldest;
        lru_remove(cache, id);
        unpublish_page(cache, id);
    } else if (cache->n_owned < cache->max_pages) {
        error_memory(err, "a page of keys and values", cache->page_bytes);
        return NO_PAGE;
    } else {
        error_set(err, ERROR_RUN, "all %zu pages of keys and values are in use", cache->max_pages);
        return NO_PAGE;
    }
    if (!data) {
        // Kernels read full vectors of positions and mask those past the last one by adding
        // -infinity, which would not hide an old NaN there. New memory is zero already.
        memset(cache->pages[id].data, 0, cache->page_bytes);
    }
    cache->pages[id].n_users = 1;
    return id;
}

// --------------------------------------------------------------------------------------------
// Sequences

size_t cache_length(const Cache *cache, size_t sequence)
{
    return cache->sequences[sequence].length;
}

// Releases the pages that are not needed at all. The one that contains the cut stays as it is: it
// may be published and used by others, but this matters only to an append (own_last_page).
void cache_truncate(Cache *cache, size_t sequence, size_t length)
{
    CachedSequence *s = &cache->sequences[sequence];
    s->length = length < s->length ? length : s->length;
    while (s->n_pages > pages_for(s->length)) {
        release_page(cache, s->ids[--s->n_pages]);
    }
}

// Takes a page and copies another into it. NO_PAGE on an error.
static size_t copy_page(Cache *cache, size_t from, Error *err)
{
    const size_t id = take_page(cache, err);
    if (id != NO_PAGE) {
        const Page *page = &cache->pages[from];
        memcpy(cache->pages[id].data, page->data, cache->page_bytes);
        memcpy(cache->pages[id].tokens, page->tokens, sizeof page->tokens);
    }
    return id;
}

// Copy-on-write: makes the last page of a sequence, which is published but was cut within,
// writable. If the sequence is its only user, it keeps the page itself, which nobody else can find
// from now on.
static bool own_last_page(Cache *cache, CachedSequence *s, Error *err)
{
    const size_t id = s->ids[s->n_pages - 1];
    if (cache->pages[id].n_users == 1 && !cache->pages[id].borrowed) {
        unpublish_page(cache, id);
        return true;
    }
    const size_t copy = copy_page(cache, id, err);
    if (copy == NO_PAGE) {
        return false;
    }
    release_page(cache, id);
    set_page(cache, s, s->n_pages - 1, copy);
    return true;
}

bool cache_copy_page(Cache *cache, size_t sequence, size_t from, size_t length)
{
    CachedSequence *s = &cache->sequences[sequence];
    Error err;
    const size_t id = copy_page(cache, cache->sequences[from].ids[s->n_pages], &err);
    if (id == NO_PAGE) {
        return false;
    }
    set_page(cache, s, s->n_pages++, id);
    s->length = length;
    return true;
}

bool cache_append(Cache *cache, size_t sequence, int token, size_t *position, Error *err)
{
    CachedSequence *s = &cache->sequences[sequence];
    const size_t offset = s->length % PAGE_POSITIONS;
    if (s->length == cache->context) {
        return error_set(err, ERROR_INPUT, "the context is full: %zu positions", cache->context);
    }
    // At the start of a page the sequence gets a new one. Otherwise its last page is filling and
    // not shared, unless the sequence was cut there.
    if (offset == 0) {
        const size_t id = take_page(cache, err);
        if (id == NO_PAGE) {
            return false;
        }
        set_page(cache, s, s->n_pages++, id);
    } else if (cache->pages[s->ids[s->n_pages - 1]].serial && !own_last_page(cache, s, err)) {
        return false;
    }
    cache->pages[s->ids[s->n_pages - 1]].tokens[offset] = token;
    *position = s->length++;
    fill_angles(cache, s->length);
    return true;
}

// The page before page `index` of a sequence; NO_PAGE for the first.
static size_t parent_page(const CachedSequence *s, size_t index)
{
    return index ? s->ids[index - 1] : NO_PAGE;
}

void cache_publish(Cache *cache, size_t sequence, size_t position)
{
    if (position % PAGE_POSITIONS != PAGE_POSITIONS - 1) {
        return;
    }
    CachedSequence *s = &cache->sequences[sequence];
    const size_t index = position / PAGE_POSITIONS, id = s->ids[index];
    const size_t parent = parent_page(s, index);
    const size_t same = find_page(cache, serial_of(cache, parent), cache->pages[id].tokens);
    if (same == NO_PAGE) {
        publish_page(cache, id, parent);
        return;
    }
    // Another sequence came first, perhaps in the same pass. Both pages hold the same bits.
    use_page(cache, same);
    release_page(cache, id);
    set_page(cache, s, index, same);
}

// Walks from parent to child as long as the prefix cache has them. Their positions need not be
// computed, as the bits would be the same.
size_t cache_reuse_prefix(Cache *cache, size_t sequence, const int *tokens, size_t n)
{
    CachedSequence *s = &cache->sequences[sequence];
    n = n < cache->context ? n : cache->context;
    while (s->length % PAGE_POSITIONS == 0 && s->length + PAGE_POSITIONS <= n) {
        const uint64_t parent = serial_of(cache, parent_page(s, s->n_pages));
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

// Positions of the copy behind its length hold finite numbers, and are masked until written.
size_t cache_copy_prefix(Cache *cache, size_t sequence, const int *tokens, size_t n)
{
    CachedSequence *s = &cache->sequences[sequence];
    const size_t length = s->length;
    size_t common;
    n = n < cache->context ? n : cache->context;
    if (length % PAGE_POSITIONS != 0 || length >= n) {
        return length;
    }
    n = n - length < PAGE_POSITIONS ? n - length : PAGE_POSITIONS;
    const size_t from = find_similar(cache, parent_page(s, s->n_pages), tokens + length, n,
                                     &common);
    if (from == NO_PAGE) {
        return length;
    }
    use_page(cache, from);  // or copy_page might evict it
    Error err;
    const size_t id = copy_page(cache, from, &err);
    release_page(cache, from);
    if (id != NO_PAGE) {
        set_page(cache, s, s->n_pages++, id);
        s->length += common;
        fill_angles(cache, s->length);
    }
    return s->length;
}

// Adds a page to the ring of retired pages, and frees the page that it displaces.
static void keep_retired(Cache *cache, size_t id)
{
    RetiredPage *place = &cache->retired[cache->next_retired];
    if (place->serial && cache->pages[place->id].serial == place->serial) {
        lru_remove(cache, place->id);
        unpublish_page(cache, place->id);
        free_page(cache, place->id);
    }
    *place = (RetiredPage){id, cache->pages[id].serial};
    cache->next_retired = (cache->next_retired + 1) % RETIRED_PAGES;
}

// Publishes a page that is not full, unless one with the same tokens exists.
static void retire_page(Cache *cache, size_t id, size_t parent, size_t filled)
{
    int *tokens = cache->pages[id].tokens;
    for (size_t i = filled; i < PAGE_POSITIONS; i++) {
        tokens[i] = UNFILLED;
    }
    if (find_page(cache, serial_of(cache, parent), tokens) == NO_PAGE) {
        publish_page(cache, id, parent);
        keep_retired(cache, id);
    }
}

void cache_retire(Cache *cache, size_t sequence)
{
    const CachedSequence *s = &cache->sequences[sequence];
    const size_t filled = s->length % PAGE_POSITIONS, last = s->n_pages ? s->n_pages - 1 : 0;
    // A sequence that was cut within a published page has nothing new.
    if (filled && !cache->pages[s->ids[last]].serial) {
        retire_page(cache, s->ids[last], parent_page(s, last), filled);
    }
    cache_truncate(cache, sequence, 0);
}

bool cache_adopt(Cache *cache, const int *tokens, void *data, size_t n_pages, Error *err)
{
    // The table of pages has room for max_pages owned pages; it grows by the borrowed ones.
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
    // A page already published by a sequence or an earlier call is not published again.
    size_t parent = NO_PAGE;
    for (size_t i = 0; i < n_pages; i++, tokens += PAGE_POSITIONS) {
        size_t id = find_page(cache, serial_of(cache, parent), tokens);
        if (id == NO_PAGE) {
            id = cache->n_pages++;
            pages[id] = (Page){.data = (char *)data + i * cache->page_bytes, .borrowed = true};
            memcpy(pages[id].tokens, tokens, sizeof pages[id].tokens);
            publish_page(cache, id, parent);
        }
        parent = id;
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// What attention reads and writes

char *cache_page(const Cache *cache, size_t sequence, size_t position)
{
    return cache->sequences[sequence].pages[position / PAGE_POSITIONS];
}

void *const *cache_sequence_pages(const Cache *cache, size_t sequence)
{
    return cache->sequences[sequence].pages;
}

const int *cache_page_tokens(const Cache *cache, size_t sequence, size_t position)
{
    return cache->pages[cache->sequences[sequence].ids[position / PAGE_POSITIONS]].tokens;
}

size_t cache_head_offset(const Cache *cache, size_t layer, size_t kv_head)
{
    return (layer * cache->n_kv_heads + kv_head) * (cache->k_bytes + cache->v_bytes);
}

Visible cache_visible(const Cache *cache, size_t layer, size_t position)
{
    const size_t end = position + 1, row = cache->context - position;
    if (!has_window(cache, layer)) {
        return (Visible){.begin = 0, .end = end, .mask = cache->mask + row};
    }
    return (Visible){.begin = end > cache->window ? end - cache->window : 0,
                     .end = end,
                     .mask = cache->window_mask + row};
}

const RopeTable *cache_rope(const Cache *cache, size_t layer)
{
    if (cache->layer_flags[layer] & LAYER_NO_ROPE) {
        return NULL;
    }
    return &cache->rope[cache->n_ropes > 1 && has_window(cache, layer)];
}
