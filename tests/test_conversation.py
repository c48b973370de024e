"""Conversations at a terminal: editing, pasted text, stopping answers, commands, and a context that is full."""

import json
import os
import re
import resource
import signal
import subprocess
import termios
import time

import native_models
import pytest
from conftest import GREEDY, Model, run
from terminal import Terminal

import native


@pytest.fixture(scope="module")
def chatty(workdir, stories):
    """models/stories.bin with a chat template: an answer goes on with the story that the user begins."""
    model = Model(workdir / "stories-chat.bin")
    source = native_models.chat_source("<s>", "<s>", "\n", "", "</s><s>")
    model.path.write_bytes(native.with_section(stories.path.read_bytes(), "chat", source.encode()))
    return model


@pytest.fixture(scope="module")
def short(workdir):
    """A model of random weights with a context of 64 tokens, about one a byte."""
    model = Model(workdir / "short-chat.bin")
    model.path.write_bytes(native_models.tiny(chat=True).pack())
    return model


@pytest.fixture(scope="module")
def endless(workdir):
    """A model that takes milliseconds per token, of which every one is equally likely. Context 4096."""
    model = Model(native_models.write_slow(workdir / "endless-chat.bin"))
    source = native_models.chat_source("<s>", "<s>", "\n", "\n", "</s><s>")
    model.path.write_bytes(native.with_section(model.path.read_bytes(), "chat", source.encode()))
    return model


def converse(model, *options, **terminal):
    """A terminal with a conversation that waits for its first line."""
    t = Terminal(*model, "--chat", *options, **terminal)
    t.prompt()
    return t


def saved(terminal, path):
    """The messages of the conversation, as (role, text)."""
    terminal.say(f"/save {path}")
    return [(m["role"], m["content"]) for m in json.loads(path.read_text())["messages"]]


def said(terminal, path):
    """What the user said."""
    return [text for role, text in saved(terminal, path) if role == "user"]


def answers(terminal, path):
    return [text for role, text in saved(terminal, path) if role == "assistant"]


# ----------------------------------------------------------------------------------------------------------------------
# Coming and going


def test_a_hint_says_how_to_get_help_and_how_to_leave(short):
    with converse(short) as t:
        assert "/help" in t.screen[0] and "Ctrl-D" in t.screen[0], t


@pytest.mark.parametrize("keys", ["\x04", "\x03\x03", "text\x03\x03", "/exit\r"])
def test_a_conversation_is_left_with_success(short, keys):
    with converse(short) as t:
        t.press(keys)
        assert t.leave() == 0, t


def test_the_first_ctrl_c_clears_the_line_and_tells_how_to_leave(short, tmp_path):
    with converse(short, "-n", 3) as t:
        t.press("one\x03")
        assert b"leaves" in t.prompt()
        t.press("two\x03")
        t.prompt()
        t.say("three")
        t.press("\x03")
        t.prompt()
        assert said(t, tmp_path / "s") == ["three"], t
        t.press("\x04")
        assert t.leave() == 0


def test_ctrl_d_deletes_on_a_line_that_is_not_empty(short, tmp_path):
    with converse(short, "-n", 3) as t:
        t.say("abc\x01\x04")
        assert said(t, tmp_path / "s") == ["bc"]


def test_sigterm_ends_it_and_restores_the_terminal(short, endless):
    with converse(short) as t:
        t.press("some text")
        t.expect(b"some text")
        assert t.raw()
        t.process.send_signal(signal.SIGTERM)
        assert t.leave() == 143, t
    with converse(endless, "-n", 0, "--ignore-eos") as t:
        t.press("a\r")
        t.wait(lambda: not t.raw() and len(t.received) > t.at + 100, "an answer")
        t.process.send_signal(signal.SIGTERM)
        assert t.leave() == 143, t


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_that_kills_it_finds_the_terminal_restored(short, how):
    with converse(short) as t:
        resource.prlimit(t.process.pid, resource.RLIMIT_CORE, (0, 0))
        t.press("some text")
        t.expect(b"some text")
        assert t.raw()
        t.process.send_signal(how)
        assert t.leave() == -how, t


def test_a_signal_that_is_ignored_stays_ignored(short):
    with converse(short, ignored=[signal.SIGHUP]) as t:  # as under nohup
        t.press("some text")
        t.expect(b"some text")
        t.process.send_signal(signal.SIGHUP)
        t.press(" more")
        t.expect(b"more")
        assert sum(row.startswith("> some text") for row in t.screen) == 1, t


def test_an_error_that_ends_it_restores_the_terminal(short, tmp_path):
    with converse(short, "-n", 3, "-o", "/dev/full") as t:
        t.press("a\r")
        assert t.leave() == 1, t
        assert "/dev/full" in "".join(t.screen), t


def test_a_system_message_that_the_template_has_no_place_for_is_refused_at_the_start(workdir, stories):
    path = workdir / "no-system.bin"
    source = native_models.chat_source("<s>", "<s>", "", "", "</s><s>", system=False)
    path.write_bytes(native.with_section(stories.path.read_bytes(), "chat", source.encode()))
    with Terminal(path, "--chat", "-y", "Be brief.") as t:
        assert t.leave() == 3 and "no place for a system message" in "".join(t.screen), t


# ----------------------------------------------------------------------------------------------------------------------
# Typing


def test_arrow_keys_edit_the_line_and_recall_earlier_ones(short, tmp_path):
    with converse(short, "-n", 3) as t:
        t.say("oe\x1b[Dn\x1b[C!")
        t.say("two")
        t.say("\x1b[A\x1b[A\x1b[A!")
        t.say("thr\x1b[A\x1b[Bee")
        assert said(t, tmp_path / "s") == ["one!", "two", "one!!", "three"]
        assert b"^[" not in t.received


def test_characters_of_any_language_are_typed_moved_over_and_deleted(chatty, tmp_path):
    with converse(chatty, "-n", 3) as t:
        t.say("日語x\x7f\x1b[D本\x05 é😀e\u0301\x7f!")
        assert said(t, tmp_path / "s") == ["日本語 é😀!"], t


def test_a_long_line_wraps_on_a_narrow_terminal(chatty, tmp_path):
    with converse(chatty, "-n", 2, columns=20) as t:
        top = len(t.screen) - 1
        t.press("one two three four five 日本語日本語 six")
        t.expect(rb"\r\nix\r\x1b\[2C")
        assert t.screen[top:] == ["> one two three four", " five 日本語日本語 s", "ix"], t
        t.say("\x01Say: \x05!")
        assert said(t, tmp_path / "s") == ["Say: one two three four five 日本語日本語 six!"]


def test_the_size_of_the_window_is_read_anew(short):
    with converse(short) as t:
        t.press("0123456789012345678901234567890123456789")
        t.expect(b"6789")
        t.resize(20, 24)
        t.expect(rb"> 012345678901234567\r\n89012345678901234567\r\n89")


def test_pasted_lines_are_one_message(chatty, tmp_path):
    with converse(chatty, "-n", 3) as t:
        t.press("\x1b[200~Dear all,\r\r/help is a command.\rBest\x1b[201~")
        t.say("!")
        assert said(t, tmp_path / "s") == ["Dear all,\n\n/help is a command.\nBest!"]


def test_quotes_open_and_close_a_message_of_several_lines(chatty, tmp_path):
    with converse(chatty, "-n", 3) as t:
        for line in ('"""Dear all,', "", "/help"):
            t.press(line + "\r")
            t.expect(rb"\r\x1b\[J\.\.\. \r\x1b\[4C")
        t.say('Best"""')
        t.press('"""\r')
        t.expect(rb"\.\.\. \r\x1b\[4C")
        t.press("one\r")
        t.expect(rb"\.\.\. \r\x1b\[4C")
        t.say('"""')
        t.say('"""in one line"""')
        t.say('""""""')
        t.say('\x1b[200~""" \n"""\x1b[201~')
        assert said(t, tmp_path / "s") == ["Dear all,\n\n/help\nBest", "one", "in one line"], t


def test_ctrl_c_gives_up_a_message_of_several_lines(short, tmp_path):
    with converse(short, "-n", 3) as t:
        t.press('"""one\r')
        t.expect(rb"\.\.\. \r\x1b\[4C")
        t.press("\x03")
        t.prompt()
        t.say("two")
        assert said(t, tmp_path / "s") == ["two"]


def test_an_empty_line_is_ignored(short, tmp_path):
    with converse(short) as t:
        t.say("")
        t.say("  \t ")
        assert saved(t, tmp_path / "s") == []


def test_what_is_typed_during_an_answer_is_the_next_line(chatty, tmp_path):
    with converse(chatty, "-n", 3) as t:
        t.press("one\rtwo\rthree\r")
        t.prompt()
        assert said(t, tmp_path / "s") == ["one", "two", "three"]


def test_bytes_that_are_no_text_do_no_harm(short, tmp_path):
    with converse(short, "-n", 3) as t:
        t.press(b"a\x00\xff\xe2\x82 \x1b[9999;9999~\x1b[200~\x1b[31m\x00\x1b[201~\x1b[\r")
        t.prompt()
        assert said(t, tmp_path / "s") == ["a\ufffd\ufffd \x1b[31m\0"]
        assert b"\x1b[31m" not in t.received


def test_a_line_of_many_kilobytes_is_taken(endless, tmp_path):
    with converse(endless, "-n", 2, "-y", "Be brief.") as t:
        t.press(b"\x1b[200~" + b"0123456789" * 2000 + b"\x1b[201~")
        t.press("\r")
        assert re.search(rb"the message has 200\d\d tokens .* expected at most 4095", t.prompt())
        t.say("short")
        assert said(t, tmp_path / "s") == ["short"]


# ----------------------------------------------------------------------------------------------------------------------
# Where lines cannot be edited


def test_a_dumb_terminal_gets_plain_lines(chatty, tmp_path):
    with Terminal(*chatty, "--chat", "-n", 3, term="dumb") as t:
        for line in ("one", '"""', "two", '"""', f"/save {tmp_path / 's'}"):
            t.expect(rb"(> |\.\.\. )$")
            t.press(line + "\n")
        t.expect(rb"saved.*> $")
        t.press("\x03")
        t.expect(rb"leaves.*> $")
        t.press("\x03")
        assert t.leave() == 0, t
        assert b"\x1b" not in t.received
    messages = json.loads((tmp_path / "s").read_text())["messages"]
    assert [m["content"] for m in messages if m["role"] == "user"] == ["one", "two"]


def test_answers_go_to_standard_output_and_all_else_to_the_terminal(chatty):
    expected = chatty.generate("--chat", "-i", "Once upon a time", "-n", 20, *GREEDY).ok().bytes
    with Terminal(*chatty, "--chat", "-n", 20, *GREEDY, stdout=subprocess.PIPE) as t:
        t.expect(rb"> $")
        t.press("Once upon a time\n/help\n\x04")
        assert t.leave() == 0
        assert t.process.stdout.read() == expected
        assert b"\x1b" not in t.received and b"/regenerate" in t.received


def test_prompts_are_drawn_on_the_terminal_where_standard_error_is_a_file(short, tmp_path):
    with (tmp_path / "err").open("wb") as err, Terminal(*short, "--chat", "-n", 3, stderr=err) as t:
        t.prompt()
        t.say("abc\x1b[D\x1b[D")
        t.press("\x04")
        assert t.leave() == 0
    assert (tmp_path / "err").read_text().startswith("Type a message.")


def test_without_a_terminal_there_is_no_conversation(chatty):
    expected = chatty.generate("--chat", "-i", "one\n/exit\n", "-n", 20, *GREEDY).ok().bytes
    assert chatty.generate("--chat", "-n", 20, *GREEDY, stdin=b"one\n/exit\n").ok().bytes == expected


# ----------------------------------------------------------------------------------------------------------------------
# Stopping


def test_ctrl_c_stops_the_answer_and_keeps_the_conversation(endless, tmp_path):
    with converse(endless, "-n", 0, "--ignore-eos") as t:
        for line in ("one", "two"):
            t.press(line + "\r")
            t.expect(rb"\x1b\[\?2004l.{100}")
            t.press("\x03")
            t.prompt()
        roles = [role for role, _ in saved(t, tmp_path / "s")]
        assert roles == ["user", "assistant"] * 2, t
        assert all(answers(t, tmp_path / "s"))
        t.press("\x04")
        assert t.leave() == 0


def test_ctrl_c_stops_a_command_and_keeps_the_conversation(short, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with converse(short, "-n", 3) as t:
        t.press(f"/save {tmp_path / 'fifo'}\r")  # waits for a reader
        t.expect(rb"\x1b\[\?2004l")
        t.wait(lambda: not t.raw(), "the terminal's own settings")
        while b"/save: " not in t.received[t.at :]:  # a Ctrl-C may come before it waits
            t.press("\x03")
            end = time.monotonic() + 2
            while time.monotonic() < end and b"/save: " not in t.received[t.at :]:
                assert t.read(0.1), f"expected the conversation to go on\n{t}"
        t.prompt()
        t.say("one")
        assert said(t, tmp_path / "s") == ["one"]


def test_a_message_that_is_stopped_before_its_answer_is_forgotten(endless, tmp_path):
    with converse(endless, "-n", 1, "--ignore-eos", "--chunk", 16) as t:
        t.say("one")
        t.press(b"\x1b[200~" + b"0123456789" * 300 + b"\x1b[201~")
        t.press("\r")
        t.expect(rb"\x1b\[\?2004l")
        t.wait(lambda: not t.raw(), "the terminal's own settings")
        t.press("\x03")
        assert b"dropped" in t.prompt(), t
        assert said(t, tmp_path / "s") == ["one"]


def test_a_stopped_answer_is_closed_as_the_template_closes_answers(endless):
    """The next prompt holds the first one, the tokens of the answer so far, and what is between answer and message."""
    with converse(endless, "-n", 0, "-s", 1, "--ignore-eos", "--stats") as t:
        t.press("one\r")
        t.expect(rb"\x1b\[\?2004l.{50}")
        t.press("\x03")
        first = statistics(t.prompt())
        t.press("two\r")
        t.expect(rb"\x1b\[\?2004l.{50}")
        t.press("\x03")
        second = statistics(t.prompt())
        between = len(["\n"]) + len(["</s>", "<s>"])
        assert second["prompt"] == first["prompt"] + first["new"] + between + len("two"), (first, second)
        assert second["cached"] >= first["prompt"] + first["new"] - 1


def statistics(screen):
    found = re.search(rb"prompt (\d+) tokens(?: in [\d.]+ m?s)?(?:, (\d+) cached)?.*; (?:new|cut at) (\d+) tokens", screen)
    assert found, f"expected statistics in {screen[-1000:]!r}"
    return dict(zip(("prompt", "cached", "new"), (int(n or 0) for n in found.groups())))


def test_ctrl_z_gives_the_terminal_back_until_the_program_goes_on(short, tmp_path):
    with converse(short, "-n", 3, controls=False) as t:
        t.press("one")
        t.expect(b"one")
        t.press("\x1a")
        assert os.waitid(os.P_PID, t.process.pid, os.WSTOPPED | os.WNOWAIT), t
        t.wait(lambda: b"^Z" in t.received, "^Z")
        assert termios.tcgetattr(t.ours) == t.settings
        t.process.send_signal(signal.SIGCONT)
        t.expect(rb"> one")
        t.wait(t.raw, "raw mode")
        t.say(" more")
        assert said(t, tmp_path / "s") == ["one more"]
        t.press("\x04")
        assert t.leave() == 0


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGTSTP])
def test_a_program_that_was_stopped_from_outside_takes_the_terminal_again(short, tmp_path, how):
    with converse(short, "-n", 3, controls=False) as t:
        t.press("one")
        t.expect(b"one")
        t.process.send_signal(how)
        assert os.waitid(os.P_PID, t.process.pid, os.WSTOPPED | os.WNOWAIT), t
        if how == signal.SIGTSTP:
            t.wait(lambda: termios.tcgetattr(t.ours) == t.settings, "the settings of before")
        termios.tcsetattr(t.ours, termios.TCSANOW, t.settings)  # as a shell does
        t.process.send_signal(signal.SIGCONT)
        t.expect(rb"> one")
        t.wait(t.raw, "raw mode")
        t.say(" more")
        assert said(t, tmp_path / "s") == ["one more"]


# ----------------------------------------------------------------------------------------------------------------------
# Commands


def test_help_lists_commands_and_keys(short):
    with converse(short) as t:
        shown = t.say("/help")
        for word in ("/help", "/clear", "/system TEXT", "/regenerate", "/save", "/exit", '"""', "Ctrl-C"):
            assert word in shown, f"expected {word!r} in {shown!r}"
        assert max(len(line) for line in t.screen) < 80


def test_an_unknown_command_is_no_message(short, tmp_path):
    with converse(short) as t:
        assert "/hlep: unknown command (/help" in t.say("/hlep me")
        assert "/clear: expected no argument, found all" in t.say("/clear all")
        t.say("/" + "x" * 3000)
        assert saved(t, tmp_path / "s") == []


def test_a_message_may_begin_with_a_slash_after_a_space(short, tmp_path):
    with converse(short, "-n", 3) as t:
        t.say(" /help")
        assert said(t, tmp_path / "s") == [" /help"]


def test_clear_forgets_what_was_said_but_not_the_system_message(chatty, tmp_path):
    with converse(chatty, "-n", 20, *GREEDY, "-y", "A story.") as t:
        t.say("Once upon a time")
        first = saved(t, tmp_path / "s")
        t.say("The end.")
        t.say("/clear")
        assert saved(t, tmp_path / "s") == first[:1] == [("system", "A story.")]
        t.say("Once upon a time")
        assert saved(t, tmp_path / "s") == first


def test_system_sets_the_system_message_of_the_conversation(chatty, tmp_path):
    ask = ("--chat", "-i", "Once upon a time", "-n", 20, *GREEDY)
    with converse(chatty, "-n", 20, *GREEDY) as t:
        for text in ("There was a fox.", ""):
            t.say(f"/system {text}")
            t.say("Once upon a time")
            expected = chatty.generate(*ask, *(("-y", text) if text else ())).ok().out[:-1]
            assert answers(t, tmp_path / "s") == [expected], text
            t.say("/clear")
        t.say("/system Be brief.")
        assert saved(t, tmp_path / "s") == [("system", "Be brief.")]


def test_a_system_message_without_a_place_is_refused_and_the_conversation_goes_on(workdir, stories, tmp_path):
    path = workdir / "no-system.bin"
    source = native_models.chat_source("<s>", "<s>", "", "", "</s><s>", system=False)
    path.write_bytes(native.with_section(stories.path.read_bytes(), "chat", source.encode()))
    with converse([path], "-n", 3) as t:
        assert "no place for a system message" in t.say("/system Be brief.")
        t.say("one")
        assert saved(t, tmp_path / "s")[0] == ("user", "one")


def test_regenerate_answers_the_last_message_with_other_random_numbers(chatty, tmp_path):
    with converse(chatty, "-n", 30, "-s", 3) as t:
        assert "there is no answer yet" in t.say("/regenerate")
        t.say("Once upon a time")
        t.say("The end of the story")
        before = saved(t, tmp_path / "s")
        t.say("/regenerate")
        after = saved(t, tmp_path / "s")
        assert after[:3] == before[:3] and after[3] != before[3] and len(after) == 4
    with converse(chatty, "-n", 30, "-s", 3) as t:  # the same seed, the same conversation
        for line in ("Once upon a time", "The end of the story", "/regenerate"):
            t.say(line)
        assert saved(t, tmp_path / "s") == after


def test_regenerate_runs_nothing_again_but_the_last_token(chatty):
    with converse(chatty, "-n", 20, "-s", 1, "--stats") as t:
        first = statistics(t.say("Once upon a time").encode())
        again = statistics(t.say("/regenerate").encode())
        assert again["prompt"] == first["prompt"] and again["cached"] == first["prompt"] - 1


def test_a_regeneration_that_is_stopped_at_once_keeps_the_old_answer(endless, tmp_path):
    with converse(endless, "-n", 5, "--ignore-eos", "--chunk", 16) as t:
        t.say("one")
        before = saved(t, tmp_path / "s")
        t.say("/system " + "9876543210" * 300)
        t.press("/regenerate\r")
        t.expect(rb"/regenerate\r[^\n]*\r\n\x1b\[\?2004l")
        t.wait(lambda: not t.raw(), "the terminal's own settings")
        t.press("\x03")
        t.prompt()
        assert saved(t, tmp_path / "s")[1:] == before


def test_save_writes_a_request_with_all_messages_or_leaves_the_file(chatty, tmp_path):
    path = tmp_path / "a conversation.json"
    path.write_text("old")
    with converse(chatty, "-n", 10, "-y", 'A "story".') as t:
        t.say("Once upon a time")
        t.say("é\tü")
        t.say(f"/save {path} ")
        assert path.read_text().count("\n") == 1
        messages = json.loads(path.read_text())["messages"]
        assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant"]
        assert [m["content"] for m in messages[:2]] == ['A "story".', "Once upon a time"]
        kept = path.read_bytes()
        for wrong in (tmp_path / "absent" / "file", chatty.path, ""):
            assert "/save: " in t.say(f"/save {wrong}")
        assert path.read_bytes() == kept and list(tmp_path.iterdir()) == [path]


def test_save_finds_the_home_folder_as_a_shell_does(short, tmp_path):
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir(), here.mkdir()
    with converse(short, "-n", 1, env={"HOME": str(home)}, cwd=here) as t:
        assert f"saved to {home}/s.json" in t.say("/save ~/s.json")
        assert "/save: " in t.say("/save ~") and str(home) in "".join(t.screen), t  # a folder
        for plain in ("a~", "./~", "~~"):
            assert f"saved to {plain}" in t.say(f"/save {plain}")
    assert [p.name for p in home.iterdir()] == ["s.json"] and sorted(os.listdir(here)) == ["a~", "~", "~~"]


def test_save_says_that_there_is_no_home_folder(short):
    with converse(short, "-n", 1, env={"HOME": ""}) as t:
        assert "/save: ~/s.json: HOME is empty" in t.say("/save ~/s.json")


def test_save_goes_on_after_a_file_that_reached_the_size_limit(short, tmp_path):
    with converse(short, "-n", 1, cwd=tmp_path) as t:
        resource.prlimit(t.process.pid, resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
        assert "/save: s: cannot be written: File too large" in t.say("/save s")
        assert list(tmp_path.iterdir()) == []
        resource.prlimit(t.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert saved(t, tmp_path / "s") == []


# ----------------------------------------------------------------------------------------------------------------------
# What the model is shown


def test_an_answer_is_that_of_a_batch_with_the_same_messages(chatty, tmp_path):
    with converse(chatty, "-n", 30, *GREEDY) as t:
        for line in ("Once upon a time", "The next day", "In the end"):
            t.say(line)
        messages = json.loads((t.say(f"/save {tmp_path / 's'}"), (tmp_path / "s").read_text())[1])["messages"]
    (tmp_path / "q").write_text(json.dumps({"messages": messages[:-1]}) + "\n")
    done = run(*chatty, "-b", tmp_path / "q", "-n", 30, *GREEDY).ok()
    assert done.json["text"] == messages[-1]["content"]


def test_when_the_context_is_full_the_oldest_turns_are_dropped(short, tmp_path):
    with converse(short, "-n", 8, *GREEDY, "-y", "sys") as t:
        lines = [f"line {i}" for i in range(12)]
        shown = [t.say(line) for line in lines]
        told = [i for i, text in enumerate(shown) if "no longer sees the oldest turn" in text]
        assert told and told[0] > 1, t
        assert saved(t, tmp_path / "s")[0] == ("system", "sys") and said(t, tmp_path / "s") == lines
        assert all("run:" not in text for text in shown)


def test_after_dropping_turns_the_model_sees_those_that_are_left(chatty, tmp_path):
    """The answer is that of a conversation that began with the first turn that was kept."""
    with converse(chatty, "-n", 12, "-c", 96, *GREEDY, "-y", "A story.", "--stats") as t:
        shown = []
        while not shown or "no longer" not in shown[-1]:
            shown.append(t.say("The next day"))
            assert len(shown) < 20, t
        messages = saved(t, tmp_path / "s")
    tokens = statistics(shown[-1].encode())["prompt"]
    assert tokens <= 96 // 2, f"expected half of the context to be free, found {tokens} tokens"
    for kept in range(1, len(messages) // 2 + 1):
        request = {"messages": [dict(role=r, content=c) for r, c in messages[:1] + messages[1:][-2 * kept : -1]]}
        (tmp_path / "q").write_text(json.dumps(request) + "\n")
        result = run(*chatty, "-b", tmp_path / "q", "-n", 12, *GREEDY).ok().json
        if result["usage"]["prompt_tokens"] >= tokens:
            break
    assert result["usage"]["prompt_tokens"] == tokens and result["text"] == messages[-1][1]


def test_a_message_that_is_too_long_is_refused_and_drops_nothing(short, tmp_path):
    with converse(short, "-n", 4, *GREEDY, "--stats") as t:
        t.say("one")
        expected = statistics(t.say("/regenerate").encode())["prompt"]
        shown = t.say("x" * 100)
        assert re.search(r"the message has \d+ tokens .* expected at most 63", shown.replace("\r\n", "")), shown
        assert said(t, tmp_path / "s") == ["one"]
        assert statistics(t.say("/regenerate").encode())["prompt"] == expected


def test_an_answer_that_fills_the_context_says_so(short):
    with converse(short, "-n", 0, "--ignore-eos") as t:
        assert "the answer ends here: the context of 64 tokens is full" in t.say("one")
        t.say("two")


def test_statistics_are_shown_on_request_only(short):
    for option, shown in (("--stats", True), (None, False)):
        with converse(short, "-n", 3, *([option] if option else [])) as t:
            assert ("tok/s" in t.say("one")) == shown, t


def test_quiet_conversations_have_no_hints(short):
    with converse(short, "-n", 4, "-q") as t:
        t.press("\x03")
        t.prompt()
        for i in range(8):
            t.say(f"line {i}")
        for word in (b"/help", b"leaves", b"no longer"):
            assert word not in t.received, t
