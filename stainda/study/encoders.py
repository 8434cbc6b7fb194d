"""Encoders compared by their features of a study's patches, before anything is trained: ``encoders/robustness.csv``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stainda.config import ModelConfig, StudyConfig, load_piece
from stainda.config.load import validated
from stainda.errors import ConfigError
from stainda.progress import SILENT, Progress
from stainda.randomness import generator_for
from stainda.run_directory.folder import RunFolder
from stainda.run_directory.result_tables import ENCODERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stainda.patches import PatchStore

PER_CELL = 60
"""Patches of each patient and class, at most (a fixed random choice)."""

BACKGROUND = "background"
_CHUNK = 32


@dataclass(frozen=True)
class Candidate:
    """An encoder and where it starts: ``NAME`` (its own file), ``NAME@random`` or ``NAME@FILE``."""

    name: str
    model: ModelConfig

    @classmethod
    def read(cls, words: str, config: StudyConfig) -> Candidate:
        """From how a person names it; ``study`` is the network of the study.

        Raises:
            ConfigError: no such model; the nearest is named.
        """
        name, _, start = words.partition("@")
        model = config.model if name == "study" else validated(ModelConfig, load_piece("models", name), name)
        if start == "random":
            model = model.model_copy(update={"weights": None, "weights_sha256": "", "weights_missing": ""})
        elif start:
            model = model.model_copy(update={"weights": Path(start), "weights_optional": False, "weights_sha256": ""})
        return cls(words, model)


def compare_encoders(
    config: StudyConfig, out: Path | None, names: Sequence[str], progress: Progress = SILENT
) -> tuple[Path, pd.DataFrame]:
    """Make what is missing of the study up to its patches, and measure each encoder on them.

    Classes are those of the annotations, of all domains: nothing is trained or chosen by them here.

    Args:
        names: of encoders, see :class:`Candidate`; none: the network of the study, and the same from random weights.

    Returns:
        The run directory, and the rows of ``encoders/robustness.csv`` that were written there.

    Raises:
        StaindaError: an unknown encoder, a weights file that is not here, or nothing to tell apart.
    """
    from stainda.models.patch_sizes import check_patch_size
    from stainda.patches import PatchStore
    from stainda.study.dispatch import run_study

    if config.protocol.rotates:
        raise ConfigError(
            "a study of several rotations has several sets of patches",
            remedy="Compare encoders on a study of one: protocol.scheme=pooled, or one_to_all with its sources",
        )
    candidates = [Candidate.read(name, config) for name in names or ("study", "study@random")]
    for candidate in candidates:
        check_patch_size(candidate.model, config.patches.size, config.task.network)
    root = run_study(config, out, until="patches", progress=progress)
    store = PatchStore.open(RunFolder(root).patches)
    chosen, classes = labelled_patches(store, config)
    table = store.table.iloc[chosen]
    groups = {kind: table[kind].astype(str).to_numpy() for kind in ("centre", "stain") if table[kind].nunique() > 1}
    if len(set(classes)) < 2 or not groups:
        raise ConfigError(
            "the annotated patches are of one class, or of one centre and one stain: there is nothing to tell apart",
            remedy="Annotate sections of another stain or centre",
        )
    rows: list[dict[str, Any]] = []
    with progress.task("Comparing encoders", len(candidates)) as bar:
        for candidate in candidates:
            features = features_of(candidate.model, store, chosen, config)
            patients = table["patient"].astype(str).to_numpy()
            rows += [
                _measured(candidate, features, classes, kind, of, patients=patients, config=config)
                for kind, of in groups.items()
            ]
            bar.advance(1.0)
    ENCODERS.write(ENCODERS.at(root).parent, rows)
    return root, pd.DataFrame(rows)


def labelled_patches(store: PatchStore, config: StudyConfig) -> tuple[NDArray[np.intp], NDArray[np.str_]]:
    """Patches with annotations of their own slide, and the class each shows: indices and names.

    The class is what lies in the square at its centre, as a patch classification asks (``task.centre``, ``covered``,
    ``clear``); patches that are neither a class nor background are left out.
    """
    import torch

    from stainda.training.losses import IGNORE
    from stainda.training.tasks import task_of

    task = task_of(config.task.model_copy(update={"kind": "classification"}))
    names = np.array([BACKGROUND, *config.task.classes])
    rows, labels = np.flatnonzero(store.has_labels("own")), store.labels("own")
    answers: list[int] = []
    for start in range(0, len(rows), _CHUNK):
        some = np.ascontiguousarray(labels[rows[start : start + _CHUNK]])
        answers += task.answers(torch.from_numpy(some))[0].tolist()
    codes = np.asarray(answers, int)
    rows, codes = rows[codes != IGNORE], codes[codes != IGNORE]
    kept: list[int] = []
    places = pd.DataFrame({"patient": store.table["patient"].iloc[rows].astype(str).to_numpy(), "code": codes})
    generator = generator_for(config.seed, "encoders")
    for _, members in places.groupby(["patient", "code"], sort=True):
        kept += generator.permutation(members.index.to_numpy())[:PER_CELL].tolist()
    order = np.sort(np.asarray(kept, int))
    return rows[order], names[codes[order]]


def features_of(
    model: ModelConfig, store: PatchStore, indices: NDArray[np.intp], config: StudyConfig
) -> NDArray[np.float32]:
    """What an encoder gives for patches, pooled to a vector each: ``(n, d)``.

    Of an encoder of timm the vector that its last layer would read, pooled as the model file says (``pooling``; timm's
    own way where it says nothing); of another network the mean of its coarsest map. Images are standardised by the
    encoder's own numbers, where it starts from weights and they are known, else by those of the tissue of these slides.
    """
    from stainda.training.frozen_encoder import FrozenEncoder

    def pixels() -> NDArray[np.uint8]:
        return np.concatenate([store.tissue_pixels[slide] for slide in store.table["slide"].iloc[indices].unique()])

    encoder = FrozenEncoder.build(model, pixels, config.seed, config.task.network)
    chunks = [indices[start : start + _CHUNK] for start in range(0, len(indices), _CHUNK)]
    return np.concatenate([encoder.vectors(store.images[chunk]).numpy() for chunk in chunks])


def _measured(
    candidate: Candidate,
    features: NDArray[np.float32],
    classes: NDArray[np.str_],
    kind: str,
    groups: NDArray[np.str_],
    *,
    patients: NDArray[np.str_],
    config: StudyConfig,
) -> dict[str, Any]:
    from stainda.evaluation.robustness import performance_drop, robustness_index
    from stainda.models import start_of

    index = robustness_index(features, classes.tolist(), groups.tolist(), patients.tolist())
    drop = performance_drop(
        features, classes.tolist(), groups.tolist(), patients.tolist(), generator_for(config.seed, "performance drop")
    )
    model = candidate.model
    start = model.weights.name if model.weights is not None and start_of(model) else "random"
    numbers = {
        "robustness_index": index.index, "chance": index.chance, "balanced_accuracy": index.balanced_accuracy,
        "same_class_other_group": index.same_class_other_group,
        "other_class_same_group": index.other_class_same_group, "performance_drop": drop.drop,
        "accuracy": drop.accuracy, "worst_accuracy": drop.worst,
    }  # fmt: skip
    return {
        "encoder": candidate.name, "start": start, "against": kind, "k": index.k,
        **{name: round(value, 4) if np.isfinite(value) else None for name, value in numbers.items()},
        "note": drop.note, "n_patches": len(features), "n_patients": len(set(patients.tolist())),
    }  # fmt: skip
