"""Constraints of models that think: the thought is free, the answer satisfies the constraint, and both fit into the tokens
that there may be. The models are certain of each next token, as in test_thinking.py."""

import json
import re

import native_models
import pytest
from chat_templates import ALWAYS_THINKING, THINKING
from conftest import GREEDY, Model, assert_refused, run
from terminal import Terminal
from test_thinking import CHAIN, LOOP, SPECIAL, TEXT, THINKS, WORDS

# As Qwen's: white space around both texts.
SPACED = THINKING.replace("<think>{{ m.reasoning_content }}</think>", "<think>\n{{ m.reasoning_content }}\n</think>\n\n").replace(
    "<think></think>", "<think>\n\n</think>\n\n")  # fmt: skip
DIGITS = "[0-9]{3}"  # what the models would not say
AFTER = dict(zip(CHAIN, CHAIN[1:]))


@pytest.fixture(scope="module")
def makes(workdir):
    """makes(template, after, added): a model that says what `after` tells."""
    made = {}

    def make(source=THINKING, after=AFTER, added=("<think>", "</think>")):
        key = (source, tuple(after.items()), added)
        if key not in made:
            made[key] = Model(workdir / f"thinking-constraint-{len(made)}.bin")
            made[key].path.write_bytes(native_models.chatting(source, SPECIAL, added, WORDS, after).pack())
        return made[key]

    return make


def answer(model, *options, regex=DIGITS):
    return run(*model, "--chat", "-i", "2 + 2?", *GREEDY, "--json", "--regex", regex, *options).ok().json


def check(found, regex=DIGITS):
    assert re.fullmatch(regex, found["text"]) and found["finish_reason"] == "stop", found


@pytest.mark.parametrize("source", [THINKING, SPACED])
def test_the_thought_is_free_and_the_answer_is_not(makes, source):
    for options in ([], ["--think", "on"]):
        found = answer(makes(source), *options)
        check(found)
        assert found["reasoning"] == THINKS, found


def test_an_answer_that_the_constraint_allows_is_that_of_free_text(makes):
    found = answer(makes(), regex=".*")
    assert (found["text"], found["reasoning"]) == (TEXT, THINKS)


def test_white_space_after_the_thought_is_the_templates(makes):
    """It is forced, so that the answer begins where it did in training, and is no part of the answer."""
    found = answer(makes(SPACED))
    check(found)
    assert found["completion_tokens"] == 1 + 4 + 1 + 2 + 3  # <think> One, two. </think> \n\n and the digits


@pytest.mark.parametrize("source", [THINKING, SPACED, ALWAYS_THINKING])
def test_off_holds_from_the_start(makes, source):
    found = answer(makes(source), "--think", "off")
    check(found)
    assert "reasoning" not in found and found["completion_tokens"] == 3


def test_white_space_of_the_answer_belongs_to_it(makes):
    for options in ([], ["--think", "off"]):
        assert answer(makes(SPACED), *options, regex="  x ")["text"] == "  x "


@pytest.mark.parametrize("source", [THINKING, ALWAYS_THINKING])
@pytest.mark.parametrize("n", [9, 10, 20])
def test_a_thought_without_end_is_closed_in_time(makes, source, n):
    found = answer(makes(source, LOOP), "-n", n)
    check(found)
    assert found["completion_tokens"] == n and found["reasoning"], found


def test_a_budget_closes_it_earlier(makes):
    found = answer(makes(after=LOOP), "--think", 2, "-n", 100)
    check(found)
    assert found["reasoning"] == "".join(WORDS[:2]).strip() and found["completion_tokens"] == 1 + 2 + 1 + 3


def test_an_end_token_ends_the_thought_only(makes):
    found = answer(makes(after={**AFTER, WORDS[1]: "<|eos|>"}))
    check(found)
    assert found["reasoning"] == "".join(WORDS[:2]).strip()


def test_a_model_decides_with_its_first_token_whether_it_thinks(makes):
    for first in (WORDS[4], "\n", "<|eos|>", "x"):
        found = answer(makes(after={**AFTER, "<|assistant|>": first}))
        check(found)
        assert "reasoning" not in found and found["completion_tokens"] == 3


def test_texts_of_several_tokens_are_completed(makes):
    """A model that spells <think> by bytes: after the first the rest is forced."""
    spelled = {"<|assistant|>": "<", ">": WORDS[0], WORDS[0]: WORDS[1], WORDS[1]: "<"}
    model = makes(SPACED, spelled, ())
    found = answer(model, "--think", 6, "-n", 100)
    check(found)
    assert found["reasoning"].startswith(WORDS[0].strip()), found
    assert "reasoning" not in answer(model, "--think", "off")
    # Where there is no room for a thought, the answer comes at once; a < of the answer is no thought.
    found = answer(model, "-n", 12)
    check(found)
    assert "reasoning" not in found
    assert answer(model, "-n", 12, regex="<[a-z]{2}")["text"].startswith("<")


def test_too_few_tokens_are_refused(makes):
    always = makes(ALWAYS_THINKING, LOOP)
    for model, n, named in ((makes(), 2, "2 new tokens"), (always, 7, "2 new tokens that there may be after a thought")):
        assert_refused(run(*model, "--chat", "-i", "x", "--regex", DIGITS, "-n", n), 3, "3 bytes", named)
    check(answer(always, "-n", 8))  # a token of the thought, "\\n</think>\\n\\n" and the digits


def test_batches_do_the_same(makes, tmp_path):
    model = makes(SPACED, LOOP)
    chat = {"messages": [{"role": "user", "content": "2 + 2?"}], "max_tokens": 20}
    requests = [{**chat, "guided_regex": DIGITS}, {**chat, "response_format": {"type": "json_object"}},
                {**chat, "guided_regex": DIGITS, "chat_template_kwargs": {"enable_thinking": False}},
                {**chat, "guided_regex": DIGITS, "n": 3}]  # fmt: skip
    path = tmp_path / "q"
    path.write_text("".join(json.dumps(r) + "\n" for r in requests))
    outs = [run(*model, "-b", path, "-t", "1", *options).ok().out for options in ([], ["--parallel", "1"], ["--lookup", "0"], ["-j", "1"])]
    assert outs.count(outs[0]) == len(outs)
    thought, object, off, choices = (json.loads(line) for line in outs[0].splitlines())
    assert re.fullmatch(DIGITS, thought["text"]) and thought["reasoning_content"]
    assert isinstance(json.loads(object["text"]), dict) and object["reasoning_content"]
    assert re.fullmatch(DIGITS, off["text"]) and "reasoning_content" not in off
    assert all(re.fullmatch(DIGITS, c["text"]) for c in choices["choices"])
    off = run(*model, "-b", path, "--think", "off").ok().out.splitlines()
    assert all("reasoning_content" not in line for line in off)


def test_chats_list_the_tokens_of_the_answer_in_logprobs(makes, tmp_path):
    body = {"messages": [{"role": "user", "content": "2 + 2?"}], "logprobs": True, "guided_regex": DIGITS}
    (tmp_path / "q").write_text(json.dumps({"custom_id": "a", "url": "/v1/chat/completions", "body": body}))
    choice = run(*makes(SPACED), "-b", tmp_path / "q", *GREEDY).ok().json["response"]["body"]["choices"][0]
    assert "".join(t["token"] for t in choice["logprobs"]["content"]) == choice["message"]["content"]


def test_a_conversation_goes_on_after_a_guided_answer(makes, tmp_path):
    with Terminal(*makes(SPACED), "--chat", *GREEDY, "--regex", DIGITS) as t:
        t.prompt()
        t.say("Hi")
        t.say("Bye")
        t.say(f"/save {tmp_path / 's'}")
    messages = json.loads((tmp_path / "s").read_text())["messages"]
    assert [m.get("reasoning_content") for m in messages] == [None, THINKS] * 2
    assert all(re.fullmatch(DIGITS, m["content"]) for m in messages[1::2])
