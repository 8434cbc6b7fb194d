"""The landmark table says what ANHIR says: statistics of distances, by the diagonal, and the share that improved."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stainda.cohort import read_manifest
from stainda.config import RegistrationConfig
from stainda.errors import ConfigError
from stainda.files import write_csv
from stainda.registration import load_block, register_cohort
from stainda.registration.landmarks import LandmarkErrors, annotator_files

SHIFT = np.array([40.0, -25.0])
TURN = np.array([[np.cos(0.3), -np.sin(0.3), 90], [np.sin(0.3), np.cos(0.3), -60], [0, 0, 1]])


def section(path: Path, matrix: np.ndarray) -> np.ndarray:
    """A picture of tissue moved by the inverse of ``matrix``, so that ``matrix`` takes it back; returns landmarks."""
    from scipy import ndimage

    size = 640
    random = np.random.default_rng(7)
    texture = ndimage.gaussian_filter(random.normal(size=(size, size)), 5)
    y, x = np.mgrid[:size, :size]
    disc = np.hypot(x - 330, (y - 300) * 1.3) < 210
    grey = np.where(disc, 150 + 90 * texture / np.abs(texture).max(), 245)
    where = (np.stack([x.ravel(), y.ravel()], 1) + 0.5) @ matrix[:2, :2].T + matrix[:2, 2] - 0.5
    moved = ndimage.map_coordinates(grey, where.T[::-1], order=1, cval=245).reshape(size, size)
    Image.fromarray(np.stack([moved, moved * 0.8, moved * 0.95], 2).clip(0, 255).astype(np.uint8)).save(path)
    reference = random.uniform((180, 180), (480, 420), (25, 2))
    back = np.linalg.inv(matrix)
    return reference @ back[:2, :2].T + back[:2, 2]


def points_file(path: Path, points: np.ndarray) -> None:
    write_csv(path, [{"id": i, "x": x, "y": y} for i, (x, y) in enumerate(points)], ("id", "x", "y"))


@pytest.fixture(scope="module")
def block(tmp_path_factory) -> Path:
    """Four sections: ``ref``; ``a`` moved onto it by a matrix; ``b`` onto ``a`` by another; ``lost`` without import."""
    folder = tmp_path_factory.mktemp("imported")
    shift = np.eye(3)
    shift[:2, 2] = SHIFT
    maps = {"ref": np.eye(3), "a": TURN, "b": TURN @ shift, "lost": np.eye(3)}
    rows = []
    for number, (name, matrix) in enumerate(maps.items()):
        landmarks = section(folder / f"{name}.png", matrix)
        points_file(folder / f"{name}.csv", landmarks)
        if name == "ref":
            points_file(folder / "ref.annotator-B.csv", landmarks + np.array([3, 4]))
        rows.append({
            "slide": name, "patient": "p", "block": "k", "section": number, "stain": f"S{number}", "centre": "c",
            "scanner": "", "path": f"{name}.png", "annotations": "",
            "landmarks": f"{name}.csv", "mpp": 0.5, "split": "train",
        })  # fmt: skip
    write_csv(folder / "manifest.csv", rows, tuple(rows[0]))
    np.save(folder / "a.npy", TURN)
    (folder / "b_to_a.csv").write_text(f"1,0,{SHIFT[0]}\n0,1,{SHIFT[1]}\n")
    (folder / "imports.csv").write_text(
        "slide,frame,file,direction,units\na,ref,a.npy,push,px\nb,a,b_to_a.csv,push,px\n"
    )
    return folder


@pytest.fixture(scope="module")
def run(block) -> Path:
    config = RegistrationConfig(method="import", imports=block / "imports.csv")
    register_cohort(read_manifest(block / "manifest.csv"), config, block / "run")
    return block / "run" / "registration"


def test_imported_transforms_pass_the_gates_chains_are_followed_and_the_rest_is_refused(run) -> None:
    result = load_block(run, "k")
    assert result.reference == "ref" and set(result.transforms) == {"ref", "a", "b"}
    np.testing.assert_allclose(result.transforms["a"].matrix, TURN, atol=1e-9)
    shift = np.eye(3)
    shift[:2, 2] = SHIFT
    np.testing.assert_allclose(result.transforms["b"].matrix, TURN @ shift, atol=1e-6)
    assert "no transform leads from lost to ref" in result.refused["lost"]
    rows = {row["source"]: row for row in csv.DictReader((run / "quality.csv").open())}
    assert rows["a"]["status"] == "rigid_only" and float(rows["a"]["tre_rigid_px"]) < 1e-3
    assert rows["lost"]["status"] == "refused"
    assert result.transforms["b"].about["made_by"] == {"method": "import"}


def test_a_wrong_import_is_caught_by_the_gates(block) -> None:
    turned = TURN @ np.diag([-1.0, -1, 1])
    turned[:2, 2] += TURN[:2, :2] @ [640, 640]  # upside down about the middle
    np.save(block / "wrong.npy", turned)
    (block / "wrong.csv").write_text("slide,frame,file,direction,units\na,ref,wrong.npy,push,px\n")
    config = RegistrationConfig(method="import", imports=block / "wrong.csv")
    table = register_cohort(read_manifest(block / "manifest.csv"), config, block / "wrong").set_index("source")
    assert table.loc["a", "status"] == "refused" and "structures do not coincide" in table.loc["a", "reason"]


def test_a_changed_import_is_registered_again(block, run) -> None:
    config = RegistrationConfig(method="import", imports=block / "imports.csv")
    cohort = read_manifest(block / "manifest.csv")
    stamp = (run / "k" / "block.json").stat().st_mtime_ns
    register_cohort(cohort, config, run.parent)
    assert (run / "k" / "block.json").stat().st_mtime_ns == stamp
    moved = TURN.copy()
    moved[0, 2] += 1
    np.save(block / "a.npy", moved)
    register_cohort(cohort, config, run.parent)
    assert load_block(run, "k").transforms["a"].matrix[0, 2] == pytest.approx(moved[0, 2])
    np.save(block / "a.npy", TURN)
    register_cohort(cohort, config, run.parent)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("slide,frame\na,ref", "missing: .'file'"),
        ("slide,frame,file,units\na,ref,a.npy,inch", "units 'inch'"),
        ("slide,frame,file,smoothing\na,ref,a.npy,much", "is no number"),
        ("slide,frame,file\nzz,ref,a.npy", "no slide 'zz'"),
        ("slide,frame,file\na,ref,a.npy\na,ref,b_to_a.csv", "a has more than one row"),
        ("slide,frame,file,direktion\na,ref,a.npy,push", "Did you mean 'direction'"),
    ],
)
def test_a_wrong_table_stops_before_anything_runs(block, tmp_path, text, reason) -> None:
    (tmp_path / "t.csv").write_text(text)
    config = RegistrationConfig(method="import", imports=tmp_path / "t.csv")
    with pytest.raises(ConfigError, match=reason):
        register_cohort(read_manifest(block / "manifest.csv"), config, tmp_path / "run")
    with pytest.raises(ConfigError, match="names no table"):
        register_cohort(read_manifest(block / "manifest.csv"), RegistrationConfig(method="import"), tmp_path / "run")


def test_the_table_holds_what_can_be_computed_by_hand(run, block) -> None:
    rows = list(csv.DictReader((run / "landmarks.csv").open()))
    found = {(row["source"], row["target"], row["step"]): row for row in rows}
    assert {key[:2] for key in found if not key[0].startswith("(")} == {
        ("a", "ref"), ("b", "ref"), ("lost", "ref"), ("a", "b"), ("b", "lost"), ("ref", "ref"),
    }  # fmt: skip
    first = np.loadtxt(block / "a.csv", delimiter=",", skiprows=1)[:, 1:]
    second = np.loadtxt(block / "ref.csv", delimiter=",", skiprows=1)[:, 1:]
    before = np.linalg.norm(first - second, axis=1)
    row = found["a", "ref", "before"]
    for name, value in (("median", np.median(before)), ("mean", before.mean()), ("max", before.max())):
        assert float(row[f"tre_{name}_px"]) == pytest.approx(value, rel=1e-4)
        assert float(row[f"tre_{name}_um"]) == pytest.approx(value / 2, rel=1e-4)
        assert float(row[f"rtre_{name}"]) == pytest.approx(value / np.hypot(640, 640), rel=1e-4)
    assert float(row["tre_p90_px"]) == pytest.approx(np.percentile(before, 90), rel=1e-4)
    assert row["robustness"] == "" and int(row["n_landmarks"]) == 25
    assert float(found["a", "ref", "rigid"]["robustness"]) == 1
    assert ("lost", "ref", "rigid") not in found and ("lost", "ref", "before") in found
    between = found["ref", "ref", "between annotators"]
    assert float(between["tre_median_px"]) == pytest.approx(5) and float(between["tre_max_um"]) == pytest.approx(2.5)
    pairs = [
        float(row["tre_mean_px"]) for (source, _, step), row in found.items() if step == "before" and source[0] != "("
    ]
    whole = {row["source"]: row for row in rows if row["source"].startswith("(") and row["step"] == "before"}
    assert float(whole["(mean of pairs)"]["tre_mean_px"]) == pytest.approx(np.mean(pairs), rel=1e-4)
    assert float(whole["(median of pairs)"]["tre_mean_px"]) == pytest.approx(np.median(pairs), rel=1e-4)


def test_robustness_is_the_share_that_came_nearer() -> None:
    found = LandmarkErrors.of(np.array([1.0, 5, 2, 9]), np.array([2.0, 4, 3, 9]))
    assert found.robustness == 0.5 and found.median == 3.5 and found.max == 9


def test_further_annotators_are_found_beside_the_file(tmp_path) -> None:
    for name in ("x.csv", "x.annotator-B.csv", "x.annotator-C.csv", "xy.annotator-B.csv", "x.b.csv"):
        (tmp_path / name).touch()
    assert [path.name for path in annotator_files(tmp_path / "x.csv")] == ["x.annotator-B.csv", "x.annotator-C.csv"]
