// converse.c - a conversation at a terminal: each line is a message, until the end of input. The
// cache keeps all earlier turns, so only the new message is run. See modes.h.
#include <stdio.h>
#include <stdlib.h>

#include "cli/answer.h"
#include "cli/modes.h"
#include "cli/prompt.h"

// Answers one line of the user.
static bool answer_line(Answer *a, const char *line, size_t size, Error *err)
{
    const Options *o = a->options;
    Tokens message = {0};
    const bool ok = prompt_encode_message(a->engine, o, (TextSpan){line, size, o->special},
                                          a->started, &message, err) &&
                    answer_prompt(a, &message, false, err);
    tokens_free(&message);
    return ok;
}

bool mode_converse(Engine *e, const Options *o, Output *out, Error *err)
{
    Answer answer;
    char *line = NULL;
    size_t capacity = 0;
    bool ok = true;
    if (!answer_open(&answer, e, o, out, err)) {
        return false;
    }
    output_catch_signals();
    while (ok && !*output_interrupted()) {
        output_prompt();
        const ssize_t length = getline(&line, &capacity, stdin);
        if (length < 0) {
            output_prompt_end();
            break;
        }
        ok = answer_line(&answer, line, (size_t)length - (line[length - 1] == '\n'), err);
    }
    free(line);
    answer_close(&answer);
    return ok;
}
