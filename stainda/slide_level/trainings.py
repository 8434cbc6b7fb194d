"""The trainings of a study's aggregators, each kept in a folder of its own, so that none is made twice."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stainda.arrays import Array
from stainda.config.slide_level import Aggregator, SlideLevelConfig
from stainda.files import load_json, stable_hash, whole_file, write_json
from stainda.progress import Progress
from stainda.run_directory.slide_level_tables import SLIDE_ATTENTION, SLIDE_MODEL, SLIDE_RESULT
from stainda.slide_level.bags import Bag, FeatureScale
from stainda.slide_level.labels import TeachingLabels
from stainda.slide_level.learning import LabelledBag, Learned, learn

ALGORITHM = 3
"""Raised when the same settings come to give other answers."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What one training says.

    Attributes:
        log_odds: of the label, by slide. evidence: of the patches (n,) of test slides, of aggregators that give some.
    """

    aggregator: Aggregator
    seed: int
    job: str
    epoch: int
    train_loss: float
    val_loss: float
    seconds: float
    weights: int
    log_odds: Mapping[str, float]
    evidence: Mapping[str, Array]


class Trainings:
    """Trains aggregators on the bags of source patients, and asks them about every bag.

    Args:
        bags: of all slides, by name. labels: of those that teach and validate; there are no others in here.
        tested: slides whose patches' evidence is kept.
    """

    def __init__(
        self, config: SlideLevelConfig, root: Path, bags: Mapping[str, Bag], labels: TeachingLabels,
        scale: FeatureScale, *, tested: Sequence[str], device: str,
    ) -> None:  # fmt: skip
        self._config, self._root, self._bags, self._labels, self._scale = config, root, bags, labels, scale
        self._tested, self._device = tested, torch.device(device)

    def make(self, seeds: Sequence[int], progress: Progress) -> list[Answers]:
        """Every aggregator with every seed."""
        wanted = [(name, seed) for name in self._config.aggregators for seed in seeds]
        answers = []
        with progress.task("Learning slides", total=len(wanted)) as task:
            for name, seed in wanted:
                job = self._key(name, seed)
                if not SLIDE_RESULT.at(self._root, job=job).is_file():
                    self._train(name, seed, job)
                answers.append(self._read(name, seed, job))
                task.advance(1, f"{name}, seed {seed}")
        return answers

    def _train(self, name: Aggregator, seed: int, job: str) -> None:
        started = time.monotonic()
        sides = [
            [
                self._labelled(slide, label)
                for slide, label in self._labels.positive[split].items()
                if slide in self._bags
            ]
            for split in ("train", "val")
        ]
        learned = learn(name, sides[0], sides[1], self._config.training, seed)
        log_odds, evidence = self._ask(learned)
        from safetensors.torch import save_file

        with whole_file(SLIDE_MODEL.at(self._root, job=job)) as aside:
            save_file({key: value.contiguous() for key, value in learned.network.state_dict().items()}, aside)
        with whole_file(SLIDE_ATTENTION.at(self._root, job=job)) as aside, aside.open("wb") as stream:
            np.savez(stream, **evidence)
        write_json(
            SLIDE_RESULT.at(self._root, job=job),
            {
                "epoch": learned.epoch, "train_loss": learned.train_loss, "val_loss": learned.val_loss,
                "seconds": round(time.monotonic() - started, 2),
                "weights": sum(parameter.numel() for parameter in learned.network.parameters()),
                "log_odds": log_odds,
            },
        )  # fmt: skip

    def _labelled(self, slide: str, label: bool) -> LabelledBag:
        bag = self._bags[slide]
        return LabelledBag(lambda: self._scale.apply(bag, self._device), label)

    def _ask(self, learned: Learned) -> tuple[dict[str, float], dict[str, Array]]:
        log_odds, evidence = {}, {}
        for slide, bag in self._bags.items():
            log_odds[slide], given = learned.answer(self._scale.apply(bag, self._device))
            if given is not None and slide in self._tested:
                evidence[slide] = given.cpu().numpy().astype(np.float32)
        return log_odds, evidence

    def _read(self, name: Aggregator, seed: int, job: str) -> Answers:
        result = load_json(SLIDE_RESULT.at(self._root, job=job))
        with np.load(SLIDE_ATTENTION.at(self._root, job=job), allow_pickle=False) as arrays:
            evidence = {slide: arrays[slide] for slide in arrays.files}
        return Answers(name, seed, job, **result, evidence=evidence)

    def _key(self, name: Aggregator, seed: int) -> str:
        """Hash of all that the answers of a training depend on."""
        features = {slide: bag.key for slide, bag in self._bags.items()}
        taught: dict[str, Any] = {split: dict(labels) for split, labels in self._labels.positive.items()}
        settings = self._config.training.model_dump(mode="json")
        domains = {slide: bag.domain for slide, bag in self._bags.items()}
        key = [ALGORITHM, name, seed, settings, features, taught, domains, sorted(self._tested)]
        if self._config.training.standardise == "domain":  # of the source alone it is the slides that teach
            key.append(self._scale.fitted)
        return stable_hash(key)
