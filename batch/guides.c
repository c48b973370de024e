// guides.c - the constraints of a batch. See guides.h.
#include "batch/guides.h"

#include <string.h>

static void empty_place(KeptGuide *k)
{
    guide_close(k->guide);
    buffer_free(&k->text);
    *k = (KeptGuide){.kind = CONSTRAINT_NONE};
}

void guides_free(Guides *g)
{
    for (size_t i = 0; i < GUIDES_KEPT; i++) {
        empty_place(&g->kept[i]);
    }
    token_trie_free(&g->trie);
}

// What a place takes: a text that cannot be enforced takes memory too.
static size_t place_bytes(const KeptGuide *k)
{
    return k->text.capacity + (k->guide ? guide_bytes(k->guide) : 0);
}

// The least recently used constraint among those that no request uses; NULL: all are in use. *bytes is
// the size of all constraints.
static KeptGuide *find_idle(Guides *g, size_t *bytes)
{
    KeptGuide *idle = NULL;
    *bytes = 0;
    for (size_t i = 0; i < GUIDES_KEPT; i++) {
        KeptGuide *k = &g->kept[i];
        const bool is_idle = k->kind && !(k->guide && guide_is_shared(k->guide));
        *bytes += place_bytes(k);
        idle = is_idle && (!idle || k->asked < idle->asked) ? k : idle;
    }
    return idle;
}

// Constraints grow while requests use them, so all are measured again.
static void limit_bytes(Guides *g)
{
    size_t bytes;
    for (KeptGuide *k; (k = find_idle(g, &bytes)) && bytes > g->max_bytes;) {
        empty_place(k);
    }
}

// The place of a constraint, or the one that it shall take.
static KeptGuide *find_place(Guides *g, ConstraintKind kind, const Buffer *text)
{
    KeptGuide *oldest = g->kept;
    for (size_t i = 0; i < GUIDES_KEPT; i++) {
        KeptGuide *k = &g->kept[i];
        if (k->kind == kind && k->text.size == text->size &&
            memcmp(k->text.data, text->data, text->size) == 0) {
            return k;
        }
        oldest = k->asked < oldest->asked ? k : oldest;
    }
    empty_place(oldest);
    return oldest;
}

// Compiles a constraint, whose text the place takes over. Why it fails is kept too.
static void fill_place(Guides *g, KeptGuide *k, ConstraintKind kind, Buffer *text)
{
    const ConstraintText source = {text->data, text->size};
    *k = (KeptGuide){.kind = kind, .text = *text};
    *text = (Buffer){0};
    if (g->trie.n_words || tokenizer_trie(g->tokenizer, &g->trie, &k->failure)) {
        guide_open(&k->guide, kind, source, &g->trie, &k->failure);
    }
}

// Schemas that differ in white space only have the same text.
static void write_text(const ConstraintSpec *spec, Buffer *out)
{
    JsonWriter w = {.out = out};
    if (spec->schema) {
        json_put_value(&w, NULL, spec->schema);
    } else {
        buffer_add_text(out, spec->text);
    }
}

bool guides_find(Guides *g, const ConstraintSpec *spec, FoundGuide *out, Error *err)
{
    Buffer text = {0};
    *out = (FoundGuide){NULL, false};
    if (!spec->kind) {
        return true;
    }
    write_text(spec, &text);
    if (!buffer_check(&text, err)) {
        buffer_free(&text);
        return false;
    }
    KeptGuide *k = find_place(g, spec->kind, &text);
    out->is_new = !k->kind;
    if (out->is_new) {
        fill_place(g, k, spec->kind, &text);
    }
    buffer_free(&text);
    k->asked = ++g->n_asked;
    out->guide = guide_share(k->guide);
    if (!k->guide) {
        const ErrorKind kind = k->failure.kind;
        error_set(err, kind, "%s: %.500s", spec->name, k->failure.message);
        if (kind == ERROR_RUN) {
            empty_place(k);
        }
    }
    limit_bytes(g);
    return out->guide;
}
