"""Small native checkpoints for the tests, made by native.Writer."""

import struct
import sys

import numpy as np
from conftest import ROOT

import models
import native

sys.path.append(str(ROOT / "scripts"))
import vocabulary  # noqa: E402

TINY = {"dim": 16, "hidden_dim": 20, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 4, "vocab_size": 260,
        "context_length": 64, "flags": native.TIED_HEAD}  # fmt: skip


def byte_vocabulary():
    """Byte-level BPE over all bytes, with one merge and two special tokens: 260 pieces."""
    pieces = [b"<s>", b"</s>", *(bytes([b]) for b in range(256)), b"ab", b"<filler>"]
    attributes = [vocabulary.SPECIAL] * 2 + [vocabulary.NORMAL] * 258
    a, b = 2 + ord("a"), 2 + ord("b")
    return vocabulary.Vocabulary(
        vocabulary.BYTE_LEVEL, pieces, attributes, merges=[(a, b, 258)], pre_tokenizer=vocabulary.GPT2, bos=0, eos=1,
        end=[1], add_bos=True)  # fmt: skip


def chat_section():
    """Nothing around the messages but names of special tokens."""
    texts = [b"<s>", b"<s>", b"\n", b"</s>", b"<s>"]
    return struct.pack("<I", 2) + b"".join(struct.pack("<I", len(t)) + t for t in texts)


def tiny(chat=False, **fields):
    """A native.Writer of a model of a few thousand weights."""
    seeds = iter(range(1, 1000))
    writer = native.Writer({**TINY, **fields}, byte_vocabulary().section(), lambda _, s: models.uniform(next(seeds), s))
    if chat:
        writer.add("chat", 0, 0, 0, chat_section())
        writer.entries.insert(2, writer.entries.pop())
    return writer


def write_slow(path):
    """A model of zeros, 26 MB, that takes milliseconds a token; every token is as likely as any other."""
    fields = {**TINY, "dim": 1024, "hidden_dim": 1024, "n_layers": 1, "n_heads": 16, "n_kv_heads": 4, "head_dim": 64,
              "context_length": 4096}  # fmt: skip
    path.write_bytes(native.Writer(fields, byte_vocabulary().section(), lambda _, s: np.zeros(s, np.float32)).pack())
    return path
