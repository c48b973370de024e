// fuzz_tokenizer.c - opens the tokenizer section of a native checkpoint, and encodes and decodes a
// text with an accepted tokenizer.
//
//     mode 1 | text length 1 | text | section
//
// The bits of `mode`: 1 names of special tokens count, 2 BOS is put first, 4 the section's n_bytes
// is set to the bytes that are left for the pieces, 8 (with 4) the last piece_offset is set to
// n_bytes.

#include <stdint.h>

#include "base/error.h"
#include "fuzz_text.h"

#define HEADER     64
#define MAX_PIECES 4096

// Flags of a section: no space before a text that has one; merges in place of scores.
enum { PREFIX_NEW = 16, BY_MERGES = 32 };

// Makes the section's header agree with its length.
static void fix_length(uint8_t *section, size_t size, bool last_offset)
{
    const bool scores = get_u32(section) == 0 && !(get_u32(section + 8) & BY_MERGES);
    const size_t vocab = get_u32(section + 12);
    const size_t merges = get_u32(section + 16), ends = get_u32(section + 28);
    if (vocab > MAX_PIECES || merges > size || ends > size) {
        return;
    }
    const size_t fixed = HEADER + 4 * ends + 4 * (vocab + 1) + (scores ? 4 * vocab : 0) +
                         12 * merges + vocab;
    if (fixed > size) {
        return;
    }
    const uint64_t n_bytes = size - fixed;
    memcpy(section + 32, &n_bytes, sizeof n_bytes);
    if (last_offset) {
        put_u32(section + HEADER + 4 * ends + 4 * vocab, n_bytes);
    }
}

static bool has_metaspace(Input text)
{
    for (size_t i = 0; i + 3 <= text.size; i++) {
        if (memcmp(text.data + i, "\xe2\x96\x81", 3) == 0) {
            return true;
        }
    }
    return false;
}

// Must decoding give the same text? SentencePiece's unknown token loses the bytes that it stands for,
// and a U+2581 in the text is decoded as a space. A prefix that is added only if the text does not
// begin with a space cannot be told from that space.
static bool decodes_exactly(const uint8_t *section, Input text)
{
    if (get_u32(section + 8) & PREFIX_NEW) {
        return false;
    }
    const bool sentencepiece = get_u32(section) == 0;
    return !sentencepiece || ((int32_t)get_u32(section + 24) < 0 && !has_metaspace(text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input in = {data, size};
    const size_t mode = take_number(&in, 1);
    const Input text = take_bytes(&in, take_number(&in, 1));
    uint8_t *section = exact_block(in.size);
    memcpy(section, in.data, in.size);
    size_t vocab = in.size >= HEADER ? get_u32(section + 12) : 1;
    vocab = vocab < MAX_PIECES ? vocab : MAX_PIECES;
    if (mode & 4 && in.size >= HEADER) {
        fix_length(section, in.size, mode & 8);
    }
    Error err = {0};
    Tokenizer *t;
    if (tokenizer_open_section(&t, "fuzz", section, in.size, vocab, &err)) {
        encode_text(t, text, mode & 1, mode & 2, !(mode & 3) && decodes_exactly(section, text));
        tokenizer_free(t);
    } else {
        check_error(&err);
    }
    free(section);
    return 0;
}
