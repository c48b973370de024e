#!/usr/bin/env python3
"""Writes the man page and the shell completions from the output of `run --help`: the one table of options.

    scripts/make_manual.py [--run ./run] [--to FOLDER]

writes run.1 and completions/{run.bash,_run,run.fish} into FOLDER (the repository). They are committed, so that
`make install` needs no Python; a test writes them again and compares.
"""

import argparse
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = {"MODEL", "FILE"}  # values that complete to file names
CHOICES = {  # values that complete to one of a few words
    "simd": ["auto", "avx512", "avx2", "neon", "scalar"],
    "kv": ["f16", "f32"],
    "mode": ["generate", "chat"],
}

MANUAL = r'''
.TH RUN 1
.SH NAME
run \- generate text with models of the Llama family
.SH SYNOPSIS
.B run
.I MODEL
[\fIoptions\fR]
.SH DESCRIPTION
.B run
maps the checkpoint
.I MODEL
into memory and continues a prompt, answers a message, or works through a file of requests.
The text goes to standard output as it is made, everything else to standard error.
For a given model, prompt, seed and options the text is the same to the byte, on any machine, with any number of threads
and in a batch of any size.
.PP
.I MODEL
is a file made by
.BR convert.py ,
which includes the tokenizer and the chat template, or a checkpoint of llama2.c, whose tokenizer is a separate file
.RB ( \-\-tokenizer ).
.PP
Options may stand before or after
.IR MODEL ,
and a value after its option or after an equals sign.
.SH OPTIONS
@OPTIONS@
.SH "THE PROMPT"
.BR \-\-prompt " and " \-\-prompt\-file
may be given several times each. The prompt is their texts and files in the order of the command line, with a blank line
between two of them.
With neither it is standard input, unless that is a terminal.
Every byte counts, including a newline at the end.
Names of special tokens in the prompt are plain text unless
.B \-\-special
is given.
.SH SAMPLING
A checkpoint may carry the values of sampling that the makers of the model recommend;
.B \-\-info
shows them.
They take the place of the defaults above.
A value on the command line overrides them, and one in a request of a batch overrides both.
.SH CONVERSATION
With
.B \-\-chat
on a terminal and without a prompt, each line is a message.
Lines are edited with the keys of a shell: arrow keys, Home, End, Ctrl-A, Ctrl-E, Ctrl-K, Ctrl-U, Ctrl-W, Alt-B, Alt-F;
the up and down keys recall earlier lines.
Lines that are pasted, or stand between two lines
.BR \(dq\(dq\(dq ,
are one message; Alt-Enter begins another line.
Where
.B TERM
is
.B dumb
or standard output is no terminal, lines are those of the terminal itself.
.PP
Ctrl-C stops the answer, and what was said of it stays in the conversation; an answer that had not begun is forgotten with
its message.
On the line that is typed it clears that line, and leaves if it is pressed again. Ctrl-D leaves, too.
.TP
.B /help
Lists these commands.
.TP
.B /clear
Forgets what was said, except the system message.
.TP
.BI /system " TEXT"
Sets the system message, for what was said before, too; without
.I TEXT
it is the one of the template.
.TP
.B /regenerate
Answers the last message again, with other random numbers.
.TP
.BI /save " FILE"
Writes what was said as one line of JSON, whole or not at all, in the form of a request of a batch:
{"messages": [{"role": "user", "content": "Hi"}, ...]}.
.TP
.B /exit
Leaves.
.PP
A message that begins with a slash is typed after a space.
When a message and a quarter of the context, or as much of it as
.B \-\-max\-tokens
allows, do not fit, the oldest turns are dropped until half of the context is free; a line says so.
The system message stays, and
.B /save
still writes all turns.
.SH "EXIT STATUS"
.TP
.B 0
Success.
.TP
.B 1
Failure while running: output could not be written, out of memory, a request of a batch failed.
.TP
.B 2
Usage error: an unknown option, or a value out of range.
.TP
.B 3
The model, the tokenizer or the input cannot be used.
.TP
.BR 130 ", " 143
Interrupted.
The text made so far is on standard output, or the finished results of a batch are in its file;
a file for a single text
.RB ( \-\-output )
is not written.
.SH EXAMPLES
.TP
.B run stories.bin \-i """Once upon a time"""
A story, a different one each time.
.TP
.B git diff | run model.bin \-\-chat \-i """Describe this:""" \-f \- > msg.txt
A commit message for a change.
.TP
.B run model.bin \-\-batch requests.jsonl \-o results.jsonl \-\-resume
Many prompts. After an interruption the same command continues where it ended.
.SH ENVIRONMENT
.TP
.B RUN_MODEL
The model, unless
.I MODEL
is given.
.TP
.B TERM
Whether the terminal can edit lines.
.TP
.B OMP_NUM_THREADS
The number of threads, unless
.B \-\-threads
is given.
'''

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
    found = re.findall(r"^  (?:-(\w),|   ) --([\w-]+)(?: ([A-Z]+))? +(\S.*)$", text, re.MULTILINE)
    return [Option(*fields) for fields in found]


def manual(listed):
    def roff(text):
        return text.replace("\\", "\\e").replace("-", "\\-")

    entries = []
    for o in listed:
        names = ", ".join(f"\\fB{roff(s)}\\fR" for s in o.spellings)
        value = f" \\fI{o.value}\\fR" if o.value else ""
        entries.append(f".TP\n{names}{value}\n{roff(o.text)}")
    return MANUAL.lstrip().replace("@OPTIONS@", "\n".join(entries))


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
