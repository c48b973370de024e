"""What every test file shares: the executable under test, runs of it, and small models to run.

    RUN        path of the executable (default ./run)
    BUILD_DIR  where tests/ executables are: BUILD_DIR/tests/test_*, BUILD_DIR/tests/logits (default build)

    EMULATOR   what runs them where they are of another machine (qemu-aarch64)

so that the same tests drive every build, the sanitized one too. Tests that read ../shared/data (real checkpoints, not
part of this repository) skip where it is absent, and say which file they missed.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
sys.path.insert(0, str(TESTS))
import models  # noqa: E402

EXECUTABLE = Path(os.environ.get("RUN", ROOT / "run")).resolve()
BUILD_DIR = Path(os.environ.get("BUILD_DIR", ROOT / "build")).resolve()
EMULATOR = os.environ.get("EMULATOR", "").split()
DATA_DIR = ROOT.parent / "shared" / "data"
GOLDEN_DIR = TESTS / "golden"

_program = EXECUTABLE.read_bytes() if EXECUTABLE.exists() else b""
ADDRESS_SANITIZED = b"__asan_init" in _program
SANITIZED = ADDRESS_SANITIZED or b"__msan_init" in _program or b"__tsan_init" in _program
# The thread sanitizer's library starts a thread, and dies where RLIMIT_FSIZE forbids it files of its own.
not_under_tsan = pytest.mark.skipif(b"__tsan_init" in _program, reason="the thread sanitizer's library is in the way")
SLOWER = 20 if SANITIZED else 1  # how much longer than a release build a test may take
TIMEOUT = 20 * (4 if SANITIZED else 1)  # seconds; a run that takes longer hangs

THREADS = (1, 2, 3, 8)
CHUNKS = (1, 7, 32, 1024)


class Ran:
    """A finished run: what a test may look at, and what it prints when it fails."""

    def __init__(self, command, code, stdout, stderr):
        self.command = [str(part) for part in command]
        self.code = code  # exit status; negative: the number of the signal that ended it
        self.bytes = stdout
        self.err = stderr.decode("utf-8", "replace")

    @property
    def out(self):
        return self.bytes.decode("utf-8")

    @property
    def json(self):
        lines = self.out.splitlines()
        assert len(lines) == 1, f"expected one line of JSON\n{self}"
        return json.loads(lines[0])

    @property
    def digest(self):
        digests = [line for line in self.err.splitlines() if line.startswith("digest: ")]
        assert len(digests) == 1, f"expected one line 'digest: ...' on stderr\n{self}"
        return digests[0]

    def ok(self):
        assert self.code == 0, f"expected exit 0\n{self}"
        return self

    def __str__(self):
        shown = " ".join(self.command)
        return f"command: {shown[:1000]}\nexit: {self.code}\nstdout: {self.bytes[:2000]!r}\nstderr: {self.err[:2000]!r}"


def environment(extra=None):
    """The environment of a run: nothing of ours that would change what the program does."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
    env.update(extra or {})
    return env


def execute(command, stdin=b"", timeout=TIMEOUT, env=None, **popen):
    """Runs a command; stdin: bytes, or a file. A run that hangs is killed and fails the test."""
    if EMULATOR and Path(command[0]).is_relative_to(BUILD_DIR):
        command = [*EMULATOR, *command]
    command = [os.fspath(part) if isinstance(part, os.PathLike) else str(part) for part in command]
    given = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    popen.setdefault("stdout", subprocess.PIPE)
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, timeout=timeout, env=environment(env), **given, **popen)
    except subprocess.TimeoutExpired:
        pytest.fail(f"still running after {timeout} s: {' '.join(command)[:1000]}", pytrace=False)
    return Ran(command, done.returncode, done.stdout or b"", done.stderr)


def run(*args, **options):
    """Runs the executable under test with these arguments."""
    return execute([EXECUTABLE, *args], **options)


def start(*args, env=None, **popen):
    """Starts the executable and returns at once, stdout and stderr being pipes unless said otherwise."""
    # Unbuffered: what a buffer reads ahead of read(1) never reaches communicate(), which reads the pipe itself.
    popen.setdefault("bufsize", 0)
    popen.setdefault("stdin", subprocess.DEVNULL)
    popen.setdefault("stdout", subprocess.PIPE)
    popen.setdefault("stderr", subprocess.PIPE)
    command = [str(EXECUTABLE), *(str(a) for a in args)]
    return subprocess.Popen(command, env=environment(env), **popen)


def finish(process, timeout=TIMEOUT):
    """Waits for a started process and gives what it wrote since."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        pytest.fail(f"still running after {timeout} s: {process.args}", pytrace=False)
    return Ran(process.args, process.returncode, out or b"", err or b"")


def logits(model, tokens, *options, vocab_size):
    """f32 (n_tokens, vocab_size): the logits of every token's row."""
    done = execute([BUILD_DIR / "tests" / "logits", model, *options, *tokens]).ok()
    expected = 4 * len(tokens) * vocab_size
    assert len(done.bytes) == expected, f"expected {expected} bytes of logits, found {len(done.bytes)}\n{done}"
    return np.frombuffer(done.bytes, "<f4").reshape(len(tokens), vocab_size)


def assert_refused(done, code, *names):
    """Exit `code`, nothing on stdout, one line on stderr that contains each of `names`."""
    assert done.code == code, f"expected exit {code}\n{done}"
    assert done.bytes == b"", f"expected nothing on stdout\n{done}"
    lines = done.err.splitlines()
    assert len(lines) == 1 and done.err.endswith("\n"), f"expected one line on stderr, found {len(lines)}\n{done}"
    for name in names:
        assert str(name) in lines[0], f"expected {str(name)!r} to be named on stderr\n{done}"


class Model:
    """A model and its tokenizer as the tests pass them: run(*model, ...)."""

    def __init__(self, path, tokenizer):
        self.path = Path(path)
        self.tokenizer = Path(tokenizer)

    def __iter__(self):
        return iter([self.path, "-z", self.tokenizer])

    def generate(self, *args, **options):
        return run(*self, *args, **options)


def data_file(name):
    path = DATA_DIR / name
    if not path.exists():
        pytest.skip(f"../shared/data/{name} is absent")
    return path


@pytest.fixture(scope="session")
def stories():
    """A real model of 260,000 weights that tells stories."""
    return Model(data_file("stories260K.bin"), data_file("tok512.bin"))


@pytest.fixture(scope="session")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def tiny(workdir):
    """A random model of a few thousand weights over bytes and letters, context 64."""
    model = Model(workdir / "tiny.bin", workdir / "tiny-tokenizer.bin")
    model.path.write_bytes(models.model_bytes(models.TINY, "v0"))
    model.tokenizer.write_bytes(models.tokenizer_bytes(models.tiny_pieces()))
    return model


@pytest.fixture(scope="session")
def slow(workdir):
    """A model of zeros that takes milliseconds a token, for what must be seen while it runs. It never stops by itself
    for thousands of tokens: sampled with --ignore-eos, every token of the tiny tokenizer is equally likely."""
    model = Model(workdir / "slow.bin", workdir / "slow-tokenizer.bin")
    models.write_zero_model(model.path, models.Config(1024, 2816, 2, 16, 4, 300, 4096))
    model.tokenizer.write_bytes(models.tokenizer_bytes(models.tiny_pieces()))
    return model


@pytest.fixture
def chain(tmp_path):
    """chain([b"one", b" two", b"\\xc3"]) makes a model that, from an empty prompt, says exactly these tokens, then
    BOS, which ends the text. A byte that is not ASCII is said by its byte token, all else by a piece of its own."""

    def make(tokens, name="chain"):
        pieces = models.SPECIAL + models.BYTES + [b" "]
        ids = []
        for token in tokens:
            if len(token) == 1 and token[0] >= 0x80:
                ids.append(models.FIRST_BYTE + token[0])
            elif token in pieces:
                ids.append(pieces.index(token))
            else:
                ids.append(len(pieces))
                pieces.append(token)
        assert len(set(ids)) == len(ids), "a token of a chain has one successor, it cannot appear twice"
        successor = dict(zip([models.BOS, *ids], [*ids, models.BOS]))
        vocab = len(pieces)
        config = models.Config(-(-vocab // 8) * 8, 8, 1, 1, 1, vocab, 64, tied=False)
        config = models.replace(config, n_heads=config.dim // 8, n_kv_heads=1)
        model = Model(tmp_path / f"{name}.bin", tmp_path / f"{name}-tokenizer.bin")
        model.path.write_bytes(models.model_bytes(config, "v0", models.chain_weights(config, successor)))
        model.tokenizer.write_bytes(models.tokenizer_bytes(pieces))
        return model

    return make


@pytest.fixture(scope="session")
def simd_sets(tiny):
    """The kernel sets that work here; the others are refused by their name."""
    sets = []
    for name in ("scalar", "avx2", "avx512", "neon"):
        done = tiny.generate("-i", "a", "-n", "1", "--simd", name)
        if done.code == 0:
            sets.append(name)
        else:
            assert_refused(done, 2, "--simd", name)
    assert "scalar" in sets, "the scalar set works everywhere"
    return sets


@pytest.fixture(autouse=True)
def no_stray_signal_settings():
    """Runs inherit the default reaction to SIGINT and SIGPIPE, whatever started pytest (nohup, a CI runner)."""
    old = signal.getsignal(signal.SIGINT)
    if old == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)
