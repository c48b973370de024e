#!/usr/bin/env python3
"""Checks the quality of the stories that the default model tells.

    scripts/stories/check.py [--run ./run] [--model models/stories.bin] [--count 500] [--top-p 0.9] [--show]

Samples stories without a prompt (seeds 1, 2, ..; temperature 0.8, otherwise the defaults) and counts how many

    finish      end by themselves, within the context
    name        keep their main character's name: the first and the last paragraph have it, and every other name is
                introduced by "named", "called" or "name is", so that nobody turns into somebody else
    pronouns    never use both he and she, of the stories with one name and no mother (whom some call "she")
    words       have no word that is not in the corpus
    new         do not occur in the training text

It also finds the longest run of words that stories share with the training text, and the same for held-out stories,
which shows how much the grammar repeats itself. The corpus is generated again from its seed. Exit status 1 if a share
is below the required one.
"""

import argparse
import json
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
from corpus import split
from grammar import BOYS, GIRLS, HE_ANIMALS, NAMES, SHE_ANIMALS
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent.parent
REQUIRED = {"finish": 0.95, "name": 0.95, "words": 0.95, "new": 0.90}

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
    """Whether the pronouns fit the name; None if more than one character may be he or she."""
    names = set(NAME.findall(text))
    if len(names) != 1 or re.search(r"\b([Mm]other|Mama)\b", text):
        return None
    name = names.pop()
    other = HE if name in GIRLS + SHE_ANIMALS else SHE
    assert name in BOYS + HE_ANIMALS or other is HE
    return not other.search(text)


def words(text):
    return {word.lower() for word in WORD.findall(text)}


def options(seed, top_p=0.9):
    """Options for a story without a prompt. One thread: threads change no bit, and a story is short."""
    return ["-i", "", "-n", "0", "-t", "0.8", "-p", str(top_p), "-s", str(seed), "-j", "1", "--json"]


def tell(run, model, seed, top_p):
    """{"text": .., "finish_reason": .., ..}"""
    command = [run.resolve(), model, *options(seed, top_p)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


class Runs:
    """Finds the longest runs of words that texts have in common with the training text.

    The hash of a window of n words is the difference of two prefix sums, so all windows of one length are hashed at
    once. Then the windows of the training text are looked up among those of the other texts.
    """

    BASE = 0x9E3779B97F4A7C15  # odd, so it has an inverse modulo 2^64

    def __init__(self, training):
        self.ids = {}
        self.training = self.prefix_sums(training)

    def prefix_sums(self, texts):
        """Prefix sums of word id times a power of the base. A unique word separates two stories."""
        ids = []
        for text in texts:
            ids += [self.ids.setdefault(word, len(self.ids) + 1) for word in text.split()]
            ids.append(self.ids.setdefault(("end", len(self.ids)), len(self.ids) + 1))
        terms = np.array(ids, np.uint64) * powers(self.BASE, len(ids))
        return np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms)])

    def hashes(self, sums, n):
        """Hashes of all windows of n words, shifted to power zero so that equal windows have equal hashes anywhere."""
        windows = sums[n:] - sums[:-n]
        return windows * powers(pow(self.BASE, -1, 1 << 64), len(windows))

    def longest(self, texts):
        """The longest run of words in (any of the texts, half of the texts)."""
        sums = self.prefix_sums(texts)
        story = np.repeat(np.arange(len(texts)), [len(text.split()) + 1 for text in texts])

        @lru_cache(maxsize=None)
        def stories_with(n):
            table, place = np.unique(self.hashes(sums, n), return_inverse=True)
            if not len(table):
                return 0
            looked_up = self.hashes(self.training, n)
            at = np.searchsorted(table, looked_up) % len(table)
            copied = np.zeros(len(table), bool)
            copied[at[table[at] == looked_up]] = True
            return len(np.unique(story[: len(place)][copied[place]]))

        def most(least):
            low, high = 0, 512
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if stories_with(middle) >= least else (low, middle)
            return low

        return most(1), most(len(texts) / 2)


def powers(base, n):
    """1, base, base^2, .. modulo 2^64."""
    factors = np.full(n, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, default=ROOT / "run")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "stories.bin")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--top-p", type=float, default=0.9, help="default 0.9, as the program's; 0: off")
    parser.add_argument("--show", action="store_true", help="print the stories that fail a check")
    args = parser.parse_args()

    held_out, training = split()
    corpus_words = set().union(*map(words, training))
    seeds = tqdm(range(1, args.count + 1), "told", disable=None)
    told = [tell(args.run, args.model, seed, args.top_p) for seed in seeds]
    texts = [story["text"] for story in told]
    pronouns = [kept for kept in map(keeps_pronouns, texts) if kept is not None]
    known = set(training)
    results = {
        "finish": [story["finish_reason"] == "stop" for story in told],
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
        share, expected = sum(kept) / max(len(kept), 1), REQUIRED.get(name)
        failed |= expected is not None and share < expected
        print(f"{name:10} {share:7.1%} of {len(kept)}" + (f", expected {expected:.0%}" if expected else ""))
    runs = Runs(training)
    for name, texts in (("copied", texts), ("held out", held_out[: len(texts)])):  # the latter are the grammar's
        longest, usual = runs.longest(texts)
        mean = np.mean([len(text.split()) for text in texts])
        print(f"{name:10} longest run {longest} words, in half of the stories {usual}; a story has {mean:.0f}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
