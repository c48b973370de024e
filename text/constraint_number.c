// constraint_number.c - decimal numbers as terms. See constraint_number.h.
//
// x >= 37.25 for a positive x without an exponent is one of
//
//     more digits before the point      [1-9]\d\d\d* ..
//     as many, and greater              [4-9]\d | 3[8-9], with any fraction
//     37, and a fraction of at least    \.([3-9]\d* | 2[6-9]\d* | 25\d*)
//
// and <= is the mirror image. Negative numbers are the same with the other comparison.
#include "text/constraint_number.h"

#include <string.h>

// Reads a whole number with a sign, of an exponent; a very large one as 99999.
static long read_exponent(const char *text, size_t size)
{
    const bool negative = size && *text == '-';
    long value = 0;
    for (size_t i = size && (*text == '-' || *text == '+'); i < size; i++) {
        value = value > 9999 ? 99999 : value * 10 + (text[i] - '0');
    }
    return negative ? -value : value;
}

bool decimal_read(Decimal *d, const char *text, size_t size)
{
    char digits[2 * DECIMAL_MAX_DIGITS] = {0};
    *d = (Decimal){.negative = size && *text == '-'};
    long n = 0, point = -1;  // digits, and how many of them stand before the point
    size_t i = d->negative;
    for (; i < size && text[i] != 'e' && text[i] != 'E'; i++) {
        if (text[i] == '.') {
            point = n;
        } else if (n == (long)sizeof digits) {
            return false;
        } else {
            digits[n++] = text[i];
        }
    }
    point = point < 0 ? n : point;
    point += i < size ? read_exponent(text + i + 1, size - i - 1) : 0;
    long first = 0;
    while (n > 0 && digits[n - 1] == '0') {
        n--;
    }
    while (first < n && digits[first] == '0') {
        first++;
    }
    d->negative = d->negative && first < n;
    if (first == n) {
        return true;
    }
    if (point - first > DECIMAL_MAX_DIGITS || n - point > DECIMAL_MAX_DIGITS) {
        return false;
    }
    for (long k = first; k < point; k++) {
        d->whole[d->n_whole++] = k < n ? digits[k] : '0';
    }
    for (long k = point; k < n; k++) {
        d->fraction[d->n_fraction++] = k >= first ? digits[k] : '0';
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// Parts

static Term digit(TermPool *p) { return term_range(p, '0', '9'); }
static Term digits(TermPool *p) { return term_star(p, digit(p)); }

// \d{n}
static Term n_digits(TermPool *p, size_t n)
{
    return term_repeat(p, digit(p), (uint32_t)n, (uint32_t)n);
}

// 0|[1-9]\d*
static Term whole_part(TermPool *p)
{
    return term_or2(p, term_byte(p, '0'), term_seq(p, term_range(p, '1', '9'), digits(p)));
}

// (\.\d+)?
static Term any_fraction(TermPool *p)
{
    const Term some = term_repeat(p, digit(p), 1, REPEAT_FOREVER);
    return term_optional(p, term_seq(p, term_byte(p, '.'), some));
}

// (\.0+)?
static Term zero_fraction(TermPool *p)
{
    const Term zeros = term_repeat(p, term_byte(p, '0'), 1, REPEAT_FOREVER);
    return term_optional(p, term_seq(p, term_byte(p, '.'), zeros));
}

static Term signed_term(TermPool *p, Term t)
{
    return term_seq(p, term_optional(p, term_byte(p, '-')), t);
}

Term number_decimal(TermPool *p)
{
    return signed_term(p, term_seq(p, whole_part(p), any_fraction(p)));
}

Term number_any(TermPool *p)
{
    ByteSet e = {{0}}, sign = {{0}};
    byteset_add(&e, 'e'), byteset_add(&e, 'E');
    byteset_add(&sign, '+'), byteset_add(&sign, '-');
    const Term some = term_repeat(p, digit(p), 1, REPEAT_FOREVER);
    const Term exponent = term_seq(p, term_bytes(p, &e),
                                   term_seq(p, term_optional(p, term_bytes(p, &sign)), some));
    return term_seq(p, number_decimal(p), term_optional(p, exponent));
}

Term number_integer_exact(TermPool *p) { return signed_term(p, whole_part(p)); }

Term number_integer(TermPool *p)
{
    return signed_term(p, term_seq(p, whole_part(p), zero_fraction(p)));
}

// --------------------------------------------------------------------------------------------
// Comparisons

// The strings of exactly n digits that are greater (or smaller) than `d`, each followed by `after`.
static Term other_digits(TermPool *p, const char *d, size_t n, bool greater, Term after)
{
    Term t = TERM_NONE;
    for (size_t k = n; k > 0; k--) {
        const size_t i = k - 1;
        const unsigned c = (unsigned char)d[i];
        // A number has no leading zero; of one digit it may be 0 itself.
        const unsigned least = i == 0 && n > 1 ? '1' : '0';
        Term here = greater ? (c < '9' ? term_range(p, c + 1, '9') : TERM_NONE)
                            : (c > least ? term_range(p, least, c - 1) : TERM_NONE);
        here = term_seq(p, here, term_seq(p, n_digits(p, n - 1 - i), after));
        t = term_or2(p, here, term_seq(p, term_byte(p, c), t));
    }
    return t;
}

// The fractions, with their point, that are greater or smaller than d's; equal ones unless strict.
static Term other_fractions(TermPool *p, const Decimal *d, bool greater, bool strict)
{
    const Term nonzero = term_range(p, '1', '9');
    const Term zeros = term_star(p, term_byte(p, '0'));
    const Term more = term_seq(p, zeros, term_seq(p, nonzero, digits(p)));
    if (d->n_fraction == 0) {
        return greater ? (strict ? term_seq(p, term_byte(p, '.'), more) : any_fraction(p))
                       : (strict ? TERM_NONE : zero_fraction(p));
    }
    // Behind all of d's digits: anything is at least d, zeros are equal, and the end is equal.
    Term t = greater ? (strict ? more : digits(p)) : (strict ? TERM_NONE : zeros);
    for (size_t k = d->n_fraction; k > 0; k--) {
        const size_t i = k - 1;
        const unsigned c = (unsigned char)d->fraction[i];
        const Term other = greater ? (c < '9' ? term_range(p, c + 1, '9') : TERM_NONE)
                                   : (c > '0' ? term_range(p, '0', c - 1) : TERM_NONE);
        t = term_or2(p, term_seq(p, other, digits(p)), term_seq(p, term_byte(p, c), t));
        if (!greater && i > 0) {
            t = term_optional(p, t);  // a fraction that ends here is smaller
        }
    }
    t = term_seq(p, term_byte(p, '.'), t);
    return greater ? t : term_optional(p, t);
}

// The numbers without a sign that are greater or smaller than d's digits, whatever its sign.
static Term magnitude(TermPool *p, const Decimal *d, bool greater, bool strict)
{
    const char *whole = d->n_whole ? d->whole : "0";
    const size_t n = d->n_whole ? d->n_whole : 1;
    const Term fraction = any_fraction(p), nonzero = term_range(p, '1', '9');
    Term parts[4];
    parts[0] = other_digits(p, whole, n, greater, fraction);
    parts[1] = term_seq(p, term_literal(p, whole, n), other_fractions(p, d, greater, strict));
    if (greater) {
        const Term longer = term_repeat(p, digit(p), (uint32_t)n, REPEAT_FOREVER);
        parts[2] = term_seq(p, nonzero, term_seq(p, longer, fraction));
        return term_or(p, parts, 3);
    }
    parts[2] = parts[3] = TERM_NONE;
    if (n > 1) {  // fewer digits
        parts[2] = term_seq(p, term_byte(p, '0'), fraction);
        const Term shorter = term_repeat(p, digit(p), 0, (uint32_t)n - 2);
        parts[3] = term_seq(p, nonzero, term_seq(p, shorter, fraction));
    }
    return term_or(p, parts, 4);
}

static bool is_zero(const Decimal *d) { return !d->n_whole && !d->n_fraction; }

static Term any_magnitude(TermPool *p) { return term_seq(p, whole_part(p), any_fraction(p)); }

Term number_at_least(TermPool *p, const Decimal *d, bool strict)
{
    const Term minus = term_byte(p, '-');
    if (!d->negative) {
        const Term positive = magnitude(p, d, true, strict);
        const Decimal zero = {0};
        const Term negative = is_zero(d) && !strict ? magnitude(p, &zero, false, false) : TERM_NONE;
        return term_or2(p, positive, term_seq(p, minus, negative));
    }
    return term_or2(p, any_magnitude(p), term_seq(p, minus, magnitude(p, d, false, strict)));
}

Term number_at_most(TermPool *p, const Decimal *d, bool strict)
{
    const Term minus = term_byte(p, '-');
    if (d->negative) {
        return term_seq(p, minus, magnitude(p, d, true, strict));
    }
    // All negative numbers are below; -0 is zero.
    const bool below_zero = is_zero(d) && strict;
    const Decimal zero = {0};
    const Term negative = below_zero ? magnitude(p, &zero, true, true) : any_magnitude(p);
    return term_or2(p, magnitude(p, d, false, strict), term_seq(p, minus, negative));
}

Term number_equal(TermPool *p, const Decimal *d)
{
    const Term whole = d->n_whole ? term_literal(p, d->whole, d->n_whole) : term_byte(p, '0');
    const Term zeros = term_star(p, term_byte(p, '0'));
    Term t = zero_fraction(p);
    if (d->n_fraction) {
        t = term_seq(p, term_byte(p, '.'),
                     term_seq(p, term_literal(p, d->fraction, d->n_fraction), zeros));
    }
    t = term_seq(p, whole, t);
    return is_zero(d) ? signed_term(p, t) : d->negative ? term_seq(p, term_byte(p, '-'), t) : t;
}

Term number_multiple(TermPool *p, const Decimal *d)
{
    uint32_t unit = 0;
    for (size_t i = 0; i < d->n_whole + d->n_fraction; i++) {
        const char c = i < d->n_whole ? d->whole[i] : d->fraction[i - d->n_whole];
        unit = unit * 10 + (uint32_t)(c - '0');
        if (unit > NUMBER_MAX_UNIT) {
            return TERM_NONE;
        }
    }
    if (unit == 0 || d->n_fraction > 200) {
        return TERM_NONE;
    }
    const Term multiple = term_multiple(p, unit, (uint32_t)d->n_fraction);
    return signed_term(p, term_and2(p, any_magnitude(p), multiple));
}
