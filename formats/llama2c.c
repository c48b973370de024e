// llama2c.c - llama2.c's checkpoints: checked to the byte, then repacked into the kernels' layout.
//
//     v0   7 x int32: dim hidden_dim n_layers n_heads n_kv_heads vocab_size seq_len, then f32:
//          embedding | attn_norm* | q* | k* | v* | o* | mlp_norm* | gate* | down* | up* | norm |
//          RoPE tables | [lm_head]
//     v1   256 bytes: "24ka", version, the 7 x int32, u8 shared_classifier, zeros; then f32:
//          attn_norm* | mlp_norm* | norm | embedding | q* | k* | v* | o* | gate* | down* | up* |
//          [lm_head]
//     v2   as v1, with an int32 group_size after the u8. A matrix is int8 values, followed by an
//          f32 scale for each group of group_size values. Groups are counted through the flattened
//          matrix, so they may straddle rows.
//
// * stands for one tensor per layer, all layers in a row; [ ] is absent when the embedding serves
// as lm_head too.
//
// First the sources of all tensors are listed, which gives the size the file must have; only then
// are weights read. RoPE rotates neighbouring values (2i, 2i + 1) of a head in llama2.c, and values
// (i, i + head_dim / 2) in our kernels: the rows of q and k are reordered while they are copied.
#include "formats/llama2c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/files.h"
#include "base/memory.h"
#include "base/threads.h"
#include "formats/pack.h"

#define LLAMA2C_MAGIC 0x616b3432u

// The header of v0, and the sizes in that of v1 and v2.
typedef struct {
    int32_t dim, hidden_dim, n_layers, n_heads, n_kv_heads;
    int32_t vocab_size;  // v0: negative if there is a separate lm_head
    int32_t seq_len;
} Llama2cSizes;
_Static_assert(sizeof(Llama2cSizes) == 28, "llama2.c's Config");

// The header of v1 and v2.
typedef struct {
    uint32_t magic;
    int32_t version;
    Llama2cSizes sizes;
    uint8_t shared_classifier;  // 1: the embedding serves as lm_head too
    uint8_t group_size[4];      // v2: an int32, not aligned
    uint8_t unused[215];
} Llama2cHeader;
_Static_assert(offsetof(Llama2cHeader, sizes) == 8, "llama2.c's export.py");
_Static_assert(offsetof(Llama2cHeader, shared_classifier) == 36, "llama2.c's export.py");
_Static_assert(offsetof(Llama2cHeader, group_size) == 37, "llama2.c's export.py");
_Static_assert(sizeof(Llama2cHeader) == 256, "llama2.c's export.py");

// Where the values of a tensor are in the file.
typedef struct {
    size_t offset;  // of the values
    size_t scales;  // offset of the scales; matrices of v2 only
    bool rotated;   // the rows of each head are reordered
} Source;

typedef struct {
    Checkpoint *c;
    int version;        // 0, 1 or 2
    size_t group_size;  // of v2, else 0
    size_t end;         // offset of the first byte of the file that no tensor has
    Source *sources;    // (n_tensors), owned
    float *rows;        // (threads, LANES, row_stride): rows of the file, widened to f32; owned
    size_t row_stride;  // length of the longest row, rounded up to whole cache lines
} Loader;

// --------------------------------------------------------------------------------------------
// Header

static bool check_size(const Checkpoint *c, const char *field, int32_t found, int32_t max,
                       Error *err)
{
    if (found < 1 || found > max) {
        return error_set(err, ERROR_INPUT, "%s: %s is %d, expected 1 to %d", c->path, field, found,
                         max);
    }
    return true;
}

// The limits keep every later product of two sizes within 64 bits.
static bool check_sizes(const Checkpoint *c, const Llama2cSizes *s, Error *err)
{
    const struct {
        const char *name;
        int32_t found, max;
    } sizes[] = {
        {"dim", s->dim, 1 << 20},
        {"hidden_dim", s->hidden_dim, 1 << 22},
        {"n_layers", s->n_layers, 1 << 12},
        {"n_heads", s->n_heads, 1 << 12},
        {"n_kv_heads", s->n_kv_heads, 1 << 12},
        {"vocab_size", s->vocab_size, 1 << 24},
        {"seq_len", s->seq_len, 1 << 20},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (!check_size(c, sizes[i].name, sizes[i].found, sizes[i].max, err)) {
            return false;
        }
    }
    return true;
}

static bool fill_config(Checkpoint *c, const Llama2cSizes *s, bool tied_head, Error *err)
{
    if (s->dim % s->n_heads != 0 || s->dim / s->n_heads % 2 != 0) {
        return error_set(err, ERROR_INPUT,
                         "%s: dim is %d, expected an even multiple of n_heads, %d", c->path, s->dim,
                         s->n_heads);
    }
    if (s->n_heads % s->n_kv_heads != 0) {
        return error_set(err, ERROR_INPUT,
                         "%s: n_kv_heads is %d, expected a divisor of n_heads, %d", c->path,
                         s->n_kv_heads, s->n_heads);
    }
    c->config = (Config){.dim = (size_t)s->dim,
                         .hidden_dim = (size_t)s->hidden_dim,
                         .n_layers = (size_t)s->n_layers,
                         .n_heads = (size_t)s->n_heads,
                         .n_kv_heads = (size_t)s->n_kv_heads,
                         .head_dim = (size_t)(s->dim / s->n_heads),
                         .vocab_size = (size_t)s->vocab_size,
                         .context_length = (size_t)s->seq_len,
                         .rope_theta = 10000.0,
                         .norm_eps = 1e-5,
                         .tied_head = tied_head};
    return true;
}

static bool check_header_size(const Checkpoint *c, size_t header, Error *err)
{
    return c->file.size >= header ||
           error_set(err, ERROR_INPUT, "%s: the file has %zu bytes, the header alone needs %zu",
                     c->path, c->file.size, header);
}

// v0 has no magic number: any file that is nothing else is read as one, and the message says so.
static bool read_llama2c_v0_header(Loader *l, Error *err)
{
    Checkpoint *c = l->c;
    Llama2cSizes s;
    if (!check_header_size(c, sizeof s, err)) {
        return false;
    }
    memcpy(&s, c->file.data, sizeof s);
    l->end = sizeof s;
    const bool untied = s.vocab_size < 0 && s.vocab_size > INT32_MIN;
    s.vocab_size = untied ? -s.vocab_size : s.vocab_size;
    if (!check_sizes(c, &s, err)) {
        const Error why = *err;
        return error_set(err, why.kind, "%s (read as a llama2.c checkpoint: no magic number)",
                         why.message);
    }
    return fill_config(c, &s, !untied, err);
}

static bool read_llama2c_header(Loader *l, Error *err)
{
    Checkpoint *c = l->c;
    uint32_t magic = 0;
    if (c->file.size >= sizeof magic) {
        memcpy(&magic, c->file.data, sizeof magic);
    }
    if (magic != LLAMA2C_MAGIC) {
        return read_llama2c_v0_header(l, err);
    }
    Llama2cHeader h;
    if (!check_header_size(c, sizeof h, err)) {
        return false;
    }
    memcpy(&h, c->file.data, sizeof h);
    l->end = sizeof h;
    if (h.version < 1 || h.version > 2) {
        return error_set(err, ERROR_INPUT, "%s: version is %d, expected 1 or 2", c->path,
                         h.version);
    }
    l->version = h.version;
    if (!check_sizes(c, &h.sizes, err) || !fill_config(c, &h.sizes, h.shared_classifier, err)) {
        return false;
    }
    if (h.shared_classifier > 1) {
        return error_set(err, ERROR_INPUT, "%s: shared_classifier is %d, expected 0 or 1", c->path,
                         h.shared_classifier);
    }
    if (h.version == 2) {
        int32_t group_size;
        memcpy(&group_size, h.group_size, sizeof group_size);
        l->group_size = (size_t)group_size;
        return check_size(c, "group_size", group_size, 1 << 20, err);
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// List of tensors

// What a file consists of; of a part per layer, all layers in a row.
typedef struct {
    const char *name;  // in a native checkpoint, within its block; NULL: skipped
    bool per_layer, vector;
    size_t rows, cols;
} Part;

// Assigns the next bytes of the file to count values of value_bytes each; false on overflow.
static bool take(Loader *l, size_t count, size_t value_bytes, size_t *offset)
{
    size_t bytes;
    *offset = l->end;
    return size_mul(count, value_bytes, &bytes) && size_add(l->end, bytes, &l->end);
}

// Assigns the next bytes of the file to a tensor, and lists it unless it is to be skipped.
static bool add_part(Loader *l, const Part *part, size_t layer, Error *err)
{
    Checkpoint *c = l->c;
    Tensor *t = &c->tensors[c->n_tensors];
    Source *s = &l->sources[c->n_tensors];
    const char *name = part->name ? part->name : "the RoPE tables";
    if (part->per_layer) {
        snprintf(t->name, sizeof t->name, "blocks.%zu.%s", layer, name);
    } else {
        snprintf(t->name, sizeof t->name, "%s", name);
    }
    t->vector = part->vector;
    t->matrix = (Matrix){.type = WEIGHT_F32, .rows = part->rows, .cols = part->cols};
    s->rotated = strcmp(name, "attn.q_proj") == 0 || strcmp(name, "attn.k_proj") == 0;
    size_t count;
    bool ok = size_mul(part->rows, part->cols, &count);
    if (l->group_size && !part->vector) {
        if (ok && count % l->group_size != 0) {
            return error_set(err, ERROR_INPUT,
                             "%s: group_size is %zu, expected a divisor of the %zu values of %s",
                             c->path, l->group_size, count, t->name);
        }
        ok = ok && take(l, count, sizeof(int8_t), &s->offset) &&
             take(l, count / l->group_size, sizeof(float), &s->scales);
    } else {
        ok = ok && take(l, count, sizeof(float), &s->offset);
    }
    if (!ok) {
        return error_set(err, ERROR_INPUT, "%s: %s of %zu x %zu values is larger than any file",
                         c->path, t->name, part->rows, part->cols);
    }
    c->n_tensors += part->name != NULL;
    return true;
}

// Lists all tensors in the order of the file.
static bool list_llama2c_tensors(Loader *l, Error *err)
{
    enum { EMBEDDING, ATTN_NORM, Q, K, V, O, MLP_NORM, GATE, DOWN, UP, NORM, ROPE_TABLES, HEAD };
    static const uint8_t v0_order[] = {EMBEDDING, ATTN_NORM, Q,  K,    V,           O,   MLP_NORM,
                                       GATE,      DOWN,      UP, NORM, ROPE_TABLES, HEAD};
    static const uint8_t v1_order[] = {ATTN_NORM, MLP_NORM, NORM, EMBEDDING, Q,  K,
                                       V,         O,        GATE, DOWN,      UP, HEAD};
    const Config *p = &l->c->config;
    const size_t q_dim = p->n_heads * p->head_dim, kv_dim = p->n_kv_heads * p->head_dim;
    const Part parts[] = {
        [EMBEDDING] = {"embedding", false, false, p->vocab_size, p->dim},
        [ATTN_NORM] = {"attn_norm", true, true, 1, p->dim},
        [Q] = {"attn.q_proj", true, false, q_dim, p->dim},
        [K] = {"attn.k_proj", true, false, kv_dim, p->dim},
        [V] = {"attn.v_proj", true, false, kv_dim, p->dim},
        [O] = {"attn.o_proj", true, false, p->dim, q_dim},
        [MLP_NORM] = {"mlp_norm", true, true, 1, p->dim},
        [GATE] = {"mlp.gate_proj", true, false, p->hidden_dim, p->dim},
        [DOWN] = {"mlp.down_proj", true, false, p->dim, p->hidden_dim},
        [UP] = {"mlp.up_proj", true, false, p->hidden_dim, p->dim},
        [NORM] = {"norm", false, true, 1, p->dim},
        // Sines and cosines of every position: the cache computes its own.
        [ROPE_TABLES] = {NULL, false, false, p->context_length, p->head_dim},
        [HEAD] = {"head", false, false, p->vocab_size, p->dim},
    };
    const uint8_t *order = l->version == 0 ? v0_order : v1_order;
    const size_t n_parts = (l->version == 0 ? sizeof v0_order : sizeof v1_order) - p->tied_head;
    for (size_t i = 0; i < n_parts; i++) {
        const Part *part = &parts[order[i]];
        for (size_t layer = 0; layer < (part->per_layer ? p->n_layers : 1); layer++) {
            if (!add_part(l, part, layer, err)) {
                return false;
            }
        }
    }
    return true;
}

static bool check_length(const Loader *l, Error *err)
{
    const Checkpoint *c = l->c;
    const Config *p = &c->config;
    return l->end == c->file.size ||
           error_set(err, ERROR_INPUT,
                     "%s: the file has %zu bytes, expected %zu for dim %zu, hidden_dim %zu, "
                     "n_layers %zu, n_heads %zu, n_kv_heads %zu, vocab_size %zu, seq_len %zu",
                     c->path, c->file.size, l->end, p->dim, p->hidden_dim, p->n_layers, p->n_heads,
                     p->n_kv_heads, p->vocab_size, p->context_length);
}

// --------------------------------------------------------------------------------------------
// Copying

// Reads row r of a matrix of the file as f32.
static void read_row(const Loader *l, const Source *s, size_t r, size_t cols, float *row)
{
    const uint8_t *file = l->c->file.data;
    if (!l->group_size) {
        memcpy(row, file + s->offset + r * cols * sizeof *row, cols * sizeof *row);
        return;
    }
    const int8_t *q = (const int8_t *)file + s->offset + r * cols;
    for (size_t col = 0; col < cols; col++) {
        const size_t group = (r * cols + col) / l->group_size;
        float scale;
        memcpy(&scale, file + s->scales + group * sizeof scale, sizeof scale);
        row[col] = (float)q[col] * scale;
    }
}

// Packs rows begin .. begin + LANES - 1 of a matrix, as many as there are.
static void pack_rows(const Loader *l, const Source *s, const Matrix *m, size_t begin,
                      float *buffer)
{
    const void *rows[LANES] = {NULL};
    for (size_t i = 0; i < LANES && begin + i < m->rows; i++) {
        const size_t r = begin + i;
        float *row = buffer + i * l->row_stride;
        read_row(l, s, s->rotated ? unrotated_row(r, l->c->config.head_dim) : r, m->cols, row);
        rows[i] = row;
    }
    weight_pack(row_format_of(m->type), rows, m->cols,
                matrix_group(m->type, m->cols, (void *)m->data, begin / LANES));
}

// Copies every tensor into the layout of the kernels.
static void repack(Team team, void *arg)
{
    const Loader *l = arg;
    const Checkpoint *c = l->c;
    float *buffer = l->rows + team.id * LANES * l->row_stride;
    for (size_t i = 0; i < c->n_tensors; i++) {
        const Matrix *m = &c->tensors[i].matrix;
        const Source *s = &l->sources[i];
        const bool vector = c->tensors[i].vector;
        TeamStep step = team_step(team, vector ? 1 : (m->rows + LANES - 1) / LANES);
        while (team_claim(&step)) {
            if (vector) {
                memcpy((void *)m->data, c->file.data + s->offset, m->cols * sizeof(float));
                continue;
            }
            for (size_t group = step.begin; group < step.end; group++) {
                pack_rows(l, s, m, group * LANES, buffer);
            }
        }
    }
}

static bool load_tensors(Loader *l, size_t threads, Error *err)
{
    if (!size_tensors(l->c, err) || !allocate_tensors(l->c, err)) {
        return false;
    }
    size_t longest = 0;
    for (size_t i = 0; i < l->c->n_tensors; i++) {
        const size_t cols = l->c->tensors[i].matrix.cols;
        longest = cols > longest ? cols : longest;
    }
    l->row_stride = round_up(longest, LANES);
    const size_t bytes = LANES * l->row_stride * sizeof *l->rows;
    l->rows = alloc_zeroed(threads, bytes);
    if (!l->rows) {
        return error_memory(err, "rows to repack", threads * bytes);
    }
    team_run(threads, repack, l);
    return true;
}

static bool alloc_lists(Loader *l, Error *err)
{
    const size_t most = 9 * l->c->config.n_layers + 3;  // embedding, norm, lm_head
    l->c->tensors = calloc(most, sizeof *l->c->tensors);
    l->sources = calloc(most, sizeof *l->sources);
    return (l->c->tensors && l->sources) ||
           error_memory(err, "the list of tensors", most * sizeof *l->c->tensors);
}

bool llama2c_open(Checkpoint *c, size_t threads, Error *err)
{
    Loader l = {.c = c};
    c->kind = CHECKPOINT_LLAMA2C;
    const bool ok = read_llama2c_header(&l, err) && alloc_lists(&l, err) &&
                    list_llama2c_tensors(&l, err) && check_length(&l, err) &&
                    load_tensors(&l, threads, err);
    free(l.sources);
    free(l.rows);
    mapping_close(&c->file);  // everything needed of it has been copied
    return ok;
}
