"""Batches: what a request may be and what answers it, that a text depends on nothing but its request, and that no kill,
full disk or bad line loses or changes a result. A test's name is the promise that it pins.

    KILLS=200 pytest tests/test_batch.py -k killed      as many runs are killed at random moments, instead of a few
"""

import fcntl
import json
import os
import pty
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from conftest import (
    EXECUTABLE,
    ROOT,
    SANITIZED,
    TIMEOUT,
    Model,
    assert_refused,
    environment,
    execute,
    finish,
    limited,
    not_under_tsan,
    run,
    start,
)
from terminal import on_terminal
from test_faults import faults  # noqa: F401

import models
import native_models

sys.path.insert(0, str(ROOT / "scripts"))
import checkpoint  # noqa: E402

KILLS = int(os.environ.get("KILLS", 6))
LONG_CONTEXT = 2048


@pytest.fixture(scope="module")
def long(workdir):
    """The tiny model with a context of 2048."""
    model = Model(workdir / "long.bin", workdir / "long-tokenizer.bin")
    model.path.write_bytes(models.model_bytes(replace(models.TINY, seq_len=LONG_CONTEXT), "v0"))
    model.tokenizer.write_bytes(models.tokenizer_bytes(models.tiny_pieces()))
    return model


@pytest.fixture(scope="module")
def chatty(workdir):
    """A native checkpoint of random weights over bytes, with a chat template of plain words."""
    vocab = models.FIRST_PIECE + 41
    shape = checkpoint.Config(vocab_size=vocab, dim=16, hidden_dim=16, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8,
                              context_length=512, norm_eps=1e-5, rope_theta=1e4, tied_head=True)  # fmt: skip
    pieces = [b"<unk>", b"<s>", b"</s>"] + [bytes([b]) for b in range(256)] + models.tiny_pieces()[models.FIRST_PIECE :]
    attributes = [3, 1, 1] + [2] * 256 + [0] * (vocab - models.FIRST_PIECE)
    offsets = np.cumsum([0] + [len(piece) for piece in pieces]).astype("<u4")
    scores = np.where(np.arange(vocab) < models.FIRST_PIECE, 0, models.FIRST_PIECE - np.arange(vocab)).astype("<f4")
    head = np.array([0, 0, 1, vocab, 0, 1, 0, 1], "<i4").tobytes() + np.array([offsets[-1]], "<u8").tobytes()
    tokenizer = (head + bytes(24) + np.array([2], "<i4").tobytes() + offsets.tobytes() + scores.tobytes()
                 + bytes(attributes) + b"".join(pieces))  # fmt: skip
    chat = native_models.chat_source("<s>[", "<s>(", ")[", "]=", ";[").encode()
    tensors = list(checkpoint.model_tensors(shape))
    config = shape.section()
    sections = [checkpoint.bytes_section("config", len(config)), checkpoint.bytes_section("provenance", 9), checkpoint.bytes_section("tokenizer", len(tokenizer)),
                checkpoint.bytes_section("chat", len(chat))]  # fmt: skip
    for name, rows, cols in tensors:
        sections.append(checkpoint.vector_section(name, cols) if rows is None
                        else checkpoint.matrix_section(name, "f32", rows, cols))  # fmt: skip
    path = workdir / "chatty.bin"
    with checkpoint.Writer(path, sections) as writer:
        writer.write("config", [config])
        writer.write("provenance", [b"type: f32"])
        writer.write("tokenizer", [tokenizer])
        writer.write("chat", [chat])
        for i, (name, rows, cols) in enumerate(tensors):
            if rows is None:
                data = np.ones(cols, "<f4").tobytes()
                writer.write(name, [data + bytes(-len(data) % 64)])
            else:
                weights = np.zeros((-(-rows // 16) * 16, cols), "<f4")
                weights[:rows] = models.uniform(900 + i, (rows, cols)) * np.sqrt(3.0 / cols)
                writer.write(name, [weights.reshape(-1, 16, cols).transpose(0, 2, 1).tobytes()])
    return path


def write_lines(path, lines):
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def requests_of(count, seed=1):
    """Requests of all forms, of various lengths and parameters."""
    chance = random.Random(seed)
    lines = []
    for i in range(count):
        prompt = "".join(chance.choice("the cat in an hat ") for _ in range(chance.randrange(1, 30)))
        body = {"prompt": prompt, "max_tokens": chance.randrange(1, 25)}
        if i % 3 == 0:
            body |= {"temperature": 0}
        if i % 5 == 0:
            body |= {"seed": i, "top_k": 7, "repetition_penalty": 1.1}
        if i % 2:
            body |= {"model": "any", "user": "me"}
            lines.append({"custom_id": f"r{i}", "method": "POST", "url": "/v1/completions", "body": body})
        else:
            lines.append(body | ({"id": f"p{i}"} if i % 4 else {}))
    return [json.dumps(line) for line in lines]


def batch(model, path, *options, code=0, **popen):
    """Runs a batch and gives its results, one object a line."""
    done = run(*model, "--batch", path, *options, **popen)
    assert done.code == code, f"expected exit {code}\n{done}"
    return [json.loads(line) for line in done.out.splitlines()]


def results_bytes(model, path, out, *options, code=0, **popen):
    done = run(*model, "--batch", path, "-o", out, *options, **popen)
    assert done.code == code, f"expected exit {code}\n{done}"
    assert done.bytes == b"", f"expected nothing on stdout\n{done}"
    return out.read_bytes()


def text_of(result):
    if "response" in result:
        choice = result["response"]["body"]["choices"][0]
        return choice["text"] if "text" in choice else choice["message"]["content"]
    return result["text"]


def statistics(done, name):
    found = re.search(rf"(\d+) {name}|{name} (\d+)", done.err)
    assert found, f"expected {name} in the statistics\n{done}"
    return int(found[1] or found[2])


# ----------------------------------------------------------------------------------------------------------------------
# Requests and results.


def test_plain_objects_have_the_promised_fields(tiny, tmp_path):
    path = write_lines(tmp_path / "q", ['{"prompt": "the", "max_tokens": 3, "id": "x", "seed": 9}', '{"prompt": "a"}'])
    first, second = batch(tiny, path, "-n", 4, "--ignore-eos")
    assert list(first) == ["id", "index", "hash", "text", "finish_reason", "usage", "seed"]
    assert (first["id"], first["index"], first["seed"], first["finish_reason"]) == ("x", 1, 9, "length")
    prompt = len(tiny.generate("--tokenize", "-i", "the").ok().out.split())
    assert first["usage"] == {"prompt_tokens": prompt, "completion_tokens": 3, "total_tokens": prompt + 3}
    assert second["index"] == 2 and second["usage"]["completion_tokens"] == 4
    assert re.fullmatch(r"[0-9a-f]{16}", first["hash"]), first["hash"]
    assert second["id"] == f"line_2_{second['hash']}"


def test_openai_completions_have_the_fields_of_the_api(tiny, tmp_path):
    request = {"custom_id": "a1", "method": "POST", "url": "/v1/completions",
               "body": {"model": "m", "prompt": "the", "max_tokens": 3, "temperature": 0, "ignore_eos": True}}  # fmt: skip
    [result] = batch(tiny, write_lines(tmp_path / "q", [json.dumps(request)]))
    assert list(result) == ["id", "custom_id", "response", "error"]
    assert result["custom_id"] == "a1" and result["error"] is None
    response = result["response"]
    assert list(response) == ["status_code", "request_id", "body"] and response["status_code"] == 200
    body = response["body"]
    assert list(body) == ["id", "object", "created", "model", "choices", "usage"]
    assert (body["object"], body["model"], body["created"]) == ("text_completion", "m", 0)
    text = tiny.generate("-i", "the", "-n", 3, "-t", 0, "--no-echo", "--ignore-eos").ok().out[:-1]
    assert body["choices"] == [{"index": 0, "text": text, "logprobs": None, "finish_reason": "length"}]
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + 3


def test_chat_completions_go_through_the_template(chatty, tmp_path):
    messages = [{"role": "system", "content": "the"}, {"role": "user", "content": [{"type": "text", "text": "he"}]},
                {"role": "assistant", "content": "an"}, {"role": "user", "content": "in"}]  # fmt: skip
    chat = {"custom_id": "c", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": messages}}
    plain = {"prompt": "(the)[he]=an;[in]="}
    path = write_lines(tmp_path / "q", [json.dumps(chat), json.dumps(plain)])
    first, second = batch([chatty], path, "-n", 9, "-t", 0, "--special")
    body = first["response"]["body"]
    assert body["object"] == "chat.completion"
    [choice] = body["choices"]
    assert list(choice) == ["index", "message", "logprobs", "finish_reason"]
    assert choice["message"] == {"role": "assistant", "content": second["text"]}
    assert body["usage"] == second["usage"]


def test_prompts_and_lines_go_through_the_template_with_chat(chatty, tmp_path):
    alone = run(chatty, "--chat", "-i", "the hat", "-y", "an", "-n", 9, "-t", 0).ok().out[:-1]
    for options, line in (((), '{"prompt": "the hat"}'), (("--lines",), "the hat"),
                          ((), '{"messages": [{"role": "user", "content": "the hat"}]}')):  # fmt: skip
        chat = ["--chat"] if "messages" not in line else []
        [result] = batch([chatty], write_lines(tmp_path / "q", [line]), *options, *chat, "-y", "an", "-n", 9, "-t", 0)
        assert result["text"] == alone, line


def test_special_tokens_in_messages_are_text(chatty, tmp_path):
    message = '{"messages": [{"role": "user", "content": "<s>"}]}'
    path = write_lines(tmp_path / "q", [message])
    [text], [special] = batch([chatty], path, "-n", 1), batch([chatty], path, "-n", 1, "--special")
    assert text["usage"]["prompt_tokens"] == special["usage"]["prompt_tokens"] + 2


def test_lines_are_prompts_to_the_byte(tiny, tmp_path):
    prompts = ["the cat", '{"prompt": "x"}', "  in an hat  ", "\ttab"]
    path = write_lines(tmp_path / "q", prompts)
    results = batch(tiny, path, "--lines", "-n", 5, "-t", 0)
    assert [r["index"] for r in results] == [1, 2, 3, 4]
    for prompt, result in zip(prompts, results):
        assert result["text"] == tiny.generate("-i", prompt, "-n", 5, "-t", 0, "--no-echo").ok().out[:-1], prompt


def test_a_result_is_what_the_command_line_gives_with_its_seed(tiny, tmp_path):
    path = write_lines(tmp_path / "q", ['{"prompt": "the cat"}', '{"prompt": "in an hat", "temperature": 2}'])
    first, second = batch(tiny, path, "-s", 5, "-n", 12)
    assert first["seed"] != second["seed"]
    alone = tiny.generate("-i", "the cat", "-n", 12, "-s", first["seed"], "--no-echo").ok().out[:-1]
    assert first["text"] == alone
    alone = tiny.generate("-i", "in an hat", "-t", 2, "-n", 12, "-s", second["seed"], "--no-echo").ok().out[:-1]
    assert second["text"] == alone


def test_parameters_do_what_the_options_do(tiny, tmp_path):
    cases = [({"max_tokens": 4}, ("-n", 4)), ({"max_completion_tokens": 4}, ("-n", 4)), ({"temperature": 3}, ("-t", 3)),
             ({"max_tokens": 0}, ("-n", 0)), ({"top_p": 0.3}, ("-p", 0.3)), ({"top_p": 0}, ("-p", 0)),
             ({"top_k": 3}, ("-k", 3)), ({"top_k": 0}, ("-k", 0)), ({"top_k": -1}, ("-k", 0)),
             ({"min_p": 0.5}, ("--min-p", 0.5)), ({"repetition_penalty": 3}, ("--repeat-penalty", 3)),
             ({"stop": "e"}, ("--stop", "e")), ({"stop": ["a", "e"]}, ("--stop", "a", "--stop", "e")),
             ({"stop": None}, ()), ({"ignore_eos": True}, ("--ignore-eos",)), ({"seed": 12}, ())]  # fmt: skip
    lines = [json.dumps({"prompt": "the cat", "seed": 12} | parameters) for parameters, _ in cases]
    results = batch(tiny, write_lines(tmp_path / "q", lines), "-n", 20)
    texts = set()
    for (parameters, options), result in zip(cases, results):
        n = () if "-n" in options else ("-n", 20)
        alone = tiny.generate("-i", "the cat", "-s", 12, "--no-echo", *n, *options).ok().out[:-1]
        assert result["text"] == alone, parameters
        texts.add(alone)
    assert len(texts) > 6, f"the parameters make no difference: {texts}"


def test_of_the_two_names_for_max_tokens_the_newer_one_counts(tiny, tmp_path):
    both = {"prompt": "the cat", "ignore_eos": True, "max_completion_tokens": 4, "max_tokens": 2}
    path = write_lines(tmp_path / "q", [json.dumps(both), json.dumps(dict(reversed(both.items())))])
    assert [r["usage"]["completion_tokens"] for r in batch(tiny, path)] == [4, 4]


def test_echo_puts_the_prompt_first(tiny, tmp_path):
    path = write_lines(tmp_path / "q", ['{"prompt": "the cat", "echo": true}'])
    [result] = batch(tiny, path, "-n", 5, "-t", 0)
    assert result["text"] + "\n" == tiny.generate("-i", "the cat", "-n", 5, "-t", 0).ok().out


@pytest.mark.parametrize("field, value", [
    ("n", 17), ("best_of", 3), ("tools", [{"type": "function"}]), ("logprobs", "1"), ("logprobs", 21), ("stream", True),
    ("frequency_penalty", 3), ("presence_penalty", -3), ("logit_bias", {"1": 200}), ("suffix", "x"),
    ("response_format", {"type": "xml"}), ("temprature", 1), ("max_tokens", 1.5),
    ("max_tokens", "9"), ("temperature", -1), ("temperature", "hot"), ("top_p", 1.5), ("top_p", -0.5), ("top_k", -2),
    ("min_p", 2), ("seed", -1), ("seed", 2**64), ("stop", 7), ("stop", [""]), ("stop", ["a"] * 17), ("stop", "\0"),
    ("repetition_penalty", 0), ("ignore_eos", 1), ("echo", "yes")])  # fmt: skip
def test_what_is_not_supported_is_refused_by_name(tiny, tmp_path, field, value):
    path = write_lines(tmp_path / "q", ['{"prompt": "a"}', json.dumps({"prompt": "a", field: value, "id": 7})])
    good, bad = batch(tiny, path, "-n", 1, code=1)
    assert list(bad) == ["id", "index", "hash", "error"] and (bad["id"], bad["index"]) == (7, 2)
    assert bad["error"]["message"].startswith("line 2: ") and field in bad["error"]["message"], bad
    assert "text" in good


def test_harmless_values_are_taken(tiny, tmp_path):
    harmless = {"n": 1, "best_of": 1, "tools": [], "tool_choice": "none", "logprobs": None, "stream": False, "user": "u",
                "frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "response_format": {"type": "text"},
                "metadata": {"a": "b"}, "store": True, "model": "x", "service_tier": "flex", "temperature": None}  # fmt: skip
    path = write_lines(tmp_path / "q", ['{"prompt": "a", "seed": 1}', json.dumps({"prompt": "a", "seed": 1} | harmless)])
    first, second = batch(tiny, path, "-n", 9)
    assert first["text"] == second["text"]


BAD_LINES = {
    "not JSON": ('{"prompt": ', "byte"),
    "not an object": ('["the"]', "object"),
    "duplicate name": ('{"prompt": "a", "prompt": "b"}', "duplicate name prompt"),
    "no prompt": ('{"id": "a"}', "prompt"),
    "prompt of another kind": ('{"prompt": 7}', "prompt"),
    "half a surrogate": ('{"prompt": "\\ud800"}', "surrogate"),
    "unknown url": ('{"custom_id": "a", "url": "/v1/embeddings", "body": {"prompt": "a"}}', "url"),
    "no body": ('{"custom_id": "a", "url": "/v1/completions"}', "body"),
    "prompt too long": (json.dumps({"prompt": "x" * 500}), "64"),
    "wrong parameter": ('{"prompt": "a", "temperature": [1]}', "temperature"),
    "no custom_id": ('{"url": "/v1/completions", "body": {"prompt": "a"}}', "custom_id"),
    "method": ('{"custom_id": "a", "method": "GET", "url": "/v1/completions", "body": {"prompt": "a"}}', "method"),
    "chat without a template": ('{"messages": [{"role": "user", "content": "a"}]}', "template"),
    "no message": ('{"messages": []}', "messages is empty, expected at least one message"),
    "a number as a text": ('{"prompt": "a", "temperature": "0.5"}', 'temperature is "0.5", expected a number'),
    "deep": ("[" * 1000 + "]" * 1000, "deep"),
}


def test_a_line_that_cannot_be_used_gives_an_error_with_its_number_and_the_run_goes_on(tiny, tmp_path):
    lines = [line for _, (line, _) in BAD_LINES.items()]
    path = write_lines(tmp_path / "q", [part for line in lines for part in ('{"prompt": "the"}', line)])
    done = run(*tiny, "-b", path, "-n", 2)
    assert done.code == 1 and f"{len(lines)} of {2 * len(lines)}" in done.err and "line 2" in done.err, done
    results = [json.loads(line) for line in done.out.splitlines()]
    for i, (name, (_, word)) in enumerate(BAD_LINES.items()):
        assert "text" in results[2 * i], name
        bad = results[2 * i + 1]
        assert bad["error"]["message"].startswith(f"line {2 * i + 2}: "), (name, bad)
        assert word in bad["error"]["message"], (name, bad)
        assert bad.get("response") is None


@pytest.mark.parametrize("dim", [16, 24])
@pytest.mark.parametrize("parallel", [1, 3])
def test_a_model_that_fails_for_one_request_fails_only_that(tmp_path, parallel, dim):
    """The embedding of z is not a number: alone in a pass as beside others, only the request that has it is to blame.

    Rows of 24 values are padded to whole blocks: what is left in the padding must not blame the next request.
    """
    config = replace(models.TINY_UNTIED, dim=dim)
    data, pieces = bytearray(models.model_bytes(config, "v0")), models.tiny_pieces()
    struct.pack_into("<f", data, 28 + pieces.index(b"z") * dim * 4, float("nan"))
    model = Model(tmp_path / "m.bin", tmp_path / "t.bin")
    model.path.write_bytes(data)
    model.tokenizer.write_bytes(models.tokenizer_bytes(pieces))
    path = write_lines(tmp_path / "q", ['{"prompt": "the"}', '{"prompt": "z"}', '{"prompt": "an"}', '{"prompt": "cat z"}'])
    results = batch(model, path, "-n", 1, "--parallel", parallel, code=1)
    assert ["error" in result for result in results] == [False, True, False, True], results
    assert "the embedding of a token is not finite" in results[1]["error"]["message"], results


def test_bytes_that_are_not_utf8_are_refused_in_json_and_kept_in_lines(tiny, tmp_path):
    path = tmp_path / "q"
    path.write_bytes(b'{"prompt": "\xff"}\n')
    [bad] = batch(tiny, path, "-n", 1, code=1)
    assert "UTF-8" in bad["error"]["message"]
    path.write_bytes(b"a\xffb\n")
    [good] = batch(tiny, path, "--lines", "-n", 1)
    assert good["usage"]["prompt_tokens"] >= 3


def test_a_line_of_more_than_16_mb_is_an_error_and_the_next_is_read(tiny, tmp_path):
    path = tmp_path / "q"
    path.write_bytes(b'{"prompt": "' + b"x" * (17 << 20) + b'"}\n{"prompt": "the"}')
    bad, good = batch(tiny, path, "-n", 2, code=1)
    assert bad["error"]["message"].startswith("line 1: ") and "16777216" in bad["error"]["message"]
    assert good["index"] == 2 and "text" in good


@pytest.mark.parametrize("options", [(), ("--lines",)], ids=["objects", "lines"])
def test_blank_lines_are_skipped_but_counted(tiny, tmp_path, options):
    path = tmp_path / "q"
    path.write_bytes(b'\n{"prompt": "a"}\r\n \t\n{"prompt": "b"}\n\r\n')
    assert [r["index"] for r in batch(tiny, path, "-n", 1, *options)] == [2, 4]


def test_an_empty_input_gives_an_empty_output(tiny, tmp_path):
    path = write_lines(tmp_path / "q", [])
    assert batch(tiny, path) == []
    assert results_bytes(tiny, path, tmp_path / "r") == b""


def test_a_prompt_that_does_not_fit_keeps_its_end_where_asked(tiny, tmp_path):
    path = write_lines(tmp_path / "q", [json.dumps({"prompt": "x" * 500, "temperature": 0})])
    [result] = batch(tiny, path, "--truncate-prompt", "-n", 4)
    alone = tiny.generate("-i", "x" * 500, "--truncate-prompt", "-n", 4, "-t", 0, "--no-echo").ok().out[:-1]
    assert result["text"] == alone


def test_a_chat_that_does_not_fit_loses_the_start_of_its_last_message(chatty, tmp_path):
    """Digits are a token each. The context is 512, of which 4 are left to the answer."""

    def ask(last, *options, code=0):
        turns = [("system", "an"), ("user", "the hat"), ("assistant", "in"), ("user", last)]
        messages = [{"role": role, "content": content} for role, content in turns]
        path = write_lines(tmp_path / "q", [json.dumps({"messages": messages, "temperature": 0})])
        [result] = batch([chatty], path, "-n", 4, *options, code=code)
        return result

    digits = "".join(f"{i:03d}" for i in range(300))
    assert "512" in ask(digits, code=1)["error"]["message"]
    result, around = ask(digits, "--truncate-prompt"), ask("7")["usage"]["prompt_tokens"] - 1
    assert result["usage"]["prompt_tokens"] == 508
    assert result["text"] == ask(digits[-(508 - around) :])["text"]
    options = ("--lines", "--chat", "-n", 4, "-t", 0, "--truncate-prompt", "-y")
    path = write_lines(tmp_path / "q", [digits])
    [result] = batch([chatty], path, *options, "an")
    assert result["text"] == run(chatty, *options[1:], "an", "-i", digits).ok().out[:-1]
    [result] = batch([chatty], path, *options, "7" * 511, code=1)
    assert "--truncate-prompt" in result["error"]["message"] and "512" in result["error"]["message"], result


def test_requests_may_come_through_a_pipe_and_are_answered_before_it_ends(tiny):
    process = start(*tiny, "-b", "-", "-o", "-", "-n", "2", stdin=subprocess.PIPE)
    for _ in range(3):
        process.stdin.write(b'{"prompt": "the"}\n')
        process.stdin.flush()
        assert "text" in json.loads(process.stdout.readline())
    process.stdin.close()
    assert process.wait(TIMEOUT) == 0
    process.stdout.close()
    process.stderr.close()


# ----------------------------------------------------------------------------------------------------------------------
# The same text, whatever runs beside it.


def test_results_are_the_same_at_any_parallel_threads_chunk_and_memory(long, tmp_path):
    path = write_lines(tmp_path / "q", requests_of(40))
    want = results_bytes(long, path, tmp_path / "r", "--parallel", 1)
    cases = [("--parallel", 4), ("--parallel", 16), ("--parallel", 64), ("--parallel", 5, "-j", 3, "--chunk", 1),
             ("--chunk", 7, "--simd", "scalar")]  # fmt: skip
    for i, options in enumerate(cases):
        assert results_bytes(long, path, tmp_path / f"r{i}", *options) == want, options


def test_a_text_is_the_same_alone_and_in_any_order_of_the_file(tiny, tmp_path):
    lines = [json.dumps(json.loads(line) | {"seed": i}) for i, line in enumerate(requests_of(24, 3)[::2])]
    texts = [text_of(r) for r in batch(tiny, write_lines(tmp_path / "q", lines))]
    order = list(range(len(lines)))
    random.Random(4).shuffle(order)
    shuffled = batch(tiny, write_lines(tmp_path / "s", [lines[i] for i in order]))
    assert [text_of(r) for r in shuffled] == [texts[i] for i in order]
    for i in range(0, len(lines), 3):
        [alone] = batch(tiny, write_lines(tmp_path / "a", [lines[i]]))
        assert text_of(alone) == texts[i], lines[i]


def test_pieces_with_their_first_line_make_the_same_bytes_as_one_run(tiny, tmp_path):
    lines = requests_of(30)
    want = results_bytes(tiny, write_lines(tmp_path / "q", lines), tmp_path / "r")
    pieces = b""
    for first in range(0, 30, 11):
        piece = write_lines(tmp_path / f"q{first}", lines[first : first + 11])
        pieces += results_bytes(tiny, piece, tmp_path / f"r{first}", "--first-line", first + 1)
    assert pieces == want


def test_a_common_header_of_1000_tokens_is_computed_once(long, tmp_path):
    header = "the cat in an hat " * 100
    tokens = len(long.generate("--tokenize", "-i", header).ok().out.split())
    assert tokens > 1000
    lines = [json.dumps({"prompt": header + f"and {i}", "max_tokens": 5}) for i in range(20)]
    path = write_lines(tmp_path / "q", lines)
    outputs = []
    for parallel in (1, 4, 16):
        out = tmp_path / f"r{parallel}"
        done = run(*long, "-b", path, "-o", out, "--stats", "--parallel", parallel, timeout=TIMEOUT).ok()
        outputs.append(out.read_bytes())
        prompt = statistics(done, "tokens, ")
        shared = statistics(done, "cached")
        pages = tokens // 32 * 32
        assert shared >= 19 * (pages - 32), f"{shared} of {prompt} shared, expected 19 times {pages}\n{done}"
    assert outputs[0] == outputs[1] == outputs[2]


def test_a_request_that_waits_for_pages_is_answered(long, tmp_path):
    lines = ['{"prompt": "a", "max_tokens": 2000, "ignore_eos": true}'] + requests_of(8)
    path = write_lines(tmp_path / "q", lines)
    want = results_bytes(long, path, tmp_path / "r", "--parallel", 1, timeout=TIMEOUT)
    assert results_bytes(long, path, tmp_path / "s", "--parallel", 3, timeout=TIMEOUT) == want


# ----------------------------------------------------------------------------------------------------------------------
# Ten thousand.


def peak_memory(command):
    """Runs a command; its exit status and the most memory that it had, in bytes."""
    program = ("import resource, subprocess, sys; code = subprocess.run(sys.argv[1:], stderr=subprocess.DEVNULL).returncode;"
               "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")  # fmt: skip
    options = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"  # what was freed is kept from use, up to 256 MB
    done = execute([sys.executable, "-c", program, *command], env={"ASAN_OPTIONS": options}, timeout=2 * TIMEOUT).ok()
    code, peak = done.out.split()
    return int(code), int(peak) * 1024


def test_ten_thousand_requests_with_bad_ones_among_them_take_no_more_memory_than_a_thousand(tiny, tmp_path):
    bad = [line for line, _ in list(BAD_LINES.values())[:10]]
    peaks = {}
    for count in (1000, 10000):
        lines = [json.dumps({"prompt": f"the {i}", "max_tokens": 4}) for i in range(count)]
        wrong = {i * 100 + 37: bad[i % 10] for i in range(count // 100)}
        path = write_lines(tmp_path / f"q{count}", [wrong.get(i, line) for i, line in enumerate(lines)])
        out = tmp_path / f"r{count}"
        code, peaks[count] = peak_memory([EXECUTABLE, *tiny, "-b", path, "-o", out])
        assert code == 1
        results = [json.loads(line) for line in out.read_text().splitlines()]
        errors = [i for i, r in enumerate(results) if "error" in r and r["error"]]
        assert len(results) == count and errors == sorted(wrong), f"{len(results)} results, {len(errors)} errors"
        for i in errors:
            assert results[i]["error"]["message"].startswith(f"line {i + 1}: ")
        for i in set(range(count)) - set(errors):
            assert results[i]["index"] == i + 1 and "text" in results[i]
    assert peaks[10000] < peaks[1000] * 1.1 + (4 << 20), peaks


# ----------------------------------------------------------------------------------------------------------------------
# Kills, and going on.


def test_runs_killed_at_random_moments_and_resumed_give_the_same_bytes(tiny, tmp_path):
    path = write_lines(tmp_path / "q", requests_of(300) + ['{"bad'] + requests_of(100, 9))
    began = time.monotonic()
    want = results_bytes(tiny, path, tmp_path / "want", code=1)
    whole = time.monotonic() - began
    chance = random.Random(11)
    killed = rounds = 0
    while killed < KILLS:
        out = tmp_path / f"r{rounds}"
        rounds += 1
        assert rounds < 20 * KILLS + 20, f"{killed} of {KILLS} runs could be killed before they ended"
        for _ in range(3):
            options = ["--resume"] if out.exists() else []
            process = start(*tiny, "-b", path, "-o", out, "--parallel", chance.choice([1, 3, 16]), *options)
            time.sleep(chance.uniform(0, 0.8 * whole))
            process.kill()
            killed += finish(process).code == -signal.SIGKILL
            if out.exists():
                got = out.read_bytes()
                assert want.startswith(got[: got.rfind(b"\n") + 1]), "a result was lost, doubled or changed"
        assert results_bytes(tiny, path, out, "--resume", code=1) == want
        out.unlink()


def test_a_half_written_line_is_cut_off_wherever_it_was_cut(tiny, tmp_path):
    path, out = write_lines(tmp_path / "q", requests_of(6)), tmp_path / "r"
    want = results_bytes(tiny, path, tmp_path / "want")
    for size in sorted({0, 1, 50, len(want) // 2, want.find(b"\n"), want.find(b"\n") + 1, len(want) - 1, len(want)}):
        out.write_bytes(want[:size])
        assert results_bytes(tiny, path, out, "--resume") == want, size


def test_chat_without_a_template_is_refused_before_anything_is_written(tiny, tmp_path):
    path, out = write_lines(tmp_path / "q", requests_of(2)), tmp_path / "r"
    assert_refused(run(*tiny, "--chat", "-b", path, "-o", out), 3, tiny.path, "chat template")
    assert not out.exists()


def test_results_that_are_there_are_an_error_without_resume(tiny, tmp_path):
    path, out = write_lines(tmp_path / "q", requests_of(2)), tmp_path / "results.jsonl"
    out.write_bytes(b"precious\n")
    assert_refused(run(*tiny, "-b", path, "-o", out), 2, "results.jsonl", "already exists; use --resume to continue it")
    assert out.read_bytes() == b"precious\n"


def test_resume_refuses_results_of_other_requests_or_options(tiny, tmp_path):
    lines = requests_of(6)
    path, out = write_lines(tmp_path / "q", lines), tmp_path / "results.jsonl"
    want = results_bytes(tiny, path, out)
    other = write_lines(tmp_path / "other", [*lines[:3], '{"prompt": "changed"}', *lines[4:]])
    short = write_lines(tmp_path / "short", lines[:4])
    for requests, options, word in ((other, (), "line 4"), (short, (), "line 5"), (path, ("-s", 3), "line 1"),
                                    (path, ("-n", 3), "line 1"), (path, ("--first-line", 2), "line 1")):  # fmt: skip
        assert_refused(run(*tiny, "-b", requests, "-o", out, "--resume", *options), 3, "results.jsonl", word)
        assert out.read_bytes() == want
    out.write_bytes(b"precious\n" + want)
    assert_refused(run(*tiny, "-b", path, "-o", out, "--resume"), 3, "line 1")


@pytest.mark.parametrize("changed", ["prompt", "seed", "options", "model", "error"])
def test_resume_notices_a_change_though_the_requests_have_ids_of_their_own(tiny, chain, tmp_path, changed):
    """The result of the second request is a text, or with "error" the reason why it has none."""
    bad = '{"id": "b", "prompt": 7}'
    lines = ['{"id": "a", "prompt": "the"}', bad if changed == "error" else '{"id": "b", "prompt": "cat"}']
    path, out = write_lines(tmp_path / "q", lines), tmp_path / "results.jsonl"
    want = results_bytes(tiny, path, out, "-n", 5, "-s", 1, code=int(changed == "error"))
    same = ["-n", 5, "-s", 1]
    if changed in ("prompt", "error"):
        write_lines(path, [lines[0], lines[1].replace("cat", "hat").replace("7", "8")])
    options = {"seed": ["-n", 5, "-s", 2], "options": ["-n", 5, "-s", 1, "-t", 0.5]}.get(changed, same)
    model = chain([b"one", b" two"]) if changed == "model" else tiny
    line = "line 2" if changed in ("prompt", "error") else "line 1"
    done = run(*model, "-b", path, "-o", out, "--resume", *options)
    assert_refused(done, 3, f"results.jsonl: {line} is not the result of {line} of", "with this model and these options")
    assert out.read_bytes() == want


def test_resume_says_of_results_without_a_hash_that_an_older_version_wrote_them(tiny, tmp_path):
    path, out = write_lines(tmp_path / "q", ['{"id": "a", "prompt": "the"}']), tmp_path / "results.jsonl"
    old = re.sub(rb'"hash": "\w+", ', b"", results_bytes(tiny, path, out))
    out.write_bytes(old)
    assert_refused(run(*tiny, "-b", path, "-o", out, "--resume"), 3, "results.jsonl: line 1", "no hash", "older version")
    assert out.read_bytes() == old


def test_resume_refuses_results_of_another_tokenizer_or_system_message(tiny, chatty, tmp_path):
    path, out = write_lines(tmp_path / "q", requests_of(3)), tmp_path / "results.jsonl"
    pieces = tiny.tokenizer.read_bytes()
    (tmp_path / "other.bin").write_bytes(pieces[:4] + struct.pack("<f", 5) + pieces[8:])
    want = results_bytes(tiny, path, out)
    other = (tiny.path, "-z", tmp_path / "other.bin")
    assert_refused(run(*other, "-b", path, "-o", out, "--resume"), 3, "results.jsonl", "line 1")
    assert out.read_bytes() == want
    out.unlink()
    chat = (chatty, "--chat", "-b", path, "-o", out, "-n", "3")
    run(*chat).ok()
    assert_refused(run(*chat, "-y", "", "--resume"), 3, "results.jsonl", "line 1")


def test_progress_counts_the_lines_that_are_requests(slow, tmp_path):
    path = tmp_path / "q"
    path.write_bytes(b"a\n\n \r\nb")
    code, _, screen = on_terminal(*slow, "-b", path, "-o", tmp_path / "r", "--lines", "-n", "100", "--ignore-eos")
    assert code == 0 and " of 2 requests done" in screen, screen
    path.write_bytes(b'{"prompt": "a"}\n\n \r\n{"prompt": "b"}')
    code, _, screen = on_terminal(*slow, "-b", path, "-o", tmp_path / "s", "-n", "100", "--ignore-eos")
    assert code == 0 and " of 2 requests done" in screen, screen


def test_resume_counts_the_errors_that_are_kept(tiny, tmp_path):
    path, out = write_lines(tmp_path / "q", ['{"prompt": "a"}', "{", '{"prompt": "b"}']), tmp_path / "r"
    want = results_bytes(tiny, path, out, code=1)
    done = run(*tiny, "-b", path, "-o", out, "--resume", "--stats")
    assert done.code == 1 and "1 of 3" in done.err and "3 kept" in done.err, done
    assert out.read_bytes() == want


def test_a_second_process_cannot_write_the_same_results(tiny, tmp_path):
    path, out = write_lines(tmp_path / "q", requests_of(2)), tmp_path / "results.jsonl"
    with open(out, "wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert_refused(run(*tiny, "-b", path, "-o", out, "--resume"), 1, "results.jsonl", "another process")
    results_bytes(tiny, path, out, "--resume")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_batch_keeps_what_is_done_and_goes_on(slow, tmp_path, number):
    lines = [json.dumps({"prompt": "a", "max_tokens": 1 if i < 2 else 4000, "ignore_eos": True}) for i in range(4)]
    path, out = write_lines(tmp_path / "q", lines), tmp_path / "r"
    process = start(*slow, "-b", path, "-o", out)
    deadline = time.monotonic() + TIMEOUT
    while not (out.exists() and out.read_bytes().count(b"\n") == 2) and time.monotonic() < deadline:
        assert process.poll() is None, finish(process)
        time.sleep(0.02)
    process.send_signal(number)
    done = finish(process)
    assert done.code == 128 + number, done
    assert out.read_bytes().count(b"\n") == 2 and out.read_bytes().endswith(b"\n")
    assert f"{out}: interrupted after 2 requests" in done.err and "--resume" in done.err, done


def test_a_full_device_is_an_error_of_exit_1(tiny, tmp_path):
    done = run(*tiny, "-b", write_lines(tmp_path / "q", requests_of(3)), "-o", "/dev/full")
    assert done.code == 1 and "/dev/full" in done.err, done


@not_under_tsan
def test_a_full_disk_is_an_error_of_exit_1(tiny, tmp_path):
    path = write_lines(tmp_path / "q", requests_of(3))
    out = tmp_path / "r"
    want = results_bytes(tiny, path, tmp_path / "want")
    done = limited(resource.RLIMIT_FSIZE, 700, *tiny, "-b", path, "-o", out)
    assert len(want) > 700
    assert_refused(done, 1, f"{out}: cannot be written: ", "; the results so far are kept, --resume continues it")
    assert results_bytes(tiny, path, out, "--resume") == want


def test_a_closed_stdout_is_an_error_and_a_reader_that_has_gone_ends_the_run(tiny, tmp_path):
    path = write_lines(tmp_path / "q", requests_of(3))
    done = run(*tiny, "-b", path, preexec_fn=lambda: os.close(1))
    assert done.code == 1 and "standard output" in done.err, done
    process = start(*tiny, "-b", write_lines(tmp_path / "many", requests_of(2000)))
    process.stdout.close()
    assert process.wait(TIMEOUT) == -signal.SIGPIPE
    process.stderr.close()


def test_a_batch_goes_on_to_the_same_bytes_after_any_call_that_failed(faults, long, tmp_path):  # noqa: F811
    """The n-th allocation, open, read, map, write, sync or rename fails, for every n; then the run is resumed."""
    lines = [json.dumps({"prompt": HEADER + "x" * i, "max_tokens": 2, "stop": ["zz"]}) for i in range(3)] + ["{"]
    path, out, cache = write_lines(tmp_path / "q", lines), tmp_path / "r", tmp_path / "cache"
    want = results_bytes(long, path, tmp_path / "want", code=1)
    options = ["-b", path, "-o", out, "-j", 1, "--parallel", 2, "--prompt-cache", cache]
    tried = 0
    for call in ("memory", "open", "read", "mmap", "write", "fsync", "rename"):
        for n in range(1, 400):
            for file in (out, cache):
                file.unlink(missing_ok=True)
            env = {"LD_PRELOAD": faults, "FAULT": f"{call} {n} once", "OMP_NUM_THREADS": "1"}
            done = run(*long, *options, env=env)
            done.command.insert(0, f"FAULT='{call} {n} once'")
            if "[no fault]" in done.err:
                break
            tried += 1
            assert done.code in (1, 3) and len(done.err.splitlines()) == 1, f"expected exit 1 or 3 and a line\n{done}"
            kept = out.read_bytes() if out.exists() else b""
            assert want.startswith(kept[: kept.rfind(b"\n") + 1]), f"other results: {kept!r}\n{done}"
            assert results_bytes(long, path, out, "--resume", "--prompt-cache", cache, code=1) == want, done
            assert not list(tmp_path.glob("cache.*")), f"a temporary file was left\n{done}"
    assert tried > 40, f"only {tried} calls failed"


# ----------------------------------------------------------------------------------------------------------------------
# The prompt cache.

HEADER = "the cat in an hat " * 10


def test_output_is_the_same_with_and_without_a_prompt_cache(long, tmp_path):
    cache = tmp_path / "cache"
    prompt = ("-i", HEADER + "and then", "-n", 20, "-s", 3)
    want = long.generate(*prompt).ok().bytes
    assert long.generate(*prompt, "--prompt-cache", cache).ok().bytes == want
    written = cache.read_bytes()
    done = long.generate(*prompt, "--prompt-cache", cache, "--stats").ok()
    tokens = len(long.generate("--tokenize", "-i", HEADER + "and then").ok().out.split())
    assert done.bytes == want and statistics(done, "cached") == (tokens - 1) // 32 * 32
    other = ("-i", HEADER + "or else the hat", "-n", 20, "-s", 3)
    done = long.generate(*other, "--prompt-cache", cache, "--stats").ok()
    assert done.bytes == long.generate(*other).ok().bytes and statistics(done, "cached") > 0
    assert cache.read_bytes() == written, "a file that was of use was written again"


def test_a_prompt_cache_of_another_beginning_is_replaced(long, tmp_path):
    cache = tmp_path / "cache"
    long.generate("-i", HEADER, "-n", 1, "--prompt-cache", cache).ok()
    first = cache.read_bytes()
    other = "x" + HEADER
    long.generate("-i", other, "-n", 1, "--prompt-cache", cache).ok()
    assert cache.read_bytes() != first
    done = long.generate("-i", other, "-n", 1, "--prompt-cache", cache, "--stats").ok()
    assert statistics(done, "cached") > 0
    assert [p.name for p in tmp_path.iterdir()] == ["cache"], "a temporary file was left"


def test_a_batch_reads_and_writes_the_prompt_cache(long, tmp_path):
    path = write_lines(tmp_path / "q", [json.dumps({"prompt": HEADER + f"and {i}"}) for i in range(6)])
    cache, options = tmp_path / "cache", ("-n", 6, "--parallel", 2, "--stats", "--prompt-cache", tmp_path / "cache")
    want = results_bytes(long, path, tmp_path / "want", "-n", 6)
    counts = []
    for name in ("first", "second"):
        done = run(*long, "-b", path, "-o", tmp_path / name, *options).ok()
        counts.append(statistics(done, "cached"))
        assert (tmp_path / name).read_bytes() == want
    assert cache.exists() and counts[1] > counts[0], counts
    done = long.generate("-i", HEADER, "-n", 1, "--prompt-cache", cache, "--stats").ok()
    assert statistics(done, "cached") > 0


def test_a_chat_uses_the_prompt_cache(chatty, tmp_path):
    options = ("--chat", "-i", "in an hat", "-y", HEADER, "-n", 9, "-s", 1)
    want = run(chatty, *options).ok().bytes
    for _ in range(2):
        done = run(chatty, *options, "--prompt-cache", tmp_path / "cache", "--stats").ok()
        assert done.bytes == want
    assert statistics(done, "cached") > 0


def test_a_conversation_computes_nothing_twice(chatty):
    """In a terminal: the second question finds what the first left in the cache, up to the last token that was said."""
    ours, theirs = pty.openpty()
    process = start(chatty, "--chat", "-n", 7, "-t", 0, "--ignore-eos", "--stats", stdin=theirs)
    os.close(theirs)
    os.write(ours, b"the hat\nthe rain in the hat\n\x04")
    done = finish(process).ok()
    os.close(ours)
    turns = re.findall(r"prompt (\d+) tokens(?: in [\d.]+ m?s)?(?:, (\d+) cached)?.*; cut at (\d+) tokens", done.err)
    first, second = ([int(n or 0) for n in turn] for turn in turns)
    assert first[1:] == [0, 7] and second[1:] == [first[0] + 6, 7] and second[0] > first[0] + 7, done
    assert done.bytes.count(b"\n") == 2, done


def test_a_prompt_cache_that_is_damaged_or_no_cache_is_refused(long, tmp_path):
    cache, bad = tmp_path / "cache", tmp_path / "bad.cache"
    prompt = ("-i", HEADER[:120], "-n", 1)
    long.generate(*prompt, "--prompt-cache", cache).ok()
    data = cache.read_bytes()
    changes = [data[:-1], data[:64], data + b"\0", b"no cache at all", data[:8] + b"\2" + data[9:]]
    for at in (0, 12, 16, 24, 32, 36, 40, 52, 56, 70, 128, 200, 4000, 4096, len(data) // 2, len(data) - 1):
        changes.append(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    for change in changes:
        bad.write_bytes(change)
        assert_refused(long.generate(*prompt, "--prompt-cache", bad), 3, "bad.cache")
        assert bad.read_bytes() == change
    assert_refused(long.generate(*prompt, "--prompt-cache", tmp_path), 3, tmp_path.name)


def test_a_prompt_cache_of_another_model_or_type_or_version_is_refused_in_words(long, tmp_path):
    cache, prompt = tmp_path / "cache", ("-i", HEADER, "-n", 1)
    long.generate(*prompt, "--prompt-cache", cache).ok()
    data, what_to_do = cache.read_bytes(), "delete it so that the next run writes a new one, or use another file"
    done = long.generate(*prompt, "--prompt-cache", cache, "--kv", "f16")
    assert_refused(done, 3, f"{cache}: holds keys and values in f32", "has them in f16", "--kv f32 fits it", what_to_do)
    other = Model(tmp_path / "other.bin", long.tokenizer)
    other.path.write_bytes(models.model_bytes(replace(models.TINY, seq_len=LONG_CONTEXT, seed=8), "v0"))
    done = other.generate(*prompt, "--prompt-cache", cache)
    assert_refused(done, 3, f"{cache}: was made with another model (long.bin) than {other.path}", what_to_do)
    cache.write_bytes(data[:64] + bytes(64) + data[128:])  # files of before had no name there
    assert_refused(other.generate(*prompt, "--prompt-cache", cache), 3, f"another model than {other.path}")
    cache.write_bytes(data[:64] + b"\x1b" * 64 + data[128:])
    assert_refused(other.generate(*prompt, "--prompt-cache", cache), 3, f"another model ({'?' * 64}) than")
    cache.write_bytes(data[:8] + b"\2" + data[9:])
    assert_refused(long.generate(*prompt, "--prompt-cache", cache), 3, "version 2, expected 1", what_to_do)
    cache.write_bytes(data[:40] + b"\7" + data[41:])
    assert_refused(long.generate(*prompt, "--prompt-cache", cache), 3, "is damaged: n_layers is 7, expected 2; delete it")


def test_statistics_tell_what_became_of_a_prompt_cache_that_does_not_fit(long, tmp_path):
    cache = tmp_path / "cache"

    def notes(*options):
        done = long.generate(*options, "--prompt-cache", cache, "--stats", "-n", 1).ok()
        return [line for line in done.err.splitlines() if line.startswith(f"run: {cache}: ")]

    [short] = notes("-i", "the")
    page = int(re.fullmatch(r".*: neither used nor written: the prompt has fewer than (\d+) tokens", short)[1])
    assert page in (16, 32) and not cache.exists(), "a page of this build"
    assert notes("-i", HEADER) == [] and notes("-i", HEADER + "and more") == [], "a file that is new, and one that fits"
    ids = [long.generate("--tokenize", "-i", text).ok().out.split() for text in (HEADER, "the x" + HEADER)]
    differs = next(i for i, (a, b) in enumerate(zip(*ids)) if a != b) + 1
    replaced = f"run: {cache}: replaced: its prompt differs from this one from token {differs} on, within the first {page}"
    path, out = write_lines(tmp_path / "q", [json.dumps({"prompt": "the x" + HEADER})]), tmp_path / "r"
    assert notes("-b", path, "-o", out) == [replaced]
    assert notes("-i", "the") == [short]


def test_a_prompt_of_just_the_first_page_leaves_the_prompt_cache_alone(tmp_path):
    model, cache = tmp_path / "bytes.bin", tmp_path / "cache"
    model.write_bytes(native_models.tiny().pack())  # BOS, then a token a byte
    run(model, "-i", "x" * 31 + "y" * 20, "-n", 1, "--prompt-cache", cache).ok()
    written = cache.stat().st_ino
    run(model, "-i", "x" * 31, "-n", 1, "--prompt-cache", cache).ok()
    assert cache.stat().st_ino == written, "the file was written again"


def test_a_prompt_cache_that_cannot_be_written_is_told_after_the_answer(long, tmp_path):
    prompt = ("-i", HEADER, "-n", 5, "-t", 0)
    done = long.generate(*prompt, "--prompt-cache", tmp_path / "no" / "cache")
    assert done.code == 1 and "no/cache" in done.err and done.bytes == long.generate(*prompt).bytes, done
    path, out = write_lines(tmp_path / "q", [json.dumps({"prompt": HEADER})]), tmp_path / "r"
    done = run(*long, "-b", path, "-o", out, "--prompt-cache", tmp_path / "no" / "cache")
    assert done.code == 1 and "no/cache" in done.err and out.read_bytes().count(b"\n") == 1, done


# ----------------------------------------------------------------------------------------------------------------------
# Options, statistics, other programs.


@pytest.mark.parametrize("options, name", [
    (("--parallel", "2"), "--parallel"), (("--lines",), "--lines"), (("--resume",), "--resume"),
    (("--first-line", "2"), "--first-line"), (("-b", "q", "--resume"), "--resume"), (("-b", "q", "-i", "x"), "--prompt"),
    (("-b", "q", "-f", "x"), "--prompt-file"), (("-b", "q", "--json"), "--json"), (("-b", "q", "--score"), "--score"),
    (("-b", "q", "--tokenize"), "--tokenize"), (("-b", "q", "--no-echo"), "--no-echo"), (("-b", "q", "--info"), "--info"),
    (("-b", "q", "--digest"), "--digest"), (("-b", "q", "--parallel", "0"), "--parallel"), (("-b",), "-b"),
    (("-b", "q", "--parallel", "x"), "--parallel"), (("--tokenize", "--prompt-cache", "x"), "--prompt-cache"),
    (("-b", "q", "--resume", "-o", "/dev/null"), "--resume")])  # fmt: skip
def test_options_that_do_not_go_together_are_refused_by_name(tiny, tmp_path, options, name):
    write_lines(tmp_path / "q", [])
    assert_refused(run(*tiny, *options, cwd=tmp_path), 2, name)


def test_a_batch_file_that_is_missing_is_named(tiny, tmp_path):
    assert_refused(run(*tiny, "-b", tmp_path / "missing.jsonl", "-o", tmp_path / "r"), 3, "missing.jsonl")
    assert not (tmp_path / "r").exists()


def test_statistics_are_one_line_and_only_where_asked(tiny, tmp_path):
    path = write_lines(tmp_path / "q", ['{"prompt": "a", "ignore_eos": true}'] * 3 + ["{"])
    done = run(*tiny, "-b", path, "-n", 4, "--stats")
    line = [line for line in done.err.splitlines() if line.startswith("requests ")]
    assert len(line) == 1 and "requests 4, failed 1" in line[0] and "new 12 tokens" in line[0] and "tok/s" in line[0]
    assert run(*tiny, "-b", write_lines(tmp_path / "p", ['{"prompt": "a"}']), "-n", 4).ok().err == ""


def script_of_docs(name, tiny):
    """The commands of docs/batch.md under this mark, with the program and the model of the test."""
    text = (ROOT / "docs" / "batch.md").read_text().split(f"<!-- tested: {name} -->\n\n")[1].split("\n\n")[0]
    assert "./run model.bin" in text, text
    lines = [line.removeprefix("    ") for line in text.splitlines()]
    return "\n".join(lines).replace("./run model.bin", " ".join(str(part) for part in [EXECUTABLE, *tiny]))


def test_a_failed_line_is_run_again_as_the_page_says(tiny, tmp_path):
    lines = ["", *requests_of(20)]
    want = results_bytes(tiny, write_lines(tmp_path / "right", lines), tmp_path / "want")
    requests, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    write_lines(requests, [*lines[:16], "{", *lines[17:]])
    results_bytes(tiny, requests, results, code=1)
    write_lines(requests, lines)
    done = subprocess.run(["bash", "-euc", script_of_docs("retry", tiny)], cwd=tmp_path, env=environment(),
                          capture_output=True, timeout=TIMEOUT)  # fmt: skip
    assert done.returncode == 0, done
    assert results.read_bytes() == want
    assert results_bytes(tiny, requests, results, "--resume") == want


def test_a_nightly_job_gives_the_bytes_of_one_run(tiny, tmp_path):
    if not shutil.which("flock"):
        pytest.skip("flock is not installed")
    work = tmp_path / "work"
    work.mkdir()
    want = results_bytes(tiny, write_lines(work / "requests.jsonl", requests_of(20)), tmp_path / "want")
    fields, command = script_of_docs("cron", tiny).split("  ", 1)
    assert len(fields.split()) == 5, fields
    for _ in range(2):  # the second night finds nothing to do
        done = subprocess.run(["sh", "-euc", command], cwd=tmp_path, env=environment({"HOME": str(tmp_path)}),
                              capture_output=True, timeout=TIMEOUT)  # fmt: skip
        assert done.returncode == 0, done
    assert (work / "results.jsonl").read_bytes() == want
    first, second = (line for line in (work / "batch.log").read_text().splitlines() if line.startswith("requests "))
    assert "20, 0 kept" in first and "20, 20 kept" in second, (first, second)


def test_gnu_parallel_over_pieces_gives_the_bytes_of_one_run(tiny, tmp_path):
    if not shutil.which("parallel"):
        pytest.skip("GNU parallel is not installed")
    path = write_lines(tmp_path / "requests.jsonl", requests_of(50))
    want = results_bytes(tiny, path, tmp_path / "want")
    script = script_of_docs("parallel", tiny)
    assert "-l 1000" in script, script
    script = script.replace("-l 1000", "-l 20").replace("1000 *", "20 *")
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, env=environment({"HOME": str(tmp_path)}),
                          capture_output=True, timeout=TIMEOUT)  # fmt: skip
    assert done.returncode == 0, done
    assert (tmp_path / "results.jsonl").read_bytes() == want


@pytest.mark.skipif(SANITIZED, reason="the sanitizers' memory has no limit")
def test_a_process_that_answers_for_long_keeps_its_memory_and_its_answers():
    """The first rounds of what `make soak` does for an hour."""
    done = subprocess.run([sys.executable, ROOT / "tests" / "soak.py", "--run", EXECUTABLE, "--model",
                           ROOT / "models" / "stories.bin", "--seconds", "0"], capture_output=True, timeout=600)  # fmt: skip
    assert done.returncode == 0 and b" 0 differ" in done.stdout, done
