// config.h - what makes a model the model it is, apart from its weights: its shape, and how it
// wants to be sampled. Both are read from the section `config` of a native checkpoint, or set value
// by value from what another format says.
#ifndef CONFIG_H
#define CONFIG_H

#include "base/buffer.h"
#include "base/error.h"
#include "ops.h"

// How queries and keys are normalised (rms_norm).
typedef enum {
    QK_NORM_NONE,
    QK_NORM_HEAD,             // each head by itself, before RoPE (Qwen 3)
    QK_NORM_HEAD_AFTER_ROPE,  // .. after it (Hunyuan)
    QK_NORM_FULL,             // all heads of a row as one vector, before RoPE (OLMo 2)
    N_QK_NORMS
} QkNorm;

// Where a block has its norms.
typedef enum {
    NORM_PRE,       // before attention and mlp
    NORM_POST,      // after them, before they are added to the residual stream (OLMo 2)
    NORM_SANDWICH,  // both (Gemma 2)
    N_NORM_PLACEMENTS
} NormPlacement;

// What the mlp applies to its gate.
typedef enum { ACTIVATION_SILU, ACTIVATION_GELU_TANH, N_ACTIVATIONS } Activation;

// How a layer differs from the others: bits of Config.layer_flags.
enum {
    LAYER_FULL = 1,     // a query sees all positions, despite sliding_window
    LAYER_NO_ROPE = 2,  // queries and keys are not rotated (NoPE, arXiv:2305.19466)
};
#define MOST_LAYERS       4096
#define MOST_EXPERTS      1024
#define MOST_EXPERTS_USED 64

// The shape of the model, in the field's usual names. Families of models differ in switches, each
// of which is off at 0; plain Llama is all of them off.
typedef struct {
    size_t dim;         // width of the residual stream
    size_t hidden_dim;  // width of the mlp, or of each expert
    size_t n_layers;
    size_t n_heads;     // query heads
    size_t n_kv_heads;  // key and value heads; n_heads is a multiple of it
    size_t head_dim;    // width of a query, key or value; even
    size_t vocab_size;
    size_t context_length;  // positions the model was trained for
    size_t sliding_window;  // positions a query sees, its own included; 0: all
    double rope_theta;      // base of the rotary frequencies
    RopeScaling rope_scaling;
    double norm_eps;  // of rms_norm
    bool tied_head;   // lm_head is the embedding
    bool vocab_only;  // no weights: what only they need is 0

    bool qkv_bias;  // q, k and v have biases
    bool o_bias;    // what attention adds to the residual stream has a bias
    bool mlp_bias;  // all three matrices of the mlp have biases
    QkNorm qk_norm;
    NormPlacement norm_placement;
    Activation activation;

    // The mlps of a block, and of how many of them a token goes through; 0: there is one.
    size_t n_experts, n_experts_used;

    // Factors, and soft caps (soft_cap); 0: none.
    double embedding_scale;  // of embeddings
    double residual_scale;   // of what attention and mlp add to the residual stream
    double attention_scale;  // of scores; 0: 1 / sqrt(head_dim)
    double logit_scale;      // of logits
    double attention_cap, logit_cap;

    size_t rotary_dim;  // dimensions of a head that RoPE rotates, its first ones; even; 0: all
    double query_beta;  // of query_factor, by which queries are multiplied; 0: they are not
    // Base in layers with the window, whose frequencies are not scaled; 0: rotated like the others.
    double window_rope_theta;
    uint8_t layer_flags[MOST_LAYERS];  // (n_layers): LAYER_..
} Config;

// Recommended values of sampling that a checkpoint carries at most: twice as many as there are
// options that they can stand for.
#define MAX_SAMPLING 16

// What the makers of the model recommend. Which names there are and what values they take is known
// to the table of options (options.c), not to the format.
typedef struct {
    struct {
        char name[32];  // of the option, with _ for -: "top_p"; ends with a zero byte
        double value;
    } values[MAX_SAMPLING];
    size_t n;
} Sampling;

// Reads a section `config` (docs/format.md) of `size` bytes. Errors: ERROR_INPUT naming the file
// `path`, the value's name, what was found and what was expected.
bool config_read(Config *config, Sampling *sampling, const char *path, const uint8_t *data,
                 size_t size, Error *err);

// Where another format has a value, for messages.
typedef struct {
    const char *path;  // of the file
    const char *key;   // that the file has for the value
} ConfigOrigin;

// Sets the value with a name of docs/format.md ("dim"). Errors: ERROR_INPUT naming the file, the
// key, what was found and the range that was expected.
bool config_set(Config *config, const char *name, double value, ConfigOrigin from, Error *err);

// Checks what the values say about each other, once all are set. Errors: ERROR_INPUT.
bool config_check(const Config *config, const char *path, Error *err);

// Adds the section `config` of such a model to *out: what config_read reads. The order is that of
// the table in config.c, so that equal models have equal sections.
void config_write(const Config *config, const Sampling *sampling, Buffer *out);

#endif
