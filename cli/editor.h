// editor.h - a line that a user types at a terminal: editing, history, pasted text.
//
// On a terminal that understands ANSI escape sequences, the line can be edited (editor.c lists the
// keys) and takes as many rows as it needs. Pasted text is part of the line, newlines included. On
// other terminals, lines are read as the line discipline delivers them.
#ifndef EDITOR_H
#define EDITOR_H

#include <signal.h>
#include <termios.h>

#include "base/buffer.h"
#include "base/error.h"

// What a typed byte requests of the editor's caller, beyond a change of the line.
typedef enum {
    KEY_NONE,
    KEY_ENTER,
    KEY_CANCEL,   // Ctrl-C
    KEY_END,      // Ctrl-D on an empty line
    KEY_SUSPEND,  // Ctrl-Z
    KEY_CLEAR,    // Ctrl-L: clear the screen
} Key;

// The state of the key decoder. An escape sequence may be split anywhere between two reads.
typedef enum { KEYS_PLAIN, KEYS_ESCAPE, KEYS_SS3, KEYS_CSI, KEYS_PASTE } KeyState;

#define MAX_KEY_PARAMETERS 16

typedef struct {
    char *text;  // (size), owned; no NUL at its end
    size_t size;
} HistoryLine;

// Start with editor_open. The editor owns all arrays and buffers.
typedef struct {
    // The terminal.
    int in, screen;                            // descriptors: where to read, where to draw
    bool edits;                                // the terminal understands escape sequences
    const volatile sig_atomic_t *interrupted;  // nonzero: stop waiting for input
    struct termios before;                     // settings to restore
    struct sigaction actions[5];               // .. and the actions of the signals that we catch
    Buffer typed;                              // input that was read, to be handled
    size_t typed_at;                           // .. from here on
    // The line. The cursor is an offset in bytes, never within a character.
    Buffer line;
    size_t cursor;
    // The key decoder.
    KeyState state;
    char parameters[MAX_KEY_PARAMETERS + 1];  // of a CSI sequence, as bytes
    size_t n_parameters;
    Buffer paste;  // pasted text, until its end arrives
    // The history. `at` is the index of the line that is shown; n_lines stands for the line that is
    // being typed, which is kept in `draft` while another is shown.
    HistoryLine *lines;  // (n_lines)
    size_t n_lines, at;
    Buffer draft;
    // What is on the screen: the rows of the line from `top` on.
    size_t top, cursor_row;  // cursor_row counts from `top`
} Editor;

typedef enum {
    EDIT_LINE,         // a line was entered
    EDIT_CANCEL,       // Ctrl-C
    EDIT_END,          // Ctrl-D on an empty line, or the input has ended
    EDIT_INTERRUPTED,  // *interrupted is set
    EDIT_FAILED,       // see the Error
} EditResult;

// Prepares an editor that reads lines from `in` and draws them on `screen`. Without `edits` it
// draws only prompts.
void editor_open(Editor *e, int in, int screen, bool edits,
                 const volatile sig_atomic_t *interrupted);
void editor_close(Editor *e);

// Reads a line into e->line, without its newline. After EDIT_CANCEL that holds what had been typed.
// Whatever the result, the terminal's settings are restored. Error (EDIT_FAILED): ERROR_RUN if out
// of memory.
EditResult editor_read(Editor *e, const char *prompt, Error *err);

// The parts of editor_read that need no terminal. editor_key handles a typed byte. editor_draw adds
// to `out` the bytes that draw the prompt and the line on a screen of `rows` by `columns`, over
// what the last call drew.
Key editor_key(Editor *e, char byte);
void editor_draw(Editor *e, const char *prompt, size_t rows, size_t columns, Buffer *out);

#endif
