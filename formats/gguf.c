// gguf.c - the container of GGUF files. See gguf.h.
//
// Nothing in a file is trusted. A Cursor reads from the start of a file to the end of the tensor
// table, and every length is compared with what is left before it is used. Then the data of each
// tensor is placed, and places are compared with each other and with the end of the file.
#include "formats/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"

#define HEADER_BYTES      24   // magic, version, n_tensors, n_keys
#define DEFAULT_ALIGNMENT 32   // if general.alignment is missing
#define SHOWN_BYTES       100  // the most of a text from the file that a message shows

static const struct {
    const char *name;
    size_t size;  // of a number
} gguf_value_types[N_GGUF_VALUE_TYPES] = {
    [GGUF_U8] = {"u8", 1},       [GGUF_I8] = {"i8", 1},     [GGUF_U16] = {"u16", 2},
    [GGUF_I16] = {"i16", 2},     [GGUF_U32] = {"u32", 4},   [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4},     [GGUF_BOOL] = {"bool", 1}, [GGUF_TEXT] = {"text", 0},
    [GGUF_ARRAY] = {"array", 0}, [GGUF_U64] = {"u64", 8},   [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

// All types of ggml, in order of their numbers.
static const GgmlType ggml_types[] = {
    {0, "F32", 1, 4},         {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},
    {3, "Q4_1", 32, 20},      {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},
    {8, "Q8_0", 32, 34},      {9, "Q8_1", 32, 40},      {10, "Q2_K", 256, 84},
    {11, "Q3_K", 256, 110},   {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176},
    {14, "Q6_K", 256, 210},   {15, "Q8_K", 256, 292},   {16, "IQ2_XXS", 256, 66},
    {17, "IQ2_XS", 256, 74},  {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},
    {20, "IQ4_NL", 32, 18},   {21, "IQ3_S", 256, 110},  {22, "IQ2_S", 256, 82},
    {23, "IQ4_XS", 256, 136}, {24, "I8", 1, 1},         {25, "I16", 1, 2},
    {26, "I32", 1, 4},        {27, "I64", 1, 8},        {28, "F64", 1, 8},
    {29, "IQ1_M", 256, 56},   {30, "BF16", 1, 2},       {34, "TQ1_0", 256, 54},
    {35, "TQ2_0", 256, 66},   {39, "MXFP4", 32, 17},    {40, "NVFP4", 64, 36},
    {41, "Q1_0", 128, 18},    {42, "Q2_0", 64, 18},
};

const GgmlType *ggml_type(uint32_t number)
{
    for (size_t i = 0; i < sizeof ggml_types / sizeof *ggml_types; i++) {
        if (ggml_types[i].number == number) {
            return &ggml_types[i];
        }
    }
    return NULL;
}

// --------------------------------------------------------------------------------------------
// Values

GgufText gguf_take_text(const uint8_t **data)
{
    uint64_t size;
    memcpy(&size, *data, sizeof size);
    const GgufText text = {(const char *)*data + sizeof size, (size_t)size};
    *data += sizeof size + size;
    return text;
}

bool gguf_text(const GgufKey *key, GgufText *out)
{
    const uint8_t *data = key->data;
    if (key->array || key->type != GGUF_TEXT) {
        return false;
    }
    *out = gguf_take_text(&data);
    return true;
}

double gguf_element(const GgufKey *key, size_t i)
{
    const size_t size = gguf_value_types[key->type].size;
    uint64_t bits = 0;
    memcpy(&bits, key->data + i * size, size);
    switch (key->type) {
    case GGUF_I8:
        return (int8_t)bits;
    case GGUF_I16:
        return (int16_t)bits;
    case GGUF_I32:
        return (int32_t)bits;
    case GGUF_I64:
        return (double)(int64_t)bits;
    case GGUF_F32: {
        float value;
        memcpy(&value, key->data + i * size, sizeof value);
        return value;
    }
    case GGUF_F64: {
        double value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    default:
        return (double)bits;
    }
}

bool gguf_number(const GgufKey *key, double *out)
{
    if (key->array || key->type == GGUF_TEXT) {
        return false;
    }
    *out = gguf_element(key, 0);
    return true;
}

// The length to print with %.*s: a name in a hostile file may be as long as the file.
static int shown(GgufText text) { return text.size < SHOWN_BYTES ? (int)text.size : SHOWN_BYTES; }

bool gguf_unexpected(const Gguf *g, const GgufKey *key, const char *expected, Error *err)
{
    char found[SHOWN_BYTES + 24];
    GgufText text;
    double number;
    if (key->array) {
        snprintf(found, sizeof found, "an array of %zu %s", key->count,
                 gguf_value_types[key->type].name);
    } else if (gguf_text(key, &text)) {
        snprintf(found, sizeof found, "\"%.*s\"", shown(text), text.data);
    } else if (gguf_number(key, &number)) {
        snprintf(found, sizeof found, "%.10g (%s)", number, gguf_value_types[key->type].name);
    }
    return error_set(err, ERROR_INPUT, "%s: key %.*s is %s, expected %s", g->path, shown(key->name),
                     key->name.data, found, expected);
}

// --------------------------------------------------------------------------------------------
// Reading from start to end

typedef struct {
    const char *path;
    const uint8_t *data;
    size_t size, at;
    const char *entry;  // "key", "tensor": what is being read,
    size_t index;       // and its index
    Error *err;
} Cursor;

static bool fail_at_end(const Cursor *c, const char *field, uint64_t bytes)
{
    return error_set(c->err, ERROR_INPUT,
                     "%s: the %s of %s %zu has %llu bytes at offset %zu, expected at most %zu, the "
                     "rest of the file",
                     c->path, field, c->entry, c->index, (unsigned long long)bytes, c->at,
                     c->size - c->at);
}

// Skips `bytes` bytes; fails if the file has fewer.
static bool skip(Cursor *c, const char *field, uint64_t bytes)
{
    if (bytes > c->size - c->at) {
        return fail_at_end(c, field, bytes);
    }
    c->at += (size_t)bytes;
    return true;
}

static bool take_integer(Cursor *c, const char *field, void *out, size_t bytes)
{
    const uint8_t *from = c->data + c->at;
    if (!skip(c, field, bytes)) {
        return false;
    }
    memcpy(out, from, bytes);
    return true;
}

static bool take_text(Cursor *c, const char *field, GgufText *out)
{
    uint64_t size;
    if (!take_integer(c, field, &size, sizeof size)) {
        return false;
    }
    *out = (GgufText){(const char *)c->data + c->at, (size_t)size};
    return skip(c, field, size);
}

// --------------------------------------------------------------------------------------------
// Keys

static bool fail_key(const Cursor *c, const GgufKey *k, const char *what, uint64_t found,
                     const char *expected)
{
    return error_set(c->err, ERROR_INPUT, "%s: the %s of key %.*s is %llu, expected %s", c->path,
                     what, shown(k->name), k->name.data, (unsigned long long)found, expected);
}

static bool check_bools(const Cursor *c, const GgufKey *k)
{
    for (size_t i = 0; i < k->count; i++) {
        if (k->data[i] > 1) {
            return fail_key(c, k, "value", k->data[i], "0 or 1, as it is a bool");
        }
    }
    return true;
}

// Takes the values of a key whose type and count are known.
static bool take_values(Cursor *c, GgufKey *k)
{
    k->data = c->data + c->at;
    const size_t size = gguf_value_types[k->type].size;
    if (k->type != GGUF_TEXT) {
        size_t bytes;
        return (size_mul(k->count, size, &bytes) ? skip(c, "value", bytes)
                                                 : fail_at_end(c, "value", UINT64_MAX)) &&
               (k->type != GGUF_BOOL || check_bools(c, k));
    }
    GgufText text;
    for (size_t i = 0; i < k->count; i++) {
        if (!take_text(c, "value", &text)) {
            return false;
        }
    }
    return true;
}

static bool take_key(Cursor *c, GgufKey *k)
{
    uint32_t type = 0;
    uint64_t count = 1;
    if (!take_text(c, "name", &k->name) || !take_integer(c, "type", &type, sizeof type)) {
        return false;
    }
    if (!k->name.size) {
        return error_set(c->err, ERROR_INPUT, "%s: the name of key %zu is empty", c->path,
                         c->index);
    }
    k->array = type == GGUF_ARRAY;
    if (k->array) {
        if (!take_integer(c, "type", &type, sizeof type) ||
            !take_integer(c, "count", &count, sizeof count)) {
            return false;
        }
        if (type == GGUF_ARRAY) {
            return fail_key(c, k, "type of elements", type,
                            "no array: arrays of arrays are not "
                            "supported");
        }
    }
    if (type >= N_GGUF_VALUE_TYPES) {
        return fail_key(c, k, "type", type, "0 to 12");
    }
    k->type = (GgufValueType)type;
    k->count = (size_t)count;
    return take_values(c, k);
}

static int compare_texts(GgufText a, GgufText b)
{
    const int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static int compare_keys(const void *a, const void *b)
{
    return compare_texts(((const GgufKey *)a)->name, ((const GgufKey *)b)->name);
}

// Reads a file's keys into a new array.
static bool take_keys(Cursor *c, size_t n, GgufKey **keys)
{
    *keys = calloc(n + 1, sizeof **keys);
    if (!*keys) {
        return error_memory(c->err, "the list of keys", n * sizeof **keys);
    }
    c->entry = "key";
    for (c->index = 0; c->index < n; c->index++) {
        if (!take_key(c, &(*keys)[c->index])) {
            return false;
        }
    }
    qsort(*keys, n, sizeof **keys, compare_keys);
    for (size_t i = 1; i < n; i++) {
        const GgufText name = (*keys)[i].name;
        if (compare_texts((*keys)[i - 1].name, name) == 0) {
            return error_set(c->err, ERROR_INPUT, "%s: duplicate key %.*s", c->path, shown(name),
                             name.data);
        }
    }
    return true;
}

static const GgufKey *find_key(const GgufKey *keys, size_t n, const char *name)
{
    const GgufKey wanted = {.name = {name, strlen(name)}};
    return n ? bsearch(&wanted, keys, n, sizeof *keys, compare_keys) : NULL;
}

const GgufKey *gguf_key(const Gguf *g, const char *name)
{
    return find_key(g->keys, g->n_keys, name);
}

// --------------------------------------------------------------------------------------------
// Tensors

static bool fail_tensor(const Cursor *c, const GgufTensor *t, const char *field, uint64_t found,
                        const char *expected)
{
    return error_set(c->err, ERROR_INPUT, "%s: the %s of tensor %.*s is %llu, expected %s", c->path,
                     field, shown(t->name), t->name.data, (unsigned long long)found, expected);
}

// Computes the bytes of a tensor's values. Its rows must consist of whole quantisation blocks.
static bool size_tensor(const Cursor *c, GgufTensor *t)
{
    char expected[48];
    if (t->dims[0] % t->type->block_cols != 0) {
        snprintf(expected, sizeof expected, "a multiple of %zu (%s)", t->type->block_cols,
                 t->type->name);
        return fail_tensor(c, t, "dimension 0", t->dims[0], expected);
    }
    if (!size_mul(t->dims[0] / t->type->block_cols, t->type->block_bytes, &t->bytes)) {
        return fail_tensor(c, t, "dimension 0", t->dims[0], "less");
    }
    for (size_t i = 1; i < GGUF_MAX_DIMS; i++) {
        if (!size_mul(t->bytes, t->dims[i], &t->bytes)) {
            return fail_tensor(c, t, "dimension", t->dims[i], "less");
        }
    }
    return true;
}

static bool take_dims(Cursor *c, GgufTensor *t)
{
    uint32_t n = 0;
    if (!take_integer(c, "n_dims", &n, sizeof n)) {
        return false;
    }
    if (n < 1 || n > GGUF_MAX_DIMS) {
        return fail_tensor(c, t, "n_dims", n, "1 to 4");
    }
    t->n_dims = n;
    for (size_t i = 0; i < GGUF_MAX_DIMS; i++) {
        uint64_t dim = 1;
        if (i < n && !take_integer(c, "dimension", &dim, sizeof dim)) {
            return false;
        }
        if (dim < 1 || dim > INT64_MAX) {
            return fail_tensor(c, t, "dimension", dim, "1 to 2^63 - 1");
        }
        t->dims[i] = (size_t)dim;
    }
    return true;
}

static bool take_tensor(Cursor *c, GgufTensor *t)
{
    uint32_t type = 0;
    if (!take_text(c, "name", &t->name) || !take_dims(c, t) ||
        !take_integer(c, "type", &type, sizeof type) ||
        !take_integer(c, "offset", &t->offset, sizeof t->offset)) {
        return false;
    }
    t->type = ggml_type(type);
    if (!t->name.size) {
        return error_set(c->err, ERROR_INPUT, "%s: the name of tensor %zu is empty", c->path,
                         c->index);
    }
    return t->type ? size_tensor(c, t)
                   : fail_tensor(c, t, "type", type, "the number of a ggml type");
}

// Locates a tensor's values, which must be at an aligned offset and within the file's data.
static bool place_tensor(const Cursor *c, GgufTensor *t, size_t alignment, size_t data_begin)
{
    char expected[64];
    if (t->offset % alignment != 0) {
        snprintf(expected, sizeof expected, "a multiple of the alignment, %zu", alignment);
        return fail_tensor(c, t, "offset", t->offset, expected);
    }
    const size_t room = data_begin < c->size ? c->size - data_begin : 0;
    if (t->bytes > room || t->offset > room - t->bytes) {
        return error_set(c->err, ERROR_INPUT,
                         "%s: tensor %.*s has %zu bytes at offset %llu, expected it to end within "
                         "the %zu bytes of data",
                         c->path, shown(t->name), t->name.data, t->bytes,
                         (unsigned long long)t->offset, room);
    }
    t->data = c->data + data_begin + t->offset;
    return true;
}

static int compare_offsets(const void *a, const void *b)
{
    const uint64_t x = ((const GgufTensor *)a)->offset, y = ((const GgufTensor *)b)->offset;
    return (x > y) - (x < y);
}

// Sorts the tensors of a file by offset, and refuses those that overlap.
static bool check_overlaps(const Cursor *c, GgufTensor *tensors, size_t n)
{
    qsort(tensors, n, sizeof *tensors, compare_offsets);
    for (size_t i = 1; i < n; i++) {
        const GgufTensor *a = &tensors[i - 1], *b = &tensors[i];
        if (b->offset - a->offset < a->bytes) {
            return error_set(c->err, ERROR_INPUT,
                             "%s: tensor %.*s is at offset %llu, expected %llu or more, where "
                             "tensor %.*s ends",
                             c->path, shown(b->name), b->name.data, (unsigned long long)b->offset,
                             (unsigned long long)a->offset + a->bytes, shown(a->name),
                             a->name.data);
        }
    }
    return true;
}

static bool read_alignment(const Cursor *c, const GgufKey *keys, size_t n, size_t *alignment)
{
    const GgufKey *k = find_key(keys, n, "general.alignment");
    double value;
    *alignment = DEFAULT_ALIGNMENT;
    if (!k) {
        return true;
    }
    const bool whole = gguf_number(k, &value) && gguf_is_integer(k);
    *alignment = whole && value >= 1 && value <= 1 << 20 ? (size_t)value : 0;
    return (*alignment && (*alignment & (*alignment - 1)) == 0) ||
           gguf_unexpected(&(Gguf){.path = c->path}, k, "a power of two up to 1048576", c->err);
}

static int compare_tensors(const void *a, const void *b)
{
    return compare_texts(((const GgufTensor *)a)->name, ((const GgufTensor *)b)->name);
}

const GgufTensor *gguf_tensor(const Gguf *g, const char *name)
{
    const GgufTensor wanted = {.name = {name, strlen(name)}};
    return g->n_tensors ? bsearch(&wanted, g->tensors, g->n_tensors, sizeof wanted, compare_tensors)
                        : NULL;
}

// --------------------------------------------------------------------------------------------
// Files

typedef struct {
    size_t n_keys, n_tensors;
} Counts;

static bool check_gguf_version(const Cursor *c, uint32_t version)
{
    if (version == 0x02000000 || version == 0x03000000) {
        return error_set(c->err, ERROR_INPUT, "%s: is big-endian, expected a little-endian file",
                         c->path);
    }
    return version == 2 || version == 3 ||
           error_set(c->err, ERROR_INPUT, "%s: version is %u, expected 2 or 3 of GGUF", c->path,
                     (unsigned)version);
}

// Counts may not exceed what the rest of the file can hold, so the lists never need more memory
// than a few times the file's size.
static bool take_header(Cursor *c, Counts *counts)
{
    enum { LEAST_KEY = 8 + 4 + 1, LEAST_TENSOR = 8 + 4 + 8 + 4 + 8 };
    uint32_t version;
    uint64_t n[2];
    if (c->size < HEADER_BYTES || memcmp(c->data, "GGUF", 4) != 0) {
        return error_set(c->err, ERROR_INPUT,
                         "%s: the file has %zu bytes, expected \"GGUF\" and a header of %d bytes",
                         c->path, c->size, HEADER_BYTES);
    }
    memcpy(&version, c->data + 4, sizeof version);
    memcpy(n, c->data + 8, sizeof n);
    c->at = HEADER_BYTES;
    const size_t rest = c->size - c->at;
    if (!check_gguf_version(c, version)) {
        return false;
    }
    if (n[0] > rest / LEAST_TENSOR || n[1] > rest / LEAST_KEY) {
        const bool tensors = n[0] > rest / LEAST_TENSOR;
        return error_set(c->err, ERROR_INPUT, "%s: %s is %llu, expected at most %zu in %zu bytes",
                         c->path, tensors ? "n_tensors" : "n_keys", (unsigned long long)n[!tensors],
                         rest / (tensors ? LEAST_TENSOR : LEAST_KEY), c->size);
    }
    *counts = (Counts){.n_keys = (size_t)n[1], .n_tensors = (size_t)n[0]};
    return true;
}

// Appends the tensors of a file to those of *g.
static bool take_tensors(Cursor *c, Gguf *g, size_t n, size_t alignment, size_t part)
{
    GgufTensor *all = realloc(g->tensors, (g->n_tensors + n + 1) * sizeof *all);
    if (!all) {
        return error_memory(c->err, "the list of tensors", n * sizeof *all);
    }
    g->tensors = all;
    GgufTensor *own = all + g->n_tensors;
    c->entry = "tensor";
    for (c->index = 0; c->index < n; c->index++) {
        own[c->index] = (GgufTensor){.part = part};
        if (!take_tensor(c, &own[c->index])) {
            return false;
        }
    }
    const size_t data_begin = round_up(c->at, alignment);
    for (size_t i = 0; i < n; i++) {
        if (!place_tensor(c, &own[i], alignment, data_begin)) {
            return false;
        }
    }
    g->n_tensors += n;
    return check_overlaps(c, own, n);
}

// Reads a whole number from a key of a split file; `missing` is its value if there is no such key.
static bool split_number(const Cursor *c, const GgufKey *keys, size_t n, const char *name,
                         double *out)
{
    const GgufKey *k = find_key(keys, n, name);
    if (k && (!gguf_number(k, out) || !gguf_is_integer(k))) {
        return gguf_unexpected(&(Gguf){.path = c->path}, k, "a whole number", c->err);
    }
    return true;
}

static bool check_split(const Cursor *c, const GgufKey *keys, size_t n, const char *name,
                        size_t expected)
{
    double found = -1;
    if (!split_number(c, keys, n, name, &found)) {
        return false;
    }
    return found == (double)expected ||
           error_set(c->err, ERROR_INPUT, "%s: key %s is %.0f, expected %zu", c->path, name, found,
                     expected);
}

// Reads the keys and tensors of one file. Those of the first one stay in *g.
static bool read_part(Gguf *g, const char *path, size_t part, Error *err)
{
    const Mapping *file = &g->parts[part].file;
    Cursor c = {.path = path, .data = file->data, .size = file->size, .err = err};
    Counts counts = {0};
    GgufKey *keys = NULL;
    size_t alignment = DEFAULT_ALIGNMENT;
    bool ok = take_header(&c, &counts) && take_keys(&c, counts.n_keys, &keys) &&
              read_alignment(&c, keys, counts.n_keys, &alignment) &&
              take_tensors(&c, g, counts.n_tensors, alignment, part);
    if (ok && part > 0) {
        ok = check_split(&c, keys, counts.n_keys, "split.no", part) &&
             check_split(&c, keys, counts.n_keys, "split.count", g->n_parts);
    }
    if (part == 0) {
        g->keys = keys;
        g->n_keys = ok ? counts.n_keys : 0;
    } else {
        free(keys);
    }
    return ok;
}

// The number of files that the model is split into, according to the first one.
static bool count_parts(const Gguf *g, size_t *n, Error *err)
{
    const Cursor c = {.path = g->path, .err = err};
    double count = 1;
    if (!split_number(&c, g->keys, g->n_keys, "split.count", &count)) {
        return false;
    }
    if (count == 0 || count == 1) {
        *n = 1;
        return true;
    }
    if (!(count >= 0 && count <= GGUF_MAX_PARTS)) {
        return error_set(err, ERROR_INPUT, "%s: key split.count is %.10g, expected 0 to %d",
                         g->path, count, GGUF_MAX_PARTS);
    }
    *n = (size_t)count;
    return check_split(&c, g->keys, g->n_keys, "split.no", 0);
}

const char *gguf_part_path(const Gguf *g, size_t part)
{
    return part == 0 ? g->path : g->parts[part].path;
}

// Sets the path of a further part: that of the first one ends in -00001-of-0000N.gguf.
static bool name_part(Gguf *g, size_t part, Error *err)
{
    Buffer path = {0};
    char first[32];
    const int suffix = snprintf(first, sizeof first, "-%05d-of-%05zu.gguf", 1, g->n_parts);
    const size_t length = strlen(g->path), size = (size_t)suffix;
    if (length < size || strcmp(g->path + length - size, first) != 0) {
        return error_set(err, ERROR_INPUT,
                         "%s: is split into %zu files, expected a name that ends in %s, that of "
                         "the first one",
                         g->path, g->n_parts, first);
    }
    buffer_add(&path, g->path, length - size);
    buffer_addf(&path, "-%05zu-of-%05zu.gguf", part + 1, g->n_parts);
    if (!buffer_check(&path, err)) {
        buffer_free(&path);
        return false;
    }
    g->parts[part].path = path.data;
    return true;
}

// Maps and reads the parts after the first of n.
static bool read_further_parts(Gguf *g, size_t n, Error *err)
{
    GgufPart *parts = calloc(n, sizeof *parts);
    if (!parts) {
        return error_memory(err, "the list of files", n * sizeof *parts);
    }
    parts[0] = g->parts[0];
    free(g->parts);
    g->parts = parts;
    g->n_parts = n;
    bool ok = true;
    for (size_t i = 1; ok && i < n; i++) {
        ok = name_part(g, i, err) && mapping_open(&parts[i].file, parts[i].path, err) &&
             read_part(g, parts[i].path, i, err);
    }
    const Cursor c = {.path = g->path, .err = err};
    return ok && (!gguf_key(g, "split.tensors.count") ||
                  check_split(&c, g->keys, g->n_keys, "split.tensors.count", g->n_tensors));
}

// Sorts the tensors of all parts by name, and refuses duplicates.
static bool sort_by_name(Gguf *g, Error *err)
{
    qsort(g->tensors, g->n_tensors, sizeof *g->tensors, compare_tensors);
    for (size_t i = 1; i < g->n_tensors; i++) {
        const GgufText name = g->tensors[i].name;
        if (compare_texts(g->tensors[i - 1].name, name) == 0) {
            return error_set(err, ERROR_INPUT, "%s: duplicate tensor %.*s",
                             gguf_part_path(g, g->tensors[i].part), shown(name), name.data);
        }
    }
    return true;
}

bool gguf_open(Gguf *g, const char *path, Mapping file, Error *err)
{
    *g = (Gguf){.path = path, .n_parts = 1, .parts = calloc(1, sizeof *g->parts)};
    if (!g->parts) {
        return error_memory(err, "the list of files", sizeof *g->parts);
    }
    g->parts[0].file = file;
    size_t n = 1;
    const bool ok = read_part(g, path, 0, err) && count_parts(g, &n, err) &&
                    (n == 1 || read_further_parts(g, n, err)) && sort_by_name(g, err);
    if (!ok) {
        gguf_close(g);
    }
    return ok;
}

void gguf_close(Gguf *g)
{
    for (size_t i = 1; i < g->n_parts && g->parts; i++) {
        mapping_close(&g->parts[i].file);
        free(g->parts[i].path);
    }
    free(g->parts);
    free(g->keys);
    free(g->tensors);
    *g = (Gguf){0};
}
