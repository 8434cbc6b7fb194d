"""CPU seconds of a training step: a head on kept features against the same head behind the encoder it comes from.

    python benchmarks/feature_cache.py                       # EfficientNet-Lite0, patches of 128 pixels, both tasks
    python benchmarks/feature_cache.py --model vit_small --size 224 --decoder linear

Both train with the same loop, in one process, in turns; the ratio is end to end over cached. Filling the cache is told
apart: it costs one pass of the encoder for each patch and view. Weights are random, which changes no time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "training"))

from blob_cohort import make_data, make_job

from stainda.config import ModelConfig, TaskConfig, load_piece, load_strategy
from stainda.progress import SILENT
from stainda.strategies import build
from stainda.training.log import TrainingLog
from stainda.training.loop import TrainingLoop
from stainda.training.metering import Clock, Meter
from stainda.training.preparation import Preparation

TASKS = {
    "classification": TaskConfig(kind="classification", classes=("glomerulus",), centre=1, covered=0.002, clear=0),
    "segmentation": TaskConfig(classes=("glomerulus",)),
}


def training(kind: str, model: ModelConfig, size: int, cache: dict[str, int] | None, folder: Path) -> TrainingLoop:
    job = make_job(
        load_strategy("source_only").model_dump(), train="head", cache=cache, batch_size=16, steps_per_epoch=1
    )
    job = replace(job, task=TASKS[kind], model=model, patches=job.patches.model_copy(update={"size": size}))
    made = Preparation(job, build(job.strategy), make_data(job, per_slide=8, size=size), features=folder)
    folder.mkdir(exist_ok=True)
    return TrainingLoop(made, TrainingLog(folder), Clock(Meter("cpu")), SILENT, None)


def _seconds(loop: TrainingLoop, steps: int, first: int) -> float:
    started = time.process_time()
    for index in range(first, first + steps):
        loop._step(index, 10_000)
    return (time.process_time() - started) / steps


def measure(kind: str, model: ModelConfig, size: int, rounds: int) -> dict[str, float]:
    """CPU seconds a step, by kind, and of filling the cache for a patch and view."""
    with tempfile.TemporaryDirectory() as there:
        whole = training(kind, model, size, None, Path(there) / "whole")
        cached = training(kind, model, size, {"views": 1}, Path(there) / "cached")
        started = time.process_time()
        _seconds(cached, 1, 0)
        filling = (time.process_time() - started) / len(cached._prepared.chosen.train)
        _seconds(whole, 1, 0)
        times: dict[str, list[float]] = {"end to end": [], "cached": []}
        for number in range(rounds):
            times["end to end"].append(_seconds(whole, 1, 1 + number))
            times["cached"].append(_seconds(cached, 10, 1 + 10 * number))
    return {**{name: float(np.median(values)) for name, values in times.items()}, "filling": filling}


def model_of(name: str, decoder: str | None = None) -> ModelConfig:
    """A model file without its weights; ``decoder`` replaces its own."""
    model = ModelConfig.model_validate({**load_piece("models", name), "weights": None})
    if decoder is None:
        return model
    return model.model_copy(update={"params": {**model.params, "decoder": decoder, "decoder_options": None}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--decoder", help="of segmentation; default: the model's")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = model_of(given.model, given.decoder)
    print(
        f"{given.model}, patches of {given.size} pixels, batches of 16, medians of {given.rounds} rounds, CPU seconds"
    )
    for kind in TASKS:
        times = measure(kind, model, given.size, given.rounds)
        print(
            f"{kind:>14}: end to end {times['end to end']:.4f} a step, cached {times['cached']:.4f}, "
            f"ratio {times['end to end'] / times['cached']:.1f}; filling {times['filling']:.4f} a patch and view"
        )


if __name__ == "__main__":
    main()
