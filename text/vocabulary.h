// vocabulary.h - the pieces of a tokenizer, their attributes and merges, and how they are found.
#ifndef VOCABULARY_H
#define VOCABULARY_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "text/pretokenizer.h"

// The longest piece in bytes: 32 times that of any known model.
#define MAX_PIECE 4096

typedef enum { SENTENCEPIECE_BPE, BYTE_LEVEL_BPE } VocabularyKind;

// What a piece is; the numbers are those of docs/format.md. Special tokens are control tokens: they
// stand for no text, and their names in a text stand for them only in spans that allow it. Names
// are looked for in two places: in the text, which they cut into stretches, and in the normal form
// of a stretch (SentencePiece), where they are one symbol among others.
enum {
    PIECE_NORMAL,         // text; the result of merging
    PIECE_SPECIAL,        // a special token, looked for in the text
    PIECE_BYTE,           // one byte of a character that has no piece (SentencePiece)
    PIECE_UNKNOWN,        // stands for characters that have no piece (SentencePiece)
    PIECE_FIRST,          // text, looked for in a stretch ("user-defined" in SentencePiece)
    PIECE_ABSENT,         // a row of the embedding without a token
    PIECE_ADDED,          // text, looked for in the text ("added" in Hugging Face's tokenizers)
    PIECE_FIRST_SPECIAL,  // a special token, looked for in a stretch (SentencePiece)
    N_PIECE_ATTRIBUTES,
    // Added to PIECE_SPECIAL and PIECE_ADDED: the name takes the white space with it that is before
    // it or after it in the text (lstrip and rstrip in Hugging Face's tokenizers).
    PIECE_STRIPS_LEFT = 16,
    PIECE_STRIPS_RIGHT = 32,
    // Likewise: the name counts only where no character of a word is beside it (single_word).
    PIECE_SINGLE_WORD = 64
};

// A merge of byte-level BPE, as it lies in the file: two neighbours that become one piece.
typedef struct {
    uint32_t left, right, result;  // ids
} Merge;
_Static_assert(sizeof(Merge) == 12, "docs/format.md");

// Names of pieces that are found before anything is merged.
typedef struct {
    uint32_t *ids;     // (n): sorted by bytes; owned
    size_t n;          // number of names
    size_t from[257];  // ids[from[b] .. from[b + 1]) begin with byte b
} NameTable;

// The const arrays lie in the checkpoint's section, or in `memory` if a llama2.c file was read.
typedef struct {
    VocabularyKind kind;
    WordRule words;      // of byte-level BPE
    bool add_bos;        // texts begin with BOS
    bool add_prefix;     // a space is put before the stretches of a text (SentencePiece)
    bool prefix_first;   // only before a stretch with which a text begins
    bool prefix_new;     // only before a stretch that does not begin with a space itself
    bool whole_words;    // a word that is a piece is taken whole, whatever the merges
    int bos, unknown;    // ids, -1: none
    const int32_t *end;  // (n_end): ids at which generation stops
    size_t n_end;

    size_t size;               // number of pieces
    const char *bytes;         // of all pieces, concatenated; a byte piece is its one byte
    const uint32_t *offset;    // (size + 1): piece i is bytes[offset[i] .. offset[i + 1])
    const uint8_t *attribute;  // (size): PIECE_NORMAL ..., see piece_kind
    const float *score;        // (size): the higher score is merged first; NULL: by `merges`
    const Merge *merges;       // (n_merges): the earlier one is merged first
    size_t n_merges;

    int byte_id[256];       // the piece that spells a byte, -1: none
    uint32_t *piece_table;  // (piece_places): id + 1 of normal pieces by hash, 0: empty; owned
    uint32_t *merge_table;  // (merge_places): index + 1 of merges by hash of the pair; owned
    size_t piece_places, merge_places;  // powers of two, at least twice the number of entries
    NameTable text_names;               // of PIECE_SPECIAL and PIECE_ADDED
    NameTable stretch_names;            // of PIECE_FIRST and PIECE_FIRST_SPECIAL
    uint8_t *guarded;                   // (size): 1 for added tokens whose names do not count in
                                        // .. guarded spans; NULL: in none; owned
    void *memory;                       // owned; NULL if the arrays lie in a checkpoint
} Vocabulary;

// See tokenizer_open_llama2c and tokenizer_open_section in tokenizer.h. *v is closed on failure.
bool vocabulary_open_llama2c(Vocabulary *v, const char *name, const uint8_t *data, size_t size,
                             size_t vocab_size, Error *err);
bool vocabulary_open_section(Vocabulary *v, const char *name, const uint8_t *data, size_t size,
                             size_t vocab_size, Error *err);
void vocabulary_close(Vocabulary *v);

// Adds the section `tokenizer` of a native checkpoint to *out: what vocabulary_open_section reads.
void vocabulary_write(const Vocabulary *v, Buffer *out);

// Builds only the table of normal pieces, so that vocabulary_find works, over arrays that the caller
// has set (size, bytes, offset, attribute, kind). vocabulary_close frees it. Errors: ERROR_INPUT if
// two pieces are the same; ERROR_RUN if out of memory. `path` is for messages.
bool vocabulary_index_pieces(Vocabulary *v, const char *path, Error *err);

// The value of a byte piece of SentencePiece's, <0x00> to <0xFF>, or -1.
int byte_piece_value(const char *piece, size_t size);

static inline size_t piece_size(const Vocabulary *v, size_t id)
{
    return v->offset[id + 1] - v->offset[id];
}

static inline const char *piece_bytes(const Vocabulary *v, size_t id)
{
    return v->bytes + v->offset[id];
}

// The id of the normal piece with exactly these bytes, or -1.
int vocabulary_find(const Vocabulary *v, const char *bytes, size_t size);

// The merge of two neighbours, given by their ids, or NULL.
const Merge *vocabulary_merge(const Vocabulary *v, int left, int right);

// The attribute of a piece without what is added to it.
static inline int piece_kind(const Vocabulary *v, size_t id)
{
    return v->attribute[id] & ~(PIECE_STRIPS_LEFT | PIECE_STRIPS_RIGHT | PIECE_SINGLE_WORD);
}

static inline bool is_special(const Vocabulary *v, int id)
{
    const int kind = piece_kind(v, (size_t)id);
    return kind == PIECE_SPECIAL || kind == PIECE_FIRST_SPECIAL;
}

// Whether the name of a token cuts a text into stretches.
static inline bool cuts_text(const Vocabulary *v, int id)
{
    const int kind = piece_kind(v, (size_t)id);
    return kind == PIECE_SPECIAL || kind == PIECE_ADDED;
}

// Marks the added tokens whose names are in a chat template's text, and those that end a text, as
// guarded. White space stays free. Error: ERROR_RUN.
bool vocabulary_guard(Vocabulary *v, const char *text, size_t size, Error *err);

static inline bool is_guarded(const Vocabulary *v, int id) { return v->guarded && v->guarded[id]; }

// How many of the first bytes of a text a name may have: that of a special token, and that of a
// guarded one.
typedef struct {
    size_t special, guarded;
} NameLimits;

// The id of the longest name in the table with which `size` > 0 bytes begin, within the limits; -1:
// none.
int vocabulary_find_name(const Vocabulary *v, const NameTable *names, const char *bytes,
                         size_t size, NameLimits limits);

#endif
