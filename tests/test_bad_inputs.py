"""Models, tokenizers and prompts that cannot be used: exit 3, nothing on stdout, and one line on stderr that names the
file and what is wrong in it. Never a crash, a hang, or garbage with exit status 0."""

import os
import struct

import numpy as np
import pytest
from conftest import SLOWER, assert_refused, run

import default_model
import models
from models import FIELDS, TINY, TINY_UNTIED

KINDS = ("v0", "v1", "v2-8")
INT_MAX, INT_MIN = 2**31 - 1, -(2**31)
QUICK = 5.0 * SLOWER  # seconds of processor time: refusing a file of a few kilobytes takes less


@pytest.fixture(scope="module")
def attempt(tmp_path_factory):
    """attempt(data, tokenizer=None): runs a greedy generation with these bytes as the model."""
    folder = tmp_path_factory.mktemp("bad")
    model, good, bad = folder / "broken.bin", folder / "good-tokenizer.bin", folder / "bad-tokenizer.bin"
    good.write_bytes(models.tokenizer_bytes(models.tiny_pieces()))

    def go(data, tokenizer=None, *options):
        model.write_bytes(data)
        if tokenizer is not None:
            bad.write_bytes(tokenizer)
        done = run(model, "-z", good if tokenizer is None else bad, "-i", "a", "-n", "2", "-t", "0", *options)
        took = done.cpu_seconds
        assert took < QUICK, f"took {took:.1f} s of processor time, expected less than {QUICK:.0f}\n{done}"
        return done

    return go


def assert_one_of(done, *names):
    assert any(str(name) in done.err for name in names), f"expected one of {names} to be named on stderr\n{done}"


def offset_of(kind, field):
    return 4 * FIELDS.index(field) + (0 if kind == "v0" else 8)


def with_field(data, kind, field, value):
    at = offset_of(kind, field)
    return data[:at] + struct.pack("<i", value) + data[at + 4 :]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", [TINY, TINY_UNTIED], ids=["tied", "untied"])
def test_the_models_that_are_broken_below_are_good_before(attempt, kind, config):
    attempt(models.model_bytes(config, kind)).ok()


@pytest.mark.parametrize("value", [0, -1, INT_MIN])
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("kind", KINDS)
def test_header_field_that_is_not_positive_is_refused_by_name(attempt, kind, field, value):
    done = attempt(with_field(models.model_bytes(TINY, kind), kind, field, value))
    if kind == "v0" and field == "vocab_size" and value == -1:  # an untied model of one token: its size is wrong
        assert_refused(done, 3, "broken.bin")
        assert_one_of(done, "bytes", "vocab_size")
    else:
        assert_refused(done, 3, "broken.bin", field, value)


def wrong_values(kind, field):
    """Positive values that no file of these sizes can have."""
    good = getattr(TINY, field)
    values = {1, good - 1, good + 1, 2 * good, 3 * good, 65536, INT_MAX - 1, INT_MAX}
    if field == "seq_len" and kind != "v0":
        return set()  # nothing in the file depends on it
    return sorted(values - {good, 0})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", FIELDS)
def test_header_field_that_does_not_fit_the_file_is_refused(attempt, kind, field):
    for value in wrong_values(kind, field):
        done = attempt(with_field(models.model_bytes(TINY, kind), kind, field, value))
        assert_refused(done, 3, "broken.bin")
        assert_one_of(done, field, value, "bytes")


@pytest.mark.parametrize("kind", KINDS)
def test_products_of_header_fields_that_overflow_are_refused(attempt, kind):
    data = models.model_bytes(TINY, kind)
    for fields in (
        ("dim", "vocab_size"),
        ("dim", "hidden_dim", "n_layers"),
        ("n_layers", "dim"),
        ("vocab_size", "seq_len"),
        FIELDS,
    ):
        for value in (2**16, 2**24, 2**30, 2**31 - 16, INT_MAX):
            broken = data
            for field in fields:
                broken = with_field(broken, kind, field, value)
            assert_refused(attempt(broken), 3, "broken.bin")


@pytest.mark.parametrize("kind", ["v1", "v2-8"])
def test_any_context_length_in_the_header_is_bounded_by_memory_or_refused(attempt, kind):
    for value in (1, 2, 65, 2**20, INT_MAX):
        done = attempt(with_field(models.model_bytes(TINY, kind), kind, "seq_len", value))
        assert done.code in (0, 3), f"seq_len {value}: expected exit 0 or 3\n{done}"
        if done.code == 3:
            assert_refused(done, 3, "seq_len" if value > 2 else "context", value)


def test_head_size_that_rope_cannot_pair_is_refused(attempt):
    config = models.Config(12, 8, 1, 4, 4, 300, 16)  # 4 heads of 3
    assert_refused(attempt(models.model_bytes(config, "v1")), 3, "broken.bin")


@pytest.mark.parametrize("magic", [0, 0x616B3431, 0x6F6F6F6F, 0xFFFFFFFF, 0x34326B61])
def test_unknown_magic_is_refused(attempt, magic):
    data = models.model_bytes(TINY, "v1")
    assert_refused(attempt(struct.pack("<I", magic) + data[4:]), 3, "broken.bin")


@pytest.mark.parametrize("version", [0, -1, 3, 256, INT_MAX])
def test_unknown_version_is_refused_by_its_number(attempt, version):
    data = models.model_bytes(TINY, "v1")
    done = attempt(data[:4] + struct.pack("<i", version) + data[8:])
    assert_refused(done, 3, "broken.bin", "version", version)


@pytest.mark.parametrize("shared", [2, 127, 255])
@pytest.mark.parametrize("kind", ["v1", "v2-8"])
def test_flag_of_the_shared_head_that_is_neither_0_nor_1_is_refused(attempt, kind, shared):
    data = models.model_bytes(TINY, kind)
    assert_refused(attempt(data[:36] + bytes([shared]) + data[37:]), 3, "broken.bin", "shared", shared)


@pytest.mark.parametrize("kind", ["v1", "v2-8"])
@pytest.mark.parametrize("config", [TINY, TINY_UNTIED], ids=["tied", "untied"])
def test_flag_of_the_shared_head_that_is_the_other_one_is_refused(attempt, kind, config):
    data = models.model_bytes(config, kind)
    done = attempt(data[:36] + bytes([not config.tied]) + data[37:])
    assert_refused(done, 3, "broken.bin", "bytes")


@pytest.mark.parametrize("group_size", [0, -1, INT_MIN, 1, 3, 4, 7, 9, 16, 64, 65536, INT_MAX])
def test_wrong_group_size_is_refused(attempt, group_size):
    data = models.model_bytes(TINY, "v2-8")
    done = attempt(data[:37] + struct.pack("<i", group_size) + data[41:])
    assert_refused(done, 3, "broken.bin")
    assert_one_of(done, "group", "bytes")


def lengths_to_cut(sections, step):
    """Every edge of a part of the file, a byte before and after, and steps over all of it."""
    edges, at = {0, 1, 2, 3, 4, 5, 7, 8, 27, 29, 35, 36, 37, 40, 41}, 0
    for _, data in sections:
        at += len(data)
        edges |= {at - 4, at - 1, at, at + 1, at + 4}
    return sorted(n for n in edges | set(range(0, at, step)) if 0 <= n < at)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", [TINY, TINY_UNTIED], ids=["tied", "untied"])
def test_model_cut_at_any_length_is_refused(attempt, kind, config):
    sections = models.sections(config, kind)
    data = b"".join(part for _, part in sections)
    for length in lengths_to_cut(sections, len(data) // 40 + 1):
        done = attempt(data[:length])
        assert_refused(done, 3, "broken.bin")
        assert_one_of(done, "bytes", "empty", length)


@pytest.mark.parametrize("extra", [1, 4, 4096])
@pytest.mark.parametrize("kind", KINDS)
def test_model_with_bytes_after_its_end_is_refused(attempt, kind, extra):
    done = attempt(models.model_bytes(TINY, kind) + bytes(extra))
    assert_refused(done, 3, "broken.bin", "bytes")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=["nan", "inf", "-inf"])
@pytest.mark.parametrize("kind", KINDS)
def test_weight_that_is_not_finite_is_refused_where_it_is_used(attempt, kind, bad):
    bos_row = {"tok_embeddings": 4 * TINY.dim, "tok_embeddings.0.scales": 4 * TINY.dim // 8}
    sections = models.sections(TINY_UNTIED, kind)
    for i, (name, data) in enumerate(sections):
        is_int8 = kind.startswith("v2") and not name.startswith("rms") and not name.endswith("scales")
        if is_int8 or name in ("header", "freq_cis_real", "freq_cis_imag"):
            continue  # not floats, or floats that nobody reads
        for at in (bos_row[name],) if name in bos_row else (0, len(data) - 4):
            broken = data[:at] + struct.pack("<f", bad) + data[at + 4 :]
            model = b"".join(broken if j == i else part for j, (_, part) in enumerate(sections))
            done = attempt(model, None, "--no-echo")  # an echo is printed before anything is computed
            assert done.code == 3, f"{name} at {at}: expected exit 3\n{done}"
            assert_refused(done, 3, "broken.bin")


@pytest.mark.parametrize("path", ["", "no-such-file.bin", "no/such/folder.bin", "x" * 5000])
def test_missing_model_is_refused_by_its_path(tmp_path, path):
    assert_refused(run(path, "-i", "a", cwd=tmp_path), 3, path[:100])


def test_model_that_is_a_directory_is_refused(tmp_path):
    assert_refused(run(tmp_path, "-i", "a"), 3, tmp_path.name, "directory", f"scripts/convert.py {tmp_path} model.bin")


def test_model_that_is_a_fifo_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "model.bin")
    assert_refused(run(tmp_path / "model.bin", "-i", "a"), 3, "model.bin")


def test_model_that_is_a_device_is_refused():
    assert_refused(run("/dev/zero", "-i", "a"), 3, "/dev/zero")


def test_model_that_is_text_is_refused(attempt):
    text = b"Once upon a time, there was a file that was no checkpoint at all.\n" * 100
    assert_refused(attempt(text), 3, "broken.bin")


def test_model_whose_name_has_control_characters_cannot_break_the_line(tmp_path):
    done = run(tmp_path / "a\nb\x1b[31m.bin", "-i", "a")
    assert_refused(done, 3)
    assert "\x1b" not in done.err, f"an escape sequence of a file's name reached the terminal\n{done}"


def test_random_bytes_of_any_length_are_refused(attempt):
    noise = models.splitmix64(99, 1000).tobytes()
    for length in (1, 27, 28, 29, 255, 256, 257, 1000, 8000):
        assert_refused(attempt(noise[:length]), 3, "broken.bin")


def test_every_byte_of_the_header_can_be_any_byte(attempt):
    """No single changed byte in a header crashes or hangs: either the file still is a model, or it is refused."""
    for kind in KINDS:
        data = models.model_bytes(TINY, kind)
        for at in range(28 if kind == "v0" else 44):
            for value in (data[at] ^ 0x80, data[at] ^ 0x01, 0xFF):
                if value != data[at]:
                    done = attempt(data[:at] + bytes([value]) + data[at + 1 :])
                    assert done.code in (0, 3), f"{kind}, byte {at} = {value}: expected exit 0 or 3\n{done}"


# ----------------------------------------------------------------------------------------------------------------------
# The tokenizer. The model is good.

GOOD_MODEL = models.model_bytes(TINY, "v0")


def test_tokenizer_cut_at_any_length_is_refused(attempt):
    pieces = models.tiny_pieces()
    data = models.tokenizer_bytes(pieces)
    ends = np.cumsum([4] + [8 + len(p) for p in pieces])
    lengths = {0, 1, 2, 3} | set(range(0, len(data), 97))
    for end in ends[[0, 1, 2, 3, 4, 100, 258, 259, 260, 266, 298, 299]]:
        lengths |= {int(end) + d for d in (-8, -5, -4, -1, 0, 1, 4, 8)}
    for length in sorted(n for n in lengths if 0 <= n < len(data)):
        assert_refused(attempt(GOOD_MODEL, data[:length]), 3, "bad-tokenizer.bin")


@pytest.mark.parametrize("vocab_size", [293, 299, 301, 400])
def test_tokenizer_of_another_vocabulary_size_is_refused(attempt, vocab_size):
    done = attempt(GOOD_MODEL, models.tokenizer_bytes(models.tiny_pieces(vocab_size)))
    assert_refused(done, 3, "bad-tokenizer.bin")
    assert_one_of(done, "300", "bytes")


@pytest.mark.parametrize("length", [-1, INT_MIN, INT_MAX, 2**24, 0x7FFFFFF0])
@pytest.mark.parametrize("piece", [0, 5, 270, 299])
def test_tokenizer_with_a_wrong_length_of_a_piece_is_refused(attempt, piece, length):
    pieces = models.tiny_pieces()
    data = models.tokenizer_bytes(pieces)
    at = 4 + sum(8 + len(p) for p in pieces[:piece]) + 4
    done = attempt(GOOD_MODEL, data[:at] + struct.pack("<i", length) + data[at + 4 :])
    assert_refused(done, 3, "bad-tokenizer.bin")
    assert_one_of(done, piece, length)


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf], ids=["nan", "inf", "-inf"])
def test_tokenizer_with_a_score_that_is_not_a_number_is_refused(attempt, score):
    pieces = models.tiny_pieces()
    scores = [0.0] * 270 + [score] + [0.0] * 29
    done = attempt(GOOD_MODEL, models.tokenizer_bytes(pieces, scores))
    assert_refused(done, 3, "bad-tokenizer.bin", "270")


@pytest.mark.parametrize("longest", [0, -1, 2, INT_MAX])
def test_tokenizer_whose_header_lies_about_the_longest_piece_harms_nothing(attempt, longest):
    done = attempt(GOOD_MODEL, models.tokenizer_bytes(models.tiny_pieces(), max_token_length=longest))
    if done.code != 0:
        assert_refused(done, 3, "bad-tokenizer.bin")


def test_tokenizer_with_bytes_after_its_end_is_refused(attempt):
    assert_refused(attempt(GOOD_MODEL, models.tokenizer_bytes(models.tiny_pieces()) + b"\0"), 3, "bad-tokenizer.bin")


def test_missing_tokenizer_is_refused_by_its_path(tiny, tmp_path):
    assert_refused(run(tiny.path, "-z", tmp_path / "absent.bin", "-i", "a"), 3, "absent.bin")


def test_default_tokenizer_that_is_nowhere_is_refused_by_its_name(attempt, tmp_path):
    (tmp_path / "model.bin").write_bytes(GOOD_MODEL)
    assert_refused(run(tmp_path / "model.bin", "-i", "a", cwd=tmp_path), 3, "tokenizer.bin")


def test_tokenizer_that_is_a_directory_or_a_fifo_is_refused(tiny, tmp_path):
    assert_refused(run(tiny.path, "-z", tmp_path, "-i", "a"), 3, tmp_path.name)
    os.mkfifo(tmp_path / "fifo")
    assert_refused(run(tiny.path, "-z", tmp_path / "fifo", "-i", "a"), 3, "fifo")


def test_model_given_as_tokenizer_and_tokenizer_given_as_model_are_refused(tiny):
    assert_refused(run(tiny.path, "-z", tiny.path, "-i", "a"), 3, tiny.path.name)
    assert_refused(run(tiny.tokenizer, "-z", tiny.tokenizer, "-i", "a"), 3, tiny.tokenizer.name)


def test_tokenizer_of_llama_2_is_refused_for_a_model_of_512_tokens(tmp_path):
    """One of its size: a file of 32,000 pieces is not taken for one of 512 with more after it."""
    models.write_zero_model(tmp_path / "model.bin", models.Config(8, 8, 1, 1, 1, 512, 64))
    (tmp_path / "tokenizer.bin").write_bytes(models.tokenizer_bytes(models.tiny_pieces(32000)))
    done = run(tmp_path / "model.bin", "-z", tmp_path / "tokenizer.bin", "-i", "a")
    assert_refused(done, 3, "tokenizer.bin", "512")


# ----------------------------------------------------------------------------------------------------------------------
# The prompt.


def test_missing_prompt_file_is_refused_by_its_path(tiny, tmp_path):
    assert_refused(tiny.generate("-f", tmp_path / "absent.txt"), 3, "absent.txt")


def test_prompt_file_that_is_a_directory_is_refused(tiny, tmp_path):
    assert_refused(tiny.generate("-f", tmp_path), 3, tmp_path.name)


def test_prompt_that_the_vocabulary_cannot_spell_is_refused_with_its_offset(tmp_path):
    """No byte tokens: what is not a piece cannot be kept."""
    pieces = models.SPECIAL + [b" "] + [bytes([c]) for c in range(ord("a"), ord("z") + 1)]
    config = models.Config(16, 20, 1, 2, 2, len(pieces), 16)
    model, tokenizer = tmp_path / "letters.bin", tmp_path / "letters-tokenizer.bin"
    model.write_bytes(models.model_bytes(config, "v1"))
    tokenizer.write_bytes(models.tokenizer_bytes(pieces, scores=[0.0] * len(pieces)))
    run(model, "-z", tokenizer, "-i", "abc", "-n", "1", "-t", "0").ok()
    assert_refused(run(model, "-z", tokenizer, "-f", "-", stdin=b"abcd\xffe"), 3, "4")


def test_stray_files_of_real_models_are_refused_when_cut(tmp_path):
    """Real ones: the default model, as it is and as llama2.c's files."""
    paths, tokenizer = default_model.write_llama2c(tmp_path, KINDS)
    cut = tmp_path / "cut.bin"
    for path in [*paths.values(), default_model.PATH]:
        data = path.read_bytes()
        options = [] if path == default_model.PATH else ["-z", tokenizer]
        for length in (len(data) - 1, len(data) // 2, 300):
            cut.write_bytes(data[:length])
            assert_refused(run(cut, *options, "-i", "a"), 3, cut.name, "bytes")


def test_a_text_file_is_named_as_neither_a_model_nor_a_tokenizer(attempt):
    text = b"This is a text and not a model. " * 20
    assert_refused(attempt(text), 3, "broken.bin", "read as a llama2.c checkpoint: no magic number")
    assert_refused(attempt(models.model_bytes(TINY, "v0"), text), 3, "bad-tokenizer.bin", "is it a llama2.c tokenizer?")
