// word_character.h - which characters words consist of.
#ifndef WORD_CHARACTER_H
#define WORD_CHARACTER_H

#include <stdbool.h>
#include <stddef.h>

// Whether a text of `size` bytes begins with a character of words, and whether it ends with one: \w
// of Rust's regular expressions, which Hugging Face's tokenizers ask for `single_word`. That is
// Alphabetic, marks, decimal digits, connectors such as _, and the two joiners. A byte that is not
// UTF-8 is none.
bool begins_with_word(const char *text, size_t size);
bool ends_with_word(const char *text, size_t size);

#endif
