// tensors.c - which tensors a model has. See tensors.h.
#include "formats/tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

// A tensor of each block, or one outside them.
typedef struct {
    const char *name;
    bool present;
    size_t rows, cols;  // of a vector: rows 0
} TensorPart;

#define BLOCK_PARTS 21

static void list_block(const Config *p, TensorPart parts[BLOCK_PARTS])
{
    const size_t q_dim = p->n_heads * p->head_dim, kv_dim = p->n_kv_heads * p->head_dim;
    const bool full = p->qk_norm == QK_NORM_FULL;
    const bool pre = p->norm_placement != NORM_POST, post = p->norm_placement != NORM_PRE;
    // The matrices of all experts lie one below the other.
    const size_t n_mlps = p->n_experts ? p->n_experts : 1;
    const TensorPart block[BLOCK_PARTS] = {
        {"attn_norm", pre, 0, p->dim},
        {"attn.q_proj", true, q_dim, p->dim},
        {"attn.k_proj", true, kv_dim, p->dim},
        {"attn.v_proj", true, kv_dim, p->dim},
        {"attn.q_bias", p->qkv_bias, 0, q_dim},
        {"attn.k_bias", p->qkv_bias, 0, kv_dim},
        {"attn.v_bias", p->qkv_bias, 0, kv_dim},
        {"attn.q_norm", p->qk_norm, 0, full ? q_dim : p->head_dim},
        {"attn.k_norm", p->qk_norm, 0, full ? kv_dim : p->head_dim},
        {"attn.o_proj", true, p->dim, q_dim},
        {"attn.o_bias", p->o_bias, 0, p->dim},
        {"mlp_norm", pre, 0, p->dim},
        {"attn_post_norm", post, 0, p->dim},
        {"mlp_post_norm", post, 0, p->dim},
        {"mlp.router", p->n_experts, p->n_experts, p->dim},
        {"mlp.gate_proj", true, n_mlps * p->hidden_dim, p->dim},
        {"mlp.up_proj", true, n_mlps * p->hidden_dim, p->dim},
        {"mlp.down_proj", true, n_mlps * p->dim, p->hidden_dim},
        {"mlp.gate_bias", p->mlp_bias, 0, p->hidden_dim},
        {"mlp.up_bias", p->mlp_bias, 0, p->hidden_dim},
        {"mlp.down_bias", p->mlp_bias, 0, p->dim},
    };
    memcpy(parts, block, sizeof block);
}

// Fills in a tensor of block `layer` or, without a prefix, of none.
static void add_listed(Tensor *tensors, size_t *n, const TensorPart *part, const char *prefix)
{
    if (!part->present) {
        return;
    }
    Tensor *t = &tensors[(*n)++];
    snprintf(t->name, sizeof t->name, "%s%s", prefix, part->name);
    t->vector = part->rows == 0;
    t->matrix = (Matrix){.rows = t->vector ? 1 : part->rows, .cols = part->cols};
}

bool list_tensors(const Config *p, Tensor **tensors, size_t *n, Error *err)
{
    const TensorPart embedding = {"embedding", true, p->vocab_size, p->dim};
    const TensorPart norm = {"norm", true, 0, p->dim};
    const TensorPart head = {"head", !p->tied_head, p->vocab_size, p->dim};
    const size_t most = 3 + p->n_layers * BLOCK_PARTS;
    TensorPart block[BLOCK_PARTS];
    *n = 0;
    *tensors = calloc(most, sizeof **tensors);
    if (!*tensors) {
        return error_memory(err, "the list of tensors", most * sizeof **tensors);
    }
    if (p->vocab_only) {
        return true;
    }
    list_block(p, block);
    add_listed(*tensors, n, &embedding, "");
    for (size_t layer = 0; layer < p->n_layers; layer++) {
        char prefix[32];
        snprintf(prefix, sizeof prefix, "blocks.%zu.", layer);
        for (size_t i = 0; i < BLOCK_PARTS; i++) {
            add_listed(*tensors, n, &block[i], prefix);
        }
    }
    add_listed(*tensors, n, &norm, "");
    add_listed(*tensors, n, &head, "");
    return true;
}

const char *name_in_block(const char *name)
{
    static const char prefix[] = "blocks.";
    const char *dot = strncmp(name, prefix, sizeof prefix - 1) == 0
                          ? strchr(name + sizeof prefix - 1, '.')
                          : NULL;
    return dot ? dot + 1 : NULL;
}

bool is_router(const char *name)
{
    const char *part = name_in_block(name);
    return part && strcmp(part, "mlp.router") == 0;
}
