"""What the reader of a model gives convert.py: the shape of the model, and where its tensors are.

A tensor is described by its file, offset and type. Nothing is mapped or kept in memory, so a model of any size is read in
a few megabytes. Names are those of docs/format.md.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

VALUE_BYTES = {"f32": 4, "f16": 2, "bf16": 2}
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
PIECE_BYTES = 16 << 20  # read at once


class SourceError(Exception):
    """The source cannot be converted; the message, one line, names the file, the field or tensor, and the reason."""


@dataclass
class Tensor:
    path: Path
    offset: int
    rows: int
    cols: int
    type: str  # f32, f16 or bf16
    name: str  # that the source has for it, for messages
    unit_offset: bool = False  # the source has its values less 1
    below: tuple = ()  # tensors whose rows follow these

    @property
    def all_rows(self):
        return self.rows + sum(tensor.rows for tensor in self.below)

    @property
    def row_bytes(self):
        return self.cols * VALUE_BYTES[self.type]

    def pieces(self):
        """The bytes of all rows, as the source has them, a few megabytes at a time."""
        yield from self.own_pieces()
        for tensor in self.below:
            yield from tensor.own_pieces()

    def own_pieces(self):
        left = self.rows * self.row_bytes
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            while left:
                piece = file.read(min(left, PIECE_BYTES))
                if not piece:
                    raise SourceError(f"{self.path}: ends inside tensor {self.name}")
                left -= len(piece)
                yield piece

    def vector(self):
        """f32 (cols,), finite."""
        raw = b"".join(self.pieces())
        if self.type == "bf16":
            values = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
        else:
            values = np.frombuffer(raw, "<f4" if self.type == "f32" else "<f2").astype("<f4")
        if not np.isfinite(values).all():
            raise SourceError(f"{self.path}: tensor {self.name} has a value that is not finite")
        return np.float32(1) + values if self.unit_offset else values  # in f32, as the model computes it


@dataclass
class Source:
    path: Path
    config: object  # checkpoint.Config
    tensors: dict = field(default_factory=dict)  # name -> Tensor
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
    if config.n_experts:
        for name, most in (("n_experts", 1024), ("n_experts_used", min(64, config.n_experts))):
            value = getattr(config, name)
            if not is_count(value) or value > most:
                raise SourceError(f"{path}: {name} is {value!r}, expected a whole number from 1 to {most}")
        for name in ("dim", "hidden_dim"):
            if getattr(config, name) % 32:
                raise SourceError(f"{path}: {name} is {getattr(config, name)}, expected a multiple of 32 with experts")
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
