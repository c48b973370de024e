// generate.c - the life of a sequence. See generate.h.
//
// Text passes three filters on its way out, each of which holds back what it cannot decide yet:
//
//     token -> bytes -> [thinking: thought or answer?]
//                           answer -> [stop texts: hold what may be the start of one]
//                                        -> [UTF-8: hold incomplete characters] -> text
//                           thought      -> [UTF-8]                             -> thought
//
// The prompt's own text, where it is echoed, passes only the last.
#include "generate.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/threads.h"

const char *finish_name(FinishReason finish)
{
    return finish == FINISH_STOP ? "stop" : finish == FINISH_LENGTH ? "length" : NULL;
}

// --------------------------------------------------------------------------------------------
// Text

// Adds bytes to a text as whole characters; what cannot be one becomes U+FFFD.
static void add_text(TextStream *t, const char *bytes, size_t size)
{
    buffer_add(&t->all, bytes, size);
    for (size_t i = 0; i < size; i++) {
        t->partial[t->n_partial++] = bytes[i];
        int length;
        while (t->n_partial && (length = utf8_scan(t->partial, t->n_partial)) != 0) {
            const size_t n = (size_t)abs(length);
            if (length > 0) {
                buffer_add(&t->ready, t->partial, n);
            } else {
                buffer_add_text(&t->ready, UTF8_REPLACEMENT);
            }
            t->n_partial -= n;
            memmove(t->partial, t->partial + n, t->n_partial);
        }
    }
}

// No more bytes come.
static void end_text(TextStream *t)
{
    if (t->n_partial) {
        buffer_add_text(&t->ready, UTF8_REPLACEMENT);
        t->n_partial = 0;
    }
}

static void clear_text(TextStream *t)
{
    t->n_partial = 0;
    buffer_clear(&t->ready);
    buffer_clear(&t->all);
}

static void free_text(TextStream *t)
{
    buffer_free(&t->ready);
    buffer_free(&t->all);
}

// Looks for a stop text in the held bytes: where it begins, or where one begins that the end of the
// bytes cuts off. *found is the length of the stop text, 0 if it is cut off; without either it
// returns the size. Of two that begin at the same byte the shorter one counts, as it does when they
// arrive byte by byte.
static size_t find_stop(const Buffer *held, const StopTexts *stops, size_t *found)
{
    size_t whole = held->size, cut = whole;
    *found = 0;
    for (size_t k = 0; k < stops->n; k++) {
        const char *stop = stops->texts[k];
        const size_t length = strlen(stop);
        for (size_t i = 0; i < held->size; i++) {
            const size_t left = held->size - i, n = left < length ? left : length;
            if (memcmp(held->data + i, stop, n) != 0) {
                continue;
            }
            if (n < length) {
                cut = i < cut ? i : cut;
            } else if (i < whole || (i == whole && length < *found)) {
                whole = i;
                *found = length;
            }
            break;
        }
    }
    return *found ? whole : cut;
}

static size_t count_new(const Sequence *s) { return s->tokens.size - s->n_prompt; }

// Adds bytes of the answer: releases those before any stop text, and finishes at a complete
// one. Stop texts are looked for after the least length only.
static void add_answer(Sequence *s, const char *bytes, size_t size)
{
    if (count_new(s) <= s->options->min_tokens) {
        add_text(&s->text, bytes, size);
        return;
    }
    buffer_add(&s->held, bytes, size);
    if (!s->held.size) {
        return;
    }
    size_t found;
    const size_t release = find_stop(&s->held, &s->options->stops, &found);
    add_text(&s->text, s->held.data, release + (s->options->include_stop ? found : 0));
    if (found) {
        s->finish = FINISH_STOP;
        s->held.size = 0;
        return;
    }
    s->held.size -= release;
    memmove(s->held.data, s->held.data + release, s->held.size);
}

// Passes on what the filter has decided.
static void take_decided(Sequence *s)
{
    ThinkingFilter *f = &s->filter;
    add_text(&s->thought, f->thought.data, f->thought.size);
    f->thought.size = 0;  // buffer_clear would forget an error
    if (f->answer.size) {
        if (s->answer_text == SIZE_MAX) {
            s->answer_text = f->found ? count_new(s) - 1 : 0;
        }
        add_answer(s, f->answer.data, f->answer.size);
        f->answer.size = 0;
    }
}

// The bytes of a token after another (-1: none), *size of them; of a special token its name.
static const char *token_bytes(const Sequence *s, int previous, int token, size_t *size)
{
    return tokenizer_is_special(s->tokenizer, token)
               ? tokenizer_piece(s->tokenizer, token, size)
               : tokenizer_decode(s->tokenizer, previous, token, size);
}

// Adds the text of the last token.
static void add_token_text(Sequence *s)
{
    ThinkingFilter *f = &s->filter;
    const size_t n = s->tokens.size, n_new = count_new(s);
    const int token = s->tokens.ids[n - 1], previous = n > 1 ? s->tokens.ids[n - 2] : -1;
    const bool hidden = tokenizer_is_special(s->tokenizer, token) && !s->options->show_special;
    size_t size;
    const char *bytes = token_bytes(s, previous, token, &size);
    if (!f->texts) {
        add_answer(s, bytes, hidden ? 0 : size);
        return;
    }
    const ThinkingPhase before = f->phase;
    thinking_add(f, bytes, size, hidden);
    if (before == PHASE_START && f->phase != PHASE_START && f->found) {
        s->thought_begin = s->thought_end = n_new;
    }
    if (f->phase == PHASE_THOUGHT) {
        s->thought_end = n_new;
    }
    if (before != PHASE_ANSWER && f->phase == PHASE_ANSWER && f->found) {
        s->answer_begin = n_new;
    }
    take_decided(s);
}

// Releases what is held: nothing more can complete a stop text or a character.
static void flush_text(Sequence *s)
{
    thinking_end(&s->filter);
    take_decided(s);
    add_text(&s->text, s->held.data, s->held.size);
    s->held.size = 0;  // buffer_clear would forget an error
    end_text(&s->text);
    end_text(&s->thought);
}

static bool check_text(const Sequence *s, Error *err)
{
    const ThinkingFilter *f = &s->filter;
    const Buffer *all[] = {&s->held,          &s->text.ready,  &s->text.all,
                           &s->thought.ready, &s->thought.all, &f->held,
                           &f->hidden,        &f->thought,     &f->answer};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (!buffer_check(all[i], err)) {
            return false;
        }
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// A sequence

// Instead of a sampled token: others were forced in its place.
#define NO_TOKEN (-1)

const char *sequence_token_text(const Sequence *s, size_t place, size_t *size)
{
    const int id = s->tokens.ids[place], previous = place ? s->tokens.ids[place - 1] : -1;
    const bool named = s->options->show_special && place >= s->n_prompt;
    return named && tokenizer_is_special(s->tokenizer, id)
               ? tokenizer_piece(s->tokenizer, id, size)
               : tokenizer_decode(s->tokenizer, previous, id, size);
}

size_t sequence_answer_logprob(const Sequence *s)
{
    const size_t first = s->n_prompt - s->first_logprob, most = s->logprobs.n;
    return first < most && s->answer_text < most - first ? first + s->answer_text : most;
}

// Adds the prompt's own text.
static void echo_prompt(Sequence *s)
{
    for (size_t i = 0; i < s->n_prompt; i++) {
        size_t size;
        const char *bytes = sequence_token_text(s, i, &size);
        add_text(&s->text, bytes, size);
    }
}

// Lists the tokens that end the text, which must not be drawn before it has its least length.
static bool list_enders(Sequence *s, Error *err)
{
    const GenerateOptions *o = s->options;
    size_t n_ends = 0;
    const int *ends = tokenizer_ends(s->tokenizer, &n_ends);
    bool ok = true;
    for (size_t i = 0; ok && !o->ignore_eos && i < n_ends; i++) {
        ok = tokens_append(&s->enders, ends[i], err);
    }
    for (size_t i = 0; ok && i < o->stop_tokens.n; i++) {
        ok = tokens_append(&s->enders, o->stop_tokens.ids[i], err);
    }
    return ok;
}

static bool check_prompt(const Tokens *prompt, size_t context, Error *err)
{
    if (prompt->size == 0) {
        return error_set(err, ERROR_INPUT,
                         "the prompt is empty, and the model has no token to begin with");
    }
    return prompt->size < context ||
           error_set(err, ERROR_INPUT,
                     "the prompt has %zu tokens, expected at most %zu, which leaves one new token "
                     "in the context of %zu (--truncate-prompt keeps its end)",
                     prompt->size, context - 1, context);
}

// The new tokens that the sequence may still get.
static size_t tokens_left(const Sequence *s)
{
    const size_t max = s->options->max_tokens, room = s->cache->context - s->tokens.size;
    return max && max - count_new(s) < room ? max - count_new(s) : room;
}

// A number of tokens as the bytes that they have at least.
static uint32_t bytes_of(size_t tokens)
{
    return tokens < NO_TEXT ? (uint32_t)tokens : NO_TEXT - 1;
}

// Encodes a text of the template.
static bool encode_own(const Sequence *s, const char *text, size_t size, Tokens *out, Error *err)
{
    const TextSpan span = {text, size, true, false};
    return !size || tokenizer_encode(s->tokenizer, &span, 1, false, out, err);
}

// Counts the tokens of the texts after a thought and before an answer without one.
static bool count_own(Sequence *s, Error *err)
{
    const ThinkingTexts *t = s->filter.texts;
    const Buffer *texts[] = {&t->close, &t->answer};
    size_t *counts[] = {&s->close_tokens, &s->answer_tokens};
    Tokens tokens = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < 2; i++) {
        tokens.size = 0;
        ok = encode_own(s, texts[i]->data, texts[i]->size, &tokens, err);
        *counts[i] = tokens.size;
    }
    tokens_free(&tokens);
    return ok;
}

// The tokens that come before a guided answer at least: of a thought that has begun one more, and its
// closing text.
static size_t count_before_answer(const Sequence *s)
{
    const ThinkingFilter *f = &s->filter;
    return !f->texts || f->phase == PHASE_ANSWER ? 0
           : f->phase == PHASE_THOUGHT           ? s->close_tokens + 1
                                                 : s->answer_tokens;
}

// Puts the guide of a sequence to its start, and checks that its text has room. `answers`: the answer
// comes next.
static bool restart_guide(Sequence *s, bool answers, Error *err)
{
    if (!s->match.guide) {
        return true;
    }
    if (s->filter.texts && answers) {
        s->filter.phase = PHASE_ANSWER;
    }
    if (!match_begin(&s->match, s->match.guide, err) || (s->filter.texts && !count_own(s, err))) {
        return false;
    }
    const size_t before = count_before_answer(s), left = tokens_left(s);
    return (before <= left && s->match.shortest <= left - before) ||
           error_set(err, ERROR_INPUT,
                     "the constraint's shortest text has %u bytes, expected at most the %zu new "
                     "tokens that there may be%s",
                     (unsigned)s->match.shortest, left > before ? left - before : 0,
                     before ? " after a thought" : "");
}

static bool start_guide(Sequence *s, const SequenceSetup *setup, bool answers, Error *err)
{
    if (!setup->guide) {
        return true;
    }
    s->match.guide = setup->guide;
    const size_t n_words = guide_words(setup->guide);
    s->allowed = calloc(n_words + 1, sizeof *s->allowed);
    return s->allowed ? restart_guide(s, answers, err)
                      : error_memory(err, "a set of tokens", n_words * 8);
}

// Cuts the choices into tokens that continue the prompt. A model that thinks must be told not to,
// unless the prompt `answers`: ends the thought.
static bool restart_choices(Sequence *s, bool answers, Error *err)
{
    const GenerateOptions *o = s->options;
    const ThinkingTexts *t = s->filter.texts;
    choices_free(&s->choices);
    if (!o->choices.n) {
        return true;
    }
    if (t && !answers &&
        (o->think.mode != THINK_OFF || s->filter.phase != PHASE_START || t->answer.size)) {
        return error_set(err, ERROR_INPUT, "choices are not supported for a model that thinks%s",
                         o->think.mode == THINK_OFF ? ""
                                                    : " (--think off makes it answer at once)");
    }
    s->filter.phase = PHASE_ANSWER;
    if (!choices_open(&s->choices, &o->choices, s->tokenizer, s->tokens.ids[s->n_prompt - 1],
                      err)) {
        return false;
    }
    return s->choices.longest <= tokens_left(s) ||
           error_set(err, ERROR_INPUT,
                     "the longest choice has %zu tokens, expected at most the %zu new tokens that "
                     "there may be",
                     s->choices.longest, tokens_left(s));
}

// Where choices are drawn, they are what the sampler draws from, and no tokens are penalised.
static bool start_sampler(Sequence *s, uint64_t seed, Error *err)
{
    const size_t n_choices = s->options->choices.n;
    SamplerOptions o = s->options->sampler;
    if (n_choices) {
        o.repeat_penalty = 1;
        o.presence_penalty = o.frequency_penalty = 0;
    }
    return sampler_create(&s->sampler, n_choices ? n_choices : tokenizer_vocab_size(s->tokenizer),
                          &o, seed, err);
}

// Takes a prompt over.
static void take_prompt(Sequence *s, Prompt *prompt)
{
    tokens_free(&s->tokens);
    thinking_free(&s->filter);
    s->tokens = prompt->tokens;
    s->n_prompt = prompt->tokens.size;
    prompt->tokens = (Tokens){0};
    const ThinkingTexts *t = prompt->think;
    s->filter.texts = t && (t->close.size || t->answer.size) ? t : NULL;
    s->filter.phase = prompt->in_thought ? PHASE_THOUGHT : PHASE_START;
    s->filter.skips_space = prompt->in_thought;
    s->thought_begin = s->thought_end = s->answer_begin = 0;
    s->answer_text = s->filter.texts ? SIZE_MAX : 0;
}

bool sequence_start(Sequence *s, const SequenceSetup *setup, Prompt *prompt, Error *err)
{
    *s = (Sequence){.tokenizer = setup->tokenizer,
                    .options = setup->options,
                    .cache = setup->cache,
                    .cache_sequence = setup->cache_sequence,
                    .on_choices = setup->on_choices,
                    .logprobs.n_best = setup->options->top_logprobs};
    take_prompt(s, prompt);
    s->first_logprob = setup->score_prompt ? 0 : s->n_prompt;
    bool ok = check_prompt(&s->tokens, s->cache->context, err) &&
              start_guide(s, setup, prompt->answers, err) &&
              restart_choices(s, prompt->answers, err) && start_sampler(s, setup->seed, err) &&
              ((!s->options->min_tokens && !setup->guide) || list_enders(s, err));
    if (ok && setup->echo) {
        echo_prompt(s);
        ok = check_text(s, err);
    }
    if (!ok) {
        sequence_free(s);
    }
    return ok;
}

bool sequence_restart(Sequence *s, Cache *cache, Prompt *prompt, Error *err)
{
    const Tokens *tokens = &prompt->tokens;
    if (!check_prompt(tokens, cache->context, err)) {
        prompt_free(prompt);
        return false;
    }
    // The last token is run in any case: its logits are wanted.
    const size_t n_past = sequence_n_past(s), last = tokens->size - 1;
    const size_t most = n_past < last ? n_past : last;
    size_t n = 0;
    while (n < most && s->tokens.ids[n] == tokens->ids[n]) {
        n++;
    }
    cache_truncate(cache, s->cache_sequence, n);
    take_prompt(s, prompt);
    s->first_logprob = s->n_prompt;
    s->logprobs.n = 0;
    s->lookup.n_accepted = s->lookup.n_proposed = 0;
    s->finish = FINISH_NONE;
    s->n_forced = 0;
    clear_text(&s->text);
    clear_text(&s->thought);
    buffer_clear(&s->held);
    return restart_guide(s, prompt->answers, err) && restart_choices(s, prompt->answers, err);
}

void sequence_retire(Sequence *s)
{
    sampler_free(&s->sampler);
    tokens_free(&s->enders);
    thinking_free(&s->filter);
    buffer_free(&s->text.all);
    buffer_free(&s->thought.all);
    buffer_free(&s->held);
    match_free(&s->match);
    free(s->allowed);
    s->allowed = NULL;
}

void sequence_free(Sequence *s)
{
    sequence_retire(s);
    tokens_free(&s->tokens);
    logprobs_free(&s->logprobs);
    choices_free(&s->choices);
    free_text(&s->text);
    free_text(&s->thought);
    *s = (Sequence){0};
}

size_t sequence_n_past(const Sequence *s) { return cache_length(s->cache, s->cache_sequence); }

bool sequence_scores_prompt(const Sequence *s)
{
    return s->options->logprobs && s->first_logprob < s->n_prompt;
}

bool sequence_scores_rows(const Sequence *s)
{
    return s->options->logprobs && sequence_n_past(s) + 1 >= s->first_logprob;
}

size_t sequence_fill_rows(const Sequence *s, Row *rows, size_t max)
{
    const size_t n_past = sequence_n_past(s), left = s->tokens.size - n_past;
    const size_t n = left < max ? left : max;
    const bool all = sequence_scores_rows(s);
    for (size_t i = 0; i < n; i++) {
        rows[i] = (Row){.token = s->tokens.ids[n_past + i],
                        .sequence = s->cache_sequence,
                        .wants_logits = all || n_past + i + 1 == s->tokens.size};
    }
    return n;
}

static size_t smaller_of(size_t a, size_t b) { return a < b ? a : b; }

size_t sequence_propose(Sequence *s, const PassCost *cost, PassPlan *plan, Row *rows, size_t max)
{
    const GenerateOptions *o = s->options;
    int tokens[MAX_LOOKUP];
    // The last new token need not be run.
    size_t most = smaller_of(smaller_of(max, o->lookup), s->cache->context - s->tokens.size);
    most = o->max_tokens ? smaller_of(most, o->max_tokens - count_new(s) - 1) : most;
    most = o->choices.n ? 0 : most;
    const size_t n = lookup_propose(&s->lookup, cost, s->tokens.ids, s->tokens.size, most, plan,
                                    tokens);
    for (size_t i = 0; i < n; i++) {
        rows[1 + i] = (Row){
            .token = tokens[i], .sequence = s->cache_sequence, .wants_logits = true};
    }
    return n;
}

// Does the closing text of the thought begin with this token? Templates may close one with a token
// that ends answers: there it ends only the thought.
static bool begins_close(const Sequence *s, int token)
{
    if (!s->filter.texts || s->filter.phase == PHASE_ANSWER) {
        return false;
    }
    const Buffer *close = &s->filter.texts->close;
    const TextSpan name = tokenizer_name(s->tokenizer, token);
    const Trimmed text = trimmed(close->data, close->size);
    return name.size && text.size > name.size && memcmp(text.text, name.text, name.size) == 0;
}

// Does this token end the text?
static bool is_ender(const Sequence *s, int token)
{
    const GenerateOptions *o = s->options;
    bool found = tokenizer_is_end(s->tokenizer, token) && !o->ignore_eos && !begins_close(s, token);
    for (size_t i = 0; i < o->stop_tokens.n && !found; i++) {
        found = o->stop_tokens.ids[i] == token;
    }
    return found;
}

// Adds a token to the guided text; *taken is false if the guide does not allow it, or it leaves more
// bytes to come than there are tokens. An ender may come where the text is complete.
static bool take_guided(Sequence *s, int token, bool *taken, Error *err)
{
    if (is_ender(s, token)) {
        *taken = s->match.shortest == 0;
        return true;
    }
    ConstraintText text;
    const int previous = s->tokens.ids[s->tokens.size - 1];
    text.bytes = tokenizer_decode(s->tokenizer, previous, token, &text.size);
    *taken = false;
    return !text.size || match_take(&s->match, text, bytes_of(tokens_left(s) - 1), taken, err);
}

// Fills s->allowed with the tokens after which `most` bytes complete the text, and the enders if it
// is complete.
static bool allow_tokens(Sequence *s, uint32_t most, Error *err)
{
    const int previous = s->tokens.ids[s->tokens.size - 1];
    const MaskQuery query = {.most = most,
                             .no_space = tokenizer_drops_space(s->tokenizer, previous)};
    if (!match_tokens(&s->match, query, s->allowed, err)) {
        return false;
    }
    for (size_t i = 0; s->match.shortest == 0 && i < s->enders.size; i++) {
        const size_t id = (size_t)s->enders.ids[i];
        s->allowed[id / 64] |= (uint64_t)1 << id % 64;
    }
    uint64_t any = 0;
    for (size_t i = 0; i < guide_words(s->match.guide); i++) {
        any |= s->allowed[i];
    }
    return any || error_set(err, ERROR_INPUT,
                            "the vocabulary has no token for any text that the constraint allows");
}

// Takes the token that was drawn, or draws again among those that the guide allows. In the last
// stretch also those are left out after which the text would not close.
static bool sample_allowed(Sequence *s, const float *logits, SamplerInput *in, int *token,
                           Error *err)
{
    const uint32_t most[] = {NO_TEXT, bytes_of(tokens_left(s) - 1)};
    bool taken;
    if (!take_guided(s, *token, &taken, err)) {
        return false;
    }
    for (size_t i = 0; i < 2 && !taken; i++) {
        if (!allow_tokens(s, most[i], err)) {
            return false;
        }
        in->allowed = s->allowed;
        *token = sampler_next(&s->sampler, logits, in);
        if (!take_guided(s, *token, &taken, err)) {
            return false;
        }
    }
    return taken ||
           error_set(err, ERROR_INPUT, "the vocabulary lacks bytes to complete the constraint");
}

// Does the guide say what comes next? Thoughts are free.
static bool is_guided(const Sequence *s)
{
    return s->match.guide && (!s->filter.texts || s->filter.phase == PHASE_ANSWER);
}

// Is there room for `opening` tokens, one token of a thought, its closing text, and the shortest
// answer?
static bool has_room_to_think(const Sequence *s, size_t opening)
{
    return tokens_left(s) > opening + s->close_tokens + s->match.shortest;
}

// Can a thought begin with these bytes of a token, after which the rest of the opening text would
// be forced?
static bool can_open(const Sequence *s, const char *bytes, size_t size, bool *opens, Error *err)
{
    const ThinkingTexts *t = s->filter.texts;
    const Trimmed open = trimmed(t->open.data, t->open.size);
    Tokens rest = {0};
    size_t n;
    *opens = s->options->think.mode != THINK_OFF && can_think(t) &&
             thinking_opens(t, bytes, size, &n);
    const bool ok = !*opens || encode_own(s, open.text + n, open.size - n, &rest, err);
    *opens = *opens && has_room_to_think(s, 1 + rest.size);
    tokens_free(&rest);
    return ok;
}

// Sets *instead to the text of the template that replaces a token drawn before the answer; NULL:
// the token stays. With its first token a model decides whether it thinks. A thought ends only with
// its closing text, which nothing but white space may follow within a token.
static bool text_instead(const Sequence *s, int token, const Buffer **instead, Error *err)
{
    const ThinkingFilter *f = &s->filter;
    const ThinkingTexts *t = f->texts;
    const int previous = s->tokens.ids[s->tokens.size - 1];
    size_t size, n;
    const char *bytes = token_bytes(s, previous, token, &size);
    if (f->phase == PHASE_START) {
        bool thinks;
        const bool ok = can_open(s, bytes, size, &thinks, err);
        *instead = thinks ? NULL : &t->answer;
        return ok;
    }
    const bool closes = thinking_closes(f, bytes, size, &n);
    const bool stays = closes ? !trimmed(bytes + size - n, n).size : !is_ender(s, token);
    *instead = stays ? NULL : &t->close;
    return true;
}

// Records the log-probability of a token if requested. `logits` is NULL if no token came before it.
static bool note_logprob(Sequence *s, int token, const float *logits, Error *err)
{
    return !s->options->logprobs ||
           logprobs_add(&s->logprobs, token, logits, tokenizer_vocab_size(s->tokenizer), err);
}

// Appends a token and adds its text.
static bool append_token(Sequence *s, int token, Error *err)
{
    if (!tokens_append(&s->tokens, token, err)) {
        return false;
    }
    add_token_text(s);
    return true;
}

// Appends a token that was not drawn. `logits` are those of the token before it, NULL if that has
// not been run: then take_logits records the log-probability when it is.
static bool append_forced(Sequence *s, int token, const float *logits, Error *err)
{
    s->n_forced++;
    return (!logits || note_logprob(s, token, logits, err)) && append_token(s, token, err);
}

// Appends the tokens of a text of the template, as far as there is room. `logits`: as append_forced,
// for the first.
static bool force_text(Sequence *s, Trimmed text, const float *logits, Error *err)
{
    Tokens forced = {0};
    bool ok = encode_own(s, text.text, text.size, &forced, err);
    for (size_t i = 0; ok && i < forced.size && tokens_left(s); i++) {
        ok = append_forced(s, forced.ids[i], i ? NULL : logits, err);
    }
    tokens_free(&forced);
    return ok;
}

// Has the thought used up its tokens, or does it take those that a guided answer needs?
static bool must_close(const Sequence *s)
{
    const size_t budget = s->options->think.budget;
    return sequence_is_thinking(s) && ((budget && count_new(s) - s->thought_begin >= budget) ||
                                       (s->match.guide && !has_room_to_think(s, 0)));
}

// Completes a text around the thought that the last token, sampled before a guided answer in that
// phase, has begun or left without its white space.
static bool complete_own_text(Sequence *s, ThinkingPhase before, Error *err)
{
    const ThinkingTexts *t = s->filter.texts;
    const size_t place = s->tokens.size - 1;
    size_t size, n;
    const char *bytes = token_bytes(s, s->tokens.ids[place - 1], s->tokens.ids[place], &size);
    if (before == PHASE_START && s->filter.phase != PHASE_ANSWER &&
        thinking_opens(t, bytes, size, &n)) {
        const Trimmed open = trimmed(t->open.data, t->open.size);
        return force_text(s, (Trimmed){open.text + n, open.size - n}, NULL, err);
    }
    if (before == PHASE_THOUGHT && s->filter.phase == PHASE_ANSWER) {
        const Trimmed close = trimmed(t->close.data, t->close.size);
        const char *end = close.text + close.size;
        const size_t space = (size_t)(t->close.data + t->close.size - end);
        n = space_at_end(bytes, size);
        return n >= space || force_text(s, (Trimmed){end + n, space - n}, NULL, err);
    }
    return true;
}

// The most bytes that are forced at a time: more than names of properties and constants have.
#define MAX_FORCED_BYTES 256

// How many of the tokens after the first, `out`, stand for these bytes such that no longer entry of
// the vocabulary could take a token's place: those after them are left to be sampled, unless the text
// `ends` with these bytes.
static size_t count_forced(const Sequence *s, const ForcedBytes *forced, bool ends,
                           const Tokens *out)
{
    const TokenTrie *trie = guide_trie(s->match.guide);
    size_t at = 0, n = 1;
    for (; n < out->size; n++) {
        const char *rest = forced->bytes + at;
        const size_t left = forced->size - at;
        size_t size;
        const char *bytes = tokenizer_decode(s->tokenizer, out->ids[n - 1], out->ids[n], &size);
        if (!size || size > left || memcmp(bytes, rest, size) != 0 ||
            (!ends && token_trie_extends(trie, rest, left))) {
            break;
        }
        at += size;
    }
    return n - 1;
}

// Cuts what has to come next in a guided text into tokens, after the sequence's last one. There may
// be none.
static bool cut_forced(Sequence *s, Tokens *out, Error *err)
{
    char bytes[MAX_FORCED_BYTES];
    ForcedBytes forced = {.bytes = bytes, .most = sizeof bytes};
    bool ends;
    Error why = {0};
    if (!match_forced(&s->match, &forced, &ends, err) ||
        !tokens_append(out, s->tokens.ids[s->tokens.size - 1], err)) {
        return false;
    }
    const TextSpan span = {bytes, forced.size, false, true};
    if (forced.size && !tokenizer_encode(s->tokenizer, &span, 1, false, out, &why)) {
        *err = why;
        out->size = 1;
        return why.kind != ERROR_RUN;  // the vocabulary lacks a byte
    }
    out->size = 1 + count_forced(s, &forced, ends, out);
    return true;
}

// Appends the tokens of what has to come next, so that they run in one pass. Each takes a draw of the
// generator, as if it had been sampled; `drawn`: the first has had it. `logits`: as append_forced, for
// the first.
static bool force_bytes(Sequence *s, bool drawn, const float *logits, Error *err)
{
    Tokens tokens = {0};
    bool ok = cut_forced(s, &tokens, err), taken = true;
    for (size_t i = 1; ok && i < tokens.size && tokens_left(s); i++) {
        ok = take_guided(s, tokens.ids[i], &taken, err);
        if (!ok || !taken) {
            break;
        }
        if (!drawn) {
            sampler_skip(&s->sampler);
        }
        drawn = false;
        ok = append_forced(s, tokens.ids[i], i == 1 ? logits : NULL, err);
    }
    tokens_free(&tokens);
    return ok;
}

// Forces what has to follow the last token. `before` is the phase in which it was sampled.
static bool force_texts(Sequence *s, ThinkingPhase before, Error *err)
{
    const bool guided = s->match.guide && s->filter.texts && before != PHASE_ANSWER;
    if (guided && !complete_own_text(s, before, err)) {
        return false;
    }
    const Buffer *close = must_close(s) ? &s->filter.texts->close : NULL;
    if (close && !force_text(s, (Trimmed){close->data, close->size}, NULL, err)) {
        return false;
    }
    if (guided && s->filter.phase == PHASE_ANSWER && s->filter.found) {
        s->answer_begin = count_new(s);  // after the white space that was forced
    }
    return !is_guided(s) || !s->match.text.size || s->match.is_final ||
           force_bytes(s, false, NULL, err);
}

// Begins the guided answer with what it has to begin with.
static bool begin_answer(Sequence *s, bool drawn, const float *logits, Error *err)
{
    s->filter.phase = PHASE_ANSWER;
    s->filter.skips_space = false;  // white space is part of the text
    return force_bytes(s, drawn, logits, err);
}

// Decides about a token that was drawn under a guide; *token is NO_TOKEN if others are forced.
static bool guide_token(Sequence *s, const float *logits, SamplerInput *in, int *token, Error *err)
{
    const Buffer *instead = NULL;
    bool ok = true;
    if (!is_guided(s) && !text_instead(s, *token, &instead, err)) {
        return false;
    }
    if (instead && instead->size) {
        ok = force_text(s, (Trimmed){instead->data, instead->size}, logits, err);
    } else if (instead) {  // an answer that nothing precedes
        ok = begin_answer(s, true, logits, err);
    }
    if (s->n_forced) {
        *token = NO_TOKEN;
    }
    return ok && (*token == NO_TOKEN || !is_guided(s) || sample_allowed(s, logits, in, token, err));
}

// Samples the next token; NO_TOKEN if others are forced.
static bool sample_token(Sequence *s, const float *logits, int *token, Error *err)
{
    const GenerateOptions *o = s->options;
    const bool may_end = count_new(s) >= o->min_tokens;
    SamplerInput in = {.tokens = s->tokens.ids,
                       .n_tokens = s->tokens.size,
                       .n_prompt = s->n_prompt,
                       .biases = o->biases.list,
                       .n_biases = o->biases.n,
                       .banned = s->enders.ids,
                       .n_banned = may_end ? 0 : s->enders.size};
    *token = NO_TOKEN;
    if (is_guided(s) && !s->match.text.size && !begin_answer(s, false, logits, err)) {
        return false;
    }
    if (s->n_forced) {
        return true;
    }
    *token = sampler_next(&s->sampler, logits, &in);
    return !s->match.guide || guide_token(s, logits, &in, token, err);
}

// Ends a guided text where nothing can follow; one that is complete is not cut.
static void finish_guided(Sequence *s)
{
    const Match *m = &s->match;
    if (is_guided(s) && (m->is_final || (s->finish == FINISH_LENGTH && m->shortest == 0))) {
        s->finish = FINISH_STOP;
    }
}

// Adds the token that was sampled in that phase, and what it forces.
static bool add_sampled(Sequence *s, int token, ThinkingPhase before, const float *logits,
                        Error *err)
{
    const bool ends = is_ender(s, token);
    if ((!ends || s->options->include_stop) &&
        !(note_logprob(s, token, logits, err) && append_token(s, token, err))) {
        return false;
    }
    if (ends) {
        s->finish = FINISH_STOP;
    }
    return s->finish || force_texts(s, before, err);
}

bool sequence_accept(Sequence *s, const float *logits, Error *err)
{
    int token;
    const ThinkingPhase before = s->filter.phase;
    s->n_forced = 0;
    if (s->options->choices.n) {
        choices_begin(&s->choices, logits);
        return true;
    }
    if (!sample_token(s, logits, &token, err) ||
        (token != NO_TOKEN && !add_sampled(s, token, before, logits, err))) {
        return false;
    }
    if (!s->finish && !tokens_left(s)) {
        s->finish = FINISH_LENGTH;
    }
    finish_guided(s);
    if (s->finish) {
        flush_text(s);
    }
    return check_text(s, err);
}

// --------------------------------------------------------------------------------------------
// Decoding

// Takes what the row of a token says of the token after it: how probable that was, in a prompt that
// is scored, or which it is.
static bool take_logits(Step *step, const Row *row)
{
    Sequence *s = step->sequence;
    const size_t next = row->position + 1;
    if (row->position == 0 && sequence_scores_prompt(s) &&
        !note_logprob(s, s->tokens.ids[0], NULL, &step->err)) {
        return false;
    }
    if (next < s->tokens.size) {  // of the prompt, or forced
        return note_logprob(s, s->tokens.ids[next], row->logits, &step->err);
    }
    if (!s->options->choices.n) {
        step->sampled = step->n_sampled++ ? step->sampled : row;
    } else if (s->on_choices.see) {
        s->on_choices.see(s->on_choices.arg, row->logits);
    }
    return sequence_accept(s, row->logits, &step->err);
}

// Is the row's token the one that the sequence has in its place? A proposal that is wrong is not,
// and no row after it.
static bool is_right(const Sequence *s, const Row *row)
{
    return !s->finish && row->position < s->tokens.size &&
           s->tokens.ids[row->position] == row->token;
}

static void take_step(Step *step)
{
    step->ok = true;
    step->n_taken = step->n_sampled = 0;
    while (step->ok && step->n_taken < step->n_rows) {
        const Row *row = &step->rows[step->n_taken];
        if (!is_right(step->sequence, row)) {
            return;
        }
        step->n_taken++;
        step->ok = !row->logits || take_logits(step, row);
        if (step->n_sampled && step->sequence->n_forced) {
            return;  // something else follows than was proposed
        }
    }
}

// Takes wrong proposals out of the cache.
static void settle_step(Engine *e, const Step *step)
{
    Sequence *s = step->sequence;
    if (step->n_proposed && step->n_taken) {
        const size_t known = step->n_rows - step->n_proposed;
        lookup_learn(&s->lookup, step->n_proposed, step->n_taken - known);
        cache_truncate(&e->cache, s->cache_sequence, step->rows[step->n_taken - 1].position + 1);
    }
}

typedef struct {
    Step *steps;
    size_t n;
} Steps;

static void take_steps(Team team, void *arg)
{
    const Steps *all = arg;
    TeamStep step = team_step(team, all->n);
    while (team_claim(&step)) {
        for (size_t i = step.begin; i < step.end; i++) {
            take_step(&all->steps[i]);
        }
    }
}

// Runs a step by itself. A proposal may be to blame that the sampler would never draw: then the
// step runs without them.
static bool forward_alone(Engine *e, Step *step)
{
    if (forward(&e->model, &e->cache, &e->scratch, step->rows, step->n_rows, &step->err)) {
        return true;
    }
    if (step->err.kind != ERROR_INPUT || !step->n_proposed) {
        return false;
    }
    step->n_rows -= step->n_proposed;
    step->n_proposed = 0;
    return forward(&e->model, &e->cache, &e->scratch, step->rows, step->n_rows, &step->err);
}

// Runs each step by itself, after a pass that failed: only the one to blame fails again.
static bool decode_apart(Engine *e, Step *steps, size_t n, Error *err)
{
    for (size_t i = 0; i < n; i++) {
        Step *step = &steps[i];
        step->ok = forward_alone(e, step);
        if (step->ok) {
            take_step(step);
            settle_step(e, step);
        }
        if (!step->ok && (step->err.kind == ERROR_RUN || n == 1)) {
            *err = step->err;
            return false;
        }
    }
    return true;
}

// Runs the rows of all steps in one pass, and notes how long it takes.
static bool forward_steps(Engine *e, const Step *steps, size_t n, Error *err)
{
    size_t n_rows = 0, n_logits = 0;
    for (size_t i = 0; i < n; i++) {
        n_rows += steps[i].n_rows;
    }
    for (size_t i = 0; i < n_rows; i++) {
        n_logits += e->rows[i].wants_logits;
    }
    const double start = now_seconds();
    if (!forward(&e->model, &e->cache, &e->scratch, e->rows, n_rows, err)) {
        return false;
    }
    if (n_logits == n_rows) {  // rows of prompts cost less
        pass_cost_note(&e->pass_cost, n_rows, now_seconds() - start);
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// Choices

// Draws one of the choices, and makes it the text.
static bool draw_choice(Engine *e, Sequence *s, Error *err)
{
    static const int no_tokens[1];
    const SamplerInput in = {.tokens = no_tokens};
    const int drawn = sampler_next(&s->sampler, s->choices.scores, &in);
    const Choice *choice = &s->choices.list[drawn];
    for (size_t i = 0; i < choice->n_tokens; i++) {
        if (!append_token(s, choice->tokens[i], err)) {
            return false;
        }
    }
    s->finish = FINISH_STOP;
    flush_text(s);
    if (s->options->logprobs) {  // the logits of the prompt's last token predict the first one
        cache_truncate(&e->cache, s->cache_sequence, s->n_prompt - 1);
    }
    return check_text(s, err);
}

static Ballot ballot_of(Sequence *s)
{
    return (Ballot){.choices = &s->choices,
                    .sequence = s->cache_sequence,
                    .prompt = s->tokens.ids,
                    .n_prompt = s->n_prompt,
                    .hook = s->on_choices};
}

// Has the step run its prompt, but not its choices?
static bool is_undecided(const Step *step)
{
    const Choices *c = &step->sequence->choices;
    return step->ok && c->begun && !c->done;
}

// Runs the choices of all undecided steps together; if that fails for one of them, each by itself.
static bool run_choices(Engine *e, Step *steps, size_t n, const volatile sig_atomic_t *interrupted,
                        Error *err)
{
    size_t n_ballots = 0;
    Ballot *ballots = calloc(n, sizeof *ballots);
    if (!ballots) {
        return error_memory(err, "ballots", n * sizeof *ballots);
    }
    for (size_t i = 0; i < n; i++) {
        if (is_undecided(&steps[i])) {
            ballots[n_ballots++] = ballot_of(steps[i].sequence);
        }
    }
    const bool ok = choices_run(e, ballots, n_ballots, interrupted, err);
    free(ballots);
    for (size_t i = 0; !ok && err->kind == ERROR_INPUT && i < n; i++) {
        if (is_undecided(&steps[i])) {
            Ballot ballot = ballot_of(steps[i].sequence);
            steps[i].ok = choices_run(e, &ballot, 1, interrupted, &steps[i].err);
        }
    }
    return ok || err->kind == ERROR_INPUT;
}

// After a pass: runs the choices of those steps whose prompts are complete, and draws one for each.
static bool choose(Engine *e, Step *steps, size_t n, const volatile sig_atomic_t *interrupted,
                   Error *err)
{
    size_t n_undecided = 0;
    for (size_t i = 0; i < n; i++) {
        n_undecided += is_undecided(&steps[i]);
    }
    if (n_undecided && !run_choices(e, steps, n, interrupted, err)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        Step *step = &steps[i];
        if (step->ok && step->sequence->choices.done) {
            step->ok = draw_choice(e, step->sequence, &step->err);
        }
        if (!step->ok && (step->err.kind == ERROR_RUN || n == 1)) {
            *err = step->err;
            return false;
        }
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// A pass and what follows it

// Runs a pass, and samples from its logits.
static bool decode_pass(Engine *e, Step *steps, size_t n, Error *err)
{
    if (!forward_steps(e, steps, n, err)) {
        // An error leaves all sequences as they were, so their rows can be run again.
        return err->kind == ERROR_INPUT && (n > 1 || steps->n_proposed) &&
               decode_apart(e, steps, n, err);
    }
    Steps all = {steps, n};
    team_run(e->threads < n ? e->threads : n, take_steps, &all);
    for (size_t i = 0; i < n; i++) {
        settle_step(e, &steps[i]);
        // A request of a batch fails alone, unless memory ran out.
        if (!steps[i].ok && (steps[i].err.kind == ERROR_RUN || n == 1)) {
            *err = steps[i].err;
            return false;
        }
    }
    return true;
}

bool decode(Engine *e, Step *steps, size_t n, const volatile sig_atomic_t *interrupted, Error *err)
{
    return decode_pass(e, steps, n, err) && choose(e, steps, n, interrupted, err);
}

bool sequence_score_rest(Sequence *s, Engine *e, Error *err)
{
    if (!s->options->logprobs || s->first_logprob + s->logprobs.n == s->tokens.size) {
        return true;
    }
    const size_t most = smaller_of(e->scratch.max_rows, e->scratch.max_logits);
    for (size_t n; (n = smaller_of(s->tokens.size - 1 - sequence_n_past(s), most)) > 0;) {
        const int *ids = s->tokens.ids + sequence_n_past(s);
        for (size_t i = 0; i < n; i++) {
            e->rows[i] = (Row){
                .token = ids[i], .sequence = s->cache_sequence, .wants_logits = true};
        }
        if (!forward(&e->model, &e->cache, &e->scratch, e->rows, n, err)) {
            return false;
        }
        for (size_t i = 0; i < n; i++) {
            if (!note_logprob(s, ids[i + 1], e->rows[i].logits, err)) {
                return false;
            }
        }
    }
    return true;
}

// Runs the tokens that have to be run, and after the last one proposals.
static bool run_pass_of(Sequence *s, Engine *e, Step *step,
                        const volatile sig_atomic_t *interrupted, Error *err)
{
    const size_t most = smaller_of(e->scratch.max_rows, e->scratch.max_logits) - 1;
    PassPlan plan = {.n_rows = 1, .tokens = 1};
    *step = (Step){.sequence = s, .rows = e->rows};
    step->n_rows = sequence_fill_rows(s, e->rows,
                                      sequence_scores_rows(s) ? most + 1 : e->scratch.max_rows);
    if (sequence_n_past(s) + 1 == s->tokens.size) {
        step->n_proposed = sequence_propose(s, &e->pass_cost, &plan, e->rows, most);
        step->n_rows += step->n_proposed;
    }
    return decode(e, step, 1, interrupted, err);
}

bool sequence_run(Sequence *s, Engine *e, const RunHooks *hooks, Error *err)
{
    while (!s->finish && !*hooks->interrupted) {
        Step step;
        if (!run_pass_of(s, e, &step, hooks->interrupted, err) ||
            (!step.n_sampled && !hooks->on_pass(hooks->arg, s, NULL, err))) {
            return false;
        }
        for (size_t i = 0; i < step.n_sampled; i++) {
            if (!hooks->on_pass(hooks->arg, s, step.sampled[i].logits, err)) {
                return false;
            }
        }
    }
    flush_text(s);  // of a sequence that was interrupted; a finished one holds nothing
    return check_text(s, err) && (!s->finish || sequence_score_rest(s, e, err));
}
