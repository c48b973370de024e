// editor.c - a line that a user types at a terminal. See editor.h.
//
//     bytes -> keys -> the line and its cursor -> rows -> bytes for the screen
//
// Raw mode and bracketed paste, which marks pasted text, are on only while a line is being edited.
// Whatever ends the program at any other time leaves the terminal as the shell set it. Each change
// redraws the line in one write, from its first row on:
//
//     > a line that is longer than        cursor_row rows up, to the first column,
//     the terminal is wide_               clear to the end of the screen, text, back to the cursor
//
// We end each row with a newline of our own, because terminals differ in how they wrap. If a line
// has more rows than the screen, the rows around the cursor are shown.
//
//     move      Left, Right, Ctrl-B, Ctrl-F       a character
//               Ctrl-Left, Ctrl-Right, Alt-B/F    a word
//               Home, End, Ctrl-A, Ctrl-E         to the start or the end
//     delete    Backspace, Delete, Ctrl-H/D       a character
//               Ctrl-W, Alt-Backspace, Alt-D      a word
//               Ctrl-U, Ctrl-K                    to the start or the end
//     other     Up, Down, Ctrl-P, Ctrl-N          history
//               Alt-Enter                         a newline within the line
//               Ctrl-L                            clear the screen
//               Ctrl-C, Ctrl-D, Ctrl-Z            see Key
#include "cli/editor.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/files.h"
#include "text/width.h"

#define MAX_HISTORY 1000

// A narrower screen is laid out as if it had MIN_COLUMNS, the width of the widest unit (a tab). The
// defaults are for a terminal that does not report its size.
#define MIN_COLUMNS     4
#define DEFAULT_COLUMNS 80
#define DEFAULT_ROWS    24

// How often a wait for input checks the flags of signals: one that arrives just before the wait, or
// in another thread, does not end it.
#define TICK_MILLISECONDS 250

#define PASTE_ON  "\033[?2004h"
#define PASTE_OFF "\033[?2004l"
#define PASTE_END "\033[201~"

enum { ESCAPE = 27, BACKSPACE = 127 };
#define CONTROL(letter) ((letter)&31)

// --------------------------------------------------------------------------------------------
// Characters

// The smallest thing that is shown: a character, or bytes that are not one.
typedef struct {
    size_t size, columns;
    char shown[4];  // instead of the bytes, unless empty; no NUL if full
} Unit;

// The first unit of a text of `size` > 0 bytes. Control characters are shown as ^X.
static Unit unit_at(const char *text, size_t size)
{
    int columns;
    Unit u = {.size = character_width(text, size, &columns)};
    u.columns = columns < 0 ? 1 : (size_t)columns;
    const unsigned char c = (unsigned char)*text;
    if (c == '\t') {
        u.columns = 4;
        memcpy(u.shown, "    ", 4);
    } else if (c < ' ' || c == BACKSPACE) {
        u.columns = 2;
        memcpy(u.shown, (char[]){'^', (char)(c ^ 64)}, 2);
    } else if (columns < 0) {
        memcpy(u.shown, UTF8_REPLACEMENT, 3);
    }
    return u;
}

// The boundary after `at`: past a character and the combining characters after it.
static size_t next_boundary(const Editor *e, size_t at)
{
    const char *text = e->line.data;
    if (at < e->line.size) {
        at += unit_at(text + at, e->line.size - at).size;
    }
    while (at < e->line.size && !unit_at(text + at, e->line.size - at).columns) {
        at += unit_at(text + at, e->line.size - at).size;
    }
    return at;
}

// The start of the unit that ends at `at` > 0: of the longest one that ends exactly there.
static size_t unit_before(const Editor *e, size_t at)
{
    for (size_t n = at < 4 ? at : 4; n > 1; n--) {
        if (unit_at(e->line.data + at - n, n).size == n) {
            return at - n;
        }
    }
    return at - 1;
}

// The boundary before `at`: the start of a character, before any that combine with it.
static size_t previous_boundary(const Editor *e, size_t at)
{
    while (at > 0) {
        at = unit_before(e, at);
        if (unit_at(e->line.data + at, e->line.size - at).columns) {
            break;
        }
    }
    return at;
}

// Words are separated by ASCII white space, whose bytes occur in no other character.
static bool blank_at(const Editor *e, size_t at) { return strchr(" \t\n", e->line.data[at]); }

static size_t next_word(const Editor *e, size_t at)
{
    while (at < e->line.size && blank_at(e, at)) {
        at++;
    }
    while (at < e->line.size && !blank_at(e, at)) {
        at++;
    }
    return at;
}

static size_t previous_word(const Editor *e, size_t at)
{
    while (at > 0 && blank_at(e, at - 1)) {
        at--;
    }
    while (at > 0 && !blank_at(e, at - 1)) {
        at--;
    }
    return at;
}

// --------------------------------------------------------------------------------------------
// The line

// Inserts bytes at the cursor, and moves it behind them.
static void insert(Editor *e, const char *bytes, size_t size)
{
    const size_t before = e->line.size;
    buffer_add(&e->line, bytes, size);
    if (e->line.size == before) {
        return;  // nothing to insert, or out of memory: the error sticks
    }
    char *at = e->line.data + e->cursor;
    memmove(at + size, at, before - e->cursor);
    memcpy(at, bytes, size);
    e->cursor += size;
}

// Deletes the bytes between two boundaries and puts the cursor there.
static void delete_between(Editor *e, size_t from, size_t to)
{
    if (from < to) {
        memmove(e->line.data + from, e->line.data + to, e->line.size - to);
        e->line.size -= to - from;
        e->line.data[e->line.size] = '\0';
    }
    e->cursor = from;
}

static void set_line(Editor *e, const char *text, size_t size)
{
    e->line.size = 0;  // buffer_clear would forget an error
    buffer_add(&e->line, text, size);
    e->cursor = e->line.size;
}

// --------------------------------------------------------------------------------------------
// History

// Adds the line to the history, unless it is empty or repeats the last one.
static void remember_line(Editor *e)
{
    const HistoryLine *last = e->n_lines ? &e->lines[e->n_lines - 1] : NULL;
    if (!e->line.size ||
        (last && last->size == e->line.size && memcmp(last->text, e->line.data, last->size) == 0)) {
        return;
    }
    e->lines = e->lines ? e->lines : calloc(MAX_HISTORY, sizeof *e->lines);
    char *text = e->lines ? malloc(e->line.size) : NULL;
    if (!text) {
        return;  // out of memory: the history does without it
    }
    memcpy(text, e->line.data, e->line.size);
    if (e->n_lines == MAX_HISTORY) {
        free(e->lines[0].text);
        memmove(e->lines, e->lines + 1, --e->n_lines * sizeof *e->lines);
    }
    e->lines[e->n_lines++] = (HistoryLine){text, e->line.size};
}

// Shows line `index` of the history, if there is one. n_lines is the line that is being typed.
static void recall_line(Editor *e, size_t index)
{
    if (index > e->n_lines || index == e->at) {
        return;
    }
    if (e->at == e->n_lines) {
        buffer_clear(&e->draft);
        buffer_add(&e->draft, e->line.data, e->line.size);
    }
    e->at = index;
    if (index == e->n_lines) {
        set_line(e, e->draft.data, e->draft.size);
    } else {
        set_line(e, e->lines[index].text, e->lines[index].size);
    }
}

// --------------------------------------------------------------------------------------------
// Keys

// Inserts the pasted text. Terminals send carriage returns for newlines.
static void end_paste(Editor *e)
{
    Buffer *p = &e->paste;
    size_t size = 0;
    for (size_t i = 0; i < p->size; i++) {
        if (p->data[i] == '\r' && i + 1 < p->size && p->data[i + 1] == '\n') {
            continue;
        }
        p->data[size++] = p->data[i] == '\r' ? '\n' : p->data[i];
    }
    insert(e, p->data, size);
    e->line.lacking = e->line.lacking ? e->line.lacking : p->lacking;
    buffer_free(p);
    e->state = KEYS_PLAIN;
}

static Key key_pasted(Editor *e, char byte)
{
    const size_t n = sizeof PASTE_END - 1;
    if (byte == CONTROL('C')) {  // a way out if the terminal never ends the paste
        buffer_free(&e->paste);
        e->state = KEYS_PLAIN;
        return KEY_CANCEL;
    }
    buffer_add(&e->paste, &byte, 1);
    if (byte == PASTE_END[n - 1] && e->paste.size >= n &&
        memcmp(e->paste.data + e->paste.size - n, PASTE_END, n) == 0) {
        e->paste.size -= n;
        end_paste(e);
    }
    return KEY_NONE;
}

// Handles a key by the last byte of its sequence: A to D are the arrows, H is Home, F is End.
static void move_by_arrow(Editor *e, char arrow, bool word)
{
    switch (arrow) {
    case 'A':
        recall_line(e, e->at ? e->at - 1 : 0);
        break;
    case 'B':
        recall_line(e, e->at + 1);
        break;
    case 'C':
        e->cursor = word ? next_word(e, e->cursor) : next_boundary(e, e->cursor);
        break;
    case 'D':
        e->cursor = word ? previous_word(e, e->cursor) : previous_boundary(e, e->cursor);
        break;
    case 'H':
        e->cursor = 0;
        break;
    case 'F':
        e->cursor = e->line.size;
        break;
    default:
        break;  // a key without a meaning here
    }
}

// Handles the last byte of ESC [ parameters byte. A second parameter stands for Ctrl, Alt or Shift.
static void end_sequence(Editor *e, char byte)
{
    e->parameters[e->n_parameters] = '\0';
    e->state = KEYS_PLAIN;
    if (byte != '~') {
        move_by_arrow(e, byte, strchr(e->parameters, ';'));
        return;
    }
    switch (strtol(e->parameters, NULL, 10)) {
    case 1:
    case 7:
        e->cursor = 0;
        break;
    case 4:
    case 8:
        e->cursor = e->line.size;
        break;
    case 3:
        delete_between(e, e->cursor, next_boundary(e, e->cursor));
        break;
    case 200:
        e->state = KEYS_PASTE;
        break;
    default:
        break;
    }
}

static Key key_control(Editor *e, char byte)
{
    const size_t at = e->cursor;
    switch (byte) {
    case '\r':
    case '\n':
        return KEY_ENTER;
    case CONTROL('C'):
        return KEY_CANCEL;
    case CONTROL('L'):
        return KEY_CLEAR;
    case CONTROL('Z'):
        return KEY_SUSPEND;
    case CONTROL('D'):
        if (!e->line.size) {
            return KEY_END;
        }
        delete_between(e, at, next_boundary(e, at));
        break;
    case CONTROL('H'):
    case BACKSPACE:
        delete_between(e, previous_boundary(e, at), at);
        break;
    case CONTROL('K'):
        delete_between(e, at, e->line.size);
        break;
    case CONTROL('U'):
        delete_between(e, 0, at);
        break;
    case CONTROL('W'):
        delete_between(e, previous_word(e, at), at);
        break;
    case '\t':
        insert(e, "\t", 1);
        break;
    case ESCAPE:
        e->state = KEYS_ESCAPE;
        break;
    default: {
        // Control keys that do the same as the arrows, Home and End.
        static const char keys[] = {CONTROL('P'), CONTROL('N'), CONTROL('F'),
                                    CONTROL('B'), CONTROL('A'), CONTROL('E')};
        const char *key = memchr(keys, byte, sizeof keys);
        move_by_arrow(e, key ? "ABCDHF"[key - keys] : '\0', false);
    }
    }
    return KEY_NONE;
}

static Key key_plain(Editor *e, char byte)
{
    if ((unsigned char)byte < ' ' || byte == BACKSPACE) {
        return key_control(e, byte);
    }
    insert(e, &byte, 1);
    return KEY_NONE;
}

// A byte after ESC: the start of a sequence, or a key with Alt.
static Key key_escaped(Editor *e, char byte)
{
    const size_t at = e->cursor;
    e->state = KEYS_PLAIN;
    switch (byte) {
    case '[':
        e->state = KEYS_CSI;
        e->n_parameters = 0;
        break;
    case 'O':
        e->state = KEYS_SS3;
        break;
    case 'b':
    case 'f':
        move_by_arrow(e, byte == 'b' ? 'D' : 'C', true);
        break;
    case 'd':
        delete_between(e, at, next_word(e, at));
        break;
    case CONTROL('H'):
    case BACKSPACE:
        delete_between(e, previous_word(e, at), at);
        break;
    case '\r':
    case '\n':
        insert(e, "\n", 1);
        break;
    default:
        return key_plain(e, byte);
    }
    return KEY_NONE;
}

Key editor_key(Editor *e, char byte)
{
    if (e->state == KEYS_PASTE) {
        return key_pasted(e, byte);
    }
    if (e->state == KEYS_ESCAPE) {
        return key_escaped(e, byte);
    }
    const bool in_sequence = byte >= ' ' && byte < BACKSPACE;
    if (e->state == KEYS_PLAIN || !in_sequence) {
        e->state = KEYS_PLAIN;  // any other byte ends an incomplete sequence
        return key_plain(e, byte);
    }
    if (e->state == KEYS_SS3) {
        e->state = KEYS_PLAIN;
        move_by_arrow(e, byte, false);
    } else if (byte < '@' || (byte == '[' && !e->n_parameters)) {
        // The Linux console sends ESC [ [ A for a function key: that '[' counts as a parameter.
        e->parameters[e->n_parameters] = byte;
        e->n_parameters += e->n_parameters < MAX_KEY_PARAMETERS;
    } else if (e->parameters[0] == '[' && e->n_parameters) {
        e->state = KEYS_PLAIN;
    } else {
        end_sequence(e, byte);
    }
    return KEY_NONE;
}

// --------------------------------------------------------------------------------------------
// Drawing

// Lays out text in rows, and adds rows top .. bottom - 1 to `out`.
typedef struct {
    Buffer *out;
    size_t columns, top, bottom;
    size_t row, column;  // where the next unit goes, unless it needs a new row
} Pen;

static void new_row(Pen *p)
{
    p->row++;
    p->column = 0;
    if (p->row > p->top && p->row < p->bottom) {
        buffer_add_text(p->out, "\r\n");
    }
}

static void put_unit(Pen *p, const char *text, const Unit *u)
{
    if (*text == '\n') {
        new_row(p);
        return;
    }
    if (p->column + u->columns > p->columns) {
        new_row(p);
    }
    if (p->row >= p->top && p->row < p->bottom) {
        buffer_add(p->out, *u->shown ? u->shown : text,
                   *u->shown ? strnlen(u->shown, sizeof u->shown) : u->size);
    }
    p->column += u->columns;
}

typedef struct {
    size_t row, column;
} Place;

// Lays out the prompt and the line. Returns the place of the cursor.
static Place put_line(const Editor *e, const char *prompt, Pen *p)
{
    Place cursor = {0, 0};
    for (; *prompt; prompt++) {
        put_unit(p, prompt, &(Unit){.size = 1, .columns = 1});
    }
    for (size_t at = 0; at < e->line.size;) {
        const char *text = e->line.data + at;
        const Unit u = unit_at(text, e->line.size - at);
        if (at == e->cursor) {
            const bool wraps = *text != '\n' && p->column + u.columns > p->columns;
            cursor = wraps ? (Place){p->row + 1, 0} : (Place){p->row, p->column};
        }
        put_unit(p, text, &u);
        at += u.size;
    }
    if (p->column == p->columns) {
        new_row(p);  // where the next character goes
    }
    return e->cursor < e->line.size ? cursor : (Place){p->row, p->column};
}

// Sets e->top so that the cursor's row is visible, and no rows stay blank while others are hidden.
static void scroll_to(Editor *e, size_t cursor_row, size_t n_rows, size_t rows)
{
    if (e->top + rows > n_rows) {
        e->top = n_rows > rows ? n_rows - rows : 0;
    }
    if (cursor_row < e->top) {
        e->top = cursor_row;
    } else if (cursor_row >= e->top + rows) {
        e->top = cursor_row - rows + 1;
    }
}

void editor_draw(Editor *e, const char *prompt, size_t rows, size_t columns, Buffer *out)
{
    columns = columns < MIN_COLUMNS ? MIN_COLUMNS : columns;
    // With bottom = 0 this only measures.
    Pen measure = {.out = out, .columns = columns};
    const Place cursor = put_line(e, prompt, &measure);
    if (e->cursor_row) {
        buffer_addf(out, "\033[%zuA", e->cursor_row);
    }
    buffer_add_text(out, "\r\033[J");
    scroll_to(e, cursor.row, measure.row + 1, rows ? rows : 1);
    Pen pen = {.out = out, .columns = columns, .top = e->top, .bottom = e->top + (rows ? rows : 1)};
    put_line(e, prompt, &pen);
    const size_t last = pen.row < pen.bottom ? pen.row : pen.bottom - 1;
    if (last > cursor.row) {
        buffer_addf(out, "\033[%zuA", last - cursor.row);
    }
    buffer_add_text(out, "\r");
    if (cursor.column) {
        buffer_addf(out, "\033[%zuC", cursor.column < columns ? cursor.column : columns - 1);
    }
    e->cursor_row = cursor.row - e->top;
}

// --------------------------------------------------------------------------------------------
// The terminal

static const int terminal_signals[] = {SIGTSTP, SIGHUP, SIGQUIT, SIGCONT, SIGWINCH};
#define N_TERMINAL_SIGNALS (sizeof terminal_signals / sizeof *terminal_signals)
_Static_assert(N_TERMINAL_SIGNALS == sizeof((Editor *)0)->actions / sizeof(struct sigaction),
               "an action to restore for each signal");

// The pending one of these signals, or 0. One that stops or ends the program is not replaced by one
// that does not.
static volatile sig_atomic_t terminal_signal;

// Does a signal stop or end the program? Before that the terminal's settings must be restored.
static bool takes_terminal(int number)
{
    return number == SIGTSTP || number == SIGHUP || number == SIGQUIT;
}

static void on_terminal_signal(int number)
{
    if (takes_terminal(number) || !takes_terminal((int)terminal_signal)) {
        terminal_signal = number;
    }
}

static void show(const Editor *e, const char *bytes, size_t size)
{
    Error ignored = {0};  // if the terminal is gone, the next read says so
    (void)write_all(e->screen, "the terminal", bytes, size, &ignored);
}

static void show_text(const Editor *e, const char *text) { show(e, text, strlen(text)); }

// Switches to raw mode and catches the signals. False if lines cannot be edited on this terminal.
static bool enter_raw(Editor *e)
{
    if (!e->edits || tcgetattr(e->in, &e->before) != 0) {
        return false;
    }
    struct termios raw = e->before;
    raw.c_iflag &= ~(tcflag_t)(BRKINT | ICRNL | INLCR | IGNCR | INPCK | ISTRIP | IXON);
    raw.c_oflag &= ~(tcflag_t)OPOST;
    raw.c_lflag &= ~(tcflag_t)(ECHO | ICANON | IEXTEN | ISIG);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    if (tcsetattr(e->in, TCSADRAIN, &raw) != 0) {
        return false;
    }
    struct sigaction action = {.sa_handler = on_terminal_signal};  // without SA_RESTART
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < N_TERMINAL_SIGNALS; i++) {
        sigaction(terminal_signals[i], NULL, &e->actions[i]);
        if (e->actions[i].sa_handler != SIG_IGN) {  // ignored signals stay so, as under nohup
            sigaction(terminal_signals[i], &action, NULL);
        }
    }
    show_text(e, PASTE_ON);
    return true;
}

static void leave_raw(Editor *e)
{
    show_text(e, PASTE_OFF);
    for (size_t i = 0; i < N_TERMINAL_SIGNALS; i++) {
        sigaction(terminal_signals[i], &e->actions[i], NULL);
    }
    tcsetattr(e->in, TCSADRAIN, &e->before);
}

typedef enum { INPUT_BYTE, INPUT_END, INPUT_SIGNAL } Input;

static bool read_ahead(const Editor *e) { return e->typed_at < e->typed.size; }

// Waits for the next byte of input. A signal ends the wait.
static Input next_byte(Editor *e, char *byte)
{
    while (!read_ahead(e)) {
        if (*e->interrupted || terminal_signal) {
            return INPUT_SIGNAL;
        }
        struct pollfd fd = {.fd = e->in, .events = POLLIN};
        char bytes[4096];
        const int ready = poll(&fd, 1, TICK_MILLISECONDS);
        const ssize_t n = ready > 0 ? read(e->in, bytes, sizeof bytes) : -1;
        if (n == 0 || (n < 0 && ready > 0 && errno != EINTR && errno != EAGAIN)) {
            return INPUT_END;
        }
        if (n > 0) {
            buffer_clear(&e->typed);
            buffer_add(&e->typed, bytes, (size_t)n);
            e->typed_at = 0;
        }
    }
    *byte = e->typed.data[e->typed_at++];
    return INPUT_BYTE;
}

static void draw_line(Editor *e, const char *prompt)
{
    struct winsize size = {0};
    Buffer out = {0};
    ioctl(e->screen, TIOCGWINSZ, &size);
    editor_draw(e, prompt, size.ws_row ? size.ws_row : DEFAULT_ROWS,
                size.ws_col ? size.ws_col : DEFAULT_COLUMNS, &out);
    show(e, out.data, out.size);
    buffer_free(&out);
}

// Leaves the line on the screen, followed by `mark`, and goes to the next row.
static void leave_line(Editor *e, const char *prompt, const char *mark)
{
    const size_t cursor = e->cursor;
    e->cursor = e->line.size;
    draw_line(e, prompt);
    e->cursor = cursor;
    e->cursor_row = 0;
    show_text(e, mark);
    show_text(e, "\r\n");
}

// Restores the terminal's settings and raises a signal again, now with its old action. After a
// stop, editing continues. False if it cannot.
static bool yield_terminal(Editor *e, const char *prompt, int number)
{
    leave_line(e, prompt, number == SIGTSTP ? "^Z" : "");
    leave_raw(e);
    raise(number);
    return enter_raw(e);
}

// Handles a signal that came instead of a byte. False: the line ends.
static bool handle_signal(Editor *e, const char *prompt)
{
    const int number = (int)terminal_signal;
    terminal_signal = 0;
    if (*e->interrupted) {
        return false;
    }
    if (takes_terminal(number)) {
        return yield_terminal(e, prompt, number);
    }
    if (number == SIGCONT) {  // another program may have changed the settings meanwhile
        leave_raw(e);
        e->cursor_row = 0;
        return enter_raw(e);
    }
    return true;
}

// Handles what a key requests beyond a change of the line. False: the line ends.
static bool handle_key(Editor *e, Key key, const char *prompt)
{
    if (key == KEY_SUSPEND) {
        return yield_terminal(e, prompt, SIGTSTP);
    }
    if (key == KEY_CLEAR) {
        show_text(e, "\033[H\033[2J");
        e->cursor_row = 0;
    }
    return key == KEY_NONE || key == KEY_CLEAR;
}

static EditResult edit_result(Input input, Key key)
{
    return input == INPUT_SIGNAL ? EDIT_INTERRUPTED
           : key == KEY_ENTER    ? EDIT_LINE
           : key == KEY_CANCEL   ? EDIT_CANCEL
                                 : EDIT_END;
}

// Edits a line in raw mode. Draws it only when all bytes that were read have been handled.
static EditResult edit_line(Editor *e, const char *prompt)
{
    Input input;
    Key key;
    char byte;
    bool more;
    do {
        if (!read_ahead(e) && e->state != KEYS_PASTE) {
            draw_line(e, prompt);
        }
        key = KEY_NONE;
        input = next_byte(e, &byte);
        if (input == INPUT_BYTE) {
            key = editor_key(e, byte);
            more = handle_key(e, key, prompt);
        } else {
            more = input == INPUT_SIGNAL && handle_signal(e, prompt);
        }
    } while (more);
    leave_line(e, prompt, key == KEY_CANCEL ? "^C" : "");
    return edit_result(input, key);
}

// Reads a line as the terminal's line discipline delivers it, without editing.
static EditResult read_plain_line(Editor *e, const char *prompt)
{
    show_text(e, prompt);
    for (;;) {
        char byte;
        const Input input = next_byte(e, &byte);
        if (input == INPUT_BYTE && byte != '\n') {
            buffer_add(&e->line, &byte, 1);
            continue;
        }
        if (input != INPUT_BYTE) {
            show_text(e, "\n");
        }
        return input == INPUT_SIGNAL                     ? EDIT_INTERRUPTED
               : input == INPUT_BYTE || e->line.size > 0 ? EDIT_LINE
                                                         : EDIT_END;
    }
}

// --------------------------------------------------------------------------------------------

void editor_open(Editor *e, int in, int screen, bool edits,
                 const volatile sig_atomic_t *interrupted)
{
    *e = (Editor){.in = in, .screen = screen, .edits = edits, .interrupted = interrupted};
}

void editor_close(Editor *e)
{
    for (size_t i = 0; i < e->n_lines; i++) {
        free(e->lines[i].text);
    }
    free(e->lines);
    buffer_free(&e->typed);
    buffer_free(&e->line);
    buffer_free(&e->paste);
    buffer_free(&e->draft);
    *e = (Editor){0};
}

EditResult editor_read(Editor *e, const char *prompt, Error *err)
{
    EditResult result;
    buffer_clear(&e->line);
    e->cursor = e->top = e->cursor_row = 0;
    e->at = e->n_lines;
    e->state = KEYS_PLAIN;
    terminal_signal = 0;
    if (enter_raw(e)) {
        result = edit_line(e, prompt);
        leave_raw(e);
    } else {
        result = read_plain_line(e, prompt);
    }
    if (!buffer_check(&e->line, err) || !buffer_check(&e->typed, err)) {
        return EDIT_FAILED;
    }
    if (result == EDIT_LINE) {
        remember_line(e);
    }
    return result;
}
