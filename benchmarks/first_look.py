"""What the first look at a slide takes: opened in this process alone, and looked at through the reading process.

    python benchmarks/first_look.py SLIDE... [--rounds 5]

Milliseconds by slide, the median of the rounds; the start of the reading process stands apart.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace

from stainda.errors import SlideError
from stainda.slides import open_slide
from stainda.study import looking


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slides", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(f"start and first look: {timed(lambda: sample(given.slides[0])):.0f} ms")
    added = []
    for path in given.slides:
        try:
            here = median(timed(lambda path=path: opened_here(path)) for _ in range(given.rounds))
        except SlideError:
            continue
        through = median(timed(lambda path=path: look(path)) for _ in range(given.rounds))
        added.append(through - here)
        print(f"{path.name}: opened here {here:.1f} ms, looked at {through:.1f} ms")
    if not added:
        parser.error("none of these is a slide that can be read; name files, not their folder")
    print(f"added by slide: median {median(added):.1f} ms, {min(added):.1f} to {max(added):.1f} ({len(added)} slides)")


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


def opened_here(path: Path) -> None:
    os.environ["STAINDA_DECODE_HERE"] = "1"
    try:
        open_slide(path).close()
    finally:
        del os.environ["STAINDA_DECODE_HERE"]


def look(path: Path) -> None:
    """As a study does: opened for its size and annotations, then opened for its pixels."""
    open_slide(path).close()
    sample(path)


def sample(path: Path) -> None:
    looking._known_sound.clear()
    looking.sample(SimpleNamespace(path=path, mpp=None))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
