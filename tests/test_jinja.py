"""Chat templates rendered by text/jinja.c, compared with `jinja2` in the environment that `transformers` makes.

    CHATS=1000        so many conversations for each template (default 100)
    PROGRAMS=10000    so many random programs (default 1000)
    TEMPLATES=FOLDER  the templates FOLDER/*.jinja too
"""

import os
import re
from pathlib import Path

import pytest
from conftest import DATA_DIR, SLOWER, TESTS

import jinja_chats
import jinja_programs

pytest.importorskip("jinja2")
import jinja_oracle  # noqa: E402

CHATS = int(os.environ.get("CHATS", "100"))
PROGRAMS = int(os.environ.get("PROGRAMS", "1000"))
OWN = sorted((TESTS / "templates").glob("*.jinja"))
FOLDERS = [DATA_DIR / "templates", *map(Path, filter(None, [os.environ.get("TEMPLATES")]))]
REAL = sorted(path for folder in FOLDERS for path in folder.glob("*.jinja"))
ALL = [*OWN, *REAL]
NAMES = [p.stem for p in ALL]

# What Python writes of an object that has no text of its own.
OBJECT = re.compile(r" at 0x[0-9a-f]+|<generator|<built-in|<function|<Macro|<jinja", re.IGNORECASE)


def compare(pairs):
    """Fails for the first of (template, context) that comes out differently, showing both. Returns how many that
    jinja2 renders are refused as not supported."""
    refused = 0
    for (source, context), ours in zip(pairs, jinja_oracle.rendered(pairs)):
        theirs = jinja_oracle.expected(source, context)
        if OBJECT.search(theirs.text) or "64 bits" in ours.text:  # Python's integers have no end
            continue
        if ours.kind in ("failed", "syntax") and "not supported" in ours.text:
            refused += theirs.kind == "text"
            continue
        assert ours.same(theirs), f"template:\n{source}\ncontext: {context}\nexpected: {theirs}\nfound: {ours}"
    return refused


def test_real_templates_are_there():
    if not REAL:
        pytest.skip(f"{DATA_DIR / 'templates'} is absent: only this project's own templates are tested")


@pytest.mark.parametrize("path", ALL, ids=NAMES)
def test_a_template_renders_as_in_jinja2(path):
    assert compare([(path.read_text(encoding="utf-8"), context) for context in jinja_chats.contexts(CHATS)]) == 0


@pytest.mark.parametrize("part", range(10))
def test_random_programs_render_as_in_jinja2(part):
    seeds = range(part, PROGRAMS, 10)
    refused = compare([(jinja_programs.program(seed), jinja_programs.CONTEXT) for seed in seeds])
    assert refused < len(seeds) / 5, f"{refused} of {len(seeds)} programs are refused as not supported"


CALLS = [
    "{% macro m(a) %}<{{ a }}{{ caller() }}>{% endmacro %}{% call m(1) %}in {{ d }}{% endcall %}",
    "{% macro m() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b='x') m() %}{{ a }}{{ b }}{% endcall %}",
    "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}{% call m() %}{% endcall %}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}",
    "{% macro m() %}x{% endmacro %}{% call m() %}{% endcall %}",
    "{% macro m(n) %}{% if n %}{% call m(n - 1) %}{{ n }}{% endcall %}{% endif %}({{ caller() }}){% endmacro %}"
    "{% call m(2) %}top{% endcall %}",
    "{% macro m() %}{% call o() %}{{ caller() }}{% endcall %}{% endmacro %}{% macro o() %}[{{ caller() }}]{% endmacro %}"
    "{% call m() %}x{% endcall %}",
    "{% set x = 1 %}{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}{% call m() %}{{ x }}{% set x = 2 %}{% endcall %}{{ x }}",
    "{% for i in [1, 2] %}{% call m() %}{{ i }}{% endcall %}{% endfor %}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{% for i in [1, 2] %}{% call m() %}{{ i }}{{ loop.index }}{% endcall %}{% endfor %}",
    "{% call 1 %}{% endcall %}", "{% call range(2) %}{% endcall %}", "{{ caller }}{% set caller = 1 %}{{ caller }}",
    "{% macro m(a, b=2, c=3) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(*[1]) }}{{ m(0, *[1, 5]) }}{{ m(*[1], c=9) }}"
    "{{ m(*'xyz') }}{{ m(*{'k': 1}) }}{{ m(*[]) }}",
    "{{ dict(*[1], 2) }}", "{{ range(*[1, 4]) | list }}", "{{ '{}{}'.format(*['a', 'b']) }}", "{% macro m(a) %}{% endmacro %}{{ m(*1) }}",
    "{{ [5, [6, 7]].1.0 }}{{ (1, 2).0 }}{{ 'ab'.1 }}{{ [1].3 is defined }}{{ {0: 'x'}.0 }}{{ d.0 }}", "{{ [1].0.5 }}", "{{ 1.5.x }}",
    "{{ 'it\\'s a-b (c [d {e <f ΑΣ ΣΑΣ-Σ ß ǆ x1y İI' | title }}{{ none | title }}{{ '  a' | title }}{{ '' | title }}{{ 'ABC dEf' | title }}",
]  # fmt: skip


@pytest.mark.parametrize("source", CALLS)
def test_calls_and_items_are_those_of_jinja2(source):
    assert compare([(source, {"d": [3]})]) == 0


# --- whose text is it?

ARMENIAN = "".join(map(chr, [*range(0x531, 0x557), *range(0x561, 0x588)]))


def in_armenian(value):
    """The value with the letters of its strings, but not of names that templates know, in a script that no template has."""
    if isinstance(value, str):
        return re.sub(r"[^\W\d_]", lambda m: ARMENIAN[ord(m[0]) % len(ARMENIAN)], value)
    if isinstance(value, dict):
        kept = ("role", "type")
        return {key: item if key in kept else in_armenian(item) for key, item in value.items()}
    return [in_armenian(item) for item in value] if isinstance(value, list) else value


def check_marks(pairs):
    n_user = 0
    for (source, context), ours in zip(pairs, jinja_oracle.rendered(pairs)):
        for text, own in ours.spans:
            assert not own or not set(text) & set(ARMENIAN), f"{source}\n{context}\nthe user's text {text!r} is marked as the template's"
            n_user += not own
    return n_user


@pytest.mark.parametrize("path", ALL, ids=NAMES)
def test_text_of_the_user_is_never_the_templates(path):
    contexts = [{**c, **{name: in_armenian(c[name]) for name in jinja_oracle.USER}} for c in jinja_chats.contexts(CHATS // 2)]
    check_marks([(path.read_text(encoding="utf-8"), context) for context in contexts])


def test_text_of_the_user_is_never_the_templates_in_random_programs():
    variables = "".join(f"{{% set {name} = documents.{name} %}}" for name in jinja_programs.CONTEXT)
    context = {"documents": {name: in_armenian(value) for name, value in jinja_programs.CONTEXT.items()}}
    n = check_marks([(variables + jinja_programs.program(seed), context) for seed in range(PROGRAMS)])
    assert n > PROGRAMS, f"{n} pieces of the user's text, expected more of {PROGRAMS} programs"


@pytest.mark.parametrize("template, spans", [
    ("<|a|>{{ messages[0] }}<|b|>", [("<|a|>", True), ("<|x|>", False), ("<|b|>", True)]),
    ("{{ messages[0].upper() }}", [("<|X|>", False)]),
    ("{{ (messages[0] ~ '<|e|>')[3:] | replace('<|e', '<|f') }}", [("|>", False), ("<|f|>", True)]),
    ("{{ messages | join('<|e|>') }}", [("<|x|>", False), ("<|e|>", True), ("y", False)]),
    ("{{ '{}-{}'.format(messages[1], 'z') }}", [("y", False), ("-z", True)]),
    ("{{ messages | tojson }}", [('["<|x|>", "y"]', False)]),
    ("{{ messages }}", [("['<|x|>', 'y']", False)]),
    ("{{ {'k': messages[1]} | tojson }}", [('{"k": ', True), ('"y"', False), ("}", True)]),
])  # fmt: skip
def test_marks(template, spans):
    (ours,) = jinja_oracle.rendered([(template, {"messages": ["<|x|>", "y"]})])
    assert ours.spans == spans


# --- bytes, errors, limits


@pytest.mark.parametrize("template, text", [
    ("{{ messages[0] | length }}", "4"), ("{{ messages[0][1:3] }}", "\udcff\udcc3"), ("{{ messages[0] | upper }}", "A\udcff\udcc3B"),
    ("{{ messages[0][::-1] }}", "b\udcc3\udcffa"), ("{{ messages[0] | tojson }}", '"a\udcff\udcc3b"'),
    ("{{ messages[0].split('\udcff') }}", "['a', '\\udcc3b']"), ("{{ messages[0].isalpha() }}", "False"),
])  # fmt: skip
def test_a_byte_that_is_not_utf8_is_one_character(template, text):
    (ours,) = jinja_oracle.rendered([(template, {"messages": [["bytes", b"a\xff\xc3b".hex()]]})])
    assert (ours.kind, ours.text) == ("text", text)


@pytest.mark.parametrize("template, message", [
    ("a\n{% if %}", "line 2: found the end of a tag, expected an expression"),
    ("{% for x in y %}\n\n", "line 2: found the end of the template, expected else endfor"),
    ("\n\n{{ x.y }}", "line 3: 'x' is undefined"),
    ("{% set x = {} %}\n{{ x.y.z }}", "line 2: a dict object has no attribute 'y'"),
    ("{{ 'a' | nothing }}", "line 1: the filter 'nothing' is not supported"),
    ("{{ [].append(1) }}", "line 1: access to 'append' of a list is not allowed"),
    ("{% block x %}{% endblock %}", "line 1: found 'block', expected a statement that is supported"),
    ("{{ 9223372036854775807 + 1 }}", "line 1: an integer does not fit 64 bits"),
    ("{{ ' '.rfind(x)[::-1] }}", "line 1: an argument is a Undefined, expected a str"),
    ("{{ 1 < [] | first }}", "line 1: '' is undefined"),
    ("{{ 1 +\n}}", "line 2: found the end of a tag, expected an expression"),
])  # fmt: skip
def test_an_error_names_the_line(template, message):
    (ours,) = jinja_oracle.rendered([(template, {})])
    assert ours.text == f"template: {message}"


def test_a_refusal_is_in_the_templates_words():
    (ours,) = jinja_oracle.rendered([("{{ raise_exception('No ' ~ messages[0]) }}", {"messages": ["way"]})])
    assert (ours.kind, ours.text) == ("refused", "No way")


# A text made of 60,000 runs with alternating origins.
MARKS = "{% set n = namespace(x='') %}{% for i in range(30000) %}{% set n.x = n.x ~ messages[0] ~ 'b' %}{% endfor %}"
HOSTILE = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "doubling": "{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x ~ 'b' ~ n.x %}{% endfor %}",
    "doubling a list": "{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "repeats": "{{ 'x' * 99999999999 }}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "forking": "{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(1) }}",
    "replacing": "{% set n = namespace(x='aa') %}{% for i in range(99) %}{% set n.x = n.x | replace('a', 'aa') %}{% endfor %}",
    "nesting": "{% set n = namespace(x=[]) %}{% for i in range(9999) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x }}",
    "sharing": "{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "comparing": "{% set x = 'x' * 99999 %}{% set y = 'x' * 99999 %}{% for i in range(99999) %}{{ x == y }}{% endfor %}",
    "searching": "{{ ('a' * 99999).find('a' * 50000 ~ 'b') }}{{ ('a' * 1000000).rfind('b' ~ 'a' * 500000) }}",
    "searching backwards": "{{ ('a' * 99999).rfind('a' * 50000 ~ 'b') }}{{ ('a' * 99999).rsplit('a' * 50000 ~ 'b') }}",
    "format": "{% set n = namespace(x='{0}{0}') %}{% for i in range(99) %}{% set n.x = n.x.format(n.x) %}{% endfor %}",
    "sorting": "{{ range(99999) | reverse | list | sort }}",
    "indenting": "{{ ('a\n' * 99999) | indent(99999) }}",
    "brackets": "{{ " + "(" * 99999,
    "signs": "{{ " + "-" * 99999 + "1 }}",
    "attributes": "{{ a" + ".b" * 9999 + " }}",
    "filters": "{{ a" + "|e" * 9999 + " }}",
    "blocks": "{% if 1 %}" * 9999,
    "branches": "{% if 1 %}" + "{% elif 1 %}" * 9999 + "{% endif %}",
    "names": "".join(f"{{% set a{i} = a{i + 1} %}}" for i in range(9999)),
    "names in branches": "".join(f"{{% if a %}}{{% set a{i} = 1 %}}{{% endif %}}" for i in range(3000)),
    "stripping": "{{ ('a' * 99999).strip('b' * 99999 ~ 'a') }}",
    "stripping letters": "{{ ('é' * 99999).rstrip('ü' * 99999 ~ 'é') }}",
    "upper case": "{% set n = namespace(x='ΐ' * 99999) %}{% for i in range(9999) %}{% set n.x = n.x | upper %}{% endfor %}",
    "dates": "{% set s = '%A %B ' * 99999 %}{% for i in range(99) %}{{ strftime_now(s) | length }}{% endfor %}",
    "items": "{{ [" + "1," * 499999 + "] }}",
    "strings": "{{ " + "'a' " * 249999 + "}}",
    "doubling runs": MARKS + "{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "indices": MARKS + "{% for i in range(99999) %}{{ n.x[-3] }}{% endfor %}",
    "slices": "{% set s = range(99999) | list %}{% for i in range(99999) %}{% if s[::-2] %}{% endif %}{% endfor %}",
    "prefixes": "{% set s = 'x' * 99999 %}{% for i in range(99999) %}{{ s.startswith((s ~ 1, s ~ 2, s ~ 3)) }}{% endfor %}",
    "long keys": "{% set s = 'x' * 9999 %}{% set d = {" + ",".join(f"s ~ '{i:04}': 1" for i in range(999)) + "} %}"
                 "{% for i in range(99999) %}{{ d[s ~ '0998'] }}{% endfor %}",
    "unique": "{{ range(99999) | unique | list | length }}",
    "chains of macros": "".join(f"{{% macro m{i}() %}}{{{{ m{i + 1}() ~ m{i + 1}() }}}}{{% endmacro %}}" for i in range(60))
                        + "{% macro m60() %}x{% endmacro %}{{ m0() }}",
    "widths": "{% for i in range(99999) %}{{ '{:>99999}'.format('x') }}{% endfor %}",
    "joining": "{% set l = ['x' * 999] * 999 %}{% for i in range(999) %}{{ l | join('y' * 9999) | length }}{% endfor %}",
    "splitting": "{% set s = 'ab' * 499999 %}{% for i in range(999) %}{{ s.split('b') | length }}{% endfor %}",
    "json": "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = {'a': n.x, 'b': n.x} %}{% endfor %}{{ n.x | tojson }}",
    "ranges": "{{ range(-9223372036854775807, 9223372036854775807)[::2] }}",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_ends_soon(name):
    times, (ours,) = jinja_oracle.rendered([(HOSTILE[name], {"messages": ["zyx"]})], repeats=1)
    assert ours.kind in ("failed", "syntax"), f"expected an error, found {ours.kind}: {ours.text[:80]}"
    assert sum(times[0]) < 1e6 * SLOWER, f"{times[0]} microseconds, expected less than 100,000 on a good machine"


@pytest.mark.parametrize("path", OWN, ids=[p.stem for p in OWN])
def test_twenty_turns_take_little_time(path):
    messages = [{"role": "user", "content": "Why? " * 20}, {"role": "assistant", "content": "Because. " * 40}] * 20
    times, (ours,) = jinja_oracle.rendered([(path.read_text(encoding="utf-8"), {"messages": messages})], repeats=20)
    assert ours.kind == "text" or "tools" in path.stem, ours
    assert times[0][1] < 1e4 * SLOWER, f"{times[0][1]} microseconds, expected less than 1000 on a good machine"
