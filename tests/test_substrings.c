// All substrings of a text: the same answers as a search through the text.
#include "text/substrings.h"

#include <string.h>

#include "unit.h"

static bool occurs(const char *text, size_t size, const char *bytes, size_t n)
{
    bool found = false;
    for (size_t at = 0; !found && n <= size && at <= size - n; at++) {
        found = memcmp(text + at, bytes, n) == 0;
    }
    return found;
}

// Asks for every substring of both texts.
static void check_substrings(const char *text, size_t size, const char *other, size_t other_size)
{
    Error err;
    Substrings *s;
    CHECK(substrings_create(&s, text, size, &err), "%s", err.message);
    for (size_t from = 0; from < other_size; from++) {
        for (size_t n = 0; n <= other_size - from; n++) {
            const bool got = substrings_has(s, other + from, n);
            const bool expected = occurs(text, size, other + from, n);
            CHECK(got == expected, "%.*s in %.*s: %d, expected %d", (int)n, other + from, (int)size,
                  text, got, expected);
        }
    }
    substrings_free(s);
}

TEST(test_what_a_text_has_is_found_and_nothing_else)
{
    static const char *const texts[] = {"",         "a",           "aaaaaaaaaa", "abababab",
                                        "abcabdab", "aabbaaabbab", "abbbcaabbbc"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
            check_substrings(texts[i], strlen(texts[i]), texts[k], strlen(texts[k]));
        }
    }
}

TEST(test_random_texts_of_few_and_of_all_bytes)
{
    enum { SIZE = 60 };
    char text[2 * SIZE];
    srand(1);
    for (int round = 0; round < 200; round++) {
        const int bytes = round % 4 == 3 ? 256 : 2 + round % 4;
        for (size_t i = 0; i < sizeof text; i++) {
            text[i] = (char)(rand() / 64 % bytes);
        }
        check_substrings(text, SIZE, text + SIZE, SIZE);
        check_substrings(text, SIZE, text, SIZE);
    }
}

int main(int argc, char **argv)
{
    return unit_main(argc, argv,
                     (UnitTest[]){
                         UNIT(test_what_a_text_has_is_found_and_nothing_else),
                         UNIT(test_random_texts_of_few_and_of_all_bytes),
                         {0},
                     });
}
