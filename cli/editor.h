// editor.h - a line that a user types at a terminal: editing, history, pasted text.
//
// On a terminal that knows ANSI's escape sequences the line can be edited (editor.c lists the keys)
// and takes as many rows as it needs. Text that is pasted is part of the line, newlines included.
// Elsewhere, lines come as the terminal's own line discipline delivers them.
#ifndef EDITOR_H
#define EDITOR_H

#include <signal.h>
#include <termios.h>

#include "base/buffer.h"
#include "base/error.h"

// What a byte that was typed asks of the editor's caller, beyond a change of the line.
typedef enum {
    KEY_NONE,
    KEY_ENTER,
    KEY_CANCEL,   // Ctrl-C
    KEY_END,      // Ctrl-D on an empty line
    KEY_SUSPEND,  // Ctrl-Z
    KEY_CLEAR,    // Ctrl-L: the screen
} Key;

// Where the reader of keys is in an escape sequence, which may be cut anywhere between two reads.
typedef enum { KEYS_PLAIN, KEYS_ESCAPE, KEYS_SS3, KEYS_CSI, KEYS_PASTE } KeyState;

#define MAX_KEY_PARAMETERS 16

typedef struct {
    char *text;  // (size), owned
    size_t size;
} HistoryLine;

// Start from editor_open. Arrays and buffers are the editor's own.
typedef struct {
    // The terminal.
    int in, screen;                            // descriptors: what is typed, where it is drawn
    bool edits;                                // the terminal can do it
    const volatile sig_atomic_t *interrupted;  // nonzero: stop waiting for input
    struct termios before;                     // settings to be restored
    struct sigaction actions[5];               // .. and actions of the signals that we handle
    Buffer typed;                              // bytes that were read ahead,
    size_t typed_at;                           // .. from here on
    // The line. The cursor is an offset, always between two characters.
    Buffer line;
    size_t cursor;
    // The reader of keys.
    KeyState state;
    char parameters[MAX_KEY_PARAMETERS + 1];  // of a CSI sequence: digits and semicolons
    size_t n_parameters;
    Buffer paste;  // what was pasted, until its end
    // History: lines[n] stands for the line that is being typed, which is kept in `draft`
    // meanwhile.
    HistoryLine *lines;  // (n_lines)
    size_t n_lines, at;
    Buffer draft;
    // What is on the screen: the rows from `top` on of those that the line takes.
    size_t top, cursor_row;  // cursor_row counts from `top`
} Editor;

typedef enum {
    EDIT_LINE,         // a line was entered
    EDIT_CANCEL,       // Ctrl-C
    EDIT_END,          // Ctrl-D, or nobody types any more
    EDIT_INTERRUPTED,  // *interrupted is set
    EDIT_FAILED,       // see the Error
} EditResult;

// Lines are read from `in` and drawn on `screen`; without `edits` only prompts are.
void editor_open(Editor *e, int in, int screen, bool edits,
                 const volatile sig_atomic_t *interrupted);
void editor_close(Editor *e);

// Reads a line into e->line, without its end. After EDIT_CANCEL it holds what was typed until then.
// Whatever the result, the terminal has its own settings again. Error: ERROR_RUN if out of memory.
EditResult editor_read(Editor *e, const char *prompt, Error *err);

// The parts of editor_read that need no terminal. editor_key takes a byte that was typed;
// editor_draw adds the bytes that show prompt and line on a screen of `rows` and `columns`, where
// they were shown before.
Key editor_key(Editor *e, char byte);
void editor_draw(Editor *e, const char *prompt, size_t rows, size_t columns, Buffer *out);

#endif
