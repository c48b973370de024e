"""The layers of the design, read from the sources: what each file may include, and who may print or exit."""

import re

import pytest
from conftest import ROOT

# file -> headers of this project that it, and its own header, may include beside its own. An arrow points down the
# list only. Every file may include util.h, which is below all. Two changes against the design's table: checkpoint may
# include ops.h, which owns the table of weight types that a checkpoint's matrices are made of; sampler may, because the
# bits of the softmax decide which token is drawn. checkpoint and llama2c are one room with two tables: the second fills the
# first one's struct from llama2.c's files, and nobody else includes it.
BELOW = {
    "run": {"batch", "bench", "prompt_cache", "generate", "chat", "sampler", "tokenizer", "model", "checkpoint", "ops", "json"},
    "batch": {"request", "prompt_cache"},
    "request": {"generate", "chat", "json"},
    "prompt_cache": {"model"},
    "bench": {"model", "ops"},
    "generate": {"model", "sampler", "tokenizer"},
    "chat": {"tokenizer"},
    "sampler": {"ops"},
    "tokenizer": {"vocabulary"},
    "vocabulary": {"pretokenizer"},
    "pretokenizer": {"unicode_tables"},
    "unicode_tables": set(),
    "model": {"checkpoint", "ops"},
    "checkpoint": {"llama2c", "ops"},
    "llama2c": {"checkpoint", "ops"},
    "ops": set(),
    "json": set(),
    "util": set(),
}
SOURCES = sorted([*ROOT.glob("*.c"), *ROOT.glob("*.h")])
SIMD = sorted([*(ROOT / "simd").glob("*.c"), *(ROOT / "simd").glob("*.h")])
LIBRARY = [p for p in SOURCES if p.stem != "run"] + SIMD


def names(paths):
    return [str(p.relative_to(ROOT)) for p in paths]


def includes(path):
    return re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)


def code(path):
    """The text with comments and strings blanked out, lines kept."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    blank = lambda m: re.sub(r"[^\n]", " ", m.group())  # noqa: E731
    return re.sub(pattern, blank, path.read_text(encoding="utf-8"), flags=re.DOTALL)


def found(path, pattern):
    return [f"{path.name}:{n}: {line.strip()}" for n, line in enumerate(code(path).splitlines(), 1)
            if re.search(pattern, line)]  # fmt: skip


@pytest.mark.parametrize("path", SOURCES, ids=names(SOURCES))
def test_includes_point_down_the_layers(path):
    assert path.stem in BELOW, f"{path.name} has no place in the table of layers"
    allowed = {f"{stem}.h" for stem in BELOW[path.stem] | {path.stem, "util"}}
    wrong = [h for h in includes(path) if h not in allowed and not (path.stem == "ops" and h.startswith("simd/"))]
    assert not wrong, f"{path.name} includes {wrong}, may include {sorted(allowed)}"


@pytest.mark.parametrize("path", SIMD, ids=names(SIMD))
def test_kernels_include_nothing_above_them(path):
    siblings = {p.name for p in SIMD}
    wrong = [h for h in includes(path) if h not in siblings]
    assert not wrong, f"simd/{path.name} includes {wrong}, may include its neighbours {sorted(siblings)}"


@pytest.mark.parametrize("path", LIBRARY, ids=names(LIBRARY))
def test_library_code_never_exits(path):
    hits = found(path, r"\b(exit|_exit|_Exit|quick_exit|abort|raise|kill)\s*\(")
    assert not hits, f"an error is returned, not exited with: {hits}"


@pytest.mark.parametrize("path", LIBRARY, ids=names(LIBRARY))
def test_library_code_never_prints(path):
    hits = found(path, r"\b(v?printf|v?fprintf|perror|puts|fputs|putchar|v?dprintf)\s*\(|\b(stdout|stderr)\b")
    assert not hits, f"only run.c prints: {hits}"


@pytest.mark.parametrize("path", LIBRARY, ids=names(LIBRARY))
def test_library_code_does_not_check_input_by_assert(path):
    hits = found(path, r"(?<![_a-zA-Z])assert\s*\(")
    assert not hits, f"an assert vanishes in a release: {hits}"


def test_no_source_names_a_path_of_some_machine():
    listed = [*SOURCES, *SIMD, *(ROOT / "tests").glob("*.[chp]*"), *(ROOT / "scripts").glob("*"), ROOT / "Makefile"]
    pattern = re.compile("/(" + "|".join(["home", "root", "work"]) + ")/")
    hits = [p.name for p in listed if p.is_file() and pattern.search(p.read_text(encoding="utf-8", errors="replace"))]
    assert not hits, f"an absolute path of some machine in {hits}"
