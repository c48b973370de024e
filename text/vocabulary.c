// vocabulary.c - the pieces of a tokenizer, their attributes and merges, and how they are found.
//
// A vocabulary comes from one of two files: llama2.c's tokenizer.bin, which is copied into memory
// of our own, or the tokenizer section of a checkpoint, which is read in place. A section is
// checked completely before it is used: from then on every id is that of a piece, every piece lies
// within the bytes, and every merge makes the concatenation of its two parts.
//
//     section     +----------+-----+--------------+----------------+-----------+-------+
//                 | header   | end | piece_offset | score or merge | attribute | bytes |
//                 | 64 bytes |     |              |                |           |       |
//                 +----------+-----+--------------+----------------+-----------+-------+
//
// Four indices are built over the pieces.
//
// Normal pieces by their bytes, and merges by their pair of ids: two open hash tables with linear
// probing. A place holds only an index + 1, 0 where it is empty; keys are compared where they
// already are, in the file. The number of places is a power of two and at least twice that of
// entries, so a search takes two or three probes on average, hit or miss. Nothing is ever deleted.
//
//     piece_table     0   0   17  4   0   0   ...     17 - 1 is the id of a piece; 4 - 1 hashed to
//                                                     the same place and moved on to the next
//
// The names that are looked for in the text, and those that are looked for in a stretch of it: two
// lists sorted by bytes. To find the longest name with which a text begins, each further byte of
// the text narrows the range of names that agree with it so far. from[b] is where the names with
// the first byte b start: at nearly every place of a text that range is empty, and the search ends
// at once.
#include "text/vocabulary.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/memory.h"
#include "text/substrings.h"

enum {
    FLAG_BOS = 1,
    FLAG_PREFIX = 2,
    FLAG_WHOLE_WORDS = 4,
    FLAG_PREFIX_FIRST = 8,
    FLAG_PREFIX_NEW = 16,
    FLAG_MERGES = 32
};

// --------------------------------------------------------------------------------------------
// Tables

// The number of places of a hash table of n entries.
static size_t places_for(size_t n)
{
    size_t places = 64;
    while (places < 2 * n) {
        places *= 2;
    }
    return places;
}

// The place of the piece with these bytes, or the empty place where it would be entered. The loop
// ends, because at least half of the table is empty.
static size_t piece_place(const Vocabulary *v, const char *bytes, size_t size)
{
    const uint64_t hash = hash_bytes(HASH_BEGIN, bytes, size);
    size_t place = (hash ^ hash >> 32) & (v->piece_places - 1);
    for (; v->piece_table[place]; place = (place + 1) & (v->piece_places - 1)) {
        const size_t id = v->piece_table[place] - 1;
        if (piece_size(v, id) == size && memcmp(piece_bytes(v, id), bytes, size) == 0) {
            break;
        }
    }
    return place;
}

int vocabulary_find(const Vocabulary *v, const char *bytes, size_t size)
{
    return size > MAX_PIECE ? -1 : (int)v->piece_table[piece_place(v, bytes, size)] - 1;
}

// The same for a merge. Fibonacci hashing: the upper half of a product with 2^64 / the golden ratio
// is well mixed.
static size_t merge_place(const Vocabulary *v, uint32_t left, uint32_t right)
{
    const uint64_t hash = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    size_t place = (hash >> 32) & (v->merge_places - 1);
    for (; v->merge_table[place]; place = (place + 1) & (v->merge_places - 1)) {
        const Merge *m = &v->merges[v->merge_table[place] - 1];
        if (m->left == left && m->right == right) {
            break;
        }
    }
    return place;
}

const Merge *vocabulary_merge(const Vocabulary *v, int left, int right)
{
    if (left < 0 || right < 0) {
        return NULL;
    }
    const uint32_t index = v->merge_table[merge_place(v, (uint32_t)left, (uint32_t)right)];
    return index ? &v->merges[index - 1] : NULL;
}

// Enters the normal pieces into their table, and the pieces that spell one byte into byte_id.
static bool fill_piece_table(Vocabulary *v, const char *path, Error *err)
{
    v->piece_places = places_for(v->size);
    v->piece_table = calloc(v->piece_places, sizeof *v->piece_table);
    if (!v->piece_table) {
        return error_memory(err, "the table of pieces", v->piece_places * sizeof *v->piece_table);
    }
    // In byte-level BPE normal pieces of one byte spell it, in SentencePiece separate byte pieces.
    const int spelling = v->kind == BYTE_LEVEL_BPE ? PIECE_NORMAL : PIECE_BYTE;
    for (size_t id = 0; id < v->size; id++) {
        const char *bytes = piece_bytes(v, id);
        if (v->attribute[id] == PIECE_NORMAL) {
            const size_t place = piece_place(v, bytes, piece_size(v, id));
            if (v->piece_table[place]) {
                return error_set(err, ERROR_INPUT,
                                 "%s: piece %zu is the same as piece %u, expected distinct pieces",
                                 path, id, (unsigned)v->piece_table[place] - 1);
            }
            v->piece_table[place] = (uint32_t)id + 1;
        }
        if (v->attribute[id] == spelling && piece_size(v, id) == 1) {
            v->byte_id[(uint8_t)*bytes] = (int)id;
        }
    }
    return true;
}

static bool fill_merge_table(Vocabulary *v, const char *path, Error *err)
{
    v->merge_places = places_for(v->n_merges);
    v->merge_table = calloc(v->merge_places, sizeof *v->merge_table);
    if (!v->merge_table) {
        return error_memory(err, "the table of merges", v->merge_places * sizeof *v->merge_table);
    }
    for (size_t i = 0; i < v->n_merges; i++) {
        const size_t place = merge_place(v, v->merges[i].left, v->merges[i].right);
        if (v->merge_table[place]) {
            return error_set(err, ERROR_INPUT,
                             "%s: merge %zu is the same as merge %u, expected distinct merges",
                             path, i, (unsigned)v->merge_table[place] - 1);
        }
        v->merge_table[place] = (uint32_t)i + 1;
    }
    return true;
}

typedef struct {
    const char *bytes;
    size_t size;
    uint32_t id;
} Name;

// Orders names by their bytes; a name comes before those that it begins.
static int compare_piece_names(const void *a, const void *b)
{
    const Name *x = a, *y = b;
    const int order = memcmp(x->bytes, y->bytes, x->size < y->size ? x->size : y->size);
    return order ? order : (x->size > y->size) - (x->size < y->size);
}

static bool is_text_name(const Vocabulary *v, size_t id) { return cuts_text(v, (int)id); }

static bool is_stretch_name(const Vocabulary *v, size_t id)
{
    return v->attribute[id] == PIECE_FIRST || v->attribute[id] == PIECE_FIRST_SPECIAL;
}

// Fills a table with the names of the pieces that `belongs` accepts.
static bool sort_names(Vocabulary *v, NameTable *names, bool (*belongs)(const Vocabulary *, size_t),
                       const char *path, Error *err)
{
    for (size_t id = 0; id < v->size; id++) {
        names->n += belongs(v, id);
    }
    Name *sorted = calloc(names->n + 1, sizeof *sorted);
    names->ids = calloc(names->n + 1, sizeof *names->ids);
    if (!sorted || !names->ids) {
        free(sorted);
        return error_memory(err, "the names of tokens", names->n * sizeof *sorted);
    }
    for (size_t id = 0, n = 0; id < v->size; id++) {
        if (belongs(v, id)) {
            sorted[n++] = (Name){piece_bytes(v, id), piece_size(v, id), (uint32_t)id};
            names->from[(uint8_t)*piece_bytes(v, id) + 1]++;
        }
    }
    qsort(sorted, names->n, sizeof *sorted, compare_piece_names);
    bool ok = true;
    for (size_t i = 0; ok && i < names->n; i++) {
        names->ids[i] = sorted[i].id;
        if (i && compare_piece_names(&sorted[i - 1], &sorted[i]) == 0) {
            ok = error_set(err, ERROR_INPUT,
                           "%s: token %u has the name of token %u, expected distinct names", path,
                           (unsigned)sorted[i].id, (unsigned)sorted[i - 1].id);
        }
    }
    // From the number of names with each first byte to where they start.
    for (size_t b = 0; b < 256; b++) {
        names->from[b + 1] += names->from[b];
    }
    free(sorted);
    return ok;
}

// Of ids[low .. high), whose names agree in their first `depth` bytes and all are longer, the first
// whose next byte is `byte` or greater; `high` if there is none. Binary search.
static size_t first_name(const Vocabulary *v, const uint32_t *ids, size_t low, size_t high,
                         size_t depth, unsigned byte)
{
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if ((uint8_t)piece_bytes(v, ids[middle])[depth] < byte) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

int vocabulary_find_name(const Vocabulary *v, const NameTable *names, const char *bytes,
                         size_t size, NameLimits limits)
{
    const uint8_t first = (uint8_t)*bytes;
    size_t low = names->from[first], high = names->from[first + 1];
    int best = -1;
    // ids[low .. high) begin with the first `depth` bytes.
    for (size_t depth = 1; low < high; depth++) {
        const int id = (int)names->ids[low];
        if (piece_size(v, (size_t)id) == depth) {  // it is all there; longer ones may follow
            if (depth <= (is_special(v, id)   ? limits.special
                          : is_guarded(v, id) ? limits.guarded
                                              : SIZE_MAX)) {
                best = id;
            }
            low++;
        }
        if (depth == size) {
            break;
        }
        const uint8_t next = (uint8_t)bytes[depth];
        low = first_name(v, names->ids, low, high, depth, next);
        high = first_name(v, names->ids, low, high, depth, next + 1u);
    }
    return best;
}

static bool is_white_space(const char *bytes, size_t size)
{
    size_t n = 0;
    while (n < size && (bytes[n] == ' ' || (bytes[n] >= '\t' && bytes[n] <= '\r'))) {
        n++;
    }
    return n == size;
}

// Marks the names of a table that are in the text.
static void guard_names(Vocabulary *v, const NameTable *names, const Substrings *text)
{
    for (size_t i = 0; i < names->n; i++) {
        const uint32_t id = names->ids[i];
        const size_t n = piece_size(v, id);
        if (substrings_has(text, piece_bytes(v, id), n) && !is_white_space(piece_bytes(v, id), n)) {
            v->guarded[id] = 1;
        }
    }
}

bool vocabulary_guard(Vocabulary *v, const char *text, size_t size, Error *err)
{
    if (!v->guarded) {
        v->guarded = calloc(v->size, 1);
    }
    if (!v->guarded) {
        return error_memory(err, "the guarded tokens", v->size);
    }
    Substrings *substrings;
    if (!substrings_create(&substrings, text, size, err)) {
        return false;
    }
    guard_names(v, &v->text_names, substrings);
    guard_names(v, &v->stretch_names, substrings);
    substrings_free(substrings);
    for (size_t i = 0; i < v->n_end; i++) {
        v->guarded[v->end[i]] = 1;
    }
    return true;
}

bool vocabulary_index_pieces(Vocabulary *v, const char *path, Error *err)
{
    memset(v->byte_id, 0xff, sizeof v->byte_id);
    return fill_piece_table(v, path, err);
}

static bool fill_tables(Vocabulary *v, const char *path, Error *err)
{
    return vocabulary_index_pieces(v, path, err) && fill_merge_table(v, path, err) &&
           sort_names(v, &v->text_names, is_text_name, path, err) &&
           sort_names(v, &v->stretch_names, is_stretch_name, path, err);
}

void vocabulary_close(Vocabulary *v)
{
    free(v->piece_table);
    free(v->merge_table);
    free(v->guarded);
    free(v->text_names.ids);
    free(v->stretch_names.ids);
    free(v->memory);
    *v = (Vocabulary){0};
}

// --------------------------------------------------------------------------------------------
// llama2.c's tokenizer.bin
//
//     i32 max_token_length, then for each piece: f32 score, i32 length, the bytes

// The arrays of a vocabulary while they are filled: the same memory, but writable.
typedef struct {
    char *bytes;
    uint32_t *offset;
    float *score;
    uint8_t *attribute;
} Pieces;

int byte_piece_value(const char *piece, size_t size)
{
    static const char digits[] = "0123456789ABCDEF";
    if (size != 6 || memcmp(piece, "<0x", 3) != 0 || piece[5] != '>' || !piece[3] || !piece[4]) {
        return -1;
    }
    const char *high = strchr(digits, piece[3]), *low = strchr(digits, piece[4]);
    return high && low ? (int)((high - digits) * 16 + (low - digits)) : -1;
}

// Adds a piece: 0 is the unknown token, 1 and 2 are BOS and EOS, whose names the file writes
// between newlines. A piece never gets longer than it is in the file.
static void add_llama2c_piece(Pieces *p, size_t id, float score, const char *piece, size_t size)
{
    static const char *const names[] = {NULL, "<s>", "</s>"};
    const int value = byte_piece_value(piece, size);
    char *to = p->bytes + p->offset[id];
    p->score[id] = score;
    p->attribute[id] = id == 0      ? PIECE_UNKNOWN
                       : id <= 2    ? PIECE_SPECIAL
                       : value >= 0 ? PIECE_BYTE
                                    : PIECE_NORMAL;
    if (p->attribute[id] == PIECE_SPECIAL) {
        size = strlen(names[id]);
        memcpy(to, names[id], size);
    } else if (p->attribute[id] == PIECE_BYTE) {
        size = 1;
        *to = (char)value;
    } else {
        memcpy(to, piece, size);
    }
    p->offset[id + 1] = p->offset[id] + (uint32_t)size;
}

// What is left of the file.
typedef struct {
    const uint8_t *data;
    size_t size;
} Rest;

static void take_bytes(Rest *rest, void *to, size_t size)
{
    memcpy(to, rest->data, size);
    rest->data += size;
    rest->size -= size;
}

static bool read_llama2c_piece(Pieces *pieces, size_t id, Rest *rest, int32_t max_length,
                               const char *name, Error *err)
{
    float score;
    int32_t length;
    take_bytes(rest, &score, sizeof score);
    take_bytes(rest, &length, sizeof length);
    if (!isfinite(score)) {
        return error_set(err, ERROR_INPUT,
                         "%s: the score of piece %zu is %g, expected a finite number", name, id,
                         (double)score);
    }
    const size_t max = rest->size < (size_t)max_length ? rest->size : (size_t)max_length;
    if (length < 1 || (size_t)length > max) {
        return error_set(err, ERROR_INPUT, "%s: the length of piece %zu is %d, expected 1 to %zu",
                         name, id, length, max);
    }
    add_llama2c_piece(pieces, id, score, (const char *)rest->data, (size_t)length);
    rest->data += length;
    rest->size -= (size_t)length;
    return true;
}

static bool read_llama2c(Pieces *pieces, size_t n, const char *name, Rest rest, Error *err)
{
    int32_t max_length;
    if (rest.size < sizeof max_length) {
        return error_set(err, ERROR_INPUT,
                         "%s: the file has %zu bytes, expected max_token_length, 4 bytes", name,
                         rest.size);
    }
    take_bytes(&rest, &max_length, sizeof max_length);
    if (max_length < 1 || max_length > MAX_PIECE) {
        return error_set(
            err, ERROR_INPUT,
            "%s: max_token_length is %d, expected 1 to %d (is it a llama2.c tokenizer?)", name,
            max_length, MAX_PIECE);
    }
    for (size_t id = 0; id < n; id++) {
        if (rest.size < sizeof(float) + sizeof(int32_t)) {
            return error_set(err, ERROR_INPUT,
                             "%s: the file ends at piece %zu, expected %zu pieces, the model's "
                             "vocab_size",
                             name, id, n);
        }
        if (!read_llama2c_piece(pieces, id, &rest, max_length, name, err)) {
            return false;
        }
    }
    if (rest.size) {
        return error_set(err, ERROR_INPUT,
                         "%s: %zu bytes follow piece %zu, expected %zu pieces, the model's "
                         "vocab_size",
                         name, rest.size, n - 1, n);
    }
    return true;
}

// Allocates the arrays of n pieces of at most n_bytes, in one block.
static bool alloc_pieces(Vocabulary *v, Pieces *p, size_t n, size_t n_bytes, Error *err)
{
    const size_t bytes = (n + 1) * sizeof *p->offset + n * sizeof *p->score + n + n_bytes;
    v->memory = calloc(1, bytes);
    if (!v->memory) {
        return error_memory(err, "the vocabulary", bytes);
    }
    v->offset = p->offset = v->memory;
    v->score = p->score = (float *)(void *)(p->offset + n + 1);
    v->attribute = p->attribute = (uint8_t *)(p->score + n);
    v->bytes = p->bytes = (char *)(p->attribute + n);
    return true;
}

bool vocabulary_open_llama2c(Vocabulary *v, const char *name, const uint8_t *data, size_t size,
                             size_t vocab_size, Error *err)
{
    // llama2.c's models end a text with BOS, chat models with EOS.
    static const int32_t end[] = {1, 2};
    *v = (Vocabulary){0};
    if (size > UINT32_MAX) {
        return error_set(err, ERROR_INPUT, "%s: has %zu bytes, expected less than 4 GiB", name,
                         size);
    }
    if (vocab_size < 3 || vocab_size > INT32_MAX) {
        return error_set(err, ERROR_INPUT,
                         "%s: the model has %zu tokens, expected at least <unk>, <s> and </s>",
                         name, vocab_size);
    }
    *v = (Vocabulary){.kind = SENTENCEPIECE_BPE,
                      .add_bos = true,
                      .add_prefix = true,
                      .bos = 1,
                      .unknown = 0,
                      .end = end,
                      .n_end = sizeof end / sizeof *end,
                      .size = vocab_size};
    Pieces pieces = {0};
    const bool ok = alloc_pieces(v, &pieces, vocab_size, size, err) &&
                    read_llama2c(&pieces, vocab_size, name, (Rest){data, size}, err) &&
                    fill_tables(v, name, err);
    if (!ok) {
        vocabulary_close(v);
    }
    return ok;
}

// --------------------------------------------------------------------------------------------
// The tokenizer section

// Its header as it lies in the file; docs/format.md describes the fields.
typedef struct {
    uint32_t kind;           // VocabularyKind
    uint32_t pre_tokenizer;  // WordRule, or 0
    uint32_t flags;          // FLAG_...
    uint32_t vocab_size, n_merges;
    int32_t bos, unknown;
    uint32_t n_end;
    uint64_t n_bytes;
    uint8_t zeros[24];
} TokenizerHeader;
_Static_assert(offsetof(TokenizerHeader, bos) == 20, "docs/format.md");
_Static_assert(offsetof(TokenizerHeader, n_bytes) == 32, "docs/format.md");
_Static_assert(offsetof(TokenizerHeader, zeros) == 40, "docs/format.md");
_Static_assert(sizeof(TokenizerHeader) == 64, "docs/format.md");

// Whether pairs merge by a list, not by the score of the piece that they make.
static bool has_merges(const TokenizerHeader *h)
{
    return h->kind == BYTE_LEVEL_BPE || h->flags & FLAG_MERGES;
}

static uint32_t allowed_flags(const TokenizerHeader *h)
{
    if (h->kind == BYTE_LEVEL_BPE) {
        return FLAG_BOS | FLAG_WHOLE_WORDS;
    }
    const uint32_t prefix = FLAG_PREFIX | FLAG_PREFIX_FIRST | FLAG_PREFIX_NEW;
    return FLAG_BOS | FLAG_MERGES | (h->flags & FLAG_PREFIX ? prefix : 0);
}

static bool check_header(const TokenizerHeader *h, const char *name, size_t vocab_size, Error *err)
{
    const bool byte_level = h->kind == BYTE_LEVEL_BPE, merges = has_merges(h);
    const long long last = (long long)vocab_size - 1;
    const struct {
        const char *field;
        long long found, min, max;
    } checks[] = {
        {"kind", h->kind, SENTENCEPIECE_BPE, BYTE_LEVEL_BPE},
        {"pre_tokenizer", h->pre_tokenizer, byte_level, byte_level ? N_WORD_RULES - 1 : 0},
        {"vocab_size", h->vocab_size, last + 1, last + 1},
        {"n_merges", h->n_merges, 0, merges ? INT32_MAX : 0},
        {"bos", h->bos, -1, last},
        {"unknown", h->unknown, -1, byte_level ? -1 : last},
        {"n_end", h->n_end, 0, last + 1},
        {"n_bytes", h->n_bytes > INT64_MAX ? INT64_MAX : (long long)h->n_bytes, 0, UINT32_MAX},
    };
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        if (checks[i].found < checks[i].min || checks[i].found > checks[i].max) {
            return error_set(err, ERROR_INPUT,
                             "%s: %s of section tokenizer is %lld, expected %lld to %lld", name,
                             checks[i].field, checks[i].found, checks[i].min, checks[i].max);
        }
    }
    const uint32_t allowed = allowed_flags(h);
    if (h->flags & ~allowed) {
        return error_set(err, ERROR_INPUT,
                         "%s: flags of section tokenizer are %u, expected no bits but those of %u",
                         name, (unsigned)h->flags, (unsigned)allowed);
    }
    for (size_t i = 0; i < sizeof h->zeros; i++) {
        if (h->zeros[i]) {
            return error_set(err, ERROR_INPUT,
                             "%s: byte %zu of section tokenizer is %u, expected 0", name,
                             offsetof(TokenizerHeader, zeros) + i, h->zeros[i]);
        }
    }
    return true;
}

// Sets the pointers to the arrays that follow the header. All are aligned: those of 4-byte elements
// come first.
static bool lay_out(Vocabulary *v, const TokenizerHeader *h, const char *name, const uint8_t *data,
                    size_t size, Error *err)
{
    const size_t n = v->size, n_scores = has_merges(h) ? 0 : n;
    const struct {
        size_t count, element;
    } parts[] = {{v->n_end, sizeof *v->end},   {n + 1, sizeof *v->offset},
                 {n_scores, sizeof *v->score}, {v->n_merges, sizeof *v->merges},
                 {n, sizeof *v->attribute},    {(size_t)h->n_bytes, sizeof *v->bytes}};
    enum { N_PARTS = sizeof parts / sizeof *parts };
    const uint8_t *part[N_PARTS];
    size_t at = sizeof *h;
    for (size_t i = 0; i < N_PARTS; i++) {
        size_t bytes, end;
        if (!size_mul(parts[i].count, parts[i].element, &bytes) || !size_add(at, bytes, &end) ||
            end > size) {
            return error_set(err, ERROR_INPUT,
                             "%s: section tokenizer has %zu bytes, too few for the arrays that its "
                             "header announces",
                             name, size);
        }
        part[i] = data + at;
        at = end;
    }
    if (at != size) {
        return error_set(err, ERROR_INPUT, "%s: section tokenizer has %zu bytes, expected %zu",
                         name, size, at);
    }
    v->end = (const int32_t *)(const void *)part[0];
    v->offset = (const uint32_t *)(const void *)part[1];
    v->score = has_merges(h) ? NULL : (const float *)(const void *)part[2];
    v->merges = (const Merge *)(const void *)part[3];
    v->attribute = part[4];
    v->bytes = (const char *)part[5];
    return true;
}

// What was expected instead of a piece's attribute; NULL if it is right.
static const char *expected_attribute(const Vocabulary *v, size_t id)
{
    const int a = piece_kind(v, id);
    const bool unknown = v->unknown >= 0 && id == (size_t)v->unknown;
    if (a >= N_PIECE_ATTRIBUTES) {
        return "0 to 7";
    }
    if (a != v->attribute[id] && !is_text_name(v, id)) {
        return "16, 32 and 64 only with 1 or 6";
    }
    if ((a == PIECE_ABSENT) != (piece_size(v, id) == 0)) {
        return "5 for an empty piece and for no other";
    }
    if (v->kind == BYTE_LEVEL_BPE && (a == PIECE_BYTE || is_stretch_name(v, id))) {
        return "0, 1, 5 or 6 in byte-level BPE";
    }
    if (a == PIECE_BYTE && piece_size(v, id) != 1) {
        return "2 only for a piece of one byte";
    }
    return (a == PIECE_UNKNOWN) != unknown ? "3 for the unknown token and for no other" : NULL;
}

static bool check_pieces(const Vocabulary *v, const char *name, size_t n_bytes, Error *err)
{
    // All offsets first, because the checks below look at the pieces.
    for (size_t i = 0; i <= v->size; i++) {
        const uint32_t min = i ? v->offset[i - 1] : 0;
        const size_t longest = i ? min + (size_t)MAX_PIECE : 0;
        const size_t max = longest < n_bytes ? longest : n_bytes;
        if (v->offset[i] < min || v->offset[i] > max) {
            return error_set(err, ERROR_INPUT,
                             "%s: piece_offset %zu of section tokenizer is %u, expected %u to %zu",
                             name, i, (unsigned)v->offset[i], (unsigned)min, max);
        }
    }
    if (v->offset[v->size] != n_bytes) {
        return error_set(
            err, ERROR_INPUT,
            "%s: the last piece_offset of section tokenizer is %u, expected %zu, n_bytes", name,
            (unsigned)v->offset[v->size], n_bytes);
    }
    for (size_t id = 0; id < v->size; id++) {
        const char *expected = expected_attribute(v, id);
        if (expected) {
            return error_set(err, ERROR_INPUT,
                             "%s: attribute %zu of section tokenizer is %u, expected %s", name, id,
                             v->attribute[id], expected);
        }
        if (v->score && !isfinite(v->score[id])) {
            return error_set(err, ERROR_INPUT,
                             "%s: score %zu of section tokenizer is %g, expected a finite number",
                             name, id, (double)v->score[id]);
        }
    }
    return true;
}

static bool check_end(const Vocabulary *v, const char *name, Error *err)
{
    for (size_t i = 0; i < v->n_end; i++) {
        if (v->end[i] < 0 || (size_t)v->end[i] >= v->size) {
            return error_set(err, ERROR_INPUT,
                             "%s: end %zu of section tokenizer is %d, expected 0 to %zu", name, i,
                             v->end[i], v->size - 1);
        }
    }
    return true;
}

// Merges join pieces of text: a control token or a byte of SentencePiece cannot be part of one. Nor
// can an added token that begins with a space, because decoding could not tell it from the same
// text with SentencePiece's prefix.
static bool can_merge(const Vocabulary *v, uint32_t id)
{
    if (id >= v->size) {
        return false;
    }
    const int a = piece_kind(v, id);
    const bool clear = v->kind == BYTE_LEVEL_BPE || *piece_bytes(v, id) != ' ';
    return a == PIECE_NORMAL || a == PIECE_FIRST || (a == PIECE_ADDED && clear);
}

static bool check_merge(const Vocabulary *v, const char *name, size_t i, Error *err)
{
    const Merge *m = &v->merges[i];
    const uint32_t ids[] = {m->left, m->right, m->result};
    for (size_t j = 0; j < sizeof ids / sizeof *ids; j++) {
        if (!can_merge(v, ids[j])) {
            return error_set(err, ERROR_INPUT,
                             "%s: merge %zu of section tokenizer has id %u, expected that of a "
                             "piece of text, 0 to %zu",
                             name, i, (unsigned)ids[j], v->size - 1);
        }
    }
    const size_t left = piece_size(v, m->left), right = piece_size(v, m->right);
    const char *result = piece_bytes(v, m->result);
    if (piece_size(v, m->result) != left + right ||
        memcmp(result, piece_bytes(v, m->left), left) != 0 ||
        memcmp(result + left, piece_bytes(v, m->right), right) != 0) {
        return error_set(err, ERROR_INPUT,
                         "%s: merge %zu of section tokenizer makes piece %u of pieces %u and %u, "
                         "expected their concatenation",
                         name, i, (unsigned)m->result, (unsigned)m->left, (unsigned)m->right);
    }
    return true;
}

static bool check_merges(const Vocabulary *v, const char *name, Error *err)
{
    for (size_t i = 0; i < v->n_merges; i++) {
        if (!check_merge(v, name, i, err)) {
            return false;
        }
    }
    return true;
}

bool vocabulary_open_section(Vocabulary *v, const char *name, const uint8_t *data, size_t size,
                             size_t vocab_size, Error *err)
{
    *v = (Vocabulary){.size = vocab_size};
    TokenizerHeader h;
    if (size < sizeof h) {
        return error_set(err, ERROR_INPUT,
                         "%s: section tokenizer has %zu bytes, expected %zu or more", name, size,
                         sizeof h);
    }
    memcpy(&h, data, sizeof h);
    if (vocab_size < 1 || vocab_size > INT32_MAX) {
        return error_set(err, ERROR_INPUT, "%s: the model has %zu tokens, expected 1 to %d", name,
                         vocab_size, INT32_MAX);
    }
    if (!check_header(&h, name, vocab_size, err)) {
        return false;
    }
    v->kind = (VocabularyKind)h.kind;
    v->words = (WordRule)h.pre_tokenizer;
    v->add_bos = h.flags & FLAG_BOS;
    v->add_prefix = h.flags & FLAG_PREFIX;
    v->whole_words = h.flags & FLAG_WHOLE_WORDS;
    v->prefix_first = h.flags & FLAG_PREFIX_FIRST;
    v->prefix_new = h.flags & FLAG_PREFIX_NEW;
    v->bos = h.bos;
    v->unknown = h.unknown;
    v->n_end = h.n_end;
    v->n_merges = h.n_merges;
    const bool ok = lay_out(v, &h, name, data, size, err) &&
                    check_pieces(v, name, (size_t)h.n_bytes, err) && check_end(v, name, err) &&
                    check_merges(v, name, err) && fill_tables(v, name, err);
    if (!ok) {
        vocabulary_close(v);
    }
    return ok;
}

// --------------------------------------------------------------------------------------------
// Writing the section

void vocabulary_write(const Vocabulary *v, Buffer *out)
{
    const bool by_merges = v->kind == SENTENCEPIECE_BPE && !v->score;
    const TokenizerHeader h = {
        .kind = v->kind,
        .pre_tokenizer = v->kind == BYTE_LEVEL_BPE ? (uint32_t)v->words : 0,
        .flags = (v->add_bos ? FLAG_BOS : 0u) | (v->add_prefix ? FLAG_PREFIX : 0u) |
                 (v->whole_words ? FLAG_WHOLE_WORDS : 0u) |
                 (v->prefix_first ? FLAG_PREFIX_FIRST : 0u) |
                 (v->prefix_new ? FLAG_PREFIX_NEW : 0u) | (by_merges ? FLAG_MERGES : 0u),
        .vocab_size = (uint32_t)v->size,
        .n_merges = (uint32_t)v->n_merges,
        .bos = v->bos,
        .unknown = v->unknown,
        .n_end = (uint32_t)v->n_end,
        .n_bytes = v->offset[v->size]};
    buffer_add(out, &h, sizeof h);
    buffer_add(out, v->end, v->n_end * sizeof *v->end);
    buffer_add(out, v->offset, (v->size + 1) * sizeof *v->offset);
    if (v->score) {
        buffer_add(out, v->score, v->size * sizeof *v->score);
    }
    buffer_add(out, v->merges, v->n_merges * sizeof *v->merges);
    buffer_add(out, v->attribute, v->size);
    buffer_add(out, v->bytes, v->offset[v->size]);
}
