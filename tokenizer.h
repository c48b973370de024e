// tokenizer.h - text <-> tokens.
#ifndef TOKENIZER_H
#define TOKENIZER_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "text/constraint_trie.h"
#include "text/span.h"

typedef struct Tokenizer Tokenizer;

// A growing list of token ids.
typedef struct {
    int *ids;         // owned
    size_t size;      // ids in use
    size_t capacity;  // ids allocated
} Tokens;

bool tokens_append(Tokens *t, int id, Error *err);  // error: ERROR_RUN
void tokens_free(Tokens *t);

// Reads llama2.c's tokenizer.bin: SentencePiece BPE with scores; ids 1 and 2 are BOS and EOS. The
// file must hold exactly vocab_size pieces. Errors: ERROR_INPUT naming the file, the piece, the
// value found and the value expected. On failure *out is NULL.
bool tokenizer_open_llama2c(Tokenizer **out, const char *path, size_t vocab_size, Error *err);

// The same for a file already in memory, which is copied; `name` is for messages.
bool tokenizer_open_llama2c_bytes(Tokenizer **out, const char *name, const uint8_t *data,
                                  size_t size, size_t vocab_size, Error *err);

// Reads the tokenizer section of a native checkpoint (docs/format.md) in place: its memory must
// outlive the tokenizer and be aligned to 4 bytes; `name` is the file's, for messages. Errors:
// ERROR_INPUT naming the field, the value found and the value expected. On failure *out is NULL.
bool tokenizer_open_section(Tokenizer **out, const char *name, const uint8_t *data, size_t size,
                            size_t vocab_size, Error *err);

void tokenizer_free(Tokenizer *t);

// Adds the tokenizer section of a native checkpoint to *out: what tokenizer_open_section reads.
void tokenizer_write_section(const Tokenizer *t, Buffer *out);
// From now on the names of those added tokens that are in the text of a chat template, and of those
// that end a text, do not count in guarded spans: a message cannot forge what the template writes.
// Error: ERROR_RUN.
bool tokenizer_guard(Tokenizer *t, const char *text, size_t size, Error *err);

// Appends the ids of the spans' text to *out, after BOS if add_bos is set and the tokenizer begins
// texts with one. If *out already has tokens, the text continues them: SentencePiece puts its space
// only before a new text and, in some models, after a special or added token. Bytes that are not
// UTF-8 become byte tokens. Errors: ERROR_INPUT with the offset of the first byte that the
// vocabulary has no token for.
bool tokenizer_encode(const Tokenizer *t, const TextSpan *spans, size_t n_spans, bool add_bos,
                      Tokens *out, Error *err);

// The bytes that a token stands for, *size of them, given the token before it (-1: none): the space
// that SentencePiece puts at the start and after special tokens is dropped. Special tokens stand
// for no bytes. The bytes are the tokenizer's and live as long as it does.
const char *tokenizer_decode(const Tokenizer *t, int previous, int id, size_t *size);

// The bytes of a token's piece as the vocabulary has them; of a special token its name.
const char *tokenizer_piece(const Tokenizer *t, int id, size_t *size);

// The trie of what all tokens but special ones stand for within a text, for constraints. It points
// into the tokenizer. Error: ERROR_RUN if out of memory.
bool tokenizer_trie(const Tokenizer *t, TokenTrie *out, Error *err);

// Whether tokenizer_decode drops a space that the token after `previous` begins with.
bool tokenizer_drops_space(const Tokenizer *t, int previous);

// A hash of the pieces, their attributes and scores, and the merges, to tell tokenizers apart.
uint64_t tokenizer_fingerprint(const Tokenizer *t);

const char *tokenizer_kind(const Tokenizer *t);  // "sentencepiece", "byte-level bpe"; NULL: "none"
size_t tokenizer_vocab_size(const Tokenizer *t);
int tokenizer_bos(const Tokenizer *t);  // -1: none
int tokenizer_eos(const Tokenizer *t);  // the first of the tokens at which generation stops

// The name by which chat templates know a token; no text if there is none (-1).
TextSpan tokenizer_name(const Tokenizer *t, int id);

// Whether a token is a control token: BOS, EOS, <|im_start|>, ...
bool tokenizer_is_special(const Tokenizer *t, int id);

// Whether generation stops at this token; all tokens of which that is true, *n of them.
bool tokenizer_is_end(const Tokenizer *t, int id);
const int *tokenizer_ends(const Tokenizer *t, size_t *n);

#endif
