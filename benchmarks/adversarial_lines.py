"""Adversarial segmentation where annotations are off by a pixel: a task on which the plain loss answers nothing.

    python benchmarks/adversarial_lines.py

Patches show a line one pixel wide; its annotation lies at random on it, a pixel to its left or a pixel to its right.
Every pixel is then annotated in a third of the patches at most, so that a loss of single pixels answers background
everywhere at one half. Printed by seed: Dice with the line itself on new patches, at one half and at the best
threshold.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional

from stainda.strategies.align.adversarial_segmentation import AdversarialSegmentation
from stainda.strategies.align.base import Batch, Site, Step

SIZE, PATCHES, RATE = 16, 16, 1e-3


def patches(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Images ``[N, 1, H, W]``, annotations and true lines ``[N, H, W]``."""
    columns = torch.randint(4, SIZE - 4, (count, 1), generator=generator).expand(-1, SIZE)
    moved = torch.randint(-1, 2, (count, 1), generator=generator)
    true, drawn = (functional.one_hot(place, SIZE) for place in (columns, columns + moved))
    return 2.0 * true[:, None] + 0.2 * torch.randn(count, 1, SIZE, SIZE, generator=generator), drawn, true


def trained(seed: int, weight: float, steps: int) -> nn.Module:
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    layers = [nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 5, padding=2), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Conv2d(16, 2, 1))
    network.in_channels = 1
    part = AdversarialSegmentation(weight=weight, hidden=16, layers=2, discriminator_rate=3.0)
    modules = nn.ModuleDict(part.modules(Site(0, 1, 2, network=network)))
    groups = [{"params": network.parameters()}, {"params": modules.parameters(), "lr": RATE * part.discriminator_rate}]
    optimiser = torch.optim.Adam(groups, RATE, betas=(0.5, 0.999))
    for index in range(steps):
        images, drawn, _ = patches(PATCHES, generator)
        logits = network(images)
        loss = functional.cross_entropy(logits, drawn)
        if weight:
            source = Batch(images, torch.zeros(PATCHES).long(), None, logits, drawn)
            loss = loss + sum(part.losses(Step(source, None, index / steps, modules, network, index)).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


def dice(probability: Tensor, true: Tensor, threshold: float) -> float:
    found = probability >= threshold
    return float(2 * (found & (true > 0)).sum() / (found.sum() + true.sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 0.1, 0.5])
    given = parser.parse_args()
    torch.set_num_threads(1)
    images, _, true = patches(64, torch.Generator().manual_seed(999))
    for weight in given.weights:
        at_half, at_best = [], []
        for seed in range(given.seeds):
            with torch.no_grad():
                probability = trained_answer(seed, weight, given.steps, images)
            at_half.append(dice(probability, true, 0.5))
            at_best.append(max(dice(probability, true, step / 20) for step in range(1, 20)))
        shown = ["  ".join(f"{value:.2f}" for value in values) for values in (at_half, at_best)]
        print(f"weight {weight:g}: at one half {shown[0]}; at the best threshold {shown[1]}", flush=True)


def trained_answer(seed: int, weight: float, steps: int, images: Tensor) -> Tensor:
    with torch.enable_grad():
        network = trained(seed, weight, steps)
    return network(images).softmax(1)[:, 1]


if __name__ == "__main__":
    main()
