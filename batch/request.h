// request.h - one line of a batch: what it requests, and the line of JSON that answers it.
//
// A line is a request of OpenAI's batch format (chat completions and completions), a plain object,
// or the prompt itself. docs/batch.md lists the fields.
#ifndef REQUEST_H
#define REQUEST_H

#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"
#include "batch/choice.h"
#include "batch/lines.h"
#include "generate.h"
#include "options.h"
#include "text/chat.h"

// The most bytes in a line: a prompt of about 4 million tokens.
#define REQUEST_MAX_BYTES ((size_t)16 << 20)

// What all requests of a batch have in common. Nothing in it is owned.
typedef struct {
    const Options *options;  // the command line: defaults of all that a request can set
    const Tokenizer *tokenizer;
    const ChatTemplate *chat;  // NULL: the model has none
    const ChatSettings *chat_settings;
    const Cache *cache;    // the sequences' cache: sets the context
    const char *model;     // its name in results, unless a request gives one
    uint64_t fingerprint;  // request_fingerprint: part of the results' ids
} RequestDefaults;

// The fingerprint of everything outside a request that affects its text: the model
// (checkpoint_fingerprint), the context, the type of keys and values, the tokenizer, and the
// options of the command line.
uint64_t request_fingerprint(const RequestDefaults *d, uint64_t model);

// The most texts that answer a request.
#define MAX_CHOICES 16

// A request. Start from {0}. Reading another line into it reuses its memory.
typedef struct {
    uint64_t number;  // of its line
    uint64_t hash;    // of the line and the fingerprint
    ResultForm form;
    Buffer head;    // owned: the start of its result, known before its text
    Error failure;  // why it cannot be answered; ERROR_NONE if it can
    // What it requests.
    const Options *command_line;  // of the batch; the caller's
    size_t vocab_size;            // bounds the token ids in fields
    GenerateOptions options;      // its stop texts point into stop_texts
    uint64_t seed;                // of its first choice
    size_t n;                     // choices: texts that answer it, 1 to MAX_CHOICES
    size_t best_of;               // as the request has it; 0: not at all
    bool echo;
    Buffer stop_texts;    // owned: one after another, each with its NUL
    Buffer choice_texts;  // owned: the same, of options.choices if the request has them
    Buffer model;         // owned: the model's name in the result
    // Either a prompt or messages, in the line and the Json that the request was read from.
    const char *prompt;  // (prompt_size) bytes, or NULL
    size_t prompt_size;
    const JsonValue *messages;                       // an array of at least one message, or NULL
    const JsonValue *tools, *documents, *variables;  // of its chat template; NULL: none
    bool withholds_tools;                            // the template is not given the tools
    Date date;                                       // that the template saw; month 0: none
} Request;

// Reads a line. An unusable line is no error of this function: the head is made all the same, and
// r->failure (ERROR_INPUT) names the field, the value found and the value expected. The request
// points into the line and the Json until it is encoded. Error: ERROR_RUN if out of memory.
bool request_read(Request *r, const RequestDefaults *d, Json *json, const Line *line, Error *err);
void request_free(Request *r);

// Encodes the prompt into *out, which must be empty, and notes the date if the template asked for it. With --truncate-prompt they fit the
// context: a prompt keeps its end, and a chat loses the start of its last message. Errors:
// ERROR_INPUT if the prompt cannot be encoded, or a message is invalid; ERROR_RUN if out of memory.
bool request_encode(Request *r, const RequestDefaults *d, Prompt *out, Error *err);

// The seed of a choice: the request's for the first; for the others derived from it.
uint64_t request_seed(const Request *r, size_t choice);

// Adds the line that answers a request: with the texts of finished sequences (r->n), or with
// r->failure. The caller checks *out (buffer_check).
void request_result(const Request *r, const Sequence *choices, Buffer *out);
void request_failure(const Request *r, Buffer *out);

// What a result of an earlier run says of itself.
typedef struct {
    uint64_t failed_line;  // if it is an error: the line number of its request; else 0
    bool lacks_hash;       // a plain result without `hash`, as older versions wrote them
    Date date;             // that the chat template saw; month 0: it has none
} OldResult;

// Reads a line of the output; one that is no result of ours gives {0}. Error: ERROR_RUN if out of
// memory.
bool result_read(Json *json, const Line *line, OldResult *out, Error *err);

#endif
