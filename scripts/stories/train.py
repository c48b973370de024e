#!/usr/bin/env python3
"""Trains the default model (stories, vocabulary, a small Llama) and writes it as a Hugging Face folder.

    scripts/stories/train.py -o build/stories        writes model.safetensors, config.json, tokenizer.model and
                                                     curve.csv (step, training loss, held-out loss) there

A row of a batch is one whole story from BOS to EOS, just as it will be generated: positions start at 0 and nothing
precedes it. Rows of similar length are batched together. Padding comes after the end, where causal attention cannot
see it, and does not count in the loss. Each story is seen once. The options give other models, such as the one that
docs/quantising.md measures.
"""

import argparse
import csv
import json
import math
import time
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from corpus import SEED, TRAINING, split
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

BATCH = 16  # stories: about 6,000 tokens
STEPS = TRAINING // BATCH
VOCAB_STORIES = 20000  # from which the vocabulary is made
VOCAB_SIZE = 1024
CONTEXT = 512  # the longest story has fewer tokens

PEAK_RATE = 3e-3
WARM_UP = 0.03  # shares of all steps: the rate rises, stays constant, then falls to zero
COOL_DOWN = 0.45
EVALUATE_EVERY = 100

HIDDEN_SIZE, INTERMEDIATE_SIZE = 128, 320


def model_config(hidden_size, intermediate_size):
    return LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=None,
        initializer_range=0.05,
    )


def train_vocabulary(texts, folder):
    """SentencePiece BPE with byte fallback, as in Llama 2. A newline is a character like any other."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=VOCAB_SIZE,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        max_sentence_length=1 << 14,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "tokenizer.vocab").unlink()
    settings = {
        "tokenizer_class": "LlamaTokenizer",
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "model_max_length": CONTEXT,
        "legacy": False,
    }
    (folder / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")  # where the converter looks for it
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


def encode(vocabulary, texts):
    rows = [np.array(ids, np.int64) for ids in vocabulary.encode(texts, add_bos=True, add_eos=True)]
    longest = max(map(len, rows))
    assert longest <= CONTEXT, f"a story has {longest} tokens, expected at most {CONTEXT}"
    return rows


def batches(rows, batch, generator):
    """Yields batches in random order: tensors (batch, longest) of tokens and of targets, -100 where there is none."""
    order = torch.randperm(len(rows), generator=generator).tolist()
    pool = 64 * batch  # stories that are sorted by length
    for start in range(0, len(order), pool):
        pooled = sorted(order[start : start + pool], key=lambda i: len(rows[i]))
        groups = [pooled[i : i + batch] for i in range(0, len(pooled), batch)]
        for g in torch.randperm(len(groups), generator=generator).tolist():
            yield to_tensors([rows[i] for i in groups[g]])


def to_tensors(rows):
    tokens = np.full((len(rows), max(map(len, rows))), 0)
    targets = np.full_like(tokens, -100)
    for line, target, row in zip(tokens, targets, rows):
        line[: len(row)] = row
        target[: len(row) - 1] = row[1:]
    return torch.from_numpy(tokens), torch.from_numpy(targets)


def loss_of(model, tokens, targets, reduction="mean"):
    logits = model(input_ids=tokens, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction=reduction)


@torch.no_grad()
def held_out_loss(model, rows):
    """Mean loss in nats per token."""
    total = sum(loss_of(model, *to_tensors(rows[i : i + BATCH]), "sum").item() for i in range(0, len(rows), BATCH))
    return total / sum(len(row) - 1 for row in rows)


def rate(step, steps):
    warm, cool = WARM_UP * steps, COOL_DOWN * steps
    return PEAK_RATE * min(1, (step + 1) / warm, (steps - step) / cool)


def optimizer_for(model):
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98))


def train(model, rows, held_out, batch, folder):
    steps = math.ceil(len(rows) / batch)
    optimizer = optimizer_for(model)
    generator = torch.Generator().manual_seed(SEED)
    curve, recent, began = [], [], time.monotonic()
    progress = tqdm(batches(rows, batch, generator), total=steps, unit="step", disable=None)
    for step, (tokens, targets) in enumerate(progress):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        loss = loss_of(model, tokens, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent.append(loss.item())
        if not math.isfinite(recent[-1]):
            raise SystemExit(f"step {step}: the loss is {recent[-1]}")
        last = step + 1 == steps
        if (step + 1) % EVALUATE_EVERY == 0 or last:
            curve.append((step + 1, np.mean(recent), held_out_loss(model, held_out if last else held_out[:100])))
            recent.clear()
            progress.write(f"step {step + 1}: training {curve[-1][1]:.4f}, held out {curve[-1][2]:.4f}, "
                           f"{time.monotonic() - began:.0f} s")  # fmt: skip
            model.save_pretrained(folder)
            write_curve(curve, folder)


def write_curve(curve, folder):
    with open(folder / "curve.csv", "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["step", "training", "held_out"])
        writer.writerows([step, f"{a:.5f}", f"{b:.5f}"] for step, a, b in curve)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS, help=f"default {STEPS}; fewer for a trial")
    parser.add_argument("--batch", type=int, default=BATCH, help="stories per step; default %(default)s")
    parser.add_argument("--hidden-size", type=int, default=HIDDEN_SIZE, help="default %(default)s")
    parser.add_argument("--intermediate-size", type=int, default=INTERMEDIATE_SIZE, help="default %(default)s")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    logging.disable_progress_bar()
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # more are no faster on matrices this small, and one keeps the order of sums fixed

    held_out, texts = split(args.steps * args.batch)
    vocabulary = train_vocabulary(texts[:VOCAB_STORIES], args.output)
    rows = encode(vocabulary, texts)
    model = LlamaForCausalLM(model_config(args.hidden_size, args.intermediate_size))
    print(f"{len(rows)} stories, {sum(map(len, rows))} tokens, {sum(p.numel() for p in model.parameters())} weights")
    train(model, rows, encode(vocabulary, held_out), args.batch, args.output)


if __name__ == "__main__":
    main()
