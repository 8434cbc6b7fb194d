"""Maps of HoVer-Net, and objects from them, against a second implementation: MONAI 1.6.1.

Its numbers here were made by ``monai_maps`` and ``monai_objects`` below, in an environment of its own
(``uv pip install monai scikit-image``), since MONAI is not in the extra ``test``; where it is installed, they are made
again.

Targets are the same: MONAI takes the exact centre of mass, as here, where the authors' code rounds it to a pixel.
Objects are found another way, by design: MONAI scales the slopes by their extremes in the tile and cuts them at .4, and
here a pixel is no seed where a map falls. So the objects are compared, and not the edges, with MONAI's Sobel filter as
wide as the paper's, 21 pixels.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from touching_ellipses import best_overlaps, crowd

from stainda.config import PartConfig
from stainda.instances import build_head

HEAD = build_head(PartConfig(name="horizontal_vertical"))


def odd_objects():
    """An L, a single pixel, two that touch each other at the patch's border, a column, and a row at the border."""
    objects = np.zeros((12, 16), np.int32)
    objects[1:9, 1:3] = objects[7:9, 1:8] = 1
    objects[2, 5] = 2
    objects[0:5, 9:12], objects[0:5, 12:16] = 3, 4
    objects[6:11, 10] = 5
    objects[11, 2:7] = 7
    return objects


# ComputeHoVerMaps of odd_objects(): of the L by column and by row, of the others the one map that is not constant
L_ACROSS = [-1, -0.4583333, 0.0370370, 0.2777778, 0.5185185, 0.7592593, 1]  # columns 1 to 7 of row 8
L_DOWN = [-1, -0.7851240, -0.5702479, -0.3553719, -0.1404959, 0.1475410, 0.5737705, 1]  # rows 1 to 8 of column 1


def monai_maps(objects):
    transforms = pytest.importorskip("monai.transforms", reason="MONAI is not in the extra 'test'")
    return transforms.ComputeHoVerMaps()(objects[None]).numpy()


def monai_objects(inside, maps):
    """Numbered objects that MONAI finds in a tile."""
    post = pytest.importorskip("monai.apps.pathology.transforms.post.array", reason="MONAI is not in the extra 'test'")
    find = post.HoVerNetInstanceMapPostProcessing(
        activation=lambda probability: probability, mask_threshold=0.5, sobel_kernel_size=21
    )
    return np.asarray(find(inside[None].astype(np.float32), maps)[1])[0].astype(int)


def noisy_maps(objects, seed, blur=0.0, faint=1.0, noise=0.0):
    """Maps as a network gives them that has not learned to the end: blurred, faint, noisy."""
    maps = np.stack([ndimage.gaussian_filter(one * faint, blur) for one in HEAD.targets(objects)])
    maps += noise * np.random.default_rng(seed).standard_normal(maps.shape)
    return maps.clip(-1, 1).astype(np.float32)


def own_objects(inside, maps):
    pieces, count = ndimage.label(inside)
    out = np.zeros(inside.shape, int)
    for piece in range(1, count + 1):
        parts = HEAD.separate(pieces == piece, maps)
        out[parts > 0] = parts[parts > 0] + out.max()
    return out


def test_targets_are_those_of_monai_also_of_odd_shapes():
    across, down = HEAD.targets(odd_objects())
    np.testing.assert_allclose(across[8, 1:8], L_ACROSS, atol=1e-6)
    np.testing.assert_allclose(down[1:9, 1], L_DOWN, atol=1e-6)
    assert across[2, 5] == down[2, 5] == 0  # a single pixel is its own middle
    np.testing.assert_allclose(across[3, 9:16], [-1, 0, 1, -1, -1 / 3, 1 / 3, 1], atol=1e-6)
    np.testing.assert_allclose(down[:5, 9:16], np.repeat([[-1], [-0.5], [0], [0.5], [1]], 7, axis=1), atol=1e-6)
    np.testing.assert_allclose(down[6:11, 10], [-1, -0.5, 0, 0.5, 1], atol=1e-6)
    np.testing.assert_allclose(across[11, 2:7], [-1, -0.5, 0, 0.5, 1], atol=1e-6)
    assert not across[6:11, 10].any() and not down[11, 2:7].any()


@pytest.mark.parametrize("objects", [odd_objects(), crowd(0), crowd(1)], ids=["odd", "crowd 0", "crowd 1"])
def test_targets_are_made_again_by_monai(objects):
    np.testing.assert_allclose(HEAD.targets(objects), monai_maps(objects), atol=1e-6)


SEEDS = range(4)
# settings of noisy_maps, and the mean IoU of MONAI's objects, 14 by each seed, with the 14 true ones of crowd(seed)
KNOWN = {
    "noise": ({"noise": 0.2}, [0.9967, 0.9974, 0.9981, 0.9972]),
    "blur": ({"blur": 2.0}, [0.9965, 0.9974, 0.9955, 0.9972]),
    "faint and noisy": ({"faint": 0.5, "noise": 0.1}, [0.9967, 0.9974, 0.9981, 0.9989]),
    "all three": ({"blur": 2.0, "faint": 0.5, "noise": 0.1}, [0.9934, 0.9974, 0.9964, 0.9961]),
}


@pytest.mark.parametrize("name", KNOWN)
def test_objects_of_noisy_maps_are_as_many_and_as_right_as_monais(name):
    settings, ious = KNOWN[name]
    for seed, iou in zip(SEEDS, ious, strict=True):
        objects = crowd(seed)
        found = own_objects(objects > 0, noisy_maps(objects, seed, **settings))
        assert found.max() == 14 == objects.max()
        assert best_overlaps(objects, found).mean() > iou - 0.01


@pytest.mark.filterwarnings("ignore:Parameter `min_size`:FutureWarning")
@pytest.mark.parametrize("name", KNOWN)
def test_objects_of_noisy_maps_are_made_again_by_monai(name):
    settings, ious = KNOWN[name]
    for seed, iou in zip(SEEDS, ious, strict=True):
        objects = crowd(seed)
        maps = noisy_maps(objects, seed, **settings)
        theirs = monai_objects(objects > 0, maps)
        assert len(np.unique(theirs)) - 1 == 14
        assert best_overlaps(objects, theirs).mean() == pytest.approx(iou, abs=1e-3)
        assert best_overlaps(theirs, own_objects(objects > 0, maps)).min() > 0.93


def test_a_piece_is_divided_alike_wherever_it_lies_in_its_window():
    objects = crowd(2)
    maps = noisy_maps(objects, 2, blur=1.0)
    pieces, _ = ndimage.label(objects > 0)
    piece = np.bincount(pieces[pieces > 0]).argmax()
    where = ndimage.find_objects(pieces)[piece - 1]
    tight = HEAD.separate(pieces[where] == piece, maps[(slice(None), *where)])
    np.testing.assert_array_equal(tight, HEAD.separate(pieces == piece, maps)[where])
