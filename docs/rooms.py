"""Draws docs/rooms.png, the rooms of the package and the imports between them, and prints them.

A room is a folder or a module of `patterns/`, or `backends/`. Nothing is imported: the arrows are
read from the syntax trees, those of `if TYPE_CHECKING:` and of functions included. Each room is
drawn below all that import it. An arrow that others together make is left out of the picture; the
table has them all. An import in a circle is an error. Run it anywhere: `python docs/rooms.py`.
"""

from __future__ import annotations

import ast
import itertools
from collections import Counter
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Curve

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "keras_patterns"
# They hand names on, or start the command line.
LEFT_OUT = {"__init__", "__main__"}

BOX, GAP, HEIGHT, ROW = 1.14, 0.1, 0.32, 0.74
INK, LINE = "#1b2a41", "#8fa3bf"
FILLS = ("#e8eef7", "#d3e0f0")

Arrows = dict[str, Counter[str]]


def read_arrows() -> Arrows:
    """Returns for each room how many times it imports from each other one."""
    files = {ROOT / "backends": sorted((ROOT / "backends").rglob("*.py"))}
    files[ROOT / "patterns"] = sorted((ROOT / "patterns").rglob("*.py"))
    names = {path: _dotted(folder, path) for folder in files for path in files[folder]}
    rooms = {parts[1] for parts in names.values() if len(parts) > 1} - LEFT_OUT
    arrows: Arrows = {room: Counter() for room in sorted(rooms)}
    for path, parts in names.items():
        if len(parts) > 1 and parts[1] in rooms:
            package = parts if path.stem == "__init__" else parts[:-1]
            reached = [name.split(".") for name in _imports(path, package)]
            arrows[parts[1]].update(
                name[1] for name in reached if len(name) > 1 and name[1] in rooms - {parts[1]}
            )
    return arrows


def _dotted(folder: Path, path: Path) -> list[str]:
    """The parts of a module's name: patterns/run/fitting.py is keras_patterns.run.fitting."""
    parts = path.relative_to(ROOT if folder.name == "backends" else folder).with_suffix("").parts
    return [PACKAGE, *(part for part in parts if part != "__init__")]


def _imports(path: Path, package: list[str]) -> list[str]:
    """The modules of ours that a file imports; `from a import b` as `a.b`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            found += [".".join([*base, alias.name]) for alias in node.names]
    return [name for name in found if name.split(".")[0] == PACKAGE]


def levels_of(arrows: Arrows) -> dict[str, int]:
    """Returns the level of each room: 0 at the ground, each one above all that it imports."""
    levels: dict[str, int] = {}
    while len(levels) < len(arrows):
        rest = arrows.keys() - levels.keys()
        ready = [room for room in sorted(rest) if arrows[room].keys() <= levels.keys()]
        if not ready:
            raise SystemExit(f"These rooms import in a circle: {sorted(rest)}")
        levels |= {
            room: 1 + max((levels[below] for below in arrows[room]), default=-1) for room in ready
        }
    return levels


def drawn(arrows: Arrows) -> list[tuple[str, str]]:
    """Returns the arrows that no chain of other arrows makes."""
    reach: dict[str, set[str]] = {}
    for room in sorted(arrows, key=levels_of(arrows).get):
        reach[room] = set(arrows[room]).union(*(reach[below] for below in arrows[room]))
    return [
        (room, below)
        for room in arrows
        for below in arrows[room]
        if not any(below in reach[other] for other in arrows[room])
    ]


def place(levels: dict[str, int], edges: list[tuple[str, str]]) -> tuple[dict, list[list]]:
    """Returns the centre of each room, and the points through which each arrow goes.

    An arrow over several levels keeps a narrow place in each between; the places of a level are
    ordered by the middle of their neighbours, sweep after sweep.
    """
    rows: list[list] = [[] for _ in range(1 + max(levels.values()))]
    for room, level in levels.items():
        rows[level].append(room)
    chains = []
    for room, below in edges:
        bends = [(room, below, level) for level in range(levels[room] - 1, levels[below], -1)]
        for bend in bends:
            rows[bend[2]].append(bend)
        chains.append([room, *bends, below])
    links = [link for chain in chains for link in itertools.pairwise(chain)]
    near: dict = {key: [] for row in rows for key in row}
    for one, other in links:
        near[one].append(other)
        near[other].append(one)
    middle = {key: float(number) for row in rows for number, key in enumerate(row)}
    for _ in range(60):
        for row in (*rows, *reversed(rows)):
            aims = {key: _mean(middle, near[key], middle[key]) for key in row}
            row.sort(key=aims.get)
            _spread(row, aims, middle)
    shift = min(middle[key] - _width(key) / 2 for row in rows for key in row)
    centres = {
        key: (middle[key] - shift, level * ROW) for level, row in enumerate(rows) for key in row
    }
    return {room: centres[room] for room in levels}, [
        [centres[key] for key in chain] for chain in chains
    ]


def _mean(middle: dict, keys: list, otherwise: float) -> float:
    return sum(middle[key] for key in keys) / len(keys) if keys else otherwise


def _width(key: object) -> float:
    return BOX + GAP if isinstance(key, str) else GAP


def _spread(row: list, aims: dict, middle: dict) -> None:
    """Moves the places of a row to their aims, and apart where they would overlap."""
    groups: list[tuple[list, float, float]] = []
    for key in row:
        group, width, aim = [key], _width(key), aims[key]
        while groups and groups[-1][2] + groups[-1][1] / 2 > aim - width / 2:
            left, left_width, left_aim = groups.pop()
            # Each group's aim counts by how many places it holds.
            shared = (left_aim + width / 2) * len(left) + (aim - left_width / 2) * len(group)
            group, width = [*left, *group], left_width + width
            aim = shared / len(group)
        groups.append((group, width, aim))
    for group, width, aim in groups:
        edge = aim - width / 2
        for key in group:
            middle[key] = edge + _width(key) / 2
            edge += _width(key)


def draw(arrows: Arrows, path: Path) -> None:
    """Writes the picture."""
    levels = levels_of(arrows)
    centres, chains = place(levels, drawn(arrows))
    right = max(x for x, _ in centres.values()) + BOX / 2 + GAP / 2
    top = max(levels.values()) * ROW
    height = 10.8 * (top + 0.5) / right
    figure = Figure(figsize=(10.8, height), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-0.1, right + 0.4), ylim=(-0.25, top + 0.25), aspect="equal")
    axes.axis("off")
    for chain in chains:
        axes.add_patch(
            FancyArrowPatch(
                path=_curve(chain), arrowstyle="-|>", mutation_scale=9, color=LINE, linewidth=1.1
            )
        )
    for room, (x, y) in centres.items():
        axes.add_patch(
            FancyBboxPatch(
                (x - BOX / 2, y - HEIGHT / 2),
                BOX,
                HEIGHT,
                boxstyle="round,pad=0,rounding_size=0.06",
                facecolor=FILLS[levels[room] % 2],
                edgecolor=INK,
                linewidth=0.9,
                zorder=3,
            )
        )
        axes.text(x, y, room, ha="center", va="center", fontsize=8, color=INK, zorder=4)
    figure.savefig(path, pil_kwargs={"optimize": True})


def _curve(chain: list[tuple[float, float]]) -> Curve:
    """A smooth line from below the first point to above the last, upright at each."""
    (first, top), *between, (last, bottom) = chain
    points = [(first, top - HEIGHT / 2), *between, (last, bottom + HEIGHT / 2)]
    vertices, codes = [points[0]], [Curve.MOVETO]
    for (x, y), (to_x, to_y) in itertools.pairwise(points):
        half = (y - to_y) / 2
        vertices += [(x, y - half), (to_x, to_y + half), (to_x, to_y)]
        codes += [Curve.CURVE4] * 3
    return Curve(vertices, codes)


def table(arrows: Arrows) -> str:
    """Returns a line for each room, the highest first: which rooms it imports, and how often."""
    levels = levels_of(arrows)
    lines = []
    for room in sorted(arrows, key=lambda room: (-levels[room], room)):
        below = sorted(arrows[room], key=lambda other: (-levels[other], other))
        lines.append(
            f"{levels[room]:2}  {room:12} -> "
            + (", ".join(f"{other} {arrows[room][other]}" for other in below) or "nothing of ours")
        )
    count = sum(map(len, arrows.values()))
    return "\n".join([*lines, f"{len(arrows)} rooms, {count} arrows, all down"])


if __name__ == "__main__":
    found = read_arrows()
    draw(found, Path(__file__).with_name("rooms.png"))
    print(table(found))
