"""VALIS on two real sections of a rat kidney: accuracy, agreement with VALIS's own warp, and no silent failure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stainda.annotations import read_shapes
from stainda.cohort import Cohort, Section
from stainda.config import PropagationConfig, RegistrationConfig
from stainda.registration import load_block, propagate, register_cohort
from stainda.registration.sections import open_sections
from stainda.registration.valis_import import import_valis, valis_installed

pytestmark = [
    pytest.mark.valis,
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.skipif(not valis_installed(), reason="valis-wsi is not installed"),
]
CONFIG = RegistrationConfig(reference="PanCK")


def kidney(folder: Path) -> tuple[Section, Section]:
    def section(name: str, number: int) -> Section:
        return Section(
            name, "p", "b", number, name, "A", folder / f"{name}.jpg", landmarks=folder / f"{name}_landmarks.csv"
        )

    return section("HE", 1), section("PanCK", 2)


@pytest.fixture(scope="module")
def run(real_data, tmp_path_factory) -> Path:
    """The pair together with a mirrored and turned copy, an unrelated and a garbage section."""
    folder = real_data / "rat_kidney"
    out = tmp_path_factory.mktemp("run")
    he, panck = kidney(folder)
    pixels = np.asarray(Image.open(he.path).convert("RGB"))
    Image.fromarray(np.ascontiguousarray(np.rot90(pixels[:, ::-1]))).save(out / "mirrored.png")
    (out / "garbage.png").write_bytes(b"\x89PNG nothing")
    more = (
        Section("mirrored", "p", "b2", 1, "HE", "A", out / "mirrored.png"),
        Section("PanCK2", "p", "b2", 2, "PanCK", "A", panck.path),
        Section("garbage", "p", "b2", 3, "HE", "A", out / "garbage.png"),
    )
    config = CONFIG.model_copy(update={"reference": "PanCK"})
    register_cohort(Cohort((he, panck, *more)), config, out, workers=2)
    return out


def test_landmarks_land(run) -> None:
    quality = pd.read_csv(run / "registration/quality.csv").set_index("source").loc["HE"]
    assert quality["status"] == "registered"
    assert quality["tre_before_px"] > 25 and quality["tre_rigid_px"] < 15
    assert quality["tre_nonrigid_px"] <= 4.5
    assert quality["folds"] == 0 and quality["n_matches"] > 50


def test_a_mirrored_section_is_found_and_garbage_refused(run) -> None:
    quality = pd.read_csv(run / "registration/quality.csv").set_index("source")
    assert quality["status"]["mirrored"] == "registered" and bool(quality["mirrored"]["mirrored"])
    assert quality["status"]["garbage"] == "refused" and "opened" in quality["reason"]["garbage"]
    transform = load_block(run / "registration", "b2").transforms["mirrored"]
    straight = load_block(run / "registration", "b").transforms["HE"]
    points = np.random.default_rng(0).uniform((200, 150), (900, 600), (300, 2))
    # HE was mirrored left to right (1164 wide) and then turned by 90 degrees against the clock
    there = np.stack([points[:, 1], points[:, 0]], axis=1)
    apart = np.linalg.norm(transform.to_frame(there) - straight.to_frame(points), axis=1)
    assert np.median(apart) < 4


def test_nothing_on_screen_and_valis_in_the_log(run, capfd) -> None:
    assert "Rigid registration" in (run / "registration/log/b.log").read_text()


def test_annotations_land(run, real_data) -> None:
    folder = real_data / "rat_kidney"
    shapes = {"HE": read_shapes(folder / "HE.geojson"), "PanCK": read_shapes(folder / "PanCK_truth.geojson")}
    propagate(Cohort(kidney(folder)), shapes, run / "registration", PropagationConfig(), ["HE"], run)
    agreement = pd.read_csv(run / "annotations/agreement.csv")
    assert agreement[agreement["class"] == "papilla"]["dice"].item() >= 0.95
    assert (agreement["class"] == "vessel_lumen").sum() >= 5


def test_the_export_warps_as_valis_does(real_data) -> None:
    import_valis()
    from valis import warp_tools

    from stainda.registration.valis_run import run_valis, to_transform

    images = open_sections(kidney(real_data / "rat_kidney"), 512)
    he, panck = images["HE"], images["PanCK"]
    results = run_valis([he, panck], "PanCK", RegistrationConfig(detector="kaze", max_dim=400), forward=True)
    source, target = results["HE"], results["PanCK"]
    ours = to_transform(source, he, target, panck, as_is=True)
    points = np.random.default_rng(0).uniform((-50, -50), (1250, 850), (5000, 2))
    working = points @ he.matrix[:2, :2].T + he.matrix[:2, 2]
    canvas = source.backward.shape[1:]
    theirs = warp_tools.warp_xy_from_to(
        working, source.M, source.processed_shape, source.canvas_shape, source.slide_shape, canvas, source.backward,
        source.forward, target.M, target.processed_shape, target.canvas_shape, target.slide_shape, canvas,
        target.backward, target.forward,
    )  # fmt: skip
    back = np.linalg.inv(panck.matrix)
    theirs = theirs @ back[:2, :2].T + back[:2, 2]
    assert np.abs(ours.to_frame(points) - theirs).max() < 0.05
