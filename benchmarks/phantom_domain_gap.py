"""The domain gap of the synthetic cohort: a small network trained on one domain, and on each for itself, scored on all.

    python benchmarks/phantom_domain_gap.py --cohort DIR [--source PAS@A] [--steps 250] [--ceiling SR@A CD68@A]

``DIR`` is a cohort made by ``stainda phantom``. Patients are cut in two halves (alternately within each centre): one
trains, the other tests. Prints Dice of glomerulus pixels per domain for the source model and for a model of that
domain (the ceiling). A tiny U-Net at about 4 micrometres per pixel; minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import openslide
import torch
from skimage.draw import polygon2mask
from torch import nn

from stainda.cohort import read_manifest

MPP, PATCH = 4.0, 96


class TinyUNet(nn.Module):
    """Three levels, 16 to 64 channels, batch normalisation."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.down = nn.ModuleList([_block(3, width), _block(width, 2 * width), _block(2 * width, 4 * width)])
        self.up = nn.ModuleList([_block(6 * width, 2 * width), _block(3 * width, width)])
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.down[0](x)
        second = self.down[1](nn.functional.max_pool2d(first, 2))
        third = self.down[2](nn.functional.max_pool2d(second, 2))
        second = self.up[0](torch.cat([second, nn.functional.interpolate(third, scale_factor=2.0)], dim=1))
        first = self.up[1](torch.cat([first, nn.functional.interpolate(second, scale_factor=2.0)], dim=1))
        return self.head(first)[:, 0]


def _block(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU(),
        nn.Conv2d(outside, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU(),
    )  # fmt: skip


def load(cohort_folder: Path) -> dict[str, dict[str, list[tuple[torch.Tensor, torch.Tensor]]]]:
    """Images (3, h, w) and masks (h, w) by domain and by half (train or test)."""
    cohort = read_manifest(cohort_folder / "manifest.csv")
    order: dict[str, list[str]] = {}
    for row in cohort:
        patients = order.setdefault(row.centre, [])
        if row.patient not in patients:
            patients.append(row.patient)
    found: dict[str, dict[str, list[tuple[torch.Tensor, torch.Tensor]]]] = {}
    for row in cohort:
        with openslide.OpenSlide(str(row.path)) as slide:
            mpp = float(slide.properties["openslide.mpp-x"])
            side = int(slide.dimensions[0] * mpp / MPP) // 4 * 4
            scale = side / slide.dimensions[0]
            level = slide.get_best_level_for_downsample(1 / scale)
            image = slide.read_region((0, 0), level, slide.level_dimensions[level]).convert("RGB").resize((side, side))
        mask = np.zeros((side, side), dtype=bool)
        for feature in json.loads(Path(str(row.annotations)).read_text())["features"]:
            ring = np.array(feature["geometry"]["coordinates"][0]) * scale
            mask |= polygon2mask((side, side), ring[:, ::-1] - 0.5)
        half = "train" if order[row.centre].index(row.patient) % 2 == 0 else "test"
        pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255
        found.setdefault(cohort.domain(row), {"train": [], "test": []})[half].append((pixels, torch.from_numpy(mask)))
    return found


def train(pairs: list[tuple[torch.Tensor, torch.Tensor]], steps: int, seed: int) -> TinyUNet:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = TinyUNet()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        images, masks = [], []
        for _ in range(8):
            image, mask = pairs[rng.integers(len(pairs))]
            top, left = rng.integers(0, image.shape[1] - PATCH + 1), rng.integers(0, image.shape[2] - PATCH + 1)
            turns, flip = int(rng.integers(4)), bool(rng.integers(2))
            piece = torch.cat([image, mask[None].float()])[:, top : top + PATCH, left : left + PATCH]
            piece = torch.rot90(piece.flip(2) if flip else piece, turns, (1, 2))
            images.append(piece[:3])
            masks.append(piece[3])
        logits, target = model(torch.stack(images)), torch.stack(masks)
        probability = logits.sigmoid()
        dice = 1 - (2 * (probability * target).sum() + 1) / (probability.sum() + target.sum() + 1)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, target) + dice
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def dice(model: TinyUNet, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    hit = total = 0.0
    for image, mask in pairs:
        found = model(image[None])[0] > 0
        hit += 2 * float((found & mask).sum())
        total += float(found.sum() + mask.sum())
    return hit / max(total, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--source", default="PAS@A")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--ceiling", nargs="*", default=(), help="domains to train a model on for themselves as well")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    domains = load(arguments.cohort)
    source = train(domains[arguments.source]["train"], arguments.steps, 1)
    print(f"Dice of glomerulus pixels on test patients; trained on {arguments.source}")
    for name, halves in domains.items():
        line = f"  {name:10s} {dice(source, halves['test']):.3f}"
        if name in arguments.ceiling:
            line += f"   trained on it: {dice(train(halves['train'], arguments.steps, 1), halves['test']):.3f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
