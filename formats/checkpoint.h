// checkpoint.h - maps a checkpoint file, checks all of its structure before anyone reads it, and
// hands out views.
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include "base/error.h"
#include "base/files.h"
#include "ops.h"

// The shape of the model, by the names of the field.
typedef struct {
    size_t dim;         // width of the residual stream
    size_t hidden_dim;  // width of the mlp
    size_t n_layers;
    size_t n_heads;     // query heads
    size_t n_kv_heads;  // key and value heads; n_heads is a multiple
    size_t head_dim;    // of queries, keys and values; even
    size_t vocab_size;
    size_t context_length;  // positions that the model was trained for
    size_t sliding_window;  // positions that a query sees, itself included; 0: all
    double rope_theta;
    RopeScaling rope_scaling;
    float norm_eps;
    bool qkv_bias;   // q, k and v have biases
    bool tied_head;  // the head is the embedding
} Config;

// A named matrix, or a vector (a norm's weights), which is stored plainly and padded with zeros to
// 16 values.
typedef struct {
    char name[48];  // hierarchical: blocks.3.attn.q_proj
    bool vector;
    Matrix matrix;  // of a vector: rows 1, cols its length, type f32
    size_t bytes;
} Tensor;

// A section of plain bytes.
typedef struct {
    const uint8_t *data;  // NULL where the file has none
    size_t size;
} Bytes;

typedef struct {
    const char *path;  // the caller's
    Config config;
    Tensor *tensors;  // owned
    size_t n_tensors;
    Tensor **by_name;  // (n_tensors): the same in the order of their names; owned
    Bytes tokenizer, chat, provenance;
    bool vocab_only;  // no weights
    bool repacked;    // a llama2.c file: the matrices are copies in the layout of the kernels
    Mapping file;
    void *memory;  // of the copies, memory_bytes of them; NULL where the mapping itself is read
    size_t memory_bytes;
} Checkpoint;

// Maps a native checkpoint (docs/format.md), or reads one of llama2.c's three kinds (llama2c.h).
// All of the structure is checked, to the byte, before anything is read; what the sections hold is
// not. Errors: ERROR_INPUT naming the file, the field, the value found and wanted. `path` must
// outlive it.
bool checkpoint_open(Checkpoint *c, const char *path, size_t threads, Error *err);

// The same of a file that is mapped already, which it takes over; `path` is for messages. The bytes
// must be aligned to 64.
bool checkpoint_open_mapping(Checkpoint *c, const char *path, Mapping file, size_t threads,
                             Error *err);
void checkpoint_close(Checkpoint *c);

// Reads all of a native file and compares its checksums; ERROR_INPUT naming the section that
// differs.
bool checkpoint_verify(const Checkpoint *c, size_t threads, Error *err);

// A number that other weights almost surely have not: of a native file its header_crc, which covers
// the checksums of all sections; of a llama2.c file a checksum of all weights, which reads them.
uint64_t checkpoint_fingerprint(const Checkpoint *c);

// A matrix or a vector by its name, of just these sizes; ERROR_INPUT in full where it is missing or
// misshapen.
bool checkpoint_matrix(const Checkpoint *c, const char *name, size_t rows, size_t cols, Matrix *out,
                       Error *err);
bool checkpoint_vector(const Checkpoint *c, const char *name, size_t n, const float **out,
                       Error *err);

#endif
