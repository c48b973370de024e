"""Thinking: what a model writes before its answer is found by its template's texts, kept apart from the answer, limited, and
switched off. The models are certain of each next token: <|assistant|> <think> One, two. </think> Four. <|eos|>"""

import json
import re

import native_models
import pytest
from chat_templates import ALWAYS_THINKING, CHATML, THINKING
from conftest import GREEDY, Model, assert_refused, run
from terminal import Terminal, on_terminal

SPECIAL = ["<s>", "<|eos|>", "<|user|>", "<|assistant|>", "<|end|>"]
THOUGHT, ANSWER = [" One", ",", " two", "."], ["Four", "!"]
WORDS = [*(w + "?" for w in THOUGHT), *(w + ";" for w in ANSWER)]  # no word is a byte
CHAIN = ["<|assistant|>", "<think>", *WORDS[:4], "</think>", *WORDS[4:], "<|eos|>"]
TEXT, THINKS = "Four;!;", "One?,? two?.?"
LOOP = {**dict(zip(CHAIN, CHAIN[1:])), WORDS[3]: WORDS[0]}


@pytest.fixture(scope="module")
def makes(workdir):
    """makes(name, template, after): a model that says what `after` tells."""

    def make(name, source=THINKING, after=dict(zip(CHAIN, CHAIN[1:])), **fields):
        model = Model(workdir / f"thinking-{name}.bin")
        made = native_models.chatting(source, SPECIAL, ["<think>", "</think>"], WORDS, after, **fields)
        model.path.write_bytes(made.pack())
        return model

    return make


@pytest.fixture(scope="module")
def thinker(makes):
    return makes("thinker")


@pytest.fixture(scope="module")
def looper(makes):
    """It never comes to an end of its thought."""
    return makes("looper", after=LOOP)


def answer(model, *options):
    return run(*model, "--chat", "-i", "2 + 2?", *GREEDY, "--json", *options).ok().json


def parts(found):
    return found["text"], found.get("reasoning")


def test_thought_and_answer_are_apart(thinker):
    found = answer(thinker)
    assert parts(found) == (TEXT, THINKS)
    assert (found["finish_reason"], found["completion_tokens"]) == ("stop", 8)


def test_standard_output_has_the_answer_only(thinker):
    done = run(*thinker, "--chat", "-i", "2 + 2?", *GREEDY).ok()
    assert (done.out, done.err) == (TEXT + "\n", "")


def test_a_terminal_shows_the_thought_on_standard_error(thinker):
    status, out, screen = on_terminal(thinker.path, "--chat", "-i", "2 + 2?", *GREEDY)
    assert (status, out) == (0, TEXT + "\n") and THINKS + "\n\n" in screen
    status, out, screen = on_terminal(thinker.path, "--chat", "-i", "2 + 2?", *GREEDY, "-q")
    assert (status, out, screen) == (0, TEXT + "\n", "")


def test_a_batch_keeps_them_apart(thinker, tmp_path):
    chat = {"messages": [{"role": "user", "content": "2 + 2?"}]}
    requests = [chat, {"custom_id": "a", "url": "/v1/chat/completions", "body": chat}, {"prompt": "x", "max_tokens": 1}]
    (tmp_path / "q").write_text("".join(json.dumps(r) + "\n" for r in requests))
    plain, api, other = (json.loads(line) for line in run(*thinker, "-b", tmp_path / "q", *GREEDY).ok().out.splitlines())
    said = api["response"]["body"]["choices"][0]["message"]
    assert (plain["text"], plain["reasoning_content"]) == (said["content"], said["reasoning_content"]) == (TEXT, THINKS)
    assert "reasoning_content" not in other


def test_off_uses_the_templates_switch(thinker, tmp_path):
    assert parts(answer(thinker, "--think", "off")) == (TEXT, None)
    assert answer(thinker, "--think", "off")["prompt_tokens"] == answer(thinker)["prompt_tokens"] + 2
    assert parts(answer(thinker, "--think", "on")) == (TEXT, THINKS)
    chat = {"messages": [{"role": "user", "content": "2 + 2?"}], "chat_template_kwargs": {"enable_thinking": False}}
    (tmp_path / "q").write_text(json.dumps(chat) + "\n")
    assert "reasoning_content" not in run(*thinker, "-b", tmp_path / "q", *GREEDY).ok().json


def test_off_without_a_switch_begins_with_an_empty_thought(makes):
    model = makes("always", ALWAYS_THINKING, {**dict(zip(CHAIN, CHAIN[1:])), "\n": WORDS[4]})  # </think>, an empty line
    on, off = answer(model), answer(model, "--think", "off")
    assert parts(on) == (TEXT, THINKS) and parts(off) == (TEXT, None)
    assert off["prompt_tokens"] > on["prompt_tokens"]


@pytest.mark.parametrize("n", range(1, 5))
def test_after_n_tokens_the_closing_text_is_forced(thinker, looper, n):
    for model in (thinker, looper):
        found = answer(model, "--think", n)
        assert parts(found) == (TEXT, "".join(WORDS[:n]).strip())
        assert found["completion_tokens"] == 1 + n + 1 + len(ANSWER)


def test_a_thought_that_ends_before_n_is_left_alone(thinker):
    assert parts(answer(thinker, "--think", 5)) == (TEXT, THINKS)


def test_thinking_counts_in_n_and_a_limit_that_cuts_it_says_so(thinker, looper):
    found = answer(thinker, "-n", 4)
    assert parts(found) == ("", "One?,? two?") and found["finish_reason"] == "length"
    done = run(*thinker, "--chat", "-i", "2 + 2?", *GREEDY, "-n", 4, "--stats").ok()
    assert done.out == "\n" and "cut at 4 tokens (-n) while thinking" in done.err
    assert answer(looper, "--think", 3, "-n", 4)["completion_tokens"] == 4


def test_stop_texts_act_on_the_answer(thinker):
    for stop in (" One", ",", ".?", "think"):
        assert parts(answer(thinker, "--stop", stop)) == (TEXT, THINKS)
    assert parts(answer(thinker, "--stop", "!")) == ("Four;", THINKS)


def test_forced_tokens_have_the_log_probability_that_the_model_gave_them(thinker):
    found = answer(thinker, "--think", 2, "--logprobs", 1)["logprobs"]
    assert [entry["token"] for entry in found] == ["<think>", *WORDS[:2], "</think>", *WORDS[4:]]
    assert found[3]["logprob"] < -1, "the thought would have gone on"
    assert all(entry["logprob"] > -0.01 for entry in found[:3] + found[4:])


@pytest.mark.parametrize("options, listed", [
    ((), WORDS[4:]), (("--think", 2), WORDS[4:]), (("--think", "off"), WORDS[4:]), (("-n", 4), []),
])  # fmt: skip
def test_a_chats_logprobs_list_the_answers_tokens_only(thinker, tmp_path, options, listed):
    body = {"messages": [{"role": "user", "content": "2 + 2?"}], "logprobs": True, "top_logprobs": 1}
    (tmp_path / "q").write_text(json.dumps({"custom_id": "a", "url": "/v1/chat/completions", "body": body}))
    result = run(*thinker, "-b", tmp_path / "q", *GREEDY, *options).ok().json
    choice = result["response"]["body"]["choices"][0]
    assert [token["token"] for token in choice["logprobs"]["content"]] == listed
    assert choice["message"]["content"] == "".join(listed)


def test_an_answer_without_a_thought_has_all_its_tokens_in_logprobs(makes, tmp_path):
    """Also one that begins as a thought would."""
    model = makes("direct", after={"<|assistant|>": "<", "<": WORDS[4], WORDS[4]: "<|eos|>"})
    body = {"messages": [{"role": "user", "content": "2 + 2?"}], "logprobs": True}
    (tmp_path / "q").write_text(json.dumps({"custom_id": "a", "url": "/v1/chat/completions", "body": body}))
    choice = run(*model, "-b", tmp_path / "q", *GREEDY).ok().json["response"]["body"]["choices"][0]
    assert [token["token"] for token in choice["logprobs"]["content"]] == ["<", WORDS[4]]


def test_a_model_that_does_not_think_is_refused(makes, stories):
    model = makes("plain", CHATML)
    for value in ("on", "off", "7"):
        assert_refused(run(*model, "--chat", "-i", "x", "--think", value), 3, "--think", model.path.name)
    for value in ("0", "never", ""):
        assert_refused(run(*model, "--chat", "-i", "x", "--think", value), 2, "--think", "on, off or a whole number")
    assert_refused(run(*stories, "--think", "on"), 2, "--think", "--chat")


def test_info_shows_the_texts(thinker, makes):
    shown = run(*thinker, "--info").ok().out
    assert 'between "<think>" and "</think>"; switched by enable_thinking' in shown
    found = run(*thinker, "--info", "--json").ok().json["thinking"]
    assert found == {"open": "<think>", "close": "</think>", "variable": "enable_thinking"}
    assert run(*makes("plain", CHATML), "--info", "--json").ok().json["thinking"] is None


def test_answers_are_the_same_whatever_runs_beside_them(looper, tmp_path):
    """Forced tokens are run like those of a prompt, beside others."""
    requests = [{"messages": [{"role": "user", "content": "x" * n}], "max_tokens": 3 + n} for n in range(1, 9)]
    (tmp_path / "q").write_text("".join(json.dumps(r) + "\n" for r in requests))
    found = {run(*looper, "-b", tmp_path / "q", *GREEDY, "--think", 3, "--parallel", n).ok().out for n in (1, 3, 8)}
    assert len(found) == 1 and all(json.loads(line)["reasoning_content"] for line in found.pop().splitlines())


def test_a_conversation_keeps_thoughts_apart_and_the_tokens_of_answers(thinker, tmp_path):
    """The template drops earlier thoughts: what the cache holds of the first answer has to be run again, with the tokens
    that were generated, as the words are no text's encoding."""
    with Terminal(*thinker, "--chat", *GREEDY, "--stats") as t:
        t.prompt()
        t.say("Hi")
        assert THINKS in "\n".join(t.screen), t
        t.say("Bye")
        t.say(f"/save {tmp_path / 's'}")
        screen = t.received.decode()
    messages = json.loads((tmp_path / "s").read_text())["messages"]
    assert [m.get("reasoning_content") for m in messages] == [None, THINKS] * 2
    assert [m["content"] for m in messages] == ["Hi", TEXT, "Bye", TEXT]
    first = 1 + len("Hi") + 1 + 1  # <|user|>Hi<|end|><|assistant|>
    assert f"prompt {first} tokens" in screen
    second = first + len(ANSWER) + 1 + 1 + len("Bye") + 1 + 1
    assert re.search(rf"prompt {second} tokens in \S+ m?s, {first} cached", screen), screen


def test_a_thought_without_an_answer_is_told_in_a_conversation(looper):
    with Terminal(*looper, "--chat", *GREEDY, "-n", 6) as t:
        t.prompt()
        t.press("Hi\r")
        assert b"the thought was cut at 6 tokens by -n" in t.prompt()
