// fuzz_native.h - makes a native checkpoint of an input, for the targets that open one.
//
//     mode 1 | token 1 | config_bytes 2 | header 64 | table, 96 per section | config | contents
//
// Mutated bytes would fail at the checksum, and most of a whole file is padding. So the input has
// only header, table and config, from which the file is made. The bits of `mode` say what is put
// right on the way:
//
//     1   n_sections, file_bytes, header_crc and the checksum of the config
//     2   bytes, offset and padding of each section
//     4   the shapes of the sections that a model of this config has
//     8   the config, whose sizes are brought into range, and the table, which the input then does
//         not have: all sections of such a model, of types that `token` selects
//     16  with 8: the matrices whose types allow it are stored row by row
//
// The section `config` gets the config, all others are filled by repeating the contents. With mode
// 0 what follows `token` is the file.
#ifndef FUZZ_NATIVE_H
#define FUZZ_NATIVE_H

#include "base/checksum.h"
#include "base/memory.h"
#include "formats/checkpoint.h"
#include "fuzz.h"

#define HEADER   64
#define ENTRY    96
#define MAX_FILE ((size_t)1 << 18)

#define MAX_LAYERS    3
#define MOST_SECTIONS (5 + 12 * MAX_LAYERS)

// CRC-32 byte by byte, independent of the implementation under test.
static inline uint32_t crc32_plain(const uint8_t *p, size_t size)
{
    static uint32_t table[256];
    for (uint32_t i = 0; i < 256 && !table[255]; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++) {
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320u : 0);
        }
    }
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size; i++) {
        crc = crc >> 8 ^ table[(crc ^ p[i]) & 255];
    }
    return ~crc;
}

// Loops instead of strcmp and memcmp, because libFuzzer intercepts those and would trace each call.
static inline bool ends_with(const char *name, size_t length, const char *end)
{
    size_t n = strlen(end);
    const char *at = name + length - n;
    while (length >= n && n && at[n - 1] == end[n - 1]) {
        n--;
    }
    return !n;
}

// The first value of that name in a config that is as docs/format.md says up to there; else NULL.
static inline uint8_t *find_value(uint8_t *config, size_t size, const char *name)
{
    enum { HEAD = 40, NAME = 32 };
    for (size_t at = 0; at + HEAD + 8 <= size;) {
        const char *found = (const char *)config + at;
        const size_t length = strnlen(found, NAME);
        if (length == strlen(name) && ends_with(found, length, name)) {
            return config + at + HEAD;
        }
        const size_t width = get_u32(config + at + NAME) ? 8 : 4;
        at += HEAD + round_up(width * get_u32(config + at + NAME + 4), 8);
    }
    return NULL;
}

static inline size_t whole_value(uint8_t *config, size_t size, const char *name)
{
    const uint8_t *value = find_value(config, size, name);
    return value ? get_u32(value) : 0;
}

// What the file is made of.
typedef struct {
    size_t mode, token;
    uint8_t *head;  // header and table, with room for MOST_SECTIONS or those of the input
    size_t n_sections;
    uint8_t *config;
    size_t config_bytes;
    Input contents;
} NativeParts;

static inline size_t value_of(const NativeParts *p, const char *name)
{
    return whole_value(p->config, p->config_bytes, name);
}

// Sizes of matrices.
typedef struct {
    size_t dim, hidden, vocab, q, kv;
} Shape;

static inline Shape shape_of_config(const NativeParts *p)
{
    const size_t head_dim = value_of(p, "head_dim");
    return (Shape){value_of(p, "dim"), value_of(p, "hidden_dim"), value_of(p, "vocab_size"),
                   value_of(p, "n_heads") * head_dim, value_of(p, "n_kv_heads") * head_dim};
}

// The rows and columns that the tensor with this name has in such a model; false for any other
// name.
static inline bool shape_of(const Shape *s, const char *name, size_t *rows, size_t *cols)
{
    const struct {
        const char *end;
        size_t rows, cols;
    } shapes[] = {
        {"embedding", s->vocab, s->dim},
        {"head", s->vocab, s->dim},
        {"norm", 1, s->dim},
        {"q_proj", s->q, s->dim},
        {"k_proj", s->kv, s->dim},
        {"v_proj", s->kv, s->dim},
        {"o_proj", s->dim, s->q},
        {"gate_proj", s->hidden, s->dim},
        {"up_proj", s->hidden, s->dim},
        {"down_proj", s->dim, s->hidden},
        {"q_bias", 1, s->q},
        {"k_bias", 1, s->kv},
        {"v_bias", 1, s->kv},
    };
    const size_t length = strnlen(name, 48);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (ends_with(name, length, shapes[i].end)) {
            *rows = shapes[i].rows;
            *cols = shapes[i].cols;
            return true;
        }
    }
    return false;
}

// Places the sections one after the other as the format requires; false if the file gets too large.
static inline bool lay_out(NativeParts *p, size_t *end)
{
    const Shape shape = shape_of_config(p);
    *end = HEADER + p->n_sections * ENTRY;
    for (size_t i = 0; i < p->n_sections; i++) {
        uint8_t *entry = p->head + HEADER + i * ENTRY;
        size_t rows = get_u32(entry + 56), cols = get_u32(entry + 60), bytes;
        if (p->mode & 12 && shape_of(&shape, (const char *)entry, &rows, &cols)) {
            put_u32(entry + 56, rows);
            put_u32(entry + 60, cols);
        }
        const uint32_t kind = get_u32(entry + 48), type = get_u32(entry + 52);
        if (i == 0) {
            bytes = p->config_bytes;
        } else if (kind == 0) {
            const size_t given = get_u32(entry + 72);
            bytes = given < MAX_FILE ? given : p->contents.size;
        } else if (kind == 1) {
            bytes = round_up(cols * sizeof(float), 64);
        } else if (kind == 3) {
            if (!size_mul(rows, type ? 2 : 4, &bytes) || !size_mul(bytes, cols, &bytes)) {
                return false;
            }
        } else if (type >= N_WEIGHT_TYPES || !matrix_bytes((WeightType)type, rows, cols, &bytes)) {
            return false;
        }
        const uint64_t place = round_up(*end, kind >= 2 ? 4096 : 64), size = bytes;
        if (size > MAX_FILE || place > MAX_FILE - size) {
            return false;
        }
        memcpy(entry + 64, &place, sizeof place);
        memcpy(entry + 72, &size, sizeof size);
        *end = place + size;
    }
    return true;
}

// Brings the sizes of the config into the range of a small model.
static inline void shrink_config(NativeParts *p)
{
    static const struct {
        const char *name;
        size_t most;
    } sizes[] = {{"dim", 40},       {"hidden_dim", 60}, {"n_layers", MAX_LAYERS},
                 {"n_kv_heads", 3}, {"vocab_size", 50}, {"context_length", 128}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint8_t *value = find_value(p->config, p->config_bytes, sizes[i].name);
        if (value) {
            put_u32(value, 1 + get_u32(value) % sizes[i].most);
        }
    }
    uint8_t *heads = find_value(p->config, p->config_bytes, "n_heads");
    uint8_t *head_dim = find_value(p->config, p->config_bytes, "head_dim");
    if (heads && head_dim) {
        put_u32(heads, (1 + get_u32(heads) % 3) * value_of(p, "n_kv_heads"));
        put_u32(head_dim, 2 * (1 + get_u32(head_dim) % 6));
    }
}

// Writes the table of a model of this config without shapes and offsets.
static inline void write_table(NativeParts *p)
{
    static const char *const names[] = {
        "config",      "tokenizer",   "embedding",     "norm",        "head",         "attn_norm",
        "mlp_norm",    "attn.q_bias", "attn.k_bias",   "attn.v_bias", "attn.q_proj",  "attn.k_proj",
        "attn.v_proj", "attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};
    enum { FIRST_TENSOR = 2, UNTIED = 4, IN_BLOCK = 5, FIRST_BIAS = 7, LAST_BIAS = 9, N = 17 };
    const size_t n_layers = value_of(p, "n_layers");
    const bool tied = value_of(p, "tied_head"), biases = value_of(p, "qkv_bias");
    size_t n = 0;
    for (size_t layer = 0; layer <= n_layers && layer <= MAX_LAYERS; layer++) {
        for (size_t i = layer ? IN_BLOCK : 0; i < (layer ? N : IN_BLOCK); i++) {
            const bool bias = i >= FIRST_BIAS && i <= LAST_BIAS;
            if ((i == UNTIED && tied) || (bias && !biases)) {
                continue;
            }
            uint8_t *entry = p->head + HEADER + n++ * ENTRY;
            memset(entry, 0, ENTRY);
            const char *name = names[i];
            if (layer) {
                snprintf((char *)entry, 48, "blocks.%zu.%s", layer - 1, name);
            } else {
                memcpy(entry, name, strlen(name));
            }
            const bool bytes = i < FIRST_TENSOR, vector = strstr(name, "norm") || bias;
            const size_t type = (p->token + n * (p->token >> 4)) % N_WEIGHT_TYPES;
            const bool by_rows = p->mode & 16 && (type <= 1 || type == 5);  // f32, bf16, f16
            put_u32(entry + 48, bytes ? 0 : vector ? 1 : by_rows ? 3 : 2);
            put_u32(entry + 52, bytes || vector ? 0 : type);
            put_u32(entry + 72, bytes ? 64 : 0);
        }
    }
    p->n_sections = n;
}

// A file made from an input.
typedef struct {
    uint8_t *data;  // an exact_block
    size_t size;
} NativeFile;

static inline NativeFile plain_file(Input in)
{
    const NativeFile file = {exact_block(in.size), in.size};
    if (in.size) {
        memcpy(file.data, in.data, in.size);
    }
    return file;
}

// Divides an input into its parts, which are copies.
static inline NativeParts native_parts(size_t mode, size_t token, size_t config_bytes, Input in)
{
    NativeParts p = {.mode = mode, .token = token, .n_sections = get_u32(in.data + 12)};
    const size_t most = mode & 8 ? MOST_SECTIONS : (in.size - HEADER) / ENTRY;
    p.n_sections = p.n_sections < most ? p.n_sections : most;
    const Input head = take_bytes(&in, HEADER + (mode & 8 ? 0 : p.n_sections * ENTRY));
    const Input config = take_bytes(&in, config_bytes);
    p.contents = in;
    p.config_bytes = config.size;
    p.head = malloc(HEADER + most * ENTRY);
    p.config = malloc(config.size + 1);
    FUZZ_CHECK(p.head && p.config, "%zu sections", most);
    memcpy(p.head, head.data, head.size);
    memcpy(p.config, config.data, config.size);
    if (mode & 8) {
        shrink_config(&p);
        write_table(&p);
    }
    return p;
}

// Makes the header agree with the rest of a file of `end` bytes.
static inline void seal(NativeParts *p, size_t end)
{
    const uint64_t file_bytes = end;
    put_u32(p->head + HEADER + 80, crc32_plain(p->config, p->config_bytes));
    put_u32(p->head + 12, p->n_sections);
    memcpy(p->head + 16, &file_bytes, sizeof file_bytes);
    put_u32(p->head + 32, 0);
    put_u32(p->head + 32, crc32_plain(p->head, HEADER + p->n_sections * ENTRY));
}

// Writes the contents of all sections where the table has them.
static inline void fill_sections(const NativeFile *file, const NativeParts *p, bool fill)
{
    const Input in = p->contents;
    for (size_t i = 0, k = 0; i < p->n_sections; i++) {
        uint64_t offset, bytes;
        memcpy(&offset, p->head + HEADER + i * ENTRY + 64, sizeof offset);
        memcpy(&bytes, p->head + HEADER + i * ENTRY + 72, sizeof bytes);
        if (i == 0) {
            memcpy(file->data + offset, p->config, bytes);
        }
        for (size_t j = 0; i > 0 && fill && in.size && j < bytes; j++, k++) {
            file->data[offset + j] = in.data[k % in.size];
        }
    }
}

// `fill`: sections hold the contents, else zeros; the config is there in any case.
static inline NativeFile native_file(size_t mode, size_t token, Input in, bool fill)
{
    if (mode == 0) {
        return plain_file(in);
    }
    const size_t config_bytes = take_number(&in, 2);
    if (in.size < HEADER + (mode & 8 ? 0 : ENTRY) || (!(mode & 8) && !get_u32(in.data + 12))) {
        return plain_file(in);
    }
    NativeParts p = native_parts(mode, token, config_bytes, in);
    const size_t head_bytes = HEADER + p.n_sections * ENTRY;
    size_t end;
    const bool laid_out = mode & 2 && lay_out(&p, &end);
    if (!laid_out) {
        end = head_bytes + p.contents.size;
    }
    if (mode & 1) {
        seal(&p, end);
    }
    const NativeFile file = {exact_block(end), end};
    memset(file.data, 0, end);
    memcpy(file.data, p.head, head_bytes);
    if (laid_out) {
        fill_sections(&file, &p, fill);
    } else if (p.contents.size) {
        memcpy(file.data + head_bytes, p.contents.data, p.contents.size);
    }
    free(p.head);
    free(p.config);
    return file;
}

#endif
