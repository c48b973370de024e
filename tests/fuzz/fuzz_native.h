// fuzz_native.h - makes a native checkpoint of an input, for the targets that open one.
//
//     mode 1 | token 1 | header 256 | table, 96 per section | contents
//
// Mutated bytes would fail at the checksum, and most of a whole file is padding. So the input has
// only header and table, from which the file is made. The bits of `mode` say what is put right on
// the way:
//
//     1   n_sections, file_bytes and header_crc
//     2   bytes, offset and padding of each section
//     4   the shapes of the sections that a model of this config has
//     8   the config, whose sizes are brought into range, and the table, which the input then does
//         not have: all sections of such a model, of types that `token` selects
//
// Sections are filled by repeating the contents. With mode 0 the rest of the input is the file.
#ifndef FUZZ_NATIVE_H
#define FUZZ_NATIVE_H

#include "base/checksum.h"
#include "base/memory.h"
#include "formats/checkpoint.h"
#include "fuzz.h"

#define HEADER   256
#define ENTRY    96
#define MAX_FILE ((size_t)1 << 18)

#define MAX_LAYERS    3
#define MOST_SECTIONS (4 + 12 * MAX_LAYERS)

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

// The rows and columns that the tensor with this name has in a model of this config; false for any
// other name.
static inline bool shape_of(const uint8_t *header, const char *name, size_t *rows, size_t *cols)
{
    const size_t dim = get_u32(header + 36), hidden = get_u32(header + 40);
    const size_t head_dim = get_u32(header + 56), vocab = get_u32(header + 60);
    const size_t q = get_u32(header + 48) * head_dim, kv = get_u32(header + 52) * head_dim;
    const struct {
        const char *end;
        size_t rows, cols;
    } shapes[] = {
        {"embedding", vocab, dim},  {"head", vocab, dim},       {"norm", 1, dim},
        {"q_proj", q, dim},         {"k_proj", kv, dim},        {"v_proj", kv, dim},
        {"o_proj", dim, q},         {"gate_proj", hidden, dim}, {"up_proj", hidden, dim},
        {"down_proj", dim, hidden}, {"q_bias", 1, q},           {"k_bias", 1, kv},
        {"v_bias", 1, kv},
    };
    const size_t length = strnlen(name, 48);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        // A loop, because libFuzzer intercepts memcmp and would trace every call.
        size_t n = strlen(shapes[i].end);
        const char *at = name + length - n;
        while (length >= n && n && at[n - 1] == shapes[i].end[n - 1]) {
            n--;
        }
        if (!n) {
            *rows = shapes[i].rows;
            *cols = shapes[i].cols;
            return true;
        }
    }
    return false;
}

// Places the sections one after the other as the format requires; false if the file gets too large.
static inline bool lay_out(uint8_t *head, size_t n_sections, bool shapes, size_t contents,
                           size_t *end)
{
    *end = HEADER + n_sections * ENTRY;
    for (size_t i = 0; i < n_sections; i++) {
        uint8_t *entry = head + HEADER + i * ENTRY;
        size_t rows = get_u32(entry + 56), cols = get_u32(entry + 60), bytes;
        if (shapes && shape_of(head, (const char *)entry, &rows, &cols)) {
            put_u32(entry + 56, rows);
            put_u32(entry + 60, cols);
        }
        const uint32_t kind = get_u32(entry + 48), type = get_u32(entry + 52);
        if (kind == 0) {
            const size_t given = get_u32(entry + 72);
            bytes = given < MAX_FILE ? given : contents;
        } else if (kind == 1) {
            bytes = round_up(cols * sizeof(float), 64);
        } else if (type >= N_WEIGHT_TYPES || !matrix_bytes((WeightType)type, rows, cols, &bytes)) {
            return false;
        }
        const uint64_t place = round_up(*end, kind == 2 ? 4096 : 64), size = bytes;
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
static inline void shrink_config(uint8_t *header)
{
    enum { N_LAYERS = 44, N_HEADS = 48, N_KV_HEADS = 52, HEAD_DIM = 56 };
    static const struct {
        size_t at, most;
    } fields[] = {{36, 40}, {40, 60}, {N_LAYERS, MAX_LAYERS}, {N_KV_HEADS, 3}, {HEAD_DIM, 6},
                  {60, 50}, {64, 128}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        put_u32(header + fields[i].at, 1 + get_u32(header + fields[i].at) % fields[i].most);
    }
    const size_t groups = 1 + get_u32(header + N_HEADS) % 3;
    put_u32(header + N_HEADS, groups * get_u32(header + N_KV_HEADS));
    put_u32(header + HEAD_DIM, 2 * get_u32(header + HEAD_DIM));
}

// Writes the table of a model of this config without shapes and offsets. Returns the number of
// sections.
static inline size_t write_table(const uint8_t *header, size_t token, uint8_t *table)
{
    static const char *const names[] = {
        "tokenizer",   "embedding",     "norm",        "head",         "attn_norm",   "mlp_norm",
        "attn.q_bias", "attn.k_bias",   "attn.v_bias", "attn.q_proj",  "attn.k_proj", "attn.v_proj",
        "attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};
    enum { UNTIED = 3, IN_BLOCK = 4, FIRST_BIAS = 6, LAST_BIAS = 8, N = 16 };
    const size_t n_layers = get_u32(header + 44), flags = get_u32(header + 72);
    size_t n = 0;
    for (size_t layer = 0; layer <= n_layers; layer++) {
        for (size_t i = layer ? IN_BLOCK : 0; i < (layer ? N : IN_BLOCK); i++) {
            const bool bias = i >= FIRST_BIAS && i <= LAST_BIAS;
            if ((i == UNTIED && flags & 1) || (bias && !(flags & 2))) {
                continue;
            }
            uint8_t *entry = table + n++ * ENTRY;
            memset(entry, 0, ENTRY);
            const char *name = names[i];
            if (layer) {
                snprintf((char *)entry, 48, "blocks.%zu.%s", layer - 1, name);
            } else {
                memcpy(entry, name, strlen(name));
            }
            const bool vector = strstr(name, "norm") || bias;
            put_u32(entry + 48, i == 0 ? 0 : vector ? 1 : 2);
            put_u32(entry + 52, i == 0 || vector ? 0 : (token + n * (token >> 4)) % N_WEIGHT_TYPES);
            put_u32(entry + 72, i == 0 ? 64 : 0);
        }
    }
    return n;
}

// A file made from an input.
typedef struct {
    uint8_t *data;  // an exact_block
    size_t size;
} NativeFile;

// `fill`: sections hold the contents, else zeros.
static inline NativeFile native_file(size_t mode, size_t token, Input in, bool fill)
{
    if (mode == 0 || in.size < HEADER + (mode & 8 ? 0 : ENTRY)) {
        const NativeFile plain = {exact_block(in.size), in.size};
        if (in.size) {
            memcpy(plain.data, in.data, in.size);
        }
        return plain;
    }
    const size_t most = mode & 8 ? MOST_SECTIONS : (in.size - HEADER) / ENTRY;
    uint8_t *head = malloc(HEADER + most * ENTRY);
    FUZZ_CHECK(head, "%zu sections", most);
    size_t n_sections = get_u32(in.data + 12), end;
    n_sections = n_sections < most ? n_sections : most;
    const Input given = take_bytes(&in, HEADER + (mode & 8 ? 0 : n_sections * ENTRY));
    memcpy(head, given.data, given.size);
    if (mode & 8) {
        shrink_config(head);
        n_sections = write_table(head, token, head + HEADER);
    }
    const size_t head_bytes = HEADER + n_sections * ENTRY;
    const bool laid_out = mode & 2 && lay_out(head, n_sections, mode & 12, in.size, &end);
    if (!laid_out) {
        end = head_bytes + in.size;
    }
    if (mode & 1) {
        const uint64_t file_bytes = end;
        put_u32(head + 12, n_sections);
        memcpy(head + 16, &file_bytes, sizeof file_bytes);
        put_u32(head + 32, 0);
        put_u32(head + 32, crc32_plain(head, head_bytes));
    }
    const NativeFile file = {exact_block(end), end};
    memset(file.data, 0, end);
    memcpy(file.data, head, head_bytes);
    free(head);
    if (!laid_out && in.size) {
        memcpy(file.data + head_bytes, in.data, in.size);
    }
    for (size_t i = 0, k = 0; fill && laid_out && in.size && i < n_sections; i++) {
        uint64_t offset, bytes;
        memcpy(&offset, file.data + HEADER + i * ENTRY + 64, sizeof offset);
        memcpy(&bytes, file.data + HEADER + i * ENTRY + 72, sizeof bytes);
        for (size_t j = 0; j < bytes; j++, k++) {
            file.data[offset + j] = in.data[k % in.size];
        }
    }
    return file;
}

#endif
