"""Constrained answers at the command line: what is printed satisfies the constraint, whatever the temperature, and closes
within -n; nothing that never changes a text changes these."""

import json
import re

import numpy as np
import pytest
from conftest import assert_refused, logits, run

jsonschema = pytest.importorskip("jsonschema")

PERSON = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 1,
          "maximum": 99}, "tags": {"type": "array", "items": {"enum": ["red", "blue"]}, "maxItems": 3}},
          "required": ["name", "age"], "additionalProperties": False}  # fmt: skip
TREE = {"$defs": {"node": {"type": "object", "properties": {"word": {"type": "string", "pattern": "^[a-z]{1,8}$"}, "children": {"type":
        "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2}}, "required": ["word"]}}, "$ref": "#/$defs/node"}  # fmt: skip
SCHEMAS = [PERSON, TREE, {"type": "array", "items": {"type": "number"}, "minItems": 2}, {"enum": [1, "two", None, [3]]},
           {"anyOf": [{"type": "object", "properties": {"kind": {"const": k}, k: {"type": "boolean"}}, "required": ["kind", k]}
                      for k in ("a", "b")]}]  # fmt: skip


def answer(stories, *args, **options):
    return stories.generate("-i", "Once upon a time there was", "--json", "--no-echo", "-s", "5", *args, **options).ok()


@pytest.mark.parametrize("temperature", ["0", "0.7", "1.5"])
@pytest.mark.parametrize("n", ["60", "200"])
def test_answers_are_valid_and_close_within_the_tokens(stories, temperature, n):
    for schema in SCHEMAS:
        for seed in range(4):
            done = json.loads(answer(stories, "--json-schema", json.dumps(schema), "-t", temperature, "-s", str(seed), "-n", n).out)
            value = json.loads(done["text"])
            jsonschema.Draft202012Validator(schema).validate(value)
            assert done["finish_reason"] == "stop" and done["completion_tokens"] <= int(n), done


def test_the_shortest_text_fits_exactly_and_one_token_less_is_refused(stories):
    schema = json.dumps({"type": "array", "items": {"type": "null"}, "minItems": 2})  # [null, null]
    for seed in range(5):
        done = json.loads(answer(stories, "--json-schema", schema, "-n", "12", "-t", "1.5", "-s", str(seed)).out)
        assert done["text"] == "[null, null]", done
    done = stories.generate("-i", "Once", "--json-schema", schema, "-n", "11")
    assert_refused(done, 3, "12 bytes", "11 new tokens")


def test_a_regular_expression_is_matched_from_start_to_end(stories):
    for seed in range(8):
        text = json.loads(answer(stories, "--regex", r"(there|once) was (a|the) [a-z]{3,9}\.", "-s", str(seed)).out)["text"]
        assert re.fullmatch(r"(there|once) was (a|the) [a-z]{3,9}\.", text), text


def test_an_object_is_one_whatever_it_has(stories):
    for seed in range(6):
        text = json.loads(answer(stories, "--json-object", "-s", str(seed), "-n", "80").out)["text"]
        assert isinstance(json.loads(text), dict), text


def test_nothing_that_never_changes_a_text_changes_a_constrained_one(stories):
    args = ["--json-schema", json.dumps(PERSON), "-t", "1", "-n", "90"]
    expected = json.loads(answer(stories, *args).out)["text"]
    for more in (["--lookup", "0"], ["-j", "1"], ["--chunk", "3"], ["--simd", "scalar"]):
        found = json.loads(answer(stories, *args, *more).out)["text"]
        assert found == expected, more


def test_a_draw_that_the_constraint_allows_is_that_of_free_text(stories):
    free = stories.generate("-i", "Once upon a time", "--no-echo", "-s", "9", "-n", "30", "-t", "0.8").ok().out
    bound = stories.generate("-i", "Once upon a time", "--no-echo", "-s", "9", "-n", "30", "-t", "0.8", "--regex", "(?s).*").ok().out
    assert bound == free


def cuts(stories, *args):
    """The tokens of the answers of several seeds at a temperature at which hardly two have the same."""
    dones = [json.loads(answer(stories, *args, "--logprobs", "0", "-t", "9", "-s", seed).out) for seed in range(8)]
    return [[e["token"].replace("▁", " ") for e in done["logprobs"]] for done in dones]


def test_what_has_to_come_next_is_forced(stories):
    const = cuts(stories, "--json-schema", '{"const": {"once": "upon a time"}}')
    assert const == const[:1] * 8 and "".join(const[0]) == '{"once": "upon a time"}', const
    assert len({tuple(tokens) for tokens in cuts(stories, "--json-schema", json.dumps(PERSON), "-n", "40")}) == 8


def test_a_token_that_a_longer_one_could_replace_is_not_forced(stories):
    for regex in (" the(re|n) was", " the[rn]"):
        assert len({tokens[0] for tokens in cuts(stories, "--regex", regex)}) > 1, regex
    assert {tokens[0] for tokens in cuts(stories, "--regex", " there")} == {" there"}


CONSTRAINTS = [
    ["--json-schema", '{"const": {"once": "upon a time", "ends": "forced"}}'],  # from the first token to the last
    ["--json-schema", json.dumps(PERSON)],
    ["--regex", "(a|b), and there was a little (girl|boy) named Lily"],
    ["--regex", "(?s).{20} and then they lived"],
    ["--choice", " girl named Lily"],
]


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=lambda c: c[1][:20])
def test_forced_tokens_have_the_log_probabilities_of_the_model(stories, constraint):
    prompt = "Once upon a time there was"
    ids = [int(i) for i in stories.generate("-i", prompt, "--tokenize").ok().out.split()]
    for options in ([], ["--lookup", "0"], ["--chunk", "1"], ["-n", "60"]):
        done = json.loads(answer(stories, *constraint, "--logprobs", "2", *options).out)
        found = [e["id"] for e in done["logprobs"]]
        rows = logits(stories.path, ids + found[:-1], "--kv", "f16", vocab_size=1024).astype(np.float64)[len(ids) - 1 :]
        rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
        assert len(found) == done["completion_tokens"] > 1
        np.testing.assert_allclose([e["logprob"] for e in done["logprobs"]], rows[np.arange(len(found)), found], atol=2e-6)
        np.testing.assert_allclose([e["top"][0]["logprob"] for e in done["logprobs"]], rows.max(axis=1), atol=2e-6)


def test_forced_tokens_leave_the_generator_where_free_text_does(stories):
    equal = 0
    for seed in range(6):
        args = ["-i", "Once upon a time", "--no-echo", "-n", "90", "-t", "0.8", "-s", str(seed)]
        free = stories.generate(*args).ok().out.rstrip("\n")
        begin = free[: free.index(" ", 30)]
        equal += stories.generate(*args, "--regex", "(?s)" + re.escape(begin) + ".*").ok().out.rstrip("\n") == free
    assert equal >= 5, equal  # where the model did not cut the beginning as the tokenizer does, texts may differ


def test_a_schema_is_read_from_a_file(stories, tmp_path):
    path = tmp_path / "person.json"
    path.write_text(json.dumps(PERSON))
    assert json.loads(json.loads(answer(stories, "--json-schema", path).out)["text"])["name"] is not None


@pytest.mark.parametrize("schema, name", [("{", "byte 1"), ('{"uniqueItems": true}', "#/uniqueItems")])
def test_a_file_that_is_no_schema_is_an_input_that_cannot_be_used(stories, tmp_path, schema, name):
    path = tmp_path / "schema.json"
    path.write_text(schema)
    for options in (["-i", "Once"], ["--batch", "missing"]):
        assert_refused(run(*stories, *options, "--json-schema", path), 3, "schema.json", name)


def test_unknown_keywords_are_noted_on_stderr(stories):
    done = answer(stories, "--json-schema", '{"type": "boolean", "colour": "red"}')
    assert "colour" in done.err
    assert json.loads(json.loads(done.out)["text"]) in (True, False)


REFUSED = [
    (["--regex", "a(?=b)"], 2, ["--regex", "lookaround"]),
    (["--regex", "a", "--json-object"], 2, ["--regex", "one constraint"]),
    (["--regex", "a", "--stop", "b"], 2, ["--stop", "not with a constraint"]),
    (["--json-object", "--ignore-eos"], 2, ["--ignore-eos", "not with a constraint"]),
    (["--json-object", "--score"], 2, ["--json-object", "not in this mode"]),
    (["--json-schema", "missing.json"], 3, ["--json-schema", "missing.json", "begins with {"]),
    (["--json-schema", '{"uniqueItems": true}'], 2, ["--json-schema", "#/uniqueItems"]),
    (["--json-schema", "{"], 2, ["--json-schema", "byte 1"]),
    (["--json-schema", '{"type": "string", "enum": [1]}'], 2, ["no value is valid"]),
]


@pytest.mark.parametrize("args, code, names", REFUSED)
def test_what_is_wrong_is_named_before_anything_is_generated(stories, args, code, names):
    assert_refused(stories.generate("-i", "Once", *args), code, *names)
