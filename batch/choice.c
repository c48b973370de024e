// choice.c - a finished text as JSON. See choice.h.
//
// Where OpenAI's two APIs and plain objects have the log-probabilities of a text of two tokens:
//
//     /v1/completions        {"tokens": ["a", "b"], "token_logprobs": [-1, -2],
//                             "top_logprobs": [{"a": -1, ..}, {..}], "text_offset": [0, 1]}
//     /v1/chat/completions   {"content": [{"token": "a", "logprob": -1, "bytes": [97],
//                                          "top_logprobs": [{..}, ..]}, {..}], "refusal": null}
//     plain objects          [{"id": 5, "token": "a", "bytes": [97], "logprob": -1,
//                              "top": [{..}, ..]}, {..}]
#include "batch/choice.h"

#include <stdlib.h>
#include <string.h>

// Digits after the point of a log-probability.
#define DECIMALS 6

void put_bytes(JsonWriter *w, const char *bytes, size_t size)
{
    json_open(w, "bytes", '[');
    for (size_t i = 0; i < size; i++) {
        json_put_count(w, NULL, (unsigned char)bytes[i]);
    }
    json_close(w, ']');
}

// The token's place in the sequence for the one at `index` of the list, and the list's row.
static size_t token_place(const Sequence *s, size_t index) { return s->first_logprob + index; }

// What a token would add to the text at that place; the name of a special token, which adds
// nothing.
static const char *token_text(const Sequence *s, size_t place, int id, size_t *size)
{
    const int previous = place ? s->tokens.ids[place - 1] : -1;
    return tokenizer_is_special(s->tokenizer, id)
               ? tokenizer_piece(s->tokenizer, id, size)
               : tokenizer_decode(s->tokenizer, previous, id, size);
}

// --------------------------------------------------------------------------------------------
// Plain objects

// The members that all lists have; the caller opens and closes the object.
static void put_piece(JsonWriter *w, const Sequence *s, const TokenLogprob *token)
{
    size_t size;
    const char *piece = tokenizer_piece(s->tokenizer, token->id, &size);
    json_put_count(w, "id", (uint64_t)token->id);
    json_put_string(w, "token", piece, size);
    put_bytes(w, piece, size);
    json_put_real(w, "logprob", token->logprob, DECIMALS);
}

void put_plain_logprobs(JsonWriter *w, const Sequence *s)
{
    json_open(w, "logprobs", '[');
    for (size_t i = 0; i < s->logprobs.n; i++) {
        const TokenLogprob *row = logprobs_row(&s->logprobs, i);
        json_open(w, NULL, '{');
        put_piece(w, s, &row[0]);
        json_open(w, "top", '[');
        for (size_t k = 1; k <= s->logprobs.n_best && row[k].id >= 0; k++) {
            json_open(w, NULL, '{');
            put_piece(w, s, &row[k]);
            json_close(w, '}');
        }
        json_close(w, ']');
        json_close(w, '}');
    }
    json_close(w, ']');
}

// --------------------------------------------------------------------------------------------
// Chats

static void put_chat_token(JsonWriter *w, const Sequence *s, size_t place,
                           const TokenLogprob *token)
{
    size_t size;
    const char *text = token_text(s, place, token->id, &size);
    json_put_string(w, "token", text, size);
    json_put_real(w, "logprob", token->logprob, DECIMALS);
    put_bytes(w, text, size);
}

// `content` lists the tokens of the message's content, as in that API: not those of the thought.
static void put_chat_logprobs(JsonWriter *w, const Sequence *s)
{
    json_open(w, "logprobs", '{');
    json_open(w, "content", '[');
    for (size_t i = sequence_answer_logprob(s); i < s->logprobs.n; i++) {
        const TokenLogprob *row = logprobs_row(&s->logprobs, i);
        json_open(w, NULL, '{');
        put_chat_token(w, s, token_place(s, i), &row[0]);
        json_open(w, "top_logprobs", '[');
        for (size_t k = 1; k <= s->logprobs.n_best && row[k].id >= 0; k++) {
            json_open(w, NULL, '{');
            put_chat_token(w, s, token_place(s, i), &row[k]);
            json_close(w, '}');
        }
        json_close(w, ']');
        json_close(w, '}');
    }
    json_close(w, ']');
    json_put_null(w, "refusal");
    json_close(w, '}');
}

// --------------------------------------------------------------------------------------------
// Completions

// Adds a token as OpenAI's completions name it: its text or, if that is not UTF-8 by itself,
// bytes:\xe2\x96.
static void add_label(Buffer *out, const char *text, size_t size)
{
    int length = 1;
    for (size_t i = 0; i < size && length > 0; i += (size_t)length) {
        length = utf8_scan(text + i, size - i);
        if (length <= 0) {
            break;
        }
    }
    if (length > 0) {
        buffer_add(out, text, size);
        return;
    }
    buffer_add_text(out, "bytes:");
    for (size_t i = 0; i < size; i++) {
        buffer_addf(out, "\\x%02x", (unsigned char)text[i]);
    }
}

// Puts an object of a token's best and, if it is not among them, the token: {"a": -1, ..}. Names in
// an object differ, so of two tokens with the same text only the better one is there.
static void put_best(JsonWriter *w, const Sequence *s, size_t index, Buffer *labels)
{
    const TokenLogprob *row = logprobs_row(&s->logprobs, index);
    const size_t n = 1 + s->logprobs.n_best;
    size_t ends[1 + MAX_LOGPROBS + 1] = {0};
    buffer_clear(labels);
    json_open(w, NULL, '{');
    for (size_t k = 0; k < n; k++) {
        const TokenLogprob *token = &row[(k + 1) % n];  // the token itself is the last
        size_t size;
        ends[k + 1] = ends[k];
        if (token->id < 0) {
            continue;
        }
        const char *text = token_text(s, token_place(s, index), token->id, &size);
        add_label(labels, text, size);
        buffer_add(labels, "", 1);  // a NUL, so that only a token that is missing has no bytes
        const char *label = labels->data + ends[k];
        size = labels->size - ends[k];
        bool listed = false;
        for (size_t j = 0; j < k && !listed; j++) {
            listed = ends[j + 1] - ends[j] == size &&
                     memcmp(labels->data + ends[j], label, size) == 0;
        }
        if (!listed && size) {
            json_put_name(w, label, size - 1);
            json_put_real(w, NULL, token->logprob, DECIMALS);
        }
        ends[k + 1] = labels->size;
    }
    json_close(w, '}');
}

// Puts at which character of the text each token begins: a token that begins within a character
// begins with it.
static void put_offsets(JsonWriter *w, const Sequence *s)
{
    Buffer text = {0};
    size_t size, character = 0, n_characters = 0, at = 0;
    for (size_t i = 0; i < s->logprobs.n; i++) {
        const char *bytes = sequence_token_text(s, token_place(s, i), &size);
        buffer_add(&text, bytes, size);
    }
    json_open(w, "text_offset", '[');
    for (size_t i = 0; i < s->logprobs.n && !text.lacking; i++) {
        while (character < at) {
            const int length = utf8_scan(text.data + character, text.size - character);
            const size_t n = length ? (size_t)abs(length) : text.size - character;
            if (character + n > at) {
                break;
            }
            character += n;
            n_characters++;
        }
        json_put_count(w, NULL, n_characters);
        sequence_token_text(s, token_place(s, i), &size);
        at += size;
    }
    json_close(w, ']');
    w->out->lacking = text.lacking ? text.lacking : w->out->lacking;
    buffer_free(&text);
}

static void put_completion_logprobs(JsonWriter *w, const Sequence *s)
{
    Buffer label = {0};
    size_t size;
    json_open(w, "logprobs", '{');
    json_open(w, "tokens", '[');
    for (size_t i = 0; i < s->logprobs.n; i++) {
        const int id = logprobs_row(&s->logprobs, i)->id;
        const char *text = token_text(s, token_place(s, i), id, &size);
        buffer_clear(&label);
        add_label(&label, text, size);
        json_put_string(w, NULL, label.data, label.size);
    }
    json_close(w, ']');
    json_open(w, "token_logprobs", '[');
    for (size_t i = 0; i < s->logprobs.n; i++) {
        json_put_real(w, NULL, logprobs_row(&s->logprobs, i)->logprob, DECIMALS);
    }
    json_close(w, ']');
    json_open(w, "top_logprobs", '[');
    for (size_t i = 0; i < s->logprobs.n; i++) {
        if (token_place(s, i)) {
            put_best(w, s, i, &label);
        } else {
            json_put_null(w, NULL);  // nothing came before it
        }
    }
    json_close(w, ']');
    put_offsets(w, s);
    json_close(w, '}');
    w->out->lacking = label.lacking ? label.lacking : w->out->lacking;
    buffer_free(&label);
}

// --------------------------------------------------------------------------------------------
// Choices

void put_probabilities(JsonWriter *w, const Sequence *s)
{
    const Choices *c = &s->choices;
    json_open(w, "probabilities", '[');
    for (size_t i = 0; i < c->texts->n; i++) {
        json_open(w, NULL, '{');
        json_put_text(w, "text", c->texts->texts[i]);
        json_put_real(w, "probability", c->probabilities[i], DECIMALS);
        json_put_real(w, "logprob", c->list[i].logprob, DECIMALS);
        json_close(w, '}');
    }
    json_close(w, ']');
}

void put_thought(JsonWriter *w, const Sequence *s)
{
    const Buffer *thought = &s->thought.ready;
    if (thought->size) {
        json_put_string(w, "reasoning_content", thought->data, thought->size);
    }
}

// The APIs differ in where the text is, and in how log-probabilities are written.
void put_choice(JsonWriter *w, ResultForm form, size_t index, const Sequence *s)
{
    json_open(w, NULL, '{');
    json_put_count(w, "index", index);
    if (form == RESULT_CHAT) {
        json_open(w, "message", '{');
        json_put_text(w, "role", "assistant");
        put_thought(w, s);
        json_put_string(w, "content", s->text.ready.data, s->text.ready.size);
        json_close(w, '}');
    } else {
        json_put_string(w, "text", s->text.ready.data, s->text.ready.size);
    }
    if (!s->options->logprobs) {
        json_put_null(w, "logprobs");
    } else if (form == RESULT_CHAT) {
        put_chat_logprobs(w, s);
    } else {
        put_completion_logprobs(w, s);
    }
    json_put_text(w, "finish_reason", finish_name(s->finish));
    if (s->options->choices.n) {
        put_probabilities(w, s);
    }
    json_close(w, '}');
}
