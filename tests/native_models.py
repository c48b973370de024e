"""Small native checkpoints for the tests, made by native.Writer."""

import json
import sys

import numpy as np
from conftest import ROOT

import models
import native

sys.path.append(str(ROOT / "scripts"))
import vocabulary  # noqa: E402

TINY = {"dim": 16, "hidden_dim": 20, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 4, "vocab_size": 260,
        "context_length": 64, "tied_head": 1}  # fmt: skip


def byte_vocabulary(add_bos=True):
    """Byte-level BPE with all 256 bytes, one merge and two special tokens: 260 pieces."""
    pieces = [b"<s>", b"</s>", *(bytes([b]) for b in range(256)), b"ab", b"<filler>"]
    attributes = [vocabulary.SPECIAL] * 2 + [vocabulary.NORMAL] * 258
    a, b = 2 + ord("a"), 2 + ord("b")
    return vocabulary.Vocabulary(
        vocabulary.BYTE_LEVEL, pieces, attributes, merges=[(a, b, 258)], pre_tokenizer=vocabulary.GPT2, bos=0, eos=1,
        end=[1], add_bos=add_bos)  # fmt: skip


def chat_source(start_user, start_system, system_user, user_assistant, assistant_user, system=True):
    """A chat template that writes these texts around messages. system: it takes a system message."""
    texts = (start_system, system_user, start_user, assistant_user, user_assistant)
    refuse = "" if system else "{{ raise_exception('no system messages') }}"
    return (
        "{%% for m in messages %%}{%% if m.role == 'system' %%}%s{{ %s + m.content + %s }}{%% elif m.role == 'user' %%}"
        "{%% if loop.first %%}{{ %s }}{%% elif messages[loop.index0 - 1].role == 'assistant' %%}{{ %s }}{%% endif %%}"
        "{{ m.content + %s }}{%% else %%}{{ m.content }}{%% endif %%}{%% endfor %%}"
    ) % (refuse, *(json.dumps(text) for text in texts))


# Puts only special tokens and line ends around messages.
CHAT = chat_source("<s>", "<s>", "\n", "</s>", "<s>")


def tiny(chat=False, add_bos=True, sampling=(), **fields):
    """A native.Writer of a model of a few thousand random weights. chat: True, or the source of a template."""
    seeds = iter(range(1, 1000))
    writer = native.Writer({**TINY, **fields}, byte_vocabulary(add_bos).section(),
                           lambda _, s: models.uniform(next(seeds), s), sampling)  # fmt: skip
    if chat:
        writer.add("chat", 0, 0, 0, (CHAT if chat is True else chat).encode())
        writer.entries.insert(3, writer.entries.pop())
    return writer


def chatting(source, special, added, words=(), after=(), **fields):
    """A native.Writer of a model with this chat template. Its tokens are the bytes, the special ones, the first of which is
    BOS and the second EOS, other added ones, and words that no text is encoded to. Where `after` maps a token's name, a
    word or a byte to another, the model is certain of that one; after any other token all are equally likely."""
    names = [*special, *added, *words]
    pieces = [*(bytes([b]) for b in range(256)), *(name.encode() for name in names)]
    kinds = [vocabulary.SPECIAL] * len(special) + [vocabulary.ADDED] * len(added) + [vocabulary.NORMAL] * len(words)
    tokenizer = vocabulary.Vocabulary(
        vocabulary.BYTE_LEVEL, pieces, [vocabulary.NORMAL] * 256 + kinds, merges=[], pre_tokenizer=vocabulary.GPT2,
        bos=256, eos=257, end=[257])  # fmt: skip
    size = len(pieces)
    head_dim = -(-size // 16) * 4
    token = {name: 256 + i for i, name in enumerate(names)} | {chr(b): b for b in range(128)}

    def values(name, shape):
        made = np.ones(shape, np.float32) if "norm" in name else np.zeros(shape, np.float32)
        if name == "embedding":
            made[:size, :size] = np.eye(size)
        elif name == "head":
            for before, next in dict(after).items():
                made[token[next], token[before]] = 1000
        return made

    shape = {**TINY, "vocab_size": size, "dim": 4 * head_dim, "head_dim": head_dim, "n_kv_heads": 1, "n_layers": 1,
             "hidden_dim": 16, "tied_head": 0, "context_length": 4096, **fields}  # fmt: skip
    writer = native.Writer(shape, tokenizer.section(), values)
    writer.add("chat", 0, 0, 0, source.encode())
    writer.entries.insert(3, writer.entries.pop())
    return writer


TYPES = [name for name, _, _ in native.TYPES.values()]  # in the order of their numbers in the file
# What a block of random bits begins with, so that weights stay at about 0.1: its scales in f16, and their minimums, each
# as the exponent and the sign of its numbers.
HALVES = {"q8": [(-11, 0)], "q4": [(-7, 0)], "q4m": [(-7, 0), (-5, 1)], "q4t": [(-10, 0)], "q5": [(-7, 0)],
          "q5m": [(-8, 0), (-5, 1)], "q4k": [(-12, 0), (-9, 0)], "q5k": [(-13, 0), (-9, 0)], "q6k": [(-14, 0)]}  # fmt: skip
TYPED = {**TINY, "dim": 96, "hidden_dim": 160, "n_layers": 2, "n_heads": 6, "n_kv_heads": 2, "head_dim": 16}


def f16_bits(seed, shape, exponent, sign=0):
    """Bits of random f16 numbers in [2^exponent, 2^(exponent + 1))."""
    mantissas = models.splitmix64(seed, int(np.prod(shape))).reshape(shape) >> np.uint64(54)
    return (mantissas + np.uint64((exponent + 15) << 10 | sign << 15)).astype("<u2")


def random_blocks(kind, rows, cols, seed):
    """A matrix of a block type with random bits, except that scales keep weights at about 0.1."""
    _, block_cols, size = native.TYPES[TYPES.index(kind)]
    blocks = -(-rows // 16) * -(-cols // block_cols)
    values = (models.splitmix64(seed + 1, blocks * 16 * block_cols) >> np.uint64(56)).astype(np.uint8).reshape(blocks, -1)
    halves = [f16_bits(seed + 2 * i, (blocks, 16), *half).view(np.uint8) for i, half in enumerate(HALVES[kind])]
    values = np.maximum(values, 1) if kind == "q8" else values
    return np.hstack([*halves, values[:, : size - 32 * len(halves)]]).tobytes()


def typed(kind):
    """The bytes of a random model whose matrices all have this type. They never change: golden bits depend on them."""
    seeds = iter(range(1, 1000))
    writer = native.Writer(TYPED, byte_vocabulary().section(),
                           lambda _, s: models.uniform(next(seeds), s) * (0.17 if s[0] > 1 else 1))  # fmt: skip
    for i, e in enumerate(writer.entries[1:]):  # after the config
        if e["kind"] == 2 and kind != "f32":
            e["type"] = TYPES.index(kind)
            if kind == "bf16":
                e["data"] = np.frombuffer(e["data"], "<u4").__rshift__(16).astype("<u2").tobytes()
            elif kind == "f16":
                e["data"] = np.frombuffer(e["data"], "<f4").astype("<f2").tobytes()
            else:
                e["data"] = random_blocks(kind, e["rows"], e["cols"], 1000 + 10 * i)
    return writer.pack()


def write_slow(path):
    """A model of zeros, 26 MB, that takes milliseconds per token; every token is equally likely."""
    fields = {**TINY, "dim": 1024, "hidden_dim": 1024, "n_layers": 1, "n_heads": 16, "n_kv_heads": 4, "head_dim": 64,
              "context_length": 4096}  # fmt: skip
    path.write_bytes(native.Writer(fields, byte_vocabulary().section(), lambda _, s: np.zeros(s, np.float32)).pack())
    return path
