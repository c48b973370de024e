// chat_probe.c - finds out what a chat template can do. See chat_probe.h.
//
// The texts around a thought are found by comparing renderings of one question Q:
//
//     prompt      ..<|user|>Q<|assistant|>                                 Q, to be answered
//     answered    ..<|user|>Q<|assistant|><think>\nR\n</think>\n\nA<|end|> Q and its answer, with a
//                                         open      close                  thought R, in any form
//     off         ..<|user|>Q<|assistant|><think>\n\n</think>\n\n          as the prompt, with
//                                         open      close                  enable_thinking false
//
// If a template reveals neither, its source is searched for </think>: it may still cut thoughts out
// of earlier answers. If the prompt itself ends with `open`, `open` is its last tag, as in
// <|assistant|><think>.
#include "text/chat_probe.h"

#include <string.h>

// Texts that no template contains or changes.
#define QUESTION "QuestionText"
#define ANSWER   "AnswerText"
#define THOUGHT  "ThoughtText"
#define SYSTEM   "SystemText"

// Where a message has a thought beside the text of its answer.
typedef enum {
    NO_THOUGHT,
    IN_MEMBER,  // {"content": A, MEMBER: R}
    IN_PARTS,   // {"content": [{"type": MEMBER, MEMBER: R}, {"type": "text", "text": A}]}
    IN_BLOCKS,  // {"content": {MEMBER: [{"type": "thoughts", "text": R}, ..]}}
} ThoughtPlace;

// The forms of messages that templates take thoughts from. The first that shows one counts.
static const struct {
    ThoughtPlace place;
    const char *member;
} thought_forms[] = {
    {IN_MEMBER, "reasoning_content"}, {IN_MEMBER, "reasoning"}, {IN_MEMBER, "thinking"},
    {IN_PARTS, "thinking"},           {IN_BLOCKS, "blocks"},
};
#define N_THOUGHT_FORMS (sizeof thought_forms / sizeof *thought_forms)

#define WORD(word)                  \
    {                               \
        .kind = (word), .extent = 1 \
    }
#define NAMED(name)                                                                \
    {                                                                              \
        .kind = JSON_STRING, .extent = 1, .text = (name), .size = sizeof(name) - 1 \
    }

// The switches for thinking. The first two may also change what the system message says; the others
// must change what follows the question, since these names have other uses.
static const ThinkingSwitch switches[] = {
    {"enable_thinking", WORD(JSON_TRUE), WORD(JSON_FALSE)},
    {"thinking", WORD(JSON_TRUE), WORD(JSON_FALSE)},
    {"reasoning", WORD(JSON_TRUE), WORD(JSON_FALSE)},
    {"reasoning_effort", NAMED("high"), NAMED("none")},
    {"reasoning_effort", NAMED("high"), NAMED("no_think")},
    {"reasoning_effort", NAMED("high"), NAMED("minimal")},
};
#define N_SWITCHES 6
#define N_FREE     2  // of them

// A conversation to try: a question, optionally after a system message, optionally answered.
typedef struct {
    bool system, answered;
    ThoughtPlace place;  // of the answer's thought
    const char *member;
    ThinkMode think;
    bool tools;  // there is a tool, and the answer calls it, which gives a result
} Probe;

// Adds {"type": type, name: text}.
static void build_part(JsonBuilder *b, const char *type, const char *name, const char *text)
{
    const size_t part = build_open(b, NULL, JSON_OBJECT);
    build_text(b, "type", type, strlen(type));
    build_text(b, name, text, strlen(text));
    build_close(b, part);
}

// Adds a function, and arguments or parameters for it.
static void build_function(JsonBuilder *b, const char *arguments)
{
    build_text(b, "type", "function", 8);
    const size_t function = build_open(b, "function", JSON_OBJECT);
    build_text(b, "name", "f", 1);
    build_text(b, "description", "", 0);
    const size_t object = build_open(b, arguments, JSON_OBJECT);
    build_text(b, "type", "object", 6);
    build_close(b, build_open(b, "properties", JSON_OBJECT));
    build_close(b, object);
    build_close(b, function);
}

static void build_tools(JsonBuilder *b)
{
    const size_t tools = build_open(b, NULL, JSON_ARRAY), tool = build_open(b, NULL, JSON_OBJECT);
    build_function(b, "parameters");
    build_close(b, tool);
    build_close(b, tools);
}

static void build_call(JsonBuilder *b)
{
    const size_t calls = build_open(b, "tool_calls", JSON_ARRAY);
    const size_t call = build_open(b, NULL, JSON_OBJECT);
    build_text(b, "id", "call00001", 9);
    build_function(b, "arguments");
    build_close(b, call);
    build_close(b, calls);
}

// Adds the content of the answer, and its thought.
static void build_content(JsonBuilder *b, const Probe *p)
{
    if (p->place == IN_PARTS) {
        const size_t parts = build_open(b, "content", JSON_ARRAY);
        build_part(b, p->member, p->member, THOUGHT);
        build_part(b, "text", "text", ANSWER);
        build_close(b, parts);
    } else if (p->place == IN_BLOCKS) {
        const size_t content = build_open(b, "content", JSON_OBJECT);
        const size_t blocks = build_open(b, p->member, JSON_ARRAY);
        build_part(b, "thoughts", "text", THOUGHT);
        build_part(b, "response", "text", ANSWER);
        build_close(b, blocks);
        build_close(b, content);
    } else {
        build_text(b, "content", ANSWER, strlen(ANSWER));
        if (p->place == IN_MEMBER) {
            build_text(b, p->member, THOUGHT, strlen(THOUGHT));
        }
    }
}

static void build_messages(JsonBuilder *b, const Probe *p)
{
    const size_t list = build_open(b, NULL, JSON_ARRAY);
    if (p->system) {
        chat_add_message(b, ROLE_SYSTEM, SYSTEM, strlen(SYSTEM));
    }
    chat_add_message(b, ROLE_USER, QUESTION, strlen(QUESTION));
    if (p->answered) {
        const size_t message = build_open(b, NULL, JSON_OBJECT);
        build_text(b, "role", role_names[ROLE_ASSISTANT], strlen(role_names[ROLE_ASSISTANT]));
        build_content(b, p);
        if (p->tools) {
            build_call(b);
        }
        build_close(b, message);
    }
    if (p->tools) {
        chat_add_message(b, ROLE_TOOL, ANSWER, strlen(ANSWER));
        chat_add_message(b, ROLE_USER, QUESTION, strlen(QUESTION));
    }
    build_close(b, list);
}

// Adds what the template itself wrote.
static void note_written(ChatTemplate *t, const ChatText *text)
{
    for (size_t i = 0; i < text->n_spans; i++) {
        const TextSpan s = text->spans[i];
        buffer_add(&t->written, s.text, s.special ? s.size : 0);
        buffer_add_text(&t->written, "\n");
    }
}

// Renders a conversation; *out is empty if the template does not take it. Error: ERROR_RUN.
static bool try_probe(ChatTemplate *t, Probe probe, Buffer *out, Error *err)
{
    JsonBuilder messages = {0}, tools = {0};
    ChatText text = {0};
    Error why = {0};
    build_messages(&messages, &probe);
    build_tools(&tools);
    const Conversation c = {.messages = messages.values,
                            .tools = probe.tools ? tools.values : NULL,
                            .settings = {.date = {2000, 1, 1}},
                            .think = probe.think,
                            .answered = probe.answered};
    buffer_clear(out);
    buffer_add_text(out, "");
    bool ok = build_check(&messages, err) && build_check(&tools, err);
    if (ok && chat_render(t, &c, &text, &why)) {
        buffer_add(out, text.output.text, text.output.size);
        note_written(t, &text);
    }
    ok = ok && buffer_check(out, err) && buffer_check(&t->written, err);
    if (ok && why.kind == ERROR_RUN) {
        *err = why;
        ok = false;
    }
    chat_text_free(&text);
    build_free(&messages);
    build_free(&tools);
    return ok;
}

// --------------------------------------------------------------------------------------------
// Texts

// The offset of `text` in data (size), at or after `from`; `size` if absent.
static size_t find_text(const char *data, size_t size, size_t from, const char *text)
{
    const size_t length = strlen(text);
    for (size_t i = from; i + length <= size; i++) {
        if (memcmp(data + i, text, length) == 0) {
            return i;
        }
    }
    return size;
}

static size_t find_in(const Buffer *b, const char *text)
{
    return find_text(b->data, b->size, 0, text);
}

static size_t common_size(const Buffer *a, const Buffer *b)
{
    size_t n = 0;
    while (n < a->size && n < b->size && a->data[n] == b->data[n]) {
        n++;
    }
    return n;
}

// Where the tag at the end of a text begins, ignoring white space; if there is none, where the last
// line begins.
static size_t last_tag(const char *text, size_t size)
{
    const Trimmed t = trimmed(text, size);
    const char *end = t.text + t.size;
    const bool tag = t.size && strchr(">]", end[-1]);
    const char opens = tag ? (end[-1] == '>' ? '<' : '[') : '\n';
    const char *at = end;
    while (at > t.text && at[-1] != opens) {
        at--;
    }
    return (size_t)(at - text) - (tag && at > t.text ? 1 : 0);
}

static void set_text(Buffer *to, const char *text, size_t size)
{
    buffer_clear(to);
    buffer_add(to, text, size);
}

// Sets `open` from the end of a prompt that begins a thought: to its last tag, or to the tag that
// `close` closes.
static void set_open_from_prompt(ThinkingTexts *t, const char *prompt, size_t size)
{
    const Trimmed close = trimmed(t->close.data, t->close.size);
    const size_t at = last_tag(prompt, size);
    const bool closes = close.size > 2 && strchr("<[", close.text[0]) && close.text[1] == '/';
    const size_t name = closes ? close.size - 2 : 0;
    const Trimmed tag = trimmed(prompt + at, size - at);
    if (closes && (tag.size != name + 1 || memcmp(tag.text + 1, close.text + 2, name) != 0)) {
        set_text(&t->open, close.text, 1);
        buffer_add(&t->open, close.text + 2, name);
    } else {
        set_text(&t->open, prompt + at, size - at);
    }
}

// Sets the texts from an empty thought (size), whose closing text begins at `close`. Of the white
// space between them each gets a half.
static void set_by_empty(ThinkingTexts *think, const char *text, size_t close, size_t size)
{
    const size_t at = close - space_at_end(text, close) / 2;
    set_text(&think->open, text, at);
    set_text(&think->close, text + at, size - at);
}

// --------------------------------------------------------------------------------------------
// Thinking

// Sets the texts around the thought of a rendered answer, if it shows both. A content of several
// parts that is printed as it is shows their structure, too.
static bool take_texts(ThinkingTexts *think, const Buffer *prompt, const Buffer *text)
{
    const size_t begin = find_in(text, THOUGHT), end = begin + strlen(THOUGHT);
    const size_t answer = begin < text->size ? find_text(text->data, text->size, end, ANSWER)
                                             : text->size;
    if (answer == text->size || find_text(text->data, answer, end, "type") < answer) {
        return false;
    }
    set_text(&think->close, text->data + end, answer - end);
    const size_t n = common_size(prompt, text);
    const Trimmed left = trimmed(prompt->data + n, prompt->size - n);
    const Trimmed close = trimmed(think->close.data, think->close.size);
    if (n < begin) {
        set_text(&think->open, text->data + n, begin - n);
    } else if (left.size >= close.size && memcmp(left.text, close.text, close.size) != 0) {
        set_text(&think->open, prompt->data + n, prompt->size - n);
    } else {
        set_open_from_prompt(think, text->data, begin);
    }
    return true;
}

// Finds the texts around a thought by rendering an answer that has one.
static bool find_by_answer(ChatTemplate *t, const Buffer *prompt, Buffer *text, Error *err)
{
    ThinkingTexts *think = &t->think;
    bool found = false;
    for (size_t i = 0; i < N_THOUGHT_FORMS && !found; i++) {
        const Probe probe = {.answered = true,
                             .place = thought_forms[i].place,
                             .member = thought_forms[i].member,
                             .think = THINK_ON};
        if (!jinja_mentions(t->jinja, probe.member)) {
            continue;
        }
        if (!try_probe(t, probe, text, err)) {
            return false;
        }
        found = take_texts(think, prompt, text);
        think->member = found && probe.place == IN_MEMBER ? probe.member : NULL;
    }
    return buffer_check(&think->open, err) && buffer_check(&think->close, err);
}

// What follows the question; all if that is absent.
static Trimmed after_question(const Buffer *text)
{
    const size_t at = find_in(text, QUESTION), from = at < text->size ? at : 0;
    return (Trimmed){text->data + from, text->size - from};
}

// Finds the variable that switches thinking. `on` and `off` are the prompts for its two values.
static bool find_switch(ChatTemplate *t, Buffer *on, Buffer *off, Error *err)
{
    for (size_t i = 0; i < N_SWITCHES; i++) {
        t->think.control = &switches[i];
        if (!jinja_mentions(t->jinja, switches[i].name)) {
            continue;
        }
        if (!try_probe(t, (Probe){.think = THINK_ON}, on, err) ||
            !try_probe(t, (Probe){.think = THINK_OFF}, off, err)) {
            return false;
        }
        const Trimmed all[] = {{on->data, on->size}, {off->data, off->size}};
        const Trimmed a = i < N_FREE ? all[0] : after_question(on);
        const Trimmed b = i < N_FREE ? all[1] : after_question(off);
        if (on->size && off->size && (a.size != b.size || memcmp(a.text, b.text, a.size) != 0)) {
            return true;
        }
    }
    t->think.control = NULL;
    return try_probe(t, (Probe){0}, on, err);
}

// Finds the texts around a thought in an empty one with which the prompt `off` ends.
static void find_by_switch(ThinkingTexts *think, const Buffer *on, const Buffer *off)
{
    const size_t on_at = find_in(on, QUESTION), off_at = find_in(off, QUESTION);
    const size_t n = on->size - on_at;
    if (off->size - off_at <= n || memcmp(on->data + on_at, off->data + off_at, n) != 0) {
        return;
    }
    const char *empty = off->data + off_at + n;
    const size_t size = off->size - off_at - n;
    const size_t close = last_tag(empty, size);
    if (trimmed(empty, size).size == 0) {
        return;
    }
    set_by_empty(think, empty, close, size);
    if (trimmed(empty, close).size == 0) {
        set_open_from_prompt(think, on->data, on->size);
    }
}

static bool ends_alike(const Buffer *prompt, const Buffer *open)
{
    const Trimmed all = trimmed(prompt->data, prompt->size), end = trimmed(open->data, open->size);
    return end.size && all.size >= end.size &&
           memcmp(all.text + all.size - end.size, end.text, end.size) == 0;
}

// If `open` is the last tag of the prompt, extends it by the preceding tags until the prompt for an
// answer without a thought ends differently.
static bool lengthen_open(ChatTemplate *t, const Buffer *on, Buffer *off, Error *err)
{
    Buffer *open = &t->think.open;
    if (!t->think.control || !ends_alike(on, open)) {
        return true;
    }
    if (!try_probe(t, (Probe){.think = THINK_OFF}, off, err)) {
        return false;
    }
    const size_t end = trimmed(on->data, on->size).size;
    size_t at = end - trimmed(open->data, open->size).size;
    while (at && ends_alike(off, open)) {
        do {
            at--;
        } while (at && !strchr("<[", on->data[at]));
        set_text(open, on->data + at, end - at);
    }
    return buffer_check(open, err);
}

static bool template_mentions(const ChatTemplate *t, const char *text)
{
    return find_text(t->source.source, t->source.size, 0, text) < t->source.size;
}

// Takes `end` off the end of a text (*size), if it ends so.
static bool cut_end(const char *text, size_t *size, const char *end)
{
    const size_t n = strlen(end);
    const bool found = *size >= n && memcmp(text + *size - n, end, n) == 0;
    *size -= found ? n : 0;
    return found;
}

// Sets the texts to these names, with the white space of an empty thought before a rendered answer
// or, if there is none, with that of most models.
static void set_by_name(ThinkingTexts *think, const char *open, const char *close,
                        const Buffer *answered)
{
    const size_t answer = find_in(answered, ANSWER);
    size_t at = answer - space_at_end(answered->data, answer);
    if (answer < answered->size && cut_end(answered->data, &at, close)) {
        const size_t close_at = at;
        at -= space_at_end(answered->data, at);
        if (cut_end(answered->data, &at, open)) {
            set_by_empty(think, answered->data + at, close_at - at, answer - at);
            return;
        }
    }
    set_text(&think->open, open, strlen(open));
    buffer_add_text(&think->open, "\n");
    set_text(&think->close, "\n", 1);
    buffer_add_text(&think->close, close);
    buffer_add_text(&think->close, "\n\n");
}

static bool find_by_name(ChatTemplate *t, Buffer *text, Error *err)
{
    static const char *const pairs[][2] = {{"<think>", "</think>"}, {"[THINK]", "[/THINK]"}};
    for (size_t i = 0; i < 2 && !t->think.close.size; i++) {
        if (!template_mentions(t, pairs[i][1])) {
            continue;
        }
        if (!try_probe(t, (Probe){.answered = true}, text, err)) {
            return false;
        }
        set_by_name(&t->think, pairs[i][0], pairs[i][1], text);
    }
    return true;
}

// Finds what the template writes before an answer without a thought, if that is more than a space
// and not an empty thought.
static bool find_answer_text(ChatTemplate *t, const Buffer *prompt, Buffer *text, Error *err)
{
    const Trimmed open = trimmed(t->think.open.data, t->think.open.size);
    if (!try_probe(t, (Probe){.answered = true}, text, err)) {
        return false;
    }
    const size_t answer = find_in(text, ANSWER);
    if (answer == text->size || prompt->size >= answer ||
        memcmp(prompt->data, text->data, prompt->size) != 0) {
        return true;
    }
    const Trimmed before = trimmed(text->data + prompt->size, answer - prompt->size);
    const bool thought = open.size && before.size >= open.size &&
                         memcmp(before.text, open.text, open.size) == 0;
    if (before.size && !thought) {
        set_text(&t->think.answer, text->data + prompt->size, answer - prompt->size);
    }
    return buffer_check(&t->think.answer, err);
}

static bool find_thinking(ChatTemplate *t, Buffer *prompt, Buffer *text, Error *err)
{
    if (!find_switch(t, prompt, text, err)) {
        return false;
    }
    if (t->think.control) {
        find_by_switch(&t->think, prompt, text);
    }
    // A rendered thought is better evidence than the end of a prompt.
    if (!find_by_answer(t, prompt, text, err) || !lengthen_open(t, prompt, text, err)) {
        return false;
    }
    return find_by_name(t, text, err) && try_probe(t, (Probe){0}, prompt, err) &&
           find_answer_text(t, prompt, text, err) && buffer_check(&t->think.open, err) &&
           buffer_check(&t->think.close, err);
}

bool chat_probe(ChatTemplate *t, Error *err)
{
    Buffer prompt = {0}, text = {0};
    t->has_developer = template_mentions(t, "developer");
    t->uses_date = jinja_mentions(t->jinja, "strftime_now");
    bool ok = try_probe(t, (Probe){.system = true}, &text, err);
    t->has_system = ok && find_in(&text, SYSTEM) < text.size;
    ok = ok && find_thinking(t, &prompt, &text, err) &&
         try_probe(t, (Probe){.answered = true, .tools = true}, &text, err);
    buffer_free(&prompt);
    buffer_free(&text);
    return ok;
}
