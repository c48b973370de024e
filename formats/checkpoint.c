// checkpoint.c - the native checkpoint: one flat file that is mapped and read in place.
//
//     0        64                       multiples of 64 (matrices: 4096)             file_bytes
//     +--------+------------------------+---------+-------+---------+-------+-- - - --+
//     | header | table: an entry for    | config  | zeros | section | zeros |   ...   |
//     | 64     | each section, 96 bytes |         |       |         |       |         |
//     +--------+------------------------+---------+-------+---------+-------+-- - - --+
//
// docs/format.md defines every byte. Nothing in the file is trusted. Header and table share one
// checksum, and the config is compared with its own; every field is compared with its range, every
// section with its shape, its alignment and the end of the section before it, and the end of the
// last section with the length of the file. Once a checkpoint is open, a matrix of known rows and
// columns can be read without further checks.
//
// Header and table are read through structs with the layout of the file (native.h).
#include "formats/checkpoint.h"

#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/memory.h"
#include "base/threads.h"
#include "formats/gguf_model.h"
#include "formats/llama2c.h"
#include "formats/native.h"
#include "formats/pack.h"
#include "formats/row_major.h"

#define MAX_SECTIONS     65536
#define MAX_CONFIG_BYTES (1 << 20)  // its checksum is compared whenever a file is opened

static const NativeHeader *header_of(const Checkpoint *c)
{
    return (const NativeHeader *)(const void *)c->file.data;
}

static const SectionEntry *table_of(const Checkpoint *c)
{
    return (const SectionEntry *)(const void *)(c->file.data + sizeof(NativeHeader));
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

static bool check_version(const Checkpoint *c, uint32_t version, Error *err)
{
    if (version > 0 && version < NATIVE_VERSION) {
        return error_set(err, ERROR_INPUT,
                         "%s: version is %u, expected %d: convert the original model again",
                         c->path, (unsigned)version, NATIVE_VERSION);
    }
    return check_integer(c, "version", version, NATIVE_VERSION, NATIVE_VERSION, err);
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
    if (!check_version(c, h->version, err) ||
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
    return true;
}

// --------------------------------------------------------------------------------------------
// Table

static bool is_matrix(const SectionEntry *e)
{
    return e->kind == SECTION_MATRIX || e->kind == SECTION_ROWS;
}

static bool check_weight_type(const Checkpoint *c, const SectionEntry *e, Error *err)
{
    const uint32_t max_type = is_matrix(e) ? N_WEIGHT_TYPES - 1 : 0;
    if (e->type > max_type) {
        return error_set(err, ERROR_INPUT, "%s: the type of section %s is %u, expected 0 to %u",
                         c->path, e->name, (unsigned)e->type, (unsigned)max_type);
    }
    return e->kind != SECTION_ROWS || row_format_is_plain(row_format_of((WeightType)e->type)) ||
           error_set(err, ERROR_INPUT,
                     "%s: the type of section %s, a matrix row by row, is %s, expected f32, f16 or "
                     "bf16",
                     c->path, e->name, weight_types[e->type].name);
}

// Checks what an entry says about itself: name, kind and type.
static bool check_description(const Checkpoint *c, size_t i, const SectionEntry *e, Error *err)
{
    if (!is_padded_name(e->name, sizeof e->name)) {
        return error_set(err, ERROR_INPUT,
                         "%s: the name of section %zu is not 1 to 47 characters followed by zeros",
                         c->path, i);
    }
    if (e->kind >= N_SECTION_KINDS) {
        return error_set(err, ERROR_INPUT, "%s: the kind of section %s is %u, expected 0 to %d",
                         c->path, e->name, (unsigned)e->kind, N_SECTION_KINDS - 1);
    }
    if (!check_weight_type(c, e, err)) {
        return false;
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
    size_t bytes = e->bytes, packed;
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
    case SECTION_ROWS:
        shaped = e->rows && e->cols && matrix_bytes((WeightType)e->type, e->rows, e->cols, &packed);
        if (!row_major_bytes((WeightType)e->type, e->rows, e->cols, &bytes)) {
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
    const size_t alignment = is_matrix(e) ? MATRIX_ALIGNMENT : SECTION_ALIGNMENT;
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
    } known[] = {{"config", &c->config_section},
                 {"tokenizer", &c->tokenizer},
                 {"chat", &c->chat},
                 {"provenance", &c->provenance}};
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
    if (e->kind == SECTION_ROWS) {
        t->rows = t->matrix.data;
        t->matrix.data = NULL;
        matrix_bytes(t->matrix.type, e->rows, e->cols, &t->bytes);  // check_bytes: no overflow
    }
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

// Reads the first section, the config, whose checksum is compared first: everything else relies on
// its values.
static bool read_config(Checkpoint *c, Error *err)
{
    const SectionEntry *e = table_of(c);
    const Bytes section = c->config_section;
    if (strcmp(e->name, "config") != 0) {
        return error_set(err, ERROR_INPUT, "%s: the first section is %s, expected config", c->path,
                         e->name);
    }
    if (section.size > MAX_CONFIG_BYTES) {
        return error_set(err, ERROR_INPUT, "%s: section config has %zu bytes, expected at most %d",
                         c->path, section.size, MAX_CONFIG_BYTES);
    }
    Crc32 tables;
    crc32_init(&tables);
    if (crc32_update(&tables, 0, section.data, section.size) != e->crc) {
        return error_set(err, ERROR_INPUT, "%s: section config is damaged: its checksum differs",
                         c->path);
    }
    return config_read(&c->config, &c->sampling, c->path, section.data, section.size, err);
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
    if (is_directory(path)) {
        *c = (Checkpoint){.path = path};
        return error_set(err, ERROR_INPUT,
                         "%s: is a directory; one with a Hugging Face model is converted by "
                         "scripts/convert.py %s model.bin",
                         path, path);
    }
    if (!mapping_open(&file, path, err)) {
        *c = (Checkpoint){.path = path};
        return false;
    }
    return checkpoint_open_mapping(c, path, file, threads, err);
}

static bool begins_with(const Checkpoint *c, const char *start, size_t size)
{
    return c->file.size >= size && memcmp(c->file.data, start, size) == 0;
}

// A safetensors file begins with the length of its header, 8 bytes, and the header, which is JSON.
// As a llama2.c checkpoint it would have a hidden_dim of 0.
static bool is_safetensors(const Checkpoint *c)
{
    return c->file.size > 8 && memcmp(c->file.data + 4, "\0\0\0\0{", 5) == 0;
}

// Refuses files that people have and that are no checkpoints, by what they are: read as a llama2.c
// file, which has no magic number, they would give an error about a field that they do not have.
static bool check_kind(const Checkpoint *c, Error *err)
{
    static const char pointer[] = "version https://git-lfs.github.com/spec/";
    const char *path = c->path, *slash = strrchr(path, '/');
    const int folder_size = slash && slash > path ? (int)(slash - path) : 1;
    const char *folder = slash ? path : ".";
    if (begins_with(c, pointer, sizeof pointer - 1)) {
        return error_set(err, ERROR_INPUT,
                         "%s: is a Git LFS pointer, not the file itself; git lfs pull in its "
                         "folder fetches it",
                         path);
    }
    if (is_safetensors(c)) {
        return error_set(err, ERROR_INPUT,
                         "%s: is a safetensors file, one of a Hugging Face model; its folder is "
                         "converted by scripts/convert.py %.*s model.bin",
                         path, folder_size, folder);
    }
    if (begins_with(c, "PK\3\4", 4)) {
        return error_set(err, ERROR_INPUT,
                         "%s: is a zip archive, as PyTorch writes weights; it can contain code and "
                         "is not read: expected a model with safetensors files, whose folder "
                         "scripts/convert.py converts",
                         path);
    }
    return true;
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
    *c = (Checkpoint){.path = path, .file = file, .file_bytes = file.size};
    const size_t matches = magic_matches(c);
    bool ok;
    if (matches == sizeof native_magic) {
        ok = read_header(c, err) && read_table(c, err) && read_config(c, err);
    } else if (matches == sizeof native_magic - 1) {
        // Read as a file of llama2.c it would give an error about a field that it does not have.
        ok = error_set(err, ERROR_INPUT, "%s: the header is damaged: one byte of its magic differs",
                       path);
    } else if (begins_with(c, "GGUF", 4)) {
        ok = gguf_model_open(c, err);
    } else {
        ok = check_kind(c, err) && llama2c_open(c, threads, err);
    }
    ok = ok && sort_tensors(c, err);
    if (!ok) {
        checkpoint_close(c);
    }
    return ok;
}

void checkpoint_close(Checkpoint *c)
{
    gguf_model_close(c->gguf);
    mapping_close(&c->file);
    memory_unmap(c->memory, c->memory_bytes);
    free(c->tensors);
    free(c->by_name);
    *c = (Checkpoint){0};
}

size_t checkpoint_n_files(const Checkpoint *c) { return c->gguf ? gguf_model_n_files(c->gguf) : 1; }

const char *checkpoint_file(const Checkpoint *c, size_t i, const Mapping **file)
{
    *file = &c->file;
    return i == 0 ? c->path : gguf_model_file(c->gguf, i, file);
}

// --------------------------------------------------------------------------------------------
// Tensors that are repacked

bool size_tensors(Checkpoint *c, Error *err)
{
    for (size_t i = 0; i < c->n_tensors; i++) {
        Tensor *t = &c->tensors[i];
        const Matrix *m = &t->matrix;
        t->bytes = round_up(m->cols * sizeof(float), SECTION_ALIGNMENT);
        if (!t->vector && !matrix_bytes(m->type, m->rows, m->cols, &t->bytes)) {
            return error_memory(err, t->name, SIZE_MAX);
        }
    }
    return true;
}

bool allocate_tensors(Checkpoint *c, Error *err)
{
    size_t total = 0;
    for (size_t i = 0; i < c->n_tensors; i++) {
        const size_t bytes = c->tensors[i].matrix.data ? 0 : c->tensors[i].bytes;
        if (bytes > SIZE_MAX / 2 || !size_add(total, round_up(bytes, SECTION_ALIGNMENT), &total)) {
            return error_memory(err, "weights", SIZE_MAX);
        }
    }
    c->memory = memory_map(total);
    c->memory_bytes = total;
    if (!c->memory) {
        return error_memory(err, "repacked weights", total);
    }
    char *place = c->memory;
    for (size_t i = 0; i < c->n_tensors; i++) {
        Tensor *t = &c->tensors[i];
        if (!t->matrix.data) {
            t->matrix.data = place;
            place += round_up(t->bytes, SECTION_ALIGNMENT);
        }
    }
    return true;
}

const Tensor *checkpoint_row_major(const Checkpoint *c)
{
    size_t i = 0;
    while (i < c->n_tensors && !c->tensors[i].rows) {
        i++;
    }
    return i < c->n_tensors ? &c->tensors[i] : NULL;
}

// Does a tensor wait for being repacked, or was it?
static bool is_repacked(const Checkpoint *c, size_t i) { return c->gguf || c->tensors[i].rows; }

static bool repack_tensor(const Checkpoint *c, size_t i, void *out, size_t threads, Error *err)
{
    return c->gguf ? gguf_model_repack(c, i, out, threads, err)
                   : row_major_repack(c, i, out, threads, err);
}

typedef struct {
    Checkpoint *c;
    size_t threads;
    const Progress *progress;
    Error *err;
    bool ok;
} Loading;

static void repack_tensors(void *arg)
{
    Loading *l = arg;
    const Checkpoint *c = l->c;
    l->ok = true;
    for (size_t i = 0, done = 0; i < c->n_tensors && l->ok; i++) {
        progress_report(l->progress, done, c->memory_bytes);
        if (is_repacked(c, i)) {
            l->ok = repack_tensor(c, i, (void *)c->tensors[i].matrix.data, l->threads, l->err);
            done += c->tensors[i].bytes;
        }
    }
}

bool checkpoint_load(Checkpoint *c, size_t threads, const Progress *progress, Error *err)
{
    const bool waits = c->gguf || checkpoint_row_major(c);
    if (!waits || c->memory || c->config.vocab_only) {
        return true;
    }
    if (!allocate_tensors(c, err)) {
        return false;
    }
    // One team for all tensors: between two teams, OpenMP's threads would spin.
    Loading l = {.c = c, .threads = threads, .progress = progress, .err = err};
    team_host(threads, false, repack_tensors, &l);
    if (l.ok) {
        progress_report(progress, c->memory_bytes, c->memory_bytes);
    }
    return l.ok;
}

size_t checkpoint_substitutes(const Checkpoint *c, Substitute list[MAX_SUBSTITUTES])
{
    return c->gguf ? gguf_model_substitutes(c, list) : 0;
}

const void *checkpoint_data(const Checkpoint *c, size_t i, void *buffer, size_t threads, Error *err)
{
    const void *data = c->tensors[i].matrix.data;
    return data ? data : repack_tensor(c, i, buffer, threads, err) ? buffer : NULL;
}

// --------------------------------------------------------------------------------------------
// Views

// Binary search: a file may have tens of thousands of tensors, in any order.
const Tensor *checkpoint_tensor(const Checkpoint *c, const char *name, Error *err)
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
    const Tensor *t = checkpoint_tensor(c, name, err);
    if (!t || !check_shape(c, t, false, rows, cols, err)) {
        return false;
    }
    *out = t->matrix;
    return true;
}

bool checkpoint_vector(const Checkpoint *c, const char *name, size_t n, const float **out,
                       Error *err)
{
    const Tensor *t = checkpoint_tensor(c, name, err);
    if (!t || !check_shape(c, t, true, 1, n, err)) {
        return false;
    }
    *out = t->matrix.data;
    return true;
}

bool checkpoint_fingerprint(const Checkpoint *c, uint64_t *fingerprint, Error *err)
{
    if (c->kind == CHECKPOINT_NATIVE) {
        *fingerprint = (uint64_t)header_of(c)->header_crc << 32 | (uint32_t)c->file.size;
        return true;
    }
    // The whole config: two GGUF files may have the same weights, but another base of RoPE.
    Crc32 tables;
    Buffer config = {0};
    crc32_init(&tables);
    config_write(&c->config, &(Sampling){0}, &config);
    if (!buffer_check(&config, err)) {
        buffer_free(&config);
        return false;
    }
    const uint32_t crc = crc32_update(&tables, 0, (const uint8_t *)config.data, config.size);
    *fingerprint = (uint64_t)crc32_update(&tables, crc, c->memory, c->memory_bytes) << 32 |
                   (uint32_t)c->memory_bytes;
    buffer_free(&config);
    return true;
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

// Checks a section and the padding before it.
static Damage verify_section(const Verification *v, size_t i)
{
    const uint8_t *file = v->c->file.data;
    const SectionEntry *e = &table_of(v->c)[i];
    const size_t end = i ? e[-1].offset + e[-1].bytes
                         : sizeof(NativeHeader) + v->n_sections * sizeof(SectionEntry);
    if (!all_zero(file + end, e->offset - end)) {
        return PADDING_NOT_ZERO;
    }
    return crc32_update(&v->tables, 0, file + e->offset, e->bytes) == e->crc ? SECTION_INTACT
                                                                             : SECTION_DIFFERS;
}

static void verify_sections(Team team, void *arg)
{
    Verification *v = arg;
    TeamStep step = team_step(team, v->n_sections);
    while (team_claim(&step)) {
        for (size_t i = step.begin; i < step.end; i++) {
            v->damage[i] = (uint8_t)verify_section(v, i);
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
