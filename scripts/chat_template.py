"""A model's Jinja chat template -> the five texts that it writes around messages (docs/format.md, chat.h).

The template is rendered with messages that are markers, and cut at them: what stands between is literal text. Two
conversations of three turns, with and without a system message, must then come out as the texts say. A template that
does anything else with its messages cannot be represented and is refused with the reason; one that does so with system
messages only is kept without them.

Today's date is not given, so that templates which ask for it take the fixed one they have for that case, or fail.
"""

import json
import struct
from dataclasses import dataclass, field, replace

import jinja2
import jinja2.ext
import jinja2.sandbox

TRIM, HAS_SYSTEM, ANSWER_SPACE = 1, 2, 4  # flags
SYSTEM, USER, ASSISTANT = "system", "user", "assistant"

# No template has these in its text, nor changes them.
MARKERS = {SYSTEM: ["SystemMarkerA"], USER: ["UserMarkerA", "UserMarkerB", "UserMarkerC"],
           ASSISTANT: ["AnswerMarkerA", "AnswerMarkerB"]}  # fmt: skip
# Messages as they are: lines, quotes, digits, letters of other scripts, words that templates look for.
NATURAL = {
    SYSTEM: ["You answer in one sentence.\nBe kind."],
    USER: ["What's 2 + 2?", 'And in Greek, "τέσσερα"?\n\n1. so\n2. or so', "Thanks {{ user }} & [bye]"],
    ASSISTANT: ["It is 4.", "Ναί.\n\tTool: none"],
}


class TemplateError(Exception):
    """Why a template cannot be represented."""


@dataclass(frozen=True)
class ChatTexts:
    """The five texts, and the flags; notes say where the template does otherwise in a small way."""

    start_user: str
    user_assistant: str
    assistant_user: str
    start_system: str = ""
    system_user: str = ""
    trim: bool = False
    has_system: bool = False
    answer_space: bool = False  # answers among the messages get one, the model's own begins with it
    notes: list = field(default_factory=list)

    def section(self):
        flags = TRIM * self.trim | HAS_SYSTEM * self.has_system | ANSWER_SPACE * self.answer_space
        texts = [self.start_user, self.start_system, self.system_user, self.user_assistant, self.assistant_user]
        encoded = [text.encode("utf-8") for text in texts]
        return struct.pack("<I", flags) + b"".join(struct.pack("<I", len(text)) + text for text in encoded)

    def render(self, messages):
        """What chat.c makes of a conversation."""
        text, before = "", None
        for role, content in messages:
            if role == SYSTEM:
                text += self.start_system
            elif role == USER:
                text += {None: self.start_user, SYSTEM: self.system_user, ASSISTANT: self.assistant_user}[before]
            else:
                text += self.user_assistant + " " * self.answer_space
            text += content.strip(" \t\n\v\f\r") if self.trim else content
            before = role
        return text + self.user_assistant


class Generation(jinja2.ext.Extension):
    """{% generation %} .. {% endgeneration %} marks answers for training and writes nothing."""

    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def compile_template(source, bos, eos):
    """messages -> text, in the environment that transformers gives a template."""

    def raise_exception(message):
        raise jinja2.TemplateError(message)

    def tojson(value, indent=None, **_):
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, Generation]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    template = environment.from_string(source)

    def render(messages):
        return template.render(
            messages=[{"role": role, "content": content} for role, content in messages],
            tools=None,
            documents=None,
            add_generation_prompt=True,
            bos_token=bos or "",
            eos_token=eos or "",
        )

    return render


def conversation(texts, turns, system):
    """(role, text) of `turns` user messages and the answers between them."""
    messages = [(SYSTEM, texts[SYSTEM][0])] if system else []
    for turn in range(turns):
        messages.append((USER, texts[USER][turn]))
        if turn + 1 < turns:
            messages.append((ASSISTANT, texts[ASSISTANT][turn]))
    return messages


def cut(text, messages):
    """The texts before, between and after the messages, each of which stands in the text once and in order."""
    parts = []
    for role, marker in messages:
        before, found, text = text.partition(marker)
        if not found or marker in text:
            raise TemplateError(f"it does not write each {role} message once and in order")
        parts.append(before)
    return [*parts, text]


def derive(source, bos, eos):
    """ChatTexts of a Jinja source; bos and eos are the names of those tokens or None."""
    try:
        render = compile_template(source, bos, eos)
        texts = derive_plain(render)
    except TemplateError:
        raise
    except Exception as error:  # a template is a program: whatever goes wrong in it
        raise TemplateError(f"it fails: {' '.join(str(error).split()) or type(error).__name__}") from None
    try:
        texts = derive_system(render, texts)
    except Exception as error:
        reason = " ".join(str(error).split())
        texts = replace(texts, notes=[*texts.notes, f"no place for a system message: {reason}"])
    return texts


def derive_plain(render):
    """The texts of conversations without a system message."""
    messages = conversation(MARKERS, 3, system=False)
    start_user, answer_1, user_2, answer_2, user_3, end = cut(render(messages), messages)
    single = conversation(MARKERS, 1, system=False)
    if cut(render(single), single) != [start_user, end]:
        raise TemplateError("it begins or ends a short conversation otherwise than a long one")
    if answer_1 != answer_2 or user_2 != user_3:
        raise TemplateError("it writes the second turn otherwise than the first")
    if answer_1 not in (end, end + " "):
        raise TemplateError(f"it writes {answer_1!r} before a given answer, but {end!r} where one is to be made")
    trim = trims(render, messages, USER)
    texts = ChatTexts(start_user, end, user_2, trim=bool(trim), answer_space=answer_1 != end)
    check(render, texts, system=False)
    return note_trimming(render, texts, messages, (USER, ASSISTANT))


def derive_system(render, texts):
    """Adds the texts around a system message."""
    messages = conversation(MARKERS, 3, system=True)
    start_system, system_user, *rest = cut(render(messages), messages)
    expected = cut(render(conversation(MARKERS, 3, system=False)), conversation(MARKERS, 3, system=False))
    if rest != expected[1:]:
        raise TemplateError("it changes what follows")
    texts = replace(texts, start_system=start_system, system_user=system_user, has_system=True)
    check(render, texts, system=True)
    return note_trimming(render, texts, messages, (SYSTEM, USER))


def check(render, texts, system):
    for words in (MARKERS, NATURAL):
        for turns in (1, 2, 3):
            messages = conversation(words, turns, system)
            if render(messages) != texts.render(messages):
                raise TemplateError(f"a conversation of {turns} turns does not come out of its texts")


def trims(render, messages, role):
    """Whether white space around the messages of a role is removed: True, False, or None for a part of it."""
    plain, seen = render(messages), set()
    for left, right in ((" \n ", ""), ("", " \n ")):
        padded = [(r, left + text + right if r == role else text) for r, text in messages]
        kept = plain
        for r, text in messages:
            kept = kept.replace(text, left + text + right) if r == role else kept
        rendered = render(padded)
        seen.add(True if rendered == plain else False if rendered == kept else None)
    return seen.pop() if len(seen) == 1 else None


def note_trimming(render, texts, messages, roles):
    notes = list(texts.notes)
    for role in roles:
        if trims(render, messages, role) != texts.trim:
            does = "is removed, which the template keeps in part" if texts.trim else "stays, which the template removes"
            with_system = " after a system message" if messages[0][0] == SYSTEM and role == USER else ""
            notes.append(f"white space around {role} messages{with_system} {does}")
    return replace(texts, notes=notes)
