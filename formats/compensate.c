// compensate.c - the matrix of GPTQ (arXiv:2210.17323). See compensate.h.
//
// The paper inverts H and takes the Cholesky factor of the result. We do both at once: factor
// H = A A^T with A upper triangular; then H^-1 = A^-T A^-1, so u = A^-1.
//
//     for j = n - 1 .. 0                                 a row and a column of A per step,
//         a[j][j] = sqrt(h[j][j] - sum a[j][k]^2)        sums over k > j
//         a[i][j] = (h[i][j] - sum a[i][k] a[j][k]) / a[j][j]        for i < j
//
// Threads share the i of a step, and then the columns of u, which do not depend on one another.
#include "formats/compensate.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/threads.h"

#define DAMPING 0.1  // of the mean diagonal, added to the diagonal
#define PARTS   8    // partial sums, which the compiler keeps in vectors

typedef struct {
    double *a;         // (n, n), owned: H, then A but for its diagonal
    double *diagonal;  // (n), owned: of A
    double *u;         // (n, n), owned
    size_t n;
} Factors;

// The dot product of n values: every eighth product goes to the same partial sum, all in one order.
static double dot(const double *x, const double *y, size_t n)
{
    double part[PARTS] = {0}, sum = 0;
    size_t i = 0;
    for (; i + PARTS <= n; i += PARTS) {
        for (size_t k = 0; k < PARTS; k++) {
            part[k] += x[i + k] * y[i + k];
        }
    }
    for (; i < n; i++) {
        sum += x[i] * y[i];
    }
    for (size_t k = 0; k < PARTS; k++) {
        sum += part[k];
    }
    return sum;
}

static void factorise(Team team, const Factors *f)
{
    const size_t n = f->n;
    for (size_t left = n; left > 0; left--) {
        const size_t j = left - 1;
        const double *row = f->a + j * n + j + 1;
        // The last unit is the diagonal. It goes elsewhere, as the others read what it is made of.
        TeamStep step = team_step(team, j + 1);
        while (team_claim(&step)) {
            const double diagonal = sqrt(f->a[j * n + j] - dot(row, row, n - j - 1));
            for (size_t i = step.begin; i < step.end && i < j; i++) {
                double *a = f->a + i * n + j;
                *a = (*a - dot(a + 1, row, n - j - 1)) / diagonal;
            }
            if (step.end == j + 1) {
                f->diagonal[j] = diagonal;
            }
        }
    }
}

// Columns begin .. end - 1 of the inverse, row i from those below it:
// u[i] = (e_i - sum over k > i of a[i][k] u[k]) / a[i][i].
static void invert_columns(const Factors *f, size_t begin, size_t end)
{
    const size_t n = f->n;
    for (size_t left = end; left > 0; left--) {
        const size_t i = left - 1;
        double *u = f->u + i * n;
        for (size_t k = i + 1; k < end; k++) {
            const double a = f->a[i * n + k], *below = f->u + k * n;
            for (size_t c = begin > k ? begin : k; c < end; c++) {
                u[c] -= a * below[c];
            }
        }
        for (size_t c = begin; c < end; c++) {
            u[c] = (u[c] + (c == i)) / f->diagonal[i];
        }
    }
}

static void invert(Team team, const Factors *f)
{
    TeamStep step = team_step(team, f->n);
    while (team_claim(&step)) {
        invert_columns(f, step.begin, step.end);
    }
}

static void compute(Team team, void *arg)
{
    factorise(team, arg);
    invert(team, arg);
}

void damp_products(float *h, size_t n, size_t stride)
{
    double trace = 0;
    for (size_t i = 0; i < n; i++) {
        trace += h[i * stride + i];
    }
    for (size_t i = 0; i < n; i++) {
        h[i * stride + i] += (float)(DAMPING * trace / (double)n);
    }
}

// Copies h into a. False if its diagonal is not positive.
static bool copy_products(Factors *f, const float *h, size_t stride)
{
    const size_t n = f->n;
    bool positive = true;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            f->a[i * n + j] = h[i * stride + j];
        }
        positive &= h[i * stride + i] > 0 && h[i * stride + i] < INFINITY;
    }
    return positive;
}

float *compensation_create(const float *h, size_t n, size_t stride, size_t threads, Error *err)
{
    size_t count;
    const bool fits = size_mul(n, n, &count);
    Factors f = {.a = fits ? alloc_zeroed(count, sizeof(double)) : NULL,
                 .diagonal = fits ? alloc_zeroed(n, sizeof(double)) : NULL,
                 .u = fits ? alloc_zeroed(count, sizeof(double)) : NULL,
                 .n = n};
    float *result = fits ? alloc_zeroed(count, sizeof(float)) : NULL;
    bool ok = (f.a && f.diagonal && f.u && result) ||
              error_memory(err, "the factors of a calibrated matrix", n * n * sizeof(double));
    ok = ok && copy_products(&f, h, stride);
    if (ok) {
        team_run(threads, compute, &f);
    }
    for (size_t i = 0; ok && i < n * n; i++) {
        result[i] = (float)f.u[i];
        ok = isfinite(result[i]);
    }
    free(f.a);
    free(f.diagonal);
    free(f.u);
    if (!ok) {
        free(result);
        return NULL;
    }
    return result;
}
