"""The fuzz that follows which lines of stainda a file reaches: atheris changes the files further that reached new ones.

``python tests/fuzz/coverage_guided.py manifest "annotations as coco" --seconds 90`` starts from the good file of each
kind and its tokens, and holds readers to the rules of ``run.py``. The end of the process is the end of its kind.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

try:
    import atheris
except ImportError:
    sys.exit("coverage_guided.py needs atheris: pip install atheris")

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent), str(TESTS / "report")]

with atheris.instrument_imports(include=["stainda"]):
    from contained import MEMORY, SILENT_SECONDS, raised, watch
    from every_case import CASES
    from hostile_files import WORD, Case

    from stainda.errors import StaindaError
    from stainda.names import file_name

RUNS, READ = range(2)


def _fuzz(case: Case, options: argparse.Namespace, place: Path, counts: Any) -> None:
    folder, faults = place / "in" / "side", place / "faults"
    silence = os.open(place / "printed", os.O_CREAT | os.O_WRONLY)
    os.dup2(silence, 1), os.dup2(silence, 2)
    os.environ["STAINDA_DECODE_HERE"] = "1"
    warnings.simplefilter("ignore")
    for new in (folder, faults, place / "corpus"):
        new.mkdir(parents=True)
    with atheris.instrument_imports(include=["stainda"]):  # what reading imports
        path = case.make(folder)
        if not case.refused:
            case.read(path)
    good, written = path.read_bytes(), []
    (place / "corpus" / "good").write_bytes(good)
    words = dict.fromkeys([*filter(None, case.tokens), *WORD.findall(good)[:200]])
    escaped = ("".join(f"\\x{byte:02x}" for byte in word[:64]) for word in words)
    (place / "words").write_text("".join(f'"{word}"\n' for word in escaped))
    os.chdir(folder)
    sys.addaudithook(watch(place, written))

    def read(data: bytes) -> None:
        counts[RUNS] += 1
        path.write_bytes(data)
        written.clear()
        began, fault = time.process_time(), ""
        try:
            case.read(path)
            counts[READ] += 1
        except StaindaError:
            pass
        except Exception as error:
            fault = raised(error)
        if time.process_time() - began > case.seconds:
            fault = f"over {case.seconds} s"
        if fault or written:
            (faults / file_name((fault or f"wrote {written[0]}").replace(":", " "))).write_bytes(data)

    limits = [f"-max_total_time={options.seconds}", f"-timeout={SILENT_SECONDS}", f"-rss_limit_mb={3 * MEMORY >> 20}"]
    files = [f"-dict={place / 'words'}", f"-artifact_prefix={faults}/ended by ", str(place / "corpus")]
    atheris.Setup([sys.argv[0], *limits, f"-max_len={4 * len(good)}", f"-seed={options.seed}", *files], read)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="+", choices=[case.name for case in CASES], metavar="KIND")
    parser.add_argument("--seconds", type=int, default=120, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for an example of each fault")
    options, total = parser.parse_args(), 0
    print("| file | executions | read | reached new lines | faults |\n|---|---|---|---|---|")
    for case in (case for case in CASES if case.name in options.kinds):
        with tempfile.TemporaryDirectory(prefix="stainda-fuzz-") as name:
            place, context = Path(name), multiprocessing.get_context("fork")
            counts = context.RawArray("q", 2)
            child = context.Process(target=_fuzz, args=(case, options, place, counts))
            child.start(), child.join()
            if not counts[RUNS]:
                raise AssertionError((place / "printed").read_text())
            faults, reached = sorted((place / "faults").iterdir()), len(list((place / "corpus").iterdir())) - 1
            print(f"| {case.name} | {counts[RUNS]} | {counts[READ]} | {reached} | {len(faults)} |", flush=True)
            for fault in faults:
                print(f"    {fault.name}", file=sys.stderr, flush=True)
            if options.keep is not None and faults:
                shutil.copytree(place / "faults", options.keep / file_name(case.name), dirs_exist_ok=True)
            total += len(faults)
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
