// Thoughts told apart from answers: the same parts however the bytes arrive; and dates.
#include "base/date.h"
#include "text/thinking.h"
#include "unit.h"

// Texts as a template writes them.
static ThinkingTexts texts_of(const char *open, const char *close, const char *answer)
{
    ThinkingTexts t = {0};
    buffer_add_text(&t.open, open);
    buffer_add_text(&t.close, close);
    buffer_add_text(&t.answer, answer);
    return t;
}

// Checks thought and answer of a text that arrives in pieces of `step` bytes. The bytes between two
// \1 are hidden.
static void check_pieces(const ThinkingTexts *t, const char *text, size_t step, const char *thought,
                         const char *answer)
{
    ThinkingFilter f = {.texts = t};
    bool hidden = false;
    size_t n = 0;
    for (size_t i = 0; text[i]; i += n) {
        n = strcspn(text + i, "\1");
        n = n < step ? n : step;
        thinking_add(&f, text + i, n, hidden);
        if (!n) {
            hidden = !hidden;
            n = 1;
        }
    }
    thinking_end(&f);
    buffer_add_text(&f.thought, "");
    buffer_add_text(&f.answer, "");
    CHECK(strcmp(f.thought.data, thought) == 0, "thought \"%s\", expected \"%s\" (by %zu)",
          f.thought.data, thought, step);
    CHECK(strcmp(f.answer.data, answer) == 0, "answer \"%s\", expected \"%s\" (by %zu)",
          f.answer.data, answer, step);
    thinking_free(&f);
}

TEST(test_thought_and_answer_do_not_depend_on_how_the_bytes_arrive)
{
    static const char *const cases[][3] = {
        {"<think>\nHm, 4.\n</think>\n\nFour.\n", "Hm, 4.", "Four.\n"},
        {" \n<think>a</think>b", "a", "b"},
        {"<think></think>b", "", "b"},
        {"<think> a < b </thin> c", "a < b </thin> c", ""},
        {"<think>a \n </th", "a \n </th", ""},
        {"<think>a \n ", "a", ""},
        {"  <thinking>", "", "  <thinking>"},
        {" plain \n", "", " plain \n"},
        {"<thi", "", "<thi"},
        {"a</think>b", "", "a</think>b"},
        {"\1<think>\1a\1<x>\1b\1</think>\1c\1<y>\1", "ab", "c"},
        {"[say] b", "", "b"},
        {"", "", ""},
    };
    ThinkingTexts t = texts_of("<think>\n", "\n</think>\n\n", "[say] ");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t step = 1; step < 9; step++) {
            check_pieces(&t, cases[i][0], step, cases[i][1], cases[i][2]);
        }
    }
    thinking_texts_free(&t);
}

TEST(test_without_texts_all_bytes_are_the_answer)
{
    check_pieces(NULL, " <think>a</think>b ", 3, "", " <think>a</think>b ");
}

TEST(test_bytes_that_open_or_close_a_thought_are_told_beforehand)
{
    ThinkingTexts t = texts_of("\n<think>\n", "\n</think>\n\n", "");
    static const char *const opening[] = {"<", "<think>", "\n <thi", "<think>\nWell"};
    static const char *const other[] = {"", "\n", "x<think>", "<th ", "</think>"};
    size_t n;
    for (size_t i = 0; i < sizeof opening / sizeof *opening; i++) {
        const char *text = opening[i], *begin = strchr(text, '<');
        const size_t length = strlen(begin), expected = length < 7 ? length : 7;
        CHECK(thinking_opens(&t, text, strlen(text), &n) && n == expected, "%s: %zu", text, n);
    }
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        CHECK(!thinking_opens(&t, other[i], strlen(other[i]), &n), "%s opens", other[i]);
    }
    ThinkingFilter f = {.texts = &t, .phase = PHASE_THOUGHT};
    CHECK(thinking_closes(&f, "so</think>\n{", 12, &n) && n == 2, "%zu bytes after", n);
    CHECK(!thinking_closes(&f, "so</thin", 8, &n), "half a text closes");
    thinking_add(&f, "so</th", 6, false);
    CHECK(thinking_closes(&f, "ink>", 4, &n) && n == 0, "%zu bytes after", n);
    CHECK(!thinking_closes(&f, "ink ", 4, &n), "another text closes");
    thinking_free(&f);
    thinking_texts_free(&t);
}

TEST(test_only_days_that_exist_are_dates)
{
    static const char *const good[] = {"2024-02-29", "2000-02-29", "1999-12-31", "0001-01-01"};
    static const char *const bad[] = {"2023-02-29", "1900-02-29", "2024-00-10", "2024-13-01",
                                      "2024-04-31", "2024-1-01",  "0000-01-01", "2024-01-01x",
                                      "",           "2024-01-0"};
    char text[16];
    Date d;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        CHECK(date_read(good[i], &d) && strcmp(date_write(d, text), good[i]) == 0, "%s", good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(!date_read(bad[i], &d), "%s", bad[i]);
    }
    d = date_today();
    CHECK(date_read(date_write(d, text), &d), "%s", text);
}

int main(int argc, char **argv)
{
    return unit_main(argc, argv,
                     (UnitTest[]){
                         UNIT(test_thought_and_answer_do_not_depend_on_how_the_bytes_arrive),
                         UNIT(test_without_texts_all_bytes_are_the_answer),
                         UNIT(test_bytes_that_open_or_close_a_thought_are_told_beforehand),
                         UNIT(test_only_days_that_exist_are_dates),
                         {0},
                     });
}
