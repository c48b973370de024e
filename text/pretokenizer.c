// pretokenizer.c - cuts text into the words within which byte-level BPE merges.
//
// Models define their words by a regular expression; at each place of the text its alternatives are
// tried in order. Two families of them are written here as code that tries the same alternatives:
//
//     GPT-2     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//     SmolLM2   each digit is a word; GPT-2's rule for the text between digits
//     Llama 3   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}
//               | ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//     Qwen 2    the same with \p{N} for \p{N}{1,3}
//
// Every character belongs to exactly one class: letter (\p{L}), number (\p{N}), white space (\s) or
// other. So a word is a run of one class, with at most one character before it and newlines after
// it, and no backtracking is needed:
//
//     word         = contraction | [one character] run of a class [newlines]
//     white space  = a run, up to its last newline, or without its last character if a word follows
//
// A byte that is not UTF-8 is of class other, as U+FFFD is. No alternative looks further than the
// end of the run it stops in, and a run is walked at most three times: the time is linear in the
// text, whatever the text.
#include "text/pretokenizer.h"

#include <stdbool.h>
#include <string.h>

#include "base/buffer.h"
#include "text/unicode_tables.h"

// The text that a word is cut off from; the word begins at text[0].
typedef struct {
    const char *text;
    size_t size;
    // SmolLM2: a digit ends the text, so that what precedes it is a text by itself.
    bool digits_end;
} Text;

typedef struct {
    int class;    // CLASS_..., CLASS_END past the end of the text
    size_t size;  // bytes
} Character;

enum { CLASS_END = -1 };

// The character at a byte of the text. ASCII, most of any text, needs no table.
static Character character_at(const Text *t, size_t at)
{
    if (at >= t->size) {
        return (Character){CLASS_END, 0};
    }
    const uint8_t *b = (const uint8_t *)t->text + at;
    if (b[0] < 0x80) {
        const int letter = (b[0] | 0x20) - 'a';
        const bool space = b[0] == ' ' || (b[0] >= '\t' && b[0] <= '\r');
        const int class = letter >= 0 && letter < 26   ? CLASS_LETTER
                          : b[0] >= '0' && b[0] <= '9' ? CLASS_NUMBER
                          : space                      ? CLASS_SPACE
                                                       : CLASS_OTHER;
        return (Character){class, 1};
    }
    const char *bytes = t->text + at;
    const int length = utf8_scan(bytes, t->size - at);
    if (length <= 0) {
        return (Character){CLASS_OTHER, 1};
    }
    const uint32_t code_point = utf8_code_point(bytes, length);
    return (Character){run_value(unicode_runs, N_UNICODE_RUNS, code_point), (size_t)length};
}

// The character at a byte of the text, or CLASS_END if it ends the text.
static Character next(const Text *t, size_t at)
{
    const Character c = character_at(t, at);
    return t->digits_end && c.class == CLASS_NUMBER ? (Character){CLASS_END, 0} : c;
}

// The end of the run of one class that begins or continues at `at`; `at` itself if there is none.
static size_t run_end(const Text *t, size_t at, int class)
{
    for (Character c; (c = next(t, at)).class == class;) {
        at += c.size;
    }
    return at;
}

static bool is_newline(const Text *t, size_t at)
{
    return at < t->size && (t->text[at] == '\r' || t->text[at] == '\n');
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

// 's|'t|'re|'ve|'m|'ll|'d: the length of the match at the start of the text, or 0. With (?i:...)
// U+017F, the long s, matches s too.
static size_t contraction(const Text *t, bool any_case)
{
    char c[2] = {0};
    for (size_t i = 0; i < 2 && i + 1 < t->size; i++) {
        c[i] = any_case ? lower(t->text[i + 1]) : t->text[i + 1];
    }
    if (t->text[0] != '\'' || t->size < 2) {
        return 0;
    }
    if (c[0] == 's' || c[0] == 't' || c[0] == 'm' || c[0] == 'd') {
        return 2;
    }
    if ((c[1] == 'e' && (c[0] == 'r' || c[0] == 'v')) || (c[0] == 'l' && c[1] == 'l')) {
        return 3;
    }
    return any_case && t->size >= 3 && memcmp(t->text + 1, "\xc5\xbf", 2) == 0 ? 3 : 0;
}

// \s+(?!\S)|\s+ at the start of the text. The first alternative backs off one character if a word
// follows the white space, to leave it to that word; it fails if that was the only one, which the
// second alternative then takes.
static size_t space_size(const Text *t)
{
    size_t end = 0, last = 0;  // the end of the run, and where its last character begins
    for (Character c; (c = next(t, end)).class == CLASS_SPACE; end += c.size) {
        last = end;
    }
    return last && next(t, end).class != CLASS_END ? last : end;
}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
static size_t gpt2_word(const Text *t)
{
    const size_t short_form = contraction(t, false);
    if (short_form) {
        return short_form;
    }
    // A space with letters, numbers or others after it; which of the three decides the alternative.
    const size_t begin = t->text[0] == ' ';
    const int class = next(t, begin).class;
    return class == CLASS_SPACE || class == CLASS_END ? space_size(t) : run_end(t, begin, class);
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,max_digits}
// | ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
static size_t llama3_word(const Text *t, size_t max_digits)
{
    const size_t short_form = contraction(t, true);
    if (short_form) {
        return short_form;
    }
    // \p{L}+, without the optional character.
    const Character first = next(t, 0);
    if (first.class == CLASS_LETTER) {
        return run_end(t, 0, CLASS_LETTER);
    }
    // \p{N}{1,max_digits}
    if (first.class == CLASS_NUMBER) {
        size_t end = first.size;
        for (Character c; --max_digits && (c = next(t, end)).class == CLASS_NUMBER;) {
            end += c.size;
        }
        return end;
    }
    // [^\r\n\p{L}\p{N}]\p{L}+: letters and numbers have been dealt with.
    if (!is_newline(t, 0) && next(t, first.size).class == CLASS_LETTER) {
        return run_end(t, first.size, CLASS_LETTER);
    }
    //  ?[^\s\p{L}\p{N}]+[\r\n]*
    const size_t begin = t->text[0] == ' ';
    size_t end = run_end(t, begin, CLASS_OTHER);
    if (end > begin) {
        while (is_newline(t, end)) {
            end++;
        }
        return end;
    }
    // \s*[\r\n]+ ends after the last newline of a run of white space.
    size_t after_newline = 0;
    for (Character c; (c = next(t, end)).class == CLASS_SPACE; end += c.size) {
        after_newline = is_newline(t, end) ? end + 1 : after_newline;
    }
    return after_newline ? after_newline : space_size(t);
}

size_t word_size(WordRule rule, const char *text, size_t size)
{
    const Text t = {text, size, .digits_end = rule == WORDS_SMOLLM};
    switch (rule) {
    case WORDS_LLAMA3:
        return llama3_word(&t, 3);
    case WORDS_QWEN2:
        return llama3_word(&t, 1);
    case WORDS_SMOLLM: {
        const Character first = character_at(&t, 0);
        return first.class == CLASS_NUMBER ? first.size : gpt2_word(&t);
    }
    default:
        return gpt2_word(&t);
    }
}
