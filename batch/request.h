// request.h - one line of a batch: what it asks for, and the line of JSON that answers it.
//
// A line is a request of OpenAI's batch format (chat completions and completions), a plain object,
// or itself a prompt. docs/batch.md lists the fields.
#ifndef REQUEST_H
#define REQUEST_H

#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"
#include "generate.h"
#include "text/chat.h"

// What all requests of a batch have in common.
typedef struct {
    const Tokenizer *tokenizer;
    const ChatTemplate *chat;  // NULL: the model has none
    const char *model;         // its name in results, where a request names none
    size_t context;            // positions of a sequence
    bool lines;                // a line is itself a prompt
    bool through_chat;         // prompts are put through the chat template, as a user's message
    bool special;              // names of special tokens in prompts are taken for them
    bool truncate;             // a prompt that does not fit is cut to its end
    const char *system;        // of chats that have no system message; NULL: the template's own
    GenerateOptions generate;  // what a request does not set
    uint64_t seed;             // from which requests' seeds are derived
    uint64_t fingerprint;      // of all that decides the texts: part of the results' ids
} RequestDefaults;

// The fingerprint of a batch: of the model's (checkpoint_fingerprint), of whether keys and values
// are f16, and of all else in *d.
uint64_t request_fingerprint(const RequestDefaults *d, uint64_t model, bool f16);

typedef enum { RESULT_PLAIN, RESULT_COMPLETION, RESULT_CHAT } ResultForm;

typedef struct {
    uint64_t number;  // of its line, from --first-line on
    ResultForm form;
    uint64_t hash;  // of the line and the fingerprint
    uint64_t seed;
    bool echo;
    GenerateOptions options;    // its stop texts are in stop_texts
    Buffer stop_texts, model;   // owned
    Buffer head;                // owned: the beginning of its result, whatever that will be
    const JsonValue *prompt;    // a string, or NULL; in the Json that it was read from, as
    const JsonValue *messages;  // an array of them, or NULL
    const char *line;           // the line itself, where that is the prompt
    size_t line_size;
} Request;

// Reads a line. The request keeps pointers into the line and the Json, until it is encoded. A
// result's head is made even of a line that cannot be used. Errors: ERROR_INPUT naming the field
// and what is wrong with it; ERROR_RUN without memory.
bool request_read(Request *r, const RequestDefaults *d, Json *json, const char *line, size_t size,
                  uint64_t number, Error *err);
void request_free(Request *r);

// For a line that is longer than `limit` bytes and was not kept: fills the head and the error.
bool request_too_long(Request *r, const RequestDefaults *d, uint64_t number, size_t limit,
                      Error *err);

// Appends the tokens of the prompt to *out.
bool request_encode(const Request *r, const RequestDefaults *d, Tokens *out, Error *err);

// Appends the result's line, of a sequence that has finished, or of an error.
bool request_result(const Request *r, const Sequence *s, Buffer *out, Error *err);
bool request_failure(const Request *r, const Error *failure, Buffer *out, Error *err);

// Is a line that begins with the request's head, and goes on with these bytes, an error?
bool request_failed(const Request *r, const char *rest, size_t size);

#endif
