// slots.h - the requests that run: one slot for each sequence of the cache, and what all of them
// have to run in the next forward pass.
#ifndef SLOTS_H
#define SLOTS_H

#include "base/error.h"
#include "batch/request.h"
#include "engine.h"
#include "generate.h"

// A request that runs, or waits to be started.
typedef struct {
    Request request;
    Sequence sequence;      // the sequence of the cache with the slot's index
    size_t number;          // of its result
    size_t reserved_pages;  // pages of the cache when the sequence is as long as it may become
    size_t shared;          // positions of its prompt that were found in the cache
    Step *step;             // its part in the current pass; NULL: none
} Slot;

typedef struct {
    Engine *engine;  // the caller's: its cache has a sequence for each slot
    Slot *slots;     // (n_slots), owned
    size_t n_slots;
    size_t *order;  // (n_slots), owned: active slots, the one that waits, idle slots
    size_t n_active;
    bool waiting;           // slot order[n_active] has a request that waits for pages
    size_t reserved_pages;  // by all active slots
    Step *steps;            // (n_slots), owned: of the current pass
    size_t n_steps;
} Slots;

bool slots_create(Slots *s, Engine *e, Error *err);
void slots_free(Slots *s);

// The slot that is started next: it waits, or is idle and to be filled. NULL: all are active.
Slot *slots_next(const Slots *s);

// Makes the next slot wait to be started, with the request that it has. `prompt` are its tokens,
// which are taken over. Errors: those of sequence_start.
bool slots_fill(Slots *s, const Tokenizer *tokenizer, Tokens *prompt, Error *err);

// Starts the slot that waits, if the cache has pages for it beside those of the active ones.
bool slots_start(Slots *s);

// The active slot at a place of the order: 0 has the oldest request.
Slot *slots_active(const Slots *s, size_t place);

// Ends the active slot at a place: those after it move up by one, and its pages are free.
void slots_release(Slots *s, size_t place);

// Plans a pass over all active slots, of which there is one at least: fills the engine's rows and
// the steps, for decode. A slot that has no part in it has no step.
void slots_plan(Slots *s);

#endif
