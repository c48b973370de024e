// chat_probe.h - finds out what a chat template can do, by rendering short conversations with it.
#ifndef CHAT_PROBE_H
#define CHAT_PROBE_H

#include "base/error.h"
#include "text/chat.h"

// Sets has_system, has_developer, uses_date and think of a compiled template. A template that fails
// or refuses one of the conversations does not have what it was asked for. Error: ERROR_RUN.
bool chat_probe(ChatTemplate *t, Error *err);

#endif
