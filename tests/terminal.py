"""Runs of the program on a terminal (a pty)."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

import pyte
import pytest
from conftest import TIMEOUT, start


def set_size(terminal, columns, rows):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))


def on_terminal(*args, columns=80, stdin_too=False, timeout=TIMEOUT, **options):
    """Runs with stderr on a terminal; options are those of start. Gives the exit status, stdout, and what the terminal
    received."""
    ours, theirs = pty.openpty()
    set_size(ours, columns, rows=24)
    attributes = termios.tcgetattr(theirs)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    process = start(*args, stderr=theirs, **({"stdin": theirs} if stdin_too else {}), **options)
    os.close(theirs)
    screen, out, end = b"", b"", time.monotonic() + timeout
    fds = [ours, process.stdout.fileno()]
    while fds and time.monotonic() < end:
        for fd in select.select(fds, [], [], 0.1)[0]:
            try:
                data = os.read(fd, 65536)
            except OSError:  # the last user of the terminal is gone
                data = b""
            if not data:
                fds.remove(fd)
            elif fd == ours:
                screen += data
            else:
                out += data
        if process.poll() is not None and fds == [ours] and not select.select(fds, [], [], 0.05)[0]:
            break
    os.close(ours)
    if process.poll() is None and time.monotonic() >= end:
        process.kill()
        process.communicate()
        pytest.fail(f"still running after {timeout} s: {args}")
    process.stdout.close()
    return process.wait(), out.decode(), screen.decode()


class Terminal:
    """The program on a terminal of its own, whose keys the test presses and whose screen it reads.

    `expect` waits for a pattern in what the program wrote since the last match. `screen` is the screen as a terminal
    shows it. The terminal controls the program: Ctrl-C is SIGINT while the program leaves that to the terminal."""

    def __init__(self, *args, columns=80, rows=24, term="xterm", controls=True, ignored=(), env=None, **popen):
        self.ours, theirs = pty.openpty()
        self.resize(columns, rows)
        self.settings = termios.tcgetattr(self.ours)
        given = {name: theirs for name in ("stdin", "stdout", "stderr")} | popen
        # The child is a session leader whose terminal this is, or in the tests' session but in a process group of its
        # own: only such a one can be stopped.
        def settle():
            if controls:
                os.setsid()
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            else:
                os.setpgrp()
            for number in ignored:
                signal.signal(number, signal.SIG_IGN)
            for number in {signal.SIGHUP, signal.SIGQUIT} - set(ignored):  # a background job's tests ignore them
                signal.signal(number, signal.SIG_DFL)

        self.process = start(*args, env={"TERM": term} | (env or {}), preexec_fn=settle, **given)
        os.close(theirs)
        self.display = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.display)
        self.received, self.at = b"", 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()
        self.process.wait()
        os.close(self.ours)

    def resize(self, columns, rows):
        set_size(self.ours, columns, rows)

    def read(self, seconds):
        """Takes what the program writes within that time. False: it has closed the terminal."""
        if select.select([self.ours], [], [], seconds)[0]:
            try:
                data = os.read(self.ours, 65536)
            except OSError:
                data = b""
            if not data:
                return False
            self.received += data
            self.stream.feed(data)
        return True

    def expect(self, pattern):
        """Waits for a regular expression (bytes) and returns what was written up to the end of its match."""
        end = time.monotonic() + TIMEOUT
        while not (found := re.search(pattern, self.received[self.at :], re.DOTALL)):
            assert self.read(0.1) and time.monotonic() < end, f"expected {pattern!r}\n{self}"
        before = self.received[self.at : self.at + found.end()]
        self.at += found.end()
        return before

    def prompt(self):
        """Waits until an empty line can be edited."""
        return self.expect(rb"\x1b\[\?2004h\r\x1b\[J> \r\x1b\[2C")

    def press(self, keys):
        keys = keys.encode() if isinstance(keys, str) else keys
        while keys:  # a terminal's queue is short
            while not select.select([], [self.ours], [], 0.05)[1]:
                self.read(0)
            keys = keys[os.write(self.ours, keys[:512]) :]
            self.read(0)

    def say(self, line):
        """Enters a line, and returns what was written until the next prompt."""
        self.press(line + "\r")
        return self.prompt().decode("utf-8", "replace")

    def raw(self):
        """Is the terminal in raw mode?"""
        return not termios.tcgetattr(self.ours)[3] & termios.ICANON

    def wait(self, condition, what):
        end = time.monotonic() + TIMEOUT
        while not condition():
            self.read(0.02)
            assert time.monotonic() < end, f"expected {what}\n{self}"

    def leave(self):
        """Waits for the end of the program; its terminal then has the settings that it came with."""
        end = time.monotonic() + TIMEOUT
        while self.process.poll() is None:
            self.read(0.02)
            assert time.monotonic() < end, f"expected the end of the program\n{self}"
        while select.select([self.ours], [], [], 0)[0] and self.read(0):
            pass
        assert termios.tcgetattr(self.ours) == self.settings, f"the terminal has other settings\n{self}"
        assert self.received.count(b"\x1b[?2004h") == self.received.count(b"\x1b[?2004l"), f"pastes are marked\n{self}"
        return self.process.returncode

    @property
    def screen(self):
        """The rows of the screen, down to the last that is not empty."""
        rows = [line.rstrip() for line in self.display.display]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def __str__(self):
        return f"status: {self.process.poll()}\nreceived: {self.received[-2000:]!r}\nscreen:\n" + "\n".join(self.screen)
