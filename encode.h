// encode.h - prompts to tokens: texts, and chats as a template renders them.
#ifndef ENCODE_H
#define ENCODE_H

#include "base/error.h"
#include "text/chat.h"
#include "tokenizer.h"

// What a sequence begins with. Start from {0}.
typedef struct {
    Tokens tokens;               // owned
    const ThinkingTexts *think;  // of a chat, the template's; NULL: there is no thinking
    bool in_thought;             // what follows begins within a thought
    bool used_date;              // the chat template has asked for the date
} Prompt;

void prompt_free(Prompt *p);

// A text of a message that was generated in this run: a thought or an answer.
typedef struct {
    const JsonValue *value;  // the string in the messages
    const int *ids;          // (n) its tokens; those at its ends may be white space around it
    size_t n;
    int previous;   // the token before them
    bool has_ends;  // special tokens at the ends of the ids belong to it
} SpokenText;

// A conversation, and what of it was generated in this run.
typedef struct {
    Conversation conversation;
    const SpokenText *spoken;  // (n_spoken)
    size_t n_spoken;
} ChatPrompt;

// Appends the tokens of a conversation, as the template renders it, to *out. Where the template
// repeats a text that was generated, its tokens are those that were generated, so what the model
// said stays as it said it. Errors: ERROR_INPUT if the template refuses the messages, or the
// tokenizer lacks a byte; ERROR_RUN if out of memory.
bool prompt_encode_chat(const Tokenizer *tokenizer, const ChatTemplate *chat, const ChatPrompt *p,
                        Prompt *out, Error *err);

// How long a prompt may be before it is shortened. A shortened one leaves as much room as
// max_tokens for new tokens, but no more than half of the context.
typedef struct {
    size_t context;     // positions; 0: the prompt is not shortened
    size_t max_tokens;  // as in GenerateOptions
} PromptLimit;

// Puts the tokens of a text into *out, which is empty before. A prompt that does not fit is
// shortened to its end, but keeps a BOS at its start. Errors: as tokenizer_encode.
bool prompt_encode_text(const Tokenizer *tokenizer, const TextSpan *text, PromptLimit limit,
                        Prompt *out, Error *err);

// A prompt of which only a part may be shortened: template, system message and instruction of a
// chat have to stay whole.
typedef struct {
    size_t size;  // bytes of that part
    // Appends the tokens of the prompt to *out, without the first `skip` of these bytes and without
    // the rest of a character that is cut there.
    bool (*encode)(void *arg, size_t skip, Prompt *out, Error *err);
    void *arg;
} ShortenedPrompt;

// Encodes a prompt with as much of the end of that part as fits; *out is empty before. Of what the
// other parts leave of the context, new tokens get as much room as max_tokens, but no more than
// half. Errors: ERROR_INPUT if the other parts alone do not fit; what p->encode says.
bool prompt_shorten(const ShortenedPrompt *p, PromptLimit limit, Prompt *out, Error *err);

#endif
