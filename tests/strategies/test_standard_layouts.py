"""Standardisation does not depend on how the pixels lie in memory, to the last bit."""

import numpy as np
import pytest
import torch

from stainda.strategies.detector import Standard


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 16, 16), (2, 1, 1)])
def test_both_layouts_give_the_equation(channels, shape):
    n, height, width = shape
    images = torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(0))
    standard = Standard.of([0.3, 0.5, 0.7][:channels], [0.21, 0.13, 0.17][:channels])
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (standard.mean, standard.std))
    for layout in (torch.contiguous_format, torch.channels_last):
        given = images.contiguous(memory_format=layout)
        kept = given.clone()
        found = standard(given)
        assert torch.equal(found, (images - mean) / std) and torch.equal(given, kept)
        assert found.contiguous(memory_format=layout).data_ptr() == found.data_ptr()  # the layout is kept


def test_gradients_go_through():
    images = torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
    Standard(np.zeros(3, np.float32), np.full(3, 0.5, np.float32))(images).sum().backward()
    assert torch.equal(images.grad, torch.full((2, 3, 4, 4), 2.0))
