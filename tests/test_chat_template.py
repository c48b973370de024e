"""scripts/chat_template.py: from Jinja templates to the five texts around messages. The templates below were written for
this test, in the shapes of well-known models' templates."""

import struct
import sys

import pytest
from conftest import ROOT, run

sys.path.insert(0, str(ROOT / "scripts"))
import chat_template  # noqa: E402

import sources  # noqa: E402

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# With a system message of its own where none is given, as SmolLM2 and Qwen 2 have.
CHATML_DEFAULT = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe good.<|im_end|>\n{% endif %}" + CHATML
LLAMA2 = """\
{% if messages[0]['role'] == 'system' %}{% set first = 1 %}{% set system = messages[0]['content'] %}
{% else %}{% set first = 0 %}{% set system = none %}{% endif %}
{% for message in messages[first:] %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('roles must alternate') }}
    {% endif %}
    {% if loop.first and system is not none %}
        {% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + message['content'] %}
    {% else %}
        {% set content = message['content'] %}
    {% endif %}
    {% if message['role'] == 'user' %}
        {{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
    {% elif message['role'] == 'assistant' %}
        {{ ' ' + content.strip() + ' ' + eos_token }}
    {% endif %}
{% endfor %}"""
LLAMA2 = "".join(line.strip() for line in LLAMA2.splitlines())
LLAMA3 = """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}{%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}{%- set date_string = "26 Jul 2024" %}{%- endif %}
{%- endif %}
{%- if messages[0].role == 'system' %}
    {%- set system = messages[0].content | trim %}{%- set rest = messages[1:] %}
{%- else %}
    {%- set system = "" %}{%- set rest = messages %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "\\n\\n" + system + "<|eot_id|>" }}
{%- for message in rest %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"""
ZEPHYR = """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n' + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""
# The first Mistral's: no system message.
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
# A later Mistral's: the system message stands before the last user's.
MISTRAL_LAST = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set rest = messages[1:] %}"
    "{% else %}{% set rest = messages %}{% endif %}{{ bos_token }}{% for message in rest %}"
    "{% if message.role == 'user' %}[INST] {% if loop.last and system is defined %}{{ system + '\n\n' }}{% endif %}"
    "{{ message.content }}[/INST]{% else %} {{ message.content }}{{ eos_token }}{% endif %}{% endfor %}"
)


def derive(source):
    return chat_template.derive(source, "<s>", "</s>")


def texts(t):
    return t.start_user, t.start_system, t.system_user, t.user_assistant, t.assistant_user


def test_chatml():
    t = derive(CHATML)
    user, end = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
    assert texts(t) == (user, "<|im_start|>system\n", "<|im_end|>\n" + user, end, "<|im_end|>\n" + user)
    assert (t.trim, t.has_system, t.answer_space, t.notes) == (False, True, False, [])


def test_a_default_system_message_is_part_of_the_start():
    t = derive(CHATML_DEFAULT)
    assert t.start_user == "<|im_start|>system\nBe good.<|im_end|>\n<|im_start|>user\n"
    assert t.start_system == "<|im_start|>system\n" and t.has_system


def test_llama_2():
    t = derive(LLAMA2)
    assert texts(t) == ("<s>[INST] ", "<s>[INST] <<SYS>>\n", "\n<</SYS>>\n\n", " [/INST]", " </s><s>[INST] ")
    assert (t.trim, t.has_system, t.answer_space) == (True, True, True)
    assert any("system" in note for note in t.notes), "its system messages keep their white space"


def test_llama_3_takes_its_fixed_date():
    t = derive(LLAMA3)
    header = "<s><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n"
    user = "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
    assistant = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    assert texts(t) == (header + user, header, user, assistant, user)
    assert (t.trim, t.has_system, t.answer_space, t.notes) == (True, True, False, [])


def test_zephyr():
    t = derive(ZEPHYR)
    user, assistant = "<|user|>\n", "</s>\n<|assistant|>\n"
    assert texts(t) == (user, "<|system|>\n", "</s>\n" + user, assistant, "</s>\n" + user)
    assert (t.trim, t.has_system, t.answer_space) == (False, True, False)


def test_mistral_has_no_system_message():
    t = derive(MISTRAL)
    assert (t.start_user, t.user_assistant, t.assistant_user) == ("<s>[INST] ", " [/INST]", "</s>[INST] ")
    assert not t.has_system and "roles must alternate" in " ".join(t.notes)


def test_a_system_message_in_another_place_is_left_out_and_noted():
    t = derive(MISTRAL_LAST)
    assert (t.start_user, t.user_assistant, t.answer_space) == ("<s>[INST] ", "[/INST]", True)
    assert not t.has_system and "system message" in " ".join(t.notes)


@pytest.mark.parametrize(
    "reason, source",
    [
        ("second turn", "{% for m in messages %}{{ loop.index }}: {{ m.content }}\n{% endfor %}"),
        ("once and in order", "{% for m in messages %}{{ m.content | upper }}\n{% endfor %}"),
        ("once and in order", "{% for m in messages | reverse %}{{ m.content }}\n{% endfor %}"),
        ("once and in order", "{% for m in messages %}{{ m.content }} {{ m.content }}\n{% endfor %}"),
        ("once and in order", "{{ messages[-1].content }}"),
        ("begins or ends", "{{ messages | length }}{% for m in messages %}|{{ m.content }}{% endfor %}"),
        ("before an earlier answer", CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")),
        ("differs from what the five texts predict", CHATML.replace("message.content", "message.content | replace('\n', ' ')")),
        ("strftime_now", "{{ strftime_now('%Y') }}" + CHATML),
        ("no way", "{{ raise_exception('no way') }}"),
        ("it fails", "{% for m in messages %}"),
        ("it fails", "{{ ''.__class__.__mro__ }}" + CHATML),
    ],
)
def test_what_cannot_be_represented_is_refused_with_the_reason(reason, source):
    with pytest.raises(chat_template.TemplateError, match=reason):
        derive(source)


def test_the_section_has_flags_and_five_texts():
    section = derive(LLAMA2).section()
    assert struct.unpack_from("<I", section) == (7,)
    at, found = 4, []
    while at < len(section):
        (size,) = struct.unpack_from("<I", section, at)
        found.append(section[at + 4 : at + 4 + size].decode("utf-8"))
        at += 4 + size
    assert tuple(found) == texts(derive(LLAMA2))


def chat_model(tmp_path, template):
    """A tiny checkpoint with this template, and what its conversion said."""
    from test_convert import convert

    folder = sources.write_folder(
        tmp_path / "m", {**sources.LLAMA, "max_position_embeddings": 512}, chat_template=template
    )
    done = convert(folder, tmp_path / "m.bin").ok()
    return tmp_path / "m.bin", done.err


def prompt_tokens(model, *options):
    done = run(model, "--chat", "-n", "1", "-t", "0", "--json", "-q", *options).ok()
    return done.json["prompt_tokens"]


@pytest.mark.parametrize("template", [CHATML, CHATML_DEFAULT, ZEPHYR, LLAMA3.replace("bos_token", "''"), MISTRAL])
def test_the_program_writes_what_the_template_writes(tmp_path, template):
    """One token a byte, except for the names of the two special tokens."""
    model, _ = chat_model(tmp_path, template)
    render = chat_template.compile_template(template, "<|im_start|>", "<|im_end|>")

    def count(messages):
        text = render(messages).replace("<|im_start|>", "B").replace("<|im_end|>", "E")
        return len(text.encode("utf-8"))

    assert prompt_tokens(model, "-i", "Hi there") == count([("user", "Hi there")])
    if template is not MISTRAL:
        messages = [("system", "Be kind."), ("user", "Hi")]
        assert prompt_tokens(model, "-i", "Hi", "-y", "Be kind.") == count(messages)
    # A message cannot forge a turn: the name of a special token in it is text, as many tokens as bytes.
    forged = prompt_tokens(model, "-i", "<|im_end|>") - prompt_tokens(model, "-i", "")
    assert forged == len("<|im_end|>")


def test_a_template_that_cannot_be_represented_gives_no_chat_section(tmp_path):
    import native

    model, said = chat_model(tmp_path, "{{ messages[-1].content }}")
    assert "chat" in said and "once and in order" in said
    assert "chat" not in native.Native(model).sections
    done = run(model, "--chat", "-i", "Hi")
    assert done.code == 3 and "chat template" in done.err
