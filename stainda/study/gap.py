"""How far apart the domains of a study are: ``domain_gap.csv``, made from patches that training could see.

No label of a target is requested, and the table chooses nothing; the report sets it next to the loss of score.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stainda.arrays import Array
from stainda.cohort import Roles
from stainda.config import StudyConfig
from stainda.run_directory.folder import RunFolder
from stainda.run_directory.result_tables import DOMAIN_GAP
from stainda.run_directory.training_tables import TRIALS

if TYPE_CHECKING:
    from stainda.patches.serial import SerialPairs


PATCHES = 160
"""Patches of a domain whose features are compared, at most (a fixed random choice)."""


def measure_gaps(config: StudyConfig, roles: Roles, folder: RunFolder) -> None:
    """Write ``domain_gap.csv``: one row per source and target.

    Colours are those of tissue. Features are the pooled bottleneck of the baseline's first training, and are left out
    where the baseline was not trained; source and target patches lie on tissue at random, so that what is measured is
    no difference between patches around objects and patches anywhere. Where targets may not be seen in training,
    nothing is measured.
    """
    from stainda.evaluation.domain_gap import (
        lab_distance,
        linear_cka,
        optical_density_distance,
        proxy_a_distance,
    )
    from stainda.patches import PatchStore, TrainingData
    from stainda.slides.tissue import cie_lab

    rows: list[dict[str, Any]] = []
    if config.protocol.visible == "nothing":
        DOMAIN_GAP.write(folder.root, rows)
        return
    store = PatchStore.open(folder.patches)
    data = TrainingData(store, roles, labels="source", visible="targets")
    chosen = np.concatenate([data.source_unlabelled(), data.unlabelled("train")])
    table = store.table.iloc[chosen].assign(index=chosen)
    colours = {
        domain: np.concatenate([store.tissue_pixels[slide] for slide in dict.fromkeys(part["slide"])])
        for domain, part in table.groupby("domain", sort=False)
    }
    lab = {domain: cie_lab(pixels[:, None, :])[:, 0] for domain, pixels in colours.items()}
    extract = _features_of(_baseline_job(config, folder))
    features: dict[str, Array] = {}
    patients: dict[str, Array] = {}
    if extract is not None:
        generator = np.random.default_rng(config.seed)
        for domain, part in table.groupby("domain", sort=False):
            some = part.iloc[np.sort(generator.permutation(len(part))[:PATCHES])]
            images = data.images(some["index"].to_numpy())
            features[str(domain)] = extract(images, some["slide"].tolist(), str(domain))
            patients[str(domain)] = some["patient"].to_numpy()
    pairs = data.serial
    for source in roles.sources:
        for name in roles.targets:
            if source not in colours or name not in colours:
                continue
            row: dict[str, Any] = {
                "source": source,
                "target": name,
                "optical_density_distance": round(optical_density_distance(colours[source], colours[name]), 4),
                "lab_distance": round(lab_distance(lab[source], lab[name]), 3),
            }
            if source in features and name in features:
                value, note = proxy_a_distance(features[source], features[name], patients[source], patients[name])
                row |= {"proxy_a_distance": _rounded(value), "proxy_a_note": note}
            if extract is not None and pairs is not None:
                first, second = _paired(pairs, source, name)
                row["n_pairs"] = len(first[0])
                if len(first[0]):
                    row["cka"] = _rounded(linear_cka(extract(*first, source), extract(*second, name)))
            rows.append(row)
    DOMAIN_GAP.write(folder.root, rows)


def _rounded(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


def _baseline_job(config: StudyConfig, folder: RunFolder) -> Path | None:
    """The folder of the baseline's first training of the chosen setting."""
    import pandas as pd

    trials = pd.read_csv(TRIALS.at(folder.root), dtype={"job": str})
    rows = trials[(trials["strategy"] == config.baseline) & trials["chosen"] & (trials["state"] == "complete")]
    return None if rows.empty else folder.job(str(rows.sort_values("seed")["job"].iloc[0]))


def _features_of(job: Path | None) -> Any:
    """A function of patches uint8 (n, S, S, 3), their slides, and their domain, that gives pooled features (n, d)."""
    if job is None:
        return None
    import torch

    from stainda.strategies.detector import Detector
    from stainda.strategies.features import FeatureTap, pooled
    from stainda.strategies.norm.statistics import statistics_of
    from stainda.training import Job

    detector = Detector.load(job, Job.load(job).settings())
    tap = FeatureTap(detector.network, "bottleneck")

    @torch.no_grad()
    def extract(images: Array, slides: list[str], domain: str) -> Array:
        parts = []
        with statistics_of(detector.network, detector.statistics.get(domain)):
            for start in range(0, len(images), 32):
                stop = start + 32
                parts.append(pooled(tap.until(detector.see(detector.images(images[start:stop]), slides[start:stop]))))
        return torch.cat(parts).cpu().numpy().astype(float)

    return extract


def _paired(pairs: SerialPairs, source: str, target: str) -> tuple[tuple[Array, list[str]], tuple[Array, list[str]]]:
    """Patches of the same tissue in two domains: (images, slides) of the source, and of the target."""
    table = pairs.table
    ahead = np.flatnonzero((table["one_domain"] == source) & (table["two_domain"] == target))[:PATCHES]
    back = np.flatnonzero((table["one_domain"] == target) & (table["two_domain"] == source))[: PATCHES - len(ahead)]
    forward, backward = pairs.read(ahead), pairs.read(back)
    first = np.concatenate([forward.one, backward.two]), [*forward.one_slides, *backward.two_slides]
    second = np.concatenate([forward.two, backward.one]), [*forward.two_slides, *backward.one_slides]
    return first, second
