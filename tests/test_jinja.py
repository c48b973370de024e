"""Chat templates rendered by text/jinja.c, compared with `jinja2` in the environment that `transformers` makes."""

import os

import pytest
from conftest import DATA_DIR

import jinja_chats

pytest.importorskip("jinja2")
import jinja_oracle  # noqa: E402

CHATS = int(os.environ.get("CHATS", "100"))
REAL = sorted((DATA_DIR / "templates").glob("*.jinja"))


def compare(pairs):
    """Fails for the first of (template, context) that comes out differently, showing both."""
    found = jinja_oracle.rendered(pairs)
    for (source, context), ours in zip(pairs, found):
        theirs = jinja_oracle.expected(source, context)
        assert ours.same(theirs), f"template:\n{source[:2000]}\ncontext: {context}\nexpected: {theirs}\nfound: {ours}"
    return found


@pytest.mark.skipif(not REAL, reason=f"{DATA_DIR / 'templates'} is absent")
@pytest.mark.parametrize("path", REAL, ids=[p.stem for p in REAL])
def test_a_real_template_renders_as_in_jinja2(path):
    compare([(path.read_text(encoding="utf-8"), context) for context in jinja_chats.contexts(CHATS)])
