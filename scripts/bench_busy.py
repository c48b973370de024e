#!/usr/bin/env python3
"""Measures how ./run behaves on a busy machine: the default number of threads beside fixed ones, under several loads.

    scripts/bench_busy.py models/smollm2-135m.bin                  speeds, as a table
    scripts/bench_busy.py models/smollm2-135m.bin --changes        what happens when a neighbour comes or goes

A neighbour is a process that only computes, pinned to a processor, in the same scheduling group as ./run:

    idle    none                                   nice    one per processor, at nice 19
    one     on the last processor                  half    on the last processor, every second half millisecond
    all     one per processor                      free    in a session of its own, bound to no processor
    quota   none, but ./run is in a cgroup with a quota of one processor (needs permission to create one)

Single tokens, a prompt of about 600 tokens and a batch of 16 sequences run with the default number of threads, with
one and with one per processor, in turn; with --sum also with one thread bound to each processor, and the sum of these
speeds. A figure is the median of --rounds runs in which the rest of the machine took less than --others of a
processor; other runs are repeated, up to --tries times. Linux only.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PROCESSORS = sorted(os.sched_getaffinity(0))
PROMPT = "The history of the city began when the first people came to the river and built houses of wood and of stone. "
COMPUTE = "while True: pass"
COMPUTE_HALF = """
from time import perf_counter, sleep
while True:
    end = perf_counter() + 0.0005
    while perf_counter() < end: pass
    sleep(0.0005)
"""
LOADS = {  # name: (program, processors, nice)
    "idle": (None, [], 0),
    "one": (COMPUTE, PROCESSORS[-1:], 0),
    "all": (COMPUTE, PROCESSORS, 0),
    "nice": (COMPUTE, PROCESSORS, 19),
    "half": (COMPUTE_HALF, PROCESSORS[-1:], 0),
    "free": (COMPUTE, [None], 0),
    "quota": (None, [], 0),
}
CGROUPS = (("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "100000"), ("/sys/fs/cgroup", "cpu.max", "100000 100000"))


class Setting(NamedTuple):
    threads: int  # 0: the default
    processor: int | None = None  # to which they are bound


class Neighbours:
    """The processes of a load, while a `with` block runs."""

    def __init__(self, load, settling=0.2):
        self.program, self.processors, self.nice = LOADS[load]
        self.settling = settling  # seconds after their start

    def __enter__(self):
        self.running = [subprocess.Popen([sys.executable, "-c", self.program], preexec_fn=lambda p=p: self.place(p))
                        for p in self.processors]  # fmt: skip
        time.sleep(self.settling)
        return self

    def place(self, processor):
        if processor is None:
            os.setsid()
        else:
            os.sched_setaffinity(0, {processor})
        os.nice(self.nice)

    def __exit__(self, *_):
        for process in self.running:
            process.kill()
            process.wait()

    def seconds(self):
        """Processor time that they have used."""
        fields = [Path(f"/proc/{p.pid}/stat").read_text().rsplit(")", 1)[1].split() for p in self.running]
        return sum(int(f[11]) + int(f[12]) for f in fields) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def quota(load):
    """A cgroup that may use one processor, for the load of that name; else None."""
    if load != "quota":
        yield None
        return
    root, file, value = next(c for c in CGROUPS if Path(c[0], "cgroup.procs").exists())
    group = Path(root, f"bench_busy.{os.getpid()}")
    group.mkdir()
    try:
        (group / file).write_text(value)
        yield group
    finally:
        group.rmdir()


def busy_seconds():
    """Processor time that the whole machine has used, or that its host took from it."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def command(args, kind, folder):
    """The command that measures a kind of work, and how to compute a speed from its output and seconds."""
    base = [str(args.run), str(args.model), "-q", "-s", "1", "--ignore-eos", "--lookup", "0"]
    if kind == "token":
        return [*base, "--json", "-i", PROMPT, "-n", "200"], lambda out, _: json.loads(out)["decode_per_second"]
    if kind == "prompt":
        return [*base, "--json", "-i", PROMPT * 26, "-n", "1"], lambda out, _: json.loads(out)["prompt_per_second"]
    requests = Path(folder) / "requests.jsonl"
    requests.write_text("".join(json.dumps({"prompt": f"Story {i}:"}) + "\n" for i in range(16)), encoding="utf-8")
    return [*base, "--batch", str(requests), "--parallel", "16", "-n", "48"], lambda _, seconds: 16 * 48 / seconds


def measure(args, kind, setting, neighbours, group, folder):
    """A speed in tokens per second, and how many processors were taken by what is neither ours nor a neighbour."""
    words, speed = command(args, kind, folder)
    threads = ["-j", str(setting.threads)] if setting.threads else []

    def place():
        if group:
            (group / "cgroup.procs").write_text(str(os.getpid()))
        if setting.processor is not None:
            os.sched_setaffinity(0, {setting.processor})

    start, busy, ours = time.monotonic(), busy_seconds(), own_seconds() + neighbours.seconds()
    done = subprocess.run([*words, *threads], check=True, capture_output=True, preexec_fn=place)
    seconds = time.monotonic() - start
    others = busy_seconds() - busy - (own_seconds() + neighbours.seconds() - ours)
    return speed(done.stdout, seconds), others / seconds


def medians(args, kind, load, settings, folder):
    """The median speed of each setting; None if the machine was too busy."""
    found, tries = {s: [] for s in settings}, 0
    while tries < args.tries and min(map(len, found.values())) < args.rounds:
        tries += 1
        with Neighbours(load) as neighbours, quota(load) as group:
            for setting in settings:
                speed, others = measure(args, kind, setting, neighbours, group, folder)
                if others < args.others:
                    found[setting].append(speed)
    return [statistics.median(v) for v in found.values()] if all(found.values()) else None


def speeds(args, folder):
    """Prints the speeds, row by row."""
    settings = [Setting(0), Setting(1), Setting(len(PROCESSORS))]
    settings += [Setting(1, p) for p in PROCESSORS] if args.sum else []
    heads = ["", "", "default", "`-j 1`", f"`-j {len(PROCESSORS)}`", "default / best", "default / idle"]
    heads += ["default / sum"] if args.sum else []
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for kind in args.kinds.split(","):
        idle = None
        for load in args.loads.split(","):
            found = medians(args, kind, load, settings, folder)
            if not found:
                print(f"| {kind} | {load} | the machine is too busy with other work |", flush=True)
                continue
            default, *fixed = found[:3]
            idle = default if load == "idle" else idle
            cells = [f"{v:.0f}" for v in (default, *fixed)] + [f"{default / max(fixed):.2f}"]
            cells += [f"{default / idle:.0%}" if idle else ""] + ([f"{default / sum(found[3:]):.2f}"] if args.sum else [])
            print(f"| {kind} | {load} | {' | '.join(cells)} |", flush=True)


def token_times(args, threads, plan):
    """When each token came, in seconds, while a neighbour comes and goes at the times of the plan."""
    words = [str(args.run), str(args.model), "-q", "-s", "1", "--ignore-eos", "--lookup", "0", "-i", PROMPT, "-n", "2000"]
    process = subprocess.Popen([*words, *(["-j", str(threads)] if threads else [])], stdout=subprocess.PIPE)
    os.set_blocking(process.stdout.fileno(), False)
    start, times, neighbour, plan = time.monotonic(), [], None, list(plan)
    end = plan.pop()
    while (now := time.monotonic() - start) < end:
        if plan and now >= plan[0]:
            plan.pop(0)
            if neighbour:
                neighbour.__exit__()
            neighbour = None if neighbour else Neighbours("one", 0).__enter__()
        if process.stdout.read():
            times.append(now)
        time.sleep(0.0005)
    if neighbour:
        neighbour.__exit__()
    process.kill()
    process.wait()
    return times


def rate(times, begin, end):
    return sum(begin <= t < end for t in times) / (end - begin)


def changes(args):
    """A neighbour comes and goes: when is the speed within 7 % of what it is at last, and how much work is lost until then?"""
    plan = [1.5 + i * args.phase for i in range(4)]
    times = token_times(args, 0, plan)
    for i, (begin, end) in enumerate(zip(plan, plan[1:], strict=False)):
        final = rate(times, end - 1, end)
        bins = [begin + 0.05 * k for k in range(int((end - begin - 0.25) / 0.05))]
        found = next((t for t in bins if rate(times, t, t + 0.25) >= 0.93 * final), end)
        lost = (end - begin) * (1 - rate(times, begin, end) / final)
        text = ", ".join(f"{rate(times, begin + 0.25 * k, begin + 0.25 * (k + 1)):.0f}" for k in range(6))
        print(f"a neighbour {'goes' if i % 2 else 'comes'}: {text} ... {final:.0f} tokens/s; "
              f"found after {found - begin:.2f} s, {lost:.2f} s of work lost")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--run", type=Path, default=ROOT / "run")
    parser.add_argument("--changes", action="store_true")
    parser.add_argument("--phase", type=float, default=2, metavar="SECONDS", help="between changes")
    parser.add_argument("--kinds", default="token,prompt,batch")
    parser.add_argument("--loads", default=",".join(LOADS))
    parser.add_argument("--sum", action="store_true", help="also one thread on each processor, whose speeds are summed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tries", type=int, default=9)
    parser.add_argument("--others", type=float, default=0.1)
    args = parser.parse_args()
    args.run = args.run.resolve()
    if args.changes:
        changes(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        speeds(args, folder)


if __name__ == "__main__":
    main()
