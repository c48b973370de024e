// jinja_value.h - the values of a rendering: strings that know where their bytes came from, numbers,
// lists, dictionaries. Internal to text/jinja_*.c.
//
// The first error sticks, as in a Buffer: every function then returns quickly, with a value that
// stands for nothing, and whoever loops asks `failed`. So expressions are evaluated by plain calls.
#ifndef JINJA_VALUE_H
#define JINJA_VALUE_H

#include <string.h>

#include "base/buffer.h"
#include "text/jinja.h"

typedef enum {
    J_MISSING,    // a variable that was not set, an argument that was not given
    J_UNDEFINED,  // text: the name that has no value, `owner` the kind of what lacks it
    J_NONE,
    J_BOOL,  // integer: 0 or 1
    J_INT,
    J_FLOAT,
    J_STRING,
    J_LIST,
    J_TUPLE,
    J_RANGE,
    J_VIEW,      // keys, values or items of a dictionary
    J_ITERATOR,  // a list that can be read once
    J_DICT,
    J_NAMESPACE,
    J_MACRO,
    J_METHOD,  // one that is not called at once
    J_FUNCTION,
    J_LOOP,
} JKind;

// Consecutive bytes of a text, up to `end`, with the same origin.
typedef struct {
    uint32_t end;
    uint32_t mark;  // 0: the template; else 1 + the number of a JSON value (Jinja.sources)
} JRun;

// Bytes that strings point into. A text grows at its end only, so those strings stay as they are.
typedef struct {
    char *bytes;  // (capacity): `used` of them written
    uint32_t used, capacity;
    JRun *runs;  // (runs_capacity), ascending; the last one ends at `used`
    uint32_t n_runs, runs_capacity;
} JText;

struct JList;
struct JDict;
struct JMacro;
struct JLoop;
struct JBuiltin;

// 24 bytes, passed by value. What it points to belongs to the arena.
typedef struct {
    uint8_t kind;
    uint8_t owner;  // J_UNDEFINED: JKind of the object that lacks the name; J_MISSING: none does
    bool safe;      // J_STRING: what Python calls Markup, to which other text is added escaped;
                    // .. J_UNDEFINED: the sandbox forbids it
    uint32_t mark;  // where it came from, of all but strings, whose text knows
    union {
        int64_t integer;
        double real;
        JText *text;
        struct JList *list;
        struct JDict *dict;
        struct JMacro *macro;
        struct JLoop *loop;
        const struct JBuiltin *function;
    };
    uint32_t at, size;  // J_STRING, J_UNDEFINED: bytes at .. at + size of the text
} JValue;

typedef struct JList {
    JValue *items;  // (capacity)
    size_t n, capacity;
    size_t next;  // J_ITERATOR: items read
} JList;

// In order of insertion, as Python's; searched from the start, since those of chats are small.
typedef struct JDict {
    JValue *keys, *values;  // (capacity)
    size_t n, capacity;
} JDict;

typedef struct JinjaArena JinjaArena;

// A compilation or rendering in progress.
typedef struct {
    const char *name;  // of the template
    JinjaArena *arena;
    Error *err;  // the caller's; what failed first
    bool failed;
    uint32_t line;     // being run
    JinjaLimits left;  // of the limits; what is left of output is checked at the end
    JText *out;        // where text goes now: the output, or what a block collects
    JValue collected;  // what a block has collected, for its filter
    const struct JinjaTemplate *template;
    const JinjaInput *input;
    JValue *globals;  // (template->names.n) variables and functions, by the numbers of the names
    bool used_date, refused;
} Jinja;

// The arguments of a call.
typedef struct {
    JValue *values;  // (n)
    size_t n;
    JDict *named;  // NULL: none
    int how;       // of the builtin: which of those that share the function is called
} JArgs;

// A filter, test, method or function. `params` are the names of its parameters, by spaces: values
// then has one for each, J_MISSING where none was given; after "/" only by position. NULL: any.
typedef struct JBuiltin {
    const char *name;
    JValue (*call)(Jinja *j, JValue self, const JArgs *args);
    const char *params;
    unsigned least;  // parameters that must be given
    int how;         // for functions that several builtins share
    bool safe;       // takes strings that are safe: the result does not depend on it
} JBuiltin;

// Bytes that are as much work as a step.
#define BYTES_PER_STEP 16

#define JINJA_MAX_PARAMS 6

// With the kind and the name.
#define JINJA_NO_BUILTIN "the %s '%.*s' is not supported"

// --- errors, limits, memory

// Records an error with the template's name and line, unless there is one already. Returns what
// stands for no value.
JValue jinja_fail(Jinja *j, const char *format, ...) PRINTF_LIKE(2, 3);
JValue jinja_fail_undefined(Jinja *j, JValue undefined);
bool jinja_step(Jinja *j, size_t n);  // takes n steps; false if none are left, or after an error
bool jinja_enter(Jinja *j);           // one level deeper; jinja_leave must follow if true
void jinja_leave(Jinja *j);

JinjaArena *jinja_arena_new(void);
void jinja_arena_reset(JinjaArena *a);
void jinja_arena_free(JinjaArena *a);
// Zeroed memory; NULL, and an error, when the limit is reached or there is none.
void *jinja_take(Jinja *j, size_t count, size_t size);
// Moves n items to a new place, twice as large or more, and sets *capacity. NULL: as above.
void *jinja_grow(Jinja *j, const void *old, size_t n, size_t *capacity, size_t item);

// --- strings

static inline JValue jinja_none(void) { return (JValue){.kind = J_NONE}; }
static inline JValue jinja_bool(bool b) { return (JValue){.kind = J_BOOL, .integer = b}; }
static inline JValue jinja_int(int64_t i) { return (JValue){.kind = J_INT, .integer = i}; }
static inline JValue jinja_real(double d) { return (JValue){.kind = J_FLOAT, .real = d}; }
static inline const char *jinja_bytes(JValue v) { return v.text->bytes + v.at; }
static inline bool jinja_is(JValue v, const char *text)
{
    return v.kind == J_STRING && v.size == strlen(text) && !memcmp(jinja_bytes(v), text, v.size);
}
// Kinds whose value is v.list.
static inline bool jinja_has_list(JValue v) { return v.kind >= J_LIST && v.kind <= J_ITERATOR; }

// Bytes from `from` on, `size` of them.
static inline JValue jinja_slice(JValue s, size_t from, size_t size)
{
    s.at += (uint32_t)from;
    s.size = (uint32_t)size;
    return s;
}

JText *jinja_text(Jinja *j);
void jinja_add(Jinja *j, JText *to, const char *bytes, size_t size, uint32_t mark);
void jinja_add_text(Jinja *j, JText *to, const char *text, uint32_t mark);
void jinja_add_string(Jinja *j, JText *to, JValue string);  // with its marks
JValue jinja_string(JText *whole);
JValue jinja_literal(Jinja *j, const char *text);
JValue jinja_concat(Jinja *j, JValue a, JValue b);  // of strings
// The first place of `what` in bytes `from` .. size of a string; NULL: none.
const char *jinja_search(Jinja *j, JValue in, size_t from, JValue what);
uint32_t jinja_mark_at(JValue string, size_t at);  // of its byte; 0 at the end of an empty one

// The length in bytes of the character at `at`, which is before the end, and its code point: of a
// byte that is not UTF-8, U+DC00 + the byte.
size_t jinja_char(JValue string, size_t at, uint32_t *code_point);
size_t jinja_length(JValue string);            // in characters
size_t jinja_offset(JValue string, size_t n);  // of the n-th character; at most the size
void jinja_add_code(Jinja *j, JText *to, uint32_t code_point, uint32_t mark);

// --- lists and dictionaries

JList *jinja_list(Jinja *j, size_t capacity);
void jinja_push(Jinja *j, JList *l, JValue v);
JValue jinja_list_value(JKind kind, JList *l);
JValue jinja_pair(Jinja *j, JValue a, JValue b);  // a tuple of two
void jinja_reverse(JList *l);
JDict *jinja_dict(Jinja *j, size_t capacity);
JValue jinja_dict_value(JDict *d);
JValue *jinja_find(Jinja *j, const JDict *d, JValue key);      // NULL: not there
JValue *jinja_find_key(Jinja *j, const JDict *d, JValue key);  // an error if it cannot be a key
JValue *jinja_find_name(const JDict *d, const char *name, size_t size);
void jinja_put(Jinja *j, JDict *d, JValue key, JValue value);

// The items over which a loop goes: characters of a string, keys of a dictionary. An error for what
// cannot be iterated. An iterator is read to its end.
JList *jinja_items(Jinja *j, JValue v);

// --- what Python does with values

const char *jinja_kind(JValue v);  // Python's name of the type
bool jinja_truth(JValue v);
bool jinja_number(JValue v, double *real);  // of bool, int or float
bool jinja_equal(Jinja *j, JValue a, JValue b);
int jinja_compare(Jinja *j, JValue a, JValue b);  // < 0, 0, > 0; an error if they have no order
bool jinja_contains(Jinja *j, JValue container, JValue item);
JValue jinja_binary(Jinja *j, int op, JValue a, JValue b);       // op: + - * / % and D for //
JValue jinja_str(Jinja *j, JValue v);                            // str(v)
void jinja_write(Jinja *j, JText *to, JValue v, bool repr);      // str(v) or repr(v)
void jinja_sort(Jinja *j, JList *l, JList *keys, bool reverse);  // keys are sorted, too

// --- the other files

// Arguments of builtins. Given: not left out, and not None. jinja_flag: given and true. An argument
// of another type is an error.
static inline bool jinja_given(const JArgs *a, size_t i) { return a->values[i].kind > J_NONE; }
bool jinja_flag(const JArgs *a, size_t i);
int64_t jinja_whole(Jinja *j, const JArgs *a, size_t i, int64_t otherwise);
JValue jinja_text_arg(Jinja *j, const JArgs *a, size_t i);

// Sets out[0 .. params) to the arguments of a builtin by its params; an error if they do not fit.
bool jinja_bind(Jinja *j, const JBuiltin *b, const JArgs *args, JValue *out);
JValue jinja_invoke(Jinja *j, const JBuiltin *b, JValue self, const JArgs *args);
JValue jinja_attribute(Jinja *j, JValue v, JValue name);
JValue jinja_item(Jinja *j, JValue v, JValue key);

const JBuiltin *jinja_filter(const char *name, size_t size);
const JBuiltin *jinja_test(const char *name, size_t size);
const JBuiltin *jinja_function(const char *name, size_t size);
const JBuiltin *jinja_builtin(const JBuiltin *table, size_t n, const char *name, size_t size);
// NULL: the type has no such method. *forbidden: it has, but it changes the value. One that Python
// has and we have not is an error.
const JBuiltin *jinja_method(Jinja *j, JValue self, JValue name, bool *forbidden);
JValue jinja_recase(Jinja *j, JValue s, int how);  // 'u'pper, 'l'ower, 't'itle, 'c'apitalize
bool jinja_is_space(uint32_t code_point);
int jinja_flags(uint32_t code_point);  // CASE_ flags of text/case_tables.h
// Strips characters from its ends: those of a string if given, else white space.
JValue jinja_strip(Jinja *j, JValue s, JValue characters, bool left, bool right);
void jinja_run(Jinja *j, const struct JinjaTemplate *t);

#endif
