"""What a line of a batch may hold: fields that say nothing, contents of several parts, a byte order mark; and what the
error says of those that cannot be used. A test's name is the promise that it pins."""

import json

import pytest
from conftest import assert_refused, run
from test_batch import batch, chatty, text_of, write_lines  # noqa: F401

EMPTY = [None, "", [], {}]


def chat_line(messages, **fields):
    body = {"messages": messages} | fields
    return json.dumps({"custom_id": "c", "method": "POST", "url": "/v1/chat/completions", "body": body})


def texts(model, tmp_path, lines):
    """The texts that answer these lines, as a greedy model has it: so that they depend on nothing but the prompts."""
    return [text_of(result) for result in batch(model, write_lines(tmp_path / "q", lines), "-n", 9, "-t", 0)]


# ----------------------------------------------------------------------------------------------------------------------
# Fields that say nothing.


FIELDS = ["stream_options", "reasoning_effort", "modalities", "no_such_parameter", "tools", "logit_bias", "stop", "seed",
          "model", "temperature", "max_tokens", "max_completion_tokens", "top_k", "ignore_eos", "echo", "n", "stream",
          "logprobs", "tool_choice", "response_format", "id", "messages", "custom_id", "url", "body"]  # fmt: skip


@pytest.mark.parametrize("value", EMPTY, ids=repr)
def test_a_field_that_is_null_or_empty_says_nothing(tiny, tmp_path, value):
    lines = [json.dumps({"prompt": "the cat"} | fields) for fields in ({}, *({field: value} for field in FIELDS))]
    want, *got = (result["text"] for result in batch(tiny, write_lines(tmp_path / "q", lines), "-n", 9, "-t", 0))
    assert dict(zip(FIELDS, got)) == dict.fromkeys(FIELDS, want)


def test_an_envelope_may_have_empty_fields(tiny, tmp_path):
    line = {"custom_id": "a", "url": "/v1/completions", "body": {"prompt": "the cat"}}
    lines = [line, *(line | {field: value} for field in ("method", "stream", "anything") for value in EMPTY)]
    path = write_lines(tmp_path / "q", map(json.dumps, lines))
    want, *got = (text_of(result) for result in batch(tiny, path, "-n", 9, "-t", 0))
    assert got == [want] * 12


ANSWERS = {
    "the OpenAI SDK": {"refusal": None, "annotations": [], "audio": None, "function_call": None, "tool_calls": None},
    "vLLM": {"reasoning": None, "reasoning_content": None, "tool_calls": []},
}


@pytest.mark.parametrize("source", ANSWERS)
def test_an_answer_of_an_api_can_be_put_into_the_history(chatty, tmp_path, source):  # noqa: F811
    plain = [{"role": "user", "content": "the"}, {"role": "assistant", "content": "hat"}, {"role": "user", "content": "in"}]
    answer = [plain[0], plain[1] | ANSWERS[source], plain[2]]
    want, got = texts([chatty], tmp_path, [chat_line(plain), chat_line(answer)])
    assert got == want


def test_an_answer_without_a_text_is_an_empty_one(chatty, tmp_path):  # noqa: F811
    ask, again = {"role": "user", "content": "the"}, {"role": "user", "content": "in"}
    answers = [{"content": ""}, {"content": None}, {"content": []}, {}]
    want, *got = texts([chatty], tmp_path, [chat_line([ask, {"role": "assistant"} | a, again]) for a in answers])
    assert got == [want] * 3


def test_an_empty_prompt_is_a_prompt_but_not_beside_messages(chatty, tmp_path):  # noqa: F811
    messages = [{"role": "user", "content": "the"}]
    lines = [json.dumps({"messages": messages}), json.dumps({"messages": messages, "prompt": ""})]
    want, got = texts([chatty], tmp_path, lines)
    assert got == want
    [result] = batch([chatty], write_lines(tmp_path / "q", ['{"prompt": "", "messages": []}']), "-n", 3, "--ignore-eos")
    assert result["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("line, message", [
    ('{"prompt": null}', "prompt (or messages) is missing"),
    ('{"prompt": null, "messages": []}', "messages is empty, expected at least one message"),
    ('{"prompt": []}', "prompt is an array, expected a string"),
    ('{"custom_id": null, "url": "/v1/completions", "body": {"prompt": "a"}}', "custom_id is null, expected a string"),
    ('{"custom_id": "a", "url": "/v1/completions", "body": {"prompt": null}}', "prompt is missing"),
    ('{"custom_id": "a", "url": "/v1/chat/completions", "body": {}}', "messages is missing")])  # fmt: skip
def test_what_a_request_needs_may_not_be_null(tiny, tmp_path, line, message):
    [bad] = batch(tiny, write_lines(tmp_path / "q", [line]), code=1)
    assert bad["error"]["message"] == f"line 1: {message}"


def test_false_and_zero_say_something(tiny, tmp_path):
    lines = [json.dumps({"prompt": "a", "temprature": value}) for value in (0, False, "0", [0])]
    for bad in batch(tiny, write_lines(tmp_path / "q", lines), code=1):
        assert "temprature: unsupported parameter" in bad["error"]["message"], bad


def test_no_echo_may_be_asked_for_in_a_chat(chatty, tmp_path):  # noqa: F811
    messages = [{"role": "user", "content": "the"}]
    want, got = texts([chatty], tmp_path, [chat_line(messages), chat_line(messages, echo=False)])
    assert got == want
    [bad] = batch([chatty], write_lines(tmp_path / "q", [chat_line(messages, echo=True)]), code=1)
    assert "echo is true, expected false in a chat" in bad["error"]["message"], bad


# ----------------------------------------------------------------------------------------------------------------------
# Contents of several parts.


def text_part(text, **fields):
    return {"type": "text", "text": text} | fields


@pytest.mark.parametrize("parts, content", [
    ([text_part("the hat")], "the hat"), ([text_part("the"), text_part("hat")], "the\nhat"), ([], ""),
    ([text_part(""), text_part("the"), text_part(None), text_part("a cat"), text_part("in", x=1)], "the\na cat\nin"),
    ([text_part(""), text_part("")], "")])  # fmt: skip
def test_text_parts_are_joined_by_newlines(chatty, tmp_path, parts, content):  # noqa: F811
    lines = []
    for first, last in ((content, "in"), (parts, "in"), ("in", content), ("in", parts), (content, content), (parts, parts)):
        lines.append(chat_line([{"role": "system", "content": first}, {"role": "user", "content": last}]))
    found = texts([chatty], tmp_path, lines)
    assert found[1::2] == found[::2]


@pytest.mark.parametrize("part, where, what", [
    ({"type": "image_url", "image_url": {"url": "x"}}, ".type", 'is "image_url", expected text'),
    ({"type": "input_audio", "input_audio": {}}, ".type", 'is "input_audio", expected text'),
    ({"text": "a"}, ".type", "is missing, expected text"), ({"type": 7, "text": "a"}, ".type", "is 7, expected text"),
    ({"type": "text"}, ".text", "is missing, expected a string"), (text_part(["a"]), ".text", "is an array, expected a string"),
    ("a", "", 'is "a", expected an object')])  # fmt: skip
def test_a_part_that_is_no_text_is_refused_by_its_type(chatty, tmp_path, part, where, what):  # noqa: F811
    line = chat_line([{"role": "user", "content": [text_part("the"), part]}])
    [bad] = batch([chatty], write_lines(tmp_path / "q", [line]), code=1)
    assert bad["error"]["message"].startswith(f"line 1: messages[0].content[1]{where} {what}"), bad


# ----------------------------------------------------------------------------------------------------------------------
# Byte order marks.

MARK = b"\xef\xbb\xbf"


def test_a_byte_order_mark_is_skipped(tiny, tmp_path):
    path = tmp_path / "q"
    lines = b'{"prompt": "the cat"}\r\n\r\n{"prompt": "hat"}\r\n'
    path.write_bytes(lines)
    want = run(*tiny, "-b", path, "-n", 5).ok().bytes
    path.write_bytes(MARK + lines)
    assert run(*tiny, "-b", path, "-n", 5).ok().bytes == want
    with open(path, "rb") as source:
        assert run(*tiny, "-b", "-", "-n", 5, stdin=source).ok().bytes == want


def test_files_with_byte_order_marks_may_be_joined(tiny, tmp_path):
    path = tmp_path / "q"
    path.write_bytes(MARK + b'{"prompt": "the"}\n' + MARK + b"\n" + MARK + b'{"prompt": "hat"}\n')
    assert [result["index"] for result in batch(tiny, path, "-n", 1)] == [1, 3]


def test_of_prompts_only_the_first_loses_a_byte_order_mark(tiny, tmp_path):
    path = tmp_path / "q"
    path.write_bytes(b"the\nthe\n")
    without, _ = (result["usage"]["prompt_tokens"] for result in batch(tiny, path, "--lines", "-n", 1))
    path.write_bytes(MARK + b"the\n" + MARK + b"the\n")
    first, second = (result["usage"]["prompt_tokens"] for result in batch(tiny, path, "--lines", "-n", 1))
    assert first == without < second


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("piped", [False, True], ids=["file", "pipe"])
def test_utf16_is_named_and_nothing_is_written(tiny, tmp_path, encoding, piped):
    path, out = tmp_path / "requests.jsonl", tmp_path / "r"
    path.write_bytes('{"prompt": "the"}\r\n'.encode(encoding))
    if piped:
        done = run(*tiny, "-b", "-", "-o", out, stdin=path.read_bytes())
    else:
        done = run(*tiny, "-b", path, "-o", out)
    assert_refused(done, 3, "standard input" if piped else "requests.jsonl", "UTF-16", "UTF-8")
    assert not out.exists()
