"""AC-GAN: its terms by hand, whose gradient goes where, and a generator that comes to make patches of its classes."""

import torch
from align_cases import gradient
from torch import nn
from torch.nn import functional

from stainda.config import ModelConfig, load_strategy
from stainda.models import build_model
from stainda.strategies import build
from stainda.strategies.align.ac_gan import AcGan
from stainda.strategies.align.base import Batch, Site, Step
from stainda.strategies.features import FeatureTap

SIZE = 16


def _network():
    torch.manual_seed(3)
    return build_model(ModelConfig(name="cnn", params={"depth": 2, "width": 4}), 3, 2)


def _images(classes, seed=0):
    """Red patches are class 1, blue ones class 0."""
    noise = 0.3 * torch.randn(len(classes), 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    mean = torch.tensor([[-1.0, 0.0, 1.0], [1.0, 0.0, -1.0]])[classes]
    return noise + mean[..., None, None]


def _step(part, network, modules, seed=0, progress=0.5, count=4):
    labels = torch.tensor([0, 1]).repeat(count // 2)
    tap = FeatureTap(network, part.layer)
    images = [_images(labels, seed), _images(labels.flip(0), seed + 1)]
    batches = []
    for number, shown in enumerate(images):
        logits, features = tap(shown)
        batches.append(Batch(shown, torch.full((count,), number), features, logits, labels if number == 0 else None))
    return Step(
        *batches, progress, modules, network, loss=functional.cross_entropy,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip


def _modules(part, network):
    torch.manual_seed(4)
    return nn.ModuleDict(part.modules(Site(8, 2, 2, network=network)))


def _like(step):
    """The same step, its generator at the state of the given one."""
    again = torch.Generator()
    again.set_state(step.generator.get_state())
    return again


def test_the_terms_are_those_of_the_equations():
    part, network = AcGan(schedule="constant", weight=0.5, class_weight=0.25, noise=3, hidden=4), _network().eval()
    modules = _modules(part, network).eval()
    step = _step(part, network, modules)
    draws = _like(step)
    noise, classes = torch.randn(4, 3, generator=draws), torch.randint(2, (4,), generator=draws)
    made = modules["generator"](noise, classes, (SIZE, SIZE))
    logits, features = FeatureTap(network, "decoder")(made)
    real = torch.cat([step.source.features, step.target.features])

    def log_real(rows):  # log D and log (1 - D)
        return modules["discriminator"](rows).log_softmax(1).unbind(1)[::-1]

    expected = {
        "real": -0.5 * 0.5 * (log_real(real)[0].mean() + log_real(features)[1].mean()),
        "made_class": -0.25 * logits.log_softmax(1)[torch.arange(4), classes].mean(),
        "generator": -log_real(features)[0].mean() - logits.log_softmax(1)[torch.arange(4), classes].mean(),
    }
    losses = part.losses(step)
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, msg=name)


def test_each_side_gets_the_gradient_of_its_own_terms():
    part, network = AcGan(noise=3, hidden=4), _network().train()
    modules = _modules(part, network)
    step = _step(part, network, modules)
    before = {name: value.clone() for name, value in network.named_buffers()}
    losses = part.losses(step)
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers()), (
        "made patches leave no trace"
    )
    encoder, judge = next(network.parameters()), next(modules["discriminator"].parameters())
    maker = next(modules["generator"].parameters())
    reached = {
        name: tuple(bool(one.abs().sum() > 0) for one in gradient(loss, encoder, judge, maker))
        for name, loss in losses.items()
    }
    assert reached == {
        "real": (True, True, False), "made_class": (True, False, False), "generator": (False, False, True),
    }  # fmt: skip


def test_unlabelled_patches_take_part_in_real_or_made_alone():
    part, network = AcGan(noise=3, hidden=4), _network()
    modules = _modules(part, network)
    step = _step(part, network, modules)
    losses = part.losses(step)
    assert gradient(losses["real"], step.target.features)[0].abs().sum() > 0
    assert gradient(losses["made_class"] + losses["generator"], step.target.features)[0].abs().sum() == 0


def test_the_generator_comes_to_make_patches_of_its_classes():
    """Red and blue patches: what is made for a class has its colour, and real ones are told apart."""
    for seed in range(3):
        part, network = AcGan(schedule="constant", noise=8, hidden=8), _network()
        modules = _modules(part, network)
        learned = [*network.parameters(), *modules.parameters()]
        optimiser = torch.optim.Adam(learned, 2e-3, betas=(0.5, 0.999))
        for index in range(200):
            step = _step(part, network, modules, seed=1000 * seed + index, count=16)
            loss = step.task_loss() + sum(part.losses(step).values())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        classes = torch.tensor([0, 1]).repeat(16)
        with torch.no_grad():
            made = modules["generator"](torch.randn(32, 8), classes, (SIZE, SIZE))
            answers = network.eval()(_images(classes, seed=7)).argmax(1)
        redness = (made[:, 0] - made[:, 2]).mean((1, 2))
        assert redness[classes == 1].mean() > 0.5 and redness[classes == 0].mean() < -0.5, redness
        assert (answers == classes).float().mean() > 0.95


def test_the_strategy_is_for_patch_classification():
    strategy = build(load_strategy("ac_gan"))
    assert strategy.tasks == ("classification",) and strategy.align.needs_targets and strategy.align.compares
