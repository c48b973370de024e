// slots.c - the requests that run. See slots.h.
//
// A request has one choice or several (`n`), which differ in their random numbers only: each is a
// sequence in a slot of its own, as if it were a request by itself. So its text does not depend on
// how many others run, and there may be fewer slots than choices. They share the pages of their
// prompt: the first choice computes it, the others wait, take its full pages from the prefix cache,
// and copy the last one, which fills differently from there on.
//
// Each slot has a sequence of the cache. One array holds the order of the slots: active ones, the
// oldest request first; then the one that waits to be started, if any; then idle ones.
//
//     order    3  0  2  5 | 1 | 4         slot 1 has a request that waits for pages
//                active    waits idle
//
// Every pass runs the next token of each answer and, in the rows that are left, chunks of prompts.
// Here slots 3 and 2 generate answers, and slots 0 and 5 process their prompts:
//
//     rows     [d] [d] [p p p p p p p p p] [p p p p p p]
//     step      0   1           2                3
//     slot      3   2           0                5
//
//     d  the last token of a sequence: one row, whose logits give the next token
//     p  tokens of a prompt: only the row of the prompt's last token has logits
//
// A pass reads all weights of the model, whether it has one row or many. So a pass for one token of
// an answer costs nearly as much as one that also runs a chunk of a prompt. Answers come first,
// because every pass can give each of them a token. Then come prompts, the oldest request first:
// it is better to complete one prompt, which can then generate, than to advance all of them a bit.
#include "batch/slots.h"

#include <stdlib.h>
#include <string.h>

bool slots_create(Slots *s, Engine *e, Error *err)
{
    const size_t n = e->cache.n_sequences - e->n_lanes;
    *s = (Slots){.engine = e,
                 .slots = calloc(n, sizeof *s->slots),
                 .n_slots = n,
                 .jobs = calloc(n + 1, sizeof *s->jobs),
                 .order = calloc(n, sizeof *s->order),
                 .steps = calloc(n, sizeof *s->steps)};
    if (!s->slots || !s->jobs || !s->order || !s->steps) {
        slots_free(s);
        return error_memory(err, "the slots of a batch", n * (sizeof(Slot) + sizeof(Job)));
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
    }
    for (size_t i = 0; s->jobs && i <= s->n_slots; i++) {
        slots_free_job(&s->jobs[i]);
        request_free(&s->jobs[i].request);
        prompt_free(&s->jobs[i].prompt);
    }
    free(s->slots);
    free(s->jobs);
    free(s->order);
    free(s->steps);
    *s = (Slots){0};
}

Slot *slots_next(const Slots *s)
{
    return s->n_active < s->n_slots ? &s->slots[s->order[s->n_active]] : NULL;
}

Slot *slots_active(const Slots *s, size_t place) { return &s->slots[s->order[place]]; }

Job *slots_take_job(Slots *s)
{
    // There is a free one: each active one has an active slot.
    Job *job = s->jobs;
    while (job->active) {
        job++;
    }
    job->active = true;
    job->prompt = (Prompt){.tokens = job->prompt.tokens};
    job->prompt.tokens.size = 0;
    job->n_started = job->n_finished = job->shared = 0;
    job->first_failed = MAX_CHOICES;
    s->starting = job;
    return job;
}

void slots_drop(Slots *s)
{
    slots_free_job(s->starting);
    s->starting = NULL;
}

void slots_free_job(Job *job)
{
    for (size_t i = 0; i < MAX_CHOICES; i++) {
        sequence_free(&job->choices[i]);
    }
    guide_close(job->guide);
    job->guide = NULL;
    job->active = false;
}

static bool copy_tokens(const Tokens *from, Tokens *to, Error *err)
{
    *to = (Tokens){.ids = malloc((from->size + 1) * sizeof *to->ids),
                   .size = from->size,
                   .capacity = from->size + 1};
    if (!to->ids) {
        return error_memory(err, "a prompt", (from->size + 1) * sizeof *to->ids);
    }
    memcpy(to->ids, from->ids, from->size * sizeof *to->ids);
    return true;
}

bool slots_fill(Slots *s, const Tokenizer *tokenizer, Error *err)
{
    Slot *slot = slots_next(s);
    Job *job = s->starting;
    const Request *r = &job->request;
    const Cache *cache = &s->engine->cache;
    const SequenceSetup setup = {.tokenizer = tokenizer,
                                 .options = &r->options,
                                 .cache = cache,
                                 .cache_sequence = s->order[s->n_active],
                                 .seed = request_seed(r, job->n_started),
                                 .echo = r->echo,
                                 .score_prompt = r->echo,
                                 .guide = job->guide};
    Prompt prompt = job->prompt;
    if (!copy_tokens(&job->prompt.tokens, &prompt.tokens, err) ||
        !sequence_start(&slot->sequence, &setup, &prompt, err)) {
        return false;
    }
    const size_t n_prompt = slot->sequence.n_prompt, longest = slot->sequence.choices.longest;
    const size_t max_tokens = longest ? longest : r->options.max_tokens;
    // For the longest possible answer, which fills the context if there is no limit.
    const bool bounded = max_tokens && max_tokens < cache->context - n_prompt;
    slot->reserved_pages = pages_for(bounded ? n_prompt + max_tokens : cache->context);
    slot->job = job;
    slot->choice = job->n_started++;
    if (job->n_started == r->n) {
        s->starting = NULL;
    }
    s->waiting = true;
    return true;
}

// Before it starts, a slot reserves all pages that its longest answer can need, even those that it
// may share with others. The invariant: the pages in use are at most those reserved, which are at
// most max_pages. So no running sequence ever lacks a page, and none must be preempted and run
// again.
bool slots_start(Slots *s)
{
    const Slot *slot = slots_next(s);
    // A single request always fits: the cache has pages for at least one full sequence.
    if (s->n_active && s->reserved_pages + slot->reserved_pages > s->engine->cache.max_pages) {
        return false;
    }
    s->reserved_pages += slot->reserved_pages;
    s->n_active++;
    s->waiting = false;
    return true;
}

// Hands the sequence over to its job. Of several choices that failed the first counts, not the one
// that failed first: that depends on how many run together.
static void hand_over(Slot *slot, const Error *failure)
{
    Job *job = slot->job;
    job->n_finished++;
    if (!failure) {
        sequence_retire(&slot->sequence);
        job->choices[slot->choice] = slot->sequence;
        slot->sequence = (Sequence){0};
        return;
    }
    sequence_free(&slot->sequence);
    if (slot->choice < job->first_failed) {
        job->first_failed = slot->choice;
        job->request.failure = *failure;
    }
}

Job *slots_release(Slots *s, size_t place, const Error *failure)
{
    const size_t index = s->order[place];
    Slot *slot = &s->slots[index];
    Job *job = slot->job;
    s->reserved_pages -= slot->reserved_pages;
    // The pages stay in the prefix cache: a later prompt may begin with the same tokens.
    cache_retire(&s->engine->cache, index);
    hand_over(slot, failure);
    // Moves to the end of the order, past a slot that waits. The others stay sorted by age, so that
    // older requests get rows first and tend to finish first.
    memmove(&s->order[place], &s->order[place + 1], (s->n_slots - 1 - place) * sizeof *s->order);
    s->order[s->n_slots - 1] = index;
    s->n_active--;
    return job->n_finished == job->request.n ? job : NULL;
}

// --------------------------------------------------------------------------------------------
// A pass

// The oldest other choice of the slot's request, if it is active and older; else NULL.
static const Sequence *older_choice(const Slots *s, size_t place)
{
    const Slot *slot = slots_active(s, place);
    for (size_t i = 0; i < place; i++) {
        const Slot *older = slots_active(s, i);
        if (older->job == slot->job) {
            return &older->sequence;
        }
    }
    return NULL;
}

// Does an older slot have the same tokens up to the end of the page that this one needs next?
// Prompts with a common prefix often start together; if each computed that prefix, nothing would be
// shared. So the younger slot waits until the older one has filled the page, and then finds it in
// the cache. A choice waits for all of the prompt. A slot waits only for older ones, and the oldest
// never waits, so there is no deadlock.
static bool older_computes_next_page(const Slots *s, size_t place)
{
    const Sequence *own = &slots_active(s, place)->sequence, *choice = older_choice(s, place);
    const size_t n_past = sequence_n_past(own), end = n_past + PAGE_POSITIONS;
    if (sequence_scores_prompt(own)) {
        return false;  // it runs all of its prompt in any case
    }
    if (choice && sequence_n_past(choice) < choice->n_prompt - 1) {
        return true;
    }
    // A page that is partly filled cannot be replaced by another. The page of the last token cannot
    // be shared, because that token must be run for its logits.
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

// Lets a slot whose prompt is not complete take pages that others have filled in the meantime, and
// a copy of the last page of an older choice. All tokens but the last may come from the cache: the
// logits of the last one are needed.
static void reuse_pages(Slots *s, size_t place)
{
    Cache *cache = &s->engine->cache;
    Slot *slot = slots_active(s, place);
    const Sequence *own = &slot->sequence, *choice = older_choice(s, place);
    const size_t n_past = sequence_n_past(own), last = own->n_prompt - 1;
    if (n_past >= last || sequence_scores_prompt(own)) {
        return;
    }
    const size_t n = cache_reuse_prefix(cache, own->cache_sequence, own->tokens.ids, last);
    if (choice && sequence_n_past(choice) >= last && n % PAGE_POSITIONS == 0 && n < last &&
        last - n < PAGE_POSITIONS) {
        cache_copy_page(cache, own->cache_sequence, choice->cache_sequence, last);
    }
    if (slot->choice == 0) {
        slot->job->shared += n - n_past;
    }
}

// If nobody is computing a slot's next page, starts it as a copy of a page with the same first
// tokens.
static void copy_prefix(Slots *s, Slot *slot)
{
    const Sequence *own = &slot->sequence;
    const size_t n_past = sequence_n_past(own), last = own->n_prompt - 1;
    if (n_past >= last || sequence_scores_prompt(own)) {
        return;
    }
    const size_t n = cache_copy_prefix(&s->engine->cache, own->cache_sequence, own->tokens.ids,
                                       last);
    if (slot->choice == 0) {
        slot->job->shared += n - n_past;
    }
}

// What a pass has left: rows, and of these more that want logits than one for each slot.
typedef struct {
    size_t rows, spare_logits;
} Room;

// Adds a step for a slot, with as many rows as it has and there is room for.
static void add_step(Slots *s, Slot *slot, Room *room)
{
    const size_t used = s->engine->scratch.max_rows - room->rows;
    const bool scored = sequence_scores_rows(&slot->sequence);
    const size_t most = scored && room->spare_logits + 1 < room->rows ? room->spare_logits + 1
                                                                      : room->rows;
    Step *step = &s->steps[s->n_steps++];
    *step = (Step){.sequence = &slot->sequence, .rows = s->engine->rows + used};
    step->n_rows = sequence_fill_rows(&slot->sequence, step->rows, most);
    slot->step = step;
    room->rows -= step->n_rows;
    room->spare_logits -= scored ? step->n_rows - 1 : 0;
}

// Adds proposals to the step that was added last, so that the pass has at most `most` rows.
static void propose(Slots *s, Room *room, PassPlan *plan, size_t most)
{
    Step *step = &s->steps[s->n_steps - 1];
    step->n_proposed = sequence_propose(step->sequence, &s->engine->pass_cost, plan, step->rows,
                                        most - plan->n_rows);
    step->n_rows += step->n_proposed;
    room->rows -= step->n_proposed;
    room->spare_logits -= step->n_proposed;
}

static bool has_one_left(const Slot *slot)
{
    return slot->sequence.tokens.size - sequence_n_past(&slot->sequence) == 1;
}

void slots_plan(Slots *s)
{
    const Scratch *scratch = &s->engine->scratch;
    Room room = {scratch->max_rows, scratch->max_logits - s->n_slots};
    s->n_steps = 0;
    // First the slots with a single token left to run: the newest of an answer, or the last of a
    // prompt. There is a row for each, because there are at least as many rows as slots.
    size_t n_single = 0;
    for (size_t i = 0; i < s->n_active; i++) {
        slots_active(s, i)->step = NULL;
        reuse_pages(s, i);
        n_single += has_one_left(slots_active(s, i));
    }
    // Proposals only where no prompt has more use for the rows.
    size_t spare = room.rows - n_single;
    spare = spare < room.spare_logits ? spare : room.spare_logits;
    spare = n_single == s->n_active ? spare : 0;
    PassPlan plan = {.n_rows = n_single, .tokens = (double)n_single};
    for (size_t i = 0; i < s->n_active; i++) {
        if (has_one_left(slots_active(s, i))) {
            add_step(s, slots_active(s, i), &room);
            propose(s, &room, &plan, n_single + spare);
        }
    }
    // Then the other prompts, by age, until the rows are used up. Batch mode has a chunk more rows
    // than slots, so answers never take all of them.
    for (size_t i = 0; i < s->n_active && room.rows; i++) {
        Slot *slot = slots_active(s, i);
        if (!slot->step && !older_computes_next_page(s, i)) {
            copy_prefix(s, slot);
            add_step(s, slot, &room);
        }
    }
}
