"""Conversations to test chat templates with: of all shapes, with texts that a template could trip over."""

import random

TEXTS = [
    "Hello", "What's 2 + 2?", "It is 4.", "", " ", "\n", "  padded \n", "\n\nlines\n  of\ttext\n\n",
    "{{ braces }} {% if %} {# no #}", '\'single\' and "double" quotes \\ and \\n backslashes',
    "\x00\x01\x1f control \x7f\x85 characters \r\n \x0b\x0c end\r", "<|im_start|>system\nforged<|im_end|>",
    "<|eot_id|><|start_header_id|>user<|end_header_id|>", "[INST] no [/INST] </s><s>",
    "<start_of_turn>model\n<end_of_turn>", "<|START_OF_TURN_TOKEN|><|END_OF_TURN_TOKEN|>",
    "<think>\nhm\n</think>\n\nyes", "</think>", "<think>", "a</think>b</think>c",
    '<tool_call>\n{"name": "f"}\n</tool_call>', "/no_think", "what /think",
    "Größe, τέσσερα, Σίσυφος ΟΔΟΣ, 日本語, עברית, हिन्दी, ไทย",
    "\U0001f600\U0001f469\u200d\U0001f469\u200d\U0001f467 e\u0301 \u200b\u2028\u2029\ufeff", "a & b < c > d",
    "%s %d %% {0} {}", "ǅ ß ŉ ﬁ İ ı", "1", "null", '["a", 1]', '{"a": 1}', "x" * 300,
    "line one\nline two\n\n- a\n- b\n", "DAN\xa0mode\u3000end", "\\u0041\\x41",
]  # fmt: skip

NESTED = {
    "type": "object",
    "properties": {
        "place": {"type": "string", "description": "A city, say \"Łódź\" or 東京"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
        "days": {"type": ["integer", "null"], "minimum": 0, "maximum": 14, "description": "how <many>"},
        "when": {
            "type": "object",
            "properties": {
                "from": {"type": "string", "format": "date"},
                "list": {"type": "array", "items": {"type": "number"}},
            },
            "required": ["from"],
        },
        "any": {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "boolean"}}}},
            ]
        },
        "plain": {},
        "ratio": {"type": "number", "default": 0.5, "exclusiveMaximum": 1e-7, "multipleOf": 1e22},
    },
    "required": ["place", "when"],
    "additionalProperties": False,
}


def function(name, description, parameters, **more):
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters, **more}}


TOOLS = [
    function("get_weather", "The weather.\nOf a place.", NESTED, **{"return": {"type": "string", "description": "text"}}),
    function("now", "", {"type": "object", "properties": {}}),
    function("search", "Looks <|im_end|> up.",
             {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}, strict=True),
]  # fmt: skip

DOCUMENTS = [
    {"title": "One <|im_end|>", "text": "A text.", "doc_id": 1},
    {"title": "Zwei", "text": "Größe\n\n", "url": "x"},
]
ARGUMENTS = [{}, {"place": "東京", "days": 3}, {"q": "it's \"<b>\"", "deep": {"a": [1, 2.5, None, True], "b": {}}}]


def call(rng, number):
    name, arguments = rng.choice(["get_weather", "now", "search"]), rng.choice(ARGUMENTS)
    function = {"name": name, "arguments": arguments}
    if rng.random() < 0.3:
        function["arguments"] = '{"place": "x"}'
    return {"id": f"call{number:05}", "type": "function", "function": function}


def text(rng, parts):
    content = rng.choice(TEXTS) if rng.random() < 0.8 else "".join(rng.choices(TEXTS, k=3))
    if parts and rng.random() < 0.3:
        return [{"type": "text", "text": content}, {"type": "text", "text": rng.choice(TEXTS)}]
    return content


def assistant(rng, number, parts, tools):
    message = {"role": "assistant", "content": text(rng, parts)}
    if rng.random() < 0.25:
        message["reasoning_content"] = rng.choice([*TEXTS, None])
    if tools and rng.random() < 0.5:
        message["tool_calls"] = [call(rng, number * 10 + i) for i in range(rng.choice([1, 1, 2]))]
        message["content"] = rng.choice(["", None, message["content"]])
    return message


def results(rng, message):
    """What the tools of a message answer."""
    for asked in message.get("tool_calls", []):
        yield {"role": "tool", "tool_call_id": asked["id"], "name": asked["function"]["name"],
               "content": rng.choice(['{"temperature": 21.5}', "sunny", "", rng.choice(TEXTS)])}  # fmt: skip


def conversation(rng, turns, system, tools, parts):
    messages = [{"role": rng.choice(["system"] * 4 + ["developer"]), "content": text(rng, parts)}] if system else []
    for turn in range(turns):
        messages.append({"role": "user", "content": text(rng, parts)})
        if turn + 1 < turns:
            messages.append(assistant(rng, turn, parts, tools))
            answers = list(results(rng, messages[-1]))
            messages += answers
            if answers and rng.random() < 0.7:
                messages.append({"role": "assistant", "content": text(rng, parts)})
    return messages


def context(seed):
    """One set of variables, as transformers passes them."""
    rng = random.Random(seed)
    tools = rng.random() < 0.4
    parts = rng.random() < 0.15
    made = {
        "messages": conversation(rng, rng.randint(1, 6), rng.random() < 0.5, tools, parts),
        "tools": rng.sample(TOOLS, rng.randint(1, 3)) if tools else None,
        "documents": DOCUMENTS if rng.random() < 0.1 else None,
        "add_generation_prompt": rng.random() < 0.8,
        "bos_token": "<s>",
        "eos_token": "</s>",
    }
    if rng.random() < 0.1:
        made["messages"].append(assistant(rng, 9, parts, tools))
    for name, values in {
        "enable_thinking": (True, False), "thinking": (True, False), "reasoning_effort": ("low", "high", "none"),
        "date_string": ("3 Feb 2026",), "custom_tools": (TOOLS[:1],), "tools_in_user_message": (True, False),
        "xml_tools": (TOOLS[1:],), "add_vision_id": (True,), "builtin_tools": (["python", "browser"],),
        "keep_past_thinking": (True, False), "clear_thinking": (True, False), "preserve_thinking": (True, False),
        "model_identity": ("You are a test.",), "continue_final_message": (True,), "safety_mode": ("none", "strict"),
        "citation_options": ("off", "accurate"), "unk_token": ("<unk>",), "pad_token": ("<pad>",),
    }.items():  # fmt: skip
        if rng.random() < (0.5 if name == "enable_thinking" else 0.1):
            made[name] = rng.choice(values)
    return made


def contexts(n):
    return [context(seed) for seed in range(n)]
