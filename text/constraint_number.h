// constraint_number.h - decimal numbers as terms: spellings of a value, ranges, multiples.
//
// All are exact: numbers are compared digit by digit, as decimals of any length.
#ifndef CONSTRAINT_NUMBER_H
#define CONSTRAINT_NUMBER_H

#include <stddef.h>

#include "text/constraint_term.h"

// The most digits before and after the point of a number in a schema.
#define DECIMAL_MAX_DIGITS 400

// A decimal without its exponent: digits without leading zeros before the point, without trailing
// zeros after it. Zero has neither and is not negative.
typedef struct {
    bool negative;
    size_t n_whole, n_fraction;
    char whole[DECIMAL_MAX_DIGITS], fraction[DECIMAL_MAX_DIGITS];
} Decimal;

// Reads a number as JSON spells it; false if it has too many digits.
bool decimal_read(Decimal *d, const char *text, size_t size);

Term number_any(TermPool *p);            // all that JSON allows
Term number_decimal(TermPool *p);        // those without an exponent
Term number_integer(TermPool *p);        // whole ones; 1.0 is one
Term number_integer_exact(TermPool *p);  // those without a point

// The spellings, without exponent, of one value: 1.5, 1.50, ..
Term number_equal(TermPool *p, const Decimal *d);

// Those without an exponent that are at least, or at most, a value; without the value: strict.
Term number_at_least(TermPool *p, const Decimal *d, bool strict);
Term number_at_most(TermPool *p, const Decimal *d, bool strict);

// The multiples of a positive value; TERM_NONE if it takes too many states (NUMBER_MAX_UNIT).
#define NUMBER_MAX_UNIT 10000u
Term number_multiple(TermPool *p, const Decimal *d);

#endif
