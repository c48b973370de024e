"""Constrained answers in batches: response_format, structured_outputs, guided_* and the options of the command line. A
test's name is the promise that it pins."""

import json
import random
import re

import native_models
import pytest
from conftest import EXECUTABLE, SANITIZED, Model, assert_refused, run
from test_batch import batch, peak_memory, results_bytes, text_of, write_lines
from test_cli_constraint import PERSON, SCHEMAS, TREE

jsonschema = pytest.importorskip("jsonschema")

PROMPT = "Once upon a time there was"
WORDS = r"(there|once) was (a|the) [a-z]{3,9}\."


def json_schema(schema, **more):
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, **more}}}


def forms(schema):
    """The ways to ask for JSON valid against a schema."""
    return [json_schema(schema), json_schema(schema, strict=True), json_schema(schema, strict=False, description="a"),
            {"structured_outputs": {"json": schema}}, {"structured_outputs": {"json": json.dumps(schema), "regex": None}},
            {"guided_json": schema}, {"guided_json": json.dumps(schema), "guided_decoding_backend": "auto"}]  # fmt: skip


def lines_of(bodies, **more):
    """Requests, every other one in OpenAI's form."""
    lines = []
    for i, body in enumerate(bodies):
        body = {"prompt": PROMPT, "max_tokens": 60, "temperature": 1.2, **more, **body}
        lines.append(json.dumps(body if i % 2 else {"custom_id": f"c{i}", "url": "/v1/completions", "body": body}))
    return lines


def test_all_ways_to_ask_for_a_schema_give_valid_answers(stories, tmp_path):
    schemas = [s for s in SCHEMAS for _ in forms(s)]
    path = write_lines(tmp_path / "q", lines_of([form for s in SCHEMAS for form in forms(s)]))
    for schema, result in zip(schemas, batch(stories, path), strict=True):
        jsonschema.Draft202012Validator(schema).validate(json.loads(text_of(result)))


def test_objects_and_regular_expressions(stories, tmp_path):
    objects = [{"response_format": {"type": "json_object"}}, {"guided_json_object": True}, {"structured_outputs": {"json_object": True}}]
    matches = [{"guided_regex": WORDS}, {"structured_outputs": {"regex": WORDS, "choice": None}}]
    texts = [text_of(r) for r in batch(stories, write_lines(tmp_path / "q", lines_of(objects + matches)))]
    assert all(isinstance(json.loads(t), dict) for t in texts[:3]), texts
    assert all(re.fullmatch(WORDS, t) for t in texts[3:]), texts


def test_forced_tokens_have_the_log_probabilities_of_the_command_line(stories, tmp_path):
    schemas = [PERSON, TREE, {"const": {"once": "upon a time"}}]
    lines = [json.dumps({"prompt": PROMPT, "guided_json": s, "logprobs": 2, "temperature": 0, "max_tokens": 60}) for s in schemas * 8]
    for schema, result in zip(schemas * 8, batch(stories, write_lines(tmp_path / "q", lines))):
        alone = stories.generate("-i", PROMPT, "--json-schema", json.dumps(schema), "--json", "--logprobs", 2, "-t", 0, "-n", 60).ok().json
        assert result["logprobs"] == alone["logprobs"] and len(alone["logprobs"]) == alone["completion_tokens"]


@pytest.fixture(scope="module")
def mixed():
    """Requests with and without constraints, of which several have the same."""
    bodies = [forms(SCHEMAS[i % len(SCHEMAS)])[i % 7] | ({"n": 3} if i % 5 == 0 else {}) for i in range(20)]
    bodies += [{"guided_regex": WORDS}, {}, {"response_format": {"type": "text"}}, {"guided_json": TREE, "logprobs": 2}] * 3
    return lines_of(bodies)


@pytest.mark.parametrize("more", [["--parallel", "1"], ["--parallel", "7"], ["-j", "1"], ["--lookup", "0"], ["--simd", "scalar"]])
def test_nothing_that_never_changes_a_text_changes_a_constrained_one(stories, tmp_path, mixed, more):
    path = write_lines(tmp_path / "q", mixed)
    assert results_bytes(stories, path, tmp_path / "a") == results_bytes(stories, path, tmp_path / "b", *more)


def test_a_restart_gives_the_same_bytes(stories, tmp_path, mixed):
    path, out = write_lines(tmp_path / "q", mixed), tmp_path / "a"
    whole = results_bytes(stories, path, out)
    for cut in (1, len(whole) // 3, len(whole) - 2):
        out.write_bytes(whole[:cut])
        assert results_bytes(stories, path, out, "--resume") == whole


def test_the_command_line_reproduces_a_text(stories, tmp_path):
    path = write_lines(tmp_path / "q", lines_of([{"guided_json": PERSON}, {"guided_regex": WORDS}], seed=11))
    texts = [text_of(r) for r in batch(stories, path)]
    for text, option in zip(texts, (["--json-schema", json.dumps(PERSON)], ["--regex", WORDS])):
        done = run(*stories, "-i", PROMPT, "--no-echo", "-n", 60, "-t", "1.2", "-s", 11, *option).ok()
        assert done.out == text + "\n"


def test_choices_share_a_constraint_and_differ(stories, tmp_path):
    path = write_lines(tmp_path / "q", [json.dumps({"prompt": PROMPT, "n": 8, "guided_json": PERSON, "max_tokens": 80})])
    (result,) = batch(stories, path)
    texts = [c["text"] for c in result["choices"]]
    for text in texts:
        jsonschema.Draft202012Validator(PERSON).validate(json.loads(text))
    assert len(set(texts)) > 4, texts


def test_the_command_lines_constraint_is_that_of_requests_without_one(stories, tmp_path):
    schema = tmp_path / "person.json"
    schema.write_text(json.dumps(PERSON))
    path = write_lines(tmp_path / "q", lines_of([{}, {"guided_regex": WORDS}, {"response_format": {"type": "text"}}]))
    person, words, free = (text_of(r) for r in batch(stories, path, "--json-schema", schema))
    jsonschema.Draft202012Validator(PERSON).validate(json.loads(person))
    assert re.fullmatch(WORDS, words)
    assert free == text_of(batch(stories, path)[2])
    lines = write_lines(tmp_path / "l", [PROMPT, PROMPT])
    assert all(re.fullmatch(WORDS, text_of(r)) for r in batch(stories, lines, "--lines", "--regex", WORDS))


def test_results_made_under_another_constraint_are_not_resumed(stories, tmp_path):
    path, out, schema = write_lines(tmp_path / "q", lines_of([{}, {}])), tmp_path / "a", tmp_path / "s.json"
    schema.write_text('{"type": "boolean"}')
    results_bytes(stories, path, out, "--json-schema", schema)
    results_bytes(stories, path, out, "--json-schema", '{"type": "boolean"}', "--resume")  # where it is does not matter
    schema.write_text('{"type": "null"}')
    for options in (["--json-schema", schema], ["--regex", "true"], []):
        assert_refused(run(*stories, "-b", path, "-o", out, "--resume", *options), 3, "line 1 is not the result")


def test_unknown_keywords_are_noted_once(stories, tmp_path):
    schema = {"type": "boolean", "colour": "red"}
    path = write_lines(tmp_path / "q", lines_of([{"guided_json": {"type": "null"}}, *[{"guided_json": schema}] * 5]))
    done = run(*stories, "-b", path).ok()
    assert done.err.count("colour") == 1 and "line 2" in done.err, done
    assert run(*stories, "-b", path, "-q").ok().err == ""


def many_schemas():
    """2,000 different schemas, of which the first 20 take about 21 MB each to compile (under sanitizers, much less)."""
    r = random.Random(3)
    word = lambda size: "".join(r.choice("abcdefghijklmnop") for _ in range(size))  # noqa: E731
    large = [{"enum": [word(60) for _ in range(60 if SANITIZED else 6000)]} for _ in range(20)]
    return [*large, *({"enum": [word(3), word(3), i]} for i in range(1980))]


def test_two_thousand_schemas_take_bounded_memory_and_give_the_same_texts_in_any_order(stories, tmp_path):
    lines = [json.dumps({"id": str(i), "prompt": "a", "seed": i, "max_tokens": 150, "guided_json": schema})
             for i, schema in enumerate(many_schemas())]  # fmt: skip
    texts = {}
    for order in (lines, lines[::-1]):
        out = tmp_path / f"r{len(texts)}"
        path = write_lines(tmp_path / f"q{len(texts)}", order)
        code, peak = peak_memory([EXECUTABLE, *stories, "-b", path, "-o", out, "-q", "--parallel", 4, "-j", 1])
        assert code == 0
        assert SANITIZED or peak < 340 << 20, f"{peak >> 20} MB"  # 256 MB for constraints
        for result in map(json.loads, out.read_text().splitlines()):
            texts.setdefault(result["id"], set()).add(result["text"])
    assert len(texts) == len(lines)
    assert not {i: t for i, t in texts.items() if len(t) != 1}
    assert all(json.loads(*texts[str(i)]) in schema["enum"] for i, schema in enumerate(many_schemas()))


REFUSED = [
    ({"guided_json": {"type": "object", "properties": {"a": {"uniqueItems": True}}}}, ["guided_json", "#/properties/a/uniqueItems"]),
    (json_schema({"type": "string", "enum": [1]}), ["response_format.json_schema.schema", "no value is valid"]),
    ({"response_format": {"type": "json_schema"}}, ["response_format.json_schema is missing"]),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, ["response_format.json_schema.schema is missing"]),
    (json_schema([1]), ["response_format.json_schema.schema", "a JSON schema"]),
    (json_schema(PERSON, strcit=True), ["response_format.json_schema.strcit"]),
    ({"response_format": {"type": "json_object", "schema": PERSON}}, ["response_format.schema"]),
    ({"response_format": {"type": "grammar"}}, ["response_format.type", "json_schema"]),
    ({"response_format": {"json_schema": PERSON}}, ["response_format"]),
    ({"guided_regex": "a(?=b)"}, ["guided_regex", "lookaround"]),
    ({"guided_regex": 7}, ["guided_regex", "a string"]),
    ({"guided_regex": "a\0"}, ["guided_regex", "NUL"]),
    ({"guided_json": "{"}, ["guided_json", "byte 1"]),
    ({"guided_json_object": "yes"}, ["guided_json_object", "true or false"]),
    ({"structured_outputs": "json"}, ["structured_outputs", "an object"]),
    ({"structured_outputs": {"grammar": "root ::= a"}}, ["structured_outputs.grammar"]),
    ({"guided_json": PERSON, "guided_regex": "a"}, ["guided_regex", "only one constraint", "guided_json"]),
    ({"guided_json": PERSON, "structured_outputs": {"regex": "a"}}, ["structured_outputs.regex", "only one constraint"]),
    ({"guided_json": PERSON, "stop": "a"}, ["stop", "not with a constraint (guided_json)"]),
    ({"guided_json": PERSON, "min_tokens": 2}, ["min_tokens", "not with a constraint"]),
    ({"guided_json": PERSON, "ignore_eos": True}, ["ignore_eos", "not with a constraint"]),
    ({"guided_json": PERSON, "include_stop_str_in_output": True}, ["include_stop_str_in_output", "not with a constraint"]),
    ({"guided_json": PERSON, "max_tokens": 3}, ["shortest text", "3 new tokens"]),
]


def test_what_is_wrong_is_the_error_of_its_request_alone(stories, tmp_path):
    bodies = [body for bad, _ in REFUSED for body in ({"guided_json": PERSON}, bad, bad)]
    results = batch(stories, write_lines(tmp_path / "q", lines_of(bodies)), code=1)
    for i, (_, names) in enumerate(REFUSED):
        assert json.loads(text_of(results[3 * i]))
        for result in results[3 * i + 1 : 3 * i + 3]:
            missing = [n for n in names if n not in result["error"]["message"]]
            assert not missing, f"{missing} in {result['error']['message']}"


def test_a_command_line_that_cannot_be_enforced_is_refused_before_anything_is_read(stories, tmp_path):
    out = tmp_path / "out"
    for options, code, names in ((["--regex", "a(?=b)"], 2, ["--regex", "lookaround"]),
                                 (["--json-schema", '{"uniqueItems": true}'], 2, ["--json-schema", "#/uniqueItems"]),
                                 (["--json-object", "--stop", "a"], 2, ["--stop", "not with a constraint"])):  # fmt: skip
        assert_refused(run(*stories, "-b", "missing", "-o", out, *options), code, *names)
    assert not out.exists()


def test_echo_is_refused_where_the_command_line_makes_a_chat(tmp_path):
    path = tmp_path / "m.bin"
    path.write_bytes(native_models.tiny(chat=True).pack())
    lines = write_lines(tmp_path / "q", ['{"prompt": "a", "echo": true}', '{"prompt": "a", "echo": false}'])
    bad, good = batch(Model(path), lines, "--chat", "-n", 2, code=1)
    assert "echo" in bad["error"]["message"] and "chat" in bad["error"]["message"] and "text" in good
