// convert.c - writes a model as a native checkpoint: --convert. See modes.h.
#include "formats/convert.h"

#include <string.h>

#include "base/threads.h"
#include "cli/modes.h"

// The types of some matrices of a model: "q4m", or "q4+q8" in the order of the table.
static void add_types(const Checkpoint *c, bool outside_blocks, Buffer *out)
{
    bool has[N_WEIGHT_TYPES] = {false};
    for (size_t i = 0; i < c->n_tensors; i++) {
        const Tensor *t = &c->tensors[i];
        const bool in_block = strncmp(t->name, "blocks.", 7) == 0;
        has[t->matrix.type] |= !t->vector && in_block != outside_blocks;
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
static void add_this_step(Buffer *out, const Engine *e, const Options *o)
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
    add_types(c, false, out);
    buffer_add_text(out, "\nhead_type: ");
    add_types(c, true, out);
    buffer_add_text(out, "\nconverter: run " PROGRAM_VERSION "\n");
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

bool mode_convert(Engine *e, const Options *o, Output *out, Error *err)
{
    const Checkpoint *c = &e->checkpoint;
    Buffer provenance = {0}, tokenizer = {0};
    ByteCount writing = {out, "writing"};
    add_this_step(&provenance, e, o);
    tokenizer_write_section(e->tokenizer, &tokenizer);
    const Conversion v = {.provenance = {(const uint8_t *)provenance.data, provenance.size},
                          .tokenizer = {(const uint8_t *)tokenizer.data, tokenizer.size},
                          .chat = e->has_chat ? c->chat : (Bytes){0},
                          .threads = o->engine.threads ? o->engine.threads : team_max(),
                          .progress = output_byte_progress(&writing)};
    const bool ok = check_complete(c, err) && buffer_check(&provenance, err) &&
                    buffer_check(&tokenizer, err) &&
                    checkpoint_convert(c, &v, out->file.fd, o->output, err);
    output_wipe(out);
    if (ok && e->chat_error.kind) {
        output_note("run: left out: %s", e->chat_error.message);
    }
    buffer_free(&provenance);
    buffer_free(&tokenizer);
    return ok;
}
