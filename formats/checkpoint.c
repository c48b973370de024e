// checkpoint.c - the native checkpoint: one flat file, mapped, and read where it lies.
//
//     header 256 | table of sections, 96 each | section | zeros | section | ...
//
// docs/format.md defines every byte. Nothing in the file is trusted: the header and the table have
// a checksum of their own, every field is compared with its range, every section with its shape,
// its alignment and the end of the one before, and the last with the length of the file. So once a
// checkpoint is open, a matrix of given rows and columns can be read without another check.
#include "formats/checkpoint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/memory.h"
#include "base/threads.h"
#include "formats/llama2c.h"

#define HEADER_BYTES      256
#define ENTRY_BYTES       96
#define MAX_SECTIONS      65536
#define MATRIX_ALIGNMENT  4096  // a page: a section can be mapped, advised or dropped by itself
#define SECTION_ALIGNMENT 64    // a cache line, a 512-bit register

#define FLAG_TIED_HEAD  1u
#define FLAG_QKV_BIAS   2u
#define FLAG_VOCAB_ONLY 4u

static const uint8_t magic[8] = {0x89, 'R', 'U', 'N', '\r', '\n', 0x1a, '\n'};

typedef enum { SECTION_BYTES, SECTION_VECTOR, SECTION_MATRIX, N_SECTION_KINDS } SectionKind;

// An entry of the table as it lies in the file.
typedef struct {
    char name[48];
    uint32_t kind, type, rows, cols;
    uint64_t offset, bytes;
    uint32_t crc;
    uint8_t zeros[12];
} Entry;
_Static_assert(sizeof(Entry) == ENTRY_BYTES, "an entry of the table has 96 bytes");

static uint32_t u32_at(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t u64_at(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static double f64_at(const uint8_t *p)
{
    double v;
    memcpy(&v, p, sizeof v);
    return v;
}

static Entry entry_at(const Checkpoint *c, size_t i)
{
    Entry e;
    memcpy(&e, c->file.data + HEADER_BYTES + i * ENTRY_BYTES, sizeof e);
    return e;
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

static bool check_integer(const Checkpoint *c, const char *field, uint64_t value, uint64_t min,
                          uint64_t max, Error *err)
{
    if (value < min || value > max) {
        return error_set(err, ERROR_INPUT, "%s: %s is %llu, expected %llu to %llu", c->path, field,
                         (unsigned long long)value, (unsigned long long)min,
                         (unsigned long long)max);
    }
    return true;
}

static bool check_real(const Checkpoint *c, const char *field, double value, double min, double max,
                       Error *err)
{
    if (!(value >= min && value <= max)) {
        return error_set(err, ERROR_INPUT, "%s: %s is %g, expected %g to %g", c->path, field, value,
                         min, max);
    }
    return true;
}

// Fills the config. The limits keep every later product of two fields within 64 bits.
static bool read_config(Checkpoint *c, Error *err)
{
    const uint8_t *h = c->file.data;
    const uint32_t flags = u32_at(h + 72);
    if (!check_integer(c, "flags", flags, 0, 7, err)) {
        return false;
    }
    c->vocab_only = flags & FLAG_VOCAB_ONLY;
    const struct {
        const char *name;
        size_t offset, min, max;
        size_t *field;
    } integers[] = {
        {"dim", 36, 1, 1 << 20, &c->config.dim},
        {"hidden_dim", 40, 1, 1 << 22, &c->config.hidden_dim},
        {"n_layers", 44, 1, 1 << 12, &c->config.n_layers},
        {"n_heads", 48, 1, 1 << 12, &c->config.n_heads},
        {"n_kv_heads", 52, 1, 1 << 12, &c->config.n_kv_heads},
        {"head_dim", 56, 2, 1 << 12, &c->config.head_dim},
        {"vocab_size", 60, 1, 1 << 24, &c->config.vocab_size},
        {"context_length", 64, 1, 1 << 24, &c->config.context_length},
        {"sliding_window", 68, 0, 1 << 24, &c->config.sliding_window},
        {"rope_original_context", 92, 0, 1 << 24, &c->config.rope_scaling.original_context},
    };
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        const uint32_t value = u32_at(h + integers[i].offset);
        const bool free_of_shape = c->vocab_only && integers[i].offset != 60;
        if (!check_integer(c, integers[i].name, value, free_of_shape ? 0 : integers[i].min,
                           integers[i].max, err)) {
            return false;
        }
        *integers[i].field = value;
    }
    Config *p = &c->config;
    float norm_eps;
    memcpy(&norm_eps, h + 76, sizeof norm_eps);
    p->norm_eps = norm_eps;
    p->rope_theta = f64_at(h + 80);
    p->tied_head = flags & FLAG_TIED_HEAD;
    p->qkv_bias = flags & FLAG_QKV_BIAS;
    const uint32_t kind = u32_at(h + 88);
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
    if (!check_real(c, "norm_eps", (double)p->norm_eps, 0, 1, err) ||
        !check_real(c, "rope_theta", p->rope_theta, 1, 1e12, err) ||
        !check_integer(c, "rope_scaling", kind, 0, N_ROPE_SCALINGS - 1, err)) {
        return false;
    }
    RopeScaling *s = &p->rope_scaling;
    s->kind = kind == 1 ? ROPE_LINEAR : kind == 2 ? ROPE_LLAMA3 : ROPE_UNSCALED;
    s->factor = f64_at(h + 96);
    s->low_freq_factor = f64_at(h + 104);
    s->high_freq_factor = f64_at(h + 112);
    if (kind && !check_real(c, "rope_factor", s->factor, 1, 1e6, err)) {
        return false;
    }
    return s->kind != ROPE_LLAMA3 ||
           (check_integer(c, "rope_original_context", s->original_context, 1, 1 << 24, err) &&
            check_real(c, "rope_low_freq_factor", s->low_freq_factor, 1e-6, 1e6, err) &&
            check_real(c, "rope_high_freq_factor", s->high_freq_factor,
                       s->low_freq_factor * 1.000001, 1e6, err));
}

static bool check_file_bytes(const Checkpoint *c, uint64_t file_bytes, Error *err)
{
    return file_bytes == c->file.size ||
           error_set(err, ERROR_INPUT, "%s: file_bytes is %llu, the file has %zu: %s", c->path,
                     (unsigned long long)file_bytes, c->file.size,
                     file_bytes > c->file.size ? "it is cut short" : "something follows");
}

static bool read_header(Checkpoint *c, size_t *n_sections, Error *err)
{
    const uint8_t *h = c->file.data;
    if (c->file.size < HEADER_BYTES) {
        return error_set(err, ERROR_INPUT, "%s: the file has %zu bytes, the header alone needs %d",
                         c->path, c->file.size, HEADER_BYTES);
    }
    *n_sections = u32_at(h + 12);
    if (!check_integer(c, "version", u32_at(h + 8), 1, 1, err) ||
        !check_integer(c, "n_sections", *n_sections, 1, MAX_SECTIONS, err) ||
        !check_file_bytes(c, u64_at(h + 16), err) ||
        !check_integer(c, "table_offset", u64_at(h + 24), HEADER_BYTES, HEADER_BYTES, err)) {
        return false;
    }
    const size_t table_bytes = *n_sections * ENTRY_BYTES;
    if (table_bytes > c->file.size - HEADER_BYTES) {
        return error_set(err, ERROR_INPUT,
                         "%s: the file has %zu bytes, the table of n_sections %zu needs %zu",
                         c->path, c->file.size, *n_sections, HEADER_BYTES + table_bytes);
    }
    Crc32 tables;
    crc32_init(&tables);
    static const uint8_t zeros[4];
    uint32_t crc = crc32_update(&tables, 0, h, 32);
    crc = crc32_update(&tables, crc, zeros, sizeof zeros);
    crc = crc32_update(&tables, crc, h + 36, HEADER_BYTES - 36 + table_bytes);
    if (crc != u32_at(h + 32)) {
        return error_set(err, ERROR_INPUT,
                         "%s: header_crc is %08x, expected %08x: header or table are damaged",
                         c->path, (unsigned)u32_at(h + 32), (unsigned)crc);
    }
    if (!all_zero(h + 120, HEADER_BYTES - 120)) {
        return error_set(err, ERROR_INPUT, "%s: bytes 120 to 255 of the header are not zeros",
                         c->path);
    }
    return read_config(c, err);
}

// --------------------------------------------------------------------------------------------
// Table

// Checks an entry; *end is where the one before ends, and then where this one does.
static bool check_entry(const Checkpoint *c, size_t i, const Entry *e, size_t *end, Error *err)
{
    const size_t length = strnlen(e->name, sizeof e->name);
    if (length == 0 || length == sizeof e->name ||
        !all_zero((const uint8_t *)e->name + length, sizeof e->name - length)) {
        return error_set(err, ERROR_INPUT,
                         "%s: the name of section %zu is not 1 to 47 characters filled with zeros",
                         c->path, i);
    }
    if (e->kind >= N_SECTION_KINDS) {
        return error_set(err, ERROR_INPUT, "%s: the kind of section %s is %u, expected 0 to 2",
                         c->path, e->name, (unsigned)e->kind);
    }
    const uint32_t most = e->kind == SECTION_MATRIX ? N_WEIGHT_TYPES - 1 : 0;
    if (e->type > most) {
        return error_set(err, ERROR_INPUT, "%s: the type of section %s is %u, expected 0 to %u",
                         c->path, e->name, (unsigned)e->type, (unsigned)most);
    }
    size_t bytes = e->bytes;
    if (e->kind == SECTION_VECTOR) {
        bytes = round_up((size_t)e->cols * sizeof(float), SECTION_ALIGNMENT);
    }
    if (e->kind == SECTION_MATRIX && !matrix_bytes((WeightType)e->type, e->rows, e->cols, &bytes)) {
        bytes = SIZE_MAX;
    }
    const bool shaped = e->kind == SECTION_BYTES    ? !e->rows && !e->cols
                        : e->kind == SECTION_VECTOR ? e->rows == 1 && e->cols
                                                    : e->rows && e->cols;
    if (!shaped || e->bytes != bytes) {
        return error_set(err, ERROR_INPUT,
                         "%s: section %s has %llu bytes for %u x %u values, expected %zu", c->path,
                         e->name, (unsigned long long)e->bytes, (unsigned)e->rows,
                         (unsigned)e->cols, bytes);
    }
    const size_t alignment = e->kind == SECTION_MATRIX ? MATRIX_ALIGNMENT : SECTION_ALIGNMENT;
    const size_t place = round_up(*end, alignment);
    if (e->offset != place) {
        return error_set(err, ERROR_INPUT, "%s: section %s is at %llu, expected %zu", c->path,
                         e->name, (unsigned long long)e->offset, place);
    }
    if (e->bytes > c->file.size || place > c->file.size - e->bytes) {
        return error_set(
            err, ERROR_INPUT,
            "%s: section %s has %llu bytes from %zu on, expected an end of at most %zu, "
            "the file's length",
            c->path, e->name, (unsigned long long)e->bytes, place, c->file.size);
    }
    if (!all_zero(e->zeros, sizeof e->zeros)) {
        return error_set(err, ERROR_INPUT,
                         "%s: the last bytes of section %s in the table are not zeros", c->path,
                         e->name);
    }
    *end = place + e->bytes;
    return true;
}

static bool add_bytes(Checkpoint *c, const Entry *e, Error *err)
{
    const struct {
        const char *name;
        Bytes *to;
    } known[] = {{"tokenizer", &c->tokenizer}, {"chat", &c->chat}, {"provenance", &c->provenance}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(e->name, known[i].name) == 0 && !known[i].to->data) {
            *known[i].to = (Bytes){c->file.data + e->offset, e->bytes};
            return true;
        }
    }
    return error_set(err, ERROR_INPUT, "%s: section %s is unknown or there twice", c->path,
                     e->name);
}

static bool read_table(Checkpoint *c, size_t n_sections, Error *err)
{
    size_t end = HEADER_BYTES + n_sections * ENTRY_BYTES;
    c->tensors = calloc(n_sections, sizeof *c->tensors);
    if (!c->tensors) {
        return error_memory(err, "the list of tensors", n_sections * sizeof *c->tensors);
    }
    for (size_t i = 0; i < n_sections; i++) {
        const Entry e = entry_at(c, i);
        if (!check_entry(c, i, &e, &end, err)) {
            return false;
        }
        if (e.kind == SECTION_BYTES) {
            if (!add_bytes(c, &e, err)) {
                return false;
            }
            continue;
        }
        Tensor *t = &c->tensors[c->n_tensors++];
        memcpy(t->name, e.name, sizeof t->name);
        t->vector = e.kind == SECTION_VECTOR;
        t->bytes = e.bytes;
        t->matrix = (Matrix){(WeightType)e.type, e.rows, e.cols, c->file.data + e.offset};
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

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(Tensor *const *)a)->name, (*(Tensor *const *)b)->name);
}

// Sorts the tensors' names for find_tensor, and refuses two of one name.
static bool sort_names(Checkpoint *c, Error *err)
{
    c->by_name = malloc((c->n_tensors + 1) * sizeof *c->by_name);
    if (!c->by_name) {
        return error_memory(err, "the list of tensors", c->n_tensors * sizeof *c->by_name);
    }
    for (size_t i = 0; i < c->n_tensors; i++) {
        c->by_name[i] = &c->tensors[i];
    }
    qsort(c->by_name, c->n_tensors, sizeof *c->by_name, compare_names);
    for (size_t i = 1; i < c->n_tensors; i++) {
        if (strcmp(c->by_name[i - 1]->name, c->by_name[i]->name) == 0) {
            return error_set(err, ERROR_INPUT, "%s: there are two sections %s", c->path,
                             c->by_name[i]->name);
        }
    }
    return true;
}

bool checkpoint_open(Checkpoint *c, const char *path, size_t threads, Error *err)
{
    Mapping file;
    if (!mapping_open(&file, path, err)) {
        *c = (Checkpoint){.path = path};
        return false;
    }
    return checkpoint_open_mapping(c, path, file, threads, err);
}

bool checkpoint_open_mapping(Checkpoint *c, const char *path, Mapping file, size_t threads,
                             Error *err)
{
    *c = (Checkpoint){.path = path, .file = file};
    size_t n_sections, alike = 0;
    for (size_t i = 0; i < sizeof magic && i < c->file.size; i++) {
        alike += c->file.data[i] == magic[i];
    }
    bool ok;
    if (alike == sizeof magic) {
        ok = read_header(c, &n_sections, err) && read_table(c, n_sections, err);
    } else if (alike == sizeof magic - 1) {
        ok = error_set(err, ERROR_INPUT,
                       "%s: the header is damaged: its magic has one byte that differs", path);
    } else if (c->file.size >= 4 && memcmp(c->file.data, "GGUF", 4) == 0) {
        ok = error_set(err, ERROR_INPUT,
                       "%s: is a GGUF file; scripts/convert.py makes a checkpoint of it", path);
    } else {
        ok = llama2c_open(c, threads, err);
    }
    ok = ok && sort_names(c, err);
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

// By halving: a file may have tens of thousands of tensors, in any order.
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
        return (uint64_t)u32_at(c->file.data + 32) << 32 | (uint32_t)c->file.size;
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

typedef struct {
    const Checkpoint *c;
    size_t n_sections;
    Crc32 tables;
    uint8_t *damaged;  // (n_sections): 1 the section, 2 the zeros before it
} Verification;

static void verify_sections(Team team, void *arg)
{
    Verification *v = arg;
    const uint8_t *file = v->c->file.data;
    for (size_t i = team.id; i < v->n_sections; i += team.size) {
        const Entry e = entry_at(v->c, i);
        size_t end = HEADER_BYTES + v->n_sections * ENTRY_BYTES;
        if (i) {
            const Entry before = entry_at(v->c, i - 1);
            end = before.offset + before.bytes;
        }
        if (!all_zero(file + end, e.offset - end)) {
            v->damaged[i] = 2;
        } else if (crc32_update(&v->tables, 0, file + e.offset, e.bytes) != e.crc) {
            v->damaged[i] = 1;
        }
    }
}

bool checkpoint_verify(const Checkpoint *c, size_t threads, Error *err)
{
    if (c->repacked) {
        return error_set(err, ERROR_INPUT,
                         "%s: a llama2.c checkpoint has no checksums; scripts/convert.py makes a "
                         "checkpoint that does",
                         c->path);
    }
    Verification v = {.c = c, .n_sections = u32_at(c->file.data + 12)};
    crc32_init(&v.tables);
    v.damaged = calloc(v.n_sections, 1);
    if (!v.damaged) {
        return error_memory(err, "the list of sections", v.n_sections);
    }
    team_run(threads, verify_sections, &v);
    bool ok = true;
    for (size_t i = 0; ok && i < v.n_sections; i++) {
        if (v.damaged[i]) {
            const Entry e = entry_at(c, i);
            ok = error_set(err, ERROR_INPUT, "%s: %s section %s is damaged: %s", c->path,
                           v.damaged[i] == 1 ? "the" : "the padding before", e.name,
                           v.damaged[i] == 1 ? "its checksum differs" : "it is not zeros");
        }
    }
    free(v.damaged);
    return ok;
}
