"""Logits of models: close to a double-precision reference (golden, scripts/make_golden.py), and the same bits for every
kernel set, number of threads and chunk."""

import json

import numpy as np
import pytest
from conftest import CHUNKS, GOLDEN_DIR, THREADS, logits

import models
import native_models

CASES = [(name, kind) for name, (_, kinds, _) in models.GOLDEN.items() for kind in kinds]
TOLERANCE = {"f32": 1e-4, "f16": 1e-2}  # of logits with a variance of one


@pytest.fixture(scope="module")
def golden_model(workdir):
    """name, kind -> path of the model and its golden file. Checks that the model is that of the golden file."""
    made = {}

    def get(name, kind):
        if (name, kind) not in made:
            config = models.GOLDEN[name][0]
            data = models.model_bytes(config, kind)
            golden = np.load(GOLDEN_DIR / f"{name}.npz")
            expected = str(golden[f"sha256_{kind}"])
            assert models.sha256(data) == expected, f"tests/models.py writes another {name} {kind} than the golden one"
            path = workdir / f"{name}-{kind}.bin"
            path.write_bytes(data)
            made[name, kind] = path, golden
        return made[name, kind]

    return get


def assert_same_bits_however_computed(simd_sets, path, tokens, kv, plain):
    ways = [("--simd", simd, "--threads", 2) for simd in simd_sets]
    ways += [("--threads", threads, "--chunk", 32) for threads in THREADS]
    ways += [("--chunk", chunk, "--threads", 2) for chunk in CHUNKS]
    ways += [("--simd", simd, "--chunk", 7, "--threads", 3) for simd in simd_sets]
    for way in ways:
        seen = logits(path, tokens, "--kv", kv, *way, vocab_size=plain.shape[1])
        differing = (seen.view(np.uint32) != plain.view(np.uint32)).any(axis=1).nonzero()[0]
        assert differing.size == 0, (
            f"{' '.join(map(str, way))}: {differing.size} rows of {len(tokens)} differ from those of scalar kernels, "
            f"one thread, one token at a time; the first is row {differing[0]}"
        )


def assert_committed_bits(name, seen):
    expected = json.loads((GOLDEN_DIR / "bits.json").read_text(encoding="utf-8"))[name]
    assert models.sha256(seen.tobytes()) == expected, (
        "not the bits that were committed: a compiler, an option or a kernel set has changed the order of arithmetic "
        "(where it was changed on purpose: scripts/make_golden.py --bits)"
    )


@pytest.mark.parametrize("kv", TOLERANCE)
@pytest.mark.parametrize("name, kind", CASES)
def test_logits_match_the_double_precision_reference(golden_model, name, kind, kv):
    path, golden = golden_model(name, kind)
    config, _, n_tokens = models.GOLDEN[name]
    tokens = golden["tokens"].tolist()
    seen = logits(path, tokens, "--kv", kv, vocab_size=config.vocab_size)[models.golden_rows(n_tokens)]
    expected = golden[f"logits_{kind}" if kind.startswith("v2") else "logits_f32"]
    off = np.abs(seen - expected)
    assert np.isfinite(seen).all(), "a logit is not finite"
    row, column = np.unravel_index(off.argmax(), off.shape)
    assert off.max() <= TOLERANCE[kv], (
        f"row {row}, token {column}: {seen[row, column]}, expected {expected[row, column]} +- {TOLERANCE[kv]}; "
        f"{(off > TOLERANCE[kv]).sum()} of {off.size} are off"
    )


@pytest.mark.parametrize("kv", TOLERANCE)
@pytest.mark.parametrize("name", models.GOLDEN)
def test_logits_are_bit_identical_however_computed(golden_model, simd_sets, name, kv):
    config, kinds, _ = models.GOLDEN[name]
    path, golden = golden_model(name, kinds[-1])
    tokens = golden["tokens"].tolist()
    plain = logits(path, tokens, "--kv", kv, "--simd", "scalar", "--threads", 1, "--chunk", 1,
                   vocab_size=config.vocab_size)  # fmt: skip
    assert_same_bits_however_computed(simd_sets, path, tokens, kv, plain)


@pytest.mark.parametrize("kv", TOLERANCE)
@pytest.mark.parametrize("name, kind", CASES)
def test_logits_have_the_same_bits_on_every_machine_and_compiler(golden_model, name, kind, kv):
    path, golden = golden_model(name, kind)
    tokens = golden["tokens"].tolist()
    seen = logits(path, tokens, "--kv", kv, vocab_size=models.GOLDEN[name][0].vocab_size)
    assert_committed_bits(f"{name} {kind} {kv}", seen)


@pytest.mark.parametrize("kv", TOLERANCE)
@pytest.mark.parametrize("kind", native_models.TYPES)
def test_logits_of_each_weight_type_have_the_same_bits_however_and_wherever_computed(workdir, simd_sets, kind, kv):
    path = workdir / f"typed-{kind}.bin"
    path.write_bytes(native_models.typed(kind))
    tokens = models.random_tokens(1, 60, native_models.TYPED["vocab_size"])
    plain = logits(path, tokens, "--kv", kv, "--simd", "scalar", "--chunk", 1, vocab_size=260)
    assert 0.3 < plain.std() < 30, f"logits of {plain.std()} on average show little"
    assert_same_bits_however_computed(simd_sets, path, tokens, kv, plain)
    assert_committed_bits(f"typed {kind} {kv}", plain)


def test_v0_and_v1_files_of_the_same_weights_give_the_same_logits(golden_model):
    for name, (config, kinds, _) in models.GOLDEN.items():
        if "v1" in kinds:
            v0, golden = golden_model(name, "v0")
            v1, _ = golden_model(name, "v1")
            tokens = golden["tokens"].tolist()
            seen = [logits(path, tokens, vocab_size=config.vocab_size).tobytes() for path in (v0, v1)]
            assert seen[0] == seen[1], f"{name}: the logits of v1 are not those of v0"


def test_a_shorter_context_changes_no_logit(golden_model):
    name = "long_sequence"
    path, golden = golden_model(name, "v0")
    tokens = golden["tokens"].tolist()[:50]
    vocab_size = models.GOLDEN[name][0].vocab_size
    whole = logits(path, tokens, vocab_size=vocab_size)
    short = logits(path, tokens, "--context", 50, vocab_size=vocab_size)
    assert (whole.view(np.uint32) == short.view(np.uint32)).all(), "logits depend on the length of the context"


@pytest.fixture
def chain_config():
    """One-hot embeddings and head: the answer is obvious. Token t is followed by t + 1."""
    return models.Config(32, 8, 1, 4, 2, 32, 16, tied=False)


@pytest.mark.parametrize("kind", ["v0", "v1", "v2-8"])
def test_one_hot_model_says_the_next_token(tmp_path, chain_config, kind):
    successor = {t: (t + 1) % 32 for t in range(32)}
    weights = models.chain_weights(chain_config, successor)
    path = tmp_path / "one-hot.bin"
    path.write_bytes(models.model_bytes(chain_config, kind, weights))
    tokens = [3, 31, 0, 17, 17, 8]
    seen = logits(path, tokens, vocab_size=32)
    assert seen.argmax(axis=1).tolist() == [successor[t] for t in tokens]
    # The embedding 1 among 31 zeros has a mean square of 1/32: rms_norm makes it the square root of 32.
    expected = np.zeros((6, 32))
    expected[range(6), [successor[t] for t in tokens]] = (1 / (1 / 32 + 1e-5)) ** 0.5
    assert np.abs(seen - expected).max() < 1e-4, f"found {seen.max()}, expected {expected.max()}"


@pytest.mark.parametrize("kv", TOLERANCE)
def test_attention_to_equal_keys_is_the_mean_of_the_values(tmp_path, kv):
    """wk = 0 makes all scores 0: attention gives the mean of the values so far, whatever the positions. With the
    embedding of token t being its own axis, wv and wo the identity, the head shows the residual: t's own axis and
    1/n of each token seen."""
    config = models.Config(16, 8, 1, 2, 2, 16, 32, tied=False)
    weights = models.zero_weights(config)
    for name in ("rms_att", "rms_ffn", "rms_final"):
        weights[name][...] = 1
    for name in ("tok_embeddings", "wcls"):
        weights[name][...] = np.eye(16)
    for name in ("wv", "wo"):
        weights[name][0] = np.eye(16)
    path = tmp_path / "mean.bin"
    path.write_bytes(models.model_bytes(config, "v0", weights))
    tokens = list(range(16))
    seen = logits(path, tokens, "--kv", kv, vocab_size=16)
    for n, row in enumerate(seen):
        x = np.zeros(16)
        x[: n + 1] = (1 / (1 / 16 + 1e-5)) ** 0.5 / (n + 1)
        x[n] += 1
        expected = x / np.sqrt((x * x).mean() + 1e-5)
        assert np.abs(row - expected).max() <= TOLERANCE[kv], f"row {n}: {row}, expected {expected}"
