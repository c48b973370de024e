// pretokenizer.c - cuts text into the words within which byte-level BPE merges.
//
// Models define their words by a regular expression; at each place of the text its alternatives are
// tried in order. Four families of them are written here as code that tries the same alternatives:
//
//     GPT-2     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//     SmolLM2   each digit is a word; GPT-2's rule for the text between digits
//
//     Llama 3   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}
//               | ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//     Qwen 2    the same with \p{N} for \p{N}{1,3}
//     Qwen 3.5  Qwen 2 with [\p{L}\p{M}] for \p{L}, except in [^\r\n\p{L}\p{N}]?
//     GPT-4o    Llama 3 with two alternatives for letters, U being [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
//               and L [\p{Ll}\p{Lm}\p{Lo}\p{M}], and contractions at the end of words:
//               [^\r\n\p{L}\p{N}]?U*L+(?i:'s|..)?|[^\r\n\p{L}\p{N}]?U+L*(?i:'s|..)?
//               and with [\r\n/]* for [\r\n]*
//     Tekken    GPT-4o with \p{N} for \p{N}{1,3} and without contractions
//
//     DeepSeek  cuts \p{N}{1,3} out of the text, then runs of ideographs and kana, and in each of
//               the pieces, with A for ASCII punctuation:
//               A[A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*
//               |\s*[\r\n]+|\s+(?!\S)|\s+
//
//     DeepSeek-LLM cuts the matches of [\r\n] out of the text, then out of the rest those of \s?L+,
//               \s?P+, \s+$, [\u0800-\u9fa5\uac00-\ud7ff]+, and each digit, where L are letters of
//               scripts with case, and P is punctuation of ASCII and of Chinese
//     DeepSeek-Coder has \p{L} and \p{P} for L and P, and lacks \s+$
//
// Every character belongs to exactly one class (text/unicode_tables.h). So a word is a run of some
// classes, with at most one character before it and newlines after it, and little backtracking is
// needed:
//
//     word         = contraction | [one character] run of classes [newlines]
//     white space  = a run, up to its last newline, or without its last character if a word follows
//
// A byte that is not UTF-8 is of class other, as U+FFFD is. No alternative looks further than the
// end of the run it stops in, and a run is walked a few times at most: the time is linear in the
// text, whatever the text.
#include "text/pretokenizer.h"

#include <stdbool.h>
#include <string.h>

#include "base/buffer.h"
#include "text/unicode_runs.h"
#include "text/unicode_tables.h"

// Sets of classes. A character has one of these bits, the end of a text none.
typedef unsigned Classes;
enum {
    OTHERS = 1 << CLASS_OTHER,
    SPACES = 1 << CLASS_SPACE,
    NUMBERS = 1 << CLASS_NUMBER,
    MARKS = 1 << CLASS_MARK,
    PUNCTUATION = 1 << CLASS_PUNCTUATION,                               // \p{P}
    SYMBOLS = PUNCTUATION | 1 << CLASS_SYMBOL,                          // \p{P} \p{S}
    LETTERS = 1 << CLASS_UPPER | 1 << CLASS_LOWER | 1 << CLASS_LETTER,  // \p{L}
    NOT_LOWER = 1 << CLASS_UPPER | 1 << CLASS_LETTER | MARKS,           // U
    NOT_UPPER = 1 << CLASS_LOWER | 1 << CLASS_LETTER | MARKS,           // L
    REST = OTHERS | MARKS | SYMBOLS,                                    // [^\s\p{L}\p{N}]
};

// The text that a word is cut off from; the word begins at text[0].
typedef struct {
    const char *text;
    size_t size;
    // What ends the text, so that what precedes it is a text by itself.
    bool digits_end;   // SmolLM2, DeepSeek: a number does
    bool script_ends;  // DeepSeek: a character does that is an ideograph or kana, or the first that
    bool east_asian;   // .. is not, if this is set
} Text;

enum { NOT_UTF8 = 0x110000 };

typedef struct {
    Classes class;        // one bit; 0 past the end of the text
    uint32_t code_point;  // NOT_UTF8 for a byte that is not UTF-8
    size_t size;          // bytes
} Character;

// ASCII, most of any text, needs no table.
static Classes ascii_class(unsigned char c)
{
    const int letter = (c | 0x20) - 'a';
    if (letter >= 0 && letter < 26) {
        return c & 0x20 ? 1u << CLASS_LOWER : 1u << CLASS_UPPER;
    }
    if (c == ' ' || (c >= '\t' && c <= '\r')) {
        return SPACES;
    }
    if (c >= '0' && c <= '9') {
        return NUMBERS;
    }
    return c < ' ' || c == 0x7f     ? OTHERS
           : strchr("$+<=>^`|~", c) ? 1u << CLASS_SYMBOL
                                    : PUNCTUATION;
}

// The character at a byte of the text.
static Character character_at(const Text *t, size_t at)
{
    if (at >= t->size) {
        return (Character){0, 0, 0};
    }
    const char *bytes = t->text + at;
    if ((unsigned char)*bytes < 0x80) {
        return (Character){ascii_class((unsigned char)*bytes), (unsigned char)*bytes, 1};
    }
    const int length = utf8_scan(bytes, t->size - at);
    if (length <= 0) {
        return (Character){OTHERS, NOT_UTF8, 1};
    }
    const uint32_t code_point = utf8_code_point(bytes, length);
    return (Character){1u << run_value(unicode_runs, N_UNICODE_RUNS, 4, code_point), code_point,
                       (size_t)length};
}

// [一-龥぀-ゟ゠-ヿ]: U+4E00 to U+9FA5, U+3040 to U+30FF, all of three bytes.
static bool is_ideograph_or_kana(const Text *t, size_t at)
{
    if (at >= t->size || utf8_scan(t->text + at, t->size - at) != 3) {
        return false;
    }
    const uint32_t c = utf8_code_point(t->text + at, 3);
    return (c >= 0x4e00 && c <= 0x9fa5) || (c >= 0x3040 && c <= 0x30ff);
}

// The character at a byte of the text, or the end if it ends the text.
static Character next(const Text *t, size_t at)
{
    const Character c = character_at(t, at);
    const bool ends = (t->digits_end && c.class == NUMBERS) ||
                      (t->script_ends && is_ideograph_or_kana(t, at) != t->east_asian);
    return ends ? (Character){0, 0, 0} : c;
}

// The end of the run of these classes that begins or continues at `at`; `at` itself if there is none.
static size_t run_end(const Text *t, size_t at, Classes classes)
{
    for (Character c; (c = next(t, at)).class & classes;) {
        at += c.size;
    }
    return at;
}

static bool is_newline(const Text *t, size_t at)
{
    return at < t->size && (t->text[at] == '\r' || t->text[at] == '\n') && next(t, at).class;
}

static bool is_ascii_letter(const Text *t, size_t at)
{
    return at < t->size && (unsigned char)t->text[at] < 0x80 && next(t, at).class & LETTERS;
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

// 's|'t|'re|'ve|'m|'ll|'d: the length of the match at a byte of the text, or 0. With (?i:...)
// U+017F, the long s, matches s too.
static size_t contraction(const Text *t, size_t at, bool any_case)
{
    const char *text = t->text + at;
    const size_t size = t->size - at;
    if (size < 2 || text[0] != '\'') {
        return 0;
    }
    char c[2] = {0};
    for (size_t i = 0; i < 2 && i + 1 < size; i++) {
        c[i] = any_case ? lower(text[i + 1]) : text[i + 1];
    }
    if (c[0] == 's' || c[0] == 't' || c[0] == 'm' || c[0] == 'd') {
        return 2;
    }
    if ((c[1] == 'e' && (c[0] == 'r' || c[0] == 'v')) || (c[0] == 'l' && c[1] == 'l')) {
        return 3;
    }
    return any_case && size >= 3 && memcmp(text + 1, "\xc5\xbf", 2) == 0 ? 3 : 0;
}

// \s+(?!\S)|\s+ at the start of the text. The first alternative backs off one character if a word
// follows the white space, to leave it to that word; it fails if that was the only one, which the
// second alternative then takes.
static size_t space_size(const Text *t)
{
    size_t end = 0, last = 0;  // the end of the run, and where its last character begins
    for (Character c; (c = next(t, end)).class == SPACES; end += c.size) {
        last = end;
    }
    return last && next(t, end).class ? last : end;
}

// \s*[\r\n]+|\s+(?!\S)|\s+ at the start of the text: up to the last newline of a run of white space,
// if it has one.
static size_t lines_or_space(const Text *t)
{
    size_t after_newline = 0, end = 0;
    for (Character c; (c = next(t, end)).class == SPACES; end += c.size) {
        after_newline = is_newline(t, end) ? end + 1 : after_newline;
    }
    return after_newline ? after_newline : space_size(t);
}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
static size_t gpt2_word(const Text *t)
{
    const size_t short_form = contraction(t, 0, false);
    if (short_form) {
        return short_form;
    }
    // A space with letters, numbers or others after it; which of the three decides the alternative.
    const size_t begin = t->text[0] == ' ';
    const Classes class = next(t, begin).class;
    const Classes run = class & LETTERS ? LETTERS : class & REST ? REST : class & NUMBERS;
    return run ? run_end(t, begin, run) : space_size(t);
}

// What Llama 3's rule and its variants differ in.
typedef struct {
    Classes letters;    // that a word of letters consists of
    Classes others;     // [^\s\p{L}\p{N}] or [^\s\p{L}\p{M}\p{N}]
    size_t max_digits;  // of a word
    bool by_case;       // GPT-4o's alternatives for letters, and [\r\n/]*
    bool contractions;  // short forms are words, or with by_case the ends of words
} Llama3Rule;

// U*L+ from a byte of the text on: its end, or 0 without a match. U* takes all it can. If no lower
// case follows, it gives back characters until one of them is in L: the last one without case.
static size_t lower_end(const Text *t, size_t begin)
{
    size_t at = begin, end = 0;
    for (Character c; (c = next(t, at)).class & NOT_LOWER;) {
        at += c.size;
        end = c.class & NOT_UPPER ? at : end;
    }
    const size_t lower_case = run_end(t, at, NOT_UPPER);
    return lower_case > at ? lower_case : end;
}

// X?U*L+|X?U+L* with X one character of [^\r\n\p{L}\p{N}], which a mark may be as well: if nothing
// can follow it, it is one of U and L itself. Returns 0 without a match. (L* after U+ is empty: with
// anything in it, U*L+ would have matched.)
static size_t word_by_case(const Text *t, const Character *first)
{
    const bool may_precede = first->class & ~(Classes)(LETTERS | NUMBERS) && !is_newline(t, 0);
    const size_t begin = may_precede ? first->size : 0;
    size_t end = lower_end(t, begin);
    if (!end && first->class == MARKS) {
        end = lower_end(t, 0);
    }
    if (!end) {
        const size_t upper_end = run_end(t, begin, NOT_LOWER);
        end = upper_end > begin ? upper_end : 0;
    }
    return end;
}

// X?\p{L}+ with X one character of [^\r\n\p{L}\p{N}], or 0.
static size_t word_of_letters(const Text *t, const Character *first, Classes letters)
{
    if (first->class & letters) {
        return run_end(t, 0, letters);
    }
    const bool may_precede = first->class != NUMBERS && !is_newline(t, 0);
    return may_precede && next(t, first->size).class & letters ? run_end(t, first->size, letters)
                                                               : 0;
}

// Llama 3's alternatives, in order.
static size_t llama3_word(const Text *t, const Llama3Rule *rule)
{
    const size_t short_form = rule->contractions && !rule->by_case ? contraction(t, 0, true) : 0;
    if (short_form) {
        return short_form;
    }
    const Character first = next(t, 0);
    size_t end = rule->by_case ? word_by_case(t, &first)
                               : word_of_letters(t, &first, rule->letters);
    if (end) {
        return rule->by_case && rule->contractions ? end + contraction(t, end, true) : end;
    }
    // \p{N}{1,max_digits}
    if (first.class == NUMBERS) {
        end = first.size;
        for (size_t n = 1; n < rule->max_digits && next(t, end).class == NUMBERS; n++) {
            end += next(t, end).size;
        }
        return end;
    }
    //  ?[^\s\p{L}\p{N}]+[\r\n]*
    const size_t begin = t->text[0] == ' ';
    end = run_end(t, begin, rule->others);
    if (end == begin) {
        return lines_or_space(t);
    }
    while (is_newline(t, end) || (rule->by_case && end < t->size && t->text[end] == '/')) {
        end++;
    }
    return end;
}

// The alternatives of DeepSeek's last pass at the start of a piece; 0 if none matches.
static size_t deepseek_match(const Text *t)
{
    const Character first = next(t, 0);
    size_t end = 1;
    if (first.class & SYMBOLS && first.size == 1) {
        while (is_ascii_letter(t, end)) {
            end++;
        }
        if (end > 1) {
            return end;
        }
    }
    end = first.class & SYMBOLS ? 0 : word_of_letters(t, &first, LETTERS | MARKS);
    if (end) {
        return end;
    }
    //  ?[\p{P}\p{S}]+[\r\n]*
    const size_t begin = t->text[0] == ' ';
    end = run_end(t, begin, SYMBOLS);
    if (end == begin) {
        return lines_or_space(t);
    }
    while (is_newline(t, end)) {
        end++;
    }
    return end;
}

// Numbers are cut out in threes. In the other pieces, characters that no alternative takes (control
// characters, unassigned ones) are a word up to the next that one does.
static size_t deepseek_word(const char *text, size_t size)
{
    Text t = {text, size, .digits_end = true, .script_ends = true};
    size_t end = 0;
    for (size_t n = 0; n < 3 && character_at(&t, end).class == NUMBERS; n++) {
        end += character_at(&t, end).size;
    }
    if (end) {
        return end;
    }
    t.east_asian = is_ideograph_or_kana(&t, 0);
    end = deepseek_match(&t);
    for (size_t at = 0; !end;) {
        at += next(&t, at).size;
        Text rest = t;
        rest.text += at;
        rest.size -= at;
        end = !next(&t, at).class || deepseek_match(&rest) ? at : 0;
    }
    return end;
}

// --------------------------------------------------------------------------------------------
// DeepSeek-LLM and DeepSeek-Coder
//
// Each pass cuts every piece that the passes before it left, their matches included. In
// DeepSeek-LLM:
//
//     text     1 = naïve中  +
//     \s?L+    |1 =| naïve|中  +|
//     \s?P+    |1| =| na|ï|ve|中 | +|       (P has the letters of ASCII too)
//     \s+$     |1| =| na|ï|ve|中| | +|
//
// The passes for line ends, letters and punctuation cut a text into pieces; what the other passes
// cut depends on nothing outside the piece. The text after a word is cut in the same way as if it
// stood alone, so no state is needed from one word to the next.

typedef enum {
    PIECE_SINGLE,       // a character by itself
    PIECE_LETTERS,      // of L
    PIECE_IN_BOTH,      // of L and P: DeepSeek-LLM's third pass cuts these out of the letters
    PIECE_PUNCTUATION,  // of P
    PIECE_REST
} Piece;

// A text and the model it is cut for.
typedef struct {
    const Text *text;
    bool llm;
} Passes;

// Classifies a character by DeepSeek-LLM's L and P. P is [!-/:-~] with the same characters in their
// wide forms, quotation marks, and U+3000 to U+3002.
static Piece llm_piece(uint32_t c)
{
    const bool letter = run_value(deepseek_llm_letter_runs, N_DEEPSEEK_LLM_LETTER_RUNS, 1, c) != 0;
    const bool punctuation = (c >= '!' && c <= '/') || (c >= ':' && c <= '~') ||
                             (c >= 0xff01 && c <= 0xff0f) || (c >= 0xff1a && c <= 0xff5e) ||
                             (c >= 0x2018 && c <= 0x201f) || (c >= 0x3000 && c <= 0x3002);
    if (letter) {
        return punctuation ? PIECE_IN_BOTH : PIECE_LETTERS;
    }
    return punctuation ? PIECE_PUNCTUATION : PIECE_REST;
}

// The kind of piece that the character at a byte belongs to, but for white space that begins a
// piece. A line end is a piece by itself; the end of the text counts as one.
static Piece own_piece(const Passes *p, size_t at)
{
    const Character c = character_at(p->text, at);
    if (!c.class || is_newline(p->text, at)) {
        return PIECE_SINGLE;
    }
    if (p->llm) {
        return llm_piece(c.code_point);
    }
    return c.class & LETTERS        ? PIECE_LETTERS
           : c.class == PUNCTUATION ? PIECE_PUNCTUATION
                                    : PIECE_REST;
}

// The same with \s?: one character of white space belongs to the letters or else to the punctuation
// after it. U+3000 may be in P as well: before a letter, the pass for P cuts it off again.
static Piece piece_at(const Passes *p, size_t at)
{
    const Character c = character_at(p->text, at);
    const Piece own = own_piece(p, at);
    if (own == PIECE_SINGLE || c.class != SPACES) {
        return own;
    }
    const Piece following = own_piece(p, at + c.size);
    const bool letters = following == PIECE_LETTERS || following == PIECE_IN_BOTH;
    if (own == PIECE_PUNCTUATION) {
        return letters ? PIECE_SINGLE : own;
    }
    const bool belongs = letters || (following == PIECE_PUNCTUATION &&
                                     piece_at(p, at + c.size) == PIECE_PUNCTUATION);
    return belongs ? following : own;
}

// Whether a piece of this kind goes on at a byte.
static bool goes_on(const Passes *p, size_t at, Piece piece)
{
    return own_piece(p, at) == piece && piece_at(p, at) == piece;
}

// [\u0800-\u9fa5\uac00-\ud7ff]
static bool is_east_asian(uint32_t c)
{
    return (c >= 0x800 && c <= 0x9fa5) || (c >= 0xac00 && c <= 0xd7ff);
}

// The first word of a text: a number, or as much of the first piece as is_east_asian is true of, or
// false. Of DeepSeek-LLM, \s+$ then cuts off the white space at the end of a piece; to know that it
// is at the end, a run of white space is looked at once more, from the one word that it may follow.
static size_t deepseek_llm_word(const Passes *p)
{
    const Character first = character_at(p->text, 0);
    const Piece piece = piece_at(p, 0);
    if (piece == PIECE_SINGLE || first.class == NUMBERS) {
        return first.size;
    }
    const bool east_asian = is_east_asian(first.code_point);
    size_t end = 0, solid_end = 0;  // with and without the white space at the end
    Character c = first;
    do {
        end += c.size;
        solid_end = c.class == SPACES ? solid_end : end;
        c = character_at(p->text, end);
    } while (goes_on(p, end, piece) && c.class != NUMBERS &&
             is_east_asian(c.code_point) == east_asian);
    if (!p->llm || !solid_end || solid_end == end) {
        return end;
    }
    size_t at = end;
    while (goes_on(p, at, piece) && character_at(p->text, at).class == SPACES) {
        at += character_at(p->text, at).size;
    }
    return goes_on(p, at, piece) ? end : solid_end;
}

size_t word_size(WordRule rule, const char *text, size_t size)
{
    static const Llama3Rule rules[N_WORD_RULES] = {
        [WORDS_LLAMA3] = {LETTERS, REST, 3, false, true},
        [WORDS_QWEN2] = {LETTERS, REST, 1, false, true},
        [WORDS_QWEN35] = {LETTERS | MARKS, OTHERS | SYMBOLS, 1, false, true},
        [WORDS_GPT4O] = {LETTERS, REST, 3, true, true},
        [WORDS_TEKKEN] = {LETTERS, REST, 1, true, false},
    };
    if (rule == WORDS_DEEPSEEK) {
        return deepseek_word(text, size);
    }
    const Text t = {text, size, .digits_end = rule == WORDS_SMOLLM};
    if (rule == WORDS_DEEPSEEK_LLM || rule == WORDS_DEEPSEEK_CODER) {
        return deepseek_llm_word(&(Passes){&t, rule == WORDS_DEEPSEEK_LLM});
    }
    if (rules[rule].max_digits) {
        return llama3_word(&t, &rules[rule]);
    }
    const Character first = character_at(&t, 0);
    return rule == WORDS_SMOLLM && first.class == NUMBERS ? first.size : gpt2_word(&t);
}

size_t leading_space(const char *text, size_t size)
{
    const Text t = {.text = text, .size = size};
    return run_end(&t, 0, SPACES);
}

size_t trailing_space(const char *text, size_t size)
{
    Text t = {.text = text, .size = size};
    while (t.size) {
        size_t at = t.size - 1;  // of the last character: one to four bytes
        while (at && t.size - at < 4 && ((unsigned char)text[at] & 0xc0) == 0x80) {
            at--;
        }
        const Character last = character_at(&t, at);
        if (last.class != SPACES || at + last.size != t.size) {
            break;
        }
        t.size = at;
    }
    return size - t.size;
}
