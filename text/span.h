// span.h - text, and whether it may stand for special tokens.
#ifndef SPAN_H
#define SPAN_H

#include <stdbool.h>
#include <stddef.h>

// A piece of text to encode. Neighbouring spans are one text to the tokenizer (a word may straddle
// them); they differ only in whether the names of special tokens inside are taken for those tokens.
typedef struct {
    const char *text;  // any bytes; need not be NUL-terminated
    size_t size;
    bool special;  // names of special tokens, such as <|im_end|>, become those tokens
} TextSpan;

#endif
