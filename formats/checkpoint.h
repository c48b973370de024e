// checkpoint.h - maps a checkpoint file, checks all of its structure before anything reads it, and
// hands out views of its tensors.
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include "base/error.h"
#include "base/files.h"
#include "base/progress.h"
#include "formats/config.h"
#include "ops.h"

// A named matrix, or a vector (the weights of a norm, a bias): its values in order, padded with
// zeros to a multiple of 16.
typedef struct {
    char name[48];  // hierarchical: blocks.3.attn.q_proj
    bool vector;
    Matrix matrix;  // of a vector: rows 1, cols its length, type f32
    size_t bytes;   // padding included
    // The matrix row by row, without padding, in a native file that has it so; matrix.data is then
    // NULL until checkpoint_load, and bytes is what it takes there. Else NULL.
    const uint8_t *rows;
} Tensor;

// A section of plain bytes.
typedef struct {
    const uint8_t *data;  // NULL: the file has no such section
    size_t size;
} Bytes;

typedef enum { CHECKPOINT_NATIVE, CHECKPOINT_LLAMA2C, CHECKPOINT_GGUF } CheckpointKind;

// What is kept of a GGUF file (gguf_model.c).
typedef struct GgufModel GgufModel;

typedef struct {
    const char *path;  // the caller's; for messages
    CheckpointKind kind;
    Config config;
    Sampling sampling;  // what the model's makers recommend
    Tensor *tensors;    // owned
    size_t n_tensors;
    Tensor **by_name;  // (n_tensors): pointers to them, sorted by name; owned
    Bytes config_section, tokenizer, chat, provenance;
    size_t file_bytes;  // of all its files
    Mapping file;       // owned; a native file's tensors point into it
    void *memory;       // tensors that were repacked into the layout of the kernels; owned; or NULL
    size_t memory_bytes;  // size of memory
    GgufModel *gguf;      // owned; NULL: not a GGUF file
} Checkpoint;

// Maps a native checkpoint (docs/format.md), or reads one of llama2.c's three kinds (llama2c.h) or
// a GGUF file (gguf_model.h). The whole structure is checked, to the byte; the contents of the
// sections are not. The weights of a GGUF file, and matrices that a native file has row by row, wait
// for checkpoint_load: until then the data of these tensors is NULL. Errors: ERROR_INPUT naming the file, the field, the value found and the value
// expected. `path` must outlive the checkpoint. On failure *c is closed.
bool checkpoint_open(Checkpoint *c, const char *path, size_t threads, Error *err);

// The same for a file that is mapped already; takes the mapping over. `path` is only for messages.
// The bytes must be aligned to 64.
bool checkpoint_open_mapping(Checkpoint *c, const char *path, Mapping file, size_t threads,
                             Error *err);
void checkpoint_close(Checkpoint *c);

// The first matrix that the file has row by row: such a file, written by a converter, is there to be
// converted, not to be run. NULL: there is none.
const Tensor *checkpoint_row_major(const Checkpoint *c);

// The files of a checkpoint: one, or the parts of a GGUF file that is split. checkpoint_file returns
// the path of file i, and sets *file to its mapping. Both may also be called while the checkpoint is
// being opened, by the handler of a signal: they then know the files that are mapped so far.
size_t checkpoint_n_files(const Checkpoint *c);
const char *checkpoint_file(const Checkpoint *c, size_t i, const Mapping **file);

// Repacks tensors that have no data yet into memory, one after the other. Errors: ERROR_INPUT naming
// a tensor with a value that is not finite; ERROR_RUN if out of memory.
bool checkpoint_load(Checkpoint *c, size_t threads, const Progress *progress, Error *err);

// The data of tensor i, also if it is not loaded: it is then repacked into `buffer`, which has room
// for its bytes and is aligned to 64. NULL on failure; errors as those of checkpoint_load.
const void *checkpoint_data(const Checkpoint *c, size_t i, void *buffer, size_t threads,
                            Error *err);

// A type of a GGUF file's tensors that no weight type has, and the weight type that holds them.
typedef struct {
    const char *from, *to;
    size_t n_tensors;
    bool exact;  // every weight has its value, as far as tensors were repacked
} Substitute;

// At least as many as there are such types (pack.c).
#define MAX_SUBSTITUTES 8

// Lists the substitutes of a checkpoint; returns how many there are. To be called when its tensors
// have been loaded or converted.
size_t checkpoint_substitutes(const Checkpoint *c, Substitute list[MAX_SUBSTITUTES]);

// For the readers of formats that are repacked: computes the bytes of every tensor; and allocates
// memory for all that have no data, in which each gets its place. Errors: ERROR_RUN.
bool size_tensors(Checkpoint *c, Error *err);
bool allocate_tensors(Checkpoint *c, Error *err);

// Reads a native file from end to end and compares its checksums. Other files have none, and must
// not be given. Errors: ERROR_INPUT naming the first damaged section.
bool checkpoint_verify(const Checkpoint *c, size_t threads, Error *err);

// A number that differs between checkpoints, but for a chance of about 2^-32. For a native file it
// comes from header_crc, which covers the checksums of all sections; for others from a checksum of
// the config and all weights, which must be loaded. Error: ERROR_RUN if out of memory.
bool checkpoint_fingerprint(const Checkpoint *c, uint64_t *fingerprint, Error *err);

// Finds a tensor by name. Error: ERROR_INPUT when it is missing; returns NULL.
const Tensor *checkpoint_tensor(const Checkpoint *c, const char *name, Error *err);

// Finds a matrix (rows, cols) or a vector (n) by name. Errors: ERROR_INPUT when it is missing or
// has another shape.
bool checkpoint_matrix(const Checkpoint *c, const char *name, size_t rows, size_t cols, Matrix *out,
                       Error *err);
bool checkpoint_vector(const Checkpoint *c, const char *name, size_t n, const float **out,
                       Error *err);

#endif
