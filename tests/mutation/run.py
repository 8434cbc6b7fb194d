"""Does a test notice when statistical code is wrong? Each named fault of ``mutants.py`` is made in a copy of the
package, and the tests of that file must fail.

    python tests/mutation/run.py                  # all; fails below 95 %
    python tests/mutation/run.py --only crossed   # those whose file or name holds a text
    python tests/mutation/run.py --check          # only whether every fault can be made
    python tests/mutation/run.py --csv docs/results/mutants.csv
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from mutants import MUTANTS, SURVIVORS, TESTS, Mutant

ROOT = Path(__file__).parents[2]
LEAST = 0.95


def misplaced(mutants: list[Mutant]) -> list[str]:
    """Faults whose text does not stand exactly once in their file, and names given twice."""
    names = [mutant.name for mutant in mutants]
    found = [f"{name}: given twice" for name in sorted({name for name in names if names.count(name) > 1})]
    for mutant in mutants:
        times = (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old)
        if times != 1:
            found.append(f"{mutant.name}: its text stands {times} times in {mutant.file}")
    return found


def copy_of_the_package(place: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "golden")
    for name in ("stainda", "tests", "configs"):
        shutil.copytree(ROOT / name, place / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", place)


def tests_fail(place: Path, tests: tuple[str, ...]) -> bool:
    environment = {**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, timeout=900)
    if done.returncode not in (0, 1):
        raise SystemExit(f"pytest could not run:\n{done.stdout.decode()[-2000:]}{done.stderr.decode()[-2000:]}")
    return done.returncode == 1


def is_killed(place: Path, mutant: Mutant) -> bool:
    file = place / mutant.file
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        return tests_fail(place, TESTS[mutant.file])
    finally:
        file.write_text(text, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="faults whose file or name holds this text")
    parser.add_argument("--csv", type=Path, help="write the table of faults here")
    parser.add_argument("--check", action="store_true", help="run no test")
    settings = parser.parse_args()
    if faults := misplaced(MUTANTS):
        print("\n".join(faults))
        return 1
    chosen = [mutant for mutant in MUTANTS if settings.only in mutant.file or settings.only in mutant.name]
    if settings.check:
        print(f"{len(chosen)} faults can be made")
        return 0
    survivors, table = [], []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        copy_of_the_package(place)
        for tests in dict.fromkeys(TESTS[one.file] for one in chosen):
            if tests_fail(place, tests):
                print(f"{' '.join(tests)}: fails without any fault")
                return 1
        for one in chosen:
            started = time.monotonic()
            killed = is_killed(place, one)
            survivors += [] if killed else [one]
            word = "killed" if killed else "SURVIVED"
            tests = " ".join(TESTS[one.file])
            table.append([one.file, one.name, word.lower(), SURVIVORS.get(one.name, ""), one.old, one.new, tests])
            print(f"{word:9}{time.monotonic() - started:5.0f} s  {one.file}: {one.name}", flush=True)
    if settings.csv:
        with settings.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["file", "fault", "outcome", "reason", "text", "in its place", "tests"])
            writer.writerows(table)
    share = 1 - len(survivors) / max(len(chosen), 1)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} killed ({100 * share:.0f} %)")
    for survivor in survivors:
        print(f"survived: {survivor.name} ({SURVIVORS.get(survivor.name, 'no reason is given')})")
    unexplained = [survivor for survivor in survivors if survivor.name not in SURVIVORS]
    return 1 if share < LEAST or unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
