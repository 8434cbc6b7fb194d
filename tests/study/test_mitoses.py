"""The study of mitoses on a made folder laid out as MIDOG's: its manifest, its domains, and a training of two steps."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from stainda.datasets import make_public_manifest
from stainda.study import run_study

STUDY = Path(__file__).parents[2] / "studies" / "mitosis_handcrafted.yaml"
SIDE, PER_SLIDE = 640, 8


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Twelve cases of two scanners: dark figures that are mitoses, paler ones that are not."""
    folder = tmp_path_factory.mktemp("midog")
    (folder / "images").mkdir()
    numbers, entries = [*range(1, 7), *range(51, 57)], []
    for number in numbers:
        generator = np.random.default_rng(number)
        image = generator.normal((225, 190, 215) if number < 50 else (235, 205, 205), 4, (SIDE, SIDE, 3))
        y, x = np.mgrid[:SIDE, :SIDE]
        for place in range(2 * PER_SLIDE):
            cx, cy = 80 + 160 * (place % 4), 80 + 160 * (place // 4)
            mitosis = place % 2
            image[(x - cx) ** 2 + (y - cy) ** 2 < 13**2] = (70, 20, 90) if mitosis else (170, 110, 170)
            entries.append({"image_id": number, "category_id": 1 if mitosis else 2, "id": len(entries),
                            "bbox": [cx - 25, cy - 25, cx + 25, cy + 25]})  # fmt: skip
        pixels = image.clip(0, 255).astype(np.uint8)
        tifffile.imwrite(folder / "images" / f"{number:03d}.tiff", pixels, photometric="rgb", resolution=(40000, 40000),
                         resolutionunit="CENTIMETER")  # fmt: skip
    images = [{"id": number, "file_name": f"{number:03d}.tiff", "width": SIDE, "height": SIDE} for number in numbers]
    categories = [{"id": 1, "name": "mitotic figure"}, {"id": 2, "name": "hard negative"}]
    (folder / "MIDOG.json").write_text(json.dumps({"images": images, "annotations": entries, "categories": categories}))
    out = tmp_path_factory.mktemp("made")
    make_public_manifest("midog", folder, out)
    return out / "manifest.csv"


@pytest.mark.slow
def test_the_study_of_mitoses_runs_on_a_folder_laid_out_as_midog(manifest, tmp_path):
    assert set(pd.read_csv(manifest)["scanner"]) == {"Hamamatsu XR", "Hamamatsu S360"}
    short = ["training.epochs=1", "training.steps_per_epoch=4", "protocol.seeds=1", "workers=1"]
    short += [f"manifest={manifest}", "evaluation.resamples=100", "protocol.split=[0.34, 0.33, 0.33]"]
    run = run_study(STUDY, tmp_path / "run", overrides=short)
    trials = pd.read_csv(run / "trials.csv")
    assert set(trials["strategy"]) == {"source_only", "features", "convolutions"}
    assert (trials["state"] == "complete").all(), trials["reason"].dropna().tolist()
    records = pd.read_parquet(run / "records.parquet")
    assert {"Hamamatsu XR", "Hamamatsu S360"} <= set(records.loc[records["split"] == "test", "domain"])
    assert (run / "report" / "index.html").is_file()
