// gguf_model.c - a GGUF file as a checkpoint. See gguf_model.h.
//
// Keys become the config. Each stands for a value of docs/format.md, and must be in its range. The
// config determines which tensors the model has (tensors.h); each is looked up by its GGUF name,
// and a file with any other tensor is refused.
//
//     blk.3.attn_q.weight  F16, Q4_0, ..     ->  blocks.3.attn.q_proj  f32, q4, ..
#include "formats/gguf_model.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "formats/gguf.h"
#include "formats/gguf_vocabulary.h"
#include "formats/pack.h"
#include "formats/tensors.h"

// Where a tensor of the checkpoint comes from.
typedef struct {
    const GgufTensor *tensor;
    bool rotated;  // its rows are in the order of a RoPE that rotates neighbours
    bool inexact;  // repacking changed the values of some weights
} GgufSource;

struct GgufModel {
    Gguf file;
    GgufSource *sources;  // (n_tensors), owned
    Buffer tokenizer, provenance;
};

// The values of general.architecture that model.c can run.
static const struct Architecture {
    const char *name;
    bool rotates_neighbours;  // the rows of q and k are in llama2.c's order
    QkNorm qk_norm;
} architectures[] = {
    {"llama", true, QK_NORM_NONE}, {"qwen2", false, QK_NORM_NONE}, {"qwen3", false, QK_NORM_HEAD}};
typedef struct Architecture Architecture;

typedef struct {
    Checkpoint *c;
    const Gguf *g;
    const Architecture *architecture;
    char key[96];  // name of the key that was looked up last
    Error *err;
} ModelReader;

// --------------------------------------------------------------------------------------------
// Keys

// The key NAME of the architecture: "block_count" is llama.block_count.
static const GgufKey *model_key(ModelReader *r, const char *name)
{
    snprintf(r->key, sizeof r->key, "%s.%s", r->architecture->name, name);
    return gguf_key(r->g, r->key);
}

static bool key_is(const GgufKey *k, const char *text)
{
    GgufText found;
    return k && gguf_text(k, &found) && found.size == strlen(text) &&
           memcmp(found.data, text, found.size) == 0;
}

// Reads a number; leaves *value unchanged if there is no such key.
static bool read_key_number(ModelReader *r, const char *name, double *value)
{
    const GgufKey *k = model_key(r, name);
    return !k || gguf_number(k, value) || gguf_unexpected(r->g, k, "a number", r->err);
}

// Sets the config's value `field` from a key. If there is no such key, sets it to `initial`, or
// fails if that is negative.
static bool read_config_value(ModelReader *r, const char *name, const char *field, double initial)
{
    const GgufKey *k = model_key(r, name);
    char shown[sizeof r->key + 4];
    double value = initial;
    if (!k && initial < 0) {
        return error_set(r->err, ERROR_INPUT, "%s: key %s is missing", r->g->path, r->key);
    }
    if (k && !gguf_number(k, &value)) {
        return gguf_unexpected(r->g, k, "a number", r->err);
    }
    snprintf(shown, sizeof shown, "key %s", r->key);
    return config_set(&r->c->config, field, value, (ConfigOrigin){r->g->path, shown}, r->err);
}

static bool find_architecture(ModelReader *r)
{
    const GgufKey *k = gguf_key(r->g, "general.architecture");
    char list[200] = "one of";
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++) {
        const size_t used = strlen(list);
        if (key_is(k, architectures[i].name)) {
            r->architecture = &architectures[i];
            return true;
        }
        snprintf(list + used, sizeof list - used, "%s %s", i ? "," : "", architectures[i].name);
    }
    return k ? gguf_unexpected(r->g, k, list, r->err)
             : error_set(r->err, ERROR_INPUT, "%s: key general.architecture is missing",
                         r->g->path);
}

// Refuses keys that change the computation in ways that we do not read from GGUF.
static bool check_supported(ModelReader *r)
{
    static const struct {
        const char *name;
        double neutral[2];  // values that change nothing
        const char *expected;
    } keys[] = {
        {"expert_count", {0, 0}, "0: a mixture of experts is not supported"},
        {"attn_logit_softcapping", {0, 0}, "0: it is not supported"},
        {"final_logit_softcapping", {0, 0}, "0: it is not supported"},
        {"attention.clamp_kqv", {0, 0}, "0: it is not supported"},
        {"logit_scale", {0, 1}, "1: it is not supported"},
        {"residual_scale", {0, 1}, "1: it is not supported"},
        {"embedding_scale", {0, 1}, "1: it is not supported"},
        {"attention.scale", {0, 0}, "0: it is not supported"},
        {"attention.causal", {1, 1}, "true: a model that sees later tokens cannot generate"},
        {"pooling_type", {0, 0}, "0: a model of embeddings cannot generate"},
        {"rope.scaling.attn_factor", {1, 1}, "1: it is not supported"},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        double value = keys[i].neutral[0];
        if (!read_key_number(r, keys[i].name, &value)) {
            return false;
        }
        if (value != keys[i].neutral[0] && value != keys[i].neutral[1]) {
            return gguf_unexpected(r->g, model_key(r, keys[i].name), keys[i].expected, r->err);
        }
    }
    const GgufKey *scaling = model_key(r, "rope.scaling.type");
    return !scaling || key_is(scaling, "none") || key_is(scaling, "linear") ||
           gguf_unexpected(r->g, scaling, "none or linear", r->err);
}

// Checks that a further key for the size of a head agrees with that of queries and keys.
static bool check_head_size(ModelReader *r, const char *name)
{
    char expected[48];
    double value = (double)r->c->config.head_dim;
    if (!read_key_number(r, name, &value)) {
        return false;
    }
    snprintf(expected, sizeof expected, "%zu, the size of a head", r->c->config.head_dim);
    return value == (double)r->c->config.head_dim ||
           gguf_unexpected(r->g, model_key(r, name), expected, r->err);
}

static bool read_sizes(ModelReader *r)
{
    Config *p = &r->c->config;
    if (!read_config_value(r, "embedding_length", "dim", -1) ||
        !read_config_value(r, "feed_forward_length", "hidden_dim", -1) ||
        !read_config_value(r, "block_count", "n_layers", -1) ||
        !read_config_value(r, "context_length", "context_length", -1) ||
        !read_config_value(r, "attention.head_count", "n_heads", -1) ||
        !read_config_value(r, "attention.head_count_kv", "n_kv_heads", (double)p->n_heads)) {
        return false;
    }
    const size_t head_dim = p->dim / p->n_heads;
    if (!read_config_value(r, "attention.key_length", "head_dim", (double)head_dim) ||
        !check_head_size(r, "attention.value_length") ||
        !check_head_size(r, "rope.dimension_count")) {
        return false;
    }
    return read_config_value(r, "attention.layer_norm_rms_epsilon", "norm_eps", -1) &&
           read_config_value(r, "rope.freq_base", "rope_theta", 10000) &&
           read_config_value(r, "attention.sliding_window", "sliding_window", 0);
}

// --------------------------------------------------------------------------------------------
// RoPE's scaling
//
// GGUF stores Llama 3's scaling as a tensor of divisors of the frequencies. The largest divisor is
// the factor. The inverses of divisors between 1 and the factor are linear in the number of turns
// within the original context, from low_freq_factor to high_freq_factor. Llama 3 uses 1 and 4, so
// one such divisor determines the original context; for other factors, two determine the line.

#define ROPE_FACTORS "rope_freqs.weight"
#define MAX_PAIRS    2048  // of dimensions, half of the largest head

// Does this scaling divide the frequencies by these divisors?
static bool scaling_fits(const Config *p, const RopeScaling *s, const float *divisors)
{
    double plain[MAX_PAIRS], scaled[MAX_PAIRS];
    if (!(s->low_freq_factor > 0 && s->low_freq_factor < s->high_freq_factor) ||
        s->original_context < 1) {
        return false;
    }
    rope_frequencies(plain, p->head_dim, p->rope_theta, &(RopeScaling){.kind = ROPE_UNSCALED}, 0);
    rope_frequencies(scaled, p->head_dim, p->rope_theta, s, 0);
    for (size_t i = 0; i < p->head_dim / 2; i++) {
        if (!(fabs(plain[i] / scaled[i] / (double)divisors[i] - 1) < 1e-5)) {
            return false;
        }
    }
    return true;
}

// Rounds to five significant digits, as factors are usually written.
static double round_factor(double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.5g", value);
    return strtod(text, NULL);
}

// For the divisors between 1 and the factor: the turns of each frequency per position, and the
// share `smooth` of the frequency that is kept.
typedef struct {
    double turns[MAX_PAIRS], smooth[MAX_PAIRS];
    size_t n;
} RopeMix;

static void find_mix(RopeMix *mix, const Config *p, double factor, const float *divisors)
{
    double plain[MAX_PAIRS];
    rope_frequencies(plain, p->head_dim, p->rope_theta, &(RopeScaling){.kind = ROPE_UNSCALED}, 0);
    mix->n = 0;
    for (size_t i = 0; i < p->head_dim / 2; i++) {
        const double smooth = (1 / (double)divisors[i] - 1 / factor) / (1 - 1 / factor);
        if (smooth > 1e-4 && smooth < 1 - 1e-4) {
            mix->turns[mix->n] = plain[i] / 0x1.921fb54442d18p+2;  // 2 pi
            mix->smooth[mix->n++] = smooth;
        }
    }
}

// The line through all points by least squares: smooth = (turns - low) / (high - low).
static void fit_line(const RopeMix *mix, double original, double *low, double *high)
{
    double x = 0, y = 0, xx = 0, xy = 0;
    const double n = (double)mix->n;
    for (size_t i = 0; i < mix->n; i++) {
        const double turns = original * mix->turns[i];
        x += turns / n;
        y += mix->smooth[i] / n;
        xx += turns * turns / n;
        xy += turns * mix->smooth[i] / n;
    }
    const double slope = (xy - x * y) / (xx - x * x), start = y - slope * x;
    *low = round_factor(-start / slope);
    *high = round_factor((1 - start) / slope);
}

// Finds the parameters of Llama 3's scaling that give these divisors.
static bool find_llama3_scaling(ModelReader *r, const float *divisors, double original)
{
    Config *p = &r->c->config;
    double factor = 1;
    for (size_t i = 0; i < p->head_dim / 2; i++) {
        factor = (double)divisors[i] > factor ? (double)divisors[i] : factor;
    }
    RopeScaling s = {.kind = ROPE_LLAMA3,
                     .original_context = (size_t)original,
                     .factor = factor,
                     .low_freq_factor = 1,
                     .high_freq_factor = 4};
    RopeMix mix;
    find_mix(&mix, p, factor, divisors);
    bool fits = factor > 1 && scaling_fits(p, &s, divisors);
    if (!fits && mix.n) {
        const double context = (1 + 3 * mix.smooth[mix.n / 2]) / mix.turns[mix.n / 2];
        s.original_context = context < 1 << 24 ? (size_t)(context + 0.5) : 0;
        fits = scaling_fits(p, &s, divisors);
    }
    if (!fits && mix.n >= 2) {
        s.original_context = (size_t)original;
        fit_line(&mix, original, &s.low_freq_factor, &s.high_freq_factor);
        fits = scaling_fits(p, &s, divisors);
    }
    if (!fits) {
        return error_set(r->err, ERROR_INPUT,
                         "%s: tensor %s is not Llama 3's scaling of RoPE, the only one supported",
                         r->g->path, ROPE_FACTORS);
    }
    const ConfigOrigin from = {r->g->path, "a factor of tensor " ROPE_FACTORS};
    p->rope_scaling = s;
    return config_set(p, "rope_factor", s.factor, from, r->err) &&
           config_set(p, "rope_low_freq_factor", s.low_freq_factor, from, r->err) &&
           config_set(p, "rope_high_freq_factor", s.high_freq_factor, from, r->err);
}

static bool read_llama3_scaling(ModelReader *r, const GgufTensor *t)
{
    const Config *p = &r->c->config;
    float divisors[MAX_PAIRS];
    double original = 8192;
    if (!read_key_number(r, "rope.scaling.original_context_length", &original)) {
        return false;
    }
    if (!(original >= 1 && original <= 1 << 24)) {
        return gguf_unexpected(r->g, model_key(r, "rope.scaling.original_context_length"),
                               "1 to 16777216", r->err);
    }
    const size_t n = p->head_dim / 2, bytes = n * t->type->block_bytes;
    const RowFormat *format = row_format_find(t->type->number);
    if (n > MAX_PAIRS || t->dims[0] != n || t->bytes != bytes || !format ||
        !row_format_is_plain(format)) {
        return error_set(r->err, ERROR_INPUT,
                         "%s: tensor %s has %zu values of type %s in its rows, expected %zu of F32",
                         r->g->path, ROPE_FACTORS, t->dims[0], t->type->name, n);
    }
    for (size_t i = 0; i < n; i++) {
        divisors[i] = row_value(format, t->data, i);
    }
    return find_llama3_scaling(r, divisors, original);
}

static bool read_rope_scaling(ModelReader *r)
{
    const GgufTensor *divisors = gguf_tensor(r->g, ROPE_FACTORS);
    double factor = 1;
    // Without a type the scaling is linear. scale_linear is the older name of the factor.
    const GgufKey *type = model_key(r, "rope.scaling.type");
    if (!key_is(type, "none") && (!read_key_number(r, "rope.scale_linear", &factor) ||
                                  !read_key_number(r, "rope.scaling.factor", &factor))) {
        return false;
    }
    if (factor == 1) {
        return !divisors || read_llama3_scaling(r, divisors);
    }
    if (divisors) {
        return error_set(r->err, ERROR_INPUT,
                         "%s: has tensor %s and a linear scaling of RoPE by %g, expected only one "
                         "of them",
                         r->g->path, ROPE_FACTORS, factor);
    }
    r->c->config.rope_scaling.kind = ROPE_LINEAR;
    return config_set(&r->c->config, "rope_factor", factor,
                      (ConfigOrigin){r->g->path, "the linear factor of RoPE's scaling"}, r->err);
}

static bool read_model_config(ModelReader *r)
{
    Config *p = &r->c->config;
    const GgufTensor *embedding = gguf_tensor(r->g, "token_embd.weight");
    if (!find_architecture(r)) {
        return false;
    }
    if (!embedding) {
        return error_set(r->err, ERROR_INPUT, "%s: tensor token_embd.weight is missing",
                         r->g->path);
    }
    p->tied_head = !gguf_tensor(r->g, "output.weight");
    p->qk_norm = r->architecture->qk_norm;
    p->qkv_bias = gguf_tensor(r->g, "blk.0.attn_q.bias");
    const ConfigOrigin rows = {r->g->path, "the rows of tensor token_embd.weight"};
    return check_supported(r) && read_sizes(r) &&
           config_set(p, "vocab_size", (double)embedding->dims[1], rows, r->err) &&
           config_check(p, r->g->path, r->err) && read_rope_scaling(r) &&
           config_check(p, r->g->path, r->err);
}

// --------------------------------------------------------------------------------------------
// Tensors

// Names in a native file and in GGUF; for blocks, without the prefixes blocks.N. and blk.N.
static const struct {
    const char *name, *gguf;
} tensor_names[] = {
    {"embedding", "token_embd.weight"},
    {"norm", "output_norm.weight"},
    {"head", "output.weight"},
    {"attn_norm", "attn_norm.weight"},
    {"attn.q_proj", "attn_q.weight"},
    {"attn.k_proj", "attn_k.weight"},
    {"attn.v_proj", "attn_v.weight"},
    {"attn.q_norm", "attn_q_norm.weight"},
    {"attn.k_norm", "attn_k_norm.weight"},
    {"attn.q_bias", "attn_q.bias"},
    {"attn.k_bias", "attn_k.bias"},
    {"attn.v_bias", "attn_v.bias"},
    {"attn.o_proj", "attn_output.weight"},
    {"mlp_norm", "ffn_norm.weight"},
    {"mlp.gate_proj", "ffn_gate.weight"},
    {"mlp.up_proj", "ffn_up.weight"},
    {"mlp.down_proj", "ffn_down.weight"},
};

// GGUF's name of a tensor of a native file.
static void name_in_gguf(const char *name, char *out, size_t size)
{
    const char *in_block = name;
    *out = '\0';
    if (strncmp(name, "blocks.", 7) == 0) {
        in_block = strchr(name + 7, '.') + 1;
        snprintf(out, size, "blk.%.*s", (int)(in_block - name - 7), name + 7);
    }
    for (size_t i = 0; i < sizeof tensor_names / sizeof *tensor_names; i++) {
        if (strcmp(tensor_names[i].name, in_block) == 0) {
            strncat(out, tensor_names[i].gguf, size - strlen(out) - 1);
        }
    }
}

static bool check_type(const ModelReader *r, const char *name, const GgufTensor *t, Tensor *to)
{
    const RowFormat *format = row_format_find(t->type->number);
    if (!format) {
        return error_set(r->err, ERROR_INPUT,
                         "%s: tensor %s has the type %s, which is not supported; expected a file "
                         "of another quantisation, such as Q8_0 or Q4_0",
                         r->g->path, name, t->type->name);
    }
    to->matrix.type = to->vector ? WEIGHT_F32 : format->type;
    if (to->vector && !row_format_is_plain(format)) {
        return error_set(r->err, ERROR_INPUT,
                         "%s: tensor %s has the type %s, expected F32, F16 or BF16, as it is a "
                         "vector",
                         r->g->path, name, t->type->name);
    }
    return true;
}

// Finds the source of a tensor, which determines the tensor's type.
static bool find_source(const ModelReader *r, Tensor *to, GgufSource *source)
{
    char name[64];
    name_in_gguf(to->name, name, sizeof name);
    const GgufTensor *t = gguf_tensor(r->g, name);
    const Matrix *m = &to->matrix;
    if (!t) {
        return error_set(r->err, ERROR_INPUT, "%s: tensor %s is missing", r->g->path, name);
    }
    if (t->dims[0] != m->cols || t->dims[1] != m->rows || t->dims[2] != 1 || t->dims[3] != 1) {
        return error_set(r->err, ERROR_INPUT,
                         "%s: tensor %s has %zu x %zu x %zu x %zu values, expected %zu x %zu",
                         r->g->path, name, t->dims[0], t->dims[1], t->dims[2], t->dims[3], m->cols,
                         m->rows);
    }
    const char *part = strrchr(to->name, '.');
    const bool rotates = part && (strcmp(part, ".q_proj") == 0 || strcmp(part, ".k_proj") == 0 ||
                                  strcmp(part, ".q_bias") == 0 || strcmp(part, ".k_bias") == 0);
    *source = (GgufSource){.tensor = t, .rotated = rotates && r->architecture->rotates_neighbours};
    return check_type(r, name, t, to);
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
    const GgufTensor *factors = gguf_tensor(g, ROPE_FACTORS);
    size_t i = 0;
    while (i < g->n_tensors && (used[i] || &g->tensors[i] == factors)) {
        i++;
    }
    free(used);
    if (i == g->n_tensors) {
        return true;
    }
    const GgufText name = g->tensors[i].name;
    return error_set(err, ERROR_INPUT,
                     "%s: tensor %.*s is not part of a model of the architecture %s", g->path,
                     name.size < 100 ? (int)name.size : 100, name.data, r->architecture->name);
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
    if (!(p->vocab_only || (read_model_config(r) && find_sources(r, m))) ||
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
    ModelReader r = {.c = c, .g = &m->file, .architecture = architectures, .err = err};
    return gguf_open(&m->file, c->path, c->file, err) && read_gguf_model(&r, m);
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

typedef struct {
    const GgufSource *source;
    const Matrix *matrix;
    const RowFormat *format;
    size_t head_dim, row_bytes;
    uint8_t *out;
    _Atomic(const char *) bad;  // what a thread found that makes the tensor unusable
    atomic_bool inexact;        // a thread changed the values of some weights in repacking
} RepackJob;

// Repacks this thread's share of the groups of a matrix.
static void repack_groups(Team team, void *arg)
{
    RepackJob *job = arg;
    const Matrix *m = job->matrix;
    size_t begin, end;
    team_share(team, (m->rows + LANES - 1) / LANES, &begin, &end);
    for (size_t group = begin; group < end; group++) {
        const void *rows[LANES] = {NULL};
        for (size_t i = 0; i < LANES && group * LANES + i < m->rows; i++) {
            const size_t r = group * LANES + i;
            const size_t from = job->source->rotated ? unrotated_row(r, job->head_dim) : r;
            const uint8_t *row = job->source->tensor->data + from * job->row_bytes;
            const char *bad = row_format_check(job->format, row, m->cols);
            if (bad) {
                atomic_store(&job->bad, bad);
            }
            rows[i] = row;
        }
        if (!weight_pack(job->format, rows, m->cols,
                         matrix_group(m->type, m->cols, job->out, group))) {
            atomic_store(&job->inexact, true);
        }
    }
}

// Reads a vector, which is padded with zeros.
static void repack_vector(RepackJob *job, size_t bytes)
{
    const GgufTensor *t = job->source->tensor;
    const size_t n = job->matrix->cols;
    float *out = (float *)(void *)job->out;
    memset(out, 0, bytes);
    for (size_t i = 0; i < n; i++) {
        const size_t at = job->source->rotated ? unrotated_row(i, job->head_dim) : i;
        out[i] = row_value(job->format, t->data, at);
    }
    job->bad = row_format_check(job->format, t->data, n);
}

bool gguf_model_repack(const Checkpoint *c, size_t i, void *out, size_t threads, Error *err)
{
    const Tensor *tensor = &c->tensors[i];
    const GgufTensor *t = c->gguf->sources[i].tensor;
    RepackJob job = {.source = &c->gguf->sources[i],
                     .matrix = &tensor->matrix,
                     .format = row_format_find(t->type->number),
                     .head_dim = c->config.head_dim,
                     .row_bytes = t->bytes / t->dims[1],
                     .out = out};
    if (tensor->vector) {
        repack_vector(&job, tensor->bytes);
    } else {
        team_run(threads, repack_groups, &job);
    }
    mapping_drop(&c->gguf->file.parts[t->part], t->data, t->bytes);
    c->gguf->sources[i].inexact = job.inexact;
    const char *bad = job.bad;
    return !bad || error_set(err, ERROR_INPUT, "%s: tensor %.*s has %s", c->path, (int)t->name.size,
                             t->name.data, bad);
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
