// constraint_regex.c - regular expressions as terms. See constraint_regex.h.
//
// A recursive descent makes a tree of nodes; sets of characters are terms from the start. The tree
// becomes a term in a second step, because of the anchors ^ and $: what a node matches depends on
// whether it stands at the start of the text, and at its end. So each node has up to four languages,
// one for each combination; ^ is the empty string at the start, and nothing elsewhere.
//
//     x y  at the start   x at the start, then y elsewhere;
//                         or y at the start, if x may be empty there
#include "text/constraint_regex.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"

typedef enum { NODE_TERM, NODE_BEGIN, NODE_END, NODE_SEQ, NODE_OR, NODE_REPEAT } NodeKind;

#define UNMADE UINT32_MAX

enum { AT_START = 1, AT_END = 2 };  // of a node, as an index of `languages`

typedef struct {
    NodeKind kind;
    uint32_t a, b;      // SEQ, OR: nodes; REPEAT: a is a node; TERM: a is a term
    uint32_t min, max;  // REPEAT
    Term languages[4];  // UNMADE: not yet
} Node;

typedef struct {
    TermPool *pool;
    RegexOptions options;
    const char *text;  // (size)
    size_t size, at;
    unsigned depth;
    bool fold;     // (?i)
    bool dot_all;  // (?s)
    Node *nodes;   // (capacity), owned
    size_t n, capacity;
    Error *err;
} RegexParser;

static bool parse_alternatives(RegexParser *r, uint32_t *out);

// --------------------------------------------------------------------------------------------
// Errors and bytes

static bool refuse_regex(const RegexParser *r, size_t at, const char *what)
{
    const size_t left = r->size - at;
    return error_set(r->err, ERROR_INPUT, "regular expression, byte %zu: %s, at %.*s", at, what,
                     (int)(left < 20 ? left : 20), left ? r->text + at : "the end");
}

static bool at_text(const RegexParser *r, const char *text)
{
    const size_t n = strlen(text);
    return r->size - r->at >= n && memcmp(r->text + r->at, text, n) == 0;
}

static bool take_if(RegexParser *r, const char *text)
{
    const bool found = at_text(r, text);
    r->at += found ? strlen(text) : 0;
    return found;
}

static bool add_node(RegexParser *r, Node node, uint32_t *out)
{
    if (r->n == r->capacity) {
        const size_t capacity = r->capacity ? 2 * r->capacity : 64;
        Node *nodes = realloc(r->nodes, capacity * sizeof *nodes);
        if (!nodes) {
            return error_memory(r->err, "a regular expression", capacity * sizeof *nodes);
        }
        r->nodes = nodes;
        r->capacity = capacity;
    }
    for (size_t i = 0; i < 4; i++) {
        node.languages[i] = node.kind == NODE_TERM ? node.a : UNMADE;
    }
    *out = (uint32_t)r->n;
    r->nodes[r->n++] = node;
    return true;
}

// Reads the character at the cursor.
static bool read_char(RegexParser *r, uint32_t *out)
{
    const int length = r->at < r->size ? utf8_scan(r->text + r->at, r->size - r->at) : 0;
    if (length <= 0) {
        return refuse_regex(r, r->at, r->at < r->size ? "expected UTF-8" : "expected a character");
    }
    *out = utf8_code_point(r->text + r->at, length);
    r->at += (size_t)length;
    return true;
}

// --------------------------------------------------------------------------------------------
// Sets of characters

// Adds a range; with (?i) also the other case of its letters. Only ASCII letters have one here; K
// and S each also match a character beyond ASCII.
static bool add_range(RegexParser *r, Chars *set, uint32_t low, uint32_t high)
{
    chars_add(set, low, high);
    if (!r->fold) {
        return true;
    }
    if (high >= 0x80 && !(low <= 0x80 && high >= 0x10ffff)) {
        return refuse_regex(r, r->at, "(?i) is supported for ASCII letters only");
    }
    for (uint32_t c = low; c <= high && c < 0x80; c++) {
        const uint32_t lower = c | 0x20;
        if (lower < 'a' || lower > 'z') {
            continue;
        }
        chars_add(set, c ^ 0x20, c ^ 0x20);
        if (lower == 'k' || lower == 's') {
            const uint32_t other = lower == 'k' ? 0x212a : 0x17f;  // the Kelvin sign, the long s
            chars_add(set, other, other);
        }
    }
    return true;
}

static void add_text_ranges(Chars *set, const char *pairs)
{
    for (; *pairs; pairs += 2) {
        chars_add(set, (unsigned char)pairs[0], (unsigned char)pairs[1]);
    }
}

// ECMA-262's white space and line ends.
static void add_ecma_space(Chars *set)
{
    add_text_ranges(set, "\t\r  \xa0\xa0");
    chars_add_category(set, "Zs", 2);
    chars_add(set, 0x2028, 0x2029);
    chars_add(set, 0xfeff, 0xfeff);
}

// \d, \s, \w and their complements.
static bool add_perl_class(const RegexParser *r, Chars *set, char letter)
{
    Chars class = {0};
    const char lower = (char)(letter | 0x20);
    if (lower == 'd') {
        add_text_ranges(&class, "09");
    } else if (lower == 'w') {
        add_text_ranges(&class, "09AZ__az");
    } else if (lower == 's' && r->options.dialect == REGEX_ECMA) {
        add_ecma_space(&class);
    } else if (lower == 's') {
        add_text_ranges(&class, "\t\n\f\r  ");
    } else {
        return false;
    }
    if (letter != lower) {
        chars_negate(&class);
    }
    chars_add_all(set, &class);
    set->lacks_memory = set->lacks_memory || class.lacks_memory;
    chars_free(&class);
    return true;
}

// \p{Lu}, \pL, \P{L}, \p{^L}: after the letter.
static bool add_unicode_class(RegexParser *r, Chars *set, bool negated)
{
    static const char *const long_names[][2] = {
        {"Letter", "L"},
        {"Lowercase_Letter", "Ll"},
        {"Uppercase_Letter", "Lu"},
        {"Mark", "M"},
        {"Number", "N"},
        {"Decimal_Number", "Nd"},
        {"Punctuation", "P"},
        {"Symbol", "S"},
        {"Separator", "Z"},
        {"Space_Separator", "Zs"},
        {"Other", "C"},
        {"digit", "Nd"},
    };
    const size_t start = r->at;
    const char *name = r->text + r->at;
    size_t size = 1;
    if (take_if(r, "{")) {
        negated ^= take_if(r, "^");
        if (r->options.dialect == REGEX_ECMA && !take_if(r, "General_Category=")) {
            take_if(r, "gc=");
        }
        name = r->text + r->at;
        const char *end = memchr(name, '}', r->size - r->at);
        if (!end) {
            return refuse_regex(r, start, "expected } after the name of a class");
        }
        size = (size_t)(end - name);
        r->at++;
    }
    r->at += size;
    if (r->at > r->size) {
        return refuse_regex(r, start, "expected the name of a class");
    }
    for (size_t i = 0; i < sizeof long_names / sizeof *long_names; i++) {
        if (size == strlen(long_names[i][0]) && memcmp(name, long_names[i][0], size) == 0) {
            name = long_names[i][1];
            size = strlen(name);
        }
    }
    Chars class = {0};
    if (size == 3 && memcmp(name, "Any", 3) == 0) {
        chars_add(&class, 0, 0x10ffff);
    } else if (!chars_add_category(&class, name, size)) {
        return refuse_regex(r, start, "we support Unicode's general categories (L, Lu, ..) only");
    }
    if (negated) {
        chars_negate(&class);
    }
    chars_add_all(set, &class);
    chars_free(&class);
    return true;
}

// Reads 1 to n digits of a base.
static bool read_based(RegexParser *r, uint32_t base, size_t n, uint32_t *out)
{
    size_t i = 0;
    *out = 0;
    for (; i < n && r->at < r->size; i++, r->at++) {
        const char c = r->text[r->at];
        const uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                               : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                               : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                      : base;
        if (digit >= base) {
            break;
        }
        *out = *out * base + digit;
    }
    return i > 0;
}

// \x7f, \x{10ffff}, \u00e9, \u{1f600}, and a pair of surrogates: after the letter.
static bool read_hex_escape(RegexParser *r, size_t digits, uint32_t *out)
{
    const size_t start = r->at;
    if (take_if(r, "{")) {
        if (!read_based(r, 16, 6, out) || !take_if(r, "}")) {
            return refuse_regex(r, start, "expected 1 to 6 hexadecimal digits and }");
        }
    } else if (!read_based(r, 16, digits, out) || r->at - start != digits) {
        return refuse_regex(r, start,
                            digits == 2 ? "expected 2 hexadecimal digits"
                                        : "expected 4 hexadecimal digits");
    }
    uint32_t low;
    const size_t after = r->at;
    if (*out >= 0xd800 && *out <= 0xdbff && take_if(r, "\\u") && read_based(r, 16, 4, &low) &&
        low >= 0xdc00 && low <= 0xdfff) {
        *out = 0x10000 + ((*out - 0xd800) << 10) + (low - 0xdc00);
    } else {
        r->at = after;
    }
    return *out <= 0x10ffff || refuse_regex(r, start, "expected at most 10ffff");
}

// The character of an escape that stands for one, after the backslash.
static bool read_escaped_char(RegexParser *r, uint32_t *out)
{
    static const char from[] = "nrtfva", to[] = "\n\r\t\f\v\a";
    const bool ecma = r->options.dialect == REGEX_ECMA;
    const size_t start = r->at;
    if (!read_char(r, out)) {
        return false;
    }
    const char c = *out < 0x80 ? (char)*out : 0;
    const char *found = c ? strchr(from, c) : NULL;
    if (found && !(ecma && c == 'a')) {
        *out = (uint32_t)to[found - from];
        return true;
    }
    if (c == 'x' || (c == 'u' && ecma)) {
        return read_hex_escape(r, c == 'x' ? 2 : 4, out);
    }
    if (c == 'c' && ecma && r->at < r->size && ((r->text[r->at] | 0x20) >= 'a') &&
        ((r->text[r->at] | 0x20) <= 'z')) {
        *out = (uint32_t)r->text[r->at++] & 31;
        return true;
    }
    if (c == '0' || (c >= '1' && c <= '7' && !ecma && r->at < r->size && r->text[r->at] >= '0' &&
                     r->text[r->at] <= '7')) {
        r->at = start;
        return read_based(r, 8, ecma ? 1 : 3, out);
    }
    if (c >= '1' && c <= '9') {
        return refuse_regex(r, start - 1, "back-references are not supported");
    }
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
        return refuse_regex(r, start - 1, "this escape is not supported");
    }
    return true;
}

// [:alpha:] within brackets, of RE2.
static bool add_posix_class(RegexParser *r, Chars *set, bool *found)
{
    static const char *const classes[][2] = {
        {"alnum", "09AZaz"},
        {"alpha", "AZaz"},
        {"ascii", "\x01\x7f"},
        {"blank", "\t\t  "},
        {"cntrl", "\x01\x1f\x7f\x7f"},
        {"digit", "09"},
        {"graph", "!~"},
        {"lower", "az"},
        {"print", " ~"},
        {"punct", "!/:@[`{~"},
        {"space", "\t\r  "},
        {"upper", "AZ"},
        {"word", "09AZaz__"},
        {"xdigit", "09AFaf"},
    };
    const size_t start = r->at;
    *found = false;
    if (r->options.dialect != REGEX_RE2 || !take_if(r, "[:")) {
        return true;
    }
    const bool negated = take_if(r, "^");
    for (size_t i = 0; i < sizeof classes / sizeof *classes && !*found; i++) {
        const size_t at = r->at;
        if (take_if(r, classes[i][0]) && take_if(r, ":]")) {
            Chars class = {0};
            add_text_ranges(&class, classes[i][1]);
            if (classes[i][1][0] == '\x01') {  // NUL ends a text, so it is not in the table
                chars_add(&class, 0, 0);
            }
            if (negated) {
                chars_negate(&class);
            }
            chars_add_all(set, &class);
            chars_free(&class);
            *found = true;
        } else {
            r->at = at;
        }
    }
    return *found || refuse_regex(r, start, "expected the name of a class, as in [:alpha:]");
}

// A named class within brackets: \d, \pL, [:alpha:].
static bool add_named_class(RegexParser *r, Chars *set, bool *found)
{
    const size_t start = r->at;
    if (!add_posix_class(r, set, found)) {
        return false;
    }
    if (*found || !take_if(r, "\\") || r->at == r->size) {
        r->at = *found ? r->at : start;
        return true;
    }
    const char letter = r->text[r->at++];
    *found = add_perl_class(r, set, letter);
    if (!*found && (letter == 'p' || letter == 'P')) {
        *found = true;
        return add_unicode_class(r, set, letter == 'P');
    }
    r->at = *found ? r->at : start;
    return true;
}

static bool read_set_char(RegexParser *r, uint32_t *out)
{
    if (take_if(r, "\\")) {
        if (r->options.dialect == REGEX_ECMA && take_if(r, "b")) {
            *out = '\b';
            return true;
        }
        return read_escaped_char(r, out);
    }
    return read_char(r, out);
}

// [...]: after the bracket.
static bool parse_brackets(RegexParser *r, Chars *set)
{
    const size_t start = r->at - 1;
    const bool negated = take_if(r, "^");
    bool first = r->options.dialect == REGEX_RE2;  // in RE2 a bracket that comes first is a member
    while (first || !at_text(r, "]")) {
        first = false;
        if (r->at >= r->size) {
            return refuse_regex(r, start, "expected ] at the end of a class");
        }
        bool named;
        uint32_t low, high;
        if (!add_named_class(r, set, &named)) {
            return false;
        }
        if (named) {
            continue;
        }
        const size_t from = r->at;
        if (!read_set_char(r, &low)) {
            return false;
        }
        high = low;
        if (at_text(r, "-") && r->at + 1 < r->size && r->text[r->at + 1] != ']') {
            const size_t dash = r->at++;
            Chars ignored = {0};
            if (!add_named_class(r, &ignored, &named) || (!named && !read_set_char(r, &high))) {
                chars_free(&ignored);
                return false;
            }
            chars_free(&ignored);
            r->at = named ? dash : r->at;  // [a-\d]: the dash stands for itself
            if (named) {
                chars_add(set, '-', '-');
                r->at++;
            }
        }
        if (high < low) {
            return refuse_regex(r, from, "expected a range in ascending order");
        }
        if (!add_range(r, set, low, high)) {
            return false;
        }
    }
    r->at++;
    if (negated) {
        chars_negate(set);
    }
    return true;
}

// Makes a node of a set, and frees the set.
static bool set_node(RegexParser *r, Chars *set, uint32_t *out)
{
    chars_sort(set);
    const bool ok = !set->lacks_memory;
    const Term t = ok ? chars_term(r->pool, set, r->options.spelling) : TERM_NONE;
    chars_free(set);
    return ok ? add_node(r, (Node){.kind = NODE_TERM, .a = t}, out)
              : error_memory(r->err, "a class of characters", sizeof(CharRange));
}

static bool char_node(RegexParser *r, uint32_t c, uint32_t *out)
{
    Chars set = {0};
    if (!add_range(r, &set, c, c)) {
        chars_free(&set);
        return false;
    }
    return set_node(r, &set, out);
}

static bool dot_node(RegexParser *r, uint32_t *out)
{
    Chars set = {0};
    if (!r->dot_all) {
        chars_add(&set, '\n', '\n');
        if (r->options.dialect == REGEX_ECMA) {
            chars_add(&set, '\r', '\r');
            chars_add(&set, 0x2028, 0x2029);
        }
    }
    chars_negate(&set);
    return set_node(r, &set, out);
}

// --------------------------------------------------------------------------------------------
// Expressions

// \Q...\E: after the Q.
static bool parse_quoted(RegexParser *r, uint32_t *out)
{
    bool ok = add_node(r, (Node){.kind = NODE_TERM, .a = TERM_EMPTY}, out);
    while (ok && r->at < r->size && !take_if(r, "\\E")) {
        uint32_t c, next;
        ok = read_char(r, &c) && char_node(r, c, &next) &&
             add_node(r, (Node){.kind = NODE_SEQ, .a = *out, .b = next}, out);
    }
    return ok;
}

static bool parse_escape(RegexParser *r, uint32_t *out)
{
    const size_t start = r->at - 1;
    const bool re2 = r->options.dialect == REGEX_RE2;
    const char letter = r->at < r->size ? r->text[r->at] : 0;
    Chars set = {0};
    if (letter == 'b' || letter == 'B') {
        return refuse_regex(r, start, "word boundaries are not supported");
    }
    if (letter == 'k' && !re2) {
        return refuse_regex(r, start, "back-references are not supported");
    }
    if (re2 && (letter == 'A' || letter == 'z')) {
        r->at++;
        return add_node(r, (Node){.kind = letter == 'A' ? NODE_BEGIN : NODE_END}, out);
    }
    if (re2 && letter == 'Q') {
        r->at++;
        return parse_quoted(r, out);
    }
    if (letter == 'p' || letter == 'P') {
        r->at++;
        if (!add_unicode_class(r, &set, letter == 'P')) {
            chars_free(&set);
            return false;
        }
        return set_node(r, &set, out);
    }
    if (letter && add_perl_class(r, &set, letter)) {
        r->at++;
        return set_node(r, &set, out);
    }
    uint32_t c;
    return read_escaped_char(r, &c) && char_node(r, c, out);
}

// The flags of (?i) or (?i:: after the question mark, up to : or ), which is taken.
static bool parse_flags(RegexParser *r, bool *group)
{
    const size_t start = r->at;
    bool value = true;
    for (; r->at < r->size; r->at++) {
        const char c = r->text[r->at];
        if (c == '-') {
            value = false;
        } else if (c == 'i') {
            r->fold = value;
        } else if (c == 's') {
            r->dot_all = value;
        } else if (c == 'm' && value) {
            return refuse_regex(r, start, "(?m) is not supported");
        } else if (c == ':' || c == ')') {
            *group = c == ':';
            r->at++;
            return true;
        } else if (c != 'U' && c != 'm') {
            break;
        }
    }
    return refuse_regex(r, start, "expected flags of a group");
}

// What follows an opening parenthesis up to the group's expression. *group: false for (?i), which
// is no group but sets flags for the rest of the one around it.
static bool open_group(RegexParser *r, bool *group)
{
    const size_t start = r->at - 1;
    *group = true;
    if (!take_if(r, "?")) {
        return true;
    }
    if (at_text(r, "=") || at_text(r, "!") || at_text(r, "<=") || at_text(r, "<!")) {
        return refuse_regex(r, start, "lookaround is not supported");
    }
    if (take_if(r, ":")) {
        return true;
    }
    if (take_if(r, "P<") || take_if(r, "<")) {
        const char *end = memchr(r->text + r->at, '>', r->size - r->at);
        if (!end || end == r->text + r->at) {
            return refuse_regex(r, start, "expected the name of a group and >");
        }
        r->at = (size_t)(end - r->text) + 1;
        return true;
    }
    return r->options.dialect == REGEX_RE2
               ? parse_flags(r, group)
               : refuse_regex(r, start, "expected (?:, (?<name> or a plain group");
}

static bool parse_group(RegexParser *r, uint32_t *out)
{
    const size_t start = r->at - 1;
    const bool fold = r->fold, dot_all = r->dot_all;
    bool group;
    if (!open_group(r, &group)) {
        return false;
    }
    if (!group) {
        return add_node(r, (Node){.kind = NODE_TERM, .a = TERM_EMPTY}, out);
    }
    if (++r->depth > REGEX_MAX_DEPTH) {
        return refuse_regex(r, start, "expected at most 200 nested groups");
    }
    if (!parse_alternatives(r, out)) {
        return false;
    }
    if (!take_if(r, ")")) {
        return refuse_regex(r, start, "expected ) at the end of the group");
    }
    r->depth--;
    r->fold = fold;
    r->dot_all = dot_all;
    return true;
}

// A character, a class, an anchor or a group.
static bool parse_atom(RegexParser *r, uint32_t *out)
{
    const size_t start = r->at;
    if (take_if(r, "(")) {
        return parse_group(r, out);
    }
    if (take_if(r, "[")) {
        Chars set = {0};
        if (!parse_brackets(r, &set)) {
            chars_free(&set);
            return false;
        }
        return set_node(r, &set, out);
    }
    if (take_if(r, ".")) {
        return dot_node(r, out);
    }
    if (take_if(r, "^")) {
        return add_node(r, (Node){.kind = NODE_BEGIN}, out);
    }
    if (take_if(r, "$")) {
        return add_node(r, (Node){.kind = NODE_END}, out);
    }
    if (take_if(r, "\\")) {
        return parse_escape(r, out);
    }
    if (at_text(r, "*") || at_text(r, "+") || at_text(r, "?")) {
        return refuse_regex(r, start, "expected something to repeat");
    }
    uint32_t c;
    return read_char(r, &c) && char_node(r, c, out);
}

// {n}, {n,} or {n,m}; anything else that begins with a brace is text.
static bool take_counts(RegexParser *r, uint32_t *min, uint32_t *max)
{
    const size_t start = r->at;
    if (take_if(r, "{") && read_based(r, 10, 9, min)) {
        *max = *min;
        if (take_if(r, ",") && !read_based(r, 10, 9, max)) {
            *max = REPEAT_FOREVER;
        }
        if (take_if(r, "}")) {
            return true;
        }
    }
    r->at = start;
    return false;
}

// An atom and the quantifiers after it.
static bool parse_repeat(RegexParser *r, uint32_t *out)
{
    if (!parse_atom(r, out)) {
        return false;
    }
    for (bool first = true;; first = false) {
        const size_t start = r->at;
        uint32_t min = 0, max = REPEAT_FOREVER;
        if (take_if(r, "+")) {
            min = 1;
        } else if (take_if(r, "?")) {
            max = 1;
        } else if (!take_if(r, "*") && !take_counts(r, &min, &max)) {
            return true;
        }
        if (!first) {
            return refuse_regex(r, start, "expected one quantifier, not two");
        }
        const bool bounded = r->options.dialect == REGEX_RE2;
        const uint32_t most = max == REPEAT_FOREVER ? min : max;
        if (min > max || (bounded && most > REGEX_MAX_REPEAT)) {
            return refuse_regex(r, start, "expected counts in ascending order, in RE2 up to 1000");
        }
        take_if(r, "?");  // lazy: the same language
        if (!add_node(r, (Node){.kind = NODE_REPEAT, .a = *out, .min = min, .max = max}, out)) {
            return false;
        }
    }
}

// Sequences lean to the right, x (y (z ())): the end of each is set when the next one is known.
static bool parse_seq(RegexParser *r, uint32_t *out)
{
    if (!add_node(r, (Node){.kind = NODE_TERM, .a = TERM_EMPTY}, out)) {
        return false;
    }
    const uint32_t empty = *out;
    uint32_t last = empty;
    while (r->at < r->size && !at_text(r, "|") && !at_text(r, ")")) {
        uint32_t item, seq = empty;
        if (!parse_repeat(r, &item) ||
            !add_node(r, (Node){.kind = NODE_SEQ, .a = item, .b = empty}, &seq)) {
            return false;
        }
        if (last == empty) {
            *out = seq;
        } else {
            r->nodes[last].b = seq;
        }
        last = seq;
    }
    return true;
}

static bool parse_alternatives(RegexParser *r, uint32_t *out)
{
    if (!parse_seq(r, out)) {
        return false;
    }
    while (take_if(r, "|")) {
        uint32_t next;
        if (!parse_seq(r, &next) ||
            !add_node(r, (Node){.kind = NODE_OR, .a = *out, .b = next}, out)) {
            return false;
        }
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// From nodes to terms

static Term language(RegexParser *r, uint32_t node, unsigned where);

static Term seq_language(RegexParser *r, Node n, unsigned where)
{
    TermPool *p = r->pool;
    // A part touches an end of the text only if the part between it and that end is empty.
    const Term first = language(r, n.a, where & AT_START), last = language(r, n.b, where & AT_END);
    Term t = term_seq(p, first, last);
    if (where & AT_END && term_nullable(p, last)) {
        t = term_or2(p, t, language(r, n.a, where));
    }
    if (where & AT_START && term_nullable(p, first)) {
        t = term_or2(p, t, language(r, n.b, where));
    }
    const bool empty = where == (AT_START | AT_END) && term_nullable(p, language(r, n.a, where)) &&
                       term_nullable(p, language(r, n.b, where));
    return empty ? term_or2(p, t, TERM_EMPTY) : t;
}

static Term repeat_language(RegexParser *r, Node n, unsigned where)
{
    TermPool *p = r->pool;
    const Term inner = language(r, n.a, 0);
    const uint32_t min = n.min, max = n.max;
    if (!where || max == 0) {
        return term_repeat(p, inner, min, max);
    }
    // The first one may be at the start, the last one at the end, a single one at both.
    const uint32_t more = max == REPEAT_FOREVER ? max : max - 1;
    const Term first = language(r, n.a, where & AT_START), last = language(r, n.a, where & AT_END);
    Term t = min == 0 ? TERM_EMPTY : TERM_NONE;
    if (min <= 1 || term_nullable(p, language(r, n.a, where))) {
        t = term_or2(p, t, language(r, n.a, where));
    }
    if (max >= 2) {
        const uint32_t middle = more == REPEAT_FOREVER ? more : more - 1;
        const Term between = term_repeat(p, inner, min > 2 ? min - 2 : 0, middle);
        t = term_or2(p, t, term_seq(p, first, term_seq(p, between, last)));
    }
    return t;
}

static Term language(RegexParser *r, uint32_t node, unsigned where)
{
    const Node n = r->nodes[node];
    if (n.languages[where] != UNMADE) {
        return n.languages[where];
    }
    Term t;
    switch (n.kind) {
    case NODE_BEGIN:
        t = where & AT_START ? TERM_EMPTY : TERM_NONE;
        break;
    case NODE_END:
        t = where & AT_END ? TERM_EMPTY : TERM_NONE;
        break;
    case NODE_SEQ:
        t = seq_language(r, n, where);
        break;
    case NODE_OR:
        t = term_or2(r->pool, language(r, n.a, where), language(r, n.b, where));
        break;
    default:
        t = repeat_language(r, n, where);
    }
    r->nodes[node].languages[where] = t;
    return t;
}

// Puts any text before and after a node: a match anywhere is enough.
static bool surround(RegexParser *r, uint32_t *root)
{
    uint32_t any;
    const Term text = any_text(r->pool, r->options.spelling);
    return add_node(r, (Node){.kind = NODE_TERM, .a = text}, &any) &&
           add_node(r, (Node){.kind = NODE_SEQ, .a = any, .b = *root}, root) &&
           add_node(r, (Node){.kind = NODE_SEQ, .a = *root, .b = any}, root);
}

bool regex_compile(TermPool *p, const RegexOptions *options, const char *pattern, size_t size,
                   Term *out, Error *err)
{
    RegexParser r = {.pool = p, .options = *options, .text = pattern, .size = size, .err = err};
    *out = TERM_NONE;
    if (size > REGEX_MAX_SIZE) {
        return error_set(err, ERROR_INPUT, "regular expression of %zu bytes, expected at most %d",
                         size, REGEX_MAX_SIZE);
    }
    uint32_t root;
    bool ok = parse_alternatives(&r, &root);
    if (ok && r.at < size) {
        ok = refuse_regex(&r, r.at, "expected no )");
    }
    ok = ok && (options->whole || surround(&r, &root));
    if (ok) {
        *out = language(&r, root, AT_START | AT_END);
    }
    free(r.nodes);
    return ok && term_pool_check(p, err);
}
