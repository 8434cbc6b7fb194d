"""How reliable a study's simulated annotators are, on sections that are in no cohort.

    python benchmarks/annotator_reliability.py studies/crowds.yaml

Prints ``reliability`` as ``labels: {name: annotators, method: weighted}`` takes it: each annotator's Dice with the true
outlines over a cohort with the same settings and another seed (:mod:`stainda.phantom.qualification`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from stainda.config import load_study
from stainda.phantom.qualification import measured_reliability


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--sections", type=int, default=20, help="reference sections, each of another patient")
    given = parser.parse_args()
    phantom = load_study(given.study).phantom
    if phantom is None:
        parser.error("the study has no synthetic cohort")
    measured = measured_reliability(phantom, given.sections)
    print("reliability: {" + ", ".join(f"{name}: {value:.3f}" for name, value in measured.items()) + "}")


if __name__ == "__main__":
    main()
