// constraint_trie.h - the texts of a vocabulary's tokens as a tree of bytes.
#ifndef CONSTRAINT_TRIE_H
#define CONSTRAINT_TRIE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

// The text of a token; size 0: it has none, and no constraint ever allows it.
typedef struct {
    const char *bytes;
    size_t size;
} TokenText;

// A tree in preorder: the nodes below node i are i + 1 .. skip[i] - 1; a walk that skips them
// continues at skip[i].
typedef struct {
    size_t n;          // nodes
    uint8_t *byte;     // (n): the last byte of a node's text
    uint16_t *depth;   // (n): bytes of its text, from 1
    uint32_t *skip;    // (n)
    uint32_t *first;   // (n + 1): tokens[first[i] .. first[i + 1]) have exactly this text
    uint32_t *tokens;  // (n_tokens), so those below a node are tokens[first[i] .. first[skip[i]])
    size_t n_tokens;
} TokenTree;

// Most tokens are plain text: whole characters without quotes, backslashes and control characters.
// Within a JSON string only their lengths in characters matter, so we also keep bit sets by length.
// The other tokens have their own tree, a tenth of the size.
enum { TRIE_SLICES = 32 };

typedef struct {
    uint32_t token, characters;
} PlainToken;

typedef struct {
    size_t vocab_size;
    size_t n_words;     // of 64 bits, of a set of tokens
    TokenTree all;      // every token that has a text
    TokenTree others;   // those that are not plain
    uint32_t *other;    // (all.n): the node of `others` with the same text; others.n: none
    uint16_t *plain;    // (all.n_tokens): characters of a plain token; 0: it is not plain
    size_t most_plain;  // the most characters of a plain token
    uint64_t *slices[TRIE_SLICES];  // (n_words): the plain ones of at most so many characters
    PlainToken *longer;             // (n_longer): those of more than that, ascending by characters
    size_t n_longer;
} TokenTrie;

// Builds the trie of texts (vocab_size), each of at most 65535 bytes. Error:
// ERROR_RUN if out of memory; *t is then empty.
bool token_trie_create(TokenTrie *t, const TokenText *texts, size_t vocab_size, Error *err);
void token_trie_free(TokenTrie *t);

// Does a longer token begin with these bytes, of which there is at least one?
bool token_trie_extends(const TokenTrie *t, const char *bytes, size_t size);

// Adds the plain tokens of at most so many characters to a set.
void token_trie_add_plain(const TokenTrie *t, uint32_t characters, uint64_t *tokens);

#endif
