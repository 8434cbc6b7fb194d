"""What trainings and their scores depend on, as hashes: whether work that is there can be used again.

A training is named by its settings and by what it can see (``Job.hash``, ``TrainingData.key``): a patch, label or pair
of sections that its strategy may not read is no part of its name. Scores have a key of their own, so that another
annotation of a test slide, or another least size of an object, is scored anew and not trained anew.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda.cohort import Cohort, Roles
from stainda.config import EvaluationConfig, StrategyConfig
from stainda.errors import ConfigError
from stainda.files import fingerprint, stable_hash
from stainda.names import file_name
from stainda.run_directory.folder import RunFolder

if TYPE_CHECKING:
    from stainda.patches import TrainingData
    from stainda.training import Job

SCORING = 8
"""Raised when scores are computed differently, so that jobs already scored are scored again (not trained again)."""


class SeenData:
    """The keys of what strategies may see of a patch store; each is made once."""

    def __init__(self, store: Path, roles: Roles) -> None:
        from stainda.patches import PatchStore

        self._store, self._roles = PatchStore.open(store), roles
        self._keys: dict[tuple[Any, ...], str] = {}

    def key(self, strategy: StrategyConfig, seed: int, without: str = "") -> str:
        """Of one strategy's training with this seed (a few target labels are drawn by it), without a patient."""
        from stainda.patches.crowd import Crowd
        from stainda.patches.few_shot import FewShot
        from stainda.patches.label_share import LabelShare
        from stainda.strategies import build

        parts = build(strategy)
        few = None if parts.labels.few is None else FewShot(*parts.labels.few, seed=seed)
        share = None if parts.labels.of_objects is None else LabelShare(parts.labels.of_objects, seed)
        crowd = None if parts.labels.crowd is None else Crowd(*parts.labels.crowd, seed=seed)
        return self._key(parts.labels.rule, few, parts.align.needs_pairs, without, share, crowd)

    def unlabelled(self, pairs: Any, without: str = "") -> str:
        """Of a training without labels on pairs of this kind, without a patient."""
        from stainda.patches.unlabelled_data import UnlabelledData

        wanted = ("unlabelled", pairs, without)
        if wanted not in self._keys:
            self._keys[wanted] = UnlabelledData(self._store, self._roles, without).key(pairs)
        return self._keys[wanted]

    @property
    def looks(self) -> str:
        """Of what checkpoints are judged by without target labels (``unsupervised.csv``), whatever the strategy."""
        return self._key("source", None, True)

    def _key(self, rule: Any, few: Any, pairs: bool, without: str = "", share: Any = None, crowd: Any = None) -> str:
        from stainda.patches import TrainingData

        wanted = (rule, few, pairs, without, share, crowd)
        if wanted not in self._keys:
            visible = self._roles.visible
            try:
                data = TrainingData(
                    self._store, self._roles, labels=rule, visible=visible, few_shot=few, without=without, share=share,
                    crowd=crowd,
                )  # fmt: skip
                self._keys[wanted] = data.key + (_of_pairs(data) if pairs else "")
            except ConfigError as error:  # its training will fail with this reason, and the others go on
                self._keys[wanted] = f"nothing: {error}"
        return self._keys[wanted]


def _of_pairs(data: TrainingData) -> str:
    return "" if data.serial is None else f"+{data.serial.content}"


class ScoringKeys:
    """Of what the records of a job depend on next to its weights: slides, annotations, overlap, outlines, and, where
    the strategy compares sections, their registration."""

    def __init__(self, folder: RunFolder, scored: Cohort, evaluation: EvaluationConfig, seen: SeenData) -> None:
        self._folder, self._scored, self._looks = folder, scored, seen.looks
        rows: list[list[Any]] = []
        for section in scored:
            truth = (folder.own / f"{file_name(section.slide)}.geojson").read_bytes()
            about = [
                section.slide,
                section.patient,
                section.stain,
                section.centre,
                scored.domain(section),
                section.split,
                section.mpp,
            ]
            rows.append([*about, fingerprint(section.path), hashlib.sha256(truth).hexdigest()])
        self._shared = [SCORING, evaluation.iou, evaluation.point_um, rows]

    def of(self, job: Job) -> str:
        from stainda.strategies import build

        placed = self._registration() if build(job.strategy).after.needs_block else None
        return stable_hash([*self._shared, self._looks, job.of_prediction(), placed])

    def _registration(self) -> list[list[Any]]:
        from stainda.registration.results import read_head

        placed: list[list[Any]] = []
        for block, sections in self._scored.blocks().items():
            head = read_head(self._folder.registration, block) or {}
            kept = [head.get(name) for name in ("settings", "reference", "placed")]
            placed.append([block, kept, [[section.slide, section.section] for section in sections]])
        return placed
