// writer.c - writes native checkpoints. See writer.h.
//
// The sizes of all sections are known beforehand, so each has its offset before anything is
// written. The sections are then written in order, with zeros between them, while their checksums
// are computed; header and table, which have the checksums, are written over the zeros at the start.
#include "formats/writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/checksum.h"
#include "base/files.h"
#include "base/memory.h"
#include "formats/native.h"

#define MAX_BYTE_SECTIONS 4

typedef struct {
    int fd;
    const char *name;  // of the file, for messages
    Crc32 tables;
    SectionEntry *entries;  // (n), owned
    size_t n;
    Bytes bytes[MAX_BYTE_SECTIONS];  // contents of the first sections
    size_t n_bytes;
    size_t end;  // where the sections so far end: first as they are listed, then as written
} CheckpointWriter;

// --------------------------------------------------------------------------------------------
// The table

// Gives the next section its place.
static void add_section(CheckpointWriter *w, SectionEntry entry, const char *name)
{
    const bool matrix = entry.kind == SECTION_MATRIX;
    memcpy(entry.name, name, strlen(name));
    entry.offset = round_up(w->end, matrix ? MATRIX_ALIGNMENT : SECTION_ALIGNMENT);
    w->end = entry.offset + entry.bytes;
    w->entries[w->n++] = entry;
}

static void add_byte_section(CheckpointWriter *w, const char *name, Bytes contents)
{
    if (contents.data) {
        w->bytes[w->n_bytes++] = contents;
        add_section(w, (SectionEntry){.kind = SECTION_BYTES, .bytes = contents.size}, name);
    }
}

static bool list_sections(CheckpointWriter *w, const NewCheckpoint *n, Bytes config, Error *err)
{
    const size_t most = MAX_BYTE_SECTIONS + n->n_tensors;
    const size_t n_sections = most - !n->chat.data - !n->provenance.data;
    w->entries = calloc(most, sizeof *w->entries);
    if (!w->entries) {
        return error_memory(err, "the list of sections", most * sizeof *w->entries);
    }
    w->end = sizeof(NativeHeader) + n_sections * sizeof *w->entries;
    add_byte_section(w, "config", config);
    add_byte_section(w, "provenance", n->provenance);
    add_byte_section(w, "tokenizer", n->tokenizer);
    add_byte_section(w, "chat", n->chat);
    for (size_t i = 0; i < n->n_tensors; i++) {
        const Tensor *t = &n->tensors[i];
        add_section(w,
                    (SectionEntry){.kind = t->vector ? SECTION_VECTOR : SECTION_MATRIX,
                                   .type = t->vector ? 0 : t->matrix.type,
                                   .rows = (uint32_t)t->matrix.rows,
                                   .cols = (uint32_t)t->matrix.cols,
                                   .bytes = t->bytes},
                    t->name);
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// Writing

static bool write_zeros(CheckpointWriter *w, size_t size, Error *err)
{
    static const uint8_t zeros[MATRIX_ALIGNMENT];
    while (size) {
        const size_t n = size < sizeof zeros ? size : sizeof zeros;
        if (!write_all(w->fd, w->name, zeros, n, err)) {
            return false;
        }
        size -= n;
    }
    return true;
}

// Writes section i, and the zeros before it.
static bool write_section(CheckpointWriter *w, size_t i, const void *data, Error *err)
{
    SectionEntry *e = &w->entries[i];
    e->crc = crc32_update(&w->tables, 0, data, e->bytes);
    const size_t gap = e->offset - w->end;
    w->end = e->offset + e->bytes;
    return write_zeros(w, gap, err) && write_all(w->fd, w->name, data, e->bytes, err);
}

static bool write_sections(CheckpointWriter *w, const NewCheckpoint *n, const Progress *progress,
                           Error *err)
{
    const size_t total = w->end;
    const size_t head = sizeof(NativeHeader) + w->n * sizeof *w->entries;
    w->end = head;
    if (!write_zeros(w, head, err)) {
        return false;
    }
    for (size_t i = 0; i < w->n; i++) {
        progress_report(progress, w->end, total);
        const void *data = i < w->n_bytes ? w->bytes[i].data : n->data(n->arg, i - w->n_bytes, err);
        if (!data || !write_section(w, i, data, err)) {
            return false;
        }
    }
    progress_report(progress, total, total);
    return true;
}

static bool write_header(CheckpointWriter *w, Error *err)
{
    NativeHeader h = {.version = NATIVE_VERSION,
                      .n_sections = (uint32_t)w->n,
                      .file_bytes = w->end,
                      .table_offset = sizeof h};
    memcpy(h.magic, native_magic, sizeof h.magic);
    const size_t table_bytes = w->n * sizeof *w->entries;
    const uint32_t crc = crc32_update(&w->tables, 0, (const uint8_t *)&h, sizeof h);
    h.header_crc = crc32_update(&w->tables, crc, (const uint8_t *)w->entries, table_bytes);
    if (lseek(w->fd, 0, SEEK_SET) != 0) {
        return error_set(err, ERROR_RUN, "%s: cannot be written: %s", w->name, strerror(errno));
    }
    return write_all(w->fd, w->name, &h, sizeof h, err) &&
           write_all(w->fd, w->name, w->entries, table_bytes, err);
}

bool checkpoint_write(const NewCheckpoint *n, int fd, const char *name, const Progress *progress,
                      Error *err)
{
    CheckpointWriter w = {.fd = fd, .name = name};
    Buffer config = {0};
    crc32_init(&w.tables);
    config_write(n->config, n->sampling, &config);
    const bool ok = buffer_check(&config, err) &&
                    list_sections(&w, n, (Bytes){(const uint8_t *)config.data, config.size}, err) &&
                    write_sections(&w, n, progress, err) && write_header(&w, err);
    buffer_free(&config);
    free(w.entries);
    return ok;
}
