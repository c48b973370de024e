// fuzz_request.c - a line of a batch, up to the tokens of its prompt; and its result, which has to
// be a line of JSON, be it a text or the error of a line that cannot be used.
//
//     mode 2 | line
//
// The bits of `mode`: 1 the line is itself a prompt, 2 prompts go through the chat template, 4
// names of special tokens count, 8 a prompt that does not fit is cut, 16 there is no chat template,
// 32 there is a system message, 64 the line is too long; the next three are the template's flags.

#include "base/buffer.h"
#include "base/error.h"
#include "batch/request.h"
#include "fuzz_text.h"

enum { CONTEXT = 64 };

// The result's line of a sequence, or of an error. What a stopped batch finds of it tells which.
static void check_result(const Request *r, const Sequence *s, const Error *failure)
{
    Error err = {0};
    Buffer out = {0};
    Json json = {0};
    const bool ok = s ? request_result(r, s, &out, &err) : request_failure(r, failure, &out, &err);
    FUZZ_CHECK(ok, "%s", err.message);
    FUZZ_CHECK(out.size > 2 && memchr(out.data, '\n', out.size) == out.data + out.size - 1, "%s",
               out.data);
    FUZZ_CHECK(json_read(&json, out.data, out.size, &err), "%s: %s", err.message, out.data);
    FUZZ_CHECK(out.size > r->head.size && memcmp(out.data, r->head.data, r->head.size) == 0, "%s",
               out.data);
    const bool failed = request_failed(r, out.data + r->head.size, out.size - r->head.size);
    FUZZ_CHECK(failed == !s, "%s", out.data);
    json_free(&json);
    buffer_free(&out);
}

// Generates from the request with made-up logits, which the bytes of the line decide.
static void check_generation(const Request *r, const Tokenizer *tokenizer, Tokens *tokens, Input in)
{
    Error err = {0};
    Sequence sequence = {0};
    Row rows[CONTEXT] = {0};
    float logits[BYTE_PIECES];
    for (size_t i = 0; i < BYTE_PIECES; i++) {
        logits[i] = in.size ? (float)in.data[i % in.size] / 8 : 0;
    }
    CachedSequence cached = {0};
    const Cache cache = {.context = CONTEXT, .sequences = &cached, .n_sequences = 1};
    const SequenceSetup setup = {tokenizer, &r->options, &cache, 0, r->seed, r->echo};
    if (sequence_start(&sequence, &setup, tokens, &err)) {
        fuzz_count("inputs of which a text was generated");
        while (!sequence.finish) {
            const size_t n = sequence_rows(&sequence, rows, CONTEXT);
            FUZZ_CHECK(n > 0 && rows[n - 1].wants_logits, "%zu rows", n);
            cached.length += n;
            FUZZ_CHECK(sequence_accept(&sequence, logits, &err), "%s", err.message);
        }
        FUZZ_CHECK(sequence.tokens.size <= CONTEXT, "%zu tokens", sequence.tokens.size);
        check_result(r, &sequence, NULL);
    } else {
        FUZZ_CHECK(err.kind == ERROR_INPUT, "%s", err.message);
        check_result(r, NULL, &err);
    }
    sequence_free(&sequence);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Tokenizer *tokenizer;
    uint8_t template[4 + 5 * 4 + 5] = {0, 0, 0, 0,   1, 0, 0, 0, 'u', 1, 0, 0, 0, 's', 1,
                                       0, 0, 0, 'm', 1, 0, 0, 0, 'a', 1, 0, 0, 0, 'n'};
    tokenizer = tokenizer ? tokenizer : byte_tokenizer();
    Input in = {data, size};
    const size_t mode = take_number(&in, 2);
    Error err = {0};
    ChatTemplate chat;
    template[0] = mode >> 7 & 7;
    FUZZ_CHECK(chat_open(&chat, "fuzz", template, sizeof template, &err), "%s", err.message);
    RequestDefaults defaults = {.tokenizer = tokenizer,
                                .chat = mode & 16 ? NULL : &chat,
                                .model = "fuzz",
                                .context = CONTEXT,
                                .lines = mode & 1,
                                .through_chat = mode & 2 && !(mode & 16),
                                .special = mode & 4,
                                .truncate = mode & 8,
                                .system = mode & 32 ? "system" : NULL,
                                .generate = {.max_tokens = 16}};
    defaults.fingerprint = request_fingerprint(&defaults, 1, mode & 1);
    Request request = {0};
    Json json = {0};
    Tokens tokens = {0};
    const char *line = (const char *)in.data;
    if (mode & 64) {
        FUZZ_CHECK(!request_too_long(&request, &defaults, 1, CONTEXT, &err), "line accepted");
        check_result(&request, NULL, &err);
    } else if (request_read(&request, &defaults, &json, line, in.size, 1, &err) &&
               request_encode(&request, &defaults, &tokens, &err)) {
        for (size_t i = 0; i < tokens.size; i++) {
            FUZZ_CHECK(tokens.ids[i] >= 0 && tokens.ids[i] < BYTE_PIECES, "token %d",
                       tokens.ids[i]);
        }
        check_generation(&request, tokenizer, &tokens, in);
    } else {
        FUZZ_CHECK(err.kind == ERROR_INPUT || err.kind == ERROR_RUN, "%d", (int)err.kind);
        check_result(&request, NULL, &err);
    }
    tokens_free(&tokens);
    request_free(&request);
    json_free(&json);
    return 0;
}
