#!/usr/bin/env python3
"""Measures models with ./run --bench beside the peers on PATH, in turn, and writes a table and a roofline picture.

    scripts/bench.py models/smollm2-135m.bin --gguf SmolLM2.gguf -o docs/bench

runs `./run MODEL --bench --json` and, where they are found, llama-bench (llama.cpp; needs --gguf) and llama2c (a build of
llama2.c's run.c under that name; needs a v0 checkpoint as --llama2c), A B A B .., --rounds times each. A machine shared
with others slows all of them alike: quote the ratios. Each figure in the table is the median of the rounds. Writes
OUT.md (the table) and OUT.svg (the roofline); needs matplotlib.
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

ROOT = Path(__file__).resolve().parent.parent
CHUNK = 256  # rows of a prompt that ./run multiplies together


def run_json(*command):
    return json.loads(subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE).stdout)


def ours(model):
    """{test: (tokens per second, share of the limit)}, limits"""
    bench = run_json(ROOT / "run", model, "--bench", "--json", "-q")
    return {r["test"]: (r["tokens_per_second"], r["share"]) for r in bench["results"]}, bench["limits"]


def llama_bench(executable, gguf, tests):
    """The same loads by llama-bench: prompts, then single tokens at a depth."""
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
    """llama2.c only tells tokens per second of generated text."""
    done = subprocess.run([executable, checkpoint, "-z", tokenizer, "-t", "0", "-n", "256"], check=True,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip
    return {"decode at depth 0": float(re.search(rb"achieved tok/s: ([\d.]+)", done.stderr).group(1))}


def median(values):
    return statistics.median(values) if values else None


def table(title, results, peers):
    """Markdown: a row a test; peers' speeds, and ours as a multiple of theirs."""
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
    """Multiply-adds of a token, and the bytes of weights that a pass reads."""
    tensors = run_json(ROOT / "run", model, "--info", "--json")["tensors"]
    tied = not any(t["name"] == "head" for t in tensors)
    used = [t for t in tensors if t["rows"] > 1 and (tied or t["name"] != "embedding")]
    return sum(t["rows"] * t["cols"] for t in used), sum(t["bytes"] for t in used)


def roofline(path, model, results, limits):
    """Speed over the multiply-adds that a pass makes of each byte of weights, under the two limits."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    macs, size = shape(model)
    figure, axes = plt.subplots(figsize=(7, 4.5))
    peak = max(limits["int8_gmacs"], limits["f32_gmacs"])
    ridge = peak / limits["read_gbs"]
    axes.plot([0.1, ridge, 1000], [0.1 * limits["read_gbs"], peak, peak], color="black", linewidth=1)
    for test, speeds in results.items():
        kind, number = test.rsplit(" ", 1)
        rows = min(int(number), CHUNK) if kind == "prompt" else int(number) if kind == "batch" else 1
        x, y = rows * macs / size, median(speeds["run"]) * macs * 1e-9
        axes.plot(x, y, "o", color="tab:blue")
        axes.annotate(test, (x, y), textcoords="offset points", xytext=(6, -10), fontsize=8)
    axes.set(xscale="log", yscale="log", xlabel="multiply-adds per byte of weights read",
             ylabel="billion multiply-adds per second",
             title=f"{Path(model).name}: {limits['read_gbs']:.0f} GB/s, {peak:.0f} billion/s")  # fmt: skip
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})  # the same figures, the same file


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--gguf", help="the same model for llama-bench")
    parser.add_argument("--llama2c", help="the same model as a v0 checkpoint for llama2c")
    parser.add_argument("--tokenizer", help="tokenizer.bin of that")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", "--output", default="bench", help="writes OUTPUT.md and OUTPUT.svg (bench)")
    args = parser.parse_args()
    if args.llama2c and not args.tokenizer:
        parser.error("--llama2c: expected --tokenizer with it")
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
    title = f"{Path(args.model).name}, tokens per second, median of {args.rounds} rounds in turn"
    Path(f"{args.output}.md").write_text(table(title, results, list(peers)), encoding="utf-8")
    roofline(f"{args.output}.svg", args.model, results, limits)


if __name__ == "__main__":
    main()
