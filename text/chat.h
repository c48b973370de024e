// chat.h - a model's chat template: messages -> the text that the model was trained to answer.
//
// A checkpoint carries the template's Jinja source, which is rendered anew for each answer, with
// all messages (text/jinja.h). What users wrote stays marked as theirs; the template's own text may
// stand for special tokens.
#ifndef CHAT_H
#define CHAT_H

#include "base/date.h"
#include "base/error.h"
#include "base/json_builder.h"
#include "text/jinja.h"
#include "text/span.h"
#include "text/thinking.h"

// The most bytes of a template: ten times the longest known.
#define MAX_TEMPLATE_BYTES ((size_t)1 << 20)

// Who wrote a message.
typedef enum { ROLE_SYSTEM, ROLE_DEVELOPER, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL, N_ROLES } Role;

// "system", ..: the only texts of messages that count as the template's own, as templates make
// names of special tokens of them. Known by their address.
extern const char *const role_names[N_ROLES];

typedef enum {
    THINK_DEFAULT,  // as the template has it
    THINK_ON,
    THINK_OFF,
} ThinkMode;

// Where a template comes from. Its source must outlive it; bos and eos are the names of those
// tokens, or have no text.
typedef struct {
    const char *name;  // of the file, for messages
    const char *source;
    size_t size;
    TextSpan bos, eos;
} ChatSource;

typedef struct {
    JinjaTemplate *jinja;  // owned
    ChatSource source;
    JsonValue bos, eos;   // the variables bos_token and eos_token
    bool has_system;      // it writes the text of a system message
    bool has_developer;   // it knows this role; in others such a message is the system's
    bool uses_date;       // it may ask for the date
    ThinkingTexts think;  // owned; its texts are empty if the model does not think
    Buffer written;       // owned: what it wrote itself in those renderings. Names of tokens are in
                          // .. it that the source has only in parts
} ChatTemplate;

// Compiles a template and finds out by a few renderings what it can do. Errors: ERROR_INPUT naming
// the line that cannot be read; ERROR_RUN if out of memory. On failure *t is closed.
bool chat_open(ChatTemplate *t, const ChatSource *source, Error *err);
void chat_close(ChatTemplate *t);

// What all conversations of a run have in common.
typedef struct {
    Date date;                       // that the template sees
    const JinjaVariable *variables;  // (n_variables): of the command line
    size_t n_variables;
} ChatSettings;

// What a template is given.
typedef struct {
    const JsonValue *messages;           // an array of objects
    const JsonValue *tools, *documents;  // arrays; NULL: none
    ChatSettings settings;
    const JsonValue *variables;  // further ones, which are users': an object; NULL: none
    ThinkMode think;
    bool special;   // names of special tokens in messages become those tokens; else they are text
    bool answered;  // the last message is the answer: leave out what leads to the next one
} Conversation;

// A rendered conversation. Start from {0}.
typedef struct {
    JinjaOutput output;         // owned
    TextSpan *spans;            // (n_spans), owned: parts of the output and of the template
    const JsonValue **sources;  // (n_spans), owned: the value that a span comes from, or NULL
    size_t n_spans;
    bool in_thought;  // what follows begins within a thought
    bool answers;     // what follows is the answer: the text ends with a closed thought
} ChatText;

// Renders messages up to where the next answer begins. Where the template has no switch for
// thinking, THINK_OFF ends the text with an empty thought. Errors: ERROR_INPUT with what the
// template refuses, in its words, or the line at which it fails; ERROR_RUN if out of memory.
bool chat_render(const ChatTemplate *t, const Conversation *c, ChatText *out, Error *err);
void chat_text_free(ChatText *text);

// Adds a message with a text, which may be any bytes, to an open array.
// Returns the index of its text.
size_t chat_add_message(JsonBuilder *b, Role role, const char *text, size_t size);

#endif
