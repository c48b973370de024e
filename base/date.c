// date.c - calendar dates. See date.h.
#include "base/date.h"

#include <stddef.h>
#include <stdio.h>
#include <time.h>

Date date_today(void)
{
    const time_t now = time(NULL);
    struct tm t = {0};
    localtime_r(&now, &t);
    return (Date){t.tm_year + 1900, t.tm_mon + 1, t.tm_mday};
}

bool date_read(const char *text, Date *date)
{
    static const char form[] = "dddd-dd-dd";
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int digits[sizeof form] = {0};
    for (size_t i = 0; i < sizeof form - 1; i++) {
        if (form[i] == '-' ? text[i] != '-' : text[i] < '0' || text[i] > '9') {
            return false;
        }
        digits[i] = text[i] - '0';
    }
    const Date d = {digits[0] * 1000 + digits[1] * 100 + digits[2] * 10 + digits[3],
                    digits[5] * 10 + digits[6], digits[8] * 10 + digits[9]};
    const bool leap = d.year % 4 == 0 && (d.year % 100 != 0 || d.year % 400 == 0);
    *date = d;
    return !text[sizeof form - 1] && d.year && d.month >= 1 && d.month <= 12 && d.day >= 1 &&
           d.day <= days[d.month - 1] + (d.month == 2 && leap);
}

bool same_date(Date a, Date b) { return a.year == b.year && a.month == b.month && a.day == b.day; }

const char *date_write(Date d, char text[16])
{
    snprintf(text, 16, "%04d-%02d-%02d", d.year % 10000, d.month % 100, d.day % 100);
    return text;
}
