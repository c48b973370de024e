#!/usr/bin/env python3
"""Measures a model with ./run --bench and with the peers on PATH, alternating, and writes a table and a roofline.

    scripts/bench.py models/smollm2-135m.bin --gguf SmolLM2.gguf -o docs/bench

runs `./run MODEL --bench --json` and, where they are on PATH, llama-bench (llama.cpp; needs --gguf) and llama2c (llama2.c's
run.c, built under that name; needs a v0 checkpoint as --llama2c) in turn, --rounds times each. Each figure is the median
of the rounds. Other work on the machine slows all programs alike, so quote the ratios. Writes OUT.md (the table) and
OUT.svg (the roofline).
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from make_roofline import CHUNK, Dot, Limits, draw

ROOT = Path(__file__).resolve().parent.parent


def run_json(*command):
    return json.loads(subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE).stdout)


def ours(model):
    """({test: (tokens per second, share of the limit)}, limits)"""
    bench = run_json(ROOT / "run", model, "--bench", "--json", "-q")
    return {r["test"]: (r["tokens_per_second"], r["share"]) for r in bench["results"]}, bench["limits"]


def llama_bench(executable, gguf, tests):
    """The same loads measured by llama-bench: prompts, then single tokens at a depth."""
    speeds = {}
    for test in tests:
        kind, number = test.rsplit(" ", 1)
        if kind == "prompt":
            options = ["-p", number, "-n", "0"]
        elif kind == "decode at depth":
            options = ["-p", "0", "-n", "32", "-d", number]
        else:
            continue  # llama-bench has no batches of sequences
        (result,) = run_json(executable, "-m", gguf, "-r", "1", "-o", "json", *options)
        speeds[test] = result["avg_ts"]
    return speeds


def llama2c(executable, checkpoint, tokenizer):
    """llama2.c reports only the tokens per second of generated text."""
    done = subprocess.run([executable, checkpoint, "-z", tokenizer, "-t", "0", "-n", "256"], check=True,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip
    return {"decode at depth 0": float(re.search(rb"achieved tok/s: ([\d.]+)", done.stderr).group(1))}


def median(values):
    return statistics.median(values) if values else None


def table(title, results, peers):
    """A Markdown table, one row per test: our speed and share, the peers' speeds, and ours as a multiple of theirs."""
    names = ["run", "share of limit", *peers, *(f"run / {p}" for p in peers)]
    lines = [f"{title}\n", "| test | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for test, speeds in results.items():
        cells = [f"{median(speeds['run']):.1f}", f"{100 * median(speeds['share']):.0f} %"]
        theirs = [median(speeds[p]) for p in peers]
        cells += ["-" if t is None else f"{t:.1f}" for t in theirs]
        cells += ["-" if t is None else f"{median(speeds['run']) / t:.2f}" for t in theirs]
        lines.append(f"| {test} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def shape(model):
    """Multiply-adds per token, and the bytes of weights that a pass reads."""
    tensors = run_json(ROOT / "run", model, "--info", "--json")["tensors"]
    tied = not any(t["name"] == "head" for t in tensors)
    used = [t for t in tensors if t["rows"] > 1 and (tied or t["name"] != "embedding")]
    return sum(t["rows"] * t["cols"] for t in used), sum(t["bytes"] for t in used)


def dots(results, peers, macs):
    """The dots of the roofline; a peer's share is that of our limit for the same load."""
    for test, speeds in results.items():
        kind, size = test.rsplit(" ", 1)
        rows = min(int(size), CHUNK) if kind == "prompt" else int(size) if kind == "batch" else 1
        speed, share = median(speeds["run"]), median(speeds["share"])
        yield Dot(rows, speed * macs * 1e-9, f"{test}: {speed:.0f} tokens/s, {100 * share:.0f} %", True)
        for peer in peers:
            if speeds[peer]:
                theirs = median(speeds[peer])
                label = f"{peer}, {test}: {theirs:.0f} tokens/s, {100 * share * theirs / speed:.0f} %"
                yield Dot(rows, theirs * macs * 1e-9, label, False)


def roofline(path, model, results, peers, limits):
    """Draws the speeds under the limits of the machine."""
    macs, size = shape(model)
    limits = Limits(limits["read_gbs"], limits["int8_gmacs"], limits["f32_gmacs"])
    picture = draw(f"{Path(model).name}: speed and the roofs above it", limits, macs / size, list(dots(results, peers, macs)))
    path.write_text(picture, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--gguf", help="the same model for llama-bench")
    parser.add_argument("--llama2c", help="the same model as a v0 checkpoint for llama2c")
    parser.add_argument("--tokenizer", help="tokenizer.bin of that checkpoint")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", "--output", default="bench", help="writes OUTPUT.md and OUTPUT.svg (bench)")
    args = parser.parse_args()
    if args.llama2c and not args.tokenizer:
        parser.error("--llama2c also needs --tokenizer")
    peers = {}
    if args.gguf and shutil.which("llama-bench"):
        peers["llama.cpp"] = lambda tests: llama_bench(shutil.which("llama-bench"), args.gguf, tests)
    if args.llama2c and shutil.which("llama2c"):
        peers["llama2.c"] = lambda _: llama2c(shutil.which("llama2c"), args.llama2c, args.tokenizer)
    results = defaultdict(lambda: defaultdict(list))
    limits = {}
    for i in range(args.rounds):
        if sys.stderr.isatty():
            print(f"round {i + 1} of {args.rounds}", file=sys.stderr)
        measured, now = ours(args.model)
        limits = {k: max(v, limits.get(k, 0)) for k, v in now.items()}
        for test, (speed, share) in measured.items():
            results[test]["run"].append(speed)
            results[test]["share"].append(share)
        for name, measure in peers.items():
            for test, speed in measure(list(measured)).items():
                results[test][name].append(speed)
    title = f"{Path(args.model).name}, tokens per second, median of {args.rounds} alternating rounds"
    Path(f"{args.output}.md").write_text(table(title, results, list(peers)), encoding="utf-8")
    roofline(Path(f"{args.output}.svg"), args.model, results, list(peers), limits)


if __name__ == "__main__":
    main()
