"""Whether a method acted is measured right, and measuring changes nothing."""

import csv
import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from blob_cohort import make_data, make_job
from torch import nn

from stainda.config import available, load_strategy
from stainda.strategies import build
from stainda.strategies.align.base import DomainAnswers, ScheduledAlign
from stainda.strategies.align.support.map_discriminators import of_two_sides
from stainda.training import effect, log, loop, train_on
from stainda.training.effect import EFFECT_COLUMNS, gradient_ratio, judge, measured_steps


def test_the_ratio_is_of_what_is_added_to_the_plain_gradient():
    """d(x + y)² = 2(x+y)(1, 1); what 3 x adds is (3, 0)."""
    x, y = torch.tensor(1.0, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    task = (x + y) ** 2
    assert gradient_ratio(task, task + 3 * x, [x, y]) == pytest.approx(3 / (6 * math.sqrt(2)))
    assert gradient_ratio(task, task, [x, y]) == 0
    assert gradient_ratio(task, 0.5 * task, [x, y]) == pytest.approx(0.5)  # a task loss that a part replaces
    fixed = torch.tensor(1.0)  # no gradient is asked of it
    assert gradient_ratio(task, task - y, [x, y, fixed]) == pytest.approx(1 / (6 * math.sqrt(2)))
    assert math.isnan(gradient_ratio(0 * task, task, [x, y]))


def test_a_reversed_gradient_counts_as_what_reaches_the_network():
    from stainda.strategies.align.support.gradient_reversal import reverse

    x = torch.tensor([1.0, -2.0], requires_grad=True)
    told = nn.Linear(2, 1)
    task, domain = (x**2).sum(), told(reverse(x, 0.25)).sum()
    expected = 0.25 * float(told.weight.norm()) / float((2 * x.detach()).norm())
    assert gradient_ratio(task, task + domain, [x]) == pytest.approx(expected, rel=1e-5)


def test_every_domain_counts_alike_in_a_verdict():
    """Three rows of a domain named right, one of another named wrong: half right, not three quarters."""
    logits = torch.tensor([[2.0, 0.0]] * 4)
    found = judge(DomainAnswers(logits, torch.tensor([0, 0, 0, 1]), torch.arange(4)))
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert (found.accuracy, found.domains) == (0.5, 2) and found.loss == pytest.approx((right + wrong) / 2)
    assert found.patches == pytest.approx(4 / (1 / 3 + 1))
    blind = judge(DomainAnswers(torch.zeros(6, 3), torch.tensor([0, 0, 1, 1, 2, 2]), torch.arange(6)))
    assert blind.loss == pytest.approx(math.log(3)) and blind.accuracy == pytest.approx(1 / 3) and blind.patches == 6


def test_positions_of_one_patch_count_once():
    sides = [torch.zeros(3, 2, 4, 5), torch.zeros(3, 2, 4, 5)]
    assert judge(of_two_sides(sides)).patches == pytest.approx(6)
    assert judge(of_two_sides([side[:, :1] for side in sides])).patches == pytest.approx(6)
    labels, patches = torch.tensor([0] * 4 + [1] * 2), torch.tensor([0, 0, 0, 1, 2, 3])
    uneven = judge(DomainAnswers(torch.zeros(6, 2), labels, patches))  # 4² / (3² + 1²) = 1.6 patches on the first side
    assert uneven.patches == pytest.approx(4 / (1 / 1.6 + 1 / 2))


def test_the_number_of_patches_gives_the_standard_error():
    """Over many steps of a blind discriminator that answers alike at all positions of a patch, domains unequal."""
    generator, labels = torch.Generator().manual_seed(0), torch.tensor([0] * 6 + [1] * 3 + [2] * 9)
    repeated = torch.arange(18).repeat_interleave(4)
    found = []
    for _ in range(2000):
        logits = torch.rand(18, 3, generator=generator)
        found.append(judge(DomainAnswers(logits[repeated], labels[repeated], repeated)))
    spread = torch.tensor([verdict.accuracy for verdict in found]).std()
    assert float(spread) == pytest.approx(math.sqrt(1 / 3 * 2 / 3 / found[0].patches), rel=0.05)


def test_measurements_lie_evenly_over_the_steps():
    assert sorted(measured_steps(24, 1, least=4)) == [3, 9, 15, 21]
    assert sorted(measured_steps(3, 1)) == [0, 1, 2]


@pytest.mark.parametrize("epochs", [1, 5, 7, 12, 13, 30, 250])
def test_every_epoch_is_measured_and_every_training_twelve_times(epochs):
    steps = measured_steps(epochs * 20, epochs)
    assert {step // 20 for step in steps} == set(range(epochs)) and len(steps) == max(12, epochs)


@pytest.mark.parametrize(
    "name",
    ["dann", "cdan", "adaptsegnet", "feature_mask_adversarial", "gvb", "dsn", "adda", "adversarial_segmentation"],
)
def test_every_discriminator_is_recorded(name, tmp_path):
    job = make_job(load_strategy(name).model_dump(), epochs=2, steps_per_epoch=3)
    train_on(job, make_data(job, per_slide=4), tmp_path)
    with log.EFFECT.inside(tmp_path).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == EFFECT_COLUMNS
    assert [int(row["step"]) for row in rows if row["discriminator"] in (rows[-1]["discriminator"], "")] == [
        *range(1, 7)
    ]
    late = [row for row in rows if int(row["step"]) == 6]
    assert len(late) == (3 if name == "feature_mask_adversarial" else 1)
    for row in late:
        assert 0 <= float(row["discriminator_accuracy"]) <= 1 and float(row["chance_accuracy"]) == 0.5
        assert float(row["discriminator_loss"]) > 0 and float(row["gradient_ratio"]) > 0
        assert float(row["patches"]) == pytest.approx(
            2 * job.training.batch_size, rel=0.5 if name in ("gvb", "cdan") else 1e-6
        )


@pytest.mark.parametrize(
    "name",
    [
        "mmd", "coral", "entropy", "bnm", "irm", "mean_teacher", "mixup", "cutmix", "dacs", "mic", "mldg", "fish",
        "eqrm", "sagnet", "selfreg", "feature_distance",
    ],
)  # fmt: skip
def test_methods_without_a_discriminator_are_recorded(name, tmp_path):
    strategy = load_strategy(name)
    if build(strategy).align.grouping is not None:
        strategy = strategy.with_values({"align.groups": "patient"})
    job = make_job(strategy.model_dump(), epochs=1, steps_per_epoch=4)
    train_on(job, make_data(job, per_slide=4), tmp_path)
    with log.EFFECT.inside(tmp_path).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4 and all(row["gradient_ratio"] for row in rows) and float(rows[-1]["gradient_ratio"]) > 0
    measured = ("mmd", "coral", "entropy", "bnm", "sagnet", "selfreg", "feature_distance")
    assert all((row["distance"] != "") == (name in measured) for row in rows)


@pytest.mark.parametrize("norm", ["none", "spectral"])
def test_measuring_changes_no_weight(norm, tmp_path, monkeypatch):
    strategy = load_strategy("dann").with_values({"align.discriminator_norm": norm, "align.schedule": "constant"})
    job = make_job(strategy.model_dump(), epochs=2, steps_per_epoch=3)
    data = make_data(job, per_slide=4)
    train_on(job, data, tmp_path / "measured")
    monkeypatch.setattr(loop, "measured_steps", lambda total, epochs: effect.measured_steps(total, 1, least=1))
    train_on(job, data, tmp_path / "once")
    assert (tmp_path / "measured" / "model.safetensors").read_bytes() == (
        tmp_path / "once" / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("name", ["adabn", "swad"])
def test_nothing_is_recorded_where_no_loss_is_added(name, tmp_path):
    """An average of weights has no gradient to be too small: it must not be marked as not effective for it."""
    job = make_job(load_strategy(name).model_dump(), epochs=1, steps_per_epoch=2)
    train_on(job, make_data(job, per_slide=4), tmp_path)
    assert not log.EFFECT.inside(tmp_path).exists()


def test_the_scale_that_gives_the_share_is_found():
    """The part's gradient is 0.02 of the task's at weight 1, half of that in mid-schedule."""
    kept = effect.ShareKeeper(0.5)
    kept.take(0.02 * 0.5, growth=0.5)
    assert kept.scale == pytest.approx(25)
    kept.take(0.02 * 25, growth=25.0)  # as wanted: nothing moves
    assert kept.scale == pytest.approx(25)
    kept.take(0.08 * 25, growth=25.0)  # four times as strong now: half way there, in logarithms
    assert kept.scale == pytest.approx(12.5)
    for ratio, growth in ((0.0, 1.0), (math.nan, 1.0), (0.3, 0.0)):
        kept.take(ratio, growth)
    assert kept.scale == pytest.approx(12.5)
    assert not effect.ShareKeeper(None).is_due(0)


@pytest.mark.parametrize("name", ["dann", "mmd", "domain_confusion", "bnm", "adaptsegnet"])
def test_with_a_share_every_method_sends_as_much_gradient(name, tmp_path):
    strategy = load_strategy(name).with_values({"align.share": 0.3, "align.schedule": "constant"})
    job = make_job(strategy.model_dump(), epochs=3, steps_per_epoch=20)
    train_on(job, make_data(job, per_slide=8), tmp_path)
    with log.EFFECT.inside(tmp_path).open(newline="") as stream:
        ratios = sorted(float(row["gradient_ratio"]) for row in list(csv.DictReader(stream))[4:])
    assert 0.1 < ratios[len(ratios) // 2] < 0.9


def _scaled_align():
    """Strategies with a schedule, one for each class of align part that patches with labels of pixels can train."""
    found = {}
    for name in available("strategies"):
        align = build(load_strategy(name)).align
        if isinstance(align, ScheduledAlign) and "segmentation" in align.tasks:
            found.setdefault(type(align), name)
    return sorted(found.values())


@pytest.mark.parametrize("name", _scaled_align())
def test_every_term_follows_the_scale_or_is_named_as_one_that_does_not(name, tmp_path, monkeypatch):
    """In the network's gradient: named terms have one without any scale, the others twice as much at twice the scale.

    ``share`` takes what it measures to be proportional to the scale.
    """
    seen = {}

    def gradients(step, scale, learned):
        torch.manual_seed(0)
        apart = replace(
            step, scale=scale, modules=deepcopy(step.modules), generator=torch.Generator().manual_seed(1)
        )  # fmt: skip
        terms = build(job.strategy).align.losses(apart)
        grads = {}
        for term, value in terms.items():
            own = torch.autograd.grad(value, learned, retain_graph=True, allow_unused=True) if value.grad_fn else []
            grads[term] = torch.cat([torch.zeros(1), *(grad.flatten() for grad in own if grad is not None)])
        return grads

    def check(self, step, added, total):
        if step.index < 5:
            return
        learned = [parameter for parameter in step.network.parameters() if parameter.requires_grad]
        none, one, two = (gradients(step, scale, learned) for scale in (1e-9, 1.0, 2.0))
        for term in one:
            seen[term] = float(one[term].norm())
            if term in self._align.unscaled:
                torch.testing.assert_close(one[term], none[term])
                assert seen[term] > 0
            else:
                torch.testing.assert_close(two[term], 2 * one[term], rtol=1e-3, atol=1e-6)

    monkeypatch.setattr(loop.TrainingLoop, "_measure", check)
    job = make_job(load_strategy(name).model_dump(), epochs=1, steps_per_epoch=6, batch_size=4)
    train_on(job, make_data(job, per_slide=4), tmp_path)
    assert max(seen.values()) > 0 and set(build(job.strategy).align.unscaled) <= set(seen)


@pytest.mark.parametrize("name", ["mcd", "rtn", "gvb", "bsp", "dsn", "symnets"])
def test_the_share_is_of_the_terms_that_it_scales(name, tmp_path, monkeypatch):
    """Terms that reach the network whatever the strength do not count: they switched the others off."""
    real, scaled = loop.TrainingLoop._measure, []

    def look(self, step, added, total):
        real(self, step, added, total)
        if step.index >= 20:
            task, own = self._task_loss(step), [one for key, one in added.items() if key not in self._align.unscaled]
            total = torch.stack([task, *own]).sum()
            scaled.append(gradient_ratio(task, total, step.network.parameters()))

    monkeypatch.setattr(loop.TrainingLoop, "_measure", look)
    strategy = load_strategy(name).with_values({"align.share": 0.3, "align.schedule": "constant", "align.begin": 0.0})
    job = make_job(strategy.model_dump(), epochs=1, steps_per_epoch=60)
    train_on(job, make_data(job, per_slide=8), tmp_path)
    assert 0.1 < sorted(scaled)[len(scaled) // 2] < 0.9, scaled


@pytest.mark.parametrize("name", ["dann", "vat"])
def test_gradients_are_compared_in_bf16_as_well(name, tmp_path):
    """The precision of GPUs, on the CPU: gradients of outputs under autocast, outside of Fabric's backward."""
    settings = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 4}
    ratios = []
    for precision in ("fp32", "bf16"):
        job = make_job(load_strategy(name).model_dump(), precision=precision, **settings)
        train_on(job, make_data(job, per_slide=4, margin=12), tmp_path / precision)
        with (tmp_path / precision / "effect.csv").open(newline="") as stream:
            ratios.append(float(list(csv.DictReader(stream))[-1]["gradient_ratio"]))
    assert ratios[0] > 0 and ratios[1] == pytest.approx(ratios[0], rel=0.1)
