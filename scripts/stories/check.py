#!/usr/bin/env python3
"""Judges the stories that the default model tells.

    scripts/stories/check.py [--run ./run] [--model models/stories.bin] [--count 500] [--json]

Samples stories from nothing (seeds 1, 2, ..; temperature 0.8, no top-p) and counts how many

    finish      end by themselves, within the context
    name        keep their main character's name: the first and the last paragraph have it, and each other name enters
                as "named", "called" or "name is" someone, so that nobody turns into somebody else
    pronouns    of the stories with one name and no mother in them (she is "she" in some): never he and she both
    words       have no word that is not in the corpus
    new         are not in the training text

and the longest runs of words that are. The corpus is told again, from its seed. Exit status 1 where a share is below
what is wanted.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from corpus import split
from grammar import BOYS, GIRLS, HE_ANIMALS, NAMES, SHE_ANIMALS
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent.parent
WANTED = {"finish": 0.95, "name": 0.95, "words": 0.95, "new": 0.90}

WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
NAME = re.compile(rf"\b({'|'.join(sorted(NAMES))})\b")
INTRODUCTION = re.compile(rf"(?:\w (?:named|called)|[Nn]ame (?:is|was)|am called) ({'|'.join(sorted(NAMES))})\b")
SHE, HE = re.compile(r"\b([Ss]he|[Hh]ers?|[Hh]erself)\b"), re.compile(r"\b([Hh]e|[Hh]im|[Hh]is|[Hh]imself)\b")


def keeps_name(text):
    names = NAME.findall(text)
    if not names:
        return False
    hero, paragraphs = names[0], text.split("\n\n")
    introduced = {hero, *INTRODUCTION.findall(text)}
    return all(hero in NAME.findall(p) for p in (paragraphs[0], paragraphs[-1])) and introduced.issuperset(names)


def keeps_pronouns(text):
    """None where the story has more than one character that may be he or she."""
    names = set(NAME.findall(text))
    if len(names) != 1 or re.search(r"\b([Mm]other|Mama)\b", text):
        return None
    name = names.pop()
    other = HE if name in GIRLS + SHE_ANIMALS else SHE
    assert name in BOYS + HE_ANIMALS or other is HE
    return not other.search(text)


def words(text):
    return {word.lower() for word in WORD.findall(text)}


def tell(run, model, seed):
    """(text, whether it ended by itself)"""
    command = [run, model, "-i", "", "-n", "0", "-t", "0.8", "-p", "0", "-s", str(seed), "--json"]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return answer["text"].strip(), answer["finish_reason"] == "stop"


class Runs:
    """Finds the longest runs of words that a text has in common with the training text.

    A window of n words has a hash that is the difference of two prefix sums, so all windows of a length are hashed at
    once, and looked up in the sorted hashes of the other side.
    """

    BASE = 0x9E3779B97F4A7C15  # odd, hence with an inverse modulo 2^64

    def __init__(self, training, told):
        self.ids = {}
        self.training = self.prefix_sums(training)
        self.told = self.prefix_sums(told)
        self.story = np.repeat(np.arange(len(told)), [len(text.split()) + 1 for text in told])

    def prefix_sums(self, texts):
        """A word's id times a power of the base, summed up; between two stories stands a word that no other has."""
        ids = []
        for text in texts:
            ids += [self.ids.setdefault(word, len(self.ids) + 1) for word in text.split()]
            ids.append(self.ids.setdefault(("end", len(self.ids)), len(self.ids) + 1))
        powers = self.powers(self.BASE, len(ids))
        return np.concatenate([np.zeros(1, np.uint64), np.cumsum(np.array(ids, np.uint64) * powers)])

    @staticmethod
    def powers(base, n):
        factors = np.full(n, base, np.uint64)
        factors[0] = 1
        return np.cumprod(factors)

    def hashes(self, sums, n):
        """Of the windows of n words; moved to power zero, so that equal windows are equal wherever they stand."""
        windows = sums[n:] - sums[:-n]
        return windows * self.powers(pow(self.BASE, -1, 1 << 64), len(windows))

    def share(self, n):
        """Share of the told stories that have n words in a row from the training text."""
        found = np.isin(self.hashes(self.told, n), np.unique(self.hashes(self.training, n)))
        return len(set(self.story[: len(found)][found])) / (self.story[-1] + 1)

    def longest(self, share):
        """The longest run of words that at least this share of the stories has copied."""
        low, high = 0, 512
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.share(middle) >= share else (low, middle)
        return low


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, default=ROOT / "run")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "stories.bin")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--show", action="store_true", help="print the stories that are found wanting")
    args = parser.parse_args()

    held_out, training = split()
    corpus_words = set().union(*map(words, training))
    told = [tell(args.run, args.model, seed) for seed in tqdm(range(1, args.count + 1), "told", disable=None)]
    texts = [text for text, _ in told]
    pronouns = [kept for kept in map(keeps_pronouns, texts) if kept is not None]
    known = set(training)
    results = {
        "finish": [finished for _, finished in told],
        "name": [keeps_name(text) for text in texts],
        "words": [words(text) <= corpus_words for text in texts],
        "new": [text not in known for text in texts],
        "pronouns": pronouns,
    }
    if args.show:
        for seed, (text, *good) in enumerate(zip(texts, results["finish"], results["name"], results["words"]), 1):
            if not all(good):
                print(f"--- seed {seed}: finish, name, words: {good}; {sorted(words(text) - corpus_words)}\n{text}\n")
    failed = False
    for name, kept in results.items():
        share, wanted = sum(kept) / len(kept), WANTED.get(name)
        failed |= wanted is not None and share < wanted
        print(f"{name:10} {share:7.1%} of {len(kept)}" + (f", wanted {wanted:.0%}" if wanted else ""))
    runs, least = Runs(training, texts), 1 / len(texts)
    print(f"copied     longest run {runs.longest(least)} words, in half of the stories {runs.longest(0.5)}; "
          f"a story has {np.mean([len(text.split()) for text in texts]):.0f}")  # fmt: skip
    fresh = Runs(training, held_out[: len(texts)])
    print(f"held out   longest run {fresh.longest(least)} words, in half of the stories {fresh.longest(0.5)}: "
          f"what the grammar itself repeats")  # fmt: skip
    return failed


if __name__ == "__main__":
    sys.exit(main())
