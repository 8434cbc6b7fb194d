"""A study of labels of whole slides as one small table, and whether attention lies where the truth is.

    stainda run studies/slides.yaml
    python benchmarks/slides_summary.py runs/slides --out docs/results/slides.csv

One row per aggregator and tested domain: AUROC with its interval over patients and trainings, its standard deviation
between trainings, the difference from the first aggregator for the same patients, average precision and balanced
accuracy (all from ``slide_level/summary.csv``), and, of aggregators with maps, ``attended``: of the 5 % of the patches
with most attention on slides with the label, the share that show a sclerotic glomerulus (more than a tenth of the
patch), with a bootstrap interval over slides; ``of_all_patches`` is that share of all patches of these slides. The
truth is the synthetic cohort's (``measurements.sclerotic`` of its outlines).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from shapely.geometry import shape

from stainda.files import load_json
from stainda.names import file_name
from stainda.randomness import generator_for
from stainda.run_directory.slide_level_tables import ATTENTION

MOST, SHOWN, RESAMPLES = 0.05, 0.1, 2000
COLUMNS = (
    "aggregator", "domain", "auroc", "auroc_low", "auroc_high", "sd_trainings", "difference", "difference_low",
    "difference_high", "average_precision", "balanced_accuracy", "attended", "attended_low", "attended_high",
    "of_all_patches", "positive", "negative", "trainings",
)  # fmt: skip


def summary(run: Path) -> pd.DataFrame:
    """The table of a finished run; see :data:`COLUMNS`."""
    rows = pd.read_csv(run / "slide_level" / "summary.csv")
    keys = ["rotation", "aggregator", "domain"] if "rotation" in rows else ["aggregator", "domain"]
    auroc = rows[rows["measure"] == "auroc"].rename(columns={"mean": "auroc", "low": "auroc_low", "high": "auroc_high"})
    for name in ("average_precision", "balanced_accuracy"):
        others = rows[rows["measure"] == name].rename(columns={"mean": name})
        auroc = auroc.merge(others[[*keys, name]], on=keys, how="left")
    attended = pd.DataFrame([attention_of(run, dict(zip(keys, row, strict=True))) for row in auroc[keys].to_numpy()])
    table = pd.concat([auroc.reset_index(drop=True), attended], axis=1)
    return table.sort_values("domain", kind="stable")[list(COLUMNS)].round(4)


def attention_of(run: Path, about: dict[str, str]) -> dict[str, float]:
    """How often the patches with most attention of an aggregator show what makes the label, in one tested domain."""
    folder = run / "rotations" / about["rotation"] if "rotation" in about else run
    scores = pd.read_csv(folder / "slide_level" / "scores.csv")
    mine = scores[(scores["domain"] == about["domain"]) & (scores["split"] == "test") & scores["positive"]]
    found = [
        shares(file, run / "phantom" / "annotations" / f"{file_name(slide)}.geojson")
        for slide in sorted(set(mine["slide"]))
        if (file := ATTENTION.at(folder, slide=slide, aggregator=about["aggregator"])).is_file()
    ]
    if not found:
        return dict.fromkeys(("attended", "attended_low", "attended_high", "of_all_patches"), np.nan)
    low, high = interval([top for top, _ in found], about["aggregator"] + about["domain"])
    mean = np.mean(found, axis=0)
    return {"attended": mean[0], "attended_low": low, "attended_high": high, "of_all_patches": mean[1]}


def shares(attention: Path, truth: Path) -> tuple[float, float]:
    """Of one slide, the share of patches that show a sclerotic glomerulus: of those with most attention, and of all."""
    features = load_json(attention)["features"]
    boxes = np.array([shape(feature["geometry"]) for feature in features], object)
    ranks = np.array([feature["properties"]["measurements"]["rank"] for feature in features])
    outlines = [
        shape(feature["geometry"])
        for feature in load_json(truth)["features"]
        if feature["properties"].get("measurements", {}).get("sclerotic")
    ]
    covered = shapely.area(shapely.intersection(boxes, shapely.union_all(outlines))) / shapely.area(boxes)
    shows = covered > SHOWN
    most = np.argsort(-ranks, kind="stable")[: max(1, round(MOST * len(ranks)))]
    return float(shows[most].mean()), float(shows.mean())


def interval(values: Sequence[float], name: str) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over slides; none below six."""
    if len(values) < 6:
        return np.nan, np.nan
    generator = generator_for(0, "attention", name)
    means = np.asarray(values)[generator.integers(0, len(values), (RESAMPLES, len(values)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run directory of 'stainda run' with slide_level")
    parser.add_argument("--out", type=Path, help="write the table here; default: print it")
    settings = parser.parse_args()
    table = summary(settings.run)
    if settings.out is None:
        print(table.to_string(index=False))
    else:
        table.to_csv(settings.out, index=False)


if __name__ == "__main__":
    main()
