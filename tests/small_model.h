// small_model.h - a tiny model of fixed random weights, for the C unit tests that run one.
#ifndef SMALL_MODEL_H
#define SMALL_MODEL_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"

enum { DIM = 24, HIDDEN = 52, LAYERS = 2, HEADS = 6, KV_HEADS = 2, VOCAB = 37 };

// Ends the tests with the error's message, unless ok.
static void must(bool ok, const Error *err)
{
    if (!ok) {
        printf("  %s\n", err->message);
        exit(1);
    }
}

// Writes the model as a llama2.c file (v0). `path` is a template of mkstemp, and becomes its name.
static void write_small_model(char *path, int context)
{
    const int header[] = {DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCAB, context};
    const size_t hd = DIM / HEADS;
    const size_t n = (size_t)VOCAB * DIM +
                     (size_t)LAYERS * DIM * (2 + 2 * DIM + 2 * KV_HEADS * hd) +
                     (size_t)LAYERS * 3 * DIM * HIDDEN + DIM + (size_t)context * hd;
    const int fd = mkstemp(path);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "wb");
    if (!f) {
        exit(1);
    }
    fwrite(header, sizeof header, 1, f);
    uint32_t state = 7;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        const float w = ((float)(state >> 8) / 8388608.0f - 1.0f) * 0.7f;
        fwrite(&w, sizeof w, 1, f);
    }
    fclose(f);
}

#endif
