// fuzz_model.h - forward passes of any checkpoint that a loader accepts, shared by the targets for
// checkpoints.
#ifndef FUZZ_MODEL_H
#define FUZZ_MODEL_H

#include "base/error.h"
#include "base/files.h"
#include "fuzz.h"
#include "model.h"

// Most models run for a few positions, one in 16 for more positions than a page of the cache has.
#define FUZZ_CONTEXT      (1 + FUZZ_ROWS)
#define FUZZ_LONG_CONTEXT (1 + 14 * FUZZ_ROWS)
#define FUZZ_ROWS         5

// Opens these bytes and runs a few tokens through an accepted model. Takes the block over.
static inline void run_checkpoint(uint8_t *block, size_t size, size_t first_token)
{
    Error err = {0};
    Checkpoint c;
    Model m = {0};
    Cache cache = {0};
    Scratch scratch = {0};
    Row rows[FUZZ_ROWS] = {0};
    const Mapping file = {block, size, NULL};
    if (!checkpoint_open_mapping(&c, "fuzz", file, 1, &err)) {
        check_error(&err);
        free(block);
        return;
    }
    const size_t most = first_token % 16 == 15 ? FUZZ_LONG_CONTEXT : FUZZ_CONTEXT;
    const size_t context = c.config.context_length < most ? c.config.context_length : most;
    if (c.kind == CHECKPOINT_NATIVE && !checkpoint_verify(&c, 1, &err)) {
        check_error(&err);  // damaged contents are run all the same
        err = (Error){0};
    }
    bool ok = !c.config.vocab_only && checkpoint_load(&c, 1, NULL, &err) &&
              model_create(&m, &c, &err) &&
              cache_create(&cache, &m.config, context, 1, first_token % 2, &err) &&
              scratch_create(&scratch, &m.config, &cache, (ScratchSizes){FUZZ_ROWS, FUZZ_ROWS, 1},
                             &err);
    for (size_t done = 0, n = 1; ok && done + n <= context; done += n, n = FUZZ_ROWS) {
        for (size_t i = 0; i < n; i++) {
            rows[i] = (Row){.token = (int)((first_token + done + i) % m.config.vocab_size),
                            .wants_logits = true};
        }
        ok = forward(&m, &cache, &scratch, rows, n, &err);
    }
    uint64_t fingerprint;
    ok = ok && checkpoint_fingerprint(&c, &fingerprint, &err);
    if (scratch.memory) {
        fuzz_count("inputs of which a forward pass was run");
    }
    if (!ok && err.kind) {
        check_error(&err);
    }
    scratch_free(&scratch);
    cache_free(&cache);
    model_free(&m);
    checkpoint_close(&c);
    free(block);
}

#endif
