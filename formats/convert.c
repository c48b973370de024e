// convert.c - any checkpoint that can be opened, as a native one. See convert.h.
#include "formats/convert.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "formats/tensors.h"
#include "formats/writer.h"

typedef struct {
    const Checkpoint *c;
    const Conversion *conversion;
    Tensor *tensors;        // (n_tensors) in the order of the new file, owned
    const Tensor **source;  // (n_tensors) the same ones in the checkpoint, owned
    size_t n_tensors;
    void *buffer;     // room for the largest tensor that is not in memory, owned
    void *quantized;  // room for the largest matrix that changes its type, owned
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

// Gives the matrices of the new file their types and sizes.
static bool choose_types(Converter *v, Error *err)
{
    for (size_t i = 0; i < v->n_tensors; i++) {
        Tensor *t = &v->tensors[i];
        const WeightType type = name_in_block(t->name) ? v->conversion->type
                                                       : v->conversion->head_type;
        if (t->vector || is_router(t->name) || type == KEEP_TYPE) {
            continue;
        }
        t->matrix.type = type;
        if (!matrix_bytes(type, t->matrix.rows, t->matrix.cols, &t->bytes)) {
            return error_memory(err, t->name, SIZE_MAX);
        }
    }
    return true;
}

static bool changes_type(const Converter *v, size_t i)
{
    return v->tensors[i].matrix.type != v->source[i]->matrix.type;
}

static bool make_buffers(Converter *v, Error *err)
{
    size_t largest = 0, largest_quantized = 0;
    for (size_t i = 0; i < v->n_tensors; i++) {
        const size_t bytes = v->source[i]->bytes, new_bytes = v->tensors[i].bytes;
        largest = !v->source[i]->matrix.data && bytes > largest ? bytes : largest;
        if (changes_type(v, i) && new_bytes > largest_quantized) {
            largest_quantized = new_bytes;
        }
    }
    v->buffer = largest ? alloc_zeroed(largest, 1) : NULL;
    v->quantized = largest_quantized ? alloc_zeroed(largest_quantized, 1) : NULL;
    return (!largest || v->buffer) && (!largest_quantized || v->quantized)
               ? true
               : error_memory(err, "a tensor", largest + largest_quantized);
}

static const void *quantized_data(Converter *v, size_t i, const void *data, Error *err)
{
    const QuantizationGuide *guide = &v->conversion->guide;
    const Tensor *t = &v->tensors[i];
    ErrorMeasure measure = {0};
    Matrix from = v->source[i]->matrix;
    from.data = data;
    if (guide->measure && !guide->measure(guide->arg, t->name, &measure, err)) {
        return NULL;
    }
    if (!quantize_matrix(&from, t->matrix.type, &measure, v->quantized, v->conversion->threads,
                         err)) {
        const Error why = *err;
        error_set(err, why.kind, "%s: tensor %s: %s", v->c->path, t->name, why.message);
        return NULL;
    }
    return v->quantized;
}

static const void *converted_data(void *arg, size_t i, Error *err)
{
    Converter *v = arg;
    const void *data = checkpoint_data(v->c, (size_t)(v->source[i] - v->c->tensors), v->buffer,
                                       v->conversion->threads, err);
    return data && changes_type(v, i) ? quantized_data(v, i, data, err) : data;
}

bool checkpoint_convert(const Checkpoint *c, const Conversion *conversion, int fd, const char *name,
                        Error *err)
{
    Converter v = {.c = c, .conversion = conversion};
    bool ok = find_tensors(&v, err) && choose_types(&v, err) && make_buffers(&v, err);
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
    free(v.quantized);
    free(v.source);
    free(v.tensors);
    return ok;
}
