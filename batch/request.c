// request.c - one line of a batch. See request.h.
//
//     Line -> request_read -> Request -> request_encode -> Prompt
//     Sequence -> request_result -> line of JSON
//
// Each field of a request is one of these. Any other is refused by name: a misspelt parameter must
// not go unnoticed through ten thousand requests.
//
//     option     an option of the command line, whose row in the table has its name and range
//     read       has a function of its own: prompt, messages, seed, stop, ..
//     ignored    cannot change what is generated
//     neutral    belongs to a feature that we lack, with the value that turns the feature off
//     empty      null, "", [] or {}, under any name: as if it were missing
//
// A result begins with its head, which is known before anything is generated: the line's number and
// a hash of everything that decides the text, in ids or in fields. --resume compares heads.
#include "batch/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "batch/fields.h"
#include "batch/messages.h"
#include "batch/response_format.h"

// --------------------------------------------------------------------------------------------
// Derived numbers

uint64_t request_fingerprint(const RequestDefaults *d, uint64_t model)
{
    const Options *o = d->options;
    const GenerateOptions *g = &o->generate;
    const SamplerOptions *s = &g->sampler;
    GenerateOptions chat = *g;
    options_default_chat(o, &chat);
    const uint64_t whole[] = {model,
                              d->cache->context,
                              o->seed,
                              o->lines,
                              o->chat,
                              o->special,
                              o->truncate_prompt,
                              g->max_tokens,
                              chat.max_tokens,
                              g->min_tokens,
                              g->stops.n,
                              g->stop_tokens.n,
                              g->biases.n,
                              g->ignore_eos,
                              s->top_k,
                              s->repeat_last_n,
                              d->cache->f16,
                              !!o->system,
                              g->think.mode,
                              g->think.budget,
                              o->engine.variables.n,
                              tokenizer_fingerprint(d->tokenizer)};
    const float real[] = {
        s->temperature,      s->top_p, s->min_p, s->repeat_penalty, s->presence_penalty,
        s->frequency_penalty};
    uint64_t h = hash_bytes(HASH_BEGIN, whole, sizeof whole);
    h = hash_bytes(h, real, sizeof real);
    h = hash_bytes(h, g->stop_tokens.ids, g->stop_tokens.n * sizeof *g->stop_tokens.ids);
    h = hash_bytes(h, g->biases.list, g->biases.n * sizeof *g->biases.list);
    for (size_t i = 0; i < g->stops.n; i++) {
        h = hash_bytes(h, g->stops.texts[i], strlen(g->stops.texts[i]) + 1);
    }
    for (size_t i = 0; i < o->engine.variables.n; i++) {
        const char *text = o->engine.variables.texts[i];
        h = hash_bytes(h, text, strlen(text) + 1);
    }
    if (g->constraint.kind) {
        const char *text = g->constraint.text;
        h = hash_bytes(hash_step(h, g->constraint.kind), text, strlen(text) + 1);
    }
    for (size_t i = 0; i < g->choices.n; i++) {
        h = hash_bytes(h, g->choices.texts[i], strlen(g->choices.texts[i]) + 1);
    }
    return o->system ? hash_bytes(h, o->system, strlen(o->system)) : h;
}

// The seed of a request that sets none: splitmix64 (Steele, Lea, Flood, OOPSLA 2014) of --seed and
// the number of its line, cut to 48 bits. Those are short enough to type, and exact in readers of
// JSON that hold numbers as doubles.
static uint64_t derive_seed(uint64_t seed, uint64_t number)
{
    uint64_t z = seed + number * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) >> 16;
}

uint64_t request_seed(const Request *r, size_t choice)
{
    return choice ? derive_seed(r->seed, choice) : r->seed;
}

// --------------------------------------------------------------------------------------------
// Fields

// Is the prompt put through the chat template? --chat does that to prompts that say nothing of it:
// those of OpenAI's completions are for the model as they are.
static bool is_chat(const Request *r)
{
    return r->messages || (r->command_line->chat && r->form == RESULT_PLAIN);
}

static bool is_bool(const JsonValue *v) { return v->kind == JSON_FALSE || v->kind == JSON_TRUE; }

static bool read_seed(Request *r, const JsonValue *v, Error *err)
{
    return json_whole(v, &r->seed) ||
           field_unexpected(err, "seed", v, "a whole number from 0 to 2^64 - 1");
}

// Reads a number of choices.
static bool read_choices(const char *field, const JsonValue *v, size_t *n, Error *err)
{
    char expected[48];
    uint64_t whole;
    if (!json_whole(v, &whole) || whole < 1 || whole > MAX_CHOICES) {
        snprintf(expected, sizeof expected, "a whole number from 1 to %d", MAX_CHOICES);
        return field_unexpected(err, field, v, expected);
    }
    *n = (size_t)whole;
    return true;
}

static bool read_n(Request *r, const JsonValue *v, Error *err)
{
    return read_choices("n", v, &r->n, err);
}

// We give all choices, so only as many as n are of use.
static bool read_best_of(Request *r, const JsonValue *v, Error *err)
{
    return read_choices("best_of", v, &r->best_of, err);
}

// Stop texts: one string, or an array of them.
static bool read_stop(Request *r, const JsonValue *v, Error *err)
{
    const bool one = v->kind == JSON_STRING;
    const JsonValue *text = one ? v : json_first(v);
    const size_t n = one ? 1 : v->count;
    if ((!one && v->kind != JSON_ARRAY) || n > MAX_STOPS) {
        char expected[48];
        snprintf(expected, sizeof expected, "a string or an array of at most %d", MAX_STOPS);
        return field_unexpected(err, "stop", v, expected);
    }
    for (size_t i = 0; i < n; i++, text = json_next(text)) {
        if (text->kind != JSON_STRING || !text->size || memchr(text->text, 0, text->size)) {
            return field_unexpected(err, "a stop", text, "a non-empty string without NUL");
        }
        buffer_add(&r->stop_texts, text->text, text->size + 1);
    }
    if (!buffer_check(&r->stop_texts, err)) {
        return false;
    }
    // Only now: adding to the buffer may have moved it.
    const char *stop = r->stop_texts.data;
    for (size_t i = 0; i < n; i++, stop += strlen(stop) + 1) {
        r->options.stops.texts[i] = stop;
    }
    r->options.stops.n = n;
    return true;
}

// Copies the choices of a request out of its line.
static bool keep_choices(Request *r, Error *err)
{
    ChoiceTexts *choices = &r->options.choices;
    for (size_t i = 0; i < choices->n; i++) {
        buffer_add(&r->choice_texts, choices->texts[i], strlen(choices->texts[i]) + 1);
    }
    if (!buffer_check(&r->choice_texts, err)) {
        return false;
    }
    // Only now: adding to the buffer may have moved it.
    const char *text = r->choice_texts.data;
    for (size_t i = 0; i < choices->n; i++, text += strlen(text) + 1) {
        choices->texts[i] = text;
    }
    return true;
}

static bool read_echo(Request *r, const JsonValue *v, Error *err)
{
    if (!is_bool(v) || (is_chat(r) && v->kind == JSON_TRUE)) {
        return field_unexpected(err, "echo", v, is_chat(r) ? "false in a chat" : "true or false");
    }
    r->echo = v->kind == JSON_TRUE;
    return true;
}

static bool read_format(Request *r, const JsonValue *v, Error *err)
{
    return read_response_format(&r->options, v, err);
}

static bool read_structured(Request *r, const JsonValue *v, Error *err)
{
    return read_structured_outputs(&r->options, v, err);
}

// In chats a switch, whose number of alternatives is in top_logprobs; in completions that number.
// Plain objects may use either.
static bool read_logprobs(Request *r, const JsonValue *v, Error *err)
{
    const RequestField named = {"logprobs", r->vocab_size};
    if (is_bool(v) && (r->form != RESULT_COMPLETION || v->kind == JSON_FALSE)) {
        r->options.logprobs = v->kind == JSON_TRUE;
        return true;
    }
    if (r->form == RESULT_CHAT) {
        return field_unexpected(err, "logprobs", v, "true or false");
    }
    r->options.logprobs = true;
    return option_set_json(option_for_request("top_logprobs"), &r->options, v, &named, err);
}

// What a chat template is given beside messages: an array of objects.
static bool read_list(const JsonValue *v, const char *name, const JsonValue **to, Error *err)
{
    *to = v;
    return v->kind == JSON_ARRAY || field_unexpected(err, name, v, "an array");
}

static bool read_tools(Request *r, const JsonValue *v, Error *err)
{
    return read_list(v, "tools", &r->tools, err);
}

// Whether the model may call tools. We cannot make it call one.
static bool read_tool_choice(Request *r, const JsonValue *v, Error *err)
{
    r->withholds_tools = is_text(v, "none");
    return r->withholds_tools || is_text(v, "auto") ||
           field_unexpected(err, "tool_choice", v, "none or auto (we do not force calls)");
}

static bool read_documents(Request *r, const JsonValue *v, Error *err)
{
    return read_list(v, "documents", &r->documents, err);
}

// Variables of the chat template, but not those that the request has fields for.
static bool read_variables(Request *r, const JsonValue *v, Error *err)
{
    static const char *const reserved[] = {"messages", "tools", "documents",
                                           "add_generation_prompt", NULL};
    if (v->kind != JSON_OBJECT) {
        return field_unexpected(err, "chat_template_kwargs", v, "an object");
    }
    const JsonValue *member = json_first(v);
    for (size_t i = 0; i < v->count; i++, member = json_next(member)) {
        if (is_named(member, reserved)) {
            return error_set(err, ERROR_INPUT, "chat_template_kwargs.%s: not supported",
                             member->name);
        }
    }
    r->variables = v;
    return true;
}

static bool read_model(Request *r, const JsonValue *v, Error *err)
{
    if (v->kind == JSON_STRING) {
        buffer_clear(&r->model);
        buffer_add(&r->model, v->text, v->size);
    }
    return buffer_check(&r->model, err);
}

// What is done with a field. The ONLY_ kinds are features that we lack: clients often send them
// with the value that leaves them off, and that much we can honour. Any other value would change
// what is generated, so it is refused.
typedef enum {
    READ,        // by the function beside it
    IGNORED,     // it does not change what is generated: any value
    ONLY_FALSE,  // false
    ONLY_EMPTY,  // nothing: a value that says something is refused
} RequestFieldKind;

// The fields that are neither options of the command line nor the prompt, in all forms of requests.
static const struct FieldRule {
    const char *name;
    RequestFieldKind kind;
    bool (*read)(Request *r, const JsonValue *v, Error *err);
} request_fields[] = {
    {.name = "seed", .kind = READ, .read = read_seed},
    {.name = "stop", .kind = READ, .read = read_stop},
    {.name = "n", .kind = READ, .read = read_n},
    {.name = "best_of", .kind = READ, .read = read_best_of},
    {.name = "echo", .kind = READ, .read = read_echo},
    {.name = "logprobs", .kind = READ, .read = read_logprobs},
    {.name = "response_format", .kind = READ, .read = read_format},
    {.name = "structured_outputs", .kind = READ, .read = read_structured},
    {.name = "model", .kind = READ, .read = read_model},
    {.name = "tools", .kind = READ, .read = read_tools},
    {.name = "tool_choice", .kind = READ, .read = read_tool_choice},
    {.name = "documents", .kind = READ, .read = read_documents},
    {.name = "chat_template_kwargs", .kind = READ, .read = read_variables},
    {.name = "user", .kind = IGNORED},
    {.name = "metadata", .kind = IGNORED},
    {.name = "store", .kind = IGNORED},
    {.name = "service_tier", .kind = IGNORED},
    {.name = "safety_identifier", .kind = IGNORED},
    {.name = "prompt_cache_key", .kind = IGNORED},
    {.name = "parallel_tool_calls", .kind = IGNORED},
    {.name = "stream_options", .kind = IGNORED},
    {.name = "priority", .kind = IGNORED},
    {.name = "request_id", .kind = IGNORED},
    {.name = "length_penalty", .kind = IGNORED},  // this and the next are for beam search
    {.name = "early_stopping", .kind = IGNORED},
    {.name = "spaces_between_special_tokens", .kind = IGNORED},  // we add none
    {.name = "guided_decoding_backend", .kind = IGNORED},
    {.name = "stream", .kind = ONLY_FALSE},
    {.name = "use_beam_search", .kind = ONLY_FALSE},
    {.name = "functions", .kind = ONLY_EMPTY},
    {.name = "suffix", .kind = ONLY_EMPTY},
};
typedef struct FieldRule FieldRule;
#define N_FIELDS (sizeof request_fields / sizeof *request_fields)

// Accepts the value of a field that leaves its feature off, and no other.
static bool check_neutral(const FieldRule *f, const JsonValue *v, Error *err)
{
    const char *expected = f->kind == ONLY_EMPTY ? "nothing in it (we support no other value)"
                                                 : "false (we support no other value)";
    return (f->kind == ONLY_FALSE && v->kind == JSON_FALSE) ||
           field_unexpected(err, f->name, v, expected);
}

// Reads a field; `others` are the names that the caller has read.
static bool read_field(Request *r, const JsonValue *v, const char *const *others, Error *err)
{
    if (says_nothing(v) || is_named(v, others)) {
        return true;
    }
    // A name with a NUL in it is none of ours, though its start may be.
    const bool comparable = strlen(v->name) == v->name_size;
    const Option *option = comparable ? option_for_request(v->name) : NULL;
    const FieldRule *field = NULL;
    for (size_t i = 0; comparable && i < N_FIELDS && !field; i++) {
        field = strcmp(request_fields[i].name, v->name) == 0 ? &request_fields[i] : NULL;
    }
    if (option) {
        const RequestField named = {v->name, r->vocab_size};
        return option_set_json(option, &r->options, v, &named, err);
    }
    if (!field) {
        return error_set(err, ERROR_INPUT, "%.100s: unsupported parameter", v->name);
    }
    return field->kind == IGNORED ||
           (field->kind == READ ? field->read(r, v, err) : check_neutral(field, v, err));
}

// A constraint decides where the text ends: nothing else may.
static bool check_constraint(const GenerateOptions *g, Error *err)
{
    const struct {
        const char *field;
        bool given;
    } ends[] = {{"stop", g->stops.n},
                {"stop_token_ids", g->stop_tokens.n},
                {"min_tokens", g->min_tokens},
                {"ignore_eos", g->ignore_eos},
                {"include_stop_str_in_output", g->include_stop}};
    const bool any = g->constraint.kind || g->choices.n;
    for (size_t i = 0; any && i < sizeof ends / sizeof *ends; i++) {
        if (ends[i].given) {
            return error_set(err, ERROR_INPUT, "%s: not with a constraint (%s)", ends[i].field,
                             g->constraint.name ? g->constraint.name : "--choice");
        }
    }
    return true;
}

// Checks fields that have to go together.
static bool check_fields(const Request *r, Error *err)
{
    const GenerateOptions *g = &r->options;
    if (g->max_tokens && g->min_tokens > g->max_tokens) {
        return error_set(err, ERROR_INPUT, "min_tokens is %zu, expected at most max_tokens, %zu",
                         g->min_tokens, g->max_tokens);
    }
    if (!check_constraint(g, err)) {
        return false;
    }
    if (r->best_of && r->best_of != r->n) {
        return error_set(err, ERROR_INPUT, "best_of is %zu, expected n, %zu", r->best_of, r->n);
    }
    return g->logprobs || !g->top_logprobs ||
           error_set(err, ERROR_INPUT, "top_logprobs is %zu, expected 0 without logprobs",
                     g->top_logprobs);
}

// Another constraint of the request takes the place of the command line's choices. The request's own
// must outlive its line. They are drawn with the probabilities that the model gives them, so nothing
// may change those of tokens.
static bool settle_choices(Request *r, const JsonValue *object, Error *err)
{
    static const struct {
        const char *field, *option;
        double off;
    } changes[] = {{"logit_bias", "logit-bias", 0},
                   {"repetition_penalty", "repeat-penalty", 1},
                   {"presence_penalty", "presence-penalty", 0},
                   {"frequency_penalty", "frequency-penalty", 0}};
    ChoiceTexts *choices = &r->options.choices;
    choices->n = r->options.constraint.kind ? 0 : choices->n;
    for (size_t i = 0; choices->n && i < sizeof changes / sizeof *changes; i++) {
        const JsonValue *v = json_member(object, changes[i].field);
        const bool off = v && v->kind == JSON_NUMBER && json_real(v) == changes[i].off;
        if (says_nothing(v) && option_given(r->command_line, changes[i].option)) {
            return error_set(err, ERROR_INPUT, "--%s: not with choices", changes[i].option);
        }
        if (!says_nothing(v) && !off) {
            return error_set(err, ERROR_INPUT, "%s: not with choices", changes[i].field);
        }
    }
    return !r->options.constraint.requested || keep_choices(r, err);
}

// Reads all fields of an object but the `others`.
static bool read_fields(Request *r, const JsonValue *object, const char *const *others, Error *err)
{
    const JsonValue *member = json_first(object);
    for (size_t i = 0; i < object->count; i++, member = json_next(member)) {
        if (!read_field(r, member, others, err)) {
            return false;
        }
    }
    // OpenAI renamed max_tokens: where a request has both names, the new one counts. A number of
    // logprobs has its alternatives in it.
    const JsonValue *newer = json_member(object, "max_completion_tokens"),
                    *logprobs = json_member(object, "logprobs"),
                    *top = json_member(object, "top_logprobs");
    const bool counted = logprobs && logprobs->kind == JSON_NUMBER;
    if (counted && top && top->kind == JSON_NUMBER && json_real(top) != 0) {
        return field_unexpected(err, "top_logprobs", top, "0 beside a number of logprobs");
    }
    return (!newer || read_field(r, newer, others, err)) &&
           (!counted || read_logprobs(r, logprobs, err)) && settle_choices(r, object, err) &&
           check_fields(r, err);
}

// --------------------------------------------------------------------------------------------
// Reading

// Refuses a field that has to be there: `v` is what it is, or NULL.
static bool refuse_field(Error *err, const char *field, const JsonValue *v, const char *expected)
{
    return v ? field_unexpected(err, field, v, expected)
             : error_set(err, ERROR_INPUT, "%s is missing", field);
}

// Sets the prompt, or else the messages, and what the request leaves to the defaults.
static void set_prompt(Request *r, const char *text, size_t size, const JsonValue *messages)
{
    r->prompt = text;
    r->prompt_size = size;
    r->messages = messages;
    if (is_chat(r)) {
        options_default_chat(r->command_line, &r->options);
    }
}

// Finds the prompt or the messages, whichever of both there is; `name` says what is missing where
// there is neither. An empty prompt is a prompt, but not beside messages.
static bool find_prompt(Request *r, const JsonValue *prompt, const JsonValue *messages,
                        const char *name, Error *err)
{
    if (!says_nothing(prompt) && !says_nothing(messages)) {
        return error_set(err, ERROR_INPUT, "prompt and messages: expected only one of them");
    }
    if (prompt && !is_null(prompt) && says_nothing(messages)) {
        set_prompt(r, prompt->text, prompt->size, NULL);
        return prompt->kind == JSON_STRING || field_unexpected(err, "prompt", prompt, "a string");
    }
    if (messages && !is_null(messages)) {
        set_prompt(r, NULL, 0, messages);
        if (messages->kind == JSON_ARRAY && !messages->count) {
            return error_set(err, ERROR_INPUT, "messages is empty, expected at least one message");
        }
        return messages->kind == JSON_ARRAY ||
               field_unexpected(err, "messages", messages, "an array");
    }
    return refuse_field(err, name, NULL, "");
}

// Reads a plain object.
static bool read_plain(Request *r, const JsonValue *root, Error *err)
{
    static const char *const others[] = {"id", "prompt", "messages", NULL};
    const JsonValue *id = json_member(root, "id"), *prompt = json_member(root, "prompt"),
                    *messages = json_member(root, "messages");
    if (!says_nothing(id) && id->kind != JSON_STRING && id->kind != JSON_NUMBER) {
        return field_unexpected(err, "id", id, "a string or a number");
    }
    return find_prompt(r, prompt, messages, "prompt (or messages)", err) &&
           read_fields(r, root, others, err);
}

// Reads the body of OpenAI's batch format, whose API the url names.
static bool read_body(Request *r, const JsonValue *body, Error *err)
{
    const bool chat = r->form == RESULT_CHAT;
    const char *const others[] = {chat ? "messages" : "prompt", NULL};
    const JsonValue *v = json_member(body, others[0]);
    return find_prompt(r, chat ? NULL : v, chat ? v : NULL, others[0], err) &&
           read_fields(r, body, others, err);
}

// Reads OpenAI's batch format, an envelope around the body of a call of its API.
static bool read_openai(Request *r, const JsonValue *root, Error *err)
{
    static const char *const names[] = {"custom_id", "method", "url", "body", NULL};
    const JsonValue *id = json_member(root, "custom_id"), *method = json_member(root, "method"),
                    *url = json_member(root, "url"), *body = json_member(root, "body");
    const JsonValue *member = json_first(root);
    for (size_t i = 0; i < root->count; i++, member = json_next(member)) {
        if (!says_nothing(member) && !is_named(member, names)) {
            return error_set(err, ERROR_INPUT, "%.100s: unknown beside custom_id, url and body",
                             member->name);
        }
    }
    if (!id || id->kind != JSON_STRING) {
        return refuse_field(err, "custom_id", id, "a string");
    }
    if (!says_nothing(method) && !is_text(method, "POST")) {
        return refuse_field(err, "method", method, "POST");
    }
    r->form = is_text(url, "/v1/completions") ? RESULT_COMPLETION : RESULT_CHAT;
    if (r->form == RESULT_CHAT && !is_text(url, "/v1/chat/completions")) {
        return refuse_field(err, "url", url, "/v1/chat/completions or /v1/completions");
    }
    if (!body || body->kind != JSON_OBJECT) {
        return refuse_field(err, "body", body, "an object");
    }
    return read_body(r, body, err);
}

// Puts an id: PREFIX_NUMBER_HASH.
static void put_id(JsonWriter *w, const char *name, const char *prefix, const Request *r)
{
    char id[80];
    snprintf(id, sizeof id, "%s_%llu_%016llx", prefix, (unsigned long long)r->number,
             (unsigned long long)r->hash);
    json_put_text(w, name, id);
}

// {"id": "batch_req_17_0123456789abcdef", "custom_id": "a1",
//
// The comma belongs to the head: without it "index": 1 would begin "index": 17 as well.
static void write_openai_head(Request *r, const JsonValue *custom_id)
{
    JsonWriter w = {.out = &r->head};
    json_open(&w, NULL, '{');
    put_id(&w, "id", "batch_req", r);
    if (custom_id && custom_id->kind == JSON_STRING) {
        json_put_string(&w, "custom_id", custom_id->text, custom_id->size);
    } else {
        json_put_null(&w, "custom_id");
    }
    buffer_add_text(&r->head, ", ");
}

// {"id": "a1", "index": 17, "hash": "0123456789abcdef",
//
// The hash has a field because the id may be the user's, and say nothing of the model, the options
// or the prompt. A number is copied as it was written: 1e3 and 1000 are different ids to whoever looks for them.
// A line that is not an object may have been meant in either form, so its result has custom_id,
// too: readers of both find the field that they look for.
static void write_plain_head(Request *r, const JsonValue *id, bool unknown_form)
{
    JsonWriter w = {.out = &r->head};
    json_open(&w, NULL, '{');
    if (id && id->kind == JSON_STRING && id->size) {
        json_put_string(&w, "id", id->text, id->size);
    } else if (id && id->kind == JSON_NUMBER) {
        json_put_json(&w, "id", id->text, id->size);
    } else {
        put_id(&w, "id", "line", r);
    }
    if (unknown_form) {
        json_put_null(&w, "custom_id");
    }
    json_put_count(&w, "index", r->number);
    char hash[17];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)r->hash);
    json_put_text(&w, "hash", hash);
    buffer_add_text(&r->head, ", ");
}

// Makes *r a request for the defaults. It keeps the memory of its buffers.
static void reset(Request *r, const RequestDefaults *d, const Line *line)
{
    buffer_clear(&r->head);
    buffer_clear(&r->stop_texts);
    buffer_clear(&r->choice_texts);
    buffer_clear(&r->model);
    *r = (Request){.number = line->number,
                   .hash = hash_bytes(d->fingerprint, line->text, line->size),
                   .form = RESULT_PLAIN,
                   .head = r->head,
                   .command_line = d->options,
                   .vocab_size = tokenizer_vocab_size(d->tokenizer),
                   .options = d->options->generate,
                   .seed = derive_seed(d->options->seed, line->number),
                   .n = 1,
                   .stop_texts = r->stop_texts,
                   .choice_texts = r->choice_texts,
                   .model = r->model};
    buffer_add_text(&r->model, d->model);
}

// Reads a line of JSON: its head first, then all that may turn out to be wrong with it. So whatever
// that is, the line has a result with its name, in its place.
static bool read_object(Request *r, Json *json, const Line *line, Error *err)
{
    const bool is_json = json_read(json, line->text, line->size, err);
    const JsonValue *root = json->values;
    if (!is_json || root->kind != JSON_OBJECT) {
        write_plain_head(r, NULL, true);
        return is_json && field_unexpected(err, "the line", root, "an object");
    }
    const JsonValue *custom_id = json_member(root, "custom_id");
    if (!says_nothing(custom_id) || !says_nothing(json_member(root, "url")) ||
        !says_nothing(json_member(root, "body"))) {
        r->form = RESULT_CHAT;  // until the url says otherwise: errors have one form for both APIs
        write_openai_head(r, custom_id);
        return read_openai(r, root, err);
    }
    write_plain_head(r, json_member(root, "id"), false);
    return read_plain(r, root, err);
}

bool request_read(Request *r, const RequestDefaults *d, Json *json, const Line *line, Error *err)
{
    const bool lines = d->options->lines;
    reset(r, d, line);
    if (line->too_long) {
        write_plain_head(r, NULL, !lines);
        error_set(&r->failure, ERROR_INPUT, "the line has more than %zu bytes, the most allowed",
                  REQUEST_MAX_BYTES);
    } else if (lines) {
        write_plain_head(r, NULL, false);
        set_prompt(r, line->text, line->size, NULL);
    } else if (!read_object(r, json, line, &r->failure) && r->failure.kind == ERROR_RUN) {
        *err = r->failure;
        return false;
    }
    return buffer_check(&r->head, err) && buffer_check(&r->model, err);
}

void request_free(Request *r)
{
    buffer_free(&r->head);
    buffer_free(&r->stop_texts);
    buffer_free(&r->choice_texts);
    buffer_free(&r->model);
}

// --------------------------------------------------------------------------------------------
// Encoding

static PromptLimit request_limit(const Request *r, const RequestDefaults *d)
{
    return (PromptLimit){d->options->truncate_prompt ? d->cache->context : 0,
                         r->options.max_tokens};
}

// A chat, for prompt_shorten.
typedef struct {
    const RequestDefaults *defaults;
    ChatPrompt prompt;
    JsonValue *last;  // the text of the last message, which may be shortened:
    TextSpan whole;   // .. as the request has it
} ShortenedChat;

// See ShortenedPrompt.
static bool encode_shortened(void *arg, size_t skip, Prompt *out, Error *err)
{
    const ShortenedChat *c = arg;
    const size_t begin = utf8_boundary(c->whole.text, c->whole.size, skip);
    c->last->text = c->whole.text + begin;
    c->last->size = c->whole.size - begin;
    return prompt_encode_chat(c->defaults->tokenizer, c->defaults->chat, &c->prompt, out, err);
}

// The tools that the template is given, or NULL.
static const JsonValue *tools_of(const Request *r) { return r->withholds_tools ? NULL : r->tools; }

// Encodes the messages. --truncate-prompt shortens the last of them.
static bool encode_messages(const Request *r, const RequestDefaults *d, Messages *m, Prompt *out,
                            Error *err)
{
    ShortenedChat chat = {.defaults = d,
                          .prompt = {.conversation = {.messages = m->list.values,
                                                      .tools = tools_of(r),
                                                      .documents = r->documents,
                                                      .variables = r->variables,
                                                      .settings = *d->chat_settings,
                                                      .think = r->options.think.mode,
                                                      .special = d->options->special}},
                          .last = &m->list.values[m->last]};
    chat.whole = (TextSpan){.text = chat.last->text, .size = chat.last->size};
    const ShortenedPrompt shortened = {chat.whole.size, encode_shortened, &chat};
    return prompt_shorten(&shortened, request_limit(r, d), out, err);
}

// Encodes a chat by the model's template, with the arguments of tool calls as these rules have
// them. *has_calls: there were arguments that the rules decide about.
static bool encode_by_rules(const Request *r, const RequestDefaults *d, const MessageRules *rules,
                            bool *has_calls, Prompt *out, Error *err)
{
    Messages messages = {0};
    const bool ok = (r->messages
                         ? messages_read(&messages, r->messages, rules, err)
                         : messages_of_prompt(&messages, r->prompt, r->prompt_size, rules, err)) &&
                    encode_messages(r, d, &messages, out, err);
    *has_calls = messages.n_parsed;
    messages_free(&messages);
    return ok;
}

// A template that fails on arguments which are objects may expect the strings of OpenAI's API.
static bool encode_chat(const Request *r, const RequestDefaults *d, Prompt *out, Error *err)
{
    MessageRules rules = {.chat = d->chat, .system = d->options->system};
    bool has_calls;
    if (rules.system && !d->chat->has_system) {
        return error_set(err, ERROR_INPUT,
                         "the model's chat template has no place for a system message");
    }
    Error first = {0}, second = {0};
    if (encode_by_rules(r, d, &rules, &has_calls, out, &first)) {
        return true;
    }
    rules.keeps_arguments = true;
    out->tokens.size = 0;
    if (has_calls && first.kind == ERROR_INPUT &&
        encode_by_rules(r, d, &rules, &has_calls, out, &second)) {
        return true;
    }
    *err = second.kind == ERROR_RUN ? second : first;
    return false;
}

static bool encode_prompt(const Request *r, const RequestDefaults *d, Prompt *out, Error *err)
{
    const TextSpan span = {r->prompt, r->prompt_size, d->options->special, false};
    return prompt_encode_text(d->tokenizer, &span, request_limit(r, d), out, err);
}

// Checks that the chat template uses what the request gives it: else it would be lost without a
// word.
static bool check_used(const Request *r, const RequestDefaults *d, Error *err)
{
    const struct {
        const char *name;
        const JsonValue *value;
    } lists[] = {{"tools", tools_of(r)}, {"documents", r->documents}};
    const char *why = is_chat(r) ? "the model's chat template does not use it"
                                 : "expected messages";
    for (size_t i = 0; i < 2; i++) {
        if (lists[i].value && !(is_chat(r) && jinja_mentions(d->chat->jinja, lists[i].name))) {
            return error_set(err, ERROR_INPUT, "%s: %s", lists[i].name, why);
        }
    }
    const JsonValue *member = r->variables ? json_first(r->variables) : NULL;
    for (size_t i = 0; member && i < r->variables->count; i++, member = json_next(member)) {
        if (!is_chat(r) || !jinja_mentions(d->chat->jinja, member->name)) {
            return error_set(err, ERROR_INPUT, "chat_template_kwargs.%s: %s", member->name, why);
        }
    }
    return true;
}

bool request_encode(Request *r, const RequestDefaults *d, Prompt *out, Error *err)
{
    const bool chat = is_chat(r);
    if (chat && !d->chat) {
        return error_set(err, ERROR_INPUT, "messages need a chat template, and the model has none");
    }
    if (!check_used(r, d, err) ||
        !(chat ? encode_chat(r, d, out, err) : encode_prompt(r, d, out, err))) {
        return false;
    }
    if (out->used_date) {
        r->date = d->chat_settings->date;
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// Results

// The prompt counts once, however many texts answer it.
static void put_usage(JsonWriter *w, const Request *r, const Sequence *choices)
{
    const size_t n_prompt = choices[0].n_prompt;
    size_t n_new = 0;
    for (size_t i = 0; i < r->n; i++) {
        n_new += choices[i].tokens.size - n_prompt;
    }
    json_open(w, "usage", '{');
    json_put_count(w, "prompt_tokens", n_prompt);
    json_put_count(w, "completion_tokens", n_new);
    json_put_count(w, "total_tokens", n_prompt + n_new);
    json_close(w, '}');
}

// The date that the chat template saw, if it asked for it: the same date gives the same text.
static void put_date(JsonWriter *w, const Request *r)
{
    char date[16];
    if (r->date.month) {
        json_put_text(w, "date", date_write(r->date, date));
    }
}

static void put_text(JsonWriter *w, const Sequence *s)
{
    json_put_string(w, "text", s->text.ready.data, s->text.ready.size);
    put_thought(w, s);
    json_put_text(w, "finish_reason", finish_name(s->finish));
}

static void put_seed(JsonWriter *w, const Request *r, size_t choice, const Sequence *s)
{
    json_put_count(w, "seed", request_seed(r, choice));
    if (r->options.logprobs) {
        put_plain_logprobs(w, s);
    }
    if (r->options.choices.n) {
        put_probabilities(w, s);
    }
}

// The rest of a plain result: several texts are in choices[], one is not.
static void put_plain(JsonWriter *w, const Request *r, const Sequence *choices)
{
    if (r->n == 1) {
        put_text(w, choices);
        put_usage(w, r, choices);
        put_seed(w, r, 0, choices);
        put_date(w, r);
        return;
    }
    json_open(w, "choices", '[');
    for (size_t i = 0; i < r->n; i++) {
        json_open(w, NULL, '{');
        json_put_count(w, "index", i);
        put_text(w, &choices[i]);
        put_seed(w, r, i, &choices[i]);
        json_close(w, '}');
    }
    json_close(w, ']');
    put_usage(w, r, choices);
    put_date(w, r);
}

// The rest of a result of OpenAI's batch format. A clock would make two runs differ: created is 0.
static void put_openai(JsonWriter *w, const Request *r, const Sequence *choices)
{
    const bool chat = r->form == RESULT_CHAT;
    json_open(w, "response", '{');
    json_put_count(w, "status_code", 200);
    put_id(w, "request_id", "req", r);
    json_open(w, "body", '{');
    put_id(w, "id", chat ? "chatcmpl" : "cmpl", r);
    json_put_text(w, "object", chat ? "chat.completion" : "text_completion");
    json_put_count(w, "created", 0);
    json_put_string(w, "model", r->model.data, r->model.size);
    json_open(w, "choices", '[');
    for (size_t i = 0; i < r->n; i++) {
        put_choice(w, r->form, i, &choices[i]);
    }
    json_close(w, ']');
    put_usage(w, r, choices);
    put_date(w, r);
    json_close(w, '}');
    json_close(w, '}');
    json_put_null(w, "error");
}

void request_result(const Request *r, const Sequence *choices, Buffer *out)
{
    buffer_add(out, r->head.data, r->head.size);
    JsonWriter w = {.out = out};
    if (r->form == RESULT_PLAIN) {
        put_plain(&w, r, choices);
    } else {
        put_openai(&w, r, choices);
    }
    json_close(&w, '}');
    buffer_add_text(out, "\n");
}

void request_failure(const Request *r, Buffer *out)
{
    char message[sizeof r->failure.message + 32];
    snprintf(message, sizeof message, "line %llu: %s", (unsigned long long)r->number,
             r->failure.message);
    buffer_add(out, r->head.data, r->head.size);
    JsonWriter w = {.out = out};
    if (r->form != RESULT_PLAIN) {
        json_put_null(&w, "response");
    }
    json_open(&w, "error", '{');
    json_put_text(&w, "code", "invalid_request");
    json_put_text(&w, "message", message);
    json_close(&w, '}');
    json_close(&w, '}');
    buffer_add_text(out, "\n");
}

// The date of a result, in either form; month 0 if there is none.
static Date date_of(const JsonValue *root)
{
    const JsonValue *response = json_member(root, "response"), *body = NULL;
    Date date = {0};
    if (response && response->kind == JSON_OBJECT) {
        body = json_member(response, "body");
    }
    const JsonValue *v = json_member(body && body->kind == JSON_OBJECT ? body : root, "date");
    return v && v->kind == JSON_STRING && date_read(v->text, &date) ? date : (Date){0};
}

// The message of an error names the line, so a result says by itself whether it is one and of which
// request: also when that request has been corrected since, and its head is another.
bool result_read(Json *json, const Line *line, OldResult *out, Error *err)
{
    static const char begin[] = "line ";
    const size_t length = sizeof begin - 1;
    *out = (OldResult){0};
    if (!json_read(json, line->text, line->size, err)) {
        return err->kind != ERROR_RUN;  // no result of ours: its head will say so
    }
    const JsonValue *root = json->values;
    const bool is_object = root->kind == JSON_OBJECT;
    const JsonValue *error = is_object ? json_member(root, "error") : NULL;
    const JsonValue *message = error && error->kind == JSON_OBJECT ? json_member(error, "message")
                                                                   : NULL;
    if (message && message->kind == JSON_STRING && strncmp(message->text, begin, length) == 0) {
        out->failed_line = strtoull(message->text + length, NULL, 10);
    }
    out->lacks_hash = is_object && json_member(root, "index") && !json_member(root, "hash");
    out->date = is_object ? date_of(root) : (Date){0};
    return true;
}
