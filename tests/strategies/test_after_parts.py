"""After training: TENT lowers entropy and undoes itself, views are averaged, sections vote on objects."""

import json
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import torch
from shapely.geometry import Point

sys.path.append(str(Path(__file__).parents[1] / "training"))
from blob_cohort import make_data, make_job, make_patch

from stainda.annotations import make_shapes
from stainda.config import ModelConfig
from stainda.models import build_model
from stainda.objects.filtering import agree_across_sections
from stainda.objects.support import SupportRules
from stainda.prediction import load_predictor
from stainda.strategies.after.cross_stain_agreement import CrossStainAgreement
from stainda.strategies.after.tent import Tent, mean_entropy
from stainda.strategies.after.test_time_augmentation import TestTimeAugmentation, averaged
from stainda.strategies.norm.statistics import estimate_statistics, statistics_of, to_group_norm
from stainda.training import train_on


def _network(norm="batch", seed=0):
    torch.manual_seed(seed)
    network = build_model(ModelConfig(name="unet", params={"depth": 3, "width": 4, "norm": norm}), 3, 2)
    return network.eval()


def _tiles(n=8, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, 3, 16, 16, generator=generator) for _ in range(2)]


@torch.no_grad()
def _entropy(network, tiles, statistics):
    with statistics_of(network, statistics):
        return float(mean_entropy(network(torch.cat(tiles))))


def test_entropy_is_that_of_known_probabilities():
    even = torch.zeros(2, 4, 3, 3)
    assert float(mean_entropy(even)) == pytest.approx(np.log(4))
    sure = torch.tensor([30.0, -30.0]).view(1, 2, 1, 1)
    assert float(mean_entropy(sure)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_tent_makes_predictions_surer_and_leaves_the_network_as_it_was(norm):
    network, tiles = _network(norm), _tiles()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    flags = {name: one.requires_grad for name, one in network.named_parameters()}
    with torch.no_grad():
        start = _entropy(network, tiles, estimate_statistics(network, tiles) or None)
    reached = []
    for steps in (1, 20):
        with Tent(steps=steps, learning_rate=0.01).adapted(network, tiles, None) as found:
            reached.append(_entropy(network, tiles, found.statistics))
            changed = [key for key, value in network.state_dict().items() if not torch.equal(value, before[key])]
            affine = {f"{name}.{key}" for name, one in network.named_modules() for key in ("weight", "bias")
                      if isinstance(one, torch.nn.BatchNorm2d | torch.nn.GroupNorm)}  # fmt: skip
            assert changed and set(changed) <= affine
            assert "tiles of this slide" in found.note
        for key, value in network.state_dict().items():
            assert torch.equal(value, before[key]), key
    assert reached[1] < reached[0] < start
    assert {name: one.requires_grad for name, one in network.named_parameters()} == flags
    assert not network.training and all(parameter.grad is None for parameter in network.parameters())


def test_tent_is_undone_after_an_error_and_says_where_it_could_do_nothing():
    network, tiles = _network(), _tiles()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ZeroDivisionError), Tent().adapted(network, tiles, None):
        raise ZeroDivisionError
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    with Tent().adapted(network, [], None) as found:
        assert "no tissue" in found.note
    with Tent().adapted(_network("none"), tiles, None) as found:
        assert "no normalisation" in found.note
    to_group_norm(network, 2)
    with Tent(steps=1).adapted(network, tiles, None) as found:
        assert found.statistics is None and "no batch statistics" in found.note


def _picture(domain="SR@A", tiles=4):
    generator = np.random.default_rng(5)
    patches = [make_patch(generator, domain, 48)[0] for _ in range(tiles)]
    return np.vstack([np.hstack(patches[:2]), np.hstack(patches[2:])])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    job = make_job({"norm": "reestimated"}, epochs=1, steps_per_epoch=6, model={"depth": 2, "width": 4})
    train_on(job, make_data(job, per_slide=4), folder)
    return folder


def _with_after(folder, after, out):
    """The same trained job with another part after it."""
    out.mkdir()
    for file in folder.iterdir():
        (out / file.name).write_bytes(file.read_bytes())
    settings = json.loads((out / "settings.json").read_text())
    settings["strategy"]["after"] = after
    (out / "settings.json").write_text(json.dumps(settings))
    return load_predictor(out)


def test_tent_at_a_slide_is_episodic(trained, tmp_path):
    plain = load_predictor(trained)
    tent = _with_after(trained, {"name": "tent", "params": {"steps": 5, "learning_rate": 0.02}}, tmp_path / "tent")
    before = {key: value.clone() for key, value in tent.detector.network.state_dict().items()}
    picture, other = _picture(), _picture("JONES@A")
    first = tent.probabilities_array(picture, name="one")
    tent.probabilities_array(other, name="two")
    again = tent.probabilities_array(picture, name="one")
    assert np.array_equal(first.array, again.array), "the second slide left nothing behind"
    assert all(torch.equal(value, before[key]) for key, value in tent.detector.network.state_dict().items())
    assert not np.allclose(first.array, plain.probabilities_array(picture, name="one").array, atol=1e-3)
    assert "steps of lower entropy" in first.notes[-1]


@pytest.mark.parametrize(("views", "turns"), [("flips", (0, 2)), ("all", (0, 1, 2, 3))])
def test_averaged_views_are_the_mean_of_predictions_turned_by_hand(trained, tmp_path, views, turns):
    plain = load_predictor(trained)
    turned = _with_after(trained, {"name": "test_time_augmentation", "params": {"views": views}}, tmp_path / "tta")
    patches = np.stack([make_patch(np.random.default_rng(s), "PAS@A", 48)[0] for s in range(2)])

    def run(shown):
        return plain.detector.probabilities(shown, ["x"] * len(shown))

    found = TestTimeAugmentation(views=views).predict(run, patches).numpy()
    by_hand = []
    for turn in turns:
        for mirror in (False, True):
            shown = patches[:, :, ::-1] if mirror else patches
            out = run(np.rot90(shown, turn, (1, 2)).copy()).numpy()
            out = np.rot90(out, -turn, (2, 3))
            by_hand.append(out[..., ::-1] if mirror else out)
    np.testing.assert_allclose(found, np.mean(by_hand, axis=0), atol=1e-6)
    picture = _picture()
    once, mean = (one.probabilities_array(picture, name="p").array for one in (plain, turned))
    assert once.shape == mean.shape and not np.array_equal(once, mean)


def test_patches_that_are_not_square_and_vectors_of_classes_are_averaged_too():
    seen = []

    def run(shown):
        seen.append(shown.shape)
        return torch.tensor([[0.2], [0.4]])

    out = averaged(run, np.zeros((2, 8, 12, 3), np.uint8))
    assert set(seen) == {(2, 8, 12, 3)} and len(seen) == 4
    torch.testing.assert_close(out, torch.tensor([[0.2], [0.4]]))


def _objects(places, score):
    discs = [Point(x, y).buffer(50) for x, y in places]
    return make_shapes(discs, "glomerulus", score=[score] * len(discs))


FRAME = {name: (lambda points: points) for name in "abc"}


def test_sections_keep_what_neighbours_show_and_drop_what_they_doubt():
    true, false = [(500, 500), (1500, 600)], (3000, 3000)
    objects = {"a": _objects([*true, false], 0.6), "b": _objects(true, 0.9), "c": _objects(true[:1], 0.9)}
    fainter = {"a": _objects([(505, 500), (4000, 100)], 0.35), "b": _objects([], 0), "c": _objects(true[1:], 0.35)}
    found = CrossStainAgreement().on_objects(objects, fainter, FRAME, 5.0)
    centres = {
        name: sorted((round(one.centroid.x), round(one.centroid.y)) for one in shapes.geometry)
        for name, shapes in found.objects.items()
    }
    assert centres == {"a": sorted(true), "b": sorted(true), "c": sorted(true)}
    rows = {row["slide"]: row for row in found.rows}
    assert (rows["a"]["found"], rows["a"]["dropped"], rows["a"]["fainter"], rows["a"]["added"]) == (3, 1, 1, 0)
    assert rows["c"]["added"] == 1 and rows["c"]["witnesses"] == 2
    one = found.objects["a"]
    assert set(one["identity"]) <= set(found.objects["b"]["identity"]) and (one["score"] > one["own_score"]).all()


def test_unregistered_sections_and_blocks_of_one_are_left_as_they_are_and_listed():
    objects = {"a": _objects([(1, 1)], 0.6), "b": _objects([(900, 900)], 0.6)}
    found = agree_across_sections(objects, {}, {"a": FRAME["a"]}, SupportRules(error=5.0))
    assert [row["reason"] for row in found.rows] == ["no other registered section", "not registered to its block"]
    for name, shapes in found.objects.items():
        assert isinstance(shapes, gpd.GeoDataFrame) and shapes.equals(objects[name])


def test_a_section_without_objects_is_a_witness_against():
    objects = {"a": _objects([(500, 500)], 0.6), "b": _objects([], 0), "c": _objects([], 0)}
    found = agree_across_sections(objects, {}, FRAME, SupportRules(error=5.0))
    assert len(found.objects["a"]) == 0 and found.rows[0]["dropped"] == 1
