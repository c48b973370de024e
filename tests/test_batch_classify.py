"""guided_choice and structured_outputs.choice of requests, and --choice beside --batch: answers drawn from given texts, and
their probabilities. test_cli_choice.py compares those of the command line with a reference. A test's name is the promise
that it pins."""

import itertools
import json
import os
import re

import native_models
import numpy as np
import pytest
from conftest import Model, run
from test_batch import batch, text_of, write_lines
from test_cli_choice import PROMPT, WORDS, chosen, differing

CHAT = {"messages": [{"role": "user", "content": "a"}]}


@pytest.fixture(scope="module")
def letters(workdir):
    """A model of random weights over bytes and a chat template. Context 256: eight pages."""
    model = Model(workdir / "batch-letters.bin")
    model.path.write_bytes(native_models.tiny(chat=True, context_length=256).pack())
    return model


def results_bytes(model, path, *options):
    return run(*model, "--batch", path, *options).ok().bytes


def probabilities_of(result):
    if "response" in result:
        result = result["response"]["body"]["choices"][0]
    return result["probabilities"]


def test_all_forms_of_requests_have_the_probabilities_of_the_command_line(stories, tmp_path):
    expected = chosen(stories, WORDS)["probabilities"]
    bodies = [{"prompt": PROMPT, "max_tokens": 9} | way for way in ({"guided_choice": WORDS}, {"structured_outputs": {"choice": WORDS}})]
    lines = [json.dumps(b) for b in bodies]
    lines += [json.dumps({"custom_id": "c", "url": "/v1/completions", "body": b}) for b in bodies]
    for result in batch(stories, write_lines(tmp_path / "q", lines)):
        assert probabilities_of(result) == expected and text_of(result) in WORDS, result


def test_chats_classify_too(letters, tmp_path):
    expected = chosen(letters, ["yes", "no"], "--chat", prompt="a")["probabilities"]
    plain = CHAT | {"guided_choice": ["yes", "no"]}
    lines = [json.dumps(plain), json.dumps({"custom_id": "c", "url": "/v1/chat/completions", "body": plain})]
    for result in batch(letters, write_lines(tmp_path / "q", lines)):
        assert probabilities_of(result) == expected and text_of(result) in ("yes", "no"), result


def test_a_seed_draws_what_it_draws_at_the_command_line(letters, tmp_path):
    choices = differing(9, 5)
    lines = [json.dumps({"prompt": "the cat", "guided_choice": choices, "seed": s, "temperature": 1.3}) for s in range(12)]
    texts = [text_of(r) for r in batch(letters, write_lines(tmp_path / "q", lines))]
    assert texts == [chosen(letters, choices, "-s", s, "-t", "1.3", prompt="the cat")["text"] for s in range(12)]


def test_texts_are_as_frequent_as_their_probabilities_say(letters, tmp_path):
    choices, count = differing(6, 3), 4000
    line = json.dumps({"prompt": "the cat", "guided_choice": choices, "top_p": 1})
    results = batch(letters, write_lines(tmp_path / "q", [line] * count))
    expected = np.array([p["probability"] for p in probabilities_of(results[0])])
    texts = [text_of(r) for r in results]
    found = np.array([texts.count(c) for c in choices]) / count
    assert (abs(found - expected) < 4.5 * np.sqrt(expected * (1 - expected) / count) + 1e-9).all(), (found, expected)


def requests_of(count):
    """Requests with few and many choices, short and long ones, beside others, with common prompts that end anywhere in a page."""
    lines = []
    for i in range(count):
        body = {"prompt": ("the cat in an hat and more than a page of it, " * 3)[: (5, 31, 32, 33, 64, 100)[i % 6]], "max_tokens": 12}
        body |= {"guided_choice": differing((2, 40, 7, 1)[i % 4], i, "abcdef", 9)} if i % 5 else {}
        body |= [{}, {"logprobs": 2}, {"n": 3}, {"temperature": 0}, {"echo": True}][i % 5]
        lines.append(json.dumps(body))
    return lines


@pytest.mark.parametrize("options", [
    ("--parallel", 1), ("--parallel", 3), ("--parallel", 200), ("-j", 1), ("--chunk", 7), ("--lookup", 0), ("--simd", "scalar")])  # fmt: skip
def test_results_do_not_depend_on_what_runs_beside_them(letters, tmp_path, options):
    path = write_lines(tmp_path / "q", requests_of(60))
    assert results_bytes(letters, path, *options) == results_bytes(letters, path), options


def test_requests_alone_have_the_results_that_they_have_together(letters, tmp_path):
    lines = requests_of(20)
    together = batch(letters, write_lines(tmp_path / "q", lines))
    for i, line in enumerate(lines):
        alone = batch(letters, write_lines(tmp_path / "q1", [line]), "--first-line", i + 1)[0]
        assert alone == together[i]


def test_a_resumed_batch_has_the_same_bytes(letters, tmp_path):
    path, out = write_lines(tmp_path / "q", requests_of(12)), tmp_path / "out"
    expected = results_bytes(letters, path)
    out.write_bytes(b"".join(expected.splitlines(keepends=True)[:5]))
    run(*letters, "--batch", path, "-o", out, "--resume").ok()
    assert out.read_bytes() == expected


@pytest.mark.parametrize("length", [3, 40, 95, 96])
def test_what_prompts_begin_with_is_computed_once_to_the_token(letters, tmp_path, length):
    """The header may end within a page, and prompts may have more in common than the header."""
    prompts = ["x" * length + f"{i * 37 % 1000:03} ab"[:7] for i in range(40)]
    lines = [json.dumps({"prompt": p, "guided_choice": ["yes", "no", "maybe"]}) for p in prompts]
    done = run(*letters, "--batch", write_lines(tmp_path / "q", lines), "--parallel", 1, "--stats").ok()
    expected = sum(1 + max(len(os.path.commonprefix([prompts[i], p])) for p in prompts[:i]) for i in range(1, 40))
    assert f" {expected} cached" in done.err, (expected, done.err)
    together = run(*letters, "--batch", tmp_path / "q", "--stats").ok()
    assert together.bytes == done.bytes
    cached = int(re.search(r"(\d+) cached", together.err)[1])
    assert cached >= (39 * length if length > 90 else 0), together.err


# ----------------------------------------------------------------------------------------------------------------------
# The command line


def test_the_choices_of_the_command_line_are_those_of_requests_that_say_nothing(stories, tmp_path):
    options = itertools.chain.from_iterable(("--choice", w) for w in WORDS)
    bodies = [{}, {"guided_choice": [" cat", " dog"]}, {"response_format": {"type": "text"}}, {"guided_regex": " [a-z]{4}"}]
    lines = [json.dumps({"prompt": PROMPT, "max_tokens": 9, **b}) for b in bodies]
    default, own, free, regex = batch(stories, write_lines(tmp_path / "q", lines), *options)
    assert [p["text"] for p in default["probabilities"]] == WORDS
    assert [p["text"] for p in own["probabilities"]] == [" cat", " dog"]
    assert "probabilities" not in free and len(free["text"]) > 8
    assert "probabilities" not in regex and len(regex["text"]) == 5


def test_each_line_of_a_file_is_classified(stories, tmp_path):
    options = ["--lines", *itertools.chain.from_iterable(("--choice", w) for w in WORDS)]
    results = batch(stories, write_lines(tmp_path / "q", [PROMPT, "Once there was a"]), *options)
    assert [[p["text"] for p in r["probabilities"]] for r in results] == [WORDS] * 2


def test_other_choices_are_other_options_to_resume(stories, tmp_path):
    path, out = write_lines(tmp_path / "q", [json.dumps({"prompt": PROMPT})] * 2), tmp_path / "out"
    run(*stories, "--batch", path, "-o", out, "--choice", " girl").ok()
    run(*stories, "--batch", path, "-o", out, "--choice", " girl", "--resume").ok()
    assert run(*stories, "--batch", path, "-o", out, "--choice", " boy", "--resume").code == 3


WRONG = [
    ({"guided_choice": "a"}, "guided_choice", "an array"),
    ({"guided_choice": [1]}, "guided_choice[0] is 1", "non-empty string"),
    ({"guided_choice": ["a", ""]}, 'guided_choice[1] is ""', "non-empty string"),
    ({"structured_outputs": {"choice": ["a\0b"]}}, "structured_outputs.choice[0]", "NUL"),
    ({"guided_choice": ["b", "a", "a", "b"]}, "guided_choice[2]: duplicate a, expected different texts"),
    ({"guided_choice": [str(i) for i in range(1025)]}, "guided_choice", "1024"),
    ({"structured_outputs": {"choice": ["a"], "regex": "a"}}, "only one constraint", "structured_outputs"),
    ({"guided_choice": ["a"], "guided_regex": "a"}, "only one constraint", "guided_choice"),
    ({"guided_choice": ["a"], "stop": "b"}, "stop", "guided_choice"),
    ({"guided_choice": ["a"], "logit_bias": {"5": 1}}, "logit_bias", "choices"),
    ({"guided_choice": ["a"], "presence_penalty": 1}, "presence_penalty", "choices"),
    ({"guided_choice": ["a" * 9], "max_tokens": 2}, "9 tokens", "2 new tokens"),
]


def test_what_is_wrong_is_the_error_of_its_request(letters, tmp_path):
    right = {"guided_choice": ["a", "b"], "presence_penalty": 0, "repetition_penalty": 1, "logit_bias": {}, "stop": None}
    lines = [json.dumps({"prompt": "a", **body}) for body in [body for body, *_ in WRONG] + [right, {"guided_choice": []}]]
    results = batch(letters, write_lines(tmp_path / "q", lines), code=1)
    for (body, *names), result in zip(WRONG, results):
        assert all(name in result["error"]["message"] for name in names), (body, result)
    assert "text" in results[-2] and "text" in results[-1]
