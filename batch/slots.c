// slots.c - the requests that run. See slots.h.
//
// A slot is a sequence of the cache. One array holds the order in which slots matter: active ones,
// the oldest request first; then one that waits to be started, if there is one; then idle ones.
//
//     order    3  0  2  5 | 1 | 4         slot 1 has a request that waits for pages
//                active    waits idle
//
// Every pass takes the next token of each answer and, with the rows that are left, chunks of
// prompts. Here slots 3 and 2 answer, 0 and 5 read their prompts:
//
//     rows     [d] [d] [p p p p p p p p p] [p p p p p p]
//     step      0   1           2                3
//     slot      3   2           0                5
//
//     d  the last token of a sequence: one row, whose logits give the next token
//     p  tokens of a prompt: of these rows only one that is the prompt's last has logits
//
// A pass reads all weights of the model, whether for one row or for many: so a token of an answer
// costs nearly as much as a pass, and rows of prompts beside it come cheap. Answers are first,
// since each gets a token out of every pass; then prompts, the oldest request first, so that one
// is complete and starts to answer while the next is read.
#include "batch/slots.h"

#include <stdlib.h>
#include <string.h>

bool slots_create(Slots *s, Engine *e, Error *err)
{
    const size_t n = e->cache.n_sequences;
    *s = (Slots){.engine = e,
                 .slots = calloc(n, sizeof *s->slots),
                 .n_slots = n,
                 .order = calloc(n, sizeof *s->order),
                 .steps = calloc(n, sizeof *s->steps)};
    if (!s->slots || !s->order || !s->steps) {
        slots_free(s);
        return error_memory(err, "the slots of a batch", n * sizeof *s->slots);
    }
    for (size_t i = 0; i < n; i++) {
        s->order[i] = i;
    }
    return true;
}

void slots_free(Slots *s)
{
    for (size_t i = 0; s->slots && i < s->n_slots; i++) {
        sequence_free(&s->slots[i].sequence);
        request_free(&s->slots[i].request);
    }
    free(s->slots);
    free(s->order);
    free(s->steps);
    *s = (Slots){0};
}

Slot *slots_next(const Slots *s)
{
    return s->n_active < s->n_slots ? &s->slots[s->order[s->n_active]] : NULL;
}

Slot *slots_active(const Slots *s, size_t place) { return &s->slots[s->order[place]]; }

bool slots_fill(Slots *s, const Tokenizer *tokenizer, Tokens *prompt, Error *err)
{
    Slot *slot = slots_next(s);
    const Request *r = &slot->request;
    const Cache *cache = &s->engine->cache;
    const SequenceSetup setup = {.tokenizer = tokenizer,
                                 .options = &r->options,
                                 .cache = cache,
                                 .cache_sequence = s->order[s->n_active],
                                 .seed = r->seed,
                                 .echo = r->echo};
    if (!sequence_start(&slot->sequence, &setup, prompt, err)) {
        return false;
    }
    const size_t n_prompt = slot->sequence.n_prompt, max_tokens = r->options.max_tokens;
    // For the longest answer that is possible, which without a limit fills the context.
    const bool bounded = max_tokens && max_tokens < cache->context - n_prompt;
    slot->reserved_pages = pages_for(bounded ? n_prompt + max_tokens : cache->context);
    slot->shared = 0;
    s->waiting = true;
    return true;
}

// A slot reserves all pages that its longest answer can need before it starts, even those that it
// may share with others. So no running sequence lacks a page, and none has to be stopped and run
// again.
bool slots_start(Slots *s)
{
    const Slot *slot = slots_next(s);
    // One request alone always fits: the cache has pages for a whole sequence.
    if (s->n_active && s->reserved_pages + slot->reserved_pages > s->engine->cache.max_pages) {
        return false;
    }
    s->reserved_pages += slot->reserved_pages;
    s->n_active++;
    s->waiting = false;
    return true;
}

void slots_release(Slots *s, size_t place)
{
    const size_t index = s->order[place];
    Slot *slot = &s->slots[index];
    s->reserved_pages -= slot->reserved_pages;
    // The cache keeps pages that are full: a later prompt may begin with them.
    cache_truncate(&s->engine->cache, index, 0);
    sequence_free(&slot->sequence);
    // To the end of the order, behind a slot that waits. The others keep their order, which is by
    // age: older requests get rows first, and finish first.
    memmove(&s->order[place], &s->order[place + 1], (s->n_slots - 1 - place) * sizeof *s->order);
    s->order[s->n_slots - 1] = index;
    s->n_active--;
}

// --------------------------------------------------------------------------------------------
// A pass

// Does an older slot compute the page that this one needs next, having the same tokens up to the
// end of that page? Prompts with a common prefix often start together, and if each computed it,
// none of it would be shared. So the younger slot waits until the older one has filled the page,
// and finds it in the cache. The oldest slot never waits, so every slot gets its turn.
static bool older_computes_next_page(const Slots *s, size_t place)
{
    const Sequence *own = &slots_active(s, place)->sequence;
    const size_t n_past = sequence_n_past(own), end = n_past + PAGE_POSITIONS;
    // Within a page it goes on; and a page that the last token is in is not shared, since that
    // token has to be run for its logits.
    if (n_past % PAGE_POSITIONS != 0 || end >= own->tokens.size) {
        return false;
    }
    for (size_t i = 0; i < place; i++) {
        const Tokens *older = &slots_active(s, i)->sequence.tokens;
        if (older->size >= end &&
            memcmp(older->ids, own->tokens.ids, end * sizeof *own->tokens.ids) == 0) {
            return true;
        }
    }
    return false;
}

// Lets a slot that is still reading its prompt take pages that others have filled meanwhile. All
// but the last token may come from the cache: the logits of that one are needed.
static void reuse_pages(Slots *s, Slot *slot)
{
    const Sequence *own = &slot->sequence;
    const size_t n_past = sequence_n_past(own);
    if (n_past < own->n_prompt) {
        slot->shared += cache_reuse_prefix(&s->engine->cache, own->cache_sequence, own->tokens.ids,
                                           own->tokens.size - 1) -
                        n_past;
    }
}

// Gives a slot at most `max` rows of the pass, after those that it has already.
static void add_step(Slots *s, Slot *slot, size_t *n_rows, size_t max)
{
    Step *step = &s->steps[s->n_steps++];
    step->sequence = &slot->sequence;
    step->rows = s->engine->rows + *n_rows;
    step->n_rows = sequence_fill_rows(&slot->sequence, step->rows, max);
    slot->step = step;
    *n_rows += step->n_rows;
}

void slots_plan(Slots *s)
{
    const size_t max_rows = s->engine->scratch.max_rows;
    size_t n_rows = 0;
    s->n_steps = 0;
    // A single token: the next of an answer, or the last of a prompt. There are rows for them all.
    for (size_t i = 0; i < s->n_active; i++) {
        Slot *slot = slots_active(s, i);
        slot->step = NULL;
        reuse_pages(s, slot);
        if (slot->sequence.tokens.size - sequence_n_past(&slot->sequence) == 1) {
            add_step(s, slot, &n_rows, 1);
        }
    }
    for (size_t i = 0; i < s->n_active && n_rows < max_rows; i++) {
        Slot *slot = slots_active(s, i);
        if (!slot->step && !older_computes_next_page(s, i)) {
            add_step(s, slot, &n_rows, max_rows - n_rows);
        }
    }
}
