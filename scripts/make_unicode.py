#!/usr/bin/env python3
"""Writes unicode_tables.h: the classes of characters by which byte-level BPE cuts text into words.

    python3 scripts/make_unicode.py > unicode_tables.h

The version of Unicode has to be that of the regular expressions in the `tokenizers` package, against which the tests
compare: Oniguruma's 16.0, in tokenizers 0.23. Python 3.14 has it; an older Python takes it from the package
unicodedata2 16.0.0, which is the same module. \\p{L} and \\p{N} are the general categories L* and N*, \\s the property
White_Space, which unicodedata does not have: str.isspace() is it and the four separators U+001C to U+001F.
"""

import sys

try:
    import unicodedata2 as unicodedata
except ImportError:
    import unicodedata

VERSION = "16.0.0"
CLASSES = OTHER, SPACE, LETTER, NUMBER = range(4)
HEADER = """\
// unicode_tables.h - the classes of characters of Unicode {version}.
//
// Made by scripts/make_unicode.py, not to be edited. An entry is code point << 2 | class: all
// characters from there up to the next entry are of that class.
// clang-format off
#ifndef UNICODE_TABLES_H
#define UNICODE_TABLES_H

#include <stdint.h>

enum {{ CLASS_OTHER, CLASS_SPACE, CLASS_LETTER, CLASS_NUMBER }};

static const uint32_t unicode_runs[{count}] = {{
"""


def class_of(code_point):
    character = chr(code_point)
    category = unicodedata.category(character)
    if category[0] == "L":
        return LETTER
    if category[0] == "N":
        return NUMBER
    return SPACE if character.isspace() and not 0x1C <= code_point <= 0x1F else OTHER


def main():
    if unicodedata.unidata_version != VERSION:
        sys.exit(f"unicodedata is of Unicode {unicodedata.unidata_version}, expected {VERSION}: see the top of this file")
    runs = []
    for code_point in range(sys.maxunicode + 1):
        kind = class_of(code_point)
        if not runs or runs[-1] & 3 != kind:
            runs.append(code_point << 2 | kind)
    print(HEADER.format(version=VERSION, count=len(runs)), end="")
    for i in range(0, len(runs), 10):
        print("    " + " ".join(f"{run:#x}," for run in runs[i : i + 10]))
    print("};\n\n#endif")


if __name__ == "__main__":
    main()
