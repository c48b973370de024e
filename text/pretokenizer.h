// pretokenizer.h - cuts text into the words within which byte-level BPE merges.
#ifndef PRETOKENIZER_H
#define PRETOKENIZER_H

#include <stddef.h>

// The rules, named after the models that introduced them; the numbers are those of docs/format.md.
typedef enum {
    WORDS_GPT2 = 1,
    WORDS_LLAMA3,
    WORDS_SMOLLM,  // as GPT-2, but each digit is a word
    WORDS_QWEN2,   // as Llama 3, but each digit is a word
    N_WORD_RULES
} WordRule;

// The length in bytes of the first word of a text of `size` > 0 bytes; at least 1.
size_t word_size(WordRule rule, const char *text, size_t size);

#endif
