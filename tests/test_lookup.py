"""--lookup: tokens that are proposed from what was said change neither the text nor the logits that count, whatever the
sampler, the batch and the number; and they are of use. A test's name is the promise that it pins.

    RUNS=1000 pytest tests/test_lookup.py -k samplers      as many runs, instead of a few
"""

import json
import os
import random
import re

import pytest
from conftest import GREEDY, PROMPT, assert_refused, run
from test_batch import write_lines

import native_models

RUNS = int(os.environ.get("RUNS", 24))
REPEATING = "Lily has a red ball. Tom has a red ball. Lily has a big dog. Tom has a big dog. Lily has a red ball. Tom has"
SAMPLERS = [
    {}, {"temperature": 0}, {"temperature": 2}, {"top_k": 5}, {"top_p": 0}, {"min_p": 0.1}, {"repetition_penalty": 1.3},
    {"presence_penalty": 1.5, "temperature": 0}, {"frequency_penalty": -1}, {"logit_bias": {"261": 3}}, {"min_tokens": 40, "max_tokens": 60},
    {"stop": "ball"}, {"stop_token_ids": [270, 271]}, {"ignore_eos": True, "skip_special_tokens": False},
    {"include_stop_str_in_output": True, "stop": ["Tom", "dog"]}, {"logprobs": 3}, {"logprobs": 1, "echo": True}, {"n": 3},
]  # fmt: skip
OPTIONS = [
    (), GREEDY, ("-t", 1.5, "-p", 1), ("-k", 8), ("--min-p", 0.05), ("--repeat-penalty", 1.2), ("--presence-penalty", 1),
    ("--frequency-penalty", -0.5), ("--logit-bias", "261=2"), ("--min-tokens", 50), ("--stop", "ball"), ("--ignore-eos",),
    ("--stop-token-id", 270), ("-n", 0), ("-n", 1), ("-n", 2), ("-c", 60, "-n", 0), ("--kv", "f32"), ("--chunk", 1),
]  # fmt: skip


def proposed(done):
    """How many tokens were proposed and how many accepted, as the statistics tell."""
    found = re.search(r", (\d+) of (\d+) proposed", done.err)
    return (int(found[2]), int(found[1])) if found else (0, 0)


def requests(count, seed):
    chance = random.Random(seed)
    words = REPEATING.split()
    lines = []
    for i in range(count):
        begin = chance.randrange(len(words) - 3)
        prompt = " ".join(words[begin:] * chance.randrange(1, 3))
        body = {"prompt": prompt, "max_tokens": chance.randrange(1, 70), "seed": chance.randrange(10**6)}
        lines.append(json.dumps(body | chance.choice(SAMPLERS)))
    return lines


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_text_and_digest_are_the_same_with_and_without(stories, options):
    def tell(prompt, *lookup):
        done = stories.generate("-i", prompt, "-n", 80, "-s", 6, "--digest", *options, *lookup).ok()
        return done.bytes, done.err

    for prompt in (REPEATING, PROMPT[1]):
        want = tell(prompt, "--lookup", 0)
        for number in ((), ("--lookup", 1), ("--lookup", 32)):
            assert tell(prompt, *number) == want, number


def test_batches_of_all_samplers_have_the_same_bytes_with_and_without(stories, tmp_path):
    for seed in range(0, RUNS, 24):
        path = write_lines(tmp_path / "q", requests(24, seed))
        want = run(*stories, "-b", path, "--lookup", 0).ok().bytes
        for options in (("--parallel", 1), ("--parallel", 2, "--lookup", 32), ("--parallel", 4), ("--parallel", 3, "--chunk", 1)):
            assert run(*stories, "-b", path, *options).ok().bytes == want, (seed, options)


def test_logprobs_are_the_same_with_and_without(stories):
    def listed(number):
        found = stories.generate("-i", REPEATING, "-n", 60, "-s", 2, "--json", "--logprobs", 3, "--lookup", number).ok().json
        return found["text"], found["logprobs"], found["finish_reason"], found["completion_tokens"]

    assert listed(8) == listed(0)


def test_a_text_that_repeats_itself_takes_fewer_passes(slow):
    """The model of zeros says the same token for ever, and a pass of several rows costs it little more than one of a single."""
    options = ("-i", "the cat", "-n", 300, *GREEDY, "--ignore-eos", "-j", 1, "--stats")
    without, done = slow.generate(*options, "--lookup", 0).ok(), slow.generate(*options).ok()
    assert done.bytes == without.bytes and proposed(without) == (0, 0)
    n, right = proposed(done)
    assert right > 150 and right > 0.9 * n, done
    assert done.cpu_seconds < 0.8 * without.cpu_seconds, f"{done.cpu_seconds:.2f} s, {without.cpu_seconds:.2f} s without"


def test_statistics_of_a_batch_tell_what_was_proposed(slow, tmp_path):
    path = write_lines(tmp_path / "q", ['{"prompt": "the cat", "max_tokens": 100, "temperature": 0, "ignore_eos": true}'])
    done = run(*slow, "-b", path, "--stats").ok()
    n, right = proposed(done)
    assert 0 < right <= n, done


def test_a_chat_says_the_same_with_and_without(tmp_path):
    path = tmp_path / "m.bin"
    path.write_bytes(native_models.tiny(chat=True, context_length=512).pack())
    options = ("-n", 200, "-s", 3, "-t", 0.3, "--ignore-eos", "--chat", "-i", "abcabcabcabc", "--digest")
    want, got = (run(path, *options, "--lookup", number).ok() for number in (0, 8))
    assert (got.bytes, got.err) == (want.bytes, want.err)


@pytest.mark.parametrize("value", ["-1", "33", "1.5", "", "x"])
def test_wrong_numbers_are_refused(stories, value):
    assert_refused(stories.generate(*PROMPT, "--lookup", value), 2, "--lookup")
