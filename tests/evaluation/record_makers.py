"""Made-up records: a small study whose numbers are known because they were put in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from stainda.config import PatchConfig, ProtocolConfig, StrategyConfig, StudyConfig, TaskConfig
from stainda.evaluation import as_records
from stainda.evaluation.metrics import MEASURES, OBJECT_MEASURES, PIXEL_MEASURES


def study_config(strategies: Sequence[str] = ("source_only", "dann", "oracle"), **changes) -> StudyConfig:
    values = {
        "study": "made_up",
        "manifest": "manifest.csv",
        "patches": PatchConfig(downsample=1),
        "protocol": ProtocolConfig(sources=("PAS@A",)),
        "task": TaskConfig(classes=("glomerulus",)),
        "strategies": [StrategyConfig(name=name) for name in strategies],
        "evaluation": {"resamples": 500},
        **changes,
    }
    return StudyConfig.model_validate(values)


def rows_of(
    strategy: str,
    domain: str,
    patient: str,
    pixel: tuple[float, float, float],
    objects: tuple[float, float, float] | None = None,
    *,
    split: str = "test",
    trial: int = 0,
    seed: int = 0,
    checkpoint: str = "best",
    slide: str | None = None,
    cls: str = "glomerulus",
) -> list[dict]:
    """Records of one slide with given counts."""
    stain, _, centre = domain.partition("@")
    rows = []
    for names, counts in ((PIXEL_MEASURES, pixel), (OBJECT_MEASURES, objects)):
        if counts is None:
            continue
        for name in names:
            rows.append(
                {
                    "study": "made_up", "strategy": strategy, "trial": trial, "seed": seed, "checkpoint": checkpoint,
                    "job": f"{strategy}-{trial}-{seed}", "stain": stain, "centre": centre, "domain": domain,
                    "patient": patient, "slide": slide or f"{patient}_{stain}", "split": split, "class": cls,
                    "measure": name, "value": float(MEASURES[name].formula(*counts)),
                    "tp": counts[0], "fp": counts[1], "fn": counts[2],
                }
            )  # fmt: skip
    return rows


def counts_for(dice: float, size: float = 10_000) -> tuple[float, float, float]:
    """Counts with exactly this Dice: as many false positives as false negatives."""
    return (dice * size, (1 - dice) * size, (1 - dice) * size)


def study_records(
    means: Mapping[str, Mapping[str, float]],
    patients: Sequence[str] = ("p1", "p2", "p3", "p4", "p5", "p6"),
    seeds: Sequence[int] = (0, 1),
    spread: float = 0.04,
) -> pd.DataFrame:
    """Test and validation records: ``means[strategy][domain]`` plus a shift per patient, shared by all strategies."""
    rows: list[dict] = []
    shifts = np.linspace(-spread, spread, len(patients))
    for strategy, of_domains in means.items():
        for domain, mean in of_domains.items():
            for seed in seeds:
                for patient, shift in zip(patients, shifts, strict=True):
                    score = float(np.clip(mean + shift + 0.01 * (seed - np.mean(seeds)), 0, 1))
                    hits = round(20 * score)
                    rows += rows_of(strategy, domain, patient, counts_for(score), (hits, 3, 20 - hits), seed=seed)
                if domain == "PAS@A":
                    rows += rows_of(strategy, domain, "v1", counts_for(mean), (15, 2, 3), split="val", seed=seed)
    return as_records(pd.DataFrame(rows))
