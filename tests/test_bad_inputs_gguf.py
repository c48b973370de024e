"""GGUF files that cannot be used: each case is a small good model with one thing wrong (bad_files.py says what must become
of it)."""

import struct

import numpy as np
import pytest
from bad_files import BadFiles
from conftest import assert_refused, run

import gguf_bytes
from gguf_bytes import ARRAY, BOOL, F32, F64, I8, I32, I64, TEXT, U8, U32, U64, File, Key, Tensor

MOST32, MOST64 = 2**32 - 1, 2**64 - 1
GOOD = gguf_bytes.tiny()
DATA = GOOD.pack()
SENTENCEPIECE = gguf_bytes.tiny(gguf_bytes.sentencepiece_keys)

FILES = BadFiles("broken.gguf", DATA, "-i", "a", "-n", "2", "-t", "0", "-q")
case = FILES.case


def changed(change, tokenizer=gguf_bytes.byte_level_keys):
    """A file with a change: a function of the File."""
    def make():
        file = gguf_bytes.tiny(tokenizer)
        change(file)
        return file.pack()

    return make


def with_key(name, /, **fields):
    return changed(lambda file: vars(file.key(name)).update(fields))


def with_raw(name, kind, *parts):
    """A key with other bytes after its name."""
    return with_key(name, raw=struct.pack("<I", kind) + b"".join(parts))


def with_more(*keys):
    return changed(lambda file: file.keys.extend(keys))


def with_tensor(name, /, **fields):
    return changed(lambda file: vars(file.tensor(name)).update(fields))


def with_bytes(at, data):
    return lambda: DATA[:at] + data + DATA[at + len(data) :]


def header_cases():
    for at in range(4):
        case(f"magic[{at}]", with_bytes(at, bytes([DATA[at] ^ 1])))
    for value in (0, 1, 4, 1 << 31, MOST32):
        case(f"version={value}", changed(lambda f, v=value: setattr(f, "version", v)), f"version is {value}")
    for value in (2 << 24, 3 << 24):
        case(f"version={value}", changed(lambda f, v=value: setattr(f, "version", v)), "big-endian")
    for field, good in (("n_keys", len(GOOD.keys)), ("n_tensors", len(GOOD.tensors))):
        for value in (0, 1, good - 1, good + 1, 2 * good):
            case(f"{field}={value}", changed(lambda f, n=field, v=value: setattr(f, n, v)))
        for value in (len(DATA), 1 << 31, 1 << 32, 1 << 40, 1 << 61, 1 << 63, MOST64):
            case(f"{field}={value}", changed(lambda f, n=field, v=value: setattr(f, n, v)), field, value)
    for size in (0, 3, 4, 7, 8, 15, 16, 23, 24):
        case(f"cut:{size}", lambda n=size: DATA[:n])


def cut_cases():
    """Truncated at the edges of each structure, and in the middle of it."""
    edges = list(GOOD.edges())
    for (name, at), (_, end) in zip(edges, [*edges[1:], ("", len(GOOD.head()))]):
        for size in sorted({at, at + 1, (at + end) // 2}):
            case(f"cut:{name}:{size}", lambda n=size: DATA[:n])
    start = -(-len(GOOD.head()) // 32) * 32
    for t, offset in zip(GOOD.tensors, GOOD.offsets()):
        for size in (offset, offset + 1, offset + len(t.data) // 2, offset + len(t.data) - 1):
            case(f"cut:{t.name}:{size}", lambda n=size: DATA[: start + n], "tensor")


def key_cases():
    """Each key itself: names, types, lengths; whatever it means."""
    for number, key in enumerate(GOOD.keys):
        name = key.name
        case(f"{name}:twice", with_more(key), f"duplicate key {name}")
        case(f"{name}:unnamed", with_key(name, name=""), f"the name of key {number} is empty")
        for kind in (13, 14, 255, 1 << 31, MOST32):
            case(f"{name}:type={kind}", with_raw(name, kind), f"the type of key {name} is {kind}, expected 0 to 12")
        case(f"{name}:array_of_arrays", with_raw(name, ARRAY, struct.pack("<IQ", ARRAY, 1)), name, "arrays of arrays")
        for count in (1 << 20, 1 << 32, 1 << 61, 1 << 63, MOST64):
            kind = key.kind
            case(f"{name}:count={count}", with_raw(name, ARRAY, struct.pack("<IQ", kind, count)), f"key {number}", "value")
        at = dict(GOOD.edges())[f"key{number}.name"]
        for size in (len(DATA), 1 << 31, 1 << 32, 1 << 63, MOST64):
            case(f"{name}:name_size={size}", with_bytes(at, struct.pack("<Q", size)), f"the name of key {number}", size)
        if key.kind == TEXT and not isinstance(key.value, list):
            for size in (len(DATA), 1 << 32, MOST64):
                case(f"{name}:text={size}", with_raw(name, TEXT, struct.pack("<Q", size)), f"key {number}", size)


WRONG = {TEXT: ("9", "text"), U32: (1, "u32"), F32: (1.0, "f32"), BOOL: (1, "bool")}


def type_cases():
    """Keys that are used, of a type that they cannot have."""
    for key in GOOD.keys:
        name, array = key.name, isinstance(key.value, list)
        if array:
            case(f"{name}:one", with_key(name, value=key.value[0]), name, "expected an array")
            other = [1] * len(key.value) if key.kind == TEXT else ["1"] * len(key.value)
            case(f"{name}:other_elements", with_key(name, kind=U32 if key.kind == TEXT else TEXT, value=other), name)
            if not name.endswith("merges"):
                case(f"{name}:empty", with_key(name, value=[]), name)
            continue
        per_layer = name.endswith(("head_count", "head_count_kv", "feed_forward_length"))  # a number for each may be there
        count = 2 if per_layer else 1
        case(f"{name}:array", with_key(name, value=[key.value] * count), name, f"an array of {count}")
        for kind, (value, shown) in WRONG.items():
            number = {U32, F32, BOOL}
            if kind != key.kind and not {kind, key.kind} <= number:
                case(f"{name}:as_{shown}", with_key(name, kind=kind, value=value), name)
    for kind, value in ((U8, 255), (I8, -1), (I32, -5), (I64, -(2**40)), (U64, MOST64), (F64, 0.5), (F32, np.nan)):
        name = "llama.block_count"
        case(f"{name}={value}:{kind}", with_key(name, kind=kind, value=value))


def value_cases():
    """Numbers of the model that are out of range, or disagree with its tensors."""
    most = {"block_count": 1 << 12, "context_length": 1 << 24, "embedding_length": 1 << 20, "feed_forward_length": 1 << 22,
            "attention.head_count": 1 << 12, "attention.head_count_kv": 1 << 12, "attention.key_length": 1 << 12}  # fmt: skip
    for field, limit in most.items():
        name = f"llama.{field}"
        good = GOOD.key(name).value
        for value in (0, limit + 1, 1 << 31, MOST32):
            case(f"{name}={value}", with_key(name, value=value), f"{name} is {value}", f"to {limit}")
        case(f"{name}=1.5", with_key(name, kind=F32, value=1.5), name)
        for value in sorted({1, good - 1, good + 1, 2 * good, limit - 1, limit} - {0, good}):
            if field != "context_length":  # nothing in the file depends on it
                case(f"{name}={value}", with_key(name, value=value))
        if field not in ("attention.head_count_kv", "attention.key_length"):  # they have defaults
            case(f"without:{name}", changed(lambda f, n=name: f.keys.remove(f.key(n))), f"key {name} is missing")
    for field, values in {"attention.layer_norm_rms_epsilon": (-1.0, 1.5, np.inf, -np.inf, np.nan),
                          "rope.freq_base": (-1.0, 0.0, 0.5, 1e13, np.inf, np.nan)}.items():  # fmt: skip
        for value in values:
            case(f"llama.{field}={value}", with_key(f"llama.{field}", value=value), f"llama.{field}")
    case("without:norm_eps", changed(lambda f: f.keys.remove(f.key("llama.attention.layer_norm_rms_epsilon"))), "epsilon")
    for field, kind, value in (
        ("attention.value_length", U32, 8), ("rope.dimension_count", U32, 8), ("expert_count", U32, 8),
        ("attention.sliding_window", U32, (1 << 24) + 1), ("rope.scaling.type", U32, 1),
        ("rope.scale_linear", F32, 0.5), ("rope.scale_linear", F32, np.nan), ("rope.scale_linear", F32, 1e7),
        ("attention.clamp_kqv", F32, 1.0), ("final_logit_softcapping", F32, 30.0), ("attn_logit_softcapping", F32, np.nan),
    ):  # fmt: skip
        named = "RoPE" if field == "rope.scale_linear" else f"llama.{field}"
        case(f"llama.{field}={value}:{kind}", with_more(Key(f"llama.{field}", kind, value)), named)
    for value in ("", "gpt2", "LLAMA", "llama\0", "x" * 5000, "\x1b[31m"):
        case(f"architecture={value[:9]!r}", with_key("general.architecture", value=value), "general.architecture")
    case("without:general.architecture", changed(lambda f: f.keys.pop(0)), "general.architecture is missing")
    case("general.sampling.temp=nan", with_more(Key("general.sampling.temp", F32, np.nan)), "general.sampling.temp")
    case("general.sampling.temp=text", with_more(Key("general.sampling.temp", TEXT, "hot")), "general.sampling.temp")
    case("general.sampling.top_p=7", with_more(Key("general.sampling.top_p", F32, 7.0)), "top_p is 7")
    for kind, value in ((U32, 0), (U32, 3), (U32, 33), (U32, 1 << 21), (I32, -32), (F32, 32.0), (TEXT, "32")):
        case(f"alignment={value}:{kind}", with_more(Key("general.alignment", kind, value)), "general.alignment", "power of two")
    case("alignment=64", with_more(Key("general.alignment", U32, 64)), "multiple of the alignment, 64")
    for value, named in ((2, "-00001-of-00002.gguf"), (1001, "split.count"), (MOST32, "split.count"), (-1, "split.count")):
        keys = [Key("split.count", I64, value), Key("split.no", U32, 0)]
        case(f"split.count={value}", with_more(*keys), named)
    case("split.no=1", with_more(Key("split.count", U32, 2), Key("split.no", U32, 1)), "split.no is 1, expected 0")
    case("split.count=text", with_more(Key("split.count", TEXT, "2")), "split.count")


def tensor_cases():
    for number, t in enumerate(GOOD.tensors):
        name = t.name
        case(f"{name}:unnamed", with_tensor(name, name=""), f"the name of tensor {number} is empty")
        case(f"{name}:twice", changed(lambda f, t=t: f.tensors.append(t)), f"duplicate tensor {name}")
        if name != "output.weight":  # without which the head is tied
            case(f"{name}:missing", changed(lambda f, n=name: f.tensors.remove(f.tensor(n))), f"tensor {name} is missing")
        case(f"{name}:stranger", with_tensor(name, name="stranger.weight"))
        for n in (0, 5, 255, 1 << 31, MOST32):
            case(f"{name}:n_dims={n}", with_tensor(name, n_dims=n), f"the n_dims of tensor {name} is {n}, expected 1 to 4")
        for dim in (0, 1 << 63, MOST64):
            for at in range(len(t.dims)):
                dims = [*t.dims[:at], dim, *t.dims[at + 1 :]]
                case(f"{name}:dims[{at}]={dim}", with_tensor(name, dims=dims), f"of tensor {name} is {dim}")
        for dim in (1, 31, 33, 2 * t.dims[0], 1 << 20, 1 << 40, (1 << 63) - 32):
            case(f"{name}:cols={dim}", with_tensor(name, dims=[dim, *t.dims[1:]]), "tensor")
        case(f"{name}:three_dims", with_tensor(name, dims=[*t.dims, 2]), "tensor")
        case(f"{name}:overflow", with_tensor(name, dims=[1 << 32, 1 << 31, 1 << 30, 1 << 30]), name)
        for kind in (4, 5, 31, 36, 99, 1 << 31, MOST32):
            case(f"{name}:type={kind}", with_tensor(name, type=kind), f"the type of tensor {name} is {kind}")
        for kind in (12, 16, 24, 28):
            case(f"{name}:type={kind}", with_tensor(name, type=kind), "tensor")
        for offset in (1, 16, 31, 33):
            case(f"{name}:offset={offset}", with_tensor(name, offset=offset), f"the offset of tensor {name} is {offset}")
        for offset in (len(DATA) // 32 * 32, 1 << 32, 1 << 63, MOST64 - 31):
            case(f"{name}:offset={offset}", with_tensor(name, offset=offset), f"tensor {name} has", offset)
        other = GOOD.tensors[number - 1]
        place = GOOD.offsets()[number - 1]
        case(f"{name}:over:{other.name}", with_tensor(name, offset=place), "tensor", "expected")
    case("extra", changed(lambda f: f.tensors.append(Tensor("blk.0.attn_output.scale", [32], 0, bytes(128)))), "attn_output.scale")
    case("layer_1", changed(lambda f: f.tensors.append(Tensor("blk.1.attn_norm.weight", [32], 0, bytes(128)))), "blk.1.attn")
    for dims, kind in (([7], 0), ([8, 2], 0), ([32], 2), ([8], 28)):
        size = {0: 4 * int(np.prod(dims)), 2: 18, 28: 64}[kind]
        case(f"rope_freqs:{dims}:{kind}", changed(lambda f, d=dims, k=kind, n=size: f.tensors.append(
            Tensor("rope_freqs.weight", d, k, bytes(n)))), "rope_freqs.weight")  # fmt: skip
    for value in (0.0, -1.0, np.inf, np.nan, 1e-30):
        factors = np.array([1, 2, value, 8, 8, 8, 8, 8], "<f4").tobytes()
        case(f"rope_freqs={value}", changed(lambda f, d=factors: f.tensors.append(
            Tensor("rope_freqs.weight", [8], 0, d))), "rope_freqs.weight")  # fmt: skip


def weight_cases():
    """Values and scales that are not finite, at both ends of a tensor."""
    def with_data(name, at, data):
        old = GOOD.tensor(name).data
        return with_tensor(name, data=old[:at] + data + old[at + len(data) :])

    for t in GOOD.tensors:
        kind = next(k for k, (number, _, _) in gguf_bytes.TYPES.items() if number == t.type)
        size = gguf_bytes.TYPES[kind][2]
        for label, bits in (("inf", 0x7C00), ("-inf", 0xFC00), ("nan", 0x7E01)):
            wide = {"inf": 0x7F800000, "-inf": 0xFF800000, "nan": 0x7FC00001}[label]
            word = struct.pack("<I", wide)[2 if kind == "BF16" else 0 :] if kind in ("F32", "BF16") else struct.pack("<H", bits)
            what = "value" if kind in ("F32", "F16", "BF16") else "scale"
            for at in (0, len(t.data) - size):
                case(f"{t.name}:{label}@{at}", with_data(t.name, at, word), f"tensor {t.name} has a {what} that is not finite")
            if kind == "Q4_1":
                case(f"{t.name}:minimum={label}", with_data(t.name, 2, word), f"tensor {t.name} has a scale")


def vocabulary_cases():
    tokens = GOOD.key("tokenizer.ggml.tokens").value
    name = "tokenizer.ggml.tokens"

    def with_token(i, value, tokenizer=gguf_bytes.byte_level_keys):
        return changed(lambda f: f.key(name).value.__setitem__(i, value), tokenizer)

    for label, value in {"space": "a b", "high": "\u0400", "cjk": "日本", "bad_utf8": b"\xff", "cut_utf8": b"\xc4"}.items():
        case(f"token:{label}", with_token(9, value), f"token 9 of key {name}", "letters")
    case("token:long", with_token(9, "a" * 4097), "token 9", "4097 bytes, expected at most 4096")
    case("token:twice", with_token(9, tokens[8]), "piece 9 is the same as piece 8")
    case("token:special_twice", with_token(257, tokens[258]), "token 258 has the name of token 257")
    for label, count in {"few": len(tokens) - 1, "many": len(tokens) + 1}.items():
        case(f"token_type:{label}", with_key("tokenizer.ggml.token_type", value=[1] * count), "token_type", "one for each token")
    case("tokens:more_than_rows", with_key(name, value=[*tokens, "abab"]), name, "the rows of token_embd.weight")
    for value in (0, 7, -1, 2**31 - 1, -(2**31)):
        case(f"token_type={value}", changed(lambda f, v=value: f.key("tokenizer.ggml.token_type").value.__setitem__(3, v)),
             "element 3 of key tokenizer.ggml.token_type")  # fmt: skip
    for merge in ("", "a", " ", "a ", " b", "a  b", "a b c", "x y", "a \u0400", "\u0400 b", b"\xff b", "ab ab", "<s> a"):
        shown = merge if isinstance(merge, str) else "bytes"
        case(f"merge={shown!r}", with_key("tokenizer.ggml.merges", value=["a b", merge]), "merge 1 of key tokenizer.ggml.merges")
    case("merge:twice", with_key("tokenizer.ggml.merges", value=["a b", "a b"]), "merge 1 is the same as merge 0")
    for key in ("bos_token_id", "eos_token_id", "eot_token_id", "eom_token_id"):
        for value in (259, 1 << 31, MOST32):
            full = f"tokenizer.ggml.{key}"
            make = with_key(full, value=value) if key[:3] in ("bos", "eos") else with_more(Key(full, U32, value))
            case(f"{key}={value}", make, full, "the id of a token, 0 to 258")
    for value in (2, 255):
        case(f"add_bos_token={value}", with_key("tokenizer.ggml.add_bos_token", value=value), "add_bos_token", "expected 0 or 1")
        case(f"add_eos_token={value}", with_more(Key("tokenizer.ggml.add_eos_token", BOOL, value)), "add_eos_token", "0 or 1")
    case("add_eos_token=text", with_more(Key("tokenizer.ggml.add_eos_token", TEXT, "yes")), "add_eos_token", "true or false")
    case("add_bos_token=2:u32", with_key("tokenizer.ggml.add_bos_token", kind=U32, value=2), "add_bos_token")
    for value in ("", "llama-bpE", "default", "spark2_5", "x" * 3000):
        case(f"pre={value[:9]}", with_key("tokenizer.ggml.pre", value=value), "tokenizer.ggml.pre")
    for value in ("", "bert", "gpt2 ", "t5"):
        case(f"model={value}", with_key("tokenizer.ggml.model", value=value), "tokenizer.ggml.model", "llama or gpt2")
    for key in ("model", "pre", "tokens"):
        full = f"tokenizer.ggml.{key}"
        case(f"without:{full}", changed(lambda f, n=full: f.keys.remove(f.key(n))), f"key {full} is missing")

    def sentencepiece(change):
        return changed(change, gguf_bytes.sentencepiece_keys)

    def set_element(key, i, value):
        return sentencepiece(lambda f: f.key(f"tokenizer.ggml.{key}").value.__setitem__(i, value))

    for value in ("<0x>", "<0xZZ>", "<0xaa>", "a", "<0x000>"):
        case(f"byte={value}", set_element("tokens", 9, value), "token 9", "a byte, <0x00> to <0xFF>")
    for value in (np.nan, np.inf, -np.inf):
        case(f"score={value}", set_element("scores", 260, value), "element 260 of key tokenizer.ggml.scores")
    case("scores:few", sentencepiece(lambda f: f.key("tokenizer.ggml.scores").value.pop()), "tokenizer.ggml.scores")
    case("without:scores", sentencepiece(lambda f: f.keys.remove(f.key("tokenizer.ggml.scores"))), "scores is missing")
    for value in (263, MOST32):
        case(f"unknown={value}", sentencepiece(lambda f, v=value: setattr(f.key("tokenizer.ggml.unknown_token_id"), "value", v)),
             "unknown_token_id")  # fmt: skip
    case("piece:twice", set_element("tokens", 261, "a"), "piece 261 is the same as piece 260")
    case("prefix=text", sentencepiece(lambda f: vars(f.key("tokenizer.ggml.add_space_prefix")).update(kind=TEXT, value="x")),
         "add_space_prefix")  # fmt: skip


# Of each family, keys and values that they cannot have; "text" is of that type, and a list has a type of its elements.
WINDOWS = {"attention.sliding_window": (-1, 0.5, np.nan, (1 << 24) + 1, "text"),
           "attention.sliding_window_pattern": (-1, 4097, 1.5, np.nan, "text")}  # fmt: skip
SCALED = (-1.0, 1e-7, 1e7, np.nan, np.inf, "text")
FAMILY_VALUES = {
    "gemma2": {**WINDOWS, "attn_logit_softcapping": SCALED, "final_logit_softcapping": SCALED,
               "rope.freq_base_swa": (500.0, np.nan), "logit_scale": (2.0,), "attention.scale": (0.5,)},
    "gemma3": {**WINDOWS, "rope.freq_base_swa": (0.0, 0.5, -1.0, 1e13, np.nan, np.inf, "text"),
               "final_logit_softcapping": SCALED},
    "qwen3moe": {"expert_count": (0, -1, 0.5, 1025, np.nan, "text"), "expert_used_count": (0, -1, 1.5, 65, "text"),
                 "expert_feed_forward_length": (0, -1, np.nan, "text")},
    "granite": {"embedding_scale": SCALED, "residual_scale": SCALED, "attention.scale": SCALED,
                "logit_scale": (0.0, *SCALED), "rope.scaling.finetuned": (2, -1, 0.5, "text"),
                "final_logit_softcapping": (30.0,), "attention.temperature_scale": (0.1,)},
    "olmo2": {**WINDOWS, "rope.freq_base_swa": (0.5, np.nan)},
    "exaone4": {**WINDOWS, "rope.freq_base_swa": (500.0,), "nextn_predict_layers": (1,)},
    "phi3": {"rope.dimension_count": (0, 1, 3, 18, -2, 1.5, np.nan, "text"),
             "rope.scaling.original_context_length": (0, 1, -1, np.nan, np.inf, (1 << 24) + 1, "text"),
             "rope.scaling.attn_factor": SCALED},
    "mistral3": {"rope.scaling.factor": (0.0, 0.5, -4.0, 1e7, np.nan, np.inf, "text"),
                 "rope.scaling.original_context_length": (0, -1, np.nan, np.inf, (1 << 24) + 1, "text"),
                 "rope.scaling.yarn_beta_fast": (0.0, *SCALED), "rope.scaling.yarn_beta_slow": (0.0, *SCALED),
                 "rope.scaling.yarn_log_multiplier": (-1.0, 1e7, np.nan, np.inf, "text"),
                 "rope.scaling.yarn_ext_factor": (0.0, 0.5, 2.0, np.nan, "text"),
                 "rope.scaling.yarn_attn_factor": SCALED, "rope.scaling.attn_factor": (0.0, *SCALED),
                 "attention.temperature_scale": (-1.0, 1e7, np.nan, np.inf, "text"), "rope.scaling.type": ("", "none", "longrope", "linear", 1)},
}  # fmt: skip


def of_family(architecture, change, layers=2):
    def make():
        file = gguf_bytes.tiny(sizes=(32, 64, layers, 2, 1, 16), architecture=architecture)
        change(file)
        return file.pack()

    return make


def set_key(name, kind, value):
    def change(file):
        file.keys = [key for key in file.keys if key.name != name] + [Key(name, kind, value)]

    return change


def family_key_cases():
    for architecture, fields in FAMILY_VALUES.items():
        for field, values in fields.items():
            name = f"{architecture}.{field}"
            for value in values:
                kind = TEXT if isinstance(value, str) else F32 if isinstance(value, float) else I64
                named = {"none": "temperature_scale", "linear": "temperature_scale", "longrope": "rope_factors"}
                case(f"{name}={value}", of_family(architecture, set_key(name, kind, value)), named.get(value, field))
            case(f"{name}=array", of_family(architecture, set_key(name, U32, [1, 1, 1])), field)
        if "attention.sliding_window_pattern" in fields:
            name = f"{architecture}.attention.sliding_window_pattern"
            for kind, value in ((BOOL, []), (BOOL, [1]), (BOOL, [1] * 3), (U32, [0, 2]), (I32, [0, -1]), (TEXT, ["1", "0"]),
                                (F32, [0.0, np.nan]), (F64, [0.5, 1.0])):  # fmt: skip
                case(f"{name}={value}", of_family(architecture, set_key(name, kind, value)), name, "an array of 2 switches")
    for field, value, named in (("expert_count", 2, "ffn_gate_inp"), ("expert_count", 4, "ffn_gate_inp"),
                                ("expert_used_count", 4, "n_experts_used is 4"), ("expert_feed_forward_length", 16, "multiples of 32"),
                                ("expert_feed_forward_length", 64, "ffn_gate_exps")):  # fmt: skip
        case(f"qwen3moe.{field}={value}", of_family("qwen3moe", set_key(f"qwen3moe.{field}", U32, value)), named)
    for field in ("attention.head_count", "attention.head_count_kv", "feed_forward_length"):
        for value in ([], [1], [1] * 3, [2, 1], [0, 0], [MOST32] * 2):
            case(f"granite.{field}={value}", of_family("granite", set_key(f"granite.{field}", U32, value)), f"granite.{field}")
        case(f"granite.{field}=texts", of_family("granite", set_key(f"granite.{field}", TEXT, ["2", "2"])), f"granite.{field}")
    case("yarn:factor", of_family("mistral3", lambda f: f.keys.remove(f.key("mistral3.rope.scaling.factor"))), "factor is missing")
    for architecture in ("gemma", "gemma3n", "gpt-oss", "mamba", "granitemoe", "phimoe", "qwen2moe", "olmo", "exaone"):
        case(f"architecture={architecture}", with_key("general.architecture", value=architecture), f'"{architecture}"',
             "expected one of llama, qwen2", "hunyuan-dense")  # fmt: skip


def family_tensor_cases():
    def without(name):
        return lambda f: f.tensors.remove(f.tensor(name))

    def reshaped(name, dims):
        return lambda f: vars(f.tensor(name)).update(dims=dims, data=bytes(4 * int(np.prod(dims))), type=0)

    def with_values(name, values):
        return lambda f: vars(f.tensor(name)).update(data=np.array(values, "<f4").tobytes(), dims=[len(values)])

    for architecture in FAMILY_VALUES:
        for t in gguf_bytes.tiny(architecture=architecture).tensors:
            if t.name == "output.weight":  # without which the head is tied
                continue
            named = t.name.replace("attn_qkv", "attn_q")
            case(f"{architecture}:{t.name}:missing", of_family(architecture, without(t.name)), f"tensor {named} is missing")
            for dims in ([*t.dims[:-1], t.dims[-1] + 1], [*t.dims[:-1], t.dims[-1] - 1], [t.dims[0] * 2, *t.dims[1:]], [*t.dims, 2]):
                if t.name.startswith("token_embd") and len(dims) == 2 and dims[0] == 32:
                    continue  # the number of rows is that of tokens
                case(f"{architecture}:{t.name}:dims={dims}", of_family(architecture, reshaped(t.name, dims)), t.name)
    q, qkv, up, one = "blk.0.attn_q.weight", "blk.0.attn_qkv.weight", "blk.1.ffn_up.weight", [1.0] * 6
    for rows in (32, 63, 65, 128):
        case(f"attn_qkv:{rows}", of_family("phi3", reshaped(qkv, [32, rows])), qkv, "expected 32 x 64")
    case("ffn_up:64", of_family("phi3", reshaped(up, [32, 64])), up, "expected 32 x 128")
    case("attn_q:beside", of_family("phi3", lambda f: f.tensors.append(Tensor(q, [32, 32], 0, bytes(4096)))), q)
    for name in ("rope_factors_long", "rope_factors_short"):
        for value in (0.0, -1.0, 1e-7, 1e7, np.nan, np.inf):
            case(f"{name}={value}", of_family("phi3", with_values(f"{name}.weight", [*one[:5], value])), name, "value 5")
        for n in (1, 5, 7, 8, 4096):
            case(f"{name}:{n}", of_family("phi3", with_values(f"{name}.weight", [1.0] * n)), name, f"has {n} values", "expected 6")
        case(f"{name}:linear", of_family("phi3", set_key("phi3.rope.scaling.type", TEXT, "linear")), "rope.scaling.type", "longrope")
    divisors = Tensor("rope_freqs.weight", [6], 0, np.ones(6, "<f4").tobytes())
    case("two scalings", of_family("phi3", lambda f: f.tensors.append(divisors)), "rope_freqs.weight", "only one of them")
    case("yarn and divisors", of_family("mistral3", lambda f: f.tensors.append(divisors)), "rope_freqs.weight", "only one of them")
    case("longrope without tensors", changed(lambda f: f.keys.append(Key("llama.rope.scaling.type", TEXT, "longrope"))), "rope_factors")


header_cases()
cut_cases()
key_cases()
type_cases()
value_cases()
tensor_cases()
weight_cases()
vocabulary_cases()
family_key_cases()
family_tensor_cases()


@pytest.mark.parametrize("make, named", FILES.cases)
def test_broken_gguf_is_refused_by_name(make, named):
    FILES.assert_refused(make(), named)


def test_there_are_600_broken_files_and_no_two_are_the_same():
    FILES.assert_many(600)


def test_the_files_that_are_broken_above_are_good_before():
    for file in (GOOD, SENTENCEPIECE, File(GOOD.keys, GOOD.tensors, version=2)):
        FILES.attempt(file.pack())[0].ok()


def test_what_is_odd_but_allowed_is_read():
    """Tokens without bytes, unknown keys, values of other widths, no merges, empty arrays, data in another order."""
    for change in (
        lambda f: f.key("tokenizer.ggml.tokens").value.__setitem__(256, "") or f.keys.remove(f.key("tokenizer.ggml.merges")),
        lambda f: f.keys.append(Key("some.key", TEXT, ["x", ""])) or f.keys.append(Key("other", F64, [])),
        lambda f: vars(f.key("llama.block_count")).update(kind=U8),
        lambda f: vars(f.key("llama.embedding_length")).update(kind=I64),
        lambda f: vars(f.key("llama.rope.freq_base")).update(kind=F64),
        lambda f: f.tensors.reverse(),
        lambda f: f.keys.reverse(),
    ):
        FILES.attempt(changed(change)())[0].ok()


def test_parts_that_disagree_are_refused(tmp_path):
    """A model in two files, one thing of which is wrong."""
    def write(first=(), second=(), move=6, drop=0):
        one, two = gguf_bytes.tiny(), File()
        two.tensors = one.tensors[move:]
        del one.tensors[move - drop :]
        split = {"split.no": 0, "split.count": 2, "split.tensors.count": len(GOOD.tensors)}
        for file, number, changes in ((one, 0, first), (two, 1, second)):
            named = {**split, "split.no": number, **dict(changes)}
            file.keys += [Key(name, U32, value) for name, value in named.items() if value is not None]
            (tmp_path / f"m-{number + 1:05}-of-00002.gguf").write_bytes(file.pack())
        return run(tmp_path / "m-00001-of-00002.gguf", "-i", "a", "-n", "2", "-t", "0", "-q")

    write().ok()
    second = "m-00002-of-00002.gguf"
    for number in (0, 2, None):
        assert_refused(write(second={"split.no": number}), 3, second, "split.no")
    for count in (0, 1, 3, None):
        assert_refused(write(second={"split.count": count}), 3, second, "split.count")
    assert_refused(write(first={"split.tensors.count": 5}), 3, "split.tensors.count")
    assert_refused(write(drop=1, first={"split.tensors.count": len(GOOD.tensors) - 1}), 3, GOOD.tensors[5].name)
    assert_refused(write(drop=-1, first={"split.tensors.count": len(GOOD.tensors) + 1}), 3, "duplicate", GOOD.tensors[6].name)
    assert_refused(write(first={"split.count": 3}), 3, "m-00001-of-00002.gguf", "-00001-of-00003.gguf")
    write()
    (tmp_path / second).write_bytes(b"GGUF")
    assert_refused(run(tmp_path / "m-00001-of-00002.gguf", "-i", "a", "-q"), 3, second)


@pytest.mark.parametrize("architecture", FAMILY_VALUES)
def test_the_models_that_are_broken_here_are_good_otherwise(architecture):
    FILES.attempt(of_family(architecture, lambda file: None)())[0].ok()
