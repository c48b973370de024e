// thinking.h - what a model thinks before it answers, told apart from the answer as both arrive.
//
//     <think>\n  The user greets me.  \n</think>\n\n  Hello!
//     open       thought              close           answer
#ifndef THINKING_H
#define THINKING_H

#include "base/buffer.h"

// The texts around thoughts as a model's chat template writes them, white space included. Found by
// chat_open; owned by the template. A model does not think if `close` is empty.
typedef struct {
    Buffer open, close;
    Buffer answer;         // before an answer that follows no thought, if the template writes one
    const char *member;    // of a message, that the template takes thoughts from; NULL: none
    const char *variable;  // of the template, that turns thinking on and off; NULL: none
} ThinkingTexts;

static inline bool can_think(const ThinkingTexts *t) { return t && t->close.size; }

void thinking_texts_free(ThinkingTexts *t);

typedef enum {
    PHASE_START,    // nothing yet but perhaps white space: a thought or an answer
    PHASE_THOUGHT,  // after `open`
    PHASE_ANSWER,   // after `close`, or what began with neither text
} ThinkingPhase;

// Takes the bytes of tokens and sorts them into thought and answer, as soon as it is known which
// they are. White space at both ends of the thought and before an answer that follows it belongs to
// neither. Where no text is found, the answer is all bytes, unchanged. Set the first two fields and
// leave the rest zero.
typedef struct {
    const ThinkingTexts *texts;  // the caller's; NULL: all bytes are the answer
    ThinkingPhase phase;
    bool skips_space;        // the white space that comes next belongs to the text before it
    bool found;              // the answer began after a text of the template
    Buffer held, hidden;     // bytes that are not decided; for each 1 if it is a special token's
    Buffer thought, answer;  // what was decided; the caller takes it away and clears them
} ThinkingFilter;

// Adds the bytes of a token; of a special token its name, which is `hidden`: it can be a part of
// the texts, but is none of the thought or answer. The caller checks f->held, thought and answer.
void thinking_add(ThinkingFilter *f, const char *bytes, size_t size, bool hidden);

// No more bytes come: decides what is held.
void thinking_end(ThinkingFilter *f);
void thinking_free(ThinkingFilter *f);

// A text without the white space of ASCII at its ends.
typedef struct {
    const char *text;
    size_t size;
} Trimmed;

Trimmed trimmed(const char *text, size_t size);
bool is_ascii_space(char c);

#endif
