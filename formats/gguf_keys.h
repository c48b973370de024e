// gguf_keys.h - the keys of a model's architecture in a GGUF file, and the values of Config that
// they stand for. Included only by the readers of such keys (gguf_config.c, gguf_rope.c).
#ifndef GGUF_KEYS_H
#define GGUF_KEYS_H

#include "base/error.h"
#include "formats/config.h"
#include "formats/gguf.h"

typedef struct {
    const Gguf *g;
    const char *architecture;  // begins the names of its keys: llama.block_count
    Config *config;
    char key[96];  // name of the key that was looked up last
    Error *err;
} GgufKeys;

// The architecture's key of this name, or NULL: "block_count" is llama.block_count.
const GgufKey *model_key(GgufKeys *r, const char *name);

// Is a key (which may be NULL) this text?
bool key_is(const GgufKey *k, const char *text);

// Reads a number; leaves *value unchanged if there is no such key. Error: ERROR_INPUT.
bool read_key_number(GgufKeys *r, const char *name, double *value);

// Sets the config's value `field` from a key. If there is no such key, sets it to `initial`, or
// fails if that is negative. Error: ERROR_INPUT.
bool read_config_value(GgufKeys *r, const char *name, const char *field, double initial);

// The same for a key that may also have an array of a number for each layer, all of them equal.
bool read_layer_value(GgufKeys *r, const char *name, const char *field, double initial);

// The same for a value that is left alone at 0: none.
bool read_optional_value(GgufKeys *r, const char *name, const char *field, double initial);

// Sets ERROR_INPUT with what the key that was looked up last has, and what was expected. Returns
// false.
bool unexpected_key(const GgufKeys *r, const char *expected);

#endif
