"""Two small tasks on which the plain network fails, chosen before any method was run on them.

``moons``: two interleaving half circles; those of the target are turned by 35° (Ganin et al. 2016, 5.1.1). A network of
two hidden layers, no batch normalisation; accuracy on new points of the target.

``blobs``: discs among squares in the colours of PAS, and, as the target, of Sirius red (tests/training/blob_cohort.py);
a U-Net of three levels, 60 steps, batch statistics per domain; Dice on new patches of the target.

The table of docs/concepts/strategies.md is made by::

    python tests/strategies/align_tasks.py moons blobs --out docs/results/align_tasks.csv
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from stainda.config import load_strategy
from stainda.strategies import build
from stainda.strategies.align.base import Batch, Site, Step
from stainda.strategies.features import FeatureTap

sys.path.append(str(Path(__file__).parents[1] / "training"))

ALIGNED = (
    "dann", "dann_pooled", "cdan", "cdan_entropy", "domain_confusion", "adda", "gvb", "mcd", "symnets", "mmd", "jan",
    "coral", "sliced_wasserstein", "rtn", "atdoc", "mcc", "bnm", "bsp", "afn", "entropy", "information_maximisation",
    "vada", "vat",
)  # fmt: skip
ANGLE, MOONS_STEPS, MOONS_BATCH, MOONS_RATE = 35.0, 500, 64, 3e-3


class Points(nn.Module):
    """Two hidden layers; the second is both what is aligned and what the classes are read from."""

    def __init__(self) -> None:
        super().__init__()
        self.default_layers = {"bottleneck": "hidden", "decoder": "hidden"}
        self.hidden = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.classes = nn.Linear(32, 2)

    def forward(self, points):
        return self.classes(self.hidden(points))


def moons(seed, n, degrees):
    """Points ``[n, 2]`` around the middle of both half circles, turned, and the half circle of each."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    angle = torch.rand(n, generator=generator) * np.pi
    x = torch.where(labels == 0, angle.cos(), 1 - angle.cos())
    y = torch.where(labels == 0, angle.sin(), 0.5 - angle.sin())
    points = torch.stack([x - 0.5, y - 0.25], 1) + 0.1 * torch.randn(n, 2, generator=generator)
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return points @ torch.tensor([[c, s], [-s, c]], dtype=torch.float32), labels


def train_on_moons(part, seed, steps=MOONS_STEPS):
    """Accuracy on new points of source and target; ``part=None`` is the plain network."""
    source, labels = moons(100 + seed, 1000, 0.0)
    target, _ = moons(200 + seed, 1000, ANGLE)
    torch.manual_seed(seed)
    network = Points()
    tap = FeatureTap(network, "hidden")
    modules = nn.ModuleDict({} if part is None else part.modules(Site(32, 2, 2, network=network, steps=steps)))
    optimiser = torch.optim.Adam([*network.parameters(), *modules.parameters()], MOONS_RATE)
    generator = torch.Generator().manual_seed(seed)
    for index in range(steps):
        own = torch.randint(0, 1000, (MOONS_BATCH,), generator=generator)
        other = torch.randint(0, 1000, (MOONS_BATCH,), generator=generator)
        logits, features = tap(source[own])
        zeros = torch.zeros(MOONS_BATCH, dtype=torch.long)
        batch = Batch(source[own], zeros, features, logits, labels[own])
        terms = {"task": functional.cross_entropy(logits, labels[own])}
        if part is not None:
            logits, features = tap(target[other])
            seen = Batch(target[other], zeros + 1, features, logits)
            step = Step(
                batch, seen, index / (steps - 1), modules, network, index, 1, functional.cross_entropy, generator
            )
            terms.update(part.losses(step))
        optimiser.zero_grad()
        torch.stack([*terms.values()]).sum().backward()
        optimiser.step()
    with torch.no_grad():
        return tuple(
            float((network(points).argmax(1) == truth).float().mean())
            for points, truth in (moons(300 + seed, 2000, 0.0), moons(400 + seed, 2000, ANGLE))
        )


def train_on_blobs(strategy, seed):
    """Dice on new patches of source and target; ``strategy`` is parts as a strategy file has them."""
    from blob_cohort import make_data, make_job
    from test_training_learning import _dice

    from stainda.training import train_on

    with tempfile.TemporaryDirectory() as folder:
        job = make_job(strategy, seed=seed, epochs=4, steps_per_epoch=15)
        train_on(job, make_data(job), folder)
        return float(_dice(Path(folder), "PAS@A")), float(_dice(Path(folder), "SR@A"))


def strategy_part(name, factor=1.0):
    """The align part of a strategy file, its weight multiplied."""
    part = build(load_strategy(name)).align
    return type(part)(**{**part.model_dump(), "weight": factor * part.weight})


def moons_scores(name, factor=1.0, seeds=3):
    part = None if name == "source_only" else strategy_part(name, factor)
    return np.asarray([train_on_moons(part, seed) for seed in range(seeds)])


def blobs_scores(name, factor=1.0, seeds=3):
    strategy = {"norm": load_strategy(name).norm.name}
    if name in ALIGNED:
        strategy["align"] = strategy_part(name, factor).config
    return np.asarray([train_on_blobs(strategy, seed) for seed in range(seeds)])


def main(arguments, factors=(1.0, 0.1, 10.0)):
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", choices=["moons", "blobs"])
    parser.add_argument("--out", type=argparse.FileType("w"), default=sys.stdout)
    asked = parser.parse_args(arguments)
    table = csv.writer(asked.out, lineterminator="\n")
    table.writerow(["task", "strategy", "weight_factor", "source", "target", "target_seed_0", "seed_1", "seed_2"])
    for task in asked.tasks:
        scores = {"moons": moons_scores, "blobs": blobs_scores}[task]
        plain = ("source_only",) if task == "moons" else ("source_only", "adabn")
        for name in (*plain, *ALIGNED):
            for factor in (1.0,) if name in plain else factors:
                found = scores(name, factor)
                numbers = [*found.mean(0), *found[:, 1]]
                table.writerow([task, name, f"{factor:g}", *(f"{number:.3f}" for number in numbers)])
                asked.out.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
