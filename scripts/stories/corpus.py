#!/usr/bin/env python3
"""Writes the stories that the default model is trained on.

    scripts/stories/corpus.py --count 3                       three stories on stdout, to look at
    scripts/stories/corpus.py --count 200000 -o stories.jsonl  one JSON string per line

Story i depends only on the seed and i. Duplicates and stories that are too long are left out.
"""

import argparse
import itertools
import json
import sys

from grammar import Story
from plots import PLOTS
from tqdm import tqdm

SEED = 1
HELD_OUT = 1000  # the first stories are never trained on
TRAINING = 48000
MAX_WORDS = 240  # longer stories are left out, so that every story fits the model's context


def tell(seed, i):
    """The text of story i."""
    story = Story(f"{seed}/{i}")
    return story.text(story.random.choice(PLOTS)(story))


def stories(seed, count):
    """Yields the first `count` distinct stories."""
    told = set()
    for i in itertools.count():
        if len(told) == count:
            return
        text = tell(seed, i)
        if text not in told and len(text.split()) <= MAX_WORDS:
            told.add(text)
            yield text


def split(training=TRAINING):
    """The stories of the default model: (held out, training)."""
    texts = list(tqdm(stories(SEED, HELD_OUT + training), "stories", HELD_OUT + training, disable=None))
    return texts[:HELD_OUT], texts[HELD_OUT:]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("-o", "--output", help="default: stdout, as plain text")
    args = parser.parse_args()
    if not args.output:
        for text in stories(args.seed, args.count):
            print(text, end="\n\n\n")
        return
    with open(args.output, "w", encoding="utf-8") as out:
        for text in stories(args.seed, args.count):
            print(json.dumps(text), file=out)


if __name__ == "__main__":
    sys.exit(main())
