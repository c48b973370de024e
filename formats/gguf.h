// gguf.h - the container of GGUF files, versions 2 and 3: named values and named tensors.
//
//     +---------------------------------+---------------------------+-------+-- - - - - --+
//     | "GGUF", u32 version,            | for each key: name, type, | zeros | data of the |
//     | u64 n_tensors, u64 n_keys       | value; for each tensor:   |       | tensors     |
//     |                                 | name, dims, type, offset  |       |             |
//     +---------------------------------+---------------------------+-------+-- - - - - --+
//     0                                 24                              a multiple of the alignment
//
// A model may be split into several such files, NAME-00001-of-0000N.gguf, each with its own
// tensors; the first has the values. gguf_model.h interprets the values.
//
// Source of the format: ggml's docs/gguf.md.
#ifndef GGUF_H
#define GGUF_H

#include "base/error.h"
#include "base/files.h"
#include "base/memory.h"  // refuses machines of another byte order

// Bytes in the file, not ended by a NUL.
typedef struct {
    const char *data;
    size_t size;
} GgufText;

typedef enum {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_TEXT,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    N_GGUF_VALUE_TYPES
} GgufValueType;

// A named value, or an array of them.
typedef struct {
    GgufText name;
    GgufValueType type;  // of the value, or of an array's elements; never GGUF_ARRAY
    bool array;
    size_t count;         // elements of an array; else 1
    const uint8_t *data;  // of the first one, not aligned; a text is a u64 length and its bytes
} GgufKey;

// How a tensor's values are stored: ggml's number and name of the type, and its quantisation
// blocks, which lie row by row.
typedef struct {
    uint32_t number;
    const char *name;
    size_t block_cols, block_bytes;
} GgmlType;

#define GGUF_MAX_DIMS 4

typedef struct {
    GgufText name;
    size_t n_dims;
    size_t dims[GGUF_MAX_DIMS];  // columns first; 1 from n_dims on
    const GgmlType *type;
    uint64_t offset;      // from the start of the data of its file
    const uint8_t *data;  // (bytes)
    size_t bytes;
    size_t part;  // the file that holds it: of Gguf.parts
} GgufTensor;

// One file of a model.
typedef struct {
    Mapping file;  // owned; but that of the first part belongs to the caller
    char *path;    // owned; NULL for the first part, whose path is that of the model
} GgufPart;

typedef struct {
    const char *path;     // of the first part, for messages; the caller's
    GgufPart *parts;      // (n_parts), owned
    size_t n_parts;       // 1 unless the model is split
    GgufKey *keys;        // (n_keys), sorted by name; owned
    GgufTensor *tensors;  // (n_tensors) of all parts, sorted by name; owned
    size_t n_keys, n_tensors;
} Gguf;

// The most parts of a split model.
#define GGUF_MAX_PARTS 1000

// Reads the keys and tensor tables of a mapped file, which must stay mapped, and of the other
// parts of a split model, which must be beside `path`. The whole structure is checked: on success,
// all names, values and tensors lie within their files, no tensors overlap, and no name is a
// duplicate. Errors: ERROR_INPUT naming the file, the key or tensor, the value found and the value
// expected; ERROR_RUN if out of memory. On failure *g is closed.
bool gguf_open(Gguf *g, const char *path, Mapping file, Error *err);
void gguf_close(Gguf *g);

// The path of a part.
const char *gguf_part_path(const Gguf *g, size_t part);

// The type with this ggml number, or NULL.
const GgmlType *ggml_type(uint32_t number);

// The key or tensor of that name, or NULL.
const GgufKey *gguf_key(const Gguf *g, const char *name);
const GgufTensor *gguf_tensor(const Gguf *g, const char *name);

// Sets ERROR_INPUT with what a key has and what was expected. Returns false.
bool gguf_unexpected(const Gguf *g, const GgufKey *key, const char *expected, Error *err);

// A key's value as a number or a text; false if it is an array or of another type. An integer of 64
// bits is rounded to a double.
bool gguf_number(const GgufKey *key, double *out);
bool gguf_text(const GgufKey *key, GgufText *out);

static inline bool gguf_is_integer(const GgufKey *key)
{
    return key->type != GGUF_F32 && key->type != GGUF_F64 && key->type != GGUF_BOOL &&
           key->type != GGUF_TEXT;
}

// Takes the text at *data and moves on to the next element of an array of texts.
GgufText gguf_take_text(const uint8_t **data);

// Element i of an array of numbers.
double gguf_element(const GgufKey *key, size_t i);

#endif
