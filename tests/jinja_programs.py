"""Random template programs from a grammar of expressions, filters, tests, loops, macros, blocks and white space.

Most of them run to their end; some fail, as they should in `jinja2` too. Left out is what the renderer refuses by name
(docs/chat.md), and what is not a matter of the language: addresses of objects in the output, integers beyond 64 bits, and
errors that a generator which nobody reads would raise.
"""

import random

CONTEXT = {
    "i": 7, "z": 0, "neg": -3, "f": 2.5, "big": 1e22, "t": True, "no": False, "none_": None,
    "s": "Hello World", "e": "", "p": "  padded\n ", "uni": "Größe ΟΔΟΣ ß ǆ日本 \u0130", "q": "it's \"<&>\"", "many": "a,b,,c",
    "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "empty": [], "nested": [[1, 2], [3, [4]], []], "mixed": [1, "a", None, 2.5, True],
    "d": {"b": 1, "a": "x", "items": [1], "C": None}, "dd": {"k": {"deep": [10, {"x": "y"}]}, "list": [1, 2]},
    "messages": [{"role": "system", "content": " Be kind.\n"}, {"role": "user", "content": "Hi <|im_end|> {{ x }}"},
                 {"role": "assistant", "content": "Hello!", "n": 1}, {"role": "user", "content": "", "n": 3}],
}  # fmt: skip
STRINGS = ["s", "e", "p", "uni", "q", "many", "'lit'", '"x\\ny"', "'é'", "'a' 'b'", "messages[1].content", "d.a", "' '", "'%s|%s'"]
NUMBERS = ["i", "z", "neg", "f", "1", "0", "-2", "3.0", "1.5e3", "t", "loop.index", "big"]
WHOLE = ["i", "z", "neg", "1", "0", "-2", "t", "loop.index"]
LISTS = ["l", "ls", "empty", "nested", "mixed", "[1, 'a', none]", "(1, 2)", "(5,)", "[]", "range(4)", "range(5, 0, -2)|list", "ls", "l"]
DICTS = ["d", "dd", "{}", "{'a': 1, 'b': [2]}", "{1: 'x', none: 2.0}", "dd.k", "messages[0]", "dict(a=1, b=2)", "messages[3]"]
OTHERS = ["none", "true", "undef", "d.missing", "none_", "no", "dd.k.deep", "l[9]", "ns.v", "v", "w", "missing_ if no"]
TEXT_FILTERS = [
    "upper", "lower", "capitalize", "trim", "string", "length", "list", "safe", "first", "last",
    "replace('l', 'L')", "replace('', '-', 2)", "trim('Hd ')", "indent", "indent(2, true)", "indent('> ', blank=true)",
    "int", "float", "int(5)", "tojson",
    "default('dflt')", "d('x', true)", "join('|')", "unique|list", "sort|join", "count",
]  # fmt: skip
LIST_FILTERS = [
    "length", "first", "last", "join(', ')", "join", "list", "reverse|list", "sort", "sort(reverse=true)", "unique|list", "map('string')|list", "map('upper')|join(' ')", "select|list", "reject('none')|list", "select('number')|list",
    "tojson", "tojson(indent=2)", "tojson(separators=(',', ':'))", "string",
    "map('default', 'z')|list", "select('in', [1, 'a'])|list", "reject('equalto', 1)|list", "map('tojson')|join(';')", "last|string",
    "sort(case_sensitive=true)|join", "map(attribute=0)|list", "map('length')|list", "default([])", "count",
]  # fmt: skip
DICT_FILTERS = [
    "tojson", "tojson(indent=4)", "tojson(ensure_ascii=true)", "length", "list", "items|list", "dictsort", "dictsort(reverse=true)",
    "dictsort(by='value')", "string", "default('x')", "first", "join(',')",
]  # fmt: skip
NUMBER_FILTERS = ["int", "float", "string", "default(1)", "tojson", "string|length"]
MESSAGE_FILTERS = [
    "map(attribute='role')|join(',')", "selectattr('role', 'equalto', 'user')|list|length", "selectattr('n')|map(attribute='n')|list",
    "rejectattr('n', 'defined')|map(attribute='content')|list", "map(attribute='n', default=0)|list",
    "sort(attribute='content')|map(attribute='role')|list", "tojson", "last", "selectattr('n', 'gt', 1)|list",
    "map(attribute='content')|map('trim')|list", "unique(attribute='role')|list",
]  # fmt: skip
METHODS = [
    "upper()", "lower()", "strip()", "lstrip()", "rstrip('d\\n ')", "split()", "split(',')", "split('l', 1)", "rsplit(',', 1)",
    "split(none, 1)", "split(maxsplit=1)", "splitlines()", "splitlines(true)", "title()", "capitalize()",
    "replace('l', '')", "replace('o', '0', 1)", "startswith('He')", "endswith(('d', ' '))", "find('o')",
    "rfind('o')", "count('l')",
    "isdigit()", "isalpha()", "isalnum()",
    "removeprefix('Hello')", "removesuffix('d')", "join(['x', 'y'])", "join(ls)", "format(1, 2)",
    "isnumeric()", "isdecimal()", "nope", "count('')",
]  # fmt: skip
DICT_METHODS = ["get('a')", "get('zz', 5)", "keys()|list", "values()|list", "items()|list", "get('b')", "items()", "keys()"]
TESTS = [
    "defined", "undefined", "none", "string", "number", "mapping", "iterable", "sequence", "boolean", "integer", "float", "true",
    "false", "callable", "odd", "even", "divisibleby(3)", "divisibleby 2", "eq(1)", "equalto 'x'", "in([1, 2])", "in 'Hello'",
    "sameas(none)", "sameas(true)", "gt(2)", "lt 5", "ge 2", "le(2)", "ne(1)",
]  # fmt: skip
FORMATS = [
    "'{}-{}'.format({a}, {b})", "'{1}{0}'.format({a}, {b})", "'{x}'.format(x={a})", "'{}{y}|'.format({a}, y={n})", "'{{}}'.format()",
    "'é{{{}}}'.format({s})", "'{0}{0}{1}'.format({s}, {n})", "'{} {}'.format({a})",
]  # fmt: skip
SLICES = ["[1:]", "[:-1]", "[::-1]", "[1:3]", "[-2:]", "[::2]", "[5:]", "[:0]", "[3:0:-1]", "[0]", "[-1]", "[9]", "[i:]", "[:none]"]


class Program:
    """Writes one program."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.macros = ["mac"]

    def pick(self, items):
        return self.rng.choice(items)

    def expression(self, depth):
        kind = self.rng.randrange(16) if depth > 0 else self.rng.randrange(4)
        if kind < 6:
            return self.filtered(depth)
        return (
            self.arithmetic, self.comparison, self.condition, self.logic, self.tested, self.literal, self.formatted,
            self.call, self.sliced, self.concatenated,
        )[kind - 6](depth - 1)  # fmt: skip

    def string(self, depth):
        text = self.pick(STRINGS)
        if depth > 0 and self.rng.random() < 0.4:
            text = f"({text}).{self.pick(METHODS)}" if text[0] in "'\"" else f"{text}.{self.pick(METHODS)}"
        return text

    def filtered(self, depth):
        kind = self.rng.randrange(6)
        if kind == 0 and depth > 0:
            return f"({self.expression(depth - 1)})|{self.pick(TEXT_FILTERS + LIST_FILTERS + NUMBER_FILTERS + DICT_FILTERS)}"
        names, filters = (
            (None, TEXT_FILTERS), (None, TEXT_FILTERS), (LISTS, LIST_FILTERS), (DICTS, DICT_FILTERS), (NUMBERS, NUMBER_FILTERS),
            (["messages"], MESSAGE_FILTERS),
        )[kind]  # fmt: skip
        value = self.string(depth) if names is None else self.pick(names)
        if names is DICTS and self.rng.random() < 0.3 and value[0] != "{":
            value += "." + self.pick(DICT_METHODS)
        count = self.pick([0, 0, 1, 1, 2]) if names is None else self.pick([0, 1, 1])
        if names == ["messages"]:
            count = 1
        return value + "".join("|" + self.pick(filters) for _ in range(count))

    def any(self):
        return self.pick(self.pick([STRINGS, NUMBERS, LISTS, DICTS, OTHERS]))

    def arithmetic(self, depth):
        if self.rng.random() < 0.3:
            a, b = self.string(0), self.pick([self.string(0), self.string(0), "2", "i"])
            return f"{a} {self.pick(['+', '+', '*'])} {b}"
        a, b = self.pick(NUMBERS), self.pick(NUMBERS)
        op = self.pick(["+", "-", "*", "/", "//", "%", "-", "+"])
        if op in ("//", "%"):
            a, b = self.pick(WHOLE), self.pick(WHOLE)
        return self.pick(["{a} {op} {b}", "({a} {op} {b}) * 2 - 1", "-{a} {op} {b}", "2 - 3 {op} {a}", "{l} + {m}", "{s} * 2"]).format(
            a=a, b=b, op=op, l=self.pick(LISTS), m=self.pick(LISTS), s=self.pick(STRINGS))  # fmt: skip

    def comparison(self, depth):
        op = self.pick(["==", "!=", "<", ">", "<=", ">=", "in", "not in", "==", "in"])
        names = self.pick([STRINGS, NUMBERS, LISTS])
        right = self.pick(names if op not in ("in", "not in") else [*LISTS, *STRINGS, *DICTS])
        return f"{self.pick(names)} {op} {right}" + (" < 5" if self.rng.random() < 0.05 else "")

    def condition(self, depth):
        orelse = f" else {self.expression(depth)}" if self.rng.random() < 0.8 else ""
        return f"({self.expression(depth)} if {self.expression(depth)}{orelse})"

    def logic(self, depth):
        a, b = self.expression(depth), self.expression(depth)
        return self.pick([f"({a}) and ({b})", f"({a}) or ({b})", f"not ({a})", f"{self.any()} and {self.any()} or {self.any()}"])

    def tested(self, depth):
        negated = self.pick(["is", "is", "is not"])
        return f"{self.any()} {negated} {self.pick(TESTS)}"

    def literal(self, depth):
        a, b = self.expression(depth), self.expression(depth)
        return self.pick([f"[{a}, {b}]", f"({a}, {b})", f"{{'k': {a}, 'l': {b}}}", f"{{'k': {a}}}.k", f"[{a}][0]"])

    def formatted(self, depth):
        form = self.pick(FORMATS)
        for name, items in (("{a}", None), ("{b}", None), ("{s}", STRINGS), ("{n}", NUMBERS)):
            while name in form:
                form = form.replace(name, self.any() if items is None else self.pick(items), 1)
        return f"({form})"

    def call(self, depth):
        a = self.expression(depth)
        return self.pick([f"{self.pick(self.macros)}({a})", f"mac({a}, y={self.any()})", "mac()", f"mac(y={a})", f"range({self.pick('0357')})|list",
                          f"namespace(v={a}).v", f"dict(a={a})", "mac(1, 2, 3)"])  # fmt: skip

    def sliced(self, depth):
        return self.pick([*STRINGS[:6], *LISTS[:5]]) + self.pick(SLICES)

    def concatenated(self, depth):
        return f"{self.any()} ~ {self.expression(depth)} ~ {self.any()}"

    # --- statements

    def white(self):
        return self.pick(["", " ", "\n", "\n  ", "text", " \n\n", "\t", "a\n  ", "é ", "\r\n", "}} ", "{ "])

    def tag(self, inside):
        return "{%" + self.pick(["", "", "", "-", "+"]) + f" {inside} " + self.pick(["", "", "", "-", "+"]) + "%}"

    def body(self, depth):
        return "".join(self.white() + self.statement(depth) for _ in range(self.rng.randint(1, 3))) + self.white()

    def output(self, depth):
        return "{{" + self.pick(["", "", "-"]) + " " + self.expression(2) + " " + self.pick(["", "", "-"]) + "}}"

    def statement(self, depth):
        if depth <= 0 or self.rng.random() < 0.4:
            return self.output(depth)
        return self.pick([
            self.if_, self.for_, self.for_, self.set_, self.set_, self.set_block, self.filter_block, self.macro,
            self.comment, self.namespace, self.generation,
        ])(depth - 1)  # fmt: skip

    def if_(self, depth):
        text = self.tag(f"if {self.expression(1)}") + self.body(depth)
        if self.rng.random() < 0.4:
            text += self.tag(f"elif {self.expression(1)}") + self.body(depth)
        if self.rng.random() < 0.5:
            text += self.tag("else") + self.body(depth)
        return text + self.tag("endif")

    def for_(self, depth):
        target, over = self.pick([
            ("v", self.pick(LISTS)), ("v", "messages"), ("k, v", "d.items()"), ("v", self.pick(STRINGS[:4])), ("a, b", "[(1, 2), (3, 4)]"),
            ("k, w", "dd|dictsort"), ("v", "d"), ("v", "nested"), ("v", "ls|map('upper')"), ("v", "undef"),
        ])  # fmt: skip
        test = f" if {self.pick(['v', 'v is defined', 'v != 1', 'true', 'loop is undefined', 'not v'])}" if self.rng.random() < 0.3 else ""
        inner = self.body(depth)
        inner += self.pick(["", "{{ v }}", "{{ loop.index }}/{{ loop.length }} ", "{{ loop.last }}", "{{ loop.previtem }}{{ loop.nextitem }}",
                            "{% if loop.first %}F{% endif %}", "{{ loop.revindex0 }}",
                            "{% if loop.index0 == 1 %}{% break %}{% endif %}",
                            "{% if v %}{% continue %}{% endif %}z", "{{ loop.revindex }}"])  # fmt: skip
        orelse = self.tag("else") + self.body(depth) if self.rng.random() < 0.3 else ""
        return self.tag(f"for {target} in {over}{test}") + inner + orelse + self.tag("endfor")

    def set_(self, depth):
        return self.tag(self.pick(["set v = {}", "set w = {}", "set v, w = {}, 1", "set i = {}", "set s = {}", "set x = v ~ {}"]).format(
            self.expression(2)))  # fmt: skip

    def set_block(self, depth):
        return self.tag(self.pick(["set v", "set w | upper", "set v | trim | replace('a', 'b')"])) + self.body(depth) + self.tag("endset")

    def filter_block(self, depth):
        return self.tag(f"filter {self.pick(['upper', 'trim', 'indent(2)', 'replace(i, v)', 'length', 'lower|trim'])}") + self.body(depth) + \
            self.tag("endfilter")  # fmt: skip

    def macro(self, depth):
        name = self.pick(["mac", "other"])
        text = self.tag(f"macro {name}(v, y=i)") + self.body(depth)
        text += self.pick(["{{ y }}", "{{ i }}", "{{ v }}{{ s }}"]) + self.tag("endmacro")
        self.macros.append(name)
        return text + "{{ " + name + "(1) }}"

    def comment(self, depth):
        return "{#" + self.pick(["", "-", "+"]) + " a {{ comment }} {% if %} " + self.pick(["", "-", "+"]) + "#}"

    def namespace(self, depth):
        return self.tag(f"set ns.v = {self.expression(1)}") + "{{ ns.v }}"

    def generation(self, depth):
        return self.tag("generation") + self.body(depth) + self.tag("endgeneration")


HEAD = "{%- macro mac(x, y=2) %}[{{ x }}{{ y }}]{% endmacro %}{% set ns = namespace(v=0) %}"


def program(seed):
    made = Program(seed)
    return (HEAD if made.rng.random() < 0.95 else "") + made.body(3) + made.white()
