// Constraints from the inside: terms, numbers and regular expressions with obvious answers, the
// bytes that are forced, and what a text still needs.
#include "base/error.h"
#include "text/constraint.h"
#include "text/constraint_chars.h"
#include "text/constraint_number.h"
#include "text/constraint_regex.h"
#include "text/constraint_term.h"
#include "unit.h"

static bool contains(TermPool *p, Term t, const char *text)
{
    return term_matches(p, t, text, strlen(text));
}

TEST(test_equal_terms_have_the_same_number)
{
    TermPool *p = term_pool_create();
    const Term a = term_text(p, "a"), b = term_text(p, "b");
    CHECK(term_or2(p, a, b) == term_range(p, 'a', 'b'), "two sets of bytes are not joined");
    CHECK(term_or2(p, a, TERM_NONE) == a && term_seq(p, a, TERM_EMPTY) == a, "a is not itself");
    CHECK(term_seq(p, term_seq(p, a, b), a) == term_text(p, "aba"), "sequences differ by nesting");
    CHECK(term_star(p, term_star(p, a)) == term_star(p, a), "(a*)* is not a*");
    CHECK(term_not(p, term_not(p, a)) == a, "a complement of a complement differs");
    CHECK(term_and2(p, a, b) == TERM_NONE, "a byte is both a and b");
    term_pool_free(p);
}

TEST(test_an_empty_intersection_is_found)
{
    TermPool *p = term_pool_create();
    const Term any = term_star(p, term_range(p, 'a', 'b'));
    const Term a_end = term_seq(p, any, term_byte(p, 'a')),
               b_end = term_seq(p, any, term_byte(p, 'b'));
    const Term both = term_and2(p, a_end, b_end);
    CHECK(both != TERM_NONE && term_shortest(p, both) == NEVER, "a text ends in a and in b");
    const Term long_one = term_and2(p, a_end, term_repeat(p, term_range(p, 'a', 'b'), 7, 9));
    CHECK(term_shortest(p, long_one) == 7, "shortest %u, expected 7", term_shortest(p, long_one));
    CHECK(term_next(p, both, 'a') == TERM_NONE, "a byte leads where nothing is");
    term_pool_free(p);
}

TEST(test_numbers_are_compared_as_decimals)
{
    static const char *const values[] = {"-12.5", "-2",  "-1.05", "-1", "-0.5", "-0", "0",
                                         "0.05",  "0.5", "1",     "9",  "9.99", "10", "10.01"};
    TermPool *p = term_pool_create();
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        Decimal d;
        CHECK(decimal_read(&d, values[i], strlen(values[i])), "%s", values[i]);
        const Term least = number_at_least(p, &d, false), above = number_at_least(p, &d, true);
        const Term most = number_at_most(p, &d, false), below = number_at_most(p, &d, true);
        for (size_t k = 0; k < sizeof values / sizeof *values; k++) {
            const char *v = values[k];
            const double x = strtod(v, NULL), bound = strtod(values[i], NULL);
            CHECK(contains(p, least, v) == (x >= bound), "%s >= %s", v, values[i]);
            CHECK(contains(p, above, v) == (x > bound), "%s > %s", v, values[i]);
            CHECK(contains(p, most, v) == (x <= bound), "%s <= %s", v, values[i]);
            CHECK(contains(p, below, v) == (x < bound), "%s < %s", v, values[i]);
            CHECK(contains(p, number_equal(p, &d), v) == (x == bound), "%s = %s", v, values[i]);
        }
    }
    term_pool_free(p);
}

TEST(test_exponents_and_zeros_of_a_decimal_are_read)
{
    static const struct {
        const char *text, *whole, *fraction;
    } cases[] = {{"1e3", "1000", ""},  {"1.50e1", "15", ""}, {"0.05", "", "05"},
                 {"25e-3", "", "025"}, {"-0.0", "", ""},     {"100", "100", ""},
                 {"1.200", "1", "2"},  {"12e-1", "1", "2"},  {"0.00120E+2", "", "12"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Decimal d;
        CHECK(decimal_read(&d, cases[i].text, strlen(cases[i].text)), "%s", cases[i].text);
        CHECK(d.n_whole == strlen(cases[i].whole) && !memcmp(d.whole, cases[i].whole, d.n_whole) &&
                  d.n_fraction == strlen(cases[i].fraction) &&
                  !memcmp(d.fraction, cases[i].fraction, d.n_fraction),
              "%s: %.*s.%.*s", cases[i].text, (int)d.n_whole, d.whole, (int)d.n_fraction,
              d.fraction);
    }
    Decimal d;
    CHECK(!decimal_read(&d, "1e401", 5), "402 digits were read");
}

TEST(test_multiples_are_told_by_their_digits)
{
    static const struct {
        const char *of, *number;
        bool is;
    } cases[] = {{"7", "49", true},     {"7", "50", false},        {"0.01", "19.99", true},
                 {"0.01", "1.5", true}, {"0.01", "1.5000", true},  {"0.01", "0.005", false},
                 {"2.5", "7.5", true},  {"2.5", "7", false},       {"3", "-9.0", true},
                 {"3", "0", true},      {"0.0075", "0.015", true}, {"1e-8", "12391239123", true}};
    TermPool *p = term_pool_create();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Decimal d;
        CHECK(decimal_read(&d, cases[i].of, strlen(cases[i].of)), "%s", cases[i].of);
        const Term t = number_multiple(p, &d);
        CHECK(contains(p, t, cases[i].number) == cases[i].is, "%s of %s", cases[i].number,
              cases[i].of);
    }
    term_pool_free(p);
}

static bool matches(const char *pattern, bool whole, const char *text)
{
    TermPool *p = term_pool_create();
    Error err = {0};
    Term t;
    const RegexOptions options = {whole ? REGEX_RE2 : REGEX_ECMA, SPELL_UTF8, whole};
    const bool ok = regex_compile(p, &options, pattern, strlen(pattern), &t, &err);
    CHECK(ok, "%s: %s", pattern, err.message);
    const bool found = ok && contains(p, t, text);
    term_pool_free(p);
    return found;
}

TEST(test_anchors_hold_where_they_stand)
{
    static const struct {
        const char *pattern, *text;
        bool found;
    } cases[] = {{"^a", "ab", true},        {"^a", "ba", false},
                 {"a$", "ba", true},        {"a$", "ab", false},
                 {"^a*$", "aab", false},    {"^a*$", "", true},
                 {"(^a|b$)", "cb", true},   {"(^a|b$)", "ca", false},
                 {"x^a", "xa", false},      {"^(a|^b)c", "bc", true},
                 {"a|^$", "", true},        {"(^|-)a", "b-a", true},
                 {"(^|-)a", "ba", false},   {"^[a-z_]*$", "vrt_A", false},
                 {"(a$|b){2}", "ba", true}, {"^(^a)+$", "a", true},
                 {"^(^a)+$", "aa", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK(matches(cases[i].pattern, false, cases[i].text) == cases[i].found, "%s in %s",
              cases[i].pattern, cases[i].text);
    }
}

TEST(test_classes_have_their_characters)
{
    CHECK(matches("\\p{Lu}\\pN[[:alpha:]]", true,
                  "\xc3\x89"
                  "7z"),
          "\\p{Lu} has no E acute");
    CHECK(!matches("\\p{Lu}", true, "e"), "e is upper case");
    CHECK(matches("(?i:k)", true, "\xe2\x84\xaa"), "the Kelvin sign is no k");
    CHECK(matches("[^a]", true, "\xf0\x9f\x98\x80") && !matches("[^a]", true, "\xf0\x9f"),
          "a character is not whole");
    CHECK(matches("\\Qa.b\\E.", true, "a.bc") && !matches("\\Qa.b\\E", true, "axb"), "\\Q..\\E");
    CHECK(!matches(".", true, "\n") && matches("(?s).", true, "\n"), "the dot and line ends");
}

TEST(test_what_a_regular_expression_lacks_is_named)
{
    static const char *const cases[][2] = {
        {"a(?=b)", "lookaround"},      {"(a)\\1", "back-references"}, {"\\bx", "word boundaries"},
        {"(?<!a)b", "lookaround"},     {"a**", "one quantifier"},     {"(a", "expected )"},
        {"[a", "expected ]"},          {"a{2,1}", "ascending"},       {"\\p{Greek}", "categories"},
        {"*a", "something to repeat"}, {"[z-a]", "ascending"},        {"a)", "no )"}};
    TermPool *p = term_pool_create();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Error err = {0};
        Term t;
        const RegexOptions options = {REGEX_ECMA, SPELL_JSON, false};
        CHECK(!regex_compile(p, &options, cases[i][0], strlen(cases[i][0]), &t, &err) &&
                  strstr(err.message, cases[i][1]),
              "%s: %s", cases[i][0], err.message);
    }
    term_pool_free(p);
}

static Constraint *schema(const char *text)
{
    Constraint *c;
    Error err = {0};
    CHECK(constraint_of_schema(&c, (ConstraintText){text, strlen(text)}, &err), "%s: %s", text,
          err.message);
    return c;
}

TEST(test_forced_bytes_go_as_far_as_nothing_is_open)
{
    Constraint *c = schema(
        "{\"type\": \"object\", \"properties\": {\"name\": {\"type\": \"string\"}},"
        "\"required\": [\"name\"], \"additionalProperties\": false}");
    char bytes[64];
    ForcedBytes forced = {.bytes = bytes, .most = sizeof bytes};
    const MatchState in_string = constraint_forced(c, constraint_start(c), &forced);
    CHECK(forced.size == 10 && !memcmp(bytes, "{\"name\": \"", 10), "%.*s", (int)forced.size,
          bytes);
    const MatchState behind = constraint_next(c, in_string, "x\"", 2);
    const MatchState end = constraint_forced(c, behind, &forced);
    CHECK(forced.size == 1 && bytes[0] == '}' && constraint_is_final(c, end), "%zu bytes",
          forced.size);
    constraint_free(c);
}

TEST(test_the_shortest_text_is_exact)
{
    static const struct {
        const char *schema;
        uint32_t shortest;
    } cases[] = {
        {"true", 1},
        {"{\"type\": \"boolean\"}", 4},
        {"{\"const\": {\"a\": [1, \"xy\"]}}", 16},
        {"{\"type\": \"array\", \"items\": {\"type\": \"null\"}, \"minItems\": 3}", 18},
        {"{\"type\": \"object\", \"minProperties\": 1}", 7},
        {"{\"type\": \"string\", \"pattern\": \"^a{3}b+$\"}", 6},
        {"{\"type\": \"integer\", \"minimum\": 1000, \"multipleOf\": 7}", 4},
        {"{\"type\": \"array\", \"contains\": {\"const\": 25}, \"minItems\": 2}", 7},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Constraint *c = schema(cases[i].schema);
        const uint32_t found = constraint_shortest(c, constraint_start(c));
        CHECK(found == cases[i].shortest, "%s: %u, expected %u", cases[i].schema, found,
              cases[i].shortest);
        constraint_free(c);
    }
}

TEST(test_a_bound_that_is_reached_is_named)
{
    static const char hostile[] = "(a|b)*a(a|b){20}";
    Constraint *c;
    Error err = {0};
    bool ok = constraint_of_regex(&c, (ConstraintText){hostile, strlen(hostile)}, &err);
    MatchState state = ok ? constraint_start(c) : MATCH_FAILED;
    uint32_t random = 1;
    for (int i = 0; ok && i < 200000 && state != MATCH_FAILED; i++) {
        random = random * 1103515245 + 12345;
        state = constraint_next(c, state, random >> 16 & 1 ? "a" : "b", 1);
    }
    ok = ok && constraint_check(c, &err);
    CHECK(!ok && strstr(err.message, "expected at most"), "%s", err.message);
    constraint_free(c);
}

int main(int argc, char **argv)
{
    return unit_main(argc, argv,
                     (UnitTest[]){UNIT(test_equal_terms_have_the_same_number),
                                  UNIT(test_an_empty_intersection_is_found),
                                  UNIT(test_numbers_are_compared_as_decimals),
                                  UNIT(test_exponents_and_zeros_of_a_decimal_are_read),
                                  UNIT(test_multiples_are_told_by_their_digits),
                                  UNIT(test_anchors_hold_where_they_stand),
                                  UNIT(test_classes_have_their_characters),
                                  UNIT(test_what_a_regular_expression_lacks_is_named),
                                  UNIT(test_forced_bytes_go_as_far_as_nothing_is_open),
                                  UNIT(test_the_shortest_text_is_exact),
                                  UNIT(test_a_bound_that_is_reached_is_named),
                                  {0}});
}
