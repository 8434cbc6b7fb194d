"""Do 95 % intervals cover 95 %, and do tests hold their level? Simulated studies of known truth.

    python benchmarks/interval_coverage.py
    python benchmarks/interval_coverage.py --studies 5000 --csv coverage.csv

Scores of patients are drawn from skewed (beta) and from normal distributions; every column is a study. Printed are the
coverage of each kind of interval, and how often each paired test calls a difference where there is none.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from stainda.evaluation import holm, intervals, sign_flip_test, wilcoxon_test

LEVEL = 0.95
SHAPES = {
    "beta(6, 2)": (lambda g, size: g.beta(6, 2, size), 0.75),
    "normal": (lambda g, size: g.normal(0.6, 0.1, size), 0.6),
}


def coverage(studies: int, generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    for shape, (draw, truth) in SHAPES.items():
        for n in (4, 6, 10, 20, 40):
            scores = draw(generator, (n, studies))
            for method in ("percentile", "expanded", "bca"):
                found = intervals(scores, np.random.default_rng(1), resamples=1000, method=method, level=LEVEL)
                inside = float(((found.low <= truth) & (truth <= found.high)).mean())
                width = float((found.high - found.low).mean())
                yield {"what": f"coverage of {method}", "scores": shape, "patients": n, "value": inside, "width": width}


def levels(studies: int, generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    for n in (6, 8, 12, 20):
        differences = generator.beta(6, 2, (n, studies)) - generator.beta(6, 2, (n, studies))
        for name, test in (("sign flips", sign_flip_test), ("signed ranks", wilcoxon_test)):
            p = test(differences, np.random.default_rng(2), 2000).p
            yield {"what": f"false alarms of {name}", "scores": "no difference", "patients": n,
                   "value": float((p <= 1 - LEVEL).mean()), "width": ""}  # fmt: skip
        family = sign_flip_test(differences[:, : studies // 8 * 8], np.random.default_rng(2), 2000).p.reshape(-1, 8)
        adjusted = np.array([holm(one) for one in family])
        yield {"what": "any false alarm among 8 (Holm)", "scores": "no difference", "patients": n,
               "value": float((adjusted <= 1 - LEVEL).any(axis=1).mean()), "width": ""}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="simulated studies per row")
    parser.add_argument("--csv", help="write the table here")
    settings = parser.parse_args()
    started = time.perf_counter()
    generator = np.random.default_rng(0)
    rows = [*coverage(settings.studies, generator), *levels(settings.studies, generator)]
    print(f"{'':36}{'scores':14}{'patients':>8}{'share':>8}{'width':>8}")
    for row in rows:
        width = f"{row['width']:8.3f}" if row["width"] != "" else ""
        print(f"{row['what']:36}{row['scores']:14}{row['patients']:8d}{row['value']:8.3f}{width}")
    error = 1.96 * (LEVEL * (1 - LEVEL) / settings.studies) ** 0.5
    print(f"\na share is known to about ± {error:.3f}; {time.perf_counter() - started:.0f} s")
    if settings.csv:
        with open(settings.csv, "w", newline="", encoding="utf-8") as file:  # noqa: PTH123
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
