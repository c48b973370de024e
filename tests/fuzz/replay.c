// replay.c - runs a fuzz target over given files instead of generated inputs: replay FILE...
//
// A target ends the process when it finds something: the last file named on stderr is the one that
// made it fail.

#include "base/buffer.h"
#include "base/error.h"
#include "base/files.h"
#include "fuzz.h"

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        Error err = {0};
        Buffer file = {0};
        fprintf(stderr, "%s\n", argv[i]);
        if (!read_file(argv[i], SIZE_MAX / 2, &file, &err)) {
            fprintf(stderr, "%s\n", err.message);
            return ERROR_RUN;
        }
        uint8_t *exact = exact_block(file.size);
        if (file.size) {
            memcpy(exact, file.data, file.size);
        }
        LLVMFuzzerTestOneInput(exact, file.size);
        free(exact);
        buffer_free(&file);
    }
    return 0;
}
