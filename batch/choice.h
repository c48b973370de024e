// choice.h - a finished text as JSON, in the form of each kind of result, and with it how probable
// its tokens were.
#ifndef CHOICE_H
#define CHOICE_H

#include "base/json.h"
#include "generate.h"

// The form of a result: a plain object, or that of one of OpenAI's two APIs.
typedef enum { RESULT_PLAIN, RESULT_COMPLETION, RESULT_CHAT } ResultForm;

// Puts the object of OpenAI's choices[] for a sequence.
void put_choice(JsonWriter *w, ResultForm form, size_t index, const Sequence *s);

// Puts the member "reasoning_content", what the model thought before it answered, if it did.
void put_thought(JsonWriter *w, const Sequence *s);

// Puts the member "logprobs" of plain objects, an array with an object for each token:
//
//     {"id": 5, "token": "a", "bytes": [97], "logprob": -0.1, "top": [{"id": 5, ..}, ..]}
void put_plain_logprobs(JsonWriter *w, const Sequence *s);

// Puts the member "probabilities" of a text that was drawn from given choices (classify.h), an array
// with an object for each of them, in order:
//
//     {"text": "yes", "probability": 0.75, "logprob": -2.1}
//
// `logprob` is that of the text by itself, before all of them are made to sum to 1.
void put_probabilities(JsonWriter *w, const Sequence *s);

// Puts the member "bytes" of a token's object: [226, 150, 129].
void put_bytes(JsonWriter *w, const char *bytes, size_t size);

#endif
