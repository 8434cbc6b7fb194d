"""Splits by patient, and what counts as a leak."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stainda.cohort import Cohort, Section, assign_splits, check_no_leak
from stainda.errors import ConfigError, LeakError
from stainda.files import fingerprint

SHARES = (0.5, 0.2, 0.3)


def cohort_of(centres: dict[str, int], stains=("PAS", "SR"), split=None) -> Cohort:
    sections = [
        Section(f"{p}{stain}", p, p, i, stain, p[0], Path(f"/{p}{stain}"), split=split)
        for p in (f"{centre}{n}" for centre, count in centres.items() for n in range(count))
        for i, stain in enumerate(stains)
    ]  # fmt: skip
    return Cohort(tuple(sections))


def split_of(cohort: Cohort) -> dict[str, str]:
    return {section.patient: section.split for section in cohort}


def test_every_section_of_a_patient_is_in_one_split():
    cohort = assign_splits(cohort_of({"A": 7, "B": 5}), SHARES, seed=3)
    assert all(section.split == split_of(cohort)[section.patient] for section in cohort)
    check_no_leak(cohort)


@pytest.mark.parametrize(("n", "expected"), [(10, (5, 2, 3)), (20, (10, 4, 6)), (4, (2, 1, 1)), (3, (1, 1, 1))])
def test_each_centre_has_the_shares(n, expected):
    splits = split_of(assign_splits(cohort_of({"A": n, "B": n}), SHARES, seed=1))
    for centre in "AB":
        found = [split for patient, split in splits.items() if patient[0] == centre]
        assert tuple(found.count(name) for name in ("train", "val", "test")) == expected


def test_splits_depend_on_the_seed_and_not_on_the_order_of_rows():
    cohort = cohort_of({"A": 12})
    once = split_of(assign_splits(cohort, SHARES, seed=1))
    backwards = replace(cohort, sections=cohort.sections[::-1])
    assert split_of(assign_splits(backwards, SHARES, seed=1)) == once
    assert any(split_of(assign_splits(cohort, SHARES, seed=seed)) != once for seed in (2, 3, 4))


def test_given_splits_are_kept_and_count_towards_the_shares():
    cohort = cohort_of({"A": 10})
    given = replace(
        cohort,
        sections=tuple(
            replace(section, split="test") if section.patient in ("A0", "A1", "A2") else section for section in cohort
        ),
    )
    splits = split_of(assign_splits(given, SHARES, seed=1))
    assert {patient for patient, split in splits.items() if split == "test"} == {"A0", "A1", "A2"}
    assert list(splits.values()).count("train") == 5


def test_one_row_of_a_patient_gives_the_split_of_all():
    cohort = cohort_of({"A": 3})
    first = replace(cohort.sections[0], split="val")
    assert split_of(assign_splits(replace(cohort, sections=(first, *cohort.sections[1:])), SHARES, 1))["A0"] == "val"


def test_a_share_of_nothing_gets_nobody():
    assert set(split_of(assign_splits(cohort_of({"A": 9}), (0.7, 0.0, 0.3), 1)).values()) == {"train", "test"}


def test_one_patient_cannot_be_split_and_the_remedy_says_what_can_be_done():
    with pytest.raises(ConfigError, match=r"one patient .* cannot be split.*'all'"):
        assign_splits(cohort_of({"A": 1}), SHARES, 1)
    everything = assign_splits(cohort_of({"A": 1}, split="all"), SHARES, 1)
    check_no_leak(everything)
    assert all(len(everything.where(splits=[name])) == 2 for name in ("train", "val", "test"))


def test_all_is_refused_beside_a_second_patient():
    cohort = cohort_of({"A": 2})
    marked = replace(cohort, sections=(replace(cohort.sections[0], split="all"), *cohort.sections[1:]))
    with pytest.raises(LeakError, match="study of one patient; here are 2"):
        check_no_leak(marked)


def test_all_beside_another_split_of_the_same_patient_is_refused():
    cohort = cohort_of({"A": 1}, split="all")
    with pytest.raises(LeakError):
        check_no_leak(replace(cohort, sections=(replace(cohort.sections[0], split="test"), *cohort.sections[1:])))


def test_one_file_in_two_splits_is_a_leak_also_as_a_copy_or_a_link(tmp_path):
    original, copy, link = tmp_path / "a.tif", tmp_path / "copy.tif", tmp_path / "link.tif"
    original.write_bytes(b"pixels" * 1000)
    copy.write_bytes(b"pixels" * 1000)
    link.symlink_to(original)
    other = tmp_path / "b.tif"
    other.write_bytes(b"others" * 1000)

    def pair(second: Path) -> Cohort:
        return Cohort(
            (
                Section("s1", "p1", "b1", 1, "PAS", "A", original, split="train"),
                Section("s2", "p2", "b2", 1, "PAS", "A", second, split="test"),
            )
        )

    check_no_leak(pair(other))
    for same in (original, copy, link):
        with pytest.raises(LeakError, match="slide 's2'"):
            check_no_leak(pair(same))


def slides_with_white_borders(folder: Path, differing: tuple[int, int]) -> Cohort:
    """Uncompressed slides of one size in three splits, which differ in rows of pixels alone."""
    sections = []
    for number, split in enumerate(("train", "val", "test")):
        image = np.full((1500, 1500, 3), 255, np.uint8)
        first, last = differing
        image[first:last, 300:1200] = np.random.default_rng(number).integers(90, 220, (last - first, 900, 3))
        path = folder / f"{number}.tif"
        tifffile.imwrite(path, image)
        sections.append(Section(f"s{number}", f"p{number}", f"b{number}", 1, "PAS", "A", path, split=split))
    return Cohort(tuple(sections))


@pytest.mark.parametrize("differing", [(400, 1100), (755, 760)], ids=["in most pieces", "between the pieces"])
def test_slides_of_one_size_with_white_borders_are_no_copies(differing, tmp_path):
    cohort = slides_with_white_borders(tmp_path, differing)
    assert len({section.path.stat().st_size for section in cohort}) == 1
    assert len({str(fingerprint(section.path)) for section in cohort}) == (3 if differing[0] == 400 else 1)
    check_no_leak(cohort)
    shutil.copyfile(cohort.sections[1].path, cohort.sections[2].path)
    with pytest.raises(LeakError, match=r"slide 's2' \(test\) is a copy of the file of slide 's1' \(val\)"):
        check_no_leak(cohort)
