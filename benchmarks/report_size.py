"""The page of a large study: how long it takes to make, and how big it is.

    python benchmarks/report_size.py [--strategies 50] [--domains 20] [--slides 300] [--out FOLDER]

Writes a made-up run directory (records of every measure, objects, pixels by probability, trials, pictures) and times
``make_report`` on it. Nothing is trained: the scores are drawn at random around a level of each strategy and domain.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from stainda.config import StudyConfig
from stainda.evaluation import MEASURES, OBJECT_COLUMNS, PROBABILITY_COLUMNS, write_evidence, write_records
from stainda.evaluation.curves import CALIBRATION_BINS
from stainda.evaluation.metrics import OBJECT_MEASURES, PIXEL_MEASURES
from stainda.files import write_csv, write_json, write_text
from stainda.report import make_report

STAINS = ("PAS", "JONES", "SR", "CD68", "HE")
PER_SECTION = 12
OTHER = ("auroc", "auprc", "ece", "hausdorff_95", "surface_distance", "ap50", "ap", "panoptic_quality")


def make_large_run(folder: Path, strategies: int, domains: int, slides: int) -> Path:
    """Write the run directory; every patient has one section per stain and belongs to one centre."""
    rng = np.random.default_rng(7)
    centres = [f"C{index + 1}" for index in range(max(1, domains // len(STAINS)))]
    names = ["source_only", *[f"strategy_{index:02d}" for index in range(1, strategies - 1)], "oracle"]
    config = StudyConfig.model_validate(
        {
            "study": "large", "phantom": {"centres": centres, "stains": STAINS}, "patches": {"mpp": 2.0},
            "protocol": {"sources": ["PAS@C1"], "seeds": 1}, "search": {"trials": 1},
            "strategies": [{"name": name} for name in names],
        }
    )  # fmt: skip
    write_text(folder / "study.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    patients = max(len(centres), slides // len(STAINS))
    cohort = pd.DataFrame(
        [
            {
                "slide": f"P{p:03d}_{stain}", "patient": f"P{p:03d}", "block": f"P{p:03d}", "section": s,
                "stain": stain,
                "centre": centres[p % len(centres)], "domain": f"{stain}@{centres[p % len(centres)]}", "split": "test",
                "role": "source" if stain == "PAS" and p % len(centres) == 0 else "target", "mpp": 0.5,
            }
            for p in range(patients)
            for s, stain in enumerate(STAINS, start=1)
        ]
    )  # fmt: skip
    cohort.to_csv(folder / "cohort.csv", index=False)
    _pictures(folder, cohort, rng)
    trials = [
        {
            "strategy": name, "trial": 0, "seed": 0, "job": f"job{index:09d}", "state": "complete", "value": 0.9,
            "chosen": True, "params": json.dumps({"training.learning_rate": 1e-3}), "seconds": 600.0 + 7 * index,
            "cpu_seconds": 590.0 + 7 * index, "reason": "",
        }
        for index, name in enumerate(names)
    ]  # fmt: skip
    write_csv(folder / "trials.csv", trials, list(trials[0]))
    _scores(folder, cohort, trials, rng)
    for trial in trials:
        place = folder / "jobs" / trial["job"]
        write_json(place / "result.json", {"score": 0.9, "thresholds": {"glomerulus": 0.5}, "n_parameters": 1_900_000})
        epochs = pd.DataFrame({"epoch": range(1, 21), "val_dice": 0.9 - 0.6 * np.exp(-np.arange(1, 21) / 5)})
        epochs.to_csv(place / "training.csv", index=False)
        write_text(place / "done", "")
    return folder


def _pictures(folder: Path, cohort: pd.DataFrame, rng: np.random.Generator) -> None:
    (folder / "thumbnails").mkdir(parents=True)
    (folder / "registration" / "overlays").mkdir(parents=True)
    quality = []
    for row in cohort.to_dict("records"):
        noise = rng.integers(150, 250, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((256, 256)).save(folder / "thumbnails" / f"{row['slide']}.jpg", quality=85)
        if row["section"] > 1:
            overlay = f"registration/overlays/{row['block']}__{row['slide']}.jpg"
            Image.fromarray(noise).resize((1024, 512)).save(folder / overlay, quality=80)
            quality.append({"block": row["block"], "source": row["slide"], "target": f"{row['block']}_PAS",
                            "status": "registered", "reason": "", "n_matches": 120, "overlay": overlay})  # fmt: skip
    pd.DataFrame(quality).to_csv(folder / "registration" / "quality.csv", index=False)


def _scores(folder: Path, cohort: pd.DataFrame, trials: list[dict], rng: np.random.Generator) -> None:
    ease = {domain: rng.uniform(0.35, 0.85) for domain in cohort["domain"].unique()}
    shift = {patient: rng.normal(0, 0.05) for patient in cohort["patient"].unique()}
    records, objects, pixels = [], [], []
    base = cohort[["stain", "centre", "domain", "patient", "slide", "split"]].assign(study="large")
    base["class"] = "glomerulus"
    n = len(base)
    for index, trial in enumerate(trials):
        about = {key: trial[key] for key in ("strategy", "trial", "seed", "job")}
        gain = 1.0 if trial["strategy"] == "oracle" else 0.6 * index / len(trials)
        known = base["domain"].map(ease)
        level = (known + gain * (0.9 - known) + base["patient"].map(shift)).to_numpy(float)
        for checkpoint in ("best", "last"):
            score = np.clip(level + rng.normal(0, 0.04, n), 0.01, 0.99)
            tp, wrong = np.round(20_000 * score), np.round(20_000 * (1 - score))
            hits = np.round(PER_SECTION * score)
            counts = [
                (PIXEL_MEASURES, tp, wrong, wrong),
                (OBJECT_MEASURES, hits, np.round(4 * (1 - score)), PER_SECTION - hits),
            ]
            for measures, a, b, c in counts:
                for name in measures:
                    value = MEASURES[name].formula(a, b, c)
                    records.append(
                        base.assign(**about, checkpoint=checkpoint, measure=name, value=value, tp=a, fp=b, fn=c)
                    )
            for name in OTHER:
                value = 30 * (1 - score) if MEASURES[name].unit else 1 - score if name == "ece" else score
                records.append(
                    base.assign(
                        **about, checkpoint=checkpoint, measure=name, value=value, tp=np.nan, fp=np.nan, fn=np.nan
                    )
                )
            if checkpoint == "last":
                continue
            here = base.assign(**about, checkpoint=checkpoint)
            objects.append(here.assign(kind="slide", area_um2=4e6))
            every = here.loc[np.repeat(here.index, PER_SECTION)]
            hit = rng.random(len(every)) < np.repeat(score, PER_SECTION)
            area = rng.normal(2e4, 3e3, len(every))
            objects.append(
                every.assign(
                    kind=np.where(hit, "hit", "missed"), score=np.where(hit, rng.beta(5, 2, len(every)), np.nan),
                    iou=np.where(hit, rng.uniform(0.5, 1, len(every)), np.nan), true_area_um2=area,
                    area_um2=np.where(hit, area * rng.normal(1, 0.1, len(every)), np.nan),
                )
            )  # fmt: skip
            false = here.loc[np.repeat(here.index, rng.poisson(3 * (1 - score)))]
            objects.append(false.assign(kind="false", score=rng.beta(2, 4, len(false)), area_um2=9e3))
            middle = (np.arange(CALIBRATION_BINS) + 0.5) / CALIBRATION_BINS
            bins = here.loc[np.repeat(here.index, CALIBRATION_BINS)]
            total = np.tile(2000 * middle, n)
            pixels.append(bins.assign(bin=np.tile(np.arange(CALIBRATION_BINS), n), positive=total.astype(int),
                                      negative=2000 - total.astype(int), total=total))  # fmt: skip
    write_records(pd.concat(records, ignore_index=True), folder / "records.parquet")
    write_evidence(pd.concat(objects, ignore_index=True), OBJECT_COLUMNS, folder / "objects.parquet")
    write_evidence(pd.concat(pixels, ignore_index=True), PROBABILITY_COLUMNS, folder / "probabilities.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", type=int, default=50)
    parser.add_argument("--domains", type=int, default=20)
    parser.add_argument("--slides", type=int, default=300)
    parser.add_argument("--out", type=Path, help="where the run is made; default: a temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.out or Path(temporary) / "large"
        if not (folder / "study.yaml").is_file():
            start = time.perf_counter()
            make_large_run(folder, given.strategies, given.domains, given.slides)
            print(f"made-up run: {time.perf_counter() - start:.0f} s")
        start, cpu = time.perf_counter(), time.process_time()
        page = make_report(folder)
        print(
            f"{given.strategies} strategies x {given.domains} domains x {given.slides} slides: "
            f"{time.perf_counter() - start:.0f} s ({time.process_time() - cpu:.0f} s of processor time), "
            f"page {page.stat().st_size / 1e6:.1f} MB"
        )


if __name__ == "__main__":
    main()
