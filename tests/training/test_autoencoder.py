"""The autoencoder of ``training.init``: what it minimises, and that its features tell what random ones do not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from section_cohort import make_job, make_store
from sklearn.linear_model import LogisticRegression
from test_training_pretraining import start

from stainda.config import InitConfig, ModelConfig
from stainda.models import build_model
from stainda.strategies.features import FeatureTap, pooled
from stainda.training.objectives import OBJECTIVES, Autoencoder, decoder
from stainda.training.pretraining import encoder_file, pretrain

SIDE = 16


def _network(seed):
    torch.manual_seed(seed)
    return build_model(ModelConfig(name="cnn", params={"depth": 3, "width": 8}), 3, 2).eval()


def _stripes(seed, n):
    """Fine or coarse stripes in any direction under noise: pixels one by one say nothing of the kind."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    kinds, images = np.arange(n) % 2, []
    for kind in kinds:
        turn, start_at = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
        wave = np.sin(2 * np.pi * (x * np.cos(turn) + y * np.sin(turn)) / (4.0 if kind else 6.5) + start_at)
        images.append(wave[None] * rng.uniform(0.5, 1, 3)[:, None, None] + rng.normal(0, 0.8, (3, SIDE, SIDE)))
    return torch.tensor(np.stack(images), dtype=torch.float32), kinds


def test_the_loss_is_the_squared_error_and_the_size_of_features():
    network, images = _network(0), torch.rand(4, 3, SIDE, SIDE)
    plain, sparse = (Autoencoder(InitConfig(name="autoencoder", sparsity=s), network, images) for s in (0.0, 0.5))
    sparse.heads.load_state_dict(plain.heads.state_dict())
    nothing = torch.zeros(4, 4, dtype=torch.bool)
    with torch.no_grad():
        features = FeatureTap(network, "bottleneck").until(images)
        error = (plain.made_again(features, images) - images).pow(2).mean()
        torch.testing.assert_close(plain.loss(images, images, nothing), error)
        torch.testing.assert_close(sparse.loss(images, images, nothing), error + 0.5 * features.abs().mean())


@pytest.mark.parametrize(("side", "pixels"), [(4, 16), (2, 64), (1, 16), (16, 16)])
def test_the_decoder_ends_at_the_size_of_the_images_or_near(side, pixels):
    made = decoder(32, side, torch.rand(1, 3, pixels, pixels))(torch.rand(2, 32, side, side))
    assert made.shape == (2, 3, min(pixels, 16 * side), min(pixels, 16 * side))


def _accuracy(network, seed):
    """Of a softmax on the features, learned from 24 images."""
    network.eval()
    tap = FeatureTap(network, "bottleneck")
    (few, kinds), (many, answers) = _stripes(50 + seed, 24), _stripes(70 + seed, 300)
    with torch.no_grad():
        first, second = (pooled(tap.until(images)).numpy() for images in (few, many))
    mean, spread = first.mean(0), first.std(0) + 1e-6
    model = LogisticRegression(max_iter=2000).fit((first - mean) / spread, kinds)
    return model.score((second - mean) / spread, answers)


def test_its_features_tell_what_random_ones_do_not():
    before, after = [], []
    for seed in range(3):
        network, (images, _) = _network(seed), _stripes(seed, 256)
        objective = Autoencoder(InitConfig(name="autoencoder"), network, images[:2])
        before.append(_accuracy(network, seed))
        optimiser = torch.optim.Adam([*network.parameters(), *objective.heads.parameters()], 3e-3)
        network.train()
        for _ in range(100):
            batch = images[torch.randint(0, 256, (32,))]
            optimiser.zero_grad()
            objective.loss(batch, batch, torch.zeros(32, 32, dtype=torch.bool)).backward()
            optimiser.step()
        after.append(_accuracy(network, seed))
    assert max(before) < 0.7 and min(after) > 0.85, (before, after)


def test_a_training_without_labels_runs_with_it(tmp_path):
    store = make_store(tmp_path)[0]
    init = {"name": "autoencoder", "pairs": "augmentation", "batch_size": 32, "learning_rate": 3e-3, "epochs": 3,
            "colour": "light"}  # fmt: skip
    job = start(init, store)
    result = pretrain(job, store, encoder_file(tmp_path, job.hash).parent)
    assert result.loss_last < 0.9 * result.loss_first and encoder_file(tmp_path, job.hash).is_file()
    assert str(job.training.init) == "autoencoder, 3 epochs"


def test_it_takes_no_pairs_and_its_setting_names_only_its_own_trainings():
    with pytest.raises(ValueError, match="takes no pairs"):
        InitConfig(name="autoencoder", pairs="serial")
    plain = make_job({"name": "simclr"})
    values = plain.settings()
    del values["training"]["init"]["sparsity"]
    assert type(plain).from_settings(values).hash == plain.hash
    sparse = replace(
        plain, training=plain.training.model_copy(update={"init": InitConfig(name="simclr", sparsity=1.0)})
    )
    assert sparse.hash != plain.hash and set(OBJECTIVES) == {"simclr", "byol", "autoencoder"}
