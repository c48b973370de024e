// The constraints of a batch are compiled once, and freed if they take too many bytes and no request
// uses them.
#include "batch/guides.h"
#include "unit.h"

// A token for each of the bytes a to h.
enum { N_TOKENS = 8 };

static void open_guides(Guides *g, size_t max_bytes)
{
    static const char letters[] = "abcdefgh";
    TokenText texts[N_TOKENS];
    Error err;
    for (size_t i = 0; i < N_TOKENS; i++) {
        texts[i] = (TokenText){letters + i, 1};
    }
    *g = (Guides){.max_bytes = max_bytes};
    CHECK(token_trie_create(&g->trie, texts, N_TOKENS, &err), "%s", err.message);
}

// Asks for the expression with a number: so many letters a and one more, one of a to h, perhaps a b.
static Guide *find(Guides *g, size_t number, bool *is_new)
{
    char regex[16];
    Error err = {0};
    FoundGuide found;
    snprintf(regex, sizeof regex, "a{%zu}[a-h]b?", number + 1);
    const ConstraintSpec spec = {.kind = CONSTRAINT_REGEX, .name = "regex", .text = regex};
    CHECK(guides_find(g, &spec, &found, &err), "%s", err.message);
    *is_new = found.is_new;
    return found.guide;
}

static size_t kept_bytes(const Guides *g)
{
    size_t bytes = 0;
    for (size_t i = 0; i < GUIDES_KEPT; i++) {
        bytes += g->kept[i].text.capacity;
        bytes += g->kept[i].guide ? guide_bytes(g->kept[i].guide) : 0;
    }
    return bytes;
}

static size_t bytes_of_one(void)
{
    Guides g;
    bool is_new;
    open_guides(&g, SIZE_MAX);
    guide_close(find(&g, GUIDES_KEPT, &is_new));
    const size_t bytes = kept_bytes(&g);
    guides_free(&g);
    return bytes;
}

// Reads a text of the expression with a number, and checks the sets of tokens on the way.
static void read_text(Guide *guide, size_t number)
{
    Match m = {0};
    Error err = {0};
    bool ok = match_begin(&m, guide, &err), taken = true;
    for (size_t i = 0; ok && taken && i <= number + 1; i++) {
        uint64_t tokens = 0;
        ok = match_tokens(&m, (MaskQuery){.most = NO_TEXT}, &tokens, &err);
        CHECK(tokens == (i <= number ? 1 : 0xff), "after %zu bytes: %x", i, (unsigned)tokens);
        ok = ok && match_take(&m, (ConstraintText){"a", 1}, NO_TEXT - 1, &taken, &err);
    }
    CHECK(ok && taken && m.shortest == 0, "number %zu: %s", number, err.message);
    match_free(&m);
}

TEST(test_those_in_no_use_take_at_most_so_many_bytes)
{
    Guides g;
    bool is_new;
    const size_t most = 10 * bytes_of_one();  // of one that has read nothing
    open_guides(&g, most);
    for (size_t i = 0; i < 2000; i++) {
        Guide *guide = find(&g, i % 40, &is_new);
        CHECK(kept_bytes(&g) <= most, "%zu bytes after %zu constraints", kept_bytes(&g), i + 1);
        read_text(guide, i % 40);
        guide_close(guide);
    }
    guide_close(find(&g, 39, &is_new));
    CHECK(!is_new, "the last constraint is not kept");
    guide_close(find(&g, 36, &is_new));
    CHECK(!is_new, "the constraint asked for before the last three is not kept");
    guide_close(find(&g, 20, &is_new));
    CHECK(is_new, "the constraint asked for before the last nineteen is kept");
    guides_free(&g);
}

TEST(test_those_in_use_stay)
{
    enum { IN_USE = 9 };
    Guides g;
    Guide *in_use[IN_USE];
    bool is_new;
    open_guides(&g, 3 * bytes_of_one());
    for (size_t i = 0; i < IN_USE; i++) {
        in_use[i] = find(&g, i, &is_new);
    }
    for (size_t i = 0; i < IN_USE; i++) {
        Guide *same = find(&g, i, &is_new);
        CHECK(!is_new && same == in_use[i], "constraint %zu was compiled again", i);
        guide_close(same);
        read_text(in_use[i], i);
    }
    for (size_t i = 0; i < IN_USE; i++) {
        guide_close(in_use[i]);
    }
    guide_close(find(&g, IN_USE, &is_new));
    CHECK(kept_bytes(&g) <= g.max_bytes, "%zu bytes, expected at most %zu", kept_bytes(&g),
          g.max_bytes);
    guides_free(&g);
}

TEST(test_texts_that_fail_are_among_the_bytes)
{
    static char regex[50000];  // more than an expression may have
    Guides g;
    FoundGuide found;
    open_guides(&g, 3 * sizeof regex);
    memset(regex, 'a', sizeof regex - 1);
    for (size_t i = 0; i < GUIDES_KEPT; i++) {
        const ConstraintSpec spec = {.kind = CONSTRAINT_REGEX, .name = "regex", .text = regex};
        Error err = {0};
        regex[i] = 'b';
        CHECK(!guides_find(&g, &spec, &found, &err) && found.is_new, "constraint %zu", i);
        CHECK(err.kind == ERROR_INPUT && strncmp(err.message, "regex: ", 7) == 0, "%s",
              err.message);
        CHECK(kept_bytes(&g) <= g.max_bytes, "%zu bytes after %zu constraints", kept_bytes(&g),
              i + 1);
    }
    guides_free(&g);
}

TEST(test_a_text_that_fails_and_takes_more_than_all_may_is_not_kept)
{
    Guides g;
    FoundGuide found;
    Error err = {0};
    const ConstraintSpec spec = {.kind = CONSTRAINT_REGEX, .name = "regex", .text = "(a"};
    open_guides(&g, 0);
    CHECK(!guides_find(&g, &spec, &found, &err) && err.kind == ERROR_INPUT, "%s", err.message);
    CHECK(kept_bytes(&g) == 0, "%zu bytes, expected none", kept_bytes(&g));
    guides_free(&g);
}

int main(int argc, char **argv)
{
    return unit_main(
        argc, argv,
        (UnitTest[]){UNIT(test_those_in_no_use_take_at_most_so_many_bytes),
                     UNIT(test_those_in_use_stay),
                     UNIT(test_texts_that_fail_are_among_the_bytes),
                     UNIT(test_a_text_that_fails_and_takes_more_than_all_may_is_not_kept),
                     {0}});
}
