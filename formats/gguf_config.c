// gguf_config.c - the keys of a GGUF model as a Config. See gguf_config.h.
//
// A file says with keys what differs between the models of an architecture. What its models have in
// common is not in the file: the table below has it. Sources: the models' own code in transformers,
// and llama.cpp (src/models/), whose converter writes the files. Two things are stored otherwise
// than in a Hugging Face folder, and need no switch: the norms of Gemma have 1 added already, and
// Hunyuan's `alpha` is part of rope.freq_base.
#include "formats/gguf_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "formats/gguf_keys.h"
#include "formats/gguf_rope.h"

// Groups of keys that only some architectures have.
enum {
    READS_CAPS = 1,         // attn_logit_softcapping, final_logit_softcapping
    READS_SCALES = 2,       // embedding_scale, residual_scale, logit_scale
    READS_ATTENTION = 4,    // attention.scale
    READS_TEMPERATURE = 8,  // attention.temperature_scale
    READS_FINETUNED = 16,   // rope.scaling.finetuned, as the switch of RoPE
    READS_EXPERTS = 32,     // expert_count, and what belongs to it
};
#define READS_GRANITE (READS_SCALES | READS_ATTENTION | READS_FINETUNED)

// What the layers of a family do, unless keys say otherwise.
typedef struct {
    size_t window, window_of;     // the window of models of so many layers; 0: of all
    size_t full_every;            // every n-th layer is without the window; 0: none is
    double window_theta;          // base of RoPE in layers with the window; 0: that of the others
    bool window_unscaled;         // frequencies are not scaled where there is a window
    size_t no_rope_every;         // every n-th layer is without RoPE; 0: none is
    bool no_rope_without_window;  // if some layers have the window, the others are without RoPE
} LayerPlan;

typedef struct {
    GgufArchitecture stored;
    QkNorm qk_norm;
    NormPlacement norm_placement;
    Activation activation;
    bool scales_embedding;  // embeddings times sqrt(dim)
    bool partial_rotary;    // rope.dimension_count may be less than a head
    unsigned reads;         // READS_..
    LayerPlan layers;
    size_t wide_layers;  // models of so many layers scale scores by sqrt(n_heads / dim)
    double attention_cap, logit_cap;
} Family;

static const Family families[] = {
    {.stored = {.name = "llama", .rotates_neighbours = true}},
    {.stored = {.name = "qwen2"}},
    {.stored = {.name = "qwen3"}, .qk_norm = QK_NORM_HEAD},
    {.stored = {.name = "qwen3moe"}, .qk_norm = QK_NORM_HEAD, .reads = READS_EXPERTS},
    // The 27B model of 46 layers has query_pre_attn_scalar = dim / n_heads (arXiv:2408.00118).
    {.stored = {.name = "gemma2"},
     .norm_placement = NORM_SANDWICH,
     .activation = ACTIVATION_GELU_TANH,
     .scales_embedding = true,
     .reads = READS_CAPS,
     .layers = {.window = 4096, .full_every = 2},
     .wide_layers = 46,
     .attention_cap = 50,
     .logit_cap = 30},
    // So has the one of 62 layers (arXiv:2503.19786).
    {.stored = {.name = "gemma3"},
     .qk_norm = QK_NORM_HEAD,
     .norm_placement = NORM_SANDWICH,
     .activation = ACTIVATION_GELU_TANH,
     .scales_embedding = true,
     .reads = READS_CAPS,
     .layers = {.full_every = 6, .window_theta = 10000},
     .wide_layers = 62},
    {.stored = {.name = "smollm3", .rotates_neighbours = true}, .layers = {.no_rope_every = 4}},
    {.stored = {.name = "granite", .rotates_neighbours = true}, .reads = READS_GRANITE},
    // Without Mamba layers and experts Granite 4 is Granite 3.
    {.stored = {.name = "granitehybrid", .rotates_neighbours = true}, .reads = READS_GRANITE},
    {.stored = {.name = "minicpm", .rotates_neighbours = true}, .reads = READS_SCALES},
    // OLMo 3 is OLMo 2 with windows, and YaRN where there is none.
    {.stored = {.name = "olmo2"},
     .qk_norm = QK_NORM_FULL,
     .norm_placement = NORM_POST,
     .layers = {.full_every = 4, .window_unscaled = true}},
    {.stored = {.name = "exaone4"},
     .qk_norm = QK_NORM_HEAD,
     .norm_placement = NORM_POST,
     .layers = {.window = 4096, .window_of = 64, .full_every = 4, .no_rope_without_window = true}},
    {.stored = {.name = "phi3", .fused_gate = true}, .partial_rotary = true},
    {.stored = {.name = "mistral3", .rotates_neighbours = true}, .reads = READS_TEMPERATURE},
    {.stored = {.name = "hunyuan-dense"}, .qk_norm = QK_NORM_HEAD_AFTER_ROPE},
};

static const Family *find_family(const Gguf *g, Error *err)
{
    const GgufKey *k = gguf_key(g, "general.architecture");
    char list[256] = "one of";
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        const size_t used = strlen(list);
        if (key_is(k, families[i].stored.name)) {
            return &families[i];
        }
        snprintf(list + used, sizeof list - used, "%s %s", i ? "," : "", families[i].stored.name);
    }
    if (k) {
        gguf_unexpected(g, k, list, err);
    } else {
        error_set(err, ERROR_INPUT, "%s: key general.architecture is missing", g->path);
    }
    return NULL;
}

// --------------------------------------------------------------------------------------------
// Keys that change the computation in ways that not all architectures have

static bool check_supported(GgufKeys *r, const Family *f)
{
    static const struct {
        const char *name;
        double neutral[2];  // values that change nothing
        const char *expected;
        unsigned read_by;  // READS_..: architectures for which it is no matter
    } keys[] = {
        {"expert_count", {0, 0}, "0: experts are supported in qwen3moe only", READS_EXPERTS},
        {"nextn_predict_layers", {0, 0}, "0: multi-token prediction is not supported", 0},
        {"attn_logit_softcapping", {0, 0}, "0: it is not supported", READS_CAPS},
        {"final_logit_softcapping", {0, 0}, "0: it is not supported", READS_CAPS},
        {"attention.clamp_kqv", {0, 0}, "0: it is not supported", 0},
        {"logit_scale", {0, 1}, "1: it is not supported", READS_SCALES},
        {"residual_scale", {0, 1}, "1: it is not supported", READS_SCALES},
        {"embedding_scale", {0, 1}, "1: it is not supported", READS_SCALES},
        {"attention.scale", {0, 0}, "0: it is not supported", READS_ATTENTION},
        {"attention.temperature_scale", {0, 0}, "0: it is not supported", READS_TEMPERATURE},
        {"attention.causal", {1, 1}, "true: a model that sees later tokens cannot generate", 0},
        {"pooling_type", {0, 0}, "0: a model of embeddings cannot generate", 0},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        double value = keys[i].neutral[0];
        if (!(f->reads & keys[i].read_by) && !read_key_number(r, keys[i].name, &value)) {
            return false;
        }
        if (value != keys[i].neutral[0] && value != keys[i].neutral[1]) {
            return unexpected_key(r, keys[i].expected);
        }
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// Sizes

// Checks that a further key for the size of a head agrees with that of queries and keys.
static bool check_head_size(GgufKeys *r, const char *name)
{
    char expected[48];
    double value = (double)r->config->head_dim;
    if (!read_key_number(r, name, &value)) {
        return false;
    }
    snprintf(expected, sizeof expected, "%zu, the size of a head", r->config->head_dim);
    return value == (double)r->config->head_dim || unexpected_key(r, expected);
}

static bool read_rotary_dim(GgufKeys *r, const Family *f)
{
    Config *p = r->config;
    if (!f->partial_rotary) {
        return check_head_size(r, "rope.dimension_count");
    }
    if (!read_config_value(r, "rope.dimension_count", "rotary_dim", (double)p->head_dim)) {
        return false;
    }
    if (p->rotary_dim < 2 || p->rotary_dim > p->head_dim || p->rotary_dim % 2 != 0) {
        return unexpected_key(r, "an even number from 2 to the size of a head");
    }
    p->rotary_dim = p->rotary_dim < p->head_dim ? p->rotary_dim : 0;
    return true;
}

// The width of the mlp. Files with experts also give that of layers without experts. It is not
// read, since a model with such layers is refused when its tensors are checked.
static bool read_hidden_dim(GgufKeys *r, const Family *f)
{
    if (!(f->reads & READS_EXPERTS)) {
        return read_layer_value(r, "feed_forward_length", "hidden_dim", -1);
    }
    return read_config_value(r, "expert_feed_forward_length", "hidden_dim", -1) &&
           read_config_value(r, "expert_count", "n_experts", -1) &&
           read_config_value(r, "expert_used_count", "n_experts_used", -1);
}

static bool read_sizes(GgufKeys *r, const Family *f)
{
    Config *p = r->config;
    if (!read_config_value(r, "block_count", "n_layers", -1) ||
        !read_config_value(r, "embedding_length", "dim", -1) || !read_hidden_dim(r, f) ||
        !read_config_value(r, "context_length", "context_length", -1) ||
        !read_layer_value(r, "attention.head_count", "n_heads", -1) ||
        !read_layer_value(r, "attention.head_count_kv", "n_kv_heads", (double)p->n_heads)) {
        return false;
    }
    const size_t head_dim = p->dim / p->n_heads;
    return read_config_value(r, "attention.key_length", "head_dim", (double)head_dim) &&
           check_head_size(r, "attention.value_length") && read_rotary_dim(r, f) &&
           read_config_value(r, "attention.layer_norm_rms_epsilon", "norm_eps", -1) &&
           read_config_value(r, "rope.freq_base", "rope_theta", 10000);
}

// --------------------------------------------------------------------------------------------
// Windows and RoPE of the layers

// Whether a layer has the window: an array with a switch for each layer, or a number n, by which
// every n-th has not.
static bool windowed_layer(const GgufKey *pattern, size_t full_every, size_t layer)
{
    if (pattern && pattern->array) {
        return gguf_element(pattern, layer) != 0;
    }
    return full_every == 0 || (layer + 1) % full_every != 0;
}

static bool read_window_pattern(GgufKeys *r, const GgufKey **pattern, size_t *full_every)
{
    const size_t n = r->config->n_layers;
    char expected[80];
    double every = (double)*full_every;
    *pattern = model_key(r, "attention.sliding_window_pattern");
    if (!*pattern) {
        return true;
    }
    snprintf(expected, sizeof expected, "an array of %zu switches, one for each layer", n);
    if ((*pattern)->array) {
        bool valid = (*pattern)->type != GGUF_TEXT && (*pattern)->count == n;
        for (size_t i = 0; valid && i < n; i++) {
            const double value = gguf_element(*pattern, i);
            valid = value == 0 || value == 1;
        }
        return valid || unexpected_key(r, expected);
    }
    if (!gguf_number(*pattern, &every) || !(every >= 0 && every <= MOST_LAYERS) ||
        every != floor(every)) {
        return unexpected_key(r, expected);
    }
    *full_every = (size_t)every;
    return true;
}

// The base of RoPE in layers with the window, if they have their own.
static bool read_window_theta(GgufKeys *r, const LayerPlan *plan)
{
    Config *p = r->config;
    const bool own = plan->window_theta != 0 || plan->window_unscaled;
    double theta = plan->window_theta != 0 ? plan->window_theta : p->rope_theta;
    if (own) {
        return read_config_value(r, "rope.freq_base_swa", "window_rope_theta", theta);
    }
    return read_key_number(r, "rope.freq_base_swa", &theta) &&
           (theta == p->rope_theta || unexpected_key(r, "that of rope.freq_base"));
}

static bool read_layers(GgufKeys *r, const LayerPlan *plan)
{
    Config *p = r->config;
    const bool initial = plan->window_of == 0 || plan->window_of == p->n_layers;
    const GgufKey *pattern;
    size_t full_every = plan->full_every;
    if (!read_config_value(r, "attention.sliding_window", "sliding_window",
                           initial ? (double)plan->window : 0) ||
        !read_window_pattern(r, &pattern, &full_every)) {
        return false;
    }
    for (size_t i = 0; i < p->n_layers; i++) {
        const bool full = p->sliding_window && !windowed_layer(pattern, full_every, i);
        const bool unrotated = (plan->no_rope_without_window && full) ||
                               (plan->no_rope_every && (i + 1) % plan->no_rope_every == 0);
        p->layer_flags[i] = (uint8_t)((full ? LAYER_FULL : 0) | (unrotated ? LAYER_NO_ROPE : 0));
    }
    return p->sliding_window == 0 || read_window_theta(r, plan);
}

// --------------------------------------------------------------------------------------------
// Scales and caps

// Logits are divided by the key's value.
static bool read_logit_scale(GgufKeys *r, double initial)
{
    double divisor = 1 / initial;
    if (!read_key_number(r, "logit_scale", &divisor)) {
        return false;
    }
    if (!(divisor >= 1e-6 && divisor <= 1e6)) {
        return unexpected_key(r, "0.000001 to 1000000");
    }
    r->config->logit_scale = divisor == 1 ? 0 : 1 / divisor;
    return true;
}

// Granite has keys for its multipliers (arXiv:2408.13359). MiniCPM's files used to be without them:
// scale_emb, scale_depth / sqrt(n_layers) and dim_model_base / dim of its 2B model
// (arXiv:2404.06395).
static bool read_scales(GgufKeys *r, const Family *f)
{
    const Config *p = r->config;
    const bool granite = f->reads & READS_ATTENTION;
    return read_optional_value(r, "embedding_scale", "embedding_scale", granite ? 0 : 12) &&
           read_optional_value(r, "residual_scale", "residual_scale",
                               granite ? 0 : 1.4 / sqrt((double)p->n_layers)) &&
           read_logit_scale(r, granite ? 1 : 256 / (double)p->dim) &&
           (!granite || read_optional_value(r, "attention.scale", "attention_scale", 0));
}

// In Gemma's own code the factor has the type of the embedding, whose originals are all bf16: the
// nearest number of 8 bits.
static double embedding_scale(size_t dim)
{
    int exponent;
    const double mantissa = frexp(sqrt((double)dim), &exponent);
    return ldexp(nearbyint(mantissa * 256), exponent - 8);
}

static bool read_caps(GgufKeys *r, const Family *f)
{
    return read_optional_value(r, "attn_logit_softcapping", "attention_cap", f->attention_cap) &&
           read_optional_value(r, "final_logit_softcapping", "logit_cap", f->logit_cap);
}

// query_factor divides positions by the original context, which only a file with YaRN has.
static bool read_temperature(GgufKeys *r)
{
    return read_optional_value(r, "attention.temperature_scale", "query_beta", 0) &&
           (r->config->query_beta == 0 || r->config->rope_scaling.kind == ROPE_YARN ||
            unexpected_key(r, "0 without rope.scaling.type yarn"));
}

// Granite's files have rope.scaling.finetuned = false for models without RoPE.
static bool read_finetuned(GgufKeys *r)
{
    double rotates = 1;
    if (!read_key_number(r, "rope.scaling.finetuned", &rotates)) {
        return false;
    }
    for (size_t i = 0; rotates == 0 && i < r->config->n_layers; i++) {
        r->config->layer_flags[i] |= LAYER_NO_ROPE;
    }
    return rotates == 0 || rotates == 1 || unexpected_key(r, "true or false");
}

static bool read_factors(GgufKeys *r, const Family *f)
{
    Config *p = r->config;
    if (f->scales_embedding) {
        p->embedding_scale = embedding_scale(p->dim);
    }
    if (f->wide_layers == p->n_layers) {
        p->attention_scale = sqrt((double)p->n_heads / (double)p->dim);
    }
    return (!(f->reads & READS_CAPS) || read_caps(r, f)) &&
           (!(f->reads & READS_SCALES) || read_scales(r, f)) &&
           (!(f->reads & READS_TEMPERATURE) || read_temperature(r)) &&
           (!(f->reads & READS_FINETUNED) || read_finetuned(r));
}

// --------------------------------------------------------------------------------------------
// The whole

// What the tensors say: the vocabulary, and which of them there are.
static bool read_tensors(const GgufKeys *r)
{
    const GgufTensor *embedding = gguf_tensor(r->g, "token_embd.weight");
    Config *p = r->config;
    if (!embedding) {
        return error_set(r->err, ERROR_INPUT, "%s: tensor token_embd.weight is missing",
                         r->g->path);
    }
    p->tied_head = !gguf_tensor(r->g, "output.weight");
    p->qkv_bias = gguf_tensor(r->g, "blk.0.attn_q.bias") ||
                  gguf_tensor(r->g, "blk.0.attn_qkv.bias");
    p->o_bias = gguf_tensor(r->g, "blk.0.attn_output.bias");
    p->mlp_bias = gguf_tensor(r->g, "blk.0.ffn_down.bias");
    return config_set(p, "vocab_size", (double)embedding->dims[1],
                      (ConfigOrigin){r->g->path, "the rows of tensor token_embd.weight"}, r->err);
}

bool gguf_read_config(const Gguf *g, Config *config, const GgufArchitecture **architecture,
                      Error *err)
{
    const Family *f = find_family(g, err);
    if (!f) {
        return false;
    }
    GgufKeys r = {.g = g, .architecture = f->stored.name, .config = config, .err = err};
    *architecture = &f->stored;
    config->qk_norm = f->qk_norm;
    config->norm_placement = f->norm_placement;
    config->activation = f->activation;
    return check_supported(&r, f) && read_sizes(&r, f) && read_tensors(&r) &&
           config_check(config, g->path, err) && read_layers(&r, &f->layers) &&
           gguf_read_rope_scaling(&r) && read_factors(&r, f) && config_check(config, g->path, err);
}
