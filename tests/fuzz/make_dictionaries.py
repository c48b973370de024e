"""Writes the dictionaries of the fuzz targets, FOLDER/TARGET: words that libFuzzer puts into inputs. They are names
that the sources mention, and small pieces of syntax. `make fuzz` runs this.

    python3 tests/fuzz/make_dictionaries.py FOLDER
"""

import re
import struct
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MAX_WORD = 64  # bytes; libFuzzer takes no longer words


def strings(*files):
    """The names that C files contain in quotes."""
    text = "".join(path.read_text() for path in files)
    return {name.encode() for name in re.findall(r'"([A-Za-z_$][A-Za-z0-9_$-]*)"', text)}


def jinja():
    words = strings(*sorted((ROOT / "text").glob("jinja_*.c")))
    yield from (b" " + word + b" " for word in words)
    yield from (mark + word for mark in (b"|", b".") for word in words if len(word) > 2)
    yield from b"{% %} {{ }} {# #} {%- -%} {{- -}} {%+ +%} ** // ~ [::-1] [1:] [0] (x) () '' 1e9 '%s' range(9)".split()
    yield from b"messages[0].content loop.index namespace(n=0) 9223372036854775807".split()
    yield from (b"{'a': 1}", b" if x else y", b"%}{%", b'"a"', b"{% macro f(x, y=2) %}", b"{% endmacro %}", b"{{ f() }}")
    yield from (b"{% for m in messages %}", b"{% endfor %}", b"{% if s %}", b"{% endif %}", b"{% set x = 1 %}")
    yield from (b"{% filter upper %}", b"{% endfilter %}", b"{% set x %}", b"{% endset %}")


def text(name):
    """A string as GGUF stores it."""
    return struct.pack("<Q", len(name.encode())) + name.encode()


def gguf():
    u8, u32, i32, f32, boolean, string, array, u64 = 0, 4, 5, 6, 7, 8, 9, 10
    numbers = [*range(14), 16, 30, 39]  # types of values and of tensors, and small counts
    tokenizer = "tokenizer.ggml."
    yield from (b"GGUF\x02\0\0\0", b"GGUF\x03\0\0\0", b"\xff" * 8, b"\0" * 8)
    yield from (struct.pack(form, n) for n in numbers for form in ("<I", "<Q"))
    kinds = (u8, u32, i32, f32, boolean, string, u64)
    yield from (struct.pack("<IIQ", array, kind, n) for kind in kinds for n in (0, 1, 3))
    yield from (text(tokenizer + name) for name in ("model", "pre", "tokens", "scores", "token_type", "merges"))
    ids = [f"{name}_token_id" for name in ("bos", "eos", "eot", "eom", "unknown")]
    yield from (text(tokenizer + name) + struct.pack("<II", u32, 1) for name in ids)
    switches = ["add_bos_token", "add_eos_token", "add_space_prefix"]
    yield from (text(tokenizer + name) + struct.pack("<IB", boolean, 0) for name in switches)
    counts = ["general.alignment", "split.no", "split.count", "split.tensors.count"]
    yield from (text(name) + struct.pack("<II", u32, 1) for name in counts)
    values = [(u8, "B", 1), (i32, "i", -1), (f32, "f", 0.5), (u64, "Q", 1 << 63)]
    yield from (text("k") + struct.pack("<I" + form, kind, value) for kind, form, value in values)
    names = ["llama", "gpt2", "phi3", "gpt-2", "llama-bpe", "qwen2"]
    yield from (struct.pack("<I", string) + text(name) for name in names)
    yield from (text(name) for name in ("a", "a b", "ab", "<|im_end|>", "<0x61>", "\u2581a", "\u0120a"))
    yield from (text("t") + struct.pack("<IQQIQ", 2, 32, 1, kind, 0) for kind in numbers)


def json_words(names):
    yield from (b'"' + name + b'": ' for name in names)
    yield from b'{} [] { } [ ] , null true false -1 1e9 "\\u00e9" "a"'.split()


def constraint():
    yield from json_words(strings(*sorted((ROOT / "text").glob("constraint_*.c"))))
    yield from b"(?: (?i: )* {0,9} | \\d \\p{Lu} [^ a-z] ^ $ \\x41 +? \\b 1000000000".split()
    yield b'{"$ref": "#"}'


def request():
    fields = re.findall(r'"([a-z_]+)"', " ".join(re.findall(r"\.fields = \{(.*?)\}", (ROOT / "options.c").read_text())))
    yield from json_words(strings(*sorted((ROOT / "batch").glob("request*.c"))) | {field.encode() for field in fields})
    yield from (b'{"role": "user", "content": "a"}', b'"/v1/chat/completions"', b'"/v1/completions"', b'"POST"')


def options():
    names = re.findall(r"^    \{(?:0|'.'), \"([a-z-]+)\"", (ROOT / "options.c").read_text(), re.M)
    yield from (b"\0--" + name.encode() for name in names)
    yield from (b"\0-1", b"\0001", b"=", b"\0--\0", b"5=-1.5", b"\0f16", b"\0m.bin", b"999999999999999999999")


DICTIONARIES = {
    "fuzz_jinja": jinja,
    "fuzz_chat": jinja,
    "fuzz_gguf": gguf,
    "fuzz_gguf_model": gguf,
    "fuzz_convert": gguf,
    "fuzz_constraint": constraint,
    "fuzz_request": request,
    "fuzz_options": options,
}


def dictionary(words):
    """The text of a dictionary: one word per line, in quotes, with bytes other than printable ASCII as \\xAB."""
    plain = set(range(0x20, 0x7F)) - set(b'"\\')
    short = sorted(word for word in set(words) if len(word) <= MAX_WORD)
    lines = ("".join(chr(b) if b in plain else f"\\x{b:02x}" for b in word) for word in short)
    return "".join(f'"{line}"\n' for line in lines)


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for target, words in DICTIONARIES.items():
        (folder / target).write_text(dictionary(words()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
