// answer.h - one sequence at the command line: its text as it is made, then JSON or statistics.
#ifndef ANSWER_H
#define ANSWER_H

#include "batch/prompt_cache.h"
#include "cli/output.h"
#include "engine.h"
#include "options.h"

typedef struct {
    Engine *engine;
    const Options *options;
    Output *out;
    uint64_t seed;
    PromptCache prompt_cache;
    Guide *guide;    // owned: what the answers have to be; NULL: anything
    TokenTrie trie;  // owned: of the guide
    Sequence sequence;
    bool started;    // the sequence has been
    bool used_date;  // the chat template has asked for the date
    bool thinking;   // a thought is on the screen that no answer follows yet
    // Of the answer that is being made:
    double start, first_token, end;  // seconds of now_seconds(); 0: not yet
    size_t cached;                   // tokens of the prompt that the cache held already
} Answer;

// Makes the engine's cache for one sequence. On failure nothing is left to close. Errors:
// ERROR_INPUT if there is no chat template for --chat, or the prompt cache cannot be used;
// ERROR_RUN if out of memory.
bool answer_open(Answer *a, Engine *e, const Options *o, Output *out, Error *err);
void answer_close(Answer *a);

// Generates an answer to the prompt, whose tokens it takes over, and prints it; `echo` prints the
// prompt first. The cache keeps what it holds of the start of the prompt from an earlier answer, and only
// the rest is run. After an interruption it prints what there is.
bool answer_prompt(Answer *a, Prompt *prompt, bool echo, Error *err);

// What the statistics of all modes have in common.
double tokens_per_second(size_t tokens, double seconds);
void stats_add_speed(StatsLine *line, int rank, double tokens_per_second);
void stats_add_threads(StatsLine *line, int rank, const Engine *e);

#endif
