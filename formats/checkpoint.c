// checkpoint.c - the native checkpoint: one flat file that is mapped and read in place.
//
//     0        256                      multiples of 64 (matrices: 4096)             file_bytes
//     +--------+------------------------+---------+-------+---------+-------+-- - - --+
//     | header | table: an entry for    | section | zeros | section | zeros |   ...   |
//     | 256    | each section, 96 bytes |         |       |         |       |         |
//     +--------+------------------------+---------+-------+---------+-------+-- - - --+
//
// docs/format.md defines every byte. Nothing in the file is trusted. Header and table share one
// checksum; every field is compared with its range, every section with its shape, its alignment and
// the end of the section before it, and the end of the last section with the length of the file.
// Once a checkpoint is open, a matrix of known rows and columns can be read without further checks.
//
// Header and table are read through structs with the layout of the file: the machine is
// little-endian (base/memory.h) and the mapping is aligned to 64 bytes.
#include "formats/checkpoint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/memory.h"
#include "base/threads.h"
#include "formats/llama2c.h"

#define MAX_SECTIONS      65536
#define MATRIX_ALIGNMENT  4096  // a page: a matrix can be mapped, advised or dropped by itself
#define SECTION_ALIGNMENT 64    // a cache line, a 512-bit register

enum { FLAG_TIED_HEAD = 1, FLAG_QKV_BIAS = 2, FLAG_VOCAB_ONLY = 4, ALL_FLAGS = 7 };

static const uint8_t native_magic[8] = {0x89, 'R', 'U', 'N', '\r', '\n', 0x1a, '\n'};

// The header as it lies in the file; docs/format.md describes the fields.
typedef struct {
    uint8_t magic[8];
    uint32_t version, n_sections;
    uint64_t file_bytes, table_offset;
    uint32_t header_crc;  // CRC-32 of header and table, with this field as zero
    uint32_t dim, hidden_dim, n_layers, n_heads, n_kv_heads, head_dim;
    uint32_t vocab_size, context_length, sliding_window;
    uint32_t flags;  // FLAG_...
    float norm_eps;
    double rope_theta;
    uint32_t rope_scaling, rope_original_context;
    double rope_factor, rope_low_freq_factor, rope_high_freq_factor;
    uint8_t zeros[136];
} NativeHeader;
_Static_assert(offsetof(NativeHeader, n_sections) == 12, "docs/format.md");
_Static_assert(offsetof(NativeHeader, table_offset) == 24, "docs/format.md");
_Static_assert(offsetof(NativeHeader, header_crc) == 32, "docs/format.md");
_Static_assert(offsetof(NativeHeader, dim) == 36, "docs/format.md");
_Static_assert(offsetof(NativeHeader, vocab_size) == 60, "docs/format.md");
_Static_assert(offsetof(NativeHeader, flags) == 72, "docs/format.md");
_Static_assert(offsetof(NativeHeader, rope_theta) == 80, "docs/format.md");
_Static_assert(offsetof(NativeHeader, rope_factor) == 96, "docs/format.md");
_Static_assert(offsetof(NativeHeader, zeros) == 120, "docs/format.md");
_Static_assert(sizeof(NativeHeader) == 256, "docs/format.md");

typedef enum { SECTION_BYTES, SECTION_VECTOR, SECTION_MATRIX, N_SECTION_KINDS } SectionKind;

// An entry of the table as it lies in the file.
typedef struct {
    char name[48];           // ends with a zero byte, filled up with zeros
    uint32_t kind;           // SectionKind
    uint32_t type;           // of a matrix: WeightType; else 0
    uint32_t rows, cols;     // of a vector: 1 and its length; of bytes: 0 and 0
    uint64_t offset, bytes;  // of the section, from the start of the file
    uint32_t crc;            // CRC-32 of those bytes
    uint8_t zeros[12];
} SectionEntry;
_Static_assert(offsetof(SectionEntry, kind) == 48, "docs/format.md");
_Static_assert(offsetof(SectionEntry, offset) == 64, "docs/format.md");
_Static_assert(offsetof(SectionEntry, crc) == 80, "docs/format.md");
_Static_assert(sizeof(SectionEntry) == 96, "docs/format.md");

static const NativeHeader *header_of(const Checkpoint *c)
{
    return (const NativeHeader *)(const void *)c->file.data;
}

static const SectionEntry *table_of(const Checkpoint *c)
{
    return (const SectionEntry *)(const void *)(c->file.data + sizeof(NativeHeader));
}

static bool all_zero(const uint8_t *p, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (p[i]) {
            return false;
        }
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// Header

static bool check_integer(const Checkpoint *c, const char *field, uint64_t found, uint64_t min,
                          uint64_t max, Error *err)
{
    if (found < min || found > max) {
        return error_set(err, ERROR_INPUT, "%s: %s is %llu, expected %llu to %llu", c->path, field,
                         (unsigned long long)found, (unsigned long long)min,
                         (unsigned long long)max);
    }
    return true;
}

// The comparison is written so that it refuses NaN too.
static bool check_real(const Checkpoint *c, const char *field, double found, double min, double max,
                       Error *err)
{
    if (!(found >= min && found <= max)) {
        return error_set(err, ERROR_INPUT, "%s: %s is %g, expected %g to %g", c->path, field, found,
                         min, max);
    }
    return true;
}

// Fills the sizes of the config. The limits keep every later product of two of them within 64 bits.
static bool read_sizes(Checkpoint *c, const NativeHeader *h, Error *err)
{
    Config *p = &c->config;
    const uint32_t one = c->vocab_only ? 0 : 1;  // without weights there need be no shape
    const struct {
        const char *name;
        uint32_t found, min, max;
        size_t *field;
    } sizes[] = {
        {"dim", h->dim, one, 1 << 20, &p->dim},
        {"hidden_dim", h->hidden_dim, one, 1 << 22, &p->hidden_dim},
        {"n_layers", h->n_layers, one, 1 << 12, &p->n_layers},
        {"n_heads", h->n_heads, one, 1 << 12, &p->n_heads},
        {"n_kv_heads", h->n_kv_heads, one, 1 << 12, &p->n_kv_heads},
        {"head_dim", h->head_dim, 2 * one, 1 << 12, &p->head_dim},
        {"vocab_size", h->vocab_size, 1, 1 << 24, &p->vocab_size},
        {"context_length", h->context_length, one, 1 << 24, &p->context_length},
        {"sliding_window", h->sliding_window, 0, 1 << 24, &p->sliding_window},
        {"rope_original_context", h->rope_original_context, 0, 1 << 24,
         &p->rope_scaling.original_context},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (!check_integer(c, sizes[i].name, sizes[i].found, sizes[i].min, sizes[i].max, err)) {
            return false;
        }
        *sizes[i].field = sizes[i].found;
    }
    return true;
}

// Checks the base of the rotary frequencies, and fills how they are scaled for longer contexts.
static bool read_rope(Checkpoint *c, const NativeHeader *h, Error *err)
{
    RopeScaling *s = &c->config.rope_scaling;
    if (!check_real(c, "rope_theta", h->rope_theta, 1, 1e12, err) ||
        !check_integer(c, "rope_scaling", h->rope_scaling, 0, N_ROPE_SCALINGS - 1, err)) {
        return false;
    }
    s->kind = h->rope_scaling == 1   ? ROPE_LINEAR
              : h->rope_scaling == 2 ? ROPE_LLAMA3
                                     : ROPE_UNSCALED;
    s->factor = h->rope_factor;
    s->low_freq_factor = h->rope_low_freq_factor;
    s->high_freq_factor = h->rope_high_freq_factor;
    if (s->kind != ROPE_UNSCALED && !check_real(c, "rope_factor", s->factor, 1, 1e6, err)) {
        return false;
    }
    if (s->kind != ROPE_LLAMA3) {
        return true;
    }
    // Between the two factors Llama 3's scaling interpolates, and divides by their difference.
    const double above_low = s->low_freq_factor * 1.000001;
    return check_integer(c, "rope_original_context", s->original_context, 1, 1 << 24, err) &&
           check_real(c, "rope_low_freq_factor", s->low_freq_factor, 1e-6, 1e6, err) &&
           check_real(c, "rope_high_freq_factor", s->high_freq_factor, above_low, 1e6, err);
}

static bool read_config(Checkpoint *c, const NativeHeader *h, Error *err)
{
    Config *p = &c->config;
    if (!check_integer(c, "flags", h->flags, 0, ALL_FLAGS, err)) {
        return false;
    }
    c->vocab_only = h->flags & FLAG_VOCAB_ONLY;
    p->tied_head = h->flags & FLAG_TIED_HEAD;
    p->qkv_bias = h->flags & FLAG_QKV_BIAS;
    p->norm_eps = h->norm_eps;
    p->rope_theta = h->rope_theta;
    if (!read_sizes(c, h, err)) {
        return false;
    }
    if (c->vocab_only) {
        return true;
    }
    if (p->n_heads % p->n_kv_heads != 0) {
        return error_set(err, ERROR_INPUT,
                         "%s: n_kv_heads is %zu, expected a divisor of n_heads, %zu", c->path,
                         p->n_kv_heads, p->n_heads);
    }
    if (p->head_dim % 2 != 0) {
        return error_set(err, ERROR_INPUT, "%s: head_dim is %zu, expected an even number", c->path,
                         p->head_dim);
    }
    return check_real(c, "norm_eps", (double)p->norm_eps, 0, 1, err) && read_rope(c, h, err);
}

static bool check_file_bytes(const Checkpoint *c, uint64_t file_bytes, Error *err)
{
    return file_bytes == c->file.size ||
           error_set(err, ERROR_INPUT, "%s: file_bytes is %llu, but the file has %zu bytes: %s",
                     c->path, (unsigned long long)file_bytes, c->file.size,
                     file_bytes > c->file.size ? "it is truncated" : "data follows its end");
}

// The checksum that header and table should have.
static uint32_t header_crc(const NativeHeader *h)
{
    Crc32 tables;
    crc32_init(&tables);
    NativeHeader cleared = *h;
    cleared.header_crc = 0;
    const uint32_t crc = crc32_update(&tables, 0, (const uint8_t *)&cleared, sizeof cleared);
    return crc32_update(&tables, crc, (const uint8_t *)(h + 1),
                        h->n_sections * sizeof(SectionEntry));
}

static bool read_header(Checkpoint *c, Error *err)
{
    const NativeHeader *h = header_of(c);
    if (c->file.size < sizeof *h) {
        return error_set(err, ERROR_INPUT, "%s: the file has %zu bytes, the header alone needs %zu",
                         c->path, c->file.size, sizeof *h);
    }
    if (!check_integer(c, "version", h->version, 1, 1, err) ||
        !check_integer(c, "n_sections", h->n_sections, 1, MAX_SECTIONS, err) ||
        !check_file_bytes(c, h->file_bytes, err) ||
        !check_integer(c, "table_offset", h->table_offset, sizeof *h, sizeof *h, err)) {
        return false;
    }
    const size_t table_bytes = h->n_sections * sizeof(SectionEntry);
    if (table_bytes > c->file.size - sizeof *h) {
        return error_set(err, ERROR_INPUT,
                         "%s: the file has %zu bytes, a table of n_sections, %u, needs %zu",
                         c->path, c->file.size, (unsigned)h->n_sections, sizeof *h + table_bytes);
    }
    const uint32_t crc = header_crc(h);
    if (crc != h->header_crc) {
        return error_set(
            err, ERROR_INPUT,
            "%s: header_crc is %08x, expected %08x: the header or the table is damaged", c->path,
            (unsigned)h->header_crc, (unsigned)crc);
    }
    if (!all_zero(h->zeros, sizeof h->zeros)) {
        return error_set(err, ERROR_INPUT, "%s: bytes %zu to %zu of the header are not all zero",
                         c->path, offsetof(NativeHeader, zeros), sizeof *h - 1);
    }
    return read_config(c, h, err);
}

// --------------------------------------------------------------------------------------------
// Table

// Checks what an entry says about itself: name, kind and type.
static bool check_description(const Checkpoint *c, size_t i, const SectionEntry *e, Error *err)
{
    const size_t length = strnlen(e->name, sizeof e->name);
    if (length == 0 || length == sizeof e->name ||
        !all_zero((const uint8_t *)e->name + length, sizeof e->name - length)) {
        return error_set(err, ERROR_INPUT,
                         "%s: the name of section %zu is not 1 to 47 characters followed by zeros",
                         c->path, i);
    }
    if (e->kind >= N_SECTION_KINDS) {
        return error_set(err, ERROR_INPUT, "%s: the kind of section %s is %u, expected 0 to %d",
                         c->path, e->name, (unsigned)e->kind, N_SECTION_KINDS - 1);
    }
    const uint32_t max_type = e->kind == SECTION_MATRIX ? N_WEIGHT_TYPES - 1 : 0;
    if (e->type > max_type) {
        return error_set(err, ERROR_INPUT, "%s: the type of section %s is %u, expected 0 to %u",
                         c->path, e->name, (unsigned)e->type, (unsigned)max_type);
    }
    if (!all_zero(e->zeros, sizeof e->zeros)) {
        return error_set(err, ERROR_INPUT,
                         "%s: the last 12 bytes of the table entry of section %s are not all zero",
                         c->path, e->name);
    }
    return true;
}

// Checks that a section has as many bytes as its rows and columns need.
static bool check_bytes(const Checkpoint *c, const SectionEntry *e, Error *err)
{
    bool shaped = false;
    size_t bytes = e->bytes;
    switch ((SectionKind)e->kind) {
    case SECTION_VECTOR:
        shaped = e->rows == 1 && e->cols;
        bytes = round_up((size_t)e->cols * sizeof(float), SECTION_ALIGNMENT);
        break;
    case SECTION_MATRIX:
        shaped = e->rows && e->cols;
        if (!matrix_bytes((WeightType)e->type, e->rows, e->cols, &bytes)) {
            bytes = SIZE_MAX;
        }
        break;
    default:
        shaped = !e->rows && !e->cols;
    }
    if (!shaped || e->bytes != bytes) {
        return error_set(err, ERROR_INPUT,
                         "%s: section %s has %llu bytes for %u x %u values, expected %zu", c->path,
                         e->name, (unsigned long long)e->bytes, (unsigned)e->rows,
                         (unsigned)e->cols, bytes);
    }
    return true;
}

// Checks that a section begins at the first aligned offset after `end`, where the one before it
// ends, and lies within the file. Moves *end to its own end.
static bool check_place(const Checkpoint *c, const SectionEntry *e, size_t *end, Error *err)
{
    const size_t alignment = e->kind == SECTION_MATRIX ? MATRIX_ALIGNMENT : SECTION_ALIGNMENT;
    const size_t offset = round_up(*end, alignment);
    if (e->offset != offset) {
        return error_set(err, ERROR_INPUT, "%s: section %s is at offset %llu, expected %zu",
                         c->path, e->name, (unsigned long long)e->offset, offset);
    }
    if (e->bytes > c->file.size || offset > c->file.size - e->bytes) {
        return error_set(err, ERROR_INPUT,
                         "%s: section %s has %llu bytes at offset %zu, expected it to end at %zu, "
                         "the end of the file, or before",
                         c->path, e->name, (unsigned long long)e->bytes, offset, c->file.size);
    }
    *end = offset + e->bytes;
    return true;
}

static bool add_bytes(Checkpoint *c, const SectionEntry *e, Error *err)
{
    const struct {
        const char *name;
        Bytes *to;
    } known[] = {{"tokenizer", &c->tokenizer}, {"chat", &c->chat}, {"provenance", &c->provenance}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(e->name, known[i].name) != 0) {
            continue;
        }
        if (known[i].to->data) {
            return error_set(err, ERROR_INPUT, "%s: duplicate section %s", c->path, e->name);
        }
        *known[i].to = (Bytes){c->file.data + e->offset, e->bytes};
        return true;
    }
    return error_set(err, ERROR_INPUT, "%s: unknown section %s", c->path, e->name);
}

static void add_tensor(Checkpoint *c, const SectionEntry *e)
{
    Tensor *t = &c->tensors[c->n_tensors++];
    memcpy(t->name, e->name, sizeof t->name);
    t->vector = e->kind == SECTION_VECTOR;
    t->bytes = e->bytes;
    t->matrix = (Matrix){(WeightType)e->type, e->rows, e->cols, c->file.data + e->offset};
}

static bool read_table(Checkpoint *c, Error *err)
{
    const size_t n_sections = header_of(c)->n_sections;
    size_t end = sizeof(NativeHeader) + n_sections * sizeof(SectionEntry);
    c->tensors = calloc(n_sections, sizeof *c->tensors);
    if (!c->tensors) {
        return error_memory(err, "the list of tensors", n_sections * sizeof *c->tensors);
    }
    for (size_t i = 0; i < n_sections; i++) {
        const SectionEntry *e = &table_of(c)[i];
        if (!check_description(c, i, e, err) || !check_bytes(c, e, err) ||
            !check_place(c, e, &end, err)) {
            return false;
        }
        if (e->kind != SECTION_BYTES) {
            add_tensor(c, e);
        } else if (!add_bytes(c, e, err)) {
            return false;
        }
    }
    if (end != c->file.size) {
        return error_set(err, ERROR_INPUT,
                         "%s: the file has %zu bytes, expected %zu, the end of the last section",
                         c->path, c->file.size, end);
    }
    if (!c->tokenizer.data) {
        return error_set(err, ERROR_INPUT, "%s: section tokenizer is missing", c->path);
    }
    return true;
}

static int compare_tensor_names(const void *a, const void *b)
{
    return strcmp((*(Tensor *const *)a)->name, (*(Tensor *const *)b)->name);
}

// Sorts the tensors by name for find_tensor, and refuses duplicates.
static bool sort_tensors(Checkpoint *c, Error *err)
{
    c->by_name = malloc((c->n_tensors + 1) * sizeof *c->by_name);
    if (!c->by_name) {
        return error_memory(err, "the list of tensors", c->n_tensors * sizeof *c->by_name);
    }
    for (size_t i = 0; i < c->n_tensors; i++) {
        c->by_name[i] = &c->tensors[i];
    }
    qsort(c->by_name, c->n_tensors, sizeof *c->by_name, compare_tensor_names);
    for (size_t i = 1; i < c->n_tensors; i++) {
        if (strcmp(c->by_name[i - 1]->name, c->by_name[i]->name) == 0) {
            return error_set(err, ERROR_INPUT, "%s: duplicate section %s", c->path,
                             c->by_name[i]->name);
        }
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// Opening

bool checkpoint_open(Checkpoint *c, const char *path, size_t threads, Error *err)
{
    Mapping file;
    if (!mapping_open(&file, path, err)) {
        *c = (Checkpoint){.path = path};
        return false;
    }
    return checkpoint_open_mapping(c, path, file, threads, err);
}

// How many of the file's first bytes are those of the magic number.
static size_t magic_matches(const Checkpoint *c)
{
    size_t n = 0;
    for (size_t i = 0; i < sizeof native_magic && i < c->file.size; i++) {
        n += c->file.data[i] == native_magic[i];
    }
    return n;
}

bool checkpoint_open_mapping(Checkpoint *c, const char *path, Mapping file, size_t threads,
                             Error *err)
{
    *c = (Checkpoint){.path = path, .file = file};
    const size_t matches = magic_matches(c);
    bool ok;
    if (matches == sizeof native_magic) {
        ok = read_header(c, err) && read_table(c, err);
    } else if (matches == sizeof native_magic - 1) {
        // Read as a file of llama2.c it would give an error about a field that it does not have.
        ok = error_set(err, ERROR_INPUT, "%s: the header is damaged: one byte of its magic differs",
                       path);
    } else if (c->file.size >= 4 && memcmp(c->file.data, "GGUF", 4) == 0) {
        ok = error_set(err, ERROR_INPUT, "%s: is a GGUF file; scripts/convert.py converts it",
                       path);
    } else {
        ok = llama2c_open(c, threads, err);
    }
    ok = ok && sort_tensors(c, err);
    if (!ok) {
        checkpoint_close(c);
    }
    return ok;
}

void checkpoint_close(Checkpoint *c)
{
    mapping_close(&c->file);
    memory_unmap(c->memory, c->memory_bytes);
    free(c->tensors);
    free(c->by_name);
    *c = (Checkpoint){0};
}

// --------------------------------------------------------------------------------------------
// Views

// Binary search: a file may have tens of thousands of tensors, in any order.
static const Tensor *find_tensor(const Checkpoint *c, const char *name, Error *err)
{
    size_t low = 0, high = c->n_tensors;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = strcmp(c->by_name[middle]->name, name);
        if (order == 0) {
            return c->by_name[middle];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    error_set(err, ERROR_INPUT, "%s: tensor %s is missing", c->path, name);
    return NULL;
}

static bool check_shape(const Checkpoint *c, const Tensor *t, bool vector, size_t rows, size_t cols,
                        Error *err)
{
    if (t->vector != vector || t->matrix.rows != rows || t->matrix.cols != cols) {
        return error_set(err, ERROR_INPUT,
                         "%s: tensor %s is a %s of %zu x %zu, expected a %s of %zu x %zu", c->path,
                         t->name, t->vector ? "vector" : "matrix", t->matrix.rows, t->matrix.cols,
                         vector ? "vector" : "matrix", rows, cols);
    }
    return true;
}

bool checkpoint_matrix(const Checkpoint *c, const char *name, size_t rows, size_t cols, Matrix *out,
                       Error *err)
{
    const Tensor *t = find_tensor(c, name, err);
    if (!t || !check_shape(c, t, false, rows, cols, err)) {
        return false;
    }
    *out = t->matrix;
    return true;
}

bool checkpoint_vector(const Checkpoint *c, const char *name, size_t n, const float **out,
                       Error *err)
{
    const Tensor *t = find_tensor(c, name, err);
    if (!t || !check_shape(c, t, true, 1, n, err)) {
        return false;
    }
    *out = t->matrix.data;
    return true;
}

uint64_t checkpoint_fingerprint(const Checkpoint *c)
{
    if (!c->repacked) {
        return (uint64_t)header_of(c)->header_crc << 32 | (uint32_t)c->file.size;
    }
    Crc32 tables;
    crc32_init(&tables);
    const size_t shape[] = {c->config.dim,      c->config.hidden_dim, c->config.n_layers,
                            c->config.n_heads,  c->config.n_kv_heads, c->config.vocab_size,
                            c->config.tied_head};
    const uint32_t crc = crc32_update(&tables, 0, (const uint8_t *)shape, sizeof shape);
    return (uint64_t)crc32_update(&tables, crc, c->memory, c->memory_bytes) << 32 |
           (uint32_t)c->memory_bytes;
}

// --------------------------------------------------------------------------------------------
// Verification

typedef enum { SECTION_INTACT, SECTION_DIFFERS, PADDING_NOT_ZERO } Damage;

typedef struct {
    const Checkpoint *c;
    size_t n_sections;
    Crc32 tables;
    uint8_t *damage;  // (n_sections): Damage
} Verification;

// Checks every team.size-th section and the padding before it.
static void verify_sections(Team team, void *arg)
{
    Verification *v = arg;
    const uint8_t *file = v->c->file.data;
    const SectionEntry *table = table_of(v->c);
    for (size_t i = team.id; i < v->n_sections; i += team.size) {
        const SectionEntry *e = &table[i];
        const size_t end = i ? e[-1].offset + e[-1].bytes
                             : sizeof(NativeHeader) + v->n_sections * sizeof(SectionEntry);
        if (!all_zero(file + end, e->offset - end)) {
            v->damage[i] = PADDING_NOT_ZERO;
        } else if (crc32_update(&v->tables, 0, file + e->offset, e->bytes) != e->crc) {
            v->damage[i] = SECTION_DIFFERS;
        }
    }
}

bool checkpoint_verify(const Checkpoint *c, size_t threads, Error *err)
{
    Verification v = {.c = c, .n_sections = header_of(c)->n_sections};
    crc32_init(&v.tables);
    v.damage = calloc(v.n_sections, 1);
    if (!v.damage) {
        return error_memory(err, "the list of sections", v.n_sections);
    }
    team_run(threads, verify_sections, &v);
    size_t i = 0;
    while (i < v.n_sections && v.damage[i] == SECTION_INTACT) {
        i++;
    }
    const Damage damage = i < v.n_sections ? (Damage)v.damage[i] : SECTION_INTACT;
    free(v.damage);
    if (damage == SECTION_INTACT) {
        return true;
    }
    return error_set(err, ERROR_INPUT,
                     damage == SECTION_DIFFERS
                         ? "%s: section %s is damaged: its checksum differs"
                         : "%s: the padding before section %s is damaged: it is not all zero",
                     c->path, table_of(c)[i].name);
}
