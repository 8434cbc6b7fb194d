"""Read files with hostile changes, and count how they are answered.

``python tests/fuzz/run.py --examples 4000`` reads so many of each kind (fewer of the slow ones) and prints a table: how
many were read, how many were refused with a message, and how many ended otherwise: with a traceback, with the process,
after more than 5 s of CPU (20 s for a whole page, which takes 5 to 7), above 1 GiB of memory, or with something
written, run or connected to.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from contained import read_batch
from hostile_files import Case

from stainda.names import file_name

BATCH = 1000
"""Files that one child process reads."""
BAD = {"traceback": "traceback", "died": "process died", "slow": "over 5 s", "memory": "over 1 GiB", "wrote": "wrote"}


@dataclass
class Count:
    """Answers to one kind of file; ``faults``: kind and place, and how often; ``examples``: a file of each."""

    read: int = 0
    refused: int = 0
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], bytes] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        return not self.faults

    def of(self, kind: str) -> int:
        return sum(times for (name, _), times in self.faults.items() if name == kind)


def fuzz(case: Case, examples: int, number: int = 1) -> Count:
    """Read so many changed files of one kind."""
    count = Count()
    for batch, first in enumerate(range(0, examples, BATCH)):
        with tempfile.TemporaryDirectory(prefix="stainda-fuzz-") as name:
            size = min(BATCH, examples - first)
            for kind, what, data in read_batch(case, size, 1000 * number + batch, Path(name)):
                if kind == "counts":
                    read, refused = map(int, what.split())
                    count.read, count.refused = count.read + read, count.refused + refused
                else:
                    count.faults[kind, what] += 1
                    count.examples.setdefault((kind, what), data)
    return count


def main(cases: list[Case]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="kinds whose name holds this")
    parser.add_argument("--keep", type=Path, help="folder for an example of each fault")
    options = parser.parse_args()
    print(f"| file | examples | read | refused with a message | {' | '.join(BAD.values())} |")
    print(f"|{'---|' * (4 + len(BAD))}")
    total, began = Count(), time.monotonic()
    for case in cases:
        if options.only not in case.name:
            continue
        started = time.monotonic()
        count = fuzz(case, max(1, round(options.examples * case.share)), options.seed)
        _show(case.name, count)
        seconds = time.monotonic() - started
        print(f"{case.name}: {seconds:.0f} s", file=sys.stderr, flush=True)
        for (kind, what), times in count.faults.most_common(20):
            print(f"    {times} x {kind}: {what}", file=sys.stderr, flush=True)
        _keep(case, count, options.keep)
        total.read, total.refused = total.read + count.read, total.refused + count.refused
        total.faults += count.faults
    _show("all", total)
    print(f"\nseed {options.seed}, {time.monotonic() - began:.0f} s")
    return 0 if total.is_clean else 1


def _show(name: str, count: Count) -> None:
    inputs = count.read + count.refused + count.of("traceback") + count.of("died")
    cells = [name, inputs, count.read, count.refused, *(count.of(kind) for kind in BAD)]
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def _keep(case: Case, count: Count, folder: Path | None) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for number, ((kind, _), data) in enumerate(count.examples.items()):
            (folder / f"{file_name(case.name)}-{kind}-{number}").write_bytes(data)
