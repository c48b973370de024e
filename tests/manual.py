"""Reads the man page, run.1: the fields and the examples that it names."""

import re

from conftest import ROOT

PAGE = (ROOT / "run.1").read_text(encoding="utf-8").replace("\\\n", "")


def plain(roff):
    """A piece of the page as a reader sees it."""
    return re.sub(r"\\f[BIR]", "", roff).replace("\\-", "-").replace("\\(dq", '"').replace("\\e", "\\")


def sections():
    """{title of a section or subsection: its source}, in the order of the page."""
    _, *parts = re.split(r"^\.S[HS] (.+)\n", PAGE, flags=re.MULTILINE)
    return {plain(title).strip('"'): text for title, text in zip(parts[::2], parts[1::2])}


def fields(title):
    """The names in the tags of a section's paragraphs: .BR id ", " text"""
    tags = re.findall(r"^\.TP\n\.BR? (.+)$", sections()[title], re.MULTILINE)
    return [name for tag in tags for name in plain(tag).replace('", "', " ").split()]


def json_sections():
    titles = list(sections())
    return titles[titles.index("JSON OUTPUT") + 1 : titles.index("EXIT STATUS")]


def examples():
    return [plain(block) for block in re.findall(r"^\.EX\n(.*?)^\.EE", sections()["EXAMPLES"], re.MULTILINE | re.DOTALL)]


def paths(value, at=""):
    """The fields of a JSON value, named as in the page: a, a.b, a[], a[].b."""
    found = set()
    for name, member in value.items() if isinstance(value, dict) else ():
        path = f"{at}.{name}" if at else name
        path += "[]" if isinstance(member, list) else ""
        found |= {path}.union(*(paths(element, path) for element in (member if isinstance(member, list) else [member])))
    return found
