// options.h - the one table of options: letters, ranges, defaults and help, and which fields of a
// request of a batch set the same things.
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"
#include "engine.h"
#include "generate.h"

// What the program does in a run. Without an option that names another mode it generates.
typedef enum {
    MODE_GENERATE,  // also --chat
    MODE_BATCH,
    MODE_TOKENIZE,
    MODE_SCORE,
    MODE_BENCH,
    MODE_INFO,
    MODE_VERIFY,
    MODE_HELP,
    MODE_VERSION,
} Mode;

// Alternatives to a token that --logprobs lists at most, as in OpenAI's API.
#define MAX_LOGPROBS 20

// At least as many as the table has rows.
#define MAX_OPTIONS 64

// Texts and files that a prompt is joined from, at most. Far more than anyone types; what a script
// might have more of can be joined by cat.
#define MAX_PROMPT_PARTS 256

typedef struct {
    const char *text;  // itself, or the path of a file; "-": standard input
    bool is_file;
} PromptPart;

// A prompt as the command line gives it: the texts (-i) and files (-f) in their order there.
typedef struct {
    PromptPart parts[MAX_PROMPT_PARTS];  // at most one of them is standard input
    size_t n;                            // 0: neither option was given
} PromptParts;

// A command line. All texts are the caller's (argv, the environment).
typedef struct {
    Mode mode;
    bool chat;  // prompts go through the chat template
    EngineOptions engine;
    size_t chunk;              // prompt tokens that are run together; at least 1
    GenerateOptions generate;  // of a batch: where a request's text is no answer of a chat
    uint64_t seed;             // 0 unless given
    // The prompt.
    PromptParts prompt;    // joined by blank lines
    const char *system;    // NULL: the template's own system message
    bool special;          // names of special tokens in the prompt become those tokens
    bool truncate_prompt;  // keep the end of a prompt that does not fit; of a chat, of its files
    bool no_echo;          // print the continuation without the prompt
    // A batch.
    const char *batch;  // file of requests; "-": standard input
    size_t parallel;    // requests that are run together
    bool lines;         // each line is itself a prompt
    bool resume;        // keep the results that the output has
    bool retry;         // but run requests again whose result is an error
    size_t first_line;  // number of the first line
    // Output.
    const char *output;        // NULL: standard output, also for "-"
    const char *prompt_cache;  // file that keeps a prompt's keys and values; NULL: none
    bool json, stats, quiet, digest;
    bool tensors;             // --info lists the tensors
    size_t logprobs;          // how many of the best tokens to list
    bool given[MAX_OPTIONS];  // which rows of the table the command line has; see option_given
} Options;

// Reads a command line over the defaults, and checks that its options go together. After --help or
// --version, which set the mode, nothing else need be right. Error: ERROR_USAGE naming the option.
bool options_parse(Options *o, int argc, char **argv, Error *err);

// Sets the values of *g that the command line does not give to the defaults for a chat's answers: an
// answer may fill the context.
void options_default_chat(const Options *o, GenerateOptions *g);

// Makes it a chat that the model answers, as --chat does.
void options_choose_chat(Options *o);

// Was the option of this name (without dashes) given?
bool option_given(const Options *o, const char *name);

// Takes what a model's makers recommend (formats/config.h) for each option of sampling that the
// command line leaves out; `path` is the checkpoint, for messages. Error: ERROR_INPUT naming a value
// that no option of sampling has, or that is out of its range.
bool options_recommend(Options *o, const char *path, const Sampling *recommended, Error *err);

// Adds the text of --help.
void options_help(Buffer *out);

// A row of the table.
typedef struct Option Option;

// The option that a field of a request stands for, or NULL. There is one for each field that sets a
// value of GenerateOptions; `seed`, `stop` and `echo` have rules of their own, and are not among
// them.
const Option *option_for_request(const char *field);

// Sets an option's value in a request's GenerateOptions, by the option's own range; `field` is the
// name that the request used. An optional filter that is off at 0 may also be switched off by -1,
// as OpenAI's clients do with top_k. Error: ERROR_INPUT naming the field, what it is and what was
// expected.
bool option_set_json(const Option *option, GenerateOptions *g, const JsonValue *value,
                     const char *field, Error *err);

// Fills *err (ERROR_INPUT) with "FIELD is VALUE, expected EXPECTED" and returns false: for all
// readers of fields of a request.
bool field_unexpected(Error *err, const char *field, const JsonValue *value, const char *expected);

#endif
