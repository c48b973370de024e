// thinking.h - separates a model's thinking from its answer while the bytes arrive.
//
//     <think>\n  The user greets me.  \n</think>\n\n  Hello!
//     open       thought              close           answer
#ifndef THINKING_H
#define THINKING_H

#include "base/buffer.h"
#include "base/json.h"

// A variable of chat templates that turns thinking on and off.
typedef struct {
    const char *name;
    JsonValue on, off;
} ThinkingSwitch;

// The texts that a chat template writes around thoughts, including white space. chat_open finds
// them; the template owns them. If `close` is empty, the model does not think.
typedef struct {
    Buffer open, close;
    Buffer answer;       // before an answer that follows no thought, if the template writes one
    const char *member;  // of a message, from which the template takes the thought; NULL: none
    const ThinkingSwitch *control;  // NULL: none
} ThinkingTexts;

static inline bool can_think(const ThinkingTexts *t) { return t && t->close.size; }

void thinking_texts_free(ThinkingTexts *t);

typedef enum {
    PHASE_START,    // nothing yet but perhaps white space: a thought or an answer
    PHASE_THOUGHT,  // after `open`
    PHASE_ANSWER,   // after `close`, or what began with neither text
} ThinkingPhase;

// Splits the bytes of tokens into thought and answer, as soon as it is clear which they are. White
// space at both ends of the thought, and before an answer that follows it, belongs to neither. If
// none of the texts is found, all bytes are the answer, unchanged. Set the first two fields and
// leave the rest zero.
typedef struct {
    const ThinkingTexts *texts;  // the caller's; NULL: all bytes are the answer
    ThinkingPhase phase;
    bool skips_space;        // white space that comes next belongs to neither thought nor answer
    bool found;              // the answer began after a text of the template
    Buffer held, hidden;     // undecided bytes; for each, 1 if it is from a special token
    Buffer thought, answer;  // decided bytes; the caller takes them and clears the buffers
} ThinkingFilter;

// Adds the bytes of a token; for a special token its name, which is `hidden`: it may match the
// template's texts, but never becomes part of the thought or the answer. The caller checks
// f->held, thought and answer.
void thinking_add(ThinkingFilter *f, const char *bytes, size_t size, bool hidden);

// Would these bytes complete the text that closes the thought? Then *after is how many of them
// follow it.
bool thinking_closes(const ThinkingFilter *f, const char *bytes, size_t size, size_t *after);

// Do these bytes, the first that are generated, begin a thought? Then *matched is how many bytes of
// the opening text, without white space around it, they have.
bool thinking_opens(const ThinkingTexts *t, const char *bytes, size_t size, size_t *matched);

// No more bytes come: decides what is held.
void thinking_end(ThinkingFilter *f);
void thinking_free(ThinkingFilter *f);

// A text without the ASCII white space at its ends.
typedef struct {
    const char *text;
    size_t size;
} Trimmed;

Trimmed trimmed(const char *text, size_t size);
size_t space_at_end(const char *text, size_t size);  // the bytes of white space at its end
bool is_ascii_space(char c);

#endif
