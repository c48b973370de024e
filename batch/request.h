// request.h - one line of a batch: what it asks for, and the line of JSON that answers it.
//
// A line is a request of OpenAI's batch format (chat completions and completions), a plain object,
// or the prompt itself. docs/batch.md lists the fields.
#ifndef REQUEST_H
#define REQUEST_H

#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"
#include "batch/lines.h"
#include "generate.h"
#include "options.h"
#include "text/chat.h"

// Bytes of a line, at most: a prompt of about 4 million tokens.
#define REQUEST_MAX_BYTES ((size_t)16 << 20)

// What all requests of a batch have in common. Nothing in it is owned.
typedef struct {
    const Options *options;  // the command line: all that a request does not set
    const Tokenizer *tokenizer;
    const ChatTemplate *chat;  // NULL: the model has none
    const Cache *cache;        // in which the sequences will be: sets the context
    const char *model;         // its name in results, where a request gives none
    uint64_t fingerprint;      // request_fingerprint: part of the results' ids
} RequestDefaults;

// The fingerprint of everything outside a request that decides its text: the model
// (checkpoint_fingerprint), the type of keys and values, the tokenizer, the command line.
uint64_t request_fingerprint(const RequestDefaults *d, uint64_t model);

// The form of a result: that of a plain object, or of one of OpenAI's two APIs.
typedef enum { RESULT_PLAIN, RESULT_COMPLETION, RESULT_CHAT } ResultForm;

// A request; start from {0}. Reading another line into it reuses its memory.
typedef struct {
    uint64_t number;  // of its line
    uint64_t hash;    // of the line and the fingerprint
    ResultForm form;
    Buffer head;    // owned: how its result begins, whatever the rest will be
    Error failure;  // why it cannot be answered; ERROR_NONE if it can
    // What it asks for.
    const Options *command_line;  // what its batch was started with: the caller's
    GenerateOptions options;      // its stop texts lie in stop_texts
    uint64_t seed;
    bool echo;
    Buffer stop_texts;  // owned: one after the other, each with its NUL
    Buffer model;       // owned: the model's name in the result
    // The prompt or the messages, one of them: in the line and the Json that it was read from.
    const char *prompt;  // (prompt_size) bytes, or NULL
    size_t prompt_size;
    const JsonValue *messages;  // an array of at least one, or NULL
} Request;

// Reads a line. A line that cannot be used is no error: its head is made all the same, and
// r->failure (ERROR_INPUT) names the field, what it is and what was expected. The request points
// into the line and the Json until it is encoded. Error: ERROR_RUN if out of memory.
bool request_read(Request *r, const RequestDefaults *d, Json *json, const Line *line, Error *err);
void request_free(Request *r);

// Puts the tokens of the prompt into *out, which is empty before. With --truncate-prompt they fit
// the context: a prompt is shortened to its end, a chat by the start of its last message. Errors:
// ERROR_INPUT if the prompt cannot be encoded, or a message is none; ERROR_RUN if out of memory.
bool request_encode(const Request *r, const RequestDefaults *d, Tokens *out, Error *err);

// Adds the line that answers a request (buffer_check): with the text of a sequence that has
// finished, or with r->failure.
void request_result(const Request *r, const Sequence *s, Buffer *out);
void request_failure(const Request *r, Buffer *out);

// Reads a line of the output. If it is a result that is an error, *failed_line becomes the number
// of its request's line; else 0. Error: ERROR_RUN if out of memory.
bool result_read(Json *json, const Line *line, uint64_t *failed_line, Error *err);

#endif
