"""Constraints: what their automata accept, compared with `re`, with `jsonschema`, with a matcher that reads byte by byte,
with the official test suite of JSON Schema, and with MaskBench's sample.

Texts go through build/tests/constraint, which feeds them token by token, as the tokenizer cuts them and cut at random.

    MASKBENCH=1    all 1,100 schemas of the sample with Llama 3's vocabulary, and the time they take (default: every
                   tenth, with a vocabulary made here)
    STRINGS=N      as many random texts for each comparison (default 1500)
    WALK=N         as many steps of random texts in all, at each of which sets of tokens are compared with a matcher that
                   reads byte by byte (default 48000)
"""

import functools
import json
import os
import random
import re
import statistics
import tarfile

import pytest
from conftest import BUILD_DIR, SLOWER, data_file, execute

pytest.importorskip("gguf")
jsonschema = pytest.importorskip("jsonschema")
pytest.importorskip("tokenizers")
pytest.importorskip("sentencepiece")
from vocabularies import gguf_path, read_gguf  # noqa: E402

COUNT = int(os.environ.get("STRINGS", "1500"))
TOOL = BUILD_DIR / "tests" / "constraint"


@functools.lru_cache(None)
def read_vocabulary(name):
    return read_gguf(gguf_path(name))


class Tool:
    """Runs constraints over texts: run([(kind, specification, texts)]) gives, of each constraint, its refusal or a list
    of verdicts, one for each time that a text was fed."""

    def __init__(self, folder, section, env=None):
        self.folder, self.section, self.env = folder, section, {"CUTS": "1", **(env or {})}

    def run(self, jobs, timeout=300 * SLOWER):
        lines = []
        for i, (kind, specification, texts) in enumerate(jobs):
            paths = [self.folder / f"{i}.{kind}", *(self.folder / f"{i}.{k}" for k in range(len(texts)))]
            for path, text in zip(paths, [specification, *texts]):
                path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
            lines.append("\t".join([kind, *map(str, paths)]))
        done = execute([TOOL, self.section], stdin="\n".join(lines).encode() + b"\n", timeout=timeout,
                       env={**os.environ, **self.env}).ok()  # fmt: skip
        self.mask_ns, self.compile_us = [], []  # the second also of what is refused
        out = iter(done.bytes.decode("utf-8", "replace").splitlines())
        answers = []
        for line in out:
            if line.startswith("refused "):
                self.compile_us.append(float(line.split()[1]))
                answers.append(line.split(" ", 2)[2])
            elif line.startswith("compiled "):
                self.compile_us.append(float(line.split()[1]))
                answers.append([])
            elif line.startswith(("walked ", "token ", "stopped ")):
                answers[-1].append(line)
            elif line.startswith("times"):
                self.mask_ns += map(int, line.split()[1:])
            else:
                answers[-1].append(line)
        assert len(answers) == len(jobs), f"{len(answers)} answers to {len(jobs)} constraints\n{done}"
        return answers

    def accepts(self, kind, specification, texts):
        """Whether each text is accepted; all cuts of it must agree."""
        return self.judge([(kind, specification, texts)])[0]

    def judge(self, jobs):
        """The same for several constraints; a refusal is a string."""
        verdicts = []
        for i, ((kind, _, texts), answer) in enumerate(zip(jobs, self.run(jobs))):
            if isinstance(answer, str):
                verdicts.append(answer)
                continue
            found = [set() for _ in texts]
            for line in answer:
                path, verdict = line.split(" ", 1)
                found[int(path.rsplit(".", 1)[1])].add(verdict == "accepted")
            assert all(len(f) == 1 for f in found), f"cuts of a text differ: {kind}, {answer[:10]}"
            verdicts.append([f.pop() for f in found])
        return verdicts


@pytest.fixture(scope="module")
def tool(tmp_path_factory):
    """tool("made-llama3", CUTS="3"): a Tool with that vocabulary."""

    def make(name, **env):
        folder = tmp_path_factory.mktemp("constraint")
        section = folder / "vocabulary"
        section.write_bytes(read_vocabulary(name).section())
        return Tool(folder, section, env)

    return make


# ----------------------------------------------------------------------------------------------------------------------
# Regular expressions


def random_regex(r, depth=3):
    kind = r.randrange(9 if depth else 4)
    if kind < 3:
        return r.choice(["a", "b", "c", "é", "😀", ".", r"\d", r"\w", r"\s", "[a-c]", "[^a]", "[é-ü]", r"\.", "[b-d0-9_-]", r"[^\W\d]"])
    if kind == 3:
        return r.choice(["ab", "a1", "x", " "])
    inner = random_regex(r, depth - 1)
    if kind == 4:
        return f"(?:{inner})" + r.choice(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "*?"])
    if kind == 5:
        return f"({inner}|{random_regex(r, depth - 1)})"
    return inner + random_regex(r, depth - 1)


def random_text(r):
    return "".join(r.choice("aaabbbcccdé😀x1 _.-ü\n") for _ in range(r.randrange(7)))


def test_regular_expressions_accept_what_re_accepts(tool):
    r = random.Random(1)
    jobs = [("regex", random_regex(r), [random_text(r) for _ in range(20)]) for _ in range(COUNT // 10)]
    wrong, n_matches = [], 0
    for (_, pattern, texts), verdicts in zip(jobs, tool("made-llama3").judge(jobs)):
        for text, verdict in zip(texts, verdicts):
            expected = re.fullmatch(pattern, text, re.ASCII) is not None
            n_matches += expected
            if verdict != expected:
                wrong.append((pattern, text, verdict))
    assert not wrong, f"{len(wrong)}: {wrong[:5]}"
    assert n_matches > COUNT / 20, f"only {n_matches} texts matched"


def test_patterns_match_anywhere_as_re_search_does(tool):
    r = random.Random(2)
    anchors = lambda p: r.choice(["", "", "^"]) + p + r.choice(["", "", r"$"])  # noqa: E731
    patterns = [anchors(random_regex(r, 2)) for _ in range(COUNT // 15)]
    patterns += ["^a|b$", "(^a|b$)c*", "a(^b|c$)", "^(a|^b)+$", "(^|-)a", "$", "^", "^$", "a*$", "(^a*$|b)"]
    texts = [[random_text(r).replace("\n", " ") for _ in range(15)] for _ in patterns]
    quoted = [[json.dumps(t, ensure_ascii=False) for t in ts] for ts in texts]
    jobs = [("schema", json.dumps({"type": "string", "pattern": p}), q) for p, q in zip(patterns, quoted)]
    wrong, n_impossible = [], 0
    for pattern, ts, verdicts in zip(patterns, texts, tool("made-llama3").judge(jobs)):
        python = pattern.replace("$", r"\Z")
        expected = [re.search(python, t, re.ASCII) is not None for t in ts]
        if isinstance(verdicts, str):
            n_impossible += 1
            expected = [any(expected)]
            verdicts = [False]
        if verdicts != expected:
            wrong.append((pattern, ts, verdicts))
    assert not wrong, f"{len(wrong)}: {wrong[:3]}"
    assert n_impossible < len(patterns) / 10


# ----------------------------------------------------------------------------------------------------------------------
# Sets of tokens, against a matcher that reads every token of the vocabulary byte by byte

CROSSING = [
    ("schema", {"type": "object"}, ['{"é": ["😀", {"a\\n": -1.5e3}], "b": {}}', '{"\\u00e9": "\\ud83d\\ude00"}', "{"]),
    ("schema", {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 3}, ['["a\\"b", "", "Zoë😀"]', '["123456']),
    ("schema", {"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "integer", "minimum": 10, "maximum": 99}},
                "required": ["name"]}, ['{"name": "the other", "n": 57, "the": null}', '{"name": "", "x": [true]}']),
    ("schema", {"anyOf": [{"type": "object", "properties": {"a": {"const": 1}, "b": {"type": "array"}}, "required": ["a"]},
                          {"type": "object", "properties": {"a": {"const": 2}, "c": {"type": "string"}}, "required": ["a"]}]},
     ['{"a": 1, "b": [[]]}', '{"a": 2, "c": "x"}']),
    ("schema", {"type": "string", "pattern": "^[a-zé]{2,12}$"}, ['"théother"', '"a"']),
    ("regex", "(the|other|é😀)+[0-9]{1,3}|\\d{4}-\\d\\d", ["theothe", "theé😀12", "2024-05"]),
    ("regex", ".{0,3}abc", ["xxxabc", "abcabc", "aaa"]),
    ("regex", "positive|negative|neutral|neutral, but", ["neutral, but", "negativ", "neut"]),
]  # fmt: skip


@pytest.mark.parametrize("name", ["made-llama3", "made-llama2", "made-smollm2"])
def test_sets_of_tokens_are_those_of_a_matcher_that_reads_byte_by_byte(tool, name):
    """Tokens of both kinds of vocabularies, byte tokens and parts of characters among them."""
    jobs = [(kind, json.dumps(s) if kind == "schema" else s, texts) for kind, s, texts in CROSSING]
    answers = tool(name, CHECK="1", CUTS="3").run(jobs)
    assert not any("byte by byte" in line for answer in answers for line in answer), answers
    fed = sum(line.split(" ", 1)[1] in ("accepted", "incomplete") for answer in answers for line in answer)
    assert fed >= 40, f"only {fed} texts were read to their end: {answers}"


@pytest.mark.parametrize("name", ["made-llama3", "made-llama2", "made-smollm2"])
def test_sets_along_random_texts_are_those_of_a_matcher_that_reads_byte_by_byte(tool, name):
    steps = int(os.environ.get("WALK", "48000")) // (3 * len(CROSSING))
    jobs = [(kind, json.dumps(s) if kind == "schema" else s, []) for kind, s, _ in CROSSING]
    answers = tool(name, WALK=str(steps)).run(jobs, timeout=3600 * SLOWER)
    assert answers == [[f"walked {steps}"]] * len(jobs)


# ----------------------------------------------------------------------------------------------------------------------
# JSON schemas


def judged(tool, schemas, instances):
    """Verdicts of (schema, instances), and what `jsonschema` says; a schema that is refused is left out."""
    jobs = [("schema", json.dumps(s), [json.dumps(x, ensure_ascii=False) for x in xs]) for s, xs in zip(schemas, instances)]
    return tool.judge(jobs)


def in_order(schema, value):
    """The value with the properties of its objects in the schema's order, then the others."""
    schema = schema if isinstance(schema, dict) else {}
    if isinstance(value, dict):
        parts = schema.get("allOf", []) if isinstance(schema.get("allOf"), list) else []
        known = {k: v for s in [schema, *parts] if isinstance(s, dict) for k, v in s.get("properties", {}).items()}
        names = [k for k in known if k in value] + [k for k in value if k not in known]
        return {k: in_order(known.get(k), value[k]) for k in names}
    return [in_order(schema.get("items"), v) for v in value] if isinstance(value, list) else value


SCALARS = [None, True, False, 0, 1, -1, 2.5, 10, 99.5, -0.25, "", "a", "ab", "abc", "b", "2024-02-29", "x@y.z"]


def random_schema(r, depth=2):
    kind = r.randrange(10 if depth else 5)
    if kind == 0:
        return {"type": r.choice(["null", "boolean", "integer", "number", "string", ["string", "null"]])}
    if kind == 1:
        return {"enum": r.sample(SCALARS, 3)}
    if kind == 2:
        return {"minimum": r.choice([-1, 0, 1.5, 2]), "exclusiveMaximum": r.choice([2.5, 10, 99.75])}
    if kind == 3:
        return {"type": "string", "minLength": r.randrange(2), "maxLength": r.randrange(1, 4)}
    if kind == 4:
        return {"pattern": r.choice(["^a", "b$", "^[ab]*$", "^.b"])}
    inner = lambda: random_schema(r, depth - 1)  # noqa: E731
    if kind == 5:
        names = r.sample("abc", 2)
        required = r.sample(names, r.randrange(2))
        return {"type": "object", "properties": {n: inner() for n in names}, "required": required,
                "additionalProperties": r.choice([False, True, inner()])}  # fmt: skip
    if kind == 6:
        return {"type": "array", "items": inner(), "minItems": r.randrange(2), "maxItems": r.randrange(1, 4)}
    if kind == 7:
        return {r.choice(["anyOf", "allOf", "oneOf"]): [inner(), inner()]}
    if kind == 8:
        return {"not": random_schema(r, 0)}
    return {"if": random_schema(r, 0), "then": inner(), "else": inner()}


def random_instance(r, depth=2):
    kind = r.randrange(5 if depth else 3)
    if kind < 3:
        return r.choice(SCALARS)
    if kind == 3:
        return [random_instance(r, depth - 1) for _ in range(r.randrange(4))]
    return {n: random_instance(r, depth - 1) for n in sorted(r.sample("abcd", r.randrange(4)))}


def test_random_schemas_judge_as_jsonschema_does(tool):
    """What is accepted is valid, and what is valid is accepted, in the order that the schema has, if it is compiled."""
    r = random.Random(3)
    schemas = [random_schema(r) for _ in range(COUNT // 3)]
    instances = [[random_instance(r) for _ in range(12)] for _ in schemas]
    wrong, n_valid, n_compiled = [], 0, 0
    for schema, values, verdicts in zip(schemas, instances, judged(tool("made-llama3", CUTS="0"), schemas, instances)):
        if isinstance(verdicts, str):
            continue
        n_compiled += 1
        check = jsonschema.Draft202012Validator(schema)
        for value, verdict in zip(values, verdicts):
            valid = check.is_valid(value)
            n_valid += valid
            ordered = not isinstance(value, (dict, list)) or value in ([], {})
            if verdict > valid or (ordered and verdict < valid):
                wrong.append((json.dumps(schema), value, verdict))
    assert not wrong, f"{len(wrong)}: {wrong[:4]}"
    assert n_valid > COUNT and n_compiled > COUNT / 6, f"{n_valid} valid ones of {n_compiled} schemas"


REFUSED = [
    ({"uniqueItems": True, "items": {"type": "string"}}, "#/uniqueItems", "uniqueItems"),
    ({"properties": {"a": {"unevaluatedProperties": False}}}, "#/properties/a/unevaluatedProperties", "unevaluatedProperties"),
    ({"pattern": "a(?=b)"}, "#/pattern", "lookaround"),
    ({"items": {"$ref": "other.json"}}, "#/items/$ref", 'refers to "other.json"'),
    ({"items": {"$ref": "#/$defs/b"}, "$defs": {"a": {}}}, "#/items/$ref", 'refers to "#/$defs/b"'),
    ({"properties": {"a/b": {"type": "strnig"}}}, "#/properties/a/b/type", 'found "strnig"'),
    ({"format": "regex"}, "#/format", "this format"),
    ({"multipleOf": 123456789}, "#/multipleOf", "10000 units"),
    ({"minProperties": 2}, "#/minProperties", "minProperties above 1"),
    ({"$schema": "http://json-schema.org/draft-03/schema#"}, "#/$schema", "a version other than drafts 4 to 2020-12"),
    ({"anyOf": [{"$ref": "#"}]}, "#", "refers to itself"),
    ({"type": "string", "enum": [1]}, "schema", "no value is valid"),
    ({"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}}, "schema", "no value is valid"),
]  # fmt: skip


def test_what_cannot_be_enforced_is_refused_by_keyword_and_path(tool):
    answers = tool("made-llama3").run([("schema", json.dumps(s), []) for s, _, _ in REFUSED])
    wrong = [(s, a) for (s, path, why), a in zip(REFUSED, answers) if not isinstance(a, str) or path not in a or why not in a]
    assert not wrong, wrong


def test_properties_come_in_the_order_of_the_schema(tool):
    schema = json.dumps({"type": "object", "properties": {"b": {}, "a": {}}})
    texts = ['{"b": 1, "a": 2}', '{"a": 2, "b": 1}', '{"b": 1, "c": 3}', '{"c": 3, "b": 1}', '{"b":1}', '{"b": 1,"a": 2}']
    assert tool("made-llama3").accepts("schema", schema, texts) == [True, False, True, False, False, False]


def test_large_counts_cost_what_is_used_of_them(tool):
    """maxLength and maxItems of a billion, and an enum of thousands, in little time."""
    big = {"type": "object", "properties": {"s": {"type": "string", "maxLength": 10**9}, "a": {"type": "array", "maxItems": 10**9},
           "e": {"enum": [f"value {i}" for i in range(5000)]}}}  # fmt: skip
    run = tool("made-llama3", TIMES="1")
    assert run.accepts("schema", json.dumps(big), ['{"s": "text", "a": [1, 2], "e": "value 4999"}']) == [True]
    assert run.compile_us[0] < 200_000 * SLOWER, run.compile_us


def nested(n, text):
    return "(" * n + text + ")" * n


def chained(n):
    return {"$ref": "#/$defs/0", "$defs": {f"{i}": {"$ref": f"#/$defs/{i + 1}"} for i in range(n)} | {f"{n}": {"type": "string"}}}


def strings(key, patterns):
    return {"type": "string", key: [{"pattern": p} for p in patterns]}


# (kind, specification, a text, and how it is answered: whether it is accepted, "incomplete", or the bound that is named)
HOSTILE = [
    ("regex", "(a*)*", "a" * 50, True),
    ("regex", "((a*)*)*b", "a" * 50 + "b", True),
    ("regex", "(a|aa)+b", "a" * 50 + "b", True),
    ("regex", "(x+x+)+y", "x" * 50 + "y", True),
    ("regex", "(.*.*=.*)*x", "a=b" * 20 + "x", True),
    ("regex", "(a?){1000}a{1000}", "a" * 1000, True),
    ("regex", "(a|b)*a(a|b){20}", "ab" * 40, "incomplete"),
    ("regex", "((ab|a|bc){1,30}c?){1,30}d{2,5}", "ab" * 9 + "cdd", True),
    ("regex", "((a{1,1000}){1,1000}){1,1000}", "a" * 90, "expected at most"),
    ("regex", "(((a{0,100}){0,100}){0,100}){0,100}", "a" * 90, "expected at most"),
    ("regex", nested(200, "a"), "a", True),
    ("regex", nested(201, "a"), "a", "200 nested groups"),
    ("regex", "(a" * 190 + ")*" * 190, "a" * 20, True),
    ("regex", "|".join(f"v{i}x" for i in range(1100)), "v900x", True),
    ("regex", "|".join(f"v{i}x" for i in range(2000)), "v900x", "at most 8192"),
    ("schema", '{"items":' * 10000 + "{}" + "}" * 10000, "[]", "nested more than 64 deep"),
    ("schema", {}, "[" * 3000, False),
    ("schema", chained(390), '"a"', True),
    ("schema", chained(20000), '"a"', "400 deep"),
    ("schema", {"enum": [f"value {i}" for i in range(60000)]}, '"value 17"', True),
    ("schema", {"enum": [f"value {i}" for i in range(200000)]}, '"value 17"', "65536 values"),
    ("schema", {"enum": [{"a": i} for i in range(3000)]}, "{}", "256 alternatives"),
    ("schema", {"properties": {f"p{i}": {"type": "string"} for i in range(8000)}}, '{"p77": "", "p800": ""}', True),
    ("schema", {"properties": {f"p{i}": {"type": "string"} for i in range(9000)}}, "{}", "8192 properties"),
    ("schema", {"type": "string", "maxLength": 10**9, "pattern": "a.*b"}, '"xaab"', True),
    ("schema", {"type": "string", "minLength": 10**9}, '"aaab', "incomplete"),
    ("schema", {"type": "string", "minLength": 10**9, "pattern": "a.*b"}, '"aaab"', "32768 states"),
    ("schema", {"type": "array", "minItems": 10**9, "maxItems": 10**9}, "[1, 2", "incomplete"),
    ("schema", strings("allOf", [f"x{i}y" for i in range(30)]), '""', "4194304 derivatives"),
    ("schema", strings("oneOf", ["customer", "maker", "operator", "admin", "designer"]), '"an admin"', True),
    ("schema", {"items": strings("oneOf", ["customer.*", "maker[0-9]+", "operator", "admin", "de.*signer"])},
     '["maker77", "an admin"]', True),
    ("schema", {"allOf": [{"anyOf": [{"properties": {f"p{k}": {"const": j}}, "required": [f"p{k}"]} for j in range(4)]}
                          for k in range(20)]}, "{}", "256 alternatives"),
    ("schema", {"allOf": [{"type": "integer", "multipleOf": m} for m in (9973, 9967, 9949)]}, "0", "expected at most"),
]  # fmt: skip


def test_hostile_constraints_are_answered_in_a_second_or_a_bound_is_named(tool):
    jobs = [(kind, s if isinstance(s, str) else json.dumps(s), [text]) for kind, s, text, _ in HOSTILE]
    run = tool("made-llama3", TIMES="1")
    wrong = []
    for (_, s, _), (_, _, _, expected), answer in zip(jobs, HOSTILE, run.run(jobs)):
        verdict = answer if isinstance(answer, str) else answer[-1].split(" ", 1)[1]
        named = {True: "accepted", False: "refused at byte"}.get(expected, expected)
        if named not in verdict:
            wrong.append((s[:60], verdict, named))
    assert not wrong, wrong
    slowest = max(*run.compile_us, *(ns / 1e3 for ns in run.mask_ns))
    assert slowest < 2e6 * SLOWER, f"{slowest} us"  # one second, on a machine that does other work too


# ----------------------------------------------------------------------------------------------------------------------
# The official test suite, and MaskBench


@functools.lru_cache(None)
def archive(name):
    """The files of an archive in the folder of schemas: name -> parsed JSON."""
    with tarfile.open(data_file(f"schemas/{name}")) as tar:
        members = [m for m in tar if m.isfile() and m.name.endswith(".json")]
        return {m.name.removeprefix("./"): json.load(tar.extractfile(m)) for m in members}


def suite(draft):
    """(file, schema, tests) of the required files and of optional/format."""
    for path, groups in archive("json-schema-test-suite.tar.xz").items():
        place, name = path.rsplit("/", 1)
        if place in (f"tests/{draft}", f"tests/{draft}/optional/format") and path != f"tests/{draft}/format.json":
            for group in groups:
                schema = group["schema"]
                if draft == "draft7" and isinstance(schema, dict):
                    schema = {"$schema": "http://json-schema.org/draft-07/schema#", **schema}
                yield name, schema, group["tests"]


@pytest.mark.parametrize("draft, least", [("draft7", 210), ("draft2020-12", 250)])
def test_every_schema_of_the_suite_that_compiles_judges_rightly(tool, draft, least):
    groups = list(suite(draft))
    instances = [[in_order(s, t["data"]) for t in tests] for _, s, tests in groups]
    wrong, n_compiled = [], 0
    verdicts = judged(tool("made-llama3", CUTS="0"), [s for _, s, _ in groups], instances)
    for (name, schema, tests), found in zip(groups, verdicts):
        n_compiled += not isinstance(found, str)
        wrong += [(name, schema, t["description"]) for t, v in zip(tests, found) if not isinstance(found, str) and v != t["valid"]]
    assert not wrong, f"{len(wrong)}: {wrong[:5]}"
    assert n_compiled >= least, f"{n_compiled} of {len(groups)} were compiled"


def test_maskbench_accepts_nothing_invalid(tool):
    files = list(archive("maskbench-sample.tar.xz").values())
    everything = "MASKBENCH" in os.environ
    files = files if everything else files[::10]
    schemas, tests = [f["schema"] for f in files], [f["tests"] for f in files]
    run = tool("llama3" if everything else "made-llama3", CUTS="0", TIMES="1")
    verdicts = judged(run, schemas, [[t["data"] for t in ts] for ts in tests])
    invalid = [f["description"] for f, ts, vs in zip(files, tests, verdicts)
               for t, v in zip(ts, vs) if not isinstance(vs, str) and v and not t["valid"]]  # fmt: skip
    whole = sum(not isinstance(vs, str) and vs == [t["valid"] for t in ts] for ts, vs in zip(tests, verdicts))
    assert not invalid, f"invalid instances were accepted: {invalid}"
    assert whole >= 0.82 * len(files), f"{whole} of {len(files)} schemas pass whole"
    if everything and SLOWER == 1:
        ns = sorted(run.mask_ns)
        mean, p99, compiled = statistics.mean(ns) / 1e3, ns[len(ns) * 99 // 100] / 1e3, statistics.median(run.compile_us)
        assert mean <= 50 and p99 <= 500 and compiled <= 1000, f"mean {mean}, 99th percentile {p99}, compile {compiled} us"
