// constraint.c - feeds texts to a constraint token by token, for tests/test_constraint.py.
//
//     constraint VOCABULARY KIND SPEC FILE...
//     constraint VOCABULARY < lines           each line: KIND, SPEC and FILEs, with tabs between
//
// VOCABULARY is a file that holds the tokenizer section of a checkpoint.
// KIND is regex or schema; SPEC is a file with the expression or the schema. Each FILE holds a text.
// It is cut into tokens as the tokenizer does it, then at random into others that spell the same
// bytes (CUTS=N times, default 1). Before each token the set of tokens that may come next is asked
// for and timed, in processor time. Prints one line per file:
//
//     compiled MICROSECONDS [notes]     or: refused MICROSECONDS MESSAGE
//     FILE accepted                     or: FILE refused at byte N (token ID)
//     FILE incomplete                   the text is a beginning of one that the constraint allows
//     FILE failed at byte N: MESSAGE    the constraint reached one of its bounds
//
// With TIMES=1 a line "times NANOSECONDS .." follows each file. With CHECK=1 each set is compared
// with a matcher that reads each token of the vocabulary byte by byte; a difference ends the run
// with exit status 1. With WALK=N no texts are read: N random allowed tokens are followed, restarting
// when a text ends, and each set is checked for 16 random tokens, including the one taken. A line
// "walked N" ends the output of a constraint.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/files.h"
#include "text/constraint.h"
#include "text/constraint_mask.h"
#include "text/constraint_term.h"
#include "tokenizer.h"

typedef struct {
    Tokenizer *tokenizer;
    TokenTrie trie;
    Constraint *constraint;
    MaskCache *masks;
    bool check, times;
    unsigned long cuts, steps;
    uint64_t random;
} Tool;

// Seconds of processor time of this thread: the machine may be busy with other work.
static double used_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static bool compile(Tool *t, const char *kind, const char *path, Error *err)
{
    Buffer spec = {0};
    if (!read_file(path, (size_t)1 << 26, &spec, err)) {
        return false;
    }
    const ConstraintText text = {spec.data ? spec.data : "", spec.size};
    const double start = used_seconds();
    const bool ok = strcmp(kind, "regex") == 0 ? constraint_of_regex(&t->constraint, text, err)
                                               : constraint_of_schema(&t->constraint, text, err);
    const double seconds = used_seconds() - start;
    buffer_free(&spec);
    const char *notes = ok ? constraint_notes(t->constraint) : err->message;
    printf("%s %.1f %s\n", ok ? "compiled" : "refused", seconds * 1e6, notes ? notes : "");
    return ok;
}

// Compares a set of tokens with what the constraint says of each token by itself.
static void check_mask(const Tool *t, MatchState state, const uint64_t *mask)
{
    for (size_t i = 0; i < t->trie.all.n_tokens; i++) {
        size_t size;
        const uint32_t id = t->trie.all.tokens[i];
        const char *bytes = tokenizer_piece(t->tokenizer, (int)id, &size);
        const bool expected = constraint_next(t->constraint, state, bytes, size) != MATCH_FAILED;
        if (expected != (mask[id / 64] >> id % 64 & 1)) {
            printf("token %u: in the set %d, byte by byte %d\n", id, !expected, expected);
            exit(1);
        }
    }
}

// Says whether bytes may follow in a state, reading one at a time.
static bool may_follow(const Tool *t, MatchState state, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size && state != MATCH_FAILED; i++) {
        state = constraint_next(t->constraint, state, bytes + i, 1);
    }
    return state != MATCH_FAILED;
}

// Compares a set with the matcher for some tokens. *taken is an allowed one, if any was found. Returns
// false if they differ.
static bool check_some(Tool *t, MatchState state, const uint64_t *mask, int *taken)
{
    *taken = -1;
    for (size_t i = 0; i < 64 && (i < 16 || *taken < 0); i++) {
        // From a random place of the set, so that a rare allowed token is found too.
        size_t k = next_random(&t->random) % t->trie.all.n_tokens;
        for (size_t n = 0; i >= 16 && n < t->trie.all.n_tokens; n++) {
            const uint32_t id = t->trie.all.tokens[k];
            if (mask[id / 64] >> id % 64 & 1) {
                break;
            }
            k = (k + 1) % t->trie.all.n_tokens;
        }
        size_t size;
        const uint32_t id = t->trie.all.tokens[k];
        const char *bytes = tokenizer_piece(t->tokenizer, (int)id, &size);
        const bool allowed = mask[id / 64] >> id % 64 & 1;
        if (allowed != may_follow(t, state, bytes, size)) {
            printf("token %u: in the set %d, byte by byte %d\n", id, allowed, !allowed);
            return false;
        }
        *taken = allowed ? (int)id : *taken;
    }
    return true;
}

// Follows random tokens for `steps` steps; a text that is complete or long is started again.
static bool walk(Tool *t, unsigned long steps)
{
    MatchState state = constraint_start(t->constraint);
    size_t n_tokens = 0;
    for (unsigned long i = 0; i < steps; i++) {
        const uint64_t *mask = mask_cache_get(t->masks,
                                              &(MaskQuery){state, NEVER, .no_space = false});
        int taken;
        if (!mask || !check_some(t, state, mask, &taken)) {
            printf("stopped after %lu\n", i);
            return false;
        }
        size_t size = 0;
        const char *bytes = taken < 0 ? "" : tokenizer_piece(t->tokenizer, taken, &size);
        const bool ends = taken < 0 || ++n_tokens == 60;
        state = ends ? constraint_start(t->constraint)
                     : constraint_next(t->constraint, state, bytes, size);
        n_tokens = ends ? 0 : n_tokens;
    }
    printf("walked %lu\n", steps);
    return true;
}

// Feeds tokens; false, with a line, at the first one that is not allowed.
static bool feed(Tool *t, const char *name, const Tokens *tokens, Buffer *times)
{
    MatchState state = constraint_start(t->constraint);
    size_t at = 0;
    for (size_t i = 0; i < tokens->size; i++) {
        size_t size;
        const int id = tokens->ids[i];
        const char *bytes = tokenizer_piece(t->tokenizer, id, &size);
        const double start = used_seconds();
        const uint64_t *mask = mask_cache_get(t->masks,
                                              &(MaskQuery){state, NEVER, .no_space = false});
        buffer_addf(times, " %.0f", (used_seconds() - start) * 1e9);
        if (mask && t->check) {
            check_mask(t, state, mask);
        }
        Error why = {0};
        if (!mask && !constraint_check(t->constraint, &why)) {
            printf("%s failed at byte %zu: %s\n", name, at, why.message);
            return false;
        }
        if (!mask || !(mask[id / 64] >> id % 64 & 1)) {
            printf("%s refused at byte %zu (token %d)\n", name, at, id);
            return false;
        }
        state = constraint_next(t->constraint, state, bytes, size);
        at += size;
    }
    const bool complete = constraint_is_complete(t->constraint, state);
    printf("%s %s\n", name, complete ? "accepted" : "incomplete");
    return complete;
}

// Cuts a text at random into tokens of the vocabulary that spell it.
static bool cut(Tool *t, const Buffer *text, Tokens *out, Error *err)
{
    const TokenTree *tree = &t->trie.all;
    out->size = 0;
    for (size_t at = 0; at < text->size;) {
        uint32_t found = UINT32_MAX, node = 0, end = (uint32_t)tree->n;
        size_t size = 0, n = 0;
        for (size_t k = at; k < text->size && node < end; k++) {
            while (node < end && tree->byte[node] != (uint8_t)text->data[k]) {
                node = tree->skip[node];
            }
            if (node == end) {
                break;
            }
            if (tree->first[node] < tree->first[node + 1] && next_random(&t->random) % ++n == 0) {
                found = tree->tokens[tree->first[node]];
                size = k + 1 - at;
            }
            end = tree->skip[node++];
        }
        if (found == UINT32_MAX) {
            return error_set(err, ERROR_INPUT, "no token begins with byte %zu", at);
        }
        if (!tokens_append(out, (int)found, err)) {
            return false;
        }
        at += size;
    }
    return true;
}

static bool feed_file(Tool *t, const char *path, Error *err)
{
    Buffer text = {0}, times = {0};
    Tokens tokens = {0};
    bool ok = read_file(path, (size_t)1 << 26, &text, err);
    const TextSpan span = {.text = text.data ? text.data : "", .size = text.size};
    // SentencePiece puts a space before a text: as the continuation of another token there is none.
    Tokens cut_as_usual = {0};
    ok = ok && cut(t, &text, &tokens, err);
    if (ok && tokenizer_encode(t->tokenizer, &span, 1, false, &cut_as_usual, err)) {
        Buffer same = {0};
        for (size_t i = 0; i < cut_as_usual.size; i++) {
            size_t size;
            const char *bytes = tokenizer_piece(t->tokenizer, cut_as_usual.ids[i], &size);
            buffer_add(&same, bytes, size);
        }
        if (same.size == text.size) {
            feed(t, path, &cut_as_usual, &times);
        }
        buffer_free(&same);
    }
    for (unsigned long i = 0; ok && i < t->cuts; i++) {
        ok = cut(t, &text, &tokens, err);
        if (ok) {
            feed(t, path, &tokens, &times);
        }
    }
    if (t->times) {
        printf("times%s\n", times.data ? times.data : "");
    }
    buffer_free(&text);
    buffer_free(&times);
    tokens_free(&tokens);
    tokens_free(&cut_as_usual);
    return ok;
}

// Opens the tokenizer section of a checkpoint; its header has the size of the vocabulary.
static bool open_vocabulary(Tool *t, const char *path, Mapping *file, Error *err)
{
    if (!mapping_open(file, path, err)) {
        return false;
    }
    uint32_t vocab_size = 0;
    if (file->size >= 16) {
        memcpy(&vocab_size, file->data + 12, sizeof vocab_size);
    }
    return tokenizer_open_section(&t->tokenizer, path, file->data, file->size, vocab_size, err) &&
           tokenizer_trie(t->tokenizer, &t->trie, err);
}

// Runs one constraint: args are KIND SPEC FILE...
static bool run_job(Tool *t, char **args, int n, Error *err)
{
    bool ok = true;
    if (compile(t, args[0], args[1], err)) {
        ok = mask_cache_create(&t->masks, t->constraint, &t->trie, err);
        if (ok && t->steps && !walk(t, t->steps)) {
            exit(1);
        }
        for (int i = 2; ok && !t->steps && i < n; i++) {
            ok = feed_file(t, args[i], err);
        }
    } else {
        *err = (Error){0};
    }
    mask_cache_free(t->masks);
    constraint_free(t->constraint);
    t->masks = NULL;
    t->constraint = NULL;
    fflush(stdout);
    return ok;
}

// Runs the constraints that lines on stdin name.
static bool run_lines(Tool *t, Error *err)
{
    static char line[1 << 16];
    bool ok = true;
    while (ok && fgets(line, sizeof line, stdin)) {
        char *args[1024];
        int n = 0;
        for (char *arg = strtok(line, "\t\n"); arg && n < 1024; arg = strtok(NULL, "\t\n")) {
            args[n++] = arg;
        }
        ok = n < 2 || run_job(t, args, n, err);
    }
    return ok;
}

int main(int argc, char **argv)
{
    if (argc != 2 && argc < 4) {
        fprintf(stderr, "usage: constraint VOCABULARY [KIND SPEC FILE...]\n");
        return ERROR_USAGE;
    }
    const char *cuts = getenv("CUTS"), *steps = getenv("WALK");
    Tool t = {.check = getenv("CHECK"),
              .times = getenv("TIMES"),
              .cuts = cuts ? strtoul(cuts, NULL, 10) : 1,
              .steps = steps ? strtoul(steps, NULL, 10) : 0,
              .random = 88172645463325252u};
    Error err = {0};
    Mapping file = {0};
    bool ok = open_vocabulary(&t, argv[1], &file, &err);
    ok = ok && (argc == 2 ? run_lines(&t, &err) : run_job(&t, argv + 2, argc - 2, &err));
    if (!ok) {
        fprintf(stderr, "%s\n", err.message);
    }
    token_trie_free(&t.trie);
    tokenizer_free(t.tokenizer);
    mapping_close(&file);
    return (int)err.kind;
}
