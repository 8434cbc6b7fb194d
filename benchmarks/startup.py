"""How long the commands that should answer at once take: processor seconds and heavy packages of each.

python benchmarks/startup.py [--runs 5] [--only WORD]

Prints a Markdown table: median of user and system seconds of a whole process, and what it imported.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from startup_cases import COMMANDS, SLOWER, environment, imported, make_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="runs of each command; the median is shown")
    parser.add_argument("--only", default="", help="commands with this word")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder)
        print("| command | CPU s | exit | heavy packages |\n|---|---|---|---|")
        bare = _median([sys.executable, "-c", "pass"], folder, arguments.runs)
        print(f"| `python -c pass` | {bare:.2f} | 0 | |", flush=True)
        for one in (*COMMANDS, *SLOWER):
            if arguments.only not in one.words:
                continue
            ends, packages, _ = imported(one.words, folder)  # also writes the byte code
            seconds = _median([sys.executable, "-m", "stainda", *one.words.split()], folder, arguments.runs)
            print(f"| `stainda {one.words}` | {seconds:.2f} | {ends} | {' '.join(sorted(packages))} |", flush=True)


def _median(command: list[str], folder: Path, runs: int) -> float:
    return statistics.median(_cpu_seconds(command, folder) for _ in range(runs))


def _cpu_seconds(command: list[str], folder: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=environment(), capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    main()
