"""The build itself: what make prints, what it builds again and why, and the program as one file (make single).

The tests of make run it on a copy of the Makefile with a program of two files, which is enough to show what is compiled
and linked."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import EMULATOR, ROOT, SANITIZED, environment

pytestmark = pytest.mark.skipif(SANITIZED or bool(EMULATOR), reason="about the sources: the same on every build")

MAIN = """\
#include "base/error.h"

int main(void)
{
    Error err;
    return error_set(&err, ERROR_NONE, "%s", "");
}
"""
MAKE_SINGLE = ROOT / "scripts" / "make_single.py"


def execute(command, folder, timeout=300, **variables):
    """Runs a command that knows nothing of the make or pytest that runs this test."""
    env = {k: v for k, v in environment().items()
           if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "PYTEST_ADDOPTS", "TESTS_END")}  # fmt: skip
    return subprocess.run([str(part) for part in command], cwd=folder, env={**env, **variables}, timeout=timeout,
                          capture_output=True, text=True)  # fmt: skip


@pytest.fixture
def tree(tmp_path):
    for path in ("Makefile", "tests/checks.mk", "base/error.c", "base/error.h"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / path, tmp_path / path)
    (tmp_path / "run.c").write_text(MAIN)
    return tmp_path


def make(tree, *arguments):
    """The lines that make prints; no kernel sets, nothing optimised unless OPT is given."""
    optimised = any(argument.startswith("OPT=") for argument in arguments)
    done = execute(["make", "SETS=", *([] if optimised else ["OPT=-O0"]), *arguments], tree)
    assert done.returncode == 0, f"make {arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    assert done.stderr == "", f"expected no warning\n{done.stderr}"
    return [line for line in done.stdout.splitlines() if not line.startswith("make: ")]


# ----------------------------------------------------------------------------------------------------------------------
# What make prints


def test_make_prints_one_short_line_per_file(tree):
    assert sorted(make(tree)) == ["CC   base/error.c", "CC   run.c", "LD   run"]


def test_v_1_prints_the_whole_command(tree):
    lines = [line for line in make(tree, "V=1", "build/base/error.o") if "mkdir" not in line]
    assert len(lines) == 1 and " -O0 " in lines[0] and lines[0].endswith("-c base/error.c -o build/base/error.o"), lines


def test_make_s_prints_nothing(tree):
    assert make(tree, "-s") == []


def test_errors_of_the_compiler_are_shown(tree):
    (tree / "run.c").write_text("int main(void) { return nothing; }\n")
    done = execute(["make", "SETS=", "OPT=-O0"], tree)
    assert done.returncode != 0 and "run.c" in done.stderr and "nothing" in done.stderr, done.stderr


def test_help_names_the_targets_of_both_makefiles(tree):
    done = execute(["make", "help"], tree)
    named = {line.split(":")[0] for line in done.stdout.splitlines()}
    text = "".join((ROOT / path).read_text() for path in ("Makefile", "tests/checks.mk"))
    phony = {name for names in re.findall(r"^\.PHONY:(.*)", text, re.MULTILINE) for name in names.split()}
    assert phony - {"FORCE"} <= named, f"not in make help: {sorted(phony - {'FORCE'} - named)}"


# ----------------------------------------------------------------------------------------------------------------------
# What is built again


def test_nothing_is_built_twice(tree):
    make(tree)
    assert make(tree) == []


def test_make_smollm2_sets_the_sampling_of_its_card_and_names_the_next_command():
    lines = execute(["make", "-n", "-W", "formats/native.h", "smollm2"], ROOT).stdout.splitlines()
    assert any("--set temperature=0.2 --set top_p=0.9" in line for line in lines), lines
    assert "./run models/smollm2-135m.bin --chat" in lines[-1], lines


def test_changed_compiler_flags_build_everything_again(tree):
    make(tree)
    assert sorted(make(tree, "OPT=-O1")) == ["CC   base/error.c", "CC   run.c", "LD   run"]
    assert make(tree, "OPT=-O1") == []
    assert sorted(make(tree, "OPT=-O1", "CFLAGS=-DSAY='\"it is\"'"))[:2] == ["CC   base/error.c", "CC   run.c"]
    assert make(tree, "OPT=-O1", "CFLAGS=-DSAY='\"it is\"'") == [], "a flag with quotes is never the same"


def test_changed_linker_flags_only_link_again(tree):
    make(tree)
    assert make(tree, "LDFLAGS=-Wl,-O1") == ["LD   run"]


def test_builds_in_other_folders_keep_their_own_flags(tree):
    make(tree)
    assert sorted(make(tree, "BUILD=build/other", "OPT=-O1")) == ["CC   base/error.c", "CC   run.c", "LD   build/other/run"]
    assert make(tree) == []
    assert make(tree, "BUILD=build/other", "OPT=-O1") == []


def test_a_header_builds_again_what_includes_it(tree):
    (tree / "base/alone.c").write_text("int alone(void);\nint alone(void) { return 0; }\n")
    make(tree)
    os.utime(tree / "base/error.h")
    assert sorted(make(tree)) == ["CC   base/error.c", "CC   run.c", "LD   run"]


def test_a_file_in_a_room_is_part_of_the_program(tree):
    make(tree)
    (tree / "base/alone.c").write_text("int alone(void);\nint alone(void) { return 0; }\n")
    assert make(tree) == ["CC   base/alone.c", "LD   run"]
    (tree / "base/alone.c").unlink()
    assert make(tree) == ["LD   run"]


# ----------------------------------------------------------------------------------------------------------------------
# The program as one file


def single(folder, *sources):
    return execute([sys.executable, MAKE_SINGLE, *sources, "-o", "single.c", "--root", "."], folder)


@pytest.mark.parametrize("code", [
    "static int same(void) { return 0; }",
    "static int same(int a);",
    "static const char *const same[] = {\"a\", \"b\"};",
    "static int other_{file}, same = 1;",
    "static int (*same)(void);",
    "typedef struct {{ int a; }} same;",
    "typedef int (*same)(int a);",
    "struct same {{ int a; }};",
    "enum {{ other_{file} = 1, same }};",
    "typedef struct {{ enum {{ same, other_{file} }} kind; }} Outer_{file};",
    "__attribute__((unused)) static int same(void) {{ return 0; }}",
])  # fmt: skip
def test_names_that_collide_at_file_scope_are_an_error(tmp_path, code):
    for file in ("a", "b"):
        (tmp_path / f"{file}.c").write_text("\n" + code.replace("{file}", file).replace("{{", "{").replace("}}", "}") + "\n")
    done = single(tmp_path, "a.c", "b.c")
    assert done.returncode == 1 and "    same: a.c:2, b.c:2\n" in done.stderr, f"exit {done.returncode}\n{done.stderr}"
    assert done.stderr.count("\n") == 2, f"expected one collision\n{done.stderr}"
    assert not (tmp_path / "single.c").exists(), "expected no output after a collision"


def test_a_macro_of_a_header_that_is_a_word_elsewhere_is_an_error(tmp_path):
    (tmp_path / "a.h").write_text("#define LIMIT 3\n")
    for name, code in {"a.c": '#include "a.h"\n', "b.c": "int f(int LIMIT);\n", "c.c": '#include "a.h"\n'}.items():
        (tmp_path / name).write_text(code)
    done = single(tmp_path, "a.c", "b.c", "c.c")
    assert done.returncode == 1 and "LIMIT: a macro of a.h, another word in b.c" in done.stderr, done.stderr


def test_files_follow_what_they_use_and_keep_their_macros_to_themselves(tmp_path):
    (tmp_path / "low.h").write_text("#ifndef LOW_H\n#define LOW_H\nint low(void);\n#endif\n")
    (tmp_path / "low.c").write_text('#include "low.h"\n#include <stdio.h>\n#define N 1\nint low(void) { return N; }\n')
    (tmp_path / "main.c").write_text('#include <stdio.h>\n#include "low.h"\n#define N 41\n'
                                     "int main(void) { return printf(\"%d\\n\", low() + N) != 3; }\n")  # fmt: skip
    done = single(tmp_path, "low.c", "main.c")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "single.c").read_text()
    assert text.count("int low(void);") == 1 and text.count("#include") == 1, text
    compiled = execute(["cc", "-Wall", "-Wextra", "single.c", "-o", "single"], tmp_path)
    assert compiled.returncode == 0 and compiled.stderr == "", compiled.stderr
    assert execute(["./single"], tmp_path).stdout == "42\n"


def test_the_single_file_compiles_alone_without_a_warning_and_computes_the_golden_bits(tmp_path):
    made = execute(["make", "-s", "single", f"BUILD={tmp_path}"], ROOT)
    assert made.returncode == 0, made.stderr
    flags = ["-O1", "-ffp-contract=off", "-fopenmp"]
    commands = [
        ["cc", *flags, "-Wall", "-Wextra", "-c", "run-single.c", "-o", "single.o"],
        ["cc", *flags, "single.o", "-o", "run", "-lm"],
        # The tool of the golden tests, which has a main of its own: the linker takes the first.
        ["cc", *flags, "-Wl,-z,muldefs", "-I", ROOT, ROOT / "tests/logits.c", "single.o", "-o", "tests/logits", "-lm"],
    ]
    (tmp_path / "tests").mkdir()
    for command in commands:
        done = execute(command, tmp_path, timeout=1200)
        assert done.returncode == 0 and done.stderr == "", f"{command}: exit {done.returncode}\n{done.stderr}"
    done = execute([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_golden.py",
                    "tests/test_stories.py", "-k", "same_bits_on_every_machine"], ROOT, timeout=1200,
                   RUN=str(tmp_path / "run"), BUILD_DIR=str(tmp_path))  # fmt: skip
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-4000:]
