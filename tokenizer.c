// tokenizer.c - text <-> tokens: SentencePiece BPE and byte-level BPE.
//
// Both merge neighbours until nothing is left to merge. The symbols of a stretch of text -
// characters for SentencePiece, bytes for byte-level BPE - stand in a doubly linked list over its
// bytes, and a heap holds every pair of neighbours that can be merged: the best rank first, then
// the leftmost. An entry of the heap whose symbols have changed since is skipped when it comes up.
// So n symbols take O(n log n), whatever they are.
//
//     bytes     ' ' o n c e ' ' u p o n
//     symbols   [start, size, previous, next, id] ...       merged ones have size 0
//
//                      SentencePiece                        byte-level
//     a stretch is     what is between special tokens       a word (pretokenizer.h): no merge
//                                                           crosses its ends
//     before it        a space, where the model wants one   nothing
//     a pair merges    where its bytes are a piece          where the pair is in the list of merges
//     its rank         by the score of that piece           its place in the list
//     what is left     is spelled in byte pieces            is none: every byte is a piece, or the
//                                                           text is refused
//
// The names of special tokens are found in the text before all this, but only in spans that allow
// it; the names of pieces with the attribute "found before all else" always.
#include "tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/checksum.h"
#include "base/files.h"
#include "text/vocabulary.h"

#define SPACE_MARK "\xe2\x96\x81"  // U+2581, which SentencePiece takes for a space

struct Tokenizer {
    Vocabulary vocabulary;
};

bool tokens_append(Tokens *t, int id, Error *err)
{
    if (t->size == t->capacity) {
        const size_t capacity = t->capacity ? 2 * t->capacity : 64;
        int *ids = realloc(t->ids, capacity * sizeof *ids);
        if (!ids) {
            return error_memory(err, "tokens", capacity * sizeof *ids);
        }
        t->ids = ids;
        t->capacity = capacity;
    }
    t->ids[t->size++] = id;
    return true;
}

void tokens_free(Tokens *t)
{
    free(t->ids);
    *t = (Tokens){0};
}

bool tokenizer_open_llama2c(Tokenizer **out, const char *path, size_t vocab_size, Error *err)
{
    *out = NULL;
    Mapping file;
    if (!mapping_open(&file, path, err)) {
        return false;
    }
    const bool ok = tokenizer_open_llama2c_bytes(out, path, file.data, file.size, vocab_size, err);
    mapping_close(&file);  // all that was wanted of it is copied
    return ok;
}

bool tokenizer_open_llama2c_bytes(Tokenizer **out, const char *name, const uint8_t *data,
                                  size_t size, size_t vocab_size, Error *err)
{
    *out = NULL;
    Tokenizer *t = malloc(sizeof *t);
    if (!t) {
        return error_memory(err, "the tokenizer", sizeof *t);
    }
    if (!vocabulary_open_llama2c(&t->vocabulary, name, data, size, vocab_size, err)) {
        free(t);
        return false;
    }
    *out = t;
    return true;
}

bool tokenizer_open_section(Tokenizer **out, const char *name, const uint8_t *data, size_t size,
                            size_t vocab_size, Error *err)
{
    *out = NULL;
    Tokenizer *t = malloc(sizeof *t);
    if (!t) {
        return error_memory(err, "the tokenizer", sizeof *t);
    }
    if (!vocabulary_open_section(&t->vocabulary, name, data, size, vocab_size, err)) {
        free(t);
        return false;
    }
    *out = t;
    return true;
}

void tokenizer_free(Tokenizer *t)
{
    if (t) {
        vocabulary_close(&t->vocabulary);
        free(t);
    }
}

// --------------------------------------------------------------------------------------------
// Merging

#define NO_SYMBOL UINT32_MAX

typedef struct {
    uint32_t start, size;  // bytes; size 0: merged into the one before
    uint32_t previous, next;
    int id;  // of the piece; -1: it is none
} Symbol;

// A pair of neighbours that can be merged. The sizes of symbols only grow, so `size` tells whether
// the pair is still what it was.
typedef struct {
    uint64_t order;  // rank << 32 | the left symbol: the least is merged first
    uint32_t size;   // bytes, of both
    int id;          // of what they make
} Candidate;

typedef struct {
    const Vocabulary *v;
    Buffer text;        // SentencePiece: of the stretch, with its spaces as they are in pieces
    const char *bytes;  // what the symbols are made of
    Symbol *symbols;
    size_t n_symbols, symbols_capacity;
    Candidate *heap;  // each entry before its children, 4 i + 1 to 4 i + 4: one line of the cache
    size_t n_heap, heap_capacity;
} Encoder;

static bool heap_push(Encoder *e, Candidate c, Error *err)
{
    if (e->n_heap == e->heap_capacity) {
        const size_t capacity = e->heap_capacity ? 2 * e->heap_capacity : 256;
        Candidate *heap = realloc(e->heap, capacity * sizeof *heap);
        if (!heap) {
            return error_memory(err, "merges", capacity * sizeof *heap);
        }
        e->heap = heap;
        e->heap_capacity = capacity;
    }
    size_t i = e->n_heap++;
    for (size_t parent; i && c.order < e->heap[parent = (i - 1) / 4].order; i = parent) {
        e->heap[i] = e->heap[parent];
    }
    e->heap[i] = c;
    return true;
}

static Candidate heap_pop(Encoder *e)
{
    const Candidate top = e->heap[0], last = e->heap[--e->n_heap];
    size_t i = 0;
    for (size_t child; (child = 4 * i + 1) < e->n_heap; i = child) {
        const size_t end = child + 4 < e->n_heap ? child + 4 : e->n_heap;
        for (size_t other = child + 1; other < end; other++) {
            child = e->heap[other].order < e->heap[child].order ? other : child;
        }
        if (last.order <= e->heap[child].order) {
            break;
        }
        e->heap[i] = e->heap[child];
    }
    e->heap[i] = last;
    return top;
}

// The rank of a score: a higher score has a lower rank, equal ones the same. The bits of floats of
// one sign are ordered as the floats are.
static uint32_t score_rank(float score)
{
    const float unsigned_zero = score + 0.0f;  // -0 becomes +0
    uint32_t bits;
    memcpy(&bits, &unsigned_zero, sizeof bits);
    return bits >> 31 ? bits : INT32_MAX - bits;
}

// Puts a symbol and its right neighbour on the heap where they can be merged.
static bool consider(Encoder *e, uint32_t left, Error *err)
{
    const uint32_t right = left == NO_SYMBOL ? NO_SYMBOL : e->symbols[left].next;
    if (right == NO_SYMBOL) {
        return true;
    }
    const Symbol *l = &e->symbols[left], *r = &e->symbols[right];
    const Vocabulary *v = e->v;
    Candidate c = {.size = l->size + r->size};
    uint32_t rank;
    if (v->kind == SENTENCEPIECE_BPE) {
        c.id = vocabulary_find(v, e->bytes + l->start, c.size);
        if (c.id < 0) {
            return true;
        }
        rank = score_rank(v->score[c.id]);
    } else {
        const Merge *m = vocabulary_merge(v, l->id, r->id);
        if (!m) {
            return true;
        }
        c.id = (int)m->result;
        rank = (uint32_t)(m - v->merges);
    }
    c.order = (uint64_t)rank << 32 | left;
    return heap_push(e, c, err);
}

static bool merge_all(Encoder *e, Error *err)
{
    for (uint32_t i = 0; i < e->n_symbols; i++) {
        if (!consider(e, i, err)) {
            return false;
        }
    }
    while (e->n_heap) {
        const Candidate c = heap_pop(e);
        const uint32_t at = (uint32_t)c.order;
        Symbol *left = &e->symbols[at];
        const uint32_t right = left->next;
        if (!left->size || right == NO_SYMBOL || left->size + e->symbols[right].size != c.size) {
            continue;  // one of the two has been merged with another since
        }
        left->size = c.size;
        left->id = c.id;
        left->next = e->symbols[right].next;
        e->symbols[right].size = 0;
        if (left->next != NO_SYMBOL) {
            e->symbols[left->next].previous = at;
        }
        if (!consider(e, left->previous, err) || !consider(e, at, err)) {
            return false;
        }
    }
    return true;
}

// Makes room for the symbols of a stretch of `bytes`, at most one each and one more.
static bool begin_symbols(Encoder *e, size_t bytes, Error *err)
{
    e->n_symbols = e->n_heap = 0;
    if (bytes > UINT32_MAX / 2) {
        return error_set(err, ERROR_INPUT,
                         "the prompt has a text of %zu bytes, expected at most 2 GiB", bytes);
    }
    if (bytes + 1 > e->symbols_capacity) {
        const size_t capacity = bytes + 1 < 128 ? 256 : 2 * (bytes + 1);
        Symbol *symbols = realloc(e->symbols, capacity * sizeof *symbols);
        if (!symbols) {
            return error_memory(err, "symbols", capacity * sizeof *symbols);
        }
        e->symbols = symbols;
        e->symbols_capacity = capacity;
    }
    return true;
}

static void add_symbol(Encoder *e, size_t start, size_t size, int id)
{
    const uint32_t n = (uint32_t)e->n_symbols++;
    e->symbols[n] = (Symbol){(uint32_t)start, (uint32_t)size, n ? n - 1 : NO_SYMBOL, NO_SYMBOL, id};
    if (n) {
        e->symbols[n - 1].next = n;
    }
}

static bool no_token(const char *bytes, size_t offset, Error *err)
{
    return error_set(err, ERROR_INPUT,
                     "the prompt's byte %zu is 0x%02x, which the model has no token for", offset,
                     (uint8_t)*bytes);
}

// --------------------------------------------------------------------------------------------
// SentencePiece

// Where in the text the byte `at` of its normal form, of which the prefix is cut off, comes from.
static size_t original_offset(const char *text, size_t size, size_t at)
{
    size_t offset = 0;
    for (; at; at--) {
        const bool mark = size - offset >= 3 && memcmp(text + offset, SPACE_MARK, 3) == 0;
        offset += mark ? 3 : 1;
    }
    return offset;
}

// Appends the ids that spell a character that is no piece: of its bytes, or one for all characters
// in a row that have none. *unknown: there was one just before. False, with *bad the byte, where
// the model can do neither.
static bool spell(const Vocabulary *v, const char *bytes, size_t size, bool *unknown, size_t *bad,
                  Tokens *out, Error *err)
{
    size_t spelled = 0;
    while (spelled < size && v->byte_id[(uint8_t)bytes[spelled]] >= 0) {
        spelled++;
    }
    if (spelled == size) {
        *unknown = false;
        for (size_t i = 0; i < size; i++) {
            if (!tokens_append(out, v->byte_id[(uint8_t)bytes[i]], err)) {
                return false;
            }
        }
        return true;
    }
    if (v->unknown >= 0 && utf8_scan(bytes, size) > 0) {
        const bool again = *unknown;
        *unknown = true;
        return again || tokens_append(out, v->unknown, err);
    }
    *bad = spelled;
    return false;
}

// Encodes a stretch, which begins `offset` bytes into the prompt.
static bool encode_sentence(Encoder *e, const char *text, size_t size, size_t offset, bool prefix,
                            Tokens *out, Error *err)
{
    const Vocabulary *v = e->v;
    buffer_clear(&e->text);
    if (!begin_symbols(e, size, err) || (prefix && !buffer_append(&e->text, " ", 1, err))) {
        return false;
    }
    if (prefix) {
        add_symbol(e, 0, 1, vocabulary_find(v, " ", 1));
    }
    for (size_t i = 0; i < size;) {
        const int scan = utf8_scan(text + i, size - i);
        const size_t length = scan > 0 ? (size_t)scan : 1;
        const bool mark = length == 3 && memcmp(text + i, SPACE_MARK, 3) == 0;
        const char *bytes = mark ? " " : text + i;
        const size_t n = mark ? 1 : length;
        add_symbol(e, e->text.size, n, vocabulary_find(v, bytes, n));
        if (!buffer_append(&e->text, bytes, n, err)) {
            return false;
        }
        i += length;
    }
    e->bytes = e->text.data;
    if (!merge_all(e, err)) {
        return false;
    }
    bool unknown = false;
    for (uint32_t i = 0; i != NO_SYMBOL && i < e->n_symbols; i = e->symbols[i].next) {
        const Symbol s = e->symbols[i];
        size_t bad = SIZE_MAX;
        if (s.id >= 0) {
            unknown = false;
            if (!tokens_append(out, s.id, err)) {
                return false;
            }
        } else if (!spell(v, e->bytes + s.start, s.size, &unknown, &bad, out, err)) {
            const size_t at = s.start > prefix ? original_offset(text, size, s.start - prefix) : 0;
            return bad != SIZE_MAX && no_token(e->bytes + s.start + bad, offset + at + bad, err);
        }
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// Byte-level BPE

static bool encode_word(Encoder *e, const char *word, size_t size, size_t offset, Tokens *out,
                        Error *err)
{
    const Vocabulary *v = e->v;
    const int whole = v->whole_words ? vocabulary_find(v, word, size) : -1;
    if (whole >= 0) {
        return tokens_append(out, whole, err);
    }
    if (!begin_symbols(e, size, err)) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        const int id = v->byte_id[(uint8_t)word[i]];
        if (id < 0) {
            return no_token(word + i, offset + i, err);
        }
        add_symbol(e, i, 1, id);
    }
    e->bytes = word;
    if (!merge_all(e, err)) {
        return false;
    }
    for (uint32_t i = 0; i != NO_SYMBOL; i = e->symbols[i].next) {
        if (!tokens_append(out, e->symbols[i].id, err)) {
            return false;
        }
    }
    return true;
}

static bool encode_words(Encoder *e, const char *text, size_t size, size_t offset, Tokens *out,
                         Error *err)
{
    for (size_t at = 0; at < size;) {
        const size_t length = word_size(e->v->words, text + at, size - at);
        if (!encode_word(e, text + at, length, offset + at, out, err)) {
            return false;
        }
        at += length;
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// Encoding

static bool is_special(const Vocabulary *v, int id) { return v->attribute[id] == PIECE_SPECIAL; }

// Whether a stretch that comes next in `out` begins with a space of SentencePiece: that of a new
// text and, in the models whose turns were encoded one by one, that after a special token. `start`
// is where in `out` the text begins, SIZE_MAX where it goes on from what was there.
static bool wants_prefix(const Vocabulary *v, const Tokens *out, size_t start)
{
    const bool first = out->size == start;
    return v->add_prefix &&
           (first || (!v->prefix_first && out->size && is_special(v, out->ids[out->size - 1])));
}

// Encodes what is between two names; `before_name`: the second is of a piece that is found before
// all else, which SentencePiece takes for a symbol of the stretch, so that the prefix may stand
// alone.
static bool encode_stretch(Encoder *e, const char *text, size_t size, size_t offset,
                           bool before_name, size_t start, Tokens *out, Error *err)
{
    if (e->v->kind == BYTE_LEVEL_BPE) {
        return encode_words(e, text, size, offset, out, err);
    }
    const bool prefix = wants_prefix(e->v, out, start);
    return (size == 0 && !(before_name && prefix)) ||
           encode_sentence(e, text, size, offset, prefix, out, err);
}

// Encodes all spans, of which `text` is the `size` bytes.
static bool encode_text(Encoder *e, const char *text, size_t size, const TextSpan *spans,
                        size_t n_spans, size_t start, Tokens *out, Error *err)
{
    size_t begin = 0, at = 0, end = 0;  // text[begin .. at) is not yet encoded
    for (size_t i = 0; i < n_spans; i++) {
        end += spans[i].size;
        while (at < end) {
            const size_t special_size = spans[i].special ? end - at : 0;
            const int id = vocabulary_find_name(e->v, text + at, size - at, special_size);
            if (id < 0) {
                at++;
                continue;
            }
            if (!encode_stretch(e, text + begin, at - begin, begin, !is_special(e->v, id), start,
                                out, err) ||
                !tokens_append(out, id, err)) {
                return false;
            }
            at += piece_size(e->v, (size_t)id);
            begin = at;
        }
    }
    return encode_stretch(e, text + begin, size - begin, begin, false, start, out, err);
}

bool tokenizer_encode(const Tokenizer *t, const TextSpan *spans, size_t n_spans, bool add_bos,
                      Tokens *out, Error *err)
{
    const Vocabulary *v = &t->vocabulary;
    Encoder e = {.v = v};
    Buffer text = {0};
    const bool fresh = out->size == 0;
    bool ok = !add_bos || !v->add_bos || v->bos < 0 || tokens_append(out, v->bos, err);
    const size_t start = fresh ? out->size : SIZE_MAX;
    for (size_t i = 0; ok && i < n_spans; i++) {
        ok = buffer_append(&text, spans[i].text, spans[i].size, err);
    }
    const char *bytes = text.size ? text.data : "";
    ok = ok && encode_text(&e, bytes, text.size, spans, n_spans, start, out, err);
    buffer_free(&text);
    buffer_free(&e.text);
    free(e.symbols);
    free(e.heap);
    return ok;
}

// --------------------------------------------------------------------------------------------
// Decoding

const char *tokenizer_decode(const Tokenizer *t, int previous, int id, size_t *size)
{
    const Vocabulary *v = &t->vocabulary;
    const char *piece = tokenizer_piece(t, id, size);
    if (v->attribute[id] == PIECE_SPECIAL) {
        *size = 0;
    } else if (v->attribute[id] == PIECE_UNKNOWN) {
        *size = 3;
        return UTF8_REPLACEMENT;
    } else if (v->add_prefix && (previous < 0 || is_special(v, previous)) &&
               v->attribute[id] == PIECE_NORMAL && *piece == ' ') {
        piece++;
        --*size;
    }
    return piece;
}

const char *tokenizer_piece(const Tokenizer *t, int id, size_t *size)
{
    *size = piece_size(&t->vocabulary, (size_t)id);
    return piece_bytes(&t->vocabulary, (size_t)id);
}

uint64_t tokenizer_fingerprint(const Tokenizer *t)
{
    const Vocabulary *v = &t->vocabulary;
    uint64_t h = hash_bytes(HASH_BEGIN, v->offset, (v->size + 1) * sizeof *v->offset);
    h = hash_bytes(h, v->bytes, v->offset[v->size]);
    h = hash_bytes(h, v->attribute, v->size);
    if (v->kind == SENTENCEPIECE_BPE) {
        h = hash_bytes(h, v->score, v->size * sizeof *v->score);
    }
    return v->n_merges ? hash_bytes(h, v->merges, v->n_merges * sizeof *v->merges) : h;
}

const char *tokenizer_kind(const Tokenizer *t)
{
    return !t                                        ? "none"
           : t->vocabulary.kind == SENTENCEPIECE_BPE ? "sentencepiece"
                                                     : "byte-level bpe";
}

size_t tokenizer_vocab_size(const Tokenizer *t) { return t->vocabulary.size; }
int tokenizer_bos(const Tokenizer *t) { return t->vocabulary.bos; }
bool tokenizer_is_special(const Tokenizer *t, int id) { return is_special(&t->vocabulary, id); }

bool tokenizer_is_end(const Tokenizer *t, int id)
{
    for (size_t i = 0; i < t->vocabulary.n_end; i++) {
        if (t->vocabulary.end[i] == id) {
            return true;
        }
    }
    return false;
}
