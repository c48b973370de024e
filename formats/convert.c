// convert.c - any checkpoint that can be opened, as a native one. See convert.h.
#include "formats/convert.h"

#include <stdlib.h>

#include "base/memory.h"
#include "formats/tensors.h"
#include "formats/writer.h"

typedef struct {
    const Checkpoint *c;
    size_t threads;
    Tensor *tensors;        // (n_tensors) in the order of the new file, owned
    const Tensor **source;  // (n_tensors) the same ones in the checkpoint, owned
    size_t n_tensors;
    void *buffer;  // room for the largest tensor that is not in memory, owned
} Converter;

// Finds the tensors that a model of this config has, and no others.
static bool find_tensors(Converter *v, Error *err)
{
    const Checkpoint *c = v->c;
    if (!list_tensors(&c->config, &v->tensors, &v->n_tensors, err)) {
        return false;
    }
    v->source = calloc(v->n_tensors + 1, sizeof(Tensor *));
    bool *used = calloc(c->n_tensors + 1, sizeof *used);
    bool ok = (v->source && used) ||
              error_memory(err, "the list of tensors", v->n_tensors * sizeof(Tensor *));
    for (size_t i = 0; ok && i < v->n_tensors; i++) {
        const Tensor *t = checkpoint_tensor(c, v->tensors[i].name, err);
        ok = t != NULL;
        if (ok) {
            v->source[i] = t;
            v->tensors[i] = *t;
            used[t - c->tensors] = true;
        }
    }
    for (size_t i = 0; ok && i < c->n_tensors; i++) {
        ok = used[i] || error_set(err, ERROR_INPUT, "%s: tensor %s is not part of such a model",
                                  c->path, c->tensors[i].name);
    }
    free(used);
    return ok;
}

static bool make_buffer(Converter *v, Error *err)
{
    size_t largest = 0;
    for (size_t i = 0; i < v->n_tensors; i++) {
        const bool loaded = v->tensors[i].matrix.data;
        largest = !loaded && v->tensors[i].bytes > largest ? v->tensors[i].bytes : largest;
    }
    v->buffer = largest ? alloc_zeroed(largest, 1) : NULL;
    return v->buffer || !largest || error_memory(err, "a tensor", largest);
}

static const void *converted_data(void *arg, size_t i, Error *err)
{
    Converter *v = arg;
    return checkpoint_data(v->c, (size_t)(v->source[i] - v->c->tensors), v->buffer, v->threads,
                           err);
}

bool checkpoint_convert(const Checkpoint *c, const Conversion *conversion, int fd, const char *name,
                        Error *err)
{
    Converter v = {.c = c, .threads = conversion->threads};
    bool ok = find_tensors(&v, err) && make_buffer(&v, err);
    if (ok) {
        const NewCheckpoint n = {.config = &c->config,
                                 .sampling = &c->sampling,
                                 .provenance = conversion->provenance,
                                 .tokenizer = conversion->tokenizer,
                                 .chat = conversion->chat,
                                 .tensors = v.tensors,
                                 .n_tensors = v.n_tensors,
                                 .data = converted_data,
                                 .arg = &v};
        ok = checkpoint_write(&n, fd, name, &conversion->progress, err);
    }
    free(v.buffer);
    free(v.source);
    free(v.tensors);
    return ok;
}
