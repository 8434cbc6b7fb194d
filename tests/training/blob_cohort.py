"""A synthetic cohort in memory: discs among squares, coloured as two stains."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd

from stainda.cohort import Roles
from stainda.config import (
    ModelConfig,
    PatchConfig,
    ProtocolConfig,
    StrategyConfig,
    TaskConfig,
    TrainingConfig,
)
from stainda.patches import TrainingData
from stainda.patches.few_shot import FewShot
from stainda.patches.serial import Pairs
from stainda.strategies import build
from stainda.training import Job

# colours (tissue, object, distractor) of each domain, RGB in 0..1
COLOURS = {
    "PAS@A": ((0.90, 0.74, 0.85), (0.62, 0.32, 0.58), (0.80, 0.55, 0.75)),
    "SR@A": ((0.93, 0.86, 0.66), (0.72, 0.52, 0.30), (0.85, 0.35, 0.35)),
    "JONES@A": ((0.78, 0.84, 0.86), (0.40, 0.46, 0.50), (0.62, 0.70, 0.72)),
}


def make_patch(generator, domain, size=48, empty=False):
    """uint8 (S, S, 3) and labels (S, S): one disc of the object colour, one square of the distractor's."""
    tissue, own, other = (np.asarray(colour) for colour in COLOURS[domain])
    y, x = np.mgrid[:size, :size]
    image = np.broadcast_to(tissue, (size, size, 3)) + generator.normal(0, 0.03, (size, size, 1))
    labels = np.zeros((size, size), np.uint8)
    cx, cy = generator.uniform(8, size - 8, 2)
    square = (abs(x - cx) < 6) & (abs(y - cy) < 6)
    image = np.where(square[..., None], other, image)
    if not empty:
        cx, cy = generator.uniform(10, size - 10, 2)
        disc = (x - cx) ** 2 + (y - cy) ** 2 < generator.uniform(7, 10) ** 2
        image = np.where(disc[..., None], own, image)
        labels[disc] = 1
    elif generator.random() < 0.5:  # the rim of the tissue
        image[:, : int(generator.integers(8, size // 2))] = 1.0
    image = image + generator.normal(0, 0.02, image.shape)
    return (image.clip(0, 1) * 255).astype(np.uint8), labels


def make_pair(generator, domain, other, size=48, shift=1.5):
    """The same disc, square and turn of the tissue on two sections, the second moved by a few pixels.

    Returns both images, the displacement (x, y) that registration knows of, and the labels of both.
    """
    cx, cy, sx, sy = generator.uniform(12, size - 12, 4)
    radius, move, slip = generator.uniform(7, 10), generator.uniform(-6, 6, 2), generator.normal(0, shift, 2)
    images, labels = [], []
    for name, (dx, dy) in ((domain, (0, 0)), (other, move + slip)):
        tissue, own, square = (np.asarray(colour) for colour in COLOURS[name])
        y, x = np.mgrid[:size, :size] - np.array([dy, dx]).reshape(2, 1, 1)
        image = np.broadcast_to(tissue, (size, size, 3)) + generator.normal(0, 0.03, (size, size, 1))
        image = np.where(((abs(x - sx) < 6) & (abs(y - sy) < 6))[..., None], square, image)
        disc = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
        image = np.where(disc[..., None], own, image) + generator.normal(0, 0.02, image.shape)
        images.append((image.clip(0, 1) * 255).astype(np.uint8))
        labels.append(disc.astype(np.uint8))
    return images, move, labels


class BlobPairs:
    """Pairs of serial sections in memory: what ``patches.SerialPairs`` gives, registered to within ``shift`` pixels."""

    def __init__(self, sources, targets, per_kind=24, seed=0, size=48, shift=1.5, swapped=False):
        self._size, self._shift = size, shift
        kinds = [(source, target) for source in sources for target in targets]
        kinds += list(pairwise(targets))
        if swapped:
            kinds = [kind[::-1] for kind in kinds]
        self._pairs, self.kinds = [], []
        for one, two in kinds:
            generator = np.random.default_rng([seed, 1, *one.encode(), *two.encode()])
            self._pairs += [(one, two, *make_pair(generator, one, two, size, shift)) for _ in range(per_kind)]
            self.kinds += [f"{one}|{two}"] * per_kind

    def __len__(self):
        return len(self._pairs)

    def read(self, indices):
        chosen = [self._pairs[index] for index in indices]
        size = self._size
        centres = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1) + 0.5
        there = np.stack([centres + move for _, _, _, move, _ in chosen])
        inside = ((there >= 0) & (there <= size)).all(-1)
        return Pairs(
            np.stack([pair[2][0] for pair in chosen]), np.stack([pair[2][1] for pair in chosen]),
            [f"{pair[0]}_train0" for pair in chosen], [f"{pair[1]}_train0" for pair in chosen],
            [pair[0] for pair in chosen], [pair[1] for pair in chosen],
            (2 * there / size - 1).astype(np.float32), inside.astype(np.float32),
            np.full(len(chosen), max(self._shift, 0.5), np.float32),
        )  # fmt: skip


class BlobStore:
    """A patch store in memory: the attributes of ``patches.PatchStore`` that ``patches.TrainingData`` reads.

    Patches are the middle of regions of ``size + 2 margin`` pixels.
    """

    classes = ("glomerulus",)
    weights, has_details = None, False

    def __init__(self, sources=("PAS@A",), targets=("SR@A",), per_slide=12, seed=0, size=48, margin=0):
        rows, images, labels = [], [], []
        wanted = [(name, ("labelled",), (("train", 3), ("val", 1))) for name in sources]
        wanted += [(name, ("unlabelled", "propagated", "oracle"), (("train", 3), ("val", 1))) for name in targets]
        wanted += [(name, ("unlabelled",), (("train", 3),)) for name in sources]
        for place, (domain, kinds, splits) in enumerate(wanted):
            of_source = place >= len(sources) + len(targets)
            generator = np.random.default_rng([seed, *domain.encode(), *([1] if of_source else [])])
            for split, count in splits:
                for number in range(count):
                    for kind in kinds:
                        for index in range(per_slide):
                            image, label = make_patch(generator, domain, size + 2 * margin, empty=index % 2 == 0)
                            slide = f"{domain}_{split}{number}"
                            rows.append({"slide": slide, "domain": domain, "split": split, "kind": kind})
                            images.append(image)
                            labels.append(label)
        self.table = pd.DataFrame(rows)
        for column in ("patient", "block", "stain", "centre", "scanner", "around", "x", "y", "downsample"):
            self.table[column] = 0
        self.table["patient"] = self.table["slide"].str.partition("_")[2]  # as the slides' numbers
        own = np.stack(labels)
        own[(self.table["kind"] == "unlabelled").to_numpy()] = 255
        inner = slice(margin, margin + size)
        self.margin, self._regions = margin, {"images": np.stack(images), "own": own, "propagated": own}
        self.images, self._own = self._regions["images"][:, inner, inner], own[:, inner, inner]
        self.tissue_pixels = {
            slide: self.images[group.index].reshape(-1, 3)[::29]
            for slide, group in self.table.groupby("slide", sort=False)
        }

    def labels(self, kind):
        return self._own

    def regions(self, name):
        return self._regions[name]


def make_data(job, **store):
    """What a job may see of a blob store of its own domains."""
    if build(job.strategy).labels.crowd is not None:
        from crowd_cohort import Quality, crowd_data

        return crowd_data(job, [Quality(), Quality(missed=0.2), Quality(invented=0.2)], **store)
    roles = Roles(job.sources, job.targets)
    rule = build(job.strategy).labels.rule
    made = BlobStore(job.sources, job.targets, **store)
    few = build(job.strategy).labels.few
    chosen = None if few is None else FewShot(*few, seed=job.seed)
    data = TrainingData(made, roles, labels=rule, visible=job.protocol.visible, few_shot=chosen)
    if build(job.strategy).align.needs_pairs:
        data.__dict__["serial"] = BlobPairs(job.sources, job.targets)
    return data


def make_job(strategy=None, seed=1, model=None, visible="targets", targets=("SR@A",), sources=("PAS@A",), **training):
    """A short training from random weights; sizes stay as they are, as in the recipe ``small``, unless reported."""
    settings = {"epochs": 2, "steps_per_epoch": 4, "batch_size": 8, "learning_rate": 3e-3, **training}
    config = StrategyConfig(**{"name": "source_only", "norm": {"name": "shared"}, **(strategy or {})})
    kept = [
        one.model_copy(update={"params": {"scale": 0, **one.params}}) if one.name == "geometry" else one
        for one in config.augment
    ]
    return Job(
        study="blobs",
        strategy=config.model_copy(update={"augment": tuple(kept)}),
        model=ModelConfig(name="unet", params={"depth": 3, "width": 8} if model is None else model),
        task=TaskConfig(classes=("glomerulus",)),
        patches=PatchConfig(size=48, downsample=1),
        training=TrainingConfig(**settings),
        protocol=ProtocolConfig(sources=sources, visible=visible),
        sources=tuple(sources),
        targets=tuple(targets),
        seed=seed,
    )


def make_centred_data(job, **store):
    """Patches whose disc lies in the middle, anywhere, or nowhere."""
    data = make_data(job, **store)
    generator = np.random.default_rng(5)
    for index, labels in enumerate(data.store._own):
        if index % 4 == 1 and (labels == 1).any():
            rows, columns = np.nonzero(labels == 1)
            shift = 24 - int(rows.mean()) + int(generator.integers(-2, 3)), 24 - int(columns.mean())
            data.store._own[index] = np.roll(labels, shift, (0, 1))
            data.store.images[index] = np.roll(data.store.images[index], shift, (0, 1))
    return data
