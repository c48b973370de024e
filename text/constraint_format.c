// constraint_format.c - the values of JSON Schema's `format` as terms. See constraint_format.h.
//
// A format is a regular expression in which <NAME> stands for another row of the table. The
// grammars are those of the RFCs that JSON Schema (2020-12, section 7.3) names.
#include "text/constraint_format.h"

#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "text/constraint_regex.h"

typedef struct {
    const char *name, *expression;  // NULL: refused
} FormatRow;

// clang-format off
static const FormatRow format_table[] = {
    // RFC 3339; leap_second adds what is missing.
    {"date", "(?:<year>-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|"
             "02-(?:0[1-9]|1\\d|2[0-8]))|<leap-year>-02-29)"},
    {"year", "\\d{4}"},
    {"leap-year", "(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"},
    {"time", "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d+)?(?:[Zz]|<offset>)"},
    {"offset", "[+-](?:[01]\\d|2[0-3]):[0-5]\\d"},
    {"date-time", "<date>[Tt]"},
    {"duration", "P(?:\\d+W|<days>(?:T<clock>)?|T<clock>)"},
    {"days", "(?:\\d+D|\\d+M(?:\\d+D)?|\\d+Y(?:\\d+M(?:\\d+D)?)?)"},
    {"clock", "(?:\\d+S|\\d+M(?:\\d+S)?|\\d+H(?:\\d+M(?:\\d+S)?)?)"},
    // RFC 5321, section 4.1.2
    {"email", "(?:<atom>(?:\\.<atom>)*|\"(?:[ !#-\\[\\]-~]|\\\\[ -~])*\")@(?:<domain>|\\[(?:<ipv4>|IPv6:<ipv6>)\\])"},
    {"atom", "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"},
    {"domain", "<label>(?:\\.<label>)*"},
    {"idn-email", "(?:<idn-atom>(?:\\.<idn-atom>)*|\"(?:[ !#-\\[\\]-~]|[^\\x00-\\x7f]|\\\\[ -~])*\")@(?:<idn-label>(?:\\.<idn-label>)*)"},
    {"idn-atom", "(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]|[^\\x00-\\x7f])+"},
    {"idn-label", "(?:[A-Za-z0-9]|[^\\x00-\\x7f])(?:(?:[A-Za-z0-9-]|[^\\x00-\\x7f])*(?:[A-Za-z0-9]|[^\\x00-\\x7f]))?"},
    {"label", "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"},
    // RFC 2673 and RFC 4291
    {"ipv4", "<octet>(?:\\.<octet>){3}"},
    {"octet", "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"},
    {"ipv6", "(?:(?:<h16>:){6}<ls32>|::(?:<h16>:){5}<ls32>|<h16>?::(?:<h16>:){4}<ls32>|"
             "(?:(?:<h16>:){0,1}<h16>)?::(?:<h16>:){3}<ls32>|(?:(?:<h16>:){0,2}<h16>)?::(?:<h16>:){2}<ls32>|"
             "(?:(?:<h16>:){0,3}<h16>)?::<h16>:<ls32>|(?:(?:<h16>:){0,4}<h16>)?::<ls32>|"
             "(?:(?:<h16>:){0,5}<h16>)?::<h16>|(?:(?:<h16>:){0,6}<h16>)?::)"},
    {"h16", "[0-9A-Fa-f]{1,4}"},
    {"ls32", "(?:<h16>:<h16>|<ipv4>)"},
    {"uuid", "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"},
    // RFC 3986, appendix A; RFC 3987 for IRIs
    {"uri", "<scheme>:<hier>(?:\\?<query>)?(?:#<query>)?"},
    {"uri-reference", "(?:<uri>|<relative>(?:\\?<query>)?(?:#<query>)?)"},
    {"scheme", "[A-Za-z][A-Za-z0-9+.-]*"},
    {"hier", "(?://<authority>(?:/<pchar>*)*|/(?:<pchar>+(?:/<pchar>*)*)?|<pchar>+(?:/<pchar>*)*|)"},
    {"relative", "(?://<authority>(?:/<pchar>*)*|/(?:<pchar>+(?:/<pchar>*)*)?|<nc>+(?:/<pchar>*)*|)"},
    {"authority", "(?:(?:<unreserved>|<escaped>|[!$&'()*+,;=:])*@)?(?:\\[(?:<ipv6>|[Vv][0-9A-Fa-f]+\\."
                  "[A-Za-z0-9._~!$&'()*+,;=:-]+)\\]|(?:<unreserved>|<escaped>|[!$&'()*+,;=])*)(?::\\d*)?"},
    {"unreserved", "[A-Za-z0-9._~-]"},
    {"escaped", "%[0-9A-Fa-f]{2}"},
    {"pchar", "(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|<escaped>)"},
    {"nc", "(?:[A-Za-z0-9._~!$&'()*+,;=@-]|<escaped>)"},
    {"query", "(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|<escaped>)*"},
    {"iri", "<scheme>:<ihier>(?:\\?<iquery>)?(?:#<ifragment>)?"},
    {"iri-reference", "(?:<iri>|<irelative>(?:\\?<iquery>)?(?:#<ifragment>)?)"},
    {"ihier", "(?://<iauthority>(?:/<ipchar>*)*|/(?:<ipchar>+(?:/<ipchar>*)*)?|<ipchar>+(?:/<ipchar>*)*|)"},
    {"irelative", "(?://<iauthority>(?:/<ipchar>*)*|/(?:<ipchar>+(?:/<ipchar>*)*)?|<inc>+(?:/<ipchar>*)*|)"},
    {"iauthority", "(?:(?:[A-Za-z0-9._~!$&'()*+,;=:-]|<ucs>|<escaped>)*@)?(?:\\[(?:<ipv6>|[Vv][0-9A-Fa-f]+\\."
                   "[A-Za-z0-9._~!$&'()*+,;=:-]+)\\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|<ucs>|<escaped>)*)(?::\\d*)?"},
    {"ucs", "[\\u00a0-\\ud7ff\\uf900-\\ufdcf\\ufdf0-\\uffef\\u{10000}-\\u{1fffd}\\u{20000}-\\u{2fffd}\\u{30000}-\\u{3fffd}]"},
    {"ipchar", "(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|<ucs>|<escaped>)"},
    {"inc", "(?:[A-Za-z0-9._~!$&'()*+,;=@-]|<ucs>|<escaped>)"},
    {"iquery", "(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\\ue000-\\uf8ff\\u{f0000}-\\u{ffffd}\\u{100000}-\\u{10fffd}-]|"
               "<ucs>|<escaped>)*"},
    {"ifragment", "(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|<ucs>|<escaped>)*"},
    // RFC 6901, and the relative ones
    {"json-pointer", "(?:/(?:[^~/]|~[01])*)*"},
    {"relative-json-pointer", "(?:0|[1-9]\\d*)(?:#|(?:/(?:[^~/]|~[01])*)*)"},
    // RFC 1123; but Punycode (xn--) has rules that no automaton checks.
    {"hostname", NULL}, {"idn-hostname", NULL}, {"regex", NULL},
    // RFC 6570
    {"uri-template", "(?:[!#$&'(-;=?-\\[\\]_a-z~]|[^\\x00-\\x7f]|<escaped>|\\{<operator>?<variable>(?:,<variable>)*\\})*"},
    {"operator", "[+#./;?&=,!@|]"},
    {"variable", "<name>(?:\\.?<name>)*(?::[1-9]\\d{0,3}|\\*)?"},
    {"name", "(?:[A-Za-z0-9_]|<escaped>)"},
};
// clang-format on

// The rows that are formats; the others are parts of them.
static const char *const public_names[] = {
    "date",
    "time",
    "date-time",
    "duration",
    "email",
    "idn-email",
    "hostname",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "uuid",
    "uri",
    "iri",
    "uri-reference",
    "iri-reference",
    "uri-template",
    "json-pointer",
    "regex",
    "relative-json-pointer",
};

static const FormatRow *find_format(const char *name, size_t size)
{
    for (size_t i = 0; i < sizeof format_table / sizeof *format_table; i++) {
        if (strlen(format_table[i].name) == size && memcmp(format_table[i].name, name, size) == 0) {
            return &format_table[i];
        }
    }
    return NULL;
}

static bool is_public(const char *name, size_t size)
{
    bool found = false;
    for (size_t i = 0; i < sizeof public_names / sizeof *public_names; i++) {
        found = found || (strlen(public_names[i]) == size && !memcmp(public_names[i], name, size));
    }
    return found;
}

// Adds an expression with every <NAME> expanded.
static void expand(Buffer *out, const char *expression)
{
    while (*expression) {
        const char *end = *expression == '<' ? strchr(expression, '>') : NULL;
        const FormatRow *part = end ? find_format(expression + 1, (size_t)(end - expression) - 1)
                                    : NULL;
        if (part) {
            buffer_add_text(out, "(?:");
            expand(out, part->expression);
            buffer_add_text(out, ")");
            expression = end + 1;
        } else {
            buffer_add(out, expression++, 1);
        }
    }
}

static bool compile_format(TermPool *p, const char *name, Term *out, Error *err)
{
    Buffer expression = {0};
    expand(&expression, find_format(name, strlen(name))->expression);
    const RegexOptions options = {REGEX_ECMA, SPELL_JSON, .whole = true};
    const bool ok = buffer_check(&expression, err) &&
                    regex_compile(p, &options, expression.data, expression.size, out, err);
    buffer_free(&expression);
    return ok;
}

// What follows the minutes of a leap second at a local time, in minutes of the day: it ends a day in
// UTC, 23:59:60, so the offset follows from the time.
static Term leap_offset(TermPool *p, int local)
{
    char east[16], west[16];
    const int ahead = (local + 1) % 1440, behind = (1440 - ahead) % 1440;
    snprintf(east, sizeof east, "+%02d:%02d", ahead / 60, ahead % 60);
    snprintf(west, sizeof west, "-%02d:%02d", behind / 60, behind % 60);
    Term t = term_or2(p, term_text(p, east), term_text(p, west));
    if (ahead == 0) {
        t = term_or2(p, t, term_or2(p, term_byte(p, 'Z'), term_byte(p, 'z')));
    }
    const Term digits = term_repeat(p, term_range(p, '0', '9'), 1, REPEAT_FOREVER);
    const Term fraction = term_optional(p, term_seq(p, term_byte(p, '.'), digits));
    return term_seq(p, term_text(p, ":60"), term_seq(p, fraction, t));
}

static Term leap_second(TermPool *p)
{
    Term hours[24], minutes[60];
    char text[16];
    for (int h = 0; h < 24; h++) {
        for (int m = 0; m < 60; m++) {
            snprintf(text, sizeof text, "%02d", m);
            minutes[m] = term_seq(p, term_text(p, text), leap_offset(p, h * 60 + m));
        }
        snprintf(text, sizeof text, "%02d:", h);
        hours[h] = term_seq(p, term_text(p, text), term_or(p, minutes, 60));
    }
    return term_or(p, hours, 24);
}

FormatStatus format_term(TermPool *p, const char *name, size_t size, Term *out, Error *err)
{
    const FormatRow *format = is_public(name, size) ? find_format(name, size) : NULL;
    *out = TERM_NONE;
    if (!format || !format->expression) {
        return format ? FORMAT_REFUSED : FORMAT_UNKNOWN;
    }
    const bool date_time = strcmp(format->name, "date-time") == 0;
    Term t, time = TERM_NONE;
    bool ok = compile_format(p, format->name, &t, err);
    if (ok && (date_time || strcmp(format->name, "time") == 0)) {
        ok = compile_format(p, "time", &time, err);
        time = term_or2(p, time, leap_second(p));
        t = date_time ? term_seq(p, t, time) : time;
    }
    *out = ok ? t : TERM_NONE;
    return FORMAT_ENFORCED;
}
