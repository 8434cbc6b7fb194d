"""A study whose sections vote on each other's objects, and one that sees a few target labels: slides to records."""

import json

import pandas as pd
import pytest
from small_cohorts import make_blob_cohort, write_study

from stainda.study import run_study

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
