"""Keeps one process busy with batch requests for a long time, under a limit of its memory. Memory must not grow in the
second half of the time, and every answer must equal that of the first round.

    python3 tests/soak.py --run ./run --model models/stories.bin --seconds 3600

Each round has the same requests in another order: short and long prompts, some with a common prefix, all kinds of
sampling, stop texts, and lines that cannot be used. They come through a pipe that stays open until the time is up.
Prints one line at the end; exit 1 if an answer differed or memory grew.
"""

import argparse
import json
import random
import re
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

WORDS = "Once upon a time there was little dog who wanted to find his red ball in the garden and Mia said".split()
REQUESTS = 240
ROUNDS = 12  # at least
FLAT = 4 << 20  # bytes that memory may grow by in the second half of the answers: two huge pages


def requests():
    """The lines of a round. Each depends only on its position."""
    chance = random.Random(0)
    header = " ".join(chance.choices(WORDS, k=150))
    for i in range(REQUESTS):
        words = " ".join(chance.choices(WORDS, k=chance.choice([1, 5, 20, 100, 300])))
        request = {
            "id": i, "prompt": f"{header} {words}" if i % 3 == 0 else words, "seed": i,
            "max_tokens": chance.choice([1, 8, 40, 150]), "temperature": chance.choice([0, 0.5, 1, 1.5]),
            "top_p": chance.choice([0.5, 0.9, 1]), "top_k": chance.choice([0, 1, 40]), "min_p": chance.choice([0, 0.1]),
            "repetition_penalty": chance.choice([1, 1.3]), "ignore_eos": chance.random() < 0.3,
            "stop": chance.choice([[], [".", "!"], ["\n\n"]]),
        }  # fmt: skip
        if i % 16 == 5:
            request["prompt"] = "too long " * 2000
        if i % 16 == 6:
            request["temperature"] = "hot"
        yield json.dumps(request).encode() + (b"}" if i % 16 == 7 else b"") + b"\n"


def answer_of(line):
    """The part of a result that must be the same in every round: everything but line numbers."""
    result = json.loads(line)
    number = result.pop("index", None)
    if "error" in result:
        result["error"]["message"] = result["error"]["message"].replace(f"line {number}: ", "")
        if isinstance(result["id"], str):  # made of the line's number, of a line that is no object
            result.pop("id")
    return result


class Soak:
    def __init__(self, args):
        limit = args.limit << 20
        self.lines = list(requests())
        self.process = subprocess.Popen(
            [args.run, args.model, "-b", "-", "-o", "-", "-j", "1", "-q"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))  # fmt: skip
        self.end = time.monotonic() + args.seconds
        self.asked = []  # places of requests that are not yet answered, in order
        self.rounds = 0

    def ask(self):
        """Writes rounds until the time is over; the pipe keeps it from running ahead."""
        chance = random.Random(1)
        while time.monotonic() < self.end or self.rounds < ROUNDS:
            places = list(range(REQUESTS))
            chance.shuffle(places)
            for place in places:
                self.asked.append(place)
                self.process.stdin.write(self.lines[place])
            self.rounds += 1
        self.process.stdin.close()

    def resident(self):
        """Bytes of memory that the process has; 0 of one that has ended."""
        found = re.search(r"^VmRSS:\s*(\d+) kB$", Path(f"/proc/{self.process.pid}/status").read_text(), re.MULTILINE)
        return int(found[1]) << 10 if found else 0

    def run(self):
        """(answers, differences, tokens, bytes of memory after each quarter of a round)"""
        writer = threading.Thread(target=self.ask)
        writer.start()
        first, answers, different, tokens, memory = {}, 0, 0, 0, []
        for line in self.process.stdout:
            place, answer = self.asked.pop(0), answer_of(line)
            answers += 1
            tokens += answer.get("usage", {}).get("completion_tokens", 0)
            if first.setdefault(place, answer) != answer or answer.get("id", place) != place:
                different += 1
                print(f"request {place}: {answer}, at first {first[place]}", file=sys.stderr)
            if answers % (REQUESTS // 4) == 0:
                memory.append(self.resident())
        writer.join()
        return answers, different, tokens, memory


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--limit", type=int, default=256, help="MB of address space")
    args = parser.parse_args()
    soak = Soak(args)
    began = time.monotonic()
    answers, different, tokens, memory = soak.run()
    seconds, code = time.monotonic() - began, soak.process.wait()
    half = len(memory) // 2
    settled, most = max(memory[:half], default=0), max(memory[half:], default=0)
    print(f"{seconds:.0f} s, {soak.rounds} rounds, {answers} answers, {tokens} tokens: {different} differ from the first "
          f"round; memory {settled / 1e6:.1f} MB at most in the first half, {most / 1e6:.1f} MB in the second; "
          f"exit {code}")  # fmt: skip
    sound = answers == soak.rounds * REQUESTS and not different and 0 < most <= settled + FLAT and code == 1
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
