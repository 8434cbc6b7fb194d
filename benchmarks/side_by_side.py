"""What the speed benchmarks share: rounds in which candidates take turns, ratios with their spread, made-up inputs.

Candidates run in one process and take turns, so that other work on the machine falls on all of them alike. A rate is
work per CPU second of the process and its children, living ones too; read ratios, not rates. ``make bench`` runs
``speed_*.py`` and collects their tables.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import psutil

Work = Callable[[int], float]
"""Does the work of one round (its number is given, so that every round can take other data) and returns how much."""


@dataclass(frozen=True)
class Rates:
    """Work per CPU second and per second of wall clock, one number per round."""

    cpu: tuple[float, ...]
    wall: tuple[float, ...]


@dataclass(frozen=True)
class Line:
    """One line of the table: a ratio (median, least and greatest of the rounds) and what it should be.

    Attributes:
        work: the row of the table. ours, beside: what was compared; empty ``beside``: a measurement alone.
        rate: of ours, in ``unit``. reached: ``yes``, ``no``, or empty where no bar is set.
    """

    work: str
    ours: str
    beside: str
    median: float
    low: float
    high: float
    bar: str
    reached: str
    rate: float
    unit: str


def cpu_seconds() -> float:
    """Of this process, all threads, and of its children."""
    return time.process_time() + children_seconds()


def children_seconds() -> float:
    """CPU seconds of the children of this process: finished ones, and those that live, as that which decodes slides."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = psutil.Process().children(recursive=True)
    return ended.ru_utime + ended.ru_stime + sum(_seconds_of(child) for child in living)


def _seconds_of(process: psutil.Process) -> float:
    """User and system time, all threads."""
    try:
        if sys.platform == "linux":  # clock_getcpuclockid(3): nanoseconds, where psutil has hundredths of a second
            return time.clock_gettime((~process.pid << 3) | 2)
        times = process.cpu_times()
    except (OSError, psutil.NoSuchProcess):  # it has just ended
        return 0.0
    return times.user + times.system


def take_turns(candidates: Mapping[str, Work], rounds: int) -> dict[str, Rates]:
    """The rates of every candidate; a round before the first is not counted."""
    cpu: dict[str, list[float]] = {name: [] for name in candidates}
    wall: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(-1, rounds):
        for name, work in candidates.items():
            started = children_seconds()  # looking for them takes time, which is not counted
            own, begun = time.process_time(), time.perf_counter()
            done = work(number)
            took, passed = time.process_time() - own, time.perf_counter() - begun
            took += children_seconds() - started
            if number >= 0:
                cpu[name].append(done / max(took, 1e-9))
                wall[name].append(done / max(passed, 1e-9))
    return {name: Rates(tuple(cpu[name]), tuple(wall[name])) for name in candidates}


def ratio(
    work: str, rates: Mapping[str, Rates], ours: str, beside: str, *, unit: str, least: float | None = None,
    wall: bool = False,
) -> Line:  # fmt: skip
    """The rate of ours as a multiple of another's, round by round; ``least`` is the bar."""
    one, other = (rates[name].wall if wall else rates[name].cpu for name in (ours, beside))
    each = [a / b for a, b in zip(one, other, strict=True)]
    middle = median(each)
    bar = "" if least is None else f">= {least:g}"
    reached = "" if least is None else "yes" if middle >= least else "no"
    return Line(work, ours, beside, middle, min(each), max(each), bar, reached, median(one), unit)


def measured(work: str, ours: str, values: Sequence[float], unit: str, most: float | None = None) -> Line:
    """A measurement without anything beside it; ``most`` is the bar."""
    middle = median(values)
    bar = "" if most is None else f"<= {most:g}"
    reached = "" if most is None else "yes" if middle <= most else "no"
    return Line(work, ours, "", middle, min(values), max(values), bar, reached, middle, unit)


def arguments(about: str | None, rounds: int = 5) -> argparse.ArgumentParser:
    """A parser with what every speed benchmark takes."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--csv", type=Path, help="also append the lines to this table")
    return parser


def absent(*distributions: str) -> list[str]:
    """Those that are not installed here."""
    return [name for name in distributions if _version(name) is None]


def show(lines: Sequence[Line], given: argparse.Namespace, *distributions: str) -> None:
    """Print the lines and the versions compared; append them to ``--csv``."""
    known = {name: _version(name) for name in distributions}
    print(table(lines))
    print("python " + platform.python_version(), *[f"{name} {v}" for name, v in known.items() if v], sep=", ")
    for name, version in known.items():
        if version is None:
            print(f"{name} is not installed here and was not compared")
    if given.csv is not None:
        write(lines, given.csv)


def table(lines: Sequence[Line]) -> str:
    """The lines as text in columns."""
    rows = [("work", "ours", "beside", "median", "least", "most", "bar", "reached", "rate of ours")]
    for line in lines:
        numbers = [f"{value:.3g}" for value in (line.median, line.low, line.high)]
        rate = f"{line.rate:.4g} {line.unit}"
        rows.append((line.work, line.ours, line.beside or "-", *numbers, line.bar or "-", line.reached or "-", rate))
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)


def write(lines: Sequence[Line], path: Path) -> None:
    """Append the lines to a CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        out = csv.DictWriter(stream, list(Line.__dataclass_fields__))
        if new:
            out.writeheader()
        for line in lines:
            values = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in asdict(line).items()}
            out.writerow(values)


def read(path: Path) -> list[Line]:
    """The lines of a CSV."""
    numbers = {"median", "low", "high", "rate"}
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [Line(**{key: float(value) if key in numbers else value for key, value in row.items()}) for row in rows]


def stained(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Made-up stained tissue, uint8 RGB: two dyes whose amounts vary over some pixels and over many."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    dyes = np.asarray([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]], np.float32)
    amounts = np.zeros((height, width, 2), np.float32)
    for sigma, weight in ((1.0, 0.35), (6.0, 0.5), (40.0, 0.6)):
        for dye in range(2):
            field = gaussian_filter(rng.standard_normal((height, width)).astype(np.float32), sigma, mode="wrap")
            amounts[..., dye] += weight * field / field.std()
    density = np.log1p(np.exp(1.5 * (amounts - 0.3))) @ dyes * 0.35
    return (240 * np.exp(-density)).round().clip(0, 255).astype(np.uint8)


def write_slide(path: Path, side: int, tile: int = 256, tissue: int | None = None) -> Path:
    """A pyramidal JPEG TIFF (4:2:0, quality 80) of made-up tissue, ``side`` pixels wide and high, 0.5 µm per pixel.

    Args:
        tissue: pixels of a square of tissue in the middle of glass; default: tissue everywhere.
    """
    import tifffile

    block, glass = stained(1024, 1024), np.full((tile, tile, 3), 245, np.uint8)
    edge = np.arange(tile)
    low, high = (0, side) if tissue is None else ((side - tissue) // 2, (side + tissue) // 2)

    def tiles(level: int) -> Iterator[np.ndarray]:
        small, count = block[:: 1 << level, :: 1 << level], -(-(side >> level) // tile)
        for top in range(0, count * tile, tile):
            rows = (top + edge) << level
            for left in range(0, count * tile, tile):
                columns = (left + edge) << level
                shown = ((rows >= low) & (rows < high))[:, None] & (columns >= low) & (columns < high)
                if not shown.any():
                    yield glass
                    continue
                pixels = small[(top + edge)[:, None] % len(small), (left + edge) % len(small)]
                yield np.where(shown[..., None], pixels, glass)

    levels = [level for level in range(8) if side >> level >= tile]
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for level in levels:
            per_cm = 20_000 / (1 << level)
            writer.write(
                tiles(level), shape=(side >> level, side >> level, 3), dtype=np.uint8, photometric="rgb",
                tile=(tile, tile), compression="jpeg", subfiletype=int(level > 0),
                compressionargs={"level": 80, "subsampling": "420", "outcolorspace": "YCBCR"},
                resolution=(per_cm, per_cm), resolutionunit="CENTIMETER",
            )  # fmt: skip
    return path


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
