// chat.h - a model's chat template: messages -> the text that the model was trained to answer.
//
// A template is the five texts that its Jinja original writes around messages (scripts/convert.py
// derives them, and checks that they render as the original does):
//
//     start_user                          user  user_assistant  answer  assistant_user  user ...
//     start_system  system  system_user   user  user_assistant  answer  assistant_user  user ...
#ifndef CHAT_H
#define CHAT_H

#include <stdint.h>

#include "base/error.h"
#include "text/span.h"

typedef enum { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT } Role;

typedef struct {
    Role role;
    const char *text;  // need not be NUL-terminated
    size_t size;
    const int *ids;  // (n_ids) tokens that stand for the text, of an answer that the model gave in
    size_t n_ids;    // .. this run; NULL: the text is encoded
} Message;

// A conversation up to where the next answer begins: at most one system message, first, then users
// and assistants in turn, the last one a user's.
typedef struct {
    const Message *messages;  // (n), the caller's
    size_t n;
    bool special;  // names of special tokens in them become those tokens; else they are text
} Conversation;

typedef struct {
    bool trim;          // white space around messages is removed
    bool has_system;    // there is a place for a system message
    bool answer_space;  // a space precedes answers that are given; the model's own begin with one
    TextSpan start_user, start_system, system_user, user_assistant, assistant_user;
} ChatTemplate;

// Reads the chat section of a native checkpoint in place: its memory must outlive the template;
// `name` is the file's, for messages. Errors: ERROR_INPUT naming the text that does not fit.
bool chat_open(ChatTemplate *t, const char *name, const uint8_t *data, size_t size, Error *err);

// Renders messages up to where the next answer begins. *spans: *n_spans spans, which point into
// template and messages; the caller frees the array. A message that has ids is one span, its text
// as it is. Errors: ERROR_INPUT if the messages are in another order; ERROR_RUN when out of memory.
bool chat_render(const ChatTemplate *t, const Conversation *m, TextSpan **spans, size_t *n_spans,
                 Error *err);

#endif
