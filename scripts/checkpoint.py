"""Writes checkpoints in the native format (docs/format.md), one section after the other.

    header 64 | table of sections, 96 each | config | zeros | section | zeros | section | ...

The sections and their sizes are declared first, which fixes the offset of each. Their contents are then written in
that order, in pieces of any size, so a model never has to fit in memory. Header and table, with the checksums, come
last. Until then the file has a temporary name; a file with the final name is complete.

    with Writer("model.bin", sections) as writer:
        for section in sections:
            writer.write(section.name, pieces)
"""

import os
import struct
import tempfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path

MAGIC = b"\x89RUN\r\n\x1a\n"
VERSION = 2
HEADER_BYTES = 64
ENTRY_BYTES = 96
NAME_BYTES = 48
MATRIX_ALIGNMENT = 4096
SECTION_ALIGNMENT = 64
GROUP_ROWS = 16  # rows that are stored together

BYTES, VECTOR, MATRIX, ROWS = range(4)  # kinds of section; MATRIX: for the kernels, ROWS: row by row
# The words of a choice in the order of their numbers.
CHOICES = {
    "rope_scaling": ("none", "linear", "llama3", "yarn", "longrope"),
    "norm_placement": ("pre", "post", "sandwich"),
    "activation": ("silu", "gelu_tanh"),
    "qk_norm": ("none", "head", "head_after_rope", "full"),
}
U32, F64 = range(2)  # types of a named value
LAYER_FULL, LAYER_NO_ROPE = 1, 2  # bits of layer_flags


@dataclass(frozen=True)
class WeightType:
    code: int
    columns: int  # of a quantisation block
    block_bytes: int  # of a block for a group of 16 rows


WEIGHT_TYPES = {
    "f32": WeightType(0, 1, 64),
    "bf16": WeightType(1, 1, 32),
    "q8": WeightType(2, 32, 544),
    "q4": WeightType(3, 32, 288),
    "q4m": WeightType(4, 32, 320),
    "f16": WeightType(5, 1, 32),
    "q4t": WeightType(6, 32, 288),
    "q5": WeightType(7, 32, 352),
    "q5m": WeightType(8, 32, 384),
    "q4k": WeightType(9, 256, 2304),
    "q5k": WeightType(10, 256, 2816),
    "q6k": WeightType(11, 256, 3360),
}


@dataclass(frozen=True)
class Config:
    """The shape of a model, by the names of the section `config`. vocab_only: the file has no weights."""

    vocab_size: int
    dim: int = 0
    hidden_dim: int = 0
    n_layers: int = 0
    n_heads: int = 0
    n_kv_heads: int = 0
    head_dim: int = 0
    context_length: int = 0
    sliding_window: int = 0
    norm_eps: float = 0.0
    rope_theta: float = 0.0
    rope_scaling: str = "none"
    rope_original_context: int = 0
    rope_factor: float = 0.0
    rope_low_freq_factor: float = 0.0
    rope_high_freq_factor: float = 0.0
    rope_attention_factor: float = 0.0
    rope_beta_fast: float = 0.0
    rope_beta_slow: float = 0.0
    rope_truncate: bool = False
    rope_short_factors: tuple[float, ...] = ()
    rope_long_factors: tuple[float, ...] = ()
    tied_head: bool = False
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: str = "none"
    embedding_scale: float = 0.0
    residual_scale: float = 0.0
    attention_scale: float = 0.0
    logit_scale: float = 0.0
    attention_cap: float = 0.0
    logit_cap: float = 0.0
    activation: str = "silu"
    norm_placement: str = "pre"
    rotary_dim: int = 0
    query_beta: float = 0.0
    window_rope_theta: float = 0.0
    n_experts: int = 0
    n_experts_used: int = 0
    layer_flags: tuple[int, ...] = ()  # of each layer; () if all are alike
    vocab_only: bool = False

    def section(self, sampling=None):
        """The bytes of the section `config`; sampling: {name: value} of what the model's makers recommend."""
        entries = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in CHOICES:
                value = CHOICES[field.name].index(value)
            # Others are 0 unless given.
            needed = field.name == "norm_eps" and not self.vocab_only
            if value or needed or (field.name == "rope_truncate" and self.rope_scaling == "yarn"):
                entries.append(named_value(field.name, value, F64 if field.type in (float, tuple[float, ...]) else U32))
        entries += [named_value(f"sampling.{name}", value, F64) for name, value in (sampling or {}).items()]
        return b"".join(entries)


def named_value(name, value, kind):
    """An entry of the section `config`; value: one, or a tuple."""
    values = value if isinstance(value, tuple) else (value,)
    data = struct.pack(f"<{len(values)}{'I' if kind == U32 else 'd'}", *values)
    return struct.pack("<32s2I", name.encode("ascii"), kind, len(values)) + data.ljust(round_up(len(data), 8), b"\0")


@dataclass
class Section:
    name: str
    kind: int
    type: int
    rows: int
    cols: int
    size: int  # bytes
    offset: int = 0
    crc: int = 0

    def pack(self):
        return struct.pack(
            f"<{NAME_BYTES}s4I2QI12x",
            self.name.encode("ascii"),
            self.kind,
            self.type,
            self.rows,
            self.cols,
            self.offset,
            self.size,
            self.crc,
        )


def bytes_section(name, size):
    return Section(name, BYTES, 0, 0, 0, size)


def vector_section(name, cols):
    return Section(name, VECTOR, 0, 1, cols, round_up(4 * cols, SECTION_ALIGNMENT))


def matrix_section(name, weight_type, rows, cols):
    t = WEIGHT_TYPES[weight_type]
    size = -(-rows // GROUP_ROWS) * -(-cols // t.columns) * t.block_bytes
    return Section(name, MATRIX, t.code, rows, cols, size)


def rows_section(name, weight_type, rows, cols):
    """A matrix row by row, which `run FILE --convert OUT` brings into the layout of the kernels."""
    t = WEIGHT_TYPES[weight_type]
    return Section(name, ROWS, t.code, rows, cols, rows * cols * t.block_bytes // GROUP_ROWS)


def round_up(n, multiple):
    return -(-n // multiple) * multiple


def model_tensors(config):
    """(name, rows, cols) of all weights of a model, in the order of the file; rows is None for a vector."""
    q_dim, kv_dim = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    pre, post = config.norm_placement != "post", config.norm_placement != "pre"
    block = [("attn_norm", None, config.dim)] if pre else []
    block += [
        ("attn.q_proj", q_dim, config.dim),
        ("attn.k_proj", kv_dim, config.dim),
        ("attn.v_proj", kv_dim, config.dim),
    ]
    if config.qkv_bias:
        block += [("attn.q_bias", None, q_dim), ("attn.k_bias", None, kv_dim), ("attn.v_bias", None, kv_dim)]
    if config.qk_norm != "none":
        full = config.qk_norm == "full"
        block += [("attn.q_norm", None, q_dim if full else config.head_dim)]
        block += [("attn.k_norm", None, kv_dim if full else config.head_dim)]
    block += [("attn.o_proj", config.dim, q_dim)]
    if config.o_bias:
        block += [("attn.o_bias", None, config.dim)]
    block += [("attn_post_norm", None, config.dim)] if post else []
    block += [("mlp_norm", None, config.dim)] if pre else []
    n_mlps = max(1, config.n_experts)
    block += [("mlp.router", config.n_experts, config.dim)] if config.n_experts else []
    block += [
        ("mlp.gate_proj", n_mlps * config.hidden_dim, config.dim),
        ("mlp.up_proj", n_mlps * config.hidden_dim, config.dim),
        ("mlp.down_proj", n_mlps * config.dim, config.hidden_dim),
    ]
    if config.mlp_bias:
        block += [("mlp.gate_bias", None, config.hidden_dim), ("mlp.up_bias", None, config.hidden_dim)]
        block += [("mlp.down_bias", None, config.dim)]
    block += [("mlp_post_norm", None, config.dim)] if post else []
    yield "embedding", config.vocab_size, config.dim
    for layer in range(config.n_layers):
        for name, rows, cols in block:
            yield f"blocks.{layer}.{name}", rows, cols
    yield "norm", None, config.dim
    if not config.tied_head:
        yield "head", config.vocab_size, config.dim


class Writer:
    """A checkpoint being written. A context manager: if it fails, it leaves no file behind."""

    def __init__(self, path, sections):
        self.path = Path(path)
        self.sections = sections
        self.n_written = 0
        end = HEADER_BYTES + ENTRY_BYTES * len(sections)
        for section in sections:
            section.offset = round_up(end, MATRIX_ALIGNMENT if section.kind in (MATRIX, ROWS) else SECTION_ALIGNMENT)
            end = section.offset + section.size
        self.file_bytes = end

    def __enter__(self):
        try:
            fd, self.temporary = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        except OSError as error:  # about the file that the user named
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        self.file = os.fdopen(fd, "wb")
        return self

    def __exit__(self, failure, *_):
        try:
            with self.file:
                if failure is None:
                    self._finish()
            if failure is None:
                os.replace(self.temporary, self.path)
        finally:
            Path(self.temporary).unlink(missing_ok=True)

    def write(self, name, pieces):
        """Writes the next section. `pieces` are bytes or arrays; together they must have its size."""
        section = self.sections[self.n_written]
        assert name == section.name, f"section {name} is out of order, expected {section.name}"
        self.file.write(bytes(section.offset - self.file.tell()))
        for piece in pieces:
            section.crc = zlib.crc32(piece, section.crc)
            self.file.write(piece)
        size = self.file.tell() - section.offset
        assert size == section.size, f"section {name} has {size} bytes, expected the declared {section.size}"
        self.n_written += 1

    def _finish(self):
        assert self.n_written == len(self.sections), f"section {self.sections[self.n_written].name} is missing"
        start = MAGIC + struct.pack("<IIQQ", VERSION, len(self.sections), self.file_bytes, HEADER_BYTES)
        rest = bytes(HEADER_BYTES - len(start) - 4) + b"".join(s.pack() for s in self.sections)
        crc = zlib.crc32(start + bytes(4) + rest)
        self.file.seek(0)
        self.file.write(start + struct.pack("<I", crc) + rest)
        umask = os.umask(0)
        os.umask(umask)
        os.fchmod(self.file.fileno(), 0o666 & ~umask)
