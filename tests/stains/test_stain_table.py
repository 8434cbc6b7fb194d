"""The table of stains: complete, findable by name, and the colours of the real scans it was fitted to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stainda.errors import ConfigError
from stainda.stains.table import DYES, STAINS, STRUCTURES, stain

# real patch, and the two dyes that span most of its colour
FITTED = {
    "PAS": ("kidney_stains_hannover/orig_patch_stain_02.png", ("haematoxylin_pas", "schiff")),
    "HE": ("kidney_stains_hannover/orig_patch_stain_01.png", ("haematoxylin_he", "eosin")),
    "CD68": ("kidney_stains_hannover/orig_patch_stain_16.png", ("haematoxylin_ihc", "dab")),
    "CD34": ("kidney_stains_hannover/orig_patch_stain_39.png", ("haematoxylin_red", "permanent_red")),
    "SR": ("kidney_stains_hannover/orig_patch_stain_32.png", ("haematoxylin_sr", "sirius_red")),
    "JONES": ("kidney_stains_hannover/orig_patch_stain_03.png", ("silver", "haematoxylin_jones")),
}


@pytest.mark.parametrize("name", STAINS)
def test_every_structure_has_an_amount_of_every_dye(name: str) -> None:
    entry = STAINS[name]
    assert entry.amounts().shape == (len(STRUCTURES), len(entry.dyes))
    assert entry.amounts().min() >= 0
    assert entry.amounts()[STRUCTURES.index("glass")].sum() == 0
    np.testing.assert_allclose(np.linalg.norm(entry.vectors, axis=1), 1)
    assert set(entry.dyes) <= set(DYES)


@pytest.mark.parametrize(("asked", "found"), [("pas", "PAS"), ("H&E", "HE"), ("Sirius Red", "SR"), (" cd34 ", "CD34")])
def test_a_stain_is_found_by_name_or_alias(asked: str, found: str) -> None:
    assert stain(asked).name == found


def test_an_unknown_stain_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'JONES'"):
        stain("Jone")


def colour_of(name: str, structure: str) -> np.ndarray:
    entry = stain(name)
    return 10 ** -(np.array(entry.affinity[structure]) @ entry.vectors)


def test_the_table_says_what_a_pathologist_expects() -> None:
    red, green, blue = colour_of("SR", "fibrosis")
    assert red > 2 * max(green, blue)  # collagen is red
    assert colour_of("JONES", "bowman_membrane").max() < 0.2  # membranes are black
    assert colour_of("CD68", "macrophage")[2] < 0.3 < colour_of("CD68", "mesangium")[2]  # brown among pale
    assert colour_of("PANCK", "collecting_duct")[2] < 0.3 < colour_of("PANCK", "proximal")[2]
    assert colour_of("CD34", "capillary_wall")[1] < 0.3 < colour_of("CD34", "proximal")[1]
    pas = colour_of("PAS", "bowman_membrane")
    assert pas[1] < pas[0] < pas[2]  # magenta to purple


@pytest.mark.data
@pytest.mark.parametrize("name", FITTED)
def test_dyes_are_those_of_the_real_scan(name: str, real_data: Path) -> None:
    """An independent fit (principal plane, extreme angles) of the real patch spans the plane of the table's dyes."""
    file, dyes = FITTED[name]
    image = np.asarray(Image.open(real_data / file).convert("RGB"), dtype=float)[::2, ::2].reshape(-1, 3)
    density = -np.log10(np.clip(image, 1, None) / np.percentile(image, 99.7, axis=0))
    tissue = density[density.max(axis=1) > 0.15]
    plane = np.linalg.eigh(np.cov(tissue.T))[1][:, [2, 1]]
    plane *= np.sign(plane[0])
    angle = np.arctan2(tissue @ plane[:, 1], tissue @ plane[:, 0])
    extremes = np.array([plane @ [np.cos(a), np.sin(a)] for a in np.percentile(angle, (0.5, 99.5))])
    for dye in dyes:
        vector = np.array(DYES[dye]) / np.linalg.norm(DYES[dye])
        nearest = np.degrees(np.arccos(np.clip((extremes @ vector).max(), -1, 1)))
        assert nearest < 9, f"{dye} is {nearest:.1f} degrees from the nearest extreme of the real patch"
