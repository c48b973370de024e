// messages.h - the messages of a chat request: checked, and made ready for the chat template.
#ifndef MESSAGES_H
#define MESSAGES_H

#include "base/buffer.h"
#include "base/error.h"
#include "base/json_builder.h"
#include "text/chat.h"

// Messages as a template takes them. Start from {0}.
typedef struct {
    JsonBuilder list;  // owned: an array of objects; its texts lie in the request and in:
    Buffer joined;     // owned: contents of several parts
    Json *parsed;      // (n_parsed), owned: arguments of tool calls
    size_t n_parsed;
    size_t last;  // index in the list of the text of the last message
} Messages;

typedef struct {
    const ChatTemplate *chat;
    const char *system;    // goes before messages that have none; NULL: nothing does
    bool keeps_arguments;  // those of tool calls stay the strings that OpenAI's API has; else they
                           // are the objects that most templates expect
} MessageRules;

// Reads a request's messages, a non-empty array. Errors: ERROR_INPUT naming the field, the value
// found and the value expected; ERROR_RUN if out of memory.
bool messages_read(Messages *m, const JsonValue *array, const MessageRules *rules, Error *err);

// Makes one user's message of a prompt.
bool messages_of_prompt(Messages *m, const char *text, size_t size, const MessageRules *rules,
                        Error *err);
void messages_free(Messages *m);

#endif
