// slots.h - the requests that run: one slot for each sequence of the cache, and the plan of the
// next forward pass over them.
#ifndef SLOTS_H
#define SLOTS_H

#include "base/error.h"
#include "batch/request.h"
#include "engine.h"
#include "generate.h"

// A request whose choices run, have finished or wait to be started; each runs in a slot of its own.
typedef struct {
    bool active;  // false: free for the next request
    Request request;
    size_t number;                  // of its result (results_promise)
    Prompt prompt;                  // owned: copied for each choice
    Guide *guide;                   // owned: what its texts have to be; NULL: anything
    size_t n_started;               // choices
    size_t n_finished;              // .. of them those that are in `choices` or have failed
    size_t first_failed;            // of the choices; what it failed of is in request.failure
    size_t shared;                  // positions of its prompt that were found in the cache, not run
    Sequence choices[MAX_CHOICES];  // owned: the finished ones
} Job;

// A choice that runs or waits to be started, or an idle slot.
typedef struct {
    Job *job;
    size_t choice;          // index of the choice
    Sequence sequence;      // uses the cache's sequence with the slot's index
    size_t reserved_pages;  // pages of the sequence at its longest possible length
    Step *step;             // its part of the current pass; NULL: none
} Slot;

typedef struct {
    Engine *engine;  // the caller's; its cache has a sequence for each slot
    Slot *slots;     // (n_slots), owned
    size_t n_slots;
    Job *jobs;      // (n_slots + 1), owned: one for each active slot, and one that is starting
    Job *starting;  // the one whose choices are being started; NULL: none
    size_t *order;  // (n_slots), owned: active slots by age, the one that waits, idle slots
    size_t n_active;
    bool waiting;           // order[n_active] has a choice that waits to be started
    size_t reserved_pages;  // of all active slots; at most the cache's max_pages
    Step *steps;            // (n_slots), owned: the current pass
    size_t n_steps;
} Slots;

// Makes an idle slot for each sequence of the engine's cache. Error: ERROR_RUN if out of memory;
// then nothing is left to free.
bool slots_create(Slots *s, Engine *e, Error *err);
void slots_free(Slots *s);

// The slot to start next: it waits, or is idle and must be filled first. NULL if all are active.
Slot *slots_next(const Slots *s);

// A job for the next request, whose memory it reuses. It is the one that is starting until all of
// its choices are, or slots_drop gives it up.
Job *slots_take_job(Slots *s);
void slots_drop(Slots *s);

// Makes a sequence for the next choice of the job that is starting, in the next slot; the slot then
// waits to be started. Errors: as sequence_start; the slot stays idle.
bool slots_fill(Slots *s, const Tokenizer *tokenizer, Error *err);

// Starts the slot that waits. False if the cache does not have enough pages beyond those that the
// active slots have reserved.
bool slots_start(Slots *s);

// The active slot at a place of the order; place 0 has the oldest request.
Slot *slots_active(const Slots *s, size_t place);

// Makes the active slot at a place idle: its choice has finished, or failed with `failure`. Those
// after it move up by one, and its pages are released. Returns the job if that was the last of its
// choices, else NULL. A job is free for another request after slots_free_job.
Job *slots_release(Slots *s, size_t place, const Error *failure);
void slots_free_job(Job *job);

// Plans a pass over the active slots, of which there must be at least one: fills the engine's rows
// and the steps, for decode. A slot that must wait has no step, but the oldest always has one.
void slots_plan(Slots *s);

#endif
