// logprobs.c - log-probabilities of tokens. See logprobs.h.
#include "logprobs.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "ops.h"

// Puts the ids of the k largest logits into ids (k), best first; -1 where there are fewer. Keeps
// the best so far sorted, and compares most logits only with the last of them.
static void find_best(const float *logits, size_t n, size_t k, int *ids)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        if (found == k && (!k || logits[i] <= logits[ids[k - 1]])) {
            continue;
        }
        size_t at = found < k ? found++ : k - 1;
        for (; at > 0 && logits[i] > logits[ids[at - 1]]; at--) {
            ids[at] = ids[at - 1];
        }
        ids[at] = (int)i;
    }
    for (; found < k; found++) {
        ids[found] = -1;
    }
}

static bool make_room(Logprobs *l, Error *err)
{
    size_t bytes;
    if (l->n < l->capacity) {
        return true;
    }
    const size_t capacity = l->capacity ? 2 * l->capacity : 64;
    TokenLogprob *list = size_mul(capacity, (1 + l->n_best) * sizeof *list, &bytes)
                             ? realloc(l->list, bytes)
                             : NULL;
    if (!list) {
        return error_memory(err, "log-probabilities", capacity * (1 + l->n_best) * sizeof *list);
    }
    l->list = list;
    l->capacity = capacity;
    return true;
}

bool logprobs_add(Logprobs *l, int id, const float *logits, size_t vocab_size, Error *err)
{
    int best[MAX_LOGPROBS];
    if (!make_room(l, err)) {
        return false;
    }
    const double total = logits ? log_sum_exp(logits, vocab_size) : 0;
    TokenLogprob *row = l->list + l->n++ * (1 + l->n_best);
    row[0] = (TokenLogprob){id, logits ? logits[id] - total : (double)NAN};
    find_best(logits, logits ? vocab_size : 0, l->n_best, best);
    for (size_t i = 0; i < l->n_best; i++) {
        const bool there = logits && best[i] >= 0;
        row[1 + i] = (TokenLogprob){best[i], there ? logits[best[i]] - total : (double)NAN};
    }
    return true;
}

const TokenLogprob *logprobs_row(const Logprobs *l, size_t index)
{
    return l->list + index * (1 + l->n_best);
}

void logprobs_free(Logprobs *l)
{
    free(l->list);
    *l = (Logprobs){0};
}
