// fuzz_constraint.c - compiles a constraint and feeds it tokens.
//
//     kind 1 | size 2 | specification | stream
//
// An odd kind is a regular expression, an even one a schema. Each byte of the stream picks one of the
// allowed tokens. The sets are compared with what the constraint says about each token byte by byte.
// Where the stream ends, the text is completed in as few bytes as promised.

#include "base/error.h"
#include "fuzz.h"
#include "text/constraint.h"
#include "text/constraint_mask.h"
#include "text/constraint_term.h"

// All bytes, and tokens that cross borders of a JSON text and of characters.
static const char *const pieces[] = {
    "ab",         "\", \"", "\": ", "\": \"", "{\"", "\"}",      "\"]",   ", ",
    "[[",         "}}",     "null", "true",   "1.0", "\xc3\xa9", "\xa9x", "\xf0\x9f",
    "\x98\x80\"", "\\u00",  "\\\"", "aaaa",   " b",  "[]",
};
enum { N_PIECES = sizeof pieces / sizeof *pieces, N_TOKENS = 256 + N_PIECES };

static TokenText texts[N_TOKENS];

static const TokenTrie *vocabulary(void)
{
    static TokenTrie trie;
    static char bytes[256];
    if (!trie.vocab_size) {
        Error err;
        for (size_t i = 0; i < 256; i++) {
            bytes[i] = (char)i;
            texts[i] = (TokenText){&bytes[i], 1};
        }
        for (size_t i = 0; i < N_PIECES; i++) {
            texts[256 + i] = (TokenText){pieces[i], strlen(pieces[i])};
        }
        FUZZ_CHECK(token_trie_create(&trie, texts, N_TOKENS, &err), "%s", err.message);
    }
    return &trie;
}

static bool compile(Constraint **c, size_t kind, Input spec, Error *err)
{
    const ConstraintText text = {(const char *)spec.data, spec.size};
    return kind % 2 ? constraint_of_regex(c, text, err) : constraint_of_schema(c, text, err);
}

static bool has(const uint64_t *set, size_t id) { return set[id / 64] >> id % 64 & 1; }

// The set of a state, compared with the reference; NULL: the constraint ran out of its bounds.
static const uint64_t *checked_set(Constraint *c, MaskCache *m, MatchState state)
{
    const uint64_t *set = mask_cache_get(m, &(MaskQuery){state, NEVER, .no_space = false});
    Error err = {0};
    for (size_t id = 0; set && id < N_TOKENS; id++) {
        const bool allowed = constraint_next(c, state, texts[id].bytes, texts[id].size) !=
                             MATCH_FAILED;
        if (!constraint_check(c, &err)) {
            return NULL;
        }
        FUZZ_CHECK(has(set, id) == allowed, "token %zu", id);
    }
    return set;
}

// Completes a text with tokens that leave no more bytes than promised.
static void complete(Constraint *c, MaskCache *m, MatchState state)
{
    Error err = {0};
    uint32_t left = constraint_shortest(c, state);
    for (int steps = 0; left > 0 && left < 2000; steps++) {
        const uint64_t *set = mask_cache_get(m, &(MaskQuery){state, left - 1, .no_space = false});
        if (!set) {
            FUZZ_CHECK(!constraint_check(c, &err), "no set in step %d", steps);
            return;
        }
        size_t id = 0;
        while (id < N_TOKENS && !has(set, id)) {
            id++;
        }
        FUZZ_CHECK(id < N_TOKENS, "nothing completes the text within %u bytes", left);
        state = constraint_next(c, state, texts[id].bytes, texts[id].size);
        if (!constraint_check(c, &err)) {
            return;
        }
        FUZZ_CHECK(constraint_shortest(c, state) < left, "%u of %u", constraint_shortest(c, state),
                   left);
        left = constraint_shortest(c, state);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const TokenTrie *trie = vocabulary();
    Input in = {data, size};
    const size_t kind = take_number(&in, 1), n = take_number(&in, 2);
    Error err = {0};
    Constraint *c;
    if (!compile(&c, kind, take_bytes(&in, n), &err)) {
        check_error(&err);
        return 0;
    }
    fuzz_count("inputs that were compiled");
    MaskCache *m;
    FUZZ_CHECK(mask_cache_create(&m, c, trie, &err), "%s", err.message);
    MatchState state = constraint_start(c);
    for (size_t steps = 0; in.size && steps < 64; steps++) {
        const uint64_t *set = checked_set(c, m, state);
        const size_t from = take_number(&in, 1) * N_TOKENS / 256;
        size_t id = N_TOKENS;
        for (size_t i = 0; set && i < N_TOKENS && id == N_TOKENS; i++) {
            id = has(set, (from + i) % N_TOKENS) ? (from + i) % N_TOKENS : id;
        }
        if (id == N_TOKENS) {
            FUZZ_CHECK(!set || constraint_is_final(c, state), "nothing may follow");
            break;
        }
        state = constraint_next(c, state, texts[id].bytes, texts[id].size);
        if (!constraint_check(c, &err)) {
            break;
        }
        FUZZ_CHECK(state != MATCH_FAILED, "token %zu", id);
    }
    if (constraint_check(c, &err)) {
        complete(c, m, state);
    }
    mask_cache_free(m);
    constraint_free(c);
    return 0;
}
