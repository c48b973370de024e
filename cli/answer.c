// answer.c - one sequence at the command line. See answer.h.
#include "cli/answer.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/threads.h"
#include "batch/choice.h"
#include "cli/constraint_file.h"
#include "cli/prompt.h"

// A prompt that is read sooner than this is not worth a line of progress.
#define PROGRESS_AFTER_SECONDS 0.5

double tokens_per_second(size_t tokens, double seconds)
{
    return seconds > 0 ? (double)tokens / seconds : 0;
}

void stats_add_speed(StatsLine *line, int rank, double speed)
{
    stats_add(line, rank, ", %.*f tok/s", speed < 100 ? 1 : 0, speed);
}

void stats_add_threads(StatsLine *line, int rank, const Engine *e)
{
    const double mean = team_mean();
    if (e->threads_adapt && mean < (double)e->threads - 0.05) {
        stats_add(line, rank, "; %.1f of %zu threads", mean, e->threads);
    } else {
        stats_add(line, rank, "; %zu thread%s", e->threads, e->threads == 1 ? "" : "s");
    }
}

// --------------------------------------------------------------------------------------------
// What is printed

// The figures that JSON and statistics both have.
typedef struct {
    size_t n_new;
    // tokens/s; the first new token belongs to the prompt's time
    double prompt_speed, decode_speed;
    double first_token_ms;
} Figures;

static Figures figures(const Answer *a)
{
    const Sequence *s = &a->sequence;
    const size_t n_new = s->tokens.size - s->n_prompt;
    const double first = a->first_token - a->start;
    // An interruption may have come before the end of the prompt.
    const size_t n_past = sequence_n_past(s), n_read = n_past < s->n_prompt ? n_past : s->n_prompt;
    return (Figures){n_new, tokens_per_second(n_read - a->cached, first),
                     tokens_per_second(n_new ? n_new - 1 : 0, a->end - a->first_token),
                     first * 1e3};
}

static bool print_json(Answer *a, Error *err)
{
    const Sequence *s = &a->sequence;
    const Figures f = figures(a);
    Buffer text = {0};
    JsonWriter w = {&text, false};
    json_open(&w, NULL, '{');
    json_put_string(&w, "text", s->text.ready.data, s->text.ready.size);
    if (s->thought.ready.size) {
        json_put_string(&w, "reasoning", s->thought.ready.data, s->thought.ready.size);
    }
    json_put_text(&w, "finish_reason", finish_name(s->finish));
    json_put_count(&w, "prompt_tokens", s->n_prompt);
    json_put_count(&w, "completion_tokens", f.n_new);
    json_put_count(&w, "seed", a->seed);
    if (a->used_date) {
        char date[16];
        json_put_text(&w, "date", date_write(a->engine->chat_settings.date, date));
    }
    json_put_real(&w, "prompt_per_second", f.prompt_speed, 2);
    json_put_real(&w, "decode_per_second", f.decode_speed, 2);
    json_put_real(&w, "first_token_ms", f.first_token_ms, 3);
    if (s->options->logprobs) {
        put_plain_logprobs(&w, s);
    }
    if (s->choices.done) {
        put_probabilities(&w, s);
    }
    json_close(&w, '}');
    buffer_add_text(&text, "\n");
    const bool ok = output_write(a->out, &text, err);
    buffer_free(&text);
    return ok;
}

// The number of new tokens; of an answer that was cut, also by what.
static void add_new_tokens(StatsLine *line, const Sequence *s, size_t n_new)
{
    if (s->finish != FINISH_LENGTH) {
        stats_add(line, 0, "; new %zu tokens", n_new);
        return;
    }
    const bool full = s->tokens.size == s->cache->context;
    stats_add(line, 0, "; cut at %zu tokens %s%s", n_new, full ? "(context)" : "(-n)",
              sequence_is_thinking(s) ? " while thinking" : "");
}

// The man page (--stats) lists the parts in this order, and which go first where the line is too
// long.
static void print_answer_stats(const Answer *a)
{
    const Figures f = figures(a);
    StatsLine line = {0};
    const Lookup *lookup = &a->sequence.lookup;
    stats_add(&line, 2, "prompt %zu tokens", a->sequence.n_prompt);
    stats_add(&line, 5, " in %.*f ms", f.first_token_ms < 10 ? 1 : 0, f.first_token_ms);
    if (a->cached) {
        stats_add(&line, 3, ", %zu cached", a->cached);
    }
    stats_add_speed(&line, 6, f.prompt_speed);
    add_new_tokens(&line, &a->sequence, f.n_new);
    if (f.n_new > 1) {
        stats_add_speed(&line, 1, f.decode_speed);
    }
    if (lookup->n_proposed) {
        stats_add(&line, 4, ", %zu of %zu proposed", lookup->n_accepted, lookup->n_proposed);
    }
    if (a->options->generate.sampler.temperature > 0) {  // else it decides nothing
        stats_add(&line, 0, "; seed %llu", (unsigned long long)a->seed);
    }
    if (a->used_date) {
        char date[16];
        stats_add(&line, 0, "; date %s", date_write(a->engine->chat_settings.date, date));
    }
    stats_add_threads(&line, 7, a->engine);
    stats_add(&line, 8, ", %s", ops_name());
    output_stats(&line);
}

// --------------------------------------------------------------------------------------------
// Generation

// Short enough to type again; where the system has no random numbers, from the clock.
static uint64_t system_seed(void)
{
    uint64_t seed = 0;
    const int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, &seed, sizeof seed) != (ssize_t)sizeof seed) {
        seed = (uint64_t)time(NULL) << 20 ^ (uint64_t)getpid();
    }
    if (fd >= 0) {
        close(fd);
    }
    return seed >> 16;
}

// Makes the guide that the options ask for.
static bool open_guide(Answer *a, Error *err)
{
    const Options *o = a->options;
    ConstraintSpec spec = o->generate.constraint;
    Buffer file = {0};
    Error why = {0};
    if (!spec.kind) {
        return true;
    }
    bool ok = constraint_load(&spec, &file, err) &&
              tokenizer_trie(a->engine->tokenizer, &a->trie, err);
    if (ok) {
        const ConstraintText text = {spec.text, strlen(spec.text)};
        ok = guide_open(&a->guide, spec.kind, text, &a->trie, &why) ||
             constraint_refused(&spec, &file, &why, err);
    }
    buffer_free(&file);
    const char *notes = ok ? guide_notes(a->guide) : NULL;
    if (notes && !o->quiet) {
        output_note("run: --json-schema: ignored these keywords or formats: %s", notes);
    }
    return ok;
}

bool answer_open(Answer *a, Engine *e, const Options *o, Output *out, Error *err)
{
    *a = (Answer){.engine = e,
                  .options = o,
                  .out = out,
                  .seed = option_given(o, "seed") ? o->seed : system_seed()};
    const size_t n_choices = o->generate.choices.n;
    // Rows of a pass that want logits.
    const size_t checked = n_choices ? CHOICE_ROWS : 1 + o->generate.lookup;
    e->n_lanes = n_choices < CHOICE_LANES ? n_choices : CHOICE_LANES;
    // Several lanes would interleave their rows, and run a prefix common to two lanes twice.
    e->n_lanes = o->digest ? 0 : e->n_lanes;
    if (!engine_open_cache(e, 1, o->chunk > checked ? o->chunk : checked, checked, err)) {
        return false;
    }
    if (!prompt_cache_attach(&a->prompt_cache, e, o, err) || !open_guide(a, err)) {
        answer_close(a);
        return false;
    }
    return true;
}

void answer_close(Answer *a)
{
    sequence_free(&a->sequence);
    guide_close(a->guide);
    token_trie_free(&a->trie);
    prompt_cache_detach(&a->prompt_cache, a->engine, a->out);
}

// Prints what there is of the text, and before that of the thought.
static bool print_text(Answer *a, Error *err)
{
    Sequence *s = &a->sequence;
    if (s->thought.ready.size) {
        output_thought(a->out, &s->thought.ready);
        a->thinking = true;
    }
    if (a->thinking && s->text.ready.size) {
        output_thought_end(a->out);
        a->thinking = false;
    }
    return output_write(a->out, &s->text.ready, err);
}

// See RunHooks.
static bool show_pass(void *arg, Sequence *s, const float *logits, Error *err)
{
    Answer *a = arg;
    const Options *o = a->options;
    if (!logits) {
        if (now_seconds() - a->start > PROGRESS_AFTER_SECONDS) {
            output_progress(a->out, "reading the prompt: %zu of %zu tokens", sequence_n_past(s),
                            s->n_prompt);
        }
        return true;
    }
    output_wipe(a->out);
    a->first_token = a->first_token > 0 ? a->first_token : now_seconds();
    if (o->digest) {
        output_digest(a->out, logits, a->engine->model.config.vocab_size);
    }
    return o->json || (!s->text.ready.size && !s->thought.ready.size) || print_text(a, err);
}

// See LogitsHook.
static void add_to_digest(void *arg, const float *logits)
{
    const Answer *a = arg;
    output_digest(a->out, logits, a->engine->model.config.vocab_size);
}

static bool start_sequence(Answer *a, Prompt *prompt, bool echo, Error *err)
{
    const SequenceSetup setup = {.tokenizer = a->engine->tokenizer,
                                 .options = &a->options->generate,
                                 .cache = &a->engine->cache,
                                 .seed = a->seed,
                                 .echo = echo,
                                 .guide = a->guide,
                                 .on_choices = {a->options->digest ? add_to_digest : NULL, a}};
    if (a->started) {
        return sequence_restart(&a->sequence, &a->engine->cache, prompt, err);
    }
    a->started = sequence_start(&a->sequence, &setup, prompt, err);
    return a->started;
}

// Prints the rest of the text, and ends its line.
static bool print_end(Answer *a, Error *err)
{
    if (!print_text(a, err)) {
        return false;
    }
    if (a->thinking) {
        output_thought_end(a->out);
    }
    buffer_add_text(&a->sequence.text.ready, "\n");
    return output_write(a->out, &a->sequence.text.ready, err);
}

bool answer_prompt(Answer *a, Prompt *prompt, bool echo, Error *err)
{
    Engine *e = a->engine;
    Sequence *s = &a->sequence;
    const RunHooks hooks = {output_interrupted(), show_pass, a};
    a->start = now_seconds();
    a->first_token = 0;
    a->used_date = prompt->used_date;
    a->thinking = false;
    if (!start_sequence(a, prompt, echo, err)) {
        return false;
    }
    // The last token is run in any case: its logits are wanted.
    a->cached = cache_reuse_prefix(&e->cache, s->cache_sequence, s->tokens.ids, s->n_prompt - 1);
    if (!sequence_run(s, e, &hooks, err)) {
        return false;
    }
    output_wipe(a->out);
    a->end = now_seconds();
    a->first_token = a->first_token > 0 ? a->first_token : a->end;
    if (a->options->json ? !print_json(a, err) : !print_end(a, err)) {
        return false;
    }
    buffer_clear(&s->text.ready);
    if (a->out->stats) {
        print_answer_stats(a);
    }
    return sequence_n_past(s) < s->n_prompt ||
           prompt_cache_save(&a->prompt_cache, &e->cache, s->cache_sequence, s->n_prompt, err);
}
