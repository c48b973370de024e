// idle.h - whether the machine has processors without work.
#ifndef IDLE_H
#define IDLE_H

// The seconds that processors have had nothing to do since the machine started, of all of them
// together; negative if the system does not tell. Takes about ten microseconds.
double idle_seconds(void);

#endif
