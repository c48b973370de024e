// generate.c - the life of a sequence. See generate.h.
//
// Text passes two filters on its way out, each of which holds back what it cannot decide yet:
//
//     token -> bytes -> [stop texts: hold what may be the start of one]
//                    -> [UTF-8: hold incomplete characters] -> text
//
// The prompt's own text, where it is echoed, passes only the second.
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

// Adds bytes to the text as whole characters; what cannot be one becomes U+FFFD.
static void add_text(Sequence *s, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        s->partial[s->n_partial++] = bytes[i];
        int length;
        while (s->n_partial && (length = utf8_scan(s->partial, s->n_partial)) != 0) {
            const size_t n = (size_t)abs(length);
            if (length > 0) {
                buffer_add(&s->text, s->partial, n);
            } else {
                buffer_add_text(&s->text, UTF8_REPLACEMENT);
            }
            s->n_partial -= n;
            memmove(s->partial, s->partial + n, s->n_partial);
        }
    }
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

// Adds bytes of the continuation: releases those before any stop text, and finishes at a complete
// one.
static void add_continuation(Sequence *s, const char *bytes, size_t size)
{
    buffer_add(&s->held, bytes, size);
    if (!s->held.size) {
        return;
    }
    size_t found;
    const size_t release = find_stop(&s->held, &s->options->stops, &found);
    add_text(s, s->held.data, release + (s->options->include_stop ? found : 0));
    if (found) {
        s->finish = FINISH_STOP;
        s->held.size = 0;
        return;
    }
    s->held.size -= release;
    memmove(s->held.data, s->held.data + release, s->held.size);
}

// Releases what is held: nothing more can complete a stop text or a character.
static void flush_text(Sequence *s)
{
    add_text(s, s->held.data, s->held.size);
    s->held.size = 0;  // buffer_clear would forget an error
    if (s->n_partial) {
        buffer_add_text(&s->text, UTF8_REPLACEMENT);
        s->n_partial = 0;
    }
}

static bool check_text(const Sequence *s, Error *err)
{
    return buffer_check(&s->held, err) && buffer_check(&s->text, err);
}

// --------------------------------------------------------------------------------------------
// A sequence

const char *sequence_token_text(const Sequence *s, size_t place, size_t *size)
{
    const int id = s->tokens.ids[place], previous = place ? s->tokens.ids[place - 1] : -1;
    const bool named = s->options->show_special && place >= s->n_prompt;
    return named && tokenizer_is_special(s->tokenizer, id)
               ? tokenizer_piece(s->tokenizer, id, size)
               : tokenizer_decode(s->tokenizer, previous, id, size);
}

// Adds the prompt's own text.
static void echo_prompt(Sequence *s)
{
    for (size_t i = 0; i < s->n_prompt; i++) {
        size_t size;
        const char *bytes = sequence_token_text(s, i, &size);
        add_text(s, bytes, size);
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

bool sequence_start(Sequence *s, const SequenceSetup *setup, Tokens *prompt, Error *err)
{
    *s = (Sequence){.tokenizer = setup->tokenizer,
                    .options = setup->options,
                    .cache = setup->cache,
                    .cache_sequence = setup->cache_sequence,
                    .tokens = *prompt,
                    .n_prompt = prompt->size,
                    .first_logprob = setup->score_prompt ? 0 : prompt->size,
                    .logprobs.n_best = setup->options->top_logprobs};
    *prompt = (Tokens){0};
    bool ok = check_prompt(&s->tokens, s->cache->context, err) &&
              sampler_create(&s->sampler, tokenizer_vocab_size(s->tokenizer), &s->options->sampler,
                             setup->seed, err) &&
              (!s->options->min_tokens || list_enders(s, err));
    if (ok && setup->echo) {
        echo_prompt(s);
        ok = check_text(s, err);
    }
    if (!ok) {
        sequence_free(s);
    }
    return ok;
}

bool sequence_restart(Sequence *s, Cache *cache, Tokens *prompt, Error *err)
{
    if (!check_prompt(prompt, cache->context, err)) {
        tokens_free(prompt);
        return false;
    }
    // The last token is run in any case: its logits are wanted.
    const size_t n_past = sequence_n_past(s), last = prompt->size - 1;
    const size_t most = n_past < last ? n_past : last;
    size_t n = 0;
    while (n < most && s->tokens.ids[n] == prompt->ids[n]) {
        n++;
    }
    cache_truncate(cache, s->cache_sequence, n);
    tokens_free(&s->tokens);
    s->tokens = *prompt;
    *prompt = (Tokens){0};
    s->n_prompt = s->tokens.size;
    s->first_logprob = s->n_prompt;
    s->logprobs.n = 0;
    s->lookup.n_accepted = s->lookup.n_proposed = 0;
    s->finish = FINISH_NONE;
    s->n_partial = 0;
    buffer_clear(&s->text);
    buffer_clear(&s->held);
    return true;
}

void sequence_retire(Sequence *s)
{
    sampler_free(&s->sampler);
    tokens_free(&s->enders);
    buffer_free(&s->held);
}

void sequence_free(Sequence *s)
{
    sequence_retire(s);
    tokens_free(&s->tokens);
    logprobs_free(&s->logprobs);
    buffer_free(&s->text);
    *s = (Sequence){0};
}

size_t sequence_n_past(const Sequence *s) { return cache_length(s->cache, s->cache_sequence); }

bool sequence_scores_prompt(const Sequence *s)
{
    return s->options->logprobs && s->first_logprob < s->n_prompt;
}

size_t sequence_fill_rows(const Sequence *s, Row *rows, size_t max)
{
    const size_t n_past = sequence_n_past(s), left = s->tokens.size - n_past;
    const size_t n = left < max ? left : max;
    const bool all = sequence_scores_prompt(s);
    for (size_t i = 0; i < n; i++) {
        rows[i] = (Row){.token = s->tokens.ids[n_past + i],
                        .sequence = s->cache_sequence,
                        .wants_logits = all || n_past + i + 1 == s->tokens.size};
    }
    return n;
}

static size_t count_new(const Sequence *s) { return s->tokens.size - s->n_prompt; }

static size_t smaller_of(size_t a, size_t b) { return a < b ? a : b; }

size_t sequence_propose(Sequence *s, const PassCost *cost, PassPlan *plan, Row *rows, size_t max)
{
    const GenerateOptions *o = s->options;
    int tokens[MAX_LOOKUP];
    // The last new token need not be run.
    size_t most = smaller_of(smaller_of(max, o->lookup), s->cache->context - s->tokens.size);
    most = o->max_tokens ? smaller_of(most, o->max_tokens - count_new(s) - 1) : most;
    const size_t n = lookup_propose(&s->lookup, cost, s->tokens.ids, s->tokens.size, most, plan,
                                    tokens);
    for (size_t i = 0; i < n; i++) {
        rows[1 + i] = (Row){
            .token = tokens[i], .sequence = s->cache_sequence, .wants_logits = true};
    }
    return n;
}

static int sample_token(Sequence *s, const float *logits)
{
    const GenerateOptions *o = s->options;
    const bool may_end = count_new(s) >= o->min_tokens;
    const SamplerInput in = {.tokens = s->tokens.ids,
                             .n_tokens = s->tokens.size,
                             .n_prompt = s->n_prompt,
                             .biases = o->biases.list,
                             .n_biases = o->biases.n,
                             .banned = s->enders.ids,
                             .n_banned = may_end ? 0 : s->enders.size};
    return sampler_next(&s->sampler, logits, &in);
}

// Does this token end the text?
static bool is_ender(const Sequence *s, int token)
{
    const GenerateOptions *o = s->options;
    bool found = tokenizer_is_end(s->tokenizer, token) && !o->ignore_eos;
    for (size_t i = 0; i < o->stop_tokens.n && !found; i++) {
        found = o->stop_tokens.ids[i] == token;
    }
    return found;
}

// Notes how probable a token was, if that is wanted. NULL: nothing came before it.
static bool note_logprob(Sequence *s, int token, const float *logits, Error *err)
{
    return !s->options->logprobs ||
           logprobs_add(&s->logprobs, token, logits, s->sampler.vocab_size, err);
}

// Appends a token and adds its text. Stop texts are looked for after the least length only.
static bool append_token(Sequence *s, int token, Error *err)
{
    size_t size;
    if (!tokens_append(&s->tokens, token, err)) {
        return false;
    }
    const char *bytes = sequence_token_text(s, s->tokens.size - 1, &size);
    if (count_new(s) <= s->options->min_tokens) {
        add_text(s, bytes, size);
    } else {
        add_continuation(s, bytes, size);
    }
    return true;
}

bool sequence_accept(Sequence *s, const float *logits, Error *err)
{
    const GenerateOptions *o = s->options;
    const int token = sample_token(s, logits);
    const bool ends = is_ender(s, token);
    if ((!ends || o->include_stop) &&
        !(note_logprob(s, token, logits, err) && append_token(s, token, err))) {
        return false;
    }
    if (ends) {
        s->finish = FINISH_STOP;
    }
    if (!s->finish && (count_new(s) == o->max_tokens || s->tokens.size == s->cache->context)) {
        s->finish = FINISH_LENGTH;
    }
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
    if (next < s->tokens.size) {
        return note_logprob(s, s->tokens.ids[next], row->logits, &step->err);
    }
    step->sampled = step->n_sampled++ ? step->sampled : row;
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

// The threads share the steps out among themselves.
static void take_steps(Team team, void *arg)
{
    const Steps *all = arg;
    for (size_t i = team.id; i < all->n; i += team.size) {
        take_step(&all->steps[i]);
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

bool decode(Engine *e, Step *steps, size_t n, Error *err)
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
        if (!steps[i].ok && steps[i].err.kind == ERROR_RUN) {
            *err = steps[i].err;
            return false;
        }
    }
    return true;
}

// Runs the tokens that have to be run, and after the last one proposals.
static bool run_pass_of(Sequence *s, Engine *e, Step *step, Error *err)
{
    const size_t most = smaller_of(e->scratch.max_rows, e->scratch.max_logits) - 1;
    PassPlan plan = {.n_rows = 1, .tokens = 1};
    *step = (Step){.sequence = s, .rows = e->rows};
    step->n_rows = sequence_fill_rows(s, e->rows, e->scratch.max_rows);
    if (sequence_n_past(s) + 1 == s->tokens.size) {
        step->n_proposed = sequence_propose(s, &e->pass_cost, &plan, e->rows, most);
        step->n_rows += step->n_proposed;
    }
    return decode(e, step, 1, err);
}

bool sequence_run(Sequence *s, Engine *e, const RunHooks *hooks, Error *err)
{
    while (!s->finish && !*hooks->interrupted) {
        Step step;
        if (!run_pass_of(s, e, &step, err) ||
            (!step.n_sampled && !hooks->on_pass(hooks->arg, s, NULL, err))) {
            return false;
        }
        for (size_t i = 0; i < step.n_sampled; i++) {
            if (!hooks->on_pass(hooks->arg, s, step.sampled[i].logits, err)) {
                return false;
            }
        }
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// Prompts

// Encodes spans: what lies between two messages with ids is one text. The spans are in the order of
// the messages, so one walk over both finds the spans that are texts of such messages.
static bool encode_rendered(const Tokenizer *tokenizer, const Conversation *c,
                            const TextSpan *spans, size_t n_spans, Tokens *out, Error *err)
{
    size_t first = 0;  // of the spans that are not encoded yet
    size_t next = 0;   // of the messages: those before it have been met
    for (size_t i = 0; i < n_spans; i++) {
        while (next < c->n && !c->messages[next].ids) {
            next++;
        }
        if (next == c->n || spans[i].text != c->messages[next].text) {
            continue;
        }
        const Message *m = &c->messages[next++];
        if (!tokenizer_encode(tokenizer, spans + first, i - first, false, out, err)) {
            return false;
        }
        for (size_t k = 0; k < m->n_ids; k++) {
            if (!tokens_append(out, m->ids[k], err)) {
                return false;
            }
        }
        first = i + 1;
    }
    return tokenizer_encode(tokenizer, spans + first, n_spans - first, false, out, err);
}

bool prompt_encode_chat(const Tokenizer *tokenizer, const ChatTemplate *chat,
                        const Conversation *conversation, Tokens *out, Error *err)
{
    TextSpan *spans;
    size_t n_spans;
    if (!chat_render(chat, conversation, &spans, &n_spans, err)) {
        return false;
    }
    // The template names BOS itself if it wants one, so the tokenizer adds none.
    const bool ok = encode_rendered(tokenizer, conversation, spans, n_spans, out, err);
    free(spans);
    return ok;
}

// How many of `left` positions are kept free for new tokens.
static size_t room_for_new(size_t left, size_t max_tokens)
{
    const size_t half = (left + 1) / 2;
    return max_tokens && max_tokens < half ? max_tokens : half;
}

bool prompt_encode_text(const Tokenizer *tokenizer, const TextSpan *text, PromptLimit limit,
                        Tokens *out, Error *err)
{
    if (!tokenizer_encode(tokenizer, text, 1, true, out, err)) {
        return false;
    }
    if (!limit.context || out->size < limit.context) {
        return true;
    }
    const int bos = tokenizer_bos(tokenizer);
    const size_t room = room_for_new(limit.context, limit.max_tokens);
    const size_t keep = limit.context > room ? limit.context - room : 1;
    const size_t first = bos >= 0 && out->ids[0] == bos && keep > 1 ? 1 : 0;
    memmove(out->ids + first, out->ids + out->size - (keep - first),
            (keep - first) * sizeof *out->ids);
    out->size = keep;
    return true;
}

// Encodes the prompt anew, without the first `skip` bytes of the part that may be shortened.
static bool encode_again(const ShortenedPrompt *p, size_t skip, Tokens *out, Error *err)
{
    out->size = 0;
    return p->encode(p->arg, skip, out, err);
}

bool prompt_shorten(const ShortenedPrompt *p, PromptLimit limit, Tokens *out, Error *err)
{
    const size_t context = limit.context;
    if (!encode_again(p, 0, out, err)) {
        return false;
    }
    if (!context || out->size < context) {
        return true;
    }
    if (!encode_again(p, p->size, out, err)) {
        return false;
    }
    const size_t kept = out->size;
    if (kept + 2 > context) {
        return error_set(err, ERROR_INPUT,
                         "the prompt has %zu tokens without the text that --truncate-prompt "
                         "shortens, expected at most %zu of the context of %zu",
                         kept, context > 2 ? context - 2 : 0, context);
    }
    // Binary search. What is cut decides how the text beside it is cut into tokens, so the number
    // of tokens is known only when it has been encoded. Without the first `skip` bytes it fits.
    const size_t most = context - room_for_new(context - kept, limit.max_tokens);
    size_t too_few = 0, skip = p->size;
    while (skip - too_few > 1) {
        const size_t middle = too_few + (skip - too_few) / 2;
        if (!encode_again(p, middle, out, err)) {
            return false;
        }
        if (out->size > most) {
            too_few = middle;
        } else {
            skip = middle;
        }
    }
    return encode_again(p, skip, out, err);
}
