// fuzz_gguf.h - makes a GGUF file of an input, for the targets that open one as a model.
//
//     mode 1 | token 1 | skip 4 | sizes 7 | n_more 1 | more_bytes 2 | more keys | contents
//
// The file is that of a small model whose sizes come from the input; its data repeats the contents.
// The keys in `more` follow those that such a model needs, of which the bits of `skip` leave some
// out. The bits of `mode`:
//
//     1    the file is made as above; else what follows `token` is the file
//     2    the lowest bit of the architecture, a row of gguf_families
//     4    there is a separate output matrix
//     8    q, k and v have biases, and with the highest bit but one of `token` all other matrices too
//     16   the vocabulary is SentencePiece's; else byte-level
//     224  the other bits of the architecture
#ifndef FUZZ_GGUF_H
#define FUZZ_GGUF_H

#include "base/buffer.h"
#include "base/memory.h"
#include "formats/gguf.h"
#include "fuzz.h"

enum { MADE = 1, UNTIED = 4, BIASES = 8, SENTENCEPIECE = 16 };

// What the files of an architecture have beyond a llama's.
enum {
    ONLY_POST = 1,  // no norms before attention and mlp
    POST = 2,       // norms after them
    HEAD_NORM = 4,  // of q and k
    FULL_NORM = 8,
    WINDOWS = 16,  // keys
    SCALES = 32,
    YARN = 64,
    LONGROPE = 128,  // and fused tensors
};

static const struct {
    const char *name;
    unsigned has;
} gguf_families[16] = {
    {"llama", 0},
    {"qwen2", 0},
    {"qwen3", HEAD_NORM},
    {"gemma2", POST | WINDOWS},
    {"gemma3", POST | HEAD_NORM | WINDOWS},
    {"smollm3", 0},
    {"granite", SCALES},
    {"granitehybrid", SCALES},
    {"minicpm", SCALES},
    {"olmo2", ONLY_POST | POST | FULL_NORM | WINDOWS},
    {"exaone4", ONLY_POST | POST | HEAD_NORM | WINDOWS},
    {"phi3", LONGROPE},
    {"mistral3", YARN},
    {"hunyuan-dense", HEAD_NORM},
    {"olmo2", ONLY_POST | POST | FULL_NORM | WINDOWS | YARN},
    {"llama", LONGROPE},
};

// A file that is being made.
typedef struct {
    size_t mode, token, skip;
    size_t dim, hidden, layers, heads, kv_heads, head_dim, vocab;
    const char *architecture;
    unsigned has;  // see gguf_families
    Buffer keys, table, data;
    size_t n_keys, n_tensors;
    size_t key;  // number of the next key, for `skip`
    Input contents;
    size_t filled;  // bytes of data so far
} GgufParts;

static inline void gguf_put(Buffer *b, size_t value, size_t bytes) { buffer_add(b, &value, bytes); }

static inline void gguf_put_text(Buffer *b, const char *text)
{
    gguf_put(b, strlen(text), 8);
    buffer_add_text(b, text);
}

// Begins a key of the architecture (".name") or of none; false if it is skipped.
static inline bool gguf_put_key(GgufParts *p, const char *name, size_t type)
{
    char full[64];
    const size_t bit = p->key++ % 32;
    if (p->skip >> bit & 1) {
        return false;
    }
    snprintf(full, sizeof full, "%s%s", *name == '.' ? p->architecture : "", name);
    gguf_put_text(&p->keys, full);
    gguf_put(&p->keys, type, 4);
    p->n_keys++;
    return true;
}

static inline void gguf_put_count(GgufParts *p, const char *name, size_t value)
{
    if (gguf_put_key(p, name, GGUF_U32)) {
        gguf_put(&p->keys, value, 4);
    }
}

static inline void gguf_put_real(GgufParts *p, const char *name, float value)
{
    if (gguf_put_key(p, name, GGUF_F32)) {
        buffer_add(&p->keys, &value, sizeof value);
    }
}

static inline void gguf_put_name(GgufParts *p, const char *name, const char *value)
{
    if (gguf_put_key(p, name, GGUF_TEXT)) {
        gguf_put_text(&p->keys, value);
    }
}

static inline void gguf_put_vocabulary(GgufParts *p)
{
    char token[24];
    gguf_put_name(p, "tokenizer.ggml.model", p->mode & SENTENCEPIECE ? "llama" : "gpt2");
    gguf_put_name(p, "tokenizer.ggml.pre", "gpt-2");
    if (gguf_put_key(p, "tokenizer.ggml.tokens", GGUF_ARRAY)) {
        gguf_put(&p->keys, GGUF_TEXT, 4);
        gguf_put(&p->keys, p->vocab, 8);
        for (size_t i = 0; i < p->vocab; i++) {
            snprintf(token, sizeof token, "%zu", i);
            gguf_put_text(&p->keys, token);
        }
    }
    if (p->mode & SENTENCEPIECE && gguf_put_key(p, "tokenizer.ggml.scores", GGUF_ARRAY)) {
        gguf_put(&p->keys, GGUF_F32, 4);
        gguf_put(&p->keys, p->vocab, 8);
        for (size_t i = 0; i < p->vocab; i++) {
            const float score = -(float)i;
            buffer_add(&p->keys, &score, sizeof score);
        }
    }
}

// The keys that only some architectures have.
static inline void gguf_put_family(GgufParts *p)
{
    if (p->has & WINDOWS) {
        gguf_put_count(p, ".attention.sliding_window", 3);
        gguf_put_count(p, ".attention.sliding_window_pattern", 2);
    }
    if (p->has & SCALES) {
        gguf_put_real(p, ".logit_scale", 2);
        gguf_put_real(p, ".embedding_scale", 0.5f);
        gguf_put_real(p, ".residual_scale", 0.25f);
    }
    if (p->has & (YARN | LONGROPE)) {
        gguf_put_count(p, ".rope.scaling.original_context_length", 16);
        gguf_put_real(p, ".rope.scaling.attn_factor", 1.5f);
        gguf_put_name(p, ".rope.scaling.type", p->has & YARN ? "yarn" : "longrope");
    }
    if (p->has & YARN) {
        gguf_put_real(p, ".rope.scaling.factor", 4);
    }
    if (strcmp(p->architecture, "mistral3") == 0) {
        gguf_put_real(p, ".attention.temperature_scale", 0.5f);
    }
}

static inline void gguf_put_keys(GgufParts *p)
{
    gguf_put_name(p, "general.architecture", p->architecture);
    gguf_put_count(p, ".embedding_length", p->dim);
    gguf_put_count(p, ".feed_forward_length", p->hidden);
    gguf_put_count(p, ".block_count", p->layers);
    gguf_put_count(p, ".attention.head_count", p->heads);
    gguf_put_count(p, ".attention.head_count_kv", p->kv_heads);
    gguf_put_count(p, ".attention.key_length", p->head_dim);
    gguf_put_count(p, ".context_length", 128);
    gguf_put_real(p, ".attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_put_vocabulary(p);
    gguf_put_family(p);
}

// Adds a tensor of rows (0: a vector) x cols values, of a type that `token` selects.
static inline void gguf_put_tensor(GgufParts *p, const char *name, size_t rows, size_t cols)
{
    static const uint32_t types[] = {0, 1, 2, 3, 8, 30};  // F32, F16, Q4_0, Q4_1, Q8_0, BF16
    const size_t n = p->n_tensors++, choice = (p->token + n * (p->token >> 4)) % 6;
    const GgmlType *type = ggml_type(rows && cols % 32 == 0 ? types[choice] : 0);
    const size_t bytes = cols / type->block_cols * type->block_bytes * (rows ? rows : 1);
    gguf_put_text(&p->table, name);
    gguf_put(&p->table, rows ? 2 : 1, 4);
    gguf_put(&p->table, cols, 8);
    buffer_add(&p->table, &(uint64_t){rows}, rows ? 8 : 0);
    gguf_put(&p->table, type->number, 4);
    gguf_put(&p->table, p->data.size, 8);
    for (size_t i = 0; i < round_up(bytes, 32); i++) {
        const Input c = p->contents;
        buffer_add(&p->data, c.size ? &c.data[p->filled++ % c.size] : (const uint8_t *)"", 1);
    }
}

static inline void gguf_put_block(GgufParts *p, size_t layer)
{
    const size_t q = p->heads * p->head_dim, kv = p->kv_heads * p->head_dim;
    const bool fused = strcmp(p->architecture, "phi3") == 0, pre = !(p->has & ONLY_POST);
    const bool full = p->has & FULL_NORM, normed = p->has & (FULL_NORM | HEAD_NORM);
    const bool biases = p->mode & BIASES, all_biases = biases && p->token & 64;
    const struct {
        const char *name;
        bool present;
        size_t rows, cols;
    } parts[] = {{"attn_norm.weight", pre, 0, p->dim},
                 {"attn_qkv.weight", fused, q + 2 * kv, p->dim},
                 {"attn_q.weight", !fused, q, p->dim},
                 {"attn_k.weight", !fused, kv, p->dim},
                 {"attn_v.weight", !fused, kv, p->dim},
                 {"attn_qkv.bias", biases && fused, 0, q + 2 * kv},
                 {"attn_q.bias", biases && !fused, 0, q},
                 {"attn_k.bias", biases && !fused, 0, kv},
                 {"attn_v.bias", biases && !fused, 0, kv},
                 {"attn_q_norm.weight", normed, 0, full ? q : p->head_dim},
                 {"attn_k_norm.weight", normed, 0, full ? kv : p->head_dim},
                 {"attn_output.weight", true, p->dim, q},
                 {"attn_output.bias", all_biases, 0, p->dim},
                 {"post_attention_norm.weight", p->has & POST, 0, p->dim},
                 {"ffn_norm.weight", pre, 0, p->dim},
                 {"ffn_gate.weight", !fused, p->hidden, p->dim},
                 {"ffn_up.weight", true, fused ? 2 * p->hidden : p->hidden, p->dim},
                 {"ffn_down.weight", true, p->dim, p->hidden},
                 {"ffn_gate.bias", all_biases, 0, p->hidden},
                 {"ffn_up.bias", all_biases, 0, p->hidden},
                 {"ffn_down.bias", all_biases, 0, p->dim},
                 {"post_ffw_norm.weight", p->has & POST, 0, p->dim}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%zu.%s", layer, parts[i].name);
        if (parts[i].present) {
            gguf_put_tensor(p, name, parts[i].rows, parts[i].cols);
        }
    }
}

// The sizes of a small model: some are multiples of 32, so that there can be quantised matrices.
static inline void gguf_take_sizes(GgufParts *p, Input *in)
{
    static const size_t widths[] = {32, 64, 8, 40};
    p->dim = widths[take_number(in, 1) % 4];
    p->hidden = widths[take_number(in, 1) % 4];
    p->layers = 1 + take_number(in, 1) % 2;
    p->kv_heads = 1 + take_number(in, 1) % 2;
    p->heads = p->kv_heads * (1 + take_number(in, 1) % 2);
    p->head_dim = 4 * (1 + take_number(in, 1) % 8);
    p->vocab = 3 + take_number(in, 1) % 40;
}

// The file, an exact_block of *size bytes.
static inline uint8_t *gguf_file(size_t mode, size_t token, Input in, size_t *size)
{
    const size_t family = (mode >> 5 << 1 | (mode >> 1 & 1)) % 16;
    GgufParts p = {.mode = mode,
                   .token = token,
                   .architecture = gguf_families[family].name,
                   .has = gguf_families[family].has};
    Buffer file = {0};
    if (mode & MADE) {
        p.skip = take_number(&in, 4);
        gguf_take_sizes(&p, &in);
        const size_t n_more = take_number(&in, 1);
        const Input more = take_bytes(&in, take_number(&in, 2));
        p.contents = in;
        gguf_put_keys(&p);
        buffer_add(&p.keys, more.data, more.size);
        gguf_put_tensor(&p, "token_embd.weight", p.vocab, p.dim);
        for (size_t layer = 0; layer < p.layers; layer++) {
            gguf_put_block(&p, layer);
        }
        gguf_put_tensor(&p, "output_norm.weight", 0, p.dim);
        if (p.has & LONGROPE) {
            gguf_put_tensor(&p, "rope_factors_long.weight", 0, p.head_dim / 2);
            gguf_put_tensor(&p, "rope_factors_short.weight", 0, p.head_dim / 2);
        }
        if (mode & UNTIED) {
            gguf_put_tensor(&p, "output.weight", p.vocab, p.dim);
        }
        buffer_add_text(&file, "GGUF");
        gguf_put(&file, 3, 4);
        gguf_put(&file, p.n_tensors, 8);
        gguf_put(&file, p.n_keys + n_more, 8);
        buffer_add(&file, p.keys.data, p.keys.size);
        buffer_add(&file, p.table.data, p.table.size);
        while (file.size % 32) {
            gguf_put(&file, 0, 1);
        }
        buffer_add(&file, p.data.data, p.data.size);
    } else {
        buffer_add(&file, in.data, in.size);
    }
    uint8_t *block = exact_block(file.size);
    if (file.size) {
        memcpy(block, file.data, file.size);
    }
    *size = file.size;
    buffer_free(&p.keys);
    buffer_free(&p.table);
    buffer_free(&p.data);
    buffer_free(&file);
    return block;
}

#endif
