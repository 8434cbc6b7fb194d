"""Coarse to fine: the time that a first detector at a low magnification saves, and the objects that it costs.

    python benchmarks/coarse_to_fine.py --out runs/coarse_to_fine [--task glomeruli_detection]

A synthetic cohort, whose sections are mostly medulla; one study of the task at ``--fine`` micrometres per pixel, one
of glomeruli_segmentation at ``--coarse``. Test slides of the source's domain are then predicted with the fine detector
alone and behind the coarse one, at several shares of its threshold, turn by turn. A row per slide and share: CPU
seconds of both ways, the share of pixels that the fine network saw, annotated objects, and how many of them each way
found (IoU at least ``--iou``).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from stainda.annotations import read_shapes
from stainda.cohort import read_manifest
from stainda.config import PhantomConfig
from stainda.files import write_csv
from stainda.names import file_name
from stainda.objects.matching import match_objects
from stainda.phantom import make_cohort
from stainda.prediction import CoarseDetector, Predictor, load_predictor, predict_slide
from stainda.study import run_study
from stainda.study.choosing import choose_job

SHARES = (0.1, 0.3, 1.0)
COLUMNS = ("slide", "share", "fine_cpu_s", "both_cpu_s", "pixels_seen", "objects", "fine_found", "both_found")


def trained(folder: Path, manifest: Path, task: str, recipe: str, mpp: float, *, steps: int) -> Path:
    """The job of a recipe at a scale, trained on the cohort's PAS sections."""
    study = folder / f"study_{mpp:g}.yaml"
    study.write_text(
        f"study: coarse_to_fine\nmanifest: {manifest.resolve()}\nregistration: {{method: identity}}\n"
        f"task: {task}\nrecipe: {recipe}\n"
        f"patches: {{mpp: {mpp}, size: 96}}\nprotocol: {{sources: [PAS@A], seeds: 1, split: [0.4, 0.2, 0.4]}}\n"
        f"search: {{trials: 1}}\ntraining: {{epochs: {max(1, steps // 20)}, steps_per_epoch: 20, batch_size: 8}}\n"
        "strategies: [source_only]\nworkers: 1\n",
        encoding="utf-8",
    )
    return choose_job(run_study(study, folder / f"run_{mpp:g}", until="evaluate"), strategy="source_only").folder


def measured(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives, and its CPU seconds."""
    before = time.process_time()
    result = call()
    return result, time.process_time() - before


class Seen:
    """Counts the pixels that a predictor's network is shown."""

    def __init__(self, predictor: Predictor) -> None:
        self.pixels, self._answers = 0, predictor.detector.answers
        predictor.detector.answers = self._count  # type: ignore[method-assign]

    def _count(self, batch: Any, *rest: Any) -> Any:
        self.pixels += int(np.prod(batch.shape[:3]))
        return self._answers(batch, *rest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/coarse_to_fine"))
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--task", default="glomeruli_segmentation", help="of the fine detector")
    parser.add_argument("--recipe", default="strong", help="of the fine detector; that of the coarse one is small")
    parser.add_argument("--iou", type=float, default=0.5, help="from which on an object is found")
    parser.add_argument("--fine", type=float, default=1.5, help="micrometres per pixel")
    parser.add_argument("--coarse", type=float, default=6.0, help="micrometres per pixel")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--patients", type=int, default=20)
    parser.add_argument("--medulla", type=float, default=0.7, help="share of the tissue without glomeruli")
    parser.add_argument("--size", type=int, default=3072, help="level-0 pixels of 0.75 µm")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    config = PhantomConfig(
        patients=options.patients,
        stains=("PAS",),
        centres=("A", "B"),
        size=options.size,
        mpp=0.75,
        seed=31,
        medulla=options.medulla,
    )
    manifest = make_cohort(config, options.out / "phantom")
    fine_job, coarse_job = (
        trained(options.out, manifest, task, recipe, mpp, steps=options.steps)
        for task, recipe, mpp in (
            (options.task, options.recipe, options.fine),
            ("glomeruli_segmentation", "small", options.coarse),
        )
    )
    cohort = pd.read_csv(fine_job.parents[1] / "cohort.csv")
    tested = set(cohort.loc[(cohort["split"] == "test") & (cohort["domain"] == "PAS@A"), "slide"])
    fine, coarse = load_predictor(fine_job), load_predictor(coarse_job)
    seen, rows = Seen(fine), []
    for section in read_manifest(manifest):
        if section.slide not in tested:
            continue
        truth = read_shapes(fine_job.parents[1] / "annotations" / "own" / f"{file_name(section.slide)}.geojson")
        for share in SHARES:
            seen.pixels = 0
            whole, alone = measured(lambda path=section.path: predict_slide(fine, path, options.out / "whole"))
            of_whole, seen.pixels = seen.pixels, 0
            first = CoarseDetector(coarse, share)
            narrow, both = measured(
                lambda path=section.path, first=first: predict_slide(fine, path, options.out / "both", coarse=first)
            )
            hits = [match_objects(truth, read_shapes(result.file), options.iou).hits for result in (whole, narrow)]
            row = (section.slide, share, round(alone, 2), round(both, 2), round(seen.pixels / of_whole, 4), len(truth))
            rows.append(dict(zip(COLUMNS, (*row, *hits), strict=True)))
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    for share, some in table.groupby("share"):
        sums = some.sum(numeric_only=True)
        print(
            f"share {share:g}: {sums['fine_cpu_s'] / sums['both_cpu_s']:.2f} times as fast, "
            f"{some['pixels_seen'].mean():.0%} of the pixels, recall {sums['both_found'] / sums['objects']:.3f} "
            f"for {sums['fine_found'] / sums['objects']:.3f}"
        )
    write_csv(options.csv or options.out / "coarse_to_fine.csv", rows, COLUMNS)


if __name__ == "__main__":
    main()
