// idle.h - whether the machine has processors without work.
#ifndef IDLE_H
#define IDLE_H

// The idle time in seconds since the machine started, summed over all processors; negative if the
// system does not tell. Takes about ten microseconds.
double idle_seconds(void);

#endif
