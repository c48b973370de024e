// tokenizer.h - text <-> tokens.
#ifndef TOKENIZER_H
#define TOKENIZER_H

#include <stdint.h>

#include "base/error.h"
#include "text/span.h"

typedef struct Tokenizer Tokenizer;

// A growing list of token ids.
typedef struct {
    int *ids;  // owned
    size_t size;
    size_t capacity;
} Tokens;

bool tokens_append(Tokens *t, int id, Error *err);
void tokens_free(Tokens *t);

// Reads a tokenizer.bin of llama2.c: SentencePiece BPE with scores; ids 1 and 2 are BOS and EOS.
// The file must hold exactly vocab_size pieces. Errors: ERROR_INPUT naming the file, the piece and
// what is wrong with it.
bool tokenizer_open_llama2c(Tokenizer **out, const char *path, size_t vocab_size, Error *err);

// The same of a file that is in memory already; `name` is for messages.
bool tokenizer_open_llama2c_bytes(Tokenizer **out, const char *name, const uint8_t *data,
                                  size_t size, size_t vocab_size, Error *err);

// Reads the tokenizer section of a native checkpoint (docs/format.md), whose memory must outlive
// it; `name` is the file's. Errors: ERROR_INPUT naming the field and what is wrong with it.
bool tokenizer_open_section(Tokenizer **out, const char *name, const uint8_t *data, size_t size,
                            size_t vocab_size, Error *err);

void tokenizer_free(Tokenizer *t);

// Appends the ids of the spans' text to *out, after BOS where add_bos is set and the tokenizer
// begins its texts with one. A text that is appended to tokens goes on from them: SentencePiece
// puts its space only before a new text and after a special token. Bytes that are not UTF-8 become
// byte tokens. What the vocabulary has no token for: ERROR_INPUT with the byte's offset.
bool tokenizer_encode(const Tokenizer *t, const TextSpan *spans, size_t n_spans, bool add_bos,
                      Tokens *out, Error *err);

// The bytes that a token stands for, given the token before it (-1: none): at the start and after a
// special token the space that SentencePiece put there is dropped. Special tokens stand for
// nothing. The pointer is good as long as the tokenizer.
const char *tokenizer_decode(const Tokenizer *t, int previous, int id, size_t *size);

// A token's own bytes, no rule applied; of a special token its name.
const char *tokenizer_piece(const Tokenizer *t, int id, size_t *size);

// A number that another tokenizer almost surely has not: a hash of its pieces, their attributes and
// scores, and its merges.
uint64_t tokenizer_fingerprint(const Tokenizer *t);

const char *tokenizer_kind(const Tokenizer *t);  // "sentencepiece" or "byte-level bpe"
size_t tokenizer_vocab_size(const Tokenizer *t);
int tokenizer_bos(const Tokenizer *t);  // -1: none
bool tokenizer_is_special(const Tokenizer *t,
                          int id);                  // control tokens: BOS, EOS, <|im_start|>, ...
bool tokenizer_is_end(const Tokenizer *t, int id);  // generation stops at this token

#endif
