"""Views that show other channels: against known mixtures of the phantom's dyes, and on glass and black."""

import numpy as np
import pytest
import torch

from stainda.config import ModelConfig, StrategyConfig, TaskConfig
from stainda.errors import ConfigError
from stainda.stains import HED_MATRIX, combine, intensity, stain
from stainda.strategies import PARTS, build
from stainda.strategies.detector import Detector, Standard
from stainda.strategies.view.channels import Dyes, OpticalDensity
from stainda.strategies.view.learncolour import LearnedColour
from stainda.strategies.view.residual import Residual


def _tissue(name, n=3000, seed=0):
    """uint8 (n, 3): pixels of a stain of the phantom that hold mainly one dye each."""
    generator = np.random.default_rng(seed)
    vectors = stain(name).vectors
    amounts = generator.uniform(0, 0.05, (n, len(vectors)))
    amounts[np.arange(n), generator.integers(0, len(vectors), n)] += generator.uniform(0.2, 0.9, n)
    return intensity(amounts @ vectors)


TISSUE = {name: _tissue(name) for name in ("PAS", "CD68")}


def _image(pixels):
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255


def test_several_dyes_are_seen_in_the_order_asked_for():
    amounts = np.zeros((20, 30, 3))
    amounts[..., 0], amounts[..., 1], amounts[..., 2] = np.linspace(0, 0.8, 30), 0.3, np.linspace(0.5, 0, 20)[:, None]
    view = Dyes(dyes=("dab", "haematoxylin"))
    seen = view(_image(combine(amounts, HED_MATRIX)), ["x"])[0].numpy()
    assert view.channels == 2
    np.testing.assert_allclose(seen, amounts[..., [2, 0]].transpose(2, 0, 1), atol=0.03)


def test_optical_density_adds_up_where_dyes_do():
    one, two = (torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(s)) * 0.5 + 0.4 for s in (0, 1))
    view = OpticalDensity()
    torch.testing.assert_close(view(one * two, ["x"]), view(one, ["x"]) + view(two, ["x"]))
    assert view(torch.ones(1, 3, 2, 2), ["x"]).abs().max() == 0


@pytest.mark.parametrize("name", ["PAS", "CD68"])
def test_the_slides_own_dye_is_left_out_and_haematoxylin_stays(name):
    view = Residual()
    view.fit(TISSUE, ["PAS"])
    own = intensity(np.linspace(0.1, 1, 40)[:, None] * stain(name).vectors[1])[None]
    nuclei = intensity(np.linspace(0.1, 1, 40)[:, None] * stain(name).vectors[0])[None]
    assert view(_image(own), [name]).abs().max() < 0.12, "the second dye hardly shows"
    seen = view(_image(nuclei), [name])[0, 0, 0].numpy()
    np.testing.assert_allclose(seen, np.linspace(0.1, 1, 40), atol=0.12)
    assert not view.fallbacks


def test_a_slide_without_two_stains_takes_published_vectors_and_is_listed():
    view = Residual()
    view.fit(TISSUE, ["PAS"])
    view.add_slide("glass", np.full((4096, 3), 250, np.uint8))
    view.add_slide("black", np.zeros((4096, 3), np.uint8))
    assert set(view.fallbacks) == {"glass", "black"} and "published" in view.fallbacks["glass"]
    for slide, level in (("glass", 250 / 255), ("black", 0.0)):
        assert view(torch.full((1, 3, 4, 4), level), [slide]).isfinite().all()
    with pytest.raises(ConfigError, match="'unseen' has no fit"):
        view(torch.zeros(1, 3, 2, 2), ["unseen"])
    with pytest.raises(ConfigError, match="before it is fitted"):
        Residual()(torch.zeros(1, 3, 2, 2), ["x"])


@pytest.mark.parametrize("name", sorted(PARTS["view"]))
def test_glass_and_black_are_finite_through_every_view(name):
    view = PARTS["view"][name]()
    view.fit({**TISSUE, "glass": np.full((4096, 3), 255, np.uint8)}, ["PAS"])
    for slide in ("PAS", "CD68", "glass"):
        for level in (0.0, 1.0):
            assert view(torch.full((1, 3, 8, 8), level), [slide]).isfinite().all()


def _detector(view, hidden=None):
    params = {"name": view} if hidden is None else {"name": view, "hidden": hidden}
    strategy = build(StrategyConfig(name="mine", view=params, norm="shared"))
    torch.manual_seed(7)
    standard = Standard(np.zeros(3, np.float32), np.ones(3, np.float32))
    model = ModelConfig(name="unet", params={"depth": 3, "width": 4})
    return Detector.build(strategy, model, TaskConfig(classes=("glomerulus",)), standard)


@pytest.mark.parametrize("hidden", [0, 8])
def test_a_learned_colour_map_starts_at_the_colours_as_they_are_and_learns(hidden):
    images = torch.rand(2, 3, 16, 16)
    plain, learned = _detector("rgb").network.eval(), _detector("learncolour", hidden).network.eval()
    torch.testing.assert_close(learned(images), plain(images))
    learned(images).square().mean().backward()
    gradients = [
        parameter.grad.abs().max() for parameter in learned.colour_map.parameters() if parameter.grad is not None
    ]
    assert max(gradients) > 0
    with torch.no_grad():
        learned.colour_map.change[-1].bias.fill_(0.3)
    assert not torch.allclose(learned(images), plain(images), atol=1e-3)
    again = _detector("learncolour", hidden).network.eval()
    again.load_state_dict(learned.state_dict())  # the map is saved with the network
    torch.testing.assert_close(again(images), learned(images))


def test_an_affine_colour_map_can_undo_a_change_of_channels():
    """What the part is for: one 1 x 1 convolution gives any linear change of colours."""
    from stainda.strategies.view.colour_map import ColourMap

    turned = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    made = ColourMap(3, LearnedColour(hidden=0).hidden)
    with torch.no_grad():
        made.change[0].weight.copy_((torch.linalg.inv(turned) - torch.eye(3))[..., None, None])
    images = torch.rand(2, 3, 5, 5)
    torch.testing.assert_close(made(torch.einsum("kc,nchw->nkhw", turned, images)), images)
