"""Objects followed through the sections of a block: the worst first, each at one place in every picture."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from stainda.cohort import Cohort, Roles, Section
from stainda.config import StudyConfig
from stainda.files import write_json
from stainda.objects.tracking import LEAST_UM, WORST
from stainda.registration.results import BLOCK_FORMAT
from stainda.registration.transforms import Transform
from stainda.run_directory.folder import RunFolder
from stainda.study.object_gallery import PIXELS, write_object_gallery

SIZE, MPP, RADIUS = 900, 0.5, 40
STAINS = ("PAS", "SR", "CD68")
CENTRES = [(200.0, 220.0), (680.0, 230.0), (220.0, 690.0), (660.0, 670.0)]  # in the frame
MISSED_BY_ALL, MISSED_BY_ONE, FALSE = 2, 1, (450.0, 450.0)


def turned(degrees: float, shift: tuple[float, float]) -> np.ndarray:
    angle = np.deg2rad(degrees)
    matrix = np.eye(3)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    middle = np.full(2, SIZE / 2)
    matrix[:2, 2] = middle - matrix[:2, :2] @ middle + shift
    return matrix


def disc(centre) -> list[list[float]]:
    angle = np.linspace(0, 2 * np.pi, 61)
    return (np.asarray(centre) + RADIUS * np.stack([np.cos(angle), np.sin(angle)], 1)).tolist()


def write_discs(path, centres: dict[str, np.ndarray]) -> None:
    features = [
        {
            "type": "Feature", "id": name, "geometry": {"type": "Polygon", "coordinates": [disc(xy)]},
            "properties": {"objectType": "annotation", "classification": {"name": "glomerulus"}},
        }
        for name, xy in centres.items()
    ]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


@pytest.fixture
def study(tmp_path):
    """One test block of three sections, turned and shifted, and two strategies and a ceiling that were scored on it."""
    config = StudyConfig.model_validate(
        {
            "study": "gallery", "phantom": {"patients": 4, "stains": list(STAINS)},
            "task": {"name": "glomeruli", "classes": ["glomerulus"]},
            "patches": {"size": 128, "mpp": 2.0}, "protocol": {"sources": ["PAS@A"]},
            "strategies": [
                {"name": "source_only"}, {"name": "adabn"}, {"name": "oracle", "labels": "all"},
            ],
        }
    )  # fmt: skip
    folder = RunFolder(tmp_path / "run")
    place, sections = folder.registration / "B1", []
    matrices = [turned(0, (0, 0)), turned(8, (25, -14)), turned(-5, (-30, 12))]
    for number, (stain, matrix) in enumerate(zip(STAINS, matrices, strict=True), start=1):
        slide = f"P1_{stain}"
        transform = Transform.affine(slide, (SIZE, SIZE), "P1_PAS", (SIZE, SIZE), matrix)
        transform.save(place / slide)
        here = {f"g{index}": xy for index, xy in enumerate(transform.from_frame(np.array(CENTRES)))}
        image = Image.new("RGB", (SIZE, SIZE), (230, 200, 220))
        for x, y in here.values():
            ImageDraw.Draw(image).ellipse((x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS), fill=(60, 20, 60))
        path = tmp_path / f"{slide}.png"
        image.save(path)
        own = folder.own / f"{slide}.geojson"
        write_discs(own, here)
        sections.append(Section(slide, "P1", "B1", number, stain, "A", path, annotations=own, mpp=MPP, split="test"))
        for job, left_out in (("a" * 12, {MISSED_BY_ALL, MISSED_BY_ONE}), ("b" * 12, {MISSED_BY_ALL}), ("c" * 12, {0})):
            found = {name: xy for name, xy in here.items() if int(name[1:]) not in left_out}
            found["false"] = transform.from_frame(np.array([FALSE]))[0]
            write_discs(folder.job(job) / "predictions" / f"{slide}.geojson", found)
            (folder.job(job) / "done").write_text("")
    head = {"format": BLOCK_FORMAT, "block": "B1", "settings": "s", "reference": "P1_PAS", "refused": {}, "rows": []}
    write_json(place / "block.json", {**head, "placed": [section.slide for section in sections]})
    names = ("source_only", "adabn", "oracle")
    trials = [
        {"strategy": name, "trial": 0, "seed": 1, "job": job * 12, "state": "complete", "chosen": True}
        for name, job in zip(names, "abc", strict=True)
    ]
    pd.DataFrame(trials).to_csv(folder.root / "trials.csv", index=False)
    pd.DataFrame({"slide": [section.slide for section in sections], "mpp": MPP}).to_csv(
        folder.root / "cohort.csv", index=False
    )
    return config, Cohort(tuple(sections)), Roles(("PAS@A",), ("SR@A", "CD68@A")), folder


def test_what_all_miss_comes_first_and_the_ceiling_has_no_say(study):
    folder = study[-1]
    rows = pd.read_csv(write_object_gallery(*study), keep_default_na=False)
    first = rows[rows["place"] == 1]
    assert set(first["shape"]) == {f"g{MISSED_BY_ALL}"} and set(first["kind"]) == {"worst"}
    assert (first["missed"] == 4).all() and (first["tried"] == 4).all()  # two strategies on two target sections
    assert set(rows.loc[rows["place"] == 2, "shape"]) == {f"g{MISSED_BY_ONE}"}
    assert (rows["trainings"] == 2).all() and (rows["of"] == len(CENTRES)).all()
    typical = rows[rows["kind"] == "typical"]
    assert len(typical) == 3 and (typical["missed"] == 0).all()  # g0, which the ceiling misses, is missed by no other
    assert [*first["stain"]] == list(STAINS)
    assert pd.read_csv(folder.root / "object_gallery" / "left_out.csv").empty


@pytest.mark.parametrize(("least", "objects"), [(1200.0, len(CENTRES)), (1300.0, 0)])
def test_slivers_that_no_strategy_reports_are_no_failures(study, least, objects):
    config, *others = study
    task = config.task.model_copy(update={"min_object_um2": least})  # the discs have 1257 µm²
    rows = pd.read_csv(write_object_gallery(config.model_copy(update={"task": task}), *others))
    assert rows["of"].drop_duplicates().tolist() == [objects] * bool(objects)


def test_every_section_shows_the_object_at_the_same_place(study):
    folder = study[-1]
    rows = pd.read_csv(write_object_gallery(*study), keep_default_na=False)
    for _, part in rows.groupby("place"):
        for row in part.itertuples():
            with Image.open(folder.root / row.image) as opened:
                assert opened.size == (PIXELS, PIXELS)
                dark = np.asarray(opened.convert("L")) < 120
            scale = row.side / PIXELS
            at = (np.argwhere(dark).mean(axis=0)[::-1] + 0.5) * scale + (row.x, row.y)
            assert at == pytest.approx(CENTRES[int(row.shape[1:])], abs=2 * scale)
            assert dark.sum() * scale**2 == pytest.approx(np.pi * RADIUS**2, rel=0.04)
            assert row.side * MPP >= LEAST_UM


def test_bounded_and_the_same_bytes_twice(study):
    folder = study[-1]

    def content() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (folder.root / "object_gallery").iterdir()}

    write_object_gallery(*study)
    first = content()
    pictures = [name for name in first if name.endswith(".jpg")]
    assert 0 < len(pictures) <= (WORST + 1) * len(STAINS) and sum(map(len, first.values())) < 1_000_000
    (folder.root / "object_gallery" / "inputs.txt").unlink()
    (folder.root / "object_gallery" / "9__stale.jpg").write_bytes(b"")
    write_object_gallery(*study)
    assert content() == first


def test_nothing_is_done_twice_but_what_is_gone_is_made_again(study):
    folder = study[-1]
    table = write_object_gallery(*study)
    before = table.stat().st_mtime_ns
    write_object_gallery(*study)
    assert table.stat().st_mtime_ns == before
    picture = folder.root / "object_gallery" / "1__P1_SR.jpg"
    picture.unlink()
    write_object_gallery(*study)
    assert picture.is_file()


def test_without_registration_the_table_is_empty_and_the_reason_told(study):
    folder = study[-1]
    (folder.registration / "B1" / "block.json").unlink()
    assert pd.read_csv(write_object_gallery(*study)).empty
    reasons = pd.read_csv(folder.root / "object_gallery" / "left_out.csv", keep_default_na=False)
    assert reasons["block"].tolist() == ["B1"] and "not registered" in reasons["reason"].iloc[0]
