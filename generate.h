// generate.h - the life of a sequence: prompt -> tokens -> text.
//
// A Sequence knows its tokens; the cache knows how many of them have been run (sequence_n_past).
// What is missing are the rows that the sequence wants from the next forward pass:
//
//     tokens   t0 t1 t2 t3 t4 t5 t6 t7 |        | the prompt ends here
//     cache    [n_past = 4]^^^^^^^^^^^ sequence_fill_rows; the last one wants logits
//
// decode() is one such pass for any number of sequences, and the sampling after it. Everything that
// generates is a loop around it: sequence_run for one sequence, batch.c for many.
#ifndef GENERATE_H
#define GENERATE_H

#include <signal.h>

#include "base/buffer.h"
#include "base/error.h"
#include "classify.h"
#include "encode.h"
#include "engine.h"
#include "logprobs.h"
#include "lookup.h"
#include "sampler.h"
#include "text/chat.h"
#include "text/constraint_guide.h"
#include "tokenizer.h"

// Stop texts per sequence: four times what OpenAI's API allows, few enough to search for each of
// them after every token.
#define MAX_STOPS 16

typedef struct {
    const char *texts[MAX_STOPS];  // NUL-terminated, not empty; the caller's
    size_t n;
} StopTexts;

// Whether a thinking model thinks.
typedef struct {
    ThinkMode mode;
    size_t budget;  // after so many tokens of a thought its closing text is forced; 0: never
} ThinkOptions;

// Stop tokens per sequence: the end tokens of any model, and room for more.
#define MAX_STOP_TOKENS 64

typedef struct {
    int ids[MAX_STOP_TOKENS];  // tokens of the vocabulary
    size_t n;
} StopTokens;

// Biased tokens per sequence: three times what OpenAI's API allows.
#define MAX_TOKEN_BIASES 1024

typedef struct {
    TokenBias list[MAX_TOKEN_BIASES];  // of different tokens of the vocabulary
    size_t n;
} TokenBiases;

typedef struct {
    size_t max_tokens;       // new ones at most; 0: until the context is full
    size_t min_tokens;       // new ones at least: until then nothing but max_tokens ends the text
    StopTexts stops;         // generation stops before the first of these
    StopTokens stop_tokens;  // .. or of these
    bool ignore_eos;         // go on after an end token
    bool include_stop;       // what ends the text is part of it: a stop text, stop or end token
    bool show_special;       // the text has the names of special tokens
    size_t lookup;           // tokens that are proposed at most from what was said; 0: none
    bool logprobs;           // keep how probable the tokens were
    size_t top_logprobs;     // .. and so many of the best at each place, at most MAX_LOGPROBS
    ThinkOptions think;
    SamplerOptions sampler;
    TokenBiases biases;
    ChoiceTexts choices;        // the text is one of these
    ConstraintSpec constraint;  // what the answer has to be; whoever starts sequences compiles it
} GenerateOptions;

typedef enum { FINISH_NONE, FINISH_STOP, FINISH_LENGTH } FinishReason;

const char *finish_name(FinishReason finish);  // "stop", "length"; NULL for FINISH_NONE

// What a sequence is made of.
typedef struct {
    const Tokenizer *tokenizer;
    const GenerateOptions *options;
    const Cache *cache;
    size_t cache_sequence;  // index of its sequence in the cache
    uint64_t seed;
    bool echo;              // its text begins with the prompt's
    bool score_prompt;      // with options->logprobs: the list begins with the tokens of the prompt
    Guide *guide;           // what the text has to be; NULL: anything
    LogitsHook on_choices;  // is told the logits that decide between choices
} SequenceSetup;

// Text on its way out.
typedef struct {
    Buffer ready;     // whole UTF-8 characters, to be written; the caller clears it; owned
    Buffer all;       // all bytes since the prompt, also those that are not UTF-8; owned
    char partial[4];  // the start of a character
    size_t n_partial;
} TextStream;

typedef struct {
    const Tokenizer *tokenizer;
    const GenerateOptions *options;
    const Cache *cache;     // holds the keys and values of the first tokens, and sets the context
    size_t cache_sequence;  // index of its sequence in the cache
    Sampler sampler;        // owned
    Tokens enders;          // owned: the tokens that end the text, if it has a least length
    Tokens tokens;          // of the prompt, then the new ones; owned
    size_t n_prompt;
    size_t n_forced;  // of the tokens that the last pass added, those after the sampled one
    FinishReason finish;
    Match match;      // the answer so far, beside its guide; owned
    Choices choices;  // of options->choices, if there are any; owned
    LogitsHook on_choices;
    uint64_t *allowed;  // (guide_words), owned: the tokens of one draw; NULL: no guide
    // With a guide, for a model that thinks: the number of tokens of the text that closes a
    // thought, and of the text before an answer without a thought.
    size_t close_tokens, answer_tokens;
    Lookup lookup;      // what it learns of proposed tokens
    Logprobs logprobs;  // of the tokens from first_logprob on, if the options say so; owned
    size_t first_logprob;
    TextStream text;     // of the answer
    TextStream thought;  // before it
    Buffer held;         // bytes that may turn out to be the start of a stop text; owned
    ThinkingFilter filter;
    // Which of the new tokens are the thought's and the answer's, without the template's texts.
    size_t thought_begin, thought_end, answer_begin;
    size_t answer_text;  // of them the first with text of the answer; SIZE_MAX: none yet
} Sequence;

// Is the sequence in a thought, or did it end in one?
static inline bool sequence_is_thinking(const Sequence *s)
{
    return s->filter.phase == PHASE_THOUGHT;
}

// Starts a sequence with the prompt, whose tokens it takes over, whether it succeeds or not. Its
// sequence of the cache is empty, or holds tokens that the prompt begins with. With a guide, a token
// is only taken if the text can be completed after it in as many bytes as tokens are left, and the
// text ends where nothing can follow: so it always satisfies the constraint. A thought before it is
// free, and closed in time. Errors: ERROR_INPUT if the prompt is empty or leaves no room in the
// context, or the guide's shortest text has more bytes than there may be new tokens, or a choice
// more tokens, or a model that thinks shall choose; ERROR_RUN if out of memory.
bool sequence_start(Sequence *s, const SequenceSetup *setup, Prompt *prompt, Error *err);
void sequence_free(Sequence *s);

// Frees what a finished sequence needs no more; its text, tokens, log-probabilities and choices stay.
void sequence_retire(Sequence *s);

// Gives a finished or interrupted sequence another prompt, whose tokens it takes over, whether it
// succeeds or not. `cache` is the sequence's, but writable: of the old tokens it keeps those that
// the new prompt begins with. The prompt is not echoed; the random numbers go on where they were.
// Errors: as sequence_start. A prompt that is empty or too long leaves the sequence as it was; if
// the guide refuses, the sequence has the new prompt and no text.
bool sequence_restart(Sequence *s, Cache *cache, Prompt *prompt, Error *err);

// Tokens of the sequence that the cache holds.
size_t sequence_n_past(const Sequence *s);

// Are the tokens of the prompt scored? Then all of them must be run, each wants logits, and none may
// be taken from pages that the cache has.
bool sequence_scores_prompt(const Sequence *s);

// Do all rows that come next want logits? They do in a prompt that is scored and, if
// log-probabilities are requested, after every prompt, even for forced tokens.
bool sequence_scores_rows(const Sequence *s);

// Fills up to max rows with the tokens that have to be run next, and returns their number. The last
// row wants logits, and so do all rows that are scored.
size_t sequence_fill_rows(const Sequence *s, Row *rows, size_t max);

// The row of s->logprobs with which the answer begins: those before it are of a thought, of the
// template's texts around it, and of white space between them. Without an answer it is
// s->logprobs.n.
size_t sequence_answer_logprob(const Sequence *s);

// The bytes that the token at a place of the sequence has in its text, *size of them.
const char *sequence_token_text(const Sequence *s, size_t place, size_t *size);

// Adds rows of proposed tokens behind the row of the last token, at rows[1], at most `max`, and
// returns their number. All want logits. Until the pass has been taken the cache holds tokens that
// may not be the sequence's. `plan` is what the pass has so far.
size_t sequence_propose(Sequence *s, const PassCost *cost, PassPlan *plan, Row *rows, size_t max);

// Samples the next token from the logits of the sequence's last token, adds its text, and decides
// whether the sequence is finished. A thought that is too long gets the tokens of its closing text.
// With choices it only takes the logits: decode draws one when it has run them all. Error: ERROR_RUN
// if out of memory.
bool sequence_accept(Sequence *s, const float *logits, Error *err);

// If log-probabilities are requested, runs the last tokens of a finished sequence that were not
// drawn (forced ones, and those of a choice) to record theirs. Errors: as forward.
bool sequence_score_rest(Sequence *s, Engine *e, Error *err);

// One sequence's part in a forward pass. The caller sets the sequence and its rows, which
// sequence_fill_rows and sequence_propose have filled; decode sets the rest.
typedef struct {
    Sequence *sequence;
    Row *rows;
    size_t n_rows;       // at least 1
    size_t n_proposed;   // those of the last rows whose tokens are proposals
    size_t n_taken;      // rows that count: all but proposals that were wrong
    size_t n_sampled;    // tokens sampled, from the logits of
    const Row *sampled;  // .. these rows
    bool ok;             // its rows were run, and its next tokens sampled if they have logits
    Error err;           // where !ok
} Step;

// Runs the rows of n >= 1 steps in one forward pass, then samples a token for each step that has
// run all tokens of its sequence, and one more for each proposal that turns out to be right. Wrong
// ones are taken out of the cache. The rows of all steps lie one after the other, from e->rows on. Threads sample in
// parallel: each sequence has its own sampler, so their order does not matter. Where a pass of
// several steps fails for its input (ERROR_INPUT), each is run by itself, and only the one to blame
// has !ok. Sequences with choices that have run their prompts also run those, in further passes
// unless they are interrupted, and finish; nothing counts as sampled in them. Error (false):
// ERROR_RUN; with a single step, also ERROR_INPUT.
bool decode(Engine *e, Step *steps, size_t n, const volatile sig_atomic_t *interrupted, Error *err);

// What the caller of sequence_run wants to know while it runs.
typedef struct {
    const volatile sig_atomic_t *interrupted;  // nonzero: end before the next pass
    // Called after each pass, once for each token that was sampled in it: `logits` (vocab_size) are
    // those from which it was, in order; or once with NULL while the prompt is being read. By then
    // s->tokens has all of these tokens, but no end token, and s->n_forced others after the last
    // one; s->text and s->thought may hold text. False ends the
    // run.
    bool (*on_pass)(void *arg, Sequence *s, const float *logits, Error *err);
    void *arg;
} RunHooks;

// Runs a sequence until it finishes or is interrupted, in passes of as many rows as the scratch
// has. Either way its text is then complete: nothing is held back that might have become a stop
// text. Error: what decode or on_pass says; ERROR_RUN if out of memory.
bool sequence_run(Sequence *s, Engine *e, const RunHooks *hooks, Error *err);

#endif
