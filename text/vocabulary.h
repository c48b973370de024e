// vocabulary.h - the pieces of a tokenizer, their attributes and merges, and how they are found.
#ifndef VOCABULARY_H
#define VOCABULARY_H

#include <stdint.h>

#include "base/error.h"
#include "text/pretokenizer.h"

#define MAX_PIECE 4096  // bytes: 32 times the longest that known models have

typedef enum { SENTENCEPIECE_BPE, BYTE_LEVEL_BPE } VocabularyKind;

// As docs/format.md has them.
enum {
    PIECE_NORMAL,   // is made of text by merging
    PIECE_SPECIAL,  // a control token: is made of text only where its name may be taken for it
    PIECE_BYTE,     // spells one byte of what is no piece (SentencePiece)
    PIECE_UNKNOWN,  // stands for a character that is no piece (SentencePiece)
    PIECE_FIRST,    // is found in the text before all else
    PIECE_ABSENT,   // a row of the embedding without a token
    N_PIECE_ATTRIBUTES
};

typedef struct {
    uint32_t left, right, result;  // ids
} Merge;

// The arrays lie in the checkpoint's section, or in `memory` where a llama2.c file was read.
typedef struct {
    VocabularyKind kind;
    WordRule words;      // of byte-level BPE
    bool add_bos;        // texts begin with BOS
    bool add_prefix;     // a space is put before a text, and after special tokens
    bool prefix_first;   // not after special tokens
    bool whole_words;    // a word that is a piece is taken whole, whatever the merges
    int bos, unknown;    // -1: none
    const int32_t *end;  // (n_end): ids at which generation stops
    size_t n_end;
    size_t size;
    const char *bytes;       // of all pieces, one after the other; a byte piece's is its one byte
    const uint32_t *offset;  // (size + 1): piece i is bytes[offset[i]] .. bytes[offset[i + 1] - 1]
    const float *score;      // (size): SentencePiece, a higher one is merged first
    const uint8_t *attribute;  // (size): PIECE_NORMAL ...
    const Merge *merges;       // (n_merges): byte-level, the first is merged first
    size_t n_merges;

    int byte_id[256];       // the piece that spells a byte, -1: none
    uint32_t *piece_table;  // (piece_places): ids + 1 of normal pieces by hash, 0: empty; owned
    uint32_t *merge_table;  // (merge_places): indices + 1 of merges by hash of the pair; owned
    size_t piece_places, merge_places;  // powers of two, at least twice what they hold
    uint32_t *names;  // (n_names): ids of special and first pieces, in order of their bytes; owned
    size_t n_names;
    size_t names_from[257];  // names that begin with byte b: names[names_from[b]] .. [b + 1] - 1
    void *memory;            // owned
} Vocabulary;

// See tokenizer_open_llama2c and tokenizer_open_section. *v is closed on failure.
bool vocabulary_open_llama2c(Vocabulary *v, const char *name, const uint8_t *data, size_t size,
                             size_t vocab_size, Error *err);
bool vocabulary_open_section(Vocabulary *v, const char *name, const uint8_t *data, size_t size,
                             size_t vocab_size, Error *err);
void vocabulary_close(Vocabulary *v);

static inline size_t piece_size(const Vocabulary *v, size_t id)
{
    return v->offset[id + 1] - v->offset[id];
}

static inline const char *piece_bytes(const Vocabulary *v, size_t id)
{
    return v->bytes + v->offset[id];
}

// The id of the normal piece with these bytes, or -1.
int vocabulary_find(const Vocabulary *v, const char *bytes, size_t size);

// The merge of two pieces, or NULL.
const Merge *vocabulary_merge(const Vocabulary *v, int left, int right);

// The longest name with which the text (of `size` > 0 bytes) begins: of a piece that is found
// before all else, or, within the first `special_size` bytes, of a special token; -1: none.
int vocabulary_find_name(const Vocabulary *v, const char *text, size_t size, size_t special_size);

#endif
