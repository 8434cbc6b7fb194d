"""What a step sees of a patch: another window each time, one change of size, labels and views that go with it."""

import numpy as np
import pytest
import torch
from blob_cohort import make_data, make_job

from stainda.config import TaskConfig, load_strategy
from stainda.strategies import build
from stainda.strategies.detector import load_weights_into
from stainda.training import train_on
from stainda.training.preparation import Preparation
from stainda.training.schedule import averaging_share, rate_factor
from stainda.training.windows import Windows, augments_after_cutting

TASK = TaskConfig(classes=("glomerulus",))
SIZE, MARGIN = 48, 12


def _windows(strategy="source_only", task=TASK, size=96, margin=24):
    return Windows.of(build(load_strategy(strategy)), task, size, margin)


def _seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_sides_are_even_on_a_log_scale_and_no_window_leaves_its_region():
    drawn = _windows().draw(20_000, _seeded())
    x, y, side = drawn.T
    assert side.min() == 64 and side.max() == 144, "1.5 times enlarged to 1.5 times reduced, by default"
    shares = [np.mean(side < 96 * 1.5**share) for share in (-0.5, 0, 0.5)]
    assert np.allclose(shares, [0.25, 0.5, 0.75], atol=0.02)
    assert min(x.min(), y.min()) >= 0 and max((x + side).max(), (y + side).max()) <= 144
    middle = np.stack([x, y], 1) + side[:, None] / 2 - 72
    assert np.abs(middle).max() <= 24.5 and np.abs(middle.mean(0)).max() < 0.5
    as_large = middle[np.abs(side - 96) <= 2]
    assert np.allclose(np.quantile(as_large, [0, 0.25, 0.5, 0.75, 1]), [-24, -12, 0, 12, 24], atol=2.5), "evenly"


def test_without_a_change_of_size_places_alone_are_drawn_and_without_a_margin_nothing_is():
    drawn = Windows(96, 24).draw(500, _seeded())
    assert set(drawn[:, 2]) == {96} and drawn[:, :2].min() == 0 and drawn[:, :2].max() == 48
    assert (Windows(96, 0).draw(500, _seeded()) == [0, 0, 96]).all()
    beyond = Windows(96, 0, scale=0.5).draw(500, _seeded())
    reduced = beyond[beyond[:, 2] > 96]
    assert len(reduced) and (np.abs(reduced[:, :2] + reduced[:, 2:] / 2 - 48) <= 0.5).all(), "mirrored on all sides"
    some = Windows(96, 24, scale=0.5, p=0.3).draw(5000, _seeded())
    assert abs(np.mean(some[:, 2] != 96) - 0.3) < 0.03


def test_a_classification_is_asked_about_what_its_patch_was_drawn_for():
    task = TaskConfig(kind="classification", classes=("glomerulus",), centre=0.25)
    drawn = _windows(task=task).draw(1000, _seeded())
    assert np.abs(drawn[:, :2] + drawn[:, 2:] / 2 - 72).max() <= 96 / 16 + 0.5


def test_windows_depend_on_the_generator_alone():
    first, again, other = (_windows().draw(50, _seeded(seed)) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


def test_size_is_changed_by_the_window_and_not_again():
    lampert = load_strategy("source_only").with_values({"augment.0.rotation": 30.0, "augment.0.shift": 0.1})
    (left,) = augments_after_cutting(build(lampert))
    assert (left.scale, left.rotation, left.shift) == (0, 30, 0.1)
    twice = lampert.model_copy(update={"augment": (*lampert.augment, lampert.augment[0])})
    assert [part.scale for part in augments_after_cutting(build(twice))] == [0, 0.5], "the first is done by the window"


def _prepared(strategy="mean_teacher", **more):
    job = make_job(load_strategy(strategy).model_dump(), **more)
    return Preparation(job, build(job.strategy), make_data(job, per_slide=4, margin=MARGIN))


def _oriented(one):
    return [turned for flip in (one, one.flip(-1)) for turned in (flip.rot90(k, (-2, -1)) for k in range(4))]


def test_images_and_labels_of_a_batch_are_the_same_window_and_another_one_each_time():
    made, rows = _prepared("source_only"), np.arange(4)
    state = made.generators["labelled"].get_state()
    batch = made.passes.labelled(rows)
    windows = made.passes._patches.windows.draw(4, torch.Generator().set_state(state))
    images, labels = made.data.images(rows, windows), torch.from_numpy(made.data.labels(rows, windows))
    wanted = made.detector.standard(made.detector.images(images))
    for index in range(4):
        pairs = zip(_oriented(wanted[index]), _oriented(labels[index]), strict=True)
        assert any(
            torch.allclose(image, batch.images[index], atol=1e-5) and (label == batch.labels[index]).all()
            for image, label in pairs
        )
    again = made.passes.labelled(rows)
    for index in range(4):
        assert not any(torch.allclose(one, again.images[index], atol=1e-3) for one in _oriented(batch.images[index]))


def test_views_of_a_patch_start_from_the_window_that_was_cut():
    made = _prepared()
    rows = made.data.unlabelled()[:4]
    batch = made.passes.target(rows)
    before = batch.redraw("none").images
    assert not torch.allclose(before, made.passes.plain(rows), atol=1e-3), "a window, and not the patch"
    assert (before == batch.redraw("none").images).all()
    view = batch.redraw("same")
    shown = before.flatten(2).gather(2, view.places.flatten(1)[:, None].expand(-1, 3, -1)).view_as(before)
    assert torch.allclose(view.images, shown, atol=1e-5), "pixels are moved whole: no second change of size"


def test_validation_and_statistics_see_the_patch_itself():
    made = _prepared("source_only")
    rows = made.data.labelled()[:4]
    assert (made.data.images(rows) == made.data.store.images[rows]).all()
    wanted = made.detector.see(made.detector.images(made.data.store.images[rows]), made.origins.slides(rows))
    assert torch.equal(made.passes.plain(rows), wanted)


def _average_by_hand(job, folder, keep):
    """Weights after each step, averaged: from three trainings' worth of last checkpoints of one."""
    network = Preparation(job, build(job.strategy), make_data(job, per_slide=4)).detector.network
    average, steps = {name: one.detach().clone() for name, one in network.named_parameters()}, []

    def keep_weights(epoch, score):
        load_weights_into(network, folder / "last.safetensors")
        steps.append({name: one.detach().clone() for name, one in network.named_parameters()})

    train_on(job, make_data(job, per_slide=4), folder, on_epoch=keep_weights)
    for index, weights in enumerate(steps):
        share = averaging_share(keep, index)
        average = {name: share * average[name] + (1 - share) * value for name, value in weights.items()}
    return average, network


def test_the_average_is_what_is_kept(tmp_path):
    settings = {"epochs": 3, "steps_per_epoch": 1, "patience": 3}
    wanted, network = _average_by_hand(make_job(**settings), tmp_path / "plain", 0.15)
    result = train_on(make_job(**settings, averaging=0.15), make_data(make_job(), per_slide=4), tmp_path / "average")
    load_weights_into(network, tmp_path / "average" / "last.safetensors")
    for name, value in network.named_parameters():
        torch.testing.assert_close(value.detach(), wanted[name], rtol=1e-4, atol=1e-6)
    assert np.isfinite(result.score)
    assert [averaging_share(0.99, step) for step in (0, 90, 10_000)] == [0.1, 0.91, 0.99]


@pytest.mark.parametrize("name", ["swad", "mean_teacher"])
def test_a_part_that_averages_by_itself_is_left_alone_and_said_so(name, tmp_path):
    for averaging in (None, 0.5):
        job = make_job(load_strategy(name).model_dump(), averaging=averaging)
        train_on(job, make_data(job, per_slide=4), tmp_path / str(averaging))
    first, second = ((tmp_path / each / "last.safetensors").read_bytes() for each in ("None", "0.5"))
    assert first == second
    assert f"training.averaging is not used: align {name}" in (tmp_path / "0.5" / "log.txt").read_text()


def test_the_rate_rises_and_falls_as_the_schedule_says():
    one_cycle = [rate_factor("one_cycle", share) for share in (0, 0.05, 0.1, 0.55, 1)]
    assert np.allclose(one_cycle, [0.04, 0.52, 1, 0.5, 0])
    assert [rate_factor("constant", share) for share in (0, 1)] == [1, 1]
    assert np.allclose([rate_factor("cosine", share) for share in (0, 0.5, 1)], [1, 0.505, 0.01])
