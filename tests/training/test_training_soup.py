"""The mean of several trainings: no worse than they are where they start alike, and guarded where they do not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from blob_cohort import make_data, make_job
from safetensors.torch import load_file

from stainda.config import ModelConfig
from stainda.errors import TrainingError
from stainda.prediction import load_predictor
from stainda.training import read_result, train_on
from stainda.training.soup import make_soup, mean_weights

SEEDS = (1, 2, 3, 4)


def train_all(folder, model=None, seeds=SEEDS, **changes):
    folders = []
    for seed in seeds:
        job = make_job(changes.get("strategy"), seed=seed, epochs=1, steps_per_epoch=10)
        job = job if model is None else replace(job, model=model)
        train_on(job, make_data(job), folder / job.hash)
        folders.append(folder / job.hash)
    return folders


@pytest.fixture(scope="module")
def from_one_start(tmp_path_factory):
    """Trainings that go on from the weights of one short training."""
    folder = tmp_path_factory.mktemp("soup")
    first = make_job(seed=9, epochs=1, steps_per_epoch=24)
    train_on(first, make_data(first), folder / "first")
    start = ModelConfig(name="unet", params={"depth": 3, "width": 8}, weights=folder / "first" / "model.safetensors")
    return train_all(folder, start)


@pytest.fixture(scope="module")
def from_chance(tmp_path_factory):
    return train_all(tmp_path_factory.mktemp("chance"), seeds=(1, 2, 3))


def test_members_of_one_start_are_no_better_on_the_mean_than_their_mean(from_one_start, tmp_path):
    data = make_data(make_job())
    soup = make_soup(from_one_start, data, tmp_path / "uniform", "uniform")
    own = {folder.name: read_result(folder).score for folder in from_one_start}
    assert soup.scores == pytest.approx(own, abs=1e-6), "members are judged as they judged themselves"
    assert set(soup.members) == set(own) and soup.score >= np.mean(list(own.values()))


@pytest.mark.parametrize("members", ["from_one_start", "from_chance"])
def test_a_greedy_soup_is_no_worse_than_its_best_member(members, request, tmp_path):
    soup = make_soup(request.getfixturevalue(members), make_data(make_job()), tmp_path / "greedy")
    best = max(soup.scores, key=soup.scores.get)
    assert soup.score >= soup.scores[best] - 1e-9 and soup.members[0] == best
    if members == "from_chance":
        uniform = make_soup(request.getfixturevalue(members), make_data(make_job()), tmp_path / "all", "uniform")
        assert uniform.score < np.mean(list(soup.scores.values())), "random starts share no valley"


def test_the_folder_predicts_and_says_what_it_is(from_one_start, tmp_path):
    soup = make_soup(from_one_start, make_data(make_job()), tmp_path / "soup", "uniform")
    weights = [load_file(str(folder / "model.safetensors")) for folder in from_one_start]
    found = load_file(str(soup.folder / "model.safetensors"))
    name = next(name for name, value in found.items() if name.endswith("weight") and value.ndim == 4)
    assert torch.allclose(found[name], torch.stack([one[name] for one in weights]).mean(0), atol=1e-6)
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for checkpoint in ("best", "last"):
        predictor = load_predictor(soup.folder, checkpoint)
        assert np.isfinite(predictor.probabilities_array(image).array).all()
    about = json.loads((soup.folder / "result.json").read_text())
    assert about["soup"] == {"method": "uniform", "members": list(soup.members)} and about["score"] == soup.score


def test_a_training_is_not_overwritten(from_one_start, tmp_path):
    kept = (from_one_start[0] / "result.json").read_bytes()
    with pytest.raises(TrainingError, match=r"holds files that are no soup.*Give --out a new folder"):
        make_soup(from_one_start, make_data(make_job()), from_one_start[0])
    assert (from_one_start[0] / "result.json").read_bytes() == kept
    for _ in range(2):  # its own folder may be written anew
        soup = make_soup(from_one_start, make_data(make_job()), tmp_path / "again", "uniform")
    assert len(soup.members) == len(from_one_start)


def test_the_mean_keeps_types_and_whole_numbers():
    one, two = ({"w": torch.full((2,), value), "n": torch.tensor(int(value))} for value in (1.0, 3.0))
    mean = mean_weights([one, two])
    assert mean["w"].tolist() == [2.0, 2.0] and mean["w"].dtype == torch.float32 and int(mean["n"]) == 1


def test_what_cannot_be_averaged_is_refused(from_chance, tmp_path):
    data = make_data(make_job())
    with pytest.raises(TrainingError, match=r"two trainings.*protocol\.seeds"):
        make_soup(from_chance[:1], data, tmp_path / "soup")
    with pytest.raises(TrainingError, match="Did you mean 'greedy'"):
        make_soup(from_chance, data, tmp_path / "soup", "gredy")
    with pytest.raises(TrainingError, match="not complete"):
        make_soup([from_chance[0], tmp_path / "none"], data, tmp_path / "soup")
    other = train_all(tmp_path, ModelConfig(name="unet", params={"depth": 2, "width": 8}), seeds=(1,))
    with pytest.raises(TrainingError, match="other settings than"):
        make_soup([from_chance[0], *other], data, tmp_path / "soup")
    kept = train_all(tmp_path, seeds=(1, 2), strategy={"norm": {"name": "per_domain"}})
    with pytest.raises(TrainingError, match="kept by domain"):
        make_soup(kept, data, tmp_path / "soup")
    assert not (tmp_path / "soup").exists()
