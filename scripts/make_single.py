#!/usr/bin/env python3
"""Writes the whole program as one C file, which compiles alone (make single).

    scripts/make_single.py SOURCE.c.. MAIN.c -o run-single.c
    cc -O3 -ffp-contract=off -fopenmp run-single.c -o run -lm

A source follows the sources that it uses: those whose headers it includes. A header of the project is expanded once, where
it is first included; system headers move to the top. Only the scalar kernels take part, since the other sets need compiler
flags of their own.

What was private to a file shares one scope now. Macros that only one source sees are undefined after it. Any other name
that two files define at file scope is an error: the script names it and where it is defined, and writes nothing. The
sources should tell the two apart; a name changed here would be one that no reader of the sources knows.
"""

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The kernel sets are declared together, in a header that is no set's own.
IMPLEMENTED_BY = {"simd/simd.h": "simd/scalar.c"}
TOP = """\
// {main} and all that it is made of, in one file. Made by scripts/make_single.py, not to be edited.
//
//     cc -O3 -ffp-contract=off -fopenmp {output} -o run -lm
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE
#endif
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

"""
BANNER = "\n// {:=<97}\n// {}\n\n"

INCLUDE = re.compile(r'[ \t]*#[ \t]*include[ \t]+(["<])([^">]+)[">][^\n]*\n')
DIRECTIVE = re.compile(r"^[ \t]*#[ \t]*(\w+)(?:[ \t]+(\w+))?(?:\\\n|[^\n])*\n", re.MULTILINE)
NOT_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
TOKEN = re.compile(r"[A-Za-z_]\w*|\d[\w.]*|\S")
WORD = re.compile(r"[A-Za-z_]\w*")
NO_NAMES = set("const static extern inline void char short int long float double signed unsigned struct union enum "
               "typedef volatile restrict _Thread_local _Noreturn _Atomic".split())  # fmt: skip


class Collision(Exception):
    pass


def blank(match):
    """Spaces in place of what was matched; newlines stay, and so do the quotes of a string."""
    text = re.sub(r"[^\n]", " ", match[0])
    return match[0][0] + text[1:-1] + match[0][-1] if match[0][0] in "\"'" else text


class File:
    """A source or a header: its text, what it includes, and the names that it defines at file scope."""

    def __init__(self, root, name):
        self.name = name
        self.text = (root / name).read_text(encoding="utf-8")
        self.includes = [path for quote, path in INCLUDE.findall(self.text) if quote == '"']
        # Comments and strings are blanked, so that a place in the code is the same place in the text.
        self.code = NOT_CODE.sub(blank, self.text)
        self.words = set(WORD.findall(self.code))
        self.guard = self._guard()
        self.macros = [name for kind, name in DIRECTIVE.findall(self.code) if kind == "define" and name != self.guard]
        self.names = Names(DIRECTIVE.sub(blank, self.code), set(self.macros)).found  # [(kind, name, line)]

    def _guard(self):
        """The macro of `#ifndef X_H`, `#define X_H` around a header, or None."""
        directives = DIRECTIVE.findall(self.code)
        if len(directives) > 2 and directives[0][0] == "ifndef" and directives[1] == ("define", directives[0][1]):
            if directives[-1][0] == "endif" and self.name.endswith(".h"):
                return directives[0][1]
        return None


class Names:
    """Reads declarations at file scope as far as it takes to find the names that they define: functions, variables,
    types, tags of structs and enums, and enumerators. A declaration that defines nothing, as a prototype in a header
    does, is passed over."""

    def __init__(self, code, macros):
        self.macros = macros
        self.tokens = [(m[0], code.count("\n", 0, m.start()) + 1) for m in TOKEN.finditer(code)]
        self.found = []
        self.at = 0
        self.last_key = ""  # struct, union or enum, whichever was read last
        while self.at < len(self.tokens):
            self._declaration()

    def _next(self):
        token = self.tokens[self.at]
        self.at += 1
        return token

    def _skip_group(self):
        """Passes over a bracketed group whose opening bracket was just read."""
        depth = 1
        while depth and self.at < len(self.tokens):
            token, _ = self._next()
            depth += (token in "([{") - (token in ")]}")

    def _peek(self):
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def _body(self, kind):
        """The body of a struct, union or enum: its enumerators, and those of enums inside, are names at file scope."""
        previous, inner = ("{", kind), [kind]
        while inner and self.at < len(self.tokens):
            token, line = self._next()
            if token == "{":
                inner.append("enum" if self.last_key == "enum" else "struct")
            elif token == "}":
                inner.pop()
            elif token in ("enum", "struct", "union"):
                self.last_key = token
            elif inner[-1] == "enum" and WORD.fullmatch(token) and previous[0] in ("{", ","):
                self.found.append(("name", token, line))
            elif token in "([":
                self._skip_group()
                token = ")"
            previous = (token, line)

    def _declaration(self):
        """One declaration or definition, up to its `;` or the `}` of a function."""
        seen = []  # its tokens outside brackets, where "()" stands for a group
        while self.at < len(self.tokens):
            token, line = self._next()
            last = seen[-1][0] if seen else ""
            if token in ("__attribute__", "_Static_assert", "_Alignas"):
                self._next()
                self._skip_group()
            elif token == "(":
                if not seen or (last in self.macros and last.isupper() and len(seen) == 1):
                    self._skip_group()  # a macro that defines something, as DEFINE_TILE(..) does
                    seen = []
                elif self._peek() == "*":  # (*name)(..): a pointer to a function
                    self._next()
                    seen.append(self._next())
                    self._skip_group()
                    seen.append(("(*)", line))
                else:
                    self._skip_group()
                    if last != "(*)":
                        seen.append(("()", line))
            elif token == "[":
                self._skip_group()
            elif token == "=":
                self._initializer()
            elif token == "{":
                if last == "()":
                    self._skip_group()
                    self._define(seen, True)
                    return
                words = [t for t, _ in seen[-2:]]
                kind = next((w for w in words if w in ("struct", "union", "enum")), "struct")
                if last not in ("struct", "union", "enum") and len(words) > 1 and words[0] == kind:
                    self.found.append(("tag", last, line))
                self.last_key = ""
                self._body(kind)
                seen.append(("{}", line))
            elif token == ";":
                self._define(seen, False)
                return
            else:
                seen.append((token, line))

    def _initializer(self):
        while self.at < len(self.tokens) and self._peek() not in (",", ";"):
            token, _ = self._next()
            if token in "([{":
                self._skip_group()

    def _define(self, seen, has_body):
        words = [token for token, _ in seen]
        if "()" in words:  # a function; a prototype defines nothing unless it is static
            at = words.index("()") - 1
            if at >= 0 and (has_body or "static" in words[:at]) and "typedef" not in words:
                self.found.append(("name", *seen[at]))
            elif at >= 0 and "typedef" in words:
                self.found.append(("name", *seen[at]))
            return
        if "extern" in words:
            return
        for i, (token, line) in enumerate(seen):
            ends = i + 1 == len(seen) or words[i + 1] in (",", "(*)")
            tag = i > 0 and words[i - 1] in ("struct", "union", "enum")
            if ends and WORD.fullmatch(token) and token not in NO_NAMES and not tag:
                self.found.append(("name", token, line))


class Program:
    def __init__(self, root, sources):
        self.root = root
        self.sources = sources
        self.files = {}
        self.reach = {source: self._reach(source) for source in sources}
        self.order = self._order()
        # The sources that see a header; what only one sees is private to it.
        self.users = {name: [s for s in sources if name in self.reach[s]] for name in self.files}

    def _file(self, name):
        if name not in self.files:
            self.files[name] = File(self.root, name)
        return self.files[name]

    def _reach(self, source):
        """The source and the headers that it sees, in the order in which they are first included."""
        seen = []

        def visit(name):
            if name not in seen:
                seen.append(name)
                for header in self._file(name).includes:
                    visit(header)

        visit(source)
        return seen

    def _order(self):
        ordered, begun = [], set()

        def visit(source):
            if source in begun:
                return
            begun.add(source)
            for header in self.reach[source][1:]:
                used = IMPLEMENTED_BY.get(header, header[:-2] + ".c")
                if used in self.sources and used != self.sources[-1]:
                    visit(used)
            ordered.append(source)

        begun.add(self.sources[-1])
        for header in self.reach[self.sources[-1]][1:]:
            used = IMPLEMENTED_BY.get(header, header[:-2] + ".c")
            if used in self.sources:
                visit(used)
        for source in self.sources[:-1]:
            visit(source)
        return [*ordered, self.sources[-1]]

    def collisions(self):
        """Lines that name what two files define, or what a macro of a header would replace in a file that does not
        include that header."""
        places = {}
        for file in self.files.values():
            for kind, name, line in file.names:
                places.setdefault((kind, name), {}).setdefault(file.name, line)
        lines = [f"{name}: " + ", ".join(f"{file}:{line}" for file, line in sorted(where.items()))
                 for (_, name), where in sorted(places.items()) if len(where) > 1]  # fmt: skip
        for file in sorted(self.files.values(), key=lambda file: file.name):
            users = set(self.users[file.name])
            if len(users) == 1:
                continue
            blind = [other for other in self.files.values() if not users & set(self.users[other.name])]
            for macro in sorted(set(file.macros)):
                for other in blind:
                    if macro in other.words:
                        lines.append(f"{macro}: a macro of {file.name}, another word in {other.name}")
        return lines

    def expand(self, name, expanded, top):
        """The text of a file, with the headers that are new expanded; system headers are added to `top`."""
        file = self._file(name)
        expanded.add(name)
        depth = 0  # of conditional directives
        out = []
        at = 0
        directives = list(DIRECTIVE.finditer(file.code))
        for i, directive in enumerate(directives):
            kind = directive[1]
            begin, end = directive.span()
            out.append(file.text[at:begin])
            at = end
            text = file.text[begin:end]
            guard = file.guard and (i < 2 or i + 1 == len(directives))
            if guard:
                continue
            if kind in ("if", "ifdef", "ifndef"):
                depth += 1
            elif kind == "endif":
                depth -= 1
            elif kind == "include":
                quote, path = INCLUDE.match(text).groups()
                if quote == "<" and depth == 0:
                    top.add(path)
                    continue
                if quote == '"':
                    if depth:
                        sys.exit(f"{name}: includes {path} in a condition")
                    if path not in expanded:
                        out.append(f"\n{self.expand(path, expanded, top)}\n")
                    continue
            out.append(text)
        out.append(file.text[at:])
        return re.sub(r"\n{3,}", "\n\n", "".join(out)).strip("\n") + "\n"

    def write(self, output):
        collisions = self.collisions()
        if collisions:
            raise Collision("\n".join(["names that collide at file scope:", *(f"    {line}" for line in collisions)]))
        expanded, top, parts = set(), set(), []
        for source in self.order:
            parts.append(BANNER.format("", source) + self.expand(source, expanded, top))
            private = [name for name in self.reach[source] if self.users[name] == [source]]
            macros = sorted({macro for name in private for macro in self.files[name].macros})
            parts.append("".join(["\n", *(f"#undef {macro}\n" for macro in macros)]) if macros else "")
        head = TOP.format(main=self.sources[-1], output=output.name)
        output.write_text(head + "".join(f"#include <{path}>\n" for path in sorted(top)) + "".join(parts), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", metavar="SOURCE.c", help="the last one is that of main")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--root", type=Path, default=ROOT, help="the folder that sources and includes are relative to")
    args = parser.parse_args()
    try:
        Program(args.root, args.sources).write(args.output)
    except Collision as collision:
        sys.exit(f"make_single.py: {collision}")


if __name__ == "__main__":
    main()
