// convert.c - writes a model as a native checkpoint: --convert. See modes.h.
#include "formats/convert.h"

#include <string.h>

#include "base/threads.h"
#include "cli/calibrate.h"
#include "cli/modes.h"
#include "formats/tensors.h"

// The types of some matrices of the new file: the one that was chosen; else those of the model, "q4m",
// or "q4+q8" in the order of the table.
static void add_types(const Checkpoint *c, bool outside_blocks, WeightType chosen, Buffer *out)
{
    if (chosen != KEEP_TYPE) {
        buffer_add_text(out, weight_types[chosen].name);
        return;
    }
    bool has[N_WEIGHT_TYPES] = {false};
    for (size_t i = 0; i < c->n_tensors; i++) {
        const Tensor *t = &c->tensors[i];
        has[t->matrix.type] |= !t->vector && !name_in_block(t->name) == outside_blocks;
    }
    const char *between = "";
    for (size_t i = 0; i < N_WEIGHT_TYPES; i++) {
        if (has[i]) {
            buffer_addf(out, "%s%s", between, weight_types[i].name);
            between = "+";
        }
    }
    buffer_add_text(out, *between ? "" : "none");
}

// The provenance of the new file: that of the old one, and this step.
static void add_this_step(Buffer *out, const Engine *e, const Options *o, const Conversion *v)
{
    const Checkpoint *c = &e->checkpoint;
    const char *slash = strrchr(c->path, '/');
    if (c->provenance.size) {
        buffer_add(out, c->provenance.data, c->provenance.size);
        buffer_add_text(out, c->provenance.data[c->provenance.size - 1] == '\n' ? "" : "\n");
    }
    buffer_add_text(out, "source: ");
    for (const char *name = slash ? slash + 1 : c->path; *name; name++) {
        buffer_add(out, (unsigned char)*name < ' ' ? " " : name, 1);
    }
    buffer_add_text(out, "\ntype: ");
    add_types(c, false, v->type, out);
    buffer_add_text(out, "\nhead_type: ");
    add_types(c, true, v->head_type, out);
    buffer_add_text(out, "\nconverter: run " PROGRAM_VERSION "\n");
    buffer_add_text(out, o->calibrate ? "calibrated: yes\n" : "");
    for (size_t i = 0; i < o->set.n; i++) {
        buffer_addf(out, "set: %s=%.9g\n", o->set.values[i].name, o->set.values[i].value);
    }
}

// A model whose tensors are not those of its config is not worth writing.
static bool check_complete(const Checkpoint *c, Error *err)
{
    Model m;
    if (c->config.vocab_only) {
        return true;
    }
    const bool ok = model_create(&m, c, err);
    model_free(&m);
    return ok;
}

// The types that the options choose. With 4 or 5 bits, embedding and lm_head are q8 by default.
static void read_types(Conversion *v, const Options *o)
{
    const WeightType t = o->weight_type;
    v->type = t;
    v->head_type = o->head_type != KEEP_TYPE                     ? o->head_type
                   : t != KEEP_TYPE && weight_types[t].quantized ? WEIGHT_Q8
                                                                 : t;
}

// Are there matrices whose quantisation asks which columns matter?
static bool needs_importance(const Checkpoint *c, WeightType type)
{
    bool any = false;
    for (size_t i = 0; i < c->n_tensors; i++) {
        const Tensor *t = &c->tensors[i];
        any |= !t->vector && t->matrix.type != type && name_in_block(t->name) &&
               !is_router(t->name);
    }
    return any && type != KEEP_TYPE && weight_types[type].quantized;
}

// A text from which nothing would be learnt must not be thought to have been of use.
static bool check_calibrates(const Checkpoint *c, const Options *o, Error *err)
{
    if (!o->calibrate || needs_importance(c, o->weight_type)) {
        return true;
    }
    const char *type = weight_types[o->weight_type].name;
    return !weight_types[o->weight_type].quantized
               ? error_set(err, ERROR_USAGE,
                           "--calibrate: weights are not quantised by --type %s, expected q8, q4, "
                           "q4m, q4t, q5 or q5m",
                           type)
               : error_set(err, ERROR_INPUT,
                           "%s: --calibrate: has no matrices that would be quantised to %s",
                           c->path, type);
}

static bool write_converted(const Engine *e, const Options *o, Conversion *v, Output *out,
                            Error *err)
{
    Buffer provenance = {0}, tokenizer = {0};
    ByteCount writing = {out, "writing"};
    add_this_step(&provenance, e, o, v);
    tokenizer_write_section(e->tokenizer, &tokenizer);
    v->provenance = (Bytes){(const uint8_t *)provenance.data, provenance.size};
    v->tokenizer = (Bytes){(const uint8_t *)tokenizer.data, tokenizer.size};
    v->chat = e->has_chat ? e->checkpoint.chat : (Bytes){0};
    v->threads = o->engine.threads ? o->engine.threads : team_max();
    v->progress = output_byte_progress(&writing);
    const bool ok = buffer_check(&provenance, err) && buffer_check(&tokenizer, err) &&
                    checkpoint_convert(&e->checkpoint, v, out->file.fd, o->output, err);
    output_wipe(out);
    if (ok) {
        output_note_substitutes(out, &e->checkpoint);
    }
    if (ok && e->chat_error.kind) {
        output_note("run: left out: %s", e->chat_error.message);
    }
    buffer_free(&provenance);
    buffer_free(&tokenizer);
    return ok;
}

bool mode_convert(Engine *e, const Options *o, Output *out, Error *err)
{
    Calibration *calibration = NULL;
    Conversion v = {0};
    read_types(&v, o);
    bool ok = check_complete(&e->checkpoint, err) && check_calibrates(&e->checkpoint, o, err);
    if (ok && needs_importance(&e->checkpoint, v.type)) {
        ok = calibrate(&calibration, e, o, out, err);
        v.guide = (QuantizationGuide){calibration_measure, calibration};
    }
    ok = ok && write_converted(e, o, &v, out, err);
    calibration_free(calibration);
    return ok;
}
