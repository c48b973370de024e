// encode.h - prompts to tokens: texts, and chats as a template renders them.
#ifndef ENCODE_H
#define ENCODE_H

#include "base/error.h"
#include "text/chat.h"
#include "tokenizer.h"

// An encoded prompt. Start from {0}.
typedef struct {
    Tokens tokens;               // owned
    const ThinkingTexts *think;  // of the chat template; NULL: the model does not think
    bool in_thought;             // generation begins inside a thought
    bool answers;                // .. or with the answer, after a thought that is closed
    bool used_date;              // the chat template used the date
} Prompt;

void prompt_free(Prompt *p);

// A text of a message that was generated in this run: a thought or an answer.
typedef struct {
    const JsonValue *value;  // the string in the messages
    const int *ids;          // (n) its tokens, perhaps with white space around it
    size_t n;
    int previous;   // the token before them
    bool has_ends;  // special tokens at either end of ids are part of the text
} SpokenText;

// A conversation, and the parts of it that were generated in this run.
typedef struct {
    Conversation conversation;
    const SpokenText *spoken;  // (n_spoken)
    size_t n_spoken;
} ChatPrompt;

// Appends the tokens of a conversation, as the template renders it, to *out. Where the template
// repeats a generated text, the generated tokens are reused, because encoding their text may yield
// other tokens. Errors: ERROR_INPUT if the template refuses the messages, or the
// tokenizer lacks a byte; ERROR_RUN if out of memory.
bool prompt_encode_chat(const Tokenizer *tokenizer, const ChatTemplate *chat, const ChatPrompt *p,
                        Prompt *out, Error *err);

// The length beyond which a prompt is shortened. A shortened prompt leaves room for max_tokens new
// tokens, but for no more than half of the context.
typedef struct {
    size_t context;     // positions; 0: the prompt is not shortened
    size_t max_tokens;  // as in GenerateOptions
} PromptLimit;

// Puts the tokens of a text into *out, which must be empty. Of a prompt that does not fit, only the
// end is kept, and any BOS at its start. Errors: as tokenizer_encode.
bool prompt_encode_text(const Tokenizer *tokenizer, const TextSpan *text, PromptLimit limit,
                        Prompt *out, Error *err);

// A prompt of which only a part may be shortened: the template, the system message and the
// instruction of a chat must stay whole.
typedef struct {
    size_t size;  // bytes of that part
    // Appends the tokens of the prompt to *out, without the first `skip` of these bytes and without
    // the rest of a character that is cut there.
    bool (*encode)(void *arg, size_t skip, Prompt *out, Error *err);
    void *arg;
} ShortenedPrompt;

// Encodes a prompt, keeping as much of the end of that part as fits; *out must be empty. The other
// parts come first. New tokens get max_tokens of the remaining positions, but no more than half of
// them. Errors: ERROR_INPUT if the other parts alone do not fit; those of p->encode.
bool prompt_shorten(const ShortenedPrompt *p, PromptLimit limit, Prompt *out, Error *err);

#endif
