"""Turns a model's Jinja chat template into the five texts that it writes around messages (docs/format.md, text/chat.h).

The template is rendered with markers for messages; what it writes between the markers is literal text. Conversations
of one to three turns, with and without a system message, must then come out as the five texts predict. A template that
does anything else with its messages cannot be represented and is refused with the reason. If only its system messages
are the problem, it is kept without them.

Today's date is not passed in: a template that asks for it uses its fixed default, or fails.
"""

import json
import struct
from dataclasses import dataclass, field, replace

import jinja2
import jinja2.ext
import jinja2.sandbox

TRIM, HAS_SYSTEM, ANSWER_SPACE = 1, 2, 4  # flags
SYSTEM, USER, ASSISTANT = "system", "user", "assistant"

# No template contains these texts or changes them.
MARKERS = {SYSTEM: ["SystemMarkerA"], USER: ["UserMarkerA", "UserMarkerB", "UserMarkerC"],
           ASSISTANT: ["AnswerMarkerA", "AnswerMarkerB"]}  # fmt: skip
# Messages as users write them: several lines, quotes, digits, other scripts, words that templates look for.
NATURAL = {
    SYSTEM: ["You answer in one sentence.\nBe kind."],
    USER: ["What's 2 + 2?", 'And in Greek, "τέσσερα"?\n\n1. so\n2. or so', "Thanks {{ user }} & [bye]"],
    ASSISTANT: ["It is 4.", "Ναί.\n\tTool: none"],
}


class TemplateError(Exception):
    """Why a template cannot be represented."""


@dataclass(frozen=True)
class ChatTexts:
    """The five texts and the flags. notes: where the template differs in minor ways, one message each."""

    start_user: str
    user_assistant: str
    assistant_user: str
    start_system: str = ""
    system_user: str = ""
    trim: bool = False
    has_system: bool = False
    answer_space: bool = False  # earlier answers get a space before them; the model writes its own
    notes: list = field(default_factory=list)

    def section(self):
        flags = TRIM * self.trim | HAS_SYSTEM * self.has_system | ANSWER_SPACE * self.answer_space
        texts = [self.start_user, self.start_system, self.system_user, self.user_assistant, self.assistant_user]
        encoded = [text.encode("utf-8") for text in texts]
        return struct.pack("<I", flags) + b"".join(struct.pack("<I", len(text)) + text for text in encoded)

    def render(self, messages):
        """What text/chat.c makes of a conversation."""
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
    """A function from messages to text, with the environment that transformers gives a template."""

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
    """The texts before, between and after the messages. Each message must occur in the text once, in order."""
    parts = []
    for role, marker in messages:
        before, found, text = text.partition(marker)
        if not found or marker in text:
            raise TemplateError(f"it does not write each {role} message once and in order")
        parts.append(before)
    return [*parts, text]


def derive(source, bos, eos):
    """ChatTexts of a Jinja source; bos and eos are the names of those tokens, or None."""
    try:
        render = compile_template(source, bos, eos)
        texts = derive_plain(render)
    except TemplateError:
        raise
    except Exception as error:  # a template is a program and can fail in any way
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
        raise TemplateError("it begins or ends a short conversation differently from a long one")
    if answer_1 != answer_2 or user_2 != user_3:
        raise TemplateError("it writes the second turn differently from the first")
    if answer_1 not in (end, end + " "):
        raise TemplateError(f"it writes {answer_1!r} before an earlier answer, but {end!r} before the one to be generated")
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
        raise TemplateError("it changes what follows the system message")
    texts = replace(texts, start_system=start_system, system_user=system_user, has_system=True)
    check(render, texts, system=True)
    return note_trimming(render, texts, messages, (SYSTEM, USER))


def check(render, texts, system):
    for words in (MARKERS, NATURAL):
        for turns in (1, 2, 3):
            messages = conversation(words, turns, system)
            if render(messages) != texts.render(messages):
                raise TemplateError(f"a conversation of {turns} turns differs from what the five texts predict")


def trims(render, messages, role):
    """Whether white space around the messages of a role is removed: True, False, or None if only some of it is."""
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
            does = "is removed, but the template keeps some of it" if texts.trim else "is kept, but the template removes it"
            with_system = " after a system message" if messages[0][0] == SYSTEM and role == USER else ""
            notes.append(f"white space around {role} messages{with_system} {does}")
    return replace(texts, notes=notes)
