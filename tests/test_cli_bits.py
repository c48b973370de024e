"""The same bytes everywhere: --digest does not depend on threads, kernels or chunks; -j and OMP_NUM_THREADS."""

import os
import re
import time
from pathlib import Path

import pytest
from conftest import CHUNKS, GREEDY, PROMPT, SLOWER, THREADS, TIMEOUT, cpu_so_far, not_under_tsan, start


def test_digest_is_16_hexadecimal_digits_on_stderr(stories):
    done = stories.generate(*PROMPT, "-n", "5", *GREEDY, "--digest").ok()
    assert re.fullmatch(r"digest: [0-9a-f]{16}", done.digest), done.digest
    assert "digest" not in done.out


def test_digest_is_the_same_for_any_threads_kernels_and_chunks(stories, simd_sets):
    prompt = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. " * 2
    common = ("-i", prompt, "-n", "150", "-s", "42", "--digest")
    expected = stories.generate(*common, "--simd", "scalar", "-j", "1", "--chunk", "1").ok()
    ways = [("--simd", s) for s in simd_sets] + [("-j", j) for j in THREADS] + [("--chunk", c) for c in CHUNKS]
    ways += [(), ("--simd", simd_sets[-1], "-j", "3", "--chunk", "7")]
    for way in ways:  # eight threads share the processors with each other and with other programs
        done = stories.generate(*common, *way, timeout=6 * TIMEOUT).ok()
        assert (done.digest, done.bytes) == (expected.digest, expected.bytes), f"{way}: {done}\nexpected: {expected}"


def test_digest_depends_on_the_tokens_and_on_the_cache(stories):
    def digest(*options):
        return stories.generate(*options, *GREEDY, "--digest").ok().digest

    digests = [
        digest(*PROMPT, "-n", "5"),
        digest(*PROMPT, "-n", "6"),
        digest("-i", "Once upon a day", "-n", "5"),
        digest(*PROMPT, "-n", "5", "--kv", "f32"),
    ]
    assert len(set(digests)) == len(digests), digests


def test_omp_num_threads_changes_no_byte(stories):
    expected = stories.generate(*PROMPT, "-n", "50", "-s", "1", "--digest").ok()
    for threads in ("1", "2", "5"):
        done = stories.generate(*PROMPT, "-n", "50", "-s", "1", "--digest", env={"OMP_NUM_THREADS": threads}).ok()
        assert (done.bytes, done.digest) == (expected.bytes, expected.digest), f"OMP_NUM_THREADS={threads}: {done}"


def threads_of(process, expected, seconds=20.0 * SLOWER):
    """The largest number of threads seen until there are `expected`, or so much processor time has been used."""
    most, end = 0, time.monotonic() + TIMEOUT
    while most < expected and process.poll() is None and cpu_so_far(process) < seconds and time.monotonic() < end:
        most = max(most, len(os.listdir(f"/proc/{process.pid}/task")))
        time.sleep(0.01)
    return most


@not_under_tsan
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="/proc shows no threads here")
@pytest.mark.parametrize("option, env", [(("-j", "3"), {}), ((), {"OMP_NUM_THREADS": "3"})], ids=["-j", "OMP"])
def test_number_of_threads_is_as_asked_for(slow, option, env):
    process = start(*slow, "-i", "a", "-n", "0", "--ignore-eos", *option, env=env)
    try:
        seen = threads_of(process, 3)
    finally:
        process.kill()
        process.communicate()
    if seen == 1:
        pytest.skip("built without OpenMP")
    assert seen == 3, f"{seen} threads, expected 3"
