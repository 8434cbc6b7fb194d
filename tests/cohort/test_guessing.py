"""The names of slides tell their pattern."""

from __future__ import annotations

import itertools

import pytest

from stainda.cohort import find_sections, guess_pattern
from stainda.errors import ManifestError

STAINS = ("PAS", "HE", "SR", "CD68", "SILVER")


def _names(shape: str, patients: int = 4) -> list[str]:
    """Names of slides of two centres, two stains; ``shape`` has fields in braces."""
    found = []
    for number, (index, stain) in itertools.product(range(patients), enumerate(("PAS", "SR"))):
        found.append(
            shape.format(
                patient=f"2021-{14 + number:03d}", p=number + 1, block="B1", section=f"{3 + index:02d}", stain=stain,
                centre=("Centre A", "Centre B")[number % 2], word=("Aachen", "Bonn")[number % 2],
                unknown=("Xanthene", "Orcein")[index], ending=(".svs", ".ndpi")[number % 2],
            )
        )  # fmt: skip
    return found


def _folder(tmp_path, files):
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


@pytest.mark.parametrize(
    ("shape", "pattern"),
    [
        ("{patient}_{block}_{section}_{stain}.svs", "{patient}_{block}_{section}_{stain}.svs"),
        ("{centre}/{patient}_{block}_{section}_{stain}.tif", "{centre}/{patient}_{block}_{section}_{stain}.tif"),
        ("{word}/{patient}_{section}_{stain}.ome.tif", "{centre}/{patient}_{section}_{stain}.ome.tif"),
        ("slides/{patient}_{block}_{section}_{stain}.svs", "{patient}_{block}_{section}_{stain}.svs"),
        ("{centre}/{patient}_{block}_{section}_{stain}{ending}", "{centre}/{patient}_{block}_{section}_{stain}.*"),
        ("P{p}-{block}-{section}-{stain}.svs", "{patient}-{block}-{section}-{stain}.svs"),
        ("P{p}-{block}_{section}_{stain}.svs", "{patient}-{block}_{section}_{stain}.svs"),
        ("P{p} {stain}.svs", "{patient} {stain}.svs"),
        ("{p}_{section}_{stain}.svs", "{patient}_{section}_{stain}.svs"),
        ("{stain}_{patient}_S{section}.svs", "{stain}_{patient}_S{section}.svs"),
        ("RENAL_{patient}_{block}_{section}_{stain}.svs", "RENAL_{patient}_{block}_{section}_{stain}.svs"),
        ("{word}_{patient}_{section}_{stain}.svs", "{centre}_{patient}_{section}_{stain}.svs"),
        ("{word}/{patient}/{section}_{stain}.svs", "{centre}/{patient}/{section}_{stain}.svs"),
        ("{stain}/{patient}_{section}.svs", "{stain}/{patient}_{section}.svs"),
        ("{patient}_{block}_{section}_{unknown}.svs", "{patient}_{block}_{section}_{stain}.svs"),
    ],
)
def test_a_pattern_is_found_in_names_and_tells_every_field_rightly(tmp_path, shape, pattern):
    files = _names(shape)
    folder = _folder(tmp_path, [*files, "notes.txt", "Centre A/annotations/2021-014_mask.png"])
    guess = guess_pattern(folder, STAINS)
    assert guess.pattern == pattern
    assert (guess.follow, guess.slides) == (len(files), len(files))
    fixed = {} if "centre" in guess.fields else {"centre": "X"}
    found = find_sections(folder, guess.pattern, **fixed).sections
    assert len(found) == len(files)
    assert len({one.patient for one in found}) == 4
    assert len({one.block for one in found}) == 4
    assert {one.stain for one in found} == ({"Xanthene", "Orcein"} if "unknown" in shape else {"PAS", "SR"})
    if "{section}" in shape:
        assert {one.section for one in found} == {3, 4}
    if "centre" in guess.fields:
        assert len({one.centre for one in found}) == 2


def test_one_patient_has_a_pattern_too(tmp_path):
    folder = _folder(tmp_path, _names("{patient}_{block}_{section}_{stain}.svs", patients=1))
    assert guess_pattern(folder, STAINS).pattern == "{patient}_{block}_{section}_{stain}.svs"


def test_most_names_decide_and_the_others_are_told(tmp_path):
    files = _names("{patient}_{block}_{section}_{stain}.svs")
    folder = _folder(tmp_path, [*files, "macro.svs"])
    guess = guess_pattern(folder, STAINS)
    assert (guess.follow, guess.slides) == (len(files), len(files) + 1)
    scan = find_sections(folder, guess.pattern, centre="A")
    assert [path.name for path, _ in scan.skipped] == ["macro.svs"]


def test_a_folder_without_slides_or_with_names_of_no_shape_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="no slide"):
        guess_pattern(tmp_path, STAINS)
    _folder(tmp_path, ["a.svs", "b_c-d e.svs"])
    with pytest.raises(ManifestError, match="Give one, for example --pattern"):
        guess_pattern(tmp_path, STAINS)
