// tokenize.c - encodes and decodes many strings in one process, for tests/test_tokenizer.py.
//
//     tokenize VOCABULARY VOCAB_SIZE < requests > answers
//
// VOCABULARY is a file that holds the tokenizer section of a checkpoint, or llama2.c's
// tokenizer.bin if its name ends in .bin. All numbers are u32 in the machine's byte order:
//
//     request    number of bytes at the start in which names of special tokens count; length, the
//                bytes
//     answer     number of ids, the ids, length of the decoded text, the bytes
//                or ffffffff, length of the error message, the message
//
// BOS is never added. Exit status and error message are those of the program.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/files.h"
#include "tokenizer.h"

static bool put(const void *data, size_t size)
{
    return size == 0 || fwrite(data, 1, size, stdout) == size;
}

static bool put_text(const char *text, size_t size)
{
    const uint32_t n = (uint32_t)size;
    return put(&n, sizeof n) && put(text, size);
}

// Encodes a text, decodes the tokens again, and writes the answer; false if it cannot be written.
static bool answer(const Tokenizer *t, const char *text, size_t size, size_t special)
{
    Tokens tokens = {0};
    Buffer decoded = {0};
    Error err = {0};
    const TextSpan spans[] = {{text, special, true, false},
                              {text + special, size - special, false, false}};
    bool ok = tokenizer_encode(t, spans, 2, false, &tokens, &err);
    for (size_t i = 0; ok && i < tokens.size; i++) {
        size_t n;
        const char *bytes = tokenizer_decode(t, i ? tokens.ids[i - 1] : -1, tokens.ids[i], &n);
        buffer_add(&decoded, bytes, n);
    }
    ok = ok && buffer_check(&decoded, &err);
    const uint32_t n_ids = ok ? (uint32_t)tokens.size : UINT32_MAX;
    bool written = put(&n_ids, sizeof n_ids);
    if (ok) {
        written = written && put(tokens.ids, tokens.size * sizeof *tokens.ids) &&
                  put_text(decoded.data, decoded.size);
    } else {
        written = written && put_text(err.message, strlen(err.message));
    }
    tokens_free(&tokens);
    buffer_free(&decoded);
    return written;
}

// Answers requests until the input ends; false if one is incomplete or cannot be answered.
static bool answer_all(const Tokenizer *t)
{
    char *text = NULL;
    uint32_t head[2];  // special, length
    bool ok = true;
    while (ok && fread(head, sizeof head, 1, stdin) == 1) {
        char *grown = realloc(text, head[1] + (size_t)1);
        text = grown ? grown : text;
        ok = grown && fread(text, 1, head[1], stdin) == head[1] &&
             answer(t, text, head[1], head[0] < head[1] ? head[0] : head[1]);
    }
    free(text);
    return ok && fflush(stdout) == 0;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: tokenize VOCABULARY VOCAB_SIZE\n");
        return ERROR_USAGE;
    }
    const char *path = argv[1];
    const size_t vocab_size = strtoul(argv[2], NULL, 10), length = strlen(path);
    Error err = {0};
    Mapping file = {0};
    Tokenizer *t = NULL;
    const bool llama2c = length > 4 && strcmp(path + length - 4, ".bin") == 0;
    bool ok = llama2c
                  ? tokenizer_open_llama2c(&t, path, vocab_size, &err)
                  : mapping_open(&file, path, &err) &&
                        tokenizer_open_section(&t, path, file.data, file.size, vocab_size, &err);
    if (!ok) {
        fprintf(stderr, "%s\n", err.message);
        mapping_close(&file);
        return (int)err.kind;
    }
    ok = answer_all(t);
    tokenizer_free(t);
    mapping_close(&file);
    return ok ? 0 : ERROR_RUN;
}
