#!/usr/bin/env python3
"""Draws docs/roofline.svg: how close the 1.1B model in q4 comes to the machine's limits, with llama.cpp beside it.

    scripts/make_roofline.py [OUT.svg]

All figures are read from docs/performance.md, section "Measurements": the limits of the machine, and the column "1.1B q4" of
the first table (tokens per second, share of the limit, and how many times llama.cpp's speed that is). llama.cpp's dots
are ours divided by that factor. scripts/bench.py draws its own measurements by the same function.

A roofline plots speed over arithmetic intensity, both on logarithmic axes. A pass reads each weight once and multiplies
it with each of its rows, so its intensity is proportional to its rows: one row for a single token, one per sequence of a
batch, up to 256 for a prompt. No pass can be above the roof: the bandwidth's slope on the left, the arithmetic peak on
the right.
"""

import argparse
import html
import math
import re
from collections import namedtuple
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/roofline.svg"
CHUNK = 256  # rows of a prompt that ./run multiplies together

# TinyLlama's shape, without the rows of the embedding, which are looked up: 22 layers in q4 (4.5 bits a weight) and
# lm_head in q8 (8.5 bits). `./run MODEL --info --json` has both sums.
WEIGHTS = 1_034_420_224  # multiply-adds per row
BYTES = 614_629_376  # read in a pass

# A measurement: rows of the pass, billion multiply-adds a second, what is written beside it, and whether it is of ./run.
Dot = namedtuple("Dot", "rows speed label ours")
# limits of the machine: GB/s of memory, billion multiply-adds a second on 8-bit integers (or None) and on f32
Limits = namedtuple("Limits", "read_gbs int8_gmacs f32_gmacs")

WIDTH, HEIGHT = 900, 540  # pixels, as all sizes here
LEFT, RIGHT, TOP, BOTTOM = 62, 884, 46, 470  # edges of the plot
LABEL, CHARACTER = 15, 7  # height of a label, width of its characters at most
INK, MUTED, GRID, OURS, THEIRS = "#1f2933", "#5b6670", "#e3e7eb", "#1f6f8b", "#b5482a"


class Axis:
    """A logarithmic axis: maps values from low to high to pixels from start to end."""

    def __init__(self, low, high, start, end):
        self.low, self.high, self.start = low, high, start
        self.decade = (end - start) / math.log10(high / low)

    def __call__(self, value):
        return self.start + self.decade * math.log10(value / self.low)

    def ticks(self):
        """1, 2 and 5 of each decade."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = (step * 10.0**decade for decade in decades for step in (1, 2, 5))
        return [value for value in values if self.low <= value <= self.high]


def text(x, y, content, attributes=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{html.escape(content)}</text>'


def line(points, attributes):
    return f'<path d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in points)}" {attributes}/>'


def number(value):
    return f"{value:.0f}" if value >= 9.95 else f"{value:.2g}"


def roofs(x, y, limits):
    """The slope of the memory and the peaks, each with its name on it."""
    peaks = [(limits.f32_gmacs, "f32 peak", 'class="low"')]
    if limits.int8_gmacs:
        peaks.append((limits.int8_gmacs, "8-bit integer peak", 'class="roof"'))
    top = max(peak for peak, _, _ in peaks)
    parts = [line([(x(x.low), y(x.low * limits.read_gbs)), (x(top / limits.read_gbs), y(top))], 'class="roof"')]
    for peak, name, style in peaks:
        parts.append(line([(x(peak / limits.read_gbs), y(peak)), (RIGHT, y(peak))], style))
        parts.append(text(RIGHT - 4, y(peak) - 7, f"{name}: {peak:.0f} billion/s", 'class="peak" text-anchor="end"'))
    middle = x.low * (top / limits.read_gbs / x.low) ** 0.5
    at, height = x(middle), y(middle * limits.read_gbs)
    angle = math.degrees(math.atan2(y.decade, x.decade))
    parts.append(text(at, height - 8, f"memory: {limits.read_gbs:.0f} GB/s",
                      f'class="peak" text-anchor="middle" transform="rotate({angle:.1f} {at:.1f} {height:.1f})"'))  # fmt: skip
    return parts


def spread(heights):
    """Heights of labels, top down, moved as little as keeps them LABEL apart."""
    placed = []
    for height in heights:
        placed.append(max(height, placed[-1] + LABEL) if placed else height)
    shift = (sum(heights) - sum(placed)) / len(heights)
    return [height + shift for height in placed]


def columns(dots):
    """Dots with the same rows, the fastest first."""
    found = {}
    for dot in sorted(dots, key=lambda dot: (dot.rows, -dot.speed)):
        found.setdefault(dot.rows, []).append(dot)
    return found


def mark(dots, x, y, per_row):
    """The dots and what is written to the right of them."""
    parts = []
    for rows, column in columns(dots).items():
        at = x(rows * per_row)
        heights = spread([y(dot.speed) for dot in column])
        for dot, height in zip(column, heights):
            colour = OURS if dot.ours else THEIRS
            fill = colour if dot.ours else "#ffffff"
            # A label that would run into a dot further right goes below its own.
            end = at + 10 + CHARACTER * len(dot.label)
            below = any(at < x(d.rows * per_row) < end and abs(y(d.speed) - height) < LABEL for d in dots)
            parts.append(f'<circle cx="{at:.1f}" cy="{y(dot.speed):.1f}" r="4.5" fill="{fill}" stroke="{colour}" '
                         f'stroke-width="1.8"/>')  # fmt: skip
            parts.append(text(at + (2 if below else 10), height + (4 + LABEL if below else 4), dot.label,
                              f'fill="{colour}"'))  # fmt: skip
    return parts


def draw(title, limits, per_row, dots, notes=()):
    """The picture as SVG. per_row is the intensity of a pass of one row: multiply-adds per byte of weights."""
    peak = max(limits.int8_gmacs or 0, limits.f32_gmacs)
    slowest = min(dot.speed for dot in dots)
    # On the right there is room for the labels of the last column.
    x = Axis(per_row * 0.6, per_row * max(dot.rows for dot in dots) * 20, LEFT, RIGHT)
    y = Axis(min(slowest, x.low * limits.read_gbs) * 0.8, peak * 1.6, BOTTOM, TOP)
    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>',
             text(LEFT, 28, title, 'class="title"')]  # fmt: skip
    for value in y.ticks():
        parts.append(line([(LEFT, y(value)), (RIGHT, y(value))], f'stroke="{GRID}"'))
        parts.append(text(LEFT - 8, y(value) + 4, number(value), 'class="tick" text-anchor="end"'))
    for rows in columns(dots):
        at = x(rows * per_row)
        parts.append(line([(at, TOP), (at, BOTTOM + 5)], f'stroke="{GRID}"'))
        parts.append(text(at, BOTTOM + 18, number(rows * per_row), 'class="tick" text-anchor="middle"'))
        parts.append(text(at, BOTTOM + 32, f"{rows} row{'s' if rows > 1 else ''}", 'class="tick" text-anchor="middle"'))
    parts.append(line([(LEFT, TOP), (LEFT, BOTTOM), (RIGHT, BOTTOM)], f'fill="none" stroke="{MUTED}"'))
    parts += roofs(x, y, limits)
    parts += mark(dots, x, y, per_row)
    parts.append(text(RIGHT, BOTTOM + 18, "multiply-adds per byte of weights read", 'class="tick" text-anchor="end"'))
    parts.append(text(16, TOP, "billion multiply-adds per second", f'class="tick" text-anchor="end" '
                      f'transform="rotate(-90 16 {TOP})"'))  # fmt: skip
    for i, note in enumerate(notes):
        parts.append(text(LEFT, BOTTOM + 52 + 15 * i, note, 'class="tick"'))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">
<title>{html.escape(title)}</title>
<style>
text {{ font-family: sans-serif; font-size: 12.5px }}
.title {{ font-size: 15px; font-weight: bold; fill: {INK} }}
.tick {{ font-size: 12px; fill: {MUTED} }}
.peak {{ fill: {INK} }}
.roof {{ fill: none; stroke: {INK}; stroke-width: 2 }}
.low {{ fill: none; stroke: {INK}; stroke-width: 1.4; stroke-dasharray: 6 4 }}
</style>
""" + "\n".join(parts) + "\n</svg>\n"


def measured():
    """The limits and the rows of the table in docs/performance.md: {load: (tokens/s, share in %, times llama.cpp or None)}."""
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    limits = re.search(r"(\d+) GB/s, (\d+) billion\s+8-bit and (\d+) billion\s+f32", page)
    table = page.split("| | 1.1B q4 |")[1].split("\n\n")[0]
    loads = {}
    for row in table.splitlines()[2:]:
        load, speed, share, times = [cell.strip() for cell in row.split("|")][1:5]
        loads[load] = (float(speed), share, float(times.rstrip(" x")) if times else None)
    return Limits(*map(float, limits.groups())), loads


def dots_of(load, speed, share, times):
    """Our dot and llama.cpp's. A load of two sizes, "prompt of 2016, 2048", was 2016 tokens long on this model."""
    load = load.split(",")[0]
    rows = 1 if load.startswith("token") else min(CHUNK, int(re.search(r"\d+", load).group()))
    billions = speed * WEIGHTS * 1e-9
    yield Dot(rows, billions, f"{load}: {speed:.0f} tokens/s, {share}", True)
    if times:
        theirs = float(share.rstrip(" %")) / times
        yield Dot(rows, billions / times, f"llama.cpp, {load}: {theirs:.0f} % (1/{times:g})", False)


def picture():
    limits, loads = measured()
    dots = [dot for load, figures in loads.items() for dot in dots_of(load, *figures)]
    notes = ["Share of the limit of each load, which counts the keys and values read as well as the weights.",
             "Hollow dots: llama.cpp with the same weights, and its speed as a fraction of ours."]  # fmt: skip
    return draw("1.1B in q4, two cores: speed and the roofs above it", limits, WEIGHTS / BYTES, dots, notes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=PICTURE)
    parser.parse_args().out.write_text(picture(), encoding="utf-8")
