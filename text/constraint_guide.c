// constraint_guide.c - a constraint that sequences share. See constraint_guide.h.
//
//     guide   epoch 1: states 0 1 2 3 ..     full     epoch 2: states 0 1 ..
//     match   {"a": [1           state 3  ---------->  reads its text again: state 1
#include "text/constraint_guide.h"

#include <stdlib.h>
#include <string.h>

#include "base/threads.h"

struct Guide {
    ConstraintKind kind;
    Buffer text;             // owned
    const TokenTrie *trie;   // the caller's
    Constraint *constraint;  // owned
    MaskCache *masks;        // owned
    uint32_t epoch;          // how many times the constraint was compiled
    size_t users;
    Lock lock;  // of all the above
};

static void free_compiled(Guide *g)
{
    mask_cache_free(g->masks);
    constraint_free(g->constraint);
    g->masks = NULL;
    g->constraint = NULL;
}

static bool compile(Guide *g, Error *err)
{
    const ConstraintText text = {g->text.data, g->text.size};
    g->epoch++;
    if (!(g->kind == CONSTRAINT_REGEX ? constraint_of_regex(&g->constraint, text, err)
                                      : constraint_of_schema(&g->constraint, text, err))) {
        return false;
    }
    if (!mask_cache_create(&g->masks, g->constraint, g->trie, err)) {
        free_compiled(g);
        return false;
    }
    return true;
}

bool guide_open(Guide **out, ConstraintKind kind, ConstraintText text, const TokenTrie *trie,
                Error *err)
{
    *out = NULL;
    Guide *g = calloc(1, sizeof *g);
    if (!g) {
        return error_memory(err, "a constraint", sizeof *g);
    }
    g->kind = kind;
    g->trie = trie;
    g->users = 1;
    buffer_add_text(&g->text, "");  // its data is not NULL, however short
    buffer_add(&g->text, text.bytes, text.size);
    if (!buffer_check(&g->text, err) || !compile(g, err)) {
        guide_close(g);
        return false;
    }
    *out = g;
    return true;
}

Guide *guide_share(Guide *g)
{
    if (g) {
        g->users++;
    }
    return g;
}

void guide_close(Guide *g)
{
    if (g && --g->users == 0) {
        free_compiled(g);
        buffer_free(&g->text);
        free(g);
    }
}

bool guide_is_shared(const Guide *g) { return g->users > 1; }

size_t guide_bytes(Guide *g)
{
    lock_take(&g->lock);
    const size_t bytes = sizeof *g + g->text.capacity +
                         (g->constraint ? constraint_bytes(g->constraint) : 0) +
                         (g->masks ? mask_cache_bytes(g->masks) : 0);
    lock_release(&g->lock);
    return bytes;
}

const TokenTrie *guide_trie(const Guide *g) { return g->trie; }
size_t guide_words(const Guide *g) { return g->trie->n_words; }
const char *guide_notes(const Guide *g) { return constraint_notes(g->constraint); }

// --------------------------------------------------------------------------------------------
// Texts

static void set_state(Match *m, MatchState state)
{
    const Guide *g = m->guide;
    m->epoch = g->epoch;
    m->state = state;
    m->shortest = constraint_shortest(g->constraint, state);
    m->is_final = constraint_is_final(g->constraint, state);
}

// Makes the match's state one of the present constraint. False: that reached its bounds.
static bool settle(Match *m)
{
    Constraint *c = m->guide->constraint;
    Error ignored;
    if (m->epoch != m->guide->epoch) {
        const MatchState start = constraint_start(c);
        set_state(m, constraint_next(c, start, m->text.data ? m->text.data : "", m->text.size));
    }
    return constraint_check(c, &ignored);
}

// What is asked of a text, and the answer.
typedef struct {
    bool (*ask)(Match *m, void *question);  // false: it failed, which constraint_check tells
    void *question;
} Inquiry;

static bool ask(Match *m, const Inquiry *q)
{
    Error ignored;
    return settle(m) && q->ask(m, q->question) && constraint_check(m->guide->constraint, &ignored);
}

// Asks, and where the constraint has reached its bounds, asks a fresh one.
static bool inquire(Match *m, const Inquiry *q, Error *err)
{
    Guide *g = m->guide;
    lock_take(&g->lock);
    bool ok = g->constraint && ask(m, q);
    if (!ok && (!g->constraint || !constraint_check(g->constraint, err))) {
        free_compiled(g);
        ok = compile(g, err) && ask(m, q);
    }
    if (!ok && g->constraint && constraint_check(g->constraint, err)) {
        error_memory(err, "a set of tokens", g->trie->n_words * sizeof(uint64_t));
    }
    lock_release(&g->lock);
    return ok;
}

static bool ask_nothing(Match *m, void *question)
{
    (void)m;
    (void)question;
    return true;
}

bool match_begin(Match *m, Guide *guide, Error *err)
{
    const Inquiry q = {ask_nothing, NULL};
    buffer_clear(&m->text);
    m->guide = guide;
    m->epoch = 0;  // of no guide
    return inquire(m, &q, err);
}

void match_free(Match *m)
{
    buffer_free(&m->text);
    *m = (Match){0};
}

typedef struct {
    ConstraintText bytes;
    uint32_t most;
    bool taken;
} TakeBytes;

static bool ask_to_take(Match *m, void *question)
{
    TakeBytes *q = question;
    Constraint *c = m->guide->constraint;
    const MatchState next = constraint_next(c, m->state, q->bytes.bytes, q->bytes.size);
    const uint32_t shortest = constraint_shortest(c, next);
    Error ignored;
    q->taken = shortest != NO_TEXT && shortest <= q->most;
    if (q->taken && constraint_check(c, &ignored)) {
        set_state(m, next);
        buffer_add(&m->text, q->bytes.bytes, q->bytes.size);
    }
    return true;
}

bool match_take(Match *m, ConstraintText bytes, uint32_t most, bool *taken, Error *err)
{
    TakeBytes take = {bytes, most, false};
    const Inquiry q = {ask_to_take, &take};
    const bool ok = inquire(m, &q, err) && buffer_check(&m->text, err);
    *taken = ok && take.taken;
    return ok;
}

typedef struct {
    MaskQuery query;
    uint64_t *tokens;
} CopyTokens;

static bool ask_for_tokens(Match *m, void *question)
{
    CopyTokens *q = question;
    q->query.state = m->state;
    const uint64_t *tokens = mask_cache_get(m->guide->masks, &q->query);
    if (tokens) {
        memcpy(q->tokens, tokens, m->guide->trie->n_words * sizeof *tokens);
    }
    return tokens;
}

bool match_tokens(Match *m, MaskQuery query, uint64_t *tokens, Error *err)
{
    CopyTokens copy = {query, tokens};
    const Inquiry q = {ask_for_tokens, &copy};
    return inquire(m, &q, err);
}

typedef struct {
    ForcedBytes *forced;
    bool ends;
} AskForced;

static bool ask_for_forced(Match *m, void *question)
{
    AskForced *q = question;
    Constraint *c = m->guide->constraint;
    const MatchState state = constraint_forced(c, m->state, q->forced);
    q->ends = constraint_is_final(c, state);
    return state != MATCH_FAILED;
}

bool match_forced(Match *m, ForcedBytes *forced, bool *ends, Error *err)
{
    AskForced forced_bytes = {forced, false};
    const Inquiry q = {ask_for_forced, &forced_bytes};
    const bool ok = inquire(m, &q, err);
    *ends = forced_bytes.ends;
    return ok;
}
