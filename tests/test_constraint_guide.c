// A constraint that texts share: what one is told does not depend on the others, nor on the bounds
// that they reach together.
#include "base/threads.h"
#include "text/constraint_guide.h"
#include "unit.h"

// A token for each of the bytes a to h.
enum { N_TOKENS = 8 };

static void make_trie(TokenTrie *t)
{
    static const char letters[] = "abcdefgh";
    TokenText texts[N_TOKENS];
    Error err;
    for (size_t i = 0; i < N_TOKENS; i++) {
        texts[i] = (TokenText){letters + i, 1};
    }
    CHECK(token_trie_create(t, texts, N_TOKENS, &err), "%s", err.message);
}

static Guide *open_regex(const TokenTrie *trie, const char *regex)
{
    Guide *g;
    Error err = {0};
    const ConstraintText text = {regex, strlen(regex)};
    CHECK(guide_open(&g, CONSTRAINT_REGEX, text, trie, &err), "%s", err.message);
    return g;
}

// Takes n random letters, each a or b; false if one of them fails.
static bool take_letters(Match *m, uint64_t *random, size_t n, Error *err)
{
    bool ok = true, taken;
    for (size_t i = 0; ok && i < n; i++) {
        *random = *random * 6364136223846793005u + 1442695040888963407u;
        ok = match_take(m, (ConstraintText){*random >> 63 ? "a" : "b", 1}, NO_TEXT - 1, &taken,
                        err);
        ok = ok && taken;
    }
    return ok;
}

// Whether there is an a 16 bytes before takes a state for each text of 16 letters: more than there
// may be, where several texts are long.
#define MANY_STATES "[ab]*a[ab]{15}c"

TEST(test_texts_that_reach_the_bounds_together_go_on)
{
    TokenTrie trie;
    make_trie(&trie);
    Guide *g = open_regex(&trie, MANY_STATES);
    Match texts[4] = {{0}};
    uint64_t random[4] = {1, 2, 3, 4};
    Error err = {0};
    for (size_t i = 0; i < 4; i++) {
        CHECK(match_begin(&texts[i], g, &err), "%s", err.message);
    }
    for (size_t round = 0; round < 20; round++) {
        for (size_t i = 0; i < 4; i++) {
            CHECK(take_letters(&texts[i], &random[i], 600, &err), "text %zu: %s", i, err.message);
        }
    }
    CHECK(texts[0].epoch > 1, "the bounds were not reached: a larger text is needed");
    for (size_t i = 0; i < 4; i++) {
        const char *end = texts[i].text.data + texts[i].text.size;
        const uint32_t expected = end[-16] == 'a' ? 1 : texts[i].shortest;
        uint64_t tokens;
        CHECK(texts[i].text.size == 12000, "%zu bytes", texts[i].text.size);
        CHECK(texts[i].shortest == expected && expected >= 1, "shortest %u", texts[i].shortest);
        CHECK(match_tokens(&texts[i], (MaskQuery){.most = NO_TEXT}, &tokens, &err), "%s",
              err.message);
        CHECK(tokens == (end[-16] == 'a' ? 7u : 3u), "tokens %x", (unsigned)tokens);
        match_free(&texts[i]);
    }
    guide_close(g);
    token_trie_free(&trie);
}

TEST(test_a_text_that_reaches_a_bound_alone_fails_and_names_it)
{
    TokenTrie trie;
    make_trie(&trie);
    Guide *g = open_regex(&trie, MANY_STATES);
    Match m = {0};
    uint64_t random = 1;
    Error err = {0};
    CHECK(match_begin(&m, g, &err), "%s", err.message);
    bool ok = true;
    for (size_t i = 0; ok && i < 200; i++) {
        ok = take_letters(&m, &random, 1000, &err);
    }
    CHECK(!ok && err.kind == ERROR_INPUT && strstr(err.message, "states"), "%s", err.message);
    match_free(&m);
    guide_close(g);
    token_trie_free(&trie);
}

enum { N_TEXTS = 12 };

typedef struct {
    Match texts[N_TEXTS];
    bool ok[N_TEXTS];
} Shared;

static void read_text(Shared *s, size_t i)
{
    uint64_t random = i, tokens = 0;
    Error err;
    s->ok[i] = take_letters(&s->texts[i], &random, 300, &err) &&
               match_tokens(&s->texts[i], (MaskQuery){.most = NO_TEXT}, &tokens, &err) &&
               (tokens & 3) == 3;
}

static void read_texts(Team team, void *arg)
{
    TeamStep step = team_step(team, N_TEXTS);
    while (team_claim(&step)) {
        for (size_t i = step.begin; i < step.end; i++) {
            read_text(arg, i);
        }
    }
}

TEST(test_threads_may_share_a_constraint)
{
    TokenTrie trie;
    make_trie(&trie);
    Guide *g = open_regex(&trie, MANY_STATES);
    Shared s = {{{0}}, {0}};
    Error err = {0};
    for (size_t i = 0; i < N_TEXTS; i++) {
        CHECK(match_begin(&s.texts[i], g, &err), "%s", err.message);
    }
    team_run(4, read_texts, &s);
    for (size_t i = 0; i < N_TEXTS; i++) {
        CHECK(s.ok[i] && s.texts[i].text.size == 300, "text %zu", i);
        match_free(&s.texts[i]);
    }
    guide_close(g);
    token_trie_free(&trie);
}

TEST(test_forced_bytes_and_whether_the_text_ends_with_them)
{
    static const struct {
        const char *regex, *forced;
        bool ends;
    } cases[] = {{"abc", "abc", true},       {"abcd?", "abc", false}, {"ab(c|d)", "ab", false},
                 {"(a|b)c", "", false},      {"abc*", "ab", false},   {"", "", true},
                 {"ab(cd|ce)", "abc", false}};
    TokenTrie trie;
    make_trie(&trie);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Guide *g = open_regex(&trie, cases[i].regex);
        Match m = {0};
        Error err = {0};
        char bytes[8];
        bool ends;
        ForcedBytes forced = {bytes, sizeof bytes, 0};
        CHECK(match_begin(&m, g, &err), "%s", err.message);
        CHECK(match_forced(&m, &forced, &ends, &err), "%s", err.message);
        CHECK(forced.size == strlen(cases[i].forced) &&
                  memcmp(bytes, cases[i].forced, forced.size) == 0 && ends == cases[i].ends,
              "%s: %.*s, ends %d", cases[i].regex, (int)forced.size, bytes, ends);
        CHECK(m.text.size == 0, "asking changed the text");
        match_free(&m);
        guide_close(g);
    }
    token_trie_free(&trie);
}

TEST(test_longer_tokens_are_found)
{
    static const TokenText texts[] = {{"ab", 2}, {"abcd", 4}, {"b", 1}, {"\xff", 1}};
    TokenTrie trie;
    Error err;
    CHECK(token_trie_create(&trie, texts, 4, &err), "%s", err.message);
    CHECK(token_trie_extends(&trie, "a", 1) && token_trie_extends(&trie, "ab", 2) &&
              token_trie_extends(&trie, "abc", 3),
          "a longer token is not found");
    CHECK(!token_trie_extends(&trie, "abcd", 4) && !token_trie_extends(&trie, "b", 1) &&
              !token_trie_extends(&trie, "\xff", 1) && !token_trie_extends(&trie, "c", 1) &&
              !token_trie_extends(&trie, "abce", 4),
          "a longer token is found");
    token_trie_free(&trie);
}

TEST(test_a_guide_lives_as_long_as_it_has_users)
{
    TokenTrie trie;
    make_trie(&trie);
    Guide *g = open_regex(&trie, "a|bc"), *other = guide_share(g);
    Match m = {0};
    Error err = {0};
    bool taken;
    guide_close(g);
    CHECK(match_begin(&m, other, &err) && m.shortest == 1 && !m.is_final, "shortest %u",
          m.shortest);
    CHECK(match_take(&m, (ConstraintText){"b", 1}, 0, &taken, &err) && !taken, "b was taken");
    CHECK(match_take(&m, (ConstraintText){"a", 1}, 0, &taken, &err) && taken, "a was not taken");
    CHECK(m.is_final && m.shortest == 0, "more than a is needed");
    match_free(&m);
    guide_close(other);
    guide_close(NULL);
    token_trie_free(&trie);
}

int main(int argc, char **argv)
{
    return unit_main(argc, argv,
                     (UnitTest[]){UNIT(test_texts_that_reach_the_bounds_together_go_on),
                                  UNIT(test_a_text_that_reaches_a_bound_alone_fails_and_names_it),
                                  UNIT(test_threads_may_share_a_constraint),
                                  UNIT(test_forced_bytes_and_whether_the_text_ends_with_them),
                                  UNIT(test_longer_tokens_are_found),
                                  UNIT(test_a_guide_lives_as_long_as_it_has_users),
                                  {0}});
}
