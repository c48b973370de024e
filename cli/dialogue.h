// dialogue.h - what was said in a conversation, and what of it the model is shown.
#ifndef DIALOGUE_H
#define DIALOGUE_H

#include "base/buffer.h"
#include "base/error.h"
#include "engine.h"
#include "generate.h"
#include "options.h"

// A message of the user and the answer to it. All are owned.
typedef struct {
    Buffer message;
    Buffer thought, answer;                           // their bytes; a thought may be empty
    Tokens ids;                                       // of both, as the model gave them
    size_t thought_begin, thought_end, answer_begin;  // in ids
    int previous;                                     // the last token of the prompt
    bool answered;                                    // only the last turn may lack its answer
} Turn;

// Start from {0}.
typedef struct {
    Buffer system;    // the system message, owned
    bool has_system;  // else it is the template's own
    Turn *turns;      // (n), owned
    size_t n, capacity;
    size_t first;  // the oldest turn that the model is shown: those before it do not fit any more
} Dialogue;

void dialogue_free(Dialogue *d);

// Forgets all turns.
void dialogue_clear(Dialogue *d);

// Sets the system message; NULL: the template's own. Errors: ERROR_INPUT if the template has no
// place for one, ERROR_RUN if out of memory; the old one then stays.
bool dialogue_set_system(Dialogue *d, const Engine *e, const char *text, Error *err);

// Adds a turn that waits for its answer, or takes the last turn away. Error: ERROR_RUN.
bool dialogue_add(Dialogue *d, const char *message, size_t size, Error *err);
void dialogue_drop_last(Dialogue *d);

// Sets *out to the prompt that leads to the answer of the last turn. If it leaves no room for it,
// the oldest turns are dropped: *n_dropped of them. Errors: ERROR_INPUT if the last message alone
// does not fit, or cannot be encoded; ERROR_RUN. Nothing is dropped then.
bool dialogue_encode(Dialogue *d, const Engine *e, const Options *o, Prompt *out, size_t *n_dropped,
                     Error *err);

// Gives the last turn its answer, that of the sequence, in place of the one that it may have. Error:
// ERROR_RUN.
bool dialogue_answer(Dialogue *d, const Sequence *s, Error *err);

// Adds the dialogue, with the turns that were dropped, as a line of JSON in the form of a request:
// {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}
void dialogue_write(const Dialogue *d, Buffer *out);

#endif
