// chat.c - a model's chat template. See chat.h.
//
//     variables   messages tools documents add_generation_prompt bos_token eos_token, a switch for
//                 thinking, and those of the command line and the request, of which the last counts
//     output      <|user|>Say <|end|><|end|>      spans of the template and of the messages
//     prefilled   <think>\n\n</think>\n\n         the empty thought of a model that shall not think
#include "text/chat.h"

#include <stdlib.h>
#include <string.h>

#include "text/chat_probe.h"

const char *const role_names[N_ROLES] = {"system", "developer", "user", "assistant", "tool"};

static const JsonValue json_null = {.kind = JSON_NULL, .extent = 1};
static const JsonValue json_false = {.kind = JSON_FALSE, .extent = 1};
static const JsonValue json_true = {.kind = JSON_TRUE, .extent = 1};

static JsonValue text_value(TextSpan s)
{
    return (JsonValue){
        .kind = JSON_STRING, .extent = 1, .text = s.text ? s.text : "", .size = s.size};
}

bool chat_open(ChatTemplate *t, const ChatSource *source, Error *err)
{
    *t = (ChatTemplate){
        .source = *source, .bos = text_value(source->bos), .eos = text_value(source->eos)};
    if (source->size > MAX_TEMPLATE_BYTES) {
        return error_set(err, ERROR_INPUT,
                         "%s: the chat template has %zu bytes, expected at most %zu", source->name,
                         source->size, MAX_TEMPLATE_BYTES);
    }
    // Files of before had five texts here, each with its length.
    if (source->size && memchr(source->source, 0, source->size)) {
        return error_set(err, ERROR_INPUT,
                         "%s: the chat template has a NUL, expected its source in Jinja: convert "
                         "the original model again",
                         source->name);
    }
    if (!jinja_compile(&t->jinja, source->name, source->source, source->size, err) ||
        !chat_probe(t, err)) {
        chat_close(t);
        return false;
    }
    return true;
}

void chat_close(ChatTemplate *t)
{
    jinja_free(t->jinja);
    thinking_texts_free(&t->think);
    buffer_free(&t->written);
    *t = (ChatTemplate){0};
}

size_t chat_add_message(JsonBuilder *b, Role role, const char *text, size_t size)
{
    const size_t message = build_open(b, NULL, JSON_OBJECT);
    build_text(b, "role", role_names[role], strlen(role_names[role]));
    const size_t content = build_text(b, "content", text, size);
    build_close(b, message);
    return content;
}

// --------------------------------------------------------------------------------------------
// Rendering

// Most variables that every rendering has.
#define N_VARIABLES 7

// Fills variables (N_VARIABLES), and returns how many there are.
static size_t common_variables(const ChatTemplate *t, const Conversation *c, JinjaVariable *v)
{
    size_t n = 0;
    v[n++] = (JinjaVariable){"messages", c->messages, true};
    v[n++] = (JinjaVariable){"tools", c->tools ? c->tools : &json_null, true};
    v[n++] = (JinjaVariable){"documents", c->documents ? c->documents : &json_null, true};
    v[n++] = (JinjaVariable){"add_generation_prompt", c->answered ? &json_false : &json_true,
                             false};
    v[n++] = (JinjaVariable){"bos_token", &t->bos, false};
    v[n++] = (JinjaVariable){"eos_token", &t->eos, false};
    const ThinkingSwitch *control = t->think.control;
    if (control && c->think != THINK_DEFAULT) {
        v[n++] = (JinjaVariable){control->name, c->think == THINK_ON ? &control->on : &control->off,
                                 false};
    }
    return n;
}

static bool render(const ChatTemplate *t, const Conversation *c, JinjaOutput *out, Error *err)
{
    const ChatSettings *settings = &c->settings;
    const JsonValue *more = c->variables;
    const size_t n_more = more ? more->count : 0;
    const size_t most = N_VARIABLES + settings->n_variables + n_more;
    JinjaVariable *variables = calloc(most, sizeof *variables);
    if (!variables) {
        return error_memory(err, "the variables of a chat template", most * sizeof *variables);
    }
    size_t n = common_variables(t, c, variables);
    for (size_t i = 0; i < settings->n_variables; i++) {
        variables[n++] = settings->variables[i];
    }
    const JsonValue *member = n_more ? json_first(more) : NULL;
    for (size_t i = 0; i < n_more; i++, member = json_next(member)) {
        variables[n++] = (JinjaVariable){member->name, member, true};
    }
    const JinjaInput input = {.variables = variables,
                              .n_variables = n,
                              .year = settings->date.year,
                              .month = settings->date.month,
                              .day = settings->date.day,
                              .limits = JINJA_LIMITS};
    const bool ok = jinja_render(t->jinja, &input, out, err);
    free(variables);
    if (!ok && out->refused) {
        const Error why = *err;
        error_set(err, why.kind, "the chat template refuses the messages: %s", why.message);
    }
    return ok;
}

// --------------------------------------------------------------------------------------------
// Spans

static bool is_role(const JsonValue *v)
{
    for (size_t i = 0; v && i < N_ROLES; i++) {
        if (v->text == role_names[i]) {
            return true;
        }
    }
    return false;
}

// Adds a span. The template's own text is one span as far as it goes, so that names of special
// tokens may be joined from several expressions.
static void add_span(ChatText *text, TextSpan span, const JsonValue *source)
{
    TextSpan *last = text->n_spans ? &text->spans[text->n_spans - 1] : NULL;
    if (!source && last && !text->sources[text->n_spans - 1] &&
        last->text + last->size == span.text) {
        last->size += span.size;
        return;
    }
    text->sources[text->n_spans] = source;
    text->spans[text->n_spans++] = span;
}

static void add_own_text(ChatText *text, const Buffer *own)
{
    if (own->size) {
        add_span(text, (TextSpan){own->data, own->size, true, false}, NULL);
    }
}

// Does the rendered text end with this one, apart from white space?
static bool ends_with(const JinjaOutput *out, const Buffer *text)
{
    const Trimmed end = trimmed(text->data, text->size), all = trimmed(out->text, out->size);
    return end.size && all.size >= end.size &&
           memcmp(all.text + all.size - end.size, end.text, end.size) == 0;
}

// Takes the spans of the output over, and adds an empty thought where one is needed.
static void take_spans(const ChatTemplate *t, const Conversation *c, ChatText *text)
{
    const JinjaOutput *out = &text->output;
    for (size_t i = 0; i < out->n_spans; i++) {
        const bool own = out->spans[i].special || is_role(out->sources[i]);
        TextSpan span = out->spans[i];
        span.special = own || c->special;
        span.guarded = !own && !c->special;
        add_span(text, span, own ? NULL : out->sources[i]);
    }
    text->in_thought = !c->answered && can_think(&t->think) && ends_with(out, &t->think.open);
    text->answers = !c->answered && ends_with(out, &t->think.close);
    const bool prefills = c->think == THINK_OFF && !t->think.control && can_think(&t->think);
    if (prefills && !text->answers) {
        if (!text->in_thought) {
            add_own_text(text, &t->think.open);
        }
        add_own_text(text, &t->think.close);
        text->in_thought = false;
        text->answers = true;
    }
}

bool chat_render(const ChatTemplate *t, const Conversation *c, ChatText *out, Error *err)
{
    chat_text_free(out);
    if (!render(t, c, &out->output, err)) {
        return false;
    }
    const size_t most = out->output.n_spans + 2;
    out->spans = calloc(most, sizeof *out->spans);
    out->sources = calloc(most, sizeof *out->sources);
    if (!out->spans || !out->sources) {
        return error_memory(err, "a rendered chat", most * sizeof *out->spans);
    }
    take_spans(t, c, out);
    return true;
}

void chat_text_free(ChatText *text)
{
    jinja_output_free(&text->output);
    free(text->spans);
    free(text->sources);
    *text = (ChatText){0};
}
