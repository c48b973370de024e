"""House rules that can be counted in the C sources: lengths, parameters, comments and the words of messages."""

import re

import pytest
from conftest import ROOT
from test_layers import FILES, code, names

MOST_LINES = 80  # of a function, from its first line to its closing brace
MOST_PARAMETERS = 7
MOST_LINES_OF_RUN = 199
LEAST_COMMENTS = 20  # of 100 lines that are not blank
COMMENTED = ["model.c", "cache.c", "simd/kernels.h"]
TEST_FILES = sorted([*(ROOT / "tests").glob("*.[ch]"), *(ROOT / "tests").glob("*/*.[ch]")])
ALL_FILES = [*FILES, *TEST_FILES]


def functions(path):
    """(name, line, lines, parameters) of every function that the file defines.

    The formatter puts the braces of a function's body, and no others, alone at the start of a line; what stands between
    the opening one and the last line that ended something is its signature. A body of one line stands behind it."""
    lines = code(path).splitlines()
    for at, line in enumerate(lines):
        one_line = re.match(r"[a-z].*\)\s*\{.*\}\s*$", line)
        if line.rstrip() != "{" and not one_line:
            continue
        first = at
        while first > 0 and not one_line and re.search(r"[^;}]$", lines[first - 1].rstrip()) \
                and not lines[first - 1].startswith("#"):  # fmt: skip
            first -= 1
        last = at if one_line else next(n for n in range(at, len(lines)) if lines[n].startswith("}"))
        signature = " ".join(lines[first:at] or [line.partition("{")[0]])
        yield signature_name(signature), first + 1, last - first + 1, parameters(signature)


def prototypes(path):
    """(name, line, parameters) of every function that the file declares."""
    text = code(path)
    for found in re.finditer(r"^[a-z_][\w\s*]*\([^;{}]*\)\s*;", text, re.MULTILINE):
        if not found[0].startswith(("typedef", "return")):
            yield signature_name(found[0]), text.count("\n", 0, found.start()) + 1, parameters(found[0])


def signature_name(signature):
    return re.search(r"(\w+)\s*\(", signature)[1]


def parameters(signature):
    """How many there are between the first parenthesis and its partner."""
    start, depth, commas = signature.index("("), 0, 0
    for at, c in enumerate(signature[start:], start):
        depth += (c == "(") - (c == ")")
        commas += c == "," and depth == 1
        if depth == 0:
            inside = signature[start + 1 : at].strip()
            return 0 if inside in ("", "void") else commas + 1
    raise AssertionError(f"no end of the parameters in {signature!r}")


def comment_share(path):
    """Of 100 lines that are not blank, how many have a comment."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return 100 * sum("//" in line or line.lstrip().startswith(("/*", "*")) for line in lines) / len(lines)


def literals(path):
    """(line, text) of every string literal."""
    pattern = r'//[^\n]*|/\*.*?\*/|\'(?:\\.|[^\'\\\n])*\'|"(?:\\.|[^"\\\n])*"'
    text = path.read_text(encoding="utf-8")
    for found in re.finditer(pattern, text, re.DOTALL):
        if found[0].startswith('"'):
            yield text.count("\n", 0, found.start()) + 1, found[0]


@pytest.mark.parametrize("path", ALL_FILES, ids=names(ALL_FILES))
def test_no_function_is_over_80_lines(path):
    long = [f"{path.name}:{line}: {name} has {n} lines" for name, line, n, _ in functions(path) if n > MOST_LINES]
    assert not long, f"expected at most {MOST_LINES}: {long}"


@pytest.mark.parametrize("path", ALL_FILES, ids=names(ALL_FILES))
def test_no_function_has_more_than_seven_parameters(path):
    found = {(line, name, n) for name, line, _, n in functions(path)} | {(line, name, n) for name, line, n in prototypes(path)}
    many = [f"{path.name}:{line}: {name} has {n}" for line, name, n in sorted(found) if n > MOST_PARAMETERS]
    assert not many, f"expected at most {MOST_PARAMETERS}, then a struct: {many}"


@pytest.mark.parametrize("path", ALL_FILES, ids=names(ALL_FILES))
def test_messages_are_worded_as_the_house_words_them(path):
    """"expected", "duplicate" and "already exists"."""
    hits = [f"{path.name}:{line}: {text}" for line, text in literals(path)
            if re.search(r"\bwanted\b|\bis there (twice|already)\b", text, re.IGNORECASE)]  # fmt: skip
    assert not hits, f'expected "expected", "duplicate" or "already exists" in {hits}'


@pytest.mark.parametrize("name", COMMENTED)
def test_a_fifth_of_the_lines_is_commented_where_readers_need_it(name):
    share = comment_share(ROOT / name)
    assert share >= LEAST_COMMENTS, f"{share:.0f} % of the lines of {name} have a comment, expected {LEAST_COMMENTS} %"


def test_run_c_is_under_200_lines():
    n = len((ROOT / "run.c").read_text(encoding="utf-8").splitlines())
    assert n <= MOST_LINES_OF_RUN, f"run.c has {n} lines, expected at most {MOST_LINES_OF_RUN}"


SAMPLE = """\
// a comment (with, commas)
static int one(void) { return 1; }

struct s {
    int x;
};

static long two(const char *name,  // the first, long
                void (*f)(int, int), size_t n)
{
    if (n) {
        f(1, 2);
    }
    return "wanted {"[0];
}
int three(int a);
"""


def test_the_scanner_finds_functions_and_their_parameters(tmp_path):
    path = tmp_path / "sample.c"
    path.write_text(SAMPLE)
    assert list(functions(path)) == [("one", 2, 1, 0), ("two", 8, 8, 3)]
    assert list(prototypes(path)) == [("three", 16, 1)]
    assert list(literals(path)) == [(14, '"wanted {"')]
