// descend.c - coordinate descent over the values of a quantised row. See descend.h.
//
// GPTQ rounds the columns in order and never revisits one. So at the end each column is optimised
// again while all others stay as they are. With the gradient g = H e, half of
// that of e^T H e, a change d of weight j
//
//     changes e^T H e by   d (2 g[j] + d H[j][j])      least at   d = -g[j] / H[j][j]
//
// so the best value is the one nearest to weight j - g[j] / H[j][j]. If that changes the value,
// g += d H[j]. This sweeps over the columns until nothing changes. (QuantEase, arXiv:2309.01885,
// quantises by such sweeps alone.)
#include "formats/descend.h"

#include <string.h>

#include "formats/pack.h"
#include "formats/quant_block.h"

#define SWEEPS 8  // at most; later ones hardly change anything

typedef struct {
    const ErrorProducts *products;
    size_t cols;
    const float *exact;  // (cols)
    float *gradient;     // (cols)
} Descent;

// gradient += change * H[column]
static void add_change(const Descent *d, size_t column, float change)
{
    const float *h = d->products->h + column * d->products->stride;
    for (size_t k = 0; k < d->cols; k++) {
        d->gradient[k] += change * h[k];
    }
}

// Adds the contribution of a block's errors to the gradient.
static void add_errors(const Descent *d, size_t begin, WeightType type, const uint8_t *block)
{
    uint8_t values[QUANT_BLOCK];
    const BlockScale s = block_read(type, block, values);
    for (size_t i = 0; i < QUANT_BLOCK && begin + i < d->cols; i++) {
        add_change(d, begin + i, block_weight(&s, values[i]) - d->exact[begin + i]);
    }
}

// Replaces values of a block by better ones. Returns how many changed.
static size_t descend_block(const Descent *d, size_t begin, WeightType type, uint8_t *block)
{
    uint8_t values[QUANT_BLOCK];
    const BlockScale s = block_read(type, block, values);
    size_t changes = 0;
    for (size_t i = 0; i < QUANT_BLOCK && begin + i < d->cols; i++) {
        const size_t j = begin + i;
        const float diagonal = d->products->h[j * d->products->stride + j];
        const float now = block_weight(&s, values[i]);
        float best;
        const uint8_t value = block_round(&s, now - d->gradient[j] / diagonal, &best);
        const float change = best - now;
        if (change * (2 * d->gradient[j] + change * diagonal) < 0) {
            values[i] = value;
            add_change(d, j, change);
            changes++;
        }
    }
    block_write(&s, values, block);
    return changes;
}

void descend_row(WeightType type, const float *exact, size_t cols, const ErrorProducts *products,
                 float *gradient, uint8_t *blocks)
{
    const Descent d = {products, cols, exact, gradient};
    const size_t block_bytes = row_format_of(type)->block_bytes;
    size_t changes = 1;
    memset(gradient, 0, cols * sizeof *gradient);
    for (size_t begin = 0; begin < cols; begin += QUANT_BLOCK) {
        add_errors(&d, begin, type, blocks + begin / QUANT_BLOCK * block_bytes);
    }
    for (size_t sweep = 0; sweep < SWEEPS && changes > 0; sweep++) {
        changes = 0;
        for (size_t begin = 0; begin < cols; begin += QUANT_BLOCK) {
            changes += descend_block(&d, begin, type, blocks + begin / QUANT_BLOCK * block_bytes);
        }
    }
}
