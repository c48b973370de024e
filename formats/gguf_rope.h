// gguf_rope.h - how a GGUF file says that RoPE's frequencies are scaled.
#ifndef GGUF_ROPE_H
#define GGUF_ROPE_H

#include "formats/gguf_keys.h"

// Reads the scaling from the keys rope.scaling.* and the tensors of factors. Needs the sizes of the
// config. Error: ERROR_INPUT.
bool gguf_read_rope_scaling(GgufKeys *r);

// Is this one of the tensors that it reads?
bool gguf_is_rope_tensor(const GgufTensor *t);

#endif
