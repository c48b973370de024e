// checkpoint.h - maps a checkpoint file, checks all of its structure before anything reads it, and
// hands out views of its tensors.
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include "base/error.h"
#include "base/files.h"
#include "formats/config.h"
#include "ops.h"

// A named matrix, or a vector (the weights of a norm, a bias): its values in order, padded with
// zeros to a multiple of 16.
typedef struct {
    char name[48];  // hierarchical: blocks.3.attn.q_proj
    bool vector;
    Matrix matrix;  // of a vector: rows 1, cols its length, type f32
    size_t bytes;   // padding included
} Tensor;

// A section of plain bytes.
typedef struct {
    const uint8_t *data;  // NULL: the file has no such section
    size_t size;
} Bytes;

typedef struct {
    const char *path;  // the caller's; for messages
    Config config;
    Sampling sampling;  // what the model's makers recommend
    Tensor *tensors;    // owned
    size_t n_tensors;
    Tensor **by_name;  // (n_tensors): pointers to them, sorted by name; owned
    Bytes config_section, tokenizer, chat, provenance;
    bool repacked;        // a llama2.c file: the tensors are copies in the layout of the kernels
    Mapping file;         // owned; a native file's tensors point into it
    void *memory;         // the copies of a repacked file, owned; else NULL
    size_t memory_bytes;  // size of memory
} Checkpoint;

// Maps a native checkpoint (docs/format.md), or reads one of llama2.c's three kinds (llama2c.h).
// The whole structure is checked, to the byte; the contents of the sections are not. Errors:
// ERROR_INPUT naming the file, the field, the value found and the value expected. `path` must
// outlive the checkpoint. On failure *c is closed.
bool checkpoint_open(Checkpoint *c, const char *path, size_t threads, Error *err);

// The same for a file that is mapped already; takes the mapping over. `path` is only for messages.
// The bytes must be aligned to 64.
bool checkpoint_open_mapping(Checkpoint *c, const char *path, Mapping file, size_t threads,
                             Error *err);
void checkpoint_close(Checkpoint *c);

// Reads a native file from end to end and compares its checksums. A repacked file has none, and
// must not be given. Errors: ERROR_INPUT naming the first damaged section.
bool checkpoint_verify(const Checkpoint *c, size_t threads, Error *err);

// A number that differs between checkpoints, but for a chance of about 2^-32. For a native file it
// comes from header_crc, which covers the checksums of all sections; for a llama2.c file from a
// checksum of all weights, which has to read them.
uint64_t checkpoint_fingerprint(const Checkpoint *c);

// Finds a matrix (rows, cols) or a vector (n) by name. Errors: ERROR_INPUT when it is missing or
// has another shape.
bool checkpoint_matrix(const Checkpoint *c, const char *name, size_t rows, size_t cols, Matrix *out,
                       Error *err);
bool checkpoint_vector(const Checkpoint *c, const char *name, size_t n, const float **out,
                       Error *err);

#endif
