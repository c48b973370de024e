// engine.h - a model that is ready to run: its files, weights, cache and buffers.
//
// Everything that depends on both the checkpoint and the machine is decided here, once: how many
// positions a sequence has, how many threads run, the type of cached keys and values, and what
// follows if a file had to be repacked.
#ifndef ENGINE_H
#define ENGINE_H

#include "base/buffer.h"
#include "base/date.h"
#include "base/error.h"
#include "base/json.h"
#include "formats/checkpoint.h"
#include "lookup.h"
#include "model.h"
#include "text/chat.h"
#include "tokenizer.h"

// The type of cached keys and values. KV_AUTO is f16, but f32 for llama2.c's files, so that they
// give the same text as llama2.c.
typedef enum { KV_AUTO, KV_F32, KV_F16 } KvType;

// The most --template-var: templates know a handful of variables.
#define MAX_TEMPLATE_VARIABLES 16

// Variables of the chat template as the command line gives them, NAME=JSON, all well-formed.
typedef struct {
    const char *texts[MAX_TEMPLATE_VARIABLES];
    size_t n;
} TemplateVariables;

// What a user may choose. Zero or NULL leaves the choice to the engine.
typedef struct {
    const char *model;      // path of the checkpoint
    const char *tokenizer;  // path of a llama2.c checkpoint's tokenizer
    const char *simd;       // name of the kernel set
    KvType kv;
    size_t context;  // positions per sequence
    size_t threads;
    Progress progress;  // told of the repacking of a GGUF file
    Date date;          // that a chat template sees; month 0: today
    TemplateVariables variables;
} EngineOptions;

// Reads a text NAME=JSON; the name's length is *n. Error: ERROR_INPUT saying what was expected;
// ERROR_RUN if out of memory.
bool template_variable_read(const char *text, size_t *n, Json *json, Error *err);

// What a mode needs besides the checkpoint itself.
enum {
    ENGINE_TOKENIZER = 1,
    ENGINE_CHAT = 2,        // the chat template, if the checkpoint has one; needs ENGINE_TOKENIZER
    ENGINE_CONTEXT = 4,     // the length of the context, if the checkpoint has weights
    ENGINE_MODEL = 8,       // the weights and the threads that run them; includes ENGINE_CONTEXT
    ENGINE_ROW_MAJOR = 16,  // nothing more: a file that is only there to be converted is no error
};

typedef struct {
    const EngineOptions *options;  // the caller's
    Checkpoint checkpoint;
    Tokenizer *tokenizer;        // owned; NULL unless opened
    ChatTemplate chat;           // its source is in the checkpoint
    bool has_chat;               // there is a template, and it was opened
    ChatSettings chat_settings;  // its variables are:
    JinjaVariable variables[MAX_TEMPLATE_VARIABLES];
    Json variable_values[MAX_TEMPLATE_VARIABLES];  // owned
    Buffer variable_names;                         // owned: each with its NUL
    Error chat_error;  // why that of a file of another format could not be; else ERROR_NONE
    Model model;       // its weights are in the checkpoint
    size_t context;  // positions per sequence that a cache will have (afterwards, the cache knows)
    bool f16;        // type of cached keys and values: f16 or f32
    size_t threads;  // that run the model, at most
    bool threads_adapt;  // fewer may, if that is faster at the moment
    size_t n_lanes;      // of the cache's sequences the last, in which choices run (classify.h)
    Cache cache;         // engine_open_cache
    Scratch scratch;     // engine_open_cache
    Row *rows;           // (scratch.max_rows), owned: the rows of one forward pass
    PassCost pass_cost;  // how long passes of few rows take: measured by decode
} Engine;

// Opens the checkpoint and the parts (ENGINE_..) that a mode needs. `options` must outlive the
// engine. On failure the engine is closed. Errors: ERROR_USAGE if an option does not suit the
// checkpoint or the machine; ERROR_INPUT if a file cannot be used; ERROR_RUN if out of memory.
bool engine_open(Engine *e, const EngineOptions *options, unsigned parts, Error *err);
// Opens further parts of an open engine.
bool engine_open_parts(Engine *e, unsigned parts, Error *err);
void engine_close(Engine *e);

// Makes the cache for n_sequences, and for e->n_lanes more, which the caller sets before; and the
// buffers for passes of max_rows rows, of which max_logits want logits. Needs ENGINE_MODEL. Keys and values take at most half of the machine's memory, or
// what one full sequence takes if that is more.
// Error: ERROR_RUN if out of memory; the engine stays open. Closing twice does no harm.
bool engine_open_cache(Engine *e, size_t n_sequences, size_t max_rows, size_t max_logits,
                       Error *err);
void engine_close_cache(Engine *e);

// Bytes of the keys and values of one sequence that fills the context. Error: ERROR_RUN if that
// overflows.
bool engine_sequence_bytes(const Engine *e, size_t *bytes, Error *err);

#endif
