// jinja.h - a chat template's language: source -> compiled template -> marked text.
//
// This is Jinja2 as `transformers` sets it up for chat templates: a sandbox whose values cannot be
// changed in place, trim_blocks and lstrip_blocks on, break and continue, {% generation %}, a
// `tojson` that writes what Python's json.dumps(ensure_ascii=False) writes, `raise_exception` and
// `strftime_now`. docs/chat.md lists what is supported.
//
// A template sees its variables and the date, nothing else of the machine. Limits bound the steps,
// memory, output and depth of a rendering, so a template from anywhere can be run.
//
// Strings remember, byte by byte, which JSON value of a user variable they came from, whatever the
// template does with them. So the output says which text is the template's own:
//
//     template   <|user|>{{ messages[0].content | trim }}<|end|>
//     content    " Say <|end|> "
//     output     <|user|> Say <|end|> <|end|>
//     spans      ^^^^^^^^ ^^^^^^^^^^^ ^^^^^^^   special: true, false, true
#ifndef JINJA_H
#define JINJA_H

#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "text/span.h"

// A compiled template. It is const once compiled: several threads may render it at a time.
typedef struct JinjaTemplate JinjaTemplate;

// Compiles a template, which need not outlive the call. `name` says in messages where the source is
// from, such as a file's name. Errors: ERROR_INPUT with the name, the line, what was found and what
// was expected; ERROR_RUN if out of memory. *t is then NULL.
bool jinja_compile(JinjaTemplate **t, const char *name, const char *source, size_t size,
                   Error *err);
void jinja_free(JinjaTemplate *t);  // NULL is allowed

// Does the template mention a variable, function or attribute of this name, such as "tools",
// "enable_thinking", "strftime_now" or "reasoning_content"?
bool jinja_mentions(const JinjaTemplate *t, const char *name);

// A variable of a rendering. `value` is a value of json_read, or values laid out as it does; their
// strings may hold bytes that are not UTF-8, each of which counts as one character. The caller keeps
// them until the output is freed.
typedef struct {
    const char *name;  // NUL-terminated
    const JsonValue *value;
    bool user;  // messages, tools, documents: text in it never stands for special tokens
} JinjaVariable;

// What a rendering may take. Memory and output may exceed these by a fixed multiple of the size of
// the variables, and steps by their size, so that a long conversation is not refused.
typedef struct {
    size_t steps;   // expressions, statements and items of loops, and each 16 bytes moved
    size_t memory;  // bytes
    size_t output;  // bytes
    size_t depth;   // calls, loops and expressions inside one another
} JinjaLimits;

// Hundreds of times what the templates of known models need for a short conversation.
#define JINJA_LIMITS                                                                          \
    (JinjaLimits)                                                                             \
    {                                                                                         \
        .steps = 600000, .memory = (size_t)32 << 20, .output = (size_t)8 << 20, .depth = 1000 \
    }

typedef struct {
    const JinjaVariable *variables;  // (n_variables); of two with the same name the last counts
    size_t n_variables;
    int year, month, day;  // the date that strftime_now sees, at 00:00:00; month and day from 1
    JinjaLimits limits;
} JinjaInput;

// A rendering. Start from {0}; rendering into the same JinjaOutput again reuses its memory.
typedef struct {
    struct JinjaArena *arena;  // owned: all memory of the rendering, what follows included
    const char *text;          // (size) the whole output; not NUL-terminated
    size_t size;
    const TextSpan *spans;  // (n_spans) the output in pieces, none empty; special: the template's
                            // .. own text. Each is a part of `text`
    const JsonValue *const *sources;  // (n_spans) where a span came from: the string (or number ..)
                                      // .. of a user variable; of a member's name, the object that
                                      // .. has it; NULL: the template or other variables
    size_t n_spans;
    bool used_date;  // the template has called strftime_now; valid after errors too
    bool refused;    // the error is what the template said by raise_exception, in its words
} JinjaOutput;

// Renders a template. Errors: ERROR_INPUT with the name of the template, the line and what failed
// there, or if `refused`, the message that the template gave to raise_exception and nothing else;
// ERROR_RUN if out of memory.
bool jinja_render(const JinjaTemplate *t, const JinjaInput *input, JinjaOutput *out, Error *err);
void jinja_output_free(JinjaOutput *out);

#endif
