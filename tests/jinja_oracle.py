"""What `jinja2` makes of a template in the environment that `transformers` sets up, and our renderer beside it.

Both give a Rendering; `refused` is what the template said by raise_exception, `failed` and `syntax` any other error.
"""

import copy
import datetime
import functools
import json
import re
import struct
import subprocess
from dataclasses import dataclass, field

import jinja2
import jinja2.ext
import jinja2.sandbox
from conftest import BUILD_DIR, EMULATOR, TIMEOUT

DATE = (2026, 2, 3)
USER = ("messages", "tools", "documents")


@dataclass
class Rendering:
    kind: str  # text, refused, failed, syntax
    text: str  # or the message
    spans: list = field(default_factory=list, compare=False)  # (text, is it the template's)

    def same(self, other):
        """The same text or refusal, whose message ends before a NUL and has ? for other control characters; of other errors
        only the kind counts."""
        if self.kind == "refused":
            message = re.sub(r"[\x01-\x1f\x7f]", "?", other.text.split("\0")[0])
            return other.kind == "refused" and self.text == message
        return self.kind == other.kind and (self.kind != "text" or self.text == other.text)


class Refused(jinja2.TemplateError):
    pass


class Generation(jinja2.ext.Extension):
    """{% generation %} .. {% endgeneration %} marks answers for training; its body is a macro's."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("call"), [], [], body).set_lineno(line)

    def call(self, caller):
        return caller()


class Namespace(jinja2.utils.Namespace):
    """transformers refuses attributes that begin with an underscore."""

    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        attributes = dict(*args, **kwargs)
        for name in attributes:
            Namespace.check(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name, value):
        Namespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(name)


def environment(date=DATE):
    def raise_exception(message):
        raise Refused(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(form):
        return datetime.datetime(*date).strftime(form)

    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, Generation]
    )
    made.filters["tojson"] = tojson
    made.globals.update(raise_exception=raise_exception, strftime_now=strftime_now, namespace=Namespace)
    return made


ENVIRONMENT = environment()


@functools.lru_cache(16)
def compiled(source):
    return ENVIRONMENT.from_string(source)


def expected(source, context):
    """What jinja2 says."""
    try:
        template = compiled(source)
    except Exception as error:  # also Python's own: a compiled template is a program
        return Rendering("syntax", str(error))
    try:
        text = template.render(**copy.deepcopy(context))  # jinja2's indent changes a list in place
        text.encode("utf-8", "surrogateescape")
    except Refused as error:
        return Rendering("refused", str(error))
    except (Exception, RecursionError) as error:
        return Rendering("failed", f"{type(error).__name__}: {error}")
    return Rendering("text", text)


def blob(data):
    return struct.pack("=I", len(data)) + data


def request(source, context, date=DATE):
    encoded = json.dumps(context, ensure_ascii=False).encode("utf-8", "surrogateescape")
    return struct.pack("=III", *date) + blob(source.encode("utf-8", "surrogateescape")) + blob(encoded)


class Answers:
    """Reads what build/tests/jinja writes."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self):
        (value,) = struct.unpack_from("=I", self.data, self.at)
        self.at += 4
        return value

    def bytes(self):
        size = self.number()
        self.at += size
        return self.data[self.at - size : self.at]

    def rendering(self):
        kind = ("text", "refused", "failed", "syntax")[self.number()]
        text = self.bytes()
        spans, at = [], 0
        for _ in range(self.number() if kind == "text" else 0):
            size, own = self.number(), self.number()
            piece = text[at : at + size].decode("utf-8", "surrogateescape")
            if spans and spans[-1][1] == bool(own):  # of another value of the user
                piece = spans.pop()[0] + piece
            spans.append((piece, bool(own)))
            at += size
        assert kind != "text" or at == len(text), "the spans are not the whole text"
        return Rendering(kind, text.decode("utf-8", "surrogateescape"), spans)


def rendered(requests, repeats=None):
    """What our renderer makes of many (template, context).

    With `repeats` it renders each so often, and (microseconds of compiling, of one rendering) of each come first."""
    command = [*EMULATOR, BUILD_DIR / "tests" / "jinja", *([str(repeats)] if repeats else [])]
    sent = b"".join(request(*r) for r in requests)
    done = subprocess.run(command, input=sent, capture_output=True, timeout=TIMEOUT)
    said = done.stderr.decode(errors="replace")[:500]
    assert done.returncode == 0, f"status {done.returncode} after {len(done.stdout)} bytes: {said}"
    answers = Answers(done.stdout)
    found = [answers.rendering() for _ in requests]
    times = [tuple(map(float, line.split())) for line in done.stderr.decode().splitlines()]
    return (times, found) if repeats else found
