"""Read files with hostile changes, and count how they are answered.

``python tests/fuzz/run.py --examples 5000`` reads so many of each kind and prints a table: how many were read, how many
were refused with a message, and how many ended otherwise, took more than five seconds, or wrote outside their folder.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hostile_files import CASES, Case, changed, changes
from hypothesis import HealthCheck, Phase, given, seed, settings

from stainda.errors import StaindaError

SECONDS = 5.0


@dataclass
class Count:
    """Answers to one kind of file; ``faults``: the last line of each traceback, and how often."""

    read: int = 0
    refused: int = 0
    slow: int = 0
    written: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    examples: dict[str, bytes] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        return not (self.slow or self.written or self.faults)


def fuzz(case: Case, examples: int, number: int = 1) -> Count:
    """Read so many changed files of one kind."""
    count = Count()
    with tempfile.TemporaryDirectory(prefix="stainda-fuzz-") as name:
        folder = Path(name) / "in" / "side"
        folder.mkdir(parents=True)
        path = case.make(folder)
        good = path.read_bytes()
        with contextlib.suppress(StaindaError):
            case.read(path)  # what it imports takes no example's time
        beside = _listing(Path(name))

        @seed(number)
        @settings(
            max_examples=examples, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(changes())
        def one(edits: list[tuple[str, float, bytes]]) -> None:
            data = changed(good, edits)
            path.write_bytes(data)
            began = time.process_time()
            try:
                case.read(path)
                count.read += 1
            except StaindaError:
                count.refused += 1
            except Exception as error:
                frame = traceback.extract_tb(error.__traceback__)[-1]
                fault = f"{type(error).__name__} in {Path(frame.filename).name}:{frame.lineno}: {str(error)[:80]}"
                count.faults[fault] += 1
                count.examples.setdefault(fault, data)
            count.slow += time.process_time() - began > SECONDS
            count.written += _listing(Path(name)) != beside

        here = Path.cwd()
        os.chdir(folder)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                one()
        finally:
            os.chdir(here)
    return count


def _listing(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    print("| file | examples | read | refused with a message | traceback | over 5 s | wrote |")
    print("|---|---|---|---|---|---|---|")
    clean = True
    for case in CASES:
        if asked.only not in case.name:
            continue
        count = fuzz(case, asked.examples, asked.seed)
        clean &= count.is_clean
        total = count.read + count.refused + count.faults.total()
        print(
            f"| {case.name} | {total} | {count.read} | {count.refused} | {count.faults.total()} | {count.slow} "
            f"| {count.written} |",
            flush=True,
        )
        for fault, times in count.faults.most_common(8):
            print(f"    {times} x {fault}\n        {count.examples[fault][:200]!r}", file=sys.stderr, flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nseed {asked.seed}, most memory {peak:.0f} MiB")
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
