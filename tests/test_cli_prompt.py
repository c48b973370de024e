"""The prompt: where it comes from, which bytes it may have, and how it meets the context."""

import os

from conftest import CHUNKS, GREEDY, TIMEOUT, assert_refused, finish, start

import models


def test_prompt_comes_from_standard_input_where_no_option_gives_one(tiny):
    expected = tiny.generate("-i", "the an", "-n", "5", *GREEDY).ok().bytes
    assert tiny.generate("-n", "5", *GREEDY, stdin=b"the an").ok().bytes == expected
    assert tiny.generate("-n", "5", *GREEDY, "-f", "-", stdin=b"the an").ok().bytes == expected


def test_prompt_comes_from_a_file(tiny, tmp_path):
    (tmp_path / "prompt.txt").write_bytes(b"the an")
    expected = tiny.generate("-i", "the an", "-n", "5", *GREEDY).ok().bytes
    assert tiny.generate("-n", "5", *GREEDY, "-f", tmp_path / "prompt.txt").ok().bytes == expected
    assert tiny.generate("-n", "5", *GREEDY, f"--prompt-file={tmp_path / 'prompt.txt'}").ok().bytes == expected


def test_prompt_file_may_be_a_pipe(tiny, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    process = start(*tiny, "-n", "5", *GREEDY, "-f", tmp_path / "fifo")
    (tmp_path / "fifo").write_bytes(b"the an")
    assert finish(process).ok().bytes == tiny.generate("-i", "the an", "-n", "5", *GREEDY).ok().bytes


def test_text_and_file_are_joined_by_a_blank_line(tiny):
    expected = tiny.generate("-i", "the\n\nan", "-n", "5", *GREEDY).ok().bytes
    assert tiny.generate("-i", "the", "-f", "-", "-n", "5", *GREEDY, stdin=b"an").ok().bytes == expected


def test_texts_and_files_are_joined_in_the_order_of_the_command_line(tiny, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b" the\n\xff\n")  # kept to the byte, white space and all
    second.write_bytes(b"")
    for args, joined in (
        (("-f", first, "-f", second, "-f", "-"), b" the\n\xff\n\n\n\n\nan"),
        (("-f", "-", "-i", "in", "-f", first), b"an\n\nin\n\n the\n\xff\n"),
        (("-i", "in", "--prompt=the", "--prompt-file", "-"), b"in\n\nthe\n\nan"),
        (("-i", "", "-f", "-"), b"\n\nan"),
    ):
        expected = tiny.generate("--tokenize", "-f", "-", stdin=joined).ok().out
        assert tiny.generate("--tokenize", *args, stdin=b"an").ok().out == expected, f"{args}, expected {joined}"


def test_every_file_of_the_prompt_must_be_readable(tiny, tmp_path):
    (tmp_path / "there").write_bytes(b"the")
    assert_refused(tiny.generate("-f", tmp_path / "there", "-f", tmp_path / "absent", "-i", "an"), 3, "absent")


def test_standard_input_given_twice_exits_2(tiny):
    assert_refused(tiny.generate("-f", "-", "-i", "the", "-f", "-", stdin=b"an"), 2, "--prompt-file -", "2 times")


def test_prompt_option_leaves_standard_input_alone(tiny):
    read, write = os.pipe()  # never written to or closed: a read would not return
    try:
        done = tiny.generate("-i", "a", "-n", "1", *GREEDY, stdin=read, timeout=TIMEOUT)
        done.ok()
    finally:
        os.close(read)
        os.close(write)


def test_empty_prompt_begins_at_bos(stories):
    expected = stories.generate("-i", "", "-n", "30", *GREEDY, "--json").ok().json
    assert expected["prompt_tokens"] == 1 and expected["text"].startswith("Once upon a time"), expected
    assert stories.generate("-n", "30", *GREEDY, stdin=b"").ok().out == expected["text"] + "\n"


def test_prompt_bytes_that_are_not_utf8_are_kept_through_byte_tokens(tiny):
    prompt = b"a\xff\xfeb\xc3"
    ids = tiny.generate("--tokenize", "-f", "-", stdin=prompt).ok().out.split()
    for byte in (0xFF, 0xFE, 0xC3):
        assert str(byte + models.FIRST_BYTE) in ids, f"byte {byte:#x} has no token in {ids}"


def test_prompt_may_contain_nul_bytes(tiny):
    ids = tiny.generate("--tokenize", "-f", "-", stdin=b"a\0b").ok().out.split()
    assert str(models.FIRST_BYTE) in ids and len(ids) >= 4, ids


def test_prompt_longer_than_the_context_exits_3_with_both_numbers(stories):
    prompt = "Once upon a time there was " * 10
    count = len(stories.generate("--tokenize", "-i", prompt).ok().out.split())
    assert_refused(stories.generate("-i", prompt, "-c", "32"), 3, count, 32)
    assert_refused(stories.generate("-f", "-", stdin=b"Once upon a time " * 500), 3, 512)


def test_prompt_of_just_the_context_fits(stories):
    prompt = "Once upon a time there was a"
    count = len(stories.generate("--tokenize", "-i", prompt).ok().out.split())
    stories.generate("-i", prompt, "-c", count + 1, *GREEDY).ok()
    assert_refused(stories.generate("-i", prompt, "-c", count - 1, *GREEDY), 3, count, count - 1)


def test_truncate_prompt_keeps_the_end(stories):
    prompt = "A dog ran to the park. " * 20
    whole = stories.generate("-i", prompt, "-n", "5", *GREEDY, "--no-echo").ok()
    done = stories.generate("-i", prompt, "-c", "64", "-n", "5", *GREEDY, "--truncate-prompt", "--json").ok().json
    assert done["prompt_tokens"] <= 64 and done["completion_tokens"] >= 1, done
    fits = stories.generate("-i", prompt, "-n", "5", *GREEDY, "--truncate-prompt", "--no-echo").ok()
    assert fits.bytes == whole.bytes, "a prompt that fits was changed"


def test_chunk_of_the_prompt_changes_nothing(stories):
    prompt = "Once upon a time, there was a big dog. " * 6
    seen = {c: stories.generate("-i", prompt, "-n", "50", "-s", "3", "--chunk", c, "--digest").ok() for c in CHUNKS}
    assert len({(done.bytes, done.digest) for done in seen.values()}) == 1, [str(d) for d in seen.values()]
