// options.c - the command line. See options.h.
//
// A row of the table says everything about an option: how it is spelled, what kind of value it
// takes, where in Options the value goes, its range, its default, its help, and which fields of a
// request set it too. The parser, --help (and from it the manual and the completions) and the
// reader of requests all work from these rows, so no range or default is written down twice.
//
//     run model.bin -n 20                  letter |
//     run model.bin --max-tokens=20        name   | row --> Options.generate.max_tokens
//     {"prompt": "..", "max_tokens": 20}   field  |         Request.options.max_tokens
#include "options.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/quantize.h"

typedef enum {
    FLAG,         // no value; sets a bool
    FLAG_OFF,     // of a request only: the same, but true clears it
    MODE,         // no value; chooses what the program does (Option.mode)
    COUNT,        // a whole number from min to max: a size_t
    SEED,         // any whole number of 64 bits: a uint64_t
    REAL,         // a number from min to max: a float
    TEXT,         // a const char *
    PATH,         // a file name, not empty: a const char *
    TEXTS,        // one more non-empty text: StopTexts
    CHOICE,       // one more non-empty text: ChoiceTexts; in a request an array of all
    TOKEN,        // one more token id: StopTokens; in a request an array of all
    BIAS,         // ID=BIAS, one more of them: TokenBiases; in a request an object of all
    PROMPT_TEXT,  // one more part of the prompt: PromptParts
    PROMPT_FILE,  // the same, read from a file
    KV,           // "f32" or "f16": a KvType
    DATE,         // YYYY-MM-DD: a Date
    VARIABLE,     // one more NAME=JSON: TemplateVariables
    THINK,        // "on", "off" or a number: ThinkOptions
    CHAT,         // "generate" or "chat": a bool
    TYPE,         // the name of a type that weights are quantised to: a WeightType
    SETTING,      // NAME=VALUE, the name and range of a sampling option: Sampling
    REGEX,        // a regular expression: ConstraintSpec
    SCHEMA,       // a JSON schema or its file, in a request the schema or its text: ConstraintSpec
    ANY_OBJECT,   // no value, in a request true or false: ConstraintSpec
} OptionKind;

#define MAX_FIELDS 2  // names that an option may have in requests

struct Option {
    char letter;        // 0: none
    const char *name;   // without the dashes; NULL: a field of requests only
    const char *value;  // what --help calls the value; NULL: it takes none
    OptionKind kind;
    size_t offset;                   // in Options
    Mode mode;                       // that the option selects; MODE_GENERATE: none
    double min, max, initial;        // of COUNT, REAL and the numbers of BIAS: range, default
    const char *help;                // {default} and {max} stand for `initial` and `max`
    const char *fields[MAX_FIELDS];  // of a request
    bool minus_one_is_off;           // in a request: -1 means 0
    bool off_in_chats;               // its default for chat answers is 0
};

#define AT(field) offsetof(Options, field)

// A billion tokens: more than any context, and exact in a double.
#define MANY 1e9

static const Option option_table[] = {
    {0, "chat", NULL, FLAG, AT(chat),
     .help = "answer with the model's chat template; without a prompt: converse"},
    {'m', "mode", "MODE", CHAT, AT(chat), .help = "generate or chat, as in llama2.c"},
    {'b', "batch", "FILE", PATH, AT(batch), .mode = MODE_BATCH,
     .help = "answer the requests in FILE, one per line; - is standard input"},
    {0, "tokenize", NULL, MODE, .mode = MODE_TOKENIZE,
     .help = "print the prompt's token ids; with --chat, those of the whole chat"},
    {0, "score", NULL, MODE, .mode = MODE_SCORE,
     .help = "print the prompt's log-likelihood and perplexity"},
    {0, "bench", NULL, MODE, .mode = MODE_BENCH,
     .help = "measure the model's speed beside this machine's limits"},
    {0, "info", NULL, MODE, .mode = MODE_INFO,
     .help = "print what the checkpoint contains and how much memory it needs"},
    {0, "tensors", NULL, FLAG, AT(tensors), .help = "with --info: list the tensors"},
    {0, "convert", "FILE", PATH, AT(output), .mode = MODE_CONVERT,
     .help = "write the model to FILE as a native checkpoint, which opens at once"},
    {0, "type", "TYPE", TYPE, AT(weight_type),
     .help = "with --convert: matrix type: f32, f16, bf16, q8, q4, q4m, q4t, q5, q5m"},
    {0, "head-type", "TYPE", TYPE, AT(head_type),
     .help = "with --convert: type of embedding and lm_head (with 4 or 5 bits: q8)"},
    {0, "calibrate", "FILE", PATH, AT(calibrate),
     .help = "with --type: a file of text that shows which weights matter"},
    {0, "set", "NAME=VALUE", SETTING, AT(set),
     .help = "with --convert: a sampling value that FILE recommends; repeatable"},
    {0, "verify", NULL, MODE, .mode = MODE_VERIFY,
     .help = "check all checksums and that the model opens; print MODEL: OK"},
    {'h', "help", NULL, MODE, .mode = MODE_HELP, .help = "print this text"},
    {0, "version", NULL, MODE, .mode = MODE_VERSION, .help = "print the version"},
    {'i', "prompt", "TEXT", PROMPT_TEXT, AT(prompt),
     .help = "the prompt, or part of it; default: standard input"},
    {'f', "prompt-file", "FILE", PROMPT_FILE, AT(prompt),
     .help = "the same from FILE; - is standard input; all parts are joined in order"},
    {0, "truncate-prompt", NULL, FLAG, AT(truncate_prompt),
     .help = "keep the end of a prompt that does not fit; in a chat, of its files"},
    {'n', "max-tokens", "N", COUNT, AT(generate.max_tokens), .max = MANY, .initial = 256,
     .help = "at most N new tokens ({default}; in a chat 0); 0: until the context is full",
     .fields = {"max_tokens", "max_completion_tokens"}, .off_in_chats = true},
    {'t', "temperature", "T", REAL, AT(generate.sampler.temperature), .max = 1000, .initial = 1,
     .help = "divide the logits by T ({default}); 0: take the most probable token",
     .fields = {"temperature"}},
    {'p', "top-p", "P", REAL, AT(generate.sampler.top_p), .max = 1, .initial = 0.9,
     .help = "sample from the best tokens that together exceed P ({default}); 0, 1: off",
     .fields = {"top_p"}},
    {'k', "top-k", "K", COUNT, AT(generate.sampler.top_k), .max = MANY,
     .help = "sample from the K best tokens; 0: off", .fields = {"top_k"},
     .minus_one_is_off = true},
    {0, "min-p", "P", REAL, AT(generate.sampler.min_p), .max = 1,
     .help = "drop tokens less than P times as probable as the best; 0: off", .fields = {"min_p"}},
    {0, "repeat-penalty", "R", REAL, AT(generate.sampler.repeat_penalty), .min = 0.01, .max = 100,
     .initial = 1, .help = "divide the logits of recent tokens by R ({default}: off)",
     .fields = {"repetition_penalty"}},
    {0, "repeat-last-n", "N", COUNT, AT(generate.sampler.repeat_last_n), .max = MANY, .initial = 64,
     .help = "how many tokens count as recent ({default})"},
    {0, "presence-penalty", "P", REAL, AT(generate.sampler.presence_penalty), .min = -2, .max = 2,
     .help = "subtract P from the logits of tokens among the new ones; 0: off",
     .fields = {"presence_penalty"}},
    {0, "frequency-penalty", "P", REAL, AT(generate.sampler.frequency_penalty), .min = -2, .max = 2,
     .help = "the same times the number of their occurrences; 0: off",
     .fields = {"frequency_penalty"}},
    {0, "logit-bias", "ID=BIAS", BIAS, AT(generate.biases), .min = -100, .max = 100,
     .help = "add BIAS to the logit of token ID; may be given for several tokens",
     .fields = {"logit_bias"}},
    {'s', "seed", "N", SEED, AT(seed),
     .help = "seed of the random numbers; default: from the system"},
    {0, "stop", "TEXT", TEXTS, AT(generate.stops), .max = MAX_STOPS,
     .help = "stop before TEXT; may be given up to {max} times"},
    {0, "stop-token-id", "ID", TOKEN, AT(generate.stop_tokens), .max = MAX_STOP_TOKENS,
     .help = "stop before token ID; may be given up to {max} times", .fields = {"stop_token_ids"}},
    {0, "min-tokens", "N", COUNT, AT(generate.min_tokens), .max = MANY,
     .help = "at least N new tokens: draw nothing that ends the text before; 0: off",
     .fields = {"min_tokens"}},
    {0, "ignore-eos", NULL, FLAG, AT(generate.ignore_eos), .help = "continue after an end token",
     .fields = {"ignore_eos"}},
    {0, "choice", "TEXT", CHOICE, AT(generate.choices), .max = MAX_CHOICE_TEXTS,
     .help = "the answer is one of these texts; --json adds their probabilities",
     .fields = {"guided_choice"}},
    {0, "regex", "RE", REGEX, AT(generate.constraint),
     .help = "the answer is a match of RE (RE2's syntax) from start to end",
     .fields = {"guided_regex"}},
    {0, "json-schema", "SCHEMA", SCHEMA, AT(generate.constraint),
     .help = "the answer is JSON valid against SCHEMA, an object of JSON or a file",
     .fields = {"guided_json"}},
    {0, "json-object", NULL, ANY_OBJECT, AT(generate.constraint),
     .help = "the answer is a JSON object", .fields = {"guided_json_object"}},
    {0, "special", NULL, FLAG, AT(special),
     .help = "turn names of special tokens in the prompt into those tokens"},
    {0, "no-echo", NULL, FLAG, AT(no_echo), .help = "print the continuation without the prompt"},
    {'y', "system", "TEXT", TEXT, AT(system),
     .help = "system message of a chat; default: the template's own"},
    {0, "think", "on|off|N", THINK, AT(generate.think), .min = 1, .max = MANY,
     .help = "let a model think, or not, or for at most N tokens"},
    {0, "date", "YYYY-MM-DD", DATE, AT(engine.date),
     .help = "the date that a chat template sees; default: today"},
    {0, "template-var", "NAME=JSON", VARIABLE, AT(engine.variables), .max = MAX_TEMPLATE_VARIABLES,
     .help = "set a variable of the chat template; may be given up to {max} times"},
    {'z', "tokenizer", "FILE", PATH, AT(engine.tokenizer),
     .help = "for a llama2.c checkpoint; default: tokenizer.bin beside it, or here"},
    {'c', "context", "N", COUNT, AT(engine.context), .min = 1, .max = MANY,
     .help = "context length in tokens; default: the model's"},
    {0, "kv", "TYPE", KV, AT(engine.kv), .help = "type of cached keys and values: f32 or f16"},
    {0, "chunk", "N", COUNT, AT(chunk), .min = 1, .max = 4096, .initial = 256,
     .help = "prompt tokens to run together ({default}); never changes the text"},
    {0, "lookup", "N", COUNT, AT(generate.lookup), .max = MAX_LOOKUP, .initial = 8,
     .help = "tokens proposed from earlier text and checked in one pass ({default}); 0: off"},
    {'j', "threads", "N", COUNT, AT(engine.threads), .min = 1, .max = 1024,
     .help = "default: OMP_NUM_THREADS, or the fastest within affinity and quota"},
    {0, "simd", "SET", TEXT, AT(engine.simd),
     .help = "kernels: auto, avx512, avxvnni, avx2, i8mm, dotprod, neon or scalar"},
    {0, "parallel", "N", COUNT, AT(parallel), .min = 1, .max = 1024, .initial = 64,
     .help = "batch requests to run together ({default}); never changes the text"},
    {0, "lines", NULL, FLAG, AT(lines), .help = "each line of the batch is a prompt"},
    {0, "resume", NULL, FLAG, AT(resume),
     .help = "keep the results in the output file and continue after them"},
    {0, "retry", NULL, FLAG, AT(retry),
     .help = "with --resume: rerun the requests whose result is an error"},
    {0, "first-line", "N", COUNT, AT(first_line), .min = 1, .max = 1e15, .initial = 1,
     .help = "number of the batch's first line ({default}), for a piece of a longer file"},
    {0, "prompt-cache", "FILE", PATH, AT(prompt_cache),
     .help = "keep the prompt's keys and values in FILE for later runs"},
    {'o', "output", "FILE", PATH, AT(output),
     .help = "write FILE whole or not at all, a batch by lines; - is standard output"},
    {0, "json", NULL, FLAG, AT(json), .help = "print one JSON object instead of text"},
    {0, "logprobs", "K", COUNT, AT(generate.top_logprobs), .max = MAX_LOGPROBS,
     .help = "with --json: log-probabilities of each token and the K best",
     .fields = {"top_logprobs"}},
    {0, "stats", NULL, FLAG, AT(stats),
     .help = "print a line of statistics on stderr, even if it is not a terminal"},
    {'q', "quiet", NULL, FLAG, AT(quiet), .help = "print only errors on stderr"},
    {0, "digest", NULL, FLAG, AT(digest),
     .help = "print a digest of the bits of all logits on stderr"},
    // Fields of requests only: the rows without a name are the last.
    {.kind = FLAG, .offset = AT(generate.include_stop), .fields = {"include_stop_str_in_output"}},
    {.kind = FLAG_OFF, .offset = AT(generate.show_special), .fields = {"skip_special_tokens"}},
};
#define N_OPTIONS (sizeof option_table / sizeof *option_table)
_Static_assert(N_OPTIONS <= MAX_OPTIONS, "Options.given needs an element for each row");

// --------------------------------------------------------------------------------------------
// Help

// Adds an option's help, replacing {default} and {max} by the row's values.
static void add_help(Buffer *out, const Option *o)
{
    const char *text = o->help;
    for (const char *brace; (brace = strchr(text, '{')); text = strchr(brace, '}') + 1) {
        buffer_add(out, text, (size_t)(brace - text));
        buffer_addf(out, o->kind == REAL ? "%.1f" : "%.0f", brace[1] == 'm' ? o->max : o->initial);
    }
    buffer_add_text(out, text);
}

void options_help(Buffer *out)
{
    buffer_add_text(out,
                    "Usage: run MODEL [options]\n\n"
                    "Generates text with a Llama-family model. MODEL defaults to the file that "
                    "the\nenvironment variable RUN_MODEL names.\n\n");
    for (size_t i = 0; i < N_OPTIONS && option_table[i].name; i++) {
        const Option *o = &option_table[i];
        char left[64];
        snprintf(left, sizeof left, "%c%c%s --%s%s%s", o->letter ? '-' : ' ',
                 o->letter ? o->letter : ' ', o->letter ? "," : " ", o->name, o->value ? " " : "",
                 o->value ? o->value : "");
        buffer_addf(out, "  %-26s ", left);
        add_help(out, o);
        buffer_add_text(out, "\n");
    }
    buffer_add_text(out,
                    "\nA model may recommend sampling values (--info shows them); they replace the "
                    "defaults\nabove.\n");
    buffer_add_text(out, "\n  ./run stories.bin -i \"Once upon a time\"\n"
                         "  git log -5 | ./run model.bin -n 100 > out.txt\n");
}

// --------------------------------------------------------------------------------------------
// Values

// Parses a whole number to its end. strtoull alone would take a sign or spaces before it.
static bool parse_whole(const char *text, uint64_t *value)
{
    char *end;
    if (*text < '0' || *text > '9') {
        return false;
    }
    errno = 0;
    *value = strtoull(text, &end, 10);
    return !*end && !errno;
}

// Parses a decimal number to its end. strtod alone would take a plus sign, spaces, hexadecimal
// digits, "inf" and "nan".
static bool parse_real(const char *text, double *value)
{
    const char *first = text + (*text == '-');
    char *end;
    if ((*first != '.' && (*first < '0' || *first > '9')) || strpbrk(text, "xXnN")) {
        return false;
    }
    *value = strtod(text, &end);
    return end != text && !*end;
}

// Parses a token id, which the vocabulary may yet lack (options_check_tokens).
static bool parse_token(const char *text, int *id)
{
    uint64_t whole;
    if (!parse_whole(text, &whole) || whole > INT_MAX) {
        return false;
    }
    *id = (int)whole;
    return true;
}

static bool in_range(const Option *o, double value) { return value >= o->min && value <= o->max; }

// The values that an option takes, from `min` up, for messages.
static const char *expected_value(const Option *o, double min, char buffer[80])
{
    switch (o->kind) {
    case REAL:
        snprintf(buffer, 80, "a number from %g to %g", min, o->max);
        return buffer;
    case COUNT:
        snprintf(buffer, 80, "a whole number from %.0f to %.0f", min, o->max);
        return buffer;
    case SEED:
        return "a whole number from 0 to 2^64 - 1";
    case KV:
        return "f32 or f16";
    case DATE:
        return "a date, YYYY-MM-DD";
    case VARIABLE:
        return "NAME=JSON, such as detail=2 or tone=\"dry\"";
    case THINK:
        snprintf(buffer, 80, "on, off or a whole number from %.0f to %.0f", min, o->max);
        return buffer;
    case CHAT:
        return "generate or chat";
    case TOKEN:
        return "a token id";
    case BIAS:
        snprintf(buffer, 80, "a token id, = and a number from %g to %g", min, o->max);
        return buffer;
    case PATH:
    case PROMPT_FILE:
        return "a file name";
    case TYPE:
        return "f32, f16, bf16, q8, q4, q4m, q4t, q5 or q5m";
    case SETTING:
        return "NAME=VALUE of a sampling option, such as top_p=0.9, in its range";
    case REGEX:
        return "a string";
    case SCHEMA:
        return "a JSON schema";
    case ANY_OBJECT:
        return "true or false";
    default:
        return "a non-empty text";
    }
}

// Adds a part to a prompt. A text may be empty, but a file name may not.
static bool add_prompt_part(PromptParts *prompt, const char *text, bool is_file)
{
    prompt->parts[prompt->n++] = (PromptPart){text, is_file};
    return *text || !is_file;
}

// Sets the bias of a token that is in the list already, or adds one to a list that is not full.
static bool set_bias(TokenBiases *biases, TokenBias bias)
{
    size_t i = 0;
    while (i < biases->n && biases->list[i].id != bias.id) {
        i++;
    }
    if (i == MAX_TOKEN_BIASES) {
        return false;
    }
    biases->list[i] = bias;
    biases->n += i == biases->n;
    return true;
}

// Parses ID=BIAS.
static bool parse_bias(const Option *o, const char *text, TokenBias *bias)
{
    char id[24];
    double real;
    const char *equals = strchr(text, '=');
    const size_t length = equals ? (size_t)(equals - text) : sizeof id;
    if (length >= sizeof id) {
        return false;
    }
    memcpy(id, text, length);
    id[length] = 0;
    if (!parse_token(id, &bias->id) || !parse_real(equals + 1, &real) || !in_range(o, real)) {
        return false;
    }
    bias->bias = (float)real;
    return true;
}

// Is it a sampling option whose value a checkpoint can have?
static bool is_recommendable(const Option *o)
{
    const size_t begin = AT(generate.sampler), end = begin + sizeof(SamplerOptions);
    return (o->kind == COUNT || o->kind == REAL) && o->offset >= begin && o->offset < end;
}

// The sampling option that a name in a checkpoint (`size` bytes) stands for ("top_p": --top-p), or
// NULL. With `dashes` the name may have them too.
static const Option *find_recommended(const char *name, size_t size, bool dashes)
{
    for (size_t i = 0; i < N_OPTIONS && option_table[i].name; i++) {
        const Option *o = &option_table[i];
        size_t n = 0;
        while (n < size && (dashes || name[n] != '-') &&
               (name[n] == '_' ? '-' : name[n]) == o->name[n]) {
            n++;
        }
        if (n == size && !o->name[n] && is_recommendable(o)) {
            return o;
        }
    }
    return NULL;
}

// Adds a value to a list, or replaces the one of that name; false if the list is full.
static bool set_sampling(Sampling *s, const char *name, double value)
{
    size_t i = 0;
    while (i < s->n && strcmp(s->values[i].name, name) != 0) {
        i++;
    }
    if (i == MAX_SAMPLING) {
        return false;
    }
    s->n = i == s->n ? s->n + 1 : s->n;
    snprintf(s->values[i].name, sizeof s->values[i].name, "%s", name);
    s->values[i].value = value;
    return true;
}

// Parses NAME=VALUE. The name may have - or _.
static bool parse_setting(Sampling *s, const char *text)
{
    char name[sizeof s->values->name];
    const size_t size = strcspn(text, "=");
    const Option *o = find_recommended(text, size, true);
    double value;
    if (!o || !text[size] || !parse_real(text + size + 1, &value) || !in_range(o, value) ||
        (o->kind == COUNT && value != (double)(size_t)value)) {
        return false;
    }
    snprintf(name, sizeof name, "%s", o->name);
    for (char *c = name; *c; c++) {
        *c = *c == '-' ? '_' : *c;
    }
    return set_sampling(s, name, value);
}

static bool add_variable(TemplateVariables *variables, const char *text)
{
    Json json = {0};
    Error ignored = {0};
    size_t n;
    const bool ok = template_variable_read(text, &n, &json, &ignored);
    json_free(&json);
    variables->texts[variables->n++] = text;
    return ok;
}

static bool read_think(const Option *o, ThinkOptions *think, const char *text)
{
    uint64_t budget = 0;
    const bool off = strcmp(text, "off") == 0, on = strcmp(text, "on") == 0;
    if (!off && !on && (!parse_whole(text, &budget) || !in_range(o, (double)budget))) {
        return false;
    }
    *think = (ThinkOptions){off ? THINK_OFF : THINK_ON, (size_t)budget};
    return true;
}

// The type of that name, if weights can be quantised to it.
static bool parse_type(const char *text, WeightType *type)
{
    for (WeightType t = 0; t < N_WEIGHT_TYPES; t++) {
        if (quantize_has(t) && strcmp(text, weight_types[t].name) == 0) {
            *type = t;
            return true;
        }
    }
    return false;
}

static ConstraintSpec constraint_spec(OptionKind kind, const char *text)
{
    return (ConstraintSpec){.kind = kind == REGEX ? CONSTRAINT_REGEX : CONSTRAINT_SCHEMA,
                            .name = kind == REGEX    ? "--regex"
                                    : kind == SCHEMA ? "--json-schema"
                                                     : "--json-object",
                            .text = text};
}

// Stores a value in its field. Returns false if the option does not take it.
static bool store_value(const Option *o, void *field, const char *text)
{
    uint64_t whole = 0;
    double real = 0;
    TokenBias bias;
    switch (o->kind) {
    case COUNT:
        if (!parse_whole(text, &whole) || !in_range(o, (double)whole)) {
            return false;
        }
        *(size_t *)field = (size_t)whole;
        return true;
    case SEED:
        return parse_whole(text, field);
    case REAL:
        if (!parse_real(text, &real) || !in_range(o, real)) {
            return false;
        }
        *(float *)field = (float)real;
        return true;
    case TEXTS:
        ((StopTexts *)field)->texts[((StopTexts *)field)->n++] = text;
        return *text;
    case CHOICE:
        ((ChoiceTexts *)field)->texts[((ChoiceTexts *)field)->n++] = text;
        return *text;
    case TOKEN:
        return parse_token(text, &((StopTokens *)field)->ids[((StopTokens *)field)->n++]);
    case BIAS:
        return parse_bias(o, text, &bias) && set_bias(field, bias);
    case PROMPT_TEXT:
    case PROMPT_FILE:
        return add_prompt_part(field, text, o->kind == PROMPT_FILE);
    case KV:
        *(KvType *)field = strcmp(text, "f16") == 0 ? KV_F16 : KV_F32;
        return strcmp(text, "f16") == 0 || strcmp(text, "f32") == 0;
    case TYPE:
        return parse_type(text, field);
    case SETTING:
        return parse_setting(field, text);
    case DATE:
        return date_read(text, field);
    case VARIABLE:
        return add_variable(field, text);
    case THINK:
        return read_think(o, field, text);
    case REGEX:
    case SCHEMA:
        *(ConstraintSpec *)field = constraint_spec(o->kind, text);
        return true;
    case CHAT:
        *(bool *)field = strcmp(text, "chat") == 0;
        return strcmp(text, "chat") == 0 || strcmp(text, "generate") == 0;
    default:
        *(const char **)field = text;
        return *text || o->kind != PATH;
    }
}

// Takes a value for an option; `shown` is the option as it was spelled.
static bool take_value(Options *options, const Option *o, const char *shown, const char *text,
                       Error *err)
{
    void *field = (char *)options + o->offset;
    char buffer[80];
    if ((o->kind == TEXTS && ((StopTexts *)field)->n == MAX_STOPS) ||
        (o->kind == CHOICE && ((ChoiceTexts *)field)->n == MAX_CHOICE_TEXTS) ||
        (o->kind == TOKEN && ((StopTokens *)field)->n == MAX_STOP_TOKENS) ||
        (o->kind == VARIABLE && ((TemplateVariables *)field)->n == MAX_TEMPLATE_VARIABLES)) {
        return error_set(err, ERROR_USAGE, "%s: may be given at most %.0f times", shown, o->max);
    }
    if (o->kind == BIAS && ((TokenBiases *)field)->n == MAX_TOKEN_BIASES) {
        return error_set(err, ERROR_USAGE, "%s: may be given for at most %d tokens", shown,
                         MAX_TOKEN_BIASES);
    }
    if ((o->kind == PROMPT_TEXT || o->kind == PROMPT_FILE) &&
        ((PromptParts *)field)->n == MAX_PROMPT_PARTS) {
        return error_set(err, ERROR_USAGE, "%s: the prompt has more than %d texts and files", shown,
                         MAX_PROMPT_PARTS);
    }
    return store_value(o, field, text) ||
           error_set(err, ERROR_USAGE, "%s%s%s: expected %s", shown, *text ? " " : "", text,
                     expected_value(o, o->min, buffer));
}

// --------------------------------------------------------------------------------------------
// The command line

static void set_defaults(Options *options)
{
    *options = (Options){.weight_type = KEEP_TYPE, .head_type = KEEP_TYPE};
    for (size_t i = 0; i < N_OPTIONS; i++) {
        const Option *o = &option_table[i];
        void *field = (char *)options + o->offset;
        if (o->kind == COUNT) {
            *(size_t *)field = (size_t)o->initial;
        } else if (o->kind == REAL) {
            *(float *)field = (float)o->initial;
        }
    }
}

// The row for an argument -X.. or --name, whose spelling without dashes has `length` bytes.
static const Option *find_option(const char *arg, bool is_long, size_t length)
{
    for (size_t i = 0; i < N_OPTIONS && option_table[i].name; i++) {
        const Option *o = &option_table[i];
        if (is_long ? strlen(o->name) == length && memcmp(o->name, arg + 2, length) == 0
                    : o->letter == arg[1]) {
            return o;
        }
    }
    return NULL;
}

// Takes the option in argv[*i] and its value, which may be the next argument.
static bool take_option(Options *options, char **argv, int argc, int *i, Error *err)
{
    const char *arg = argv[*i];
    const bool is_long = arg[1] == '-';
    const char *equals = is_long ? strchr(arg, '=') : NULL;
    const char *value = equals ? equals + 1 : !is_long && arg[2] ? arg + 2 : NULL;
    const size_t length = equals ? (size_t)(equals - arg) - 2 : strlen(arg + 1 + is_long);
    const Option *o = find_option(arg, is_long, length);
    if (!o) {
        return error_set(err, ERROR_USAGE, "%s: unknown option (--help lists them)", arg);
    }
    char shown[48];
    snprintf(shown, sizeof shown, "%s%s", is_long ? "--" : "-",
             is_long ? o->name : (char[2]){o->letter, 0});
    options->given[o - option_table] = true;
    if (!o->value) {
        if (value) {
            return error_set(err, ERROR_USAGE, "%s: takes no value, found %s", shown, value);
        }
        void *field = (char *)options + o->offset;
        if (o->kind == FLAG) {
            *(bool *)field = true;
        } else if (o->kind == ANY_OBJECT) {
            *(ConstraintSpec *)field = constraint_spec(ANY_OBJECT, ANY_OBJECT_SCHEMA);
        }
        return true;
    }
    if (!value && *i + 1 == argc) {
        return error_set(err, ERROR_USAGE, "%s: expected a value, %s", shown, o->value);
    }
    return take_value(options, o, shown, value ? value : argv[++*i], err);
}

static bool read_arguments(Options *options, int argc, char **argv, Error *err)
{
    bool only_operands = false;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (!only_operands && strcmp(arg, "--") == 0) {
            only_operands = true;
        } else if (!only_operands && arg[0] == '-' && arg[1]) {
            if (!take_option(options, argv, argc, &i, err)) {
                return false;
            }
        } else if (options->engine.model) {
            return error_set(err, ERROR_USAGE,
                             "%s: a second model, expected one (the prompt goes after -i)", arg);
        } else {
            options->engine.model = arg;
        }
    }
    return true;
}

bool option_given(const Options *options, const char *name)
{
    for (size_t i = 0; i < N_OPTIONS && option_table[i].name; i++) {
        if (strcmp(option_table[i].name, name) == 0) {
            return options->given[i];
        }
    }
    return false;
}

void options_default_chat(const Options *options, GenerateOptions *g)
{
    for (size_t i = 0; i < N_OPTIONS; i++) {
        const Option *o = &option_table[i];
        if (o->off_in_chats && !options->given[i]) {
            *(size_t *)((char *)g + (o->offset - AT(generate))) = 0;
        }
    }
}

void options_choose_chat(Options *o)
{
    o->chat = true;
    options_default_chat(o, &o->generate);
}

// --------------------------------------------------------------------------------------------
// Combinations of options

// At most one option selects a mode. --chat only changes how prompts are presented, so it may be
// combined with --batch and --tokenize. Sets *chosen to the name of the option that selected the
// mode, or to NULL.
static bool choose_mode(Options *o, const char **chosen, Error *err)
{
    *chosen = NULL;
    for (size_t i = 0; i < N_OPTIONS; i++) {
        const Option *row = &option_table[i];
        if (!row->mode || !o->given[i]) {
            continue;
        }
        if (*chosen) {
            return error_set(err, ERROR_USAGE, "--%s: not with --%s", row->name, *chosen);
        }
        *chosen = row->name;
        o->mode = row->mode;
    }
    if (o->chat && *chosen && o->mode != MODE_BATCH && o->mode != MODE_TOKENIZE) {
        return error_set(err, ERROR_USAGE, "--%s: not with --chat", *chosen);
    }
    return true;
}

// Refuses the first of `names` (up to NULL) that was given.
static bool refuse(const Options *o, const char *const *names, const char *why, Error *err)
{
    for (; *names; names++) {
        if (option_given(o, *names)) {
            return error_set(err, ERROR_USAGE, "--%s: %s", *names, why);
        }
    }
    return true;
}

static bool check_batch(const Options *o, Error *err)
{
    static const char *const only_with[] = {"parallel", "lines",      "resume",
                                            "retry",    "first-line", NULL};
    static const char *const never_with[] = {"prompt",  "prompt-file", "json",
                                             "no-echo", "digest",      NULL};
    if (o->mode != MODE_BATCH) {
        return refuse(o, only_with, "expected --batch with it", err);
    }
    if (!refuse(o, never_with, "not with --batch", err)) {
        return false;
    }
    if (o->retry && !o->resume) {
        return error_set(err, ERROR_USAGE, "--retry: expected --resume with it");
    }
    return !o->resume || o->output ||
           error_set(err, ERROR_USAGE, "--resume: expected --output FILE with it");
}

// Refuses to read standard input twice: after the first time it is at its end.
static bool check_standard_input(const PromptParts *prompt, Error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < prompt->n; i++) {
        n += prompt->parts[i].is_file && strcmp(prompt->parts[i].text, "-") == 0;
    }
    return n < 2 || error_set(err, ERROR_USAGE,
                              "--prompt-file -: given %zu times, expected once, as standard input "
                              "can be read only once",
                              n);
}

// If the command line names no model, takes the one that RUN_MODEL names.
static bool find_model(Options *o, Error *err)
{
    const char *named = getenv("RUN_MODEL");
    if (!o->engine.model && named && *named) {
        o->engine.model = named;
    }
    // An installed program is not run beside the model that the sources include.
    const char *hint = access("models/stories.bin", R_OK) == 0
                           ? "to try the included model, use ./run models/stories.bin or make demo "
                             "(--help lists all options)"
                           : "--help lists all options";
    return o->engine.model ||
           error_set(err, ERROR_USAGE, "MODEL: missing, and RUN_MODEL is not set; %s", hint);
}

static bool check_convert(const Options *o, Error *err)
{
    static const char *const only_with[] = {"set", "type", "head-type", "calibrate", NULL};
    static const char *const never_with[] = {"output", NULL};
    if (o->mode == MODE_CONVERT && o->calibrate && !option_given(o, "type")) {
        return error_set(err, ERROR_USAGE, "--calibrate: expected --type with it");
    }
    if (o->mode != MODE_CONVERT) {
        return refuse(o, only_with, "expected --convert with it", err);
    }
    return refuse(o, never_with, "not with --convert", err) &&
           (o->output || error_set(err, ERROR_USAGE,
                                   "--convert -: expected a file, whose start is "
                                   "written last"));
}

// Choices: all different. Their probabilities are those of the model, which no token changes.
static bool check_choices(const Options *o, Error *err)
{
    static const char *const never_with[] = {"logit-bias", "repeat-penalty", "presence-penalty",
                                             "frequency-penalty", NULL};
    const ChoiceTexts *choices = &o->generate.choices;
    if (!choices->n) {
        return true;
    }
    const size_t duplicate = choice_texts_duplicate(choices);
    return duplicate == choices->n
               ? refuse(o, never_with, "not with --choice", err)
               : error_set(err, ERROR_USAGE, "--choice: duplicate %.80s, expected different texts",
                           choices->texts[duplicate]);
}

// Constraints: one at most, of answers that nothing else ends.
static bool check_constraints(const Options *o, const char *mode, Error *err)
{
    static const char *const constraints[] = {"choice", "regex", "json-schema", "json-object",
                                              NULL};
    static const char *const never_with[] = {"stop", "stop-token-id", "min-tokens", "ignore-eos",
                                             NULL};
    const bool answers = !mode || o->mode == MODE_BATCH;
    int n = 0;
    for (size_t i = 0; constraints[i]; i++) {
        n += option_given(o, constraints[i]);
    }
    if (n == 0) {
        return true;
    }
    if (n > 1 || !answers) {
        return refuse(o, constraints, n > 1 ? "expected one constraint" : "not in this mode", err);
    }
    return refuse(o, never_with, "not with a constraint", err) && check_choices(o, err);
}

static bool check_combinations(Options *o, Error *err)
{
    static const char *const only_in_chats[] = {"system", "think", "date", "template-var", NULL};
    const char *mode;
    if (!choose_mode(o, &mode, err) || !check_standard_input(&o->prompt, err)) {
        return false;
    }
    if (o->output && strcmp(o->output, "-") == 0) {
        o->output = NULL;
    }
    o->generate.logprobs = option_given(o, "logprobs");
    if (o->generate.logprobs && (!o->json || mode)) {
        return error_set(err, ERROR_USAGE, "--logprobs: expected --json with it, and no %s%s",
                         mode ? "--" : "other mode", mode ? mode : "");
    }
    if (!o->chat && o->mode != MODE_BATCH &&
        !refuse(o, only_in_chats, "expected --chat or --batch with it", err)) {
        return false;
    }
    if (o->prompt_cache && o->mode != MODE_GENERATE && o->mode != MODE_BATCH) {
        return error_set(err, ERROR_USAGE, "--prompt-cache: not with --%s", mode);
    }
    if (!check_constraints(o, mode, err) || !check_batch(o, err) || !check_convert(o, err)) {
        return false;
    }
    if (o->truncate_prompt && o->mode == MODE_SCORE) {
        return error_set(err, ERROR_USAGE, "--truncate-prompt: not with --score");
    }
    if (o->tensors && o->mode != MODE_INFO) {
        return error_set(err, ERROR_USAGE, "--tensors: expected --info with it");
    }
    if (o->quiet && o->stats) {
        return error_set(err, ERROR_USAGE, "--quiet: not with --stats");
    }
    if (o->chat && o->mode != MODE_BATCH) {  // in a batch, each request has its own defaults
        options_choose_chat(o);
    }
    const GenerateOptions *g = &o->generate;
    if (o->mode != MODE_BATCH && g->max_tokens && g->min_tokens > g->max_tokens) {
        return error_set(err, ERROR_USAGE, "--min-tokens %zu: expected at most --max-tokens, %zu",
                         g->min_tokens, g->max_tokens);
    }
    return find_model(o, err);
}

bool options_parse(Options *o, int argc, char **argv, Error *err)
{
    set_defaults(o);
    if (!read_arguments(o, argc, argv, err)) {
        return false;
    }
    if (option_given(o, "help") || option_given(o, "version")) {
        o->mode = option_given(o, "help") ? MODE_HELP : MODE_VERSION;
        return true;
    }
    return check_combinations(o, err);
}

bool options_check_tokens(const Options *o, size_t vocab_size, Error *err)
{
    const StopTokens *stops = &o->generate.stop_tokens;
    const TokenBiases *biases = &o->generate.biases;
    for (size_t i = 0; i < stops->n; i++) {
        if ((size_t)stops->ids[i] >= vocab_size) {
            return error_set(err, ERROR_USAGE, "--stop-token-id %d: expected a token id below %zu",
                             stops->ids[i], vocab_size);
        }
    }
    for (size_t i = 0; i < biases->n; i++) {
        if ((size_t)biases->list[i].id >= vocab_size) {
            return error_set(err, ERROR_USAGE, "--logit-bias %d: expected a token id below %zu",
                             biases->list[i].id, vocab_size);
        }
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// What the model's authors recommend

bool options_override(const Options *options, Sampling *recommended, Error *err)
{
    for (size_t i = 0; i < options->set.n; i++) {
        const char *name = options->set.values[i].name;
        if (!set_sampling(recommended, name, options->set.values[i].value)) {
            return error_set(err, ERROR_INPUT, "%s: recommends %d values, expected room for %s",
                             options->engine.model, MAX_SAMPLING, name);
        }
    }
    return true;
}

bool options_recommend(Options *options, const char *path, const Sampling *recommended, Error *err)
{
    for (size_t i = 0; i < recommended->n; i++) {
        const char *name = recommended->values[i].name;
        const double value = recommended->values[i].value;
        const Option *o = find_recommended(name, strlen(name), false);
        char buffer[80];
        if (!o) {
            return error_set(err, ERROR_INPUT, "%s: config: unknown value sampling.%s", path, name);
        }
        if (!in_range(o, value) || (o->kind == COUNT && value != (double)(size_t)value)) {
            return error_set(err, ERROR_INPUT, "%s: config: sampling.%s is %g, expected %s", path,
                             name, value, expected_value(o, o->min, buffer));
        }
        void *field = (char *)options + o->offset;
        if (options->given[o - option_table]) {
            continue;
        }
        if (o->kind == COUNT) {
            *(size_t *)field = (size_t)value;
        } else {
            *(float *)field = (float)value;
        }
    }
    return true;
}

size_t options_sampling(const Options *options, const Sampling *recommended,
                        SamplingValue values[MAX_SAMPLING])
{
    size_t n = 0;
    for (size_t i = 0; i < N_OPTIONS && n < MAX_SAMPLING; i++) {
        const Option *o = &option_table[i];
        if (!o->name || !is_recommendable(o)) {
            continue;
        }
        const void *field = (const char *)options + o->offset;
        bool is_default = !options->given[i];
        for (size_t k = 0; k < recommended->n; k++) {
            const char *name = recommended->values[k].name;
            is_default = is_default && find_recommended(name, strlen(name), false) != o;
        }
        values[n++] = (SamplingValue){
            o->name, o->kind == COUNT ? (double)*(const size_t *)field : *(const float *)field,
            is_default};
    }
    return n;
}

// --------------------------------------------------------------------------------------------
// Fields of a request

const Option *option_for_request(const char *field)
{
    for (size_t i = 0; i < N_OPTIONS; i++) {
        for (size_t k = 0; k < MAX_FIELDS && option_table[i].fields[k]; k++) {
            if (strcmp(option_table[i].fields[k], field) == 0) {
                return &option_table[i];
            }
        }
    }
    return NULL;
}

bool field_unexpected(Error *err, const char *field, const JsonValue *value, const char *expected)
{
    char found[48];
    if (value->kind == JSON_NUMBER || value->kind == JSON_STRING) {
        snprintf(found, sizeof found, value->kind == JSON_STRING ? "\"%.40s\"" : "%.40s",
                 value->text);
    } else {
        snprintf(found, sizeof found, "%s", json_kind(value));
    }
    return error_set(err, ERROR_INPUT, "%s is %s, expected %s", field, found, expected);
}

// Stores a JSON value in its field. Returns false if the option does not take it.
static bool store_json(const Option *o, void *field, const JsonValue *value)
{
    const bool number = value->kind == JSON_NUMBER;
    uint64_t whole = 0;
    if (o->kind == FLAG || o->kind == FLAG_OFF) {
        *(bool *)field = value->kind == (o->kind == FLAG ? JSON_TRUE : JSON_FALSE);
        return value->kind == JSON_TRUE || value->kind == JSON_FALSE;
    }
    if (o->kind == REAL) {
        if (!number || !in_range(o, json_real(value))) {
            return false;
        }
        *(float *)field = (float)json_real(value);
        return true;
    }
    const bool off = o->minus_one_is_off && number && json_real(value) == -1;
    if (!off && (!json_whole(value, &whole) || !in_range(o, (double)whole))) {
        return false;
    }
    *(size_t *)field = (size_t)whole;
    return true;
}

// Stores an array of token ids.
static bool store_tokens(StopTokens *stops, const JsonValue *value, const RequestField *f,
                         Error *err)
{
    char name[64], expected[64];
    const JsonValue *id = json_first(value);
    if (value->kind != JSON_ARRAY || value->count > MAX_STOP_TOKENS) {
        snprintf(expected, sizeof expected, "an array of at most %d token ids", MAX_STOP_TOKENS);
        return field_unexpected(err, f->name, value, expected);
    }
    stops->n = value->count;
    for (size_t i = 0; i < value->count; i++, id = json_next(id)) {
        uint64_t whole;
        if (!json_whole(id, &whole) || whole >= f->vocab_size) {
            snprintf(name, sizeof name, "%s[%zu]", f->name, i);
            snprintf(expected, sizeof expected, "a token id below %zu", f->vocab_size);
            return field_unexpected(err, name, id, expected);
        }
        stops->ids[i] = (int)whole;
    }
    return true;
}

// Stores an object whose names are token ids.
static bool store_biases(const Option *o, TokenBiases *biases, const JsonValue *value,
                         const RequestField *f, Error *err)
{
    char name[64], buffer[80];
    const JsonValue *bias = json_first(value);
    if (value->kind != JSON_OBJECT || value->count > MAX_TOKEN_BIASES) {
        snprintf(buffer, sizeof buffer, "an object of at most %d token ids", MAX_TOKEN_BIASES);
        return field_unexpected(err, f->name, value, buffer);
    }
    biases->n = 0;
    for (size_t i = 0; i < value->count; i++, bias = json_next(bias)) {
        int id;
        const bool parsed = strlen(bias->name) == bias->name_size && parse_token(bias->name, &id);
        if (!parsed || (size_t)id >= f->vocab_size) {
            return error_set(err, ERROR_INPUT,
                             "%s has the name \"%.40s\", expected a token id below %zu", f->name,
                             bias->name, f->vocab_size);
        }
        if (bias->kind != JSON_NUMBER || !in_range(o, json_real(bias))) {
            snprintf(name, sizeof name, "%s.%d", f->name, id);
            snprintf(buffer, sizeof buffer, "a number from %g to %g", o->min, o->max);
            return field_unexpected(err, name, bias, buffer);
        }
        set_bias(biases, (TokenBias){id, (float)json_real(bias)});
    }
    return true;
}

// A request may say what its answer has to be once.
static bool check_requested(const ConstraintSpec *spec, const RequestField *f, Error *err)
{
    return !spec->requested ||
           error_set(err, ERROR_INPUT, "%s: expected only one constraint, found %s as well",
                     f->name, spec->name);
}

// Stores which texts an answer may be. Nothing of them is to be compiled.
static bool store_choices(GenerateOptions *g, const JsonValue *value, const RequestField *f,
                          Error *err)
{
    char name[64], expected[48];
    snprintf(expected, sizeof expected, "an array of at most %d texts", MAX_CHOICE_TEXTS);
    if (value->kind != JSON_ARRAY || value->count > MAX_CHOICE_TEXTS) {
        return field_unexpected(err, f->name, value, expected);
    }
    const JsonValue *text = json_first(value);
    for (size_t i = 0; i < value->count; i++, text = json_next(text)) {
        if (text->kind != JSON_STRING || !text->size || memchr(text->text, 0, text->size)) {
            snprintf(name, sizeof name, "%s[%zu]", f->name, i);
            return field_unexpected(err, name, text, "a non-empty string without NUL");
        }
        g->choices.texts[i] = text->text;
    }
    g->choices.n = value->count;
    if (!check_requested(&g->constraint, f, err)) {
        return false;
    }
    g->constraint = (ConstraintSpec){.name = f->name, .requested = true};
    const size_t duplicate = choice_texts_duplicate(&g->choices);
    return duplicate == value->count ||
           error_set(err, ERROR_INPUT, "%s[%zu]: duplicate %.80s, expected different texts",
                     f->name, duplicate, g->choices.texts[duplicate]);
}

// Stores what an answer has to be.
static bool store_constraint(const Option *o, ConstraintSpec *spec, const JsonValue *value,
                             const RequestField *f, Error *err)
{
    const bool text = value->kind == JSON_STRING, object = value->kind == JSON_OBJECT;
    const bool flag = value->kind == JSON_TRUE || value->kind == JSON_FALSE;
    char buffer[80];
    if (o->kind == REGEX ? !text : o->kind == SCHEMA ? !text && !object : !flag) {
        return field_unexpected(err, f->name, value, expected_value(o, o->min, buffer));
    }
    if (text && memchr(value->text, 0, value->size)) {
        return error_set(err, ERROR_INPUT, "%s: expected no NUL in it", f->name);
    }
    if (value->kind == JSON_FALSE) {
        return true;  // it is off
    }
    if (!check_requested(spec, f, err)) {
        return false;
    }
    *spec = constraint_spec(o->kind, text ? value->text : flag ? ANY_OBJECT_SCHEMA : NULL);
    spec->name = f->name;
    spec->schema = object ? value : NULL;
    spec->requested = true;
    return true;
}

bool option_set_json(const Option *o, GenerateOptions *g, const JsonValue *value,
                     const RequestField *f, Error *err)
{
    void *target = (char *)g + (o->offset - AT(generate));
    char buffer[80];
    const double min = o->minus_one_is_off ? -1 : o->min;
    const bool flag = o->kind == FLAG || o->kind == FLAG_OFF;
    if (o->kind == TOKEN) {
        return store_tokens(target, value, f, err);
    }
    if (o->kind == BIAS) {
        return store_biases(o, target, value, f, err);
    }
    if (o->kind == CHOICE) {
        return store_choices(g, value, f, err);
    }
    if (o->kind == REGEX || o->kind == SCHEMA || o->kind == ANY_OBJECT) {
        return store_constraint(o, target, value, f, err);
    }
    return store_json(o, target, value) ||
           field_unexpected(err, f->name, value,
                            flag ? "true or false" : expected_value(o, min, buffer));
}
