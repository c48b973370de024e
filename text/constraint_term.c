// constraint_term.c - languages of bytes as terms. See constraint_term.h.
//
// A term is a node in one array; its number is its place there. Nodes are entered in a hash table by
// their contents, so a term is made only once, and children have lower numbers than parents.
//
//     (ab|cd)*    5: repeat 4 {0,}    4: or [2, 3]    2: seq 'a' 'b'    3: seq 'c' 'd'
//
// Simplification keeps the number of states small, and finite for what has no calls: unions and
// intersections are flat, sorted and without duplicates; sequences lean to the right.
//
// An intersection may be empty without its form showing it ([ab]*b & a*). So a transition into a
// term that contains one is pruned by searching for its shortest string: a best-first search (A*)
// whose estimates are lower bounds from the parts, and whose results are remembered.
#include "text/constraint_term.h"

#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/memory.h"

typedef enum {
    KIND_NONE,
    KIND_EMPTY,
    KIND_BYTES,     // a: index of the set
    KIND_SEQ,       // a: first, which is no sequence; b: rest
    KIND_OR,        // children[a .. a + b), ascending
    KIND_AND,       // the same
    KIND_NOT,       // a: child
    KIND_REPEAT,    // a: child, b: min, c: max
    KIND_MULTIPLE,  // a: unit, b: remainder, c: scale << 8 | digits after the point, + 1 behind it
    KIND_CALL,      // a: rule
} TermKind;

typedef struct {
    uint8_t kind;
    bool nullable;
    bool searched;      // made of intersections or complements: `shortest` is only a lower bound
    bool calls;         // contains a call
    bool leads;         // a call may come before the first byte
    uint32_t a, b, c;   // by kind
    uint32_t shortest;  // length of the shortest string
    uint32_t exact;     // the same by search, if `searched`; UNSEARCHED before that
    uint32_t front;     // index + 1 of its front; 0: none yet
    uint32_t classes;   // index + 1 of the last ByteClass that was found; 0: none yet
} TermNode;

#define UNSEARCHED (UINT32_MAX - 1)

#define TERM_UNKNOWN UINT32_MAX

// When this many are kept (12 MB), further derivatives are computed each time.
#define MAX_CLASSES ((size_t)1 << 18)

typedef struct {
    Term bytes;
    uint32_t first, n;  // calls[first .. first + n)
} Front;

// Bytes that lead to the same derivative. Large terms are made of a few small ones, whose
// derivatives are needed again and again, so they are kept.
typedef struct {
    ByteSet bytes;
    Term next;
    uint32_t before;  // index + 1 of the term's class found before this one; 0: none
} ByteClass;

// A growing array of items of any size.
typedef struct {
    void *items;
    size_t n, capacity;
} List;

struct TermPool {
    TermTables tables;  // points into `row_of` and `rows`
    List nodes;         // TermNode
    List row_of;        // uint32_t, of each node: index + 1 of its transitions; 0: none yet
    List children;      // Term
    List sets;          // ByteSet
    List rows;          // Term [256]; unknown ones are TERM_UNKNOWN
    List classes;       // ByteClass, at most MAX_CLASSES
    List fronts;        // Front
    List calls;         // FrontCall
    List rules;         // Term, TERM_UNKNOWN: not expanded yet
    uint32_t *table;    // (places): term + 1 by hash; 0: empty
    size_t places;      // a power of two, at least twice the number of terms
    Rules meaning;
    size_t n_derived;   // derivatives requested so far
    const char *bound;  // the bound that was reached; NULL: none
    size_t limit;       // its value
    bool lacks_memory;
};

// --------------------------------------------------------------------------------------------
// Memory

// Makes room for n more items; if that fails, marks the pool as failed and returns false.
static bool list_reserve(TermPool *p, List *list, size_t n, size_t size)
{
    if (list->n + n <= list->capacity) {
        return true;
    }
    size_t capacity = list->capacity ? 2 * list->capacity : 64, bytes;
    while (capacity < list->n + n) {
        capacity *= 2;
    }
    void *items = size_mul(capacity, size, &bytes) ? realloc(list->items, bytes) : NULL;
    if (!items) {
        p->lacks_memory = true;
        return false;
    }
    list->items = items;
    list->capacity = capacity;
    return true;
}

static bool check_bound(TermPool *p, bool holds, const char *bound, size_t limit)
{
    if (!holds && !p->bound) {
        p->bound = bound;
        p->limit = limit;
    }
    return holds;
}

static bool has_failed(const TermPool *p) { return p->bound || p->lacks_memory; }

bool term_pool_check(const TermPool *p, Error *err)
{
    if (p->bound) {
        return error_set(err, ERROR_INPUT, "the constraint is too large: expected at most %zu %s",
                         p->limit, p->bound);
    }
    return !p->lacks_memory || error_memory(err, "a constraint", p->nodes.n * sizeof(TermNode));
}

static const TermNode *term_node(const TermPool *p, Term t)
{
    return (const TermNode *)p->nodes.items + t;
}

static TermNode *node_at(TermPool *p, Term t) { return (TermNode *)p->nodes.items + t; }

static const Term *children_of(const TermPool *p, const TermNode *n)
{
    return (const Term *)p->children.items + n->a;
}

static const ByteSet *set_of(const TermPool *p, const TermNode *n)
{
    return (const ByteSet *)p->sets.items + n->a;
}

// --------------------------------------------------------------------------------------------
// Hash consing

static uint64_t hash_node(const TermPool *p, const TermNode *n, const Term *children)
{
    uint64_t h = hash_step(HASH_BEGIN, n->kind);
    if (n->kind == KIND_OR || n->kind == KIND_AND) {
        for (size_t i = 0; i < n->b; i++) {
            h = hash_step(h, children[i]);
        }
    } else if (n->kind == KIND_BYTES) {
        const ByteSet *set = set_of(p, n);
        for (size_t i = 0; i < 4; i++) {
            h = hash_step(h, set->words[i] ^ set->words[i] >> 32);
        }
    } else {
        h = hash_step(hash_step(hash_step(h, n->a), n->b), n->c);
    }
    return h ^ h >> 32;
}

static bool same_node(const TermPool *p, const TermNode *x, const TermNode *y,
                      const Term *y_children)
{
    if (x->kind != y->kind || x->b != y->b || x->c != y->c) {
        return false;
    }
    if (y_children) {
        return memcmp(children_of(p, x), y_children, x->b * sizeof(Term)) == 0;
    }
    return x->kind == KIND_BYTES ? memcmp(set_of(p, x), set_of(p, y), sizeof(ByteSet)) == 0
                                 : x->a == y->a;
}

static bool grow_table(TermPool *p)
{
    const size_t places = p->places ? 2 * p->places : 1024;
    uint32_t *table = calloc(places, sizeof *table);
    if (!table) {
        p->lacks_memory = true;
        return false;
    }
    for (size_t t = 0; t < p->nodes.n; t++) {
        const TermNode *n = term_node(p, (Term)t);
        size_t place = hash_node(p, n, children_of(p, n)) & (places - 1);
        while (table[place]) {
            place = (place + 1) & (places - 1);
        }
        table[place] = (uint32_t)t + 1;
    }
    free(p->table);
    p->table = table;
    p->places = places;
    return true;
}

// The term with these contents, found or made. `children`, which only unions and intersections
// have, are copied. The set of KIND_BYTES is the last of the list, and is removed if the term
// exists.
static Term intern(TermPool *p, TermNode n, const Term *children)
{
    if (has_failed(p) || (2 * (p->nodes.n + 1) > p->places && !grow_table(p))) {
        return TERM_NONE;
    }
    size_t place = hash_node(p, &n, children) & (p->places - 1);
    for (; p->table[place]; place = (place + 1) & (p->places - 1)) {
        const Term t = p->table[place] - 1;
        if (same_node(p, term_node(p, t), &n, children)) {
            p->sets.n -= n.kind == KIND_BYTES;
            return t;
        }
    }
    if (!check_bound(p, p->nodes.n < TERM_MAX_TERMS, "terms", TERM_MAX_TERMS) ||
        !list_reserve(p, &p->row_of, 1, sizeof(uint32_t)) ||
        !list_reserve(p, &p->nodes, 1, sizeof(TermNode))) {
        return TERM_NONE;
    }
    if (n.kind == KIND_OR || n.kind == KIND_AND) {
        if (!list_reserve(p, &p->children, n.b, sizeof(Term))) {
            return TERM_NONE;
        }
        n.a = (uint32_t)p->children.n;
        memcpy((Term *)p->children.items + n.a, children, n.b * sizeof(Term));
        p->children.n += n.b;
    }
    n.exact = UNSEARCHED;
    const Term t = (Term)p->nodes.n++;
    *node_at(p, t) = n;
    ((uint32_t *)p->row_of.items)[p->row_of.n++] = 0;
    p->tables.row = p->row_of.items;
    p->table[place] = t + 1;
    return t;
}

TermPool *term_pool_create(void)
{
    TermPool *p = calloc(1, sizeof *p);
    if (!p) {
        return NULL;
    }
    intern(p, (TermNode){.kind = KIND_NONE, .shortest = NEVER}, NULL);
    intern(p, (TermNode){.kind = KIND_EMPTY, .nullable = true}, NULL);
    if (has_failed(p)) {
        term_pool_free(p);
        return NULL;
    }
    return p;
}

void term_pool_free(TermPool *p)
{
    if (!p) {
        return;
    }
    List *lists[] = {&p->nodes,   &p->row_of, &p->children, &p->sets, &p->rows,
                     &p->classes, &p->fronts, &p->calls,    &p->rules};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        free(lists[i]->items);
    }
    free(p->table);
    free(p);
}

static size_t list_bytes(const List *list, size_t size) { return list->capacity * size; }

size_t term_pool_bytes(const TermPool *p)
{
    return sizeof *p + p->places * sizeof *p->table + list_bytes(&p->nodes, sizeof(TermNode)) +
           list_bytes(&p->row_of, sizeof(uint32_t)) + list_bytes(&p->children, sizeof(Term)) +
           list_bytes(&p->sets, sizeof(ByteSet)) + list_bytes(&p->rows, 256 * sizeof(Term)) +
           list_bytes(&p->classes, sizeof(ByteClass)) + list_bytes(&p->fronts, sizeof(Front)) +
           list_bytes(&p->calls, sizeof(FrontCall)) + list_bytes(&p->rules, sizeof(Term));
}

void term_pool_set_rules(TermPool *p, Rules rules) { p->meaning = rules; }

// --------------------------------------------------------------------------------------------
// Making terms

static uint32_t multiply_length(uint32_t length, uint32_t n)
{
    const uint64_t product = (uint64_t)length * n;
    return n == 0 ? 0 : length == NEVER ? NEVER : product > LONGEST ? LONGEST : (uint32_t)product;
}

Term term_bytes(TermPool *p, const ByteSet *set)
{
    if (!(set->words[0] | set->words[1] | set->words[2] | set->words[3]) || has_failed(p) ||
        !list_reserve(p, &p->sets, 1, sizeof *set)) {
        return TERM_NONE;
    }
    const TermNode n = {.kind = KIND_BYTES, .a = (uint32_t)p->sets.n, .shortest = 1};
    ((ByteSet *)p->sets.items)[p->sets.n++] = *set;
    return intern(p, n, NULL);
}

Term term_range(TermPool *p, unsigned low, unsigned high)
{
    ByteSet set = {{0}};
    for (unsigned b = low; b <= high; b++) {
        byteset_add(&set, b);
    }
    return term_bytes(p, &set);
}

Term term_byte(TermPool *p, unsigned byte) { return term_range(p, byte, byte); }

Term term_literal(TermPool *p, const void *bytes, size_t size)
{
    Term t = TERM_EMPTY;
    while (size > 0) {
        t = term_seq(p, term_byte(p, ((const uint8_t *)bytes)[--size]), t);
    }
    return t;
}

Term term_text(TermPool *p, const char *text) { return term_literal(p, text, strlen(text)); }

// A sequence whose first part is no sequence.
static Term make_seq(TermPool *p, Term first, Term rest)
{
    const TermNode *x = term_node(p, first), *y = term_node(p, rest);
    const uint32_t shortest = length_plus(x->shortest, y->shortest);
    if (shortest == NEVER) {
        return TERM_NONE;
    }
    const TermNode n = {.kind = KIND_SEQ,
                        .a = first,
                        .b = rest,
                        .nullable = x->nullable && y->nullable,
                        .searched = x->searched || y->searched,
                        .calls = x->calls || y->calls,
                        .leads = x->leads || (x->nullable && y->leads),
                        .shortest = shortest};
    return intern(p, n, NULL);
}

Term term_seq(TermPool *p, Term first, Term rest)
{
    if (first == TERM_NONE || rest == TERM_NONE) {
        return TERM_NONE;
    }
    if (first == TERM_EMPTY || rest == TERM_EMPTY) {
        return first == TERM_EMPTY ? rest : first;
    }
    // ((a b) c) d becomes a (b (c d)): the parts of the first are put before the rest, last first.
    List parts = {0};
    while (term_node(p, first)->kind == KIND_SEQ) {
        if (!list_reserve(p, &parts, 1, sizeof(Term))) {
            break;
        }
        ((Term *)parts.items)[parts.n++] = term_node(p, first)->a;
        first = term_node(p, first)->b;
    }
    Term t = make_seq(p, first, rest);
    while (parts.n > 0) {
        t = make_seq(p, ((Term *)parts.items)[--parts.n], t);
    }
    free(parts.items);
    return t;
}

static int compare_terms(const void *a, const void *b)
{
    const Term x = *(const Term *)a, y = *(const Term *)b;
    return (x > y) - (x < y);
}

// Adds a term to the parts of a union or intersection; of a nested one, adds its parts.
static void add_parts(TermPool *p, List *parts, Term t, TermKind kind)
{
    const TermNode *n = term_node(p, t);
    const size_t count = n->kind == kind ? n->b : 1;
    if (list_reserve(p, parts, count, sizeof(Term))) {
        memcpy((Term *)parts->items + parts->n, n->kind == kind ? children_of(p, n) : &t,
               count * sizeof(Term));
        parts->n += count;
    }
}

// Sorts the parts, removes duplicates, and makes one of all sets of bytes.
static void sort_parts(TermPool *p, List *parts, bool unite)
{
    Term *t = parts->items;
    ByteSet all = {{0}};
    size_t n = 0, n_sets = 0;
    if (!unite) {
        memset(&all, 0xff, sizeof all);
    }
    for (size_t i = 0; i < parts->n; i++) {
        if (term_node(p, t[i])->kind != KIND_BYTES) {
            t[n++] = t[i];
            continue;
        }
        const ByteSet *set = set_of(p, term_node(p, t[i]));
        for (size_t k = 0; k < 4; k++) {
            all.words[k] = unite ? all.words[k] | set->words[k] : all.words[k] & set->words[k];
        }
        n_sets++;
    }
    if (n_sets) {
        t[n++] = term_bytes(p, &all);
    }
    qsort(t, n, sizeof *t, compare_terms);
    parts->n = 0;
    for (size_t i = 0; i < n; i++) {
        if (!parts->n || t[parts->n - 1] != t[i]) {
            t[parts->n++] = t[i];
        }
    }
}

// a x | a y = a (x | y): sequences with the same first part are joined, which keeps the number of
// parts of a union, hence of states, small.
static void join_sequences(TermPool *p, List *parts)
{
    Term *t = parts->items;
    bool joined = false;
    for (size_t i = 0; i + 1 < parts->n && parts->n <= 16; i++) {
        for (size_t k = i + 1; k < parts->n && term_node(p, t[i])->kind == KIND_SEQ; k++) {
            const TermNode *x = term_node(p, t[i]), *y = term_node(p, t[k]);
            if (y->kind == KIND_SEQ && x->a == y->a) {
                const Term first = x->a, rest = term_or2(p, x->b, y->b);
                t[i] = term_seq(p, first, rest);
                t[k--] = t[--parts->n];
                joined = true;
            }
        }
    }
    if (joined) {
        sort_parts(p, parts, true);
    }
}

static Term intern_parts(TermPool *p, List *parts, TermKind kind)
{
    const Term *t = parts->items;
    if (parts->n < 2) {
        return parts->n ? t[0] : TERM_NONE;
    }
    if (!check_bound(p, parts->n <= TERM_MAX_WIDTH, "alternatives at a time", TERM_MAX_WIDTH)) {
        return TERM_NONE;
    }
    const bool any = kind == KIND_OR;
    TermNode n = {.kind = (uint8_t)kind,
                  .b = (uint32_t)parts->n,
                  .nullable = !any,
                  .searched = !any,
                  .shortest = any ? NEVER : 0};
    for (size_t i = 0; i < parts->n; i++) {
        const TermNode *x = term_node(p, t[i]);
        n.nullable = any ? n.nullable || x->nullable : n.nullable && x->nullable;
        n.searched = n.searched || x->searched;
        n.calls = n.calls || x->calls;
        n.leads = n.leads || x->leads;
        const bool better = any ? x->shortest < n.shortest : x->shortest > n.shortest;
        n.shortest = better ? x->shortest : n.shortest;
    }
    return n.shortest == NEVER ? TERM_NONE : intern(p, n, t);
}

Term term_or(TermPool *p, const Term *terms, size_t n)
{
    List parts = {0};
    for (size_t i = 0; i < n; i++) {
        if (terms[i] != TERM_NONE) {
            add_parts(p, &parts, terms[i], KIND_OR);
        }
    }
    if (parts.n) {
        sort_parts(p, &parts, true);
        join_sequences(p, &parts);
    }
    const Term t = has_failed(p) ? TERM_NONE : intern_parts(p, &parts, KIND_OR);
    free(parts.items);
    return t;
}

Term term_or2(TermPool *p, Term a, Term b)
{
    return a == b || b == TERM_NONE ? a : a == TERM_NONE ? b : term_or(p, (Term[]){a, b}, 2);
}

static bool is_everything(const TermPool *p, Term t)
{
    return term_node(p, t)->kind == KIND_NOT && term_node(p, t)->a == TERM_NONE;
}

Term term_and(TermPool *p, const Term *terms, size_t n)
{
    List parts = {0};
    bool none = false;
    for (size_t i = 0; i < n; i++) {
        none = none || terms[i] == TERM_NONE;
        if (!is_everything(p, terms[i])) {
            add_parts(p, &parts, terms[i], KIND_AND);
        }
    }
    Term t = TERM_NONE;
    if (!none && !parts.n && n) {
        t = terms[0];
    } else if (!none && parts.n) {
        sort_parts(p, &parts, false);
        const Term *sorted = parts.items;
        const bool contradiction = sorted[0] == TERM_NONE;
        t = has_failed(p) || contradiction ? TERM_NONE : intern_parts(p, &parts, KIND_AND);
    }
    free(parts.items);
    return t;
}

Term term_and2(TermPool *p, Term a, Term b) { return a == b ? a : term_and(p, (Term[]){a, b}, 2); }

Term term_not(TermPool *p, Term t)
{
    const TermNode *x = term_node(p, t);
    if (x->kind == KIND_NOT) {
        return x->a;
    }
    const TermNode n = {.kind = KIND_NOT,
                        .a = t,
                        .nullable = !x->nullable,
                        .searched = true,
                        .shortest = x->nullable};
    return intern(p, n, NULL);
}

Term term_repeat(TermPool *p, Term t, uint32_t min, uint32_t max)
{
    const TermNode *x = term_node(p, t);
    if (max == 0 || t == TERM_EMPTY || (t == TERM_NONE && min == 0)) {
        return TERM_EMPTY;
    }
    if (t == TERM_NONE || (min == 1 && max == 1)) {
        return t;
    }
    min = x->nullable ? 0 : min;
    // x{0,} repeated is x{0,}; x{0,1} repeated is x with another count.
    if (x->kind == KIND_REPEAT && x->b == 0 && x->c == REPEAT_FOREVER) {
        return t;
    }
    if (x->kind == KIND_REPEAT && x->b == 0 && (max == REPEAT_FOREVER || x->c == 1)) {
        return term_repeat(p, x->a, 0, max);
    }
    const TermNode n = {.kind = KIND_REPEAT,
                        .a = t,
                        .b = min,
                        .c = max,
                        .nullable = min == 0,
                        .searched = x->searched,
                        .calls = x->calls,
                        .leads = x->leads,
                        .shortest = multiply_length(x->shortest, min)};
    return intern(p, n, NULL);
}

Term term_optional(TermPool *p, Term t) { return term_or2(p, t, TERM_EMPTY); }

Term term_star(TermPool *p, Term t) { return term_repeat(p, t, 0, REPEAT_FOREVER); }

Term term_call(TermPool *p, uint32_t rule)
{
    const TermNode n = {.kind = KIND_CALL,
                        .a = rule,
                        .calls = true,
                        .leads = true,
                        .shortest = p->meaning.shortest(p->meaning.arg, rule)};
    return n.shortest == NEVER ? TERM_NONE : intern(p, n, NULL);
}

// --------------------------------------------------------------------------------------------
// Multiples
//
// State: the remainder of the digits so far, taken as a whole number, and how many of them stand
// behind the point. At the end that number is multiplied by 10 for each digit the scale has more.

enum { BEFORE_DIGITS, IN_WHOLE, AFTER_POINT };  // then AFTER_POINT + digits behind it

static uint32_t scaled(uint32_t remainder, uint32_t unit, uint32_t digits)
{
    uint64_t r = remainder;
    for (uint32_t i = 0; i < digits; i++) {
        r = r * 10 % unit;
    }
    return (uint32_t)r;
}

static Term make_multiple(TermPool *p, uint32_t unit, uint32_t remainder, uint32_t scale,
                          uint32_t phase)
{
    const uint32_t behind = phase > AFTER_POINT ? phase - AFTER_POINT : 0;
    const bool complete = phase != BEFORE_DIGITS && phase != AFTER_POINT &&
                          scaled(remainder, unit, scale - behind) == 0;
    const TermNode n = {.kind = KIND_MULTIPLE,
                        .a = unit,
                        .b = remainder,
                        .c = scale << 8 | phase,
                        .nullable = complete,
                        .searched = true,
                        .shortest = !complete};
    return intern(p, n, NULL);
}

Term term_multiple(TermPool *p, uint32_t unit, uint32_t scale)
{
    return make_multiple(p, unit, 0, scale, BEFORE_DIGITS);
}

static Term next_of_multiple(TermPool *p, TermNode n, unsigned byte)
{
    const uint32_t scale = n.c >> 8, phase = n.c & 0xff;
    if (byte == '.' && phase == IN_WHOLE) {
        return make_multiple(p, n.a, n.b, scale, AFTER_POINT);
    }
    if (byte < '0' || byte > '9') {
        return TERM_NONE;
    }
    if (phase >= AFTER_POINT && phase - AFTER_POINT == scale) {
        // After the scale's last digit only zeros may follow.
        const uint32_t after = scale ? phase : IN_WHOLE;
        return byte == '0' ? make_multiple(p, n.a, n.b, scale, after) : TERM_NONE;
    }
    const uint32_t remainder = (uint32_t)(((uint64_t)n.b * 10 + (byte - '0')) % n.a);
    return make_multiple(p, n.a, remainder, scale, phase < AFTER_POINT ? IN_WHOLE : phase + 1);
}

// --------------------------------------------------------------------------------------------
// Derivatives

// Narrows `same`, the bytes that lead where `byte` leads, to those in the set as `byte` is, or not.
static void narrow(ByteSet *same, const ByteSet *set, bool inside)
{
    for (size_t i = 0; i < 4; i++) {
        same->words[i] &= inside ? set->words[i] : ~set->words[i];
    }
}

static Term derive(TermPool *p, Term t, unsigned byte, ByteSet *same);

// x y z: the derivative of x, then y z; if x may be empty, also that of y z.
static Term derive_sequence(TermPool *p, Term t, unsigned byte, ByteSet *same)
{
    List found = {0};
    bool more = true;
    while (more) {
        const TermNode n = *term_node(p, t);
        const bool sequence = n.kind == KIND_SEQ;
        const Term first = derive(p, sequence ? n.a : t, byte, same);
        const Term next = sequence ? term_seq(p, first, n.b) : first;
        if (next != TERM_NONE && list_reserve(p, &found, 1, sizeof(Term))) {
            ((Term *)found.items)[found.n++] = next;
        }
        more = sequence && term_node(p, n.a)->nullable;
        t = n.b;
    }
    const Term result = term_or(p, found.items, found.n);
    free(found.items);
    return result;
}

static Term derive_parts(TermPool *p, TermNode n, unsigned byte, ByteSet *same)
{
    List found = {0};
    const bool any = n.kind == KIND_OR;
    bool dead = false;
    for (size_t i = 0; i < n.b && !dead; i++) {
        const Term next = derive(p, children_of(p, &n)[i], byte, same);
        dead = !any && next == TERM_NONE;
        if ((next != TERM_NONE || !any) && list_reserve(p, &found, 1, sizeof(Term))) {
            ((Term *)found.items)[found.n++] = next;
        }
    }
    const Term result = dead  ? TERM_NONE
                        : any ? term_or(p, found.items, found.n)
                              : term_and(p, found.items, found.n);
    free(found.items);
    return result;
}

// The strings that may follow `byte`. *same is narrowed to bytes with the same derivative.
static Term derive_anew(TermPool *p, Term t, unsigned byte, ByteSet *same)
{
    const TermNode n = *term_node(p, t);
    switch ((TermKind)n.kind) {
    case KIND_BYTES: {
        const ByteSet *set = set_of(p, &n);
        const bool inside = byteset_has(set, byte);
        narrow(same, set, inside);
        return inside ? TERM_EMPTY : TERM_NONE;
    }
    case KIND_SEQ:
        return derive_sequence(p, t, byte, same);
    case KIND_OR:
    case KIND_AND:
        return derive_parts(p, n, byte, same);
    case KIND_NOT:
        return term_not(p, derive(p, n.a, byte, same));
    case KIND_REPEAT: {
        const Term first = derive(p, n.a, byte, same);
        const uint32_t max = n.c == REPEAT_FOREVER ? n.c : n.c - 1;
        return first == TERM_NONE ? TERM_NONE
                                  : term_seq(p, first, term_repeat(p, n.a, n.b ? n.b - 1 : 0, max));
    }
    case KIND_MULTIPLE: {
        ByteSet one = {{0}};
        byteset_add(&one, byte);
        narrow(same, &one, true);
        return next_of_multiple(p, n, byte);
    }
    default:
        return TERM_NONE;
    }
}

// The same, with a memo for terms that are made of others.
static Term derive(TermPool *p, Term t, unsigned byte, ByteSet *same)
{
    const TermNode *n = term_node(p, t);
    if (!check_bound(p, p->n_derived++ < TERM_MAX_DERIVATIVES, "derivatives",
                     TERM_MAX_DERIVATIVES)) {
        return TERM_NONE;
    }
    if (n->kind == KIND_BYTES || n->kind == KIND_MULTIPLE) {
        return derive_anew(p, t, byte, same);
    }
    const ByteClass *c = p->classes.items;
    for (uint32_t i = n->classes; i; i = c[i - 1].before) {
        if (byteset_has(&c[i - 1].bytes, byte)) {
            narrow(same, &c[i - 1].bytes, true);
            return c[i - 1].next;
        }
    }
    ByteClass made;
    memset(&made.bytes, 0xff, sizeof made.bytes);
    made.next = derive_anew(p, t, byte, &made.bytes);
    narrow(same, &made.bytes, true);
    if (p->classes.n < MAX_CLASSES && list_reserve(p, &p->classes, 1, sizeof made)) {
        made.before = term_node(p, t)->classes;
        ((ByteClass *)p->classes.items)[p->classes.n++] = made;
        node_at(p, t)->classes = (uint32_t)p->classes.n;
    }
    return made.next;
}

// The transitions of a state, made if there are none yet; NULL: the pool has failed.
static Term *row_of(TermPool *p, Term t)
{
    uint32_t *row = (uint32_t *)p->row_of.items + t;
    if (!*row) {
        if (!check_bound(p, p->rows.n < TERM_MAX_STATES, "states", TERM_MAX_STATES) ||
            !list_reserve(p, &p->rows, 1, 256 * sizeof(Term))) {
            return NULL;
        }
        p->tables.transitions = p->rows.items;
        *row = (uint32_t)++p->rows.n;
        memset((Term *)p->rows.items + 256 * (size_t)(*row - 1), 0xff, 256 * sizeof(Term));
    }
    return (Term *)p->rows.items + 256 * (size_t)(*row - 1);
}

// The transition, without checking that the state it leads to has any string. Until that is known,
// the row marks it as unchecked.
static Term raw_next(TermPool *p, Term t, unsigned byte)
{
    Term *row = row_of(p, t);
    if (!row) {
        return TERM_NONE;
    }
    if (row[byte] != TERM_UNKNOWN) {
        return row[byte] & ~TERM_UNCHECKED;
    }
    ByteSet same;
    memset(&same, 0xff, sizeof same);
    const Term next = derive_anew(p, t, byte, &same);
    const Term entry = term_node(p, next)->searched ? next | TERM_UNCHECKED : next;
    row = row_of(p, t);
    for (unsigned b = 0; row && b < 256; b++) {
        if (byteset_has(&same, b)) {
            row[b] = entry;
        }
    }
    return next;
}

// --------------------------------------------------------------------------------------------
// Shortest strings

// A state met in a search: its distance from the start, and the one before it.
typedef struct {
    Term state;
    uint32_t distance;
    uint32_t previous;  // index in `met`
    bool done;
} Met;

// The states of one search by number, and a heap of those to visit by the length of the shortest
// string that may go through them.
typedef struct {
    TermPool *pool;
    List met;          // Met
    List heap;         // uint32_t: indices in `met`
    uint32_t *places;  // (n_places): index in `met` + 1 by hash of the state
    size_t n_places;
} Search;

static Met *met_at(const Search *s, uint32_t i) { return (Met *)s->met.items + i; }

// A lower bound on the length of a state's strings; exact if it is known.
static uint32_t estimate(const TermPool *p, Term t)
{
    const TermNode *n = term_node(p, t);
    return n->searched && n->exact != UNSEARCHED ? n->exact : n->shortest;
}

static uint32_t cost(const Search *s, uint32_t i)
{
    return length_plus(met_at(s, i)->distance, estimate(s->pool, met_at(s, i)->state));
}

static void push_met(Search *s, uint32_t index)
{
    if (!list_reserve(s->pool, &s->heap, 1, sizeof index)) {
        return;
    }
    uint32_t *heap = s->heap.items;
    size_t i = s->heap.n++;
    for (; i > 0 && cost(s, heap[(i - 1) / 2]) > cost(s, index); i = (i - 1) / 2) {
        heap[i] = heap[(i - 1) / 2];
    }
    heap[i] = index;
}

static uint32_t pop_met(Search *s)
{
    uint32_t *heap = s->heap.items;
    const uint32_t best = heap[0], last = heap[--s->heap.n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < s->heap.n; i = child) {
        child += child + 1 < s->heap.n && cost(s, heap[child + 1]) < cost(s, heap[child]);
        if (cost(s, heap[child]) >= cost(s, last)) {
            break;
        }
        heap[i] = heap[child];
    }
    heap[i] = last;
    return best;
}

// The place of a state in the table of those met. It grows with them.
static uint32_t *place_of(Search *s, Term state)
{
    if (2 * (s->met.n + 1) > s->n_places) {
        const size_t n_places = s->n_places ? 2 * s->n_places : 256;
        uint32_t *places = calloc(n_places, sizeof *places);
        if (!places) {
            s->pool->lacks_memory = true;
            return NULL;
        }
        free(s->places);
        s->places = places;
        s->n_places = n_places;
        for (uint32_t i = 0; i < s->met.n; i++) {
            *place_of(s, met_at(s, i)->state) = i + 1;
        }
    }
    size_t place = hash_number(state) & (s->n_places - 1);
    while (s->places[place] && met_at(s, s->places[place] - 1)->state != state) {
        place = (place + 1) & (s->n_places - 1);
    }
    return &s->places[place];
}

// Enters a state reached after `distance` bytes, unless it was met at that distance or less.
static void meet(Search *s, Term state, uint32_t distance, uint32_t previous)
{
    uint32_t *place = estimate(s->pool, state) == NEVER ? NULL : place_of(s, state);
    if (!place) {
        return;
    }
    if (*place) {
        Met *m = met_at(s, *place - 1);
        if (distance < m->distance) {
            m->distance = distance;
            m->previous = previous;
            push_met(s, *place - 1);
        }
    } else if (list_reserve(s->pool, &s->met, 1, sizeof(Met))) {
        *met_at(s, (uint32_t)s->met.n) = (Met){state, distance, previous, false};
        *place = (uint32_t)++s->met.n;
        push_met(s, *place - 1);
    }
}

// Notes the exact lengths along the path to a state from which `rest` more bytes are needed.
static void note_path(Search *s, uint32_t index, uint32_t rest)
{
    const uint32_t total = length_plus(met_at(s, index)->distance, rest);
    for (;; index = met_at(s, index)->previous) {
        const Met *m = met_at(s, index);
        node_at(s->pool, m->state)->exact = total - m->distance;
        if (index == 0) {
            return;
        }
    }
}

// Finds the shortest string of a state by best-first search. If there is none, no state that it met
// has one.
static void search_shortest(TermPool *p, Term start)
{
    Search s = {.pool = p};
    meet(&s, start, 0, 0);
    bool found = false;
    while (s.heap.n > 0 && !found && !has_failed(p)) {
        const uint32_t index = pop_met(&s);
        const Met m = *met_at(&s, index);
        const TermNode n = *term_node(p, m.state);
        if (m.done) {
            continue;
        }
        met_at(&s, index)->done = true;
        found = !n.searched || n.exact != UNSEARCHED || n.nullable;
        if (found) {
            note_path(&s, index, n.nullable ? 0 : estimate(p, m.state));
            break;
        }
        Term last = TERM_NONE;
        for (unsigned b = 0; b < 256 && !has_failed(p); b++) {
            const Term next = raw_next(p, m.state, b);
            if (next != last) {
                meet(&s, next, m.distance + 1, index);
            }
            last = next;
        }
    }
    for (uint32_t i = 0; !found && !has_failed(p) && i < s.met.n; i++) {
        node_at(p, met_at(&s, i)->state)->exact = NEVER;
    }
    free(s.met.items);
    free(s.heap.items);
    free(s.places);
}

// The shortest of the alternatives of a union.
static uint32_t shortest_part(TermPool *p, TermNode n)
{
    uint32_t best = NEVER;
    for (size_t i = 0; i < n.b; i++) {
        const uint32_t length = term_shortest(p, children_of(p, &n)[i]);
        best = length < best ? length : best;
    }
    return best;
}

// Is the shortest string of a sequence still to be found?
static bool is_open_sequence(const TermPool *p, Term t)
{
    const TermNode *n = term_node(p, t);
    return n->kind == KIND_SEQ && n->searched && n->exact == UNSEARCHED;
}

// The shortest string of a sequence, and of all its tails, of which there may be thousands.
static void shortest_sequence(TermPool *p, Term t)
{
    uint32_t total = 0;
    Term at = t;
    for (; is_open_sequence(p, at); at = term_node(p, at)->b) {
        total = length_plus(total, term_shortest(p, term_node(p, at)->a));
    }
    total = length_plus(total, term_shortest(p, at));
    const bool all = total < LONGEST;
    for (at = t; is_open_sequence(p, at) && (all || at == t); at = term_node(p, at)->b) {
        node_at(p, at)->exact = total;
        total = all ? total - term_shortest(p, term_node(p, at)->a) : total;
    }
}

// Only intersections, complements and multiples have to be searched: of the others, the shortest
// string is made of those of the parts.
uint32_t term_shortest(TermPool *p, Term t)
{
    const TermNode n = *term_node(p, t);
    if (!n.searched || n.exact != UNSEARCHED) {
        return has_failed(p) ? NEVER : n.searched ? n.exact : n.shortest;
    }
    // The nodes may move while the parts are searched, so what is found is stored after that.
    if (n.kind == KIND_SEQ) {
        shortest_sequence(p, t);
    } else if (n.kind == KIND_OR) {
        const uint32_t length = shortest_part(p, n);
        node_at(p, t)->exact = length;
    } else if (n.kind == KIND_REPEAT) {
        const uint32_t length = multiply_length(term_shortest(p, n.a), n.b);
        node_at(p, t)->exact = length;
    } else {
        search_shortest(p, t);
    }
    return has_failed(p) ? NEVER : term_node(p, t)->exact;
}

// --------------------------------------------------------------------------------------------
// Reading terms

bool term_nullable(const TermPool *p, Term t) { return term_node(p, t)->nullable; }

bool term_may_leave(const TermPool *p, Term t)
{
    return term_node(p, t)->nullable || term_node(p, t)->leads;
}

Term term_next(TermPool *p, Term t, unsigned byte)
{
    const Term next = raw_next(p, t, byte);
    const bool possible = !term_node(p, next)->searched || term_shortest(p, next) != NEVER;
    if (has_failed(p)) {
        return TERM_NONE;
    }
    const Term checked = possible ? next : TERM_NONE;
    Term *row = row_of(p, t);
    for (unsigned b = 0; row && term_node(p, next)->searched && b < 256; b++) {
        row[b] = row[b] == (next | TERM_UNCHECKED) ? checked : row[b];
    }
    return checked;
}

bool term_matches(TermPool *p, Term t, const void *bytes, size_t size)
{
    for (size_t i = 0; i < size && t != TERM_NONE; i++) {
        t = raw_next(p, t, ((const uint8_t *)bytes)[i]);
    }
    return term_nullable(p, t);
}

bool term_as_repeat(const TermPool *p, Term t, Repeat *out)
{
    const TermNode *n = term_node(p, t);
    const TermNode *first = n->kind == KIND_SEQ ? term_node(p, n->a) : n;
    *out = (Repeat){first->a, first->b, first->c, n->kind == KIND_SEQ ? n->b : TERM_EMPTY};
    return first->kind == KIND_REPEAT;
}

Term term_rule(TermPool *p, uint32_t rule)
{
    while (p->rules.n <= rule) {
        if (!list_reserve(p, &p->rules, 1, sizeof(Term))) {
            return TERM_NONE;
        }
        ((Term *)p->rules.items)[p->rules.n++] = TERM_UNKNOWN;
    }
    if (((Term *)p->rules.items)[rule] == TERM_UNKNOWN) {
        const Term t = p->meaning.term(p->meaning.arg, rule);
        ((Term *)p->rules.items)[rule] = t;
    }
    return ((Term *)p->rules.items)[rule];
}

// Adds a call to a front. What follows two calls of the same language is one term.
static void add_call(TermPool *p, Front *front, Term callee, Term rest)
{
    for (size_t i = 0; i < front->n; i++) {
        const FrontCall call = ((FrontCall *)p->calls.items)[front->first + i];
        if (call.callee == callee) {
            const Term both = term_or2(p, call.rest, rest);
            ((FrontCall *)p->calls.items)[front->first + i].rest = both;
            return;
        }
    }
    if (callee != TERM_NONE && list_reserve(p, &p->calls, 1, sizeof(FrontCall))) {
        ((FrontCall *)p->calls.items)[p->calls.n++] = (FrontCall){callee, rest};
        front->n++;
    }
}

// Takes a part of a term apart: a call, with what follows it, or something that begins with bytes.
static void add_front(TermPool *p, Term part, Front *front, List *bytes)
{
    const TermNode n = *term_node(p, part);
    const TermNode first = *term_node(p, n.kind == KIND_SEQ ? n.a : part);
    if (first.kind == KIND_CALL) {
        add_call(p, front, term_rule(p, first.a), n.kind == KIND_SEQ ? n.b : TERM_EMPTY);
    } else if (list_reserve(p, bytes, 1, sizeof(Term))) {
        ((Term *)bytes->items)[bytes->n++] = part;
    }
}

static Front make_front(TermPool *p, Term t)
{
    const TermNode n = *term_node(p, t);
    const size_t n_parts = n.kind == KIND_OR ? n.b : 1;
    List bytes = {0};
    Term *parts = malloc(n_parts * sizeof *parts);
    if (!parts) {
        p->lacks_memory = true;
        return (Front){0};
    }
    memcpy(parts, n.kind == KIND_OR ? children_of(p, &n) : &t, n_parts * sizeof *parts);
    Front front = {.first = (uint32_t)p->calls.n};
    for (size_t i = 0; i < n_parts; i++) {
        add_front(p, parts[i], &front, &bytes);
    }
    front.bytes = term_or(p, bytes.items, bytes.n);
    free(bytes.items);
    free(parts);
    return front;
}

TermFront term_front(TermPool *p, Term t)
{
    if (!term_node(p, t)->calls) {
        return (TermFront){.bytes = t};
    }
    if (!term_node(p, t)->front) {
        const Front made = make_front(p, t);
        if (has_failed(p) || !list_reserve(p, &p->fronts, 1, sizeof(Front))) {
            return (TermFront){.bytes = TERM_NONE};
        }
        ((Front *)p->fronts.items)[p->fronts.n++] = made;
        node_at(p, t)->front = (uint32_t)p->fronts.n;
    }
    const Front *f = (const Front *)p->fronts.items + term_node(p, t)->front - 1;
    const FrontCall *calls = p->calls.items;
    return (TermFront){f->bytes, f->n ? calls + f->first : NULL, f->n};
}
