#!/usr/bin/env python3
"""Writes a checkpoint of random weights with the shape of a real model, for benchmarks: its text is noise, its speed real.

    scripts/make_random.py OUT --like llama-2-7b --type q4

Quantised values are random bytes and all quantisation blocks have the same scale, so nothing has to be quantised and
the file is written about as fast as the disk allows. The scale makes the outputs of a matrix vary as much as its
inputs, so activations stay finite and of order one. The vocabulary is the 256 bytes and three special tokens, padded
to the full size with invented words. Needs numpy.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import checkpoint
import vocabulary

SHAPES = {
    "smollm2": checkpoint.Config(
        vocab_size=49152, dim=576, hidden_dim=1536, n_layers=30, n_heads=9, n_kv_heads=3, head_dim=64,
        context_length=8192, norm_eps=1e-5, rope_theta=100000.0, tied_head=True,
    ),
    "tinyllama": checkpoint.Config(
        vocab_size=32000, dim=2048, hidden_dim=5632, n_layers=22, n_heads=32, n_kv_heads=4, head_dim=64,
        context_length=2048, norm_eps=1e-5, rope_theta=10000.0,
    ),
    "llama-2-7b": checkpoint.Config(
        vocab_size=32000, dim=4096, hidden_dim=11008, n_layers=32, n_heads=32, n_kv_heads=32, head_dim=128,
        context_length=4096, norm_eps=1e-5, rope_theta=10000.0,
    ),
}  # fmt: skip
# Of the values that random bytes encode: their root mean square, less their mean where a minimum takes that away.
ROOT_MEAN_SQUARE = {"q8": 73.6, "q4": 4.64, "q4m": 4.61, "q4t": 67.6, "q5": 9.25, "q5m": 9.23, "q4k": 4.61, "q5k": 9.23,
                    "q6k": 18.5}  # fmt: skip
MEAN = {"q4m": 7.5, "q5m": 15.5, "q4k": 7.5, "q5k": 15.5}
# The small scales of superblocks, which are all 32: of q4k and q5k scales and minimums, packed in 12 bytes per row.
SMALL = {"q4k": [0xA0] * 128 + [0] * 64, "q5k": [0xA0] * 128 + [0] * 64, "q6k": [32] * 256}
PIECE_BYTES = 8 << 20


def blocks(rng, weight_type, n, deviation):
    """u8: n blocks of 16 rows, whose weights have this standard deviation and a mean near zero."""
    t = checkpoint.WEIGHT_TYPES[weight_type]
    if weight_type in ("f32", "f16", "bf16"):
        values = deviation * rng.standard_normal(n * checkpoint.GROUP_ROWS, np.float32)
        if weight_type == "bf16":
            return (values.view(np.uint32) >> 16).astype("<u2").view(np.uint8)
        return values.astype("<f2" if weight_type == "f16" else "<f4").view(np.uint8)
    out = np.frombuffer(rng.bytes(n * t.block_bytes), np.uint8).reshape(n, t.block_bytes).copy()
    small = SMALL.get(weight_type, [])
    scale = np.float16(deviation / ROOT_MEAN_SQUARE[weight_type] / (32 if small else 1))
    head = np.full(16, scale, "<f2").tobytes()
    if weight_type in MEAN:  # superblocks subtract their minimums
        head += np.full(16, (1 if small else -1) * MEAN[weight_type] * scale, "<f2").tobytes()
    head += bytes(small)
    out[:, : len(head)] = np.frombuffer(head, np.uint8)
    return out


def matrix_pieces(rng, section, weight_type, deviation):
    size = checkpoint.WEIGHT_TYPES[weight_type].block_bytes
    for begin in range(0, section.size, PIECE_BYTES // size * size):
        n = min(PIECE_BYTES // size, (section.size - begin) // size)
        yield blocks(rng, weight_type, n, deviation).tobytes()


def words(vocab_size):
    v = vocabulary
    pieces = [b"<unk>", b"<s>", b"</s>", *(bytes([i]) for i in range(256))]
    attributes = [v.UNKNOWN, v.SPECIAL, v.SPECIAL, *[v.BYTE] * 256]
    more = vocab_size - len(pieces)
    pieces += [f" w{i}".encode("ascii") for i in range(more)]
    return v.Vocabulary(
        v.SENTENCEPIECE, pieces, attributes + [v.NORMAL] * more, [0.0] * vocab_size,
        bos=1, eos=2, unknown=0, end=[2], add_bos=True, add_prefix=True,
    )  # fmt: skip


def main():
    parser = argparse.ArgumentParser(prog="make_random", description=__doc__.split("\n\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--like", choices=SHAPES, required=True)
    parser.add_argument("--type", choices=checkpoint.WEIGHT_TYPES, default="q4")
    parser.add_argument(
        "--head", choices=checkpoint.WEIGHT_TYPES, help="weight type of embedding and head; default: q8 for 4 bits"
    )
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    config, rng = SHAPES[args.like], np.random.default_rng(args.seed)
    head_type = args.head or ("q8" if args.type.startswith("q4") else args.type)
    about = f"source: random, like {args.like}\nlicense: none\ntype: {args.type}\nhead_type: {head_type}\n"
    contents = {
        "config": config.section(),
        "provenance": f"{about}converter: make_random.py 1\n".encode("ascii"),
        "tokenizer": words(config.vocab_size).section(),
    }
    sections, types = [checkpoint.bytes_section(name, len(data)) for name, data in contents.items()], {}
    for name, rows, cols in checkpoint.model_tensors(config):
        if rows is None:
            sections.append(checkpoint.vector_section(name, cols))
        else:
            types[name] = head_type if name in ("embedding", "head") else args.type
            sections.append(checkpoint.matrix_section(name, types[name], rows, cols))
    try:
        with checkpoint.Writer(args.out, sections) as writer:
            for section in sections:
                if section.kind == checkpoint.BYTES:
                    pieces = [contents[section.name]]
                elif section.kind == checkpoint.VECTOR:
                    ones = np.ones(section.cols, "<f4").tobytes()
                    pieces = [ones, bytes(section.size - len(ones))]
                else:
                    deviation = 1.0 if section.name == "embedding" and not config.tied_head else section.cols**-0.5
                    pieces = matrix_pieces(rng, section, types[section.name], deviation)
                writer.write(section.name, pieces)
    except OSError as error:
        print(f"make_random: {error.filename or args.out}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
