// chat.h - a model's chat template: messages -> the text that the model was trained to answer.
//
// A template is the five texts that its Jinja original writes around messages (scripts/convert.py
// derives them and checks that they say the same):
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
} Message;

typedef struct {
    bool trim;          // white space around messages is removed
    bool has_system;    // there may be a system message
    bool answer_space;  // a space is put before answers that are given: the model's own begin so
    TextSpan start_user, start_system, system_user, user_assistant, assistant_user;
} ChatTemplate;

// Reads the chat section of a native checkpoint, whose memory must outlive the template; `name` is
// the file's. Errors: ERROR_INPUT naming the text that does not fit.
bool chat_open(ChatTemplate *t, const char *name, const uint8_t *data, size_t size, Error *err);

// The spans of a conversation up to where the next answer begins, in *spans: *n_spans of them, which
// the caller frees. The messages are a system message or none, then users and assistants in turn,
// ending with a user; `started` says that they follow an answer which has been encoded already.
// Names of special tokens in messages count as text unless `special` is set. Errors: ERROR_INPUT
// where the messages are in another order; ERROR_RUN without memory.
bool chat_render(const ChatTemplate *t, const Message *messages, size_t n, bool started,
                 bool special, TextSpan **spans, size_t *n_spans, Error *err);

#endif
