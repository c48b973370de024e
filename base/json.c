// json.c - reading and writing JSON. See json.h.
//
// The reader is a recursive descent in one pass over the bytes. It fills two arrays: the values, in
// the order of the text, and one block with the decoded bytes of all names, strings and numbers.
//
//     bytes    {"a": [12, "x\n"]}
//     values   {}, a:[], 12, "x\n"
//     text     a . 1 2 . x \n .           each ends with a NUL, shown as a dot
//
// A decoded string is never longer than its source, and its NUL takes the place of the closing
// quote. So a block of the text's size is always enough: it never moves while it is filled, and
// values can point into it.
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The state of one json_read.
typedef struct {
    Json *json;                  // filled
    const unsigned char *bytes;  // (size): the text
    size_t size;
    size_t at;       // offset of the next byte to read
    size_t used;     // bytes of json->text in use
    unsigned depth;  // arrays and objects that are open
    Error *err;      // the caller's
} Reader;

static bool read_value(Reader *r, const char *name, size_t name_size);

// --------------------------------------------------------------------------------------------
// Bytes

// Fails at the next byte, saying what was found and what was expected.
static bool unexpected(Reader *r, const char *expected)
{
    if (r->at >= r->size) {
        return error_set(r->err, ERROR_INPUT, "byte %zu: the text ends, expected %s", r->at,
                         expected);
    }
    const unsigned char c = r->bytes[r->at];
    return c > 0x20 && c < 0x7f
               ? error_set(r->err, ERROR_INPUT, "byte %zu: found '%c', expected %s", r->at, c,
                           expected)
               : error_set(r->err, ERROR_INPUT, "byte %zu: found 0x%02x, expected %s", r->at, c,
                           expected);
}

static void skip_space(Reader *r)
{
    while (r->at < r->size && (r->bytes[r->at] == ' ' || r->bytes[r->at] == '\t' ||
                               r->bytes[r->at] == '\n' || r->bytes[r->at] == '\r')) {
        r->at++;
    }
}

static bool at_byte(const Reader *r, char c)
{
    return r->at < r->size && r->bytes[r->at] == (unsigned char)c;
}

static bool at_digit(const Reader *r)
{
    return r->at < r->size && r->bytes[r->at] >= '0' && r->bytes[r->at] <= '9';
}

// Appends to json->text, which has room for anything the text can hold.
static void store(Reader *r, const void *bytes, size_t size)
{
    memcpy(r->json->text + r->used, bytes, size);
    r->used += size;
}

// --------------------------------------------------------------------------------------------
// Strings

static bool read_hex4(Reader *r, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        const int c = r->at < r->size ? r->bytes[r->at] : 0;
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0) {
            return unexpected(r, "four hexadecimal digits after \\u");
        }
        *out = *out << 4 | (uint32_t)digit;
    }
    return true;
}

// Stores a code point as UTF-8: six bits in each byte after the first.
static void store_utf8(Reader *r, uint32_t c)
{
    const unsigned char last = (unsigned char)(0x80 | (c & 63));
    const unsigned char third = (unsigned char)(0x80 | (c >> 6 & 63));
    const unsigned char second = (unsigned char)(0x80 | (c >> 12 & 63));
    if (c < 0x80) {
        store(r, (unsigned char[]){(unsigned char)c}, 1);
    } else if (c < 0x800) {
        store(r, (unsigned char[]){(unsigned char)(0xc0 | c >> 6), last}, 2);
    } else if (c < 0x10000) {
        store(r, (unsigned char[]){(unsigned char)(0xe0 | c >> 12), third, last}, 3);
    } else {
        store(r, (unsigned char[]){(unsigned char)(0xf0 | c >> 18), second, third, last}, 4);
    }
}

// Reads the code point after "\u", from two escapes if the first is the high half of a surrogate
// pair (RFC 8259, section 7). `start` is the offset of the backslash.
static bool read_unicode_escape(Reader *r, size_t start)
{
    uint32_t c, low;
    if (!read_hex4(r, &c)) {
        return false;
    }
    if (c >= 0xd800 && c <= 0xdbff && at_byte(r, '\\') && r->at + 1 < r->size &&
        r->bytes[r->at + 1] == 'u') {
        r->at += 2;
        if (!read_hex4(r, &low)) {
            return false;
        }
        if (low >= 0xdc00 && low <= 0xdfff) {
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        }
    }
    if (c >= 0xd800 && c <= 0xdfff) {
        return error_set(r->err, ERROR_INPUT,
                         "byte %zu: \\u%04x is half of a surrogate pair, expected both", start,
                         (unsigned)c);
    }
    store_utf8(r, c);
    return true;
}

// Reads an escape after its backslash.
static bool read_escape(Reader *r)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *found = r->at < r->size && r->bytes[r->at] ? strchr(from, r->bytes[r->at]) : NULL;
    if (found) {
        store(r, &to[found - from], 1);
        r->at++;
        return true;
    }
    if (!at_byte(r, 'u')) {
        return unexpected(r, "one of \"\\/bfnrtu after a backslash");
    }
    r->at++;
    return read_unicode_escape(r, r->at - 2);
}

// Reads a string, starting at its opening quote.
static bool read_string(Reader *r, const char **text, size_t *size)
{
    const size_t begin = r->used;
    r->at++;
    while (!at_byte(r, '"')) {
        if (r->at >= r->size || r->bytes[r->at] < 0x20) {
            return unexpected(r, "the string's closing quote (control characters are escaped)");
        }
        if (r->bytes[r->at] == '\\') {
            r->at++;
            if (!read_escape(r)) {
                return false;
            }
            continue;
        }
        const char *here = (const char *)r->bytes + r->at;
        const int length = utf8_scan(here, r->size - r->at);
        if (length <= 0) {
            return unexpected(r, "UTF-8");
        }
        store(r, here, (size_t)length);
        r->at += (size_t)length;
    }
    r->at++;
    *text = r->json->text + begin;
    *size = r->used - begin;
    store(r, "", 1);
    return true;
}

// --------------------------------------------------------------------------------------------
// Values

static bool add_value(Reader *r, const char *name, size_t name_size, size_t *index)
{
    Json *json = r->json;
    if (json->n_values == JSON_MAX_VALUES) {
        return error_set(r->err, ERROR_INPUT, "byte %zu: expected at most %zu values", r->at,
                         JSON_MAX_VALUES);
    }
    if (json->n_values == json->capacity) {
        const size_t capacity = json->capacity ? 2 * json->capacity : 64;
        JsonValue *values = realloc(json->values, capacity * sizeof *values);
        if (!values) {
            return error_memory(r->err, "values of JSON", capacity * sizeof *values);
        }
        json->values = values;
        json->capacity = capacity;
    }
    *index = json->n_values++;
    json->values[*index] = (JsonValue){
        .extent = 1, .offset = r->at, .name = name, .name_size = name_size};
    return true;
}

static bool read_digits(Reader *r, const char *expected)
{
    if (!at_digit(r)) {
        return unexpected(r, expected);
    }
    while (at_digit(r)) {
        r->at++;
    }
    return true;
}

// [ "-" ] ( "0" / digit1-9 *digit ) [ "." 1*digit ] [ ( "e" / "E" ) [ "+" / "-" ] 1*digit ]
static bool read_number(Reader *r, JsonValue *v)
{
    const size_t start = r->at, begin = r->used;
    r->at += at_byte(r, '-');
    if (at_byte(r, '0')) {
        r->at++;
        if (at_digit(r)) {
            return unexpected(r, "no digit after a leading zero");
        }
    } else if (!read_digits(r, "a digit")) {
        return false;
    }
    if (at_byte(r, '.')) {
        r->at++;
        if (!read_digits(r, "a digit after the decimal point")) {
            return false;
        }
    }
    if (at_byte(r, 'e') || at_byte(r, 'E')) {
        r->at++;
        r->at += at_byte(r, '+') || at_byte(r, '-');
        if (!read_digits(r, "a digit of the exponent")) {
            return false;
        }
    }
    store(r, r->bytes + start, r->at - start);
    v->kind = JSON_NUMBER;
    v->text = r->json->text + begin;
    v->size = r->used - begin;
    store(r, "", 1);
    if (!isfinite(json_real(v))) {
        return error_set(r->err, ERROR_INPUT, "byte %zu: the number is out of range, +-1.79e308",
                         start);
    }
    return true;
}

static bool read_word(Reader *r, JsonValue *v)
{
    static const struct {
        const char *word;
        JsonKind kind;
    } words[] = {{"null", JSON_NULL}, {"false", JSON_FALSE}, {"true", JSON_TRUE}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const size_t length = strlen(words[i].word);
        if (r->size - r->at >= length && memcmp(r->bytes + r->at, words[i].word, length) == 0) {
            v->kind = words[i].kind;
            r->at += length;
            return true;
        }
    }
    return unexpected(r, "a value");
}

static int compare_json_names(const void *a, const void *b)
{
    const JsonName *x = a, *y = b;
    if (x->size != y->size) {
        return x->size < y->size ? -1 : 1;
    }
    return memcmp(x->text, y->text, x->size);
}

// Refuses duplicate names. Sorting makes equal names adjacent: n log n, however many there are.
static bool check_names(Reader *r, size_t object)
{
    Json *json = r->json;
    const size_t n = json->values[object].count;
    if (n > json->names_capacity) {
        JsonName *names = realloc(json->names, n * sizeof *names);
        if (!names) {
            return error_memory(r->err, "names of JSON", n * sizeof *names);
        }
        json->names = names;
        json->names_capacity = n;
    }
    const JsonValue *member = json_first(&json->values[object]);
    for (size_t i = 0; i < n; i++, member = json_next(member)) {
        json->names[i] = (JsonName){member->name, member->name_size, member->offset};
    }
    if (n > 1) {
        qsort(json->names, n, sizeof *json->names, compare_json_names);
    }
    for (size_t i = 1; i < n; i++) {
        const JsonName *x = &json->names[i - 1], *y = &json->names[i];
        if (compare_json_names(x, y) == 0) {
            return error_set(r->err, ERROR_INPUT, "byte %zu: duplicate name %.100s",
                             x->offset > y->offset ? x->offset : y->offset, y->text);
        }
    }
    return true;
}

// Reads a member's name and the colon after it.
static bool read_name(Reader *r, const char **name, size_t *size)
{
    if (!at_byte(r, '"')) {
        return unexpected(r, "a name in quotes");
    }
    if (!read_string(r, name, size)) {
        return false;
    }
    skip_space(r);
    if (!at_byte(r, ':')) {
        return unexpected(r, "a colon");
    }
    r->at++;
    skip_space(r);
    return true;
}

// Reads an array or, up to '}', an object, starting at its opening bracket. `index` is its own
// value: an index, since the array of values moves as it grows.
static bool read_container(Reader *r, size_t index, char close)
{
    const bool object = close == '}';
    if (++r->depth > JSON_MAX_DEPTH) {
        return error_set(r->err, ERROR_INPUT, "byte %zu: nested more than %d deep", r->at,
                         JSON_MAX_DEPTH);
    }
    r->at++;
    skip_space(r);
    bool more = !at_byte(r, close);
    while (more) {
        const char *name = NULL;
        size_t name_size = 0;
        skip_space(r);
        if ((object && !read_name(r, &name, &name_size)) || !read_value(r, name, name_size)) {
            return false;
        }
        r->json->values[index].count++;
        skip_space(r);
        more = at_byte(r, ',');
        if (!more && !at_byte(r, close)) {
            return unexpected(r, object ? "a comma or }" : "a comma or ]");
        }
        r->at += more;
    }
    r->at++;
    r->depth--;
    JsonValue *v = &r->json->values[index];
    v->kind = object ? JSON_OBJECT : JSON_ARRAY;
    v->extent = (uint32_t)(r->json->n_values - index);
    return !object || check_names(r, index);
}

// Reads any value; `name` is NULL unless it is a member of an object.
static bool read_value(Reader *r, const char *name, size_t name_size)
{
    size_t index = 0;
    if (!add_value(r, name, name_size, &index)) {
        return false;
    }
    JsonValue *v = &r->json->values[index];
    if (at_byte(r, '{') || at_byte(r, '[')) {
        return read_container(r, index, at_byte(r, '{') ? '}' : ']');
    }
    if (at_byte(r, '"')) {
        v->kind = JSON_STRING;
        return read_string(r, &v->text, &v->size);
    }
    return at_byte(r, '-') || at_digit(r) ? read_number(r, v) : read_word(r, v);
}

bool json_read(Json *json, const char *bytes, size_t size, Error *err)
{
    // The NUL after a string takes the place of its closing quote, and that after a number the
    // place of the comma or bracket that follows. A number that is the whole text has neither, so
    // one more byte is needed.
    const size_t need = size < SIZE_MAX ? size + 1 : SIZE_MAX;
    if (need > json->text_capacity) {
        free(json->text);
        json->text = malloc(need);
        json->text_capacity = json->text ? need : 0;
        if (!json->text) {
            return error_memory(err, "strings of JSON", need);
        }
    }
    json->n_values = 0;
    Reader r = {.json = json, .bytes = (const unsigned char *)bytes, .size = size, .err = err};
    skip_space(&r);
    if (!read_value(&r, NULL, 0)) {
        return false;
    }
    skip_space(&r);
    return r.at == size || unexpected(&r, "the end of the text");
}

void json_free(Json *json)
{
    free(json->values);
    free(json->text);
    free(json->names);
    *json = (Json){0};
}

const JsonValue *json_member(const JsonValue *object, const char *name)
{
    const size_t size = strlen(name);
    const JsonValue *v = json_first(object);
    for (size_t i = 0; i < object->count; i++, v = json_next(v)) {
        if (v->name_size == size && memcmp(v->name, name, size) == 0) {
            return v;
        }
    }
    return NULL;
}

const char *json_kind(const JsonValue *v)
{
    static const char *const names[] = {"null",     "false",    "true",     "a number",
                                        "a string", "an array", "an object"};
    return names[v->kind];
}

bool json_whole(const JsonValue *v, uint64_t *out)
{
    if (v->kind != JSON_NUMBER) {
        return false;
    }
    uint64_t n = 0;
    for (const char *c = v->text; *c; c++) {
        const uint64_t digit = (uint64_t)(*c - '0');
        if (*c < '0' || *c > '9' || n > (UINT64_MAX - digit) / 10) {
            // Not only digits, or too many: still accepted if the double is whole and below 2^53.
            const double real = json_real(v);
            *out = real >= 0 && real < 9007199254740992.0 ? (uint64_t)real : 0;
            return real >= 0 && real < 9007199254740992.0 && (double)*out == real;
        }
        n = n * 10 + digit;
    }
    *out = n;
    return true;
}

double json_real(const JsonValue *number) { return strtod(number->text, NULL); }

// --------------------------------------------------------------------------------------------
// Writing

// JSON allows U+0085, U+2028 and U+2029 in strings, but a reader that splits its input at Unicode's
// line ends would cut a line of JSON in two there. Returns the code point if the character must be
// escaped for this reason, else 0.
static unsigned line_separator(const char *character, int length)
{
    return length == 2 && memcmp(character, "\xc2\x85", 2) == 0       ? 0x85
           : length == 3 && memcmp(character, "\xe2\x80\xa8", 3) == 0 ? 0x2028
           : length == 3 && memcmp(character, "\xe2\x80\xa9", 3) == 0 ? 0x2029
                                                                      : 0;
}

// Adds the escape of a character below U+0080 that needs one, or of a line separator.
static void add_escape(Buffer *out, unsigned c)
{
    const char *letter = c && c < 0x20 ? strchr("\nn\rr\tt", (int)c) : NULL;
    if (letter) {
        buffer_addf(out, "\\%c", letter[1]);
    } else if (c == '"' || c == '\\') {
        buffer_addf(out, "\\%c", (int)c);
    } else {
        buffer_addf(out, "\\u%04x", c);
    }
}

void json_add_string(Buffer *out, const char *bytes, size_t size)
{
    buffer_add_text(out, "\"");
    size_t added = 0;  // bytes before it are in the buffer; from there to i all are plain
    for (size_t i = 0; i < size;) {
        const unsigned char c = (unsigned char)bytes[i];
        const int length = utf8_scan(bytes + i, size - i);
        const unsigned separator = line_separator(bytes + i, length);
        if (length > 0 && c >= 0x20 && c != '"' && c != '\\' && !separator) {
            i += (size_t)length;
            continue;
        }
        buffer_add(out, bytes + added, i - added);
        if (length > 0) {
            add_escape(out, separator ? separator : c);
            i += (size_t)length;
        } else {  // not UTF-8, or a character that the end cuts off
            buffer_add_text(out, UTF8_REPLACEMENT);
            i += length < 0 ? (size_t)-length : size - i;
        }
        added = i;
    }
    if (added < size) {
        buffer_add(out, bytes + added, size - added);
    }
    buffer_add_text(out, "\"");
}

// A number that is not finite becomes null: JSON has no NaN.
static void add_real(Buffer *out, double value, int decimals)
{
    if (isfinite(value)) {
        buffer_addf(out, "%.*f", decimals, value);
    } else {
        buffer_add_text(out, "null");
    }
}

// Writes what precedes a value: the comma after its predecessor, and its name.
static Buffer *begin_value(JsonWriter *w, const char *name)
{
    if (w->follows) {
        buffer_add_text(w->out, ", ");
    }
    if (name) {
        json_add_string(w->out, name, strlen(name));
        buffer_add_text(w->out, ": ");
    }
    w->follows = true;
    return w->out;
}

void json_put_name(JsonWriter *w, const char *bytes, size_t size)
{
    json_put_string(w, NULL, bytes, size);
    buffer_add_text(w->out, ": ");
    w->follows = false;
}

void json_open(JsonWriter *w, const char *name, char bracket)
{
    buffer_add(begin_value(w, name), &bracket, 1);
    w->follows = false;
}

void json_close(JsonWriter *w, char bracket)
{
    buffer_add(w->out, &bracket, 1);
    w->follows = true;
}

void json_put_string(JsonWriter *w, const char *name, const char *bytes, size_t size)
{
    json_add_string(begin_value(w, name), bytes, size);
}

void json_put_text(JsonWriter *w, const char *name, const char *text)
{
    if (text) {
        json_put_string(w, name, text, strlen(text));
    } else {
        json_put_null(w, name);
    }
}

void json_put_count(JsonWriter *w, const char *name, uint64_t value)
{
    buffer_addf(begin_value(w, name), "%llu", (unsigned long long)value);
}

void json_put_real(JsonWriter *w, const char *name, double value, int decimals)
{
    add_real(begin_value(w, name), value, decimals);
}

void json_put_bool(JsonWriter *w, const char *name, bool value)
{
    buffer_add_text(begin_value(w, name), value ? "true" : "false");
}

void json_put_null(JsonWriter *w, const char *name)
{
    buffer_add_text(begin_value(w, name), "null");
}

void json_put_json(JsonWriter *w, const char *name, const char *json, size_t size)
{
    buffer_add(begin_value(w, name), json, size);
}

void json_put_value(JsonWriter *w, const char *name, const JsonValue *v)
{
    const bool is_array = v->kind == JSON_ARRAY;
    const JsonValue *child = json_first(v);
    switch (v->kind) {
    case JSON_NULL:
        json_put_null(w, name);
        return;
    case JSON_FALSE:
    case JSON_TRUE:
        json_put_bool(w, name, v->kind == JSON_TRUE);
        return;
    case JSON_NUMBER:
        json_put_json(w, name, v->text, v->size);
        return;
    case JSON_STRING:
        json_put_string(w, name, v->text, v->size);
        return;
    default:
        json_open(w, name, is_array ? '[' : '{');
        for (uint32_t i = 0; i < v->count; i++, child = json_next(child)) {
            if (!is_array) {
                json_put_name(w, child->name, child->name_size);
            }
            json_put_value(w, NULL, child);
        }
        json_close(w, is_array ? ']' : '}');
    }
}
