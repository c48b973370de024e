"""What a run prints: prompt and continuation, --json, how many tokens, and characters written as they complete."""

import json
import os
import socket
import time

import pytest
from conftest import GREEDY, PROMPT, TIMEOUT, finish, start


def test_text_is_prompt_and_continuation_and_a_newline(chain):
    done = chain([b"one", b" two", b" three"]).generate("-i", "", *GREEDY).ok()
    assert done.bytes == b"one two three\n"


def test_prompt_is_printed_as_it_was_given(stories):
    for prompt in ("Once upon a time", "  two  spaces ", "\n\ttab", "no space at the end ", "Zoë – ☃ 😀"):
        done = stories.generate("-i", prompt, "-n", "5", *GREEDY).ok()
        assert done.out.startswith(prompt), f"expected the prompt {prompt!r} first\n{done}"


def test_no_echo_prints_the_continuation_only(stories):
    whole = stories.generate(*PROMPT, "-n", "20", *GREEDY).ok().out
    rest = stories.generate(*PROMPT, "-n", "20", *GREEDY, "--no-echo").ok().out
    assert whole == "Once upon a time" + rest
    assert rest.startswith(","), f"expected the continuation alone, found {rest!r}"


def test_json_text_is_what_is_printed_without_json(stories):
    for options in ((), ("--no-echo",)):
        plain = stories.generate(*PROMPT, "-n", "20", *GREEDY, *options).ok().out
        assert stories.generate(*PROMPT, "-n", "20", *GREEDY, "--json", *options).ok().json["text"] + "\n" == plain


def test_json_has_the_promised_members(stories):
    done = stories.generate(*PROMPT, "-n", "20", "-s", "5", "--json").ok()
    assert done.out.count("\n") == 1 and done.out.endswith("}\n"), f"expected one line\n{done}"
    seen = done.json
    expected = {
        "text": str,
        "finish_reason": str,
        "prompt_tokens": int,
        "completion_tokens": int,
        "seed": int,
        "prompt_per_second": (int, float),
        "decode_per_second": (int, float),
        "first_token_ms": (int, float),
    }
    assert set(seen) == set(expected), f"members {sorted(seen)}, expected {sorted(expected)}"
    for name, kind in expected.items():
        assert isinstance(seen[name], kind), f"{name}: {seen[name]!r}"
    assert (seen["finish_reason"], seen["completion_tokens"], seen["seed"]) == ("length", 20, 5)
    assert seen["first_token_ms"] >= 0 and seen["prompt_per_second"] > 0 and seen["decode_per_second"] > 0


def test_json_counts_the_tokens_that_tokenize_lists(stories):
    ids = stories.generate("--tokenize", *PROMPT).ok().out.split()
    assert stories.generate(*PROMPT, "-n", "1", "--json").ok().json["prompt_tokens"] == len(ids)


def test_json_numbers_are_finite_even_for_no_token(tiny):
    for n, prompt in (("1", ""), ("1", "a")):
        text = tiny.generate("-i", prompt, "-n", n, "--json", *GREEDY).ok().out
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON: {text}"))


def test_json_escapes_what_json_must_escape(chain):
    pieces = [b'quo"te', b"back\\slash", b"\n", b"\t", b"\x01", b"\x1f", b"\x7f", b"</script>", "é😀".encode()]
    seen = chain(pieces).generate("-i", "", *GREEDY, "--json").ok().json
    assert seen["text"].encode() == b"".join(pieces)


def test_end_token_finishes_with_stop_and_is_not_printed(chain):
    seen = chain([b"one", b" two"]).generate("-i", "", *GREEDY, "--json").ok().json
    assert (seen["text"], seen["finish_reason"]) == ("one two", "stop")


def test_max_tokens_finishes_with_length(chain):
    model = chain([b"one", b" two", b" three"])
    seen = model.generate("-i", "", *GREEDY, "--json", "-n", "2").ok().json
    assert (seen["text"], seen["finish_reason"], seen["completion_tokens"]) == ("one two", "length", 2)


def test_max_tokens_defaults_to_256(stories):
    assert stories.generate(*PROMPT, *GREEDY, "--json", "--ignore-eos").ok().json["completion_tokens"] == 256


def test_ignore_eos_goes_on_after_the_end_token(chain):
    model = chain([b"one", b" two"])
    seen = model.generate("-i", "", *GREEDY, "--json", "--ignore-eos", "-n", "7").ok().json
    assert (seen["completion_tokens"], seen["finish_reason"]) == (7, "length")
    assert seen["text"].startswith("one two") and seen["text"].count("two") == 2, seen


def test_tokens_0_runs_until_the_context_is_full(stories):
    for context in (17, 64):
        seen = stories.generate(*PROMPT, *GREEDY, "--json", "-n", "0", "-c", context).ok().json
        total = seen["prompt_tokens"] + seen["completion_tokens"]
        assert (total, seen["finish_reason"]) == (context, "length")


def test_context_bounds_max_tokens(stories):
    full = stories.generate(*PROMPT, *GREEDY, "--json", "-n", "0", "-c", "32").ok().json
    seen = stories.generate(*PROMPT, *GREEDY, "--json", "-n", "400", "-c", "32").ok().json
    assert (seen["text"], seen["finish_reason"]) == (full["text"], "length")


def test_context_defaults_to_the_models(stories):
    seen = stories.generate(*PROMPT, *GREEDY, "--json", "-n", "0", "--ignore-eos").ok().json
    assert seen["prompt_tokens"] + seen["completion_tokens"] == 512


def test_context_changes_no_token(stories):
    texts = {stories.generate(*PROMPT, *GREEDY, "-n", "50", "-c", c).ok().out for c in ("64", "100", "512")}
    assert len(texts) == 1, texts


def test_llama2c_checkpoint_says_in_the_statistics_that_it_is_repacked(tiny):
    done = tiny.generate("-i", "a", "-n", "1", *GREEDY, "--stats").ok()
    assert "repacked" in done.err and tiny.path.name in done.err, f"{done}"


# ----------------------------------------------------------------------------------------------------------------------
# Streaming of whole characters.


def writes_of(*args):
    """The bytes of each write to standard output, which is a socket that keeps messages apart."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        process = start(*args, stdout=theirs)
        theirs.close()
        ours.settimeout(TIMEOUT)
        writes = []
        while data := ours.recv(1 << 16):
            writes.append(data)
        finish(process).ok()
    return writes


def test_each_character_is_written_as_it_completes_and_never_a_part(chain):
    model = chain([b"a", b"\xc3", b"\xa9", b"\xe2", b"\x82", b"\xac", b"\xf0", b"\x9f", b"\x98", b"\x80", b"z"])
    assert writes_of(*model, "-i", "", *GREEDY)[:5] == [b"a", "é".encode(), "€".encode(), "😀".encode(), b"z"]


def test_each_token_is_written_when_it_is_made(stories):
    writes = writes_of(*stories, *PROMPT, *GREEDY, "-n", "40")
    assert b"".join(writes) == stories.generate(*PROMPT, *GREEDY, "-n", "40").ok().bytes
    assert len(writes) >= 40, f"{len(writes)} writes for 40 tokens"


def test_prompt_is_on_screen_before_the_first_token(slow):
    process = start(*slow, "-i", "the prompt", "-n", "0", "--ignore-eos", "-s", "1")
    try:
        began = time.monotonic()
        seen = b""
        while len(seen) < 10 and time.monotonic() - began < TIMEOUT:
            seen += os.read(process.stdout.fileno(), 10 - len(seen))
        assert seen == b"the prompt"
        assert process.poll() is None, "it had finished before the prompt could be read"
    finally:
        process.kill()
        process.communicate()


BROKEN_UTF8 = {  # tokens -> text, with U+FFFD for bytes that complete no character
    "cut_at_the_end": ([b"a", b"\xe2", b"\x82"], "a\ufffd"),
    "stray_continuation": ([b"a", b"\x80", b"b"], "a\ufffdb"),
    "never_valid": ([b"a", b"\xff", b"b"], "a\ufffdb"),
    "begun_and_broken": ([b"a", b"\xe2", b"b"], "a\ufffdb"),
    "begun_twice": ([b"\xe2", b"\xc3", b"\xa9"], "\ufffdé"),
    "surrogate": ([b"\xed", b"\xa0", b"\x80", b"!"], None),
    "overlong": ([b"\xc0", b"\x80", b"!"], None),
    "beyond_unicode": ([b"\xf4", b"\x90", b"!"], None),
}


@pytest.mark.parametrize("name", BROKEN_UTF8)
def test_bytes_that_complete_no_character_become_replacement_characters(chain, name):
    tokens, expected = BROKEN_UTF8[name]
    model = chain(tokens)
    done = model.generate("-i", "", *GREEDY).ok()
    expected = expected if expected is not None else b"".join(tokens).decode("utf-8", "replace")
    assert done.out == expected + "\n", done
    assert model.generate("-i", "", *GREEDY, "--json").ok().json["text"] == expected
    for write in writes_of(*model, "-i", "", *GREEDY):
        write.decode("utf-8")


def test_json_of_a_prompt_that_is_not_utf8_is_valid_json(tiny):
    done = tiny.generate("-f", "-", "-n", "3", *GREEDY, "--json", stdin=b"a\xff\xc3b").ok()
    assert done.json["text"].startswith("a\ufffd\ufffdb"), done
