// substrings.c - the suffix automaton of a text. See substrings.h.
//
// A state is a set of substrings that end at the same places of the text; an edge adds a byte to all
// of them. From the root, the empty string, each substring is a path, and nothing else is. There are
// at most twice as many states as bytes, and three times as many edges, for any text.
//
// The text is read byte by byte. The strings that end at the new byte are those that ended at the
// one before, longest first (along the links, which lead to the state of the longest suffix that
// ends in more places): they get an edge, until one is found that has it already. If the state
// there also has longer strings, which do not end here, it is divided.
//
// Source: Blumer et al., The smallest automaton recognizing the subwords of a text, 1985.
#include "text/substrings.h"

#include <stdlib.h>

enum { NO_STATE, ROOT };  // element 0 of states and edges means none

typedef struct {
    uint32_t length;  // of its longest string
    uint32_t link;
    uint32_t edges;  // the first one
} SubstringState;

typedef struct {
    uint32_t to, next;  // next: another edge of the same state
    uint8_t byte;
} SubstringEdge;

struct Substrings {
    SubstringState *states;  // owned
    SubstringEdge *edges;    // owned
    uint32_t n_states, n_edges;
};

// The edge of a state for a byte, or 0.
static uint32_t find_edge(const Substrings *s, uint32_t state, uint8_t byte)
{
    uint32_t edge = s->states[state].edges;
    while (edge && s->edges[edge].byte != byte) {
        edge = s->edges[edge].next;
    }
    return edge;
}

static void add_edge(Substrings *s, uint32_t from, uint8_t byte, uint32_t to)
{
    s->edges[s->n_edges] = (SubstringEdge){to, s->states[from].edges, byte};
    s->states[from].edges = s->n_edges++;
}

// Moves the strings up to `length` bytes of a state, which end in more places than its others, to a
// new state.
static uint32_t divide(Substrings *s, uint32_t state, uint32_t length)
{
    const uint32_t shorter = s->n_states++;
    s->states[shorter] = (SubstringState){.length = length, .link = s->states[state].link};
    for (uint32_t e = s->states[state].edges; e; e = s->edges[e].next) {
        add_edge(s, shorter, s->edges[e].byte, s->edges[e].to);
    }
    s->states[state].link = shorter;
    return shorter;
}

// Reads the next byte; `last` is the state of the text so far. Returns that of the longer text.
static uint32_t extend(Substrings *s, uint32_t last, uint8_t byte)
{
    const uint32_t all = s->n_states++;
    uint32_t at = last, edge = 0;
    s->states[all] = (SubstringState){.length = s->states[last].length + 1, .link = ROOT};
    while (at && !(edge = find_edge(s, at, byte))) {
        add_edge(s, at, byte, all);
        at = s->states[at].link;
    }
    if (!at) {
        return all;
    }
    const uint32_t to = s->edges[edge].to, length = s->states[at].length + 1;
    if (s->states[to].length == length) {
        s->states[all].link = to;
        return all;
    }
    const uint32_t shorter = divide(s, to, length);
    s->states[all].link = shorter;
    while (at && (edge = find_edge(s, at, byte)) && s->edges[edge].to == to) {
        s->edges[edge].to = shorter;
        at = s->states[at].link;
    }
    return all;
}

bool substrings_create(Substrings **out, const char *text, size_t size, Error *err)
{
    const size_t n_states = 2 * size + 2, n_edges = 3 * size + 2;
    Substrings *s = calloc(1, sizeof *s);
    *out = s;
    if (s) {
        *s = (Substrings){.n_states = ROOT + 1, .n_edges = 1};
        s->states = size > 1u << 30 ? NULL : calloc(n_states, sizeof *s->states);
        s->edges = size > 1u << 30 ? NULL : calloc(n_edges, sizeof *s->edges);
    }
    if (!s || !s->states || !s->edges) {
        substrings_free(s);
        *out = NULL;
        return error_memory(err, "the substrings of a text", n_states * sizeof *s->states);
    }
    uint32_t last = ROOT;
    for (size_t i = 0; i < size; i++) {
        last = extend(s, last, (uint8_t)text[i]);
    }
    return true;
}

void substrings_free(Substrings *s)
{
    if (s) {
        free(s->states);
        free(s->edges);
        free(s);
    }
}

bool substrings_has(const Substrings *s, const char *bytes, size_t size)
{
    uint32_t state = ROOT;
    for (size_t i = 0; i < size && state; i++) {
        const uint32_t edge = find_edge(s, state, (uint8_t)bytes[i]);
        state = edge ? s->edges[edge].to : NO_STATE;
    }
    return state != NO_STATE;
}
