"""Reads a native checkpoint as docs/format.md describes it, plainly and independently of scripts/checkpoint.py."""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TYPES = {0: ("f32", 1, 64), 1: ("bf16", 1, 32), 2: ("q8", 32, 544), 3: ("q4", 32, 288), 4: ("q4m", 32, 320)}
FIELDS = {"dim": 36, "hidden_dim": 40, "n_layers": 44, "n_heads": 48, "n_kv_heads": 52, "head_dim": 56,
          "vocab_size": 60, "context_length": 64, "sliding_window": 68, "flags": 72, "rope_scaling": 88,
          "rope_original_context": 92}  # fmt: skip


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
        assert (version, size, table) == (1, len(self.data), 256)
        head = bytearray(self.data[: 256 + 96 * count])
        head[32:36] = bytes(4)
        assert zlib.crc32(head) == struct.unpack_from("<I", self.data, 32)[0], "header_crc"
        self.fields = {name: struct.unpack_from("<I", self.data, at)[0] for name, at in FIELDS.items()}
        self.sections = {}
        end = 256 + 96 * count
        for i in range(count):
            entry = struct.unpack_from("<48s4I2QI12s", self.data, 256 + 96 * i)
            s = Section(entry[0].rstrip(b"\0").decode("ascii"), *entry[1:8])
            alignment = 4096 if s.kind == 2 else 64
            assert s.offset == -(-end // alignment) * alignment, f"{s.name} is at {s.offset}"
            assert not any(self.data[end : s.offset]), f"zeros before {s.name}"
            assert zlib.crc32(self.bytes(s)) == s.crc, f"checksum of {s.name}"
            end = s.offset + s.bytes
            self.sections[s.name] = s
        assert end == len(self.data)

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
        """f32 (rows, cols): the weights as the format defines them, after a look at the padding."""
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
    scale = f16(raw, 2 * row)
    if kind == "q8":
        byte = raw[..., 32 + column // 4 * 64 + row * 4 + column % 4]
        return scale * (byte.astype(np.float32) - 128)
    high, place = column >= 16, column % 16
    byte = raw[..., (64 if kind == "q4m" else 32) + place // 4 * 64 + row * 4 + place % 4]
    value = (byte >> 4 if high else byte & 15).astype(np.float32)
    return scale * (value - 8) if kind == "q4" else scale * value + f16(raw, 32 + 2 * row)


def f16(raw, at):
    return raw[..., at : at + 2].copy().view("<f2")[..., 0].astype(np.float32)
