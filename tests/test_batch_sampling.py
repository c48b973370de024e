"""What a request says about sampling and the end of its text, beside what test_batch.py has: penalties and biases compared
with numpy in double precision, tokens that end a text, the least length. A test's name is the promise that it pins."""

import json

import numpy as np
import pytest
from conftest import GREEDY, PROMPT, assert_refused, logits, run
from test_batch import batch, text_of, write_lines

import native_models


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A small native checkpoint of random weights with a chat template."""
    path = tmp_path_factory.mktemp("plain") / "m.bin"
    path.write_bytes(native_models.tiny(chat=True).pack())
    return path


def greedy_ids(stories, *options, n=40):
    """The tokens of the prompt and of its greedy continuation."""
    prompt = [int(i) for i in stories.generate("--tokenize", *PROMPT).ok().out.split()]
    seen = stories.generate(*PROMPT, "-n", n, *GREEDY, "--kv", "f32", "--ignore-eos", "--json", "--logprobs", 0, *options)
    return prompt, [token["id"] for token in seen.ok().json["logprobs"]]


@pytest.mark.parametrize("presence, frequency, repeat, biases", [
    (1.5, 0, 1, {}), (0, 0.7, 1, {}), (-0.3, 1.1, 1, {}), (2, 2, 1, {}), (-2, 0, 1, {}), (0, 0, 1, {300: 4, 301: -100}),
    (0.8, 0.4, 1.3, {264: -3.5, 266: 2.25, 267: 1})])  # fmt: skip
def test_penalties_and_biases_are_those_of_the_definition(stories, presence, frequency, repeat, biases):
    options = ["--presence-penalty", presence, "--frequency-penalty", frequency, "--repeat-penalty", repeat]
    for token, bias in biases.items():
        options += ["--logit-bias", f"{token}={bias}"]
    prompt, new = greedy_ids(stories, *options)
    rows = logits(stories.path, [*prompt, *new], "--kv", "f32", vocab_size=1024)[len(prompt) - 1 : -1].astype(np.float64)
    assert new != greedy_ids(stories)[1], "the options make no difference"
    for i, (row, token) in enumerate(zip(rows, new)):
        for biased, bias in biases.items():
            row[biased] += bias
        recent = list({*([*prompt, *new[:i]][-64:])})
        row[recent] = np.where(row[recent] > 0, row[recent] / repeat, row[recent] * repeat)
        counts = np.bincount(new[:i], minlength=len(row))
        row -= counts * frequency + (counts > 0) * presence
        assert row[token] >= row.max() - 1e-4, f"token {i} is {token}, expected {row.argmax()}"


def test_fields_do_what_the_options_do(tiny, tmp_path):
    cases = [({"presence_penalty": 2}, ("--presence-penalty", 2)), ({"presence_penalty": -2}, ("--presence-penalty=-2",)),
             ({"frequency_penalty": 0.75}, ("--frequency-penalty", 0.75)), ({"min_tokens": 20}, ("--min-tokens", 20)),
             ({"logit_bias": {"100": 6, "7": -100}}, ("--logit-bias", "100=6", "--logit-bias", "7=-100")),
             ({"stop_token_ids": list(range(100, 140))}, [f"--stop-token-id={i}" for i in range(100, 140)])]  # fmt: skip
    lines = [json.dumps({"prompt": "the cat", "seed": 12} | fields) for fields, _ in cases]
    results = batch(tiny, write_lines(tmp_path / "q", lines), "-n", 20)
    without = tiny.generate("-i", "the cat", "-s", 12, "--no-echo", "-n", 20).ok().out[:-1]
    for (fields, options), result in zip(cases, results):
        alone = tiny.generate("-i", "the cat", "-s", 12, "--no-echo", "-n", 20, *options).ok().out[:-1]
        assert result["text"] == alone, fields
        assert alone != without or "min_tokens" in fields, f"{fields} makes no difference"


def test_a_request_without_such_fields_takes_them_from_the_command_line(tiny, tmp_path):
    options = ("-n", 20, "--presence-penalty", 1.5, "--logit-bias", "100=5", "--stop-token-id", 120)
    path = write_lines(tmp_path / "q", ['{"prompt": "the cat", "seed": 12}',
                                        '{"prompt": "the cat", "seed": 12, "presence_penalty": 0, "logit_bias": {"0": 0}, '
                                        '"stop_token_ids": [0]}'])  # fmt: skip
    taken, replaced = batch(tiny, path, *options)
    assert taken["text"] == tiny.generate("-i", "the cat", "-s", 12, "--no-echo", *options).ok().out[:-1]
    assert replaced["text"] == tiny.generate("-i", "the cat", "-s", 12, "--no-echo", "-n", 20).ok().out[:-1]


# ----------------------------------------------------------------------------------------------------------------------
# The end of a text.


def test_a_stop_token_ends_the_text_before_it(stories):
    prompt, new = greedy_ids(stories)
    at = next(i for i in range(5, len(new)) if new[i] not in new[:i])
    seen = stories.generate(*PROMPT, *GREEDY, "--kv", "f32", "--json", "--logprobs", 0, "--stop-token-id", new[at]).ok().json
    assert [token["id"] for token in seen["logprobs"]] == new[:at]
    assert (seen["finish_reason"], seen["completion_tokens"]) == ("stop", at)


def test_include_stop_str_in_output_adds_what_ended_the_text(stories, tmp_path):
    _, new = greedy_ids(stories)
    whole = stories.generate(*PROMPT, *GREEDY, "--kv", "f32", "-n", 40, "--ignore-eos", "--no-echo").ok().out[:-1]
    at = next(i for i in range(5, len(new)) if new[i] not in new[:i])
    word = whole.split()[6]
    body = {"prompt": PROMPT[1], "temperature": 0, "ignore_eos": True, "max_tokens": 40}
    stops = [{"stop": word}, {"stop": [word + "zz", word]}, {"stop_token_ids": [new[at]]}]
    lines = [json.dumps(body | stop | {"include_stop_str_in_output": included}) for stop in stops for included in (False, True)]
    found = batch(stories, write_lines(tmp_path / "q", lines), "--kv", "f32")
    for without, included in zip(found[::2], found[1::2]):
        assert whole.startswith(included["text"]) and included["text"].startswith(without["text"])
        assert included["finish_reason"] == without["finish_reason"] == "stop"
    assert found[1]["text"] == found[0]["text"] + word == found[3]["text"]
    assert found[5]["usage"]["completion_tokens"] == at + 1 == found[4]["usage"]["completion_tokens"] + 1


def end_of(model):
    """The id of the end token."""
    lines = run(model, "--tokenize", "--json", "--special", "-i", "</s>").ok().out.splitlines()
    return next(token["id"] for token in map(json.loads, lines) if bytes(token["bytes"]) == b"</s>")


def test_skip_special_tokens_false_names_special_tokens(plain, tmp_path):
    body = {"prompt": "ab", "temperature": 0, "max_tokens": 3, "logit_bias": {str(end_of(plain)): 100}}
    variants = [{}, {"ignore_eos": True}, {"ignore_eos": True, "skip_special_tokens": False}, {"skip_special_tokens": False},
                {"skip_special_tokens": False, "include_stop_str_in_output": True},
                {"include_stop_str_in_output": True}]  # fmt: skip
    found = batch([plain], write_lines(tmp_path / "q", [json.dumps(body | variant) for variant in variants]))
    assert [r["text"] for r in found] == ["", "", "</s>" * 3, "", "</s>", ""]
    assert [r["usage"]["completion_tokens"] for r in found] == [0, 3, 3, 0, 1, 1]
    assert [r["finish_reason"] for r in found] == ["stop", "length", "length", "stop", "stop", "stop"]


def test_min_tokens_keeps_what_ends_a_text_from_being_drawn(plain, tmp_path):
    bias = {"logit_bias": {str(end_of(plain)): 100}}
    body = {"prompt": "ab", "max_tokens": 30, "seed": 4}
    lines = [json.dumps(body | bias | {"min_tokens": n}) for n in (0, 1, 7, 30)]
    lines += [json.dumps(body | {"logit_bias": {"99": 100}, "stop_token_ids": [99], "min_tokens": n}) for n in (0, 7)]
    found = batch([plain], write_lines(tmp_path / "q", lines))
    assert [r["usage"]["completion_tokens"] for r in found] == [0, 1, 7, 30, 0, 7]
    assert [r["finish_reason"] for r in found] == ["stop", "stop", "stop", "length", "stop", "stop"]


def test_a_stop_text_within_the_least_length_is_passed_over(stories, tmp_path):
    whole = stories.generate(*PROMPT, *GREEDY, "-n", 60, "--ignore-eos", "--no-echo").ok().out[:-1]
    stop = {"prompt": PROMPT[1], "temperature": 0, "max_tokens": 60, "ignore_eos": True, "stop": "a"}
    found = batch(stories, write_lines(tmp_path / "q", [json.dumps(stop | {"min_tokens": n}) for n in (0, 10, 60)]))
    texts = [r["text"] for r in found]
    assert all(whole.startswith(text) for text in texts) and texts[2] == whole
    assert "a" not in texts[0] and "a" in texts[1] and len(texts[0]) < len(texts[1]) < len(whole)
    assert found[1]["finish_reason"] == "stop" and whole[len(texts[1])] == "a"


@pytest.mark.parametrize("fields, message", [
    ({"presence_penalty": 2.5}, "presence_penalty is 2.5, expected a number from -2 to 2"),
    ({"frequency_penalty": "1"}, 'frequency_penalty is "1", expected a number from -2 to 2'),
    ({"min_tokens": -1}, "min_tokens is -1, expected a whole number from 0 to 1000000000"),
    ({"min_tokens": 9, "max_tokens": 8}, "min_tokens is 9, expected at most max_tokens, 8"),
    ({"stop_token_ids": [5, 512]}, "stop_token_ids[1] is 512, expected a token id below "),
    ({"stop_token_ids": list(range(65))}, "stop_token_ids is an array, expected an array of at most 64 token ids"),
    ({"logit_bias": {"512": 1}}, 'logit_bias has the name "512", expected a token id below '),
    ({"logit_bias": {"5": 101}}, "logit_bias.5 is 101, expected a number from -100 to 100"),
    ({"logit_bias": {"5": "1"}}, 'logit_bias.5 is "1", expected a number from -100 to 100'),
    ({"logit_bias": {f"{i:04}": 1 for i in range(1025)}}, "logit_bias is an object, expected an object of at most 1024"),
    ({"include_stop_str_in_output": 1}, "include_stop_str_in_output is 1, expected true or false"),
    ({"skip_special_tokens": "no"}, 'skip_special_tokens is "no", expected true or false'),
    ({"suffix": "x"}, 'suffix is "x", expected nothing in it')])  # fmt: skip
def test_wrong_values_are_refused_with_what_was_found_and_expected(tiny, tmp_path, fields, message):
    [bad] = batch(tiny, write_lines(tmp_path / "q", [json.dumps({"prompt": "a"} | fields)]), code=1)
    assert bad["error"]["message"].startswith(f"line 1: {message}"), bad


def test_token_ids_beyond_the_vocabulary_are_refused_on_the_command_line(tiny, tmp_path):
    path = write_lines(tmp_path / "q", ['{"prompt": "a"}'])
    for option, value in (("--stop-token-id", "512"), ("--logit-bias", "512=1")):
        for mode in (("-i", "a"), ("-b", path)):
            assert_refused(run(*tiny, *mode, option, value), 2, f"{option} 512", "expected a token id below")


# What clients write that dump all fields of their data types, with the defaults of OpenAI's Python package and of vLLM.
OPENAI = {
    "model": "m", "frequency_penalty": 0, "presence_penalty": 0, "logit_bias": None, "max_tokens": 9, "n": 1, "seed": 4,
    "service_tier": "auto", "stop": None, "store": False, "stream": False, "stream_options": {"include_usage": True},
    "temperature": 1.0, "top_p": 1.0, "user": "me", "metadata": {"a": "b"},
}  # fmt: skip
VLLM = {
    "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "length_penalty": 1.0, "early_stopping": False,
    "stop_token_ids": [], "include_stop_str_in_output": False, "ignore_eos": False, "min_tokens": 0,
    "skip_special_tokens": True, "spaces_between_special_tokens": True, "use_beam_search": False, "priority": 0,
    "truncate_prompt_tokens": None, "prompt_logprobs": None, "allowed_token_ids": None, "bad_words": [],
}  # fmt: skip


@pytest.mark.parametrize("fields", [OPENAI, OPENAI | VLLM], ids=["OpenAI", "vLLM"])
def test_requests_that_write_down_all_defaults_run(plain, tmp_path, fields):
    messages = {"messages": [{"role": "user", "content": "ab"}]}
    chat = fields | messages | {"logprobs": False, "top_logprobs": None, "response_format": {"type": "text"}, "tools": [],
                                "tool_choice": "none", "parallel_tool_calls": True, "max_completion_tokens": None}  # fmt: skip
    text = fields | {"prompt": "ab", "best_of": 1, "echo": False, "logprobs": None, "suffix": None}
    lines = [{"custom_id": url, "method": "POST", "url": url, "body": body}
             for url, body in (("/v1/chat/completions", chat), ("/v1/completions", text))]  # fmt: skip
    lines += [messages | {"max_tokens": 9, "seed": 4, "top_p": 1.0}, {"prompt": "ab", "max_tokens": 9, "seed": 4, "top_p": 1.0}]
    found = [text_of(result) for result in batch([plain], write_lines(tmp_path / "q", map(json.dumps, lines)))]
    assert found[:2] == found[2:]


# ----------------------------------------------------------------------------------------------------------------------
# Independence.


def varied(count):
    """Requests with all of these fields, in turn."""
    fields = [{"presence_penalty": 1.5}, {"frequency_penalty": 1, "temperature": 0}, {"logit_bias": {"100": 3, "101": -5}},
              {"min_tokens": 12, "stop": "a"}, {"stop_token_ids": [110, 111, 112]}, {"include_stop_str_in_output": True, "stop": "e"},
              {"skip_special_tokens": False, "ignore_eos": True}]  # fmt: skip
    return [json.dumps({"prompt": "the cat in " * (i % 4 + 1), "max_tokens": 12 + i % 5} | fields[i % len(fields)])
            for i in range(count)]  # fmt: skip


def test_texts_do_not_depend_on_neighbours_threads_or_chunks(tiny, tmp_path):
    path = write_lines(tmp_path / "q", varied(28))
    want = [text_of(result) for result in batch(tiny, path, "--parallel", 1)]
    for options in (("--parallel", 4), ("--parallel", 28, "-j", 3), ("--chunk", 3, "--simd", "scalar")):
        assert [text_of(result) for result in batch(tiny, path, *options)] == want, options
