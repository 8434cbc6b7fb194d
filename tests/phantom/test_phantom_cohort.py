"""A synthetic cohort on disk: what readers of slides, annotations and manifests find there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from stainda.cohort import read_manifest
from stainda.config import PhantomConfig
from stainda.errors import StaindaError
from stainda.phantom import make_cohort, true_map

SIZE = 640
CONFIG = PhantomConfig(patients=2, stains=("PAS", "SR", "CD68"), centres=("A", "B"), size=SIZE, mpp=1.0, seed=5)


@pytest.fixture(scope="module")
def cohort_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom")
    assert make_cohort(CONFIG, out) == out / "manifest.csv"
    return out


def features(folder: Path, kind: str, slide: str) -> list[dict]:
    return json.loads((folder / kind / f"{slide}.geojson").read_text())["features"]


def test_the_manifest_is_a_cohort(cohort_folder: Path) -> None:
    cohort = read_manifest(cohort_folder / "manifest.csv")
    assert cohort.domains == ("PAS@A", "SR@A", "CD68@A", "PAS@B", "SR@B", "CD68@B")
    assert [len(rows) for rows in cohort.blocks().values()] == [3, 3]
    assert {row.split for row in cohort} == {None}
    assert all((cohort_folder / "truth" / f"{row.slide}.npz").is_file() for row in cohort)


def test_slides_open_in_openslide_with_their_mpp(cohort_folder: Path) -> None:
    openslide = pytest.importorskip("openslide")
    for row in read_manifest(cohort_folder / "manifest.csv"):
        with openslide.OpenSlide(str(row.path)) as slide:
            assert slide.dimensions == (SIZE, SIZE)
            assert slide.level_count == 2
            assert slide.level_downsamples[1] == pytest.approx(2, abs=0.01)
            mpp = true_map(cohort_folder / "truth" / f"{row.slide}.npz").mpp
            assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(mpp, rel=1e-3)
            assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(mpp, rel=1e-3)
            small = np.asarray(slide.read_region((0, 0), 1, (SIZE // 2, SIZE // 2)).convert("RGB")).astype(int)
            large = np.asarray(slide.read_region((0, 0), 0, (SIZE, SIZE)).convert("RGB")).astype(int)
        halved = large.reshape(SIZE // 2, 2, SIZE // 2, 2, 3).mean(axis=(1, 3))
        assert np.abs(halved - small).mean() < 5  # encoded twice


def test_the_tiff_is_tiled_jpeg_and_other_readers_agree(cohort_folder: Path) -> None:
    path = next((cohort_folder / "slides").glob("*.tif"))
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        assert page.is_tiled and page.compression.name == "JPEG"
        assert page.tilewidth == 256
        ours = page.asarray().astype(int)
    openslide = pytest.importorskip("openslide")
    with openslide.OpenSlide(str(path)) as slide:
        theirs = np.asarray(slide.read_region((0, 0), 0, (SIZE, SIZE)).convert("RGB")).astype(int)
    assert np.abs(ours - theirs).max() <= 8  # two JPEG decoders


def test_glomeruli_are_qupath_annotations_with_one_id_per_block(cohort_folder: Path) -> None:
    ids: dict[str, list[set[str]]] = {}
    for row in read_manifest(cohort_folder / "manifest.csv"):
        found = features(cohort_folder, "annotations", row.slide)
        assert found, "every section of cortex holds glomeruli"
        for feature in found:
            assert feature["properties"]["classification"]["name"] == "glomerulus"
            assert feature["properties"]["objectType"] == "annotation"
            assert feature["properties"]["measurements"]["sclerotic"] in (0, 1)
            ring = np.array(feature["geometry"]["coordinates"][0])
            assert (ring[0] == ring[-1]).all()
            assert ring.min() >= 0 and ring.max() <= SIZE
        own = {feature["id"] for feature in found}
        assert len(own) == len(found)
        ids.setdefault(row.block, []).append(own)
    first, second = (set.union(*sets) for sets in ids.values())
    assert not first & second
    assert all(set.intersection(*sets) for sets in ids.values())


def test_a_glomerulus_keeps_its_place_in_the_frame(cohort_folder: Path) -> None:
    rows = [row for row in read_manifest(cohort_folder / "manifest.csv") if row.patient == "P01"]
    centres = []
    for row in rows[:2]:
        section = true_map(cohort_folder / "truth" / f"{row.slide}.npz")
        centres.append(
            {
                feature["id"]: section.to_frame(np.array(feature["geometry"]["coordinates"][0])).mean(axis=0)
                for feature in features(cohort_folder, "annotations", row.slide)
            }
        )
    shared = set(centres[0]) & set(centres[1])
    assert shared
    assert max(np.linalg.norm(centres[0][name] - centres[1][name]) for name in shared) < 12  # micrometres


def test_landmarks_are_the_same_points_of_the_block(cohort_folder: Path) -> None:
    for block in ("P01B1", "P02B1"):
        places = {}
        for path in sorted((cohort_folder / "landmarks").glob(f"{block}_*.csv")):
            table = pd.read_csv(path)
            assert list(table.columns) == ["id", "x", "y"]
            assert len(table) >= 12
            section = true_map(cohort_folder / "truth" / f"{path.stem}.npz")
            places[path.stem] = pd.DataFrame(section.to_frame(table[["x", "y"]].to_numpy()), index=table["id"])
        tables = list(places.values())
        for other in tables[1:]:
            shared = tables[0].index.intersection(other.index)
            assert np.abs(tables[0].loc[shared] - other.loc[shared]).to_numpy().max() < 0.01  # micrometres


def test_macrophages_are_points_on_brown_cells_of_cd68(cohort_folder: Path) -> None:
    slide = "P01B1_03_CD68"
    image = tifffile.imread(cohort_folder / "slides" / f"{slide}.tif").astype(float)
    points = np.array([f["geometry"]["coordinates"] for f in features(cohort_folder, "macrophages", slide)])
    assert len(points) > 10
    column, row = np.floor(points).astype(int).T
    redness = image[..., 0] - image[..., 2]
    assert np.median(redness[row, column]) > np.percentile(redness, 97)


def test_running_again_does_only_what_is_missing(cohort_folder: Path) -> None:
    kept, lost = cohort_folder / "slides" / "P01B1_01_PAS.tif", cohort_folder / "slides" / "P02B1_02_SR.tif"
    before, again = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    make_cohort(CONFIG, cohort_folder)
    assert kept.stat().st_mtime_ns == before
    assert lost.read_bytes() == again


def test_another_cohort_is_not_mixed_in(cohort_folder: Path) -> None:
    with pytest.raises(StaindaError, match="other settings"):
        make_cohort(CONFIG.model_copy(update={"seed": 6}), cohort_folder)


def test_artefacts_are_listed_and_a_blank_section_has_no_annotations(tmp_path: Path) -> None:
    config = PhantomConfig(
        patients=1, stains=("PAS", "SR", "HE"), centres=("A",), size=320, mpp=1.0, seed=2, artefacts=("blank", "mirror")
    )
    make_cohort(config, tmp_path)
    listed = pd.read_csv(tmp_path / "artefacts.csv").set_index("artefact")["slide"]
    assert features(tmp_path, "annotations", listed["blank"]) == []
    assert len(pd.read_csv(tmp_path / "landmarks" / f"{listed['blank']}.csv")) == 0
    assert true_map(tmp_path / "truth" / f"{listed['mirror']}.npz").mirrored
    assert listed["blank"] != listed["mirror"] and "P01B1_01_PAS" not in set(listed)


@pytest.mark.slow
def test_processes_side_by_side_make_the_same_files(cohort_folder: Path, tmp_path: Path) -> None:
    make_cohort(CONFIG, tmp_path, workers=2)
    for path in sorted(cohort_folder.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / path.relative_to(cohort_folder)).read_bytes(), path.name


def test_groups_differ_by_their_share_of_sclerotic_glomeruli() -> None:
    from stainda.phantom.section import anatomy_of, plan_sections

    changes = {"patients": 12, "groups": ("stable", "chronic"), "sclerotic_shares": {"stable": 0.05, "chronic": 0.4}}
    plans = plan_sections(CONFIG.model_copy(update={**changes, "size": 2048, "stains": ("PAS",)}))
    shares: dict[str, list[float]] = {"stable": [], "chronic": []}
    for plan in plans:
        anatomy = anatomy_of(plan)
        kinds = anatomy.bodies.kind[anatomy.bodies.is_glomerulus]
        shares[plan.group].append(float(np.mean(kinds == 1)))
    assert abs(np.mean(shares["stable"]) - 0.05) < 0.04 and abs(np.mean(shares["chronic"]) - 0.4) < 0.08
    assert min(shares["chronic"]) > max(shares["stable"])


def test_shares_of_unknown_groups_and_impossible_ones_are_refused() -> None:
    for shares in ({"rejektion": 0.2}, {"rejection": 1.2}):
        with pytest.raises(ValueError, match="sclerotic_shares"):
            PhantomConfig(groups=("rejection",), sclerotic_shares=shares)
