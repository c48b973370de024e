// fuzz_chat.c - opens a chat template, finds out what it can do, and renders and encodes a
// conversation with it.
//
//     roles 1 | mode 1 | source
//
// `roles` has two bits for each of up to four messages: 0 user, 1 system, 2 assistant, 3 no more.
// The bits of `mode`: 1 answers have ids, 2 names of special tokens in messages count, 4 without
// thinking.

#include "base/error.h"
#include "encode.h"
#include "fuzz_text.h"

enum { MOST_MESSAGES = 4 };

// Adds the messages, and what the answers among them were generated as. Returns the number of those.
static size_t add_messages(JsonBuilder *b, size_t roles, SpokenText *spoken, size_t *places)
{
    static const char text[] = " hi <end>\n", given[] = "x";
    static const Role roles_of[] = {ROLE_USER, ROLE_SYSTEM, ROLE_ASSISTANT};
    static const int ids[] = {BYTE_END, 'x'};
    size_t n = 0;
    const size_t list = build_open(b, NULL, JSON_ARRAY);
    for (size_t i = 0; i < MOST_MESSAGES && roles % 4 != 3; i++, roles /= 4) {
        const Role role = roles_of[roles % 4];
        const bool answer = role == ROLE_ASSISTANT;
        const size_t place = answer ? chat_add_message(b, role, given, sizeof given - 1)
                                    : chat_add_message(b, role, text, sizeof text - 1);
        if (answer) {
            spoken[n] = (SpokenText){.ids = ids, .n = 2, .previous = -1, .has_ends = true};
            places[n++] = place;
        }
    }
    build_close(b, list);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Tokenizer *tokenizer;
    tokenizer = tokenizer ? tokenizer : byte_tokenizer();
    Input in = {data, size};
    SpokenText spoken[MOST_MESSAGES];
    size_t places[MOST_MESSAGES];
    JsonBuilder messages = {0};
    const size_t n = add_messages(&messages, take_number(&in, 1), spoken, places);
    const size_t mode = take_number(&in, 1);
    char *source = (char *)exact_block(in.size);
    if (in.size) {
        memcpy(source, in.data, in.size);
    }
    for (size_t i = 0; i < n; i++) {
        spoken[i].value = &messages.values[places[i]];
    }
    Error err = {0};
    ChatTemplate chat;
    Prompt prompt = {0};
    const ChatSource from = {.name = "fuzz",
                             .source = source,
                             .size = in.size,
                             .eos = tokenizer_name(tokenizer, BYTE_END)};
    if (!chat_open(&chat, &from, &err)) {
        check_error(&err);
    } else {
        fuzz_count("inputs that were opened");
        const ChatPrompt p = {.conversation = {.messages = messages.values,
                                               .settings = {.date = {2026, 1, 2}},
                                               .think = mode & 4 ? THINK_OFF : THINK_DEFAULT,
                                               .special = mode & 2},
                              .spoken = spoken,
                              .n_spoken = mode & 1 ? n : 0};
        if (!prompt_encode_chat(tokenizer, &chat, &p, &prompt, &err)) {
            check_error(&err);
        }
        chat_close(&chat);
    }
    prompt_free(&prompt);
    build_free(&messages);
    free(source);
    return 0;
}
