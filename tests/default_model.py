"""The default model, models/stories.bin, as llama2.c's files: its weights as f32 or int8, its vocabulary as tokenizer.bin.

llama2.c's own executable told tests/golden/llama2c_stories.json from these files (scripts/make_golden.py --llama2c).
"""

import struct
from pathlib import Path

import numpy as np

import models
import native

PATH = Path(__file__).resolve().parent.parent / "models" / "stories.bin"
BYTE = 2  # attribute of a byte token (docs/format.md, The tokenizer)
LAYER = {
    "rms_att": "attn_norm",
    "wq": "attn.q_proj",
    "wk": "attn.k_proj",
    "wv": "attn.v_proj",
    "wo": "attn.o_proj",
    "rms_ffn": "mlp_norm",
    "w1": "mlp.gate_proj",
    "w2": "mlp.down_proj",
    "w3": "mlp.up_proj",
}


def pairs(w, heads):
    """Rows of q or k in llama2.c's order: RoPE rotates neighbouring rows of a head, not row i of its first half with
    row i of its second half."""
    return w.reshape(heads, 2, -1, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def config_and_weights(file):
    """The models.Config and weights of llama2.c's files. Their head is not tied: llama2.c ends a text at BOS where the
    default model says EOS, so the head's rows of the two are exchanged."""
    f = file.fields
    config = models.Config(f["dim"], f["hidden_dim"], f["n_layers"], f["n_heads"], f["n_kv_heads"], f["vocab_size"],
                           f["context_length"], tied=False)  # fmt: skip

    def tensor(name):
        return (file.vector if file.sections[name].kind == 1 else file.matrix)(name)

    weights = {"tok_embeddings": tensor("embedding"), "rms_final": tensor("norm")}
    for ours, theirs in LAYER.items():
        weights[ours] = np.stack([tensor(f"blocks.{layer}.{theirs}") for layer in range(config.n_layers)])
    for name, heads in (("wq", config.n_heads), ("wk", config.n_kv_heads)):
        weights[name] = np.stack([pairs(w, heads) for w in weights[name]])
    weights["wcls"] = weights["tok_embeddings"].copy()
    weights["wcls"][[models.BOS, models.EOS]] = weights["tok_embeddings"][[models.EOS, models.BOS]]
    return config, {name: np.ascontiguousarray(w, "<f4") for name, w in weights.items()}


def tokenizer_bytes(file):
    section = file.bytes("tokenizer")
    n_pieces, n_end = struct.unpack_from("<I", section, 12)[0], struct.unpack_from("<I", section, 28)[0]
    at = 64 + 4 * n_end
    offsets = struct.unpack_from(f"<{n_pieces + 1}I", section, at)
    scores = struct.unpack_from(f"<{n_pieces}f", section, at + 4 * (n_pieces + 1))
    at += 4 * (n_pieces + 1) + 4 * n_pieces
    attributes, pieces = section[at : at + n_pieces], section[at + n_pieces :]
    pieces = [pieces[a:b] for a, b in zip(offsets, offsets[1:])]
    pieces = [b"<0x%02X>" % p[0] if kind == BYTE else p for p, kind in zip(pieces, attributes)]
    return models.tokenizer_bytes([*models.SPECIAL, *pieces[3:]], scores)


def write_llama2c(folder, kinds):
    """Writes stories-<kind>.bin of each kind ("v0", "v1", "v2-<group size>") and stories-tokenizer.bin into the folder.
    Returns {kind: path} and the tokenizer's path."""
    file = native.Native(PATH)
    config, weights = config_and_weights(file)
    paths = {kind: Path(folder) / f"stories-{kind}.bin" for kind in kinds}
    for kind, path in paths.items():
        path.write_bytes(models.model_bytes(config, kind, weights))
    tokenizer = Path(folder) / "stories-tokenizer.bin"
    tokenizer.write_bytes(tokenizer_bytes(file))
    return paths, tokenizer
