"""Per-pixel weights reach the loss, and are moved by augmentation together with the labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stainda.stains import Geometry
from stainda.training.batches import parted, with_weights
from stainda.training.losses import IGNORE, LOSSES


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 8, 8, generator=generator)
    labels = torch.randint(0, 3, (2, 8, 8), generator=generator)
    return logits, labels


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_weights_of_one_change_nothing_and_of_nought_leave_pixels_out(name, case) -> None:
    logits, labels = case
    loss = LOSSES[name]
    assert loss(logits, labels, torch.ones(2, 8, 8)).item() == pytest.approx(loss(logits, labels).item(), rel=1e-5)
    weights = torch.ones(2, 8, 8)
    weights[:, :4] = 0
    ignored = labels.clone()
    ignored[:, :4] = IGNORE
    assert loss(logits, labels, weights).item() == pytest.approx(loss(logits, ignored).item(), rel=1e-5)


def test_cross_entropy_is_the_weighted_mean(case) -> None:
    logits, labels = case
    weights = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(2))
    each = -torch.log_softmax(logits, 1).gather(1, labels[:, None])[:, 0]
    expected = (each * weights).sum() / weights.sum()
    assert LOSSES["cross_entropy"](logits, labels, weights).item() == pytest.approx(expected.item(), rel=1e-5)


def test_augmentation_moves_labels_and_weights_alike() -> None:
    labels = np.zeros((4, 16, 16), np.uint8)
    labels[:, 3:7, 2:9] = 2
    labels[:, 12:] = IGNORE
    weights = np.where(labels == 2, 0.4, 1.0).astype(np.float32)
    coded = torch.from_numpy(with_weights(labels, weights))
    images = torch.rand(4, 3, 16, 16)
    for geometry in (Geometry(), Geometry(rotation=45, scale=0.2, shift=0.1)):
        _, moved = geometry(images, coded, torch.Generator().manual_seed(5))
        found, counts = parted(moved, True)
        assert set(found.unique().tolist()) <= {0, 2, IGNORE}
        assert torch.allclose(counts[found == 2], torch.tensor(0.4), atol=0.003)
        assert torch.all(counts[found != 2] == 1)
    plain, nothing = parted(torch.from_numpy(with_weights(labels, None)), False)
    assert nothing is None and np.array_equal(plain.numpy(), labels)
