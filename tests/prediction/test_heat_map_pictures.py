"""``stainda predict --heat-map``: the picture shows the objects found, and heat where they lie."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shapely import Point, box
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from blob_cohort import COLOURS, make_centred_data, make_data, make_job

from stainda.annotations import make_shapes
from stainda.cli.app import app
from stainda.config import ModelConfig, TaskConfig
from stainda.errors import StaindaError
from stainda.models.heat_maps import ACTIVATION, OCCLUSION
from stainda.prediction import Wanted, load_predictor, predict_slide
from stainda.prediction.heat_maps import SHOWN, chosen, collect_evidence, surest_place
from stainda.prediction.predictor import ProbabilityMap
from stainda.prediction.regions import ArrayRegion
from stainda.training import train_on

TASK = TaskConfig(kind="classification", classes=("glomerulus",), centre=0.17, min_object_px=60)
CNN = ModelConfig(name="cnn", params={"depth": 3, "width": 8})
CENTRES = [(60, 100), (130, 60), (110, 150)]


def train(folder, model, strategy):
    job = make_job(strategy, epochs=3, steps_per_epoch=25, batch_size=16, targets=("SR@A",))
    job = replace(job, task=TASK, model=model)
    train_on(job, make_centred_data(job, per_slide=32), folder)
    return folder


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return train(
        tmp_path_factory.mktemp("jobs") / "plain", ModelConfig(name="cnn", params={"depth": 3, "width": 8}), {}
    )


def section():
    tissue, own, _ = (np.asarray(colour) for colour in COLOURS["PAS@A"])
    y, x = np.mgrid[:200, :200] + 0.5
    image = np.ones((200, 200, 3))
    image[16:-16, 16:-16] = tissue
    for cx, cy in CENTRES:
        image[(x - cx) ** 2 + (y - cy) ** 2 < 81] = own
    image += np.random.default_rng(0).normal(0, 0.02, image.shape)
    return (image.clip(0, 1) * 255).astype(np.uint8)


def evidence_of(predictor):
    image = section()
    tissue = (image < 250).any(-1)
    region = ArrayRegion(image, tissue)
    result = predictor.probabilities_region(region, "PAS@A", "one", None)
    shapes = predictor.objects(result)
    return collect_evidence(predictor, region, result, shapes, "PAS@A", "one"), shapes


def heat_inside_and_outside(patch):
    """Mean heat on the disc and near its outline, and in the corners of the patch."""
    rows, columns = ((np.arange(count) + 0.5) / count - 0.5 for count in patch.values.shape)
    away = np.hypot(rows[:, None], columns[None, :])
    return patch.values[away < 0.4].mean(), patch.values[away > 0.55].mean()


def test_heat_lies_on_the_object_and_the_probability_is_that_of_the_patch(job):
    predictor = load_predictor(job)
    evidence, shapes = evidence_of(predictor)
    assert len(evidence) == len(shapes) == len(CENTRES)
    for patch in evidence:
        assert patch.method == ACTIVATION and patch.cls == "glomerulus" and patch.image.shape == (48, 48, 3)
        assert patch.object_id in set(shapes["id"])
        inside, outside = heat_inside_and_outside(patch)
        assert inside > 0 and inside > outside + 0.5
        again = float(predictor.detector.probabilities(patch.image[None], ["one"])[0, 0])
        assert patch.probability == pytest.approx(again, abs=1e-4) and patch.probability > 0.5


def test_with_statistics_of_the_slide_they_are_those_that_the_slide_was_predicted_with(tmp_path):
    predictor = load_predictor(train(tmp_path, CNN, {"name": "reestimated", "norm": "reestimated"}))
    evidence, _ = evidence_of(predictor)
    image = section()
    region = ArrayRegion(image, (image < 250).any(-1))
    with predictor.ready(region, "PAS@A", "one") as (statistics, notes):
        assert statistics is not None and "re-estimated" in notes[-1]
        images = np.stack([patch.image for patch in evidence])
        shares = predictor.detector.probabilities(images, ["one"] * len(images), statistics)
    np.testing.assert_allclose([patch.probability for patch in evidence], shares[:, 0], atol=1e-4)
    plain = predictor.detector.probabilities(evidence[0].image[None], ["one"])[0, 0]
    assert abs(float(plain) - evidence[0].probability) > 1e-6, "the network's own statistics give another answer"


def test_the_command_writes_a_picture_per_slide(job, tmp_path):
    Image.fromarray(section()).save(tmp_path / "one.png")
    call = ["predict", str(job), str(tmp_path / "one.png"), "--out", str(tmp_path / "out"), "--mpp", "0.5"]
    call.append("--heat-map")
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0 and "heat maps: " in result.output, result.output
    with Image.open(tmp_path / "out" / "heat_maps" / "one.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape[0] > 300 and pixels.shape[1] > 900
    red, blue = pixels[..., 0] - pixels[..., 2] > 60, pixels[..., 2] - pixels[..., 0] > 60
    assert red.mean() > 0.01 and blue.any(), "places for and against the class have colours"
    (tmp_path / "out" / "heat_maps" / "one.png").unlink()
    CliRunner().invoke(app, call)
    assert (tmp_path / "out" / "heat_maps" / "one.png").is_file(), "it is made again, though the objects were kept"


def test_a_slide_without_an_object_says_so(job, tmp_path):
    Image.fromarray(section()).save(tmp_path / "one.png")
    wanted = Wanted(heat_maps=True)
    result = predict_slide(job, tmp_path / "one.png", tmp_path / "out", mpp=0.5, threshold=1.1, wanted=wanted)
    assert result.n_objects == 0 and (tmp_path / "out" / "heat_maps" / "one.png") in result.files
    assert (tmp_path / "out" / "heat_maps" / "one.png").is_file()


def test_a_segmentation_is_refused_before_its_first_slide(tmp_path):
    segmentation = make_job({}, epochs=1, steps_per_epoch=2, targets=("SR@A",))
    train_on(segmentation, make_data(segmentation), tmp_path / "job")
    Image.fromarray(section()).save(tmp_path / "one.png")
    call = ["predict", str(tmp_path / "job"), str(tmp_path / "one.png"), "--out", str(tmp_path / "out"), "--heat-map"]
    result = CliRunner().invoke(app, [*call, "--mpp", "0.5"])
    assert isinstance(result.exception, StaindaError) and "--maps" in str(result.exception)
    with pytest.raises(StaindaError, match="classifiers of patches"):
        predict_slide(tmp_path / "job", tmp_path / "one.png", tmp_path / "out", mpp=0.5, wanted=Wanted(heat_maps=True))
    assert not (tmp_path / "out" / "one.geojson").exists()


def test_the_patch_lies_about_the_surest_cell_of_an_object():
    """A ring of two structures: its middle is in neither."""
    array = np.zeros((2, 10, 10), np.float32)
    array[1, 2, 7], array[1, 8, 8], array[0, 2, 3] = 0.9, 0.95, 0.99
    map_ = ProbabilityMap(array, 8.0, 100.0, 50.0, ("a", "b"))
    ring = box(100, 50, 100 + 72, 50 + 40).difference(box(120, 60, 140, 80))
    assert surest_place(ring, map_, 1).tolist() == [100 + 7.5 * 8, 50 + 2.5 * 8]
    assert surest_place(Point(101.5, 52.5), map_, 1).tolist() == [101.5, 52.5]


def test_the_most_certain_of_each_class_are_shown():
    count = 30
    shapes = make_shapes([Point(index, 0) for index in range(count)], "a", id=[str(index) for index in range(count)])
    shapes["class"] = ["b" if index in (3, 7) else "a" for index in range(count)]
    shapes["score"] = np.linspace(0, 1, count)
    rows = chosen(shapes)
    assert len(rows) == SHOWN and rows[rows["class"] == "b"]["id"].tolist() == ["7", "3"]
    assert rows[rows["class"] == "a"]["id"].tolist() == [str(index) for index in range(29, 19, -1)]


def test_a_network_with_dense_layers_is_covered(tmp_path):
    predictor = load_predictor(train(tmp_path, ModelConfig(name="lenet5"), {}))
    evidence, _ = evidence_of(predictor)
    assert evidence and {patch.method for patch in evidence} == {OCCLUSION}
    margins = [np.subtract(*heat_inside_and_outside(patch)) for patch in evidence]
    assert np.mean(margins) > 0, margins
    assert json.loads((tmp_path / "settings.json").read_text())["model"]["name"] == "lenet5"
