"""The layers of the design, checked in the sources: what a file may include, and who may print or exit."""

import fnmatch
import re

import pytest
from conftest import ROOT

# The house, from the roof down (CONTRIBUTING.md, "The house"): a row's files, and the rows that they may include. An
# arrow only points down the table, and into one's own row.
HOUSE = {
    "run.c": ("run.c", "*"),
    "cli/": ("cli/*", "options batch/ generate classify encode engine logprobs lookup sampler tokenizer model cache ops text/ formats/ base/"),
    "batch/": ("batch/*", "options generate classify encode engine logprobs lookup sampler tokenizer model cache text/ formats/ base/"),
    "options": ("options.*", "generate classify encode engine logprobs lookup sampler tokenizer model cache ops text/ formats/ base/"),
    "generate": ("generate.*", "classify encode engine logprobs lookup sampler tokenizer model cache text/ base/"),
    "classify": ("classify.*", "engine tokenizer model cache ops text/ base/"),
    "engine": ("engine.*", "lookup tokenizer model cache ops text/ formats/ base/"),
    "encode": ("encode.*", "tokenizer text/ base/"),
    "logprobs": ("logprobs.*", "ops base/"),
    "lookup": ("lookup.*", "base/"),
    "sampler": ("sampler.*", "ops base/"),
    "tokenizer": ("tokenizer.*", "text/ base/"),
    "model": ("model.*", "cache formats/ ops base/"),
    "cache": ("cache.*", "formats/ ops base/"),
    "formats/": ("formats/*", "text/ ops base/"),
    "text/": ("text/*", "base/"),
    "ops": ("ops.*", "simd/ base/"),
    "simd/": ("simd/*", ""),
    "base/": ("base/*", ""),
}
SUFFIXES = {".c", ".h"}
FILES = sorted(p for p in [*ROOT.glob("*"), *ROOT.glob("*/*")]
               if p.suffix in SUFFIXES and p.parent.name not in ("tests", "build"))  # fmt: skip
LIBRARY = [p for p in FILES if p.name != "run.c"]
PRINTING = [p for p in LIBRARY if p.relative_to(ROOT).as_posix() not in ("cli/output.c", "cli/output.h")]


def row_of(name):
    rows = [row for row, (pattern, _) in HOUSE.items() if fnmatch.fnmatch(name, pattern)]
    assert len(rows) == 1, f"{name} is in the rows {rows} of the house, expected one"
    return rows[0]


def names(paths):
    return [str(p.relative_to(ROOT)) for p in paths]


def includes(path):
    return re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)


def code(path):
    """The text with comments and strings replaced by spaces; line ends are kept."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    blank = lambda m: re.sub(r"[^\n]", " ", m.group())  # noqa: E731
    return re.sub(pattern, blank, path.read_text(encoding="utf-8"), flags=re.DOTALL)


def found(path, pattern):
    return [f"{path.name}:{n}: {line.strip()}" for n, line in enumerate(code(path).splitlines(), 1)
            if re.search(pattern, line)]  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=names(FILES))
def test_includes_point_down_the_house(path):
    row = row_of(path.relative_to(ROOT).as_posix())
    below = set(HOUSE) if HOUSE[row][1] == "*" else {row, *HOUSE[row][1].split()}
    wrong = [h for h in includes(path) if not (ROOT / h).exists() or row_of(h) not in below]
    assert not wrong, f"{path.name} includes {wrong}, may include {sorted(below)} by their paths from the top"


def test_the_house_has_no_arrow_up():
    rows = list(HOUSE)
    for i, row in enumerate(rows):
        up = [other for other in HOUSE[row][1].split() if other != "*" and rows.index(other) <= i]
        assert not up, f"the row of {row} allows {up}, which are above it"


@pytest.mark.parametrize("path", LIBRARY, ids=names(LIBRARY))
def test_library_code_never_exits(path):
    # raise(number) passes on a signal that has arrived, once the terminal has been given back.
    hits = found(path, r"\b(exit|_exit|_Exit|quick_exit|abort|raise(?!\(number\))|kill)\s*\(")
    assert not hits, f"an error is returned, not exited with: {hits}"


@pytest.mark.parametrize("path", PRINTING, ids=names(PRINTING))
def test_library_code_never_prints(path):
    hits = found(path, r"\b(v?printf|v?fprintf|perror|puts|fputs|putchar|v?dprintf)\s*\(|\b(stdout|stderr)\b")
    assert not hits, f"only run.c and cli/output print: {hits}"


@pytest.mark.parametrize("path", LIBRARY, ids=names(LIBRARY))
def test_library_code_does_not_check_input_by_assert(path):
    hits = found(path, r"(?<![_a-zA-Z])assert\s*\(")
    assert not hits, f"an assert vanishes in a release: {hits}"


def test_no_source_names_a_path_of_some_machine():
    listed = [*FILES, *(ROOT / "tests").glob("*.[chp]*"), *(ROOT / "scripts").glob("*"), ROOT / "Makefile"]
    pattern = re.compile("/(" + "|".join(["home", "root", "work"]) + ")/")
    hits = [p.name for p in listed if p.is_file() and pattern.search(p.read_text(encoding="utf-8", errors="replace"))]
    assert not hits, f"an absolute path of some machine in {hits}"
