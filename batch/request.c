// request.c - one line of a batch. See request.h.
//
//     line --request_read--> Request --request_encode--> tokens ... Sequence --request_result-->
//     line
//
// One table has the parameters of all forms: what each sets, or that it is harmless, or the only
// value that changes nothing. Whatever is in no table is refused by its name: a misspelt parameter
// must not pass unseen through ten thousand requests.
#include "batch/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"

// --------------------------------------------------------------------------------------------
// Numbers that are derived

uint64_t request_fingerprint(const RequestDefaults *d, uint64_t model, bool f16)
{
    const GenerateOptions *g = &d->generate;
    const SamplerOptions *o = &g->sampler;
    const uint64_t whole[] = {model,         d->context,      d->seed,
                              d->lines,      d->through_chat, d->special,
                              d->truncate,   g->max_tokens,   g->stops.n,
                              g->ignore_eos, o->top_k,        o->repeat_last_n,
                              f16,           !!d->system,     tokenizer_fingerprint(d->tokenizer)};
    const float real[] = {o->temperature, o->top_p, o->min_p, o->repeat_penalty};
    uint64_t h = hash_bytes(HASH_BEGIN, whole, sizeof whole);
    h = hash_bytes(h, real, sizeof real);
    for (size_t i = 0; i < g->stops.n; i++) {
        h = hash_bytes(h, g->stops.texts[i], strlen(g->stops.texts[i]) + 1);
    }
    return d->system ? hash_bytes(h, d->system, strlen(d->system)) : h;
}

// splitmix64 (Steele, Lea, Flood, OOPSLA 2014), cut to 48 bits: short enough to type, and exact in
// JSON readers that hold numbers as doubles.
static uint64_t derive_seed(uint64_t seed, uint64_t number)
{
    uint64_t z = seed + number * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) >> 16;
}

// --------------------------------------------------------------------------------------------
// Parameters

typedef enum {
    SETS_COUNT,   // a whole number from min to max, to a size_t
    SETS_REAL,    // a number from min to max, to a float
    SETS_FLAG,    // true or false
    SETS_OTHER,   // read elsewhere: seed, stop, echo
    HARMLESS,     // may be anything
    ONLY_NUMBER,  // must be min, which changes nothing
    ONLY_FALSE,
    ONLY_EMPTY,  // an array, object or string with nothing in it
    ONLY_WORD,   // one of the strings in `word`
} ParameterKind;

typedef struct {
    const char *name;
    ParameterKind kind;
    size_t offset;  // in GenerateOptions
    double min, max;
    const char *words[2];
} Parameter;

#define AT(field) offsetof(GenerateOptions, field)

static const Parameter parameters[] = {
    {"max_tokens", SETS_COUNT, AT(max_tokens), 1, 1e9, {0}},
    {"max_completion_tokens", SETS_COUNT, AT(max_tokens), 1, 1e9, {0}},
    {"temperature", SETS_REAL, AT(sampler.temperature), 0, 1000, {0}},
    {"top_p", SETS_REAL, AT(sampler.top_p), 1e-6, 1, {0}},
    {"top_k", SETS_COUNT, AT(sampler.top_k), -1, 1e9, {0}},
    {"min_p", SETS_REAL, AT(sampler.min_p), 0, 1, {0}},
    {"repetition_penalty", SETS_REAL, AT(sampler.repeat_penalty), 0.01, 100, {0}},
    {"ignore_eos", SETS_FLAG, AT(ignore_eos), 0, 0, {0}},
    {"seed", SETS_OTHER, 0, 0, 0, {0}},
    {"stop", SETS_OTHER, 0, 0, 0, {0}},
    {"echo", SETS_OTHER, 0, 0, 0, {0}},
    {"model", HARMLESS, 0, 0, 0, {0}},
    {"user", HARMLESS, 0, 0, 0, {0}},
    {"metadata", HARMLESS, 0, 0, 0, {0}},
    {"store", HARMLESS, 0, 0, 0, {0}},
    {"service_tier", HARMLESS, 0, 0, 0, {0}},
    {"safety_identifier", HARMLESS, 0, 0, 0, {0}},
    {"prompt_cache_key", HARMLESS, 0, 0, 0, {0}},
    {"parallel_tool_calls", HARMLESS, 0, 0, 0, {0}},
    {"n", ONLY_NUMBER, 0, 1, 0, {0}},
    {"best_of", ONLY_NUMBER, 0, 1, 0, {0}},
    {"frequency_penalty", ONLY_NUMBER, 0, 0, 0, {0}},
    {"presence_penalty", ONLY_NUMBER, 0, 0, 0, {0}},
    {"min_tokens", ONLY_NUMBER, 0, 0, 0, {0}},
    {"top_logprobs", ONLY_NUMBER, 0, 0, 0, {0}},
    {"logprobs", ONLY_FALSE, 0, 0, 0, {0}},
    {"stream", ONLY_FALSE, 0, 0, 0, {0}},
    {"use_beam_search", ONLY_FALSE, 0, 0, 0, {0}},
    {"logit_bias", ONLY_EMPTY, 0, 0, 0, {0}},
    {"tools", ONLY_EMPTY, 0, 0, 0, {0}},
    {"functions", ONLY_EMPTY, 0, 0, 0, {0}},
    {"stop_token_ids", ONLY_EMPTY, 0, 0, 0, {0}},
    {"suffix", ONLY_EMPTY, 0, 0, 0, {0}},
    {"tool_choice", ONLY_WORD, 0, 0, 0, {"none", "auto"}},
    {"response_format", ONLY_WORD, 0, 0, 0, {"text", NULL}},
};
#define N_PARAMETERS (sizeof parameters / sizeof *parameters)

static bool is_null(const JsonValue *v) { return !v || v->kind == JSON_NULL; }

static bool is_bool(const JsonValue *v) { return v->kind == JSON_FALSE || v->kind == JSON_TRUE; }

static bool is_text(const JsonValue *v, const char *text)
{
    return v && v->kind == JSON_STRING && v->size == strlen(text) &&
           memcmp(v->text, text, v->size) == 0;
}

// Is it one of the names, which end with NULL?
static bool is_among(const char *name, const char *const *names)
{
    while (*names && strcmp(name, *names) != 0) {
        names++;
    }
    return *names;
}

// What stands in a message for a value: a number's or string's beginning, or its kind.
static const char *shown(const JsonValue *v, char buffer[48])
{
    if (v->kind == JSON_NUMBER || v->kind == JSON_STRING) {
        snprintf(buffer, 48, v->kind == JSON_STRING ? "\"%.40s\"" : "%.40s", v->text);
    } else {
        snprintf(buffer, 48, "%s", json_kind(v));
    }
    return buffer;
}

static bool wrong(Error *err, const char *name, const JsonValue *v, const char *wanted)
{
    char found[48];
    return error_set(err, ERROR_INPUT, "%s is %s, expected %s", name, shown(v, found), wanted);
}

// A value that would change what is generated in a way that there is not.
static bool check_neutral(const Parameter *p, const JsonValue *v, Error *err)
{
    char found[48];
    const JsonValue *type = v->kind == JSON_OBJECT ? json_member(v, "type") : v;
    const bool ok = p->kind == ONLY_NUMBER  ? v->kind == JSON_NUMBER && json_real(v) == p->min
                    : p->kind == ONLY_FALSE ? v->kind == JSON_FALSE
                    : p->kind == ONLY_EMPTY
                        ? v->kind >= JSON_STRING && v->count == 0 &&
                              (v->kind != JSON_STRING || v->size == 0)
                        : is_text(type, p->words[0]) || (p->words[1] && is_text(type, p->words[1]));
    return ok || error_set(err, ERROR_INPUT, "%s is %s: not supported", p->name, shown(v, found));
}

static bool set_parameter(GenerateOptions *o, const Parameter *p, const JsonValue *v, Error *err)
{
    void *field = (char *)o + p->offset;
    char wanted[80];
    uint64_t whole;
    switch (p->kind) {
    case SETS_COUNT:
        if (p->min < 0 && v->kind == JSON_NUMBER && json_real(v) == p->min) {
            whole = 0;  // -1 switches off
        } else if (!json_whole(v, &whole) || (double)whole < p->min || (double)whole > p->max) {
            snprintf(wanted, sizeof wanted, "a whole number from %.0f to %.0f", p->min, p->max);
            return wrong(err, p->name, v, wanted);
        }
        *(size_t *)field = (size_t)whole;
        return true;
    case SETS_REAL:
        if (v->kind != JSON_NUMBER || !(json_real(v) >= p->min && json_real(v) <= p->max)) {
            snprintf(wanted, sizeof wanted, "a number from %g to %g", p->min, p->max);
            return wrong(err, p->name, v, wanted);
        }
        *(float *)field = (float)json_real(v);
        return true;
    case SETS_FLAG:
        if (!is_bool(v)) {
            return wrong(err, p->name, v, "true or false");
        }
        *(bool *)field = v->kind == JSON_TRUE;
        return true;
    case SETS_OTHER:
    case HARMLESS:
        return true;
    default:
        return check_neutral(p, v, err);
    }
}

// One text, or an array of them.
static bool set_stops(Request *r, const JsonValue *v, Error *err)
{
    const bool one = v->kind == JSON_STRING;
    const JsonValue *text = one ? v : json_first(v);
    const size_t n = one ? 1 : v->count;
    if ((!one && v->kind != JSON_ARRAY) || n > MAX_STOPS) {
        return wrong(err, "stop", v, "a string or an array of at most 16");
    }
    for (size_t i = 0; i < n; i++, text = json_next(text)) {
        if (text->kind != JSON_STRING || !text->size || memchr(text->text, 0, text->size)) {
            return wrong(err, "a stop", text, "a string of 1 character or more, none of them NUL");
        }
        if (!buffer_append(&r->stop_texts, text->text, text->size + 1, err)) {
            return false;
        }
    }
    const char *stop = r->stop_texts.data;
    for (size_t i = 0; i < n; i++, stop += strlen(stop) + 1) {
        r->options.stops.texts[i] = stop;
    }
    r->options.stops.n = n;
    return true;
}

// The parameters of an object, and that it has no member but those, and `others`.
static bool read_parameters(Request *r, const JsonValue *object, const char *const *others,
                            Error *err)
{
    for (size_t i = 0; i < N_PARAMETERS; i++) {
        const JsonValue *v = json_member(object, parameters[i].name);
        if (!is_null(v) && !set_parameter(&r->options, &parameters[i], v, err)) {
            return false;
        }
    }
    const JsonValue *stop = json_member(object, "stop"), *seed = json_member(object, "seed"),
                    *echo = json_member(object, "echo"), *model = json_member(object, "model");
    if (!is_null(stop) && !set_stops(r, stop, err)) {
        return false;
    }
    if (!is_null(seed) && !json_whole(seed, &r->seed)) {
        return wrong(err, "seed", seed, "a whole number from 0 to 2^64 - 1");
    }
    if (!is_null(echo) && (!is_bool(echo) || r->messages)) {
        return wrong(err, "echo", echo, r->messages ? "none in a chat" : "true or false");
    }
    r->echo = echo && echo->kind == JSON_TRUE;
    if (!is_null(model) && model->kind == JSON_STRING) {
        buffer_clear(&r->model);
        if (!buffer_append(&r->model, model->text, model->size, err)) {
            return false;
        }
    }
    const JsonValue *member = json_first(object);
    for (size_t i = 0; i < object->count; i++, member = json_next(member)) {
        bool known = is_among(member->name, others);
        for (size_t k = 0; k < N_PARAMETERS && !known; k++) {
            known = strcmp(member->name, parameters[k].name) == 0;
        }
        if (!known) {
            return error_set(err, ERROR_INPUT, "%.100s: unknown, or not supported", member->name);
        }
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// Reading

static bool read_prompt(Request *r, const JsonValue *object, bool chat, bool completion, Error *err)
{
    r->prompt = completion ? json_member(object, "prompt") : NULL;
    r->messages = chat ? json_member(object, "messages") : NULL;
    if (r->prompt && r->messages) {
        return error_set(err, ERROR_INPUT, "prompt and messages: expected one of them");
    }
    if (!r->prompt && !r->messages) {
        return error_set(err, ERROR_INPUT, "%s missing",
                         !chat         ? "prompt is"
                         : !completion ? "messages is"
                                       : "prompt (or messages) is");
    }
    if (r->prompt && r->prompt->kind != JSON_STRING) {
        return wrong(err, "prompt", r->prompt, "a string");
    }
    if (r->messages && (r->messages->kind != JSON_ARRAY || !r->messages->count)) {
        return wrong(err, "messages", r->messages, "an array of one or more");
    }
    return true;
}

// The envelope of OpenAI's batch format.
static bool read_openai(Request *r, const JsonValue *root, Error *err)
{
    static const char *const names[] = {"custom_id", "method", "url", "body", NULL};
    static const char *const others[][2] = {{"prompt", NULL}, {"messages", NULL}};
    const JsonValue *id = json_member(root, "custom_id"), *method = json_member(root, "method"),
                    *url = json_member(root, "url"), *body = json_member(root, "body");
    const JsonValue *member = json_first(root);
    for (size_t i = 0; i < root->count; i++, member = json_next(member)) {
        if (!is_among(member->name, names)) {
            return error_set(err, ERROR_INPUT, "%.100s: unknown beside custom_id, url and body",
                             member->name);
        }
    }
    if (!id || id->kind != JSON_STRING) {
        return id ? wrong(err, "custom_id", id, "a string")
                  : error_set(err, ERROR_INPUT, "custom_id is missing");
    }
    if (!is_null(method) && !is_text(method, "POST")) {
        return wrong(err, "method", method, "POST");
    }
    const bool chat = is_text(url, "/v1/chat/completions");
    if (!chat && !is_text(url, "/v1/completions")) {
        return url ? wrong(err, "url", url, "/v1/chat/completions or /v1/completions")
                   : error_set(err, ERROR_INPUT, "url is missing");
    }
    r->form = chat ? RESULT_CHAT : RESULT_COMPLETION;
    if (!body || body->kind != JSON_OBJECT) {
        return body ? wrong(err, "body", body, "an object")
                    : error_set(err, ERROR_INPUT, "body is missing");
    }
    return read_prompt(r, body, chat, !chat, err) && read_parameters(r, body, others[chat], err);
}

// {"id": "batch_req_17_0123456789abcdef", "custom_id": "a1", "response":
static bool openai_head(Request *r, const JsonValue *id, Error *err)
{
    const bool ok = buffer_printf(&r->head, err,
                                  "{\"id\": \"batch_req_%llu_%016llx\", \"custom_id\": ",
                                  (unsigned long long)r->number, (unsigned long long)r->hash) &&
                    (id && id->kind == JSON_STRING ? json_string(&r->head, id->text, id->size, err)
                                                   : buffer_append(&r->head, "null", 4, err));
    return ok && buffer_append(&r->head, ", \"response\": ", 14, err);
}

// {"id": "a1", "index": 17,  -- of a line that is no object, whose form nobody knows, with a
// custom_id of null, so that a reader of either form finds what it looks for.
static bool plain_head(Request *r, const JsonValue *id, bool unknown, Error *err)
{
    bool ok = buffer_append(&r->head, "{\"id\": ", 7, err);
    if (id && id->kind == JSON_STRING) {
        ok = ok && json_string(&r->head, id->text, id->size, err);
    } else if (id && id->kind == JSON_NUMBER) {
        ok = ok && buffer_append(&r->head, id->text, id->size, err);
    } else {
        ok = ok && buffer_printf(&r->head, err, "\"line_%llu_%016llx\"",
                                 (unsigned long long)r->number, (unsigned long long)r->hash);
    }
    return ok &&
           buffer_printf(&r->head, err, ", %s\"index\": %llu, ",
                         unknown ? "\"custom_id\": null, " : "", (unsigned long long)r->number);
}

static bool request_start(Request *r, const RequestDefaults *d, const char *line, size_t size,
                          uint64_t number, Error *err)
{
    buffer_clear(&r->head);
    buffer_clear(&r->stop_texts);
    buffer_clear(&r->model);
    *r = (Request){.number = number,
                   .hash = hash_bytes(d->fingerprint, line, size),
                   .seed = derive_seed(d->seed, number),
                   .options = d->generate,
                   .stop_texts = r->stop_texts,
                   .model = r->model,
                   .head = r->head,
                   .line = line,
                   .line_size = size};
    return buffer_append(&r->model, d->model, strlen(d->model), err);
}

bool request_read(Request *r, const RequestDefaults *d, Json *json, const char *line, size_t size,
                  uint64_t number, Error *err)
{
    static const char *const others[] = {"id", "prompt", "messages", NULL};
    Error reading, head;
    if (!request_start(r, d, line, size, number, err)) {
        return false;
    }
    if (d->lines) {
        return plain_head(r, NULL, false, err);
    }
    const bool read = json_read(json, line, size, &reading);
    const JsonValue *root = json->values;
    if (!read || root->kind != JSON_OBJECT) {
        if (!plain_head(r, NULL, true, err)) {
            return false;
        }
        return read ? wrong(err, "the line", root, "an object")
                    : error_set(err, reading.kind, "%s", reading.message);
    }
    if (json_member(root, "custom_id") || json_member(root, "url") || json_member(root, "body")) {
        const bool ok = read_openai(r, root, err);
        if (!openai_head(r, json_member(root, "custom_id"), &head)) {
            *err = head;
            return false;
        }
        // Errors are told in the form of the envelope, even where it does not say which API.
        r->form = r->form == RESULT_PLAIN ? RESULT_CHAT : r->form;
        return ok;
    }
    const JsonValue *id = json_member(root, "id");
    if (!plain_head(r, id, false, err)) {
        return false;
    }
    if (!is_null(id) && id->kind != JSON_STRING && id->kind != JSON_NUMBER) {
        return wrong(err, "id", id, "a string or a number");
    }
    return read_prompt(r, root, true, true, err) && read_parameters(r, root, others, err);
}

bool request_too_long(Request *r, const RequestDefaults *d, uint64_t number, size_t limit,
                      Error *err)
{
    return request_start(r, d, "", 0, number, err) && plain_head(r, NULL, !d->lines, err) &&
           error_set(err, ERROR_INPUT, "the line has more than %zu bytes, the most allowed", limit);
}

void request_free(Request *r)
{
    buffer_free(&r->head);
    buffer_free(&r->stop_texts);
    buffer_free(&r->model);
}

// --------------------------------------------------------------------------------------------
// Encoding

// A message's content: a string, or what is often made of it, [{"type": "text", "text": ..}].
static bool read_content(const JsonValue *message, size_t i, Message *out, Error *err)
{
    const JsonValue *v = json_member(message, "content");
    if (v && v->kind == JSON_ARRAY && v->count == 1 && json_first(v)->kind == JSON_OBJECT &&
        is_text(json_member(json_first(v), "type"), "text")) {
        v = json_member(json_first(v), "text");
    }
    if (!v || v->kind != JSON_STRING) {
        char found[48];
        return error_set(err, ERROR_INPUT, "messages[%zu].content is %s, expected a text", i,
                         v ? shown(v, found) : "missing");
    }
    out->text = v->text;
    out->size = v->size;
    return true;
}

static bool read_message(const JsonValue *v, size_t i, Message *out, Error *err)
{
    static const struct {
        const char *name;
        Role role;
    } roles[] = {{"system", ROLE_SYSTEM},
                 {"developer", ROLE_SYSTEM},
                 {"user", ROLE_USER},
                 {"assistant", ROLE_ASSISTANT}};
    char found[48];
    if (v->kind != JSON_OBJECT) {
        return error_set(err, ERROR_INPUT, "messages[%zu] is %s, expected an object", i,
                         shown(v, found));
    }
    const JsonValue *member = json_first(v);
    for (size_t k = 0; k < v->count; k++, member = json_next(member)) {
        if (member->kind != JSON_NULL && strcmp(member->name, "role") != 0 &&
            strcmp(member->name, "content") != 0 && strcmp(member->name, "name") != 0) {
            return error_set(err, ERROR_INPUT, "messages[%zu].%.100s: not supported", i,
                             member->name);
        }
    }
    const JsonValue *role = json_member(v, "role");
    for (size_t k = 0; k < sizeof roles / sizeof *roles; k++) {
        if (is_text(role, roles[k].name)) {
            out->role = roles[k].role;
            return read_content(v, i, out, err);
        }
    }
    return error_set(err, ERROR_INPUT,
                     "messages[%zu].role is %s, expected system, developer, user or assistant", i,
                     role ? shown(role, found) : "missing");
}

static bool encode_messages(const Request *r, const RequestDefaults *d, Tokens *out, Error *err)
{
    const size_t n = r->messages ? r->messages->count : 1;
    Message *messages = calloc(n + 1, sizeof *messages);
    if (!messages) {
        return error_memory(err, "messages", (n + 1) * sizeof *messages);
    }
    // messages[0] is the command line's system message, used where there is no other.
    bool ok = true;
    messages[0] = (Message){ROLE_SYSTEM, d->system, d->system ? strlen(d->system) : 0};
    if (r->messages) {
        const JsonValue *v = json_first(r->messages);
        for (size_t i = 0; ok && i < n; i++, v = json_next(v)) {
            ok = read_message(v, i, &messages[i + 1], err);
        }
    } else {
        messages[1] = (Message){ROLE_USER, r->prompt ? r->prompt->text : r->line,
                                r->prompt ? r->prompt->size : r->line_size};
    }
    const size_t first = d->system && (n == 0 || messages[1].role != ROLE_SYSTEM) ? 0 : 1;
    const Conversation c = {messages + first, n + 1 - first, .special = d->special};
    ok = ok && prompt_encode_chat(d->tokenizer, d->chat, &c, out, err);
    free(messages);
    return ok;
}

bool request_encode(const Request *r, const RequestDefaults *d, Tokens *out, Error *err)
{
    const bool chat = r->messages || (d->through_chat && r->form == RESULT_PLAIN);
    const TextSpan span = {r->prompt ? r->prompt->text : r->line,
                           r->prompt ? r->prompt->size : r->line_size, d->special};
    if (chat && !d->chat) {
        return error_set(err, ERROR_INPUT, "the model has no chat template, expected for messages");
    }
    if (chat ? !encode_messages(r, d, out, err)
             : !tokenizer_encode(d->tokenizer, &span, 1, true, out, err)) {
        return false;
    }
    if (d->truncate) {
        prompt_truncate(out, tokenizer_bos(d->tokenizer), d->context, r->options.max_tokens);
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// Results

static bool put_usage(const Sequence *s, Buffer *out, Error *err)
{
    return buffer_printf(out, err,
                         "\"usage\": {\"prompt_tokens\": %zu, \"completion_tokens\": %zu, "
                         "\"total_tokens\": %zu}",
                         s->n_prompt, s->tokens.size - s->n_prompt, s->tokens.size);
}

static bool put_openai(const Request *r, const Sequence *s, Buffer *out, Error *err)
{
    const unsigned long long number = r->number, hash = r->hash;
    const bool chat = r->form == RESULT_CHAT;
    // A clock would make the results of two runs differ: created is 0.
    return buffer_printf(out, err,
                         "{\"status_code\": 200, \"request_id\": \"req_%llu_%016llx\", \"body\": "
                         "{\"id\": \"%s_%llu_%016llx\", \"object\": \"%s\", \"created\": 0, "
                         "\"model\": ",
                         number, hash, chat ? "chatcmpl" : "cmpl", number, hash,
                         chat ? "chat.completion" : "text_completion") &&
           json_string(out, r->model.data, r->model.size, err) &&
           buffer_printf(out, err, ", \"choices\": [{\"index\": 0, %s",
                         chat ? "\"message\": {\"role\": \"assistant\", \"content\": "
                              : "\"text\": ") &&
           json_string(out, s->text.data, s->text.size, err) &&
           buffer_printf(out, err, "%s, \"logprobs\": null, \"finish_reason\": \"%s\"}], ",
                         chat ? "}" : "", finish_name(s->finish)) &&
           put_usage(s, out, err) && buffer_append(out, "}}, \"error\": null}\n", 19, err);
}

bool request_result(const Request *r, const Sequence *s, Buffer *out, Error *err)
{
    if (!buffer_append(out, r->head.data, r->head.size, err)) {
        return false;
    }
    if (r->form != RESULT_PLAIN) {
        return put_openai(r, s, out, err);
    }
    return buffer_append(out, "\"text\": ", 8, err) &&
           json_string(out, s->text.data, s->text.size, err) &&
           buffer_printf(out, err, ", \"finish_reason\": \"%s\", ", finish_name(s->finish)) &&
           put_usage(s, out, err) &&
           buffer_printf(out, err, ", \"seed\": %llu}\n", (unsigned long long)r->seed);
}

static const char failed_plain[] = "\"error\": ", failed_openai[] = "null, \"error\": ";

bool request_failure(const Request *r, const Error *failure, Buffer *out, Error *err)
{
    char message[sizeof failure->message + 32];
    const int size = snprintf(message, sizeof message, "line %llu: %s",
                              (unsigned long long)r->number, failure->message);
    return buffer_append(out, r->head.data, r->head.size, err) &&
           buffer_printf(out, err, "%s{\"code\": \"invalid_request\", \"message\": ",
                         r->form == RESULT_PLAIN ? failed_plain : failed_openai) &&
           json_string(out, message, (size_t)size, err) && buffer_append(out, "}}\n", 3, err);
}

bool request_failed(const Request *r, const char *rest, size_t size)
{
    const char *failed = r->form == RESULT_PLAIN ? failed_plain : failed_openai;
    return size >= strlen(failed) && memcmp(rest, failed, strlen(failed)) == 0;
}
