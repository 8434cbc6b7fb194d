"""A training by two processes that share every batch is the training of one."""

import os
import signal
from functools import partial

import pytest
import torch
from blob_cohort import make_data, make_job
from two_ranks import largest_difference, steps_of, steps_of_all

from stainda.config import TrainingConfig, load_strategy
from stainda.errors import ConfigError, TrainingError, UnexpectedError
from stainda.processes import VISIBLE_GPUS
from stainda.strategies import build
from stainda.study.executor import use_gpu
from stainda.training import loop, rank_processes, read_result, train_on
from stainda.training.preparation import Preparation
from stainda.training.rank_processes import started_ranks
from stainda.training.ranks import BatchNormOverRanks, Ranks

TWO = TrainingConfig(devices=2, batch_size=8)
ONE_STEP = {"epochs": 1, "steps_per_epoch": 1, "optimiser": "sgd", "batch_size": 8}
NAMES = ("source_only", "groupnorm", "dann", "mmd", "coral", "mean_teacher", "serial_consistency", "adabn")


def _job(name, **settings):
    strategy = load_strategy(name).model_dump() if isinstance(name, str) else name
    return make_job(strategy, **{**ONE_STEP, **settings})


def test_what_is_trained_is_the_same_for_plain_networks_batch_statistics_and_losses_that_compare_patches():
    """In one group of two processes, as starting one takes seconds."""
    several = {"epochs": 2, "steps_per_epoch": 3}
    share = {"name": "dann", "align": {"name": "dann", "params": {"share": 0.5, "schedule": "constant"}}}
    jobs = [_job("groupnorm", **several), _job(share, **several), *map(_job, NAMES)]
    with started_ranks(TWO, partial(steps_of_all, jobs)) as ranks:
        pairs = [(steps_of(job, ranks), steps_of(job, Ranks())) for job in jobs]
    for job, ((two, two_log), (one, one_log)) in zip(jobs, pairs, strict=True):
        name = job.strategy.name
        assert largest_difference(one, two) < (1e-5 if job.training.epochs == 1 else 1e-4), name
        losses = [key for key in one_log.rows[-1] if key.startswith("loss_")]
        assert losses and all(two_log.rows[-1][key] == pytest.approx(one_log.rows[-1][key], abs=1e-4) for key in losses)
        if job.training.epochs == 1:
            start = Preparation(job, build(job.strategy), make_data(job, per_slide=8, margin=12)).detector.network
            moved = largest_difference(dict(start.named_parameters()), one)
            assert moved > 100 * largest_difference(one, two), name
    effects = [[row["gradient_ratio"] for row in log._effect] for (_, log) in pairs[1]]
    assert effects[0] and effects[0] == pytest.approx(effects[1], rel=1e-2)


def _both(ranks, results):
    """Batch normalisation, dropout, numbers: what each rank comes to."""
    generator = torch.Generator().manual_seed(0)
    images, weights = (torch.randn(8, 3, 5, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    layer = torch.nn.BatchNorm2d(3).double()
    own = images.chunk(2)[ranks.rank].requires_grad_()
    with BatchNormOverRanks():
        normalised = layer(own)
    whole = ranks.whole(normalised, 8)
    (whole.tanh() * weights).sum().backward()
    ranks.average_gradients([layer.weight, layer.bias])
    dropped = ranks.forward(torch.nn.Dropout(0.5))(torch.ones(8, 100))
    results.update(
        images=images, weights=weights, whole=whole.detach(), layer=layer, gradient=own.grad / 2, dropped=dropped,
        after=torch.rand(4), sum=ranks.sum(ranks.rank + 1.0), first=ranks.of_first(7.0 + ranks.rank),
        uneven=ranks.forward(lambda batch: batch + 1)(torch.zeros(3, 2)),
    )  # fmt: skip


def _other(folder, ranks):
    results = {}
    torch.manual_seed(3)
    _both(ranks, results)
    torch.save({name: results[name] for name in ("gradient", "after", "first")}, folder / "other")


def test_batch_statistics_gradients_and_draws_over_ranks(tmp_path):
    results = {}
    with torch.random.fork_rng(), started_ranks(TWO, partial(_other, tmp_path)) as ranks:
        torch.manual_seed(3)
        _both(ranks, results)
    other = torch.load(tmp_path / "other", weights_only=True)
    images, layer = results["images"].detach().requires_grad_(), torch.nn.BatchNorm2d(3).double()
    expected = layer(images)
    (expected.tanh() * results["weights"]).sum().backward()
    torch.testing.assert_close(results["whole"], expected.detach())
    torch.testing.assert_close(torch.cat([results["gradient"], other["gradient"]]), images.grad)
    for name in ("weight", "bias"):
        torch.testing.assert_close(getattr(results["layer"], name).grad, getattr(layer, name).grad)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(results["layer"], name), getattr(layer, name))
    first, second = results["dropped"].chunk(2)
    assert not torch.equal(first, second), "each share has masks of its own"
    assert torch.equal(results["after"], other["after"]), "the ranks draw the same afterwards"
    assert results["sum"] == 3 and (results["first"], other["first"]) == (7, 7)
    assert torch.equal(results["uneven"], torch.ones(3, 2))


@pytest.mark.slow
def test_a_training_with_two_devices_is_kept_as_one_and_goes_on_after_an_interruption(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "EVERY_SECONDS", 0.0)
    job = _job("dann", epochs=3, steps_per_epoch=2, devices=2)
    alone = make_job(job.strategy.model_dump(), **{**ONE_STEP, "epochs": 3, "steps_per_epoch": 2})
    assert job.hash == alone.hash
    data = partial(make_data, per_slide=4, margin=12)
    whole = train_on(job, data(job), tmp_path / "whole")
    single = train_on(alone, data(alone), tmp_path / "single")
    files = {path.name for path in (tmp_path / "whole").iterdir()}
    assert files == {path.name for path in (tmp_path / "single").iterdir()}
    assert whole.score == pytest.approx(single.score, abs=0.01) and whole.best_epoch == single.best_epoch

    def cut(epoch, score):
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_on(job, data(job), tmp_path / "cut", on_epoch=cut)
    assert read_result(tmp_path / "cut") is None
    train_on(job, data(job), tmp_path / "cut")
    assert "goes on after epoch 2" in (tmp_path / "cut" / "log.txt").read_text()
    for name in ("model.safetensors", "last.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def _killed(ranks):
    os.kill(os.getpid(), signal.SIGKILL)


def _failing(ranks):
    raise MemoryError("no memory on this device")


@pytest.mark.parametrize(("work", "reason"), [(_killed, "SIGKILL"), (_failing, "no memory on this device")])
def test_a_rank_that_dies_ends_the_training_with_the_reason(work, reason):
    with (
        pytest.raises(UnexpectedError, match=f"rank 1 of 2 died .*{reason}"),
        started_ranks(TWO, work) as ranks,
    ):
        for _ in range(1000):
            ranks.sum(1.0)


@pytest.mark.parametrize("name", ["mldg", "mixstyle"])
def test_methods_that_look_across_a_batch_inside_the_network_are_refused(name):
    job = _job(name, devices=2)
    with pytest.raises(ConfigError, match=r"training\.devices is 2, and") as error:
        Preparation(job, build(job.strategy), make_data(job, per_slide=4), ranks=Ranks(0, 2))
    assert f"strategy {name}" in str(error.value) and "training.devices to 1" in str(error.value)


def test_a_batch_has_equal_shares():
    with pytest.raises(ValueError, match="batch_size 8 is not a multiple of devices 3"):
        TrainingConfig(devices=3, batch_size=8)


def test_trainings_side_by_side_have_gpus_of_their_own(monkeypatch):
    taken = []
    for worker in range(2):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
        monkeypatch.delenv(VISIBLE_GPUS, raising=False)
        use_gpu(worker, lambda: 4)
        taken += rank_processes._gpus(2)
        with pytest.raises(TrainingError, match=r"training\.devices is 5, and 4 GPUs"):
            rank_processes._gpus(5)
    assert sorted(taken) == ["4", "5", "6", "7"] and taken[0] == "4" and taken[2] == "5"
