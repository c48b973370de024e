// fuzz_request.c - a line of a batch, up to the tokens of its prompt; and the result of one that
// cannot be used, which has to be a line of JSON.
//
//     mode 1 | line
//
// The bits of `mode`: 1 the line is itself a prompt, 2 prompts go through the chat template, 4
// names of special tokens count, 8 a prompt that does not fit is cut, 16 there is no chat template.
#include "fuzz.h"
#include "request.h"

enum { END = 256, PIECES = 257, CONTEXT = 64 };

// Byte-level BPE without a merge: token 0 .. 255 is that byte, 256 the special token <end>.
static Tokenizer *make_tokenizer(void)
{
    static const char name[] = "<end>";
    static uint8_t section[64 + 4 + 4 * (PIECES + 1) + PIECES + 256 + sizeof name - 1];
    const uint64_t n_bytes = 256 + sizeof name - 1;
    uint8_t *offsets = section + 64 + 4, *attributes = offsets + 4 * (PIECES + 1);
    put_u32(section, 1);                // kind
    put_u32(section + 4, 1);            // pre_tokenizer
    put_u32(section + 12, PIECES);      // vocab_size
    put_u32(section + 20, UINT32_MAX);  // bos: -1
    put_u32(section + 24, UINT32_MAX);  // unknown: -1
    put_u32(section + 28, 1);           // n_end
    memcpy(section + 32, &n_bytes, sizeof n_bytes);
    put_u32(section + 64, END);
    for (size_t i = 0; i < 256; i++) {
        put_u32(offsets + 4 * i, i);
        attributes[PIECES + i] = (uint8_t)i;
    }
    put_u32(offsets + 4 * END, 256);
    put_u32(offsets + 4 * PIECES, n_bytes);
    attributes[END] = 1;
    memcpy(attributes + PIECES + 256, name, sizeof name - 1);
    Error err = {0};
    Tokenizer *t;
    FUZZ_CHECK(tokenizer_open_section(&t, "fuzz", section, sizeof section, PIECES, &err), "%s",
               err.message);
    return t;
}

static void check_failure(const Request *r, const Error *failure)
{
    Error err = {0};
    Buffer out = {0};
    Json json = {0};
    FUZZ_CHECK(request_failure(r, failure, &out, &err), "%s", err.message);
    FUZZ_CHECK(out.size > 2 && memchr(out.data, '\n', out.size) == out.data + out.size - 1, "%s",
               out.data);
    FUZZ_CHECK(json_read(&json, out.data, out.size, &err), "%s: %s", err.message, out.data);
    json_free(&json);
    buffer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Tokenizer *tokenizer;
    static const uint8_t template[4 + 5 * 4 + 5] = {2, 0, 0, 0,   1, 0, 0, 0, 'u', 1,
                                                    0, 0, 0, 's', 1, 0, 0, 0, 'm', 1,
                                                    0, 0, 0, 'a', 1, 0, 0, 0, 'n'};
    tokenizer = tokenizer ? tokenizer : make_tokenizer();
    Input in = {data, size};
    const size_t mode = take_number(&in, 1);
    Error err = {0};
    ChatTemplate chat;
    FUZZ_CHECK(chat_open(&chat, "fuzz", template, sizeof template, &err), "%s", err.message);
    const RequestDefaults defaults = {.tokenizer = tokenizer,
                                      .chat = mode & 16 ? NULL : &chat,
                                      .model = "fuzz",
                                      .context = CONTEXT,
                                      .lines = mode & 1,
                                      .through_chat = mode & 2 && !(mode & 16),
                                      .special = mode & 4,
                                      .truncate = mode & 8,
                                      .generate = {.max_tokens = 16}};
    Request request = {0};
    Json json = {0};
    Tokens tokens = {0};
    if (request_read(&request, &defaults, &json, (const char *)in.data, in.size, 1, &err) &&
        request_encode(&request, &defaults, &tokens, &err)) {
        for (size_t i = 0; i < tokens.size; i++) {
            FUZZ_CHECK(tokens.ids[i] >= 0 && tokens.ids[i] < PIECES, "token %d", tokens.ids[i]);
        }
    } else {
        FUZZ_CHECK(err.kind == ERROR_INPUT || err.kind == ERROR_RUN, "%d", (int)err.kind);
        check_failure(&request, &err);
    }
    tokens_free(&tokens);
    request_free(&request);
    json_free(&json);
    return 0;
}
