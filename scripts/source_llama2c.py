"""Reads llama2.c's checkpoints.

    v0   7 int32 (vocab_size is negative if a separate head follows at the end), then f32: embedding | attn_norm* q* k*
         v* o* mlp_norm* gate* down* up* | norm | 2 tables of RoPE, not used | [head]
    v1   256 bytes: "24ka", 1, the 7 int32, u8 tied; then f32: attn_norm* mlp_norm* norm | embedding q* k* v* o* gate*
         down* up* | [head]
    v2   like v1, with version 2 and an int32 group size after the u8; each matrix is int8 values, then an f32 scale
         per group of that many values, counted through the whole matrix: a group may straddle rows

A * means one tensor per layer, in order. The rows of q and k are in the order of a RoPE that rotates neighbours.
"""

import struct

import numpy as np

from checkpoint import Config
from source import Source, SourceError, Tensor, check_config, plain_tensor, read_bytes

MAGIC = 0x616B3432
HEADER_BYTES = 256
NORM_EPS = 1e-5
ROPE_THETA = 10000.0


class Grouped(Tensor):
    """A matrix of v2: int8 values, with their scales stored separately."""

    scales = 0  # offset of the scales
    group_size = 0

    def read(self, begin, end):
        order = self.order(begin, end)
        low, high = int(order.min()) * self.cols, (int(order.max()) + 1) * self.cols
        q = read_bytes(self.path, self.offset + low, high - low, self.name).view(np.int8)
        first, last = low // self.group_size, (high - 1) // self.group_size + 1
        scales = read_bytes(self.path, self.scales + 4 * first, 4 * (last - first), self.name).view("<f4")
        values = q * scales[np.arange(low, high) // self.group_size - first]
        return values.reshape(-1, self.cols)[order - order.min()]


def read(path):
    file_bytes = path.stat().st_size
    with open(path, "rb") as file:
        header = file.read(HEADER_BYTES)
    v0 = len(header) < 4 or struct.unpack_from("<I", header)[0] != MAGIC
    if len(header) < (28 if v0 else HEADER_BYTES):
        raise SourceError(f"{path}: has {len(header)} bytes: not a Hugging Face folder, GGUF file or llama2.c checkpoint")
    version = 0 if v0 else struct.unpack_from("<i", header, 4)[0]
    if not v0 and version not in (1, 2):
        raise SourceError(f"{path}: version is {version}, expected 1 or 2")
    dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len = struct.unpack_from(
        "<7i", header, 0 if v0 else 8
    )
    tied = vocab_size > 0 if v0 else header[36] != 0
    if n_heads < 1 or dim % n_heads:
        raise SourceError(
            f"{path}: not a Hugging Face folder, GGUF file or llama2.c checkpoint (whose n_heads would be {n_heads})"
        )
    config = Config(
        vocab_size=abs(vocab_size) if v0 else vocab_size,
        dim=dim,
        hidden_dim=hidden_dim,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=dim // n_heads,
        context_length=seq_len,
        norm_eps=NORM_EPS,
        rope_theta=ROPE_THETA,
        tied_head=tied,
    )
    check_config(path, config)
    group_size = struct.unpack_from("<i", header, 37)[0] if version == 2 else 0
    if version == 2 and group_size < 1:
        raise SourceError(f"{path}: group_size is {group_size}, expected at least 1")
    tensors, end = place_tensors(path, config, version, group_size)
    if end != file_bytes:
        raise SourceError(f"{path}: has {file_bytes} bytes, expected {end} for the shape in its header")
    return Source(path, config, tensors)


def place_tensors(path, config, version, group_size):
    """Name -> Tensor, and the offset where the last one ends."""
    c = config
    q_dim, kv_dim = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    attention = [
        ("q_proj", q_dim, c.dim),
        ("k_proj", kv_dim, c.dim),
        ("v_proj", kv_dim, c.dim),
        ("o_proj", c.dim, q_dim),
    ]
    attention = [(f"attn.{name}", rows, cols) for name, rows, cols in attention]
    mlp = [("gate_proj", c.hidden_dim, c.dim), ("down_proj", c.dim, c.hidden_dim), ("up_proj", c.hidden_dim, c.dim)]
    mlp = [(f"mlp.{name}", rows, cols) for name, rows, cols in mlp]
    attn_norm, mlp_norm, norm = ("attn_norm", None, c.dim), ("mlp_norm", None, c.dim), ("norm", None, c.dim)
    embedding, head = ("embedding", c.vocab_size, c.dim), ("head", c.vocab_size, c.dim)
    layered = {entry[0] for entry in [attn_norm, mlp_norm, *attention, *mlp]}
    if version == 0:
        order = [embedding, attn_norm, *attention, mlp_norm, *mlp, norm, None]
    else:
        order = [attn_norm, mlp_norm, norm, embedding, *attention, *mlp]
    if not c.tied_head:
        order.append(head)

    tensors, end = {}, 28 if version == 0 else HEADER_BYTES
    for entry in order:
        if entry is None:  # the tables of RoPE
            end += 4 * c.context_length * (c.head_dim // 2) * 2
            continue
        name, rows, cols = entry
        for layer in range(c.n_layers if name in layered else 1):
            full = f"blocks.{layer}.{name}" if name in layered else name
            n = (rows or 1) * cols
            if group_size and rows:
                if n % group_size:
                    raise SourceError(
                        f"{path}: group_size is {group_size}, expected a divisor of {n}, the size of {full}"
                    )
                tensor = Grouped(path, end, rows, cols, None, cols, None, full)
                tensor.scales, tensor.group_size = end + n, group_size
                end += n + 4 * (n // group_size)
            else:
                tensor = plain_tensor(path, end, rows or 1, cols, "f32", full)
                end += 4 * n
            if name in ("attn.q_proj", "attn.k_proj"):
                tensor.neighbours = c.head_dim
            tensors[full] = tensor
    return tensors, end
