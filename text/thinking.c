// thinking.c - separates thoughts from answers. See thinking.h.
//
// The texts around a thought are compared without the white space at their ends, which models do
// not always repeat. Bytes are held while they may be the start of a text, or are white space that
// may end a thought:
//
//     "2 and 2 is 4.  \n</th"      held: "  \n</th", until "ink>" or something else follows
#include "text/thinking.h"

#include <string.h>

bool is_ascii_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

size_t space_at_end(const char *text, size_t size)
{
    size_t n = 0;
    while (n < size && is_ascii_space(text[size - n - 1])) {
        n++;
    }
    return n;
}

Trimmed trimmed(const char *text, size_t size)
{
    while (size && is_ascii_space(text[0])) {
        text++;
        size--;
    }
    return (Trimmed){text, size - space_at_end(text, size)};
}

void thinking_texts_free(ThinkingTexts *t)
{
    buffer_free(&t->open);
    buffer_free(&t->close);
    buffer_free(&t->answer);
    *t = (ThinkingTexts){0};
}

// Removes the first n held bytes; those that are not hidden are added to *to unless it is NULL.
static void release(ThinkingFilter *f, size_t n, Buffer *to)
{
    if (!n) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const char byte = f->held.data[i];
        const bool skipped = f->skips_space && is_ascii_space(byte);
        if (!to || f->hidden.data[i] || skipped) {
            continue;
        }
        f->skips_space = false;
        buffer_add(to, &byte, 1);
    }
    f->held.size -= n;
    f->hidden.size -= n;
    memmove(f->held.data, f->held.data + n, f->held.size);
    memmove(f->hidden.data, f->hidden.data + n, f->hidden.size);
}

typedef enum { DIFFERS, BEGINS, IS_THERE } Comparison;

// Do the held bytes from `at` on begin with `text`, or with a part of it that may be completed?
static Comparison compare_held(const ThinkingFilter *f, size_t at, Trimmed text)
{
    const size_t left = f->held.size - at, n = left < text.size ? left : text.size;
    if (!text.size || memcmp(f->held.data + at, text.text, n) != 0) {
        return DIFFERS;
    }
    return n == text.size ? IS_THERE : BEGINS;
}

static void begin_phase(ThinkingFilter *f, ThinkingPhase phase, size_t n, const Buffer *text)
{
    release(f, n, NULL);
    f->phase = phase;
    f->found = f->found || n;
    f->skips_space = phase == PHASE_THOUGHT ||
                     (text->size && is_ascii_space(text->data[text->size - 1])) ||
                     text == &f->texts->close;
}

// Decides whether the output begins with a thought or the answer. False: more bytes are needed.
static bool decide_start(ThinkingFilter *f)
{
    const Buffer *texts[] = {&f->texts->open, &f->texts->answer};
    const ThinkingPhase phases[] = {PHASE_THOUGHT, PHASE_ANSWER};
    size_t at = 0;
    while (at < f->held.size && is_ascii_space(f->held.data[at])) {
        at++;
    }
    bool wait = at == f->held.size;
    for (size_t i = 0; i < 2; i++) {
        const Trimmed text = trimmed(texts[i]->data, texts[i]->size);
        const Comparison c = compare_held(f, at, text);
        if (c == IS_THERE) {
            begin_phase(f, phases[i], at + text.size, texts[i]);
            return true;
        }
        wait = wait || c == BEGINS;
    }
    if (!wait) {
        f->phase = PHASE_ANSWER;
    }
    return !wait;
}

// Releases the bytes that are known to belong to the thought. False: more bytes are needed.
static bool continue_thought(ThinkingFilter *f)
{
    const Trimmed close = trimmed(f->texts->close.data, f->texts->close.size);
    size_t at = 0;
    Comparison c = DIFFERS;
    while (at < f->held.size && (c = compare_held(f, at, close)) == DIFFERS) {
        at++;
    }
    const size_t end = at - space_at_end(f->held.data, at);
    release(f, end, &f->thought);
    if (c == IS_THERE) {
        begin_phase(f, PHASE_ANSWER, at - end + close.size, &f->texts->close);
    }
    return c == IS_THERE;
}

void thinking_add(ThinkingFilter *f, const char *bytes, size_t size, bool hidden)
{
    const char mark = hidden;
    buffer_add(&f->held, bytes, size);
    for (size_t i = 0; i < size; i++) {
        buffer_add(&f->hidden, &mark, 1);
    }
    if (!f->held.size || f->hidden.size != f->held.size) {
        return;  // nothing, or out of memory
    }
    bool decided = true;
    while (decided && f->texts && f->phase != PHASE_ANSWER) {
        decided = f->phase == PHASE_START ? decide_start(f) : continue_thought(f);
    }
    if (decided) {
        release(f, f->held.size, &f->answer);
    }
}

// Byte i of the held bytes followed by others.
static char byte_at(const ThinkingFilter *f, const char *bytes, size_t i)
{
    return i < f->held.size ? f->held.data[i] : bytes[i - f->held.size];
}

bool thinking_closes(const ThinkingFilter *f, const char *bytes, size_t size, size_t *after)
{
    const Trimmed close = trimmed(f->texts->close.data, f->texts->close.size);
    for (size_t n = 1; close.size && n <= size; n++) {
        const size_t end = f->held.size + n;
        size_t same = 0;
        while (end >= close.size && same < close.size &&
               byte_at(f, bytes, end - close.size + same) == close.text[same]) {
            same++;
        }
        if (same == close.size) {
            *after = size - n;
            return true;
        }
    }
    return false;
}

bool thinking_opens(const ThinkingTexts *t, const char *bytes, size_t size, size_t *matched)
{
    const Trimmed open = trimmed(t->open.data, t->open.size);
    while (size && is_ascii_space(*bytes)) {
        bytes++;
        size--;
    }
    *matched = size < open.size ? size : open.size;
    return *matched && memcmp(open.text, bytes, *matched) == 0;
}

void thinking_end(ThinkingFilter *f)
{
    const size_t n = f->held.size;
    if (f->phase == PHASE_THOUGHT) {
        release(f, n - space_at_end(f->held.data, n), &f->thought);
    } else if (n) {
        release(f, n, &f->answer);
    }
}

void thinking_free(ThinkingFilter *f)
{
    buffer_free(&f->held);
    buffer_free(&f->hidden);
    buffer_free(&f->thought);
    buffer_free(&f->answer);
    *f = (ThinkingFilter){0};
}
