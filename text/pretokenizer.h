// pretokenizer.h - cuts text into the words within which byte-level BPE merges.
#ifndef PRETOKENIZER_H
#define PRETOKENIZER_H

#include <stddef.h>

// The rules by the names of the models that brought them, numbered as docs/format.md has them.
typedef enum {
    WORDS_GPT2 = 1,
    WORDS_LLAMA3,
    WORDS_SMOLLM,  // GPT-2's, each digit a word
    WORDS_QWEN2,   // Llama 3's, each digit a word
    N_WORD_RULES
} WordRule;

// The length of the first word of a text of `size` > 0 bytes.
size_t word_size(WordRule rule, const char *text, size_t size);

#endif
