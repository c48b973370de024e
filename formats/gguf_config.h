// gguf_config.h - the architecture of a GGUF model, and its keys as a Config.
#ifndef GGUF_CONFIG_H
#define GGUF_CONFIG_H

#include "base/error.h"
#include "formats/config.h"
#include "formats/gguf.h"

// How the files of an architecture store weights.
typedef struct {
    const char *name;         // general.architecture
    bool rotates_neighbours;  // the rows of q and k are in llama2.c's order
    bool fused_gate;          // ffn_up has the rows of gate_proj, and below them those of up_proj
} GgufArchitecture;

// Reads the keys into *config, and finds the architecture. Errors: ERROR_INPUT naming the file, the
// key, what was found and what was expected.
bool gguf_read_config(const Gguf *g, Config *config, const GgufArchitecture **architecture,
                      Error *err);

#endif
