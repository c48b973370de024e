// date.h - calendar dates: today's, and how they are written.
#ifndef DATE_H
#define DATE_H

#include <stdbool.h>

typedef struct {
    int year, month, day;  // month and day from 1; month 0: no date
} Date;

Date date_today(void);  // in local time

// Reads YYYY-MM-DD, a day that exists; false if the text is anything else.
bool date_read(const char *text, Date *date);

bool same_date(Date a, Date b);

// Writes YYYY-MM-DD, and returns the text.
const char *date_write(Date d, char text[16]);

#endif
