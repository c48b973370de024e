// fuzz_chat.c - opens the chat section of a native checkpoint, and renders a conversation with an
// accepted template.
//
//     roles 1 | mode 1 | section
//
// `roles` has two bits for each of up to four messages: 0 user, 1 system, 2 assistant, 3 no more.
// The bits of `mode`: 1 answers have ids, 2 names of special tokens in messages count.

#include "base/error.h"
#include "fuzz_text.h"
#include "generate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = " hi <end>\n", given[] = "x";
    static const Role roles_of[] = {ROLE_USER, ROLE_SYSTEM, ROLE_ASSISTANT};
    static const int ids[] = {BYTE_END, 'x'};
    static Tokenizer *tokenizer;
    tokenizer = tokenizer ? tokenizer : byte_tokenizer();
    Input in = {data, size};
    size_t roles = take_number(&in, 1), n = 0;
    const size_t mode = take_number(&in, 1);
    Message messages[4];
    for (; n < 4 && roles % 4 != 3; roles /= 4) {
        const Role role = roles_of[roles % 4];
        messages[n++] = role == ROLE_ASSISTANT && mode & 1
                            ? (Message){role, given, sizeof given - 1, ids, 2}
                            : (Message){role, text, sizeof text - 1, NULL, 0};
    }
    uint8_t *section = exact_block(in.size);
    if (in.size) {
        memcpy(section, in.data, in.size);
    }
    Error err = {0};
    ChatTemplate chat;
    Tokens tokens = {0};
    if (!chat_open(&chat, "fuzz", section, in.size, &err)) {
        check_error(&err);
    } else {
        const TextSpan texts[] = {chat.start_user, chat.start_system, chat.system_user,
                                  chat.user_assistant, chat.assistant_user};
        size_t bytes = 4;
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
            FUZZ_CHECK((const uint8_t *)texts[i].text == section + bytes + 4, "text %zu", i);
            bytes += 4 + texts[i].size;
        }
        FUZZ_CHECK(bytes == in.size, "%zu of %zu bytes", bytes, in.size);
        fuzz_count("inputs that were opened");
        const Conversation conversation = {messages, n, mode & 2};
        if (!prompt_encode_chat(tokenizer, &chat, &conversation, &tokens, &err)) {
            check_error(&err);
        }
    }
    tokens_free(&tokens);
    free(section);
    return 0;
}
