// gguf_vocabulary.c - the tokenizer in a GGUF file's keys. See gguf_vocabulary.h.
//
//     tokenizer.ggml.model                "llama": SentencePiece BPE; "gpt2": byte-level BPE
//     tokenizer.ggml.pre                  name of the rule that cuts text into words (gpt2)
//     tokenizer.ggml.tokens, token_type   the pieces, and what they are
//     tokenizer.ggml.scores               llama: the piece with the highest score is made first
//     tokenizer.ggml.merges               gpt2: "left right", the first one is made first
//     tokenizer.ggml.*_token_id, add_*    BOS, tokens that end a text, what is put before a text
//
// The pieces of a byte-level vocabulary are spelled in GPT-2's letters: a byte that is visible in
// Latin-1 is the character with that code, and the other 68 bytes are U+0100 and up. We convert
// them to bytes, and look up merges by bytes in the vocabulary's own table of pieces.
#include "formats/gguf_vocabulary.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/vocabulary.h"

#define MAX_TOKENS ((size_t)1 << 24)

// GGUF's token types.
enum { TOKEN_NORMAL = 1, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER, TOKEN_UNUSED, TOKEN_BYTE };

// The names of pre-tokenizers, and what else llama.cpp does for models that use them (its
// src/llama-vocab.cpp). It knows others whose regular expressions are not among our rules.
static const struct PreTokenizer {
    const char *name;
    WordRule words;
    bool whole_words;  // a word that is a piece becomes that piece, whatever the merges
    bool add_bos;      // unless add_bos_token says otherwise
} pre_tokenizers[] = {
    {"gpt-2", WORDS_GPT2, false, false},
    {"phi-2", WORDS_GPT2, false, false},
    {"gigachat", WORDS_GPT2, false, false},
    {"a.x-4.0", WORDS_GPT2, false, false},
    {"mellum", WORDS_GPT2, false, false},
    {"exaone4", WORDS_GPT2, false, false},
    {"mpt", WORDS_GPT2, false, false},
    {"olmo", WORDS_GPT2, false, false},
    {"jais", WORDS_GPT2, false, false},
    {"trillion", WORDS_GPT2, false, false},
    {"granite-docling", WORDS_GPT2, false, false},
    {"smollm", WORDS_SMOLLM, false, false},
    {"starcoder", WORDS_SMOLLM, false, false},
    {"refact", WORDS_SMOLLM, false, false},
    {"command-r", WORDS_SMOLLM, false, false},
    {"codeshell", WORDS_SMOLLM, false, false},
    {"exaone", WORDS_SMOLLM, false, false},
    {"minerva-7b", WORDS_SMOLLM, false, false},
    {"mellum2", WORDS_SMOLLM, false, false},
    {"llama3", WORDS_LLAMA3, true, true},
    {"llama-v3", WORDS_LLAMA3, true, true},
    {"llama-bpe", WORDS_LLAMA3, true, true},
    {"falcon3", WORDS_LLAMA3, true, true},
    {"pixtral", WORDS_LLAMA3, true, true},
    {"midm-2.0", WORDS_LLAMA3, true, true},
    {"lfm2", WORDS_LLAMA3, true, true},
    {"dbrx", WORDS_LLAMA3, false, false},
    {"smaug-bpe", WORDS_LLAMA3, false, false},
    {"chatglm-bpe", WORDS_LLAMA3, false, false},
    {"glm4", WORDS_LLAMA3, true, false},
    {"glm5", WORDS_LLAMA3, true, false},
    {"qwen2", WORDS_QWEN2, false, false},
    {"deepseek-r1-qwen", WORDS_QWEN2, false, false},
    {"kormo", WORDS_QWEN2, false, false},
    {"megrez", WORDS_QWEN2, false, false},
    {"stablelm2", WORDS_QWEN2, false, false},
    {"hunyuan", WORDS_QWEN2, false, false},
    {"solar-open", WORDS_QWEN2, false, false},
    {"grok-2", WORDS_QWEN2, false, false},
    {"qwen35", WORDS_QWEN35, false, false},
    {"gpt-4o", WORDS_GPT4O, false, false},
    {"llama4", WORDS_GPT4O, false, false},
    {"kanana2", WORDS_GPT4O, false, false},
    {"talkie", WORDS_GPT4O, false, false},
    {"minimax-m2", WORDS_GPT4O, false, false},
    {"tekken", WORDS_TEKKEN, true, true},
    {"deepseek-v3", WORDS_DEEPSEEK, false, false},
    {"hunyuan-dense", WORDS_DEEPSEEK, false, false},
    {"joyai-llm", WORDS_DEEPSEEK, false, false},
    {"hy_v4", WORDS_DEEPSEEK, false, false},
    {"deepseek-llm", WORDS_DEEPSEEK_LLM, false, false},
    {"deepseek-coder", WORDS_DEEPSEEK_CODER, false, false},
};
typedef struct PreTokenizer PreTokenizer;

// A file usually names only one of the tokens that end a turn. Added tokens with these names always
// do: those of Llama 3, ChatML, Granite, GPT-2, Gemma, Phi, Llama 3's tool calls and DeepSeek.
static const char *const end_names[] = {
    "<|eot_id|>",    "<|im_end|>", "<|end_of_text|>", "<|endoftext|>",
    "<end_of_turn>", "<|end|>",    "<|eom_id|>",      "<｜end▁of▁sentence｜>",
};

typedef struct {
    const Gguf *g;
    size_t n_tokens;       // v.size may be larger
    Vocabulary v;          // the arrays below, once they are complete
    Buffer bytes;          // of all pieces
    uint32_t *offset;      // (v.size + 1), owned
    uint8_t *attribute;    // (v.size), owned
    float *score;          // (v.size), owned; NULL unless SentencePiece
    Merge *merges;         // owned; NULL unless byte-level
    bool *made;            // (v.size), owned: does a merge make the piece? NULL without merges
    Buffer end;            // int32_t: ids at which generation stops
    int16_t letters[324];  // code point -> byte, or -1
    Error *err;
} VocabularyReader;

static const GgufKey *vocabulary_key(const VocabularyReader *r, const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "tokenizer.ggml.%s", name);
    return gguf_key(r->g, full);
}

static bool fail_missing(const VocabularyReader *r, const char *name)
{
    return error_set(r->err, ERROR_INPUT, "%s: key tokenizer.ggml.%s is missing", r->g->path, name);
}

// Finds an array with one element per token; *key is NULL if there is none.
static bool find_array(const VocabularyReader *r, const char *name, bool texts, const GgufKey **key)
{
    char expected[80];
    *key = vocabulary_key(r, name);
    const GgufKey *k = *key;
    if (k && (!k->array || (k->type == GGUF_TEXT) != texts || k->count != r->n_tokens)) {
        snprintf(expected, sizeof expected, "an array of %zu %s, one for each token", r->n_tokens,
                 texts ? "texts" : "numbers");
        return gguf_unexpected(r->g, k, expected, r->err);
    }
    return true;
}

static bool read_switch(const VocabularyReader *r, const char *name, bool *value)
{
    const GgufKey *k = vocabulary_key(r, name);
    double number = *value;
    if (k && (!gguf_number(k, &number) || (number != 0 && number != 1))) {
        return gguf_unexpected(r->g, k, "true or false", r->err);
    }
    *value = number != 0;
    return true;
}

// Reads the id of a token; leaves *id unchanged if the file names none.
static bool read_id(const VocabularyReader *r, const char *name, int *id)
{
    const GgufKey *k = vocabulary_key(r, name);
    double number = *id;
    char expected[48];
    if (k && (!gguf_number(k, &number) || !gguf_is_integer(k) || number < 0 ||
              number >= (double)r->n_tokens)) {
        snprintf(expected, sizeof expected, "the id of a token, 0 to %zu", r->n_tokens - 1);
        return gguf_unexpected(r->g, k, expected, r->err);
    }
    *id = (int)number;
    return true;
}

// --------------------------------------------------------------------------------------------
// Pieces

// Code point -> byte, in the letters of GPT-2's vocabularies.
static void fill_letters(int16_t letters[324])
{
    int16_t next = 0x100;
    memset(letters, 0xff, 324 * sizeof *letters);
    for (int16_t byte = 0; byte < 256; byte++) {
        const bool visible = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
        letters[visible ? byte : next++] = byte;
    }
}

// Adds the bytes that a text in GPT-2's letters stands for; false if it has another character.
static bool add_letters(const VocabularyReader *r, GgufText text, Buffer *out)
{
    for (size_t i = 0; i < text.size;) {
        const int length = utf8_scan(text.data + i, text.size - i);
        const uint32_t c = length > 0 ? utf8_code_point(text.data + i, length) : UINT32_MAX;
        if (c >= sizeof r->letters / sizeof *r->letters || r->letters[c] < 0) {
            return false;
        }
        const char byte = (char)r->letters[c];
        buffer_add(out, &byte, 1);
        i += (size_t)length;
    }
    return true;
}

// Adds a SentencePiece piece, in which U+2581 is a space.
static void add_spaced(GgufText text, Buffer *out)
{
    static const char mark[] = "\xe2\x96\x81";
    for (size_t i = 0; i < text.size;) {
        const bool space = text.size - i >= 3 && memcmp(text.data + i, mark, 3) == 0;
        buffer_add(out, space ? " " : text.data + i, 1);
        i += space ? 3 : 1;
    }
}

static bool fail_token(const VocabularyReader *r, size_t id, GgufText text, const char *expected)
{
    return error_set(r->err, ERROR_INPUT,
                     "%s: token %zu of key tokenizer.ggml.tokens is \"%.*s\", expected %s",
                     r->g->path, id, text.size < 100 ? (int)text.size : 100, text.data, expected);
}

// Adds the piece of a token whose attribute is known.
static bool add_piece(VocabularyReader *r, size_t id, GgufText text)
{
    const uint8_t attribute = r->attribute[id];
    const int byte = byte_piece_value(text.data, text.size);
    const char value = (char)byte;
    if (text.size > MAX_PIECE) {
        return error_set(r->err, ERROR_INPUT,
                         "%s: token %zu of key tokenizer.ggml.tokens has %zu bytes, expected at "
                         "most %d",
                         r->g->path, id, text.size, MAX_PIECE);
    }
    if (attribute == PIECE_BYTE) {
        buffer_add(&r->bytes, &value, 1);
        return byte >= 0 || fail_token(r, id, text, "a byte, <0x00> to <0xFF>");
    }
    if (r->v.kind == BYTE_LEVEL_BPE && attribute == PIECE_NORMAL) {
        return add_letters(r, text, &r->bytes) ||
               fail_token(r, id, text, "letters that stand for bytes, as in GPT-2's vocabulary");
    }
    if (attribute == PIECE_SPECIAL || r->v.kind == BYTE_LEVEL_BPE) {
        buffer_add(&r->bytes, text.data, text.size);
    } else {
        add_spaced(text, &r->bytes);
    }
    return true;
}

// The attribute of a piece of this GGUF type; -1 if there is no such type.
static int piece_attribute(VocabularyKind kind, double type)
{
    static const int8_t attributes[] = {
        [TOKEN_NORMAL] = PIECE_NORMAL,   [TOKEN_UNKNOWN] = PIECE_UNKNOWN,
        [TOKEN_CONTROL] = PIECE_SPECIAL, [TOKEN_USER] = PIECE_ADDED,
        [TOKEN_UNUSED] = PIECE_ABSENT,   [TOKEN_BYTE] = PIECE_BYTE};
    const double first = TOKEN_NORMAL, last = TOKEN_BYTE;
    const bool known = type >= first && type <= last && type == floor(type);
    const int a = known ? attributes[(int)type] : -1;
    const bool special = a == PIECE_UNKNOWN || a == PIECE_BYTE;
    return kind == BYTE_LEVEL_BPE && special ? PIECE_SPECIAL : a;
}

static bool read_pieces(VocabularyReader *r)
{
    const GgufKey *tokens, *types;
    if (!find_array(r, "tokens", true, &tokens) || !find_array(r, "token_type", false, &types)) {
        return false;
    }
    const uint8_t *at = tokens->data;
    for (size_t id = 0; id < r->n_tokens; id++) {
        const GgufText text = gguf_take_text(&at);
        const double type = types ? gguf_element(types, id) : (double)TOKEN_NORMAL;
        const int attribute = piece_attribute(r->v.kind, type);
        if (attribute < 0) {
            return error_set(r->err, ERROR_INPUT,
                             "%s: element %zu of key tokenizer.ggml.token_type is %g, expected 1 "
                             "to 6",
                             r->g->path, id, type);
        }
        r->attribute[id] = text.size ? (uint8_t)attribute : PIECE_ABSENT;
        if (r->attribute[id] != PIECE_ABSENT && !add_piece(r, id, text)) {
            return false;
        }
        if (r->bytes.size > UINT32_MAX) {
            return error_set(r->err, ERROR_INPUT,
                             "%s: the pieces of tokenizer.ggml.tokens have more than 4 GiB",
                             r->g->path);
        }
        r->offset[id + 1] = (uint32_t)r->bytes.size;
    }
    for (size_t id = r->n_tokens; id < r->v.size; id++) {
        r->attribute[id] = PIECE_ABSENT;
        r->offset[id + 1] = r->offset[id];
    }
    return buffer_check(&r->bytes, r->err);
}

// --------------------------------------------------------------------------------------------
// Scores and merges

static bool read_scores(VocabularyReader *r)
{
    const GgufKey *k;
    if (!find_array(r, "scores", false, &k)) {
        return false;
    }
    if (!k) {
        return fail_missing(r, "scores");
    }
    r->score = calloc(r->v.size, sizeof *r->score);
    if (!r->score) {
        return error_memory(r->err, "scores", r->v.size * sizeof *r->score);
    }
    for (size_t id = 0; id < r->n_tokens; id++) {
        const double score = gguf_element(k, id);
        if (!isfinite(score) || fabs(score) > 1e30) {
            return error_set(
                r->err, ERROR_INPUT,
                "%s: element %zu of key tokenizer.ggml.scores is %g, expected a finite "
                "number",
                r->g->path, id, score);
        }
        r->score[id] = (float)score;
    }
    return true;
}

static bool fail_merge(const VocabularyReader *r, size_t i, GgufText text, const char *expected)
{
    return error_set(r->err, ERROR_INPUT,
                     "%s: merge %zu of key tokenizer.ggml.merges is \"%.*s\", expected %s",
                     r->g->path, i, text.size < 200 ? (int)text.size : 200, text.data, expected);
}

// Finds the pieces of "left right", spelled in letters: both, and their concatenation. `piece` is
// scratch space for the bytes.
static bool read_merge(const VocabularyReader *r, size_t i, GgufText text, Buffer *piece)
{
    const char *space = text.size ? memchr(text.data, ' ', text.size) : NULL;
    const size_t left_size = space ? (size_t)(space - text.data) : 0;
    const GgufText left = {text.data, left_size};
    const GgufText right = {text.data + left_size + 1, text.size - left_size - !!space};
    if (!space || memchr(right.data, ' ', right.size)) {
        return fail_merge(r, i, text, "two pieces with a space between them");
    }
    buffer_clear(piece);
    if (!add_letters(r, left, piece)) {
        return fail_merge(r, i, text, "letters that stand for bytes");
    }
    const size_t n = piece->size;
    if (!add_letters(r, right, piece)) {
        return fail_merge(r, i, text, "letters that stand for bytes");
    }
    const int ids[] = {vocabulary_find(&r->v, piece->data, n),
                       vocabulary_find(&r->v, piece->data + n, piece->size - n),
                       vocabulary_find(&r->v, piece->data, piece->size)};
    if (ids[0] < 0 || ids[1] < 0 || ids[2] < 0) {
        return fail_merge(r, i, text, "two normal tokens that make a third one");
    }
    r->merges[i] = (Merge){(uint32_t)ids[0], (uint32_t)ids[1], (uint32_t)ids[2]};
    r->made[ids[2]] = true;
    return true;
}

static bool read_merges(VocabularyReader *r)
{
    const GgufKey *k = vocabulary_key(r, "merges");
    if (!k) {
        return true;  // every byte is a token of its own
    }
    if (!k->array || k->type != GGUF_TEXT || k->count > INT32_MAX) {
        return gguf_unexpected(r->g, k, "an array of texts", r->err);
    }
    r->merges = calloc(k->count + 1, sizeof *r->merges);
    r->made = calloc(r->v.size, sizeof *r->made);
    if (!r->merges || !r->made) {
        return error_memory(r->err, "merges", k->count * sizeof *r->merges);
    }
    Buffer piece = {0};
    buffer_add(&piece, "", 0);
    bool ok = buffer_check(&piece, r->err);
    const uint8_t *at = k->data;
    for (size_t i = 0; ok && i < k->count; i++) {
        ok = read_merge(r, i, gguf_take_text(&at), &piece) && buffer_check(&piece, r->err);
    }
    buffer_free(&piece);
    r->v.merges = r->merges;
    r->v.n_merges = k->count;
    return ok;
}

// --------------------------------------------------------------------------------------------
// Kinds

static bool read_sentencepiece(VocabularyReader *r)
{
    Vocabulary *v = &r->v;
    v->bos = 1 < r->n_tokens ? 1 : -1;
    v->add_bos = v->add_prefix = true;
    for (size_t id = 0; v->unknown < 0 && id < r->n_tokens; id++) {
        v->unknown = r->attribute[id] == PIECE_UNKNOWN ? (int)id : -1;
    }
    if (!read_scores(r) || !read_id(r, "unknown_token_id", &v->unknown) ||
        !read_switch(r, "add_space_prefix", &v->add_prefix)) {
        return false;
    }
    v->score = r->score;
    return true;
}

// Adds to the list in a message the first name of each rule.
static void list_rule(char *list, size_t size, size_t i)
{
    const size_t used = strlen(list);
    if (i == 0 || pre_tokenizers[i].words != pre_tokenizers[i - 1].words) {
        snprintf(list + used, size - used, "%s, ", pre_tokenizers[i].name);
    }
}

static bool read_pre_tokenizer(VocabularyReader *r)
{
    const GgufKey *k = vocabulary_key(r, "pre");
    GgufText name;
    if (!k) {
        return fail_missing(r, "pre");
    }
    char list[256] = "one of ";
    for (size_t i = 0; i < sizeof pre_tokenizers / sizeof *pre_tokenizers; i++) {
        const PreTokenizer *p = &pre_tokenizers[i];
        if (gguf_text(k, &name) && name.size == strlen(p->name) &&
            memcmp(name.data, p->name, name.size) == 0) {
            r->v.words = p->words;
            r->v.whole_words = p->whole_words;
            r->v.add_bos = p->add_bos;
            return true;
        }
        list_rule(list, sizeof list, i);
    }
    snprintf(list + strlen(list), sizeof list - strlen(list), "or a model with the rule of one");
    return gguf_unexpected(r->g, k, list, r->err);
}

static bool read_kind(VocabularyReader *r)
{
    const GgufKey *k = vocabulary_key(r, "model");
    GgufText name;
    if (!k) {
        return fail_missing(r, "model");
    }
    if (gguf_text(k, &name) && name.size == 5 && memcmp(name.data, "llama", 5) == 0) {
        r->v.kind = SENTENCEPIECE_BPE;
    } else if (gguf_text(k, &name) && name.size == 4 && memcmp(name.data, "gpt2", 4) == 0) {
        r->v.kind = BYTE_LEVEL_BPE;
    } else {
        return gguf_unexpected(r->g, k, "llama or gpt2", r->err);
    }
    return r->v.kind == SENTENCEPIECE_BPE || read_pre_tokenizer(r);
}

// --------------------------------------------------------------------------------------------
// Special tokens

// Can ordinary text become this piece: is it a single character or byte, or the result of a merge?
static bool is_ordinary(const VocabularyReader *r, size_t id)
{
    const Vocabulary *v = &r->v;
    const char *bytes = piece_bytes(v, id);
    const size_t size = piece_size(v, id);
    if (r->made && r->made[id]) {
        return true;
    }
    if (v->kind == BYTE_LEVEL_BPE) {
        return size == 1;
    }
    for (size_t i = 1; i < size; i++) {
        if (vocabulary_find(v, bytes, i) >= 0 && vocabulary_find(v, bytes + i, size - i) >= 0) {
            return true;
        }
    }
    return utf8_scan(bytes, size) == (int)size;
}

// Makes a token special that the file names as BOS, EOS or the like. An ordinary piece stays
// ordinary: a full stop that is named as EOS is still a full stop in text.
static void make_special(VocabularyReader *r, int id)
{
    const bool text = id >= 0 &&
                      (r->attribute[id] == PIECE_NORMAL || r->attribute[id] == PIECE_ADDED);
    if (text && !is_ordinary(r, (size_t)id)) {
        r->attribute[id] = PIECE_SPECIAL;
    }
}

static bool is_end_name(const VocabularyReader *r, size_t id)
{
    const bool added = r->attribute[id] == PIECE_SPECIAL || r->attribute[id] == PIECE_ADDED;
    for (size_t i = 0; i < sizeof end_names / sizeof *end_names; i++) {
        const size_t size = strlen(end_names[i]);
        if (added && piece_size(&r->v, id) == size &&
            memcmp(piece_bytes(&r->v, id), end_names[i], size) == 0) {
            return true;
        }
    }
    return false;
}

// Marks the piece v.unknown, and no other, as unknown.
static void settle_unknown(VocabularyReader *r)
{
    for (size_t id = 0; id < r->n_tokens; id++) {
        const bool unknown = r->v.unknown >= 0 && id == (size_t)r->v.unknown;
        if (r->attribute[id] != PIECE_ABSENT && (r->attribute[id] == PIECE_UNKNOWN) != unknown) {
            r->attribute[id] = unknown ? PIECE_UNKNOWN : PIECE_SPECIAL;
        }
    }
}

// Phi-3's special tokens take the white space after them, but for three. No key says so; llama.cpp
// knows it too.
static void strip_after_special(VocabularyReader *r)
{
    static const char *const others[] = {"<unk>", "<s>", "<|endoftext|>"};
    const GgufKey *architecture = gguf_key(r->g, "general.architecture");
    GgufText name;
    if (r->v.kind != SENTENCEPIECE_BPE || !architecture || !gguf_text(architecture, &name) ||
        name.size != 4 || memcmp(name.data, "phi3", 4) != 0) {
        return;
    }
    for (size_t id = 0; id < r->n_tokens; id++) {
        bool strips = r->attribute[id] == PIECE_SPECIAL;
        for (size_t i = 0; strips && i < sizeof others / sizeof *others; i++) {
            strips = piece_size(&r->v, id) != strlen(others[i]) ||
                     memcmp(piece_bytes(&r->v, id), others[i], strlen(others[i])) != 0;
        }
        r->attribute[id] |= strips ? PIECE_STRIPS_RIGHT : 0;
    }
}

// add_eos_token is checked but not followed: EOS ends a text, and ours are there to be continued.
static bool check_add_eos(const VocabularyReader *r)
{
    bool ignored = false;
    return read_switch(r, "add_eos_token", &ignored);
}

static bool read_special(VocabularyReader *r)
{
    Vocabulary *v = &r->v;
    // The defaults of SentencePiece models.
    int eos = v->kind == SENTENCEPIECE_BPE && r->n_tokens > 2 ? 2 : -1, eot = -1, eom = -1;
    if (!read_id(r, "bos_token_id", &v->bos) || !read_id(r, "eos_token_id", &eos) ||
        !read_id(r, "eot_token_id", &eot) || !read_id(r, "eom_token_id", &eom) ||
        !read_switch(r, "add_bos_token", &v->add_bos) || !check_add_eos(r)) {
        return false;
    }
    const int named[] = {v->bos, eos, eot, eom};
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        make_special(r, named[i]);
    }
    settle_unknown(r);
    // EOS comes first: chat templates see it as eos_token.
    if (eos >= 0) {
        buffer_add(&r->end, &(int32_t){eos}, sizeof(int32_t));
    }
    for (size_t id = 0; id < r->n_tokens; id++) {
        const int token = (int)id;
        if (token != eos && (token == eot || token == eom || is_end_name(r, id))) {
            make_special(r, token);
            buffer_add(&r->end, &(int32_t){token}, sizeof(int32_t));
        }
    }
    v->end = (const int32_t *)(const void *)r->end.data;
    v->n_end = r->end.size / sizeof *v->end;
    strip_after_special(r);
    return buffer_check(&r->end, r->err);
}

// --------------------------------------------------------------------------------------------
// The whole vocabulary

// Counts the tokens, and allocates the arrays for them.
static bool begin_vocabulary(VocabularyReader *r, size_t *vocab_size)
{
    const GgufKey *k = vocabulary_key(r, "tokens");
    char expected[96];
    if (!k) {
        return fail_missing(r, "tokens");
    }
    const size_t most = *vocab_size ? *vocab_size : MAX_TOKENS;
    if (!k->array || k->type != GGUF_TEXT || k->count < 1 || k->count > most) {
        snprintf(expected, sizeof expected, "an array of 1 to %zu texts%s", most,
                 *vocab_size ? ", the rows of token_embd.weight" : "");
        return gguf_unexpected(r->g, k, expected, r->err);
    }
    r->n_tokens = k->count;
    *vocab_size = *vocab_size ? *vocab_size : k->count;
    r->v = (Vocabulary){.size = *vocab_size, .bos = -1, .unknown = -1};
    r->offset = calloc(r->v.size + 1, sizeof *r->offset);
    r->attribute = calloc(r->v.size, sizeof *r->attribute);
    return (r->offset && r->attribute) ||
           error_memory(r->err, "the vocabulary", r->v.size * sizeof *r->offset);
}

static bool read_vocabulary(VocabularyReader *r, size_t *vocab_size, Buffer *out)
{
    fill_letters(r->letters);
    if (!begin_vocabulary(r, vocab_size) || !read_kind(r) || !read_pieces(r)) {
        return false;
    }
    r->v.bytes = r->bytes.size ? r->bytes.data : "";
    r->v.offset = r->offset;
    r->v.attribute = r->attribute;
    const bool byte_level = r->v.kind == BYTE_LEVEL_BPE;
    if (!vocabulary_index_pieces(&r->v, r->g->path, r->err) ||
        !(byte_level ? read_merges(r) : read_sentencepiece(r)) || !read_special(r)) {
        return false;
    }
    vocabulary_write(&r->v, out);
    return buffer_check(out, r->err);
}

bool gguf_read_vocabulary(const Gguf *g, size_t *vocab_size, Buffer *out, Error *err)
{
    VocabularyReader r = {.g = g, .err = err};
    const bool ok = read_vocabulary(&r, vocab_size, out);
    vocabulary_close(&r.v);
    buffer_free(&r.bytes);
    buffer_free(&r.end);
    free(r.offset);
    free(r.attribute);
    free(r.score);
    free(r.merges);
    free(r.made);
    return ok;
}
