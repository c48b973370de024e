"""Which texts the program finds around a thought in chat templates, of all shapes that real ones have, and in real ones where
their files are; and that thinking can be switched off with each."""

import json

import native_models
import pytest
from conftest import DATA_DIR, run

pytest.importorskip("jinja2")
import jinja_oracle  # noqa: E402

MEMBER, EMPTY, CUT = "an answer with a thought", "the empty thought of a prompt without thinking", "earlier answers are cut"
NOTHING = "it writes no thoughts and cuts none out of earlier answers"
# What --info says of each real template, and what tells it: opening, closing text, variable; or why there is nothing.
REAL = {
    "Apertus-8B-Instruct": ("an answer in blocks", "<|inner_prefix|>", "<|inner_suffix|>", "enable_thinking"),
    "Apriel-1.6-15b-Thinker-fixed": (MEMBER, "Here are my reasoning steps:\n", "\n[BEGIN FINAL RESPONSE]\n", None),
    "Cohere2MoE": (MEMBER, "<|START_THINKING|>", "<|END_THINKING|><|START_TEXT|>", "reasoning"),
    "CohereForAI-c4ai-command-r-plus-tool_use": NOTHING,
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": (MEMBER, "<|START_THINKING|>", "<|END_THINKING|>", "enable_thinking"),
    "GLM-4.7-Flash": (MEMBER, "<think>", "</think>", "enable_thinking"),
    "GigaChat3-10B-A1.8B": NOTHING,
    "HuggingFaceTB-SmolLM3-3B": (EMPTY, "<think>\n", "\n</think>\n", "enable_thinking"),
    "Kimi-K2-Thinking": ("the empty thought of an earlier answer", "<think>", "</think>", None),
    "Kimi-K3": (MEMBER, "<|open|>think<|sep|>", "<|close|>think<|sep|><|open|>response<|sep|>", "thinking"),
    "LFM2-8B-A1B": NOTHING,
    "LFM2.5-8B-A1B": (MEMBER, "<think>", "</think>", None),
    "LFM2.5-Instruct": (CUT, "<think>\n", "\n</think>\n\n", None),
    "MiniMax-M1": NOTHING,  # although the model thinks
    "Mistral-Small-3.2-24B-Instruct-2506": NOTHING,
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": NOTHING,
    "Qwen-QwQ-32B": (EMPTY, "<think>\n", "</think>", "enable_thinking"),
    "Qwen-Qwen2.5-7B-Instruct": NOTHING,
    "Qwen-Qwen3-0.6B": (MEMBER, "<think>\n", "\n</think>\n\n", "enable_thinking"),
    "Reka-Edge": (MEMBER, "<think>\n", "\n</think>\n\n", "enable_thinking"),
    "Spark2.5": (MEMBER, "<think>", "</think>", "enable_thinking"),
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": (CUT, "<think>\n", "\n</think>\n\n", None),
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": (EMPTY, "<think>\n", "</think>", "enable_thinking"),
    "deepseek-ai-DeepSeek-V3.2": (MEMBER, "<think>", "</think>", "enable_thinking"),
    "fireworks-ai-llama-3-firefunction-v2": NOTHING,
    "google-gemma-2-2b-it": NOTHING,
    "google-gemma-4-31B-it": (EMPTY, "<|channel>thought\n", "<channel|>", "enable_thinking"),
    "ibm-granite-granite-3.3-2B-Instruct": ("its system message names the tags", "<think>\n", "\n</think>\n\n", "thinking"),
    "inclusionai-ling-3.0-flash": (MEMBER, "<think>", "</think>", "enable_thinking"),
    "llama-cpp-rwkv-world": (EMPTY, "<think>", "</think>", "enable_thinking"),
    "meetkai-functionary-medium-v3.1": NOTHING,
    "meta-llama-Llama-3.1-8B-Instruct": NOTHING,
    "meta-llama-Llama-3.3-70B-Instruct": NOTHING,
    "microsoft-Phi-3.5-mini-instruct": NOTHING,
    "mistralai-Mistral-Nemo-Instruct-2407": NOTHING,
    "moonshotai-Kimi-K2": NOTHING,
    "muse-glimmer": (MEMBER, " to=self<|message|>", "<|eom|><|start|>assistant to=user<|message|>", None),
    "openai-gpt-oss-120b": (
        MEMBER, "<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>", None),
    "tencent-Hy3": (MEMBER, "<think:opensource>", "</think:opensource>", "reasoning_effort"),
    "unsloth-mistral-Devstral-Small-2507": NOTHING,
    "upstage-Solar-Open-100B": (MEMBER, "<|think|>", "<|end|><|begin|>assistant<|content|>", "reasoning_effort"),
}  # fmt: skip

CHAT = "{%% for m in messages %%}<|%s|>{{ m.role }}: %s{%% endfor %%}{%% if add_generation_prompt %%}<|a|>%s{%% endif %%}"
EFFORT = "{% if effort == 'high' %}<think>{% elif effort == 'no_think' %}<think></think>{% endif %}"
SHAPES = {
    "an answer with reasoning_content": (
        CHAT % ("a", "{{ '<r>' ~ m.reasoning_content ~ '</r>' if m.reasoning_content }}{{ m.content }}", ""),
        ("assistant: <r>", "</r>", None)),
    "an answer in blocks": (
        CHAT % ("a", "{% if m.content is mapping %}{% for b in m.content.blocks %}{% if b.type == 'thoughts' %}<in>{{ b.text }}"
                "{% else %}<out>{{ b.text }}{% endif %}{% endfor %}{% else %}{{ m.content }}{% endif %}", "assistant: "),
        ("<in>", "<out>", None)),
    "an answer in parts": (
        CHAT % ("a", "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{% if p.type == 'thinking' %}"
                "[T]{{ p.thinking }}[/T]{% else %}{{ p.text }}{% endif %}{% endfor %}{% endif %}", "assistant: "),
        ("[T]", "[/T]", None)),
    "the empty thought of an earlier answer": (
        CHAT % ("a", "{{ '<think></think>' if m.role == 'assistant' }}{{ m.content }}", "assistant: "),
        ("<think>", "</think>", None)),
    "earlier answers are cut": (
        CHAT % ("a", "{{ m.content.split('</think>')[-1] }}", ""), ("<think>\n", "\n</think>\n\n", None)),
    "the empty thought of a prompt without thinking": (
        CHAT % ("a", "{{ m.content }}", "{{ '<think>\\n\\n</think>\\n' if enable_thinking is false }}"),
        ("<think>\n", "\n</think>\n", "enable_thinking")),
    "an effort": (
        "{% set effort = reasoning_effort or 'no_think' %}{{ raise_exception('!') if effort not in ['high', 'no_think'] }}"
        + CHAT % ("a", "{{ '<think>' ~ m.reasoning_content ~ '</think>' if m.reasoning_content }}{{ m.content }}",
                  "assistant: " + EFFORT),
        ("<think>", "</think>", "reasoning_effort")),
    "an effort that only the system message has": (
        "Effort: {{ reasoning_effort }}" + CHAT % ("a", "{{ m.reasoning }}<b>{{ m.content }}", ""),
        ("assistant: ", "<b>", None)),
    "a system message that names the tags": (
        "{{ 'Think between <think></think>.' if thinking }}" + CHAT % ("a", "{{ m.content }}", ""),
        ("<think>\n", "\n</think>\n\n", "thinking")),
    "none": (CHAT % ("a", "{{ m.content }}", ""), None),
    "a tool that thinks": ("{% for t in tools or [] %}{{ t.thinking }}{% endfor %}" + CHAT % ("a", "{{ m.content }}", ""), None),
}  # fmt: skip


def open_model(path, source):
    path.write_bytes(native_models.chatting(source, ["<s>", "</s>"], []).pack())
    return path


def found(model):
    texts = run(model, "--info", "--json").ok().json["thinking"]
    return texts and (texts["open"], texts["close"], texts["variable"])


def prompt(model, *options):
    """The text of a chat's prompt."""
    listed = run(model, "--tokenize", "--chat", "--json", "-i", "Q", "--date", "2026-02-03", *options).ok().out
    return b"".join(bytes(json.loads(line)["bytes"]) for line in listed.splitlines()).decode()


def check_prompts(model, source, variable):
    """Prompts are what jinja2 makes of the template, thinking or not."""
    given = {"messages": [{"role": "user", "content": "Q"}], "tools": None, "documents": None, "add_generation_prompt": True,
             "bos_token": "<s>", "eos_token": "</s>"}  # fmt: skip
    words = ("high", "no_think" if "no_think" in source else "minimal") if variable == "reasoning_effort" else (True, False)
    for options, value in (((), None), (("--think", "on"), words[0]), (("--think", "off"), words[1])):
        if not options or variable:
            expected = jinja_oracle.expected(source, given | ({variable: value} if options else {}))
            if expected.kind == "text":
                assert prompt(model, *options) == expected.text, options


def check_switch(model, texts):
    """Without thinking a prompt ends outside of a thought; with it, not behind an empty one."""
    start, end = (text.strip() for text in texts[:2])
    default, on, off = (prompt(model, *options).strip() for options in ((), ("--think", "on"), ("--think", "off")))
    assert not off.endswith(start), off
    assert not on.endswith(end), on
    if texts[2]:
        assert on != off, on
    else:
        assert on == default and off.endswith(end), (on, default, off)


@pytest.mark.parametrize("shape", SHAPES)
def test_thoughts_are_found_in_templates_of_each_shape(tmp_path, shape):
    source, expected = SHAPES[shape]
    model = open_model(tmp_path / "m.bin", source)
    assert found(model) == expected
    check_prompts(model, source, expected and expected[2])
    if expected:
        check_switch(model, expected)


def test_the_table_has_all_real_templates():
    names = {path.stem for path in (DATA_DIR / "templates").glob("*.jinja")}
    if not names:
        pytest.skip(f"{DATA_DIR / 'templates'} is absent")
    assert names == set(REAL)


@pytest.mark.parametrize("name", REAL)
def test_thoughts_are_found_in_real_templates(tmp_path, name):
    path = DATA_DIR / "templates" / f"{name}.jinja"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    source = path.read_text(encoding="utf-8")
    model = open_model(tmp_path / "m.bin", source)
    expected = None if REAL[name] is NOTHING else REAL[name][1:]
    assert found(model) == expected
    check_prompts(model, source, expected and expected[2])
    if expected:
        check_switch(model, expected)
