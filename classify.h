// classify.h - which of several given texts an answer is: how probable each is, and the draw.
//
// The texts are called choices here, after --choice. (OpenAI's choices, the texts that answer one
// request, are those of batch/choice.h.) A choice is cut into tokens, and its probability is the
// product of theirs, each given the prompt and the tokens before it:
//
//     prompt --+-- " disk" -- " full"            two rows: prompt, " disk"
//              +-- " network"                    one row:  prompt
//              +-- " net" -- "split"             two rows: prompt, " net"
//
// The row of the prompt's last token is run by whoever runs the prompt. The others are run here, many
// choices in one pass, in sequences of the cache that share the prompt's pages.
#ifndef CLASSIFY_H
#define CLASSIFY_H

#include <signal.h>

#include "base/error.h"
#include "engine.h"
#include "tokenizer.h"

// The most choices. Each takes a row or two, so more would take longer than most answers.
#define MAX_CHOICE_TEXTS 1024

typedef struct {
    const char *texts[MAX_CHOICE_TEXTS];  // NUL-terminated, not empty, all different; the caller's
    size_t n;                             // 0: the answer may be any text
} ChoiceTexts;

// The first text that is the same as one before it; texts->n if all differ.
size_t choice_texts_duplicate(const ChoiceTexts *texts);

typedef struct {
    size_t index;       // of its text
    const int *tokens;  // (n_tokens), in Choices.tokens
    size_t n_tokens;
    size_t n_shared;  // so many of its first tokens are also those of the choice before it
    double first;     // log-probability of the first token
    double logprob;   // of all so far; in the end of all tokens and, if Choices.with_end, of an end
} Choice;

// The choices of one answer. Start from {0}.
typedef struct {
    const ChoiceTexts *texts;
    const Tokenizer *tokenizer;
    // (texts->n), owned: sorted by their tokens, so that common prefixes adjoin; once done, in the
    // order of the texts.
    Choice *list;
    Tokens tokens;     // owned
    size_t longest;    // tokens of the longest choice
    bool with_end;     // one text begins another, so the probability that the answer ends counts
    bool begun, done;  // the prompt's logits have been taken; all have
    // (texts->n rounded up to LANES), owned, in the order of the texts, once done: the logarithm of
    // each product beside the best one's; and each product's part of the sum of all.
    float *scores, *probabilities;
} Choices;

// Cuts the texts into tokens, as the continuation of a prompt that ends with the token `previous`.
// On failure nothing is left to free. Errors: ERROR_INPUT naming a text that the vocabulary cannot
// express, or if one text begins another and the model has no end token; ERROR_RUN if out of memory.
bool choices_open(Choices *c, const ChoiceTexts *texts, const Tokenizer *tokenizer, int previous,
                  Error *err);
void choices_free(Choices *c);

// Takes the logits (vocab_size) of the prompt's last token.
void choices_begin(Choices *c, const float *logits);

// Receives the logits of every row that counts. If the engine has no lanes of its own, each row
// comes once, in the order of the choices sorted by their tokens.
typedef struct {
    void (*see)(void *arg, const float *logits);  // NULL: nobody is told
    void *arg;
} LogitsHook;

// An answer whose choices are to be run.
typedef struct {
    Choices *choices;   // begun, not finished
    size_t sequence;    // of the cache: holds the prompt, and nothing else afterwards
    const int *prompt;  // (n_prompt) tokens
    size_t n_prompt;
    LogitsHook hook;
} Ballot;

// The rows of one pass of choices, and the sequences that run them beside those of the prompts: as
// many as fill the kernels' tiles a few times over.
#define CHOICE_ROWS  64
#define CHOICE_LANES 32

// Runs the choices of n answers and finishes them, in passes over all of them. Uses the engine's
// lanes as far as there are pages for them. After an interruption they are left unfinished. The
// results depend neither on n nor on the lanes. Errors: as forward.
bool choices_run(Engine *e, Ballot *ballots, size_t n, const volatile sig_atomic_t *interrupted,
                 Error *err);

#endif
