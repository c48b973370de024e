// info.c - what a checkpoint and its tokenizer say: --info, --verify, --tokenize. See modes.h.
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/threads.h"
#include "batch/choice.h"
#include "cli/answer.h"
#include "cli/modes.h"
#include "cli/prompt.h"
#include "ops.h"
#include "text/width.h"

// --------------------------------------------------------------------------------------------
// --info: facts
//
// What the summary and JSON both show is found once, here.

typedef struct {
    const char *name;
    double value;
} Number;

#define MAX_CONFIG 31

typedef struct {
    Number config[MAX_CONFIG];
    size_t n_config;
    const char *rope_scaling;
    size_t parameters;               // values of all tensors, without padding
    size_t of_type[N_WEIGHT_TYPES];  // of them, by weight type
    size_t weight_bytes, kv_bytes;   // kv_bytes: of one sequence that fills the context
} Facts;

static double count_layers(const Config *p, unsigned flag)
{
    size_t n = 0;
    for (size_t layer = 0; layer < p->n_layers; layer++) {
        n += (p->layer_flags[layer] & flag) != 0;
    }
    return (double)n;
}

static void find_config(Facts *f, const Config *p)
{
    static const char *const scalings[N_ROPE_SCALINGS] = {"none", "linear", "llama3", "yarn",
                                                          "longrope"};
    const Number config[] = {{"dim", (double)p->dim},
                             {"hidden_dim", (double)p->hidden_dim},
                             {"n_layers", (double)p->n_layers},
                             {"n_heads", (double)p->n_heads},
                             {"n_kv_heads", (double)p->n_kv_heads},
                             {"head_dim", (double)p->head_dim},
                             {"vocab_size", (double)p->vocab_size},
                             {"context_length", (double)p->context_length},
                             {"sliding_window", (double)p->sliding_window},
                             {"rope_theta", p->rope_theta},
                             {"norm_eps", p->norm_eps},
                             {"tied_head", p->tied_head},
                             {"qkv_bias", p->qkv_bias}};
    // What makes a family of models different: only what this one has, since most have none of it.
    const Number switches[] = {{"o_bias", p->o_bias},
                               {"mlp_bias", p->mlp_bias},
                               {"n_experts", (double)p->n_experts},
                               {"n_experts_used", (double)p->n_experts_used},
                               {"qk_norm", (double)p->qk_norm},
                               {"embedding_scale", p->embedding_scale},
                               {"residual_scale", p->residual_scale},
                               {"attention_scale", p->attention_scale},
                               {"logit_scale", p->logit_scale},
                               {"attention_cap", p->attention_cap},
                               {"logit_cap", p->logit_cap},
                               {"norm_placement", (double)p->norm_placement},
                               {"activation", (double)p->activation},
                               {"rotary_dim", (double)p->rotary_dim},
                               {"query_beta", p->query_beta},
                               {"window_rope_theta", p->window_rope_theta},
                               {"full_layers", count_layers(p, LAYER_FULL)},
                               {"no_rope_layers", count_layers(p, LAYER_NO_ROPE)}};
    f->n_config = sizeof config / sizeof *config;
    memcpy(f->config, config, sizeof config);
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) {
        if (switches[i].value != 0) {
            f->config[f->n_config++] = switches[i];
        }
    }
    _Static_assert(sizeof config + sizeof switches <= sizeof f->config, "MAX_CONFIG");
    f->rope_scaling = scalings[p->rope_scaling.kind];
}

static bool find_facts(Facts *f, const Engine *e, Error *err)
{
    const Checkpoint *c = &e->checkpoint;
    *f = (Facts){0};
    find_config(f, &c->config);
    for (size_t i = 0; i < c->n_tensors; i++) {
        const Matrix *m = &c->tensors[i].matrix;
        f->parameters += m->rows * m->cols;
        f->of_type[m->type] += m->rows * m->cols;
        f->weight_bytes += c->tensors[i].bytes;
    }
    return engine_sequence_bytes(e, &f->kv_bytes, err);
}

static const char *checkpoint_kind(const Checkpoint *c)
{
    static const char *const kinds[] = {[CHECKPOINT_NATIVE] = "native",
                                        [CHECKPOINT_LLAMA2C] = "llama2.c",
                                        [CHECKPOINT_GGUF] = "GGUF"};
    return kinds[c->kind];
}

static void put_number(JsonWriter *w, const char *name, double value)
{
    char number[32];
    const int size = snprintf(number, sizeof number, "%.9g", value);
    json_put_json(w, name, number, (size_t)size);
}

static void put_sampling_json(JsonWriter *w, const Sampling *s)
{
    json_open(w, "sampling", '{');
    for (size_t i = 0; i < s->n; i++) {
        put_number(w, s->values[i].name, s->values[i].value);
    }
    json_close(w, '}');
}

// null if the model does not think.
static void put_thinking_json(JsonWriter *w, const ThinkingTexts *think)
{
    if (!can_think(think)) {
        json_put_null(w, "thinking");
        return;
    }
    json_open(w, "thinking", '{');
    json_put_string(w, "open", think->open.data, think->open.size);
    json_put_string(w, "close", think->close.data, think->close.size);
    json_put_text(w, "variable", think->control ? think->control->name : NULL);
    json_close(w, '}');
}

static void put_info_json(Buffer *out, const Facts *f, const Engine *e)
{
    const Checkpoint *c = &e->checkpoint;
    JsonWriter w = {out, false};
    json_open(&w, NULL, '{');
    json_open(&w, "config", '{');
    for (size_t i = 0; i < f->n_config; i++) {
        put_number(&w, f->config[i].name, f->config[i].value);
    }
    json_put_text(&w, "rope_scaling", f->rope_scaling);
    json_close(&w, '}');
    json_put_text(&w, "file", c->path);
    json_put_text(&w, "kind", checkpoint_kind(c));
    json_put_count(&w, "parameters", f->parameters);
    json_put_text(&w, "tokenizer", tokenizer_kind(e->tokenizer));
    json_put_bool(&w, "chat", e->has_chat);
    put_thinking_json(&w, &e->chat.think);
    put_sampling_json(&w, &c->sampling);
    json_put_text(&w, "simd", ops_name());
    json_put_count(&w, "weight_bytes", f->weight_bytes);
    json_put_count(&w, "context", e->context);
    json_put_count(&w, "kv_bytes", f->kv_bytes);
    json_put_string(&w, "provenance", (const char *)c->provenance.data, c->provenance.size);
    json_open(&w, "tensors", '[');
    for (size_t i = 0; i < c->n_tensors; i++) {
        const Tensor *t = &c->tensors[i];
        json_open(&w, NULL, '{');
        json_put_text(&w, "name", t->name);
        json_put_text(&w, "type", weight_types[t->matrix.type].name);
        json_put_count(&w, "rows", t->matrix.rows);
        json_put_count(&w, "cols", t->matrix.cols);
        json_put_count(&w, "bytes", t->bytes);
        json_close(&w, '}');
    }
    json_close(&w, ']');
    json_close(&w, '}');
    buffer_add_text(out, "\n");
}

// --------------------------------------------------------------------------------------------
// --info: the summary
//
//     label            text of the row, as many words as fit; the rest goes on in
//                      the next line, up to a number of lines that is the row's own
//
// These numbers add up to 24, so the summary fits a screen, however long the texts of a file are.

#define SUMMARY_COLUMNS 80
#define LABEL_COLUMNS   17

// Turns what could steer a terminal, or is not UTF-8, into question marks: files choose this text.
static void make_printable(char *text, size_t size)
{
    for (size_t i = 0, n; i < size; i += n) {
        int columns;
        n = character_width(text + i, size - i, &columns);
        if (columns < 0) {
            memset(text + i, '?', n);
        }
    }
}

// How many bytes of a text stand in `columns` columns: all, or those up to the last punctuation
// that fits and has a space after it, or up to the last space, or as many characters as fit.
static size_t line_bytes(const char *text, size_t size, size_t columns)
{
    size_t used = 0, space = 0, stop = 0;
    for (size_t i = 0; i < size; i++) {
        space = text[i] == ' ' ? i : space;
        stop = i && text[i] == ' ' && strchr(",;:", text[i - 1]) ? i : stop;
        used += !utf8_continues(text[i]);
        if (used > columns) {
            return stop ? stop : space ? space : i;
        }
    }
    return size;
}

// Adds a row, and empties `text`, whose error stays.
static void put_row(Buffer *out, const char *label, Buffer *text, size_t max_lines)
{
    const char *rest = text->data;
    size_t left = text->size;
    make_printable(text->data, left);
    for (size_t line = 0; left && line < max_lines; line++) {
        const size_t columns = SUMMARY_COLUMNS - LABEL_COLUMNS;
        size_t n = line_bytes(rest, left, columns);
        const bool cut = line + 1 == max_lines && n < left;
        n = cut ? line_bytes(rest, left, columns - 3) : n;
        buffer_addf(out, "%-*s", LABEL_COLUMNS, line ? "" : label);
        buffer_add(out, rest, n);
        buffer_add_text(out, cut ? "...\n" : "\n");
        n += rest[n] == ' ';  // of the buffer's NUL there is none
        rest += n;
        left -= n;
    }
    text->size = 0;  // buffer_clear would forget an error
}

// A number of parameters as people say it: 820352, 134.5 M, 6.74 B.
static void add_parameters(Buffer *out, size_t n)
{
    if (n < 1000000) {
        buffer_addf(out, "%zu", n);
    } else if (n < 1000000000) {
        buffer_addf(out, "%.1f M", (double)n / 1e6);
    } else {
        buffer_addf(out, "%.2f B", (double)n / 1e9);
    }
}

static void put_weights_row(Buffer *out, Buffer *row, const Facts *f)
{
    add_parameters(row, f->parameters);
    const char *between = ": ";
    for (size_t i = 0; i < N_WEIGHT_TYPES; i++) {
        if (f->of_type[i]) {
            buffer_add_text(row, between);
            add_parameters(row, f->of_type[i]);
            buffer_addf(row, " in %s", weight_types[i].name);
            between = ", ";
        }
    }
    put_row(out, "parameters", row, 2);
}

static void put_tokenizer_row(Buffer *out, Buffer *row, const Tokenizer *t)
{
    const size_t n = tokenizer_vocab_size(t);
    size_t n_special = 0;
    for (size_t i = 0; i < n; i++) {
        n_special += tokenizer_is_special(t, (int)i);
    }
    buffer_addf(row, "%s, %zu tokens, %zu of them special", tokenizer_kind(t), n, n_special);
    const char *before = "; a text ends at ";
    for (size_t i = 0; i < n; i++) {
        if (tokenizer_is_end(t, (int)i)) {
            size_t size;
            const char *piece = tokenizer_piece(t, (int)i, &size);
            buffer_addf(row, "%s%zu ", before, i);
            buffer_add(row, piece, size);
            before = ", ";
        }
    }
    put_row(out, "tokenizer", row, 2);
}

// A text that a template writes, with line ends as \n.
static void add_quoted(Buffer *row, const Buffer *text)
{
    buffer_add_text(row, "\"");
    for (size_t i = 0; i < text->size; i++) {
        if (text->data[i] == '\n') {
            buffer_add_text(row, "\\n");
        } else {
            buffer_add(row, text->data + i, 1);
        }
    }
    buffer_add_text(row, "\"");
}

// What the template can do, and the texts around a thought.
static void put_chat_rows(Buffer *out, Buffer *row, const Engine *e)
{
    const ThinkingTexts *think = &e->chat.think;
    if (!e->has_chat) {
        buffer_add_text(row, e->chat_error.kind ? e->chat_error.message : "none");
    } else {
        buffer_addf(row, "yes, with%s a place for a system message",
                    e->chat.has_system ? "" : "out");
        buffer_add_text(row, e->chat.uses_date ? "; it uses the date" : "");
    }
    put_row(out, "chat template", row, 2);
    if (can_think(think)) {
        buffer_add_text(row, "between ");
        add_quoted(row, &think->open);
        buffer_add_text(row, " and ");
        add_quoted(row, &think->close);
        buffer_addf(row, think->control ? "; switched by %s" : "; without a switch",
                    think->control ? think->control->name : "");
        put_row(out, "thinking", row, 2);
    }
}

// The values in effect: temperature 0.2, top-p 0.9 (default). Of the other options, whose defaults
// leave them off, only those that are set.
static void put_sampling_row(Buffer *out, Buffer *row, const Options *o, const Sampling *s)
{
    SamplingValue values[MAX_SAMPLING];
    const size_t n = options_sampling(o, s, values);
    for (size_t i = 0; i < n; i++) {
        const SamplingValue *v = &values[i];
        const bool always = strcmp(v->name, "temperature") == 0 || strcmp(v->name, "top-p") == 0;
        if (always || !v->is_default) {
            buffer_addf(row, "%s%s %.6g%s", row->size ? ", " : "", v->name, v->value,
                        v->is_default ? " (default)" : "");
        }
    }
    put_row(out, "sampling", row, 2);
}

// Its lines, one after the other.
static void add_provenance(Buffer *row, Bytes provenance)
{
    const char *text = (const char *)provenance.data;
    for (size_t i = 0; i < provenance.size; i++) {
        const bool last = i + 1 == provenance.size;
        if (text[i] != '\n') {
            buffer_add(row, text + i, 1);
        } else if (!last) {
            buffer_add_text(row, ", ");
        }
    }
}

static bool put_summary(Buffer *out, const Facts *f, const Engine *e, const Options *o, Error *err)
{
    const Checkpoint *c = &e->checkpoint;
    Buffer row = {0};
    buffer_add_text(&row, c->path);
    put_row(out, "file", &row, 2);
    buffer_addf(&row, "%s, %.1f MB%s", checkpoint_kind(c), (double)c->file_bytes / 1e6,
                c->config.vocab_only ? ", a vocabulary only" : "");
    put_row(out, "kind", &row, 1);
    for (size_t i = 0; i < f->n_config; i++) {
        buffer_addf(&row, "%s %.6g, ", f->config[i].name, f->config[i].value);
    }
    buffer_addf(&row, "rope_scaling %s", f->rope_scaling);
    put_row(out, "config", &row, 6);
    if (!c->config.vocab_only) {
        put_weights_row(out, &row, f);
    }
    put_tokenizer_row(out, &row, e->tokenizer);
    put_chat_rows(out, &row, e);
    put_sampling_row(out, &row, o, &c->sampling);
    buffer_add_text(&row, ops_name());
    put_row(out, "kernels", &row, 1);
    if (!c->config.vocab_only) {
        buffer_addf(&row,
                    "%.1f MB: weights %.1f MB, keys and values %.1f MB (%s) at a context of %zu",
                    (double)(f->weight_bytes + f->kv_bytes) / 1e6, (double)f->weight_bytes / 1e6,
                    (double)f->kv_bytes / 1e6, e->f16 ? "f16" : "f32", e->context);
        put_row(out, "memory", &row, 2);
    }
    add_provenance(&row, c->provenance);
    put_row(out, "provenance", &row, 2);
    const bool ok = buffer_check(&row, err);
    buffer_free(&row);
    return ok;
}

// --------------------------------------------------------------------------------------------
// --info --tensors

static void put_tensors(Buffer *out, const Checkpoint *c)
{
    for (size_t i = 0; i < c->n_tensors; i++) {
        const Tensor *t = &c->tensors[i];
        char name[sizeof t->name];
        memcpy(name, t->name, sizeof name);
        make_printable(name, strlen(name));
        buffer_addf(out, "%-28s %-5s %7zu x %-7zu %12zu bytes\n", name,
                    weight_types[t->matrix.type].name, t->matrix.rows, t->matrix.cols, t->bytes);
    }
}

bool mode_info(Engine *e, const Options *o, Output *out, Error *err)
{
    Facts facts;
    Buffer text = {0};
    if (!find_facts(&facts, e, err)) {
        return false;
    }
    bool ok = true;
    if (o->json) {
        put_info_json(&text, &facts, e);
    } else if (o->tensors) {
        put_tensors(&text, &e->checkpoint);
    } else {
        ok = put_summary(&text, &facts, e, o, err);
    }
    ok = ok && output_write(out, &text, err);
    buffer_free(&text);
    return ok;
}

// --------------------------------------------------------------------------------------------
// --verify

bool mode_verify(Engine *e, const Options *o, Output *out, Error *err)
{
    // The rest is opened only after the sums: where a section is damaged, that is the error to
    // tell.
    const unsigned model = e->checkpoint.config.vocab_only ? 0 : ENGINE_MODEL;
    const bool sums = e->checkpoint.kind == CHECKPOINT_NATIVE;
    Buffer text = {0};
    if ((sums && !checkpoint_verify(&e->checkpoint, team_max(), err)) ||
        !engine_open_parts(e, ENGINE_TOKENIZER | ENGINE_CHAT | model, err)) {
        return false;
    }
    buffer_addf(&text, "%s: OK", o->engine.model);
    if (!sums) {
        buffer_addf(&text, " (structure only: a %s has no checksums)",
                    e->checkpoint.kind == CHECKPOINT_GGUF ? "GGUF file" : "llama2.c checkpoint");
    }
    buffer_add_text(&text, "\n");
    const bool ok = output_write(out, &text, err);
    buffer_free(&text);
    return ok;
}

// --------------------------------------------------------------------------------------------
// --tokenize

// A line of JSON for each token.
static void put_token_json(Buffer *out, const Tokenizer *t, int id)
{
    JsonWriter w = {out, false};
    size_t size;
    const char *piece = tokenizer_piece(t, id, &size);
    json_open(&w, NULL, '{');
    json_put_count(&w, "id", (uint64_t)id);
    put_bytes(&w, piece, size);
    json_put_bool(&w, "special", tokenizer_is_special(t, id));
    json_close(&w, '}');
    buffer_add_text(out, "\n");
}

bool mode_tokenize(Engine *e, const Options *o, Output *out, Error *err)
{
    Prompt prompt = {0};
    Buffer text = {0};
    bool ok = prompt_read(e, o, &prompt, err);
    if (ok) {
        for (size_t i = 0; i < prompt.tokens.size; i++) {
            if (o->json) {
                put_token_json(&text, e->tokenizer, prompt.tokens.ids[i]);
            } else {
                buffer_addf(&text, "%s%d", i ? " " : "", prompt.tokens.ids[i]);
            }
        }
        buffer_add_text(&text, o->json ? "" : "\n");
        ok = output_write(out, &text, err);
    }
    buffer_free(&text);
    prompt_free(&prompt);
    return ok;
}
