"""--chat: its defaults, in batches too, and the chat that begins without it where a terminal has no prompt to give."""

import json
import os
import pty
import re

import pytest
from conftest import GREEDY, SLOWER, assert_refused, finish, run, start

import native_models

CONTEXT = 400


@pytest.fixture(scope="module")
def makes(workdir):
    """makes(chat=.., add_bos=..): the path of a small model. With --ignore-eos its answers do not end by themselves."""

    def make(**properties):
        path = workdir / f"chat-{'-'.join(f'{k}-{v}' for k, v in properties.items())}.bin"
        path.write_bytes(native_models.tiny(context_length=CONTEXT, **properties).pack())
        return path

    return make


@pytest.fixture(scope="module")
def chatty(makes):
    return makes(chat=True, add_bos=False)


def answers(model, requests, tmp_path, *options):
    """The results of a batch of requests."""
    path = tmp_path / "requests"
    path.write_text("".join(json.dumps(request) + "\n" for request in requests))
    return [json.loads(line) for line in run(model, "-b", path, *GREEDY, "--ignore-eos", *options).ok().out.splitlines()]


def usage(result):
    return result["usage"] if "usage" in result else result["response"]["body"]["usage"]


# ----------------------------------------------------------------------------------------------------------------------
# How long an answer may become.


@pytest.mark.parametrize("options, expected", [((), None), (("-n", "256"), 256), (("-n", "0"), None), (("-n", "9"), 9)])
def test_an_answer_goes_on_until_the_context_is_full_unless_n_says_otherwise(chatty, options, expected):
    seen = run(chatty, "--chat", "-i", "ab", *GREEDY, "--ignore-eos", "--json", *options).ok().json
    assert seen["completion_tokens"] == (expected or CONTEXT - seen["prompt_tokens"]), seen
    assert seen["finish_reason"] == "length"


def test_a_text_that_is_no_answer_has_256_tokens_by_default(chatty):
    seen = run(chatty, "-i", "ab", *GREEDY, "--ignore-eos", "--json").ok().json
    assert seen["completion_tokens"] == 256, seen


def openai(url, **body):
    return {"custom_id": "a", "method": "POST", "url": f"/v1/{url}", "body": body}


USER = [{"role": "user", "content": "ab"}]
REQUESTS = {  # a request, whether it is an answer of a chat, and also where the command line has --chat
    "plain": ({"prompt": "ab"}, False, True),
    "messages": ({"messages": USER}, True, True),
    "chat_completion": (openai("chat/completions", messages=USER), True, True),
    "completion": (openai("completions", prompt="ab"), False, False),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_answers_of_a_batch_have_the_default_of_a_chat_and_other_texts_that_of_a_text(chatty, tmp_path, name):
    request, *is_chat = REQUESTS[name]
    for options, chat in (((), is_chat[0]), (("--chat",), is_chat[1])):
        (seen,) = answers(chatty, [request], tmp_path, *options)
        expected = CONTEXT - usage(seen)["prompt_tokens"] if chat else 256
        assert usage(seen)["completion_tokens"] == expected, f"{options}: {seen}"


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_or_n_sets_the_length_of_an_answer(chatty, tmp_path, name):
    request = REQUESTS[name][0]
    limited = json.loads(json.dumps(request))
    limited.get("body", limited)["max_tokens"] = 7
    seen = answers(chatty, [request, limited], tmp_path, "-n", "9")
    assert [usage(result)["completion_tokens"] for result in seen] == [9, 7]


def test_a_line_is_an_answer_with_chat(chatty, tmp_path):
    (tmp_path / "lines").write_text("ab\n")
    options = ("-b", tmp_path / "lines", "--lines", *GREEDY, "--ignore-eos")
    assert run(chatty, *options).ok().json["usage"]["completion_tokens"] == 256
    assert run(chatty, *options, "--chat").ok().json["usage"]["total_tokens"] == CONTEXT


def test_resume_refuses_another_length_of_answers(chatty, tmp_path):
    (tmp_path / "requests").write_text(json.dumps(openai("chat/completions", messages=USER)) + "\n")
    batch = ("-b", tmp_path / "requests", "-o", tmp_path / "results", *GREEDY, "--ignore-eos")
    run(chatty, *batch).ok()
    run(chatty, *batch, "--resume").ok()
    assert_refused(run(chatty, *batch, "--resume", "-n", "256"), 3, "results", "options")


def test_a_request_of_very_many_messages_takes_no_longer_than_its_bytes(chatty, tmp_path):
    """Messages were once searched for each piece of the rendered text: a minute for these."""
    messages = [{"role": ("user", "assistant")[i % 2], "content": "a"} for i in range(60001)]
    (tmp_path / "requests").write_text(json.dumps({"messages": messages}) + "\n")
    done = run(chatty, "-b", tmp_path / "requests")
    assert done.code == 1 and re.search(r"the prompt has \d+ tokens", done.out), done
    assert done.cpu_seconds < 5 * SLOWER, f"took {done.cpu_seconds:.1f} s of processor time"


# ----------------------------------------------------------------------------------------------------------------------
# No prompt at all, and a terminal.


def typed(model, *options, keys=b"ab\n\x04"):
    """Runs with a terminal as standard input, at which these keys are typed."""
    ours, theirs = pty.openpty()
    process = start(model, *options, *GREEDY, "-n", "9", stdin=theirs)
    os.close(theirs)
    os.write(ours, keys)
    done = finish(process)
    os.close(ours)
    return done


def test_a_model_with_a_template_begins_a_chat(chatty):
    expected = run(chatty, "--chat", "-i", "ab", *GREEDY, "-n", "9").ok().bytes
    assert typed(chatty).ok().bytes == expected
    assert typed(chatty, "--chat").ok().bytes == expected


def test_a_chat_that_began_by_itself_has_the_default_length_of_a_chat(chatty):
    ours, theirs = pty.openpty()
    process = start(chatty, *GREEDY, "--ignore-eos", "--json", stdin=theirs)
    os.close(theirs)
    os.write(ours, b"ab\n")
    seen = json.loads(process.stdout.readline())
    os.write(ours, b"\x04")
    finish(process)
    os.close(ours)
    assert seen["prompt_tokens"] + seen["completion_tokens"] == CONTEXT, seen


def test_a_model_without_a_template_begins_at_bos(makes):
    model = makes(chat=False, add_bos=True)
    expected = run(model, "-i", "", *GREEDY, "-n", "9").ok().bytes
    assert typed(model).ok().bytes == expected


@pytest.mark.parametrize("chat, options", [(False, ()), (True, ("-m", "generate")), (False, ("--tokenize",))])
def test_without_a_template_and_bos_the_message_says_what_to_type(makes, chat, options):
    model = makes(chat=chat, add_bos=False)
    assert_refused(typed(model, *options), 2, "no prompt", model.name, "-i TEXT", "-f FILE")


def test_chat_on_a_model_without_a_template_says_so(makes):
    assert_refused(typed(makes(chat=False, add_bos=True), "--chat"), 3, "template", "--chat")


def test_after_a_last_answer_comes_another_one(chatty, tmp_path):
    """As in OpenAI's API: the last answer is not continued, and what /save wrote is a valid request as it is."""
    history = [*USER, {"role": "assistant", "content": "cd"}]
    first, second = answers(chatty, [{"messages": m, "max_tokens": 3} for m in (USER, history)], tmp_path)
    assert usage(second)["prompt_tokens"] > usage(first)["prompt_tokens"]
    assert usage(second)["completion_tokens"] == 3
