// constraint_shape.c - sets of JSON values. See constraint_shape.h.
#include "text/constraint_shape.h"

#include <stdlib.h>
#include <string.h>

#include "text/constraint_chars.h"

// --------------------------------------------------------------------------------------------
// Objects

bool object_is_free(const ObjectShape *shape)
{
    bool free_of_conditions = shape->min == 0 && shape->max == REPEAT_FOREVER;
    for (size_t i = 0; i < shape->n_properties; i++) {
        const Property *p = &shape->properties[i];
        free_of_conditions = free_of_conditions && !p->required && p->value == ANYTHING;
    }
    for (size_t i = 0; i < shape->n_classes; i++) {
        free_of_conditions = free_of_conditions && shape->classes[i].value == ANYTHING;
    }
    return free_of_conditions;
}

static const Property *find_property(const ObjectShape *shape, const char *name, size_t size)
{
    for (size_t i = 0; i < shape->n_properties; i++) {
        const Property *p = &shape->properties[i];
        if (p->size == size && memcmp(p->name, name, size) == 0) {
            return p;
        }
    }
    return NULL;
}

Expression shape_value(Schema *s, const ObjectShape *shape, const char *name, size_t size)
{
    const Property *p = find_property(shape, name, size);
    if (p) {
        return p->value;
    }
    if (shape->n_classes == 1) {
        return shape->classes[0].value;
    }
    TermPool *pool = schema_pool(s);
    const Term spelled = spelled_text(pool, name, size, SPELL_JSON);
    for (size_t i = 0; i < shape->n_classes; i++) {
        const Term both = term_and2(pool, shape->classes[i].names, spelled);
        if (both != TERM_NONE && term_shortest(pool, both) != NEVER) {
            return shape->classes[i].value;
        }
    }
    return NOTHING;  // a name that the conditions on names exclude
}

static bool is_required_and_empty(Schema *s, const Property *p)
{
    return p->required && expression_is_empty(s, p->value);
}

// Is it clear that no object has this shape?
static bool object_is_dead(Schema *s, const ObjectShape *shape)
{
    size_t n_required = 0, n_possible = 0;
    for (size_t i = 0; i < shape->n_properties; i++) {
        if (is_required_and_empty(s, &shape->properties[i])) {
            return true;
        }
        n_required += shape->properties[i].required;
        n_possible += shape->properties[i].value != NOTHING;
    }
    bool more = false;
    for (size_t i = 0; i < shape->n_classes; i++) {
        more = more || shape->classes[i].value != NOTHING;
    }
    return shape->min > shape->max || n_required > shape->max || (!more && n_possible < shape->min);
}

// The properties of both shapes: those of `a`, then those that only `b` has; with `declared` only
// those, or only the others.
static void join_properties(Schema *s, ObjectShape *out, const ObjectShape *const both[2],
                            bool declared)
{
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < both[k]->n_properties; i++) {
            const Property p = both[k]->properties[i];
            const Property *other = find_property(both[1 - k], p.name, p.size);
            const bool is_declared = p.declared || (other && other->declared);
            if (is_declared != declared || (k == 1 && other)) {
                continue;
            }
            const Expression value = shape_value(s, both[1 - k], p.name, p.size);
            out->properties[out->n_properties++] = (Property){
                p.name, p.size, expression_and(s, p.value, value),
                p.required || (other && other->required), declared};
        }
    }
}

// The classes of names of both shapes: every pair that has a name in common.
static bool join_classes(Schema *s, ObjectShape *out, const ObjectShape *a, const ObjectShape *b)
{
    TermPool *pool = schema_pool(s);
    out->classes = schema_alloc(s, a->n_classes * b->n_classes + 1, sizeof *out->classes);
    for (size_t i = 0; out->classes && i < a->n_classes; i++) {
        for (size_t k = 0; k < b->n_classes; k++) {
            const NameClass *x = &a->classes[i], *y = &b->classes[k];
            const bool all = a->n_classes == 1 && b->n_classes == 1 && x->names == y->names;
            const Term names = all ? x->names : term_and2(pool, x->names, y->names);
            if (names != TERM_NONE && term_shortest(pool, names) != NEVER) {
                out->classes[out->n_classes++] = (NameClass){names,
                                                             expression_and(s, x->value, y->value)};
            }
        }
    }
    return out->classes && !schema_failed(s);
}

static const ObjectShape *object_and(Schema *s, const ObjectShape *a, const ObjectShape *b)
{
    if (object_is_free(a) && a->n_properties == 0) {
        return b;
    }
    if (object_is_free(b) && b->n_properties == 0) {
        return a;
    }
    ObjectShape *out = schema_alloc(s, 1, sizeof *out);
    const size_t n = a->n_properties + b->n_properties;
    Property *properties = schema_alloc(s, n + 1, sizeof *properties);
    if (!out || !properties) {
        return NULL;
    }
    *out = (ObjectShape){.properties = properties,
                         .min = a->min > b->min ? a->min : b->min,
                         .max = a->max < b->max ? a->max : b->max};
    const ObjectShape *const both[] = {a, b};
    join_properties(s, out, both, true);
    join_properties(s, out, both, false);
    return join_classes(s, out, a, b) ? out : NULL;
}

const ObjectShape *shape_with(Schema *s, const ObjectShape *shape, Property property)
{
    ObjectShape *one = schema_alloc(s, 1, sizeof *one);
    Property *p = schema_alloc(s, 1, sizeof *p);
    NameClass *rest = schema_alloc(s, 1, sizeof *rest);
    if (!one || !p || !rest) {
        return NULL;
    }
    *p = property;
    *rest = (NameClass){schema_basics(s)->text, ANYTHING};
    *one = (ObjectShape){p, 1, rest, 1, 0, REPEAT_FOREVER};
    return object_and(s, shape, one);
}

// --------------------------------------------------------------------------------------------
// Arrays

bool array_is_free(const ArrayShape *shape)
{
    bool free_of_conditions = shape->min == 0 && shape->max == REPEAT_FOREVER &&
                              shape->items == ANYTHING && shape->contains == ANYTHING;
    for (size_t i = 0; i < shape->n_prefix; i++) {
        free_of_conditions = free_of_conditions && shape->prefix[i] == ANYTHING;
    }
    return free_of_conditions;
}

static Expression item_of(const ArrayShape *shape, size_t i)
{
    return i < shape->n_prefix ? shape->prefix[i] : shape->items;
}

static bool array_is_dead(Schema *s, const ArrayShape *shape)
{
    bool dead = shape->min > shape->max || shape->min_contains > shape->max_contains;
    for (size_t i = 0; i < shape->n_prefix && i < shape->min && !dead; i++) {
        dead = expression_is_empty(s, shape->prefix[i]);
    }
    return dead || (shape->min > shape->n_prefix && expression_is_empty(s, shape->items));
}

static const ArrayShape *array_and(Schema *s, const ArrayShape *a, const ArrayShape *b)
{
    if (array_is_free(a) || array_is_free(b)) {
        return array_is_free(a) ? b : a;
    }
    ArrayShape *out = schema_alloc(s, 1, sizeof *out);
    const size_t n = a->n_prefix > b->n_prefix ? a->n_prefix : b->n_prefix;
    Expression *prefix = schema_alloc(s, n + 1, sizeof *prefix);
    if (!out || !prefix) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        prefix[i] = expression_and(s, item_of(a, i), item_of(b, i));
    }
    const ArrayShape *with = a->contains == ANYTHING ? b : a;
    const ArrayShape *other = with == a ? b : a;
    if (other->contains != ANYTHING &&
        (other->contains != with->contains || other->min_contains != with->min_contains ||
         other->max_contains != with->max_contains)) {
        return schema_refuse(s, NULL, "two different `contains` of one array");
    }
    *out = *with;
    out->prefix = prefix;
    out->n_prefix = n;
    out->items = expression_and(s, a->items, b->items);
    out->min = a->min > b->min ? a->min : b->min;
    out->max = a->max < b->max ? a->max : b->max;
    return out;
}

// --------------------------------------------------------------------------------------------
// Norms

Norm *norm_nothing(Schema *s)
{
    Norm *n = schema_alloc(s, 1, sizeof *n);
    if (n) {
        *n = (Norm){.number = TERM_NONE, .string = TERM_NONE};
    }
    return n;
}

static bool set_objects(Schema *s, Norm *n, size_t count)
{
    n->objects = schema_alloc(s, count + 1, sizeof *n->objects);
    return n->objects;
}

static bool set_arrays(Schema *s, Norm *n, size_t count)
{
    n->arrays = schema_alloc(s, count + 1, sizeof *n->arrays);
    return n->arrays;
}

// Adds a shape unless it is dead.
static bool add_object(Schema *s, Norm *n, const ObjectShape *shape)
{
    if (!shape || (object_is_dead(s, shape) && !schema_failed(s))) {
        return shape;
    }
    if (n->n_objects == SCHEMA_MAX_ALTERNATIVES) {
        return schema_refuse(s, NULL, "more than 256 alternatives of an object");
    }
    n->objects[n->n_objects++] = shape;
    return !schema_failed(s);
}

static bool add_array(Schema *s, Norm *n, const ArrayShape *shape)
{
    if (!shape || (array_is_dead(s, shape) && !schema_failed(s))) {
        return shape;
    }
    if (n->n_arrays == SCHEMA_MAX_ALTERNATIVES) {
        return schema_refuse(s, NULL, "more than 256 alternatives of an array");
    }
    n->arrays[n->n_arrays++] = shape;
    return !schema_failed(s);
}

Norm *norm_of_object(Schema *s, const ObjectShape *shape)
{
    Norm *n = norm_nothing(s);
    return n && set_objects(s, n, 1) && add_object(s, n, shape) ? n : NULL;
}

Norm *norm_of_array(Schema *s, const ArrayShape *shape)
{
    Norm *n = norm_nothing(s);
    return n && set_arrays(s, n, 1) && add_array(s, n, shape) ? n : NULL;
}

Norm *norm_universe(Schema *s)
{
    Norm *n = norm_nothing(s);
    ObjectShape *object = schema_alloc(s, 1, sizeof *object);
    NameClass *names = schema_alloc(s, 1, sizeof *names);
    ArrayShape *array = schema_alloc(s, 1, sizeof *array);
    if (!n || !object || !names || !array || !set_objects(s, n, 1) || !set_arrays(s, n, 1)) {
        return NULL;
    }
    n->null = true;
    n->bools = BOOL_FALSE | BOOL_TRUE;
    n->number = schema_basics(s)->number;
    n->string = schema_basics(s)->text;
    *names = (NameClass){n->string, ANYTHING};
    *object = (ObjectShape){.classes = names, .n_classes = 1, .max = REPEAT_FOREVER};
    *array = (ArrayShape){.max = REPEAT_FOREVER, .max_contains = REPEAT_FOREVER};
    n->objects[n->n_objects++] = object;
    n->arrays[n->n_arrays++] = array;
    return schema_failed(s) ? NULL : n;
}

static Term and_scalars(TermPool *pool, Term a, Term b, Term universe)
{
    return a == universe ? b : b == universe ? a : term_and2(pool, a, b);
}

Norm *norm_and(Schema *s, const Norm *a, const Norm *b)
{
    TermPool *pool = schema_pool(s);
    Norm *n = a && b ? norm_nothing(s) : NULL;
    if (!n || !set_objects(s, n, a->n_objects * b->n_objects) ||
        !set_arrays(s, n, a->n_arrays * b->n_arrays)) {
        return NULL;
    }
    n->null = a->null && b->null;
    n->bools = a->bools & b->bools;
    n->number = and_scalars(pool, a->number, b->number, schema_basics(s)->number);
    n->string = and_scalars(pool, a->string, b->string, schema_basics(s)->text);
    for (size_t i = 0; i < a->n_objects * b->n_objects; i++) {
        const ObjectShape *x = a->objects[i / b->n_objects], *y = b->objects[i % b->n_objects];
        if (!add_object(s, n, object_and(s, x, y))) {
            return NULL;
        }
    }
    for (size_t i = 0; i < a->n_arrays * b->n_arrays; i++) {
        const ArrayShape *x = a->arrays[i / b->n_arrays], *y = b->arrays[i % b->n_arrays];
        if (!add_array(s, n, array_and(s, x, y))) {
            return NULL;
        }
    }
    return n;
}

// Joins two lists of shapes; one without conditions replaces all others.
static bool join_objects(Schema *s, Norm *n, const Norm *a, const Norm *b)
{
    if (!set_objects(s, n, a->n_objects + b->n_objects)) {
        return false;
    }
    for (size_t i = 0; i < a->n_objects + b->n_objects; i++) {
        const ObjectShape *x = i < a->n_objects ? a->objects[i] : b->objects[i - a->n_objects];
        if (object_is_free(x)) {
            n->objects[0] = x;
            n->n_objects = 1;
            return true;
        }
        bool known = false;
        for (size_t k = 0; k < n->n_objects; k++) {
            known = known || n->objects[k] == x;
        }
        if (!known && !add_object(s, n, x)) {
            return false;
        }
    }
    return true;
}

static bool join_arrays(Schema *s, Norm *n, const Norm *a, const Norm *b)
{
    if (!set_arrays(s, n, a->n_arrays + b->n_arrays)) {
        return false;
    }
    for (size_t i = 0; i < a->n_arrays + b->n_arrays; i++) {
        const ArrayShape *x = i < a->n_arrays ? a->arrays[i] : b->arrays[i - a->n_arrays];
        if (array_is_free(x)) {
            n->arrays[0] = x;
            n->n_arrays = 1;
            return true;
        }
        bool known = false;
        for (size_t k = 0; k < n->n_arrays; k++) {
            known = known || n->arrays[k] == x;
        }
        if (!known && !add_array(s, n, x)) {
            return false;
        }
    }
    return true;
}

Norm *norm_or(Schema *s, const Norm *a, const Norm *b)
{
    TermPool *pool = schema_pool(s);
    Norm *n = a && b ? norm_nothing(s) : NULL;
    if (!n) {
        return NULL;
    }
    const Term any = schema_basics(s)->number, text = schema_basics(s)->text;
    n->null = a->null || b->null;
    n->bools = a->bools | b->bools;
    n->number = a->number == any || b->number == any ? any : term_or2(pool, a->number, b->number);
    n->string = a->string == text || b->string == text ? text
                                                       : term_or2(pool, a->string, b->string);
    return join_objects(s, n, a, b) && join_arrays(s, n, a, b) ? n : NULL;
}

bool norm_is_empty(Schema *s, const Norm *n)
{
    TermPool *pool = schema_pool(s);
    return !n->null && !n->bools && !n->n_objects && !n->n_arrays &&
           term_shortest(pool, n->number) == NEVER && term_shortest(pool, n->string) == NEVER;
}

// --------------------------------------------------------------------------------------------
// Complements: of a shape, a union of shapes that each break one of its conditions

// An object shape that says nothing but how many properties there are.
static const ObjectShape *counted_object(Schema *s, uint32_t min, uint32_t max)
{
    ObjectShape *out = schema_alloc(s, 1, sizeof *out);
    NameClass *names = schema_alloc(s, 1, sizeof *names);
    if (!out || !names) {
        return NULL;
    }
    *names = (NameClass){schema_basics(s)->text, ANYTHING};
    *out = (ObjectShape){.classes = names, .n_classes = 1, .min = min, .max = max};
    return out;
}

// The objects that break the condition on one property.
static bool break_property(Schema *s, Norm *n, Property p)
{
    const ObjectShape *any = counted_object(s, 0, REPEAT_FOREVER);
    if (!any) {
        return false;
    }
    if (p.required) {
        const Property absent = {p.name, p.size, NOTHING, false, p.declared};
        if (!add_object(s, n, shape_with(s, any, absent))) {
            return false;
        }
    }
    const Property other = {p.name, p.size, expression_not(s, p.value), true, p.declared};
    return p.value == ANYTHING || add_object(s, n, shape_with(s, any, other));
}

static Norm *object_not(Schema *s, const ObjectShape *shape, const JsonValue *at)
{
    Norm *n = norm_nothing(s);
    if (!n || !set_objects(s, n, 2 * shape->n_properties + 2)) {
        return NULL;
    }
    for (size_t i = 0; i < shape->n_classes; i++) {
        if (shape->classes[i].value != ANYTHING) {
            return schema_refuse(s, at, "the complement of a condition on other properties");
        }
    }
    for (size_t i = 0; i < shape->n_properties; i++) {
        if (!break_property(s, n, shape->properties[i])) {
            return NULL;
        }
    }
    if (shape->min > 0 && !add_object(s, n, counted_object(s, 0, shape->min - 1))) {
        return NULL;
    }
    if (shape->max != REPEAT_FOREVER && shape->max > 0) {
        return schema_refuse(s, at, "the complement of maxProperties");
    }
    return shape->max == REPEAT_FOREVER ||
                   add_object(s, n, counted_object(s, shape->max + 1, REPEAT_FOREVER))
               ? n
               : NULL;
}

// An array shape of at least `min` and at most `max` items.
static ArrayShape *counted_array(Schema *s, uint32_t min, uint32_t max)
{
    ArrayShape *out = schema_alloc(s, 1, sizeof *out);
    if (out) {
        *out = (ArrayShape){.min = min, .max = max, .max_contains = REPEAT_FOREVER};
    }
    return out;
}

// The arrays in which item i is there and breaks its condition.
static const ArrayShape *break_item(Schema *s, const ArrayShape *shape, size_t i)
{
    ArrayShape *out = counted_array(s, (uint32_t)i + 1, REPEAT_FOREVER);
    Expression *prefix = schema_alloc(s, i + 1, sizeof *prefix);
    if (!out || !prefix) {
        return NULL;
    }
    prefix[i] = expression_not(s, shape->prefix[i]);
    out->prefix = prefix;
    out->n_prefix = i + 1;
    return out;
}

// The arrays that break a condition on all items, or on how many contain something.
static bool break_all_items(Schema *s, Norm *n, const ArrayShape *shape)
{
    if (shape->items != ANYTHING) {
        ArrayShape *out = counted_array(s, 1, REPEAT_FOREVER);
        if (out) {
            out->contains = expression_not(s, shape->items);
            out->min_contains = 1;
        }
        if (!out || !add_array(s, n, out)) {
            return false;
        }
    }
    if (shape->contains != ANYTHING) {
        ArrayShape *out = counted_array(s, 0, REPEAT_FOREVER);
        if (out) {
            out->items = expression_not(s, shape->contains);
        }
        return out && add_array(s, n, out);
    }
    return true;
}

static Norm *array_not(Schema *s, const ArrayShape *shape, const JsonValue *at)
{
    Norm *n = norm_nothing(s);
    if (!n || !set_arrays(s, n, shape->n_prefix + 4)) {
        return NULL;
    }
    const bool odd = shape->min_contains != 1 || shape->max_contains != REPEAT_FOREVER;
    if ((shape->contains != ANYTHING && odd) || (shape->items != ANYTHING && shape->n_prefix)) {
        return schema_refuse(s, at, "the complement of this condition on arrays");
    }
    for (size_t i = 0; i < shape->n_prefix; i++) {
        if (shape->prefix[i] != ANYTHING && !add_array(s, n, break_item(s, shape, i))) {
            return NULL;
        }
    }
    if (shape->min > 0 && !add_array(s, n, counted_array(s, 0, shape->min - 1))) {
        return NULL;
    }
    if (shape->max != REPEAT_FOREVER &&
        !add_array(s, n, counted_array(s, shape->max + 1, REPEAT_FOREVER))) {
        return NULL;
    }
    return break_all_items(s, n, shape) ? n : NULL;
}

// The complement of a language of spellings among the canonical ones.
static Term not_scalar(TermPool *pool, Term t, Term universe, Term canonical)
{
    return t == TERM_NONE  ? universe
           : t == universe ? TERM_NONE
                           : term_and2(pool, canonical, term_not(pool, t));
}

Norm *norm_not(Schema *s, const Norm *n, const JsonValue *at)
{
    TermPool *pool = schema_pool(s);
    Norm *out = n ? norm_universe(s) : NULL;
    if (!out) {
        return NULL;
    }
    const Term text = schema_basics(s)->text;
    out->null = !n->null;
    out->bools = ~n->bools & (BOOL_FALSE | BOOL_TRUE);
    out->number = not_scalar(pool, n->number, schema_basics(s)->number, schema_basics(s)->decimal);
    out->string = not_scalar(pool, n->string, text, text);
    // A value in the complement breaks every shape.
    for (size_t i = 0; out && i < n->n_objects + n->n_arrays; i++) {
        const Norm *broken = i < n->n_objects ? object_not(s, n->objects[i], at)
                                              : array_not(s, n->arrays[i - n->n_objects], at);
        Norm *all = broken ? norm_universe(s) : NULL;
        if (!all) {
            return NULL;
        }
        if (i < n->n_objects) {
            all->objects = broken->objects;
            all->n_objects = broken->n_objects;
        } else {
            all->arrays = broken->arrays;
            all->n_arrays = broken->n_arrays;
        }
        out = norm_and(s, out, all);
    }
    return out;
}
