"""A study that asks serial sections to agree: pairs are cut at the patches stage and training learns from them."""

import numpy as np
import pytest
from small_cohorts import make_blob_cohort, write_study

from stainda.cohort import assign_splits, read_manifest, resolve_roles
from stainda.config import ProtocolConfig, load_study
from stainda.errors import ConfigError
from stainda.patches import PatchStore
from stainda.patches.serial import SerialPairs
from stainda.study import run_study
from stainda.study.serial import section_links
from stainda.training import Job, resolve_training, train

STUDY = """
study: serial
manifest: {manifest}
registration: {{method: identity}}
task: glomeruli_segmentation
model: {{name: unet, params: {{depth: 2, width: 4}}}}
patches: {{mpp: 4.0, size: 32}}
protocol: {{sources: [PAS@A], seeds: 1, split: [0.4, 0.2, 0.4]}}
search: {{trials: 1}}
training: {{epochs: 1, steps_per_epoch: 2, batch_size: 4}}
strategies: [source_only, serial_consistency]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serial")
    manifest = make_blob_cohort(folder / "cohort", stains=("PAS", "SR", "CD34"))
    study = write_study(manifest, folder / "study.yaml", STUDY)
    return study, run_study(study, folder / "run", until="patches")


@pytest.fixture(scope="module", autouse=True)
def _a_third_stain():
    from small_cohorts import COLOURS

    COLOURS["CD34"] = ((220, 214, 230), (120, 90, 60))
    yield
    del COLOURS["CD34"]


def test_pairs_of_training_patients_lie_beside_the_patches(run):
    folder = run[1]
    pairs = SerialPairs.open(PatchStore.open(folder / "patches"))
    assert len(pairs) and set(pairs.kinds) == {"PAS@A|SR@A", "PAS@A|CD34@A", "SR@A|CD34@A"}
    store = PatchStore.open(folder / "patches")
    training = set(store.table.loc[store.table["split"] == "train", "slide"])
    assert set(pairs.table["one_slide"]) | set(pairs.table["two_slide"]) <= training
    drawn = pairs.read(np.flatnonzero(np.asarray(pairs.kinds) == "PAS@A|SR@A"))
    own = np.stack(np.meshgrid(np.arange(32), np.arange(32)), -1) + 0.5
    moved = (drawn.grid + 1) * 16 - own
    sure = drawn.certainty > 0.9
    assert np.abs(moved[sure] - np.round(moved[sure])).max() < 1e-3, "the identity moves whole pixels"
    assert drawn.radius == pytest.approx(10 / 4.0), "10 µm a section where nobody measured, at 4 µm per pixel"


def test_training_on_the_run_takes_its_steps_and_names_the_pairs(run, tmp_path):
    study, folder = run
    config = load_study(study)
    strategy = config.strategy("serial_consistency")
    job = Job(
        "serial", strategy.model_copy(update={"space": {}}), config.model, config.task, config.patches,
        resolve_training(config.training, strategy), config.protocol, ("PAS@A",), ("SR@A", "CD34@A"), 1,
    )  # fmt: skip
    assert train(job, folder / "patches", tmp_path).steps == 2
    assert "loss_serial" in (tmp_path / "training.csv").read_text()


def test_links_end_where_the_protocol_hides_the_targets(run):
    study, folder = run
    config = load_study(study)
    cohort = assign_splits(read_manifest(config.manifest), config.protocol.split, config.seed)
    roles = resolve_roles(cohort, config.protocol)
    assert len(section_links(cohort, roles, folder / "registration")) == 2 * 3
    hidden = resolve_roles(cohort, ProtocolConfig(**{**config.protocol.model_dump(), "visible": "nothing"}))
    with pytest.raises(Exception, match="no two sections of a training patient"):
        section_links(cohort, hidden, folder / "registration")


def test_a_study_with_one_group_is_refused_before_anything_is_made(run, tmp_path):
    study, _ = run
    changed = tmp_path / "study.yaml"
    changed.write_text(study.read_text().replace("serial_consistency", "vrex"))
    with pytest.raises(ConfigError, match=r"strategy vrex.*by domain, and the source has 1") as caught:
        run_study(changed, tmp_path / "run", until="register")
    assert "patient (2)" in str(caught.value) and not (tmp_path / "run" / "registration").exists()


def test_groups_and_batches_of_one_domain_do_not_go_together(run, tmp_path):
    study, _ = run
    changed = tmp_path / "study.yaml"
    changed.write_text(study.read_text().replace("serial_consistency]", "{from: irm, norm: per_domain}]"))
    with pytest.raises(ConfigError, match=r"compares groups within one batch.*shared, reestimated or group"):
        run_study(changed, tmp_path / "run", until="cohort")
