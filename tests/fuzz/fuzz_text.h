// fuzz_text.h - encodes and decodes a text with any tokenizer that a loader accepts; and a
// tokenizer for the targets that need one.
#ifndef FUZZ_TEXT_H
#define FUZZ_TEXT_H

#include "base/buffer.h"
#include "base/error.h"
#include "fuzz.h"
#include "tokenizer.h"

// `exact`: decoding must give the text again.
static inline void encode_text(const Tokenizer *t, Input text, bool special, bool bos, bool exact)
{
    Error err = {0};
    Tokens tokens = {0};
    Buffer decoded = {0};
    const size_t half = text.size / 2;
    const TextSpan spans[] = {{(const char *)text.data, half, special, false},
                              {(const char *)text.data + half, text.size - half, false, true}};
    if (tokenizer_encode(t, spans, 2, bos, &tokens, &err)) {
        fuzz_count("inputs of which a text was encoded");
        (void)tokenizer_fingerprint(t);
        for (size_t i = 0; i < tokens.size; i++) {
            const int id = tokens.ids[i];
            FUZZ_CHECK(id >= 0 && (size_t)id < tokenizer_vocab_size(t), "token %d", id);
            size_t n, n_piece;
            const char *bytes = tokenizer_decode(t, i ? tokens.ids[i - 1] : -1, id, &n);
            FUZZ_CHECK(!n || !tokenizer_is_special(t, id), "token %d", id);
            FUZZ_CHECK(tokenizer_piece(t, id, &n_piece) && (n <= n_piece || n == 3), "token %d",
                       id);
            (void)tokenizer_is_end(t, id);
            buffer_add(&decoded, bytes, n);
        }
        FUZZ_CHECK(buffer_check(&decoded, &err), "%s", err.message);
        const bool same = decoded.size == text.size &&
                          (!text.size || memcmp(decoded.data, text.data, text.size) == 0);
        FUZZ_CHECK(!exact || same, "%zu bytes became %zu", text.size, decoded.size);
    } else {
        FUZZ_CHECK(err.kind == ERROR_INPUT && !strchr(err.message, '\n'), "%s", err.message);
    }
    tokens_free(&tokens);
    buffer_free(&decoded);
}

// Byte-level BPE without merges: tokens 0 to 255 are the bytes, 256 is the special token <end>.
enum { BYTE_END = 256, BYTE_PIECES = 257 };

static inline Tokenizer *byte_tokenizer(void)
{
    static const char name[] = "<end>";
    static uint8_t section[64 + 4 + 4 * (BYTE_PIECES + 1) + BYTE_PIECES + 256 + sizeof name - 1];
    const uint64_t n_bytes = 256 + sizeof name - 1;
    uint8_t *offsets = section + 64 + 4, *attributes = offsets + 4 * (BYTE_PIECES + 1);
    put_u32(section, 1);                 // kind
    put_u32(section + 4, 1);             // pre_tokenizer
    put_u32(section + 12, BYTE_PIECES);  // vocab_size
    put_u32(section + 20, UINT32_MAX);   // bos: -1
    put_u32(section + 24, UINT32_MAX);   // unknown: -1
    put_u32(section + 28, 1);            // n_end
    memcpy(section + 32, &n_bytes, sizeof n_bytes);
    put_u32(section + 64, BYTE_END);
    for (size_t i = 0; i < 256; i++) {
        put_u32(offsets + 4 * i, i);
        attributes[BYTE_PIECES + i] = (uint8_t)i;
    }
    put_u32(offsets + 4 * BYTE_END, 256);
    put_u32(offsets + 4 * BYTE_PIECES, n_bytes);
    attributes[BYTE_END] = 1;
    memcpy(attributes + BYTE_PIECES + 256, name, sizeof name - 1);
    Error err = {0};
    Tokenizer *t;
    FUZZ_CHECK(tokenizer_open_section(&t, "fuzz", section, sizeof section, BYTE_PIECES, &err), "%s",
               err.message);
    return t;
}

#endif
