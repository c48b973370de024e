#!/usr/bin/env python3
"""Writes the man page and the shell completions from the output of `run --help`, the one table of options, and the text
of the man page, scripts/run.1.in.

    scripts/make_manual.py [--run ./run] [--to FOLDER]

writes run.1 and completions/{run.bash,_run,run.fish} into FOLDER (the repository). They are committed, so that
`make install` needs no Python; a test writes them again and compares.
"""

import argparse
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MANUAL = Path(__file__).with_name("run.1.in")
FILES = {"MODEL", "FILE"}  # values that complete to file names
CHOICES = {  # values that complete to one of a few words
    "simd": ["auto", "avx512", "avxvnni", "avx2", "i8mm", "dotprod", "neon", "scalar"],
    "kv": ["f16", "f32"],
    "mode": ["generate", "chat"],
    "think": ["on", "off"],
}

BASH = """# bash completion for run
_run() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    case $previous in
@CASES@
    esac
    case $current in
    -*) mapfile -t COMPREPLY < <(compgen -W "@OPTIONS@" -- "$current") ;;
    *) mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
    esac
}
complete -o filenames -F _run run
"""


class Option:
    def __init__(self, letter, name, value, text):
        self.letter, self.name, self.value, self.text = letter, name, value, text

    @property
    def spellings(self):
        return [*([f"-{self.letter}"] if self.letter else []), f"--{self.name}"]


def options(executable):
    """The options in the order of `run --help`."""
    text = subprocess.run([executable, "--help"], check=True, stdout=subprocess.PIPE, text=True).stdout
    found = re.findall(r"^  (?:-(\w),|   ) --([\w-]+)(?: (on\|off\|N|[A-Z][A-Z=-]*))? +(\S.*)$", text, re.MULTILINE)
    return [Option(*fields) for fields in found]


def manual(listed):
    """The man page's text, with each option's spellings and help in place of its line "@option NAME"."""
    left = {o.name: o for o in listed}

    def roff(text):
        return text.replace("\\", "\\e").replace("-", "\\-")

    def entry(match):
        name = match.group(1).replace("\\-", "-")
        if name not in left:
            raise SystemExit(f"{MANUAL.name}: @option {name}: expected an option of --help, named once")
        o = left.pop(name)
        names = ", ".join(f"\\fB{roff(s)}\\fR" for s in o.spellings)
        value = f" \\fI{o.value}\\fR" if o.value else ""
        return f".TP\n{names}{value}\n{roff(o.text[0].upper() + o.text[1:])}."

    text = MANUAL.read_text(encoding="utf-8").split("\n", 2)[2]  # without the comment
    text = re.sub(r"^@option (\S+)$", entry, text, flags=re.MULTILINE)
    if left:
        raise SystemExit(f"{MANUAL.name}: lacks @option lines for {', '.join(left)}")
    return text


def bash(listed):
    cases = []
    for o in listed:
        if o.value:
            words = CHOICES.get(o.name)
            words = f'-W "{" ".join(words)}"' if words else "-f" if o.value in FILES else ""
            action = f'mapfile -t COMPREPLY < <(compgen {words} -- "$current")' if words else "COMPREPLY=()"
            cases.append(f"    {' | '.join(o.spellings)}) {action}; return ;;")
    names = " ".join(s for o in listed for s in o.spellings)
    return BASH.replace("@CASES@", "\n".join(cases)).replace("@OPTIONS@", names)


def zsh(listed):
    lines = ["#compdef run", "_arguments -s \\"]
    for o in listed:
        text = re.sub(r"([\[\]:\\])", r"\\\1", o.text).replace("'", "'\\''")
        action = f"({' '.join(CHOICES[o.name])})" if o.name in CHOICES else "_files" if o.value in FILES else " "
        for spelling in o.spellings:
            value = f":{o.value}:{action}" if o.value else ""
            mark = "" if not o.value else "=" if spelling.startswith("--") else "+"
            lines.append(f"    '{spelling}{mark}[{text}]{value}' \\")
    return "\n".join([*lines, "    '1:MODEL:_files'"]) + "\n"


def fish(listed):
    lines = []
    for o in listed:
        text = o.text.replace("\\", "\\\\").replace("'", "\\'")
        value = f" -x -a '{' '.join(CHOICES[o.name])}'" if o.name in CHOICES else ""
        value = value or (" -r" if o.value in FILES else " -x" if o.value else "")
        letter = f" -s {o.letter}" if o.letter else ""
        lines.append(f"complete -c run{letter} -l {o.name}{value} -d '{text}'")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", default=ROOT / "run")
    parser.add_argument("--to", type=Path, default=ROOT)
    args = parser.parse_args()
    listed = options(args.run)
    made = {
        "run.1": manual(listed),
        "completions/run.bash": bash(listed),
        "completions/_run": zsh(listed),
        "completions/run.fish": fish(listed),
    }
    for name, text in made.items():
        (args.to / name).parent.mkdir(exist_ok=True)
        (args.to / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
