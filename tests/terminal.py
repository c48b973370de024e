"""Runs of the program on a terminal (a pty)."""

import os
import pty
import select
import termios
import time

import pytest
from conftest import TIMEOUT, start


def on_terminal(*args, columns=80, stdin_too=False, timeout=TIMEOUT, **options):
    """Runs with stderr on a terminal; options are those of start. Gives the exit status, stdout, and what the terminal
    received."""
    ours, theirs = pty.openpty()
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
