// batch_mode.c - a file of requests: what the command line contributes to batch.h, and what is said
// about the run. See modes.h.
#include <math.h>

#include "batch/batch.h"
#include "cli/answer.h"
#include "cli/constraint_file.h"
#include "cli/modes.h"
#include "cli/prompt.h"

// See BatchSetup.
static void draw_batch(void *arg, const BatchStats *s)
{
    Buffer line = {0};
    const size_t done = s->done - s->kept;
    buffer_addf(&line, "%zu", s->done);
    if (s->total) {
        buffer_addf(&line, " of %zu", s->total);
    }
    buffer_addf(&line, " requests done, %.1f tok/s", tokens_per_second(s->new_tokens, s->seconds));
    if (s->total > s->done && done) {
        const double left = s->seconds / (double)done * (double)(s->total - s->done);
        buffer_addf(&line, ", %.0f:%02.0f left", floor(left / 60), floor(fmod(left, 60)));
    }
    output_progress(arg, "%s", line.size ? line.data : "");
    buffer_free(&line);
}

static void print_batch_stats(const Engine *e, const Options *o, const BatchStats *s)
{
    StatsLine line = {0};
    stats_add(&line, 0, "requests %zu", s->done);
    if (o->resume) {
        stats_add(&line, 1, ", %zu kept", s->kept);
    }
    if (s->failed) {
        stats_add(&line, 0, ", failed %zu", s->failed);
    }
    stats_add(&line, 4, "; prompt %zu tokens", s->prompt_tokens);
    stats_add(&line, 4, ", %zu cached", s->shared_tokens);
    stats_add(&line, 0, "; new %zu tokens", s->new_tokens);
    stats_add_speed(&line, 2, tokens_per_second(s->new_tokens, s->seconds));
    if (s->proposed) {
        stats_add(&line, 3, ", %zu of %zu proposed", s->accepted, s->proposed);
    }
    stats_add(&line, 5, "; %.1f s", s->seconds);
    stats_add(&line, 6, "; seed %llu", (unsigned long long)o->seed);
    if (e->has_chat && e->chat.uses_date) {
        char date[16];
        stats_add(&line, 6, "; date %s", date_write(e->chat_settings.date, date));
    }
    stats_add_threads(&line, 7, e);
    stats_add(&line, 8, ", %s", ops_name());
    stats_add(&line, 9, "; %zu in parallel", o->parallel);
    output_stats(&line);
}

// Where a batch was interrupted, or requests failed, the user is told what to do about it.
static bool conclude(const Options *o, const BatchStats *s, Error *err)
{
    if (*output_interrupted()) {
        if (o->output) {
            output_note("run: %s: interrupted after %zu requests; --resume%s continues it",
                        o->output, s->done, o->retry ? " --retry" : "");
        }
        return true;
    }
    return !s->failed ||
           error_set(err, ERROR_RUN, "%s: %zu of %zu requests failed, the first in line %llu",
                     o->batch, s->failed, s->done, (unsigned long long)s->first_failed);
}

// See BatchSetup.
static void note_unknown(uint64_t line, const char *notes)
{
    output_note("run: line %llu: schema: ignored these keywords or formats: %s",
                (unsigned long long)line, notes);
}

// The command line's constraint is checked before any request is read: it would fail all of them.
static bool load_constraint(ConstraintSpec *spec, Buffer *file, Error *err)
{
    return !spec->kind ||
           (constraint_load(spec, file, err) && constraint_compiles(spec, file, err));
}

// Answers the requests, whose defaults are complete.
static bool run_batch(Engine *e, const Options *o, Output *out, Error *err)
{
    PromptCache prompt_cache;
    BatchStats stats;
    e->n_lanes = CHOICE_LANES;
    if (!engine_open_cache(e, o->parallel, o->chunk + o->parallel, o->parallel + SCORED_ROWS,
                           err)) {
        return false;
    }
    bool ok = prompt_cache_attach(&prompt_cache, e, o, err);
    // Of a file without checksums it takes long: not twice.
    uint64_t fingerprint = prompt_cache.model.fingerprint;
    ok = ok && (o->prompt_cache || checkpoint_fingerprint(&e->checkpoint, &fingerprint, err));
    if (ok) {
        const BatchSetup setup = {.options = o,
                                  .fingerprint = fingerprint,
                                  .prompt_cache = &prompt_cache,
                                  .interrupted = output_interrupted(),
                                  .progress = out->progress ? draw_batch : NULL,
                                  .notes = o->quiet ? NULL : note_unknown,
                                  .arg = out};
        output_catch_signals();
        ok = batch_run(e, &setup, &stats, err);
    }
    output_wipe(out);
    if (ok && out->stats) {
        print_batch_stats(e, o, &stats);
    }
    prompt_cache_detach(&prompt_cache, e, out);
    return ok && conclude(o, &stats, err);
}

bool mode_batch(Engine *e, const Options *o, Output *out, Error *err)
{
    Options loaded = *o;
    Buffer schema = {0};
    const bool ok = load_constraint(&loaded.generate.constraint, &schema, err) &&
                    run_batch(e, &loaded, out, err);
    buffer_free(&schema);
    return ok;
}
