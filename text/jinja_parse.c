// jinja_parse.c - the source of a template -> its tree. See jinja_ast.h.
//
// The lexer yields tokens on demand. Outside of tags it yields what is up to the next tag, with
// white space removed as trim_blocks, lstrip_blocks and the signs of the tags say:
//
//     a \n  {%- if x +%} \n b {{ c }}    DATA "a", BLOCK, if, x, END, DATA " \n b ", PRINT, c, END
//
// The parser is a recursive descent with one function for each level of precedence.
#include <errno.h>
#include <stdlib.h>

#include "base/memory.h"
#include "text/case_tables.h"
#include "text/jinja_ast.h"

typedef enum {
    T_END_OF_TEMPLATE,
    T_DATA,
    T_PRINT,  // {{
    T_BLOCK,  // {%
    T_END,    // }} or %}
    T_NAME,
    T_STRING,
    T_NUMBER,
    T_OPERATOR,  // op: its character; D // P ** e == n != l <= g >=
} TokenKind;

typedef struct {
    TokenKind kind;
    char op;
    uint32_t line;
    JValue value;  // T_DATA, T_STRING, T_NAME: the text; T_NUMBER
} JToken;

typedef struct {
    Jinja *j;
    JValue source;       // with \n as its only line ends
    size_t at;           // next byte
    size_t counted;      // bytes whose lines are in `line`
    uint32_t line;       // of `counted`
    char tag;            // '{' or '%' inside of a tag, else 0
    bool line_start;     // what was read last ended a line
    char brackets[128];  // open ones
    size_t n_brackets;
    JToken now, ahead;  // the current token and the one after it
    bool has_ahead;
    JNode spare;                // stands for nodes after an error
    unsigned loops, breakable;  // for statements around, and those that break can leave
    unsigned ifs;               // if statements around
    JNode *macro;               // the innermost macro or call block around; NULL: none
    const JNode *missing;       // a filter or test of this expression that there is not
    JList *names;               // of variables
} Parser;

static JNode *parse_expression(Parser *p, bool conditional);
static JNode *parse_statements(Parser *p, const char *ends);

// --------------------------------------------------------------------------------------------
// Lexer

static bool source_has(const Parser *p, size_t at, const char *text)
{
    const size_t n = strlen(text);
    return at + n <= p->source.size && memcmp(jinja_bytes(p->source) + at, text, n) == 0;
}

// The byte at an offset; NUL after the end.
static char source_byte(const Parser *p, size_t at)
{
    return at < p->source.size ? jinja_bytes(p->source)[at] : '\0';
}

static size_t skip_white(const Parser *p, size_t at)
{
    uint32_t c;
    while (at < p->source.size) {
        const size_t n = jinja_char(p->source, at, &c);
        if (!jinja_is_space(c)) {
            break;
        }
        at += n;
    }
    return at;
}

// The line of an offset at or after the one of the last call.
static uint32_t line_at(Parser *p, size_t at)
{
    for (; p->counted < at; p->counted++) {
        p->line += source_byte(p, p->counted) == '\n';
    }
    return p->line;
}

static void syntax(Parser *p, const char *expected)
{
    static const char *const kinds[] = {"the end of the template", "text", "{{", "{%",
                                        "the end of a tag"};
    const JToken *t = &p->now;
    p->j->line = t->line;
    if (t->kind < T_NAME) {
        jinja_fail(p->j, "found %s, expected %s", kinds[t->kind], expected);
    } else if (t->kind == T_OPERATOR) {
        jinja_fail(p->j, "found '%c', expected %s", t->op, expected);
    } else {
        const JValue s = jinja_str(p->j, t->value);
        jinja_fail(p->j, "found '%.*s', expected %s", (int)(s.size < 80 ? s.size : 80),
                   jinja_bytes(s), expected);
    }
}

// Passes the end of a tag at `at`, if it is there: a sign, `close`, and the white space that it
// takes with it. Returns 0 if it is not there.
static size_t tag_end(const Parser *p, size_t at, const char *close, bool plus, bool trim)
{
    const char sign = source_byte(p, at);
    const bool minus = sign == '-';
    if (minus || (plus && sign == '+')) {
        at++;
    }
    if (!source_has(p, at, close)) {
        return 0;
    }
    at += strlen(close);
    return minus ? skip_white(p, at) : at + (trim && sign != '+' && source_byte(p, at) == '\n');
}

// The text from `at` to a tag at `end` whose sign is given, without the white space that it takes.
static JValue data_before(Parser *p, size_t at, size_t end, char sign, bool strips_line)
{
    JValue text = jinja_slice(p->source, at, end - at);
    if (sign == '-') {
        return jinja_strip(p->j, text, (JValue){.kind = J_NONE}, false, true);
    }
    size_t start = text.size;  // of the line of the tag
    while (start > 0 && jinja_bytes(text)[start - 1] != '\n') {
        start--;
    }
    const bool blank = end > at + start && skip_white(p, at + start) >= end;
    if (sign != '+' && strips_line && blank && (start > 0 || p->line_start)) {
        text.size = (uint32_t)start;
    }
    return text;
}

static char sign_at(const Parser *p, size_t at)
{
    const char c = source_byte(p, at);
    return c == '-' || c == '+' ? c : '\0';
}

// Marks the tag that ended at p->at.
static void end_of_tag(Parser *p) { p->line_start = source_byte(p, p->at - 1) == '\n'; }
static void skip_comment(Parser *p)
{
    for (size_t at = p->at + 2 + (sign_at(p, p->at + 2) != 0); at < p->source.size; at++) {
        const size_t end = tag_end(p, at, "#}", true, true);
        if (end) {
            p->at = end;
            end_of_tag(p);
            return;
        }
    }
    p->j->line = line_at(p, p->at);
    jinja_fail(p->j, "{# has no #}");
}

// Reads outside of tags: text, or the begin of a tag. Text before a tag is read first, with what the
// tag's sign says, and the tag the next time.
static JToken lex_outside(Parser *p)
{
    while (p->at < p->source.size && !p->j->failed) {
        const char *from = jinja_bytes(p->source) + p->at, *brace = from;
        const char *end = jinja_bytes(p->source) + p->source.size;
        while ((brace = memchr(brace, '{', (size_t)(end - brace))) && brace + 1 < end &&
               !strchr("{%#", brace[1])) {
            brace++;
        }
        if (!brace || brace + 1 >= end) {
            const JToken t = {T_DATA, 0, line_at(p, p->at),
                              jinja_slice(p->source, p->at, p->source.size - p->at)};
            p->at = p->source.size;
            return t;
        }
        const size_t tag = (size_t)(brace - jinja_bytes(p->source));
        const char kind = brace[1], sign = sign_at(p, tag + 2);
        const JToken t = {T_DATA, 0, line_at(p, p->at),
                          data_before(p, p->at, tag, sign, kind != '{')};
        if (tag > p->at) {
            p->at = tag;
            p->line_start = false;
            if (t.value.size) {
                return t;
            }
        }
        if (kind != '#') {
            p->at = tag + 2 + (sign != 0);
            p->tag = kind;
            return (JToken){kind == '{' ? T_PRINT : T_BLOCK, 0, line_at(p, tag), {0}};
        }
        skip_comment(p);
    }
    return (JToken){T_END_OF_TEMPLATE, 0, line_at(p, p->source.size), {0}};
}
// Adds what the escape at *at, after its backslash, stands for.
static void lex_escape(Parser *p, JText *to, size_t *at, size_t end)
{
    static const char letters[] = "n\nt\tr\ra\ab\bf\fv\v\\\\\'\'\"\"";
    const char c = source_byte(p, *at);
    const size_t n_hex = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    char digits[12] = "", *stop = digits;
    for (size_t i = 0; i < sizeof letters - 1; i += 2) {
        if (letters[i] == c) {
            jinja_add(p->j, to, &letters[i + 1], 1, 0);
            ++*at;
            return;
        }
    }
    if (c == '\n') {
        ++*at;
    } else if (n_hex) {
        for (size_t i = 0; i < n_hex && *at + 1 + i < end; i++) {
            digits[i] = source_byte(p, *at + 1 + i);
        }
        const unsigned long code = strtoul(digits, &stop, 16);
        if (stop != digits + n_hex || !strchr("0123456789abcdefABCDEF", *digits) ||
            code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
            jinja_fail(p->j, "a string has an invalid escape \\%c", c);
        }
        *at += 1 + n_hex;
        jinja_add_code(p->j, to, (uint32_t)code, 0);
    } else if (c == 'N' || (c >= '0' && c <= '7')) {
        jinja_fail(p->j, "the escape \\%c of a string is not supported", c);
    } else {
        jinja_add_text(p->j, to, "\\", 0);
    }
}

static JToken lex_string(Parser *p)
{
    const char quote = source_byte(p, p->at);
    JToken t = {T_STRING, 0, line_at(p, p->at), {0}};
    JText *text = jinja_text(p->j);
    size_t end = p->at + 1;
    while (end < p->source.size && source_byte(p, end) != quote) {
        end += source_byte(p, end) == '\\' ? 2 : 1;
    }
    p->j->line = t.line;
    if (end >= p->source.size) {
        jinja_fail(p->j, "a string has no end");
        return t;
    }
    for (size_t at = p->at + 1; at < end && !p->j->failed;) {
        if (source_byte(p, at) == '\\') {
            at++;
            lex_escape(p, text, &at, end);
        } else {
            size_t next = at + 1;
            while (next < end && source_byte(p, next) != '\\') {
                next++;
            }
            jinja_add(p->j, text, jinja_bytes(p->source) + at, next - at, 0);
            at = next;
        }
    }
    text->capacity = text->used;  // so that no rendering appends to it
    p->at = end + 1;
    t.value = jinja_string(text);
    return t;
}

static size_t digits_end(const Parser *p, size_t at)
{
    while (source_byte(p, at) >= '0' && source_byte(p, at) <= '9') {
        at++;
    }
    return at;
}

// The end of the decimals and exponent at `at`; `at` if there are none.
static size_t fraction_end(const Parser *p, size_t at)
{
    size_t end = at;
    if (source_byte(p, at) == '.' && digits_end(p, at + 1) > at + 1) {
        end = digits_end(p, at + 1);
    }
    if ((source_byte(p, end) | 32) == 'e') {
        const char sign = source_byte(p, end + 1);
        const size_t digits = end + 1 + (sign == '+' || sign == '-');
        end = digits_end(p, digits) > digits ? digits_end(p, digits) : end;
    }
    return end;
}

// A decimal number: other bases and underscores between digits are not supported.
static JToken lex_number(Parser *p)
{
    const bool item = p->at && source_byte(p, p->at - 1) == '.';  // of a.0.1
    const size_t whole = digits_end(p, p->at), end = item ? whole : fraction_end(p, whole);
    const size_t n = end - p->at;
    char digits[400] = "";
    uint32_t c = 0;
    JToken t = {T_NUMBER, 0, line_at(p, p->at), {0}};
    p->j->line = t.line;
    memcpy(digits, jinja_bytes(p->source) + p->at, n < sizeof digits ? n : 0);
    if (end < p->source.size) {
        jinja_char(p->source, end, &c);
    }
    errno = 0;
    t.value = end > whole ? jinja_real(strtod(digits, NULL)) : jinja_int(strtoll(digits, NULL, 10));
    if (n >= sizeof digits || jinja_flags(c) & CASE_NAME ||
        (end == whole && (errno || (n > 1 && *digits == '0')))) {
        jinja_fail(p->j, "a number like %.20s%s is not supported", digits, end > whole ? "" : "..");
    }
    p->at = end;
    return t;
}

static JToken lex_name(Parser *p)
{
    JToken t = {T_NAME, 0, line_at(p, p->at), {0}};
    size_t end = p->at;
    uint32_t c = 0;
    for (size_t n; end < p->source.size; end += n) {
        n = jinja_char(p->source, end, &c);
        if (!(jinja_flags(c) & CASE_NAME)) {
            break;
        }
    }
    t.value = jinja_slice(p->source, p->at, end - p->at);
    p->at = end;
    return t;
}

static JToken lex_operator(Parser *p)
{
    static const char doubles[][4] = {"//D", "**P", "==e", "!=n", "<=l", ">=g"};
    const char c = source_byte(p, p->at);
    JToken t = {T_OPERATOR, c, line_at(p, p->at), {0}};
    const char *opening = strchr("([{", c), *closing = strchr(")]}", c);
    p->j->line = t.line;
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++) {
        if (doubles[i][0] == c && doubles[i][1] == source_byte(p, p->at + 1)) {
            t.op = doubles[i][2];
        }
    }
    if (t.op == c && !strchr("+-/*%~[](){}><=.:|,;", c)) {
        jinja_fail(p->j, "a tag has an unexpected character '%c'", c);
    } else if (opening && p->n_brackets == sizeof p->brackets) {
        jinja_fail(p->j, "brackets are nested too deeply");
    } else if (opening) {
        p->brackets[p->n_brackets++] = ")]}"[opening - "([{"];
    } else if (closing && (!p->n_brackets || p->brackets[--p->n_brackets] != c)) {
        jinja_fail(p->j, "found '%c' without its partner", c);
    }
    p->at += t.op == c ? 1 : 2;
    return t;
}

static JToken lex_token(Parser *p)
{
    if (!p->tag) {
        return lex_outside(p);
    }
    p->at = skip_white(p, p->at);
    const bool print = p->tag == '{';
    const size_t end = p->n_brackets ? 0 : tag_end(p, p->at, print ? "}}" : "%}", !print, !print);
    if (end) {
        const JToken t = {T_END, 0, line_at(p, p->at), {0}};
        p->at = end;
        p->tag = 0;
        end_of_tag(p);
        return t;
    }
    if (p->at >= p->source.size) {
        return (JToken){T_END_OF_TEMPLATE, 0, line_at(p, p->at), {0}};
    }
    uint32_t c;
    jinja_char(p->source, p->at, &c);
    return c >= '0' && c <= '9'               ? lex_number(p)
           : c == '\'' || c == '"'            ? lex_string(p)
           : jinja_flags(c) & CASE_NAME_START ? lex_name(p)
                                              : lex_operator(p);
}

static void next_token(Parser *p)
{
    p->now = p->has_ahead ? p->ahead : lex_token(p);
    p->has_ahead = false;
    if (p->j->failed) {
        p->now = (JToken){.kind = T_END_OF_TEMPLATE};
    }
}

static const JToken *look_ahead(Parser *p)
{
    if (!p->has_ahead) {
        p->ahead = lex_token(p);
        p->has_ahead = true;
    }
    return &p->ahead;
}

// --------------------------------------------------------------------------------------------
// Expressions

static bool at_op(const Parser *p, char op) { return p->now.kind == T_OPERATOR && p->now.op == op; }

static bool at_name(const Parser *p, const char *name)
{
    return p->now.kind == T_NAME && jinja_is(p->now.value, name);
}

static bool skip_if(Parser *p, bool there)
{
    if (there) {
        next_token(p);
    }
    return there;
}

static bool skip_op(Parser *p, char op) { return skip_if(p, at_op(p, op)); }
static bool skip_name(Parser *p, const char *name) { return skip_if(p, at_name(p, name)); }

static void expect_op(Parser *p, char op)
{
    if (!skip_op(p, op)) {
        syntax(p, (char[]){'\'', op, '\'', 0});
    }
}

// Between items there is a comma; after the last one there may be.
static void expect_comma(Parser *p, char close)
{
    if (!at_op(p, close)) {
        expect_op(p, ',');
    }
}

// After an error it is a spare node, which nobody reads.
static JNode *new_node(Parser *p, JNodeKind kind)
{
    JNode *n = jinja_take(p->j, 1, sizeof *n);
    n = n ? n : &p->spare;
    *n = (JNode){.kind = (uint8_t)kind, .line = p->now.line};
    return n;
}

static JNode *node_of(Parser *p, JNodeKind kind, JNode *a, JNode *b)
{
    JNode *n = new_node(p, kind);
    n->a = a;
    n->b = b;
    n->line = a ? a->line : n->line;
    return n;
}

// The number of a variable's name.
static uint32_t number_of(Parser *p, JValue name)
{
    size_t i = 0;
    while (i < p->names->n && !jinja_equal(p->j, p->names->items[i], name)) {
        i++;
    }
    if (i == p->names->n) {
        jinja_push(p->j, p->names, name);
    }
    return (uint32_t)i;
}

// Takes a name; its node's value.
static JValue take_name(Parser *p)
{
    const JValue name = p->now.value;
    if (p->now.kind != T_NAME) {
        syntax(p, "a name");
        return (JValue){.kind = J_NONE};
    }
    next_token(p);
    return name;
}

// A node of this kind whose value is the name that comes next.
static JNode *named_node(Parser *p, JNodeKind kind)
{
    JNode *n = new_node(p, kind);
    n->value = take_name(p);
    if (!p->j->failed && (kind == N_NAME || kind == N_PARAM)) {
        n->id = number_of(p, n->value);
    }
    return n;
}

static void append(Parser *p, JNode ***tail, JNode *n)
{
    if (!p->j->failed) {
        **tail = n;
        *tail = &n->next;
    }
}

// f(a, *b, c=1): the arguments, up to the closing bracket.
static JNode *parse_arguments(Parser *p)
{
    JNode *first = NULL, **tail = &first;
    bool last = false;  // none by position may follow
    expect_op(p, '(');
    while (!at_op(p, ')') && !p->j->failed) {
        const bool name = p->now.kind == T_NAME && look_ahead(p)->kind == T_OPERATOR &&
                          p->ahead.op == '=';
        const bool star = at_op(p, '*');
        JNode *n = name ? named_node(p, N_KEYWORD) : star ? new_node(p, N_STAR) : NULL;
        if (at_op(p, 'P') || (last && !name)) {
            syntax(p, "arguments by position, then by name: no other is supported");
        }
        last |= skip_if(p, name || star);
        JNode *value = parse_expression(p, true);
        if (n) {
            n->a = value;
        }
        append(p, &tail, n ? n : value);
        expect_comma(p, ')');
    }
    expect_op(p, ')');
    return first;
}

// Items up to the closing bracket, with commas between them.
static JNode *parse_items(Parser *p, JNodeKind kind, char close)
{
    JNode *list = new_node(p, kind), *first = NULL, **tail = &first;
    next_token(p);
    while (!at_op(p, close) && !p->j->failed) {
        JNode *item = parse_expression(p, true);
        if (kind == N_DICT) {
            expect_op(p, ':');
            item = node_of(p, N_PAIR, item, NULL);
            item->b = parse_expression(p, true);
        }
        append(p, &tail, item);
        expect_comma(p, close);
    }
    expect_op(p, close);
    list->a = first;
    return list;
}

static bool at_tuple_end(const Parser *p, const char *end)
{
    return p->now.kind == T_END || at_op(p, ')') || (end && at_name(p, end));
}

static JNode *parse_primary(Parser *p, bool target);

// One expression, or several with commas between them, which are a tuple. `target`: names that are
// assigned to. `end`: a name that ends it. `empty`: there may be none.
static JNode *parse_tuple(Parser *p, bool target, bool conditional, const char *end, bool empty)
{
    JNode *tuple = new_node(p, N_TUPLE), *first = NULL, **tail = &first;
    bool comma = false;
    while (!at_tuple_end(p, end) && !p->j->failed) {
        JNode *item = target ? parse_primary(p, true) : parse_expression(p, conditional);
        append(p, &tail, item);
        if (!skip_op(p, ',')) {
            break;
        }
        comma = true;
    }
    if (!first && !empty) {
        syntax(p, "an expression");
    }
    if (first && !comma) {
        return first;
    }
    tuple->a = first;
    return tuple;
}

static JNode *parse_name(Parser *p, bool target)
{
    // Functions that Jinja2 has, and what it gives to macros.
    static const char *const missing[] = {"cycler", "joiner", "lipsum", "varargs", "kwargs"};
    static const char *const constants[] = {"true", "True", "false", "False", "none", "None"};
    for (size_t i = 0; i < 6; i++) {
        if (at_name(p, constants[i])) {
            JNode *n = new_node(p, N_CONST);
            n->value = i < 4 ? jinja_bool(i < 2) : jinja_none();
            next_token(p);
            return n;
        }
    }
    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++) {
        if ((i < 3 || p->macro) && at_name(p, missing[i])) {
            p->j->line = p->now.line;
            jinja_fail(p->j, "'%s' is not supported", missing[i]);
        }
    }
    const bool caller = p->macro && at_name(p, "caller");
    JNode *n = named_node(p, N_NAME);
    if (caller && !p->macro->d) {  // a macro that mentions it takes it
        p->macro->d = new_node(p, N_PARAM);
        p->macro->d->value = n->value;
        p->macro->d->id = n->id;
    }
    if (target && skip_op(p, '.')) {
        n = node_of(p, N_ATTRIBUTE_TARGET, n, NULL);
        n->value = take_name(p);
    }
    return n;
}

static JNode *parse_primary(Parser *p, bool target)
{
    if (p->now.kind == T_NAME) {
        return parse_name(p, target);
    }
    if (at_op(p, '(')) {
        next_token(p);
        JNode *n = parse_tuple(p, false, true, NULL, true);
        expect_op(p, ')');
        return n;
    }
    if (at_op(p, '[')) {
        return parse_items(p, N_LIST, ']');
    }
    if (at_op(p, '{')) {
        return parse_items(p, N_DICT, '}');
    }
    JNode *n = new_node(p, N_CONST);
    if (p->now.kind != T_STRING && p->now.kind != T_NUMBER) {
        syntax(p, "an expression");
        return n;
    }
    JValue value = p->now.value;
    const bool string = p->now.kind == T_STRING;
    for (next_token(p); string && p->now.kind == T_STRING; next_token(p)) {
        value = jinja_concat(p->j, value, p->now.value);
        value.text->capacity = value.text->used;
    }
    n->value = value;
    return n;
}

// [a] or [a:b:c].
static JNode *parse_item(Parser *p, JNode *owner)
{
    JNode *part[3] = {NULL}, *n = node_of(p, N_ITEM, owner, NULL);
    size_t at = 0;
    next_token(p);
    while (!at_op(p, ']') && !p->j->failed) {
        if (skip_op(p, ':') && at < 2) {
            n->kind = N_SLICE;
            at++;
        } else if (part[at]) {
            syntax(p, "':' or ']'");
        } else {
            part[at] = parse_expression(p, true);
        }
    }
    if (n->kind == N_ITEM && !part[0]) {
        syntax(p, "an index");
    }
    expect_op(p, ']');
    n->b = part[0];
    n->c = part[1];
    n->d = part[2];
    return n;
}

static JNode *parse_attribute(Parser *p, JNode *owner)
{
    next_token(p);
    if (p->now.kind == T_NUMBER && p->now.value.kind == J_INT) {  // a.0 is a[0]
        JNode *item = node_of(p, N_ITEM, owner, new_node(p, N_CONST));
        item->b->value = p->now.value;
        next_token(p);
        return item;
    }
    JNode *n = node_of(p, N_ATTRIBUTE, owner, NULL);
    n->value = take_name(p);
    return n;
}

static JNode *parse_postfix(Parser *p, JNode *n)
{
    while (!p->j->failed) {
        if (at_op(p, '.')) {
            n = parse_attribute(p, n);
        } else if (at_op(p, '[')) {
            n = parse_item(p, n);
        } else if (at_op(p, '(')) {
            n = node_of(p, N_CALL, n, NULL);
            n->b = parse_arguments(p);
        } else {
            break;
        }
    }
    return n;
}

// The name of a filter or test, of which dots may be part, and its builtin.
static JNode *parse_builtin(Parser *p, JNode *input, JNodeKind kind)
{
    JNode *n = node_of(p, kind, input, NULL);
    const JValue name = take_name(p);
    if (p->j->failed) {
        return n;
    }
    n->line = p->now.line;
    n->value = name;
    n->builtin = (kind == N_FILTER ? jinja_filter : jinja_test)(jinja_bytes(name), name.size);
    p->missing = n->builtin ? p->missing : n;
    return n;
}

static JNode *parse_filter(Parser *p, JNode *input)
{
    JNode *n = parse_builtin(p, input, N_FILTER);
    n->b = at_op(p, '(') ? parse_arguments(p) : NULL;
    return n;
}

static JNode *parse_test(Parser *p, JNode *input)
{
    const bool negated = skip_name(p, "not");
    JNode *n = parse_builtin(p, input, N_TEST);
    const bool word = at_name(p, "else") || at_name(p, "or") || at_name(p, "and");
    const TokenKind k = p->now.kind;
    if (at_name(p, "is")) {
        syntax(p, "no second 'is'");
    } else if (at_op(p, '(') ||
               ((k == T_NAME || k == T_STRING || k == T_NUMBER || at_op(p, '[') || at_op(p, '{')) &&
                !word)) {
        JNode *args = at_op(p, '(') ? parse_arguments(p)
                                    : parse_postfix(p, parse_primary(p, false));
        n->b = p->j->failed ? NULL : args;
    }
    return negated ? node_of(p, N_NOT, n, NULL) : n;
}

static JNode *parse_unary(Parser *p, bool filters)
{
    JNode *n;
    const bool minus = at_op(p, '-');
    if (!jinja_enter(p->j)) {
        return new_node(p, N_CONST);
    }
    if (minus || at_op(p, '+')) {
        next_token(p);
        n = node_of(p, minus ? N_NEGATE : N_PLUS, parse_unary(p, false), NULL);
    } else {
        n = parse_primary(p, false);
    }
    n = parse_postfix(p, n);
    while (filters && !p->j->failed) {
        if (skip_op(p, '|')) {
            n = parse_filter(p, n);
        } else if (skip_name(p, "is")) {
            n = parse_test(p, n);
        } else if (at_op(p, '(')) {
            n = parse_postfix(p, n);
        } else {
            break;
        }
    }
    jinja_leave(p->j);
    return n;
}

// Levels of binary operators, from the one that binds least: a + b, then a ~ b, a * b.
static JNode *parse_math(Parser *p, int level)
{
    static const char *const ops[] = {"+-", "~", "*/D%"};
    if (level == 3) {
        return parse_unary(p, true);
    }
    JNode *n = parse_math(p, level + 1);
    while (p->now.kind == T_OPERATOR && strchr(ops[level], p->now.op) && !p->j->failed) {
        const char op = p->now.op;
        next_token(p);
        JNode *right = parse_math(p, level + 1);
        n = node_of(p, N_BINARY, n, right);
        n->op = (uint8_t)op;
    }
    return n;
}

static JNode *parse_compare(Parser *p)
{
    JNode *n = parse_math(p, 0), *first = NULL, **tail = &first;
    while (!p->j->failed) {
        char op = p->now.kind == T_OPERATOR && strchr("en<>lg", p->now.op) ? p->now.op : '\0';
        if (at_name(p, "in")) {
            op = 'i';
        } else if (at_name(p, "not") && look_ahead(p)->kind == T_NAME &&
                   jinja_is(p->ahead.value, "in")) {
            op = 'o';
            next_token(p);
        }
        if (!op) {
            break;
        }
        next_token(p);
        JNode *operand = node_of(p, N_OPERAND, parse_math(p, 0), NULL);
        operand->op = (uint8_t)op;
        append(p, &tail, operand);
    }
    return first ? node_of(p, N_COMPARE, n, first) : n;
}

static JNode *parse_not(Parser *p)
{
    if (!at_name(p, "not") || !jinja_enter(p->j)) {
        return parse_compare(p);
    }
    next_token(p);
    JNode *n = node_of(p, N_NOT, parse_not(p), NULL);
    jinja_leave(p->j);
    return n;
}

// a and b, or with `or` a or b.
static JNode *parse_logic(Parser *p, bool or)
{
    JNode *n = or ? parse_logic(p, false) : parse_not(p);
    while (skip_name(p, or ? "or" : "and")) {
        n = node_of(p, or ? N_OR : N_AND, n, or ? parse_logic(p, false) : parse_not(p));
    }
    return n;
}

// What an if may leave out fails only when it is run.
static JNode *parse_expression(Parser *p, bool conditional)
{
    const JNode *outer = p->missing;
    JNode *n = parse_logic(p, true);
    while (conditional && skip_name(p, "if") && jinja_enter(p->j)) {
        JNode *test = parse_logic(p, true);
        n = node_of(p, N_COND, test, n);
        n->c = skip_name(p, "else") ? parse_expression(p, true) : NULL;
        p->missing = outer;
        jinja_leave(p->j);
    }
    return n;
}

// Fails for a filter or test that there is not, unless it is in an if.
static void check_builtins(Parser *p)
{
    const JNode *n = p->missing;
    if (n && !p->ifs && !p->j->failed) {
        p->j->line = n->line;
        jinja_fail(p->j, JINJA_NO_BUILTIN, n->kind == N_FILTER ? "filter" : "test",
                   (int)n->value.size, jinja_bytes(n->value));
    }
    p->missing = NULL;
}

// --------------------------------------------------------------------------------------------
// Statements

static void check_target(Parser *p, const JNode *n, bool in_for)
{
    for (const JNode *i = n->kind == N_TUPLE ? n->a : NULL; i; i = i->next) {
        check_target(p, i, in_for);
    }
    if (n->kind != N_TUPLE && n->kind != N_NAME && n->kind != N_ATTRIBUTE_TARGET) {
        p->j->line = n->line;
        jinja_fail(p->j, "this cannot be assigned to");
    } else if (n->kind == N_NAME && jinja_is(n->value, "loop") && (in_for || p->loops)) {
        p->j->line = n->line;
        jinja_fail(p->j, "'loop' cannot be assigned to inside of a loop");
    }
}

static JNode *parse_target(Parser *p, const char *end, bool in_for)
{
    JNode *n = parse_tuple(p, true, false, end, false);
    if (!p->j->failed) {
        check_target(p, n, in_for);
    }
    return n;
}

// Statements up to a tag named in `ends` (by spaces), which is then the current token.
static JNode *parse_body(Parser *p, const char *ends)
{
    skip_op(p, ':');
    if (p->now.kind != T_END) {
        syntax(p, "the end of the tag");
        return NULL;
    }
    next_token(p);
    return parse_statements(p, ends);
}

// A body and its end tag.
static JNode *parse_inner(Parser *p, const char *end, bool leaves_loop)
{
    const unsigned breakable = p->breakable;
    p->breakable = leaves_loop ? 0 : breakable;
    JNode *body = parse_body(p, end);
    p->breakable = breakable;
    next_token(p);
    return body;
}

static void parse_if(Parser *p, JNode *n)
{
    p->ifs++;
    n->a = parse_tuple(p, false, false, NULL, false);
    n->c = parse_body(p, "elif else endif");
    if (at_name(p, "elif") && jinja_enter(p->j)) {
        n->d = new_node(p, N_IF);
        next_token(p);
        parse_if(p, n->d);
        jinja_leave(p->j);
    } else {
        n->d = skip_name(p, "else") ? parse_body(p, "endif") : NULL;
        next_token(p);
    }
    p->ifs--;
}

static void parse_for(Parser *p, JNode *n)
{
    n->a = parse_target(p, "in", true);
    if (!skip_name(p, "in")) {
        syntax(p, "'in'");
    }
    n->b = parse_tuple(p, false, false, NULL, false);
    n->e = skip_name(p, "if") ? parse_expression(p, true) : NULL;
    p->loops++;
    p->breakable++;
    n->c = parse_body(p, "else endfor");
    p->loops--;
    p->breakable--;
    if (skip_name(p, "else")) {
        n->d = new_node(p, N_BLOCK);
        n->d->c = parse_body(p, "endfor");
    }
    next_token(p);
}

// | filter | filter ..; NULL if there is none and no input.
static JNode *parse_chain(Parser *p, JNode *input)
{
    while (skip_op(p, '|')) {
        input = parse_filter(p, input ? input : new_node(p, N_COLLECTED));
    }
    return input;
}

static void parse_set(Parser *p, JNode *n)
{
    n->a = parse_target(p, NULL, false);
    if (skip_op(p, '=')) {
        n->b = parse_tuple(p, false, true, NULL, false);
        return;
    }
    n->kind = N_SET_BLOCK;
    n->b = parse_chain(p, NULL);
    n->c = parse_inner(p, "endset", false);
}

// The parameters of a macro.
static JNode *parse_parameters(Parser *p)
{
    JNode *first = NULL, **tail = &first;
    bool defaults = false;
    expect_op(p, '(');
    while (!at_op(p, ')') && !p->j->failed) {
        JNode *n = named_node(p, N_PARAM);
        const bool has_default = skip_op(p, '=');
        n->a = has_default ? parse_expression(p, true) : NULL;
        if (defaults && !has_default) {
            syntax(p, "a default after one");
        }
        defaults = has_default;
        append(p, &tail, n);
        expect_comma(p, ')');
    }
    expect_op(p, ')');
    return first;
}

// A macro that contains one with a caller takes a caller, too.
static void parse_macro_body(Parser *p, JNode *n, const char *end)
{
    JNode *const outer = p->macro;
    p->macro = n;
    n->c = parse_inner(p, end, true);
    p->macro = outer;
    if (outer && !outer->d) {
        outer->d = n->d;
    }
}

static void parse_macro(Parser *p, JNode *n)
{
    n->value = take_name(p);
    n->id = p->j->failed ? 0 : number_of(p, n->value);
    n->a = parse_parameters(p);
    parse_macro_body(p, n, "endmacro");
}

static void parse_call_block(Parser *p, JNode *n)
{
    n->a = at_op(p, '(') ? parse_parameters(p) : NULL;
    n->b = parse_expression(p, true);
    if (n->b->kind != N_CALL) {
        syntax(p, "a call");
    }
    parse_macro_body(p, n, "endcall");
}

static void parse_generation(Parser *p, JNode *n) { n->c = parse_inner(p, "endgeneration", true); }

static void parse_filter_block(Parser *p, JNode *n)
{
    n->b = parse_chain(p, parse_filter(p, new_node(p, N_COLLECTED)));
    n->c = parse_inner(p, "endfilter", false);
}
static void parse_jump(Parser *p, JNode *n)
{
    if (!p->breakable) {
        p->j->line = n->line;
        jinja_fail(p->j, "break or continue outside of a loop");
    }
}

static JNode *parse_statement(Parser *p)
{
    static const struct {
        const char *name;
        JNodeKind kind;
        void (*parse)(Parser *p, JNode *n);
    } statements[] = {
        {"if", N_IF, parse_if},
        {"for", N_FOR, parse_for},
        {"set", N_SET, parse_set},
        {"macro", N_MACRO, parse_macro},
        {"call", N_CALL_BLOCK, parse_call_block},
        {"filter", N_FILTER_BLOCK, parse_filter_block},
        {"break", N_BREAK, parse_jump},
        {"continue", N_CONTINUE, parse_jump},
        {"generation", N_BLOCK, parse_generation},
    };
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        if (at_name(p, statements[i].name)) {
            JNode *n = new_node(p, statements[i].kind);
            next_token(p);
            statements[i].parse(p, n);
            check_builtins(p);
            return n;
        }
    }
    syntax(p, "a statement that is supported");
    return NULL;
}

// Is the current token one of the names?
static bool at_one_of(const Parser *p, const char *names)
{
    const JValue v = p->now.value;
    const char *name = names;
    while (p->now.kind == T_NAME && *name) {
        const size_t n = strcspn(name, " ");
        if (v.size == n && memcmp(jinja_bytes(v), name, n) == 0) {
            return true;
        }
        name += n + (name[n] == ' ');
    }
    return false;
}

static JNode *parse_data(Parser *p)
{
    JNode *n = new_node(p, N_DATA);
    n->value = p->now.value;
    next_token(p);
    return n;
}

static JNode *parse_output(Parser *p)
{
    JNode *n = new_node(p, N_OUTPUT);
    next_token(p);
    n->a = parse_tuple(p, false, true, NULL, false);
    check_builtins(p);
    if (p->now.kind != T_END) {
        syntax(p, "'}}'");
    }
    next_token(p);
    return n;
}

static JNode *parse_statements(Parser *p, const char *ends)
{
    JNode *first = NULL, **tail = &first;
    if (!jinja_enter(p->j)) {
        return NULL;
    }
    while (!p->j->failed && p->now.kind != T_END_OF_TEMPLATE) {
        if (p->now.kind == T_DATA) {
            append(p, &tail, parse_data(p));
        } else if (p->now.kind == T_PRINT) {
            append(p, &tail, parse_output(p));
        } else {
            next_token(p);
            if (at_one_of(p, ends)) {
                break;
            }
            append(p, &tail, parse_statement(p));
            if (p->now.kind != T_END) {
                syntax(p, "'%}'");
            }
            next_token(p);
        }
    }
    if (*ends && p->now.kind == T_END_OF_TEMPLATE) {
        syntax(p, ends);
    }
    jinja_leave(p->j);
    return p->j->failed ? NULL : first;
}

// The source with \n as its only line ends, and without the last one.
static JValue normalized(Jinja *j, const char *source, size_t size)
{
    JText *t = jinja_text(j);
    for (size_t at = 0; at < size && !j->failed;) {
        const char *end = memchr(source + at, '\r', size - at);
        const size_t n = end ? (size_t)(end - source) - at : size - at;
        jinja_add(j, t, source + at, n, 0);
        jinja_add(j, t, "\n", end ? 1 : 0, 0);
        at += n + (end ? 1 : 0) + (end && at + n + 1 < size && source[at + n + 1] == '\n');
    }
    t->capacity = t->used;
    JValue s = jinja_string(t);
    s.size -= s.size && jinja_bytes(s)[s.size - 1] == '\n';
    return s;
}

void jinja_parse(Jinja *j, struct JinjaTemplate *t, const char *source, size_t size)
{
    Parser p = {.j = j,
                .source = normalized(j, source, size),
                .line = 1,
                .line_start = true,
                .names = &t->names};
    t->body = new_node(&p, N_BLOCK);
    t->loop = number_of(&p, jinja_literal(j, "loop"));
    next_token(&p);
    t->body->c = parse_statements(&p, "");
}
