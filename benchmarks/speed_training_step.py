"""A training step: stainda's loop beside a bare one with the same network, batch and augmentation, channels last.

    python benchmarks/speed_training_step.py [--network strong] [--compile]

The bare loop indexes the memory map of the store, calls the same augmentation, loss and optimiser, and nothing else.
With ``--compile`` both run the network compiled (``training.compile``, ``torch.compile``), and a third candidate is
stainda's loop without it; compiling falls into the round before the first, and how long that took is printed.
Validation after each epoch is measured as a share of the epoch's steps, for the epochs of the recipe (20 steps): with
the patches that are scored unless a study says otherwise, and with fewer (``training.validation_patches``).
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from made_store import SOURCE, TARGET, make_store, training_data
from side_by_side import Line, Work, arguments, cpu_seconds, measured, ratio, show, take_turns

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
    parser.add_argument("--compile", action="store_true", help="the network")
    given = parser.parse_args()
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as folder:
        make_store(Path(folder) / "store", given.size, given.size // 4, 1600)
        for name in given.network or NETWORKS:
            lines += _compare(Path(folder), name, given)
    show(lines, given, "torch", "segmentation-models-pytorch", "timm")


def _job(network: str, given, compiled: bool):  # type: ignore[no-untyped-def]
    from stainda.config import ModelConfig, PatchConfig, ProtocolConfig, TaskConfig, TrainingConfig, load_strategy
    from stainda.training import Job

    return Job(
        study="speed", strategy=load_strategy(given.strategy), model=ModelConfig.model_validate(NETWORKS[network]),
        task=TaskConfig(classes=("glomerulus",)), patches=PatchConfig(size=given.size, downsample=1),
        training=TrainingConfig(
            epochs=30, steps_per_epoch=20, batch_size=given.batch, threads=1, device="cpu", compile=compiled
        ),
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

    job, store = _job(name, given, given.compile), PatchStore.open(folder / "store")
    data, inner = training_data(store), slice(given.size // 4, given.size // 4 + given.size)
    images, labels = (np.load(store.folder / f"{file}.npy", mmap_mode="r") for file in ("images", "labels_own"))
    (folder / name).mkdir()
    with torch_for(job.training), Meter() as meter:
        plain = _job(name, given, False)
        made, bare, eager = (Preparation(one, build(one.strategy), data) for one in (job, plain, plain))
        loop, eager_loop = (
            TrainingLoop(one, TrainingLog(folder / name), Clock(meter), SILENT, None) for one in (made, eager)
        )
        network, generator = bare.detector.network.train(), torch.Generator().manual_seed(1)
        forward = torch.compile(network) if given.compile else network
        optimiser = make_optimiser(job.training, parameter_groups(network, bare.modules, {}, {}))
        for one in (made, eager):
            one.detector.network.train()
        total = job.training.epochs * job.training.steps_per_epoch

        def steps_of(of: TrainingLoop) -> Work:
            def steps(number: int) -> float:
                begun = time.perf_counter()
                for step in range(given.steps):
                    of._step(step, total)
                if number < 0 and of is loop and given.compile:
                    print(f"{name}: the first {given.steps} steps took {time.perf_counter() - begun:.0f} s", flush=True)
                return given.steps

            return steps

        def theirs(number: int) -> float:
            for _ in range(given.steps):
                rows = bare.batches.labelled.draw()
                seen = torch.from_numpy(images[rows, inner, inner]).permute(0, 3, 1, 2).float().div_(255.0)
                truth = torch.from_numpy(labels[rows, inner, inner].astype(np.int64))
                for part in bare.strategy.augment:
                    seen, truth = part(seen, truth, generator)
                seen = bare.detector.standard(seen).contiguous(memory_format=torch.channels_last)
                loss = bare.loss(forward(seen), truth)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
            return given.steps

        candidates = {"stainda": steps_of(loop), "bare torch loop": theirs}
        if given.compile:
            candidates["stainda, not compiled"] = steps_of(eager_loop)
        rates = take_turns(candidates, given.rounds)
        step = given.steps / np.median(rates["stainda"].cpu) / given.steps
        each = made.chosen.validation_each_epoch
        shares: dict[int, list[float]] = {len(each): [], FEWER: []}
        for count in [*shares] * 3:
            begun = cpu_seconds()
            loop._validate(each[:count], own_statistics=False)
            shares[count].append((cpu_seconds() - begun) / (20 * step))
    work = f"training step, recipe {name}, {given.batch} x {given.size} px{', compiled' if given.compile else ''}"
    others = ["stainda, not compiled"] if given.compile else []
    return [
        ratio(work, rates, "stainda", "bare torch loop", unit="steps/CPU s", least=0.97),
        *(ratio(work, rates, "stainda", other, unit="steps/CPU s") for other in others),
        *(
            measured(work, f"validation of {count} patches, share of 20 steps", values, "of an epoch", most=0.05)
            for count, values in shares.items()
        ),
    ]


if __name__ == "__main__":
    main()
