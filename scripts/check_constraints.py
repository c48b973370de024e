#!/usr/bin/env python3
"""Answers a batch of requests with JSON schemas, and checks every answer with the package jsonschema.

    scripts/check_constraints.py MODEL SAMPLE.tar.xz [--run ./run] [--answers 1000] [--schemas 20] [--tokens 200]

SAMPLE is an archive of MaskBench's files, each with a "schema" and instances of it under "tests". The schemas are taken
from it evenly: of each source of the sample at most three, with at most 2,000 bytes, and such as `run` can enforce. The
answers have temperatures 0, 0.7 and 1.5 in turn and at most --tokens tokens; the prompt is the schema's description or title.
An answer fails if it does not parse, is not valid, or did not end with "stop"; then the exit status is 1.
"""

import argparse
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path

import jsonschema

TEMPERATURES = (0, 0.7, 1.5)


def read_sample(path):
    """(source, schema) of every schema of the sample that is small enough."""
    with tarfile.open(path) as tar:
        for member in sorted((m for m in tar if m.isfile() and m.name.endswith(".json")), key=lambda m: m.name):
            schema = json.load(tar.extractfile(member))["schema"]
            name = Path(member.name).stem
            source = name.split("---")[0] if "---" in name else name.split("_")[0]
            if isinstance(schema, dict) and len(json.dumps(schema)) <= 2000:
                yield source, schema


def run_batch(args, requests):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests.jsonl"
        path.write_text("".join(json.dumps(r) + "\n" for r in requests))
        done = subprocess.run([args.run, args.model, "-b", path, "-q", "--parallel", "16"], stdout=subprocess.PIPE)
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


def request(schema, temperature, max_tokens):
    about = schema.get("description") or schema.get("title") or "an example"
    return {"prompt": f"As JSON, {str(about)[:200]}:\n", "temperature": temperature, "max_tokens": max_tokens,
            "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}  # fmt: skip


def choose_schemas(args):
    """As many schemas as are wanted, of as many sources as there are."""
    sample, taken = list(read_sample(args.sample)), Counter()
    sample = sample[:: max(1, len(sample) // (3 * args.schemas))]
    # With one token all are refused, but only those that can be enforced for that reason.
    refusals = [r["error"]["message"] if "error" in r else "" for r in run_batch(args, [request(s, 0, 1) for _, s in sample])]
    chosen = []
    for (source, schema), refusal in zip(sample, refusals, strict=True):
        n = re.search(r"shortest text has (\d+) bytes", refusal)
        if n and int(n[1]) < args.tokens and taken[source] < 3 and len(chosen) < args.schemas:
            taken[source] += 1
            chosen.append(schema)
    print(f"{len(chosen)} schemas of {dict(taken)}")
    return chosen


def fault(schema, result):
    """What is wrong with a result; None: nothing."""
    if "error" in result:
        return result["error"]["message"]
    if result["finish_reason"] != "stop":
        return f"finish_reason {result['finish_reason']}"
    try:
        value = json.loads(result["text"])
        jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)(schema).validate(value)
    except (ValueError, jsonschema.ValidationError) as e:
        return f"{e}"[:200]
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("sample")
    parser.add_argument("--run", default="./run")
    parser.add_argument("--answers", type=int, default=1000)
    parser.add_argument("--schemas", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=200)
    args = parser.parse_args()
    schemas = choose_schemas(args)
    asked = [(schemas[i % len(schemas)], TEMPERATURES[i // len(schemas) % 3]) for i in range(args.answers)]
    results = run_batch(args, [request(s, t, args.tokens) for s, t in asked])
    faults = [(f, s, r) for (s, _), r in zip(asked, results, strict=True) if (f := fault(s, r))]
    tokens = [r["usage"]["completion_tokens"] for r in results if "usage" in r]
    print(f"{len(results)} answers, {len({r.get('text') for r in results})} of them different, {sum(tokens)} tokens, "
          f"{sum(n >= args.tokens - 1 for n in tokens)} that used all {args.tokens}; {len(faults)} faults")  # fmt: skip
    for message, schema, result in faults[:5]:
        print(f"{message}\n  {json.dumps(schema)}\n  {result.get('text')}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
