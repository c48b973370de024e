"""What every test file shares: the executable under test, ways to run it, and small models for it. README.md is the map.

The environment says which build is tested, so that the same tests drive every one:

    RUN        the executable (default ./run)
    BUILD_DIR  where the executables of tests/ are: BUILD_DIR/tests/test_*, BUILD_DIR/tests/logits (default build)
    EMULATOR   the command that runs them if they are for another machine (qemu-aarch64)
    TESTS_END  no test begins after this time (seconds since 1970); those that are left are skipped (default: none)
    DATA_DIR   real vocabularies, not part of this repository (default ../shared/data); a test that reads one skips
               where it is absent and names the file
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
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
DATA_DIR = Path(os.environ.get("DATA_DIR", ROOT.parent / "shared" / "data"))
GOLDEN_DIR = TESTS / "golden"

_program = EXECUTABLE.read_bytes() if EXECUTABLE.exists() else b""
ADDRESS_SANITIZED = b"__asan_init" in _program
SANITIZED = ADDRESS_SANITIZED or b"__msan_init" in _program or b"__tsan_init" in _program
# The thread sanitizer's runtime starts a thread, and aborts where RLIMIT_FSIZE keeps it from writing its files.
not_under_tsan = pytest.mark.skipif(b"__tsan_init" in _program, reason="the thread sanitizer's runtime interferes")
# Limits of processor time tell a linear step from a quadratic one, which takes a hundred times as long or more. They are
# ten times what a good machine needs, since some are that slow, and multiplied by this.
SLOWER = 20 if SANITIZED else 1
# Seconds after which a run counts as hanging. Generous, since a machine may be busy with other work: what must be quick
# is measured in processor time (Ran.cpu_seconds) instead.
TIMEOUT = 300 * (4 if SANITIZED else 1)

THREADS = (1, 2, 3, 8)
CHUNKS = (1, 7, 32, 1024)
GREEDY = ("-t", "0")
PROMPT = ("-i", "Once upon a time")


class Ran:
    """A finished run: what a test may look at, and what it prints when it fails."""

    def __init__(self, command, code, stdout, stderr, cpu_seconds=None):
        self.command = [str(part) for part in command]
        self.code = code  # exit status; negative: the number of the signal that ended it
        self.cpu_seconds = cpu_seconds  # of processor time, all threads together
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


def cpu_of_children():
    """Processor seconds of all child processes that have been waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cpu_so_far(process):
    """Processor seconds that a running process has used, all threads together."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime


def catches(process, number):
    """Whether a running process has a handler for this signal."""
    caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    return bool(caught) and int(caught[1], 16) >> (number - 1) & 1


def wait_for_work(process, cpu_seconds=0.2 * (4 if SANITIZED else 1)):
    """Returns once the process catches SIGINT and has used so much processor time: however slow the machine is, it has
    started up."""
    end = time.monotonic() + TIMEOUT
    while process.poll() is None and time.monotonic() < end:
        if catches(process, signal.SIGINT) and cpu_so_far(process) >= cpu_seconds:
            return
        time.sleep(0.01)


def environment(extra=None):
    """The environment of a run, without variables that would change what the program does."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("OMP_") and k != "RUN_MODEL"}
    env.update(extra or {})
    return env


def execute(command, stdin=b"", timeout=TIMEOUT, env=None, **popen):
    """Runs a command with stdin (bytes or a file) and returns a Ran. A run that hangs is killed and fails the test."""
    if EMULATOR and Path(command[0]).is_relative_to(BUILD_DIR):
        command = [*EMULATOR, *command]
    command = [os.fspath(part) if isinstance(part, os.PathLike) else str(part) for part in command]
    given = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    popen.setdefault("stdout", subprocess.PIPE)
    before = cpu_of_children()
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, timeout=timeout, env=environment(env), **given, **popen)
    except subprocess.TimeoutExpired:
        pytest.fail(f"still running after {timeout} s: {' '.join(command)[:1000]}", pytrace=False)
    return Ran(command, done.returncode, done.stdout or b"", done.stderr, cpu_of_children() - before)


def run(*args, **options):
    """Runs the executable under test with these arguments."""
    return execute([EXECUTABLE, *args], **options)


def limited(what, limit, *args, **options):
    """A run with a limit of the process, one of resource.RLIMIT_*. One thread: OpenMP's runtime ends the process itself if it
    cannot start the threads it needs."""

    def set_limit():
        resource.setrlimit(what, (limit, limit))

    return run(*args, env={"OMP_NUM_THREADS": "1"}, preexec_fn=set_limit, **options)


def start(*args, env=None, program=EXECUTABLE, **popen):
    """Starts the executable (or another program) and returns its Popen; stdout and stderr are pipes unless `popen` says otherwise."""
    # Unbuffered: bytes that a buffer reads ahead are lost to communicate(), which reads the pipe itself.
    popen.setdefault("bufsize", 0)
    popen.setdefault("stdin", subprocess.DEVNULL)
    popen.setdefault("stdout", subprocess.PIPE)
    popen.setdefault("stderr", subprocess.PIPE)
    command = [str(program), *(str(a) for a in args)]
    return subprocess.Popen(command, env=environment(env), **popen)


def finish(process, timeout=TIMEOUT):
    """Waits for a started process and returns a Ran with what it has written since."""
    before = cpu_of_children()
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        pytest.fail(f"still running after {timeout} s: {process.args}", pytrace=False)
    return Ran(process.args, process.returncode, out or b"", err or b"", cpu_of_children() - before)


def logits(model, tokens, *options, vocab_size):
    """f32 (n_tokens, vocab_size): the logits after each token, from build/tests/logits."""
    done = execute([BUILD_DIR / "tests" / "logits", model, *options, *tokens]).ok()
    expected = 4 * len(tokens) * vocab_size
    assert len(done.bytes) == expected, f"expected {expected} bytes of logits, found {len(done.bytes)}\n{done}"
    return np.frombuffer(done.bytes, "<f4").reshape(len(tokens), vocab_size)


def assert_refused(done, code, *names):
    """The run ended with exit status `code`, nothing on stdout, and one line on stderr that contains each of `names`."""
    assert done.code == code, f"expected exit {code}\n{done}"
    assert done.bytes == b"", f"expected nothing on stdout\n{done}"
    lines = done.err.splitlines()
    assert len(lines) == 1 and done.err.endswith("\n"), f"expected one line on stderr, found {len(lines)}\n{done}"
    for name in names:
        assert str(name) in lines[0], f"expected {str(name)!r} to be named on stderr\n{done}"


QUICK = 5.0 * SLOWER  # seconds of processor time: refusing a small file takes less


def measured(*args):
    """Runs the program; gives a Ran and its largest resident memory in KB."""
    process = subprocess.Popen([EXECUTABLE, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=environment())  # fmt: skip
    hangs = threading.Timer(TIMEOUT, process.kill)
    hangs.start()
    out, err = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    hangs.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close(), process.stderr.close()
    return Ran(process.args, process.returncode, out, err, usage.ru_utime + usage.ru_stime), usage.ru_maxrss


def assert_quick(done):
    took = done.cpu_seconds
    assert took < QUICK, f"took {took:.1f} s of processor time, expected less than {QUICK:.0f}\n{done}"


class Model:
    """A model and, of llama2.c's files, its tokenizer, as arguments of a run: run(*model, ...)."""

    def __init__(self, path, tokenizer=None):
        self.path = Path(path)
        self.tokenizer = tokenizer and Path(tokenizer)

    def __iter__(self):
        return iter([self.path, "-z", self.tokenizer] if self.tokenizer else [self.path])

    def generate(self, *args, **options):
        return run(*self, *args, **options)


def data_file(name):
    """The path of a file of DATA_DIR; the test is skipped if it is absent."""
    path = DATA_DIR / name
    if not path.exists():
        pytest.skip(f"{name} is not in DATA_DIR")
    return path


def pytest_runtest_setup(item):
    if time.time() > float(os.environ.get("TESTS_END", "inf")):
        pytest.skip("no time left")


@pytest.fixture(scope="session")
def stories():
    """The default model, which tells stories: 820,352 weights in q8, its tokenizer inside, context 512."""
    return Model(ROOT / "models" / "stories.bin")


@pytest.fixture(scope="session")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def tiny(workdir):
    """A llama2.c file of a few thousand random weights; its vocabulary is bytes, letters and a few merges. Context 64."""
    model = Model(workdir / "tiny.bin", workdir / "tiny-tokenizer.bin")
    model.path.write_bytes(models.model_bytes(models.TINY, "v0"))
    model.tokenizer.write_bytes(models.tokenizer_bytes(models.tiny_pieces()))
    return model


@pytest.fixture(scope="session")
def slow(workdir):
    """A model of zeros that takes milliseconds per token, for tests that watch a run. With --ignore-eos it goes on for
    thousands of tokens: every token of the tiny tokenizer is equally likely."""
    model = Model(workdir / "slow.bin", workdir / "slow-tokenizer.bin")
    models.write_zero_model(model.path, models.Config(1024, 2816, 2, 16, 4, 300, 4096))
    model.tokenizer.write_bytes(models.tokenizer_bytes(models.tiny_pieces()))
    return model


@pytest.fixture
def chain(tmp_path):
    """chain([b"one", b" two", b"\\xc3"]) makes a model that continues an empty prompt with exactly these tokens, then
    BOS, which ends the text. A single byte above 0x7f is a byte token; everything else is a piece of its own."""

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
        assert len(set(ids)) == len(ids), "each token of a chain has one successor, so it must not occur twice"
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
    """The names of the kernel sets that this processor can run; the others are refused by name."""
    sets = []
    for name in ("scalar", "avx2", "avxvnni", "avx512", "neon", "dotprod", "i8mm"):
        done = tiny.generate("-i", "a", "-n", "1", "--simd", name)
        if done.code == 0:
            sets.append(name)
        else:
            assert_refused(done, 2, "--simd", name)
    assert "scalar" in sets, "the scalar set works everywhere"
    return sets


@pytest.fixture(autouse=True)
def no_stray_signal_settings():
    """Runs inherit the default action of SIGINT, even if pytest was started with it ignored (nohup, a CI runner)."""
    old = signal.getsignal(signal.SIGINT)
    if old == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)
