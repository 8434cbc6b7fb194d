"""A patch store of made-up tissue with objects, for benchmarks of reading and training: written in a moment."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from side_by_side import stained

from stainda.cohort import Roles
from stainda.patches import PatchStore, TrainingData
from stainda.patches.store import array_names, make_digests
from stainda.run_directory.contents import STORE_DIGESTS, STORE_META, STORE_TISSUE
from stainda.run_directory.tables import PATCHES

SOURCE, TARGET = "PAS@A", "SR@A"


def make_store(folder: Path, size: int, margin: int, patches: int) -> PatchStore:
    """Half of the patches labelled (a quarter of these for validation), half of a target without labels."""
    folder.mkdir(parents=True, exist_ok=True)
    side, rng = size + 2 * margin, np.random.default_rng(0)
    picture = stained(2048, 2048, 3)
    y, x = np.mgrid[:side, :side]
    arrays = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, (patches, side, side, *more))
        for name, more in (("images", (3,)), ("labels_own", ()), ("labels_propagated", ()))
    }
    rows = []
    for index in range(patches):
        top, left = (int(value) for value in rng.integers(0, 2048 - side, 2))
        image = picture[top : top + side, left : left + side].copy()
        labelled, of_class = index % 2 == 0, index % 4 == 0
        disc = (x - rng.uniform(0.3, 0.7) * side) ** 2 + (y - rng.uniform(0.3, 0.7) * side) ** 2 < (side / 6) ** 2
        if of_class:
            image[disc] = image[disc] * np.asarray([0.7, 0.5, 0.8])
        arrays["images"][index] = image
        arrays["labels_own"][index] = 255 if not labelled else disc * of_class
        arrays["labels_propagated"][index] = 255 if labelled else disc
        domain, split = (SOURCE if labelled else TARGET), ("val" if index % 8 == 6 or index % 32 == 0 else "train")
        slide = f"{domain}_{split}{index % 3}"
        rows.append(
            {
                "slide": slide, "patient": f"P{split}{index % 3}", "block": slide, "section": 1,
                "stain": domain.partition("@")[0], "centre": "A", "scanner": "", "domain": domain, "split": split,
                "kind": "labelled" if labelled else "unlabelled", "around": "object" if of_class else "tissue",
                "x": 0.0, "y": 0.0, "downsample": 1.0, "tissue": 1.0,
                "n_objects": float(of_class) if labelled else np.nan,
                "px_glomerulus": float((disc * of_class).sum()) if labelled else np.nan,
            }
        )  # fmt: skip
    for array in arrays.values():
        array.flush()
    table = pd.DataFrame(rows)
    table.to_parquet(PATCHES.inside(folder))
    slides = sorted(set(table["slide"]))
    np.savez(
        STORE_TISSUE.inside(folder), **{f"arr_{at}": picture[at::37, ::41].reshape(-1, 3) for at in range(len(slides))}
    )
    np.savez(STORE_DIGESTS.inside(folder), **make_digests(folder, patches, array_names(weights=False, details=False)))
    meta = {"size": size, "margin": margin, "mpp": None, "classes": ["glomerulus"], "seed": 0, "tissue_slides": slides,
            "key": "made"}  # fmt: skip
    STORE_META.inside(folder).write_text(json.dumps(meta), encoding="utf-8")
    return PatchStore.open(folder)


def training_data(store: PatchStore) -> TrainingData:
    """What a strategy with source labels sees of it."""
    return TrainingData(store, Roles((SOURCE,), (TARGET,), ("stain", "centre"), "targets"))
