// complete.c - one prompt: its continuation, or with --chat the answer to it. See modes.h.
#include "cli/answer.h"
#include "cli/modes.h"
#include "cli/prompt.h"

bool mode_complete(Engine *e, const Options *o, Output *out, Error *err)
{
    Answer answer;
    Prompt prompt = {0};
    if (!answer_open(&answer, e, o, out, err)) {
        return false;
    }
    bool ok = prompt_read(e, o, &prompt, err);
    if (ok) {
        output_catch_signals();
        ok = answer_prompt(&answer, &prompt, !o->no_echo && !o->chat, err);
    }
    prompt_free(&prompt);
    answer_close(&answer);
    return ok;
}
