"""A trained job on slides: objects where they are, in level-0 pixels, from the folder alone."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from blob_cohort import COLOURS, make_data, make_job

from stainda.annotations import read_shapes
from stainda.config import PatchConfig, TaskConfig
from stainda.errors import SlideError, TrainingError
from stainda.prediction import ProbabilityMap, Wanted, load_predictor, predict_slide
from stainda.slides import open_slide
from stainda.training import train_on

CENTRES = [(60, 70), (150, 60), (110, 150), (210, 180), (40, 200)]


def _section(domain="PAS@A", scale=1, size=260):
    """A slide with five discs of radius 9 (network pixels) on tissue, a square distractor, and white glass around."""
    tissue, own, other = (np.asarray(colour) for colour in COLOURS[domain])
    y, x = np.mgrid[:size, :size]
    image = np.ones((size, size, 3))
    image[15:245, 15:245] = tissue
    image[100:112, 30:42] = other
    for cx, cy in CENTRES:
        image[(x - cx) ** 2 + (y - cy) ** 2 < 81] = own
    image += np.random.default_rng(0).normal(0, 0.02, image.shape)
    pixels = (image.clip(0, 1) * 255).astype(np.uint8)
    return pixels.repeat(scale, 0).repeat(scale, 1)


def _train(folder, strategy, patches=None):
    job = make_job(strategy, epochs=4, steps_per_epoch=12, targets=("SR@A",))
    train_on(job, make_data(job), folder)
    if patches is not None:  # the same patches, said to be of another scale
        settings = json.loads((folder / "settings.json").read_text())
        settings["patches"].update(patches)
        (folder / "settings.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return _train(tmp_path_factory.mktemp("plain"), {})


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    return _train(tmp_path_factory.mktemp("adapted"), {"norm": "per_domain", "view": "reinhard"})


@pytest.fixture(scope="module")
def physical(tmp_path_factory):
    return _train(tmp_path_factory.mktemp("physical"), {}, {"downsample": None, "mpp": 2.0})


def _save(image, path):
    Image.fromarray(image).save(path)
    return path


def _found(shapes):
    return sorted((round(one.centroid.x), round(one.centroid.y)) for one in shapes.geometry)


def test_objects_of_a_slide_are_written_in_level_0_pixels(plain, tmp_path):
    slide = _save(_section(), tmp_path / "one.png")
    found = predict_slide(plain, slide, tmp_path / "out", wanted=Wanted(overlay=True))
    shapes = read_shapes(found.file)
    assert found.file == tmp_path / "out" / "one.geojson" and found.n_objects == len(shapes) == len(CENTRES)
    np.testing.assert_allclose(_found(shapes), sorted(CENTRES), atol=1.5)
    assert set(shapes["class"]) == {"glomerulus"} and shapes["score"].between(0.5, 1).all()
    assert np.allclose(shapes.geometry.area, np.pi * 81, rtol=0.25)
    properties = shapes["properties"].iloc[0]
    assert properties["job"] == plain.name and "running statistics" in properties["batch_statistics"]
    assert Image.open(tmp_path / "out" / "overlays" / "one.jpg").size == (260, 260)


def test_the_scale_of_the_job_is_kept_on_slides_of_other_pixel_sizes(physical, tmp_path):
    slide = _save(_section(scale=4), tmp_path / "fine.png")
    path = predict_slide(physical, slide, tmp_path, mpp=0.5).file
    expected = sorted((4 * x + 2, 4 * y + 2) for x, y in CENTRES)
    np.testing.assert_allclose(_found(read_shapes(path)), expected, atol=6)
    with pytest.raises(SlideError, match=r"fine.png: the job was trained at 2.0 µm per pixel.*--mpp"):
        predict_slide(physical, slide, tmp_path)


def test_small_objects_are_left_out_and_micrometres_need_a_pixel_size(plain):
    predictor = load_predictor(plain)
    array = np.zeros((1, 40, 60), np.float32)
    array[0, 5:10, 5:10], array[0, 20:40, 20:50] = 0.9, 0.8
    found = ProbabilityMap(array, 2.0, 100.0, 50.0, ("glomerulus",), mpp=0.25)
    # an outline crosses 0.5 at 4/9 (3/8) of the way from a pixel of 0.9 (0.8) to one of 0; corners are cut
    np.testing.assert_allclose(sorted(predictor.objects(found, 0.5).geometry.area), [94, 2364], atol=1)
    predictor.task = TaskConfig(min_object_px=150)
    one = predictor.objects(found, 0.5)
    np.testing.assert_allclose(one.geometry.iloc[0].bounds, (140.25, 90.25, 199.75, 130), atol=1e-6)
    assert one["score"].iloc[0] == pytest.approx(0.8)
    predictor.task = TaskConfig(min_object_um2=140)  # 100 px² are 6.25 µm², 2400 px² are 150
    assert len(predictor.objects(found, 0.5)) == 1
    with pytest.raises(SlideError, match="pixel size is not known"):
        predictor.objects(ProbabilityMap(array, 2.0, 0.0, 0.0, ("glomerulus",)))


def test_each_class_has_its_own_threshold(plain):
    predictor = load_predictor(plain)
    array = np.zeros((2, 1, 4), np.float32)
    array[:, 0] = [[0.6, 0.6, 0.2, 0.0], [0.3, 0.7, 0.35, 0.0]]
    found = ProbabilityMap(array, 1, 0, 0, ("a", "b"))
    assert predictor.label_map(found, {"a": 0.5, "b": 0.3}).tolist() == [[1, 2, 2, 0]]
    assert predictor.label_map(found, 0.65).tolist() == [[0, 2, 0, 0]]
    assert predictor.label_map(ProbabilityMap(array * 0, 1, 0, 0, ("a", "b")), 0.0).max() == 0


def test_a_slide_of_an_unseen_domain_gives_its_own_statistics_and_colours(adapted):
    predictor = load_predictor(adapted)
    image = _section("JONES@A")
    tissue = (image < 250).any(-1)
    unseen = predictor.probabilities_array(image, domain="JONES@A", name="new", tissue=tissue)
    assert "re-estimated from" in unseen.notes[-1] and "brought to" in unseen.notes[0]
    seen = predictor.probabilities_array(_section("SR@A"), domain="SR@A", tissue=tissue)
    assert seen.notes[-1] == "batch statistics of SR@A, from its training patches"
    again = predictor.probabilities_array(image, domain="JONES@A", name="new", tissue=tissue)
    np.testing.assert_array_equal(unseen.array, again.array)


def test_arrays_and_slides_give_the_same_and_memory_is_read_in_tiles(plain, tmp_path):
    predictor, image = load_predictor(plain), _section(size=700)
    with open_slide(_save(image, tmp_path / "large.png")) as slide:
        found = predictor.probabilities(slide)
        reads = []
        original = slide.read_scaled
        slide.read_scaled = lambda *region: reads.append(region[2:4]) or original(*region)
        again = predictor.probabilities(slide)
    assert found.array.shape == (1, 700, 700) and found.downsample == 1
    whole = predictor.probabilities_array(image)
    near = found.array[:, :240, :240], whole.array[:, :240, :240]
    np.testing.assert_allclose(*near, atol=1e-5)
    np.testing.assert_array_equal(found.array, again.array)
    tiles = [size for size in reads if size != (700, 700)]
    assert max(max(size) for size in tiles) <= 736 and sum(a * b for a, b in tiles) < 350**2, "glass is not read"


def test_both_checkpoints_load_and_anything_else_is_refused(plain, tmp_path):
    assert load_predictor(plain, "last").threshold == load_predictor(plain).threshold
    with pytest.raises(TrainingError, match="Did you mean 'best'"):
        load_predictor(plain, "bst")
    with pytest.raises(TrainingError, match="not a finished job"):
        load_predictor(tmp_path)


def test_nothing_that_could_run_code_is_read(plain, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("unpickled")

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr("pickle.load", refuse)
    monkeypatch.setattr("pickle.loads", refuse)
    load_predictor(plain)
    broken = tmp_path / "job"
    broken.mkdir()
    for file in plain.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    monkeypatch.undo()
    torch.save({"weights": 1}, broken / "model.safetensors")
    with pytest.raises(TrainingError, match="does not fit"):
        load_predictor(broken)


def test_a_slide_without_tissue_is_refused(plain, tmp_path):
    blank = _save(np.full((300, 300, 3), 248, np.uint8), tmp_path / "blank.png")
    with pytest.raises(SlideError, match=r"blank\.png: no tissue"):
        predict_slide(plain, blank, tmp_path)
    with open_slide(tmp_path / "blank.png") as slide:
        predictor = load_predictor(plain)
        found = predictor.probabilities_region(predictor.region(slide), None, "blank", None)
    assert found.array.shape[0] == 1 and not found.array.any() and len(predictor.objects(found)) == 0


def test_a_network_with_a_margin_predicts_to_the_rim(tmp_path):
    job = make_job(model={"depth": 2, "width": 8, "padding": "valid"}, epochs=3, steps_per_epoch=12)
    train_on(job, make_data(job), tmp_path)
    found = load_predictor(tmp_path).probabilities_array(_section())
    assert found.array.shape == (1, 260, 260) and np.isfinite(found.array).all()
    assert PatchConfig.model_validate(job.patches) == job.patches


def test_pixels_kept_in_memory_are_those_of_the_slide(plain, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    predictor = load_predictor(plain)
    with open_slide(_save(noise, tmp_path / "noise.png")) as slide:
        read, kept = predictor.region(slide), predictor.region(slide, keep=True)
        for window in ((0, 0, 40, 30), (-10, -5, 40, 30), (100, 80, 64, 64)):
            np.testing.assert_array_equal(kept.read(*window), read.read(*window))
