// llama2c.c - llama2.c's checkpoints: checked to the byte, then repacked into the lanes of the
// kernels.
//
//     v0   7 int32: dim hidden_dim n_layers n_heads n_kv_heads vocab_size seq_len, then f32:
//          embedding | attn_norm* | q* | k* | v* | o* | mlp_norm* | gate* | down* | up* | norm | 2
//          tables | [head]
//     v1   256 bytes: "24ka", 1, the 7 int32, u8 tied; then f32:
//          attn_norm* | mlp_norm* | norm | embedding | q* | k* | v* | o* | gate* | down* | up* |
//          [head]
//     v2   as v1 with version 2 and an int32 group size after the u8; each matrix as int8, followed
//     by an f32 scale for
//          each group of that many values, counted through the flattened matrix: groups may
//          straddle rows
//
// A * stands for all layers, one after the other. A source of every tensor is listed first, which
// gives the size that the file must have; only then is anything read. llama2.c rotates neighbouring
// values (2i, 2i + 1) of a head, the kernels rotate (i, i + head_dim / 2): the rows of q and k are
// reordered on the way.
#include "formats/llama2c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/files.h"
#include "base/memory.h"
#include "base/threads.h"

#define LLAMA2C_MAGIC  0x616b3432u
#define LLAMA2C_HEADER 256
#define LLAMA2C_FIELDS 7

// Where the values of a tensor stand in the file.
typedef struct {
    size_t offset;
    size_t scales;  // offset of the scales (v2 matrices)
    bool rotated;   // rows to be reordered
    size_t place;   // offset of the copy in the checkpoint's memory
} Source;

typedef struct {
    Checkpoint *c;
    Source *sources;    // (n_tensors)
    size_t group_size;  // of v2, else 0
    size_t end;         // offset of the first byte not yet assigned
    float *rows;        // (threads, longest row): v2 rows, widened
    size_t row_stride;
    Error *err;
} Loader;

static int32_t int32_at(const uint8_t *p)
{
    uint32_t v = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    return (int32_t)v;
}

static bool check_field(const Checkpoint *c, const char *field, int32_t value, int32_t max,
                        Error *err)
{
    if (value < 1 || value > max) {
        return error_set(err, ERROR_INPUT, "%s: %s is %d, expected 1 to %d", c->path, field, value,
                         max);
    }
    return true;
}

// Fills the config from the 7 integers. The limits keep every later product of two fields within 64
// bits.
static bool read_config(Checkpoint *c, const uint8_t *fields, bool v0, Error *err)
{
    static const struct {
        const char *name;
        int32_t max;
    } limits[LLAMA2C_FIELDS] = {{"dim", 1 << 20},        {"hidden_dim", 1 << 22},
                                {"n_layers", 1 << 12},   {"n_heads", 1 << 12},
                                {"n_kv_heads", 1 << 12}, {"vocab_size", 1 << 24},
                                {"seq_len", 1 << 20}};
    int32_t v[LLAMA2C_FIELDS];
    bool untied = false;
    for (size_t i = 0; i < LLAMA2C_FIELDS; i++) {
        v[i] = int32_at(fields + 4 * i);
        if (v0 && i == 5 && v[i] < 0 && v[i] > INT32_MIN) {
            untied = true;
            v[i] = -v[i];
        }
        if (!check_field(c, limits[i].name, v[i], limits[i].max, err)) {
            const Error why = *err;
            return v0 ? error_set(err, why.kind, "%s (without a magic: taken for llama2.c's)",
                                  why.message)
                      : false;
        }
    }
    if (v[0] % v[3] != 0 || v[0] / v[3] % 2 != 0) {
        return error_set(err, ERROR_INPUT,
                         "%s: dim is %d, expected an even multiple of n_heads, %d", c->path, v[0],
                         v[3]);
    }
    if (v[3] % v[4] != 0) {
        return error_set(err, ERROR_INPUT,
                         "%s: n_kv_heads is %d, expected a divisor of n_heads, %d", c->path, v[4],
                         v[3]);
    }
    c->config = (Config){.dim = (size_t)v[0],
                         .hidden_dim = (size_t)v[1],
                         .n_layers = (size_t)v[2],
                         .n_heads = (size_t)v[3],
                         .n_kv_heads = (size_t)v[4],
                         .head_dim = (size_t)(v[0] / v[3]),
                         .vocab_size = (size_t)v[5],
                         .context_length = (size_t)v[6],
                         .rope_theta = 10000.0,
                         .norm_eps = 1e-5f,
                         .tied_head = !untied};
    return true;
}

// Assigns the next bytes of the file to `rows` x `cols` values of `value_bytes`.
static bool take(Loader *l, size_t rows, size_t cols, size_t value_bytes, size_t *offset)
{
    size_t bytes;
    *offset = l->end;
    return size_mul(rows, cols, &bytes) && size_mul(bytes, value_bytes, &bytes) &&
           size_add(l->end, bytes, &l->end);
}

// Lists a tensor and assigns its bytes. A layer of -1 is outside the blocks.
static bool add_tensor(Loader *l, int layer, const char *name, bool vector, size_t rows,
                       size_t cols)
{
    Checkpoint *c = l->c;
    Tensor *t = &c->tensors[c->n_tensors];
    Source *s = &l->sources[c->n_tensors];
    if (layer < 0) {
        snprintf(t->name, sizeof t->name, "%s", name);
    } else {
        snprintf(t->name, sizeof t->name, "blocks.%d.%s", layer, name);
    }
    t->vector = vector;
    t->matrix = (Matrix){.type = WEIGHT_F32, .rows = rows, .cols = cols};
    s->rotated = strcmp(name, "attn.q_proj") == 0 || strcmp(name, "attn.k_proj") == 0;
    bool ok;
    if (vector || !l->group_size) {
        ok = take(l, rows, cols, sizeof(float), &s->offset);
    } else {
        if (rows * cols % l->group_size != 0) {
            return error_set(l->err, ERROR_INPUT,
                             "%s: group_size is %zu, expected a divisor of the %zu values of %s",
                             c->path, l->group_size, rows * cols, t->name);
        }
        ok = take(l, rows, cols, 1, &s->offset) &&
             take(l, rows * cols / l->group_size, 1, sizeof(float), &s->scales);
    }
    if (!ok) {
        return error_set(l->err, ERROR_INPUT, "%s: %s of %zu x %zu values is larger than any file",
                         c->path, t->name, rows, cols);
    }
    c->n_tensors++;
    return true;
}

static bool add_layers(Loader *l, const char *name, bool vector, size_t rows, size_t cols)
{
    for (size_t layer = 0; layer < l->c->config.n_layers; layer++) {
        if (!add_tensor(l, (int)layer, name, vector, rows, cols)) {
            return false;
        }
    }
    return true;
}

// Lists all tensors in the order of the file.
static bool list_tensors(Loader *l, bool v0)
{
    const Config *p = &l->c->config;
    size_t q_dim = p->n_heads * p->head_dim, kv_dim = p->n_kv_heads * p->head_dim, tables;
    bool ok = v0 ? add_tensor(l, -1, "embedding", false, p->vocab_size, p->dim) &&
                       add_layers(l, "attn_norm", true, 1, p->dim)
                 : add_layers(l, "attn_norm", true, 1, p->dim) &&
                       add_layers(l, "mlp_norm", true, 1, p->dim) &&
                       add_tensor(l, -1, "norm", true, 1, p->dim) &&
                       add_tensor(l, -1, "embedding", false, p->vocab_size, p->dim);
    ok = ok && add_layers(l, "attn.q_proj", false, q_dim, p->dim) &&
         add_layers(l, "attn.k_proj", false, kv_dim, p->dim) &&
         add_layers(l, "attn.v_proj", false, kv_dim, p->dim) &&
         add_layers(l, "attn.o_proj", false, p->dim, q_dim) &&
         (!v0 || add_layers(l, "mlp_norm", true, 1, p->dim)) &&
         add_layers(l, "mlp.gate_proj", false, p->hidden_dim, p->dim) &&
         add_layers(l, "mlp.down_proj", false, p->dim, p->hidden_dim) &&
         add_layers(l, "mlp.up_proj", false, p->hidden_dim, p->dim);
    if (ok && v0) {  // the tables of RoPE are stored too, but made anew by the cache
        ok = add_tensor(l, -1, "norm", true, 1, p->dim) &&
             take(l, p->context_length, p->head_dim / 2 * 2, sizeof(float), &tables);
    }
    return ok && (p->tied_head || add_tensor(l, -1, "head", false, p->vocab_size, p->dim));
}

// Copies this thread's share of every tensor into the lanes.
static void repack(Team team, void *arg)
{
    const Loader *l = arg;
    const Checkpoint *c = l->c;
    const uint8_t *file = c->file.data;
    size_t half = c->config.head_dim / 2;
    float *row = l->rows + team.id * l->row_stride;
    for (size_t i = 0; i < c->n_tensors; i++) {
        const Matrix *m = &c->tensors[i].matrix;
        const Source *s = &l->sources[i];
        float *data = (float *)(void *)((char *)c->memory + s->place);
        if (c->tensors[i].vector) {
            if (team.id == 0) {
                memcpy(data, file + s->offset, m->cols * sizeof(float));
            }
            continue;
        }
        size_t begin, end;
        matmul_split(team, m, &begin, &end);
        for (size_t r = begin; r < end && r < m->rows; r++) {
            size_t from = r, in_head = r % c->config.head_dim;
            if (s->rotated) {
                from = r - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
            }
            if (l->group_size) {
                const int8_t *q = (const int8_t *)file + s->offset + from * m->cols;
                for (size_t col = 0; col < m->cols; col++) {
                    float scale;
                    memcpy(&scale,
                           file + s->scales + (from * m->cols + col) / l->group_size * sizeof scale,
                           sizeof scale);
                    row[col] = (float)q[col] * scale;
                }
            } else {
                memcpy(row, file + s->offset + from * m->cols * sizeof(float),
                       m->cols * sizeof(float));
            }
            matrix_set_row(data, m->cols, r, row);
        }
    }
}

// Gives each tensor its place in one block of memory and fills it.
static bool load_tensors(Loader *l, size_t threads, Error *err)
{
    Checkpoint *c = l->c;
    size_t total = 0, longest = 0;
    for (int pass = 0; pass < 2; pass++) {  // first the sizes, then the places
        total = 0;
        for (size_t i = 0; i < c->n_tensors; i++) {
            Matrix *m = &c->tensors[i].matrix;
            size_t bytes = round_up(m->cols, LANES) * sizeof(float);
            if (!c->tensors[i].vector && !matrix_bytes(m->type, m->rows, m->cols, &bytes)) {
                return error_memory(err, c->tensors[i].name, SIZE_MAX);
            }
            m->data = pass ? (char *)c->memory + total : NULL;
            c->tensors[i].bytes = bytes;
            l->sources[i].place = total;
            longest = m->cols > longest ? m->cols : longest;
            if (!size_add(total, round_up(bytes, 64), &total)) {
                return error_memory(err, "weights", SIZE_MAX);
            }
        }
        if (pass == 0) {
            c->memory = memory_map(total);
            c->memory_bytes = total;
            if (!c->memory) {
                return error_memory(err, "repacked weights", total);
            }
        }
    }
    l->row_stride = round_up(longest, LANES);
    l->rows = alloc_zeroed(threads, l->row_stride * sizeof(float));
    if (!l->rows) {
        return error_memory(err, "rows to repack", threads * l->row_stride * sizeof(float));
    }
    team_run(threads, repack, l);
    return true;
}

bool llama2c_open(Checkpoint *c, size_t threads, Error *err)
{
    Loader l = {.c = c, .err = err};
    c->repacked = true;
    bool ok = false;
    const uint8_t *fields = c->file.data;
    bool v0 = c->file.size < 4 || (uint32_t)int32_at(fields) != LLAMA2C_MAGIC;
    size_t header = v0 ? 4 * LLAMA2C_FIELDS : LLAMA2C_HEADER;
    if (c->file.size < header) {
        error_set(err, ERROR_INPUT, "%s: the file has %zu bytes, the header alone needs %zu",
                  c->path, c->file.size, header);
        goto done;
    }
    int32_t version = v0 ? 0 : int32_at(fields + 4);
    if (version < 0 || version > 2 || (!v0 && version == 0)) {
        error_set(err, ERROR_INPUT, "%s: version is %d, expected 1 or 2", c->path, version);
        goto done;
    }
    if (!read_config(c, v0 ? fields : fields + 8, v0, err)) {
        goto done;
    }
    if (!v0) {
        uint8_t tied = fields[8 + 4 * LLAMA2C_FIELDS];
        if (tied > 1) {
            error_set(err, ERROR_INPUT, "%s: shared_classifier is %d, expected 0 or 1", c->path,
                      tied);
            goto done;
        }
        c->config.tied_head = tied;
    }
    if (version == 2) {
        int32_t group_size = int32_at(fields + 8 + 4 * LLAMA2C_FIELDS + 1);
        if (!check_field(c, "group_size", group_size, 1 << 20, err)) {
            goto done;
        }
        l.group_size = (size_t)group_size;
    }
    l.end = header;
    size_t most = 9 * c->config.n_layers + 3;
    c->tensors = calloc(most, sizeof *c->tensors);
    l.sources = calloc(most, sizeof *l.sources);
    if (!c->tensors || !l.sources) {
        error_memory(err, "the list of tensors", most * sizeof *c->tensors);
        goto done;
    }
    if (!list_tensors(&l, v0)) {
        goto done;
    }
    if (l.end != c->file.size) {
        error_set(err, ERROR_INPUT,
                  "%s: the file has %zu bytes, expected %zu for dim %zu, hidden_dim %zu, n_layers "
                  "%zu, n_heads %zu, "
                  "n_kv_heads %zu, vocab_size %zu, seq_len %zu",
                  c->path, c->file.size, l.end, c->config.dim, c->config.hidden_dim,
                  c->config.n_layers, c->config.n_heads, c->config.n_kv_heads, c->config.vocab_size,
                  c->config.context_length);
        goto done;
    }
    ok = load_tensors(&l, threads, err);
done:
    free(l.sources);
    free(l.rows);
    mapping_close(&c->file);  // all that was wanted of it is copied
    return ok;
}
