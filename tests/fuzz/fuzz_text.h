// fuzz_text.h - encodes and decodes a text with whatever tokenizer was accepted.
#ifndef FUZZ_TEXT_H
#define FUZZ_TEXT_H

#include "fuzz.h"
#include "tokenizer.h"

// `exact`: what is decoded has to be the text again.
static inline void encode_text(const Tokenizer *t, Input text, bool special, bool bos, bool exact)
{
    Error err = {0};
    Tokens tokens = {0};
    Buffer decoded = {0};
    const size_t half = text.size / 2;
    const TextSpan spans[] = {{(const char *)text.data, half, special},
                              {(const char *)text.data + half, text.size - half, false}};
    if (tokenizer_encode(t, spans, 2, bos, &tokens, &err)) {
        fuzz_count("inputs of which a text was encoded");
        for (size_t i = 0; i < tokens.size; i++) {
            const int id = tokens.ids[i];
            FUZZ_CHECK(id >= 0 && (size_t)id < tokenizer_vocab_size(t), "token %d", id);
            size_t n, n_piece;
            const char *bytes = tokenizer_decode(t, i ? tokens.ids[i - 1] : -1, id, &n);
            FUZZ_CHECK(!n || !tokenizer_is_special(t, id), "token %d", id);
            FUZZ_CHECK(tokenizer_piece(t, id, &n_piece) && (n <= n_piece || n == 3), "token %d",
                       id);
            (void)tokenizer_is_end(t, id);
            FUZZ_CHECK(buffer_append(&decoded, bytes, n, &err), "%s", err.message);
        }
        const bool same = decoded.size == text.size &&
                          (!text.size || memcmp(decoded.data, text.data, text.size) == 0);
        FUZZ_CHECK(!exact || same, "%zu bytes became %zu", text.size, decoded.size);
    } else {
        FUZZ_CHECK(err.kind == ERROR_INPUT && !strchr(err.message, '\n'), "%s", err.message);
    }
    tokens_free(&tokens);
    buffer_free(&decoded);
}

#endif
