// fuzz_checkpoint.c - the native checkpoint, from its header to the logits of what is accepted.
//
//     mode 1 | token 1 | header 256 | table, 96 a section | contents
//
// A file of plain bytes would fail at its checksum, and a whole one is mostly padding up to pages.
// So the input has header and table only, and the file is made of them; the bits of `mode` say what
// is put right on the way: 1 n_sections, file_bytes and header_crc; 2 bytes, offset and padding of
// each section; 4 the shapes of the sections that a model of this config has, in order. Sections
// are filled with the contents over and over. Mode 0 is the rest of the input as it is.
#include "fuzz_model.h"
#include "tokenizer.h"

#define HEADER   256
#define ENTRY    96
#define MAX_FILE ((size_t)1 << 20)

// CRC-32 bit by bit: another implementation than the one under test.
static uint32_t crc32_plain(const uint8_t *p, size_t size)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
        }
    }
    return ~crc;
}

// Rows and columns of the tensor with this name in a model of this config; false for other names.
static bool shape_of(const uint8_t *header, const char *name, size_t *rows, size_t *cols)
{
    const size_t dim = get_u32(header + 36), hidden = get_u32(header + 40);
    const size_t head_dim = get_u32(header + 56), vocab = get_u32(header + 60);
    const size_t q = get_u32(header + 48) * head_dim, kv = get_u32(header + 52) * head_dim;
    const struct {
        const char *end;
        size_t rows, cols;
    } shapes[] = {
        {"embedding", vocab, dim},  {"head", vocab, dim},       {"norm", 1, dim},
        {"q_proj", q, dim},         {"k_proj", kv, dim},        {"v_proj", kv, dim},
        {"o_proj", dim, q},         {"gate_proj", hidden, dim}, {"up_proj", hidden, dim},
        {"down_proj", dim, hidden}, {"q_bias", 1, q},           {"k_bias", 1, kv},
        {"v_bias", 1, kv},
    };
    const size_t length = strnlen(name, 48);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const size_t n = strlen(shapes[i].end);
        if (length >= n && memcmp(name + length - n, shapes[i].end, n) == 0) {
            *rows = shapes[i].rows;
            *cols = shapes[i].cols;
            return true;
        }
    }
    return false;
}

// Puts the sections one after the other as the format wants them; false where that is too much.
static bool lay_out(uint8_t *head, size_t n_sections, bool shapes, size_t contents, size_t *end)
{
    *end = HEADER + n_sections * ENTRY;
    for (size_t i = 0; i < n_sections; i++) {
        uint8_t *entry = head + HEADER + i * ENTRY;
        size_t rows = get_u32(entry + 56), cols = get_u32(entry + 60), bytes;
        if (shapes && shape_of(head, (const char *)entry, &rows, &cols)) {
            put_u32(entry + 56, rows);
            put_u32(entry + 60, cols);
        }
        const uint32_t kind = get_u32(entry + 48), type = get_u32(entry + 52);
        if (kind == 0) {
            const size_t wanted = get_u32(entry + 72);
            bytes = wanted < MAX_FILE ? wanted : contents;
        } else if (kind == 1) {
            bytes = round_up(cols * sizeof(float), 64);
        } else if (type >= N_WEIGHT_TYPES || !matrix_bytes((WeightType)type, rows, cols, &bytes)) {
            return false;
        }
        const uint64_t place = round_up(*end, kind == 2 ? 4096 : 64), size = bytes;
        if (size > MAX_FILE || place > MAX_FILE - size) {
            return false;
        }
        memcpy(entry + 64, &place, sizeof place);
        memcpy(entry + 72, &size, sizeof size);
        *end = place + size;
    }
    return true;
}

static void open_texts(const uint8_t *file, size_t n_sections)
{
    for (size_t i = 0; i < n_sections; i++) {
        const uint8_t *entry = file + HEADER + i * ENTRY;
        uint64_t offset, size;
        memcpy(&offset, entry + 64, sizeof offset);
        memcpy(&size, entry + 72, sizeof size);
        if (memcmp(entry, "chat", 5) == 0) {
            Error err = {0};
            ChatTemplate chat;
            if (!chat_open(&chat, "fuzz", file + offset, size, &err)) {
                check_error(&err);
            }
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input in = {data, size};
    const size_t mode = take_number(&in, 1), token = take_number(&in, 1);
    if (mode == 0 || in.size < HEADER + ENTRY) {
        uint8_t *plain = exact_block(in.size);
        memcpy(plain, in.data, in.size);
        run_checkpoint(plain, in.size, token);
        return 0;
    }
    size_t n_sections = get_u32(in.data + 12), end;
    if (n_sections > (in.size - HEADER) / ENTRY) {
        n_sections = (in.size - HEADER) / ENTRY;
    }
    const size_t head_bytes = HEADER + n_sections * ENTRY;
    const Input given = take_bytes(&in, head_bytes);
    uint8_t *head = malloc(head_bytes);
    FUZZ_CHECK(head, "%zu bytes", head_bytes);
    memcpy(head, given.data, head_bytes);
    const bool laid_out = mode & 2 && lay_out(head, n_sections, mode & 4, in.size, &end);
    if (!laid_out) {
        end = head_bytes + in.size;
    }
    uint8_t *file = exact_block(end);
    memset(file, 0, end);
    if (mode & 1) {
        const uint64_t file_bytes = end;
        put_u32(head + 12, n_sections);
        memcpy(head + 16, &file_bytes, sizeof file_bytes);
        put_u32(head + 32, 0);
        put_u32(head + 32, crc32_plain(head, head_bytes));
    }
    memcpy(file, head, head_bytes);
    if (!laid_out) {
        memcpy(file + head_bytes, in.data, in.size);
    }
    for (size_t i = 0, k = 0; laid_out && in.size && i < n_sections; i++) {
        uint64_t offset, bytes;
        memcpy(&offset, head + HEADER + i * ENTRY + 64, sizeof offset);
        memcpy(&bytes, head + HEADER + i * ENTRY + 72, sizeof bytes);
        for (size_t j = 0; j < bytes; j++, k++) {
            file[offset + j] = in.data[k % in.size];
        }
    }
    if (laid_out) {
        open_texts(file, n_sections);
    }
    free(head);
    run_checkpoint(file, end, token);
    return 0;
}
