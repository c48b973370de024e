"""Signals, readers that go away, and standard descriptors that are closed."""

import os
import signal
import subprocess
import time

import native_models
import pytest
from conftest import GREEDY, SANITIZED, TIMEOUT, assert_refused, cpu_so_far, finish, start, wait_for_work


def read_some(process, count):
    seen = b""
    while len(seen) < count:
        data = os.read(process.stdout.fileno(), count - len(seen))
        assert data, f"only {seen!r} was written"
        seen += data
    return seen


@pytest.mark.parametrize("how, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_run_has_flushed_what_it_made(slow, how, code):
    expected = start(*slow, "-i", "the prompt", "-n", "0", "--ignore-eos", "-s", "1")
    first = read_some(expected, 60)
    expected.send_signal(how)
    done = finish(expected)
    assert done.code == code, f"expected exit {code}\n{done}"
    assert first.startswith(b"the prompt")
    (first + done.bytes).decode("utf-8")  # fails if the text ends inside a character
    assert done.err == "", f"expected nothing on stderr\n{done}"


def test_interrupted_json_run_prints_what_it_made(slow):
    process = start(*slow, "-i", "a", "-n", "0", "--ignore-eos", "--json")
    wait_for_work(process)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.code == 130, done
    assert done.json["completion_tokens"] > 0 and done.json["finish_reason"] is None, done


def test_interrupted_run_prints_what_it_held_back_for_a_stop_text(tmp_path):
    """The model says abab.. without end; the end of that may always be the start of the stop text."""
    model = tmp_path / "model.bin"
    loop = {"a": "b", "b": "a"}
    model.write_bytes(native_models.chatting("", ["<s>", "</s>"], [], (), loop, context_length=1 << 19).pack())
    for options in ((), ("--json",)):
        process = start(model, "-i", "a", *GREEDY, "-n", "0", "--stop", "ab" * 9 + "!", "--no-echo", *options)
        wait_for_work(process)
        process.send_signal(signal.SIGINT)
        done = finish(process)
        text = done.json["text"] if options else done.out.rstrip("\n")
        assert done.code == 130 and set(text) == {"a", "b"}, done
        if options:
            assert len(text) == done.json["completion_tokens"], done


def test_a_second_signal_ends_the_run_at_once_without_a_temporary_file(slow, tmp_path):
    process = start(*slow, "-i", "a", "-n", "0", "--ignore-eos", "-j", "1", "-o", tmp_path / "out.txt")
    wait_for_work(process)
    for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):  # so that both come together
        process.send_signal(number)
    done = finish(process)
    assert done.code in (130, 143), f"expected exit 130 or 143\n{done}"
    assert done.err == "", f"expected no word about the first signal\n{done}"
    assert os.listdir(tmp_path) == [], "a file was left"


def test_interrupt_is_heeded_in_a_long_prompt(slow):
    process = start(*slow, "-f", "-", "-n", "1", "--chunk", "1", stdin=subprocess.PIPE)
    process.stdin.write(b"the rain " * 600)
    process.stdin.close()
    process.stdin = None
    wait_for_work(process)
    before = cpu_so_far(process)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.code == 130, f"expected exit 130\n{done}"
    after = done.cpu_seconds - before
    assert after < 3 * (4 if SANITIZED else 1), f"used {after:.1f} s of processor time after the signal, expected < 3"


def test_interrupt_while_waiting_for_the_prompt(tiny):
    process = start(*tiny, stdin=subprocess.PIPE)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    while process.poll() is None and time.monotonic() - began < TIMEOUT:
        time.sleep(0.01)
    code = process.poll()
    process.kill()
    process.communicate()
    assert code in (130, -signal.SIGINT), f"exit {code}, expected 130"


def test_reader_that_goes_away_ends_the_run_quietly(slow):
    process = start(*slow, "-i", "the prompt", "-n", "0", "--ignore-eos")
    read_some(process, 5)
    process.stdout.close()
    process.stdout = None
    done = finish(process)
    assert done.code == -signal.SIGPIPE, f"expected to be ended by SIGPIPE\n{done}"
    assert "ipe" not in done.err, f"expected no complaint\n{done}"


def test_reader_that_goes_away_is_no_complaint_where_sigpipe_is_ignored(slow):
    process = start(*slow, "-i", "the prompt", "-n", "0", "--ignore-eos", restore_signals=False,
                    preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN))  # fmt: skip
    read_some(process, 5)
    process.stdout.close()
    process.stdout = None
    done = finish(process)
    assert done.code in (-signal.SIGPIPE, 141), f"expected status 141\n{done}"
    assert "ipe" not in done.err, f"expected no complaint\n{done}"


def test_closed_standard_input_harms_nothing_when_a_prompt_is_given(tiny):
    expected = tiny.generate("-i", "the", "-n", "5", *GREEDY).ok().bytes
    done = tiny.generate("-i", "the", "-n", "5", *GREEDY, stdin=None, preexec_fn=lambda: os.close(0))
    assert done.ok().bytes == expected


def test_closed_standard_input_and_no_prompt_exits_3(tiny):
    done = tiny.generate("-n", "5", *GREEDY, stdin=None, preexec_fn=lambda: os.close(0))
    assert_refused(done, 3)


def test_closed_standard_output_exits_1(tiny):
    done = tiny.generate("-i", "the", "-n", "5", *GREEDY, preexec_fn=lambda: os.close(1))
    assert done.code == 1 and done.err, f"expected exit 1 and a reason\n{done}"


def test_closed_standard_output_does_not_matter_with_an_output_file(tiny, tmp_path):
    expected = tiny.generate("-i", "the", "-n", "5", *GREEDY).ok().bytes
    tiny.generate("-i", "the", "-n", "5", *GREEDY, "-o", tmp_path / "out.txt", preexec_fn=lambda: os.close(1)).ok()
    assert (tmp_path / "out.txt").read_bytes() == expected


def test_closed_standard_error_writes_nothing_into_other_files(tiny, tmp_path):
    """A closed descriptor 2 is given to the next file that is opened: messages must not go there."""
    expected = tiny.generate("-i", "the", "-n", "5", *GREEDY).ok().bytes
    done = tiny.generate("-i", "the", "-n", "5", *GREEDY, "--stats", "--digest", "-o", tmp_path / "out.txt",
                         preexec_fn=lambda: os.close(2))  # fmt: skip
    assert done.code == 0, done
    assert (tmp_path / "out.txt").read_bytes() == expected
