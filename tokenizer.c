// tokenizer.c - SentencePiece BPE, as Llama 1 and 2 have it.
//
// Text becomes symbols, one a character, in a doubly linked list over the bytes. A heap holds every
// pair of neighbours that is a piece of the vocabulary; the best pair - highest score, then
// leftmost - is merged until none is left. An entry of the heap whose symbols have changed since is
// skipped when it comes up. So a text of n characters takes O(n log n), in one stretch: a piece may
// hold spaces, so words are no boundary.
//
//     bytes     ' ' o n c e ' ' u p o n            (a leading space is added, as SentencePiece
//     does) symbols   [start, size, previous, next] ...  merged ones have size 0
//
// What is no piece in the end is spelled in byte tokens. Pieces are found by the bytes they stand
// for in an open hash table; control and byte tokens are not in it, so no text is ever mistaken for
// them.
#include "tokenizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PIECE  4096            // bytes
#define SPACE_MARK "\xe2\x96\x81"  // U+2581, which SentencePiece writes for a space

typedef enum { PIECE_NORMAL, PIECE_SPECIAL, PIECE_BYTE, PIECE_UNKNOWN } PieceKind;

struct Tokenizer {
    size_t vocab_size;
    char *bytes;        // of all pieces, one after the other; a byte token's is its one byte
    uint32_t *offset;   // (vocab_size + 1): piece i is bytes[offset[i]] .. bytes[offset[i + 1] - 1]
    float *score;       // (vocab_size)
    uint8_t *kind;      // (vocab_size): PieceKind
    uint32_t *table;    // (table_size): ids + 1 of normal pieces by hash, 0: empty
    size_t table_size;  // a power of two, at most half full
    int byte_id[256];   // -1: none
    int bos, eos, unknown;  // -1: none
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

// --------------------------------------------------------------------------------------------
// The vocabulary

static size_t piece_size(const Tokenizer *t, size_t id)
{
    return t->offset[id + 1] - t->offset[id];
}

// The place in the table of the piece with these bytes, or the empty place where it would be.
static size_t table_place(const Tokenizer *t, const char *bytes, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ (uint8_t)bytes[i]) * 0x100000001b3u;
    }
    size_t place = (hash ^ hash >> 32) & (t->table_size - 1);
    for (; t->table[place]; place = (place + 1) & (t->table_size - 1)) {
        const size_t id = t->table[place] - 1;
        if (piece_size(t, id) == size && memcmp(t->bytes + t->offset[id], bytes, size) == 0) {
            break;
        }
    }
    return place;
}

// The id of the normal piece with these bytes, or -1.
static int find_piece(const Tokenizer *t, const char *bytes, size_t size)
{
    return (int)t->table[table_place(t, bytes, size)] - 1;
}

static bool fill_table(Tokenizer *t, const char *path, Error *err)
{
    for (t->table_size = 64; t->table_size < 2 * t->vocab_size;) {
        t->table_size *= 2;
    }
    t->table = calloc(t->table_size, sizeof *t->table);
    if (!t->table) {
        return error_memory(err, "the table of pieces", t->table_size * sizeof *t->table);
    }
    for (size_t id = 0; id < t->vocab_size; id++) {
        if (t->kind[id] != PIECE_NORMAL) {
            continue;
        }
        const size_t place = table_place(t, t->bytes + t->offset[id], piece_size(t, id));
        if (t->table[place]) {
            return error_set(err, ERROR_INPUT,
                             "%s: piece %zu is the same as piece %u, wanted distinct pieces", path,
                             id, (unsigned)t->table[place] - 1);
        }
        t->table[place] = (uint32_t)id + 1;
    }
    return true;
}

// The value of a byte piece, <0x00> to <0xFF>, or -1.
static int byte_value(const char *piece, size_t size)
{
    static const char digits[] = "0123456789ABCDEF";
    if (size != 6 || memcmp(piece, "<0x", 3) != 0 || piece[5] != '>' || !piece[3] || !piece[4]) {
        return -1;
    }
    const char *high = strchr(digits, piece[3]), *low = strchr(digits, piece[4]);
    return high && low ? (int)((high - digits) * 16 + (low - digits)) : -1;
}

// Adds a piece of a llama2.c file: 0 is unknown, 1 and 2 are BOS and EOS, whose names stand between
// line ends there.
static void add_llama2c_piece(Tokenizer *t, size_t id, float score, const char *piece, size_t size)
{
    static const char *const names[] = {NULL, "<s>", "</s>"};
    const int value = byte_value(piece, size);
    char *to = t->bytes + t->offset[id];
    t->score[id] = score;
    t->kind[id] = id == 0      ? PIECE_UNKNOWN
                  : id <= 2    ? PIECE_SPECIAL
                  : value >= 0 ? PIECE_BYTE
                               : PIECE_NORMAL;
    if (t->kind[id] == PIECE_SPECIAL) {
        size = strlen(names[id]);
        memcpy(to, names[id], size);
    } else if (t->kind[id] == PIECE_BYTE) {
        size = 1;
        *to = (char)value;
        t->byte_id[value] = (int)id;
    } else {
        memcpy(to, piece, size);
    }
    t->offset[id + 1] = t->offset[id] + (uint32_t)size;
}

static bool read_llama2c(Tokenizer *t, const char *path, const uint8_t *p, size_t left, Error *err)
{
    int32_t max_length;
    if (left < 4) {
        return error_set(err, ERROR_INPUT,
                         "%s: the file has %zu bytes, wanted max_token_length, 4 bytes", path,
                         left);
    }
    memcpy(&max_length, p, 4);
    if (max_length < 1 || max_length > MAX_PIECE) {
        return error_set(err, ERROR_INPUT, "%s: max_token_length is %d, wanted 1 to %d", path,
                         max_length, MAX_PIECE);
    }
    p += 4;
    left -= 4;
    for (size_t id = 0; id < t->vocab_size; id++) {
        float score;
        int32_t length;
        if (left < 8) {
            return error_set(
                err, ERROR_INPUT,
                "%s: the file ends at piece %zu, wanted %zu pieces, as many as the model has", path,
                id, t->vocab_size);
        }
        memcpy(&score, p, 4);
        memcpy(&length, p + 4, 4);
        if (!isfinite(score)) {
            return error_set(err, ERROR_INPUT,
                             "%s: the score of piece %zu is %g, wanted a finite number", path, id,
                             (double)score);
        }
        if (length < 1 || length > max_length || (size_t)length > left - 8) {
            return error_set(err, ERROR_INPUT, "%s: the length of piece %zu is %d, wanted 1 to %zu",
                             path, id, length,
                             left - 8 < (size_t)max_length ? left - 8 : (size_t)max_length);
        }
        add_llama2c_piece(t, id, score, (const char *)p + 8, (size_t)length);
        p += 8 + length;
        left -= 8 + (size_t)length;
    }
    if (left) {
        return error_set(
            err, ERROR_INPUT,
            "%s: %zu bytes after piece %zu, wanted as many pieces as the model has, %zu", path,
            left, t->vocab_size - 1, t->vocab_size);
    }
    return true;
}

bool tokenizer_open_llama2c(Tokenizer **out, const char *path, size_t vocab_size, Error *err)
{
    *out = NULL;
    Mapping file;
    if (!mapping_open(&file, path, err)) {
        return false;
    }
    bool ok = false;
    Tokenizer *t = calloc(1, sizeof *t);
    if (t) {
        *t = (Tokenizer){.vocab_size = vocab_size, .bos = 1, .eos = 2, .unknown = 0};
        memset(t->byte_id, 0xff, sizeof t->byte_id);
        t->bytes = malloc(file.size);  // pieces only get shorter than they are in the file
        t->offset = calloc(vocab_size + 1, sizeof *t->offset);
        t->score = calloc(vocab_size, sizeof *t->score);
        t->kind = calloc(vocab_size, sizeof *t->kind);
    }
    if (!t || !t->bytes || !t->offset || !t->score || !t->kind) {
        error_memory(err, "the vocabulary", file.size + vocab_size * 9);
    } else if (file.size > UINT32_MAX) {
        error_set(err, ERROR_INPUT, "%s: has %zu bytes, wanted less than 4 GiB", path, file.size);
    } else if (vocab_size < 3) {
        error_set(err, ERROR_INPUT,
                  "%s: the model has %zu tokens, wanted at least <unk>, <s> and </s>", path,
                  vocab_size);
    } else {
        ok = read_llama2c(t, path, file.data, file.size, err) && fill_table(t, path, err);
    }
    mapping_close(&file);
    if (!ok) {
        tokenizer_free(t);
        return false;
    }
    *out = t;
    return true;
}

void tokenizer_free(Tokenizer *t)
{
    if (t) {
        free(t->bytes);
        free(t->offset);
        free(t->score);
        free(t->kind);
        free(t->table);
        free(t);
    }
}

// --------------------------------------------------------------------------------------------
// Encoding

#define NO_SYMBOL UINT32_MAX

typedef struct {
    uint32_t start, size;  // bytes; size 0: merged into the one before
    uint32_t previous, next;
} Symbol;

// A pair of neighbours that is a piece, by its left symbol. `size` tells whether the pair is still
// what it was.
typedef struct {
    float score;
    uint32_t left, size;
} Merge;

typedef struct {
    const Tokenizer *t;
    Buffer text;  // of the stretch, spaces normalised
    Symbol *symbols;
    Merge *heap;
    size_t n_heap, heap_capacity;
} Encoder;

static bool merge_first(Merge a, Merge b)
{
    return a.score > b.score || (a.score == b.score && a.left < b.left);
}

static bool heap_push(Encoder *e, Merge m, Error *err)
{
    if (e->n_heap == e->heap_capacity) {
        const size_t capacity = e->heap_capacity ? 2 * e->heap_capacity : 256;
        Merge *heap = realloc(e->heap, capacity * sizeof *heap);
        if (!heap) {
            return error_memory(err, "merges", capacity * sizeof *heap);
        }
        e->heap = heap;
        e->heap_capacity = capacity;
    }
    size_t i = e->n_heap++;
    for (size_t parent; i && merge_first(m, e->heap[parent = (i - 1) / 2]); i = parent) {
        e->heap[i] = e->heap[parent];
    }
    e->heap[i] = m;
    return true;
}

static Merge heap_pop(Encoder *e)
{
    const Merge top = e->heap[0], last = e->heap[--e->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < e->n_heap; i = child) {
        child += child + 1 < e->n_heap && merge_first(e->heap[child + 1], e->heap[child]);
        if (!merge_first(e->heap[child], last)) {
            break;
        }
        e->heap[i] = e->heap[child];
    }
    e->heap[i] = last;
    return top;
}

// Puts a symbol and its right neighbour on the heap where together they are a piece.
static bool consider(Encoder *e, uint32_t left, Error *err)
{
    const uint32_t right = left == NO_SYMBOL ? NO_SYMBOL : e->symbols[left].next;
    if (right == NO_SYMBOL) {
        return true;
    }
    const uint32_t size = e->symbols[left].size + e->symbols[right].size;
    const int id = size <= MAX_PIECE ? find_piece(e->t, e->text.data + e->symbols[left].start, size)
                                     : -1;
    return id < 0 || heap_push(e, (Merge){e->t->score[id], left, size}, err);
}

static bool merge_all(Encoder *e, size_t n_symbols, Error *err)
{
    for (uint32_t i = 0; i < n_symbols; i++) {
        if (!consider(e, i, err)) {
            return false;
        }
    }
    while (e->n_heap) {
        const Merge m = heap_pop(e);
        Symbol *left = &e->symbols[m.left];
        const uint32_t right = left->next;
        if (!left->size || right == NO_SYMBOL || left->size + e->symbols[right].size != m.size) {
            continue;  // one of the two has been merged with another since
        }
        left->size = m.size;
        left->next = e->symbols[right].next;
        e->symbols[right].size = 0;
        if (left->next != NO_SYMBOL) {
            e->symbols[left->next].previous = m.left;
        }
        if (!consider(e, left->previous, err) || !consider(e, m.left, err)) {
            return false;
        }
    }
    return true;
}

// Spells a symbol that is no piece.
static bool spell(const Encoder *e, Symbol s, size_t offset, Tokens *out, Error *err)
{
    const char *bytes = e->text.data + s.start;
    for (uint32_t i = 0; i < s.size; i++) {
        const uint8_t byte = (uint8_t)bytes[i];
        if (e->t->byte_id[byte] >= 0) {
            if (!tokens_append(out, e->t->byte_id[byte], err)) {
                return false;
            }
        } else if (e->t->unknown >= 0 && utf8_scan(bytes, s.size) > 0) {
            return tokens_append(out, e->t->unknown, err);
        } else {
            return error_set(err, ERROR_INPUT,
                             "the prompt's byte %zu is 0x%02x, which the model has no token for",
                             offset + i, byte);
        }
    }
    return true;
}

// Encodes a stretch of text without special tokens, which begins `offset` bytes into the prompt.
static bool encode_stretch(Encoder *e, const char *text, size_t size, size_t offset, Tokens *out,
                           Error *err)
{
    if (size == 0) {
        return true;
    }
    if (size > UINT32_MAX / 2) {
        return error_set(err, ERROR_INPUT,
                         "the prompt has a text of %zu bytes, wanted at most 2 GiB", size);
    }
    buffer_clear(&e->text);
    if (!buffer_append(&e->text, " ", 1, err)) {
        return false;
    }
    e->symbols = calloc(size + 1, sizeof *e->symbols);
    if (!e->symbols) {
        return error_memory(err, "symbols", (size + 1) * sizeof *e->symbols);
    }
    uint32_t n = 1;
    e->symbols[0] = (Symbol){0, 1, NO_SYMBOL, 1};
    bool ok = true;
    for (size_t i = 0; ok && i < size; n++) {
        const int scan = utf8_scan(text + i, size - i);
        size_t length = scan > 0 ? (size_t)scan : 1, from = length;
        const char *bytes = text + i;
        if (length == 3 && memcmp(bytes, SPACE_MARK, 3) == 0) {
            bytes = " ";
            length = 1;
        }
        e->symbols[n] = (Symbol){(uint32_t)e->text.size, (uint32_t)length, n - 1, n + 1};
        ok = buffer_append(&e->text, bytes, length, err);
        i += from;
    }
    e->symbols[n - 1].next = NO_SYMBOL;
    ok = ok && merge_all(e, n, err);
    for (uint32_t i = 0; ok && i != NO_SYMBOL; i = e->symbols[i].next) {
        const Symbol s = e->symbols[i];
        const int id = find_piece(e->t, e->text.data + s.start, s.size);
        // Only the added space stands before the text (and marks of spaces shrink): good enough to
        // find the byte.
        ok = id >= 0 ? tokens_append(out, id, err) : spell(e, s, offset + s.start - 1, out, err);
    }
    free(e->symbols);
    e->symbols = NULL;
    e->n_heap = 0;
    return ok;
}

// The special token whose name begins here, the longest where several do; -1: none.
static int find_special(const Tokenizer *t, const char *text, size_t size)
{
    int best = -1;
    for (int id = t->bos; id <= t->eos; id++) {
        const size_t length = piece_size(t, (size_t)id);
        if (length <= size && memcmp(t->bytes + t->offset[id], text, length) == 0 &&
            (best < 0 || length > piece_size(t, (size_t)best))) {
            best = id;
        }
    }
    return best;
}

bool tokenizer_encode(const Tokenizer *t, const TextSpan *spans, size_t n_spans, bool add_bos,
                      Tokens *out, Error *err)
{
    Encoder e = {.t = t};
    Buffer stretch = {0};
    size_t offset = 0, stretch_offset = 0;
    bool ok = !add_bos || t->bos < 0 || tokens_append(out, t->bos, err);
    for (size_t i = 0; ok && i < n_spans; i++) {
        const TextSpan *span = &spans[i];
        size_t begin = 0;  // of what is not yet in the stretch
        for (size_t at = 0; ok && span->special && at < span->size;) {
            const int id = find_special(t, span->text + at, span->size - at);
            if (id < 0) {
                at++;
                continue;
            }
            ok = buffer_append(&stretch, span->text + begin, at - begin, err) &&
                 encode_stretch(&e, stretch.data, stretch.size, stretch_offset, out, err) &&
                 tokens_append(out, id, err);
            buffer_clear(&stretch);
            at += piece_size(t, (size_t)id);
            begin = at;
            stretch_offset = offset + at;
        }
        ok = ok && buffer_append(&stretch, span->text + begin, span->size - begin, err);
        offset += span->size;
    }
    ok = ok && encode_stretch(&e, stretch.data, stretch.size, stretch_offset, out, err);
    buffer_free(&stretch);
    buffer_free(&e.text);
    free(e.heap);
    return ok;
}

// --------------------------------------------------------------------------------------------
// Decoding

const char *tokenizer_decode(const Tokenizer *t, int previous, int id, size_t *size)
{
    const char *piece = tokenizer_piece(t, id, size);
    if (t->kind[id] == PIECE_SPECIAL) {
        *size = 0;
    } else if (t->kind[id] == PIECE_UNKNOWN) {
        *size = 3;
        return UTF8_REPLACEMENT;
    } else if ((previous < 0 || previous == t->bos) && t->kind[id] == PIECE_NORMAL &&
               *piece == ' ') {
        piece++;
        --*size;
    }
    return piece;
}

const char *tokenizer_piece(const Tokenizer *t, int id, size_t *size)
{
    *size = piece_size(t, (size_t)id);
    return t->bytes + t->offset[id];
}

size_t tokenizer_vocab_size(const Tokenizer *t) { return t->vocab_size; }
int tokenizer_bos(const Tokenizer *t) { return t->bos; }
bool tokenizer_is_special(const Tokenizer *t, int id) { return t->kind[id] == PIECE_SPECIAL; }
// llama2.c's models end a text with BOS, chat models with EOS.
bool tokenizer_is_end(const Tokenizer *t, int id) { return id == t->bos || id == t->eos; }
const char *tokenizer_kind(const Tokenizer *t) { return t ? "sentencepiece" : "none"; }
bool tokenizer_open_section(Tokenizer **out, const char *name, const uint8_t *data, size_t size,
                            size_t vocab_size, Error *err)
{
    (void)data, (void)size, (void)vocab_size;
    *out = NULL;
    return error_set(err, ERROR_INPUT, "%s: section tokenizer cannot be read yet", name);
}
