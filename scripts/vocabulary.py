"""Reads the vocabularies of Hugging Face folders, and writes the tokenizer section of a checkpoint.

    vocabulary = read_vocabulary(source)      # a folder or file of Hugging Face or sentencepiece
    section = vocabulary.section(vocab_size)  # the bytes that docs/format.md describes

There are two kinds. SentencePiece BPE (Llama 1 and 2, Mistral, TinyLlama) merges by the score of the resulting piece
or, as Hugging Face's tokenizer.json has it, by a list of merges. Byte-level BPE (GPT-2, Llama 3, SmolLM2, Qwen 2) cuts
text into words by a regular expression, the pre-tokenizer, and merges by rank. Both have special tokens. A source that
needs anything else is refused: a VocabularyError names the file and the field.
"""

import json
import math
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path

SENTENCEPIECE, BYTE_LEVEL = 0, 1  # kinds
# Attributes of a piece. Names of ADDED and SPECIAL tokens cut the text; those of USER_DEFINED ones and of
# SPECIAL_IN_STRETCH are found between the cuts, in the text with SentencePiece's spaces.
NORMAL, SPECIAL, BYTE, UNKNOWN, USER_DEFINED, ABSENT, ADDED, SPECIAL_IN_STRETCH = range(8)
OPTIONS = {"lstrip": 16, "rstrip": 32, "single_word": 64}  # added to ADDED and SPECIAL
ADD_BOS, ADD_PREFIX, WHOLE_WORDS, PREFIX_FIRST, PREFIX_NEW, BY_MERGES = 1, 2, 4, 8, 16, 32  # flags
GPT2, LLAMA3, SMOLLM, QWEN2, QWEN35, GPT4O, TEKKEN, DEEPSEEK, DEEPSEEK_LLM, DEEPSEEK_CODER = range(1, 11)  # pre-tokenizers

MAX_PIECE = 4096  # bytes of the longest piece that the program accepts
SPACE_MARK = "\u2581"  # what SentencePiece writes for a space
GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_WORDS = LLAMA3_WORDS.replace("{1,3}", "")
QWEN35_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# GPT-4's, as its authors have written it since: the same words as LLAMA3_WORDS.
CL100K_WORDS = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
)
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TEKKEN_WORDS = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SHORT_FORMS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT4O_WORDS = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{SHORT_FORMS}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{SHORT_FORMS}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# The passes of DeepSeek-V3, one after the other.
DEEPSEEK_WORDS = [
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
]
# The letters that DeepSeek-LLM's second pass takes: those of scripts with upper and lower case, as of Unicode 11, with gaps.
DEEPSEEK_LLM_LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d"
    "\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb"
    "\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4"
    "\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf"
    "\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)
EAST_ASIAN = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
# The passes before the one that isolates digits.
DEEPSEEK_LLM_WORDS = [
    "[\r\n]",
    rf"\s?[{DEEPSEEK_LLM_LETTERS}]+",
    "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
    r"\s+$",
    EAST_ASIAN,
]
DEEPSEEK_CODER_WORDS = ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", EAST_ASIAN]
# The patterns of the passes -> the pre-tokenizer: without a pass for digits, and with one after them.
WORDS = {(GPT2_WORDS,): GPT2, (LLAMA3_WORDS,): LLAMA3, (CL100K_WORDS,): LLAMA3, (QWEN2_WORDS,): QWEN2,
         (QWEN35_WORDS,): QWEN35, (GPT4O_WORDS,): GPT4O, (TEKKEN_WORDS,): TEKKEN, tuple(DEEPSEEK_WORDS): DEEPSEEK}  # fmt: skip
WORDS_AND_DIGITS = {tuple(DEEPSEEK_LLM_WORDS): DEEPSEEK_LLM, tuple(DEEPSEEK_CODER_WORDS): DEEPSEEK_CODER}


class VocabularyError(ValueError):
    """The source cannot be read or expressed; the message names the file and the field."""


@dataclass
class Vocabulary:
    kind: int
    pieces: list  # the bytes of each token; of a special token its name
    attributes: list  # of each piece
    scores: list = field(default_factory=list)  # SentencePiece: of each piece, unless pairs merge by the list `merges`
    merges: list = field(default_factory=list)  # ids (left, right, result) in order of rank
    pre_tokenizer: int = 0
    bos: int = -1
    eos: int = -1
    unknown: int = -1  # SentencePiece only; byte-level BPE refuses a text that it has no token for
    end: list = field(default_factory=list)  # ids at which generation stops: eos, then the others
    add_bos: bool = False
    add_prefix: bool = False  # put a space before each stretch of a text
    prefix_first: bool = False  # only before the first one, if no token cuts the text before it
    prefix_new: bool = False  # only where the stretch does not begin with a space
    options: dict = field(default_factory=dict)  # id -> what OPTIONS adds to its attribute
    whole_words: bool = False  # a word that is itself a piece is never split
    chat_template: str = None  # Jinja

    def name(self, token):
        """The text of a token; None for no token."""
        if token < 0:
            return None
        name = self.pieces[token].decode("utf-8", "replace")
        return name[1:] if self.attributes[token] == SPECIAL_IN_STRETCH else name

    def section(self, vocab_size=None):
        """The tokenizer section for an embedding of vocab_size rows. Rows beyond the vocabulary become absent tokens."""
        n = len(self.pieces) if vocab_size is None else vocab_size
        absent = n - len(self.pieces)
        if absent < 0:
            raise VocabularyError(f"the vocabulary has {len(self.pieces)} tokens, the model's embedding {n} rows")
        offsets = [0]
        for piece in self.pieces:
            offsets.append(offsets[-1] + len(piece))
        offsets += [offsets[-1]] * absent
        flags = ADD_BOS * self.add_bos | ADD_PREFIX * self.add_prefix | WHOLE_WORDS * self.whole_words
        flags |= PREFIX_FIRST * self.prefix_first | PREFIX_NEW * self.prefix_new
        by_merges = self.kind == SENTENCEPIECE and not self.scores
        flags |= BY_MERGES * by_merges
        attributes = [a | self.options.get(i, 0) for i, a in enumerate(self.attributes)]
        head = struct.pack("<5I2iIQ24x", self.kind, self.pre_tokenizer, flags, n, len(self.merges), self.bos,
                           self.unknown, len(self.end), offsets[-1])  # fmt: skip
        scores = [*self.scores, *[0.0] * absent] if self.scores else []
        merges = [token for merge in self.merges for token in merge]
        return b"".join([
            head,
            struct.pack(f"<{len(self.end)}i", *self.end),
            struct.pack(f"<{n + 1}I", *offsets),
            struct.pack(f"<{len(scores)}f", *scores),
            struct.pack(f"<{len(merges)}I", *merges),
            bytes([*attributes, *[ABSENT] * absent]),
            *self.pieces,
        ])  # fmt: skip


def read_vocabulary(source):
    """The vocabulary of a Hugging Face folder or tokenizer.json, or of a sentencepiece tokenizer.model."""
    path = Path(source)
    if path.is_dir():
        return read_hugging_face(path)
    return read_hugging_face(path.parent, path) if path.suffix == ".json" else read_sentencepiece(path)


def finish(vocabulary, where):
    """Makes the fields consistent (end tokens are listed once) and checks that all ids exist."""
    v = vocabulary
    ends = [token for token in [v.eos, *sorted(v.end)] if token >= 0]
    v.end = list(dict.fromkeys(ends))
    for token in [v.bos, v.unknown, *v.end]:
        if token >= len(v.pieces):
            raise VocabularyError(f"{where}: token {token} is named, but there are only {len(v.pieces)} tokens")
    for token, attribute in enumerate(v.attributes):
        if attribute == ABSENT or not v.pieces[token]:
            v.attributes[token], v.pieces[token] = ABSENT, b""
        elif (attribute == UNKNOWN) != (token == v.unknown):
            v.attributes[token] = SPECIAL if attribute == UNKNOWN else UNKNOWN
        if len(v.pieces[token]) > MAX_PIECE:
            raise VocabularyError(f"{where}: token {token} is longer than {MAX_PIECE} bytes")
    check_distinct(v, (NORMAL,), where)
    check_distinct(v, (SPECIAL, ADDED), where)
    check_distinct(v, (USER_DEFINED, SPECIAL_IN_STRETCH), where)
    check_merges(v, where)
    if not all(math.isfinite(score) for score in v.scores):
        raise VocabularyError(f"{where}: a score is not a finite number")
    return v


def check_merges(v, where):
    """Refuses a merge whose result is not the concatenation of its parts, as an added token of other text makes it."""
    for merge in v.merges:
        left, right, result = (v.pieces[token] for token in merge)
        if left + right != result:
            raise VocabularyError(f"{where}: token {merge[2]} is {result!r}, but a merge makes it of {left!r} and {right!r}")


def ordinary(v, tokens):
    """Those of the tokens that text becomes without a search for their names: single characters or bytes, and what
    merging makes."""
    normal = {piece for piece, attribute in zip(v.pieces, v.attributes) if attribute == NORMAL}
    merged = {result for _, _, result in v.merges}

    def reached(token):
        piece = v.pieces[token]
        if len(piece if v.kind == BYTE_LEVEL else piece.decode("utf-8", "replace")) == 1 or token in merged:
            return True
        return bool(v.scores) and any(piece[:i] in normal and piece[i:] in normal for i in range(1, len(piece)))

    return {token for token in tokens if reached(token)}


def make_special(v, tokens):
    """Makes tokens special that the source names as BOS, EOS and the like. Ordinary pieces stay what they are: where a
    full stop ends the text, it is still a full stop."""
    tokens = [token for token in tokens if 0 <= token < len(v.pieces)]
    for token in set(tokens) - ordinary(v, tokens):
        if v.attributes[token] in (NORMAL, ADDED, USER_DEFINED):
            v.attributes[token] = SPECIAL


def check_distinct(v, attributes, where):
    """Refuses two tokens of the same text: only one of them could ever be used."""
    seen = {}
    for token, (piece, attribute) in enumerate(zip(v.pieces, v.attributes)):
        if attribute in attributes and seen.setdefault(piece, token) != token:
            raise VocabularyError(f"{where}: tokens {seen[piece]} and {token} are both {piece!r}")


# ----------------------------------------------------------------------------------------------------------------------
# Pieces


def byte_letters():
    """Letter -> byte. GPT-2 writes a byte as the character with that code if it is visible; the other bytes become
    U+0100 and up."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {chr(b): b for b in visible}
    letters.update({chr(0x100 + i): b for i, b in enumerate(b for b in range(256) if b not in visible)})
    return letters


BYTE_LETTERS = byte_letters()
BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


def from_letters(piece, where):
    """The bytes of a piece written in GPT-2's letters."""
    try:
        return bytes(BYTE_LETTERS[letter] for letter in piece)
    except KeyError as e:
        raise VocabularyError(f"{where} is {piece!r}, which has a letter that stands for no byte: {e}") from None


def sentencepiece_bytes(piece, attribute, where):
    """The bytes of a SentencePiece piece: <0x00> to <0xFF> are bytes, U+2581 is a space."""
    if attribute == BYTE:
        match = BYTE_PIECE.fullmatch(piece)
        if not match:
            raise VocabularyError(f"{where} is {piece!r}, expected a byte piece, <0x00> to <0xFF>")
        return bytes.fromhex(match[1])
    return (piece if attribute == SPECIAL else piece.replace(SPACE_MARK, " ")).encode()


def merge_ids(merges, ids, where):
    """(left, right, result) of merges given as pairs of pieces. Of duplicates the last one counts, as in the tokenizers
    package."""
    result = {}
    for i, (left, right) in enumerate(merges):
        try:
            pair = ids[left], ids[right]
            result.pop(pair, None)
            result[pair] = ids[left + right]
        except KeyError as e:
            raise VocabularyError(f"{where}: merge {i} names {e.args[0]!r}, which is not a piece") from None
    return [(left, right, merged) for (left, right), merged in result.items()]


# ----------------------------------------------------------------------------------------------------------------------
# Hugging Face


def read_json(path, default=None):
    """The contents of a JSON file; `default`, if given, when the file does not exist."""
    if default is not None and not path.exists():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise VocabularyError(f"{path}: cannot be read as JSON: {e}") from None


def read_hugging_face(folder, tokenizer=None):
    """The vocabulary of a folder, from tokenizer.json or else tokenizer.model; special tokens from the other files."""
    tokenizer = tokenizer or folder / "tokenizer.json"
    config = read_json(folder / "tokenizer_config.json", {})
    names = {**read_json(folder / "special_tokens_map.json", {}), **config}
    special = special_names(names)
    if tokenizer.exists():
        v = read_tokenizer_json(tokenizer, special)
    elif (folder / "tokenizer.model").exists():
        v = read_sentencepiece(folder / "tokenizer.model")
        v.prefix_first = v.prefix_new = v.add_prefix and config.get("legacy") is False  # as transformers converts it
        add_tokens(v, config_tokens(folder, config), special, folder / "tokenizer_config.json")
    else:
        raise VocabularyError(f"{folder}: has neither tokenizer.json nor tokenizer.model")
    make_special(v, [token for token in range(len(v.pieces)) if v.name(token) in special])
    model, generation = read_json(folder / "config.json", {}), read_json(folder / "generation_config.json", {})
    if v.bos < 0 or not tokenizer.exists():  # tokenizer.json says which token it puts before a text
        v.bos = named_token(v, names, "bos_token", first(model.get("bos_token_id"), v.bos))
    v.eos = named_token(v, names, "eos_token", first(model.get("eos_token_id"), v.eos))
    v.end = [*listed(model.get("eos_token_id")), *listed(generation.get("eos_token_id"))]
    if isinstance(config.get("add_bos_token"), bool):
        v.add_bos = config["add_bos_token"]
    v.add_bos = v.add_bos and v.bos >= 0
    v.chat_template = read_chat_template(folder, config)
    return finish(v, str(folder))


def content(token):
    """The text of a token, which a config gives as such or as an object that contains it."""
    return token.get("content") if isinstance(token, dict) else token


def special_names(names):
    """The texts of the tokens that transformers takes for special because a config names them: bos_token and the like."""
    found = [token for key, token in names.items() if key.endswith("_token")]
    for key in ("additional_special_tokens", "extra_special_tokens"):
        more = names.get(key) or []
        found += more.values() if isinstance(more, dict) else more
    return {content(token) for token in found if isinstance(content(token), str)}


def listed(ids):
    return [] if ids is None else list(ids) if isinstance(ids, list) else [ids]


def first(ids, default):
    return [*listed(ids), default][0]


def named_token(v, names, field_name, default):
    """The id of the token that a config names by its text."""
    name = content(names.get(field_name))
    if name is None:
        return default
    for token, attribute in enumerate(v.attributes):
        if attribute not in (ABSENT, BYTE) and v.name(token) == name:
            return token
    raise VocabularyError(f"tokenizer_config.json: {field_name} is {name!r}, which is not a token")


def read_chat_template(folder, config):
    """The Jinja source, from its own file or from tokenizer_config.json (one text, or a list of named ones)."""
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        template = {entry["name"]: entry["template"] for entry in template}.get("default")
    return template


def config_tokens(folder, config):
    """The added tokens of a folder without tokenizer.json."""
    tokens = [{"id": int(id), **token} for id, token in config.get("added_tokens_decoder", {}).items()]
    for name, id in read_json(folder / "added_tokens.json", {}).items():
        if all(token["id"] != id for token in tokens):
            tokens.append({"id": id, "content": name})
    return tokens


def add_tokens(v, tokens, special, where, prepends=False):
    """Applies Hugging Face's added tokens: appends new ones, changes existing pieces. All of them are found in the text
    before anything is merged. Those that are special or named in the set `special` are not shown, unless text becomes
    them in other ways too. prepends: the normalizer puts a space before a text. It does so with the text of a
    `normalized` token as well, which is then found only after a space."""
    for token in tokens:
        extend(v, token["id"] + 1)
    shown = ordinary(v, [token["id"] for token in tokens])
    # SentencePiece's own spaces are not in a text; what it makes of a text's spaces is found by merging.
    tokens = [token for token in tokens if not (token["id"] in shown and SPACE_MARK in token["content"])]
    tokens = [token for token in tokens if v.attributes[token["id"]] not in (UNKNOWN, BYTE)]
    for token in tokens:
        v.pieces[token["id"]] = token["content"].encode()
    shown |= ordinary(v, [token["id"] for token in tokens])
    for token in tokens:
        id, hidden = token["id"], token.get("special") or token["content"] in special
        options = sum(flag for option, flag in OPTIONS.items() if token.get(option))
        if not (prepends and token.get("normalized", not token.get("special"))):
            v.attributes[id] = SPECIAL if hidden and id not in shown else ADDED
            v.options |= {id: options} if options else {}
            continue
        if options:
            raise VocabularyError(
                f"{where}: added token {token['content']!r} is normalized and has one of {', '.join(OPTIONS)}, which is not supported"
            )
        if id in shown:
            raise VocabularyError(f"{where}: added token {token['content']!r} is normalized and also a piece, which is not supported")
        v.pieces[id] = b" " + v.pieces[id]
        v.attributes[id] = SPECIAL_IN_STRETCH if hidden else USER_DEFINED


def extend(v, size):
    """Pads the vocabulary with absent tokens."""
    absent = max(0, size - len(v.pieces))
    v.pieces += [b""] * absent
    v.attributes += [ABSENT] * absent
    if v.scores:
        v.scores += [0.0] * absent


def read_tokenizer_json(path, special):
    data = read_json(path)
    model = data.get("model", {})
    if model.get("type", "BPE") != "BPE" or "merges" not in model:
        raise VocabularyError(f"{path}: model.type is {model.get('type')!r}, expected 'BPE'")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(option):
            raise VocabularyError(f"{path}: model.{option} is {model[option]!r}, which is not supported")
    merges = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
    if any(len(merge) != 2 for merge in merges):
        raise VocabularyError(f"{path}: an entry of model.merges is not two pieces")
    read = json_sentencepiece if model.get("byte_fallback") else json_byte_level
    v = read(data, model, merges, path)
    add_tokens(v, data.get("added_tokens") or [], special, path, prepends=v.add_prefix and not v.prefix_new)
    v.add_bos = begins_with_bos(v, data.get("post_processor"))
    return v


def begins_with_bos(v, processor):
    """Whether the post-processor puts a special token before a text; if so, that token becomes v.bos."""
    for step in (processor or {}).get("processors", [processor or {}]):
        template = step.get("single") or []
        if step.get("type") == "TemplateProcessing" and template and "SpecialToken" in template[0]:
            name = template[0]["SpecialToken"]["id"]
            v.bos = step["special_tokens"][name]["ids"][0]
            return True
    return False


def by_id(vocab, path):
    """The pieces of a JSON vocabulary by id, "" for an unused id."""
    if not vocab or min(vocab.values()) < 0 or max(vocab.values()) > 1 << 24:
        raise VocabularyError(f"{path}: model.vocab is empty or has an id out of range")
    pieces = [""] * (max(vocab.values()) + 1)
    for piece, id in vocab.items():
        pieces[id] = piece
    return pieces


def steps(component, key):
    """A normalizer or pre-tokenizer as the list of its parts."""
    if component is None:
        return []
    return component[key] if component["type"] == "Sequence" else [component]


def json_byte_level(data, model, merges, path):
    normalizers = [n["type"] for n in steps(data.get("normalizer"), "normalizers")]
    if normalizers not in ([], ["NFC"]):  # docs/format.md says why NFC is left out
        raise VocabularyError(f"{path}: normalizer is {normalizers}, which is not supported")
    added = {token["id"] for token in data.get("added_tokens") or []}
    pieces = by_id(model["vocab"], path)
    attributes = [ADDED if i in added else NORMAL if p else ABSENT for i, p in enumerate(pieces)]
    return Vocabulary(
        BYTE_LEVEL,
        pieces=[
            from_letters(p, f"{path}: a piece of model.vocab") if a != ADDED else p.encode()
            for p, a in zip(pieces, attributes)
        ],
        attributes=attributes,
        merges=merge_ids(merges, model["vocab"], f"{path}: model.merges"),
        pre_tokenizer=json_words(data.get("pre_tokenizer"), path),
        whole_words=bool(model.get("ignore_merges")),
    )


def json_words(component, path):
    """The pre-tokenizer, recognised by its parts."""
    parts = steps(component, "pretokenizers")
    kinds = [part["type"] for part in parts]
    level = parts[-1] if kinds and kinds[-1] == "ByteLevel" else {}
    own_words = level.get("use_regex", True)
    if level and not level.get("add_prefix_space"):
        if kinds == ["ByteLevel"] and own_words:
            return GPT2
        digits = kinds[-2:-1] == ["Digits"] and parts[-2].get("individual_digits")
        if kinds == ["Digits", "ByteLevel"] and own_words and digits:
            return SMOLLM
        splits = parts[:-2] if digits else parts[:-1]
        isolated = all(s["type"] == "Split" and s["behavior"] == "Isolated" and not s.get("invert") for s in splits)
        if isolated and splits and not own_words:
            patterns = tuple(split["pattern"].get("Regex") for split in splits)
            words = (WORDS_AND_DIGITS if digits else WORDS).get(patterns)
            if words:
                return words
    raise VocabularyError(
        f"{path}: pre_tokenizer is {json.dumps(component)}, expected that of GPT-2, Llama 3, SmolLM2, "
        "Qwen 2 or 3.5, GPT-4o, Tekken or DeepSeek"
    )


def json_sentencepiece(data, model, merges, path):
    if model.get("ignore_merges"):
        raise VocabularyError(f"{path}: model.ignore_merges is true, expected false with byte_fallback")
    pieces = by_id(model["vocab"], path)
    unknown = model["vocab"].get(model.get("unk_token"), -1)
    attributes = [
        UNKNOWN if i == unknown else BYTE if BYTE_PIECE.fullmatch(p) else NORMAL if p else ABSENT
        for i, p in enumerate(pieces)
    ]
    return Vocabulary(
        SENTENCEPIECE,
        pieces=[sentencepiece_bytes(p, a, f"{path}: model.vocab") for p, a in zip(pieces, attributes)],
        attributes=attributes,
        merges=merge_ids(merges, model["vocab"], f"{path}: model.merges"),
        unknown=unknown,
        **json_prefix(data, path),
    )


def json_prefix(data, path):
    """The fields of Vocabulary that say where a space is put before text."""
    normalizers = steps(data.get("normalizer"), "normalizers")
    words = steps(data.get("pre_tokenizer"), "pretokenizers")
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE_MARK}
    # Gemma's splits at spaces, of which the normalizer has left none.
    idle = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    if words in ([], [idle]) and normalizers and normalizers[-1] == replace:
        if normalizers[:-1] in ([], [{"type": "Prepend", "prepend": SPACE_MARK}]):
            return {"add_prefix": len(normalizers) == 2}
    if not normalizers and [w["type"] for w in words] == ["Metaspace"] and words[0].get("split") is False:
        if words[0].get("replacement") == SPACE_MARK:
            scheme = words[0].get("prepend_scheme", "always")
            prefix = scheme != "never" and words[0].get("add_prefix_space") is not False
            return {"add_prefix": prefix, "prefix_first": prefix and scheme == "first", "prefix_new": prefix}
    raise VocabularyError(
        f"{path}: normalizer and pre_tokenizer are {json.dumps([data.get('normalizer'), data.get('pre_tokenizer')])}, "
        "expected those of a SentencePiece tokenizer"
    )


# ----------------------------------------------------------------------------------------------------------------------
# sentencepiece's tokenizer.model: a protobuf message, read here because the sentencepiece package does not expose all of
# its fields and nothing else would need the protobuf package.

SENTENCEPIECE_ATTRIBUTES = {1: NORMAL, 2: UNKNOWN, 3: SPECIAL, 4: USER_DEFINED, 6: BYTE}


def protobuf_fields(data, where):
    """Yields the fields of a message as (number, value); a value is an int or bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    try:
        while at < len(data):
            key = varint()
            kind = key & 7
            if kind == 0:
                yield key >> 3, varint()
                continue
            size = {1: 8, 2: None, 5: 4}[kind]
            size = varint() if size is None else size
            if size > len(data) - at:
                raise IndexError
            yield key >> 3, data[at : at + size]
            at += size
    except (IndexError, KeyError):
        raise VocabularyError(f"{where}: is not a sentencepiece model") from None


def read_sentencepiece(path):
    fields = list(protobuf_fields(Path(path).read_bytes(), path))
    trainer = dict(protobuf_fields(dict(fields).get(2, b""), path))
    normalizer = dict(protobuf_fields(dict(fields).get(3, b""), path))
    if trainer.get(3, 1) != 2:
        raise VocabularyError(f"{path}: model_type is {trainer.get(3, 1)}, expected 2, BPE")
    if trainer.get(24):
        raise VocabularyError(f"{path}: treat_whitespace_as_suffix is set, which is not supported")
    if normalizer.get(2) or normalizer.get(4, 1) or not normalizer.get(5, 1):
        raise VocabularyError(
            f"{path}: normalizer_spec has rules (name {normalizer.get(1, b'').decode(errors='replace')!r}) or removes "
            "white space, expected the identity"
        )
    v = Vocabulary(SENTENCEPIECE, pieces=[], attributes=[], add_bos=True, add_prefix=bool(normalizer.get(3, 1)))
    for number, value in fields:
        if number != 1:
            continue
        piece = dict(protobuf_fields(value, path))
        attribute = SENTENCEPIECE_ATTRIBUTES.get(piece.get(3, 1))
        where = f"{path}: piece {len(v.pieces)}"
        if attribute is None:
            raise VocabularyError(f"{where} has type {piece[3]}, expected 1 to 4 or 6")
        v.pieces.append(sentencepiece_bytes(piece.get(1, b"").decode(), attribute, where))
        v.attributes.append(attribute)
        v.scores.append(struct.unpack("<f", piece.get(2, bytes(4)))[0])
    names = {name: trainer.get(n, default) for name, n, default in (("unk", 40, 0), ("bos", 41, 1), ("eos", 42, 2))}
    v.unknown, v.bos, v.eos = (-1 if i >= 1 << 31 else i for i in names.values())  # -1 is a varint of 64 bits
    v.add_bos = v.bos >= 0
    return finish(v, str(path))
