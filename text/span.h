// span.h - text, and whether it may stand for special tokens.
#ifndef SPAN_H
#define SPAN_H

#include <stdbool.h>
#include <stddef.h>

// A part of a text to encode. The tokenizer takes consecutive spans as one text, in which a word
// may straddle spans. Spans differ only in which names of tokens in them count.
typedef struct {
    const char *text;  // any bytes; need not be NUL-terminated; the caller's
    size_t size;       // bytes
    bool special;      // names of special tokens, such as <|im_end|>, become those tokens
    bool guarded;      // nor do those of other added tokens that a chat template uses count
} TextSpan;

#endif
