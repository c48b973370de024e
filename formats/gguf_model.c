// gguf_model.c - a GGUF file as a checkpoint. See gguf_model.h.
//
// Keys become the config (gguf_config.h), which determines which tensors the model has (tensors.h);
// each is looked up by its GGUF name, and a file with any other tensor is refused.
//
//     blk.3.attn_q.weight  F16, Q4_0, ..     ->  blocks.3.attn.q_proj  f32, q4, ..
#include "formats/gguf_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "formats/gguf.h"
#include "formats/gguf_config.h"
#include "formats/gguf_rope.h"
#include "formats/gguf_vocabulary.h"
#include "formats/repack.h"
#include "formats/tensors.h"

// Where a tensor of the checkpoint comes from.
typedef struct {
    const GgufTensor *tensor;
    size_t first_row;  // of a fused tensor: where the rows of this one begin
    bool rotated;      // its rows are in the order of a RoPE that rotates neighbours
    bool inexact;      // repacking changed the values of some weights
} GgufSource;

struct GgufModel {
    Gguf file;
    GgufSource *sources;  // (n_tensors), owned
    Buffer tokenizer, provenance;
};

typedef struct {
    Checkpoint *c;
    const Gguf *g;
    const GgufArchitecture *architecture;
    Error *err;
} ModelReader;

// --------------------------------------------------------------------------------------------
// Tensors

// Which rows of a fused tensor belong to a tensor of ours: attn_qkv has those of q, k and v, one
// below the other, and ffn_up those of gate_proj and up_proj.
typedef enum { PART_NONE, PART_Q, PART_K, PART_V, PART_GATE, PART_UP } FusedPart;

// Names in a native file and in GGUF; for blocks, without the prefixes blocks.N. and blk.N.
typedef struct {
    const char *name, *gguf;
    const char *fused;  // the tensor that may have its rows instead
    FusedPart part;
} TensorName;

static const TensorName tensor_names[] = {
    {"embedding", "token_embd.weight", NULL, PART_NONE},
    {"norm", "output_norm.weight", NULL, PART_NONE},
    {"head", "output.weight", NULL, PART_NONE},
    {"attn_norm", "attn_norm.weight", NULL, PART_NONE},
    {"attn.q_proj", "attn_q.weight", "attn_qkv.weight", PART_Q},
    {"attn.k_proj", "attn_k.weight", "attn_qkv.weight", PART_K},
    {"attn.v_proj", "attn_v.weight", "attn_qkv.weight", PART_V},
    {"attn.q_norm", "attn_q_norm.weight", NULL, PART_NONE},
    {"attn.k_norm", "attn_k_norm.weight", NULL, PART_NONE},
    {"attn.q_bias", "attn_q.bias", "attn_qkv.bias", PART_Q},
    {"attn.k_bias", "attn_k.bias", "attn_qkv.bias", PART_K},
    {"attn.v_bias", "attn_v.bias", "attn_qkv.bias", PART_V},
    {"attn.o_proj", "attn_output.weight", NULL, PART_NONE},
    {"attn.o_bias", "attn_output.bias", NULL, PART_NONE},
    {"mlp_norm", "ffn_norm.weight", NULL, PART_NONE},
    {"attn_post_norm", "post_attention_norm.weight", NULL, PART_NONE},
    {"mlp_post_norm", "post_ffw_norm.weight", NULL, PART_NONE},
    {"mlp.router", "ffn_gate_inp.weight", NULL, PART_NONE},
    {"mlp.gate_proj", "ffn_gate.weight", "ffn_up.weight", PART_GATE},
    {"mlp.up_proj", "ffn_up.weight", "ffn_up.weight", PART_UP},
    {"mlp.down_proj", "ffn_down.weight", NULL, PART_NONE},
    {"mlp.gate_bias", "ffn_gate.bias", NULL, PART_NONE},
    {"mlp.up_bias", "ffn_up.bias", NULL, PART_NONE},
    {"mlp.down_bias", "ffn_down.bias", NULL, PART_NONE},
};

#define MOST_GGUF_NAME 64

// The name of a tensor of a native file without the prefix of its block.
static const char *short_name(const char *name)
{
    const char *part = name_in_block(name);
    return part ? part : name;
}

// All tensors that list_tensors lists are in the table.
static const TensorName *find_name(const char *name)
{
    size_t i = 0;
    while (strcmp(tensor_names[i].name, short_name(name)) != 0) {
        i++;
    }
    return &tensor_names[i];
}

// Adds the prefix of the block of a tensor of a native file to the name `in_block`.
static void name_in_gguf(const char *name, const char *in_block, char out[MOST_GGUF_NAME])
{
    const int prefix = (int)(short_name(name) - name);
    if (prefix) {
        snprintf(out, MOST_GGUF_NAME, "blk.%.*s%s", prefix - 7, name + 7, in_block);
    } else {
        snprintf(out, MOST_GGUF_NAME, "%s", in_block);
    }
}

// How many rows a fused tensor has, and the first one of a part.
static size_t fused_rows(const Config *p, FusedPart part, size_t *first)
{
    const size_t q = p->n_heads * p->head_dim, kv = p->n_kv_heads * p->head_dim;
    const size_t before[] = {
        [PART_Q] = 0, [PART_K] = q, [PART_V] = q + kv, [PART_GATE] = 0, [PART_UP] = p->hidden_dim};
    *first = before[part];
    return part == PART_GATE || part == PART_UP ? 2 * p->hidden_dim : q + 2 * kv;
}

static bool check_type(const ModelReader *r, const char *name, const GgufTensor *t, Tensor *to)
{
    const RowFormat *format = row_format_find(t->type->number);
    if (!format) {
        return error_set(r->err, ERROR_INPUT,
                         "%s: tensor %s has the type %s, which is not supported; expected a file "
                         "of another quantisation, such as Q8_0 or Q4_0",
                         gguf_part_path(r->g, t->part), name, t->type->name);
    }
    to->matrix.type = to->vector ? WEIGHT_F32 : format->type;
    if (to->vector && !row_format_is_plain(format)) {
        return error_set(r->err, ERROR_INPUT,
                         "%s: tensor %s has the type %s, expected F32, F16 or BF16, as it is a "
                         "vector",
                         gguf_part_path(r->g, t->part), name, t->type->name);
    }
    return true;
}

// GGUF's name of the tensor that has the rows of ours: of a fused one if the file has it.
static bool name_source(const ModelReader *r, const Tensor *to, const TensorName *n,
                        char name[MOST_GGUF_NAME])
{
    if (n->part == PART_GATE || n->part == PART_UP) {
        name_in_gguf(to->name, r->architecture->fused_gate ? n->fused : n->gguf, name);
        return r->architecture->fused_gate;
    }
    if (n->part != PART_NONE) {
        name_in_gguf(to->name, n->fused, name);
        if (gguf_tensor(r->g, name)) {
            return true;
        }
    }
    name_in_gguf(to->name, n->gguf, name);
    return false;
}

static bool check_dims(const ModelReader *r, const char *name, const GgufTensor *t, size_t cols,
                       size_t rows, size_t experts)
{
    if (t->dims[0] == cols && t->dims[1] == rows && t->dims[2] == experts && t->dims[3] == 1) {
        return true;
    }
    return error_set(r->err, ERROR_INPUT,
                     "%s: tensor %s has %zu x %zu x %zu x %zu values, expected %zu x %zu x %zu",
                     gguf_part_path(r->g, t->part), name, t->dims[0], t->dims[1], t->dims[2],
                     t->dims[3], cols, rows, experts);
}

// The matrices of experts have names of their own, and their number is the third dimension.
static const char *experts_name(const char *gguf)
{
    return strcmp(gguf, "ffn_gate.weight") == 0   ? "ffn_gate_exps.weight"
           : strcmp(gguf, "ffn_up.weight") == 0   ? "ffn_up_exps.weight"
           : strcmp(gguf, "ffn_down.weight") == 0 ? "ffn_down_exps.weight"
                                                  : NULL;
}

// Finds the source of a tensor, which determines the tensor's type. A file that has both a fused
// tensor and one of its parts is refused later, as the part is not used.
static bool find_source(const ModelReader *r, Tensor *to, GgufSource *source)
{
    char name[MOST_GGUF_NAME];
    const TensorName *n = find_name(to->name);
    const size_t n_experts = r->c->config.n_experts;
    const char *of_experts = n_experts ? experts_name(n->gguf) : NULL;
    const size_t experts = of_experts ? n_experts : 1;
    size_t cols = to->matrix.cols, rows = to->matrix.rows / experts, first = 0;
    if (of_experts) {
        name_in_gguf(to->name, of_experts, name);
    } else if (name_source(r, to, n, name)) {
        *(to->vector ? &cols : &rows) = fused_rows(&r->c->config, n->part, &first);
    }
    const GgufTensor *t = gguf_tensor(r->g, name);
    if (!t) {
        return error_set(r->err, ERROR_INPUT, "%s: tensor %s is missing", r->g->path, name);
    }
    const bool rotates = n->part == PART_Q || n->part == PART_K;
    *source = (GgufSource){
        .tensor = t, .first_row = first, .rotated = rotates && r->architecture->rotates_neighbours};
    return check_dims(r, name, t, cols, rows, experts) && check_type(r, name, t, to);
}

// Refuses GGUF tensors that no tensor of the checkpoint is read from.
static bool check_all_used(const ModelReader *r, const GgufModel *m, Error *err)
{
    const Gguf *g = r->g;
    bool *used = calloc(g->n_tensors, sizeof *used);
    if (!used) {
        return error_memory(err, "the list of tensors", g->n_tensors);
    }
    for (size_t i = 0; i < r->c->n_tensors; i++) {
        used[m->sources[i].tensor - g->tensors] = true;
    }
    size_t i = 0;
    while (i < g->n_tensors && (used[i] || gguf_is_rope_tensor(&g->tensors[i]))) {
        i++;
    }
    free(used);
    if (i == g->n_tensors) {
        return true;
    }
    const GgufText name = g->tensors[i].name;
    return error_set(err, ERROR_INPUT,
                     "%s: tensor %.*s is not part of a model of the architecture %s",
                     gguf_part_path(g, g->tensors[i].part), name.size < 100 ? (int)name.size : 100,
                     name.data, r->architecture->name);
}

static bool find_sources(ModelReader *r, GgufModel *m)
{
    Checkpoint *c = r->c;
    if (!list_tensors(&c->config, &c->tensors, &c->n_tensors, r->err)) {
        return false;
    }
    m->sources = calloc(c->n_tensors + 1, sizeof *m->sources);
    if (!m->sources) {
        return error_memory(r->err, "the list of tensors", c->n_tensors * sizeof *m->sources);
    }
    for (size_t i = 0; i < c->n_tensors; i++) {
        if (!find_source(r, &c->tensors[i], &m->sources[i])) {
            return false;
        }
    }
    return check_all_used(r, m, r->err) && size_tensors(c, r->err);
}

// --------------------------------------------------------------------------------------------
// Sampling and provenance

// The shortest decimal that rounds to the same f32: 0.2, not 0.200000003.
static double shortest_decimal(double value)
{
    char text[32];
    double decimal = value;
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        decimal = strtod(text, NULL);
        if ((double)(float)decimal == value) {
            break;
        }
    }
    return decimal;
}

static bool read_sampling(ModelReader *r)
{
    static const struct {
        const char *key, *name;
    } names[] = {{"general.sampling.temp", "temperature"},
                 {"general.sampling.top_p", "top_p"},
                 {"general.sampling.top_k", "top_k"},
                 {"general.sampling.min_p", "min_p"},
                 {"general.sampling.penalty_repeat", "repeat_penalty"},
                 {"general.sampling.penalty_last_n", "repeat_last_n"}};
    Sampling *s = &r->c->sampling;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const GgufKey *k = gguf_key(r->g, names[i].key);
        double value;
        if (!k) {
            continue;
        }
        if (!gguf_number(k, &value) || !isfinite(value)) {
            return gguf_unexpected(r->g, k, "a number", r->err);
        }
        if (value < 0) {  // -1: no choice of the model's, such as the whole context
            continue;
        }
        snprintf(s->values[s->n].name, sizeof s->values[s->n].name, "%s", names[i].name);
        s->values[s->n++].value = k->type == GGUF_F32 ? shortest_decimal(value) : value;
    }
    return true;
}

// What the file says about its origin: a line for each key.
static void add_origin(const Gguf *g, Buffer *out)
{
    static const struct {
        const char *key, *name;
    } lines[] = {{"general.name", "name"},
                 {"general.organization", "organization"},
                 {"general.license", "license"},
                 {"general.url", "url"},
                 {"general.quantized_by", "quantized_by"}};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        const GgufKey *k = gguf_key(g, lines[i].key);
        GgufText text;
        if (!k || !gguf_text(k, &text)) {
            continue;
        }
        buffer_addf(out, "%s: ", lines[i].name);
        for (size_t at = 0; at < text.size && at < 200; at++) {
            const unsigned char byte = (unsigned char)text.data[at];
            buffer_add(out, byte < ' ' || byte == 0x7f ? " " : text.data + at, 1);
        }
        buffer_add_text(out, "\n");
    }
}

// The chat template's source, in place. Other templates in the file have keys that extend this one
// with a name; they are not read.
static void read_chat(const ModelReader *r)
{
    const GgufKey *k = gguf_key(r->g, "tokenizer.chat_template");
    GgufText text;
    if (k && gguf_text(k, &text) && text.size) {
        r->c->chat = (Bytes){(const uint8_t *)text.data, text.size};
    }
}

// --------------------------------------------------------------------------------------------
// Opening and closing

static bool read_gguf_model(ModelReader *r, GgufModel *m)
{
    Config *p = &r->c->config;
    p->vocab_only = r->g->n_tensors == 0;
    if (!(p->vocab_only ||
          (gguf_read_config(r->g, p, &r->architecture, r->err) && find_sources(r, m))) ||
        !gguf_read_vocabulary(r->g, &p->vocab_size, &m->tokenizer, r->err) || !read_sampling(r)) {
        return false;
    }
    read_chat(r);
    add_origin(r->g, &m->provenance);
    r->c->tokenizer = (Bytes){(const uint8_t *)m->tokenizer.data, m->tokenizer.size};
    r->c->provenance = (Bytes){(const uint8_t *)m->provenance.data, m->provenance.size};
    return buffer_check(&m->provenance, r->err);
}

bool gguf_model_open(Checkpoint *c, Error *err)
{
    GgufModel *m = calloc(1, sizeof *m);
    if (!m) {
        return error_memory(err, "the model", sizeof *m);
    }
    c->kind = CHECKPOINT_GGUF;
    c->gguf = m;
    ModelReader r = {.c = c, .g = &m->file, .err = err};
    if (!gguf_open(&m->file, c->path, c->file, err)) {
        return false;
    }
    for (size_t i = 1; i < m->file.n_parts; i++) {
        c->file_bytes += m->file.parts[i].file.size;
    }
    return read_gguf_model(&r, m);
}

size_t gguf_model_n_files(const GgufModel *m) { return m->file.n_parts; }

const char *gguf_model_file(const GgufModel *m, size_t i, const Mapping **file)
{
    *file = &m->file.parts[i].file;
    return gguf_part_path(&m->file, i);
}

void gguf_model_close(GgufModel *m)
{
    if (m) {
        gguf_close(&m->file);
        buffer_free(&m->tokenizer);
        buffer_free(&m->provenance);
        free(m->sources);
        free(m);
    }
}

// --------------------------------------------------------------------------------------------
// Repacking

// Reads a vector, which is padded with zeros.
static const char *repack_vector(const Tensor *t, const MatrixRows *values, float *out)
{
    const size_t n = t->matrix.cols;
    memset(out, 0, t->bytes);
    for (size_t i = 0; i < n; i++) {
        const size_t at = values->head_dim ? unrotated_row(i, values->head_dim) : i;
        out[i] = row_value(values->format, values->data, at);
    }
    return row_format_check(values->format, values->data, n);
}

bool gguf_model_repack(const Checkpoint *c, size_t i, void *out, size_t threads, Error *err)
{
    const Tensor *tensor = &c->tensors[i];
    GgufSource *source = &c->gguf->sources[i];
    const GgufTensor *t = source->tensor;
    const size_t row_bytes = tensor->vector ? t->type->block_bytes
                                            : t->bytes / t->dims[1] / t->dims[2];
    const MatrixRows rows = {.format = row_format_find(t->type->number),
                             .data = t->data + source->first_row * row_bytes,
                             .row_bytes = row_bytes,
                             .head_dim = source->rotated ? c->config.head_dim : 0};
    bool exact = true;
    const char *bad = tensor->vector ? repack_vector(tensor, &rows, out)
                                     : repack_matrix(&tensor->matrix, &rows, out, threads, &exact);
    mapping_drop(&c->gguf->file.parts[t->part].file, t->data, t->bytes);
    source->inexact = !exact;
    return !bad ||
           error_set(err, ERROR_INPUT, "%s: tensor %.*s has %s",
                     gguf_part_path(&c->gguf->file, t->part), (int)t->name.size, t->name.data, bad);
}

size_t gguf_model_substitutes(const Checkpoint *c, Substitute list[MAX_SUBSTITUTES])
{
    size_t n = 0;
    for (size_t i = 0; i < c->n_tensors; i++) {
        const GgufSource *s = &c->gguf->sources[i];
        const RowFormat *format = row_format_find(s->tensor->type->number);
        if (c->tensors[i].vector || row_format_of(format->type) == format) {
            continue;
        }
        size_t k = 0;
        while (k < n && list[k].from != format->name) {
            k++;
        }
        if (k == MAX_SUBSTITUTES) {
            break;
        }
        if (k == n) {
            list[n++] = (Substitute){format->name, weight_types[format->type].name, 0, true};
        }
        list[k].n_tensors++;
        list[k].exact &= !s->inexact;
    }
    return n;
}
