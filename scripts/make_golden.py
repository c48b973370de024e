#!/usr/bin/env python3
"""Writes tests/golden/, the values with which the tests compare the program's output.

    scripts/make_golden.py                  logits of the tiny models of tests/models.py (needs numpy and PyTorch)
    scripts/make_golden.py --llama2c RUN    stories of llama2.c's executable RUN, told from models/stories.bin, written
                                            as llama2.c's files (tests/default_model.py)
    scripts/make_golden.py --bits LOGITS    SHA-256 of the bits of the tiny models' logits, computed by this project's
                                            build/tests/logits; every compiler and machine must reproduce them
    scripts/make_golden.py --stories RUN    the greedy story of models/stories.bin and its digest, by RUN, this
                                            project's executable

Run it only when the models or the prompts change; the tests need neither PyTorch nor llama2.c. The transformer below
is the reference: double precision, written from the papers (Llama, RoPE, RMSNorm, SwiGLU, grouped queries), one
sequence at a time, no cache, slow and short.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import models  # noqa: E402

GOLDEN_DIR = ROOT / "tests" / "golden"
EPSILON = 1e-5
THETA = 10000.0

# Prompts for llama2.c: plain text that its tokenizer spells without byte tokens, which it does not print.
PROMPTS = [
    "",
    "Once upon a time",
    "Lily and Tom",
    "The dog was sad because",
    "One day, a little girl named Sue went to the park.",
    '"I am hungry," said the cat.',
    "It was raining.\nBen looked out of the window",
    "a",
    "There was a big red ball in the garden. The boy wanted to play with it, but his mom said no.",
    "Zig zag  two spaces",
]
SAMPLED_SEEDS = [42, 1, 1234567]  # with temperature 1.0, top-p 0.9
STEPS = 220  # of llama2.c: tokens of the prompt (without BOS) and new ones, of which each prompt gets more than 150


def rms_norm(x, weight):
    import torch

    return x * torch.rsqrt((x * x).mean(dim=-1, keepdim=True) + EPSILON) * weight


def rope(x, head_size):
    """x: (T, heads, head_size). Rotates each neighbouring pair (2i, 2i + 1) by position * theta^(-2i / head_size)."""
    import torch

    positions = torch.arange(x.shape[0], dtype=torch.float64)
    frequencies = THETA ** (-torch.arange(0, head_size, 2, dtype=torch.float64) / head_size)
    angles = torch.outer(positions, frequencies)[:, None, :]  # (T, 1, head_size / 2)
    cos, sin = torch.cos(angles), torch.sin(angles)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


def attention(x, wq, wk, wv, wo, config):
    import torch

    T, heads, kv_heads, size = x.shape[0], config.n_heads, config.n_kv_heads, config.head_size
    q = rope((x @ wq.T).view(T, heads, size), size)
    k = rope((x @ wk.T).view(T, kv_heads, size), size)
    v = (x @ wv.T).view(T, kv_heads, size)
    k = k.repeat_interleave(heads // kv_heads, dim=1)  # consecutive query heads share a key head
    v = v.repeat_interleave(heads // kv_heads, dim=1)
    scores = torch.einsum("qhd,khd->hqk", q, k) / size**0.5
    mask = torch.full((T, T), float("-inf"), dtype=torch.float64).triu(1)
    p = torch.softmax(scores + mask, dim=-1)
    return torch.einsum("hqk,khd->qhd", p, v).reshape(T, -1) @ wo.T


def mlp(x, w1, w2, w3):
    import torch

    return (torch.nn.functional.silu(x @ w1.T) * (x @ w3.T)) @ w2.T


def reference_logits(config, weights, tokens):
    """f64 (n_tokens, vocab_size)."""
    import torch

    w = {name: torch.from_numpy(np.array(value)).double() for name, value in weights.items()}
    x = w["tok_embeddings"][torch.tensor(tokens)]
    for i in range(config.n_layers):
        h = rms_norm(x, w["rms_att"][i])
        x = x + attention(h, w["wq"][i], w["wk"][i], w["wv"][i], w["wo"][i], config)
        x = x + mlp(rms_norm(x, w["rms_ffn"][i]), w["w1"][i], w["w2"][i], w["w3"][i])
    head = w["tok_embeddings"] if config.tied else w["wcls"]
    return (rms_norm(x, w["rms_final"]) @ head.T).numpy()


def make_logits():
    """One file per model: the tokens and, for each kind of file, its SHA-256 and the logits (v0 and v1 share theirs)."""
    for name, (config, kinds, n_tokens) in models.GOLDEN.items():
        weights = models.random_weights(config)
        tokens = models.random_tokens(config.seed, n_tokens, config.vocab_size)
        rows = models.golden_rows(n_tokens)
        arrays = {"tokens": np.array(tokens, "<i4")}
        for kind in kinds:
            arrays[f"sha256_{kind}"] = np.array(models.sha256(models.model_bytes(config, kind)))
            if kind.startswith("v2"):
                group_size = int(kind.removeprefix("v2-"))
                logits = reference_logits(config, models.dequantized_weights(weights, group_size), tokens)
                arrays[f"logits_{kind}"] = logits[rows].astype("<f4")
            elif "logits_f32" not in arrays:
                logits = reference_logits(config, weights, tokens)
                arrays["logits_f32"] = logits[rows].astype("<f4")
            print(f"{name} {kind}: {len(rows)} rows, standard deviation {logits.std():.3f}")
        np.savez_compressed(GOLDEN_DIR / f"{name}.npz", **arrays)


def make_stories(run):
    import default_model

    with tempfile.TemporaryDirectory() as folder:
        paths, tokenizer = default_model.write_llama2c(folder, ["v0"])
        digest = models.sha256(paths["v0"].read_bytes())

        def tell(prompt, *options):
            command = [run, paths["v0"], "-z", tokenizer, "-n", str(STEPS), *options, "-i", prompt]
            out = subprocess.run(command, capture_output=True, check=True).stdout
            return out.decode("utf-8").removesuffix("\n")

        stories = []
        for prompt in PROMPTS:
            stories.append({"prompt": prompt, "temperature": 0, "seed": 1, "text": tell(prompt, "-t", "0")})
            for seed in SAMPLED_SEEDS:
                text = tell(prompt, "-t", "1.0", "-p", "0.9", "-s", str(seed))
                stories.append({"prompt": prompt, "temperature": 1, "top_p": 0.9, "seed": seed, "text": text})
    golden = {
        "made_by": "scripts/make_golden.py --llama2c",
        "model_sha256": digest,
        "steps": STEPS,
        "stories": stories,
    }
    path = GOLDEN_DIR / "llama2c_stories.json"
    path.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{path.name}: {len(stories)} stories")


def make_bits(executable):
    import native_models

    bits = {}

    def add(name, path, tokens, vocab_size):
        for kv in ("f32", "f16"):
            out = subprocess.run([executable, path, "--kv", kv, *map(str, tokens)], capture_output=True, check=True).stdout
            assert len(out) == 4 * len(tokens) * vocab_size
            bits[f"{name} {kv}"] = models.sha256(out)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.bin"
        for name, (config, kinds, n_tokens) in models.GOLDEN.items():
            for kind in kinds:
                path.write_bytes(models.model_bytes(config, kind))
                add(f"{name} {kind}", path, models.random_tokens(config.seed, n_tokens, config.vocab_size), config.vocab_size)
        for kind in native_models.TYPES:
            path.write_bytes(native_models.typed(kind))
            vocab_size = native_models.TYPED["vocab_size"]
            add(f"typed {kind}", path, models.random_tokens(1, 60, vocab_size), vocab_size)
    path = GOLDEN_DIR / "bits.json"
    path.write_text(json.dumps(bits, indent=1) + "\n", encoding="utf-8")
    print(f"{path.name}: {len(bits)} digests")


def make_default_model(run):
    prompt = "Once upon a time"
    command = [run, ROOT / "models" / "stories.bin", "-i", prompt, "-t", "0", "-n", "0", "--digest"]
    done = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
    digest = next(line for line in done.stderr.splitlines() if line.startswith("digest: "))
    golden = {"prompt": prompt, "text": done.stdout, "digest": digest}
    (GOLDEN_DIR / "stories.json").write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama2c", metavar="RUN", help="path of llama2.c's executable")
    parser.add_argument("--bits", metavar="LOGITS", help="path of this project's build/tests/logits")
    parser.add_argument("--stories", metavar="RUN", help="path of this project's executable")
    args = parser.parse_args()
    GOLDEN_DIR.mkdir(exist_ok=True)
    if args.llama2c:
        make_stories(args.llama2c)
    elif args.bits:
        make_bits(args.bits)
    elif args.stories:
        make_default_model(args.stories)
    else:
        make_logits()


if __name__ == "__main__":
    main()
