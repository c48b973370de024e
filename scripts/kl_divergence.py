#!/usr/bin/env python3
"""How far the predictions of quantised models are from those of the original: mean KL divergence in nats.

    make build/tests/logits && scripts/kl_divergence.py --text FILE ORIGINAL MODEL...

The text's first --bytes bytes are cut into windows of 512 tokens, each run alone, and what follows the last whole one is
left out. The positions 256 to 510 of each window are compared, as llama.cpp's perplexity tool does. ORIGINAL, such as
the model in f32, and each MODEL are files that `run` opens and that share a vocabulary. Needs numpy.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
WINDOW = 512
FIRST, LAST = 256, 510  # of each window


def tokens_of(run, model, text):
    done = subprocess.run([run, model, "--tokenize", "-f", "-"], input=text, capture_output=True)
    if done.returncode:
        sys.exit(done.stderr.decode("utf-8", "replace"))
    return done.stdout.decode().split()


def log_probabilities(logits, model, tokens, threads):
    """(LAST - FIRST + 1, vocab_size): of the tokens that may follow each position."""
    command = [logits, model, "--context", str(WINDOW), "--chunk", "128", "--threads", str(threads), *tokens]
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        sys.exit(done.stderr.decode("utf-8", "replace"))
    x = np.frombuffer(done.stdout, "<f4").reshape(WINDOW, -1)[FIRST : LAST + 1].astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("original", metavar="ORIGINAL")
    parser.add_argument("models", metavar="MODEL", nargs="+")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--bytes", type=int, default=16000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--run", type=Path, default=ROOT / "run")
    parser.add_argument("--logits", type=Path, default=ROOT / "build" / "tests" / "logits")
    args = parser.parse_args()
    run, logits = args.run.resolve(), args.logits.resolve()  # a Path drops the ./ of a program in this folder
    tokens = tokens_of(run, args.original, args.text.read_bytes()[: args.bytes])
    if len(tokens) < WINDOW:
        sys.exit(f"{args.text}: {len(tokens)} tokens, expected at least {WINDOW}")
    divergences = {model: [] for model in args.models}
    for begin in range(0, len(tokens) - WINDOW + 1, WINDOW):
        window = tokens[begin : begin + WINDOW]
        original = log_probabilities(logits, args.original, window, args.threads)
        for model in args.models:
            quantised = log_probabilities(logits, model, window, args.threads)
            divergences[model] += (np.exp(original) * (original - quantised)).sum(axis=1).tolist()
    for model, values in divergences.items():
        print(f"{Path(model).stat().st_size / 1e6:8.2f} MB  {np.mean(values):.5f} nats  {model}")


if __name__ == "__main__":
    main()
