// gguf_rope.c - RoPE's scaling in a GGUF file. See gguf_rope.h.
//
//     rope.scaling.type     scaling     what else says how
//     none                  none
//     linear, or no type    linear      rope.scaling.factor, before it rope.scale_linear
//     yarn                  YaRN        factor, original_context_length, yarn_*, attn_factor
//     longrope              LongRoPE    tensors rope_factors_long and _short, attn_factor
//     none, or no type      LongRoPE    the same, if there is one of these tensors
//     none, linear, no type Llama 3's   tensor rope_freqs, with a linear factor of 1 if any
//
// Phi-3's files name no type, so the tensors decide. Llama 3's scaling is stored as a tensor of
// divisors of the frequencies. The largest divisor is the factor. The inverses of divisors between
// 1 and the factor are linear in the number of turns within the original context, from
// low_freq_factor to high_freq_factor. Llama 3 uses 1 and 4, so one such divisor determines the
// original context; for other factors, two determine the line.
#include "formats/gguf_rope.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/pack.h"

#define ROPE_DIVISORS "rope_freqs.weight"
#define LONG_FACTORS  "rope_factors_long.weight"
#define SHORT_FACTORS "rope_factors_short.weight"

#define MAX_PAIRS 2048  // of dimensions, half of the largest head

static const char *const rope_tensors[] = {ROPE_DIVISORS, LONG_FACTORS, SHORT_FACTORS};

bool gguf_is_rope_tensor(const GgufTensor *t)
{
    for (size_t i = 0; i < sizeof rope_tensors / sizeof *rope_tensors; i++) {
        const size_t size = strlen(rope_tensors[i]);
        if (t->name.size == size && memcmp(t->name.data, rope_tensors[i], size) == 0) {
            return true;
        }
    }
    return false;
}

static size_t rotated_dim(const Config *p) { return p->rotary_dim ? p->rotary_dim : p->head_dim; }

// Reads a tensor of one plain number for each pair of rotated dimensions.
static bool read_pairs(const GgufKeys *r, const char *name, float *out, size_t most)
{
    const GgufTensor *t = gguf_tensor(r->g, name);
    const size_t n = rotated_dim(r->config) / 2;
    if (!t) {
        return error_set(r->err, ERROR_INPUT, "%s: tensor %s is missing", r->g->path, name);
    }
    const RowFormat *format = row_format_find(t->type->number);
    if (n > most || t->dims[0] != n || t->bytes != n * t->type->block_bytes || !format ||
        !row_format_is_plain(format)) {
        return error_set(r->err, ERROR_INPUT,
                         "%s: tensor %s has %zu values of type %s in its rows, expected %zu of F32",
                         r->g->path, name, t->dims[0], t->type->name, n < most ? n : most);
    }
    for (size_t i = 0; i < n; i++) {
        out[i] = row_value(format, t->data, i);
    }
    return true;
}

// The context before it was extended; the file's own if it does not say.
static bool read_original_context(GgufKeys *r, size_t least)
{
    char expected[48];
    double original = (double)r->config->context_length;
    if (!read_key_number(r, "rope.scaling.original_context_length", &original)) {
        return false;
    }
    if (!(original >= (double)least && original <= 1 << 24)) {
        snprintf(expected, sizeof expected, "%zu to 16777216", least);
        return unexpected_key(r, expected);
    }
    r->config->rope_scaling.original_context = (size_t)original;
    return true;
}

// --------------------------------------------------------------------------------------------
// Llama 3

// Does this scaling divide the frequencies by these divisors?
static bool scaling_fits(const Config *p, const RopeScaling *s, const float *divisors)
{
    double plain[MAX_PAIRS], scaled[MAX_PAIRS];
    if (!(s->low_freq_factor > 0 && s->low_freq_factor < s->high_freq_factor) ||
        s->original_context < 1) {
        return false;
    }
    rope_frequencies(plain, rotated_dim(p), p->rope_theta, &(RopeScaling){.kind = ROPE_UNSCALED},
                     0);
    rope_frequencies(scaled, rotated_dim(p), p->rope_theta, s, 0);
    for (size_t i = 0; i < rotated_dim(p) / 2; i++) {
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
    rope_frequencies(plain, rotated_dim(p), p->rope_theta, &(RopeScaling){.kind = ROPE_UNSCALED},
                     0);
    mix->n = 0;
    for (size_t i = 0; i < rotated_dim(p) / 2; i++) {
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
static bool find_llama3_scaling(GgufKeys *r, const float *divisors, double original)
{
    Config *p = r->config;
    double factor = 1;
    for (size_t i = 0; i < rotated_dim(p) / 2; i++) {
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
                         r->g->path, ROPE_DIVISORS);
    }
    const ConfigOrigin from = {r->g->path, "a factor of tensor " ROPE_DIVISORS};
    p->rope_scaling = s;
    return config_set(p, "rope_factor", s.factor, from, r->err) &&
           config_set(p, "rope_low_freq_factor", s.low_freq_factor, from, r->err) &&
           config_set(p, "rope_high_freq_factor", s.high_freq_factor, from, r->err);
}

static bool read_llama3_scaling(GgufKeys *r)
{
    float divisors[MAX_PAIRS];
    double original = 8192;
    if (!read_key_number(r, "rope.scaling.original_context_length", &original)) {
        return false;
    }
    if (!(original >= 1 && original <= 1 << 24)) {
        return unexpected_key(r, "1 to 16777216");
    }
    return read_pairs(r, ROPE_DIVISORS, divisors, MAX_PAIRS) &&
           find_llama3_scaling(r, divisors, original);
}

// --------------------------------------------------------------------------------------------
// YaRN (arXiv:2309.00071)

// Its attention factor with a weight of the logarithm, as DeepSeek introduced it.
static double weighted_factor(double factor, double weight)
{
    return 1 + weight * (rope_attention_factor(&(RopeScaling){ROPE_YARN, .factor = factor}) - 1);
}

// What cosines and sines are multiplied by: what the file gives, or the paper's.
static bool read_yarn_attention(GgufKeys *r)
{
    RopeScaling *s = &r->config->rope_scaling;
    double weight = 0, multiplier = 1;
    if (!read_key_number(r, "rope.scaling.yarn_log_multiplier", &weight)) {
        return false;
    }
    if (!(weight >= 0 && weight <= 1e6)) {
        return unexpected_key(r, "0 to 1000000");
    }
    if (!read_optional_value(r, "rope.scaling.yarn_attn_factor", "rope_attention_factor", 0)) {
        return false;
    }
    if (weight != 0 && s->attention_factor == 0) {
        s->attention_factor = weighted_factor(s->factor, 1) / weighted_factor(s->factor, weight);
    }
    if (!read_key_number(r, "rope.scaling.attn_factor", &multiplier)) {
        return false;
    }
    const ConfigOrigin from = {r->g->path, "key rope.scaling.attn_factor times YaRN's own factor"};
    return multiplier == 1 || config_set(r->config, "rope_attention_factor",
                                         rope_attention_factor(s) * multiplier, from, r->err);
}

// The share of frequencies that are not scaled is always the paper's.
static bool check_extrapolation(GgufKeys *r)
{
    double factor = 1;
    return read_key_number(r, "rope.scaling.yarn_ext_factor", &factor) &&
           (factor == 1 || factor < 0 ||
            unexpected_key(r, "1: it is not supported"));  // below 0: not set
}

static bool read_yarn(GgufKeys *r)
{
    RopeScaling *s = &r->config->rope_scaling;
    s->kind = ROPE_YARN;
    s->truncate = true;
    return read_config_value(r, "rope.scaling.factor", "rope_factor", -1) &&
           read_original_context(r, 1) &&
           read_config_value(r, "rope.scaling.yarn_beta_fast", "rope_beta_fast", 32) &&
           read_config_value(r, "rope.scaling.yarn_beta_slow", "rope_beta_slow", 1) &&
           check_extrapolation(r) && read_yarn_attention(r);
}

// --------------------------------------------------------------------------------------------
// LongRoPE (arXiv:2402.13753)

static bool check_factors(const GgufKeys *r, const char *name, const float *factors)
{
    for (size_t i = 0; i < rotated_dim(r->config) / 2; i++) {
        if (!(factors[i] >= 1e-6f && factors[i] <= 1e6f)) {
            return error_set(r->err, ERROR_INPUT,
                             "%s: value %zu of tensor %s is %g, expected 0.000001 to 1000000",
                             r->g->path, i, name, (double)factors[i]);
        }
    }
    return true;
}

static bool read_longrope(GgufKeys *r)
{
    Config *p = r->config;
    RopeScaling *s = &p->rope_scaling;
    double given = 0;
    s->kind = ROPE_LONGROPE;
    if (!read_original_context(r, 2) ||
        !read_pairs(r, SHORT_FACTORS, s->short_factors, MOST_ROPE_FACTORS) ||
        !read_pairs(r, LONG_FACTORS, s->long_factors, MOST_ROPE_FACTORS) ||
        !check_factors(r, SHORT_FACTORS, s->short_factors) ||
        !check_factors(r, LONG_FACTORS, s->long_factors)) {
        return false;
    }
    const double factor = (double)p->context_length / (double)s->original_context;
    s->factor = factor > 1 ? factor : 1;
    if (!read_key_number(r, "rope.scaling.attn_factor", &given)) {
        return false;
    }
    // The paper's value, which the file has as f32, is left to the model.
    return fabs(given / rope_attention_factor(s) - 1) < 1e-7 ||
           read_optional_value(r, "rope.scaling.attn_factor", "rope_attention_factor", 0);
}

// --------------------------------------------------------------------------------------------
// The whole

static bool fail_two_scalings(const GgufKeys *r, const char *other)
{
    return error_set(r->err, ERROR_INPUT,
                     "%s: has tensor %s and %s of RoPE, expected only one of them", r->g->path,
                     ROPE_DIVISORS, other);
}

// scale_linear is the older name of the factor.
static bool read_linear(GgufKeys *r)
{
    double factor = 1;
    if (!read_key_number(r, "rope.scale_linear", &factor) ||
        !read_key_number(r, "rope.scaling.factor", &factor)) {
        return false;
    }
    if (factor == 1) {
        return true;
    }
    r->config->rope_scaling.kind = ROPE_LINEAR;
    return config_set(r->config, "rope_factor", factor,
                      (ConfigOrigin){r->g->path, "the linear factor of RoPE's scaling"}, r->err);
}

// Reads what the type says or, without one, what the tensors say.
static bool read_scaling(GgufKeys *r)
{
    const bool factors = gguf_tensor(r->g, LONG_FACTORS) || gguf_tensor(r->g, SHORT_FACTORS);
    const GgufKey *type = model_key(r, "rope.scaling.type");
    const bool named = key_is(type, "longrope"), none = key_is(type, "none");
    if (named || (factors && (!type || none))) {
        return read_longrope(r);
    }
    if (factors) {
        return unexpected_key(r, "longrope, as the file has tensors of its factors");
    }
    if (key_is(type, "yarn")) {
        return read_yarn(r);
    }
    if (none) {
        return true;
    }
    return !type || key_is(type, "linear") ? read_linear(r)
                                           : unexpected_key(r, "none, linear, yarn or longrope");
}

bool gguf_read_rope_scaling(GgufKeys *r)
{
    static const char *const names[N_ROPE_SCALINGS] = {[ROPE_LINEAR] = "a linear scaling",
                                                       [ROPE_YARN] = "YaRN's scaling",
                                                       [ROPE_LONGROPE] = "LongRoPE's scaling"};
    double factor = 1;
    if (!read_scaling(r)) {
        return false;
    }
    const RopeScalingKind kind = r->config->rope_scaling.kind;
    if (gguf_tensor(r->g, ROPE_DIVISORS)) {
        return kind == ROPE_UNSCALED ? read_llama3_scaling(r) : fail_two_scalings(r, names[kind]);
    }
    if (kind == ROPE_YARN || kind == ROPE_LONGROPE) {
        return true;
    }
    return read_key_number(r, "rope.scaling.attn_factor", &factor) &&
           (factor == 1 || unexpected_key(r, "1 without YaRN or LongRoPE"));
}
