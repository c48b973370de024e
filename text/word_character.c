// word_character.c - which characters words consist of. See word_character.h.
#include "text/word_character.h"

#include <string.h>

#include "base/buffer.h"
#include "text/unicode_categories.h"
#include "text/unicode_runs.h"

// The general category of a code point, of two letters.
static const char *category_of(uint32_t code_point)
{
    return category_names[run_value(category_runs, N_CATEGORY_RUNS, 5, code_point)];
}

// Symbols that are Alphabetic: letters in circles and squares (Other_Alphabetic in Unicode's
// PropList; its other members are letters and marks).
static bool is_enclosed_letter(uint32_t c)
{
    return (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) ||
           (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189);
}

static bool is_word_character(uint32_t c)
{
    const char *category = category_of(c);
    return *category == 'L' || *category == 'M' || strcmp(category, "Nd") == 0 ||
           strcmp(category, "Nl") == 0 || strcmp(category, "Pc") == 0 || c == 0x200c ||
           c == 0x200d || is_enclosed_letter(c);
}

bool begins_with_word(const char *text, size_t size)
{
    const int length = size ? utf8_scan(text, size) : 0;
    return length > 0 && is_word_character(utf8_code_point(text, length));
}

bool ends_with_word(const char *text, size_t size)
{
    // The last character has one byte to four.
    for (size_t n = 1; n <= 4 && n <= size; n++) {
        const char *last = text + size - n;
        if (utf8_scan(last, n) == (int)n) {
            return is_word_character(utf8_code_point(last, (int)n));
        }
    }
    return false;
}
