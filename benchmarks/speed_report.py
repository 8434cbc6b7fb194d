"""The report of a study of 50 strategies, 20 domains and 300 slides: CPU seconds, and megabytes of the page.

    python benchmarks/speed_report.py [--strategies 50] [--domains 20] [--slides 300]

The run directory is made up (``report_size.py``); nothing is trained.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from report_size import make_large_run
from side_by_side import arguments, cpu_seconds, measured, show

from stainda.report import make_report


def main() -> None:
    parser = arguments(__doc__, rounds=1)
    parser.add_argument("--strategies", type=int, default=50)
    parser.add_argument("--domains", type=int, default=20)
    parser.add_argument("--slides", type=int, default=300)
    given = parser.parse_args()
    seconds, size = [], 0.0
    with tempfile.TemporaryDirectory() as temporary:
        folder = make_large_run(Path(temporary) / "large", given.strategies, given.domains, given.slides)
        for _ in range(given.rounds):
            begun = cpu_seconds()
            page = make_report(folder)
            seconds.append(cpu_seconds() - begun)
            size = page.stat().st_size / 1e6
    work = f"report of {given.strategies} x {given.domains} x {given.slides}"
    lines = [measured(work, "the page", seconds, "CPU s"), measured(work, "size of the page", [size], "MB")]
    show(lines, given, "pandas", "matplotlib")


if __name__ == "__main__":
    main()
