"""Files that cannot be used: what test_bad_inputs_native.py and test_bad_inputs_gguf.py share.

Each case is a small good file with one thing wrong. It must end with exit 3, nothing on stdout, and one line on stderr that
names the file and the culprit, within 5 seconds of processor time and 64 MB of memory beyond what the good file needs."""

import functools
import tempfile
from pathlib import Path

import pytest
from conftest import SANITIZED, assert_quick, assert_refused, measured

MOST_KILOBYTES = 64 << 10


class BadFiles:
    """The cases of one kind of file, and how they are run: as NAME in a folder of their own, with these options."""

    def __init__(self, name, good, *options):
        self.made = tempfile.TemporaryDirectory(prefix="bad-")
        self.path, self.good, self.options = Path(self.made.name, name), good, options
        self.cases = []  # what makes the file's bytes, and what the message names

    def case(self, name, make, *named):
        self.cases.append(pytest.param(make, named, id=name))

    def attempt(self, data):
        """The run of a file of these bytes, and its memory in KB."""
        self.path.write_bytes(data)
        return measured(self.path, *self.options)

    @functools.cached_property
    def most_memory(self):
        done, memory = self.attempt(self.good)
        done.ok()
        return memory + MOST_KILOBYTES

    def assert_refused(self, data, named):
        most = self.most_memory
        done, memory = self.attempt(data)
        assert_refused(done, 3, self.path.name, *named)
        assert_quick(done)
        assert SANITIZED or memory < most, f"took {memory} KB, expected less than {most}\n{done}"

    def assert_many(self, least):
        """There are so many cases, and no two have the same name."""
        ids = [case.id for case in self.cases]
        assert len(ids) >= least, f"{len(ids)} cases"
        assert len(set(ids)) == len(ids), f"the same name twice: {sorted({i for i in ids if ids.count(i) > 1})}"
