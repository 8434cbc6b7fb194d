"""All speed benchmarks, one after the other, and one table of their ratios.

    python benchmarks/speed_all.py [--out runs/bench] [--only reading store]

Writes ``speed.csv`` and prints the table; lines that miss their bar end it with ``no``. Where another package is not
installed its script says so and measures the rest.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from side_by_side import read, table

ROWS = ("reading", "augmentation", "store", "training_step", "cache", "inference", "registration", "scoring", "report")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--only", nargs="+", choices=ROWS, default=ROWS)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "speed.csv"
    path.unlink(missing_ok=True)
    failed = []
    for row in given.only:
        print(f"\n{row}", flush=True)
        script = Path(__file__).with_name(f"speed_{row}.py")
        if subprocess.run([sys.executable, str(script), "--csv", str(path)], check=False).returncode:
            failed.append(row)
    if path.exists():
        print(f"\n{table(read(path))}\n{path}")
    if failed:
        sys.exit(f"these ended with an error: {', '.join(failed)}")


if __name__ == "__main__":
    main()
