"""Training without labels: the losses, what it may see, what it comes to, and that trainings start from it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from section_cohort import ROLES, make_job, make_store

from stainda.cohort import Roles
from stainda.config import StrategyConfig
from stainda.errors import LeakError, TrainingError
from stainda.patches.unlabelled_data import UnlabelledData, nearby, refuse_hidden
from stainda.run_directory.contents import RESUME_REST
from stainda.training import train
from stainda.training.contrastive import alignment, byol, nt_xent, uniformity
from stainda.training.pretraining import encoder_file, pretrain, pretraining_of, read_pretraining

SETTING = {
    "name": "simclr", "batch_size": 32, "learning_rate": 1e-2, "colour": "light", "certainty": 0.3, "temperature": 0.1,
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("sections"))[0]


def start(init, store, seed=1, **more):
    job = make_job(init, seed, **more)
    return pretraining_of(job, UnlabelledData(store, roles(job)).key(init["pairs"]))


def roles(job):
    return Roles(job.sources, job.targets, job.domain_keys, job.protocol.visible)


def test_the_contrastive_loss_of_known_vectors():
    """Two pairs on the axes: each vector meets its partner at 1 and two negatives at 0."""
    z = torch.eye(2)
    expected = -math.log(math.e / (math.e + 2))
    assert nt_xent(3 * z, z, 1.0).item() == pytest.approx(expected, abs=1e-6)
    assert nt_xent(z, z, 1.0, torch.ones(2, 2, dtype=torch.bool)).item() == pytest.approx(0, abs=1e-6)
    assert nt_xent(z, z.flip(0), 1.0) > nt_xent(z, z, 1.0)


def test_the_contrastive_loss_is_that_of_lightly():
    lightly = pytest.importorskip("lightly.loss", reason="lightly is not installed (pip install lightly)")
    first, second = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0))
    for temperature in (0.1, 0.5):
        theirs = lightly.NTXentLoss(temperature=temperature)(first, second)
        torch.testing.assert_close(nt_xent(first, second, temperature), theirs, atol=1e-5, rtol=1e-5)


def test_the_other_losses_and_measures_of_known_vectors():
    z = torch.eye(2)
    assert byol(z, 5 * z).item() == pytest.approx(0, abs=1e-6)
    assert byol(z, -z).item() == pytest.approx(4, abs=1e-6)
    target = z.clone().requires_grad_()
    byol(z.clone().requires_grad_(), target).backward()
    assert target.grad is None  # no gradient reaches the target network
    assert alignment(z, -z) == pytest.approx(4) and alignment(z, z) == 0
    assert uniformity(z) == pytest.approx(-4) and uniformity(torch.ones(3, 2)) == pytest.approx(0, abs=1e-6)


def test_patches_of_one_place_are_no_negatives(store):
    data = UnlabelledData(store, ROLES)
    same = nearby(store.table, data.rows[:40], 32)
    table = store.table.iloc[data.rows[:40]]
    for i, j in ((0, 0), (3, 17), (11, 12)):
        close = (table[["x", "y"]].iloc[i] - table[["x", "y"]].iloc[j]).abs().max() < 16
        assert same[i, j] == (close and table["slide"].iloc[i] == table["slide"].iloc[j])


def test_only_patches_that_no_annotation_chose_and_the_protocol_shows(store):
    """Of training patients, on tissue at random; nothing of the targets where they are hidden; no test patient."""
    data = UnlabelledData(store, ROLES)
    seen = store.table.iloc[data.rows]
    assert set(seen["domain"]) == {"PAS@A", "SR@A"} and set(seen["split"]) == {"train"}
    assert set(seen["kind"]) == {"unlabelled"} and set(seen["around"]) == {"tissue"}
    pairs, left_out = data.pairs(0.5)
    assert left_out > 0 and (pairs.table["sure"] >= 0.5).all()
    assert set(store.table["kind"].iloc[pairs.table["one"]]) == {"unlabelled"}
    hidden = UnlabelledData(store, Roles(ROLES.sources, ROLES.targets, visible="nothing"))
    assert set(store.table["domain"].iloc[hidden.rows]) == {"PAS@A"} and hidden.validation_pairs is None
    with pytest.raises(TrainingError, match="there are none"):
        hidden.pairs(0.0)
    with pytest.raises(LeakError):
        hidden.data.images(np.flatnonzero(store.table["domain"] == "SR@A")[:1])
    without = UnlabelledData(store, ROLES, "p1")
    assert set(store.table["patient"].iloc[without.rows]) == {"p2"}
    assert set(without.pairs(0.0)[0].table["one_slide"]) == {"p2_PAS"}
    assert len({one.key(pairs) for one in (data, without) for pairs in ("augmentation", "serial")}) == 4
    assert hidden.key("augmentation") != data.key("augmentation")


@pytest.mark.parametrize("column, value", [("split", "val"), ("split", "test"), ("domain", "SR@A"), ("patient", "p1")])
def test_leaks_are_refused(store, column, value):
    table = store.table.iloc[UnlabelledData(store, Roles(ROLES.sources, (), visible="nothing")).rows].copy()
    table = table[table["patient"] == "p2"]
    refuse_hidden(table, ("PAS@A",), "p1")
    table.iloc[3, table.columns.get_loc(column)] = value
    with pytest.raises(LeakError, match="training without labels would see"):
        refuse_hidden(table, ("PAS@A",), "p1")


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    """Both kinds of pairs with two seeds, about equally many steps."""
    folder, found = tmp_path_factory.mktemp("run"), {}
    for seed in (1, 2):
        for pairs, epochs in (("augmentation", 7), ("serial", 30)):  # 112 and 120 steps
            init = {**SETTING, "pairs": pairs, "epochs": epochs}
            job = start(init, store, seed)
            found[pairs, seed] = pretrain(job, store, folder / "pretraining" / job.hash), job
    return folder, found


def test_serial_pairs_find_the_same_place_in_another_stain(trained):
    """Contrasts turn over between the stains: augmentation does not bridge them, registered sections do."""
    _, found = trained
    for seed in (1, 2):
        augmentation, serial = (found[pairs, seed][0] for pairs in ("augmentation", "serial"))
        assert serial.before == augmentation.before  # the same network, measured on the same places
        assert serial.loss_last < serial.loss_first and augmentation.loss_last < augmentation.loss_first
        assert serial.after["alignment"] < serial.before["alignment"] < augmentation.after["alignment"]
    mean = {
        pairs: np.mean([found[pairs, seed][0].after["retrieval"] for seed in (1, 2)])
        for pairs in ("augmentation", "serial")
    }
    before = np.mean([found["serial", seed][0].before["retrieval"] for seed in (1, 2)])
    chance = found["serial", 1][0].after["chance"]
    assert mean["serial"] > 1.5 * max(mean["augmentation"], before) and before > chance, (mean, before)


def test_it_is_done_once_and_ends_in_the_same_bytes(trained, store, tmp_path):
    folder, found = trained
    result, job = found["serial", 1]
    file = encoder_file(folder, job.hash)
    before = file.stat().st_mtime_ns
    assert pretrain(job, store, file.parent) == result and file.stat().st_mtime_ns == before
    short = start({"name": "byol", "pairs": "serial", "epochs": 3, "batch_size": 32}, store)
    pretrain(short, store, tmp_path / "whole")
    (tmp_path / "cut").mkdir()
    _cut_off_after(2, short, store, tmp_path / "cut")
    assert read_pretraining(tmp_path / "cut") is None
    pretrain(short, store, tmp_path / "cut")
    whole, cut = (load_file(tmp_path / name / "encoder.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys() and all(torch.equal(whole[name], cut[name]) for name in whole)
    rows = (tmp_path / "cut" / "loss.csv").read_text().splitlines()
    assert len(rows) == 4
    for one, other in zip(rows, (tmp_path / "whole" / "loss.csv").read_text().splitlines(), strict=True):
        assert one.rpartition(",")[0] == other.rpartition(",")[0]


@pytest.mark.parametrize("kept", [False, True])
def test_an_interruption_before_the_encoder_is_written_loses_no_tensor(kept, store, tmp_path, monkeypatch):
    """After the last epoch nothing is kept to go on from; where it was (``kept``), the encoder comes out whole too."""
    from stainda.training import pretraining

    class Cut(Exception):
        pass

    def cut(self):
        if kept:
            row = {"epoch": 1, "step": 1, "loss": 1.0, "seconds": 1.0}
            self._state.save({"epoch": 1, "rows": [row], "seconds": [1.0, 1.0]})
        raise Cut

    job = start({"name": "simclr", "pairs": "augmentation", "epochs": 1, "batch_size": 32}, store)
    pretrain(job, store, tmp_path / "whole")
    monkeypatch.setattr(pretraining, "EVERY_SECONDS", -1.0)
    with monkeypatch.context() as patched, pytest.raises(Cut):
        patched.setattr(pretraining._Pretraining, "_save", cut)
        pretrain(job, store, tmp_path / "cut")
    assert (tmp_path / "cut" / RESUME_REST.name).exists() == kept
    result = pretrain(job, store, tmp_path / "cut")
    whole, resumed = (load_file(tmp_path / name / "encoder.safetensors") for name in ("whole", "cut"))
    assert result.tensors == len(whole) > 0 and whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def _cut_off_after(epochs, job, store, folder):
    """Interrupt a training after so many epochs, each kept."""
    from stainda.progress import SILENT
    from stainda.training import pretraining

    class Cut(Exception):
        pass

    real, seen = pretraining.PRETRAINING_CURVE, []
    original = pretraining._Pretraining._epoch

    def epoch(self, number):
        if number == epochs:
            raise Cut
        seen.append(number)
        return original(self, number)

    pretraining._Pretraining._epoch, kept = epoch, pretraining.EVERY_SECONDS
    pretraining.EVERY_SECONDS = -1.0
    try:
        with pytest.raises(Cut):
            pretrain(job, store, folder, SILENT)
    finally:
        pretraining._Pretraining._epoch, pretraining.EVERY_SECONDS = original, kept
    assert seen == list(range(epochs)) and real is pretraining.PRETRAINING_CURVE


def test_a_training_starts_from_the_encoder_alone(trained, store):
    """Every tensor of the file is the network's at its start; the decoder is what the seed alone makes it."""
    from dataclasses import replace

    from stainda.patches import TrainingData
    from stainda.strategies import build
    from stainda.training.preparation import Preparation

    folder, found = trained
    _, pretrained = found["serial", 1]
    data = TrainingData(store, ROLES)
    job = replace(make_job(json.loads(pretrained.training.init.model_dump_json())), pretrained=pretrained.hash)
    file = encoder_file(folder, pretrained.hash)
    given = load_file(file)
    plain = Preparation(make_job(None), build(job.strategy), data).detector.network.state_dict()
    started = Preparation(job, build(job.strategy), data, file).detector.network.state_dict()
    changed = {name for name, value in started.items() if not torch.equal(value, plain[name])}
    assert changed == {name for name in given if not torch.equal(given[name], plain[name])} and changed
    assert all(torch.equal(started[name], given[name]) for name in given)
    assert all(name.startswith(("encoder.", "bottleneck.")) for name in given)
    train(job, store, folder / "jobs" / job.hash)
    assert f"pretraining/{pretrained.hash}" in (folder / "jobs" / job.hash / "log.txt").read_text()
    gone = replace(job, pretrained="0" * 12)
    with pytest.raises(TrainingError, match="self-supervised start"):
        train(gone, store, folder / "jobs" / gone.hash)


def test_names_of_trainings_change_only_where_they_start_from_it(store):
    """What is of no matter to the start is no part of its name, so that strategies share it."""
    init = {"name": "simclr", "pairs": "serial"}
    plain, other = make_job(None), make_job(init)
    assert plain.hash != other.hash
    values = plain.settings()
    values["training"].pop("init")
    values.pop("pretrained")
    assert type(plain).from_settings(values).hash == plain.hash
    one = start(init, store)
    aligned = make_job(init, epochs=7, learning_rate=1e-2)
    strategy = StrategyConfig(name="dann", align={"name": "dann"}, labels={"name": "source", "share": "5 %"})
    from dataclasses import replace

    shared = pretraining_of(replace(aligned, strategy=strategy), one.data_key)
    assert shared.hash == one.hash
    grey = StrategyConfig(name="grey", view={"name": "greyscale"})
    assert pretraining_of(replace(aligned, strategy=grey), one.data_key).hash != one.hash
    assert start({**init, "epochs": 3}, store).hash != one.hash
    assert start(init, store, seed=2).hash != one.hash
