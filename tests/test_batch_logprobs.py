"""Log-probabilities in the results of batches, in the forms of both of OpenAI's APIs and of plain objects, compared with numpy
in double precision; prompts that are scored. A test's name is the promise that it pins."""

import json

import numpy as np
import pytest
from conftest import logits, run
from test_batch import batch, write_lines

import native_models

VOCAB = native_models.TINY["vocab_size"]
PROMPT = "the caf\u00e9 \U0001f600"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A small native checkpoint of random weights over bytes, with a chat template."""
    path = tmp_path_factory.mktemp("plain") / "m.bin"
    path.write_bytes(native_models.tiny(chat=True).pack())
    return path


def completion(**body):
    return json.dumps({"custom_id": "c", "method": "POST", "url": "/v1/completions", "body": {"prompt": PROMPT} | body})


def chat(**body):
    body = {"messages": [{"role": "user", "content": PROMPT}]} | body
    return json.dumps({"custom_id": "c", "method": "POST", "url": "/v1/chat/completions", "body": body})


def choices(model, tmp_path, *lines, options=()):
    results = batch([model], write_lines(tmp_path / "q", lines), "--kv", "f32", *options)
    return [result["response"]["body"]["choices"][0] if "response" in result else result for result in results]


def label(data):
    """A token as OpenAI's completions name it."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def log_softmax(model, ids):
    """float64 (n, vocabulary): of the token after each."""
    rows = logits(model, ids, "--kv", "f32", vocab_size=VOCAB).astype(np.float64)
    return rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))


def plain_ids(result):
    return [token["id"] for token in result["logprobs"]]


@pytest.mark.parametrize("sampling", [
    {"temperature": 0}, {"temperature": 1.7, "presence_penalty": 1, "logit_bias": {"70": 5}, "top_k": 4, "seed": 3}])  # fmt: skip
def test_completions_have_the_log_softmax_of_the_raw_logits(plain, tmp_path, sampling):
    body = {"max_tokens": 20, "ignore_eos": True, "echo": True} | sampling
    theirs, ours = choices(plain, tmp_path, completion(logprobs=5, **body), json.dumps({"prompt": PROMPT, "logprobs": 5} | body))
    ids = plain_ids(ours)
    expected, found = log_softmax(plain, ids), theirs["logprobs"]
    assert list(found) == ["tokens", "token_logprobs", "top_logprobs", "text_offset"]
    assert len({len(member) for member in found.values()}) == 1 and len(found["tokens"]) == len(ids)
    assert found["token_logprobs"][0] is None and found["top_logprobs"][0] is None
    pieces = native_models.byte_vocabulary().pieces
    for i, row in enumerate(expected[:-1], 1):
        assert found["tokens"][i] == label(pieces[ids[i]])
        assert abs(found["token_logprobs"][i] - row[ids[i]]) < 2e-6
        best = np.argsort(-row, kind="stable")[:5].tolist()
        want = {label(pieces[id]): row[id] for id in [*best, ids[i]]}
        assert set(found["top_logprobs"][i]) == set(want)
        assert all(abs(found["top_logprobs"][i][name] - value) < 2e-6 for name, value in want.items())
        assert ours["logprobs"][i]["logprob"] == found["token_logprobs"][i]
        assert [t["id"] for t in ours["logprobs"][i]["top"]] == best


def test_chats_have_the_log_softmax_of_the_raw_logits(plain, tmp_path):
    body = {"max_tokens": 20, "ignore_eos": True, "seed": 4, "temperature": 2}
    messages = {"messages": [{"role": "user", "content": PROMPT}]}
    lines = [chat(logprobs=True, top_logprobs=3, **body), json.dumps(messages | {"logprobs": True, "top_logprobs": 3} | body)]
    theirs, ours = choices(plain, tmp_path, *lines)
    prompt = [int(i) for i in run(plain, "--tokenize", "--chat", "-i", PROMPT).ok().out.split()]
    ids = plain_ids(ours)
    expected = log_softmax(plain, [*prompt, *ids])[len(prompt) - 1 : -1]
    found = theirs["logprobs"]
    assert list(found) == ["content", "refusal"] and len(found["content"]) == len(ids) == 20
    pieces = native_models.byte_vocabulary().pieces
    for token, id, row in zip(found["content"], ids, expected):
        assert list(token) == ["token", "logprob", "bytes", "top_logprobs"]
        assert bytes(token["bytes"]) == pieces[id] and abs(token["logprob"] - row[id]) < 2e-6
        assert token["token"] == pieces[id].decode("utf-8", "replace")
        best = np.argsort(-row, kind="stable")[:3]
        assert [bytes(t["bytes"]) for t in token["top_logprobs"]] == [pieces[i] for i in best]
        assert np.allclose([t["logprob"] for t in token["top_logprobs"]], row[best], rtol=0, atol=2e-6)


@pytest.mark.parametrize("echo", [False, True])
def test_text_offset_is_where_a_token_begins_in_the_text(stories, tmp_path, echo):
    body = {"prompt": "Once upon a time, caf\u00e9 \U0001f600", "max_tokens": 30, "ignore_eos": True, "seed": 1, "logprobs": 0}
    line = {"custom_id": "c", "url": "/v1/completions", "body": body | {"echo": echo}}
    [result] = batch(stories, write_lines(tmp_path / "q", [json.dumps(line)]))
    choice = result["response"]["body"]["choices"][0]
    tokens, offsets = choice["logprobs"]["tokens"], choice["logprobs"]["text_offset"]
    assert offsets[0] == 0 and offsets == sorted(offsets)
    for token, begin in zip(tokens, offsets):
        if not token.startswith("bytes:") and token != "<s>":
            assert choice["text"][begin : begin + len(token)] == token, (token, begin)
    if echo:
        assert any(token.startswith("bytes:") for token in tokens), "no token within a character was tried"


def test_plain_objects_have_what_the_command_line_prints(stories, tmp_path):
    prompt, options = "Once upon a time", ("-n", 20, "-s", 9)
    want = stories.generate("-i", prompt, *options, "--json", "--logprobs", 4).ok().json["logprobs"]
    line = {"prompt": prompt, "max_tokens": 20, "seed": 9}
    lines = [line | {"logprobs": 4}, line | {"logprobs": True, "top_logprobs": 4}, line | {"logprobs": False}, line]
    number, switch, off, without = batch(stories, write_lines(tmp_path / "q", map(json.dumps, lines)))
    assert number["logprobs"] == switch["logprobs"] == want
    assert off["text"] == without["text"] == number["text"]
    assert "logprobs" not in off and "logprobs" not in without


def test_logprobs_of_none_are_asked_for_by_0_and_not_by_false(plain, tmp_path):
    body = {"max_tokens": 4, "ignore_eos": True, "temperature": 0}
    lines = [completion(logprobs=0, **body), completion(logprobs=False, **body), completion(**body), chat(logprobs=True, **body),
             chat(logprobs=False, **body), chat(top_logprobs=0, **body)]  # fmt: skip
    lines.append(completion(top_logprobs=0, logprobs=3, **body))
    zero, false, without, true, off, none, three = choices(plain, tmp_path, *lines)
    assert len(three["logprobs"]["top_logprobs"][0]) == 3
    assert [list(best.values()) for best in zero["logprobs"]["top_logprobs"]] == [[x] for x in zero["logprobs"]["token_logprobs"]]
    assert all(token["top_logprobs"] == [] for token in true["logprobs"]["content"])
    assert [choice["logprobs"] for choice in (false, without, off, none)] == [None] * 4


def test_a_stop_token_is_listed_only_where_it_is_part_of_the_text(plain, tmp_path):
    body = {"prompt": "ab", "logit_bias": {"70": 100}, "stop_token_ids": [70], "min_tokens": 3, "max_tokens": 9, "logprobs": 1}
    lines = [json.dumps(body | {"include_stop_str_in_output": included}) for included in (False, True)]
    for extra, result in enumerate(choices(plain, tmp_path, *lines)):
        assert len(result["logprobs"]) == result["usage"]["completion_tokens"] == 3 + extra


@pytest.mark.parametrize("line, message", [
    (completion(logprobs=21), "logprobs is 21, expected a whole number from 0 to 20"),
    (completion(logprobs=-1), "logprobs is -1, expected a whole number from 0 to 20"),
    (completion(logprobs=True), "logprobs is true, expected a whole number from 0 to 20"),
    (completion(top_logprobs=2), "top_logprobs is 2, expected 0 without logprobs"),
    (completion(top_logprobs=2, logprobs=1), "top_logprobs is 2, expected 0 beside a number of logprobs"),
    (chat(logprobs=3), "logprobs is 3, expected true or false"),
    (chat(top_logprobs=3), "top_logprobs is 3, expected 0 without logprobs"),
    (chat(logprobs=True, top_logprobs=21), "top_logprobs is 21, expected a whole number from 0 to 20"),
    (json.dumps({"prompt": "a", "logprobs": "5"}), 'logprobs is "5", expected a whole number from 0 to 20')])  # fmt: skip
def test_wrong_values_are_refused_with_what_was_found_and_expected(plain, tmp_path, line, message):
    [bad] = batch([plain], write_lines(tmp_path / "q", [line]), code=1)
    assert bad["error"]["message"].startswith(f"line 1: {message}"), bad


# ----------------------------------------------------------------------------------------------------------------------
# Independence.


def mixed(count):
    """Requests with and without log-probabilities, whose prompts have a beginning in common."""
    lines = []
    for i in range(count):
        body = {"prompt": "the cat in the hat and all of that " + "x" * (i % 5), "max_tokens": 3 + i % 7, "ignore_eos": True}
        body |= [{"logprobs": 2}, {}, {"logprobs": 1, "echo": True}, {"echo": True}, {"logprobs": 0}][i % 5]
        lines.append(json.dumps(body if i % 2 else {"custom_id": str(i), "url": "/v1/completions", "body": body}))
    return lines


def test_results_are_the_same_at_any_parallel_threads_and_chunk(plain, tmp_path):
    path = write_lines(tmp_path / "q", mixed(40))
    want = run(plain, "-b", path, "--parallel", 1).ok().bytes
    for options in (("--parallel", 3), ("--parallel", 40), ("--parallel", 7, "-j", 3, "--chunk", 1), ("--chunk", 5, "--simd", "scalar")):
        assert run(plain, "-b", path, *options).ok().bytes == want, options


def test_a_prompt_is_scored_where_its_pages_are_in_the_cache_already(plain, tmp_path):
    body = {"prompt": "the cat in the hat and all of that, they said", "max_tokens": 2, "ignore_eos": True, "temperature": 0}
    lines = [json.dumps(body | extra) for extra in ({}, {"logprobs": 1, "echo": True}, {"logprobs": 1, "echo": True})]
    for parallel in (1, 3):
        first, second, third = batch([plain], write_lines(tmp_path / "q", lines), "--parallel", parallel)
        assert second["logprobs"] == third["logprobs"] and len(second["logprobs"]) == second["usage"]["total_tokens"]
        assert second["text"].endswith(first["text"])


def test_an_interrupted_batch_goes_on_to_the_same_bytes(plain, tmp_path):
    path, out = write_lines(tmp_path / "q", mixed(20)), tmp_path / "r"
    run(plain, "-b", path, "-o", out).ok()
    want = out.read_bytes()
    for size in (0, 1000, len(want) // 2, len(want) - 1):
        out.write_bytes(want[:size])
        run(plain, "-b", path, "-o", out, "--resume").ok()
        assert out.read_bytes() == want, size
