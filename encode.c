// encode.c - prompts to tokens. See encode.h.
//
// A chat is encoded in pieces. Text that the model generated in this run keeps its tokens where
// the template repeats it, even if the template trims it or drops its surroundings. The rest is
// encoded:
//
//     rendered   <|user|> Hi <|assistant|> Hello! <|end|> <|user|> Bye <|assistant|>
//     tokens     encoded ................. kept   encoded .........................
#include "encode.h"

#include <stdlib.h>
#include <string.h>

void prompt_free(Prompt *p)
{
    tokens_free(&p->tokens);
    *p = (Prompt){0};
}

// --------------------------------------------------------------------------------------------
// Chats

// The bytes of generated tokens: those of token i are text[begin[i] .. begin[i + 1]).
typedef struct {
    Buffer text;    // owned
    size_t *begin;  // (n + 1), owned
} SpokenBytes;

static bool decode_spoken(const Tokenizer *tokenizer, const SpokenText *s, SpokenBytes *out,
                          Error *err)
{
    *out = (SpokenBytes){.begin = calloc(s->n + 1, sizeof *out->begin)};
    if (!out->begin) {
        return error_memory(err, "an answer", (s->n + 1) * sizeof *out->begin);
    }
    for (size_t i = 0; i < s->n; i++) {
        size_t size;
        const int previous = i ? s->ids[i - 1] : s->previous;
        const char *bytes = tokenizer_decode(tokenizer, previous, s->ids[i], &size);
        buffer_add(&out->text, bytes, size);
        out->begin[i + 1] = out->text.size;
    }
    return buffer_check(&out->text, err);
}

// A part of the rendered text that was generated: bytes begin .. end are tokens first .. last.
typedef struct {
    size_t begin, end;  // of the rendered text
    size_t first, last;
} Repeated;

// Finds the generated tokens that spell bytes r->begin .. r->end of the rendered text, and extends
// both over surrounding white space on which they agree, but not before `done`: a template may
// itself write the space with which an answer begins. Without a match, r gets no tokens.
static void find_repeated(const SpokenBytes *s, const SpokenText *spoken, const ChatText *text,
                          size_t done, Repeated *r)
{
    const char *all = text->output.text, *said = s->text.data;
    const size_t length = r->end - r->begin;
    size_t a = 0;
    if (!length || !said) {
        return;
    }
    while (a + length <= s->text.size && memcmp(said + a, all + r->begin, length) != 0) {
        a++;
    }
    if (a + length > s->text.size) {
        return;
    }
    size_t b = a + length;
    while (a && r->begin > done && is_ascii_space(said[a - 1]) &&
           said[a - 1] == all[r->begin - 1]) {
        a--;
        r->begin--;
    }
    while (b < s->text.size && r->end < text->output.size && is_ascii_space(said[b]) &&
           said[b] == all[r->end]) {
        b++;
        r->end++;
    }
    const size_t *begin = s->begin, ends = spoken->has_ends;
    while (r->first < spoken->n && (begin[r->first] < a || (begin[r->first + 1] == a && !ends))) {
        r->first++;
    }
    r->last = r->first;
    while (r->last < spoken->n && begin[r->last + 1] <= b && (begin[r->last] < b || ends)) {
        r->last++;
    }
    r->end = r->begin + (begin[r->last] - a);
    r->begin += begin[r->first] - a;
}

static const SpokenText *find_spoken(const ChatPrompt *p, const JsonValue *source)
{
    for (size_t i = 0; source && i < p->n_spoken; i++) {
        if (p->spoken[i].value == source) {
            return &p->spoken[i];
        }
    }
    return NULL;
}

// The state of encoding a rendered text piece by piece.
typedef struct {
    const Tokenizer *tokenizer;
    const ChatText *text;
    TextSpan *spans;  // (text->n_spans), owned: parts that are encoded together
    size_t done;      // bytes of the text that are encoded,
    size_t span;      // .. which end in this span, that
    size_t begin;     // .. begins here
    Tokens *out;
} ChatEncoder;

// Encodes what comes before byte `end`.
static bool encode_until(ChatEncoder *e, size_t end, Error *err)
{
    size_t n = 0;
    while (e->done < end) {
        const TextSpan *s = &e->text->spans[e->span];
        const size_t from = e->done - e->begin;
        const size_t to = end - e->begin < s->size ? end - e->begin : s->size;
        e->spans[n++] = (TextSpan){s->text + from, to - from, s->special, s->guarded};
        e->done = e->begin + to;
        if (to == s->size) {
            e->begin += s->size;
            e->span++;
        }
    }
    return tokenizer_encode(e->tokenizer, e->spans, n, false, e->out, err);
}

// Encodes what comes before a span that repeats a generated text, and then that text.
static bool encode_repeated(ChatEncoder *e, const SpokenText *spoken, Repeated r, Error *err)
{
    SpokenBytes bytes;
    bool ok = decode_spoken(e->tokenizer, spoken, &bytes, err);
    if (ok) {
        find_repeated(&bytes, spoken, e->text, e->done, &r);
    }
    if (ok && r.first < r.last) {
        ok = encode_until(e, r.begin, err);
        for (size_t i = r.first; ok && i < r.last; i++) {
            ok = tokens_append(e->out, spoken->ids[i], err);
        }
        for (e->done = r.end; e->begin + e->text->spans[e->span].size < e->done; e->span++) {
            e->begin += e->text->spans[e->span].size;
        }
    }
    buffer_free(&bytes.text);
    free(bytes.begin);
    return ok;
}

static bool encode_rendered(ChatEncoder *e, const ChatPrompt *p, Error *err)
{
    size_t begin = 0, size = 0;
    for (size_t i = 0; i < e->text->n_spans; i++) {
        const SpokenText *spoken = find_spoken(p, e->text->sources[i]);
        begin = size;
        size += e->text->spans[i].size;
        if (spoken && begin >= e->done &&
            !encode_repeated(e, spoken, (Repeated){.begin = begin, .end = size}, err)) {
            return false;
        }
    }
    return encode_until(e, size, err);
}

bool prompt_encode_chat(const Tokenizer *tokenizer, const ChatTemplate *chat, const ChatPrompt *p,
                        Prompt *out, Error *err)
{
    ChatText text = {0};
    bool ok = chat_render(chat, &p->conversation, &text, err);
    ChatEncoder e = {.tokenizer = tokenizer,
                     .text = &text,
                     .spans = ok ? calloc(text.n_spans + 1, sizeof *e.spans) : NULL,
                     .out = &out->tokens};
    if (ok && !e.spans) {
        ok = error_memory(err, "a rendered chat", text.n_spans * sizeof *e.spans);
    }
    // The template names BOS itself if it wants one, so the tokenizer adds none.
    ok = ok && encode_rendered(&e, p, err);
    out->think = &chat->think;
    out->in_thought = text.in_thought;
    out->answers = text.answers;
    out->used_date = out->used_date || text.output.used_date;
    free(e.spans);
    chat_text_free(&text);
    return ok;
}

// --------------------------------------------------------------------------------------------
// Shortening

// The number of the `left` positions that are reserved for new tokens.
static size_t room_for_new(size_t left, size_t max_tokens)
{
    const size_t half = (left + 1) / 2;
    return max_tokens && max_tokens < half ? max_tokens : half;
}

bool prompt_encode_text(const Tokenizer *tokenizer, const TextSpan *text, PromptLimit limit,
                        Prompt *out, Error *err)
{
    Tokens *tokens = &out->tokens;
    if (!tokenizer_encode(tokenizer, text, 1, true, tokens, err)) {
        return false;
    }
    if (!limit.context || tokens->size < limit.context) {
        return true;
    }
    const int bos = tokenizer_bos(tokenizer);
    const size_t room = room_for_new(limit.context, limit.max_tokens);
    const size_t keep = limit.context > room ? limit.context - room : 1;
    const size_t first = bos >= 0 && tokens->ids[0] == bos && keep > 1 ? 1 : 0;
    memmove(tokens->ids + first, tokens->ids + tokens->size - (keep - first),
            (keep - first) * sizeof *tokens->ids);
    tokens->size = keep;
    return true;
}

// Encodes the prompt anew, without the first `skip` bytes of the part that may be shortened.
static bool encode_again(const ShortenedPrompt *p, size_t skip, Prompt *out, Error *err)
{
    out->tokens.size = 0;
    return p->encode(p->arg, skip, out, err);
}

bool prompt_shorten(const ShortenedPrompt *p, PromptLimit limit, Prompt *out, Error *err)
{
    const size_t context = limit.context;
    if (!encode_again(p, 0, out, err)) {
        return false;
    }
    if (!context || out->tokens.size < context) {
        return true;
    }
    if (!encode_again(p, p->size, out, err)) {
        return false;
    }
    const size_t kept = out->tokens.size;
    if (kept + 2 > context) {
        return error_set(err, ERROR_INPUT,
                         "the prompt has %zu tokens without the text that --truncate-prompt "
                         "shortens, expected at most %zu of the context of %zu",
                         kept, context > 2 ? context - 2 : 0, context);
    }
    // Binary search, encoding each time: where the text is cut affects how what remains splits into
    // tokens. The prompt fits without its first `skip` bytes.
    const size_t most = context - room_for_new(context - kept, limit.max_tokens);
    size_t too_few = 0, skip = p->size;
    while (skip - too_few > 1) {
        const size_t middle = too_few + (skip - too_few) / 2;
        if (!encode_again(p, middle, out, err)) {
            return false;
        }
        if (out->tokens.size > most) {
            too_few = middle;
        } else {
            skip = middle;
        }
    }
    return encode_again(p, skip, out, err);
}
