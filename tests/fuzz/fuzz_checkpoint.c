// fuzz_checkpoint.c - the native checkpoint (an input is as fuzz_native.h says), from its header to
// the logits of what is accepted.
#include "fuzz_model.h"
#include "fuzz_native.h"

static void open_chats(const NativeFile *file)
{
    for (size_t i = 0; i < file->n_sections; i++) {
        const uint8_t *entry = file->data + HEADER + i * ENTRY;
        uint64_t offset, size;
        memcpy(&offset, entry + 64, sizeof offset);
        memcpy(&size, entry + 72, sizeof size);
        if (memcmp(entry, "chat", 5) == 0) {
            Error err = {0};
            ChatTemplate chat;
            if (!chat_open(&chat, "fuzz", file->data + offset, size, &err)) {
                check_error(&err);
            }
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input in = {data, size};
    const size_t mode = take_number(&in, 1), token = take_number(&in, 1);
    const NativeFile file = native_file(mode, token, in, true);
    open_chats(&file);
    run_checkpoint(file.data, file.size, token);
    return 0;
}
