"""Manifests with codes: no old name is left, the key continues, and what cannot be done is refused before it begins."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stainda.cohort import pseudonymise, read_manifest
from stainda.errors import ManifestError

HEADER = "slide,patient,block,section,stain,centre,path,annotations,landmarks,group,diagnosis\n"
OUTLINES = '{"type": "FeatureCollection", "features": []}'


def cohort_of(folder: Path, patients: int = 12):
    """Two sections of each patient; the first annotated by two people, with landmarks."""
    rows = []
    for number in range(patients):
        name = f"Mueller{number}"
        for section, stain in enumerate(("PAS", "HE"), 1):
            slide = f"{name}_{stain}"
            pixels = np.full((8, 8, 3), 10 * number + section, np.uint8)
            Image.fromarray(pixels).save(folder / f"{slide}.png")
            drawn = landmarks = ""
            if section == 1:
                drawn, landmarks = f"{slide}_a.geojson;{slide}_b.geojson", f"{slide}.csv"
                for file in drawn.split(";"):
                    (folder / file).write_text(OUTLINES)
                (folder / landmarks).write_text("x,y\n1,2\n")
            group = "stable" if number % 2 else "rejection"
            rows.append(
                f"{slide},{name},{name}B,{section},{stain},Ulm,{slide}.png,{drawn},{landmarks},{group},{name} ill"
            )
    (folder / "manifest.csv").write_text(HEADER + "\n".join(rows) + "\n", encoding="utf-8")
    return read_manifest(folder / "manifest.csv")


def test_no_name_is_left_and_every_slide_is_the_same_slide(tmp_path) -> None:
    cohort = cohort_of(tmp_path)
    written = pseudonymise(cohort, tmp_path / "out" / "coded", tmp_path / "key.csv", centres=True)
    assert written.left_out == ("diagnosis",)
    for path in (tmp_path / "out").rglob("*"):
        assert "Mueller" not in path.name
        if path.suffix == ".csv" and path.parent.name == "coded":
            assert "Mueller" not in path.read_text() and "Ulm" not in path.read_text()
    coded = read_manifest(written.manifest)
    with written.key.open(newline="") as stream:
        names = {row["code"]: row["name"] for row in csv.DictReader(stream)}
    assert len(coded) == len(cohort)
    for section in coded:
        old = cohort.section(names[section.slide])
        assert names[section.patient] == old.patient and names[section.block] == old.block
        assert (section.section, section.stain, section.group) == (old.section, old.stain, old.group)
        assert section.path.read_bytes() == old.path.read_bytes()
        assert len(section.annotation_files) == len(old.annotation_files)
        assert (section.landmarks is None) == (old.landmarks is None)


def test_codes_and_rows_do_not_tell_the_old_order(tmp_path) -> None:
    cohort = cohort_of(tmp_path)
    orders = set()
    for number in range(3):
        written = pseudonymise(cohort, tmp_path / f"coded{number}", tmp_path / f"key{number}.csv")
        with written.key.open(newline="") as stream:
            codes = {row["name"]: row["code"] for row in csv.DictReader(stream) if row["kind"] == "patient"}
        orders.add(tuple(codes[f"Mueller{patient}"] for patient in range(12)))
    assert len(orders) == 3, "twelve patients in the same random order twice: one in 479 million"


def test_a_key_is_continued(tmp_path) -> None:
    cohort = cohort_of(tmp_path)
    fewer = type(cohort)(cohort.sections[:8], cohort.domain_keys, cohort.source)
    pseudonymise(fewer, tmp_path / "first", tmp_path / "key.csv")
    before = (tmp_path / "key.csv").read_text().splitlines()
    pseudonymise(cohort, tmp_path / "second", tmp_path / "key.csv", keep=["diagnosis"])
    after = (tmp_path / "key.csv").read_text().splitlines()
    assert set(before) < set(after) and len({row.rpartition(",")[2] for row in after}) == len(after)
    assert "Mueller3 ill" in (tmp_path / "second" / "manifest.csv").read_text(), "kept since it was asked for"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"out": "full"}, "not empty"),
        ({"key": "coded/key.csv"}, "passed on"),
        ({"keep": ["diagnose"]}, "diagnosis"),
        ({"key": "wrong.csv"}, "no key"),
        ({"key": "double.csv"}, "one code for two names"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(tmp_path, change, words) -> None:
    cohort = cohort_of(tmp_path, 2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    (tmp_path / "double.csv").write_text("kind,name,code\npatient,a,P0001\npatient,b,P0001\n")
    given = {"out": "coded", "key": "key.csv", "keep": (), **change}
    with pytest.raises(ManifestError, match=words):
        pseudonymise(cohort, tmp_path / given["out"], tmp_path / given["key"], keep=given["keep"])
    assert not (tmp_path / "coded").exists() and not (tmp_path / "key.csv").exists()
