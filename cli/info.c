// info.c - what a checkpoint and its tokenizer say: --info, --verify, --tokenize. See modes.h.
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/threads.h"
#include "cli/answer.h"
#include "cli/modes.h"
#include "cli/prompt.h"

// --------------------------------------------------------------------------------------------
// --info

typedef enum { SHOW_NUMBER, SHOW_BYTES, SHOW_TEXT, SHOW_YES_NO } ShowAs;

// A fact, as JSON and the table both show it.
typedef struct {
    const char *name;   // in JSON
    const char *label;  // in the table; NULL: it is only in JSON; "": it stands without a label
    ShowAs show;
    double number;     // SHOW_NUMBER, SHOW_BYTES (the table has megabytes), SHOW_YES_NO
    const char *text;  // SHOW_TEXT: (size); need not be NUL-terminated
    size_t size;
    const char *note;  // what follows the value in the table, or NULL
} Fact;

#define MAX_FACTS 32  // a few more than there are

typedef struct {
    Fact facts[MAX_FACTS];
    size_t n;
    size_t n_config;  // the first ones are of the config, an object of its own in JSON
    char at_context[48];
} Facts;

static void add_number_fact(Facts *f, const char *name, ShowAs show, const char *label,
                            double number)
{
    f->facts[f->n++] = (Fact){.name = name, .label = label, .show = show, .number = number};
}

static void add_text_fact(Facts *f, const char *name, const char *label, const char *text,
                          size_t size)
{
    f->facts[f->n++] = (Fact){
        .name = name, .label = label, .show = SHOW_TEXT, .text = text, .size = size};
}

static void add_config(Facts *f, const Config *p)
{
    static const char *const scalings[] = {"none", "linear", "llama3"};
    const char *scaling = scalings[p->rope_scaling.kind];
    const struct {
        const char *name;
        double value;
    } values[] = {{"dim", (double)p->dim},
                  {"hidden_dim", (double)p->hidden_dim},
                  {"n_layers", (double)p->n_layers},
                  {"n_heads", (double)p->n_heads},
                  {"n_kv_heads", (double)p->n_kv_heads},
                  {"head_dim", (double)p->head_dim},
                  {"vocab_size", (double)p->vocab_size},
                  {"context_length", (double)p->context_length},
                  {"sliding_window", (double)p->sliding_window},
                  {"rope_theta", p->rope_theta},
                  {"norm_eps", (double)p->norm_eps},
                  {"tied_head", p->tied_head},
                  {"qkv_bias", p->qkv_bias}};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        add_number_fact(f, values[i].name, SHOW_NUMBER, values[i].name, values[i].value);
    }
    add_text_fact(f, "rope_scaling", "rope_scaling", scaling, strlen(scaling));
    f->n_config = f->n;
}

static void add_file(Facts *f, const Engine *e, size_t kv_bytes)
{
    const Checkpoint *c = &e->checkpoint;
    const char *kind = c->repacked ? "llama2.c" : "native";
    const char *tokenizer = tokenizer_kind(e->tokenizer);
    size_t weights = 0;
    for (size_t i = 0; i < c->n_tensors; i++) {
        weights += c->tensors[i].bytes;
    }
    add_text_fact(f, "file", NULL, c->path, strlen(c->path));
    add_text_fact(f, "kind", "kind", kind, strlen(kind));
    add_text_fact(f, "tokenizer", "tokenizer", tokenizer, strlen(tokenizer));
    add_number_fact(f, "chat", SHOW_YES_NO, "chat template", c->chat.data != NULL);
    add_number_fact(f, "weight_bytes", SHOW_BYTES, "weights", (double)weights);
    add_number_fact(f, "context", SHOW_NUMBER, NULL, (double)e->context);
    add_number_fact(f, "kv_bytes", SHOW_BYTES, "keys and values", (double)kv_bytes);
    snprintf(f->at_context, sizeof f->at_context, " at a context of %zu", e->context);
    f->facts[f->n - 1].note = f->at_context;
    add_text_fact(f, "provenance", "", (const char *)c->provenance.data, c->provenance.size);
}

static void put_fact_json(JsonWriter *w, const Fact *f)
{
    char number[32];
    switch (f->show) {
    case SHOW_NUMBER:
        json_put_json(w, f->name, number,
                      (size_t)snprintf(number, sizeof number, "%.9g", f->number));
        break;
    case SHOW_BYTES:
        json_put_count(w, f->name, (uint64_t)f->number);
        break;
    case SHOW_YES_NO:
        json_put_bool(w, f->name, f->number != 0);
        break;
    case SHOW_TEXT:
        json_put_string(w, f->name, f->text, f->size);
        break;
    }
}

static void put_info_json(Buffer *out, const Facts *facts, const Checkpoint *c)
{
    JsonWriter w = {out, false};
    json_open(&w, NULL, '{');
    json_open(&w, "config", '{');
    for (size_t i = 0; i < facts->n; i++) {
        if (i == facts->n_config) {
            json_close(&w, '}');
        }
        put_fact_json(&w, &facts->facts[i]);
    }
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

static void put_info_table(Buffer *out, const Facts *facts, const Checkpoint *c)
{
    for (size_t i = 0; i < facts->n; i++) {
        const Fact *f = &facts->facts[i];
        if (!f->label) {
            continue;
        }
        if (*f->label) {
            buffer_addf(out, "%-16s ", f->label);
        }
        if (f->show == SHOW_NUMBER) {
            buffer_addf(out, "%.9g", f->number);
        } else if (f->show == SHOW_BYTES) {
            buffer_addf(out, "%.1f MB", f->number / 1e6);
        } else if (f->show == SHOW_YES_NO) {
            buffer_add_text(out, f->number != 0 ? "yes" : "no");
        } else {
            buffer_add(out, f->text, f->size);
        }
        buffer_addf(out, "%s\n", f->note ? f->note : "");
    }
    for (size_t i = 0; i < c->n_tensors; i++) {
        const Tensor *t = &c->tensors[i];
        buffer_addf(out, "%-28s %-5s %7zu x %-7zu %12zu bytes\n", t->name,
                    weight_types[t->matrix.type].name, t->matrix.rows, t->matrix.cols, t->bytes);
    }
}

bool mode_info(Engine *e, const Options *o, Output *out, Error *err)
{
    Facts facts = {.n = 0};
    Buffer text = {0};
    size_t kv_bytes;
    if (!engine_sequence_bytes(e, &kv_bytes, err)) {
        return false;
    }
    add_config(&facts, &e->checkpoint.config);
    add_file(&facts, e, kv_bytes);
    if (o->json) {
        put_info_json(&text, &facts, &e->checkpoint);
    } else {
        put_info_table(&text, &facts, &e->checkpoint);
    }
    const bool ok = output_write(out, &text, err);
    buffer_free(&text);
    return ok;
}

// --------------------------------------------------------------------------------------------
// --verify

bool mode_verify(Engine *e, const Options *o, Output *out, Error *err)
{
    if (!checkpoint_verify(&e->checkpoint, team_max(), err)) {
        return false;
    }
    if (out->stats) {
        output_note("%s: %.1f MB, all checksums are right", o->engine.model,
                    (double)e->checkpoint.file.size / 1e6);
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// --tokenize

// A line of JSON for each token.
static void put_token_json(Buffer *out, const Tokenizer *t, int id)
{
    JsonWriter w = {out, false};
    json_open(&w, NULL, '{');
    json_put_count(&w, "id", (uint64_t)id);
    put_token_bytes(&w, t, id);
    json_put_bool(&w, "special", tokenizer_is_special(t, id));
    json_close(&w, '}');
    buffer_add_text(out, "\n");
}

bool mode_tokenize(Engine *e, const Options *o, Output *out, Error *err)
{
    Tokens tokens = {0};
    Buffer text = {0};
    bool ok = prompt_tokens(e, o, &tokens, err);
    if (ok) {
        for (size_t i = 0; i < tokens.size; i++) {
            if (o->json) {
                put_token_json(&text, e->tokenizer, tokens.ids[i]);
            } else {
                buffer_addf(&text, "%s%d", i ? " " : "", tokens.ids[i]);
            }
        }
        buffer_add_text(&text, o->json ? "" : "\n");
        ok = output_write(out, &text, err);
    }
    buffer_free(&text);
    tokens_free(&tokens);
    return ok;
}
