// constraint_grammar.c - the JSON texts of a schema's values. See constraint_grammar.h.
//
// A rule is a value, or a place within an object or array: what may follow there up to its closing
// bracket. Places are made when something first calls them, so an array of a billion items, or an
// object of a thousand optional properties, costs what is used of it.
//
// The names that are only required have no order: a place behind the declared properties says by one
// bit each which of them have been met; of many, it is a number, and they keep their order.
//
//     {"a": 1, "b": 2}    value -> { place(0, 0)
//                         place(i, n) -> entry of property i or, if that is optional, i + 1, ..
//                                     or }    where n entries stand before it
//                         entry(i, n) -> , "a": value place(i + 1, n + 1)
//                         name(k) -> any name of class k, with the quote behind it
#include "text/constraint_grammar.h"

#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "text/constraint_chars.h"
#include "text/constraint_regex.h"
#include "text/constraint_shape.h"

typedef enum { RULE_VALUE, RULE_OBJECT, RULE_ENTRY, RULE_NAME, RULE_ARRAY } RuleKind;

typedef struct {
    RuleKind kind;
    const void *of;  // the shape; of RULE_VALUE NULL
    uint32_t at;     // property, item or class; of RULE_VALUE the expression
    uint32_t count;  // entries before it; of arrays the items that `contains` counts
    uint32_t shortest;
} Rule;

// What an object's rules need of its shape, computed once.
typedef struct {
    Term *keys;            // (n_properties): "name":, with the quotes and a space
    uint32_t *key_sizes;   // (n_properties)
    Term *names;           // (n_classes): without the names of properties
    uint32_t *name_sizes;  // (n_classes): of "name":, the shortest; NEVER: there is none
    uint32_t n_declared;   // properties; the others follow
} Plan;

typedef struct {
    const ObjectShape *shape;
    Plan plan;
} PlanOf;

struct Grammar {
    Schema *schema;
    TermPool *pool;
    Rule *rules;  // (capacity), owned
    size_t n, capacity;
    uint32_t *table;  // (places): index + 1 of rules by hash
    size_t places;
    uint32_t *shortest;  // (n_values): of each expression; NEVER: none, or not known yet
    uint8_t *reached;    // (n_values)
    size_t n_values;
    PlanOf *plans;  // (plans_capacity), by hash of the shape
    size_t n_plans, plans_capacity;
    Term free_character;  // of a string without conditions: also in other spellings
    bool lacks_memory;
};

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

static uint32_t value_shortest(const Grammar *g, Expression e)
{
    return e < g->n_values ? g->shortest[e] : NEVER;
}

// --------------------------------------------------------------------------------------------
// Plans

static size_t plan_place(const Grammar *g, const ObjectShape *shape)
{
    size_t place = hash_number((uintptr_t)shape) & (g->plans_capacity - 1);
    while (g->plans[place].shape && g->plans[place].shape != shape) {
        place = (place + 1) & (g->plans_capacity - 1);
    }
    return place;
}

static bool grow_plans(Grammar *g)
{
    PlanOf *old = g->plans;
    const size_t n = g->plans_capacity;
    g->plans_capacity = n ? 2 * n : 64;
    g->plans = calloc(g->plans_capacity, sizeof *g->plans);
    if (!g->plans) {
        g->plans = old;
        g->plans_capacity = n;
        g->lacks_memory = true;
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (old[i].shape) {
            g->plans[plan_place(g, old[i].shape)] = old[i];
        }
    }
    free(old);
    return true;
}

static bool fill_plan(Grammar *g, const ObjectShape *shape, Plan *plan)
{
    TermPool *p = g->pool;
    const size_t n = shape->n_properties, m = shape->n_classes;
    plan->keys = schema_alloc(g->schema, n + 1, sizeof *plan->keys);
    plan->key_sizes = schema_alloc(g->schema, n + 1, sizeof *plan->key_sizes);
    plan->names = schema_alloc(g->schema, m + 1, sizeof *plan->names);
    plan->name_sizes = schema_alloc(g->schema, m + 1, sizeof *plan->name_sizes);
    Term *spelled = schema_alloc(g->schema, n + 1, sizeof *spelled);
    if (!plan->keys || !plan->key_sizes || !plan->names || !plan->name_sizes || !spelled) {
        return false;
    }
    const Term quote = term_byte(p, '"'), after = term_text(p, "\": ");
    for (size_t i = 0; i < n; i++) {
        const Property *q = &shape->properties[i];
        spelled[i] = spelled_text(p, q->name, q->size, SPELL_JSON);
        plan->keys[i] = term_seq(p, quote, term_seq(p, spelled[i], after));
        plan->key_sizes[i] = term_shortest(p, plan->keys[i]);
    }
    while (plan->n_declared < n && shape->properties[plan->n_declared].declared) {
        plan->n_declared++;
    }
    const Term declared = term_or(p, spelled, n);
    for (size_t i = 0; i < m; i++) {
        const NameClass *c = &shape->classes[i];
        plan->names[i] = n ? term_and2(p, c->names, term_not(p, declared)) : c->names;
        plan->name_sizes[i] = length_plus(term_shortest(p, plan->names[i]), 4);
    }
    return !schema_failed(g->schema);
}

static const Plan *plan_of(Grammar *g, const ObjectShape *shape)
{
    if (2 * (g->n_plans + 1) > g->plans_capacity && !grow_plans(g)) {
        return NULL;
    }
    PlanOf *p = &g->plans[plan_place(g, shape)];
    if (!p->shape) {
        PlanOf made = {.shape = shape};
        if (!fill_plan(g, shape, &made.plan)) {
            return NULL;
        }
        *p = made;
        g->n_plans++;
    }
    return &p->plan;
}

// --------------------------------------------------------------------------------------------
// Shortest texts

static int compare_lengths(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

// The shortest entry of a property that is not declared.
static uint32_t shortest_other(const Grammar *g, const ObjectShape *shape, const Plan *plan)
{
    uint32_t best = NEVER;
    for (size_t i = 0; i < shape->n_classes; i++) {
        const uint32_t value = value_shortest(g, shape->classes[i].value);
        best = smaller(best, length_plus(plan->name_sizes[i], value));
    }
    return best;
}

// At most this many undeclared properties come in any order.
enum { MOST_UNORDERED = 12 };

static bool in_any_order(const ObjectShape *shape, const Plan *plan, uint32_t property)
{
    return property >= plan->n_declared && shape->n_properties - plan->n_declared <= MOST_UNORDERED;
}

// May a property still come at a place?
static bool is_open(const ObjectShape *shape, const Plan *plan, uint32_t place, uint32_t property)
{
    if (!in_any_order(shape, plan, property) || place < plan->n_declared) {
        return property >= place;
    }
    const uint32_t met = place - plan->n_declared;
    return !(met >> (property - plan->n_declared) & 1);
}

// The place behind a property.
static uint32_t place_after(const ObjectShape *shape, const Plan *plan, uint32_t place,
                            uint32_t property)
{
    if (!in_any_order(shape, plan, property)) {
        return property + 1;
    }
    const uint32_t met = place > plan->n_declared ? place - plan->n_declared : 0;
    return plan->n_declared + (met | (uint32_t)1 << (property - plan->n_declared));
}

// The length of the shortest `need` optional entries from a place on.
static uint32_t shortest_optional(Grammar *g, const ObjectShape *shape, uint32_t place,
                                  uint32_t need)
{
    const Plan *plan = plan_of(g, shape);
    uint32_t *lengths = malloc((shape->n_properties + 1) * sizeof *lengths);
    if (!plan || !lengths) {
        g->lacks_memory = true;
        free(lengths);
        return NEVER;
    }
    const uint32_t other = shortest_other(g, shape, plan);
    size_t n = 0;
    for (uint32_t i = 0; i < shape->n_properties; i++) {
        const Property *p = &shape->properties[i];
        const uint32_t length = length_plus(plan->key_sizes[i], value_shortest(g, p->value));
        const bool optional = !p->required && is_open(shape, plan, place, i);
        if (optional && length <= other && length != NEVER) {
            lengths[n++] = length;
        }
    }
    qsort(lengths, n, sizeof *lengths, compare_lengths);
    uint32_t total = 0;
    for (size_t k = 0; k < n && k < need; k++) {
        total = length_plus(total, lengths[k]);
    }
    free(lengths);
    const uint64_t left = need > n ? need - n : 0;
    const uint64_t rest = left * (uint64_t)other;
    return other == NEVER && left ? NEVER : length_plus(total, rest == NEVER ? LONGEST : rest);
}

// The shortest text from a place in an object up to its closing brace.
static uint32_t object_shortest(Grammar *g, const ObjectShape *shape, uint32_t place,
                                uint32_t count)
{
    const Plan *plan = plan_of(g, shape);
    if (!plan) {
        return NEVER;
    }
    uint32_t total = 1, n = 0;
    for (uint32_t k = 0; k < shape->n_properties; k++) {
        const Property *p = &shape->properties[k];
        if (p->required && is_open(shape, plan, place, k)) {
            total = length_plus(total,
                                length_plus(plan->key_sizes[k], value_shortest(g, p->value)));
            n++;
        }
    }
    if ((uint64_t)count + n > shape->max) {
        return NEVER;
    }
    if ((uint64_t)count + n < shape->min) {
        const uint32_t need = shape->min - count - n;
        total = length_plus(total, shortest_optional(g, shape, place, need));
        n += need;
    }
    // A comma and a space before each entry but the object's first.
    return n ? length_plus(total, 2 * (uint64_t)n - (count ? 0 : 2)) : total;
}

static Expression item_at(const ArrayShape *shape, uint32_t i)
{
    return i < shape->n_prefix ? shape->prefix[i] : shape->items;
}

static bool counts_items(const ArrayShape *shape) { return shape->contains != ANYTHING; }

static uint32_t rule_shortest(void *arg, uint32_t rule);
static uint32_t rule_at(Grammar *g, RuleKind kind, const void *of, uint32_t at, uint32_t count);

// An item that `contains` counts, or does not.
static Expression counted_item(Grammar *g, const ArrayShape *shape, uint32_t i, bool counted)
{
    const Expression item = item_at(shape, i);
    if (counted) {
        return expression_and(g->schema, item, shape->contains);
    }
    // Without a maximum, an item that is not counted may be anything: the count is a lower bound.
    return shape->max_contains == REPEAT_FOREVER
               ? item
               : expression_and(g->schema, item, expression_not(g->schema, shape->contains));
}

// The place after an item; all places beyond the last condition are the same.
static uint32_t place_after_item(const ArrayShape *shape, uint32_t i)
{
    const uint32_t prefix = (uint32_t)shape->n_prefix;
    uint32_t cap = shape->min > prefix ? shape->min : prefix;
    cap = cap ? cap : 1;
    return shape->max == REPEAT_FOREVER && i + 1 > cap ? cap : i + 1;
}

static uint32_t next_count(const ArrayShape *shape, uint32_t count)
{
    const bool bounded = shape->max_contains != REPEAT_FOREVER;
    return !bounded && count + 1 > shape->min_contains ? shape->min_contains : count + 1;
}

static bool may_close(const ArrayShape *shape, uint32_t i, uint32_t count)
{
    return i >= shape->min && (!counts_items(shape) || count >= shape->min_contains);
}

// The shortest text from a place in an array with `contains`: the better of counting the next item
// or not, until it may be closed. Past the prefix and min, only counting helps.
static uint32_t counted_shortest(Grammar *g, const ArrayShape *shape, uint32_t i, uint32_t count)
{
    if (may_close(shape, i, count)) {
        return 1;
    }
    uint32_t best = NEVER;
    for (int counted = 0; i < shape->max && counted < 2; counted++) {
        const uint32_t next = counted ? count + 1 : count;
        const bool helps = counted ? next <= shape->max_contains
                                   : i < shape->min || i < shape->n_prefix;
        const uint32_t item = helps ? value_shortest(g, counted_item(g, shape, i, counted)) : NEVER;
        if (item != NEVER) {
            const uint32_t rest = rule_shortest(g, rule_at(g, RULE_ARRAY, shape, i + 1, next));
            best = smaller(best, length_plus(rest, (uint64_t)item + (i ? 2 : 0)));
        }
    }
    return best;
}

static uint32_t array_shortest(Grammar *g, const ArrayShape *shape, uint32_t i, uint32_t count)
{
    if (counts_items(shape)) {
        return counted_shortest(g, shape, i, count);
    }
    uint32_t total = 1;
    for (uint32_t k = i; k < shape->min && k < shape->n_prefix; k++) {
        total = length_plus(total, (uint64_t)value_shortest(g, shape->prefix[k]) + (k ? 2 : 0));
        if (value_shortest(g, shape->prefix[k]) == NEVER) {
            return NEVER;
        }
    }
    const uint32_t from = i > shape->n_prefix ? i : (uint32_t)shape->n_prefix;
    if (shape->min > from) {
        const uint32_t item = value_shortest(g, shape->items);
        const uint64_t all = (uint64_t)(shape->min - from) * ((uint64_t)item + 2) - (from ? 0 : 2);
        total = item == NEVER ? NEVER : length_plus(total, all == NEVER ? LONGEST : all);
    }
    return total;
}

// --------------------------------------------------------------------------------------------
// Rules

static bool grow_rules(Grammar *g)
{
    const size_t capacity = g->capacity ? 2 * g->capacity : 256, places = 2 * capacity;
    Rule *rules = realloc(g->rules, capacity * sizeof *rules);
    if (rules) {
        g->rules = rules;
    }
    uint32_t *table = calloc(places, sizeof *table);
    if (!rules || !table) {
        free(table);
        g->lacks_memory = true;
        return false;
    }
    g->capacity = capacity;
    free(g->table);
    g->table = table;
    g->places = places;
    return true;
}

static size_t rule_place(const Grammar *g, const Rule *r)
{
    uint64_t h = hash_step(hash_step(HASH_BEGIN, r->kind), (uintptr_t)r->of);
    h = hash_step(hash_step(h, r->at), r->count);
    size_t place = (h ^ h >> 32) & (g->places - 1);
    for (; g->table[place]; place = (place + 1) & (g->places - 1)) {
        const Rule *q = &g->rules[g->table[place] - 1];
        if (q->kind == r->kind && q->of == r->of && q->at == r->at && q->count == r->count) {
            break;
        }
    }
    return place;
}

// The number of a rule, found or made.
static uint32_t rule_at(Grammar *g, RuleKind kind, const void *of, uint32_t at, uint32_t count)
{
    const Rule r = {kind, of, at, count, NEVER};
    if (g->n == g->capacity) {
        if (!grow_rules(g)) {
            return 0;
        }
        for (size_t i = 0; i < g->n; i++) {
            g->table[rule_place(g, &g->rules[i])] = (uint32_t)i + 1;
        }
    }
    const size_t place = rule_place(g, &r);
    if (g->table[place]) {
        return g->table[place] - 1;
    }
    const uint32_t rule = (uint32_t)g->n++;
    g->rules[rule] = r;
    g->table[place] = rule + 1;
    const uint32_t shortest = kind == RULE_VALUE    ? value_shortest(g, at)
                              : kind == RULE_OBJECT ? object_shortest(g, of, at, count)
                              : kind == RULE_ARRAY  ? array_shortest(g, of, at, count)
                              : kind == RULE_NAME   ? plan_of(g, of)->name_sizes[at] - 3
                                                    : 0;
    g->rules[rule].shortest = shortest;
    return rule;
}

static uint32_t rule_shortest(void *arg, uint32_t rule)
{
    const Grammar *g = arg;
    return rule < g->n ? g->rules[rule].shortest : NEVER;
}

static Term call_value(Grammar *g, Expression e)
{
    return term_call(g->pool, rule_at(g, RULE_VALUE, NULL, e, 0));
}

static uint32_t next_entry(const ObjectShape *shape, uint32_t count)
{
    uint32_t cap = shape->min > 1 ? shape->min : 1;
    cap = shape->max != REPEAT_FOREVER && shape->max > cap ? shape->max : cap;
    return count < cap ? count + 1 : count;
}

// The entry of a property at a place, and all after it.
static Term entry_term(Grammar *g, const ObjectShape *shape, uint32_t property, uint32_t place,
                       uint32_t count)
{
    TermPool *p = g->pool;
    const Plan *plan = plan_of(g, shape);
    const Term value = plan ? call_value(g, shape->properties[property].value) : TERM_NONE;
    if (value == TERM_NONE) {
        return TERM_NONE;
    }
    const uint32_t next = place_after(shape, plan, place, property);
    const uint32_t rest = rule_at(g, RULE_OBJECT, shape, next, next_entry(shape, count));
    const Term after = term_seq(p, value, term_call(p, rest));
    return after == TERM_NONE ? after : term_seq(p, plan->keys[property], after);
}

// The entries of names that are not declared, each with all after it.
static Term other_entries(Grammar *g, const ObjectShape *shape, uint32_t i, uint32_t count)
{
    TermPool *p = g->pool;
    const Plan *plan = plan_of(g, shape);
    const uint32_t rest = rule_at(g, RULE_OBJECT, shape, i, next_entry(shape, count));
    const Term quote = term_byte(p, '"'), colon = term_text(p, ": ");
    Term t = TERM_NONE;
    for (uint32_t k = 0; plan && k < shape->n_classes; k++) {
        const Expression e = shape->classes[k].value;
        if (value_shortest(g, e) == NEVER || plan->name_sizes[k] == NEVER) {
            continue;
        }
        const Term value = term_seq(p, call_value(g, e), term_call(p, rest));
        const Term name = term_seq(p, term_call(p, rule_at(g, RULE_NAME, shape, k, 0)),
                                   term_seq(p, colon, value));
        t = term_or2(p, t, term_seq(p, quote, name));
    }
    return t;
}

// The entries of all properties that may come next at a place. *due: one of them must come, and if
// it is declared, nothing else may.
static Term entries(Grammar *g, const ObjectShape *shape, uint32_t place, uint32_t count, bool *due)
{
    const Plan *plan = plan_of(g, shape);
    Term *terms = calloc(shape->n_properties + 1, sizeof *terms);
    if (!terms || !plan) {
        g->lacks_memory = true;
        free(terms);
        return TERM_NONE;
    }
    bool last = false;
    for (uint32_t i = 0; i < shape->n_properties && !last; i++) {
        if (!is_open(shape, plan, place, i)) {
            continue;
        }
        const bool ordered = !in_any_order(shape, plan, i);
        const bool required = shape->properties[i].required;
        last = required && ordered;
        *due = *due || required;
        // An entry in order is the same from wherever it is reached.
        terms[i] = ordered ? term_rule(g->pool, rule_at(g, RULE_ENTRY, shape, i, count))
                           : entry_term(g, shape, i, place, count);
    }
    const Term t = term_or(g->pool, terms, shape->n_properties);
    free(terms);
    return t;
}

// Must a declared property come first?
static bool is_declared_due(const ObjectShape *shape, const Plan *plan, uint32_t place)
{
    bool due = false;
    for (uint32_t i = place; i < plan->n_declared; i++) {
        due = due || shape->properties[i].required;
    }
    return due;
}

static Term object_term(Grammar *g, const ObjectShape *shape, uint32_t place, uint32_t count)
{
    TermPool *p = g->pool;
    const Plan *plan = plan_of(g, shape);
    if (!plan) {
        return TERM_NONE;
    }
    bool due = false;
    Term t = entries(g, shape, place, count, &due);
    if (!is_declared_due(shape, plan, place)) {
        const uint32_t behind = place < plan->n_declared ? plan->n_declared : place;
        t = term_or2(p, t, other_entries(g, shape, behind, count));
    }
    t = count < shape->max ? term_seq(p, count ? term_text(p, ", ") : TERM_EMPTY, t) : TERM_NONE;
    return !due && count >= shape->min ? term_or2(p, t, term_byte(p, '}')) : t;
}

static Term array_term(Grammar *g, const ArrayShape *shape, uint32_t i, uint32_t count)
{
    TermPool *p = g->pool;
    Term t = TERM_NONE;
    const int ways = counts_items(shape) ? 2 : 1;
    for (int counted = 0; i < shape->max && counted < ways; counted++) {
        const uint32_t n = counted ? next_count(shape, count) : count;
        const Expression item = counts_items(shape) ? counted_item(g, shape, i, counted)
                                                    : item_at(shape, i);
        if (value_shortest(g, item) == NEVER || (counted && n > shape->max_contains)) {
            continue;
        }
        const uint32_t rest = rule_at(g, RULE_ARRAY, shape, place_after_item(shape, i), n);
        t = term_or2(p, t, term_seq(p, call_value(g, item), term_call(p, rest)));
    }
    t = term_seq(p, i ? term_text(p, ", ") : TERM_EMPTY, t);
    return may_close(shape, i, count) ? term_or2(p, t, term_byte(p, ']')) : t;
}

// A string without a pattern may also be spelled with the escapes that JSON does not need.
static Term string_term(Grammar *g, Term string)
{
    Repeat r;
    const bool free_text = term_as_repeat(g->pool, string, &r) && r.rest == TERM_EMPTY &&
                           r.repeated == schema_basics(g->schema)->character;
    const Term text = free_text ? term_repeat(g->pool, g->free_character, r.min, r.max) : string;
    const Term quote = term_byte(g->pool, '"');
    return term_seq(g->pool, quote, term_seq(g->pool, text, quote));
}

static Term value_term(Grammar *g, Expression e)
{
    TermPool *p = g->pool;
    const Norm *n = schema_norm(g->schema, e);
    if (!n) {
        return TERM_NONE;
    }
    Term t = n->null ? term_text(p, "null") : TERM_NONE;
    t = n->bools & BOOL_TRUE ? term_or2(p, t, term_text(p, "true")) : t;
    t = n->bools & BOOL_FALSE ? term_or2(p, t, term_text(p, "false")) : t;
    t = term_or2(p, t, n->number);
    t = term_or2(p, t, n->string == TERM_NONE ? n->string : string_term(g, n->string));
    for (size_t i = 0; i < n->n_objects; i++) {
        const Term inside = term_call(p, rule_at(g, RULE_OBJECT, n->objects[i], 0, 0));
        t = term_or2(p, t, term_seq(p, term_byte(p, '{'), inside));
    }
    for (size_t i = 0; i < n->n_arrays; i++) {
        const Term inside = term_call(p, rule_at(g, RULE_ARRAY, n->arrays[i], 0, 0));
        t = term_or2(p, t, term_seq(p, term_byte(p, '['), inside));
    }
    return t;
}

static Term rule_term(void *arg, uint32_t rule)
{
    Grammar *g = arg;
    const Rule r = g->rules[rule];
    switch (r.kind) {
    case RULE_VALUE:
        return value_term(g, r.at);
    case RULE_OBJECT:
        return object_term(g, r.of, r.at, r.count);
    case RULE_ENTRY:
        return entry_term(g, r.of, r.at, r.at, r.count);
    case RULE_NAME:
        return term_seq(g->pool, plan_of(g, r.of)->names[r.at], term_byte(g->pool, '"'));
    default:
        return array_term(g, r.of, r.at, r.count);
    }
}

// --------------------------------------------------------------------------------------------
// Reaching all values

static bool reach(Grammar *g, Expression e, Expression **todo, size_t *n_todo)
{
    const size_t count = schema_count(g->schema);
    if (count > g->n_values) {
        const size_t grown = 2 * count;
        uint32_t *shortest = realloc(g->shortest, grown * sizeof *shortest);
        g->shortest = shortest ? shortest : g->shortest;
        uint8_t *reached = realloc(g->reached, grown);
        g->reached = reached ? reached : g->reached;
        Expression *list = realloc(*todo, grown * sizeof *list);
        *todo = list ? list : *todo;
        if (!shortest || !reached || !list) {
            g->lacks_memory = true;
            return false;
        }
        for (size_t i = g->n_values; i < grown; i++) {
            g->shortest[i] = NEVER;
            g->reached[i] = false;
        }
        g->n_values = grown;
    }
    if (*todo && g->reached && !g->reached[e]) {
        g->reached[e] = true;
        (*todo)[(*n_todo)++] = e;
    }
    return true;
}

static bool reach_object(Grammar *g, const ObjectShape *shape, Expression **todo, size_t *n_todo)
{
    bool ok = plan_of(g, shape);
    for (size_t i = 0; ok && i < shape->n_properties; i++) {
        ok = reach(g, shape->properties[i].value, todo, n_todo);
    }
    for (size_t i = 0; ok && i < shape->n_classes; i++) {
        ok = reach(g, shape->classes[i].value, todo, n_todo);
    }
    return ok;
}

static bool reach_array(Grammar *g, const ArrayShape *shape, Expression **todo, size_t *n_todo)
{
    bool ok = true;
    for (uint32_t i = 0; ok && i <= shape->n_prefix; i++) {
        ok = reach(g, item_at(shape, i), todo, n_todo);
        for (int counted = 0; ok && counted < 2 && counts_items(shape); counted++) {
            ok = reach(g, counted_item(g, shape, i, counted), todo, n_todo);
        }
    }
    return ok;
}

// Lists all values that can be reached from the root: *todo (n).
static bool reach_all(Grammar *g, Expression **todo, size_t *n)
{
    bool ok = reach(g, schema_root(g->schema), todo, n);
    for (size_t i = 0; ok && i < *n; i++) {
        const Norm *norm = schema_norm(g->schema, (*todo)[i]);
        ok = norm;
        for (size_t k = 0; ok && k < norm->n_objects; k++) {
            ok = reach_object(g, norm->objects[k], todo, n);
        }
        for (size_t k = 0; ok && k < norm->n_arrays; k++) {
            ok = reach_array(g, norm->arrays[k], todo, n);
        }
    }
    return ok && !schema_failed(g->schema);
}

static uint32_t norm_shortest(Grammar *g, const Norm *n)
{
    uint32_t best = n->null || n->bools & BOOL_TRUE ? 4 : n->bools ? 5 : NEVER;
    best = smaller(best, term_shortest(g->pool, n->number));
    best = smaller(best, length_plus(term_shortest(g->pool, n->string), 2));
    for (size_t i = 0; i < n->n_objects; i++) {
        best = smaller(best, length_plus(object_shortest(g, n->objects[i], 0, 0), 1));
    }
    for (size_t i = 0; i < n->n_arrays; i++) {
        best = smaller(best, length_plus(array_shortest(g, n->arrays[i], 0, 0), 1));
    }
    return best;
}

// Computes the shortest text of every value: lengths only get smaller, from NEVER on, until nothing
// changes. The later values, which the earlier ones need, come first.
static void find_shortest(Grammar *g, const Expression *values, size_t n)
{
    bool changed = true;
    while (changed && !g->lacks_memory) {
        changed = false;
        for (size_t i = n; i > 0; i--) {
            const Expression e = values[i - 1];
            const uint32_t length = norm_shortest(g, schema_norm(g->schema, e));
            changed = changed || length != g->shortest[e];
            g->shortest[e] = length;
        }
        g->n = 0;  // the rules of arrays that count were made with lengths that no longer hold
        if (g->table) {
            memset(g->table, 0, g->places * sizeof *g->table);
        }
    }
}

// Any character, in any spelling that JSON has for it.
static Term free_character(TermPool *p, Term plain)
{
    const RegexOptions options = {REGEX_ECMA, SPELL_UTF8, .whole = true};
    static const char escape[] =
        "\\\\u(?:[0-9a-cA-Ce-fE-F][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}|"
        "[dD][89abAB][0-9a-fA-F]{2}\\\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\\\[\"\\\\/bfnrt]";
    Error ignored;
    Term escaped = TERM_NONE;
    regex_compile(p, &options, escape, sizeof escape - 1, &escaped, &ignored);
    return term_or2(p, plain, escaped);
}

bool grammar_create(Grammar **out, Schema *s, Term *root, Error *err)
{
    *out = NULL;
    Grammar *g = calloc(1, sizeof *g);
    if (!g) {
        return error_memory(err, "a grammar", sizeof *g);
    }
    g->schema = s;
    g->pool = schema_pool(s);
    g->free_character = free_character(g->pool, schema_basics(s)->character);
    term_pool_set_rules(g->pool, (Rules){rule_term, rule_shortest, g});
    Expression *values = NULL;
    size_t n = 0;
    bool ok = reach_all(g, &values, &n);
    if (ok) {
        find_shortest(g, values, n);
        *root = value_term(g, schema_root(s));
    }
    free(values);
    ok = term_pool_check(g->pool, err) && ok;
    if (g->lacks_memory) {
        ok = error_memory(err, "a grammar", sizeof *g);
    }
    if (ok && term_shortest(g->pool, *root) == NEVER) {
        ok = error_set(err, ERROR_INPUT, "schema: no value is valid");
    }
    if (!ok) {
        grammar_free(g);
        return false;
    }
    *out = g;
    return true;
}

void grammar_free(Grammar *g)
{
    if (!g) {
        return;
    }
    free(g->rules);
    free(g->table);
    free(g->shortest);
    free(g->reached);
    free(g->plans);
    free(g);
}

size_t grammar_bytes(const Grammar *g)
{
    return sizeof *g + g->capacity * sizeof *g->rules + g->places * sizeof *g->table +
           g->n_values * (sizeof *g->shortest + sizeof *g->reached) +
           g->plans_capacity * sizeof *g->plans;
}
