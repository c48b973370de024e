#!/usr/bin/env python3
"""Draws docs/house.svg from the sources: the rooms from the roof down, the files in them, and who includes whom.

    scripts/make_house.py [OUT.svg]

The rows come from the table HOUSE of tests/test_layers.py, the files and the arrows from the sources as they are now.

How the picture is laid out. The house stands on the left. On its right each room that includes another has one line of
its own, a lane, which runs down to the lowest room that it includes. Each room that is included has one rail, which runs
from the lanes into the house, along the gap above the room's storey, and ends in an arrow on the room. A dot marks
where a lane joins a rail; lines that cross without a dot have nothing to do with each other:

    | room A |-----.        the lane of A
                   |
       .-----------o--.     the rail of B: A includes B, and so does the room whose lane is further right
       v           |
    | room B |

Upper rooms have the outer lanes, so no line that leaves a room crosses a lane, and nothing crosses inside the house.
"""

import argparse
import ast
import fnmatch
import html
import re
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/house.svg"

# Rows that share a storey, a matter of looks only: no room includes a neighbour.
STOREYS = [
    ["run.c"], ["cli/"], ["batch/"], ["options"], ["generate"], ["classify"], ["engine", "encode"],
    ["logprobs", "lookup", "sampler", "tokenizer", "model"],
    ["cache"], ["formats/"], ["text/"], ["ops"], ["simd/"], ["base/"],
]  # fmt: skip
FOUNDATION = "base/"  # every room may use it; arrows to it would hide the others

# All sizes are in pixels; the width of a character of a monospaced font is 0.6 of its size.
WIDTH, LEFT, HOUSE_RIGHT = 900, 16, 636
PAD = 12  # between the walls and the rooms
ROOM_GAP, ROOM_PAD = 12, 12
NAME_SIZE, FILE_SIZE = 15, 12
LINE = 17  # height of a line of file names
NAME_WIDTH = 106  # room names stand left of the files
LANE = 20  # between two lanes, less where there are many
RAIL = 9  # between two lines of a gap
ARROW, EXIT = 72, 36  # where arrows enter a room and lines leave it, left of its right wall
ROOF_TOP, ROOF = 12, 44
INK, MUTED, WALL = "#1f2933", "#5b6670", "#9aa5b1"
TOP_FILL, FOLDER_FILL, FOUNDATION_FILL = "#fdf0cf", "#dcebf7", "#e4e7eb"
COLOURS = ["#b5482a", "#1f6f8b", "#6b4fa0", "#2e7d4f", "#9a6a00", "#a3386c"]


def house():
    """The table HOUSE of tests/test_layers.py: {row: (pattern of its files, rows that it may include)}."""
    tree = ast.parse((ROOT / "tests/test_layers.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and [getattr(t, "id", None) for t in node.targets] == ["HOUSE"]:
            return ast.literal_eval(node.value)
    sys.exit("tests/test_layers.py has no table HOUSE")


def storeys(rows):
    """STOREYS without the rows that have no files. It must list the rows of HOUSE, in the same order."""
    listed = [row for storey in STOREYS for row in storey]
    if listed != list(rows):
        sys.exit(f"the rows of HOUSE and STOREYS differ: {list(rows)}, {listed}")
    kept = ([row for row in storey if rows[row]] for storey in STOREYS)
    return [storey for storey in kept if storey]


def row_of(name, table):
    return next((row for row, (pattern, _) in table.items() if fnmatch.fnmatch(name, pattern)), None)


def sources(table):
    """{row: its files, sorted}"""
    rows = {row: [] for row in table}
    for path in sorted([*ROOT.glob("*.[ch]"), *ROOT.glob("*/*.[ch]")]):
        row = row_of(path.relative_to(ROOT).as_posix(), table)
        if row:
            rows[row].append(path)
    return rows


def arrows(rows, table):
    """{row: the other rows whose headers its files include}"""
    found = defaultdict(set)
    for row, paths in rows.items():
        for path in paths:
            for header in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE):
                target = row_of(header, table)
                if target not in (None, row, FOUNDATION):
                    found[row].add(target)
    return found


def labels(row, paths):
    """What a room shows: the names of its files, `name` for the pair name.c and name.h."""
    if not row.endswith("/"):
        return [path.name for path in paths]
    suffixes = defaultdict(list)
    for path in paths:
        suffixes[path.stem].append(path.suffix)
    return [stem if len(found) == 2 else stem + found[0] for stem, found in suffixes.items()]


def wrap(names, width):
    """Lines of names, none wider than width pixels."""
    lines, columns = [[]], int(width / (0.6 * FILE_SIZE))
    for name in names:
        if lines[-1] and len("  ".join([*lines[-1], name])) > columns:
            lines.append([])
        lines[-1].append(name)
    return ["  ".join(line) for line in lines]


class Room:
    """A room on the page. Rooms side by side have their files below the name, others beside it."""

    def __init__(self, row, paths, left, right, alone):
        self.row, self.left, self.right, self.alone = row, left, right, alone
        room = right - left - 2 * ROOM_PAD - (NAME_WIDTH if alone else 0)
        self.lines = wrap(labels(row, paths), room)
        self.height = LINE * (len(self.lines) + (0 if alone else 1)) + 12
        self.top = 0  # set when the gap above is known

    def draw(self):
        folder = self.row.endswith("/")
        fill = FOUNDATION_FILL if self.row == FOUNDATION else FOLDER_FILL if folder else TOP_FILL
        x, y = self.left + ROOM_PAD, self.top + 6 + LINE - 4
        parts = [f'<rect x="{self.left}" y="{self.top}" width="{self.right - self.left}" height="{self.height}" rx="4" '
                 f'fill="{fill}" stroke="{WALL}"/>',
                 text(x, y, self.row, f'class="name" font-size="{NAME_SIZE}"')]  # fmt: skip
        for i, line in enumerate(self.lines, 0 if self.alone else 1):
            parts.append(text(x + (NAME_WIDTH if self.alone else 0), y + i * LINE, line, 'class="file"'))
        return parts


def text(x, y, content, attributes=""):
    return f'<text x="{x:g}" y="{y:g}" {attributes}>{html.escape(content)}</text>'


def furnish(floors, rows):
    """The rooms of each storey, without their height on the page."""
    left, right = LEFT + PAD, HOUSE_RIGHT - PAD
    furnished = []
    for storey in floors:
        width = (right - left - ROOM_GAP * (len(storey) - 1)) // len(storey)
        edges = [left + i * (width + ROOM_GAP) for i in range(len(storey))]
        alone = len(storey) == 1
        furnished.append([Room(row, rows[row], x, x + width, alone) for row, x in zip(storey, edges)])
    return furnished


def lay_out(furnished, found):
    """Stacks the storeys. Returns the y of each rail, {row: y}, of each room's exit, {row: y}, and of the ground."""
    included = set().union(*found.values())
    rails, exits, y = {}, {}, ROOF_TOP + ROOF
    above = []  # rooms of the storey above that cannot leave to the right
    for storey in furnished:
        # The room furthest left leaves lowest and is entered highest, so that nothing crosses in the gap.
        for room in reversed(above):
            y += RAIL
            exits[room.row] = y
        for room in storey:
            if room.row in included:
                y += RAIL
                rails[room.row] = y
        y += 12
        for room in storey:
            room.top = y
        tallest = max(room.height for room in storey)
        for room in storey:
            room.height = tallest
        if found[storey[-1].row]:
            exits[storey[-1].row] = y + tallest / 2
        above = [room for room in storey[:-1] if found[room.row]]
        y += tallest
    return rails, exits, y + PAD


def draw_lines(furnished, found, rails, exits):
    rooms = {room.row: room for storey in furnished for room in storey}
    sending = [row for row in rooms if found[row]]
    # The rightmost room of a storey leaves above its neighbours, and so takes the lane further out.
    sending.sort(key=lambda row: exits[row])
    apart = min(LANE, (WIDTH - 16 - HOUSE_RIGHT) // len(sending))
    lane = {row: HOUSE_RIGHT + apart * (len(sending) - i) for i, row in enumerate(sending)}
    colour = {row: COLOURS[i % len(COLOURS)] for i, row in enumerate(sending)}
    parts, dots = [], []
    for row, y in rails.items():
        end = max(lane[source] for source in sending if row in found[source])
        x = rooms[row].right - ARROW
        parts.append(f'<path d="M{end} {y:g}H{x}V{rooms[row].top - 1:g}" class="rail" marker-end="url(#arrow)"/>')
    for source in sending:
        room, y = rooms[source], exits[source]
        lowest = max(rails[target] for target in found[source])
        start = (f"M{room.right} {y:g}" if y < room.top + room.height
                 else f"M{room.right - EXIT} {room.top + room.height}V{y:g}")  # fmt: skip
        parts.append(f'<path d="{start}H{lane[source]}V{lowest:g}" class="lane" stroke="{colour[source]}">'
                     f"<title>{source} includes {', '.join(t for t in rails if t in found[source])}</title></path>")  # fmt: skip
        for target in rails:
            if target in found[source]:
                dots.append(f'<circle cx="{lane[source]}" cy="{rails[target]:g}" r="3.2" fill="{colour[source]}"/>')
    return parts + dots


def walls(floor):
    """The background, the roof and the walls."""
    middle, eaves = (LEFT + HOUSE_RIGHT) / 2, ROOF_TOP + ROOF
    return [f'<rect width="{WIDTH}" height="{{height}}" rx="8" fill="#ffffff"/>',
            f'<path d="M{LEFT - 8} {eaves}L{middle:g} {ROOF_TOP}L{HOUSE_RIGHT + 8} {eaves}Z" fill="#f3d9cc" '
            f'stroke="{WALL}"/>',
            f'<rect x="{LEFT}" y="{eaves}" width="{HOUSE_RIGHT - LEFT}" height="{floor - eaves:g}" fill="#fbfbf9" '
            f'stroke="{WALL}"/>']  # fmt: skip


def picture():
    table = house()
    rows = sources(table)
    found = arrows(rows, table)
    furnished = furnish(storeys(rows), rows)
    rails, exits, floor = lay_out(furnished, found)
    captions = [
        "Follow a room's line down the right-hand side: at each dot it joins the arrow into a room that it includes.",
        "Yellow: files at the top level. Blue: folders, in which a name stands for name.c and name.h.",
        "Not drawn: arrows to base/, which nearly every room uses, and includes within a room.",
    ]
    height = floor + 18 + LINE * len(captions)
    parts = walls(floor)
    for storey in furnished:
        for room in storey:
            parts += room.draw()
    parts += draw_lines(furnished, found, rails, exits)
    for i, line in enumerate(captions):
        parts.append(text(LEFT, floor + 22 + i * LINE, line, 'class="caption"'))
    head = f"""<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:g}" viewBox="0 0 {WIDTH} {height:g}" \
xml:space="preserve">
<title>The rooms of the sources and the includes between them</title>
<style>
text {{ fill: {INK}; font-family: monospace }}
.name {{ font-weight: bold }}
.file {{ font-size: {FILE_SIZE}px }}
.caption {{ font-family: sans-serif; font-size: 12.5px; fill: {MUTED} }}
.rail, .lane {{ fill: none; stroke-width: 1.5 }}
.rail {{ stroke: {MUTED} }}
</style>
<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">\
<path d="M0 0L8 4L0 8Z" fill="{MUTED}"/></marker></defs>
"""
    return head + "\n".join(parts).replace("{height}", f"{height:g}") + "\n</svg>\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=PICTURE)
    parser.parse_args().out.write_text(picture(), encoding="utf-8")
