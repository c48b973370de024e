// config.c - reads the section `config` of a native checkpoint: named values, one after the other.
//
//     0          32     36      40
//     +----------+------+-------+----------------+----------+- - -
//     | name     | type | count | values         | name     |
//     | "dim" 00 | u32  | 1     | 128, zeros (8) | "n_la..  |
//     +----------+------+-------+----------------+----------+- - -
//
// The table below says of each name what type it has, what range, where it goes in Config, and
// which models need it. A new switch of the model is a new row: it moves no byte of the files that
// do without it, and a program that does not know it refuses the file by its name.
#include "formats/config.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

// Names that begin with this are recommended values of sampling.
#define SAMPLING_PREFIX "sampling."

// What stands before the values of an entry, as it lies in the file.
typedef struct {
    char name[32];   // ends with a zero byte, filled up with zeros
    uint32_t type;   // ValueType
    uint32_t count;  // of the values, which are padded with zeros to a multiple of 8 bytes
} EntryHead;
_Static_assert(offsetof(EntryHead, type) == 32 && sizeof(EntryHead) == 40, "docs/format.md");

typedef enum { VALUE_U32, VALUE_F64, N_VALUE_TYPES } ValueType;
static const struct {
    const char *name;
    size_t size;
} value_types[N_VALUE_TYPES] = {{"u32", 4}, {"f64", 8}};

// How a value is held in Config.
typedef enum {
    FIELD_COUNT,    // u32: a size_t
    FIELD_SWITCH,   // u32, 0 or 1: a bool
    FIELD_CHOICE,   // u32: an enum
    FIELD_REAL,     // f64: a double
    FIELD_LAYERS,   // u32 of each layer: a uint8_t
    FIELD_FACTORS,  // f64 of each pair of dimensions: a float
} FieldKind;

// Which files have a value. Where it is not needed it is refused too, unless it is optional.
typedef enum {
    OPTIONAL,  // 0 unless given
    ALWAYS,
    WITH_WEIGHTS,
    WITH_SCALING,   // of RoPE
    WITH_ORIGINAL,  // a scaling that knows the original context
    WITH_LLAMA3,
    WITH_YARN,
    WITH_LONGROPE,
    WITH_EXPERTS,
} Need;

#define AT(field) offsetof(Config, field)

// The enums of Config are stored through a pointer to unsigned, the type that they are made of.
_Static_assert(sizeof(NormPlacement) == sizeof(unsigned) &&
                   sizeof(RopeScalingKind) == sizeof(unsigned) &&
                   sizeof(QkNorm) == sizeof(unsigned) && sizeof(Activation) == sizeof(unsigned),
               "FIELD_CHOICE");

static const struct Field {
    const char *name;
    FieldKind kind;
    Need need;
    size_t offset;
    double min, max;
} fields[] = {
    // The limits keep every later product of two sizes within 64 bits.
    {"vocab_size", FIELD_COUNT, ALWAYS, AT(vocab_size), 1, 1 << 24},
    {"vocab_only", FIELD_SWITCH, OPTIONAL, AT(vocab_only), 0, 1},
    {"dim", FIELD_COUNT, WITH_WEIGHTS, AT(dim), 1, 1 << 20},
    {"hidden_dim", FIELD_COUNT, WITH_WEIGHTS, AT(hidden_dim), 1, 1 << 22},
    {"n_layers", FIELD_COUNT, WITH_WEIGHTS, AT(n_layers), 1, MOST_LAYERS},
    {"n_heads", FIELD_COUNT, WITH_WEIGHTS, AT(n_heads), 1, 1 << 12},
    {"n_kv_heads", FIELD_COUNT, WITH_WEIGHTS, AT(n_kv_heads), 1, 1 << 12},
    {"head_dim", FIELD_COUNT, WITH_WEIGHTS, AT(head_dim), 2, 1 << 12},
    {"context_length", FIELD_COUNT, WITH_WEIGHTS, AT(context_length), 1, 1 << 24},
    {"norm_eps", FIELD_REAL, WITH_WEIGHTS, AT(norm_eps), 0, 1},
    {"rope_theta", FIELD_REAL, WITH_WEIGHTS, AT(rope_theta), 1, 1e12},
    {"sliding_window", FIELD_COUNT, OPTIONAL, AT(sliding_window), 0, 1 << 24},
    {"tied_head", FIELD_SWITCH, OPTIONAL, AT(tied_head), 0, 1},
    {"qkv_bias", FIELD_SWITCH, OPTIONAL, AT(qkv_bias), 0, 1},
    {"o_bias", FIELD_SWITCH, OPTIONAL, AT(o_bias), 0, 1},
    {"mlp_bias", FIELD_SWITCH, OPTIONAL, AT(mlp_bias), 0, 1},
    {"qk_norm", FIELD_CHOICE, OPTIONAL, AT(qk_norm), 0, N_QK_NORMS - 1},
    {"embedding_scale", FIELD_REAL, OPTIONAL, AT(embedding_scale), 1e-6, 1e6},
    {"residual_scale", FIELD_REAL, OPTIONAL, AT(residual_scale), 1e-6, 1e6},
    {"attention_scale", FIELD_REAL, OPTIONAL, AT(attention_scale), 1e-6, 1e6},
    {"logit_scale", FIELD_REAL, OPTIONAL, AT(logit_scale), 1e-6, 1e6},
    {"attention_cap", FIELD_REAL, OPTIONAL, AT(attention_cap), 1e-6, 1e6},
    {"logit_cap", FIELD_REAL, OPTIONAL, AT(logit_cap), 1e-6, 1e6},
    {"norm_placement", FIELD_CHOICE, OPTIONAL, AT(norm_placement), 0, N_NORM_PLACEMENTS - 1},
    {"activation", FIELD_CHOICE, OPTIONAL, AT(activation), 0, N_ACTIVATIONS - 1},
    {"n_experts", FIELD_COUNT, OPTIONAL, AT(n_experts), 1, MOST_EXPERTS},
    {"n_experts_used", FIELD_COUNT, WITH_EXPERTS, AT(n_experts_used), 1, MOST_EXPERTS_USED},
    {"rotary_dim", FIELD_COUNT, OPTIONAL, AT(rotary_dim), 0, 1 << 12},
    {"query_beta", FIELD_REAL, OPTIONAL, AT(query_beta), 0, 1e6},
    {"window_rope_theta", FIELD_REAL, OPTIONAL, AT(window_rope_theta), 1, 1e12},
    {"layer_flags", FIELD_LAYERS, OPTIONAL, AT(layer_flags), 0, LAYER_FULL | LAYER_NO_ROPE},
    {"rope_scaling", FIELD_CHOICE, OPTIONAL, AT(rope_scaling.kind), 0, N_ROPE_SCALINGS - 1},
    {"rope_factor", FIELD_REAL, WITH_SCALING, AT(rope_scaling.factor), 1, 1e6},
    {"rope_original_context", FIELD_COUNT, WITH_ORIGINAL, AT(rope_scaling.original_context), 1,
     1 << 24},
    {"rope_attention_factor", FIELD_REAL, OPTIONAL, AT(rope_scaling.attention_factor), 1e-6, 1e6},
    {"rope_beta_fast", FIELD_REAL, WITH_YARN, AT(rope_scaling.beta_fast), 1e-6, 1e6},
    {"rope_beta_slow", FIELD_REAL, WITH_YARN, AT(rope_scaling.beta_slow), 1e-6, 1e6},
    {"rope_truncate", FIELD_SWITCH, WITH_YARN, AT(rope_scaling.truncate), 0, 1},
    {"rope_short_factors", FIELD_FACTORS, WITH_LONGROPE, AT(rope_scaling.short_factors), 1e-6, 1e6},
    {"rope_long_factors", FIELD_FACTORS, WITH_LONGROPE, AT(rope_scaling.long_factors), 1e-6, 1e6},
    {"rope_low_freq_factor", FIELD_REAL, WITH_LLAMA3, AT(rope_scaling.low_freq_factor), 1e-6, 1e6},
    {"rope_high_freq_factor", FIELD_REAL, WITH_LLAMA3, AT(rope_scaling.high_freq_factor), 1e-6,
     1e6},
};
typedef struct Field Field;
#define N_FIELDS (sizeof fields / sizeof *fields)

typedef struct {
    const char *path;  // for messages
    const uint8_t *data;
    size_t size, at;         // of the section, and where in it the next entry begins
    size_t n;                // entries that were read
    bool given[N_FIELDS];    // which fields were among them
    size_t count[N_FIELDS];  // and how many values they have
    Config *config;
    Sampling *sampling;
} ConfigReader;

// An entry that was read.
typedef struct {
    char name[sizeof((EntryHead *)0)->name];
    ValueType type;
    size_t count;
    const uint8_t *values;  // (count), in the section
    double value;           // the first one
} Entry;

// --------------------------------------------------------------------------------------------
// Entries

// The i-th value of an entry, exactly.
static double value_at(const Entry *e, size_t i)
{
    uint32_t whole;
    double real;
    if (e->type == VALUE_F64) {
        memcpy(&real, e->values + i * sizeof real, sizeof real);
        return real;
    }
    memcpy(&whole, e->values + i * sizeof whole, sizeof whole);
    return whole;
}

// Reads the next entry, whatever its name.
static bool read_entry(ConfigReader *r, Entry *e, Error *err)
{
    EntryHead head;
    const size_t left = r->size - r->at;
    if (left < sizeof head) {
        return error_set(err, ERROR_INPUT,
                         "%s: config: %zu bytes follow its last value, expected 0", r->path, left);
    }
    memcpy(&head, r->data + r->at, sizeof head);
    if (!is_padded_name(head.name, sizeof head.name)) {
        return error_set(err, ERROR_INPUT,
                         "%s: config: the name of value %zu is not 1 to 31 characters followed by "
                         "zeros",
                         r->path, r->n);
    }
    if (head.type >= N_VALUE_TYPES) {
        return error_set(err, ERROR_INPUT, "%s: config: the type of %s is %u, expected 0 to %d",
                         r->path, head.name, (unsigned)head.type, N_VALUE_TYPES - 1);
    }
    const size_t used = head.count * value_types[head.type].size, padded = round_up(used, 8);
    const uint8_t *values = r->data + r->at + sizeof head;
    if (!head.count || padded > left - sizeof head) {
        return error_set(err, ERROR_INPUT,
                         "%s: config: %s has %u values, expected 1 to %zu, as many as the section "
                         "has room for",
                         r->path, head.name, (unsigned)head.count,
                         (left - sizeof head) / value_types[head.type].size);
    }
    if (!all_zero(values + used, padded - used)) {
        return error_set(err, ERROR_INPUT, "%s: config: the bytes after %s are not all zero",
                         r->path, head.name);
    }
    *e = (Entry){.type = (ValueType)head.type, .count = head.count, .values = values};
    memcpy(e->name, head.name, sizeof e->name);
    e->value = value_at(e, 0);
    r->at += sizeof head + padded;
    r->n++;
    return true;
}

static bool expect_one(const ConfigReader *r, const Entry *e, ValueType type, Error *err)
{
    if (e->type != type) {
        return error_set(err, ERROR_INPUT, "%s: config: %s has the type %s, expected %s", r->path,
                         e->name, value_types[e->type].name, value_types[type].name);
    }
    return e->count == 1 || error_set(err, ERROR_INPUT, "%s: config: %s has %zu values, expected 1",
                                      r->path, e->name, e->count);
}

// --------------------------------------------------------------------------------------------
// Values

// Checks a value's range. The comparison is written so that it refuses NaN too. `from.key` is what
// the file calls the value.
static bool check_range(ConfigOrigin from, double found, double min, double max, Error *err)
{
    char text[3][32];
    const double values[] = {found, min, max};
    if (found >= min && found <= max) {
        return true;
    }
    for (size_t i = 0; i < 3; i++) {
        // Sizes have up to ten digits; %g would round them.
        snprintf(text[i], sizeof text[i], "%.10g", values[i]);
    }
    return error_set(err, ERROR_INPUT, "%s: %s is %s, expected %s to %s", from.path, from.key,
                     text[0], text[1], text[2]);
}

// A value for each layer or each pair of dimensions. How many there must be is known once all
// entries are read (check_lists).
static bool take_list(ConfigReader *r, const Field *f, const Entry *e, Error *err)
{
    const bool layers = f->kind == FIELD_LAYERS;
    const size_t most = layers ? MOST_LAYERS : MOST_ROPE_FACTORS;
    const ValueType type = layers ? VALUE_U32 : VALUE_F64;
    void *field = (char *)r->config + f->offset;
    if (e->type != type || e->count > most) {
        return error_set(err, ERROR_INPUT,
                         "%s: config: %s has %zu values of the type %s, expected at most %zu of %s",
                         r->path, e->name, e->count, value_types[e->type].name, most,
                         value_types[type].name);
    }
    for (size_t i = 0; i < e->count; i++) {
        const double value = value_at(e, i);
        char key[sizeof e->name + 8];
        snprintf(key, sizeof key, "config: %s", f->name);
        if (!check_range((ConfigOrigin){r->path, key}, value, f->min, f->max, err)) {
            return false;
        }
        if (layers) {
            ((uint8_t *)field)[i] = (uint8_t)value;
        } else {
            ((float *)field)[i] = (float)value;
        }
    }
    return true;
}

static void store_field(const Field *f, Config *config, double value)
{
    void *field = (char *)config + f->offset;
    switch (f->kind) {
    case FIELD_COUNT:
        *(size_t *)field = (size_t)value;
        break;
    case FIELD_SWITCH:
        *(bool *)field = value != 0;
        break;
    case FIELD_CHOICE:
        *(unsigned *)field = (unsigned)value;
        break;
    case FIELD_REAL:
        *(double *)field = value;
        break;
    case FIELD_LAYERS:
    case FIELD_FACTORS:
        break;  // take_list
    }
}

static double load_field(const Field *f, const Config *config)
{
    const void *field = (const char *)config + f->offset;
    switch (f->kind) {
    case FIELD_COUNT:
        return (double)*(const size_t *)field;
    case FIELD_SWITCH:
        return *(const bool *)field;
    case FIELD_CHOICE:
        return *(const unsigned *)field;
    case FIELD_REAL:
        return *(const double *)field;
    case FIELD_LAYERS:
    case FIELD_FACTORS:
        break;
    }
    return 0;
}

static bool take_field(ConfigReader *r, size_t i, const Entry *e, Error *err)
{
    const Field *f = &fields[i];
    if (r->given[i]) {
        return error_set(err, ERROR_INPUT, "%s: config: duplicate %s", r->path, e->name);
    }
    r->given[i] = true;
    r->count[i] = e->count;
    if (f->kind == FIELD_LAYERS || f->kind == FIELD_FACTORS) {
        return take_list(r, f, e, err);
    }
    char key[sizeof e->name + 8];
    snprintf(key, sizeof key, "config: %s", f->name);
    if (!expect_one(r, e, f->kind == FIELD_REAL ? VALUE_F64 : VALUE_U32, err) ||
        !check_range((ConfigOrigin){r->path, key}, e->value, f->min, f->max, err)) {
        return false;
    }
    store_field(f, r->config, e->value);
    return true;
}

static bool take_sampling(ConfigReader *r, const Entry *e, Error *err)
{
    Sampling *s = r->sampling;
    const char *name = e->name + strlen(SAMPLING_PREFIX);
    for (size_t i = 0; i < s->n; i++) {
        if (strcmp(s->values[i].name, name) == 0) {
            return error_set(err, ERROR_INPUT, "%s: config: duplicate %s", r->path, e->name);
        }
    }
    if (s->n == MAX_SAMPLING) {
        return error_set(err, ERROR_INPUT,
                         "%s: config: %s is number %d of the values of sampling, "
                         "expected at most %d",
                         r->path, e->name, MAX_SAMPLING + 1, MAX_SAMPLING);
    }
    if (!expect_one(r, e, VALUE_F64, err)) {
        return false;
    }
    memcpy(s->values[s->n].name, name, strlen(name) + 1);
    s->values[s->n++].value = e->value;
    return true;
}

static bool take_entry(ConfigReader *r, const Entry *e, Error *err)
{
    if (strncmp(e->name, SAMPLING_PREFIX, strlen(SAMPLING_PREFIX)) == 0) {
        return take_sampling(r, e, err);
    }
    for (size_t i = 0; i < N_FIELDS; i++) {
        if (strcmp(fields[i].name, e->name) == 0) {
            return take_field(r, i, e, err);
        }
    }
    return error_set(err, ERROR_INPUT,
                     "%s: config: unknown value %s (from a newer version of the program?)", r->path,
                     e->name);
}

// --------------------------------------------------------------------------------------------
// The whole

static bool is_needed(const Config *c, Need need)
{
    const RopeScalingKind kind = c->vocab_only ? ROPE_UNSCALED : c->rope_scaling.kind;
    return need == ALWAYS || (need == WITH_WEIGHTS && !c->vocab_only) ||
           (need == WITH_SCALING && kind != ROPE_UNSCALED) ||
           (need == WITH_ORIGINAL && kind != ROPE_UNSCALED && kind != ROPE_LINEAR) ||
           (need == WITH_LLAMA3 && kind == ROPE_LLAMA3) ||
           (need == WITH_YARN && kind == ROPE_YARN) ||
           (need == WITH_LONGROPE && kind == ROPE_LONGROPE) ||
           (need == WITH_EXPERTS && c->n_experts && !c->vocab_only);
}

// Checks that the values are there that such a model needs, and no others.
static bool check_presence(const ConfigReader *r, Error *err)
{
    static const char *const needs[] = {[WITH_WEIGHTS] = "a file with weights",
                                        [WITH_SCALING] = "a file with rope_scaling",
                                        [WITH_ORIGINAL] = "a file with rope_scaling 2, 3 or 4",
                                        [WITH_LLAMA3] = "a file with rope_scaling 2",
                                        [WITH_YARN] = "a file with rope_scaling 3",
                                        [WITH_LONGROPE] = "a file with rope_scaling 4",
                                        [WITH_EXPERTS] = "a file with n_experts"};
    for (size_t i = 0; i < N_FIELDS; i++) {
        const Field *f = &fields[i];
        const bool needed = is_needed(r->config, f->need);
        if (needed && !r->given[i]) {
            return error_set(err, ERROR_INPUT, "%s: config: %s is missing", r->path, f->name);
        }
        if (!needed && r->given[i] && f->need != OPTIONAL) {
            return error_set(err, ERROR_INPUT, "%s: config: unexpected %s, which belongs in %s",
                             r->path, f->name, needs[f->need]);
        }
    }
    return true;
}

// Half the dimensions of a head that are rotated.
static size_t rotated_pairs(const Config *c)
{
    return (c->rotary_dim ? c->rotary_dim : c->head_dim) / 2;
}

// Checks that lists have as many values as there are layers, or pairs of rotated dimensions.
static bool check_lists(const ConfigReader *r, Error *err)
{
    const Config *c = r->config;
    const size_t pairs = rotated_pairs(c);
    for (size_t i = 0; i < N_FIELDS; i++) {
        const bool layers = fields[i].kind == FIELD_LAYERS;
        const size_t expected = layers ? c->n_layers : pairs;
        if (r->given[i] && (layers || fields[i].kind == FIELD_FACTORS) && r->count[i] != expected) {
            return error_set(err, ERROR_INPUT, "%s: config: %s has %zu values, expected %s, %zu",
                             r->path, fields[i].name, r->count[i],
                             layers ? "n_layers" : "half the rotated dimensions", expected);
        }
    }
    return true;
}

// Checks what values say about heads.
static bool check_heads(const Config *c, const char *path, Error *err)
{
    if (c->n_heads % c->n_kv_heads != 0) {
        return error_set(err, ERROR_INPUT,
                         "%s: config: n_kv_heads is %zu, expected a divisor of n_heads, %zu", path,
                         c->n_kv_heads, c->n_heads);
    }
    if (c->head_dim % 2 != 0) {
        return error_set(err, ERROR_INPUT, "%s: config: head_dim is %zu, expected an even number",
                         path, c->head_dim);
    }
    if (c->rotary_dim % 2 != 0 || c->rotary_dim > c->head_dim) {
        return error_set(
            err, ERROR_INPUT,
            "%s: config: rotary_dim is %zu, expected an even number up to head_dim, %zu", path,
            c->rotary_dim, c->head_dim);
    }
    // A head is a whole number of vectors, so that it can be normalised in place (rms_norm).
    if ((c->qk_norm == QK_NORM_HEAD || c->qk_norm == QK_NORM_HEAD_AFTER_ROPE) &&
        c->head_dim % LANES != 0) {
        return error_set(err, ERROR_INPUT,
                         "%s: config: head_dim is %zu, expected a multiple of %d with qk_norm %d",
                         path, c->head_dim, LANES, (int)c->qk_norm);
    }
    return true;
}

// Checks what values say about RoPE and the window.
static bool check_rope(const Config *c, const char *path, Error *err)
{
    const RopeScaling *s = &c->rope_scaling;
    if (c->window_rope_theta != 0 && !c->sliding_window) {
        return error_set(err, ERROR_INPUT,
                         "%s: config: unexpected window_rope_theta, which belongs in a file with a "
                         "sliding_window",
                         path);
    }
    if (c->query_beta != 0 && !s->original_context) {
        return error_set(err, ERROR_INPUT,
                         "%s: config: unexpected query_beta, which belongs in a file with a "
                         "rope_original_context",
                         path);
    }
    if (s->attention_factor != 0 && s->kind != ROPE_YARN && s->kind != ROPE_LONGROPE) {
        return error_set(
            err, ERROR_INPUT,
            "%s: config: unexpected rope_attention_factor, which belongs in a file with "
            "rope_scaling 3 or 4",
            path);
    }
    // LongRoPE's attention factor divides by the logarithm of the original context, and between its
    // two factors Llama 3's scaling interpolates, and divides by their difference.
    return (s->kind != ROPE_LONGROPE ||
            check_range((ConfigOrigin){path, "config: rope_original_context"},
                        (double)s->original_context, 2, 1 << 24, err)) &&
           (s->kind != ROPE_LLAMA3 ||
            check_range((ConfigOrigin){path, "config: rope_high_freq_factor"}, s->high_freq_factor,
                        s->low_freq_factor * 1.000001, 1e6, err));
}

// Checks what values say about experts. Theirs are ranges of rows of one matrix, which begin with a
// quantisation block of what these rows compute.
static bool check_experts(const Config *c, const char *path, Error *err)
{
    if (!c->n_experts) {
        return true;
    }
    if (c->n_experts_used > c->n_experts) {
        return error_set(err, ERROR_INPUT,
                         "%s: config: n_experts_used is %zu, expected at most n_experts, %zu", path,
                         c->n_experts_used, c->n_experts);
    }
    if (c->dim % QUANT_BLOCK != 0 || c->hidden_dim % QUANT_BLOCK != 0) {
        return error_set(err, ERROR_INPUT,
                         "%s: config: dim is %zu and hidden_dim %zu, expected multiples of %d with "
                         "n_experts",
                         path, c->dim, c->hidden_dim, QUANT_BLOCK);
    }
    return !c->mlp_bias || error_set(err, ERROR_INPUT,
                                     "%s: config: mlp_bias is 1, expected 0 with n_experts", path);
}

bool config_check(const Config *c, const char *path, Error *err)
{
    return c->vocab_only ||
           (check_heads(c, path, err) && check_rope(c, path, err) && check_experts(c, path, err));
}

bool config_read(Config *config, Sampling *sampling, const char *path, const uint8_t *data,
                 size_t size, Error *err)
{
    ConfigReader r = {
        .path = path, .data = data, .size = size, .config = config, .sampling = sampling};
    *config = (Config){0};
    sampling->n = 0;
    while (r.at < r.size) {
        Entry e;
        if (!read_entry(&r, &e, err) || !take_entry(&r, &e, err)) {
            return false;
        }
    }
    return check_presence(&r, err) && (config->vocab_only || check_lists(&r, err)) &&
           config_check(config, path, err);
}

// --------------------------------------------------------------------------------------------
// Setting and writing

bool config_set(Config *config, const char *name, double value, ConfigOrigin from, Error *err)
{
    for (size_t i = 0; i < N_FIELDS; i++) {
        const Field *f = &fields[i];
        if (strcmp(f->name, name) != 0) {
            continue;
        }
        if (!check_range(from, value, f->min, f->max, err)) {
            return false;
        }
        if (f->kind != FIELD_REAL && value != (double)(size_t)value) {
            return error_set(err, ERROR_INPUT, "%s: %s is %.10g, expected a whole number",
                             from.path, from.key, value);
        }
        store_field(f, config, value);
        return true;
    }
    return error_set(err, ERROR_INPUT, "%s: unknown value %s", from.path, name);
}

static void write_head(const char *name, ValueType type, size_t count, Buffer *out)
{
    EntryHead head = {.type = type, .count = (uint32_t)count};
    memcpy(head.name, name, strnlen(name, sizeof head.name - 1));
    buffer_add(out, &head, sizeof head);
}

static void write_value(const char *name, ValueType type, double value, Buffer *out)
{
    const uint32_t whole[2] = {type == VALUE_U32 ? (uint32_t)value : 0, 0};
    write_head(name, type, 1, out);
    buffer_add(out, type == VALUE_U32 ? (const void *)whole : &value, sizeof whole);
}

// One f64 for each pair of dimensions.
static void write_factors(const Field *f, const Config *config, Buffer *out)
{
    const float *factors = (const float *)(const void *)((const char *)config + f->offset);
    const size_t n = rotated_pairs(config);
    write_head(f->name, VALUE_F64, n, out);
    for (size_t i = 0; i < n; i++) {
        buffer_add(out, &(double){factors[i]}, sizeof(double));
    }
}

// One u32 for each layer, unless all are 0, and zeros up to a multiple of 8 bytes.
static void write_layers(const Field *f, const Config *config, Buffer *out)
{
    const uint8_t *flags = (const uint8_t *)config + f->offset;
    if (all_zero(flags, config->n_layers)) {
        return;
    }
    write_head(f->name, VALUE_U32, config->n_layers, out);
    for (size_t i = 0; i < round_up(config->n_layers, 2); i++) {
        const uint32_t value = i < config->n_layers ? flags[i] : 0;
        buffer_add(out, &value, sizeof value);
    }
}

void config_write(const Config *config, const Sampling *sampling, Buffer *out)
{
    for (size_t i = 0; i < N_FIELDS; i++) {
        const Field *f = &fields[i];
        const double value = load_field(f, config);
        if (f->kind == FIELD_LAYERS) {
            write_layers(f, config, out);
        } else if (f->kind == FIELD_FACTORS) {
            if (is_needed(config, f->need)) {
                write_factors(f, config, out);
            }
        } else if (is_needed(config, f->need) || (f->need == OPTIONAL && value != 0)) {
            write_value(f->name, f->kind == FIELD_REAL ? VALUE_F64 : VALUE_U32, value, out);
        }
    }
    for (size_t i = 0; i < sampling->n; i++) {
        char name[sizeof sampling->values->name + sizeof SAMPLING_PREFIX];
        snprintf(name, sizeof name, SAMPLING_PREFIX "%s", sampling->values[i].name);
        write_value(name, VALUE_F64, sampling->values[i].value, out);
    }
}
