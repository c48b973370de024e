// native.h - the bytes of a native checkpoint (docs/format.md): what its reader, checkpoint.c, and its
// writer, writer.c, share. The machine is little-endian (base/memory.h), and files are mapped at
// multiples of 64 bytes, so the structs can be laid over them.
#ifndef NATIVE_H
#define NATIVE_H

#include <stddef.h>
#include <stdint.h>

#define NATIVE_VERSION    2
#define MATRIX_ALIGNMENT  4096  // a page: a matrix can be mapped, advised or dropped by itself
#define SECTION_ALIGNMENT 64    // a cache line, a 512-bit register

static const uint8_t native_magic[8] = {0x89, 'R', 'U', 'N', '\r', '\n', 0x1a, '\n'};

// The header as it lies in the file; docs/format.md describes the fields.
typedef struct {
    uint8_t magic[8];
    uint32_t version, n_sections;
    uint64_t file_bytes, table_offset;
    uint32_t header_crc;  // CRC-32 of header and table, with this field as zero
    uint8_t zeros[28];
} NativeHeader;
_Static_assert(offsetof(NativeHeader, n_sections) == 12, "docs/format.md");
_Static_assert(offsetof(NativeHeader, table_offset) == 24, "docs/format.md");
_Static_assert(offsetof(NativeHeader, header_crc) == 32, "docs/format.md");
_Static_assert(sizeof(NativeHeader) == 64, "docs/format.md");

typedef enum {
    SECTION_BYTES,
    SECTION_VECTOR,
    SECTION_MATRIX,  // in the layout of the kernels
    SECTION_ROWS,    // a matrix row by row, as converters have it: only --convert opens it
    N_SECTION_KINDS
} SectionKind;

// An entry of the table as it lies in the file.
typedef struct {
    char name[48];           // ends with a zero byte, filled up with zeros
    uint32_t kind;           // SectionKind
    uint32_t type;           // of a matrix, in either layout: WeightType; else 0
    uint32_t rows, cols;     // of a vector: 1 and its length; of bytes: 0 and 0
    uint64_t offset, bytes;  // of the section, from the start of the file
    uint32_t crc;            // CRC-32 of those bytes
    uint8_t zeros[12];
} SectionEntry;
_Static_assert(offsetof(SectionEntry, kind) == 48, "docs/format.md");
_Static_assert(offsetof(SectionEntry, offset) == 64, "docs/format.md");
_Static_assert(offsetof(SectionEntry, crc) == 80, "docs/format.md");
_Static_assert(sizeof(SectionEntry) == 96, "docs/format.md");

#endif
