// logits.c - the logits of every token of a sequence, for tests that compare them with a reference.
//
//     logits MODEL [--threads N] [--chunk N] [--kv f32|f16] [--simd SET] [--context N] TOKEN...
//
// stdout: f32 (tokens, vocab_size). The exit status is the kind of the error.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "model.h"

int main(int argc, char **argv)
{
    Error err = {0};
    Checkpoint checkpoint = {0};
    Model model = {0};
    Cache cache = {0};
    Scratch scratch = {0};
    Row *rows = calloc((size_t)argc, sizeof *rows);
    const char *simd = "auto", *path = NULL;
    size_t threads = 1, chunk = 32, context = 0, n = 0;
    bool f16 = false;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--threads") == 0) {
            threads = strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--chunk") == 0) {
            chunk = strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--context") == 0) {
            context = strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--kv") == 0) {
            f16 = strcmp(value, "f16") == 0;
        } else if (strcmp(argv[i], "--simd") == 0) {
            simd = value;
        } else if (!path) {
            path = argv[i];
            continue;
        } else {
            rows[n++] = (Row){.token = atoi(argv[i]), .wants_logits = true};
            continue;
        }
        i++;
    }
    bool ok = path && n && ops_select(simd, &err) &&
              checkpoint_open(&checkpoint, path, threads, &err) &&
              checkpoint_load(&checkpoint, threads, NULL, &err) &&
              model_create(&model, &checkpoint, &err);
    context = context ? context : checkpoint.config.context_length;
    ok = ok && cache_create(&cache, &model.config, context, 1, f16, &err) &&
         scratch_create(&scratch, &model.config, &cache, (ScratchSizes){chunk, chunk, threads},
                        &err);
    for (size_t done = 0, take; ok && done < n; done += take) {
        take = n - done < chunk ? n - done : chunk;
        ok = forward(&model, &cache, &scratch, rows + done, take, &err);
        for (size_t i = 0; ok && i < take; i++) {
            fwrite(rows[done + i].logits, sizeof(float), model.config.vocab_size, stdout);
        }
    }
    scratch_free(&scratch);
    cache_free(&cache);
    model_free(&model);
    checkpoint_close(&checkpoint);
    free(rows);
    if (!ok) {
        fprintf(stderr, "logits: %s\n", err.message);
        return err.kind ? (int)err.kind : ERROR_USAGE;
    }
    return 0;
}
