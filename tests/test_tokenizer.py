"""Text to tokens and back, compared with the packages that models are made with: `tokenizers` and `sentencepiece`.

Each behaviour is tested on vocabularies that are made here; those of real models come in addition, where their files
are (vocabularies.py). References are built from what the vocabulary's file contains and from the regular expressions
that the models' authors publish. Strings go through build/tests/tokenize, thousands per process.

    STRINGS=100000    as many random strings for each vocabulary, and a tenth of that of each other kind (default 3000)
"""

import dataclasses
import functools
import json
import os
import random
import re
import struct
import sys

import pytest
from conftest import BUILD_DIR, ROOT, SLOWER, assert_refused, execute, run

import models
import strings

sys.path.insert(0, str(ROOT / "scripts"))
import vocabulary  # noqa: E402

gguf = pytest.importorskip("gguf")
pytest.importorskip("sentencepiece")
tokenizers = pytest.importorskip("tokenizers")
from vocabularies import (  # noqa: E402
    BYTE_LEVEL,
    NAMES,
    SENTENCEPIECE,
    gguf_path,
    letters,
    llama2c_path,
    processor,
    read_gguf,
    rule_of,
    sentencepiece_path,
    train_sentencepiece,
    words,
    write_gguf,
)

COUNT = int(os.environ.get("STRINGS", "3000"))
BROKEN = 0x10FFFF  # what stands for a byte that is not UTF-8 in the references; no string contains it
LETTERS = {byte: letter for letter, byte in vocabulary.BYTE_LETTERS.items()}

@functools.lru_cache(None)
def reader(path):
    return gguf.GGUFReader(path)


@functools.lru_cache(None)
def read(name):
    return read_gguf(gguf_path(name))


@functools.lru_cache(None)
def reference(name, rule=None):
    """A tokenizers.Tokenizer of a byte-level vocabulary, without special tokens; `rule`: that of another model."""
    file = reader(gguf_path(name))
    pieces = file.get_field("tokenizer.ggml.tokens").contents()
    types = file.get_field("tokenizer.ggml.token_type").contents()
    merges = [tuple(m.split(" ")) for m in file.get_field("tokenizer.ggml.merges").contents()]
    vocab = {piece: i for i, (piece, kind) in enumerate(zip(pieces, types)) if kind == 1}
    bpe = tokenizers.models.BPE(vocab=vocab, merges=merges, ignore_merges=rule_of(name) in ("llama3", "tekken"))
    tokenizer = tokenizers.Tokenizer(bpe)
    tokenizer.pre_tokenizer = words(rule or rule_of(name))
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return tokenizer


def reference_ids(name, texts):
    if name in SENTENCEPIECE:
        return processor(name).encode(texts)
    return [encoding.ids for encoding in reference(name).encode_batch(texts, add_special_tokens=False)]


class Tokenize:
    """build/tests/tokenize with a vocabulary: encode(texts) gives (ids, decoded bytes) or a message for each."""

    def __init__(self, path, vocab_size):
        self.command = [BUILD_DIR / "tests" / "tokenize", path, vocab_size]

    def encode(self, texts, special=False, timeout=120 * SLOWER):
        """special: how many bytes at the start of each text may be names of special tokens; True: all."""
        count = 2**32 - 1 if special is True else special
        data = b"".join(struct.pack("<II", count, len(t)) + t for t in map(as_bytes, texts))
        done = execute(self.command, stdin=data, timeout=timeout).ok()
        self.cpu_seconds = done.cpu_seconds
        answers, at = [], 0
        while at < len(done.bytes):
            (count,) = struct.unpack_from("<I", done.bytes, at)
            failed = count == 0xFFFFFFFF
            ids = [] if failed else list(struct.unpack_from(f"<{count}I", done.bytes, at + 4))
            at += 4 + 4 * len(ids)
            (length,) = struct.unpack_from("<I", done.bytes, at)
            text = done.bytes[at + 4 : at + 4 + length]
            answers.append(text.decode() if failed else (ids, text))
            at += 4 + length
        assert len(answers) == len(texts), f"{len(answers)} answers to {len(texts)} strings"
        return answers


def as_bytes(text):
    return text.encode() if isinstance(text, str) else bytes(text)


@pytest.fixture(scope="session")
def tokenize(tmp_path_factory):
    """tokenize(vocabulary): a Tokenize over its section."""
    folder = tmp_path_factory.mktemp("vocabularies")
    made = {}

    def make(v):
        section = v.section()
        if section not in made:
            path = folder / f"{len(made)}.section"
            path.write_bytes(section)
            made[section] = Tokenize(path, len(v.pieces))
        return made[section]

    return make


def missing_byte(have, text):
    """The offset of the first byte of the text that has no token, or None."""
    return next((i for i, byte in enumerate(text) if byte not in have), None)


def compare(v, texts, expected, answers):
    """Checks that the ids are the expected ones and decode to the text, and that a text with a byte without a token is
    refused with its offset. Gives how many texts were encoded, so that a caller knows that it has tested something."""
    have, encoded, wrong = set(range(256)), 0, []
    if v.kind == vocabulary.BYTE_LEVEL:
        have = {p[0] for p, a in zip(v.pieces, v.attributes) if len(p) == 1 and a == vocabulary.NORMAL}
    for text, ids, answer in zip(map(as_bytes, texts), expected, answers):
        missing = missing_byte(have, text)
        if missing is not None:
            right = f"the prompt's byte {missing} is 0x{text[missing]:02x}, which the model has no token for"
        else:
            right = (list(ids), text.replace(b"\xe2\x96\x81", b" ") if v.kind == vocabulary.SENTENCEPIECE else text)
            encoded += 1
        if answer != right:
            wrong.append(f"{text!r}\n  found  {answer}\n  expected {right}")
    assert not wrong, f"{len(wrong)} of {len(texts)} strings differ; the first:\n" + "\n".join(wrong[:3])
    return encoded


# ----------------------------------------------------------------------------------------------------------------------
# Ids


@pytest.mark.parametrize("name", NAMES)
def test_random_strings_are_tokenized_as_by_the_reference(name, tokenize):
    v, texts = read(name), strings.random_strings(1, COUNT)
    encoded = compare(v, texts, reference_ids(name, texts), tokenize(v).encode(texts))
    assert encoded > COUNT * 0.6


@pytest.mark.parametrize("name", NAMES)
def test_natural_strings_are_tokenized_as_by_the_reference(name, tokenize):
    v, texts = read(name), strings.SENTENCES + strings.natural_strings(2, COUNT // 10)
    assert compare(v, texts, reference_ids(name, texts), tokenize(v).encode(texts)) == len(texts)


def byte_level_ids(name, data):
    """Ids of bytes that need not be UTF-8: split into words as if a broken byte were an unassigned character, then the
    bytes of each word merged by the reference's model."""
    text = data.decode("utf-8", "surrogateescape")
    shown = "".join(chr(BROKEN) if "\ud800" <= c <= "\udfff" else c for c in text)
    ids = []
    for _, (begin, end) in reference(name).pre_tokenizer.pre_tokenize_str(shown):
        word = text[begin:end].encode("utf-8", "surrogateescape")
        ids += [token.id for token in reference(name).model.tokenize("".join(LETTERS[b] for b in word))]
    return ids


def sentencepiece_ids(name, data):
    """The same for SentencePiece: the character that stands for a broken byte is in no piece, so four byte tokens."""
    text = data.decode("utf-8", "surrogateescape")
    broken = iter([ord(c) - 0xDC00 for c in text if "\ud800" <= c <= "\udfff"])
    ids = processor(name).encode("".join(chr(BROKEN) if "\ud800" <= c <= "\udfff" else c for c in text))
    mark = [3 + b for b in chr(BROKEN).encode()]  # byte 0 is token 3
    result = []
    while ids:
        if ids[:4] == mark:
            result.append(3 + next(broken))
            ids = ids[4:]
        else:
            result.append(ids.pop(0))
    return result


@pytest.mark.parametrize("name", NAMES)
def test_broken_utf8_is_kept_byte_for_byte(name, tokenize):
    v, texts = read(name), strings.broken_strings(3, COUNT // 10)
    expected = [sentencepiece_ids(name, t) if name in SENTENCEPIECE else byte_level_ids(name, t) for t in texts]
    encoded = compare(v, texts, expected, tokenize(v).encode(texts))
    assert encoded > len(texts) * 0.1


RULES = [("gpt2", vocabulary.GPT2), ("llama3", vocabulary.LLAMA3), ("smollm2", vocabulary.SMOLLM),
         ("qwen2", vocabulary.QWEN2), ("cl100k", vocabulary.LLAMA3), ("qwen35", vocabulary.QWEN35),
         ("gpt4o", vocabulary.GPT4O), ("tekken", vocabulary.TEKKEN), ("deepseek", vocabulary.DEEPSEEK),
         ("deepseek-llm", vocabulary.DEEPSEEK_LLM), ("deepseek-coder", vocabulary.DEEPSEEK_CODER)]  # fmt: skip


@pytest.mark.parametrize("name", ["pairs", "gpt2"])
@pytest.mark.parametrize("rule, code", RULES)
def test_every_character_is_of_the_class_that_the_reference_has_it_in(name, rule, code, tokenize):
    """Each assigned character next to letters, digits, spaces and punctuation, by all rules with one vocabulary."""
    v = dataclasses.replace(read(name), pre_tokenizer=code)
    step = 1 if name == "pairs" and rule in ("gpt4o", "deepseek", "deepseek-llm", "deepseek-coder") else 11  # these tell all classes apart
    points = [chr(c) for c in [*range(0, 0x32400, step), *range(0xE0000, 0xE0200)] if c not in strings.LEFT_OUT]
    texts = ["".join(f"a{c}1 {c}!{c} " for c in points[i : i + 100]) for i in range(0, len(points), 100)]
    texts += strings.random_strings(4, COUNT // 10) + strings.SENTENCES
    expected = [e.ids for e in reference(name, rule).encode_batch(texts, add_special_tokens=False)]
    assert compare(v, texts, expected, tokenize(v).encode(texts)) == len(texts)


@pytest.mark.parametrize("rule, code", RULES)
def test_words_end_where_those_of_the_reference_do(rule, code, tokenize):
    v, texts = dataclasses.replace(read("few"), pre_tokenizer=code), strings.few_characters(18, COUNT)
    expected = [e.ids for e in reference("few", rule).encode_batch(texts, add_special_tokens=False)]
    assert compare(v, texts, expected, tokenize(v).encode(texts)) == len(texts)


# ----------------------------------------------------------------------------------------------------------------------
# Special tokens


def with_names(names, texts):
    """Strings that contain names of special tokens, complete and cut."""
    result = []
    for i, text in enumerate(texts):
        name, other = names[i % len(names)], names[(7 * i + 1) % len(names)]
        result.append(text[: i % 5] + name + text[i % 5 :] + other + name[: i % len(name)] + (name if i % 3 else ""))
    return result


def special_names(v):
    return [v.name(i) for i, a in enumerate(v.attributes) if a == vocabulary.SPECIAL]


@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_special_tokens_are_found_only_where_they_may_be(name, tokenize):
    v = read(name)
    texts = with_names(special_names(v)[:40], strings.natural_strings(5, 500))
    compare(v, texts, reference_ids(name, texts), tokenize(v).encode(texts))
    full = tokenizers.Tokenizer.from_str(reference(name).to_str())
    full.add_special_tokens([tokenizers.AddedToken(n, normalized=False, special=True) for n in special_names(v)])
    assert all(full.token_to_id(n) < len(v.pieces) for n in special_names(v))
    ids_of = {full.token_to_id(n): v.pieces.index(n.encode()) for n in special_names(v)}
    expected = [[ids_of.get(i, i) for i in e.ids] for e in full.encode_batch(texts, add_special_tokens=False)]
    found = [answer[0] for answer in tokenize(v).encode(texts, special=True)]
    wrong = [(t, f, w) for t, f, w in zip(texts, found, expected) if f != w]
    assert not wrong, f"{len(wrong)} of {len(texts)} differ; the first: {wrong[0]}"


def list_merges(model, vocab, by_lengths):
    """The pairs of pieces that make a piece, those of a higher score first, as transformers lists them: the pairs of one
    piece together, or, from 4.44 to 4.57, pairs of equal score by the lengths of their parts."""
    merges = []
    for piece, i in vocab.items():
        pairs = [(piece[:k], piece[k:]) for k in range(1, len(piece)) if piece[:k] in vocab and piece[k:] in vocab]
        merges += sorted(((vocab[a], vocab[b]), (a, b), model.get_score(i)) for a, b in pairs)
    if by_lengths:
        merges.sort(key=lambda m: (m[2], len(m[1][0]), len(m[1][1])), reverse=True)
    else:
        merges.sort(key=lambda m: -m[2])
    return [pair for _, pair, _ in merges]


SPACE = "\u2581"
PREFIXES = ("legacy", "replace", "gemma", "always", "first", "never")


def hugging_face_llama2(name, prefix, by_lengths=False):
    """A SentencePiece vocabulary as Hugging Face has Llama 2's: BPE over a list of merges. prefix: "legacy" (a normalizer
    that puts a space before each stretch), "replace" (one that does not), "gemma" (the same, and a pre-tokenizer that finds
    nothing to split), or Metaspace's prepend_scheme."""
    model = processor(name)
    vocab = {model.id_to_piece(i): i for i in range(model.vocab_size())}
    merges = list_merges(model, vocab, by_lengths)
    bpe = tokenizers.models.BPE(vocab=vocab, merges=merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    tokenizer = tokenizers.Tokenizer(bpe)
    n = tokenizers.normalizers
    if prefix == "legacy":
        tokenizer.normalizer = n.Sequence([n.Prepend(SPACE), n.Replace(" ", SPACE)])
    elif prefix == "replace":
        tokenizer.normalizer = n.Sequence([n.Replace(" ", SPACE)])
    elif prefix == "gemma":
        tokenizer.normalizer = n.Replace(" ", SPACE)
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(SPACE, prepend_scheme=prefix, split=False)
    tokenizer.add_special_tokens([tokenizers.AddedToken(t, special=True) for t in ("<unk>", "<s>", "</s>")])
    return tokenizer


def assert_same_ids(v, original, texts, tokenize):
    """All names count, as they do in the tokenizers package."""
    expected = [e.ids for e in original.encode_batch(texts, add_special_tokens=False)]
    found = [answer[0] for answer in tokenize(v).encode(texts, special=True)]
    wrong = [(t, f, w) for t, f, w in zip(texts, found, expected) if f != w]
    assert not wrong, f"{len(wrong)} of {len(texts)} differ; the first, found and expected: {wrong[0]}"


ADDED = {"<|im_start|>": (False, False), "<|im_end|>": (True, False), "[tool]": (False, True), "[/tool]": (True, True)}


@pytest.mark.parametrize("name", SENTENCEPIECE)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_tokenizer_json_of_sentencepiece_kind_is_read_as_it_tokenizes(name, prefix, tokenize, tmp_path):
    """Added tokens: special or not, normalized or not, and two that are pieces of the vocabulary anyway."""
    original = hugging_face_llama2(name, prefix)
    make = tokenizers.AddedToken
    original.add_tokens([make(t, special=s, normalized=n) for t, (s, n) in ADDED.items()])
    pieces = [make("er", special=True, normalized=False), make("!", special=False, normalized=False)]
    assert all(original.token_to_id(piece.content) for piece in pieces), "the vocabulary lacks a piece"
    original.add_tokens(pieces)
    original.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<s>", "eos_token": {"content": "</s>"}}')
    v = vocabulary.read_vocabulary(tmp_path)
    assert (v.name(v.bos), v.name(v.eos), v.end) == ("<s>", "</s>", [2])
    texts = strings.SENTENCES + strings.natural_strings(6, 250) + strings.random_strings(7, 200)
    texts += with_names(["<s>", "</s>", *ADDED], texts) + with_names([f" {t}" for t in ADDED], texts)
    texts += [space + t for space in (" ", "  ", SPACE, "\n") for t in texts[:40]] + ["", " ", SPACE, *ADDED]
    assert_same_ids(v, original, texts, tokenize)


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_merges_may_come_in_any_order(name, tokenize, tmp_path):
    original = hugging_face_llama2(name, "legacy", by_lengths=True)
    original.save(str(tmp_path / "tokenizer.json"))
    texts = strings.SENTENCES + strings.natural_strings(14, 200) + ["a" + " " * n + "b" for n in range(60)]
    assert_same_ids(vocabulary.read_vocabulary(tmp_path), original, texts, tokenize)


def tiny_json(pieces, merges, added=(), normalizer=None):
    """A tokenizer.json: three control pieces, the bytes, `pieces` from id 259 on."""
    vocab = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *pieces]
    bpe = tokenizers.models.BPE({p: i for i, p in enumerate(vocab)}, merges, byte_fallback=True, unk_token="<unk>")
    tokenizer = tokenizers.Tokenizer(bpe)
    n = tokenizers.normalizers
    tokenizer.normalizer = normalizer or n.Sequence([n.Prepend(SPACE), n.Replace(" ", SPACE)])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.add_tokens(list(added))
    return tokenizer


def test_only_listed_pairs_merge(tokenize, tmp_path):
    original = tiny_json([SPACE, "a", "b", "ab", "aba", "ba", f"{SPACE}a"], [("a", "b"), ("ab", "a")])
    original.save(str(tmp_path / "tokenizer.json"))
    texts = ["ab", "aba", "baba", "abab", "a a"]
    assert_same_ids(vocabulary.read_vocabulary(tmp_path), original, texts, tokenize)


def test_runs_of_spaces_that_are_added_tokens_and_pieces_too_are_found_by_merging(tokenize, tmp_path):
    """As in Gemma's vocabulary, whose added tokens are written with SentencePiece's space."""
    replace = tokenizers.normalizers.Replace(" ", SPACE)
    added = [tokenizers.AddedToken(t, special=False, normalized=False) for t in (2 * SPACE, 4 * SPACE, "\n\n")]
    pieces = [SPACE, "a", "\n", 2 * SPACE, 4 * SPACE, "\n\n"]
    merges = [(SPACE, SPACE), (2 * SPACE, 2 * SPACE), ("\n", "\n")]
    original = tiny_json(pieces, merges, added, tokenizers.normalizers.Sequence([replace]))
    original.save(str(tmp_path / "tokenizer.json"))
    texts = ["a" + " " * n + "a" + "\n" * n + "a" for n in range(10)]
    assert_same_ids(vocabulary.read_vocabulary(tmp_path), original, texts, tokenize)


@pytest.mark.parametrize("prefix, text, shown", [
    ({}, b"ab<z>ab", None), ({}, b"ab<z> ab", None), ({}, b" ab", None), ({}, b"<s> ab", b" ab"),
    ({"prefix_first": True}, b"ab<z>ab", None), ({"prefix_first": True}, b"ab<z> ab", None),
    ({"prefix_new": True}, b"ab<z>ab", None), ({"prefix_new": True}, b"<z> ab", b"<z>ab"),
])  # fmt: skip
def test_the_space_that_encoding_puts_is_not_shown(prefix, text, shown, tokenize):
    """After a cut as at the start; where it is put only if there is none, the text's own space cannot be told from it."""
    v = dataclasses.replace(SMALL["by_merges"], **prefix)
    assert tokenize(v).encode([text], special=True)[0][1] == (text if shown is None else shown)


def test_added_tokens_are_shown_unless_they_are_special_or_named_so(tmp_path):
    added = [tokenizers.AddedToken(t, special=s, normalized=False) for t, s in (("<a>", False), ("<b>", True), ("<c>", False))]
    tiny_json([SPACE], [], added).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<c>", "additional_special_tokens": ["</s>"]}')
    v = vocabulary.read_vocabulary(tmp_path)
    assert v.attributes[-3:] == [vocabulary.ADDED, vocabulary.SPECIAL, vocabulary.SPECIAL]
    assert (v.eos, v.end) == (v.pieces.index(b"<c>"), [v.pieces.index(b"<c>")])


def copy_of_made(kind):
    """A tokenizer of ours of that kind, to which tokens can be added."""
    original = hugging_face_llama2("made-llama2", "legacy") if kind == "sentencepiece" else reference("made-gpt4o")
    return tokenizers.Tokenizer.from_str(original.to_str())


@pytest.mark.parametrize("kind", ["sentencepiece", "byte_level"])
def test_added_tokens_take_the_white_space_around_them(kind, tokenize, tmp_path):
    """As those of Phi-3 do, which have rstrip."""
    original = copy_of_made(kind)
    make, options = tokenizers.AddedToken, {"normalized": False}
    names = ["<|both|>", "<|left|>", "<|right|>", "<|none|>"]
    original.add_tokens([make(names[0], special=True, lstrip=True, rstrip=True, **options),
                         make(names[1], special=True, lstrip=True, **options),
                         make(names[2], special=False, rstrip=True, **options), make(names[3], special=True, **options)])  # fmt: skip
    original.save(str(tmp_path / "tokenizer.json"))
    v = vocabulary.read_vocabulary(tmp_path)
    gaps = ["", " ", "  \n", "\u3000", " \u00a0x", "\t\r\n", "y \u2003 ", "\u200b", "\u0301 ", "é"]
    rng = random.Random(15)
    texts = ["".join(rng.choice(names) + rng.choice(gaps) + rng.choice(gaps) for _ in range(6)) for _ in range(400)]
    texts += [gap + text for gap in gaps for text in texts[:20]] + with_names(names, strings.natural_strings(16, 200))
    assert_same_ids(v, original, texts, tokenize)


@pytest.mark.parametrize("kind", ["sentencepiece", "byte_level"])
def test_added_tokens_may_have_to_stand_alone(kind, tokenize, tmp_path):
    """single_word: no \\w of Rust's regular expressions may touch them."""
    original = copy_of_made(kind)
    make, options = tokenizers.AddedToken, {"normalized": False}
    names = ["<|one|>", "word", "<|strips|>", "<|free|>", "_x"]
    original.add_tokens([make(names[0], special=True, single_word=True, **options),
                         make(names[1], special=False, single_word=True, **options),
                         make(names[2], special=True, single_word=True, lstrip=True, rstrip=True, **options),
                         make(names[3], special=True, **options), make(names[4], special=False, single_word=True, **options)])  # fmt: skip
    original.save(str(tmp_path / "tokenizer.json"))
    v = vocabulary.read_vocabulary(tmp_path)
    # Of each category, and the edges of what Unicode counts as alphabetic beside letters.
    beside = ["", " ", "a", "_", "-", "é", "\u0301", "7", "²", "Ⅻ", "北", "ⓐ", "\u24b5", "\U0001f130", "\U0001f189", "\U0001f18a", "\u200d",
              "\u200b", "٣", "½", "ª", "ʰ", "‿", "。", "😀", "\U000e0100", "\u0e33", "s", "<", "1", "wor", "_"]  # fmt: skip
    rng = random.Random(16)
    texts = [before + name + after for name in names for before in beside for after in beside]
    texts += ["".join(rng.choice(names) + rng.choice(beside) + rng.choice(beside) for _ in range(6)) for _ in range(200)]
    assert_same_ids(v, original, texts, tokenize)


def test_a_normalized_token_that_is_also_a_piece_is_refused(tmp_path):
    added = [tokenizers.AddedToken("a", special=False, normalized=True)]
    tiny_json([SPACE, "a"], [], added).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(vocabulary.VocabularyError, match="added token 'a' is normalized"):
        vocabulary.read_vocabulary(tmp_path)


@pytest.mark.parametrize("text, special, ids", [
    (b"ab ab", True, [5, 5]), (b"ab<z>ab", True, [5, 8, 5]), (b"<x>ab", True, [6, 4]), (b"ab <x>b", True, [5, 6, 3]),
    (b"<y>ab <y>", True, [7, 4, 7]), (b"<s><y><z>", True, [0, 7, 8]), (b"ab <y> <x>", 6, [5, 7, 6]),
])  # fmt: skip
def test_names_are_found_where_they_may_be(text, special, ids, tokenize):
    assert tokenize(SMALL["by_merges"]).encode([text], special)[0][0] == ids


@pytest.mark.parametrize("text, special", [(b"ab<x>", True), (b"ab <y>", 0), (b"ab <y>", 5), (b"ab<y>", True), (b"ab <s>", 5)])
def test_names_are_not_found_elsewhere(text, special, tokenize):
    """Without the space that they need, or outside of the bytes in which special tokens may be."""
    offset = text.index(b"<")
    assert tokenize(SMALL["by_merges"]).encode([text], special)[0].startswith(f"the prompt's byte {offset} is 0x3c")


# ----------------------------------------------------------------------------------------------------------------------
# SentencePiece's other features


@pytest.mark.parametrize(
    "options",
    [
        {"byte_fallback": True, "user_defined_symbols": ["<sep>", "<sep>>", "==", "of\u2581the"]},
        {"byte_fallback": True, "add_dummy_prefix": False},
        {"byte_fallback": True, "split_by_whitespace": False, "split_digits": True},
        {"byte_fallback": True, "unk_id": 3, "bos_id": -1, "eos_id": 0},
        {"byte_fallback": False},
    ],
    ids=["user_defined", "no_prefix", "pieces_with_spaces", "other_ids", "unknown"],
)
def test_sentencepiece_features(options, tokenize, tmp_path):
    model = train_sentencepiece(tmp_path, **options)
    v = vocabulary.read_vocabulary(tmp_path / "m.model")
    assert (v.bos, v.eos, v.unknown) == (model.bos_id(), model.eos_id(), model.unk_id())
    texts = strings.SENTENCES + strings.natural_strings(8, 300) + strings.random_strings(9, 500)
    if "user_defined_symbols" in options:
        texts += with_names([s.replace("\u2581", " ") for s in options["user_defined_symbols"]], texts)
    expected = model.encode(texts)
    if options["byte_fallback"]:
        assert compare(v, texts, expected, tokenize(v).encode(texts)) == len(texts)
    else:
        found = [answer[0] for answer in tokenize(v).encode(texts)]
        wrong = [(t, f, w) for t, f, w in zip(texts, found, expected) if f != w]
        assert not wrong, f"{len(wrong)} of {len(texts)} differ; the first: {wrong[0]}"
        assert any(model.unk_id() in ids for ids in expected), "no string has an unknown character"


def test_what_a_sentencepiece_model_normalizes_is_refused(tmp_path):
    train_sentencepiece(tmp_path, normalization_rule_name="nmt_nfkc")
    with pytest.raises(vocabulary.VocabularyError, match="m.model: normalizer_spec"):
        vocabulary.read_vocabulary(tmp_path / "m.model")
    train_sentencepiece(tmp_path, model_type="unigram", vocab_size=700)
    with pytest.raises(vocabulary.VocabularyError, match="m.model: model_type"):
        vocabulary.read_vocabulary(tmp_path / "m.model")


# ----------------------------------------------------------------------------------------------------------------------
# Sources


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_llama2_is_the_same_from_gguf_and_sentencepiece(name):
    sections = {}
    for path in (gguf_path(name), sentencepiece_path(name)):
        v = read_gguf(path) if path == gguf_path(name) else vocabulary.read_vocabulary(path)
        sections[path.name] = v.section()
    assert len(set(sections.values())) == 1, f"{', '.join(sections)} give different sections"


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_tokenizer_bin_gives_the_tokens_of_the_model_that_it_was_made_of(name, tokenize):
    path = llama2c_path(name)
    texts = strings.natural_strings(10, 200) + strings.broken_strings(11, 200)
    v = vocabulary.read_vocabulary(sentencepiece_path(name))
    assert Tokenize(path, len(v.pieces)).encode(texts) == tokenize(v).encode(texts)


@pytest.mark.parametrize("name", SENTENCEPIECE)
@pytest.mark.parametrize("legacy", [None, True, False])
def test_a_folder_with_tokenizer_model_and_added_tokens(name, legacy, tokenize, tmp_path):
    """Each stretch between added tokens is encoded by sentencepiece. legacy: false is what Metaspace's "first" is for."""
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_path(name).read_bytes())
    model = processor(name)
    n, names = model.vocab_size(), ["<|im_start|>", "<|im_end|>"]
    (tmp_path / "added_tokens.json").write_text(json.dumps({t: n + i for i, t in enumerate(names)}))
    config = {"bos_token": "<s>", "eos_token": "<|im_end|>", **({} if legacy is None else {"legacy": legacy})}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    v = vocabulary.read_vocabulary(tmp_path)
    assert (v.eos, v.attributes[n:]) == (n + 1, [vocabulary.ADDED, vocabulary.SPECIAL])
    texts = with_names(names, strings.natural_strings(15, 100)) + [*names, " user", "<|im_start|>user", "a<|im_end|> b"]
    if legacy is False:
        original = hugging_face_llama2(name, "first")
        original.add_tokens([tokenizers.AddedToken(t, normalized=True) for t in names])
        return assert_same_ids(v, original, texts, tokenize)
    for text, (found, _) in zip(texts, tokenize(v).encode(texts, special=True)):
        parts = re.split("(" + "|".join(map(re.escape, names)) + ")", text)
        assert found == [i for part in parts for i in ([n + names.index(part)] if part in names else model.encode(part))]


@pytest.mark.parametrize("end", [1, 2, [2, 260]])
def test_an_ordinary_piece_that_ends_the_text_stays_one(end, tokenize, tmp_path):
    """As with LlamaConfig's defaults, 1 and 2, beside a vocabulary that has other tokens there."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = words("gpt2")
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=260, show_progress=False, initial_alphabet=alphabet)
    bpe.train_from_iterator(["## a ## b"] * 9, trainer)
    bpe.add_special_tokens(["<|endoftext|>"])
    bpe.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": end}))
    v = vocabulary.read_vocabulary(tmp_path)
    assert (v.bos, v.add_bos, v.end) == (1, False, end if isinstance(end, list) else [end])
    assert [v.attributes[i] for i in (1, 2)] == [vocabulary.NORMAL] * 2
    assert_same_ids(v, bpe, ["a # b", '"', "## a", '#"#<|endoftext|>"'], tokenize)


def test_a_full_stop_that_ends_the_text_is_a_full_stop_in_the_prompt(tokenize, tmp_path):
    original = tiny_json([SPACE, ".", "a"], [])
    original.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 260]}')
    v = vocabulary.read_vocabulary(tmp_path)
    assert v.end == [2, 260]
    assert_same_ids(v, original, ["a.a", "..", ". a"], tokenize)


def test_a_special_token_of_a_gguf_that_has_the_wrong_type_becomes_special(tmp_path):
    """As in llama.cpp, if no text would become it otherwise."""
    pieces = [*letters(), "<|im_end|>"]
    fields = {"tokenizer_model": "gpt2", "tokenizer_pre": "gpt-2", "token_list": pieces, "token_types": [1] * 257,
              "bos_token_id": 1, "eos_token_id": 256}  # fmt: skip
    write_gguf(tmp_path / "v.gguf", fields)
    v = read_gguf(tmp_path / "v.gguf")
    assert (v.attributes[1], v.attributes[256]) == (vocabulary.NORMAL, vocabulary.SPECIAL)


def test_the_token_that_tokenizer_json_puts_before_a_text_is_bos(tmp_path):
    save_hugging_face(tmp_path, "made-llama3", None, bos=read("made-llama3").bos)
    (tmp_path / "config.json").write_text('{"bos_token_id": 1, "eos_token_id": 2}')
    v = vocabulary.read_vocabulary(tmp_path)
    assert (v.bos, v.add_bos, v.end) == (read("made-llama3").bos, True, [2])


def save_hugging_face(folder, name, rule, bos=None):
    """A byte-level tokenizer.json as the `tokenizers` package writes it, special tokens included."""
    v = read(name)
    file = json.loads(reference(name, rule).to_str())
    file["added_tokens"] = [
        {"id": i, "content": v.name(i), "special": True, "lstrip": False, "rstrip": False, "normalized": False,
         "single_word": False}
        for i, a in enumerate(v.attributes) if a == vocabulary.SPECIAL
    ]  # fmt: skip
    if bos is not None:
        name = v.name(bos)
        template = [{"SpecialToken": {"id": name, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
        special = {name: {"id": name, "ids": [bos], "tokens": [name]}}
        post = {"type": "TemplateProcessing", "single": template, "pair": template, "special_tokens": special}
        file["post_processor"] = {"type": "Sequence", "processors": [post]}
    (folder / "tokenizer.json").write_text(json.dumps(file), encoding="utf-8")
    return file


@pytest.mark.parametrize("name", ["made-llama3", "llama3"])
def test_byte_level_tokenizer_json_is_the_same_as_its_gguf(name, tmp_path):
    expected = read(name)
    save_hugging_face(tmp_path, name, None, bos=expected.bos)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": expected.end}))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|end_of_text|>", "chat_template": "{{ x }}"}')
    v = vocabulary.read_vocabulary(tmp_path)
    assert v.section() == expected.section()
    assert (v.name(v.bos), v.name(v.eos), v.chat_template) == ("<|begin_of_text|>", "<|end_of_text|>", "{{ x }}")


@pytest.mark.parametrize("rule, code", RULES)
def test_a_pre_tokenizer_is_recognised(rule, code, tmp_path):
    save_hugging_face(tmp_path, "made-gpt2", rule)
    v = vocabulary.read_vocabulary(tmp_path)
    assert (v.kind, v.pre_tokenizer, v.add_bos) == (vocabulary.BYTE_LEVEL, code, False)


@pytest.mark.parametrize(
    "field, change, named",
    [
        ("pre_tokenizer", {"type": "Whitespace"}, "pre_tokenizer"),
        ("pre_tokenizer", None, "pre_tokenizer"),
        ("pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}, "pre_tokenizer"),
        ("normalizer", {"type": "Lowercase"}, "normalizer"),
        ("model", {"type": "Unigram", "vocab": [["a", 0.0]]}, "model.type"),
        ("model", {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}, "model.merges: merge 0"),
        ("model", {"type": "BPE", "vocab": {"a": 0, "b\n": 1}, "merges": []}, "stands for no byte"),
    ],
)
def test_what_a_tokenizer_json_says_that_cannot_be_carried_is_refused_by_name(field, change, named, tmp_path):
    file = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []},
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}, "added_tokens": []}  # fmt: skip
    file[field] = change
    (tmp_path / "tokenizer.json").write_text(json.dumps(file))
    with pytest.raises(vocabulary.VocabularyError) as refused:
        vocabulary.read_vocabulary(tmp_path)
    assert "tokenizer.json" in str(refused.value) and named in str(refused.value)


# ----------------------------------------------------------------------------------------------------------------------
# The program


@pytest.fixture
def checkpoint(tmp_path):
    def make(v):
        path = tmp_path / "vocabulary.bin"
        path.write_bytes(models.vocabulary_checkpoint(v.section(), len(v.pieces)))
        return path

    return make


@pytest.mark.parametrize("name", NAMES)
def test_a_vocabulary_only_checkpoint_tokenizes(name, checkpoint):
    v, text = read(name), "It's 2024,\n naïve 北京 👍🏽  words"
    done = run(checkpoint(v), "--tokenize", "-i", text).ok()
    bos = [v.bos] if v.add_bos else []
    assert [int(t) for t in done.out.split()] == bos + list(reference_ids(name, [text])[0])
    found = run(checkpoint(v), "--info", "--json").ok().json["tokenizer"]
    assert found == ("sentencepiece" if name in SENTENCEPIECE else "byte-level bpe")


@pytest.mark.parametrize("name", ["made-llama3", "llama3"])
def test_names_of_special_tokens_count_only_with_the_option(name, checkpoint):
    v = read(name)
    path, text = checkpoint(v), "a<|eot_id|>b"
    plain = [json.loads(line) for line in run(path, "--tokenize", "--json", "-i", text).ok().out.splitlines()]
    special = [json.loads(l) for l in run(path, "--tokenize", "--json", "--special", "-i", text).ok().out.splitlines()]
    assert [t["special"] for t in plain] == [True] + [False] * (len(plain) - 1)
    assert [t["id"] for t in special] == [v.pieces.index(p) for p in (b"<|begin_of_text|>", b"a", b"<|eot_id|>", b"b")]
    assert [t["special"] for t in special] == [True, False, True, False]


@pytest.mark.parametrize("name", ["made-smollm2", "smollm2"])
def test_a_byte_without_a_token_is_refused_with_its_offset(name, checkpoint):
    assert_refused(run(checkpoint(read(name)), "--tokenize", "-f", "-", stdin=b"some text \xff"), 3, "byte 10", "0xff")


@pytest.mark.parametrize("name", NAMES)
def test_a_megabyte_takes_seconds_not_minutes(name, tokenize):
    v = read(name)
    text = " ".join(strings.natural_strings(12, 9000)).encode()[: 1 << 20].decode("utf-8", "ignore")
    tokenizer = tokenize(v)
    ids, decoded = tokenizer.encode([text])[0]
    assert decoded == text.encode() and len(ids) > 100_000
    took = tokenizer.cpu_seconds
    assert took < 10 * SLOWER, f"{len(text.encode())} bytes took {took:.2f} s of processor time, expected less than 10"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("word", [b"a", b" ", b" \n", b"'"], ids=repr)
def test_one_long_word_takes_seconds_not_minutes(name, word, tokenize):
    """Two million bytes are one word to at least one of the rules: a quadratic step would take an hour."""
    text = word * (2_000_000 // len(word) // SLOWER)
    tokenizer = tokenize(read(name))
    assert tokenizer.encode([text])[0][1] == text
    took = tokenizer.cpu_seconds
    assert took < 40, f"{len(text)} bytes took {took:.1f} s of processor time, expected less than 40"


# ----------------------------------------------------------------------------------------------------------------------
# Hostile sections

SMALL = {
    "sentencepiece": vocabulary.Vocabulary(
        vocabulary.SENTENCEPIECE, [b"<unk>", b"<s>", b"</s>", b"\x00", b" ", b"a", b"b", b"ab"],
        [vocabulary.UNKNOWN, vocabulary.SPECIAL, vocabulary.SPECIAL, vocabulary.BYTE, 0, 0, 0, 0],
        scores=[0.0, 0.0, 0.0, 0.0, -1.0, -2.0, -3.0, -4.0], bos=1, eos=2, unknown=0, end=[2], add_bos=True,
        add_prefix=True),
    # The names that are found in a stretch begin with the space that they need.
    "by_merges": vocabulary.Vocabulary(
        vocabulary.SENTENCEPIECE, [b"<s>", b" ", b"a", b"b", b"ab", b" ab", b" <x>", b" <y>", b"<z>"],
        [vocabulary.SPECIAL, 0, 0, 0, 0, 0, vocabulary.USER_DEFINED, vocabulary.SPECIAL_IN_STRETCH, vocabulary.ADDED],
        merges=[(2, 3, 4), (1, 4, 5)], bos=0, eos=2, end=[2], add_bos=True, add_prefix=True),
    "byte_level": vocabulary.Vocabulary(
        vocabulary.BYTE_LEVEL, [b"<e>", b"a", b"b", b"ab", b"abab", b"", b"<x>"],
        [vocabulary.SPECIAL, 0, 0, 0, 0, vocabulary.ABSENT, vocabulary.ADDED],
        merges=[(1, 2, 3), (3, 3, 4)], pre_tokenizer=vocabulary.GPT2, bos=0, eos=0, end=[0]),
}  # fmt: skip
MERGING = ("by_merges", "byte_level")
HEADER = {"kind": (0, "I"), "pre_tokenizer": (4, "I"), "flags": (8, "I"), "vocab_size": (12, "I"),
          "n_merges": (16, "I"), "bos": (20, "i"), "unknown": (24, "i"), "n_end": (28, "I"), "n_bytes": (32, "Q"),
          "byte 40": (40, "I"), "byte 60": (60, "I")}  # fmt: skip


def place(v, field, index):
    """(offset, format) of a field of the section, by docs/format.md."""
    if field in HEADER:
        return HEADER[field]
    n = len(v.pieces)
    end = 64
    offsets = end + 4 * len(v.end)
    scores = offsets + 4 * (n + 1)
    merges = scores + 4 * len(v.scores)
    attributes = merges + 12 * len(v.merges)
    places = {"end": (end, 4, "i"), "piece_offset": (offsets, 4, "I"), "score": (scores, 4, "f"),
              "merge": (merges, 4, "I"), "attribute": (attributes, 1, "B"),
              "bytes": (attributes + n, 1, "B")}  # fmt: skip
    start, size, form = places[field]
    return start + size * index, form


# kind, field, index, value, what the message names
HOSTILE = [
    *[(k, "kind", 0, value, "kind") for k in SMALL for value in (2, 0xFFFFFFFF)],
    ("sentencepiece", "pre_tokenizer", 0, 1, "pre_tokenizer"),
    *[("byte_level", "pre_tokenizer", 0, value, "pre_tokenizer") for value in (0, 11, 0xFFFFFFFF)],
    *[("sentencepiece", "flags", 0, value, "flags") for value in (4, 8, 16, 24, 64, 0x80000000)],
    ("sentencepiece", "flags", 0, 32, "section tokenizer has"),  # no scores
    *[("by_merges", "flags", 0, value, "n_merges") for value in (0, 1)],
    *[("by_merges", "flags", 0, value, "flags") for value in (36, 40, 48, 96)],
    *[("byte_level", "flags", 0, value, "flags") for value in (2, 8, 16, 32, 64, 0x80000000)],
    *[(k, "vocab_size", 0, value, "vocab_size") for k in SMALL for value in (0, 6, 10, 0xFFFFFFFF)],
    ("sentencepiece", "n_merges", 0, 1, "n_merges"),
    *[(k, "n_merges", 0, value, "n_merges") for k in MERGING for value in (0x80000000, 0xFFFFFFFF)],
    *[(k, "n_merges", 0, value, "section tokenizer has") for k in MERGING for value in (0, 1, 3, 0x7FFFFFFF)],
    *[(k, "bos", 0, value, "bos") for k in SMALL for value in (-2, 9, 2**31 - 1, -(2**31))],
    *[("sentencepiece", "unknown", 0, value, "unknown") for value in (-2, 8, 2**31 - 1)],
    *[("sentencepiece", "unknown", 0, value, "attribute 0") for value in (-1, 4)],
    *[("byte_level", "unknown", 0, value, "unknown") for value in (0, 1, -2)],
    *[(k, "n_end", 0, 10, "n_end") for k in SMALL],
    *[(k, "n_end", 0, value, "section tokenizer has") for k in SMALL for value in (0, 2)],
    *[(k, "n_bytes", 0, value, "n_bytes") for k in SMALL for value in (2**32, 2**63, 2**64 - 1)],
    *[(k, "n_bytes", 0, value, "section tokenizer has") for k in SMALL for value in (0, 2**32 - 1)],
    *[(k, f"byte {at}", 0, 1, f"byte {at}") for k in SMALL for at in (40, 60)],
    *[(k, "end", 0, value, "end 0") for k in SMALL for value in (-1, 9, 2**31 - 1, -(2**31))],
    *[(k, "piece_offset", 0, value, "piece_offset 0") for k in SMALL for value in (1, 0xFFFFFFFF)],
    *[(k, "piece_offset", 3, value, "piece_offset 3") for k in SMALL for value in (1000, 0xFFFFFFFF)],
    *[(k, "piece_offset", 3, 0, "piece_offset 3") for k in SMALL],
    ("sentencepiece", "piece_offset", 8, 15, "piece_offset"),
    ("byte_level", "piece_offset", 7, 12, "piece_offset"),
    *[("sentencepiece", "score", 5, value, "score 5") for value in (float("nan"), float("inf"), float("-inf"))],
    *[("byte_level", "merge", i, value, "merge 0") for i in range(3) for value in (7, 0xFFFFFFFF, 0x80000000, 0, 5)],
    ("byte_level", "merge", 0, 2, "merge 0"),
    ("byte_level", "merge", 1, 1, "merge 0"),
    ("byte_level", "merge", 2, 4, "merge 0"),
    *[(k, "attribute", 4, value, "attribute 4") for k in SMALL for value in (3, 5, 8, 16, 32, 64, 255)],
    ("sentencepiece", "attribute", 7, 2, "attribute 7"),
    *[("byte_level", "attribute", 4, value, "attribute 4") for value in (2, 4, 7)],
    *[("byte_level", "attribute", 5, value, "attribute 5") for value in (0, 1, 6)],
    *[("by_merges", "attribute", 4, value, "merge 0") for value in (1, 7)],  # a part of a merge
    ("sentencepiece", "bytes", 14, ord("b"), "same"),  # piece 5, "a", becomes another "b"
    ("byte_level", "bytes", 12, ord("e"), "expected distinct names"),  # the name <x> becomes another <e>
    ("by_merges", "bytes", 13, ord("y"), "expected distinct names"),  # the name " <x>" becomes another " <y>"
]  # fmt: skip


@pytest.mark.parametrize("kind, field, index, value, named", HOSTILE)
def test_a_field_out_of_range_is_refused_by_name(kind, field, index, value, named, tmp_path):
    v = SMALL[kind]
    section = bytearray(v.section())
    at, form = place(v, field, index)
    struct.pack_into("<" + form, section, at, value)
    path = tmp_path / "small.section"
    path.write_bytes(section)
    done = execute([BUILD_DIR / "tests" / "tokenize", path, len(v.pieces)])
    assert_refused(done, 3, "small.section", named)


@pytest.mark.parametrize("kind", SMALL)
def test_a_section_cut_anywhere_is_refused(kind, tmp_path):
    section = SMALL[kind].section()
    path = tmp_path / "small.section"
    for size in [*range(1, len(section)), len(section) + 1]:
        path.write_bytes((section + b"\0")[:size])
        done = execute([BUILD_DIR / "tests" / "tokenize", path, len(SMALL[kind].pieces)])
        assert_refused(done, 3, "section tokenizer")


def test_a_merge_that_is_there_twice_is_refused(tmp_path):
    v = dataclasses.replace(SMALL["byte_level"], merges=[(1, 2, 3), (3, 3, 4), (1, 2, 3)])
    path = tmp_path / "small.section"
    path.write_bytes(v.section())
    assert_refused(execute([BUILD_DIR / "tests" / "tokenize", path, len(v.pieces)]), 3, "merge 2", "merge 0")


@pytest.mark.parametrize("kind", SMALL)
def test_a_damaged_section_is_refused_or_works(kind, tmp_path):
    """Random bytes changed: nothing but an answer or a refusal, which the sanitized build makes a hard test."""
    rng, path = random.Random(13), tmp_path / "small.section"
    texts = [b"", b"ab abab<x><e>ba", b"</s>\xe2\x96\x81ab\xff", "ä\u2581".encode() * 20]
    ends = {0: 0, 3: 0}
    for _ in range(200):
        section = bytearray(SMALL[kind].section())
        for _ in range(rng.randint(1, 3)):
            section[rng.randrange(len(section))] = rng.choice([0, 1, 2, 3, 4, 5, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        path.write_bytes(section)
        requests = b"".join(struct.pack("<II", len(t), len(t)) + t for t in texts)
        done = execute([BUILD_DIR / "tests" / "tokenize", path, len(SMALL[kind].pieces)], stdin=requests)
        assert done.code in ends, f"{section.hex()}\n{done}"
        ends[done.code] += 1
    assert min(ends.values()) > 10, f"exits {ends}: expected both kinds"


@pytest.mark.parametrize("kind, text, ids", [
    ("sentencepiece", b"abab", [4, 7, 7]),
    ("sentencepiece", b"a\x00", [4, 5, 3]),
    ("sentencepiece", b"acdb", [4, 5, 0, 6]),  # one unknown for both letters
    ("sentencepiece", b"</s>a", [2, 4, 5]),
    ("byte_level", b"ababab", [4, 3]),
    ("byte_level", b"a<e>b", [1, 0, 2]),
    ("byte_level", b"a<x>b", [1, 6, 2]),
    ("byte_level", b"", []),
])  # fmt: skip
def test_small_vocabularies(kind, text, ids, tokenize):
    assert tokenize(SMALL[kind]).encode([text], special=True)[0][0] == ids


def test_pieces_found_before_all_else_are_found_in_every_text(tokenize):
    answers = tokenize(SMALL["byte_level"]).encode([b"a<x>b<x>", b"a<e>b"])
    assert answers[0] == ([1, 6, 2, 6], b"a<x>b<x>")
    assert answers[1] == "the prompt's byte 1 is 0x3c, which the model has no token for"


def test_offset_of_a_byte_without_a_token_counts_the_text_as_it_was_given(tokenize):
    v = SMALL["sentencepiece"]
    answers = tokenize(v).encode([b"ab\xff", "\u2581 ab".encode() + b"\xfe", b"</s>a\xff"], special=True)
    offsets = [2, 6, 5]
    for answer, offset in zip(answers, offsets):
        assert f"byte {offset} is" in answer, f"{answer!r}, expected byte {offset}"
