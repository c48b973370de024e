// tokenizer.c - text <-> tokens: SentencePiece BPE and byte-level BPE.
//
// Encoding takes three steps. The names of added tokens are found first, those of special tokens in
// the spans that allow it. They cut the text into stretches. A stretch is cut further into symbols,
// which are merged; what is left is tokens.
//
//                      SentencePiece                        byte-level BPE
//     merged at once   a stretch, between the names in it   a word (text/pretokenizer.h): no merge
//                      that are found before merging        crosses its ends
//     put before it    a space, if the model wants one      nothing
//     first symbols    characters                           bytes
//     a pair merges    if its bytes are a piece, or as in   if the pair is in the list of merges
//                      byte-level BPE
//     ranked by        the score of that piece              its place in that list
//     left without     spelled in byte tokens, or the       cannot happen after the first step:
//     a token          unknown token, or refused            bytes without a token are refused
//
// Both merge the pair of neighbours with the best rank, the leftmost of equals, until no pair can
// be merged. The symbols stand in a doubly linked list over the bytes, so merging two is O(1). A
// heap holds every pair of neighbours that can be merged:
//
//     bytes     ' ' o n c e ' ' u p o n
//     symbols   [start, size, previous, next, id] ...       a symbol merged into the one before it
//                                                           has size 0
//     heap      [rank and left symbol, size, result] ...    the best first
//
// A merge makes at most two new pairs, with the neighbours on either side; those it destroys stay
// in the heap and are skipped when they come up. n symbols put at most 3 n entries on the heap, so
// the time is O(n log n) for any text; scanning for the best pair after each merge would be O(n^2),
// and SentencePiece's stretches can be a whole document.
#include "tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/checksum.h"
#include "base/files.h"
#include "text/vocabulary.h"
#include "text/word_character.h"

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
    mapping_close(&file);  // everything needed of it has been copied
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

bool tokenizer_guard(Tokenizer *t, const char *text, size_t size, Error *err)
{
    return vocabulary_guard(&t->vocabulary, text, size, err);
}

// --------------------------------------------------------------------------------------------
// Merging

#define NO_SYMBOL UINT32_MAX

// A run of bytes that is, so far, one piece. Symbols are never moved: they are linked in the order
// of the text by their indices.
typedef struct {
    uint32_t start, size;     // bytes; size 0: merged into the symbol before it
    uint32_t previous, next;  // indices, or NO_SYMBOL
    int id;                   // of the piece, -1: there is no such piece
} Symbol;

// A pair of neighbours that can be merged. It is stale if either has been merged with another
// symbol since. Symbols only grow, and swallow their right neighbour whole, so a pair is still the
// same if and only if its size is.
typedef struct {
    uint64_t order;  // rank << 32 | index of the left symbol: the least is merged first
    uint32_t size;   // bytes, of both
    int id;          // of the piece they make
} MergeCandidate;

// Text between two names that cut it: text[begin .. end), with a space before it if `prefix`.
typedef struct {
    size_t begin, end;
    bool prefix;
} Stretch;

typedef struct {
    const Vocabulary *v;
    const TextSpan *spans;  // (n_spans): the caller's
    size_t n_spans;
    size_t span, span_end;      // of special_bytes: the span that it looked at last, and its end
    size_t guard, guard_begin;  // of free_bytes: the guarded span that comes next, and its start
    const char *text;           // (size): of all spans, concatenated
    size_t size;
    Tokens *out;        // the caller's; tokens are appended
    size_t text_start;  // length of *out where the text begins; SIZE_MAX: it continues another
    Error *err;         // the caller's

    const char *bytes;  // that the symbols are made of: a word of the text, or `normal`
    Buffer normal;      // SentencePiece: a stretch with its prefix and with spaces as in the pieces
    Symbol *symbols;    // (n_symbols); owned
    size_t n_symbols, symbols_capacity;
    MergeCandidate *heap;  // (n_heap): each entry before its children, 4 i + 1 to 4 i + 4; owned
    size_t n_heap, heap_capacity;
} Encoder;

static bool put_token(Encoder *e, int id) { return tokens_append(e->out, id, e->err); }

// A heap with four children per entry has half the levels of a binary one, and the four share a
// line of the processor's cache.
static bool heap_push(Encoder *e, MergeCandidate c)
{
    if (e->n_heap == e->heap_capacity) {
        const size_t capacity = e->heap_capacity ? 2 * e->heap_capacity : 256;
        MergeCandidate *heap = realloc(e->heap, capacity * sizeof *heap);
        if (!heap) {
            return error_memory(e->err, "merges", capacity * sizeof *heap);
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

static MergeCandidate heap_pop(Encoder *e)
{
    const MergeCandidate top = e->heap[0], last = e->heap[--e->n_heap];
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

// The rank of a score: the higher the score, the lower the rank; equal scores have equal ranks.
// Read as an integer, a positive float grows with its value and a negative one with its magnitude.
static uint32_t score_rank(float score)
{
    const float value = score + 0.0f;  // -0 becomes +0
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits >> 31 ? bits : INT32_MAX - bits;
}

// Puts a symbol and its right neighbour on the heap if they can be merged.
static bool consider(Encoder *e, uint32_t left)
{
    const uint32_t right = left == NO_SYMBOL ? NO_SYMBOL : e->symbols[left].next;
    if (right == NO_SYMBOL) {
        return true;
    }
    const Symbol *l = &e->symbols[left], *r = &e->symbols[right];
    const Vocabulary *v = e->v;
    MergeCandidate c = {.size = l->size + r->size};
    uint32_t rank;
    if (v->score) {
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
    return heap_push(e, c);
}

// Merges the symbols over e->bytes until no pair of neighbours can be merged.
static bool merge_all(Encoder *e)
{
    for (uint32_t i = 0; i < e->n_symbols; i++) {
        if (!consider(e, i)) {
            return false;
        }
    }
    while (e->n_heap) {
        const MergeCandidate c = heap_pop(e);
        const uint32_t at = (uint32_t)c.order;
        Symbol *left = &e->symbols[at];
        const uint32_t right = left->next;
        if (!left->size || right == NO_SYMBOL || left->size + e->symbols[right].size != c.size) {
            continue;  // stale
        }
        left->size = c.size;
        left->id = c.id;
        left->next = e->symbols[right].next;
        e->symbols[right].size = 0;
        if (left->next != NO_SYMBOL) {
            e->symbols[left->next].previous = at;
        }
        if (!consider(e, left->previous) || !consider(e, at)) {
            return false;
        }
    }
    return true;
}

// Starts a new list of symbols, with room for one per byte and one more.
static bool begin_symbols(Encoder *e, size_t bytes)
{
    e->n_symbols = e->n_heap = 0;
    if (bytes > UINT32_MAX / 2) {
        return error_set(e->err, ERROR_INPUT,
                         "the prompt has a text of %zu bytes, expected at most 2 GiB", bytes);
    }
    if (bytes + 1 > e->symbols_capacity) {
        const size_t capacity = bytes + 1 < 128 ? 256 : 2 * (bytes + 1);
        Symbol *symbols = realloc(e->symbols, capacity * sizeof *symbols);
        if (!symbols) {
            return error_memory(e->err, "symbols", capacity * sizeof *symbols);
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

static bool no_token(Encoder *e, char byte, size_t offset)
{
    return error_set(e->err, ERROR_INPUT,
                     "the prompt's byte %zu is 0x%02x, which the model has no token for", offset,
                     (uint8_t)byte);
}

// --------------------------------------------------------------------------------------------
// SentencePiece
//
// SentencePiece writes U+2581 for a space, in its pieces and in the text. Our pieces have the space
// itself, so both become a space before merging. It also trains on texts that begin with a space,
// so that a word is the same piece at the start of a text as within it: that space, the dummy
// prefix, is put before a text when it is encoded and dropped when it is decoded.

// Whether U+2581 is at text[at .. end).
static bool is_space_mark(const Encoder *e, size_t at, size_t end)
{
    return end - at >= 3 && memcmp(e->text + at, SPACE_MARK, 3) == 0;
}

// Builds the normal form of a stretch.
static bool normalize(Encoder *e, const Stretch *s)
{
    buffer_clear(&e->normal);
    if (s->prefix) {
        buffer_add(&e->normal, " ", 1);
    }
    size_t from = s->begin;  // text[from .. i) is not yet copied
    for (size_t i = s->begin; i < s->end; i++) {
        if (is_space_mark(e, i, s->end)) {
            buffer_add(&e->normal, e->text + from, i - from);
            buffer_add(&e->normal, " ", 1);
            from = i + 3;
        }
    }
    buffer_add(&e->normal, e->text + from, s->end - from);
    return buffer_check(&e->normal, e->err);
}

// Makes one symbol for each character of normal[from .. to). A byte that is not UTF-8 counts as a
// character.
static bool begin_characters(Encoder *e, size_t from, size_t to)
{
    const size_t size = to - from;
    if (!begin_symbols(e, size)) {
        return false;
    }
    e->bytes = e->normal.data + from;
    for (size_t i = 0; i < size;) {
        const int scan = utf8_scan(e->bytes + i, size - i);
        const size_t n = scan > 0 ? (size_t)scan : 1;
        add_symbol(e, i, n, vocabulary_find(e->v, e->bytes + i, n));
        i += n;
    }
    return true;
}

// The offset in the text of byte at + 1 of the normal form of a stretch, given that of byte `at`.
static size_t next_offset(const Encoder *e, const Stretch *s, size_t at, size_t offset)
{
    return at < s->prefix ? offset : offset + (is_space_mark(e, offset, s->end) ? 3 : 1);
}

// The offset of byte `at`, found by walking the stretch again: only error messages need it.
static size_t original_offset(const Encoder *e, const Stretch *s, size_t at)
{
    size_t offset = s->begin;
    for (size_t i = 0; i < at; i++) {
        offset = next_offset(e, s, i, offset);
    }
    return offset;
}

// How many of the first bytes of a character have byte tokens.
static size_t count_byte_tokens(const Vocabulary *v, const char *bytes, size_t size)
{
    size_t n = 0;
    while (n < size && v->byte_id[(uint8_t)bytes[n]] >= 0) {
        n++;
    }
    return n;
}

// Encodes normal[from .. to). Byte fallback: a character that is no piece is spelled in the tokens
// of its bytes. If one of those is missing, it becomes the unknown token, of which one stands for
// all such characters in a row, as in sentencepiece. What is not UTF-8 has no unknown token.
static bool encode_characters(Encoder *e, const Stretch *stretch, size_t from, size_t to)
{
    const Vocabulary *v = e->v;
    if (!begin_characters(e, from, to) || !merge_all(e)) {
        return false;
    }
    bool unknown = false;  // the token before is the unknown token
    for (uint32_t i = e->n_symbols ? 0 : NO_SYMBOL; i != NO_SYMBOL; i = e->symbols[i].next) {
        const Symbol s = e->symbols[i];
        const char *bytes = e->bytes + s.start;
        const size_t n_spelled = s.id < 0 ? count_byte_tokens(v, bytes, s.size) : 0;
        bool ok = true;
        if (s.id >= 0) {
            ok = put_token(e, s.id);
            unknown = false;
        } else if (n_spelled == s.size) {
            for (size_t b = 0; ok && b < s.size; b++) {
                ok = put_token(e, v->byte_id[(uint8_t)bytes[b]]);
            }
            unknown = false;
        } else if (v->unknown >= 0 && utf8_scan(bytes, s.size) > 0) {
            ok = unknown || put_token(e, v->unknown);
            unknown = true;
        } else {
            const size_t at = s.start + n_spelled;
            ok = no_token(e, e->bytes[at], original_offset(e, stretch, from + at));
        }
        if (!ok) {
            return false;
        }
    }
    return true;
}

// How many bytes from text[at] on lie in one span that allows special tokens. From call to call
// `at` only grows, so all calls together walk over the spans once.
static size_t special_bytes(Encoder *e, size_t at)
{
    while (e->span_end <= at && e->span < e->n_spans) {
        e->span_end += e->spans[e->span++].size;
    }
    return at < e->span_end && e->spans[e->span - 1].special ? e->span_end - at : 0;
}

// How many bytes from text[at] on lie before the next guarded span. As with special_bytes, `at` only
// grows.
static size_t free_bytes(Encoder *e, size_t at)
{
    while (e->guard < e->n_spans &&
           (!e->spans[e->guard].guarded || e->guard_begin + e->spans[e->guard].size <= at)) {
        e->guard_begin += e->spans[e->guard++].size;
    }
    return e->guard == e->n_spans ? SIZE_MAX : e->guard_begin > at ? e->guard_begin - at : 0;
}

// A name that normal[at .. at + size) may be, whose bytes after a first space come from the text at
// `begin`.
typedef struct {
    size_t at, size, begin;
} PossibleName;

// How many of its bytes come from the first `left` of the text; a space alone does not count.
static size_t bytes_within(const Encoder *e, const Stretch *s, PossibleName name, size_t left)
{
    const size_t space = e->normal.data[name.at] == ' ';
    size_t n = space;
    for (size_t end = name.begin; n < name.size; n++) {
        end = next_offset(e, s, name.at + n, end);
        if (end - name.begin > left) {
            break;
        }
    }
    return n > space ? n : 0;
}

// The id of the longest name with which normal[at ..) begins, or -1. Byte `at` comes from the
// offset `offset` of the text. A special token's name may begin with a space of anyone's; the rest
// of it has to lie within one span that allows it, and that of a guarded one before any span that
// does not.
static int find_in_stretch(Encoder *e, const Stretch *s, size_t at, size_t offset)
{
    const Vocabulary *v = e->v;
    const char *bytes = e->normal.data + at;
    const size_t size = e->normal.size - at;
    const NameLimits any = {SIZE_MAX, SIZE_MAX};
    const int id = vocabulary_find_name(v, &v->stretch_names, bytes, size, any);
    if (id < 0 || (!is_special(v, id) && !is_guarded(v, id))) {
        return id;
    }
    const size_t begin = *bytes == ' ' ? next_offset(e, s, at, offset) : offset;
    const PossibleName name = {at, piece_size(v, (size_t)id), begin};
    const NameLimits limits = {bytes_within(e, s, name, special_bytes(e, begin)),
                               bytes_within(e, s, name, free_bytes(e, begin))};
    return vocabulary_find_name(v, &v->stretch_names, bytes, size, limits);
}

// Encodes a stretch: the names in it, and the characters between them.
static bool encode_sentence(Encoder *e, const Stretch *s)
{
    if (!normalize(e, s)) {
        return false;
    }
    size_t from = 0, at = 0;   // normal[from .. at) is not yet encoded
    size_t offset = s->begin;  // of byte `at`, in the text
    while (e->v->stretch_names.n && at < e->normal.size) {
        const int id = find_in_stretch(e, s, at, offset);
        const size_t end = at + (id < 0 ? 1 : piece_size(e->v, (size_t)id));
        if (id >= 0) {
            if (!encode_characters(e, s, from, at) || !put_token(e, id)) {
                return false;
            }
            from = end;
        }
        for (; at < end; at++) {
            offset = next_offset(e, s, at, offset);
        }
    }
    return encode_characters(e, s, from, e->normal.size);
}

// --------------------------------------------------------------------------------------------
// Byte-level BPE

// Encodes the word text[begin .. begin + size).
static bool encode_word(Encoder *e, size_t begin, size_t size)
{
    const Vocabulary *v = e->v;
    const char *word = e->text + begin;
    const int whole = v->whole_words ? vocabulary_find(v, word, size) : -1;
    if (whole >= 0) {
        return put_token(e, whole);
    }
    if (!begin_symbols(e, size)) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        const int id = v->byte_id[(uint8_t)word[i]];
        if (id < 0) {
            return no_token(e, word[i], begin + i);
        }
        add_symbol(e, i, 1, id);
    }
    e->bytes = word;
    if (!merge_all(e)) {
        return false;
    }
    for (uint32_t i = 0; i != NO_SYMBOL; i = e->symbols[i].next) {
        if (!put_token(e, e->symbols[i].id)) {
            return false;
        }
    }
    return true;
}

static bool encode_words(Encoder *e, size_t begin, size_t end)
{
    while (begin < end) {
        const size_t size = word_size(e->v->words, e->text + begin, end - begin);
        if (!encode_word(e, begin, size)) {
            return false;
        }
        begin += size;
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// Encoding

// Whether the stretch that comes next in *out begins with SentencePiece's dummy prefix. Models put
// it before every stretch or only before one with which a text begins, and some of them only where
// there is no space.
static bool needs_prefix(const Encoder *e, size_t begin, size_t end)
{
    const Vocabulary *v = e->v;
    const Tokens *out = e->out;
    if (!v->add_prefix) {
        return false;
    }
    if (v->prefix_new && (e->text[begin] == ' ' || is_space_mark(e, begin, end))) {
        return false;
    }
    const bool after_cut = out->size && cuts_text(v, out->ids[out->size - 1]);
    return out->size == e->text_start || (after_cut && !v->prefix_first);
}

// Encodes text[begin .. end), which lies between two names.
static bool encode_stretch(Encoder *e, size_t begin, size_t end)
{
    if (begin == end) {
        return true;
    }
    if (e->v->kind == BYTE_LEVEL_BPE) {
        return encode_words(e, begin, end);
    }
    return encode_sentence(e, &(Stretch){begin, end, needs_prefix(e, begin, end)});
}

// Whether the name text[at .. at + size) of a token counts: a single word only if no word touches it.
static bool stands_alone(const Encoder *e, size_t at, size_t size, int id)
{
    return !(e->v->attribute[id] & PIECE_SINGLE_WORD) ||
           (!ends_with_word(e->text, at) &&
            !begins_with_word(e->text + at + size, e->size - at - size));
}

// Finds the names in the text, longest first, and encodes the stretches between them. The name of a
// special token has to lie within one span that allows it, so that no text of a user can complete
// it; that of any other token may straddle spans, but a guarded one no guarded span. A name may take
// the white space around it along.
static bool encode_spans(Encoder *e)
{
    const Vocabulary *v = e->v;
    size_t begin = 0, at = 0, end = 0;  // text[begin .. at) is not yet encoded; end: of the span
    for (size_t i = 0; i < e->n_spans; i++) {
        end += e->spans[i].size;
        while (at < end) {
            const NameLimits limits = {e->spans[i].special ? end - at : 0, free_bytes(e, at)};
            const int id = vocabulary_find_name(v, &v->text_names, e->text + at, e->size - at,
                                                limits);
            const size_t size = id < 0 ? 1 : piece_size(v, (size_t)id);
            if (id < 0 || !stands_alone(e, at, size, id)) {
                at += size;
                continue;
            }
            const bool left = v->attribute[id] & PIECE_STRIPS_LEFT;
            const size_t stripped = left ? trailing_space(e->text + begin, at - begin) : 0;
            if (!encode_stretch(e, begin, at - stripped) || !put_token(e, id)) {
                return false;
            }
            at += size;
            if (v->attribute[id] & PIECE_STRIPS_RIGHT) {
                at += leading_space(e->text + at, e->size - at);
            }
            begin = at;
        }
    }
    return encode_stretch(e, begin, e->size);
}

bool tokenizer_encode(const Tokenizer *t, const TextSpan *spans, size_t n_spans, bool add_bos,
                      Tokens *out, Error *err)
{
    const Vocabulary *v = &t->vocabulary;
    const bool new_text = out->size == 0;
    if (add_bos && v->add_bos && v->bos >= 0 && !tokens_append(out, v->bos, err)) {
        return false;
    }
    Buffer text = {0};
    for (size_t i = 0; i < n_spans; i++) {
        buffer_add(&text, spans[i].text, spans[i].size);
    }
    Encoder e = {.v = v,
                 .spans = spans,
                 .n_spans = n_spans,
                 .text = text.size ? text.data : "",
                 .size = text.size,
                 .out = out,
                 .text_start = new_text ? out->size : SIZE_MAX,
                 .err = err};
    const bool ok = buffer_check(&text, err) && encode_spans(&e);
    buffer_free(&text);
    buffer_free(&e.normal);
    free(e.symbols);
    free(e.heap);
    return ok;
}

// --------------------------------------------------------------------------------------------
// Decoding

// Whether a leading space of a token is the dummy prefix, given the token before it: the mirror of
// needs_prefix. An answer that follows a special token is a text of its own, so after those the
// space is dropped whatever encoding does. id -1: any token of the vocabulary's own.
static bool drops_prefix(const Vocabulary *v, int previous, int id)
{
    const bool begins = previous < 0 || is_special(v, previous) ||
                        (cuts_text(v, previous) && !v->prefix_first);
    return v->add_prefix && begins && (id < 0 || piece_kind(v, (size_t)id) != PIECE_ADDED);
}

const char *tokenizer_decode(const Tokenizer *t, int previous, int id, size_t *size)
{
    const Vocabulary *v = &t->vocabulary;
    const char *piece = tokenizer_piece(t, id, size);
    if (is_special(v, id)) {
        *size = 0;
    } else if (v->attribute[id] == PIECE_UNKNOWN) {
        *size = 3;
        return UTF8_REPLACEMENT;
    } else if (*size && *piece == ' ' && drops_prefix(v, previous, id)) {
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

void tokenizer_write_section(const Tokenizer *t, Buffer *out)
{
    vocabulary_write(&t->vocabulary, out);
}

bool tokenizer_trie(const Tokenizer *t, TokenTrie *out, Error *err)
{
    const Vocabulary *v = &t->vocabulary;
    TokenText *texts = calloc(v->size + 1, sizeof *texts);
    if (!texts) {
        return error_memory(err, "the texts of tokens", v->size * sizeof *texts);
    }
    for (size_t id = 0; id < v->size; id++) {
        const int attribute = v->attribute[id];
        const bool text = attribute == PIECE_NORMAL || attribute == PIECE_BYTE ||
                          attribute == PIECE_FIRST || attribute == PIECE_ADDED;
        if (text && !tokenizer_is_end(t, (int)id)) {
            texts[id] = (TokenText){piece_bytes(v, id), piece_size(v, id)};
        }
    }
    const bool ok = token_trie_create(out, texts, v->size, err);
    free(texts);
    return ok;
}

bool tokenizer_drops_space(const Tokenizer *t, int previous)
{
    return drops_prefix(&t->vocabulary, previous, -1);
}

uint64_t tokenizer_fingerprint(const Tokenizer *t)
{
    const Vocabulary *v = &t->vocabulary;
    uint64_t h = hash_bytes(HASH_BEGIN, v->offset, (v->size + 1) * sizeof *v->offset);
    h = hash_bytes(h, v->bytes, v->offset[v->size]);
    h = hash_bytes(h, v->attribute, v->size);
    if (v->score) {
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

int tokenizer_eos(const Tokenizer *t) { return t->vocabulary.n_end ? t->vocabulary.end[0] : -1; }

TextSpan tokenizer_name(const Tokenizer *t, int id)
{
    if (id < 0) {
        return (TextSpan){0};
    }
    size_t size;
    const char *piece = tokenizer_piece(t, id, &size);
    const size_t space = t->vocabulary.attribute[id] == PIECE_FIRST_SPECIAL && *piece == ' ';
    return (TextSpan){.text = piece + space, .size = size - space};
}
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

const int *tokenizer_ends(const Tokenizer *t, size_t *n)
{
    *n = t->vocabulary.n_end;
    return t->vocabulary.end;
}
