"""Several choices for a request (`n`): their form, their seeds, that they share the prompt, and that nothing else decides
their bytes. A test's name is the promise that it pins."""

import json
import struct
from dataclasses import replace

import pytest
from conftest import Model, not_under_tsan, run
from test_batch import batch, text_of, write_lines

import models
import native_models

HEADER = "the cat in an hat and more than a page of it, "


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A small native checkpoint of random weights over bytes, with a chat template."""
    path = tmp_path_factory.mktemp("plain") / "m.bin"
    path.write_bytes(native_models.tiny(chat=True, context_length=256).pack())
    return path


def lines_of(count):
    """Requests with 1 to 16 choices in all forms, with prompts shorter and longer than a page and common beginnings."""
    lines = []
    for i in range(count):
        body = {"n": (3, 1, 16, 2, 5)[i % 5], "max_tokens": 3 + i % 9}
        body |= [{"logprobs": 2}, {"stop": "a"}, {"logprobs": 0, "echo": True}, {}][i % 4] if i % 3 else {"temperature": 0}
        prompt = (HEADER * 3)[: (20, 31, 32, 33, 64, 100)[i % 6]]
        if i % 2:
            lines.append(body | {"prompt": prompt})
        else:
            lines.append({"custom_id": f"c{i}", "method": "POST", "url": "/v1/completions", "body": body | {"prompt": prompt}})
    return [json.dumps(line) for line in lines]


def test_plain_objects_have_a_list_of_choices_each_with_its_seed(tiny, tmp_path):
    body = {"prompt": "the cat", "max_tokens": 12, "seed": 5}
    one, four, same = batch(tiny, write_lines(tmp_path / "q", [json.dumps(body | n) for n in ({}, {"n": 4}, {"n": 1})]))
    assert list(four) == ["id", "index", "hash", "choices", "usage"]
    assert [list(choice) for choice in four["choices"]] == [["index", "text", "finish_reason", "seed"]] * 4
    assert [choice["index"] for choice in four["choices"]] == [0, 1, 2, 3]
    assert (four["choices"][0]["text"], four["choices"][0]["seed"]) == (one["text"], one["seed"] == 5 and 5)
    assert list(same) == list(one) and [same[k] for k in list(one)[3:]] == [one[k] for k in list(one)[3:]]
    assert len({choice["text"] for choice in four["choices"]}) == 4
    new = 0
    for choice in four["choices"]:
        alone = tiny.generate("-i", "the cat", "-n", 12, "-s", choice["seed"], "--no-echo", "--json").ok().json
        assert choice["text"] == alone["text"] and choice["finish_reason"] == alone["finish_reason"]
        new += alone["completion_tokens"]
    prompt = one["usage"]["prompt_tokens"]
    assert four["usage"] == {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}


@pytest.mark.parametrize("url", ["/v1/completions", "/v1/chat/completions"])
def test_both_apis_have_the_choices_with_their_index(plain, tmp_path, url):
    prompt = {"prompt": "ab"} if url == "/v1/completions" else {"messages": [{"role": "user", "content": "ab"}]}
    body = prompt | {"n": 3, "best_of": 3, "max_tokens": 8, "ignore_eos": True, "seed": 1}
    lines = [json.dumps({"custom_id": "c", "url": url, "body": body}), json.dumps(prompt | {"n": 3, "max_tokens": 8, "seed": 1, "ignore_eos": True})]
    theirs, ours = batch([plain], write_lines(tmp_path / "q", lines))
    choices = theirs["response"]["body"]["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    texts = [choice["text"] if "text" in choice else choice["message"]["content"] for choice in choices]
    assert texts == [choice["text"] for choice in ours["choices"]] and len(set(texts)) == 3
    assert theirs["response"]["body"]["usage"]["completion_tokens"] == 24


def test_greedy_choices_are_equal(tiny, tmp_path):
    [result] = batch(tiny, write_lines(tmp_path / "q", ['{"prompt": "the cat", "n": 5, "temperature": 0, "max_tokens": 9}']))
    assert len({choice["text"] for choice in result["choices"]}) == 1


@pytest.mark.parametrize("fields, message", [
    ({"n": 0}, "n is 0, expected a whole number from 1 to 16"), ({"n": 17}, "n is 17, expected a whole number from 1 to 16"),
    ({"n": 1.5}, "n is 1.5, expected a whole number from 1 to 16"), ({"n": "2"}, 'n is "2", expected a whole number from 1 to 16'),
    ({"best_of": 3}, "best_of is 3, expected n, 1"), ({"n": 2, "best_of": 4}, "best_of is 4, expected n, 2"),
    ({"n": 2, "best_of": True}, "best_of is true, expected a whole number from 1 to 16")])  # fmt: skip
def test_wrong_numbers_of_choices_are_refused(tiny, tmp_path, fields, message):
    [bad] = batch(tiny, write_lines(tmp_path / "q", [json.dumps({"prompt": "a"} | fields)]), code=1)
    assert bad["error"]["message"] == f"line 1: {message}"


# ----------------------------------------------------------------------------------------------------------------------
# Nothing else decides the bytes.


def test_results_are_the_same_at_any_parallel_threads_and_chunk(plain, tmp_path):
    path = write_lines(tmp_path / "q", lines_of(15))
    want = run(plain, "-b", path, "--parallel", 1).ok().bytes
    cases = [("--parallel", 2), ("--parallel", 7), ("--parallel", 64), ("--parallel", 5, "-j", 2, "--chunk", 5),
             ("--chunk", 7, "--simd", "scalar")]  # fmt: skip
    for options in cases:
        assert run(plain, "-b", path, *options).ok().bytes == want, options


def test_choices_are_what_separate_requests_with_their_seeds_give(plain, tmp_path):
    for prompt in (HEADER[:9], HEADER[:32], HEADER * 2):
        body = {"prompt": prompt, "max_tokens": 20, "ignore_eos": True, "seed": 8, "presence_penalty": 0.5}
        [result] = batch([plain], write_lines(tmp_path / "q", [json.dumps(body | {"n": 6})]))
        lines = [json.dumps(body | {"seed": choice["seed"]}) for choice in result["choices"]]
        alone = [text_of(one) for one in batch([plain], write_lines(tmp_path / "s", lines), "--parallel", 1)]
        assert [choice["text"] for choice in result["choices"]] == alone


def test_an_interrupted_batch_goes_on_to_the_same_bytes(plain, tmp_path):
    path, out = write_lines(tmp_path / "q", lines_of(12)), tmp_path / "r"
    run(plain, "-b", path, "-o", out).ok()
    want = out.read_bytes()
    for parallel, size in ((1, 0), (64, 1000), (3, len(want) // 2), (16, len(want) - 1)):
        out.write_bytes(want[:size])
        run(plain, "-b", path, "-o", out, "--resume", "--parallel", parallel).ok()
        assert out.read_bytes() == want, (parallel, size)


def test_of_choices_that_fail_the_first_is_told_whichever_fails_first(tmp_path):
    """The embedding of z is not a number: a choice that draws it fails with its next token, some sooner than others."""
    config = replace(models.TINY_UNTIED, dim=16)
    data, pieces = bytearray(models.model_bytes(config, "v0")), models.tiny_pieces()
    struct.pack_into("<f", data, 28 + pieces.index(b"z") * 16 * 4, float("nan"))
    model = Model(tmp_path / "m.bin", tmp_path / "t.bin")
    model.path.write_bytes(data)
    model.tokenizer.write_bytes(models.tokenizer_bytes(pieces))
    body = {"prompt": "the", "n": 6, "max_tokens": 30, "ignore_eos": True, "logit_bias": {str(pieces.index(b"z")): 3}}
    lines = ['{"prompt": "a", "n": 2}', json.dumps(body), '{"prompt": "an", "n": 3}', '{"prompt": "the z", "n": 2}']
    path = write_lines(tmp_path / "q", lines)
    done = run(*model, "-b", path, "-n", 4, "--parallel", 1)
    assert done.code == 1 and ["error" in json.loads(line) for line in done.out.splitlines()] == [False, True, False, True], done
    for parallel in (2, 3, 64):
        assert run(*model, "-b", path, "-n", 4, "--parallel", parallel).bytes == done.bytes, parallel


# ----------------------------------------------------------------------------------------------------------------------
# The prompt is computed once.


@not_under_tsan
@pytest.mark.parametrize("parallel", [1, 16])
def test_sixteen_choices_compute_the_prompt_once(slow, tmp_path, parallel):
    """A prompt of a page less than its last token, which no full page can share if they run at the same time."""
    seconds = {}
    for n in (1, 16):
        prompt = "the cat in " * (15 if parallel == 16 else 30)
        path = write_lines(tmp_path / f"q{n}", [json.dumps({"prompt": prompt, "n": n, "max_tokens": 1, "ignore_eos": True})])
        seconds[n] = min(run(*slow, "-b", path, "--parallel", parallel, "-j", 1).ok().cpu_seconds for _ in range(2))
    assert seconds[16] < 6 * seconds[1], f"{seconds[16]:.2f} s for 16 choices, {seconds[1]:.2f} s for one"
