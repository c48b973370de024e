// generate.h - one sequence's life: prompt -> tokens -> text.
//
// A Sequence does not run the model: it says which rows it wants run, and takes the logits. So one
// sequence at a terminal and sixteen of a batch are the same code around the same forward pass:
//
//     while (!s.finish) {
//         n = sequence_rows(&s, rows, max);
//         forward(model, cache, scratch, rows, n, err);
//         if (rows[n - 1].logits) sequence_accept(&s, rows[n - 1].logits, err);
//         write and clear s.text
//     }
#ifndef GENERATE_H
#define GENERATE_H

#include "base/buffer.h"
#include "base/error.h"
#include "model.h"
#include "sampler.h"
#include "text/chat.h"
#include "tokenizer.h"

typedef struct {
    size_t max_tokens;         // new ones at most; 0: until the context is full
    const char *const *stops;  // (n_stops): texts at which generation stops, themselves left out
    size_t n_stops;
    bool ignore_eos;  // go on after an end token
    SamplerOptions sampler;
} GenerateOptions;

typedef enum { FINISH_NONE, FINISH_STOP, FINISH_LENGTH } FinishReason;

typedef struct {
    const Tokenizer *tokenizer;
    const GenerateOptions *options;
    size_t slot;     // its sequence in the cache
    size_t context;  // tokens it can have in all
    Sampler sampler;
    Tokens tokens;  // of the prompt, then the new ones
    size_t n_prompt;
    size_t n_run;  // tokens that are in the cache
    FinishReason finish;
    Buffer text;      // whole UTF-8 characters, ready to be written; the caller empties it
    Buffer held;      // bytes that may yet turn out to be the beginning of a stop text
    char partial[4];  // the beginning of a character
    size_t n_partial;
} Sequence;

// Starts a sequence in a slot that is empty in the cache. Takes over the prompt's tokens. `echo`
// puts the prompt's text at the start of the text. Errors: ERROR_INPUT where the prompt is empty or
// leaves no room in the context.
bool sequence_start(Sequence *s, const Tokenizer *tokenizer, const GenerateOptions *options,
                    uint64_t seed, size_t slot, size_t context, Tokens *prompt, bool echo,
                    Error *err);
void sequence_free(Sequence *s);

// Goes on after an answer with further tokens of the prompt, which it takes over: their text is not
// echoed, and as many new tokens are allowed as at the start. Error: ERROR_INPUT without room.
bool sequence_continue(Sequence *s, Tokens *more, Error *err);

// Fills up to max rows with what has to be run next. The last one asks for logits once the whole
// prompt is run.
size_t sequence_rows(Sequence *s, Row *rows, size_t max);

// Samples the next token from the logits of the sequence's last token, adds its text, and sees
// whether to finish.
bool sequence_accept(Sequence *s, const float *logits, Error *err);

// Appends the tokens of a conversation to *out; see chat_render.
bool prompt_encode_chat(const Tokenizer *tokenizer, const ChatTemplate *chat,
                        const Message *messages, size_t n, bool started, bool special, Tokens *out,
                        Error *err);

// Shortens a prompt that does not fit to its end, keeping a BOS at its start: new tokens are left
// room for as many as are wanted, up to half of the context.
void prompt_truncate(Tokens *prompt, int bos, size_t context, size_t max_tokens);

const char *finish_name(FinishReason finish);  // "stop", "length"; NULL while unfinished

#endif
