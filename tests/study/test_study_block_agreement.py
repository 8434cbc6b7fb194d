"""A study whose sections vote on each other's objects, and one that sees a few target labels: slides to records."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image
from small_cohorts import make_blob_cohort, write_study

from stainda.annotations import make_shapes
from stainda.cohort import Cohort
from stainda.cohort.types import Section
from stainda.files import write_json
from stainda.registration import Transform
from stainda.registration.results import BLOCK_FORMAT
from stainda.strategies.after.cross_stain_agreement import CrossStainAgreement
from stainda.study import run_study
from stainda.study.block_agreement import agree_in_blocks

STUDY = """
study: agreement
manifest: {manifest}
registration: {{method: identity}}
task: glomeruli_segmentation
model: {{name: unet, params: {{depth: 2, width: 4}}}}
patches: {{mpp: 4.0, size: 32}}
protocol: {{sources: [PAS@A], seeds: 1, split: [0.4, 0.2, 0.4]}}
search: {{trials: 1}}
training: {{epochs: 1, steps_per_epoch: 4, batch_size: 4}}
evaluation: {{resamples: 100}}
workers: 1
strategies:
  - source_only
  - cross_stain_agreement
  - {{from: few_shot, labels: {{name: few_shot, k: 1, unit: patients}}}}
"""


def test_a_section_does_not_doubt_what_its_tissue_does_not_show(tmp_path):
    """Both sections have an object on the left that the other lacks; the second is torn off on the right, and moved."""
    size, objects, sections = (400, 300), {}, []
    (tmp_path / "registration" / "b").mkdir(parents=True)
    for number, (name, width, shift) in enumerate([("whole", 380, 0), ("torn", 180, 15)], 1):
        noise = np.random.default_rng(number).normal(0, 12, (300, 400, 1))
        pixels = np.full((300, 400, 3), 244.0)
        pixels[20:280, 20 + shift : width + shift] = (np.array([190, 120, 170]) + noise)[20:280, 20:width]
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(tmp_path / f"{name}.png")
        sections.append(Section(name, "p", "b", number, "PAS", "A", tmp_path / f"{name}.png", mpp=1.0))
        matrix = np.array([[1.0, 0, -shift], [0, 1, 0], [0, 0, 1]])
        Transform.affine(name, size, "whole", size, matrix).save(tmp_path / "registration" / "b" / name)
        left = shapely.Point(90 * number - 30 + shift, 150).buffer(12)
        objects[name] = make_shapes([left], "g", score=0.55)
    right = make_shapes([shapely.Point(320, 150).buffer(12)], "g", score=0.55)
    objects["whole"] = pd.concat([objects["whole"], right], ignore_index=True)
    head = {"format": BLOCK_FORMAT, "version": 1, "block": "b", "settings": "x", "reference": "whole"}
    head |= {"placed": ["whole", "torn"], "refused": {}, "rows": []}
    write_json(tmp_path / "registration" / "b" / "block.json", head)
    predictor = SimpleNamespace(
        detector=SimpleNamespace(strategy=SimpleNamespace(after=CrossStainAgreement())), thresholds={"g": 0.5},
        probabilities_region=lambda region, domain, slide, mpp: slide,
        objects=lambda slide, limits=None: objects[slide].iloc[:0] if limits else objects[slide],
    )  # fmt: skip
    agreed = agree_in_blocks(
        predictor, Cohort(tuple(sections)), tmp_path / "registration", lambda predictor, section: (None, 1.0)
    )
    kept = agreed.objects["whole"]
    assert kept["identity"].tolist() == ["g-2"] and kept["witnesses"].tolist() == [0], "the tear is no witness"
    assert kept.geometry[0].centroid.x == pytest.approx(320)
    assert len(agreed.objects["torn"]) == 0, "what the other section shows without it is doubted"


@pytest.mark.slow
def test_sections_vote_and_a_few_labels_are_learned_from(tmp_path):
    manifest = make_blob_cohort(tmp_path / "cohort")
    folder = run_study(write_study(manifest, tmp_path / "study.yaml", STUDY), tmp_path / "run", until="train")
    by_strategy = {}
    for job in (folder / "jobs").iterdir():
        settings = json.loads((job / "settings.json").read_text())
        assert (job / "done").is_file(), (job / "error.txt").read_text() if (job / "error.txt").is_file() else job
        by_strategy[settings["strategy"]["name"]] = job
    assert set(by_strategy) == {"source_only", "cross_stain_agreement", "few_shot"}
    assert not (by_strategy["source_only"] / "agreement.csv").exists()
    rows = pd.read_csv(by_strategy["cross_stain_agreement"] / "agreement.csv", keep_default_na=False)
    records = pd.read_parquet(by_strategy["cross_stain_agreement"] / "records.parquet")
    assert set(rows["slide"]) == set(records["slide"]) and set(rows["checkpoint"]) == {"best", "last"}
    assert (rows["found"] == rows["kept"] + rows["dropped"]).all()
    patients = {slide: len(set(part["slide"])) for slide, part in rows.groupby("block")}
    alone = rows["block"].map(patients) == 1
    assert (rows.loc[~alone, "reason"] == "").all() and (~alone).any()
    few = json.loads((by_strategy["few_shot"] / "result.json").read_text())
    plain = json.loads((by_strategy["source_only"] / "result.json").read_text())
    assert few["patches"]["labelled"] > plain["patches"]["labelled"]
