// row_major.c - matrices row by row, into groups of rows for the kernels. See row_major.h.
#include "formats/row_major.h"

#include <stdatomic.h>

#include "base/memory.h"
#include "base/threads.h"
#include "formats/pack.h"

typedef struct {
    const Tensor *tensor;
    const RowFormat *format;
    size_t row_bytes;
    void *out;
    _Atomic(const char *) bad;  // what a thread found that makes the matrix unusable
} RowMajorJob;

bool row_major_bytes(WeightType type, size_t rows, size_t cols, size_t *bytes)
{
    size_t row_bytes;
    return row_format_bytes(row_format_of(type), cols, &row_bytes) &&
           size_mul(rows, row_bytes, bytes);
}

static void pack_group(RowMajorJob *job, size_t group)
{
    const Matrix *m = &job->tensor->matrix;
    const void *rows[LANES] = {NULL};
    for (size_t i = 0; i < LANES && group * LANES + i < m->rows; i++) {
        const uint8_t *row = job->tensor->rows + (group * LANES + i) * job->row_bytes;
        const char *bad = row_format_check(job->format, row, m->cols);
        if (bad) {
            atomic_store(&job->bad, bad);
        }
        rows[i] = row;
    }
    weight_pack(job->format, rows, m->cols, matrix_group(m->type, m->cols, job->out, group));
}

static void pack_groups(Team team, void *arg)
{
    RowMajorJob *job = arg;
    TeamStep step = team_step(team, (job->tensor->matrix.rows + LANES - 1) / LANES);
    while (team_claim(&step)) {
        for (size_t group = step.begin; group < step.end; group++) {
            pack_group(job, group);
        }
    }
}

bool row_major_repack(const Checkpoint *c, size_t i, void *out, size_t threads, Error *err)
{
    const Tensor *t = &c->tensors[i];
    RowMajorJob job = {.tensor = t, .format = row_format_of(t->matrix.type), .out = out};
    row_format_bytes(job.format, t->matrix.cols, &job.row_bytes);
    team_run(threads, pack_groups, &job);
    mapping_drop(&c->file, t->rows, t->matrix.rows * job.row_bytes);
    const char *bad = job.bad;
    return !bad || error_set(err, ERROR_INPUT, "%s: tensor %s has %s", c->path, t->name, bad);
}
