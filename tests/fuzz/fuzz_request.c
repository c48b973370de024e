// fuzz_request.c - a line of a batch, up to the tokens of its prompt; and its result, which has to
// be a line of JSON, whether it is a text or the error of a line that cannot be used.
//
//     mode 2 | line
//
// The bits of `mode`: 1 the line is itself a prompt, 2 prompts go through the chat template, 4
// names of special tokens count, 8 a prompt that does not fit is cut, 16 there is no chat template,
// 32 there is a system message, 64 the line is too long; the next two choose the template.

#include "base/buffer.h"
#include "base/error.h"
#include "batch/request.h"
#include "fuzz_text.h"

enum { CONTEXT = 64 };

// Makes the result of sequences, or if that is NULL of a failure. --resume has to tell which.
static void check_result(const Request *r, const Sequence *s)
{
    Error err = {0};
    Buffer out = {0};
    Json json = {0};
    if (s) {
        request_result(r, s, &out);
    } else {
        request_failure(r, &out);
    }
    FUZZ_CHECK(buffer_check(&out, &err), "%s", err.message);
    FUZZ_CHECK(out.size > 2 && memchr(out.data, '\n', out.size) == out.data + out.size - 1, "%s",
               out.data);
    FUZZ_CHECK(json_read(&json, out.data, out.size, &err), "%s: %s", err.message, out.data);
    FUZZ_CHECK(out.size > r->head.size && memcmp(out.data, r->head.data, r->head.size) == 0, "%s",
               out.data);
    const Line line = {.text = out.data, .size = out.size - 1, .number = 1, .ended = true};
    OldResult result;
    FUZZ_CHECK(result_read(&json, &line, &result, &err), "%s", err.message);
    FUZZ_CHECK(result.failed_line == (s ? 0 : r->number), "%s", out.data);
    FUZZ_CHECK(!result.lacks_hash, "%s", out.data);
    json_free(&json);
    buffer_free(&out);
}

// A cache of the least model, for one sequence: the logits here are made up, so nothing is in it
// but how long the sequence is.
static Cache *small_cache(void)
{
    static Cache cache;
    const Config config = {.dim = 2,
                           .hidden_dim = 2,
                           .n_layers = 1,
                           .n_heads = 1,
                           .n_kv_heads = 1,
                           .head_dim = 2,
                           .vocab_size = BYTE_PIECES,
                           .context_length = CONTEXT,
                           .rope_theta = 10000};
    Error err = {0};
    FUZZ_CHECK(cache.n_sequences || cache_create(&cache, &config, CONTEXT, 1, false, &err), "%s",
               err.message);
    cache_truncate(&cache, 0, 0);
    return &cache;
}

// Generates a choice with logits that the bytes of the line decide.
static void generate_choice(Sequence *s, const SequenceSetup *setup, Prompt *prompt,
                            const float *logits)
{
    Error err = {0};
    Row rows[CONTEXT] = {0};
    size_t position;
    cache_truncate(small_cache(), 0, 0);
    FUZZ_CHECK(sequence_start(s, setup, prompt, &err), "%s", err.message);
    while (!s->finish) {
        const size_t n = sequence_fill_rows(s, rows, CONTEXT);
        FUZZ_CHECK(n > 0 && rows[n - 1].wants_logits, "%zu rows", n);
        for (size_t i = 0; i < n; i++) {
            FUZZ_CHECK(cache_append(small_cache(), 0, rows[i].token, &position, &err), "%s",
                       err.message);
        }
        FUZZ_CHECK(sequence_accept(s, logits, &err), "%s", err.message);
    }
    FUZZ_CHECK(s->tokens.size <= CONTEXT, "%zu tokens", s->tokens.size);
    sequence_retire(s);
}

// Answers the request, unless its prompt is too long.
static void check_generation(Request *r, const Tokenizer *tokenizer, const Prompt *given, Input in)
{
    const Tokens *tokens = &given->tokens;
    Sequence choices[MAX_CHOICES] = {0};
    float logits[BYTE_PIECES];
    for (size_t i = 0; i < BYTE_PIECES; i++) {
        logits[i] = in.size ? (float)in.data[i % in.size] / 8 : 0;
    }
    if (!tokens->size || tokens->size >= CONTEXT) {
        error_set(&r->failure, ERROR_INPUT, "the prompt has %zu tokens", tokens->size);
        check_result(r, NULL);
        return;
    }
    fuzz_count("inputs of which a text was generated");
    for (size_t i = 0; i < r->n; i++) {
        const SequenceSetup setup = {.tokenizer = tokenizer,
                                     .options = &r->options,
                                     .cache = small_cache(),
                                     .seed = request_seed(r, i),
                                     .echo = r->echo};
        Prompt prompt = *given;
        Error err;
        prompt.tokens = (Tokens){0};
        for (size_t k = 0; k < tokens->size; k++) {
            FUZZ_CHECK(tokens_append(&prompt.tokens, tokens->ids[k], &err), "%s", err.message);
        }
        generate_choice(&choices[i], &setup, &prompt, logits);
    }
    check_result(r, choices);
    for (size_t i = 0; i < r->n; i++) {
        sequence_free(&choices[i]);
    }
}

// Templates that do different things with a request.
enum { N_TEMPLATES = 4 };
static const char *const templates[N_TEMPLATES] = {
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}",
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no ' + m.content) }}"
    "{% endif %}[{{ m.content | trim }}]{% endfor %}{% if enable_thinking is false %}<t></t>"
    "{% endif %}",
    "{{ strftime_now('%Y') }}{% for m in messages %}{{ m | tojson }}{% endfor %}<t>",
    "{{ tools | tojson }}{{ documents | tojson }}{% for m in messages %}{% if m.tool_calls %}"
    "{% for c in m.tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}{% endif %}"
    "<think>{{ m.reasoning_content }}</think>{{ m.content }}{% endfor %}",
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Tokenizer *tokenizer;
    static ChatTemplate chats[N_TEMPLATES];
    tokenizer = tokenizer ? tokenizer : byte_tokenizer();
    Input in = {data, size};
    const size_t mode = take_number(&in, 2);
    Error err = {0};
    ChatTemplate *chat = &chats[mode >> 7 & 3];
    if (!chat->jinja) {
        const char *text = templates[mode >> 7 & 3];
        const ChatSource source = {.name = "fuzz", .source = text, .size = strlen(text)};
        FUZZ_CHECK(chat_open(chat, &source, &err), "%s", err.message);
    }
    const ChatSettings settings = {.date = {2026, 1, 2}};
    const Options options = {.lines = mode & 1,
                             .chat = mode & 2 && !(mode & 16),
                             .special = mode & 4,
                             .truncate_prompt = mode & 8,
                             .system = mode & 32 ? "system" : NULL,
                             .generate = {.max_tokens = 16}};
    RequestDefaults defaults = {.options = &options,
                                .tokenizer = tokenizer,
                                .chat = mode & 16 ? NULL : chat,
                                .chat_settings = &settings,
                                .cache = small_cache(),
                                .model = "fuzz"};
    defaults.fingerprint = request_fingerprint(&defaults, 1);
    const Line line = {.text = mode & 64 ? "" : (const char *)in.data,
                       .size = mode & 64 ? 0 : in.size,
                       .number = 1,
                       .too_long = mode & 64};
    Request request = {0};
    Json json = {0};
    Prompt prompt = {0};
    FUZZ_CHECK(request_read(&request, &defaults, &json, &line, &err), "%s", err.message);
    FUZZ_CHECK(!line.too_long || request.failure.kind, "a line that is too long was accepted");
    if (!request.failure.kind && request_encode(&request, &defaults, &prompt, &request.failure)) {
        for (size_t i = 0; i < prompt.tokens.size; i++) {
            const int id = prompt.tokens.ids[i];
            FUZZ_CHECK(id >= 0 && id < BYTE_PIECES, "token %d", id);
        }
        check_generation(&request, tokenizer, &prompt, in);
    } else {
        FUZZ_CHECK(request.failure.kind == ERROR_INPUT, "%s", request.failure.message);
        check_result(&request, NULL);
    }
    prompt_free(&prompt);
    request_free(&request);
    json_free(&json);
    return 0;
}
