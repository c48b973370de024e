// constraint_trie.c - the texts of a vocabulary's tokens as a tree. See constraint_trie.h.
#include "text/constraint_trie.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"

typedef struct {
    TokenText text;
    uint32_t id;
} TrieEntry;

static int compare_entries(const void *a, const void *b)
{
    const TrieEntry *x = a, *y = b;
    const size_t n = x->text.size < y->text.size ? x->text.size : y->text.size;
    const int order = memcmp(x->text.bytes, y->text.bytes, n);
    return order                          ? order
           : x->text.size != y->text.size ? (x->text.size > y->text.size ? 1 : -1)
                                          : (x->id > y->id) - (x->id < y->id);
}

// The length of the common prefix of two texts.
static size_t common(TokenText a, TokenText b)
{
    size_t n = 0;
    while (n < a.size && n < b.size && a.bytes[n] == b.bytes[n]) {
        n++;
    }
    return n;
}

static bool allocate_tree(TokenTree *t, size_t n_nodes, size_t n_tokens)
{
    t->byte = malloc(n_nodes + 1);
    t->depth = malloc((n_nodes + 1) * sizeof *t->depth);
    t->skip = malloc((n_nodes + 1) * sizeof *t->skip);
    t->first = malloc((n_nodes + 1) * sizeof *t->first);
    t->tokens = malloc((n_tokens + 1) * sizeof *t->tokens);
    return t->byte && t->depth && t->skip && t->first && t->tokens;
}

static void free_tree(TokenTree *t)
{
    free(t->byte);
    free(t->depth);
    free(t->skip);
    free(t->first);
    free(t->tokens);
    *t = (TokenTree){0};
}

// Builds a tree of sorted entries. Each adds nodes for what it has beyond the one before it.
static bool build_tree(TokenTree *t, const TrieEntry *entries, size_t n)
{
    size_t n_nodes = 0;
    for (size_t i = 0; i < n; i++) {
        n_nodes += entries[i].text.size - (i ? common(entries[i - 1].text, entries[i].text) : 0);
    }
    uint32_t *open = malloc((UINT16_MAX + 1) * sizeof *open);  // the node at each depth
    if (!allocate_tree(t, n_nodes, n) || !open) {
        free(open);
        return false;
    }
    size_t n_open = 0;
    for (size_t i = 0; i < n; i++) {
        const TokenText text = entries[i].text;
        const size_t shared = i ? common(entries[i - 1].text, text) : 0;
        while (n_open > shared) {
            t->skip[open[--n_open]] = (uint32_t)t->n;
        }
        for (size_t k = shared; k < text.size; k++) {
            t->byte[t->n] = (uint8_t)text.bytes[k];
            t->depth[t->n] = (uint16_t)(k + 1);
            t->first[t->n] = (uint32_t)t->n_tokens;
            open[n_open++] = (uint32_t)t->n++;
        }
        t->tokens[t->n_tokens++] = entries[i].id;
    }
    while (n_open > 0) {
        t->skip[open[--n_open]] = (uint32_t)t->n;
    }
    t->first[t->n] = (uint32_t)t->n_tokens;
    free(open);
    return true;
}

// The number of characters of a plain text; 0: it is not plain.
static size_t plain_characters(TokenText text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.size; n++) {
        const unsigned char c = (unsigned char)text.bytes[i];
        const int length = utf8_scan(text.bytes + i, text.size - i);
        if (length <= 0 || c < 0x20 || c == '"' || c == '\\') {
            return 0;
        }
        i += (size_t)length;
    }
    return n;
}

static int compare_plain(const void *a, const void *b)
{
    const PlainToken *x = a, *y = b;
    return (x->characters > y->characters) - (x->characters < y->characters);
}

// Enters the plain tokens into the slices, and moves the others to the front; returns their number.
static size_t split_plain(TokenTrie *t, TrieEntry *entries, size_t n)
{
    size_t n_others = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t characters = plain_characters(entries[i].text);
        const uint32_t id = entries[i].id;
        t->plain[i] = (uint16_t)characters;
        t->most_plain = characters > t->most_plain ? characters : t->most_plain;
        for (size_t k = characters; characters && k < TRIE_SLICES; k++) {
            t->slices[k][id / 64] |= (uint64_t)1 << id % 64;
        }
        if (characters >= TRIE_SLICES) {
            t->longer[t->n_longer++] = (PlainToken){id, (uint32_t)characters};
        } else if (!characters) {
            entries[n_others++] = entries[i];
        }
    }
    qsort(t->longer, t->n_longer, sizeof *t->longer, compare_plain);
    return n_others;
}

// Maps nodes of the tree of all tokens to nodes of `others`: both are in the same order.
static void map_others(TokenTrie *t)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < t->all.n; i++) {
        t->other[i] = (uint32_t)t->others.n;
    }
    // The next node of `others` is below where this walk is, or beside it.
    for (uint32_t i = 0; i < t->all.n && at < t->others.n;) {
        const bool same = t->all.depth[i] == t->others.depth[at] &&
                          t->all.byte[i] == t->others.byte[at];
        if (same) {
            t->other[i++] = at++;
        } else {
            i = t->all.skip[i];
        }
    }
}

bool token_trie_create(TokenTrie *t, const TokenText *texts, size_t vocab_size, Error *err)
{
    *t = (TokenTrie){.vocab_size = vocab_size, .n_words = (vocab_size + 63) / 64};
    TrieEntry *entries = calloc(vocab_size + 1, sizeof *entries);
    t->longer = calloc(vocab_size + 1, sizeof *t->longer);
    bool ok = entries && t->longer;
    for (size_t i = 0; i < TRIE_SLICES; i++) {
        t->slices[i] = calloc(t->n_words + 1, sizeof *t->slices[i]);
        ok = ok && t->slices[i];
    }
    size_t n = 0;
    for (size_t id = 0; ok && id < vocab_size; id++) {
        if (texts[id].size > 0 && texts[id].size <= UINT16_MAX) {
            entries[n++] = (TrieEntry){texts[id], (uint32_t)id};
        }
    }
    if (ok) {
        qsort(entries, n, sizeof *entries, compare_entries);
        ok = build_tree(&t->all, entries, n);
        t->other = malloc((t->all.n + 1) * sizeof *t->other);
        t->plain = malloc((n + 1) * sizeof *t->plain);
        ok = ok && t->other && t->plain;
        const size_t n_others = ok ? split_plain(t, entries, n) : 0;
        ok = ok && build_tree(&t->others, entries, n_others);
    }
    free(entries);
    if (ok) {
        map_others(t);
    } else {
        token_trie_free(t);
        return error_memory(err, "the trie of the vocabulary", vocab_size * sizeof *entries);
    }
    return true;
}

void token_trie_free(TokenTrie *t)
{
    free_tree(&t->all);
    free_tree(&t->others);
    for (size_t i = 0; i < TRIE_SLICES; i++) {
        free(t->slices[i]);
    }
    free(t->longer);
    free(t->other);
    free(t->plain);
    *t = (TokenTrie){0};
}

void token_trie_add_plain(const TokenTrie *t, uint32_t characters, uint64_t *tokens)
{
    const uint64_t *slice = t->slices[characters < TRIE_SLICES ? characters : TRIE_SLICES - 1];
    for (size_t i = 0; i < t->n_words; i++) {
        tokens[i] |= slice[i];
    }
    for (size_t i = 0; i < t->n_longer && t->longer[i].characters <= characters; i++) {
        tokens[t->longer[i].token / 64] |= (uint64_t)1 << t->longer[i].token % 64;
    }
}

bool token_trie_extends(const TokenTrie *t, const char *bytes, size_t size)
{
    const TokenTree *tree = &t->all;
    uint32_t node = 0, end = (uint32_t)tree->n;
    for (size_t i = 0; i < size; i++) {
        while (node < end && tree->byte[node] != (uint8_t)bytes[i]) {
            node = tree->skip[node];
        }
        if (node >= end) {
            return false;
        }
        end = tree->skip[node];
        node++;
    }
    return node < end;
}
