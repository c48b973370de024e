"""A plain reader and writer of native checkpoints, written from docs/format.md, independent of scripts/checkpoint.py.
The writer can be told to write files that are wrong."""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TYPES = {0: ("f32", 1, 64), 1: ("bf16", 1, 32), 2: ("q8", 32, 544), 3: ("q4", 32, 288), 4: ("q4m", 32, 320),
         5: ("f16", 1, 32), 6: ("q4t", 32, 288), 7: ("q5", 32, 352), 8: ("q5m", 32, 384), 9: ("q4k", 256, 2304),
         10: ("q5k", 256, 2816), 11: ("q6k", 256, 3360)}  # fmt: skip
CODES = {name: code for code, (name, _, _) in TYPES.items()}
TABLE = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)  # of q4t
HEAD = 64  # bytes of the header
# The values of the section `config`, in the order in which the writer below has them, and their types.
CONFIG = {"vocab_size": "I", "vocab_only": "I", "dim": "I", "hidden_dim": "I", "n_layers": "I", "n_heads": "I",
          "n_kv_heads": "I", "head_dim": "I", "context_length": "I", "norm_eps": "d", "rope_theta": "d",
          "sliding_window": "I", "tied_head": "I", "qkv_bias": "I", "rope_scaling": "I", "rope_factor": "d",
          "rope_original_context": "I", "rope_low_freq_factor": "d", "rope_high_freq_factor": "d",
          "o_bias": "I", "mlp_bias": "I", "qk_norm": "I", "embedding_scale": "d",
          "residual_scale": "d", "attention_scale": "d", "logit_scale": "d", "attention_cap": "d", "logit_cap": "d",
          "activation": "I", "rotary_dim": "I", "query_beta": "d",
          "rope_attention_factor": "d", "rope_beta_fast": "d", "rope_beta_slow": "d", "rope_truncate": "I",
          "rope_short_factors": "d", "rope_long_factors": "d", "norm_placement": "I",
          "window_rope_theta": "d", "layer_flags": "I", "n_experts": "I", "n_experts_used": "I"}  # fmt: skip
LISTS = ("layer_flags", "rope_short_factors", "rope_long_factors")  # the values of these are tuples


@dataclass
class Section:
    name: str
    kind: int
    type: int
    rows: int
    cols: int
    offset: int
    bytes: int
    crc: int


class Native:
    def __init__(self, path):
        self.data = Path(path).read_bytes()
        assert self.data[:8] == bytes.fromhex("8952554e0d0a1a0a"), "magic"
        version, count, size, table = struct.unpack_from("<IIQQ", self.data, 8)
        assert (version, size, table) == (2, len(self.data), HEAD)
        head = bytearray(self.data[: HEAD + 96 * count])
        head[32:36] = bytes(4)
        assert zlib.crc32(head) == struct.unpack_from("<I", self.data, 32)[0], "header_crc"
        assert not any(head[36:HEAD]), "zeros of the header"
        self.sections = {}
        end = HEAD + 96 * count
        for i in range(count):
            entry = struct.unpack_from("<48s4I2QI12s", self.data, HEAD + 96 * i)
            s = Section(entry[0].rstrip(b"\0").decode("ascii"), *entry[1:8])
            alignment = 4096 if s.kind >= 2 else 64
            assert s.offset == -(-end // alignment) * alignment, f"{s.name} is at {s.offset}"
            assert not any(self.data[end : s.offset]), f"zeros before {s.name}"
            assert zlib.crc32(self.bytes(s)) == s.crc, f"checksum of {s.name}"
            end = s.offset + s.bytes
            self.sections[s.name] = s
        assert end == len(self.data)
        assert next(iter(self.sections)) == "config"
        self.fields, self.sampling = self.read_config()

    def read_config(self):
        """The values of the section `config`, 0 where the file has none, and those of sampling by themselves."""
        values, data, at = {}, self.bytes("config"), 0
        while at < len(data):
            name, kind, count = struct.unpack_from("<32s2I", data, at)
            name, form = name.rstrip(b"\0").decode("ascii"), "Id"[kind]
            assert (count == 1 or name in LISTS) and name not in values, name
            assert name.startswith("sampling.") or CONFIG[name] == form, name
            found = struct.unpack_from(f"<{count}{form}", data, at + 40)
            values[name] = found if name in LISTS else found[0]
            at += 40 + -(-struct.calcsize(f"<{count}{form}") // 8) * 8
        sampling = {name[9:]: value for name, value in values.items() if name.startswith("sampling.")}
        return {name: values.get(name, 0) for name in CONFIG}, sampling

    def bytes(self, section):
        s = self.sections[section] if isinstance(section, str) else section
        return self.data[s.offset : s.offset + s.bytes]

    def type(self, name):
        return TYPES[self.sections[name].type][0]

    def vector(self, name):
        s = self.sections[name]
        assert s.kind == 1 and s.rows == 1 and s.bytes == -(-4 * s.cols // 64) * 64
        values = np.frombuffer(self.bytes(s), "<f4")
        assert not values[s.cols :].any(), "padding of a vector"
        return values[: s.cols]

    def matrix(self, name):
        """f32 (rows, cols): the weights as the format defines them. Checks that the padding is zero."""
        s = self.sections[name]
        kind, columns, size = TYPES[s.type]
        groups, n_blocks = -(-s.rows // 16), -(-s.cols // columns)
        assert s.kind == 2 and s.bytes == groups * n_blocks * size
        raw = np.frombuffer(self.bytes(s), np.uint8).reshape(groups, n_blocks, size)
        whole = np.zeros((groups * 16, n_blocks * columns), np.float32)
        for row in range(16):
            for column in range(columns):
                whole[row::16, column::columns] = weight(raw, kind, row, column)
        assert not whole[s.rows :].any(), f"padding rows of {name}"
        return whole[: s.rows, : s.cols]


def weight(raw, kind, row, column):
    """f32 (groups, n_blocks): the weight of one row and column of every block."""
    if kind == "f32":
        return raw[..., 4 * row : 4 * row + 4].copy().view("<f4")[..., 0]
    if kind == "bf16":
        return (raw[..., 2 * row : 2 * row + 2].copy().view("<u2")[..., 0].astype(np.uint32) << 16).view(np.float32)
    if kind == "f16":
        return f16(raw, 2 * row)
    if kind in ("q4k", "q5k", "q6k"):
        return superblock_weight(raw, kind, row, column)
    scale = f16(raw, 2 * row)
    if kind == "q8":
        byte = raw[..., 32 + column // 4 * 64 + row * 4 + column % 4]
        return scale * (byte.astype(np.float32) - 128)
    if kind in ("q4m", "q5m"):
        return scale * stored(raw, 64, int(kind[1]), row, column).astype(np.float32) + f16(raw, 32 + 2 * row)
    value = stored(raw, 32, int(kind[1]), row, column)
    return scale * (TABLE[value] if kind == "q4t" else value.astype(np.float32) - (8 if kind == "q4" else 16))


def stored(raw, at, bits, row, column):
    """u8 (groups, n_blocks): the value of a column of 32, whose steps begin at byte `at`."""
    place = row * 4 + column % 4
    byte = raw[..., at + column % 16 // 4 * 64 + place]
    value = byte >> 4 if column >= 16 else byte & 15
    if bits == 5:
        value = value | (raw[..., at + 256 + place] >> column // 4 & 1) << 4
    if bits == 6:
        value = value | (raw[..., at + 256 + column // 16 * 64 + place] >> column % 16 // 4 * 2 & 3) << 4
    return value


def superblock_weight(raw, kind, row, column):
    part, scale = column // 32, f16(raw, 2 * row)
    if kind == "q6k":
        small = raw[..., 32 + column // 16 * 16 + row].view(np.int8).astype(np.float32)
        value = stored(raw, 288 + 384 * part, 6, row, column % 32)
        return scale * small * (value.astype(np.float32) - 32)
    s = [raw[..., 64 + 16 * k + row].astype(np.int32) for k in range(12)]
    k = part % 4
    small = s[k] & 63 if part < 4 else (s[k] >> 6) * 16 + (s[k + 8] & 15)
    minimum = s[k + 4] & 63 if part < 4 else (s[k + 4] >> 6) * 16 + (s[k + 8] >> 4)
    at, bits = (256 + 256 * part, 4) if kind == "q4k" else (256 + 320 * part, 5)
    value = stored(raw, at, bits, row, column % 32)
    return scale * small.astype(np.float32) * value - f16(raw, 32 + 2 * row) * minimum.astype(np.float32)


def f16(raw, at):
    return raw[..., at : at + 2].copy().view("<f2")[..., 0].astype(np.float32)


# ----------------------------------------------------------------------------------------------------------------------
# Writing.

MAGIC = bytes.fromhex("8952554e0d0a1a0a")
# field of the header -> where it is, and its format
HEADER = {"version": (8, "I"), "n_sections": (12, "I"), "file_bytes": (16, "Q"), "table_offset": (24, "Q"),
          "header_crc": (32, "I")}  # fmt: skip
# field of an entry of the table -> the same
ENTRY = {"name": (0, "48s"), "kind": (48, "I"), "type": (52, "I"), "rows": (56, "I"), "cols": (60, "I"),
         "offset": (64, "Q"), "bytes": (72, "Q"), "crc": (80, "I"), "zeros": (84, "I")}  # fmt: skip
U32, F64 = range(2)  # types of a named value


def named_value(name, form, *values):
    """An entry of the section `config`: the values in the format of struct, padded to a multiple of 8 bytes."""
    data = struct.pack(f"<{len(values)}{form}", *values)
    kind = F64 if form == "d" else U32
    return struct.pack("<32s2I", name.encode(), kind, len(values)) + data.ljust(-(-len(data) // 8) * 8, b"\0")


def tensors(fields):
    """(name, rows, cols) of a model's weights in the order of the file; rows is None for a vector."""
    dim, hidden, head_dim = fields["dim"], fields["hidden_dim"], fields["head_dim"]
    q, kv = fields["n_heads"] * head_dim, fields["n_kv_heads"] * head_dim
    yield "embedding", fields["vocab_size"], dim
    for layer in range(fields["n_layers"]):
        block = [("attn_norm", None, dim), ("attn.q_proj", q, dim), ("attn.k_proj", kv, dim), ("attn.v_proj", kv, dim),
                 ("attn.o_proj", dim, q), ("mlp_norm", None, dim)]  # fmt: skip
        experts = fields.get("n_experts", 0)
        block += [("mlp.router", experts, dim)] if experts else []
        block += [("mlp.gate_proj", max(1, experts) * hidden, dim), ("mlp.up_proj", max(1, experts) * hidden, dim),
                  ("mlp.down_proj", max(1, experts) * dim, hidden)]  # fmt: skip
        if fields.get("qkv_bias"):
            block[4:4] = [("attn.q_bias", None, q), ("attn.k_bias", None, kv), ("attn.v_bias", None, kv)]
        if fields.get("qk_norm"):
            full = fields["qk_norm"] == 3
            block += [("attn.q_norm", None, q if full else head_dim), ("attn.k_norm", None, kv if full else head_dim)]
        if fields.get("o_bias"):
            block += [("attn.o_bias", None, dim)]
        if fields.get("mlp_bias"):
            block += [("mlp.gate_bias", None, hidden), ("mlp.up_bias", None, hidden), ("mlp.down_bias", None, dim)]
        placement = fields.get("norm_placement", 0)
        block += [(f"{part}_post_norm", None, dim) for part in ("attn", "mlp") if placement]
        for name, rows, cols in block:
            if placement == 1 and name in ("attn_norm", "mlp_norm"):
                continue
            yield f"blocks.{layer}.{name}", rows, cols
    yield "norm", None, dim
    if not fields.get("tied_head"):
        yield "head", fields["vocab_size"], dim


def interleaved(matrix):
    """f32 (rows, cols) in the order of the file: 16 rows at a time, column by column."""
    rows, cols = matrix.shape
    padded = np.zeros((-(-rows // 16) * 16, cols), np.float32)
    padded[:rows] = matrix
    return padded.reshape(-1, 16, cols).transpose(0, 2, 1).astype("<f4").tobytes()


def plain_bytes(values, kind):
    """f32, f16 or bf16; of the last, values are truncated."""
    if kind == "bf16":
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return values.astype("<f4" if kind == "f32" else "<f2").tobytes()


def plain_values(data, kind):
    """What plain_bytes stored, as f32."""
    if kind == "bf16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, "<f4" if kind == "f32" else "<f2").astype("<f4")


class Writer:
    """A model in f32 whose fields, table and contents can be changed before it is packed.

    config    its values by their names, in the order of the file; none is left out that is there
    entries   one dict per section: the names of ENTRY, and `data`, its contents
    """

    def __init__(self, fields, tokenizer, values, sampling=()):
        """values(name, shape) gives the f32 weights of a tensor."""
        self.config = {"norm_eps": 1e-5, "rope_theta": 10000.0, **fields}
        self.sampling = dict(sampling)
        self.entries = []
        self.add("config", 0, 0, 0, self.config_section())
        self.add("provenance", 0, 0, 0, b"source: a test\n")
        self.add("tokenizer", 0, 0, 0, tokenizer)
        for name, rows, cols in () if fields.get("vocab_only") else tensors(self.config):
            if rows is None:
                data = values(name, (1, cols)).astype("<f4").tobytes()
                self.add(name, 1, 1, cols, data.ljust(-(-len(data) // 64) * 64, b"\0"))
            else:
                self.add(name, 2, rows, cols, interleaved(values(name, (rows, cols))))

    def add(self, name, kind, rows, cols, data):
        self.entries.append({"name": name.encode(), "kind": kind, "type": 0, "rows": rows, "cols": cols, "data": data})

    def store_by_rows(self, kind, keep=()):
        """Stores the matrices row by row, as f32, f16 or bf16, except for those whose names are in `keep`."""
        for e in self.entries:
            if e["kind"] == 2 and e["name"].decode() not in keep:
                groups = np.frombuffer(e["data"], "<f4").reshape(-1, e["cols"], 16)
                values = np.ascontiguousarray(groups.transpose(0, 2, 1)).reshape(-1, e["cols"])[: e["rows"]]
                e.update({"kind": 3, "type": CODES[kind], "data": plain_bytes(values, kind)})
        return self

    def config_section(self, **changes):
        """The section's bytes, with other values or, where a change is None, without one."""
        values = {**self.config, **changes}
        return b"".join([
            *(named_value(name, CONFIG[name], *(value if name in LISTS else (value,)))
              for name, value in values.items() if value is not None),
            *(named_value(f"sampling.{name}", "d", value) for name, value in self.sampling.items()),
        ])  # fmt: skip

    def index(self, name):
        return [e["name"] for e in self.entries].index(name.encode())

    def places(self):
        """(offset, bytes) of each section, and the length of the file."""
        end, places = HEAD + 96 * len(self.entries), []
        for e in self.entries:
            alignment = 4096 if e["kind"] >= 2 else 64
            offset = -(-end // alignment) * alignment
            places.append((offset, len(e["data"])))
            end = offset + len(e["data"])
        return places, end

    def pack(self, header=(), entry=(), crc=True):
        """The file's bytes. header {field: value} and entry {(section, field): value} override what is written;
        then header_crc is computed, unless crc is false."""
        places, end = self.places()
        data = bytearray(end)
        data[:8] = MAGIC
        fields = {"version": 2, "table_offset": HEAD, "n_sections": len(self.entries), "file_bytes": end, "header_crc": 0,
                  **dict(header)}  # fmt: skip
        for name, value in fields.items():
            at, form = HEADER[name]
            struct.pack_into("<" + form, data, at, value)
        for i, (e, (offset, size)) in enumerate(zip(self.entries, places)):
            data[offset : offset + size] = e["data"]
            fixed = {"offset": offset, "bytes": size, "crc": zlib.crc32(e["data"]), **e}
            fixed.pop("data")
            for name, value in fixed.items():
                at, form = ENTRY[name]
                struct.pack_into("<" + form, data, HEAD + 96 * i + at, value)
        for (section, name), value in dict(entry).items():
            at, form = ENTRY[name]
            i = section if isinstance(section, int) else self.index(section)
            struct.pack_into("<" + form, data, HEAD + 96 * i + at, value)
        if crc:
            seal(data)
        return bytes(data)


def seal(data):
    """Sets header_crc to the checksum of the header and of the table, as much of it as there is."""
    data[32:36] = bytes(4)
    count = struct.unpack_from("<I", data, 12)[0]
    struct.pack_into("<I", data, 32, zlib.crc32(data[: HEAD + 96 * count]))



def with_section(data, name, contents, after="tokenizer"):
    """The bytes of a checkpoint with one more section of bytes, behind another one."""
    count, table = struct.unpack_from("<I8xQ", data, 12)
    entries = [bytearray(data[table + 96 * i : table + 96 * (i + 1)]) for i in range(count)]
    parts = [data[o : o + n] for o, n in (struct.unpack_from("<QQ", e, 64) for e in entries)]
    at = 1 + [bytes(e[:48]).rstrip(b"\0").decode() for e in entries].index(after)
    entries.insert(at, bytearray(struct.pack("<48s4I2QI12s", name.encode(), 0, 0, 0, 0, 0, 0, 0, b"")))
    parts.insert(at, contents)
    out = bytearray(data[:table]) + bytes(96 * len(entries))
    for i, (entry, part) in enumerate(zip(entries, parts)):
        alignment = 4096 if struct.unpack_from("<I", entry, 48)[0] == 2 else 64
        out += bytes(-len(out) % alignment)
        struct.pack_into("<QQI", entry, 64, len(out), len(part), zlib.crc32(part))
        out[table + 96 * i : table + 96 * (i + 1)] = entry
        out += part
    struct.pack_into("<IQ", out, 12, len(entries), len(out))
    seal(out)
    return bytes(out)
