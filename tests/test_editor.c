// test_editor.c - the line editor without a terminal: bytes in, the line and a screen out.
#include <stdint.h>

#include "cli/editor.h"
#include "text/width.h"
#include "unit.h"

static const volatile sig_atomic_t no_signal;

static void type_bytes(Editor *e, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        editor_key(e, bytes[i]);
    }
}

// Types `keys` into an empty line; '|' in `expected` stands for the cursor.
static void check_keys(const char *keys, const char *expected)
{
    Editor e;
    editor_open(&e, -1, -1, true, &no_signal);
    type_bytes(&e, keys, strlen(keys));
    char shown[256];
    snprintf(shown, sizeof shown, "%.*s|%s", (int)e.cursor, e.line.size ? e.line.data : "",
             e.line.size ? e.line.data + e.cursor : "");
    CHECK(strcmp(shown, expected) == 0, "saw \"%s\", expected \"%s\"", shown, expected);
    editor_close(&e);
}

#define LEFT         "\033[D"
#define RIGHT        "\033[C"
#define UP           "\033[A"
#define DOWN         "\033[B"
#define PASTED(text) "\033[200~" text "\033[201~"

TEST(test_text_goes_in_at_the_cursor)
{
    check_keys("abc", "abc|");
    check_keys("ac" LEFT "b", "ab|c");
    check_keys("bc" LEFT LEFT LEFT "a" RIGHT RIGHT RIGHT "d", "abcd|");
    check_keys("\xe6\x97\xa5\xe8\xaa\x9e" LEFT "\xe6\x9c\xac", "日本|語");
    check_keys("a\tb", "a\tb|");
}

TEST(test_keys_move_the_cursor)
{
    check_keys("abc\001", "|abc");
    check_keys("abc\001\005", "abc|");
    check_keys("abc\002\002\006", "ab|c");
    check_keys("abc\033[H", "|abc");
    check_keys("abc\033[1~\033[4~", "abc|");
    check_keys("abc\033[7~\033[8~", "abc|");
    check_keys("abc\033OH\033OC", "a|bc");
    check_keys("abc\033OH\033[F", "abc|");
    check_keys("one two\033b", "one |two");
    check_keys("one two\033b\033b\033f", "one| two");
    check_keys("one two\033[1;5D\033[1;5D\033[1;5C", "one| two");
}

TEST(test_keys_delete)
{
    check_keys("abc\177", "ab|");
    check_keys("abc\010\010\010\010", "|");
    check_keys("abc" LEFT LEFT "\033[3~", "a|c");
    check_keys("abc" LEFT LEFT "\004", "a|c");
    check_keys("abc" LEFT "\013", "ab|");
    check_keys("abc" LEFT "\025", "|c");
    check_keys("one two  \027", "one |");
    check_keys("one two\033\177x", "one x|");
    check_keys("one two\001\033d", "| two");
}

TEST(test_a_character_and_what_combines_with_it_are_one)
{
    check_keys("ae\xcc\x81" LEFT, "a|e\xcc\x81");
    check_keys("ae\xcc\x81\177", "a|");
    check_keys("ae\xcc\x81z\001" RIGHT RIGHT, "ae\xcc\x81|z");
    check_keys("ae\xcc\x81z\001" RIGHT "\004", "a|z");
    check_keys("\xf0\x9f\x91\x8d\xf0\x9f\x8f\xbd\177", "\xf0\x9f\x91\x8d|");
}

TEST(test_bytes_that_are_no_characters_are_kept_and_deleted_as_units)
{
    check_keys("a\xff"
               "b" LEFT LEFT,
               "a|\xff"
               "b");
    check_keys("a\xe2\x82"
               "b" LEFT "\177",
               "a|b");
    check_keys("a\x80\x80\177", "a\x80|");
}

TEST(test_sequences_without_a_meaning_are_swallowed)
{
    check_keys("a\033[15~b", "ab|");
    check_keys("a\033[[Ab", "ab|");
    check_keys("a\033[<0;10;20Mb", "ab|");
    check_keys("a\033[99999999999999999999999999~b", "ab|");
    check_keys("a\033OPb", "ab|");
    check_keys("a\033zb", "azb|");
}

TEST(test_a_sequence_that_is_cut_off_ends_at_the_next_control_key)
{
    check_keys("abc\033[1\002x", "abx|c");
    check_keys("abc\033\033[Dx", "abx|c");
    check_keys("ab\033[\xc3\xa9", "ab\xc3\xa9|");
}

TEST(test_pasted_lines_are_text)
{
    check_keys(PASTED("one\rtwo"), "one\ntwo|");
    check_keys("a" PASTED("one\r\ntwo\n"), "aone\ntwo\n|");
    check_keys("ac" LEFT PASTED("\033[D") "x", "a\033[Dx|c");
    check_keys(PASTED("\001\033[A\t"), "\001\033[A\t|");
    check_keys(PASTED(""), "|");
    check_keys("a\033\rb", "a\nb|");
}

TEST(test_ctrl_c_ends_a_paste_that_has_no_end)
{
    Editor e;
    editor_open(&e, -1, -1, true, &no_signal);
    type_bytes(&e, "a\033[200~bcd", 10);
    CHECK(editor_key(&e, 3) == KEY_CANCEL, "another key");
    type_bytes(&e, "e", 1);
    CHECK(strcmp(e.line.data, "ae") == 0, "%s", e.line.data);
    editor_close(&e);
}

TEST(test_keys_that_end_a_line)
{
    Editor e;
    editor_open(&e, -1, -1, true, &no_signal);
    const struct {
        char byte;
        Key key;
    } keys[] = {{4, KEY_END},    {'\r', KEY_ENTER}, {'\n', KEY_ENTER},
                {3, KEY_CANCEL}, {26, KEY_SUSPEND}, {12, KEY_CLEAR},
                {0, KEY_NONE},   {'x', KEY_NONE},   {4, KEY_NONE}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const Key saw = editor_key(&e, keys[i].byte);
        CHECK(saw == keys[i].key, "byte %d: key %d, expected %d", keys[i].byte, saw, keys[i].key);
    }
    editor_close(&e);
}

// --------------------------------------------------------------------------------------------
// The screen

#define ROWS        6
#define MAX_COLUMNS 24

// A terminal that knows what editor_draw sends: text, "\r", "\n", and CSI A, C and J.
typedef struct {
    size_t columns;
    char cells[ROWS][MAX_COLUMNS][40];  // the bytes of each cell; of a wide one's second: "\x01"
    size_t row, column;                 // column == columns: the next character wraps
    const char *wrong;                  // what no terminal should get
} Screen;

static void clear_below(Screen *s)
{
    for (size_t r = s->row; r < ROWS; r++) {
        for (size_t c = r == s->row ? s->column : 0; c < MAX_COLUMNS; c++) {
            memset(s->cells[r][c], 0, sizeof s->cells[r][c]);
        }
    }
}

static void line_feed(Screen *s)
{
    if (s->row + 1 < ROWS) {
        s->row++;
        return;
    }
    memmove(s->cells[0], s->cells[1], (ROWS - 1) * sizeof s->cells[0]);
    memset(s->cells[ROWS - 1], 0, sizeof s->cells[0]);
}

// Returns the bytes that it took.
static size_t take_control(Screen *s, const char *b, size_t size)
{
    if (*b == '\r') {
        s->column = 0;
        return 1;
    }
    if (*b == '\n') {
        line_feed(s);
        return 1;
    }
    size_t n = 0, at = 2;
    if (size < 3 || memcmp(b, "\033[", 2) != 0) {
        s->wrong = "a control character";
        return 1;
    }
    for (; at < size && b[at] >= '0' && b[at] <= '9'; at++) {
        n = n * 10 + (size_t)(b[at] - '0');
    }
    if (b[at] == 'A') {
        s->wrong = n > s->row ? "a move above the screen" : s->wrong;
        s->row -= n > s->row ? s->row : n;
    } else if (b[at] == 'C') {
        s->column += n;
        s->wrong = s->column >= s->columns ? "a move past the last column" : s->wrong;
    } else if (b[at] == 'J') {
        clear_below(s);
    } else {
        s->wrong = "an unknown sequence";
    }
    return at + 1;
}

static void put(Screen *s, const char *b, size_t size, size_t width)
{
    if (!width) {
        const size_t at = s->column ? s->column - 1 : 0;
        char *cell = s->cells[s->row][at][0] == 1 && at ? s->cells[s->row][at - 1]
                                                        : s->cells[s->row][at];
        if (strlen(cell) + size < sizeof s->cells[0][0]) {
            strncat(cell, b, size);
        }
        return;
    }
    if (s->column + width > s->columns) {
        s->wrong = "a row that the terminal wraps";
        return;
    }
    memset(s->cells[s->row][s->column], 0, sizeof s->cells[0][0]);
    memcpy(s->cells[s->row][s->column], b, size);
    if (width == 2) {
        strcpy(s->cells[s->row][s->column + 1], "\x01");
    }
    s->column += width;
}

static void show_on(Screen *s, const Buffer *out)
{
    for (size_t at = 0; at < out->size;) {
        int width;
        const size_t size = character_width(out->data + at, out->size - at, &width);
        if (width < 0) {
            at += take_control(s, out->data + at, out->size - at);
        } else {
            put(s, out->data + at, size, (size_t)width);
            at += size;
        }
    }
}

static void draw_on(Editor *e, Screen *s)
{
    Buffer out = {0};
    editor_draw(e, "> ", ROWS, s->columns, &out);
    show_on(s, &out);
    CHECK(!s->wrong, "the terminal got %s", s->wrong);
    buffer_free(&out);
}

static void row_text(const Screen *s, size_t row, char *text)
{
    *text = '\0';
    for (size_t c = 0; c < s->columns; c++) {
        const char *cell = s->cells[row][c];
        strcat(text, *cell == 1 ? "" : *cell ? cell : " ");
    }
    for (size_t n = strlen(text); n && text[n - 1] == ' '; n--) {
        text[n - 1] = '\0';
    }
}

// Types the keys and compares the rows, up to NULL, and the cursor's place.
static void check_screen(const char *keys, size_t columns, const char *const *rows, size_t row,
                         size_t column)
{
    static Screen s;
    Editor e;
    memset(&s, 0, sizeof s);
    s.columns = columns;
    editor_open(&e, -1, -1, true, &no_signal);
    draw_on(&e, &s);
    type_bytes(&e, keys, strlen(keys));
    draw_on(&e, &s);
    for (size_t r = 0; rows[r]; r++) {
        char text[1024];
        row_text(&s, r, text);
        CHECK(strcmp(text, rows[r]) == 0, "row %zu is \"%s\", expected \"%s\"", r, text, rows[r]);
    }
    CHECK(s.row == row && s.column == column, "cursor at %zu, %zu, expected %zu, %zu", s.row,
          s.column, row, column);
    editor_close(&e);
}

#define TEXTS(...) ((const char *const[]){__VA_ARGS__, NULL})

TEST(test_a_long_line_takes_several_rows)
{
    check_screen("abcdefghijklmn", 10, TEXTS("> abcdefgh", "ijklmn", ""), 1, 6);
    check_screen("abcdefgh", 10, TEXTS("> abcdefgh", "", ""), 1, 0);
    check_screen("abcdefghi\001", 10, TEXTS("> abcdefgh", "i", ""), 0, 2);
    check_screen("abcdefghi" LEFT, 10, TEXTS("> abcdefgh", "i", ""), 1, 0);
    check_screen(PASTED("ab\rcd"), 10, TEXTS("> ab", "cd", ""), 1, 2);
}

TEST(test_wide_and_combining_characters_are_laid_out)
{
    check_screen("日本語", 8, TEXTS("> 日本語", "", ""), 1, 0);
    check_screen("日本語字", 9, TEXTS("> 日本語", "字", ""), 1, 2);
    check_screen("e\xcc\x81z", 8, TEXTS("> e\xcc\x81z", ""), 0, 4);
    check_screen("abcdefe\xcc\x81", 9, TEXTS("> abcdefe\xcc\x81", ""), 1, 0);
}

TEST(test_what_is_no_character_is_shown_in_a_way_that_is_harmless)
{
    check_screen("a\xff"
                 "b",
                 10,
                 TEXTS("> a\xef\xbf\xbd"
                       "b",
                       ""),
                 0, 5);
    check_screen(PASTED("a\033[2Jb"), 12, TEXTS("> a^[[2Jb", ""), 0, 9);
    check_screen("\xc2\x9b"
                 "1m",
                 10,
                 TEXTS("> \xef\xbf\xbd"
                       "1m",
                       ""),
                 0, 5);
    check_screen("a\tb", 12, TEXTS("> a    b", ""), 0, 8);
}

TEST(test_of_a_line_longer_than_the_screen_the_cursors_rows_are_shown)
{
    const char *const pasted = PASTED("1\r2\r3\r4\r5\r6\r7\r8");
    check_screen(pasted, 10, TEXTS("3", "4", "5", "6", "7", "8"), 5, 1);
    char keys[128];
    snprintf(keys, sizeof keys, "%s\001", pasted);
    check_screen(keys, 10, TEXTS("> 1", "2", "3", "4", "5", "6"), 0, 2);
    snprintf(keys, sizeof keys, "%s\001\005", pasted);
    check_screen(keys, 10, TEXTS("3", "4", "5", "6", "7", "8"), 5, 1);
    snprintf(keys, sizeof keys, "%s\025x", pasted);
    check_screen(keys, 10, TEXTS("> x", "", "", "", "", ""), 0, 3);
}

// A generator of the tests' own, so that a failure happens again.
static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 16;
}

// Random keys, with drawings in between: what stands on the screen is what a first drawing of the
// same line would show. Escape sequences and characters are cut anywhere.
TEST(test_drawing_anew_leaves_nothing_behind)
{
    static const char *const keys[] = {"a",         "word ",
                                       "\xc3\xa9",  "日",
                                       "e\xcc\x81", "\xf0\x9f\x98\x80",
                                       "\xff",      "\xe2\x82",
                                       LEFT,        RIGHT,
                                       UP,          DOWN,
                                       "\033[H",    "\033[F",
                                       "\177",      "\033[3~",
                                       "\013",      "\025",
                                       "\027",      "\033b",
                                       "\033f",     "\t",
                                       "\033[200",  "~x\ry",
                                       "\033[2",    "01~",
                                       "\0017",     "\033",
                                       "[",         "O",
                                       "\033\r",    PASTED("1\r2\r\xe8\xaa\x9e")};
    static Screen seen, fresh;
    uint32_t random = 1;
    for (size_t columns = 4; columns <= MAX_COLUMNS; columns++) {
        Editor e;
        editor_open(&e, -1, -1, true, &no_signal);
        memset(&seen, 0, sizeof seen);
        seen.columns = columns;
        seen.row = columns % ROWS;  // near the bottom the line scrolls the screen
        for (int i = 0; i < 500; i++) {
            const char *key = keys[next_random(&random) % (sizeof keys / sizeof *keys)];
            type_bytes(&e, key, strlen(key));
            CHECK(e.cursor <= e.line.size, "cursor %zu of %zu", e.cursor, e.line.size);
            draw_on(&e, &seen);
            const size_t cursor_row = e.cursor_row;
            memset(&fresh, 0, sizeof fresh);
            fresh.columns = columns;
            e.cursor_row = 0;
            draw_on(&e, &fresh);
            CHECK(e.cursor_row == cursor_row && seen.column == fresh.column, "cursor elsewhere");
            const size_t first = seen.row - cursor_row;
            CHECK(memcmp(seen.cells[first], fresh.cells[0],
                         (ROWS - first) * sizeof seen.cells[0]) == 0,
                  "%zu columns, step %d: another screen", columns, i);
        }
        editor_close(&e);
    }
}

TEST(test_random_bytes_do_no_harm)
{
    static Screen s;
    uint32_t random = 7;
    for (int round = 0; round < 50; round++) {
        Editor e;
        editor_open(&e, -1, -1, true, &no_signal);
        memset(&s, 0, sizeof s);
        s.columns = 10;
        for (int i = 0; i < 300; i++) {
            editor_key(&e, (char)next_random(&random));
            CHECK(e.cursor <= e.line.size, "cursor %zu of %zu", e.cursor, e.line.size);
            draw_on(&e, &s);
        }
        editor_close(&e);
    }
}

TEST(test_a_line_of_a_megabyte_is_taken)
{
    Editor e;
    Buffer out = {0};
    editor_open(&e, -1, -1, true, &no_signal);
    type_bytes(&e, "\033[200~", 6);
    for (size_t i = 0; i < (1 << 20); i++) {
        editor_key(&e, i % 100 ? 'x' : '\r');
    }
    type_bytes(&e, "\033[201~", 6);
    CHECK(e.line.size == 1 << 20, "%zu bytes", e.line.size);
    editor_draw(&e, "> ", 24, 80, &out);
    CHECK(out.size < 24 * 90, "%zu bytes for the screen", out.size);
    buffer_free(&out);
    editor_close(&e);
}

int main(int argc, char **argv)
{
    return unit_main(argc, argv,
                     (UnitTest[]){
                         UNIT(test_text_goes_in_at_the_cursor),
                         UNIT(test_keys_move_the_cursor),
                         UNIT(test_keys_delete),
                         UNIT(test_a_character_and_what_combines_with_it_are_one),
                         UNIT(test_bytes_that_are_no_characters_are_kept_and_deleted_as_units),
                         UNIT(test_sequences_without_a_meaning_are_swallowed),
                         UNIT(test_a_sequence_that_is_cut_off_ends_at_the_next_control_key),
                         UNIT(test_pasted_lines_are_text),
                         UNIT(test_ctrl_c_ends_a_paste_that_has_no_end),
                         UNIT(test_keys_that_end_a_line),
                         UNIT(test_a_long_line_takes_several_rows),
                         UNIT(test_wide_and_combining_characters_are_laid_out),
                         UNIT(test_what_is_no_character_is_shown_in_a_way_that_is_harmless),
                         UNIT(test_of_a_line_longer_than_the_screen_the_cursors_rows_are_shown),
                         UNIT(test_drawing_anew_leaves_nothing_behind),
                         UNIT(test_random_bytes_do_no_harm),
                         UNIT(test_a_line_of_a_megabyte_is_taken),
                         {0},
                     });
}
