// fuzz_gguf.h - makes a GGUF file of an input, for the targets that open one as a model.
//
//     mode 1 | token 1 | skip 4 | sizes 7 | n_more 1 | more_bytes 2 | more keys | contents
//
// The file is that of a small model whose sizes come from the input; its data repeats the contents.
// The keys in `more` follow those that such a model needs, of which the bits of `skip` leave some
// out. The bits of `mode`:
//
//     1    the file is made as above; else what follows `token` is the file
//     2    the architecture is qwen2; else llama
//     4    there is a separate output matrix
//     8    q, k and v have biases
//     16   the vocabulary is SentencePiece's; else byte-level
#ifndef FUZZ_GGUF_H
#define FUZZ_GGUF_H

#include "base/buffer.h"
#include "base/memory.h"
#include "formats/gguf.h"
#include "fuzz.h"

enum { MADE = 1, QWEN2 = 2, UNTIED = 4, BIASES = 8, SENTENCEPIECE = 16 };

// A file that is being made.
typedef struct {
    size_t mode, token, skip;
    size_t dim, hidden, layers, heads, kv_heads, head_dim, vocab;
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
    const char *architecture = p->mode & QWEN2 ? "qwen2" : "llama";
    if (p->skip >> bit & 1) {
        return false;
    }
    snprintf(full, sizeof full, "%s%s", *name == '.' ? architecture : "", name);
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

static inline void gguf_put_keys(GgufParts *p)
{
    const float eps = 1e-5f;
    gguf_put_name(p, "general.architecture", p->mode & QWEN2 ? "qwen2" : "llama");
    gguf_put_count(p, ".embedding_length", p->dim);
    gguf_put_count(p, ".feed_forward_length", p->hidden);
    gguf_put_count(p, ".block_count", p->layers);
    gguf_put_count(p, ".attention.head_count", p->heads);
    gguf_put_count(p, ".attention.head_count_kv", p->kv_heads);
    gguf_put_count(p, ".attention.key_length", p->head_dim);
    gguf_put_count(p, ".context_length", 128);
    if (gguf_put_key(p, ".attention.layer_norm_rms_epsilon", GGUF_F32)) {
        buffer_add(&p->keys, &eps, sizeof eps);
    }
    gguf_put_vocabulary(p);
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
    const struct {
        const char *name;
        bool present;
        size_t rows, cols;
    } parts[] = {
        {"attn_norm.weight", true, 0, p->dim},      {"attn_q.weight", true, q, p->dim},
        {"attn_k.weight", true, kv, p->dim},        {"attn_v.weight", true, kv, p->dim},
        {"attn_q.bias", p->mode & BIASES, 0, q},    {"attn_k.bias", p->mode & BIASES, 0, kv},
        {"attn_v.bias", p->mode & BIASES, 0, kv},   {"attn_output.weight", true, p->dim, q},
        {"ffn_norm.weight", true, 0, p->dim},       {"ffn_gate.weight", true, p->hidden, p->dim},
        {"ffn_up.weight", true, p->hidden, p->dim}, {"ffn_down.weight", true, p->dim, p->hidden}};
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
    GgufParts p = {.mode = mode, .token = token};
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
