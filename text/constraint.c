// constraint.c - constraints on a text. See constraint.h.
//
// A pushdown automaton whose finite control is terms. After {"a": [1, 2 the state is
//
//     head     within the number: \d* ..
//     stack    after the item: , or ]        what follows the value of "a": }        (bottom)
//
// Where the head may end, the top of the stack replaces it. Where it may call a rule, the rule's
// language replaces it, and what follows the call is pushed. Alternatives are threads; those with
// the same stack are joined, since the union of two heads is a term. Stacks are interned like
// terms, so a state is a small set of pairs of numbers.
#include "text/constraint.h"

#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "text/constraint_chars.h"
#include "text/constraint_grammar.h"
#include "text/constraint_match.h"
#include "text/constraint_regex.h"
#include "text/constraint_schema.h"

typedef struct {
    Term top;
    uint32_t below;     // a stack
    uint32_t shortest;  // of all terms on it
    uint32_t depth;
} StackNode;

typedef struct {
    uint32_t first, n;  // threads[first .. first + n)
    bool complete;
    uint32_t shortest;
} State;

// Items found by their contents.
typedef struct {
    uint32_t *places;  // (n_places): index + 1; 0: empty
    size_t n_places;
} Index;

struct Constraint {
    TermPool *pool;
    Schema *schema;     // NULL: not of a schema
    Grammar *grammar;   // the same
    StackNode *stacks;  // (stacks_capacity); the first is the empty stack
    size_t n_stacks, stacks_capacity;
    Index stack_index;
    State *states;  // (states_capacity)
    size_t n_states, states_capacity;
    Index state_index;
    Thread *threads;  // (threads_capacity), of all states
    size_t n_threads, threads_capacity;
    MatchState start;
    bool lacks_memory, too_large, too_ambiguous;
    Error schema_error;  // filled by the schema when it fails
};

TermPool *constraint_pool(Constraint *c) { return c->pool; }
bool constraint_has_calls(const Constraint *c) { return c->grammar; }
MatchState constraint_start(const Constraint *c) { return c->start; }

const char *constraint_notes(const Constraint *c)
{
    return c->schema ? schema_notes(c->schema) : NULL;
}

bool constraint_check(const Constraint *c, Error *err)
{
    if (c->too_large) {
        return error_set(err, ERROR_INPUT,
                         "the constraint is too large: expected at most %zu states of texts",
                         CONSTRAINT_MAX_STATES);
    }
    if (c->too_ambiguous) {
        return error_set(err, ERROR_INPUT,
                         "the constraint is too ambiguous: expected at most %d ways to read a text",
                         MAX_THREADS);
    }
    return c->lacks_memory ? error_memory(err, "a constraint", c->n_states * sizeof(State))
                           : term_pool_check(c->pool, err);
}

// --------------------------------------------------------------------------------------------
// Stacks

// Makes room for n more items of an array; false: out of memory.
static bool reserve_items(Constraint *c, void **items, size_t *capacity, size_t n, size_t size)
{
    if (n <= *capacity) {
        return true;
    }
    size_t grown = *capacity ? 2 * *capacity : 64;
    grown = grown < n ? n : grown;
    void *p = realloc(*items, grown * size);
    if (!p) {
        c->lacks_memory = true;
        return false;
    }
    *items = p;
    *capacity = grown;
    return true;
}

static uint64_t hash_stack(const StackNode *s)
{
    const uint64_t h = hash_step(hash_step(HASH_BEGIN, s->top), s->below);
    return h ^ h >> 32;
}

static uint64_t hash_threads(const Thread *threads, size_t n, bool complete)
{
    uint64_t h = hash_step(HASH_BEGIN, complete);
    for (size_t i = 0; i < n; i++) {
        h = hash_step(hash_step(h, threads[i].head), threads[i].stack);
    }
    return h ^ h >> 32;
}

static uint64_t hash_item(const Constraint *c, const Index *index, size_t i)
{
    if (index == &c->stack_index) {
        return hash_stack(&c->stacks[i]);
    }
    const State *s = &c->states[i];
    return hash_threads(c->threads + s->first, s->n, s->complete);
}

// Keeps at least half of an index empty; enters all n items again when it grows.
static bool grow_index(Constraint *c, Index *index, size_t n)
{
    if (2 * (n + 1) <= index->n_places) {
        return true;
    }
    const size_t n_places = index->n_places ? 2 * index->n_places : 256;
    uint32_t *places = calloc(n_places, sizeof *places);
    if (!places) {
        c->lacks_memory = true;
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        size_t place = hash_item(c, index, i) & (n_places - 1);
        while (places[place]) {
            place = (place + 1) & (n_places - 1);
        }
        places[place] = (uint32_t)i + 1;
    }
    free(index->places);
    *index = (Index){places, n_places};
    return true;
}

// Pushes a term. When out of memory, fails the constraint and returns the stack unchanged.
static uint32_t push(Constraint *c, Term top, uint32_t below)
{
    const StackNode s = {.top = top, .below = below};
    if (!grow_index(c, &c->stack_index, c->n_stacks)) {
        return below;
    }
    Index *index = &c->stack_index;
    size_t place = hash_stack(&s) & (index->n_places - 1);
    for (; index->places[place]; place = (place + 1) & (index->n_places - 1)) {
        const StackNode *t = &c->stacks[index->places[place] - 1];
        if (t->top == top && t->below == below) {
            return index->places[place] - 1;
        }
    }
    if (c->n_stacks == CONSTRAINT_MAX_STATES ||
        !reserve_items(c, (void **)&c->stacks, &c->stacks_capacity, c->n_stacks + 1, sizeof s)) {
        c->too_large = c->n_stacks == CONSTRAINT_MAX_STATES;
        return below;
    }
    StackNode *made = &c->stacks[c->n_stacks];
    *made = s;
    made->shortest = length_plus(term_shortest(c->pool, top), c->stacks[below].shortest);
    made->depth = c->stacks[below].depth + 1;
    index->places[place] = (uint32_t)++c->n_stacks;
    return (uint32_t)c->n_stacks - 1;
}

// --------------------------------------------------------------------------------------------
// Threads

uint32_t thread_shortest(Constraint *c, Thread thread)
{
    return length_plus(term_shortest(c->pool, thread.head), c->stacks[thread.stack].shortest);
}

// Adds a thread whose head reads a byte next. Heads with the same stack are joined.
static void join_thread(Constraint *c, ThreadSet *set, Thread thread)
{
    for (size_t i = 0; i < set->n; i++) {
        if (set->threads[i].stack == thread.stack) {
            set->threads[i].head = term_or2(c->pool, set->threads[i].head, thread.head);
            return;
        }
    }
    if (set->n < MAX_THREADS) {
        set->threads[set->n++] = thread;
    } else {
        c->too_ambiguous = true;
    }
}

// Beyond a certain depth nothing is opened that need not be: where there are bytes or an end, no
// call at all, else only those with the shortest texts. What is left out depends on the languages
// alone, and not on the numbers that they got.
typedef struct {
    bool deep;
    uint32_t longest;  // of the calls that are made
} CallLimit;

static uint32_t call_shortest(Constraint *c, FrontCall call)
{
    return length_plus(term_shortest(c->pool, call.callee), term_shortest(c->pool, call.rest));
}

static CallLimit limit_calls(Constraint *c, Thread thread)
{
    CallLimit limit = {c->stacks[thread.stack].depth >= CONSTRAINT_MAX_DEPTH, NEVER};
    if (!limit.deep) {
        return limit;
    }
    TermFront front = term_front(c->pool, thread.head);
    if (front.bytes != TERM_NONE || term_nullable(c->pool, thread.head)) {
        limit.longest = 0;
        return limit;
    }
    for (size_t i = 0; i < front.n_calls; i++) {
        const uint32_t shortest = call_shortest(c, front.calls[i]);
        limit.longest = shortest < limit.longest ? shortest : limit.longest;
        front = term_front(c->pool, thread.head);  // what it points to may have moved
    }
    return limit;
}

void thread_set_add(Constraint *c, ThreadSet *set, Thread thread, bool inside)
{
    TermFront front = term_front(c->pool, thread.head);
    if (inside && front.bytes != TERM_NONE && front.bytes != TERM_EMPTY) {
        join_thread(c, set, (Thread){front.bytes, thread.stack});
    }
    if (term_nullable(c->pool, thread.head)) {
        const StackNode below = c->stacks[thread.stack];
        if (thread.stack) {
            thread_set_add(c, set, (Thread){below.top, below.below}, true);
        } else {
            set->complete = true;
        }
    }
    const CallLimit limit = limit_calls(c, thread);
    for (size_t i = 0; i < front.n_calls; i++) {
        front = term_front(c->pool, thread.head);  // what it points to may have moved
        const FrontCall call = front.calls[i];
        uint32_t stack = thread.stack;
        if (call.rest != TERM_EMPTY) {
            if (limit.deep && call_shortest(c, call) > limit.longest) {
                continue;
            }
            stack = push(c, call.rest, stack);
        }
        thread_set_add(c, set, (Thread){call.callee, stack}, true);
    }
}

void thread_set_load(const Constraint *c, MatchState state, ThreadSet *set)
{
    const State *s = &c->states[state];
    memcpy(set->threads, c->threads + s->first, s->n * sizeof *set->threads);
    set->n = s->n;
    set->complete = s->complete;
}

void thread_set_step(Constraint *c, const ThreadSet *from, unsigned byte, ThreadSet *to)
{
    to->n = 0;
    to->complete = false;
    for (size_t i = 0; i < from->n; i++) {
        const Thread t = from->threads[i];
        const Term next = term_next(c->pool, t.head, byte);
        if (next != TERM_NONE) {
            thread_set_add(c, to, (Thread){next, t.stack}, true);
        }
    }
}

// --------------------------------------------------------------------------------------------
// States

static int compare_threads(const void *a, const void *b)
{
    const Thread *x = a, *y = b;
    return x->stack != y->stack ? (x->stack > y->stack ? 1 : -1)
                                : (x->head > y->head) - (x->head < y->head);
}

// The state for a set of threads, found or made.
static MatchState intern_state(Constraint *c, ThreadSet *set)
{
    if ((!set->n && !set->complete) || !grow_index(c, &c->state_index, c->n_states)) {
        return MATCH_FAILED;
    }
    qsort(set->threads, set->n, sizeof *set->threads, compare_threads);
    Index *index = &c->state_index;
    const uint64_t hash = hash_threads(set->threads, set->n, set->complete);
    size_t place = hash & (index->n_places - 1);
    for (; index->places[place]; place = (place + 1) & (index->n_places - 1)) {
        const State *s = &c->states[index->places[place] - 1];
        if (s->n == set->n && s->complete == set->complete &&
            memcmp(c->threads + s->first, set->threads, s->n * sizeof(Thread)) == 0) {
            return index->places[place] - 1;
        }
    }
    c->too_large = c->too_large || c->n_states == CONSTRAINT_MAX_STATES;
    if (c->too_large ||
        !reserve_items(c, (void **)&c->states, &c->states_capacity, c->n_states + 1,
                       sizeof(State)) ||
        !reserve_items(c, (void **)&c->threads, &c->threads_capacity, c->n_threads + set->n + 1,
                       sizeof(Thread))) {
        return MATCH_FAILED;
    }
    State s = {(uint32_t)c->n_threads, (uint32_t)set->n, set->complete, set->complete ? 0 : NEVER};
    for (size_t i = 0; i < set->n; i++) {
        const uint32_t shortest = thread_shortest(c, set->threads[i]);
        s.shortest = shortest < s.shortest ? shortest : s.shortest;
    }
    memcpy(c->threads + c->n_threads, set->threads, set->n * sizeof(Thread));
    c->n_threads += set->n;
    c->states[c->n_states] = s;
    index->places[place] = (uint32_t)++c->n_states;
    return (MatchState)c->n_states - 1;
}

MatchState constraint_next(Constraint *c, MatchState state, const char *bytes, size_t size)
{
    Error ignored;
    if (state == MATCH_FAILED || !constraint_check(c, &ignored)) {
        return MATCH_FAILED;
    }
    ThreadSet sets[2];
    thread_set_load(c, state, &sets[0]);
    for (size_t i = 0; i < size; i++) {
        thread_set_step(c, &sets[i % 2], (unsigned char)bytes[i], &sets[(i + 1) % 2]);
        if (!sets[(i + 1) % 2].n && i + 1 < size) {
            return MATCH_FAILED;
        }
    }
    const MatchState next = intern_state(c, &sets[size % 2]);
    return constraint_check(c, &ignored) ? next : MATCH_FAILED;
}

// The only byte that may come next; -1 if there are several, or none.
static int only_byte(Constraint *c, const ThreadSet *set)
{
    int only = -1;
    for (size_t i = 0; i < set->n; i++) {
        for (unsigned b = 0; b < 256; b++) {
            if (term_next(c->pool, set->threads[i].head, b) == TERM_NONE || only == (int)b) {
                continue;
            }
            if (only >= 0) {
                return -1;
            }
            only = (int)b;
        }
    }
    return only;
}

MatchState constraint_forced(Constraint *c, MatchState state, ForcedBytes *forced)
{
    ThreadSet sets[2];
    size_t n = 0;
    thread_set_load(c, state, &sets[0]);
    while (n < forced->most && !sets[n % 2].complete) {
        const int byte = only_byte(c, &sets[n % 2]);
        if (byte < 0) {
            break;
        }
        forced->bytes[n] = (char)byte;
        thread_set_step(c, &sets[n % 2], (unsigned)byte, &sets[(n + 1) % 2]);
        n++;
    }
    forced->size = n;
    return n ? intern_state(c, &sets[n % 2]) : state;
}

uint32_t constraint_shortest(const Constraint *c, MatchState state)
{
    return state == MATCH_FAILED ? NEVER : c->states[state].shortest;
}

bool constraint_is_final(const Constraint *c, MatchState state)
{
    return state != MATCH_FAILED && c->states[state].complete && !c->states[state].n;
}

// --------------------------------------------------------------------------------------------
// Compiling

static Constraint *create(Error *err)
{
    Constraint *c = calloc(1, sizeof *c);
    if (c && (!(c->pool = term_pool_create()) ||
              !reserve_items(c, (void **)&c->stacks, &c->stacks_capacity, 1, sizeof *c->stacks))) {
        constraint_free(c);
        c = NULL;
    }
    if (!c) {
        error_memory(err, "a constraint", sizeof *c);
        return NULL;
    }
    c->stacks[c->n_stacks++] = (StackNode){0};
    return c;
}

void constraint_free(Constraint *c)
{
    if (!c) {
        return;
    }
    grammar_free(c->grammar);
    schema_free(c->schema);
    term_pool_free(c->pool);
    free(c->stacks);
    free(c->stack_index.places);
    free(c->states);
    free(c->state_index.places);
    free(c->threads);
    free(c);
}

size_t constraint_bytes(const Constraint *c)
{
    return sizeof *c + term_pool_bytes(c->pool) + (c->schema ? schema_bytes(c->schema) : 0) +
           (c->grammar ? grammar_bytes(c->grammar) : 0) + c->stacks_capacity * sizeof *c->stacks +
           c->stack_index.n_places * sizeof *c->stack_index.places +
           c->states_capacity * sizeof *c->states +
           c->state_index.n_places * sizeof *c->state_index.places +
           c->threads_capacity * sizeof *c->threads;
}

// Enters the state in which no byte has been read, and hands the constraint out.
static bool finish(Constraint *c, Term root, Constraint **out, Error *err)
{
    ThreadSet set = {.n = 0};
    const bool possible = term_shortest(c->pool, root) != NEVER;
    if (possible) {
        thread_set_add(c, &set, (Thread){root, 0}, true);
        c->start = intern_state(c, &set);
    }
    bool ok = constraint_check(c, err);
    if (ok && !possible) {
        ok = error_set(err, ERROR_INPUT, "no text satisfies the constraint");
    }
    if (!ok) {
        constraint_free(c);
        return false;
    }
    *out = c;
    return true;
}

bool constraint_of_regex(Constraint **out, ConstraintText regex, Error *err)
{
    *out = NULL;
    Constraint *c = create(err);
    const RegexOptions options = {REGEX_RE2, SPELL_UTF8, .whole = true};
    Term root;
    if (!c) {
        return false;
    }
    if (!regex_compile(c->pool, &options, regex.bytes, regex.size, &root, err)) {
        constraint_free(c);
        return false;
    }
    return finish(c, root, out, err);
}

bool constraint_of_schema(Constraint **out, ConstraintText schema, Error *err)
{
    *out = NULL;
    Constraint *c = create(err);
    Term root = TERM_NONE;
    if (!c) {
        return false;
    }
    if (!schema_read(&c->schema, c->pool, schema.bytes, schema.size, &c->schema_error) ||
        !grammar_create(&c->grammar, c->schema, &root, &c->schema_error)) {
        *err = c->schema_error;
        constraint_free(c);
        return false;
    }
    return finish(c, root, out, err);
}
