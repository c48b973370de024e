"""Native checkpoints that cannot be used: each case is a small good model with one thing wrong (bad_files.py says what must
become of it). The checksum of header and table is computed after the change, so that the change is refused and not the
checksum."""

import struct

import numpy as np
import pytest
from bad_files import BadFiles
from conftest import assert_quick, measured

import native
import native_models

U32, U64 = 2**32 - 1, 2**64 - 1

def good_writer():
    return native_models.tiny(chat=True, n_layers=1, tied_head=0)


WRITER = good_writer()
GOOD = WRITER.pack()
PLACES, END = WRITER.places()
NAMES = [e["name"].decode() for e in WRITER.entries]
TENSORS = [name for name, e in zip(NAMES, WRITER.entries) if e["kind"]]
FILES = BadFiles("broken.bin", GOOD, "-i", "a", "-n", "2", "-t", "0", "--chat")
case = FILES.case


# ----------------------------------------------------------------------------------------------------------------------
# The cases: (name, what makes the file's bytes, what the message names).


def with_header(**fields):
    return lambda: WRITER.pack(header=fields)


def with_entry(section, field, value):
    return lambda: WRITER.pack(entry={(section, field): value})


def with_bytes(at, values, crc=True):
    def make():
        data = bytearray(GOOD)
        data[at : at + len(values)] = values
        if crc:
            native.seal(data)
        return bytes(data)

    return make


def with_weight(section, index, value):
    at = PLACES[NAMES.index(section)][0] + 4 * index
    return with_bytes(at, struct.pack("<f", value), crc=False)


def with_section(name, data):
    """Another content of a section, with its checksum."""
    def make():
        writer = good_writer()
        writer.entries[writer.index(name)]["data"] = data
        return writer.pack()

    return make


def with_config(**values):
    return with_section("config", WRITER.config_section(**values))


def with_values(*entries):
    """The config with these entries after its own."""
    return with_section("config", WRITER.config_section() + b"".join(entries))


def header_cases():
    for field, values in {
        "version": (0, 1, 3, 1 << 31, U32),
        "n_sections": (0, 65537, 1 << 31, U32),
        "file_bytes": (0, 1, END - 1, END + 1, 1 << 32, 1 << 63, U64),
        "table_offset": (0, 1, native.HEAD - 1, native.HEAD + 1, 1 << 63, U64),
    }.items():
        for value in values:
            crc = field != "n_sections"  # the table of so many ends beyond the file, and its checksum with it
            case(f"{field}={value}", lambda f=field, v=value, c=crc: WRITER.pack(header={f: v}, crc=c), field)
    case("version_1", with_header(version=1), "version is 1", "convert the original model again")
    for value in (1, len(NAMES) - 1, len(NAMES) + 1, 600):
        case(f"n_sections={value}", with_header(n_sections=value))
    for at in range(8):
        case(f"magic[{at}]", with_bytes(at, bytes([GOOD[at] ^ 1])), "magic")
    for bit in range(0, 32, 3):
        case(f"header_crc^{bit}", with_bytes(32 + bit // 8, bytes([GOOD[32 + bit // 8] ^ 1 << bit % 8]), False), "header_crc")
    for at in range(36, native.HEAD, 3):
        case(f"zero[{at}]", with_bytes(at, b"\1"), "header")
    for at in range(36, native.HEAD + 96 * len(NAMES), 61):
        case(f"damaged[{at}]", with_bytes(at, bytes([GOOD[at] ^ 0x10]), False), "header_crc")


LLAMA3 = {"rope_scaling": 2, "rope_factor": 8.0, "rope_original_context": 64, "rope_low_freq_factor": 1.0,
          "rope_high_freq_factor": 4.0}  # fmt: skip
YARN = {"rope_scaling": 3, "rope_factor": 8.0, "rope_original_context": 64, "rope_beta_fast": 32.0, "rope_beta_slow": 1.0,
        "rope_truncate": 1}  # fmt: skip
LONGROPE = {"rope_scaling": 4, "rope_factor": 8.0, "rope_original_context": 64, "rope_short_factors": (1.0, 1.5),
            "rope_long_factors": (1.0, 9.5)}  # fmt: skip


def value_cases():
    """Values of the config that are out of range, or disagree with the rest of the file."""
    limits = {"dim": 1 << 20, "hidden_dim": 1 << 22, "n_layers": 1 << 12, "n_heads": 1 << 12, "n_kv_heads": 1 << 12,
              "head_dim": 1 << 12, "vocab_size": 1 << 24}  # fmt: skip
    for field, most in limits.items():
        good = WRITER.config[field]
        for value in sorted({0, 1, good - 1, good + 1, 2 * good, most - 1, most} - {good}):
            # Within its limits it disagrees with the table, with another field or with the tokenizer.
            case(f"{field}={value}", with_config(**{field: value}))
        for value in (most + 1, 1 << 31, U32):
            case(f"{field}={value}", with_config(**{field: value}), field, value)
    for field, values in {
        "context_length": (0, (1 << 24) + 1, 1 << 31, U32),
        "sliding_window": ((1 << 24) + 1, 1 << 31, U32),
        "rope_scaling": (5, 1 << 31, U32),
        "rotary_dim": (1, 3, 6, 4098, U32),  # heads have 4 dimensions
        "query_beta": (-1.0, 1e7, np.nan),
        "tied_head": (2, U32),
        "qkv_bias": (2, U32),
        "o_bias": (2, U32),
        "mlp_bias": (2, U32),
        "qk_norm": (4, U32),
        "n_experts": (0, 1025, U32),
        "vocab_only": (2, U32),
        **{f"{name}_scale": (-1.0, 0.0, 1e-7, 1e7, np.inf, np.nan)
           for name in ("embedding", "residual", "attention", "logit")},
        **{f"{name}_cap": (-1.0, 0.0, 1e7, np.nan) for name in ("attention", "logit")},
        "activation": (2, U32),
        "norm_placement": (3, U32),
        "norm_eps": (-1.0, -1e-30, 1.5, np.inf, -np.inf, np.nan),
        "rope_theta": (-1.0, 0.0, 0.5, 1e13, np.inf, -np.inf, np.nan),
    }.items():
        for value in values:
            case(f"{field}={value}", with_config(**{field: value}), field)
    case("qkv_bias=1", with_config(qkv_bias=1), "bias")  # which are missing
    case("o_bias=1", with_config(o_bias=1), "o_bias")
    for placement in (1, 2):
        case(f"norm_placement={placement}", with_config(norm_placement=placement), "attn_post_norm")
    case("mlp_bias=1", with_config(mlp_bias=1), "gate_bias")
    case("qk_norm=3", with_config(qk_norm=3), "q_norm")
    case("n_experts alone", with_config(n_experts=4), "n_experts_used is missing")
    case("n_experts_used alone", with_config(n_experts_used=4), "unexpected n_experts_used")
    for used in (0, 65, U32):
        case(f"n_experts_used={used}", with_config(n_experts=4, n_experts_used=used), f"n_experts_used is {used}")
    case("5 of 4 experts", with_config(n_experts=4, n_experts_used=5), "n_experts_used is 5, expected at most")
    case("narrow experts", with_config(n_experts=4, n_experts_used=2), "expected multiples of 32 with n_experts")
    wide = {"dim": 32, "hidden_dim": 32, "n_experts": 1024, "n_experts_used": 64}
    case("experts with biases", with_config(**wide, mlp_bias=1), "mlp_bias is 1, expected 0")
    case("no experts in the table", with_config(**wide), "expected")
    for kind in (1, 2):
        case(f"qk_norm={kind}", with_config(qk_norm=kind), "head_dim is 4, expected a multiple of 16")
    for flags in (4, U32):
        case(f"layer_flags={flags}", with_config(layer_flags=(flags,)), f"layer_flags is {flags}, expected 0 to 3")
    for n in (2, 3, 4096):
        case(f"layer_flags of {n}", with_config(layer_flags=(1,) * n), f"layer_flags has {n} values, expected n_layers")
    case("layer_flags of 4097", with_config(layer_flags=(1,) * 4097), "layer_flags has 4097 values")
    case("layer_flags of f64", with_values(native.named_value("layer_flags", "d", 1, 1)), "of the type f64, expected")
    case("window_rope_theta without a window", with_config(window_rope_theta=1e4), "unexpected window_rope_theta")
    case("query_beta without a context", with_config(query_beta=0.5), "unexpected query_beta")
    case("rope_attention_factor alone", with_config(rope_attention_factor=1.5), "unexpected rope_attention_factor")
    for name, scaling in {"yarn": YARN, "longrope": LONGROPE}.items():
        for field in sorted(scaling.keys() - {"rope_scaling"}):
            case(f"{name},without:{field}", with_config(**{**scaling, field: None}), f"{field} is missing")
            if field not in LLAMA3:
                case(f"llama3,{field}", with_config(**{**LLAMA3, field: scaling[field]}), f"unexpected {field}")
    for field, value in {"rope_beta_fast": 0.0, "rope_beta_slow": np.inf, "rope_truncate": 2,
                         "rope_original_context": 0, "rope_attention_factor": -1.0}.items():  # fmt: skip
        case(f"yarn,{field}={value}", with_config(**{**YARN, field: value}), f"{field} is ")
    for field in ("rope_short_factors", "rope_long_factors"):
        for factors in ((1.0,), (1.0,) * 3, (1.0,) * 512):
            case(f"{field} of {len(factors)}", with_config(**{**LONGROPE, field: factors}),
                 f"{field} has {len(factors)} values, expected half the rotated dimensions, 2")  # fmt: skip
        for factor in (0.0, -1.0, np.inf, np.nan):
            case(f"{field}={factor}", with_config(**{**LONGROPE, field: (1.0, factor)}), f"{field} is ")
        case(f"{field} of 513", with_config(**{**LONGROPE, field: (1.0,) * 513}), "expected at most 512")
    case("longrope,original context of 1", with_config(**{**LONGROPE, "rope_original_context": 1}), "expected 2 to")
    case("vocab_only=1", with_config(vocab_only=1), "config", "unexpected dim", "a file with weights")
    case("linear,without:rope_factor", with_config(rope_scaling=1), "rope_factor is missing")
    for field in ("rope_factor", "rope_original_context", "rope_low_freq_factor", "rope_high_freq_factor"):
        case(f"unscaled,{field}", with_config(**{field: LLAMA3[field]}), f"unexpected {field}")
        case(f"llama3,without:{field}", with_config(**{**LLAMA3, field: None}), f"{field} is missing")
        if field != "rope_factor":
            scaled = {"rope_scaling": 1, "rope_factor": 2.0, field: LLAMA3[field]}
            case(f"linear,{field}", with_config(**scaled), f"unexpected {field}")
    for value in (-1.0, 0.0, 0.5, 1e7, np.inf, np.nan):
        case(f"linear,rope_factor={value}", with_config(rope_scaling=1, rope_factor=value), "rope_factor")
        case(f"llama3,rope_factor={value}", with_config(**{**LLAMA3, "rope_factor": value}), "rope_factor")
    for field, values in {
        "rope_original_context": (0, (1 << 24) + 1, U32),
        "rope_low_freq_factor": (-1.0, 0.0, 1e7, np.inf, np.nan),
        "rope_high_freq_factor": (-1.0, 0.0, 1.0, 1e7, np.inf, np.nan),
    }.items():
        for value in values:
            case(f"llama3,{field}={value}", with_config(**{**LLAMA3, field: value}), "rope_")
    for fields in (("dim", "vocab_size"), ("dim", "hidden_dim"), ("n_heads", "head_dim"), ("n_layers", "dim"), limits):
        most = {field: limits[field] for field in fields}
        case("at_most:" + ",".join(fields), with_config(**most))
        overflowing = {field: U32 for field in fields}
        case("overflow:" + ",".join(fields), with_config(**overflowing))


def config_cases():
    """The section `config` itself: its names, types and bytes."""
    optional = ("sliding_window", "tied_head", "qkv_bias", "vocab_only", "rope_scaling")
    for name, value in WRITER.config.items():
        form = native.CONFIG[name]
        if name not in optional:
            case(f"without:value:{name}", with_config(**{name: None}), "config", f"{name} is missing")
        wrong, seen, expected = ("I", "u32", "f64") if form == "d" else ("d", "f64", "u32")
        twice = native.named_value(name, form, value)
        case(f"twice:value:{name}", with_values(twice), "config", f"duplicate {name}")
        entries = {n: native.named_value(n, native.CONFIG[n], v) for n, v in WRITER.config.items()}
        entries[name] = native.named_value(name, wrong, int(value) if wrong == "I" else value)
        case(f"type:{name}", with_section("config", b"".join(entries.values())),
             f"{name} has the type {seen}, expected {expected}")  # fmt: skip
        entries[name] = native.named_value(name, form, value, value)
        case(f"count:{name}", with_section("config", b"".join(entries.values())), f"{name} has 2 values, expected 1")
    for name in ("stranger", "Dim", "dim ", "dim2", "sampling"):
        case(f"value:{name}", with_values(native.named_value(name, "I", 1)), "config", f"unknown value {name}")
    whole = WRITER.config_section()
    for label, name in {"empty": b"", "unended": b"x" * 32, "tail": b"dim\0x"}.items():
        entry = name.ljust(32, b"\0") + native.named_value("x", "I", 1)[32:]
        case(f"value_name={label}", with_values(entry), "config", f"the name of value {len(WRITER.config)}")
    for kind in (2, 255, U32):
        entry = b"sliding_window".ljust(32, b"\0") + struct.pack("<IIQ", kind, 1, 0)
        case(f"value_type={kind}", with_values(entry), "config", "sliding_window", kind)
    for count in (0, 3, 1 << 29, 1 << 31, U32):
        for kind in (native.U32, native.F64):
            entry = b"sliding_window".ljust(32, b"\0") + struct.pack("<IIQ", kind, count, 0)
            case(f"value_count={count},{kind}", with_values(entry), "config", "sliding_window", count)
    for at in (-1, -4):
        padded = bytearray(native.named_value("sliding_window", "I", 0))
        padded[at] = 1
        case(f"value_padding[{at}]", with_values(bytes(padded)), "config", "sliding_window")
    for length in sorted({0, 1, 31, 32, 39, 40, 47, *range(len(whole) - 47, len(whole), 5)}):
        case(f"config.cut={length}", with_section("config", whole[:length]), "config")
    case("config.longer", with_section("config", whole + bytes(8)), "config", "8 bytes")
    case("config.large", with_section("config", whole + bytes(1 << 20)), "config", "expected at most 1048576")
    at = PLACES[0][0]
    for i in range(0, len(whole), 37):
        case(f"config.damaged[{i}]", with_bytes(at + i, bytes([whole[i] ^ 2]), False), "config", "damaged")
    sampling = native.named_value("sampling.top_p", "d", 0.5)
    case("sampling.twice", with_values(sampling, sampling), "duplicate sampling.top_p")
    case("sampling.type", with_values(native.named_value("sampling.top_k", "I", 3)), "sampling.top_k", "expected f64")
    case("sampling.count", with_values(native.named_value("sampling.top_k", "d", 3, 4)), "sampling.top_k", "expected 1")
    for name in ("stranger", "seed", "max_tokens", "top-p", "temperature2", "top", ""):
        case(f"sampling.{name}", with_values(native.named_value(f"sampling.{name}", "d", 0.5)), f"sampling.{name}")
    for name, values in {
        "temperature": (-0.1, 1001, np.nan, np.inf), "top_p": (-1, 1.1), "min_p": (1.1,), "repeat_penalty": (0, 101),
        "top_k": (0.5, -1, 1e10, np.nan), "repeat_last_n": (1.5, 1e10),
    }.items():  # fmt: skip
        for value in values:
            case(f"sampling.{name}={value}", with_values(native.named_value(f"sampling.{name}", "d", value)),
                 f"sampling.{name}", "expected a ")  # fmt: skip
    many = [native.named_value(f"sampling.{i}", "d", 1) for i in range(17)]
    case("sampling.many", with_values(*many), "sampling.16", "expected at most 16")


def table_cases():
    for i, (name, e, (offset, size)) in enumerate(zip(NAMES, WRITER.entries, PLACES)):
        for label, value in {"empty": b"", "unended": b"x" * 48, "tail": name.encode() + b"\0x"}.items():
            case(f"{name}.name={label}", with_entry(i, "name", value), "name")
        if name == "config":
            case("config.name=unknown", with_entry(i, "name", b"stranger"), "stranger")
        elif name not in ("provenance", "chat"):
            case(f"{name}.name=unknown", with_entry(i, "name", b"stranger"), name if e["kind"] else "stranger")
        for value in sorted({0, 1, 2, 3, 255, U32} - {e["kind"]}):
            case(f"{name}.kind={value}", with_entry(i, "kind", value), "section")
        types = (1, 2, 3, 4, 5, 255, U32) if e["kind"] == 2 else (1, 5, U32)
        for value in types:
            case(f"{name}.type={value}", with_entry(i, "type", value), name)
        for field in ("rows", "cols"):
            for value in sorted({0, 1, e[field] + 16, 1 << 31, U32} - {e[field]}):
                case(f"{name}.{field}={value}", with_entry(i, field, value), name)
        other = PLACES[(i + 1) % len(PLACES)][0]
        moved = {0, 256, offset - 64, offset + 64, offset + 4096, offset + 1, other, END, 1 << 63, U64, U64 - 63}
        for value in sorted(moved - {offset}):
            case(f"{name}.offset={value}", with_entry(i, "offset", value), name)
        # One byte less of a text is a shorter text, up to the padding.
        for value in (0, size - 1 if e["kind"] else size - 64, size + 64, 1 << 32, 1 << 63, U64):
            case(f"{name}.bytes={value}", with_entry(i, "bytes", value % 2**64))
        for at in (0, 8):
            place = native.HEAD + 96 * i + 84 + at
            case(f"{name}.zeros[{at}]", with_bytes(place, b"\1"), name)


def section_cases():
    """A section that is missing, duplicated, moved or cut."""

    def edited(edit, **header):
        def make():
            writer = good_writer()
            edit(writer.entries)
            return writer.pack(header=header)

        return make

    for i, name in enumerate(NAMES):
        if name not in ("provenance", "chat"):
            case(f"without:{name}", edited(lambda entries, i=i: entries.pop(i)), name)
        case(f"twice:{name}", edited(lambda entries, i=i: entries.insert(i, entries[i])), name)
        start, size = PLACES[i]
        for at in sorted({start, start + 1, start + size // 2, start + size - 1} - {END}):
            case(f"cut:{name}:{at}", lambda at=at: GOOD[:at], "file_bytes", at)

            def sealed(at=at):
                data = bytearray(GOOD[:at])
                struct.pack_into("<Q", data, 16, at)
                native.seal(data)
                return bytes(data)

            case(f"shrunk:{name}:{at}", sealed, "section")
    for at in (0, 1, 7, 8, 9, 31, 32, 35, 36, 63, 64, 65, 159, 160, native.HEAD + 96 * len(NAMES) - 1):
        case(f"cut:{at}", lambda at=at: GOOD[:at])
    for extra in (1, 63, 64, 4096):
        case(f"longer:{extra}", lambda n=extra: GOOD + bytes(n), "file_bytes")
        case(f"longer_sealed:{extra}", lambda n=extra: WRITER.pack(header={"file_bytes": END + n}) + bytes(n), END)
    case("no_sections_of_weights", edited(lambda entries: entries.__delitem__(slice(4, None))), "embedding")
    case("a_gguf_file", lambda: b"GGUF" + bytes(100), "version is 0", "GGUF")
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 548105171\n"
    case("a_git_lfs_pointer", lambda: pointer, "Git LFS pointer", "git lfs pull")
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    safetensors = struct.pack("<Q", len(header)) + header + bytes(4)
    case("a_safetensors_file", lambda: safetensors, "safetensors file", "scripts/convert.py /", " model.bin")
    case("a_file_of_pytorch", lambda: b"PK\3\4" + bytes(100), "zip archive", "safetensors", "scripts/convert.py")


def chat_cases():
    i = NAMES.index("chat")
    def make(source):
        writer = good_writer()
        writer.entries[i]["data"] = source
        return writer.pack()
    for name, source in (("an_open_block", b"{% if x"), ("no_end", b"\n{% for m in messages %}"), ("no_value", b"{{ }}"),
                         ("unknown_tag", b"{% never %}"), ("a_lone_end", b"{% endif %}")):
        case(f"chat.{name}", lambda source=source: make(source), "line ")
    for length in range(1, len(native_models.CHAT)):
        if native_models.CHAT[:length].count("{%") != native_models.CHAT[:length].count("%}"):
            case(f"chat.cut={length}", lambda length=length: make(native_models.CHAT[:length].encode()), "line ")
    case("chat.five_texts", lambda: make(struct.pack("<II", 2, 3) + b"<s>" + bytes(16)), "NUL", "convert the original model again")
    case("chat.long", lambda: make(b" " * ((1 << 20) + 1)), "chat template", str((1 << 20) + 1), str(1 << 20))


def weight_cases():
    """Weights that are not finite: the message names the layer where they show, and no text is made of them."""
    for name in TENSORS:
        for value in (np.nan, np.inf, -np.inf):
            layer = "blocks.0" if name.startswith("blocks") else "head" if name in ("norm", "head") else "embedding"
            case(f"{name}={value}", with_weight(name, 0, value), layer, "not finite")


# ----------------------------------------------------------------------------------------------------------------------
# The same model with its matrices row by row, which only --convert opens.

def row_writer(kind="f32"):
    return good_writer().store_by_rows(kind)


ROWS = BadFiles("broken.bin", row_writer().pack())
ROWS.options = ["--convert", ROWS.path.with_name("out.bin")]
row_case = ROWS.case


def row_cases():
    writer = row_writer()
    places, end = writer.places()
    data = writer.pack()
    for i, (e, (offset, size)) in enumerate(zip(writer.entries, places)):
        name = e["name"].decode()
        if e["kind"] == 3 and name not in ("embedding", "blocks.0.attn.k_proj", "blocks.0.mlp.down_proj", "head"):
            continue
        if e["kind"] != 3:
            row_case(f"{name}.kind=3", lambda i=i: writer.pack(entry={(i, "kind"): 3}), name)
            continue
        for value in sorted(set(native.TYPES) - {0, 1, 5}):
            row_case(f"{name}.type={value}", lambda i=i, v=value: writer.pack(entry={(i, "type"): v}),
                     f"the type of section {name}, a matrix row by row, is {native.TYPES[value][0]}")  # fmt: skip
        for value in (1, 5, len(native.TYPES), U32):
            row_case(f"{name}.type={value}", lambda i=i, v=value: writer.pack(entry={(i, "type"): v}), name)
        for value in (0, 1, 4, *([2] if e["rows"] % 16 else [])):  # in whole groups it would be another matrix, as large
            row_case(f"{name}.kind={value}", lambda i=i, v=value: writer.pack(entry={(i, "kind"): v}))
        for field in ("rows", "cols"):
            for value in sorted({0, 1, e[field] - 1, e[field] + 1, 1 << 31, U32}):
                row_case(f"{name}.{field}={value}", lambda i=i, f=field, v=value: writer.pack(entry={(i, f): v}), name)
        most = {(i, "rows"): U32, (i, "cols"): U32}
        for size_of_all in (U64, U64 - 63, 4 * U32 * U32 % 2**64):
            changes = {**most, (i, "bytes"): size_of_all}
            row_case(f"{name}.overflow={size_of_all}", lambda c=changes: writer.pack(entry=c), name)
        for value in (0, size - 1, size - 4, size + 1, size + 4096, 1 << 63, U64):
            row_case(f"{name}.bytes={value}", lambda i=i, v=value: writer.pack(entry={(i, "bytes"): v}), name)
        for value in (offset - 64, offset + 4, offset + 64, offset + 4096, end, U64):
            row_case(f"{name}.offset={value}", lambda i=i, v=value: writer.pack(entry={(i, "offset"): v}), name)
        for cut in (offset, offset + 1, offset + size - 1):
            row_case(f"{name}.cut={cut}", lambda n=cut: data[:n], "file_bytes", cut)
        for kind in ("f32", "f16", "bf16"):
            for label, value in (("nan", np.nan), ("infinite", -np.inf)):
                row_case(f"{name}.{kind}.{label}", lambda i=i, k=kind, v=value: with_value(i, k, v),
                         f"tensor {name} has a value that is not finite")  # fmt: skip


def with_value(section, kind, value):
    """A matrix whose last value is this one."""
    writer = row_writer(kind)
    e = writer.entries[section]
    last = native.plain_bytes(np.float32([value]), kind)
    e["data"] = e["data"][: -len(last)] + last
    return writer.pack()


header_cases()
value_cases()
config_cases()
table_cases()
section_cases()
chat_cases()
weight_cases()
row_cases()


# ----------------------------------------------------------------------------------------------------------------------
# Running them.


@pytest.mark.parametrize("make, named", FILES.cases)
def test_broken_checkpoint_is_refused_by_name(make, named):
    FILES.assert_refused(make(), named)


@pytest.mark.parametrize("make, named", ROWS.cases)
def test_broken_file_of_rows_is_not_converted(make, named):
    ROWS.assert_refused(make(), named)
    left = sorted(p.name for p in ROWS.path.parent.iterdir())
    assert left == ["broken.bin", "out.bin"], f"{left}: expected what the good file became, and no more"


def test_there_are_600_broken_checkpoints_and_no_two_are_the_same():
    FILES.assert_many(600)
    ROWS.assert_many(200)


def test_smallest_weights_are_numbers_like_any_other():
    for value in (1e-45, -1e-45, 1e-39, 0.0):
        for name in ("embedding", "blocks.0.attn.q_proj", "norm"):
            FILES.attempt(with_weight(name, 0, value)())[0].ok()


def test_4096_layers_of_a_small_file_are_opened_at_once(tmp_path):
    """Fuzzing found a search that took time with the square of the number of tensors."""
    import models

    config = models.Config(2, 1, 4096, 1, 1, 300, 8)
    model, tokenizer = tmp_path / "deep.bin", tmp_path / "tokenizer.bin"
    model.write_bytes(models.model_bytes(config, "v1", models.zero_weights(config)))
    tokenizer.write_bytes(models.tokenizer_bytes(models.tiny_pieces()))
    done, _ = measured(model, "-z", tokenizer, "-i", "a", "-n", "1", "-t", "0", "-j", "1")
    assert_quick(done.ok())


def test_a_template_is_compared_with_many_long_names_at_once(tmp_path):
    """In time proportional to both: 4,000 names that nearly occur everywhere in the template."""
    vocabulary = native_models.vocabulary
    names = [b"a" * 2000 + b"%d" % i for i in range(4000)] + [b"a" * 100]
    pieces = [*(bytes([b]) for b in range(256)), b"<s>", *names]
    kinds = [vocabulary.NORMAL] * 256 + [vocabulary.SPECIAL] + [vocabulary.ADDED] * len(names)
    section = vocabulary.Vocabulary(vocabulary.BYTE_LEVEL, pieces, kinds, merges=[], pre_tokenizer=vocabulary.GPT2, bos=256,
                                    eos=256, end=[256]).section()  # fmt: skip
    writer = native.Writer({**native_models.TINY, "vocab_size": len(pieces)}, section, lambda _, s: np.zeros(s, np.float32))
    source = "{{ messages[0].content }}{# " + "a" * 400000 + " #}"
    writer.add("chat", 0, 0, 0, source.encode())
    writer.entries.insert(3, writer.entries.pop())
    path = tmp_path / "names.bin"
    path.write_bytes(writer.pack())
    done, _ = measured(path, "--tokenize", "--chat", "-i", "a" * 100 + "b")
    assert_quick(done.ok())
    assert len(done.out.split()) == 101, f"expected the name in the template not to count in the message\n{done}"
