// constraint_mask.c - the sets of tokens that may come next. See constraint_mask.h.
//
// A walk over the trie of the vocabulary follows one thread of a state, and leaves a branch as soon
// as no text continues that way. Where the thread's head may end or make a call, the walk below the
// node also follows what comes next:
//
//     head: within a string     all tokens without a quote           the same for every stack: kept
//     nodes with the quote      where the rest of the token is read  by the stack: other walks, small
//                               after the string's end
//
// So the tokens inside a head are found once per head. Within JSON strings they are nearly the
// whole vocabulary. From a node after which any text may follow, all plain tokens below it are
// added by their length in characters, and only the tree of the other tokens is walked.
#include "text/constraint_mask.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/checksum.h"
#include "text/constraint_chars.h"
#include "text/constraint_match.h"

// A node of the trie at which a head can be left, with the head's state there.
typedef struct {
    const TokenTree *tree;
    uint32_t node;
    Term head;
} Exit;

// What is common to all states with a head.
typedef struct {
    Term head;
    uint64_t *inside;  // (n_words): tokens that stay within the head, or end with it; owned;
                       // NULL: the place is empty
    Exit *exits;       // (capacity), owned
    size_t n_exits, capacity;
} HeadMask;

typedef struct {
    MatchState state;
    uint64_t *tokens;  // (n_words), owned; NULL: the place is empty
} StateMask;

// In which states plain text may follow.
typedef struct {
    Term state;
    uint32_t most;  // characters of it; 0: none
} PlainState;

struct MaskCache {
    Constraint *constraint;
    const TokenTrie *trie;
    HeadMask heads[MASK_MAX_HEADS];     // by hash; a newer one replaces an older one
    StateMask states[MASK_MAX_STATES];  // the same
    uint64_t *tokens;                   // (n_words), owned: of a query that is not kept
    uint32_t most;                      // of the query
    Term plain_char;                    // the characters of plain tokens
    Term plain_known[8];                // terms that has_plain_chars has answered
    bool plain_answer[8];
    size_t n_plain_known;
    PlainState plain_states[256];  // by hash
    size_t bytes;                  // allocated for all of this
    bool lacks_memory;
};

static size_t set_bytes(const MaskCache *m) { return (m->trie->n_words + 1) * sizeof(uint64_t); }

// Allocates an empty set. NULL: out of memory.
static uint64_t *make_set(MaskCache *m)
{
    uint64_t *set = calloc(1, set_bytes(m));
    m->bytes += set ? set_bytes(m) : 0;
    m->lacks_memory = m->lacks_memory || !set;
    return set;
}

bool mask_cache_create(MaskCache **out, Constraint *c, const TokenTrie *trie, Error *err)
{
    *out = NULL;
    MaskCache *m = calloc(1, sizeof *m);
    if (m) {
        *m = (MaskCache){.constraint = c, .trie = trie, .bytes = sizeof *m};
        m->tokens = make_set(m);
    }
    if (!m || !m->tokens) {
        mask_cache_free(m);
        return error_memory(err, "the sets of tokens", sizeof *m + trie->n_words * 8);
    }
    CharRange plain[] = {{0x20, 0x21}, {0x23, 0x5b}, {0x5d, 0x10ffff}};
    m->plain_char = chars_term(constraint_pool(c), &(Chars){.ranges = plain, .n = 3}, SPELL_UTF8);
    *out = m;
    return true;
}

size_t mask_cache_bytes(const MaskCache *m) { return m->bytes; }

static void free_head(MaskCache *m, HeadMask *h)
{
    m->bytes -= (h->inside ? set_bytes(m) : 0) + h->capacity * sizeof *h->exits;
    free(h->inside);
    free(h->exits);
    *h = (HeadMask){0};
}

void mask_cache_free(MaskCache *m)
{
    if (!m) {
        return;
    }
    for (size_t i = 0; i < MASK_MAX_HEADS; i++) {
        free_head(m, &m->heads[i]);
    }
    for (size_t i = 0; i < MASK_MAX_STATES; i++) {
        free(m->states[i].tokens);
    }
    free(m->tokens);
    free(m);
}

// --------------------------------------------------------------------------------------------
// Walks

static void add_tokens(const TokenTree *t, uint32_t node, uint64_t *tokens)
{
    for (uint32_t i = t->first[node]; i < t->first[node + 1]; i++) {
        tokens[t->tokens[i] / 64] |= (uint64_t)1 << t->tokens[i] % 64;
    }
}

static void unite(uint64_t *to, const uint64_t *from, size_t n_words)
{
    for (size_t i = 0; i < n_words; i++) {
        to[i] |= from[i];
    }
}

// A part of the trie: nodes first .. end, all of a subtree's children with what is below them.
typedef struct {
    const TokenTree *tree;
    uint32_t first, end;
} TriePart;

// The states of a head along a path of the trie. Longer tokens than this are never allowed.
enum { MAX_WALK = 4096 };

static void walk_threads(MaskCache *m, TriePart part, const ThreadSet *set, uint64_t *tokens);

// Walks a part with one thread, and adds the tokens after which the text can go on.
static void walk_thread(MaskCache *m, TriePart part, Thread thread, uint64_t *tokens)
{
    const TokenTree *t = part.tree;
    if (part.first >= part.end) {
        return;
    }
    Constraint *c = m->constraint;
    TermPool *p = constraint_pool(c);
    const unsigned base = t->depth[part.first] - 1u;
    Term path[MAX_WALK + 1];
    path[0] = thread.head;
    for (uint32_t i = part.first; i < part.end;) {
        const unsigned depth = t->depth[i] - base;
        const Term next = depth <= MAX_WALK ? term_step(p, path[depth - 1], t->byte[i]) : TERM_NONE;
        if (next == TERM_NONE) {
            i = t->skip[i];
            continue;
        }
        path[depth] = next;
        if (m->most == NEVER || thread_shortest(c, (Thread){next, thread.stack}) <= m->most) {
            add_tokens(t, i, tokens);
        }
        if (t->skip[i] > i + 1 && term_may_leave(p, next)) {
            ThreadSet after = {.n = 0};
            thread_set_add(c, &after, (Thread){next, thread.stack}, false);
            walk_threads(m, (TriePart){t, i + 1, t->skip[i]}, &after, tokens);
        }
        i++;
    }
}

static void walk_threads(MaskCache *m, TriePart part, const ThreadSet *set, uint64_t *tokens)
{
    for (size_t i = 0; i < set->n; i++) {
        walk_thread(m, part, set->threads[i], tokens);
    }
}

// --------------------------------------------------------------------------------------------
// Heads

// Does a term have every character of plain tokens? Answers are cached: it is asked of few terms.
static bool has_plain_chars(MaskCache *m, Term t)
{
    TermPool *p = constraint_pool(m->constraint);
    for (size_t i = 0; i < m->n_plain_known; i++) {
        if (m->plain_known[i] == t) {
            return m->plain_answer[i];
        }
    }
    const Term missing = term_and2(p, m->plain_char, term_not(p, t));
    const bool answer = term_shortest(p, missing) == NEVER;
    if (m->n_plain_known < 8) {
        m->plain_known[m->n_plain_known] = t;
        m->plain_answer[m->n_plain_known++] = answer;
    }
    return answer;
}

// Can nothing that follows plain text begin like it?
static bool ends_plain_text(MaskCache *m, Term rest)
{
    TermPool *p = constraint_pool(m->constraint);
    bool apart = rest != TERM_EMPTY || !constraint_has_calls(m->constraint);
    for (unsigned b = 0x20; b < 0x100 && apart && rest != TERM_EMPTY; b++) {
        apart = b == '"' || b == '\\' || term_next(p, rest, b) == TERM_NONE;
    }
    return apart && (rest == TERM_EMPTY || !term_may_leave(p, rest));
}

// How many characters of plain text may follow in a state; 0: not just any.
static uint32_t plain_most(MaskCache *m, Term state)
{
    PlainState *known = &m->plain_states[state % 256];
    if (known->state != state) {
        Repeat r;
        const bool plain = term_as_repeat(constraint_pool(m->constraint), state, &r) &&
                           ends_plain_text(m, r.rest) && has_plain_chars(m, r.repeated);
        *known = (PlainState){state, plain ? r.max : 0};
    }
    return known->most;
}

// A walk of a head over the trie.
typedef struct {
    MaskCache *masks;
    HeadMask *out;
    bool full;  // it began with all plain tokens, and removes those that are not allowed
} HeadWalk;

static void add_exit(HeadWalk *w, Exit e)
{
    HeadMask *h = w->out;
    if (h->n_exits == h->capacity) {
        const size_t grown = h->capacity ? 2 * h->capacity : 64;
        Exit *exits = realloc(h->exits, grown * sizeof *exits);
        if (!exits) {
            w->masks->lacks_memory = true;
            return;
        }
        w->masks->bytes += (grown - h->capacity) * sizeof *exits;
        h->exits = exits;
        h->capacity = grown;
    }
    h->exits[h->n_exits++] = e;
}

// Adds, or takes away, the plain tokens at and below a node with `low` to `high` characters.
static void change_plain(HeadWalk *w, uint32_t node, uint32_t low, uint32_t high, bool add)
{
    const TokenTrie *trie = w->masks->trie;
    const TokenTree *t = &trie->all;
    for (uint32_t i = t->first[node]; i < t->first[t->skip[node]]; i++) {
        if (trie->plain[i] >= low && trie->plain[i] <= high) {
            const uint64_t bit = (uint64_t)1 << t->tokens[i] % 64;
            uint64_t *word = &w->out->inside[t->tokens[i] / 64];
            *word = add ? *word | bit : *word & ~bit;
        }
    }
}

// Walks the tree of the tokens that are not plain within a head, from a state on.
static void walk_others(HeadWalk *w, uint32_t first, uint32_t end, Term state)
{
    const TokenTree *t = &w->masks->trie->others;
    TermPool *p = constraint_pool(w->masks->constraint);
    Term path[MAX_WALK + 1];
    if (first >= end) {
        return;
    }
    const unsigned base = t->depth[first] - 1u;
    path[0] = state;
    for (uint32_t i = first; i < end;) {
        const unsigned depth = t->depth[i] - base;
        const Term next = depth <= MAX_WALK ? term_step(p, path[depth - 1], t->byte[i]) : TERM_NONE;
        if (next == TERM_NONE) {
            i = t->skip[i];
            continue;
        }
        path[depth] = next;
        add_tokens(t, i, w->out->inside);
        if (t->skip[i] > i + 1 && term_may_leave(p, next)) {
            add_exit(w, (Exit){t, i, next});
        }
        i++;
    }
}

// Takes a node in whose state any plain text of `most` characters may follow; `before` of them have
// been read.
static void take_plain_node(HeadWalk *w, uint32_t node, Term state, uint32_t before)
{
    const TokenTrie *trie = w->masks->trie;
    const uint32_t most = plain_most(w->masks, state);
    const uint32_t limit = most > UINT16_MAX - before ? UINT16_MAX : most + before;
    if (!w->full) {
        change_plain(w, node, 1, limit, true);
    } else if (limit < trie->most_plain) {
        change_plain(w, node, limit + 1, UINT16_MAX, false);
    }
    const uint32_t other = trie->other[node];
    if (other < trie->others.n) {
        add_tokens(&trie->others, other, w->out->inside);
        walk_others(w, other + 1, trie->others.skip[other], state);
    }
}

// Walks the whole trie within a head.
static void walk_all(HeadWalk *w)
{
    const TokenTrie *trie = w->masks->trie;
    const TokenTree *t = &trie->all;
    TermPool *p = constraint_pool(w->masks->constraint);
    Term path[MAX_WALK + 1];
    uint32_t characters[MAX_WALK + 1];
    path[0] = w->out->head;
    characters[0] = 0;
    for (uint32_t i = 0; i < t->n;) {
        const unsigned depth = t->depth[i];
        const Term next = depth <= MAX_WALK ? term_step(p, path[depth - 1], t->byte[i]) : TERM_NONE;
        if (next == TERM_NONE) {
            if (w->full) {
                change_plain(w, i, 1, UINT16_MAX, false);
            }
            i = t->skip[i];
            continue;
        }
        path[depth] = next;
        characters[depth] = characters[depth - 1] + !utf8_continues((char)t->byte[i]);
        if (plain_most(w->masks, next)) {
            take_plain_node(w, i, next, characters[depth]);
            i = t->skip[i];
            continue;
        }
        add_tokens(t, i, w->out->inside);
        if (t->skip[i] > i + 1 && term_may_leave(p, next)) {
            add_exit(w, (Exit){t, i, next});
        }
        i++;
    }
}

// Do most tokens begin with a byte after which any plain text may follow? Then it is quicker to
// begin with all of them.
static bool is_mostly_plain(HeadWalk *w)
{
    const TokenTree *t = &w->masks->trie->all;
    TermPool *p = constraint_pool(w->masks->constraint);
    size_t n = 0;
    for (uint32_t i = 0; i < t->n; i = t->skip[i]) {
        const Term next = term_step(p, w->out->head, t->byte[i]);
        n += next != TERM_NONE && plain_most(w->masks, next) ? t->first[t->skip[i]] - t->first[i]
                                                             : 0;
    }
    return n > t->n_tokens / 2;
}

// What is common to all states with a head; NULL: out of memory.
static const HeadMask *head_mask(MaskCache *m, Term head)
{
    const TokenTrie *trie = m->trie;
    HeadMask *h = &m->heads[hash_number(head) % MASK_MAX_HEADS];
    if (h->inside && h->head == head) {
        return h;
    }
    free_head(m, h);
    h->head = head;
    h->inside = make_set(m);
    HeadWalk w = {m, h, false};
    if (!h->inside) {
        return NULL;
    }
    if (plain_most(m, head)) {
        token_trie_add_plain(trie, plain_most(m, head), h->inside);
        walk_others(&w, 0, (uint32_t)trie->others.n, head);
    } else {
        w.full = is_mostly_plain(&w);
        if (w.full) {
            token_trie_add_plain(trie, UINT32_MAX, h->inside);
        }
        walk_all(&w);
    }
    if (m->lacks_memory) {
        free_head(m, h);
        return NULL;
    }
    return h;
}

// Adds the tokens of one thread: those inside its head, and those that go on after it.
static bool add_thread(MaskCache *m, Thread thread, uint64_t *tokens)
{
    const HeadMask *h = head_mask(m, thread.head);
    if (!h) {
        return false;
    }
    unite(tokens, h->inside, m->trie->n_words);
    ThreadSet after = {.n = 0};
    Term last = TERM_NONE;
    for (size_t i = 0; i < h->n_exits; i++) {
        const Exit e = h->exits[i];
        if (e.head != last) {
            after.n = 0;
            thread_set_add(m->constraint, &after, (Thread){e.head, thread.stack}, false);
            last = e.head;
        }
        walk_threads(m, (TriePart){e.tree, e.node + 1, e.tree->skip[e.node]}, &after, tokens);
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// States

// The node of the tokens that begin with a space; the number of nodes if there is none.
static uint32_t space_node(const TokenTree *t)
{
    uint32_t i = 0;
    while (i < t->n && t->byte[i] != ' ') {
        i = t->skip[i];
    }
    return i;
}

// The tokens of a state, by a walk that caches nothing.
static void walk_state(MaskCache *m, const ThreadSet *set, bool no_space, uint64_t *tokens)
{
    const TokenTree *t = &m->trie->all;
    const uint32_t space = no_space ? space_node(t) : (uint32_t)t->n;
    walk_threads(m, (TriePart){t, 0, space}, set, tokens);
    if (space < t->n) {
        // Without their space the tokens below the node are texts from the start.
        walk_threads(m, (TriePart){t, space + 1, t->skip[space]}, set, tokens);
        walk_threads(m, (TriePart){t, t->skip[space], (uint32_t)t->n}, set, tokens);
    }
}

const uint64_t *mask_cache_get(MaskCache *m, const MaskQuery *query)
{
    Constraint *c = m->constraint;
    Error ignored;
    const size_t n_words = m->trie->n_words;
    const size_t hash = hash_number(query->state) % MASK_MAX_STATES;
    const bool kept = query->most == NEVER && !query->no_space;
    StateMask *s = &m->states[hash];
    if (query->state == MATCH_FAILED || !constraint_check(c, &ignored)) {
        return NULL;
    }
    if (kept && s->tokens && s->state == query->state) {
        return s->tokens;
    }
    if (kept && !s->tokens) {
        s->tokens = make_set(m);
    }
    uint64_t *tokens = kept ? s->tokens : m->tokens;
    if (!tokens) {
        return NULL;
    }
    memset(tokens, 0, n_words * sizeof *tokens);
    m->most = query->most;
    s->state = kept ? query->state : s->state;
    ThreadSet set;
    thread_set_load(c, query->state, &set);
    bool ok = true;
    for (size_t i = 0; ok && kept && i < set.n; i++) {
        ok = add_thread(m, set.threads[i], tokens);
    }
    if (!kept) {
        walk_state(m, &set, query->no_space, tokens);
    }
    if (!ok || !constraint_check(c, &ignored)) {
        s->state = kept ? MATCH_FAILED : s->state;
        return NULL;
    }
    return tokens;
}
