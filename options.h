// options.h - the table of options: letters, ranges, defaults and help, and which fields of a
// batch request set them too.
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/date.h"
#include "base/error.h"
#include "base/json.h"
#include "engine.h"
#include "generate.h"

// What the program does in a run. By default it generates.
typedef enum {
    MODE_GENERATE,  // also --chat
    MODE_BATCH,
    MODE_TOKENIZE,
    MODE_SCORE,
    MODE_BENCH,
    MODE_INFO,
    MODE_CONVERT,
    MODE_VERIFY,
    MODE_HELP,
    MODE_VERSION,
} Mode;

// At least as many as the table has rows.
#define MAX_OPTIONS 80

// The most texts and files that a prompt is joined from. Far more than anyone types; a script that
// has more can join them with cat.
#define MAX_PROMPT_PARTS 256

typedef struct {
    const char *text;  // itself, or the path of a file; "-": standard input
    bool is_file;
} PromptPart;

// A prompt as the command line gives it: the texts (-i) and files (-f) in order.
typedef struct {
    PromptPart parts[MAX_PROMPT_PARTS];  // at most one of them is standard input
    size_t n;                            // 0: neither option was given
} PromptParts;

// A command line. All texts are the caller's (argv, the environment).
typedef struct {
    Mode mode;
    bool chat;  // prompts go through the chat template
    EngineOptions engine;
    size_t chunk;              // prompt tokens to run together; at least 1
    GenerateOptions generate;  // of a batch: for requests whose text is not a chat answer
    uint64_t seed;             // 0 unless given
    // The prompt.
    PromptParts prompt;    // joined by blank lines
    const char *system;    // NULL: the template's own system message
    bool special;          // turn names of special tokens in the prompt into those tokens
    bool truncate_prompt;  // keep the end of a prompt that does not fit; in a chat, of its files
    bool no_echo;          // print the continuation without the prompt
    // A batch.
    const char *batch;  // file of requests; "-": standard input
    size_t parallel;    // requests to run together
    bool lines;         // each line is a prompt
    bool resume;        // keep the results that the output has
    bool retry;         // but rerun the requests whose result is an error
    size_t first_line;  // number of the first line
    // Output.
    const char *output;        // also of --convert; NULL: standard output, also for "-"
    Sampling set;              // values that a converted checkpoint shall recommend
    WeightType weight_type;    // --convert quantises to it; KEEP_TYPE: no
    WeightType head_type;      // the same for embedding and lm_head
    const char *calibrate;     // text that shows how important weights are; NULL: none
    const char *prompt_cache;  // file that keeps a prompt's keys and values; NULL: none
    bool json, stats, quiet, digest;
    bool tensors;             // --info lists the tensors
    bool given[MAX_OPTIONS];  // which rows of the table the command line has; see option_given
} Options;

// Sets the defaults, reads a command line over them, and checks that its options go together. With
// --help or --version, which set the mode, combinations are not checked. Error: ERROR_USAGE naming
// the option.
bool options_parse(Options *o, int argc, char **argv, Error *err);

// Sets the values of *g that the command line does not give to the defaults for chat answers: an
// answer may fill the context.
void options_default_chat(const Options *o, GenerateOptions *g);

// Turns the run into a chat, as --chat does.
void options_choose_chat(Options *o);

// Checks the token ids of the command line, once the vocabulary is known. Error: ERROR_USAGE naming
// the option and the id.
bool options_check_tokens(const Options *o, size_t vocab_size, Error *err);

// Was the option of this name (without dashes) given?
bool option_given(const Options *o, const char *name);

// Takes the values that a model's authors recommend (formats/config.h) for the sampling options
// that the command line leaves out; `path` is the checkpoint, for messages. Error: ERROR_INPUT
// naming a value that is unknown or out of range.
bool options_recommend(Options *o, const char *path, const Sampling *recommended, Error *err);

// Sets the values of --set among those that a model recommends. Error: ERROR_INPUT if it recommends
// too many others.
bool options_override(const Options *o, Sampling *recommended, Error *err);

// A sampling option and its value.
typedef struct {
    const char *name;  // of the option: "top-p"
    double value;
    bool is_default;  // the program's: neither the command line nor the model sets it
} SamplingValue;

// Lists the sampling options and the values in effect, after options_recommend with the same
// values, in the order of --help. Returns how many there are, at most MAX_SAMPLING.
size_t options_sampling(const Options *o, const Sampling *recommended,
                        SamplingValue values[MAX_SAMPLING]);

// Adds the text of --help.
void options_help(Buffer *out);

// A row of the table.
typedef struct Option Option;

// The option that a request field stands for, or NULL. There is one for each field that sets a
// value of GenerateOptions, except `seed`, `stop` and `echo`, which have rules of their own.
const Option *option_for_request(const char *field);

// A field as a request has it.
typedef struct {
    const char *name;   // that the request used
    size_t vocab_size;  // of the model: bounds token ids
} RequestField;

// Sets an option's value in a request's GenerateOptions, checking its range. top_k, which is off at
// 0, may also be switched off by -1, as OpenAI's clients do. Error: ERROR_INPUT naming the field,
// the value found and what was expected. A constraint or choices then point to the value and the field's name.
bool option_set_json(const Option *option, GenerateOptions *g, const JsonValue *value,
                     const RequestField *field, Error *err);

// Fills *err (ERROR_INPUT) with "FIELD is VALUE, expected EXPECTED" and returns false. All readers
// of request fields use it.
bool field_unexpected(Error *err, const char *field, const JsonValue *value, const char *expected);

#endif
