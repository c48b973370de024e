// repack.c - the rows of a matrix, packed group by group. See repack.h.
#include "formats/repack.h"

#include <stdatomic.h>

#include "base/threads.h"

typedef struct {
    const Matrix *matrix;
    const MatrixRows *rows;
    void *out;
    _Atomic(const char *) bad;  // what a thread found that makes the matrix unusable
    atomic_bool inexact;        // a thread changed the values of some weights
} RepackJob;

// Packs a group of LANES rows.
static void repack_group(RepackJob *job, size_t group)
{
    const Matrix *m = job->matrix;
    const MatrixRows *from = job->rows;
    const void *rows[LANES] = {NULL};
    for (size_t i = 0; i < LANES && group * LANES + i < m->rows; i++) {
        const size_t r = group * LANES + i;
        const size_t at = from->head_dim ? unrotated_row(r, from->head_dim) : r;
        const uint8_t *row = from->data + at * from->row_bytes;
        const char *bad = row_format_check(from->format, row, m->cols);
        if (bad) {
            atomic_store(&job->bad, bad);
        }
        rows[i] = row;
    }
    if (!weight_pack(from->format, rows, m->cols,
                     matrix_group(m->type, m->cols, job->out, group))) {
        atomic_store(&job->inexact, true);
    }
}

static void repack_groups(Team team, void *arg)
{
    RepackJob *job = arg;
    TeamStep step = team_step(team, (job->matrix->rows + LANES - 1) / LANES);
    while (team_claim(&step)) {
        for (size_t group = step.begin; group < step.end; group++) {
            repack_group(job, group);
        }
    }
}

const char *repack_matrix(const Matrix *m, const MatrixRows *rows, void *out, size_t threads,
                          bool *exact)
{
    RepackJob job = {.matrix = m, .rows = rows, .out = out};
    team_run(threads, repack_groups, &job);
    *exact = !job.inexact;
    return job.bad;
}
