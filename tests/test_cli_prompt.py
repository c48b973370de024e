"""The prompt: where it comes from, which bytes it may have, and how it meets the context."""

import os

import pytest
from conftest import CHUNKS, GREEDY, TIMEOUT, assert_refused, finish, run, start

import models
import native_models


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


def test_tokenize_shows_a_prompt_that_was_shortened(stories):
    """BOS and the end: 64 positions, of which 20 are left to the answer."""
    prompt = ("-i", "A dog ran to the park. " * 20)
    ids = stories.generate("--tokenize", *prompt).ok().out.split()
    shortened = stories.generate("--tokenize", *prompt, "-c", "64", "-n", "20", "--truncate-prompt").ok().out.split()
    assert shortened == [ids[0], *ids[-43:]]
    assert_refused(stories.generate("--score", *prompt, "--truncate-prompt"), 2, "--truncate-prompt", "--score")


# ----------------------------------------------------------------------------------------------------------------------
# Chats that do not fit. Of native_models.tiny: its template is <s>SYSTEM\nUSER</s>, or <s>USER</s>; a byte's token is the
# byte + 2; the context is 64.

CONTEXT = 64
DOCUMENT = "".join(f"{i:03d}," for i in range(60))


@pytest.fixture(scope="module")
def chatty(workdir):
    path = workdir / "prompt-chatty.bin"
    path.write_bytes(native_models.tiny(chat=True).pack())
    return path


def shortened(model, *options, new=8, stdin=b""):
    """What the model is given: the text of the bytes' tokens, "{" and "}" for the template's."""
    done = run(model, "--tokenize", "--chat", "--truncate-prompt", "-n", new, *options, stdin=stdin).ok()
    ids = [int(i) for i in done.out.split()]
    assert len(ids) < CONTEXT
    return bytes(b"{}"[i] if i < 2 else i - 2 for i in ids).decode()


def test_a_chat_that_does_not_fit_loses_the_start_of_its_file_only(chatty):
    seen = []
    for instruction in ("Sum up", "Translate", "List the verbs"):
        options = ("-y", "Be brief", "-i", instruction, "-f", "-")
        kept = f"{{Be brief\n{instruction}\n\n"
        text = shortened(chatty, *options, stdin=DOCUMENT.encode())
        assert text == kept + DOCUMENT[-(CONTEXT - 8 - len(kept) - 1) :] + "}"
        told = run(chatty, "--chat", "--truncate-prompt", "-n", 8, *options, "--json", stdin=DOCUMENT.encode()).ok()
        assert told.json["prompt_tokens"] == len(text)
        seen.append(text)
    assert len(set(seen)) == 3


def test_a_chat_that_fits_is_left_alone(chatty):
    assert shortened(chatty, "-i", "a", "-f", "-", stdin=b"x" * 58) == "{a\n\n" + "x" * 58 + "}"


def test_files_are_shortened_as_one_and_texts_between_them_stay(chatty, tmp_path):
    (tmp_path / "1").write_text("first " * 10)
    (tmp_path / "2").write_text("second " * 6)
    options = ("-i", "X", "-f", tmp_path / "1", "-i", "Y", "-f", tmp_path / "2", "-i", "Z")
    around = len("{X\n\n\n\nY\n\n\n\nZ}")
    for new, first in ((4, "irst "), (12, "")):
        second = ("second " * 6)[-(CONTEXT - new - around) :]
        assert shortened(chatty, *options, new=new) == f"{{X\n\n{first}\n\nY\n\n{second}\n\nZ}}", f"-n {new}"


def test_without_files_the_message_is_shortened(chatty):
    expected = "{Be brief\n" + DOCUMENT[-(CONTEXT - 8 - 11) :] + "}"
    assert shortened(chatty, "-y", "Be brief", "-i", DOCUMENT) == expected
    assert shortened(chatty, "-y", "Be brief", stdin=DOCUMENT.encode()) == expected


def test_answer_and_file_share_what_the_rest_of_a_chat_leaves(chatty):
    kept = "{" + "k" * 20 + "\n\n"
    for new, answer in ((0, 20), (1000, 20), (20, 20), (19, 19)):
        text = shortened(chatty, "-i", "k" * 20, "-f", "-", new=new, stdin=DOCUMENT.encode())
        assert text == kept + DOCUMENT[-(CONTEXT - answer - len(kept) - 1) :] + "}", f"-n {new}"


def test_a_chat_whose_other_parts_do_not_fit_is_refused_with_both_numbers(chatty):
    for length, fits in ((CONTEXT - 6, True), (CONTEXT - 5, False), (CONTEXT, False)):
        options = ("--truncate-prompt", "--chat", "-n", 1, "-i", "i" * length, "-f", "-")
        done = run(chatty, *options, stdin=DOCUMENT.encode())
        if fits:
            assert run(chatty, "--tokenize", *options, stdin=DOCUMENT.encode()).ok().out.split()[-2] == str(2 + ord(","))
            done.ok()
        else:
            assert_refused(done, 3, length + 4, CONTEXT, "--truncate-prompt")


@pytest.mark.parametrize("character", ["é", "日", "😀"])
def test_no_character_is_cut_where_a_chat_is_shortened(chatty, character):
    size = len(character.encode())
    for new in range(1, 5):
        text = shortened(chatty, "-i", "a", "-f", "-", new=new, stdin=character.encode() * 50)
        assert text == "{a\n\n" + character * ((CONTEXT - new - 5) // size) + "}"


def test_bytes_that_are_not_utf8_are_shortened_too(chatty):
    for byte in (b"\x80", b"\xff"):
        done = run(chatty, "--chat", "-i", "a", "-f", "-", "-n", 5, "--truncate-prompt", "--json", stdin=byte * 500).ok()
        assert CONTEXT - 5 - 3 <= done.json["prompt_tokens"] <= CONTEXT - 5, done


def test_chunk_of_the_prompt_changes_nothing(stories):
    prompt = "Once upon a time, there was a big dog. " * 6
    seen = {c: stories.generate("-i", prompt, "-n", "50", "-s", "3", "--chunk", c, "--digest").ok() for c in CHUNKS}
    assert len({(done.bytes, done.digest) for done in seen.values()}) == 1, [str(d) for d in seen.values()]
