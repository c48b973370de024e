// pretokenizer.h - cuts text into the words within which byte-level BPE merges.
#ifndef PRETOKENIZER_H
#define PRETOKENIZER_H

#include <stddef.h>

// The rules, named after the models that introduced them; the numbers are those of docs/format.md.
typedef enum {
    WORDS_GPT2 = 1,
    WORDS_LLAMA3,          // also those of GPT-4 (cl100k)
    WORDS_SMOLLM,          // as GPT-2, but each digit is a word; also those of StarCoder
    WORDS_QWEN2,           // as Llama 3, but each digit is a word
    WORDS_QWEN35,          // as Qwen 2, but marks belong to words
    WORDS_GPT4O,           // words end where upper case follows lower case
    WORDS_TEKKEN,          // as GPT-4o, but each digit is a word; without contractions
    WORDS_DEEPSEEK,        // of V3: numbers, and runs of Chinese and Japanese, are cut out first
    WORDS_DEEPSEEK_LLM,    // a pass each for letters, punctuation, East Asian text and digits
    WORDS_DEEPSEEK_CODER,  // the same with other letters and punctuation
    N_WORD_RULES
} WordRule;

// The length in bytes of the first word of a text of `size` > 0 bytes; at least 1.
size_t word_size(WordRule rule, const char *text, size_t size);

// How many bytes of white space (Unicode's White_Space) a text begins with, and ends with.
size_t leading_space(const char *text, size_t size);
size_t trailing_space(const char *text, size_t size);

#endif
