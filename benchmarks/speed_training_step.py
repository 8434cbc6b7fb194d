"""A training step: stainda's loop beside a bare one with the same network, batch and augmentation, channels last.

    python benchmarks/speed_training_step.py [--network strong]

The bare loop indexes the memory map of the store, calls the same augmentation, loss and optimiser, and nothing else.
Validation after each epoch is measured as a share of the epoch's steps, for the epochs of the recipe (20 steps): with
the patches that are scored unless a study says otherwise, and with fewer (``training.validation_patches``).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from made_store import SOURCE, TARGET, make_store, training_data
from side_by_side import Line, arguments, cpu_seconds, measured, ratio, show, take_turns

NETWORKS = {
    "small": {"name": "unet", "params": {"depth": 4, "width": 16, "upsampling": "bilinear"}},
    "strong": {
        "name": "smp",
        "params": {
            "decoder": "unet", "encoder": "tu-tf_efficientnet_lite0", "decoder_channels": [128, 64, 32, 24, 16]
        },
    },
}  # fmt: skip
"""Of the recipes ``small`` and ``strong``, from random weights."""

FEWER = 48
"""Validation patches of the second measurement."""


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--network", choices=NETWORKS, action="append", help="default: both")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=2, help="of a round")
    parser.add_argument("--strategy", default="hed_augmentation")
    given = parser.parse_args()
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as folder:
        make_store(Path(folder) / "store", given.size, given.size // 4, 1600)
        for name in given.network or NETWORKS:
            lines += _compare(Path(folder), name, given)
    show(lines, given, "torch", "segmentation-models-pytorch", "timm")


def _job(network: str, given):  # type: ignore[no-untyped-def]
    from stainda.config import ModelConfig, PatchConfig, ProtocolConfig, TaskConfig, TrainingConfig, load_strategy
    from stainda.training import Job

    return Job(
        study="speed", strategy=load_strategy(given.strategy), model=ModelConfig.model_validate(NETWORKS[network]),
        task=TaskConfig(classes=("glomerulus",)), patches=PatchConfig(size=given.size, downsample=1),
        training=TrainingConfig(epochs=30, steps_per_epoch=20, batch_size=given.batch, threads=1, device="cpu"),
        protocol=ProtocolConfig(sources=(SOURCE,)), sources=(SOURCE,), targets=(TARGET,), seed=1,
    )  # fmt: skip


def _compare(folder: Path, name: str, given) -> list[Line]:  # type: ignore[no-untyped-def]
    import torch

    from stainda.patches import PatchStore
    from stainda.progress import SILENT
    from stainda.strategies import build
    from stainda.training.log import TrainingLog
    from stainda.training.loop import TrainingLoop
    from stainda.training.machine import make_optimiser, parameter_groups, torch_for
    from stainda.training.metering import Clock, Meter
    from stainda.training.preparation import Preparation

    job, store = _job(name, given), PatchStore.open(folder / "store")
    data, inner = training_data(store), slice(given.size // 4, given.size // 4 + given.size)
    images, labels = (np.load(store.folder / f"{file}.npy", mmap_mode="r") for file in ("images", "labels_own"))
    (folder / name).mkdir()
    with torch_for(job.training), Meter() as meter:
        made, bare = (Preparation(job, build(job.strategy), data) for _ in range(2))
        loop = TrainingLoop(made, TrainingLog(folder / name), Clock(meter), SILENT, None)
        network, generator = bare.detector.network.train(), torch.Generator().manual_seed(1)
        optimiser = make_optimiser(job.training, parameter_groups(network, bare.modules, {}, {}))
        made.detector.network.train()
        total = job.training.epochs * job.training.steps_per_epoch

        def ours(number: int) -> float:
            for step in range(given.steps):
                loop._step(step, total)
            return given.steps

        def theirs(number: int) -> float:
            for _ in range(given.steps):
                rows = bare.batches.labelled.draw()
                seen = torch.from_numpy(images[rows, inner, inner]).permute(0, 3, 1, 2).float().div_(255.0)
                truth = torch.from_numpy(labels[rows, inner, inner].astype(np.int64))
                for part in bare.strategy.augment:
                    seen, truth = part(seen, truth, generator)
                seen = bare.detector.standard(seen).contiguous(memory_format=torch.channels_last)
                loss = bare.loss(network(seen), truth)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
            return given.steps

        rates = take_turns({"stainda": ours, "bare torch loop": theirs}, given.rounds)
        step = given.steps / np.median(rates["stainda"].cpu) / given.steps
        each = made.chosen.validation_each_epoch
        shares: dict[int, list[float]] = {len(each): [], FEWER: []}
        for count in [*shares] * 3:
            begun = cpu_seconds()
            loop._validate(each[:count], own_statistics=False)
            shares[count].append((cpu_seconds() - begun) / (20 * step))
    work = f"training step, recipe {name}, {given.batch} x {given.size} px"
    return [
        ratio(work, rates, "stainda", "bare torch loop", unit="steps/CPU s", least=0.97),
        *(
            measured(work, f"validation of {count} patches, share of 20 steps", values, "of an epoch", most=0.05)
            for count, values in shares.items()
        ),
    ]


if __name__ == "__main__":
    main()
