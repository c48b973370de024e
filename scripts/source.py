"""What every reader gives convert.py: the shape of the model, and tensors that are read a few rows at a time.

A tensor is described by its file, its offset and the bytes of a row. Nothing is mapped or kept in memory, so a model of
any size converts in a few megabytes. Names are those of docs/format.md. RoPE rotates pairs of dimensions: llama2.c's
neighbours (2i, 2i + 1), GPT-NeoX's (i, i + head_dim / 2). Rows of q and k that a source stores in llama2.c's order
are returned in that of GPT-NeoX.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from quantize import ROW_BLOCK_BYTES, SCALE_BYTES

# Bytes per value, and how bytes become f32.
PLAIN_TYPES = {
    "f32": (4, lambda raw: raw.view("<f4")),
    "f16": (2, lambda raw: raw.view("<f2").astype(np.float32)),
    "bf16": (2, lambda raw: (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)),
}


LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class SourceError(Exception):
    """The source cannot be converted; the message, one line, names the file, the field or tensor, and the reason."""


@dataclass
class Tensor:
    path: Path
    offset: int
    rows: int
    cols: int
    type: str  # the weight type that holds its values exactly, or None
    row_bytes: int
    decode: object  # u8 (n, row_bytes) -> f32 (n, cols)
    name: str = ""  # that the source has for it, for messages
    neighbours: int = 0  # head_dim if the rows (or the values of a vector) are in llama2.c's order, else 0

    def order(self, begin, end):
        """Which rows of the source become rows begin .. end - 1."""
        rows = np.arange(begin, end)
        if not self.neighbours:
            return rows
        half, i = self.neighbours // 2, rows % self.neighbours
        return rows - i + np.where(i < half, 2 * i, 2 * (i - half) + 1)

    def raw(self, begin, end):
        """u8 (end - begin, row_bytes)"""
        order = self.order(begin, end)
        low, high = int(order.min()), int(order.max()) + 1
        data = read_bytes(self.path, self.offset + low * self.row_bytes, (high - low) * self.row_bytes, self.name)
        return data.reshape(-1, self.row_bytes)[order - low]

    def read(self, begin, end):
        """f32 (end - begin, cols)"""
        return self.decode(self.raw(begin, end))

    def values(self, begin, end):
        """f32 (end - begin, cols), finite."""
        values = self.read(begin, end)
        if not np.isfinite(values).all():
            raise SourceError(f"{self.path}: tensor {self.name} has a value that is not finite")
        return values

    def blocks(self, begin, end):
        """u8 (end - begin, n_blocks, bytes): the quantisation blocks of the source, carried over exactly."""
        blocks = self.raw(begin, end).reshape(end - begin, -1, ROW_BLOCK_BYTES[self.type])
        for i in range(0, SCALE_BYTES[self.type], 2):
            if not np.isfinite(np.ascontiguousarray(blocks[..., i : i + 2]).view("<f2")).all():
                raise SourceError(f"{self.path}: tensor {self.name} has a scale that is not finite")
        if self.type == "q8" and (blocks[..., 2:] == 0x80).any():
            raise SourceError(f"{self.path}: tensor {self.name} has the value -128, expected -127 to 127 (Q8_0)")
        return blocks

    def vector(self):
        """f32 (cols,), reordered like the rows of a matrix."""
        return self.values(0, 1)[0, self.order(0, self.cols)]


def plain_tensor(path, offset, rows, cols, dtype, name):
    """A tensor of f32, f16 or bf16 values."""
    size, decode = PLAIN_TYPES[dtype]
    return Tensor(path, offset, rows, cols, "f32" if dtype == "f16" else dtype, cols * size, decode, name)


def read_bytes(path, offset, size, name):
    data = np.fromfile(path, np.uint8, count=size, offset=offset)
    if data.size != size:
        raise SourceError(f"{path}: ends inside tensor {name}")
    return data


@dataclass
class Source:
    path: Path
    config: object  # checkpoint.Config
    tensors: dict = field(default_factory=dict)  # name -> Tensor
    vocabulary: object = None  # what vocabulary.read_vocabulary takes
    keeps_types: bool = False  # keep the source's weight types if there is no --type
    license: str = "unknown"
    # What the source recommends for sampling: (name, the source's field, value), see sampling.py; and the file it is in.
    recommended: list = field(default_factory=list)
    recommended_in: Path = None


def refuse_pointer(path):
    """Refuses what `git clone` leaves in place of a large file where Git LFS is not installed."""
    if path.is_file():
        with open(path, "rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                raise SourceError(f"{path}: is a Git LFS pointer, not the file itself: `git lfs pull` in its folder fetches it")


def is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def check_config(path, config):
    """Checks the limits of docs/format.md and formats/checkpoint.c, so that what is written can be read."""
    limits = {
        "dim": 1 << 20,
        "hidden_dim": 1 << 22,
        "n_layers": 1 << 12,
        "n_heads": 1 << 12,
        "n_kv_heads": 1 << 12,
        "head_dim": 1 << 12,
        "vocab_size": 1 << 24,
        "context_length": 1 << 24,
    }
    for name, most in limits.items():
        value = getattr(config, name)
        if not is_count(value) or value > most:
            raise SourceError(f"{path}: {name} is {value!r}, expected a whole number from 1 to {most}")
    window = config.sliding_window
    if window != 0 and not (is_count(window) and window <= 1 << 24):
        raise SourceError(f"{path}: sliding_window is {window!r}, expected a whole number from 0 to {1 << 24}")
    if config.head_dim % 2:
        raise SourceError(f"{path}: head_dim is {config.head_dim}, expected an even number")
    if config.n_heads % config.n_kv_heads:
        raise SourceError(f"{path}: n_kv_heads is {config.n_kv_heads}, expected a divisor of n_heads, {config.n_heads}")
    reals = [("norm_eps", 0, 1), ("rope_theta", 1, 1e12)]
    for name in ("embedding_scale", "residual_scale", "attention_scale", "logit_scale", "attention_cap", "logit_cap"):
        if getattr(config, name) != 0:
            reals.append((name, 1e-6, 1e6))
    if config.rope_scaling in ("yarn", "longrope"):
        reals += [(name, 1e-6, 1e6) for name in ("rope_beta_fast", "rope_beta_slow") if config.rope_scaling == "yarn"]
        if config.rope_attention_factor != 0:
            reals.append(("rope_attention_factor", 1e-6, 1e6))
    reals.append(("query_beta", 0, 1e6))
    if config.window_rope_theta != 0:
        reals.append(("window_rope_theta", 1, 1e12))
    if config.rope_scaling != "none":
        reals.append(("rope_factor", 1, 1e6))
    if config.rope_scaling == "llama3":
        reals.append(("rope_low_freq_factor", 1e-6, 1e6))
        reals.append(("rope_high_freq_factor", config.rope_low_freq_factor * 1.000001, 1e6))
    if config.rope_scaling in ("llama3", "yarn", "longrope"):
        if not is_count(config.rope_original_context) or config.rope_original_context > 1 << 24:
            raise SourceError(
                f"{path}: rope_original_context is {config.rope_original_context!r}, "
                f"expected a whole number from 1 to {1 << 24}"
            )
    for name, least, most in reals:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise SourceError(f"{path}: {name} is {value!r}, expected a number from {least:g} to {most:g}")
