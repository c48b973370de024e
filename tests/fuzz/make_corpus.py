"""Writes the corpora of the fuzz targets, tests/fuzz/corpus/TARGET/*: small inputs that fuzzing starts from and that
`make test` replays. The top of each fuzz_TARGET.c describes its inputs.

    python3 tests/fuzz/make_corpus.py
"""

import json
import struct
import sys
from pathlib import Path

FUZZ = Path(__file__).resolve().parent
sys.path[:0] = [str(FUZZ.parent), str(FUZZ.parent.parent / "scripts")]
import checkpoint  # noqa: E402
import gguf_bytes  # noqa: E402
import models  # noqa: E402
import vocabulary  # noqa: E402

SAMPLING = {"temperature": 0.2, "top_k": 40.0}
TEXT = "Zoë's 3 abab  <x>\n".encode()
NAMED = "<x>ab <y><z> ab</s>\u2581 <y><y> <x>\n".encode()


def vocabularies():
    """One vocabulary of each kind; together they have every attribute of a piece."""
    v = vocabulary
    texts = [b"<unk>", b"<s>", b"</s>", b"\x00", b" ", b"a", b"b", b"ab", b" a"]
    attributes = [v.UNKNOWN, v.SPECIAL, v.SPECIAL, v.BYTE, 0, 0, 0, 0, 0]
    scores = [0.0, 0.0, 0.0, 0.0, -1.0, -2.0, -3.0, -4.0, -0.5]
    yield "sentencepiece", v.Vocabulary(
        v.SENTENCEPIECE, texts, attributes, scores=scores, bos=1, eos=2, unknown=0, end=[2], add_bos=True,
        add_prefix=True)  # fmt: skip
    every_byte = [bytes([b]) for b in range(256)]
    yield "sentencepiece_bytes", v.Vocabulary(
        v.SENTENCEPIECE, [b"<s>", *every_byte, b" ", b"ab"], [v.SPECIAL, *[v.BYTE] * 256, 0, 0],
        scores=[0.0] * 257 + [-1.0, -2.0], bos=0, eos=0, unknown=-1, end=[0], add_bos=True, add_prefix=True)  # fmt: skip
    # By merges, with a name of each attribute and each way of putting spaces before stretches.
    names = {b"<z>": v.ADDED, b"</s>": v.SPECIAL, b" <x>": v.USER_DEFINED, b" <y>": v.SPECIAL_IN_STRETCH}
    for name, prefix in (("none", {}), ("each", {"add_prefix": True}), ("first", {"add_prefix": True, "prefix_first": True}),
                         ("new", {"add_prefix": True, "prefix_new": True})):  # fmt: skip
        yield f"merges_{name}", v.Vocabulary(
            v.SENTENCEPIECE, [*every_byte, b" ", b"a", b"b", b"ab", b" ab", *names],
            [*[v.BYTE] * 256, *[0] * 5, *names.values()], merges=[(257, 258, 259), (256, 259, 260)], bos=257, eos=262,
            unknown=-1, end=[258, 262], add_bos=True, **prefix)  # fmt: skip
    for name, rule in (("gpt2", v.GPT2), ("llama3", v.LLAMA3), ("smollm2", v.SMOLLM), ("qwen2", v.QWEN2),
                       ("deepseek_llm", v.DEEPSEEK_LLM)):  # fmt: skip
        yield name, v.Vocabulary(
            v.BYTE_LEVEL, [b"<e>", *every_byte, b"ab", b"abab", b"", b"<x>"],
            [v.SPECIAL, *[0] * 256, 0, 0, v.ABSENT, v.ADDED], merges=[(98, 99, 257), (257, 257, 258)],
            pre_tokenizer=rule, bos=0, eos=0, end=[0])  # fmt: skip


def checkpoint_input(mode, config, weight_type, contents, more=b"", matrix=checkpoint.matrix_section):
    """mode, token, length of the config, header, table, config (with `more` after it) and contents; the target fills
    in offsets, sizes and checksums. `matrix` makes the sections of matrices."""
    named = config.section(SAMPLING) + more
    sizes = {"config": len(named), "provenance": 5, "tokenizer": len(contents), "chat": 32}
    sections = [checkpoint.bytes_section(name, size) for name, size in sizes.items()]
    if not config.vocab_only:
        for name, rows, cols in checkpoint.model_tensors(config):
            sections.append(checkpoint.vector_section(name, cols) if rows is None else
                            matrix(name, weight_type, rows, cols))  # fmt: skip
    start = checkpoint.MAGIC + struct.pack("<IIQQI", checkpoint.VERSION, len(sections), 0, checkpoint.HEADER_BYTES, 0)
    table = b"" if mode & 8 else b"".join(s.pack() for s in sections)
    head = struct.pack("<2BH", mode, 15, len(named)) + start.ljust(checkpoint.HEADER_BYTES, b"\0")
    return head + table + named + contents


def checkpoint_inputs():
    """(name, bytes) of a model for each weight type and each kind of config."""
    small = dict(dim=8, hidden_dim=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, vocab_size=9, context_length=80,
                 norm_eps=1e-5, rope_theta=10000.0, tied_head=True)  # fmt: skip
    contents = bytes(16) + struct.pack("<8f", 0.5, -0.25, 1, 0, -1, 2, 0.125, 3)
    section = dict(vocabularies())["sentencepiece"].section()
    for code in checkpoint.WEIGHT_TYPES:
        yield code, checkpoint_input(7, checkpoint.Config(**small), code, contents)
    for code in ("f32", "f16", "bf16", "q8"):
        yield f"rows_{code}", checkpoint_input(7, checkpoint.Config(**small), code, contents, matrix=checkpoint.rows_section)
    for name, extra in {
        "untied": dict(tied_head=False),
        "biases": dict(qkv_bias=True),
        "window": dict(sliding_window=3),
        "linear": dict(rope_scaling="linear", rope_factor=4.0),
        "llama3": dict(rope_scaling="llama3", rope_factor=8.0, rope_original_context=64, rope_low_freq_factor=1.0,
                       rope_high_freq_factor=4.0),  # fmt: skip
    }.items():
        config = checkpoint.Config(**{**small, **extra})
        yield name, checkpoint_input(7, config, "f32", contents)
        yield f"{name}_made", checkpoint_input(15, config, "f32", contents)
        yield f"{name}_rows_made", checkpoint_input(31, config, "f32", contents)
    yield "misshapen", checkpoint_input(3, checkpoint.Config(**{**small, "dim": 16}), "f32", contents)
    yield "layers_made", checkpoint_input(15, checkpoint.Config(**{**small, "n_layers": 3}), "f32", contents)
    good = checkpoint.Config(**small)
    for name, more in {
        "unknown_value": checkpoint.named_value("stranger", 1, checkpoint.U32),
        "value_twice": checkpoint.named_value("dim", 8, checkpoint.U32),
        "value_of_another_type": checkpoint.named_value("sliding_window", 8.0, checkpoint.F64),
        "many_values": struct.pack("<32s2I", b"sliding_window", checkpoint.U32, 1 << 31),
        "value_cut": checkpoint.named_value("sliding_window", 8, checkpoint.U32)[:43],
    }.items():
        yield name, checkpoint_input(7, good, "f32", contents, more)
    only = checkpoint.Config(vocab_size=9, vocab_only=True)
    yield "vocabulary", checkpoint_input(3, only, "f32", section)
    yield "plain", b"\0\0" + models.vocabulary_checkpoint(section, 9)
    yield "gguf", b"\0\0GGUF"


def gguf_files():
    """(name, bytes) of whole files: small vocabularies of each kind, and keys and tensors of all types."""
    for name, keys, n in (("byte_level", gguf_bytes.byte_level_keys(), 0), ("sentencepiece", gguf_bytes.sentencepiece_keys(), 3)):
        small = [k if not isinstance(k.value, list) else gguf_bytes.Key(k.name, k.kind, k.value[:n] + k.value[-7:]) for k in keys]
        for k in small:
            if k.name.endswith("_token_id"):
                k.value = min(k.value, 6)
        yield name, gguf_bytes.File(small).pack()
        yield f"{name}_v2", gguf_bytes.File(small, version=2).pack()
    g = gguf_bytes
    kinds = [k for k in g.FORMS if k != g.BOOL]
    every = [*(g.Key(f"k{k}", k, 1) for k in kinds), *(g.Key(f"a{k}", k, [1, 0]) for k in g.FORMS), g.Key("t", g.TEXT, ["", "x"])]
    yield "keys", g.File([*every, g.Key("general.alignment", g.U32, 8)], alignment=8).pack()
    tensors = [g.Tensor(f"t{n}", [c, 2], n, bytes(2 * b)) for n, c, b in g.TYPES.values()]
    yield "tensors", g.File([], tensors).pack()
    yield "split", g.File([g.Key("split.count", g.U32, 2), g.Key("split.no", g.U32, 0)]).pack()


def gguf_models():
    """(name, bytes) of inputs of which tests/fuzz/fuzz_gguf.h makes a model."""
    contents = struct.pack("<8f", 0.5, -0.25, 1, 0, -1, 2, 0.125, 3) * 2
    more = b"".join(k.pack() for k in (gguf_bytes.Key("llama.rope.scale_linear", gguf_bytes.F32, 2.0),
                                       gguf_bytes.Key("general.sampling.temp", gguf_bytes.F32, 0.7)))  # fmt: skip
    for mode in (1, 3, 5, 9, 11, 17, 31):
        for token in (0, 1, 2, 3, 4, 5, 0x15):
            head = struct.pack("<2BI7BBH", mode, token, 0, 0, 1, 0, 1, 1, 3, 9, 0, 0)
            yield f"{mode}_{token}", head + contents
    small = struct.pack("<6f", 0.5, 1.5, 0.75, 2, 0.375, 3) * 2  # without the byte 0x80, which Q8_0 does not have
    families = [(i >> 1) << 5 | (i & 1) << 1 for i in range(2, 16)]  # as fuzz_gguf.h has them
    for mode in families:
        for bits, token in ((1, 1), (1 | 4 | 8, 0x5F)):
            head = struct.pack("<2BI7BBH", mode | bits, token, 0, 0, 1, 1, 1, 1, 3, 9, 0, 0)
            yield f"{mode | bits}_{token}", head + small
    g = gguf_bytes
    keys = {3: [("attention.sliding_window", g.U32, 4), ("attention.sliding_window_pattern", g.BOOL, [1, 0])],
            4: [("attention.sliding_window", g.U32, 4), ("rope.freq_base_swa", g.F32, 50.0), ("final_logit_softcapping", g.F32, 9.0)],
            6: [("attention.scale", g.F32, 0.5), ("rope.scaling.finetuned", g.BOOL, 0)],
            12: [("rope.scaling.yarn_beta_fast", g.F32, 4.0), ("rope.scaling.yarn_beta_slow", g.F32, 0.5),
                 ("rope.scaling.yarn_log_multiplier", g.F32, 1.0), ("rope.scaling.yarn_ext_factor", g.F32, 1.0)]}  # fmt: skip
    names = {3: "gemma2", 4: "gemma3", 6: "granite", 12: "mistral3"}
    for family, added in keys.items():
        packed = b"".join(g.Key(f"{names[family]}.{name}", kind, value).pack() for name, kind, value in added)
        skip = 3 << 12 if family in (3, 4) else 0  # the window's keys that it has otherwise
        head = struct.pack("<2BI7BBH", families[family - 2] | 1, 0, skip, 0, 0, 1, 0, 0, 3, 9, len(added), len(packed))
        yield f"more_{names[family]}", head + packed + small
    yield "more", struct.pack("<2BI7BBH", 1, 0, 0, 2, 2, 0, 0, 0, 0, 0, 2, len(more)) + more + contents
    yield "missing", struct.pack("<2BI7BBH", 1, 0, 1 << 6, 0, 0, 0, 0, 0, 7, 0, 0, 0) + contents
    yield "whole", b"\0\0" + gguf_bytes.tiny(gguf_bytes.sentencepiece_keys, (32, 32, 1, 1, 1, 2)).pack()


def corpora():
    """(target, name, bytes) of every input."""
    for name, data in gguf_files():
        yield "fuzz_gguf", name, data
    for name, data in gguf_models():
        yield "fuzz_gguf_model", name, data
        yield "fuzz_convert", name, data
    for name, data in checkpoint_inputs():
        yield "fuzz_checkpoint", name, data
        yield "fuzz_header", name, data

    for kind in ("v0", "v1", "v2-4"):
        for tied in (True, False):
            config = models.Config(8, 8, 1, 2, 1, 9, 80, tied)
            header = len(models.sections(config, kind)[0][1])
            data = models.model_bytes(config, kind)
            name = f"{kind}_{'tied' if tied else 'untied'}"
            yield "fuzz_llama2c", name, b"\1\1" + data[: header + 64]
            yield "fuzz_llama2c", f"{name}_small", b"\3\1" + data[: header + 64]
    yield "fuzz_llama2c", "whole", b"\0\1" + models.model_bytes(models.Config(4, 4, 1, 1, 1, 3, 2), "v1")

    for name, v in vocabularies():
        for mode in (0, 1, 2):
            text = NAMED if name.startswith("merges") else TEXT
            text = text if mode else text.replace("\u2581".encode(), b"")  # decoding makes a space of it
            yield "fuzz_tokenizer", f"{name}_{mode}", bytes([mode, len(text)]) + text + v.section()
    pieces = models.SPECIAL + [b"<0x61>", b" ", b"a", b"b", b"ab", "ë".encode()]
    for name, n in (("pieces", len(pieces)), ("too_many", len(pieces) + 1)):
        data = models.tokenizer_bytes(pieces, [0.0] * 4 + [-float(i) for i in range(len(pieces) - 4)])
        yield "fuzz_tokenizer_llama2c", name, struct.pack("<BHB", 3, n, len(TEXT)) + TEXT + data

    for i, (roles, mode, source) in enumerate(CHATS):
        yield "fuzz_chat", f"{i:02}", bytes([roles, mode]) + source.encode()
        yield "fuzz_chat", f"{i:02}_cut", bytes([roles, mode]) + source.encode()[: len(source) // 2]
    for path in sorted((FUZZ.parent / "templates").glob("*.jinja")):
        yield "fuzz_jinja", path.stem, path.read_bytes()
    for i, line in enumerate((FUZZ.parent / "templates" / "language.jinja").read_bytes().splitlines()):
        yield "fuzz_jinja", f"{i:02}", line
    yield "fuzz_jinja", "nothing", b"{{ 1 < [] | first }}"
    yield "fuzz_jinja", "no_items", b"{{ '' | reject in 2 | reject in [1, 2] }}"
    yield "fuzz_jinja", "variables", b'{{ a.b[0] }}{{ c | tojson }}\0{"a": {"b": [1e400, "x"]}, "c": [null, -0.5, 9]}'
    for i, text in enumerate(JSON):
        yield "fuzz_json", f"{i:02}", text
    for i, (mode, line) in enumerate(requests()):
        yield "fuzz_request", f"{i:02}", struct.pack("<H", mode) + line
    for i, line in enumerate(COMMAND_LINES):
        yield "fuzz_options", f"{i:02}", b"".join(a.encode() + b"\0" for a in line.split(" "))
    for i, (mode, pages, cut, patches) in enumerate(PROMPT_CACHES):
        fields = b"".join(struct.pack("<HB", at, byte) for at, byte in patches)
        yield "fuzz_prompt_cache", f"{i:02}", struct.pack("<BBH", mode | len(patches) << 4, pages, cut) + fields + TEXT
    for i, (kind, specification, stream) in enumerate(CONSTRAINTS):
        text = specification.encode()
        yield "fuzz_constraint", f"{i:02}", struct.pack("<BH", kind, len(text)) + text + stream


JSON = [
    b'{"a": [1, -2.5e+3, 0, true, false, null, {}, []], "\\u00e9\\ud83d\\ude00\\n\\"\\\\\\/\\b\\f\\r\\t": "x"}',
    b" [18446744073709551615, 1e308, 0.1E-3, 9007199254740993]\r\n",
    '"Zoë ☃ 😀"'.encode(), b'{"a": 1, "a": 2}', b"[" * 65 + b"]" * 65, b"[1,]", b"01", b'"\xff"', b'"\\ud800"', b"", b"nul",
]  # fmt: skip
CHAT = b"""{"custom_id": "a1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages":
 [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}, {"role":
 "assistant", "content": "x"}, {"role": "user", "content": "y"}], "max_tokens": 9, "temperature": 0, "top_p": 0.5,
 "seed": 7, "stop": ["a", "b"], "n": 1, "stream": false}}""".replace(b"\n", b"")
PLAIN = {"prompt": "Once", "id": "p", "max_tokens": 3, "stop": "x", "top_k": 4, "min_p": 0.1, "seed": 1}
ENVELOPE = {"custom_id": "c", "method": "POST", "url": "/v1/completions", "body": {"prompt": "Once", "echo": True}}
USER = {"role": "user", "content": "hi"}
PART = {"type": "text", "text": "hi"}
ODD_MESSAGES = [
    1, [], [1], [{}], [{"role": "tool", "content": "x", "tool_call_id": "1"}], [{**USER, "name": "n", "tool_calls": None}],
    [{**USER, "tool_calls": []}], [{**USER, "content": 1}], [{"role": "user"}], [{**USER, "content": []}],
    [{"role": "developer", "content": " s "}, USER], [USER, USER], [{"role": "assistant", "content": "a"}],
    [{"role": "system", "content": "s"}, {"role": "system", "content": "s"}, USER],
    [USER, {"role": "assistant", "reasoning_content": "r", "tool_calls": [{"function": {"name": "f", "arguments": "{\"a\": 1}"}}]}],
    [USER, {"role": "assistant", "tool_calls": 1}], [USER, {"role": "assistant", "tool_calls": [{"function": {"arguments": "x"}}]}],
]  # fmt: skip
ODD_FIELDS = [
    ("max_tokens", -1), ("max_tokens", 1.5), ("temperature", 3), ("temperature", "hot"), ("ignore_eos", True),
    ("ignore_eos", 1), ("stop", 1), ("stop", [""]), ("stop", ["ab", "x"]), ("stop", ["x"] * 17), ("stop", ["\0"]),
    ("seed", -1), ("echo", 1), ("echo", True), ("model", "m"), ("model", 1), ("n", 2), ("stream", True), ("logprobs", 1),
    ("tools", []), ("tools", [1]), ("tools", 1), ("documents", [USER]), ("chat_template_kwargs", {"enable_thinking": False}),
    ("chat_template_kwargs", {"messages": 1}), ("chat_template_kwargs", []), ("suffix", ""), ("suffix", "x"), ("response_format", {"type": "text"}),
    ("response_format", {"type": "json"}), ("best_of", 1), ("top_k", -1), ("surprise", 1), ("id", 7), ("id", []),
    ("messages", [USER]), ("prompt", None), ("logit_bias", {}), ("logit_bias", {"1": 1}), ("user", "u"),
]  # fmt: skip
SAMPLING_FIELDS = [
    {"presence_penalty": 1, "frequency_penalty": -1.5}, {"logit_bias": {"65": 100, "66": -100}}, {"logit_bias": {"99999": 1}},
    {"logit_bias": {"1": 101}}, {"stop_token_ids": [70, 71], "min_tokens": 4}, {"stop_token_ids": [-1]}, {"n": 16}, {"n": 17},
    {"include_stop_str_in_output": True, "stop": "a"}, {"skip_special_tokens": False, "ignore_eos": True},
    {"logprobs": 20, "n": 3}, {"logprobs": True, "top_logprobs": 2}, {"top_logprobs": 1}, {"best_of": 2, "n": 2},
]  # fmt: skip
ODD_ENVELOPES = [("custom_id", 1), ("custom_id", None), ("method", "GET"), ("url", 1), ("url", "/v1/embeddings"),
                 ("body", 1), ("body", None), ("more", 1), ("body", {}), ("body", {"messages": [USER]})]  # fmt: skip


def requests():
    """(mode, line): tests/fuzz/fuzz_request.c"""
    chats = (0, 16, 32, 4 | 128, 128 | 256, 256, 32 | 128)
    yield from ((mode, CHAT) for mode in chats)
    lines = [PLAIN, ENVELOPE]
    lines += [{"messages": messages} for messages in ODD_MESSAGES]
    lines += [{**PLAIN, name: value} for name, value in ODD_FIELDS]
    lines += [{k: v for k, v in {**ENVELOPE, name: value}.items() if v is not None} for name, value in ODD_ENVELOPES]
    lines += [{}, [], {"messages": [USER], "echo": True}, {**ENVELOPE, "url": "/v1/chat/completions"}]
    yield from ((256, json.dumps(line).encode()) for line in lines)
    calls = [{"messages": messages} for messages in ODD_MESSAGES if "tool_calls" in str(messages)]
    yield from ((384, json.dumps({**line, "tools": [{}]}).encode()) for line in calls)
    text = b"Once <end> upon"
    yield from ((mode, text) for mode in (1, 3, 7, 19, 64, 1 | 256 | 2))
    yield 8, b'{"prompt": "' + b"long " * 30 + b'"}'
    yield 0, b'{"prompt": "' + b"long " * 30 + b'"}'
    yield 0, b"{"
    parts = [[], [PART, PART], [PART, {**PART, "text": ""}, {**PART, "text": None}], [PART, {"type": "image_url"}], ["a"], [{}]]
    for content in parts:
        yield 0, json.dumps({"messages": [{**USER, "content": content}, {"role": "assistant"}, USER]}).encode()
    yield from ((0, json.dumps({**PLAIN, **fields}).encode()) for fields in SAMPLING_FIELDS)
    for url, fields in (("completions", {"logprobs": 3, "echo": True}), ("chat/completions", {"logprobs": True, "top_logprobs": 2})):
        body = {"prompt": "hi"} if url == "completions" else {"messages": [USER]}
        yield 0, json.dumps({**ENVELOPE, "url": f"/v1/{url}", "body": {**body, "n": 2, **fields}}).encode()


COMMAND_LINES = [
    "m.bin -i Once -n 10 -t 0 -p 0.5 -k 40 --min-p 0.05 -s 7 --stop a --stop=b --json --logprobs 5",
    "m.bin --chat --system=s -c 100 --kv f16 -j 2 --simd scalar --chunk 7 -o out -q", "--batch in m.bin --lines --parallel 4",
    "m.bin -b - -o out --resume --first-line 1001", "--help", "m.bin -- -x", "m.bin n.bin", "m.bin -n -1", "m.bin -t nan",
    "m.bin -t 1e999", "m.bin -n", "m.bin --top-p=", "m.bin --nothing", "m.bin --json=1", "m.bin -tt0", "m.bin --kv f8",
    "m.bin --info --verify", "m.bin -m chat -mgenerate", "m.bin --repeat-penalty 0", "m.bin -s18446744073709551616", "",
    "m.bin --presence-penalty -1 --frequency-penalty=2 --logit-bias 5=-1.5 --logit-bias 5=2 --stop-token-id 7 --min-tokens 3",
    "m.bin --logit-bias 5", "m.bin --logit-bias 5=101", "m.bin --stop-token-id -1", "m.bin -n 3 --min-tokens 4",
]  # fmt: skip
# roles, mode, source: tests/fuzz/fuzz_chat.c
CHATML = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<end>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
THINKING = CHATML.replace("{{ m.content }}", "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n{% endif %}{{ m.content }}")
CHATS = [
    (0b11111100, 0, CHATML), (0b11110001, 2, CHATML), (0b11001000, 1, CHATML), (0b11111111, 0, CHATML),
    (0b11001000, 1, CHATML.replace("m.content", "m.content | trim")), (0b11001000, 5, THINKING), (0b11111100, 4, THINKING),
    (0b11111100, 4, CHATML + "{% if enable_thinking is false %}<think></think>{% endif %}"),
    (0b11111100, 4, CHATML + "<think>{# </think> #}"), (0b11110001, 0, "{{ raise_exception('no') }}"),
    (0b11001000, 1, "{{ strftime_now('%d') }}{{ messages[0].content }}{{ eos_token }}developer"),
]  # fmt: skip
# mode, pages, bytes cut off, patches of (offset, byte): tests/fuzz/fuzz_prompt_cache.c
PROMPT_CACHES = [
    (8, 3, 0, []), (12, 2, 0, []), (0, 0, 0, []), (0, 3, 0, []), (4, 4, 0, []), (0, 5, 0, []), (2, 2, 1, []), (2, 2, 5000, []), (1, 1, 0, [(4096, 9)]),
    *[(0, 2, 0, [(at, 255)]) for at in (0, 8, 16, 23, 24, 32, 36, 40, 44, 48, 52, 55, 56, 63, 64, 128, 4096)],
    (0, 1, 0, [(52, 2)]), (0, 1, 0, [(52, 0), (16, 0), (17, 16)]),
]  # fmt: skip
# kind, specification, stream: tests/fuzz/fuzz_constraint.c
CONSTRAINTS = [
    (1, "positive|negative|neutral", b"\x70\x00"), (1, "a|a|", b""), (1, "ab|abab", b"ab"),
    (1, "(a*)*b", b"\x61\x61"), (1, "[a-z]{2,5}(?i:X|yz)?\\d+", b"abc"), (1, "((((a{0,30}){0,30}){0,30}){0,30})", b"aa"),
    (1, "\\p{Lu}[^\\x00-\\x7f]|.{3}", b"\xc3\xa9"), (1, "^a$|^$", b""), (1, "(", b""), (1, "a{3,1}", b""),
    *[(2, json.dumps(schema), bytes(range(0, 256, 7))) for schema in (
        {}, {"type": "object"}, False, {"enum": [1, "a", None, {"b": [2.5]}]}, {"$ref": "#"}, {"type": "string", "pattern": "^a+$"},
        {"type": "array", "items": {"$ref": "#"}, "maxItems": 3}, {"type": "string", "maxLength": 10**9},
        {"type": "array", "minItems": 10**9}, {"anyOf": [{"type": "integer", "multipleOf": 7}, {"minimum": -3, "maximum": 10.5}]},
        {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["b", "c"],
         "patternProperties": {"^x": {"type": "null"}}, "additionalProperties": {"type": "boolean"}, "minProperties": 3},
        {"oneOf": [{"required": ["a"]}, {"required": ["b"]}], "type": "object"}, {"not": {"type": ["string", "array"]}},
        {"if": {"type": "number"}, "then": {"exclusiveMinimum": 0}, "else": {"format": "date-time"}},
        {"type": "array", "contains": {"const": 1}, "maxContains": 2, "items": {"type": "integer"}, "minItems": 2},
        {"dependentRequired": {"a": ["b"]}, "propertyNames": {"maxLength": 2}, "type": "object", "maxProperties": 2},
        {"allOf": [{"pattern": "x$"}, {"not": {"pattern": "^ab"}}, {"minLength": 3, "maxLength": 6}], "type": "string"},
        {"$defs": {"n": {"type": "array", "prefixItems": [{"type": "null"}, {"$ref": "#/$defs/n"}], "items": False}}, "$ref": "#/$defs/n"},
    )],
]  # fmt: skip


def main():
    for target, name, data in corpora():
        folder = FUZZ / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
