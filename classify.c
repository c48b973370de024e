// classify.c - which of several given texts an answer is. See classify.h.
//
// The choices are sorted by their tokens, so those with a common prefix are neighbours, and lanes
// share them out: a lane is a sequence of the cache that begins with the prompt and runs its choices
// one after another. From each to the next it keeps the tokens that both have.
//
//     sorted      a b c     a b d     a e f  |  g h      i          two lanes
//     first       a b                        |  g                   rows of the passes; the last
//     second                -                |           -          .. token of a choice needs none,
//     third                           e      |                      .. unless ends count
//
// The logits of a row belong to all choices of the lane that have its tokens: here those of "a b" say
// how probable c and d are. They reach each choice in the order of its tokens, so that the sums do
// not depend on how many lanes there are.
#include "classify.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "ops.h"

// --------------------------------------------------------------------------------------------
// Texts

static int compare_choice_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// Sorted, a text is followed by those that begin with it.
static void sort_texts(const ChoiceTexts *texts, const char *sorted[MAX_CHOICE_TEXTS])
{
    memcpy(sorted, texts->texts, texts->n * sizeof *sorted);
    qsort(sorted, texts->n, sizeof *sorted, compare_choice_texts);
}

// Was this text given before text i?
static bool is_repeated(const ChoiceTexts *texts, size_t i)
{
    size_t k = 0;
    while (strcmp(texts->texts[k], texts->texts[i]) != 0) {
        k++;
    }
    return k < i;
}

size_t choice_texts_duplicate(const ChoiceTexts *texts)
{
    const char *sorted[MAX_CHOICE_TEXTS];
    sort_texts(texts, sorted);
    bool found = false;
    for (size_t i = 1; i < texts->n; i++) {
        found |= strcmp(sorted[i - 1], sorted[i]) == 0;
    }
    size_t first = found ? 0 : texts->n;
    while (first < texts->n && !is_repeated(texts, first)) {
        first++;
    }
    return first;
}

// Does one of the texts begin another?
static bool are_nested(const ChoiceTexts *texts)
{
    const char *sorted[MAX_CHOICE_TEXTS];
    sort_texts(texts, sorted);
    for (size_t i = 1; i < texts->n; i++) {
        if (strncmp(sorted[i - 1], sorted[i], strlen(sorted[i - 1])) == 0) {
            return true;
        }
    }
    return false;
}

// --------------------------------------------------------------------------------------------
// Tokens

static int compare_choices(const void *a, const void *b)
{
    const Choice *x = a, *y = b;
    for (size_t i = 0; i < x->n_tokens && i < y->n_tokens; i++) {
        if (x->tokens[i] != y->tokens[i]) {
            return x->tokens[i] < y->tokens[i] ? -1 : 1;
        }
    }
    return (x->n_tokens > y->n_tokens) - (x->n_tokens < y->n_tokens);
}

static size_t count_shared(const Choice *a, const Choice *b)
{
    size_t n = 0;
    while (n < a->n_tokens && n < b->n_tokens && a->tokens[n] == b->tokens[n]) {
        n++;
    }
    return n;
}

// Do the tokens from `first` on, after `previous`, stand for exactly this text? A SentencePiece
// vocabulary may take a mark for a space, or drop the space that an answer begins with.
static bool stands_for(const Choices *c, size_t first, int previous, const char *text)
{
    const size_t length = strlen(text);
    size_t at = 0;
    for (size_t i = first; i < c->tokens.size; i++) {
        size_t size;
        const char *bytes = tokenizer_decode(c->tokenizer, previous, c->tokens.ids[i], &size);
        if (size > length - at || memcmp(text + at, bytes, size) != 0) {
            return false;
        }
        at += size;
        previous = c->tokens.ids[i];
    }
    return at == length;
}

// Appends the tokens of a text to those of all choices. `previous` goes before them, since the
// tokenizer looks at what a text continues.
static bool encode_choice(Choices *c, size_t index, int previous, Error *err)
{
    const char *text = c->texts->texts[index];
    const TextSpan span = {text, strlen(text), false, false};
    Error why;
    if (!tokens_append(&c->tokens, previous, err)) {
        return false;
    }
    const size_t first = c->tokens.size;
    if (!tokenizer_encode(c->tokenizer, &span, 1, false, &c->tokens, &why)) {
        return error_set(err, why.kind, "the choice %.80s: %.400s", text, why.message);
    }
    const size_t n = c->tokens.size - first;
    c->list[index] = (Choice){.index = index, .n_tokens = n};
    c->longest = n > c->longest ? n : c->longest;
    return stands_for(c, first, previous, text) ||
           error_set(err, ERROR_INPUT,
                     "the choice %.80s: the vocabulary cannot express exactly this text", text);
}

static bool encode_choices(Choices *c, int previous, Error *err)
{
    for (size_t i = 0; i < c->texts->n; i++) {
        if (!encode_choice(c, i, previous, err)) {
            return false;
        }
    }
    // The list of tokens has stopped growing, and moving.
    const int *tokens = c->tokens.ids;
    for (size_t i = 0; i < c->texts->n; i++) {
        c->list[i].tokens = tokens + 1;
        tokens += 1 + c->list[i].n_tokens;
    }
    qsort(c->list, c->texts->n, sizeof *c->list, compare_choices);
    for (size_t i = 1; i < c->texts->n; i++) {
        c->list[i].n_shared = count_shared(&c->list[i - 1], &c->list[i]);
    }
    return true;
}

bool choices_open(Choices *c, const ChoiceTexts *texts, const Tokenizer *tokenizer, int previous,
                  Error *err)
{
    const size_t padded = round_up(texts->n, LANES);
    size_t n_ends;
    *c = (Choices){.texts = texts,
                   .tokenizer = tokenizer,
                   .list = calloc(texts->n, sizeof *c->list),
                   .with_end = are_nested(texts),
                   .scores = alloc_zeroed(padded, sizeof *c->scores),
                   .probabilities = alloc_zeroed(padded, sizeof *c->probabilities)};
    tokenizer_ends(tokenizer, &n_ends);
    bool ok = (c->list && c->scores && c->probabilities) ||
              error_memory(err, "choices", texts->n * sizeof *c->list);
    ok = ok && encode_choices(c, previous, err);
    if (ok && c->with_end && !n_ends) {
        ok = error_set(
            err, ERROR_INPUT,
            "one choice begins another, and the model has no end token to tell them apart");
    }
    if (!ok) {
        choices_free(c);
    }
    return ok;
}

void choices_free(Choices *c)
{
    free(c->list);
    free(c->scores);
    free(c->probabilities);
    tokens_free(&c->tokens);
    *c = (Choices){0};
}

// --------------------------------------------------------------------------------------------
// Probabilities

// The logarithm of the sum of e^logit over the tokens that end an answer.
static double end_logit(const Tokenizer *tokenizer, const float *logits)
{
    float part[LANES];
    size_t n_ends, n = 0;
    const int *ends = tokenizer_ends(tokenizer, &n_ends);
    for (size_t i = 0; i < n_ends; i++) {
        if (n == LANES) {
            part[0] = (float)log_sum_exp(part, n);
            n = 1;
        }
        part[n++] = logits[ends[i]];
    }
    return log_sum_exp(part, n);
}

// Takes the logits after the first `depth` tokens of choice `first`: for that one, and for those
// that follow it before `end` and have the same tokens up to there.
static void add_logprobs(Choices *c, size_t first, size_t end, size_t depth, const float *logits)
{
    const double total = log_sum_exp(logits, tokenizer_vocab_size(c->tokenizer));
    const double ends = c->with_end ? end_logit(c->tokenizer, logits) : 0;
    for (size_t i = first; i < end && (i == first || c->list[i].n_shared >= depth); i++) {
        Choice *choice = &c->list[i];
        const double logit = depth < choice->n_tokens ? logits[choice->tokens[depth]] : ends;
        choice->logprob += logit - total;
    }
}

void choices_begin(Choices *c, const float *logits)
{
    add_logprobs(c, 0, c->texts->n, 0, logits);
    for (size_t i = 0; i < c->texts->n; i++) {
        c->list[i].first = c->list[i].logprob;
    }
    c->begun = true;
}

static int compare_places(const void *a, const void *b)
{
    const size_t x = ((const Choice *)a)->index, y = ((const Choice *)b)->index;
    return (x > y) - (x < y);
}

// The largest logarithm is taken out before they are rounded to floats.
static void finish_choices(Choices *c)
{
    const size_t n = c->texts->n, padded = round_up(n, LANES);
    double best = c->list[0].logprob;
    for (size_t i = 1; i < n; i++) {
        best = c->list[i].logprob > best ? c->list[i].logprob : best;
    }
    qsort(c->list, n, sizeof *c->list, compare_places);
    for (size_t i = 0; i < n; i++) {
        c->scores[i] = (float)(c->list[i].logprob - best);
    }
    for (size_t i = 0; i < padded; i++) {
        c->probabilities[i] = i < n ? c->scores[i] : -INFINITY;
    }
    softmax(c->probabilities, padded, 1);
    c->done = true;
}

// --------------------------------------------------------------------------------------------
// Lanes

// A sequence that runs some choices of a ballot, one after another.
typedef struct {
    const Ballot *ballot;
    size_t sequence;   // of the cache
    size_t next, end;  // list[next] .. list[end - 1] of the choices are left
    size_t depth;      // so many tokens of list[next] are behind the prompt in the sequence
    const Row *rows;   // (n_rows) of the current pass
    size_t n_rows;
} Lane;

typedef struct {
    Engine *engine;
    Lane *list;  // (n), owned
    size_t n;
    size_t n_spare;  // of the engine's lanes, those that have no ballot
    size_t n_pages;  // of the cache, that they may take
} Lanes;

// The rows that a choice needs besides the prompt's last: its last token's only tells what follows.
static size_t needed_rows(const Choices *c, const Choice *choice)
{
    return choice->n_tokens - 1 + c->with_end;
}

// The pages that a lane takes behind those of the prompt that are full.
static size_t own_pages(const Ballot *b)
{
    return pages_for(b->n_prompt + b->choices->longest) - b->n_prompt / PAGE_POSITIONS;
}

// Gives a sequence the prompt of a ballot, without running it.
static bool share_prompt(Cache *cache, const Ballot *b, size_t sequence)
{
    const size_t n = cache_reuse_prefix(cache, sequence, b->prompt, b->n_prompt);
    return n == b->n_prompt || (n % PAGE_POSITIONS == 0 && b->n_prompt - n < PAGE_POSITIONS &&
                                cache_copy_page(cache, sequence, b->sequence, b->n_prompt));
}

// Adds one of the engine's lanes for a ballot, if there is one, and pages for it.
static bool add_spare_lane(Lanes *lanes, const Ballot *b)
{
    Cache *cache = &lanes->engine->cache;
    const size_t sequence = cache->n_sequences - lanes->n_spare;
    if (!lanes->n_spare || lanes->n_pages < own_pages(b)) {
        return false;
    }
    if (!share_prompt(cache, b, sequence)) {
        cache_truncate(cache, sequence, 0);
        return false;
    }
    lanes->n_spare--;
    lanes->n_pages -= own_pages(b);
    lanes->list[lanes->n++] = (Lane){.ballot = b, .sequence = sequence};
    return true;
}

// Shares the choices of a ballot out among its own sequence and up to `most` other lanes.
static void add_ballot(Lanes *lanes, const Ballot *b, size_t most)
{
    Choices *c = b->choices;
    const size_t first = lanes->n, n = c->texts->n;
    size_t busy = 0;  // choices that need rows
    for (size_t i = 0; i < n; i++) {
        c->list[i].logprob = c->list[i].first;
        busy += needed_rows(c, &c->list[i]) > 0;
    }
    while (lanes->n - first < most && lanes->n - first + 1 < busy && add_spare_lane(lanes, b)) {
    }
    // Last, since the others copy a page of it.
    lanes->list[lanes->n++] = (Lane){.ballot = b, .sequence = b->sequence};
    const size_t count = lanes->n - first;
    for (size_t i = 0; i < count; i++) {
        lanes->list[first + i].next = n * i / count;
        lanes->list[first + i].end = n * (i + 1) / count;
    }
}

static void add_ballots(Lanes *lanes, const Ballot *ballots, size_t n)
{
    size_t own = 0;
    for (size_t i = 0; i < n; i++) {
        own += own_pages(&ballots[i]);
    }
    lanes->n_pages = cache_spare_pages(&lanes->engine->cache);
    lanes->n_pages = lanes->n_pages > own ? lanes->n_pages - own : 0;
    for (size_t i = 0; i < n; i++) {
        add_ballot(lanes, &ballots[i], lanes->n_spare / (n - i));
    }
}

// Moves a lane on to the next choice that needs a row. Of the last one's tokens its sequence has at
// least those that both share.
static void advance_lane(Lane *lane, Cache *cache)
{
    const Choices *c = lane->ballot->choices;
    while (lane->next < lane->end && lane->depth == needed_rows(c, &c->list[lane->next])) {
        lane->next++;
        lane->depth = lane->next < lane->end ? c->list[lane->next].n_shared : 0;
    }
    cache_truncate(cache, lane->sequence, lane->ballot->n_prompt + lane->depth);
}

// Fills the rows of a pass, at most `max`, with what the lanes have to run next.
static size_t fill_rows(Lanes *lanes, Row *rows, size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < lanes->n; i++) {
        Lane *lane = &lanes->list[i];
        const Choices *c = lane->ballot->choices;
        const Choice *choice = &c->list[lane->next];
        const size_t left = lane->next < lane->end ? needed_rows(c, choice) - lane->depth : 0;
        lane->rows = rows + n;
        lane->n_rows = left < max - n ? left : max - n;
        for (size_t k = 0; k < lane->n_rows; k++) {
            rows[n++] = (Row){.token = choice->tokens[lane->depth + k],
                              .sequence = lane->sequence,
                              .wants_logits = true};
        }
    }
    return n;
}

static void tell_logits(const Lanes *lanes)
{
    for (size_t i = 0; i < lanes->n; i++) {
        const Lane *lane = &lanes->list[i];
        const LogitsHook *hook = &lane->ballot->hook;
        for (size_t k = 0; hook->see && k < lane->n_rows; k++) {
            hook->see(hook->arg, lane->rows[k].logits);
        }
    }
}

static void take_lane(Lane *lane)
{
    for (size_t k = 0; k < lane->n_rows; k++) {
        add_logprobs(lane->ballot->choices, lane->next, lane->end, ++lane->depth,
                     lane->rows[k].logits);
    }
}

// The threads share the lanes, each of which changes choices of its own.
static void take_rows(Team team, void *arg)
{
    const Lanes *lanes = arg;
    TeamStep step = team_step(team, lanes->n);
    while (team_claim(&step)) {
        for (size_t i = step.begin; i < step.end; i++) {
            take_lane(&lanes->list[i]);
        }
    }
}

// Runs all lanes to their ends, unless that is interrupted.
static bool run_lanes(Lanes *lanes, const volatile sig_atomic_t *interrupted, Error *err)
{
    Engine *e = lanes->engine;
    Scratch *s = &e->scratch;
    const size_t max = s->max_rows < s->max_logits ? s->max_rows : s->max_logits;
    while (!*interrupted) {
        for (size_t i = 0; i < lanes->n; i++) {
            advance_lane(&lanes->list[i], &e->cache);
        }
        const size_t n = fill_rows(lanes, e->rows, max);
        if (!n) {
            return true;
        }
        if (!forward(&e->model, &e->cache, s, e->rows, n, err)) {
            return false;
        }
        tell_logits(lanes);
        team_run(e->threads < lanes->n ? e->threads : lanes->n, take_rows, lanes);
    }
    return true;
}

// Leaves the prompt in the sequences of the ballots, and nothing in the others. Finishes the choices
// if all have been run.
static void close_lanes(Lanes *lanes, Ballot *ballots, size_t n)
{
    Cache *cache = &lanes->engine->cache;
    bool done = true;
    for (size_t i = 0; i < lanes->n; i++) {
        const Lane *lane = &lanes->list[i];
        const bool own = lane->sequence == lane->ballot->sequence;
        cache_truncate(cache, lane->sequence, own ? lane->ballot->n_prompt : 0);
        done = done && lane->next == lane->end;
    }
    for (size_t i = 0; done && i < n; i++) {
        finish_choices(ballots[i].choices);
    }
    free(lanes->list);
}

bool choices_run(Engine *e, Ballot *ballots, size_t n, const volatile sig_atomic_t *interrupted,
                 Error *err)
{
    Lanes lanes = {
        .engine = e, .list = calloc(n + e->n_lanes, sizeof *lanes.list), .n_spare = e->n_lanes};
    if (!lanes.list) {
        return error_memory(err, "lanes of choices", (n + e->n_lanes) * sizeof *lanes.list);
    }
    add_ballots(&lanes, ballots, n);
    const bool ok = run_lanes(&lanes, interrupted, err);
    close_lanes(&lanes, ballots, n);
    return ok;
}
