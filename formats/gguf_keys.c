// gguf_keys.c - the keys of a model's architecture. See gguf_keys.h.
#include "formats/gguf_keys.h"

#include <stdio.h>
#include <string.h>

const GgufKey *model_key(GgufKeys *r, const char *name)
{
    snprintf(r->key, sizeof r->key, "%s.%s", r->architecture, name);
    return gguf_key(r->g, r->key);
}

bool key_is(const GgufKey *k, const char *text)
{
    GgufText found;
    return k && gguf_text(k, &found) && found.size == strlen(text) &&
           memcmp(found.data, text, found.size) == 0;
}

bool unexpected_key(const GgufKeys *r, const char *expected)
{
    const GgufKey *k = gguf_key(r->g, r->key);
    return k ? gguf_unexpected(r->g, k, expected, r->err)
             : error_set(r->err, ERROR_INPUT, "%s: key %s is missing, expected %s", r->g->path,
                         r->key, expected);
}

bool read_key_number(GgufKeys *r, const char *name, double *value)
{
    const GgufKey *k = model_key(r, name);
    return !k || gguf_number(k, value) || unexpected_key(r, "a number");
}

static bool set_from_key(GgufKeys *r, const char *field, double value)
{
    char shown[sizeof r->key + 4];
    snprintf(shown, sizeof shown, "key %s", r->key);
    return config_set(r->config, field, value, (ConfigOrigin){r->g->path, shown}, r->err);
}

bool read_config_value(GgufKeys *r, const char *name, const char *field, double initial)
{
    double value = initial;
    if (!model_key(r, name) && initial < 0) {
        return error_set(r->err, ERROR_INPUT, "%s: key %s is missing", r->g->path, r->key);
    }
    return read_key_number(r, name, &value) && set_from_key(r, field, value);
}

bool read_layer_value(GgufKeys *r, const char *name, const char *field, double initial)
{
    const GgufKey *k = model_key(r, name);
    const size_t n = r->config->n_layers;
    if (!k || !k->array) {
        return read_config_value(r, name, field, initial);
    }
    bool same = k->type != GGUF_TEXT && k->count == n && n > 0;
    for (size_t i = 0; same && i < n; i++) {
        same = gguf_element(k, i) == gguf_element(k, 0);
    }
    return same ? set_from_key(r, field, gguf_element(k, 0))
                : unexpected_key(r, "a number, or an array of the same number for each layer");
}

bool read_optional_value(GgufKeys *r, const char *name, const char *field, double initial)
{
    double value = initial;
    return read_key_number(r, name, &value) && (value == 0 || set_from_key(r, field, value));
}
