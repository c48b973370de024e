#!/usr/bin/env python3
"""Draws a terminal that shows a command and its output, as SVG.

    scripts/terminal_svg.py OUT.svg COMMAND [ARGUMENT ...]
"""

import html
import shlex
import subprocess
import sys
import textwrap

COLUMNS = 84
LINE, CHARACTER, MARGIN = 19, 8.4, 16  # pixels


def main():
    out, *command = sys.argv[1:]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    lines = [f"$ {shlex.join(command)}"]
    for line in text.rstrip("\n").split("\n"):
        lines += textwrap.wrap(line, COLUMNS) or [""]
    width, height = 2 * MARGIN + COLUMNS * CHARACTER, 2 * MARGIN + len(lines) * LINE
    spans = [f'<text x="{MARGIN}" y="{MARGIN + LINE * (i + 0.75):.0f}"{" fill=" + chr(34) + "#7fd1ff" + chr(34) if i == 0 else ""}>'
             f"{html.escape(line)}</text>" for i, line in enumerate(lines)]  # fmt: skip
    with open(out, "w", encoding="utf-8") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" font-family="monospace" '
                   f'font-size="14" fill="#e6e6e6" xml:space="preserve">\n<rect width="100%" height="100%" rx="8" fill="#1b1f24"/>\n'
                   + "\n".join(spans) + "\n</svg>\n")  # fmt: skip


if __name__ == "__main__":
    main()
