"""Tiny llama2.c files and tokenizers for the tests. They need only numpy, and their bytes are the same on every machine.

A weight is splitmix64 of its index, turned into a float by operations that IEEE 754 defines exactly (shifts, one
product, one square root). numpy's generators are not used, because they may change between versions. A golden file
stores the SHA-256 of its model, so that a change here is noticed.

Layouts, in the order of the file:

    v0   7 int32 (vocab_size negative: a head of its own at the end) | tok_embeddings rms_att wq wk wv wo rms_ffn
         w1 w2 w3 rms_final freq_cis_real freq_cis_imag [wcls], all f32; "wq" is all layers' wq
    v1   header of 256 bytes | rms_att rms_ffn rms_final tok_embeddings wq wk wv wo w1 w2 w3 [wcls], all f32
    v2   header of 256 bytes with the group size | the norms as in v1, f32 | then each matrix: its int8 weights,
         after them one f32 scale for each group of the flattened matrix
"""

import hashlib
import struct
import zlib
from dataclasses import dataclass, replace

import numpy as np

MAGIC = 0x616B3432  # "ak42"
HEADER_BYTES = 256  # of v1 and v2
FIELDS = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len")  # order in every header
MATRICES = ("wq", "wk", "wv", "wo", "w1", "w2", "w3")  # per layer, in the order of every file


@dataclass(frozen=True)
class Config:
    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    vocab_size: int
    seq_len: int
    tied: bool = True  # the head is the embedding
    seed: int = 1

    @property
    def head_size(self):
        return self.dim // self.n_heads

    @property
    def kv_dim(self):
        return self.n_kv_heads * self.head_size

    def shapes(self):
        """Name -> shape of every tensor that is neither RoPE table nor head; rows are outputs."""
        layers, dim, hidden, kv_dim = self.n_layers, self.dim, self.hidden_dim, self.kv_dim
        shapes = {
            "tok_embeddings": (self.vocab_size, dim),
            "rms_att": (layers, dim),
            "wq": (layers, dim, dim),
            "wk": (layers, kv_dim, dim),
            "wv": (layers, kv_dim, dim),
            "wo": (layers, dim, dim),
            "rms_ffn": (layers, dim),
            "w1": (layers, hidden, dim),
            "w2": (layers, dim, hidden),
            "w3": (layers, hidden, dim),
            "rms_final": (dim,),
        }
        if not self.tied:
            shapes["wcls"] = (self.vocab_size, dim)
        return shapes


def splitmix64(seed, count):
    """uint64 (count,): the outputs of splitmix64 from `seed`, all at once."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniform(seed, shape):
    """f64 of `shape`, each a multiple of 2^-23 in [-1, 1)."""
    bits = splitmix64(seed, int(np.prod(shape))) >> np.uint64(40)
    return (bits.astype(np.float64) / 2.0**23 - 1.0).reshape(shape)


def random_tokens(seed, count, vocab_size):
    return [int(t) for t in splitmix64(seed, count) % np.uint64(vocab_size)]


def random_weights(config):
    """Name -> f32 array, scaled so that activations and logits have a variance of about one."""
    weights = {}
    for i, (name, shape) in enumerate(config.shapes().items()):
        u = uniform(config.seed * 1000 + i, shape)
        if name.startswith("rms"):
            w = 1.0 + 0.25 * u
        else:
            w = u * np.sqrt(3.0 / shape[-1])  # a uniform number in [-1, 1) has a variance of 1/3
        weights[name] = w.astype("<f4")
    return weights


def zero_weights(config):
    """Zeros: a valid model for which every token is equally likely."""
    return {name: np.zeros(shape, "<f4") for name, shape in config.shapes().items()}


def chain_weights(config, successor):
    """A model that continues each token t with successor[t], almost surely: embeddings and head are one-hot, attention
    and mlp add nothing. Needs dim >= vocab_size and an untied head."""
    assert config.dim >= config.vocab_size and not config.tied
    weights = zero_weights(config)
    for name in ("rms_att", "rms_ffn", "rms_final"):
        weights[name][...] = 1
    for token, after in successor.items():
        weights["tok_embeddings"][token, token] = 1
        weights["wcls"][after, token] = 1
    return weights


def quantize(w, group_size):
    """int8 (flattened) and f32 scales as llama2.c's export makes them: scale = max / 127, rounded half to even."""
    groups = w.astype(np.float32).reshape(-1, group_size)
    scales = np.abs(groups).max(axis=1) / np.float32(127)
    safe = np.where(scales > 0, scales, np.float32(1))
    return np.rint(groups / safe[:, None]).astype(np.int8).reshape(-1), scales.astype("<f4")


def dequantized_weights(weights, group_size):
    """The f32 weights that a v2 file of these weights holds: norms unchanged, matrices quantised to int8 and back."""
    result = {}
    for name, w in weights.items():
        if name.startswith("rms"):
            result[name] = w
        else:
            q, scales = quantize(w, group_size)
            back = q.reshape(-1, group_size).astype(np.float32) * scales[:, None]
            result[name] = back.reshape(w.shape)
    return result


def sections_v0(config, weights):
    """(name, bytes) of each part of a v0 file, in order."""
    vocab = config.vocab_size if config.tied else -config.vocab_size
    values = [config.dim, config.hidden_dim, config.n_layers, config.n_heads, config.n_kv_heads, vocab, config.seq_len]
    parts = [("header", struct.pack("<7i", *values))]
    order = ("tok_embeddings", "rms_att", "wq", "wk", "wv", "wo", "rms_ffn", "w1", "w2", "w3", "rms_final")
    parts += [(name, weights[name].tobytes()) for name in order]
    # The RoPE tables are no longer read: wrong values would show a reader that does.
    table = np.full(config.seq_len * config.head_size // 2, 0.5, "<f4").tobytes()
    parts += [("freq_cis_real", table), ("freq_cis_imag", table)]
    if not config.tied:
        parts.append(("wcls", weights["wcls"].tobytes()))
    return parts


def header_v1(config, version=1, group_size=None):
    values = [getattr(config, field) for field in FIELDS]
    header = struct.pack("<Ii7iB", MAGIC, version, *values, int(config.tied))
    if group_size is not None:
        header += struct.pack("<i", group_size)  # right after the byte: not aligned
    return header.ljust(HEADER_BYTES, b"\0")


def sections_v1(config, weights):
    order = ("rms_att", "rms_ffn", "rms_final", "tok_embeddings", *MATRICES)
    parts = [("header", header_v1(config))] + [(name, weights[name].tobytes()) for name in order]
    if not config.tied:
        parts.append(("wcls", weights["wcls"].tobytes()))
    return parts


def sections_v2(config, weights, group_size):
    parts = [("header", header_v1(config, 2, group_size))]
    parts += [(name, weights[name].tobytes()) for name in ("rms_att", "rms_ffn", "rms_final")]
    for name in ("tok_embeddings", *MATRICES, *(() if config.tied else ("wcls",))):
        matrices = weights[name] if name in MATRICES else [weights[name]]
        for layer, matrix in enumerate(matrices):
            q, scales = quantize(matrix, group_size)
            parts += [(f"{name}.{layer}", q.tobytes()), (f"{name}.{layer}.scales", scales.tobytes())]
    return parts


def sections(config, kind, weights=None):
    """kind: "v0", "v1" or "v2-<group size>"."""
    if weights is None:
        weights = random_weights(config)
    if kind == "v0":
        return sections_v0(config, weights)
    if kind == "v1":
        return sections_v1(config, weights)
    return sections_v2(config, weights, int(kind.removeprefix("v2-")))


def model_bytes(config, kind, weights=None):
    return b"".join(data for _, data in sections(config, kind, weights))


def write_zero_model(path, config):
    """A v0 model of zeros. The file is sparse, so any size is written at once."""
    vocab = config.vocab_size if config.tied else -config.vocab_size
    floats = sum(int(np.prod(shape)) for shape in config.shapes().values()) + config.seq_len * config.head_size
    with open(path, "wb") as f:
        values = [config.dim, config.hidden_dim, config.n_layers, config.n_heads, config.n_kv_heads, vocab]
        f.write(struct.pack("<7i", *values, config.seq_len))
        f.truncate(28 + 4 * floats)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# ----------------------------------------------------------------------------------------------------------------------
# Tokenizers: llama2.c's tokenizer.bin.

SPECIAL = [b"<unk>", b"\n<s>\n", b"\n</s>\n"]  # ids 0, 1 (BOS), 2 (EOS)
BYTES = [b"<0x%02X>" % b for b in range(256)]  # ids 3 .. 258
BOS, EOS, FIRST_BYTE, FIRST_PIECE = 1, 2, 3, 259


def tokenizer_bytes(pieces, scores=None, max_token_length=None):
    """i32 longest piece, then of each piece f32 score, i32 length, its bytes."""
    if scores is None:
        scores = [0.0 if i < FIRST_PIECE else -float(i - FIRST_PIECE) for i in range(len(pieces))]
    if max_token_length is None:
        max_token_length = max(len(p) for p in pieces)
    data = [struct.pack("<i", max_token_length)]
    for piece, score in zip(pieces, scores):
        data.append(struct.pack("<fi", score, len(piece)) + piece)
    return b"".join(data)


def tiny_pieces(vocab_size=300):
    """Special tokens, bytes, a few merges, the letters; filled up to vocab_size."""
    assert vocab_size >= FIRST_PIECE + 34
    merges = [b" t", b"he", b" the", b"an", b"in", b"th", b"er"]
    letters = [b" "] + [bytes([c]) for c in range(ord("a"), ord("z") + 1)]
    pieces = SPECIAL + BYTES + merges + letters
    return pieces + [b"<filler %d>" % i for i in range(vocab_size - len(pieces))]


# The small model of the tests of the command line and of bad inputs: 4 heads over 2, tied.
TINY = Config(dim=16, hidden_dim=20, n_layers=2, n_heads=4, n_kv_heads=2, vocab_size=300, seq_len=64, seed=7)
TINY_UNTIED = replace(TINY, tied=False)

# ----------------------------------------------------------------------------------------------------------------------
# The models of the golden logits: name -> (config, kinds of file, length of the sequence). Each has something the others
# lack: a ratio of query heads to key heads, a head size, a tied head, odd sizes, a sequence longer than a page of the
# cache.

GOLDEN = {
    "heads_1to1_size8_tied": (Config(24, 172, 2, 3, 3, 77, 64, True, 11), ("v0", "v1", "v2-8"), 40),
    "heads_3to1_size8_untied": (Config(48, 40, 3, 6, 2, 77, 64, False, 12), ("v0", "v1", "v2-8"), 40),
    "heads_allto1_size64_untied": (Config(128, 172, 2, 2, 1, 77, 48, False, 13), ("v0", "v1", "v2-64"), 35),
    "heads_allto1_size8_tied": (Config(40, 33, 2, 5, 1, 50, 64, True, 14), ("v0", "v1", "v2-8"), 35),
    "heads_3to1_size128_tied": (Config(384, 99, 1, 3, 1, 37, 48, True, 15), ("v0", "v2-64"), 33),
    "heads_1to1_size128_untied": (Config(128, 96, 2, 1, 1, 65, 48, False, 16), ("v0", "v1", "v2-64"), 33),
    "heads_1to1_size6_odd_sizes": (Config(30, 17, 2, 5, 5, 19, 64, False, 17), ("v0", "v1"), 40),
    "heads_50to1_size2_tied": (Config(100, 20, 2, 50, 1, 40, 64, True, 19), ("v0", "v1"), 40),
    "long_sequence": (Config(16, 24, 2, 2, 1, 32, 1024, True, 18), ("v0", "v2-8"), 700),
}
LONG_STRIDE = 9  # every ninth row of a sequence of more than 100 tokens is kept


def golden_rows(n_tokens):
    """The rows of logits that a golden file keeps."""
    return list(range(0, n_tokens, LONG_STRIDE if n_tokens > 100 else 1))

# ----------------------------------------------------------------------------------------------------------------------
# Native checkpoints that hold only a vocabulary (docs/format.md).


def vocabulary_checkpoint(tokenizer, vocab_size):
    """header | table of two sections | config | zeros | section `tokenizer`."""
    config = b"".join(struct.pack("<32s3I4x", name, 0, 1, value)
                      for name, value in ((b"vocab_size", vocab_size), (b"vocab_only", 1)))  # fmt: skip
    sections = {b"config": (256, config), b"tokenizer": (384, tokenizer)}  # multiples of 64: 64 + 2 * 96, 256 + 2 * 48
    start = bytes.fromhex("8952554e0d0a1a0a") + struct.pack("<IIQQ", 2, 2, 384 + len(tokenizer), 64)
    rest = bytes(28) + b"".join(struct.pack("<48s4I2QI12x", name, 0, 0, 0, 0, offset, len(data), zlib.crc32(data))
                                for name, (offset, data) in sections.items())  # fmt: skip
    head = start + struct.pack("<I", zlib.crc32(start + bytes(4) + rest)) + rest
    return (head + config).ljust(384, b"\0") + tokenizer
