"""What a frozen encoder gives, computed once and kept as memory-mapped arrays in the run directory.

A cache belongs to the patches of one kind (labelled, of targets, …) that a training draws from. It is named by all that
its numbers depend on, so that every training that would compute the same reads it: other heads, other losses, other
seeds. Augmented views are therefore drawn by the cache's name, not by the training's seed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stainda.arrays import Array
from stainda.errors import TrainingError
from stainda.files import load_json, stable_hash, write_json
from stainda.run_directory.contents import FEATURES_META

ALGORITHM = 2
"""Raised whenever the same settings come to give other features: older caches are not read then."""

CHUNK = 32
"""Patches that go through the encoder together."""

_FOLDER = FEATURES_META.path.partition("/")[0]


@dataclass(frozen=True, eq=False)
class CachedView:
    """One augmented view of some patches, after the encoder.

    Attributes:
        features: as :meth:`Network.encode` gives them.
        labels: whole numbers ``[N, ...]``; ``None`` of patches without. weights: of the labels, where they have some.
    """

    features: Sequence[Tensor]
    labels: Tensor | None = None
    weights: Tensor | None = None


Draw = Callable[[Array, torch.Generator], CachedView]
"""Gives a view of the patches of these indices."""


class FeatureCache:
    """The views of some patches, by the patches' indices.

    Maps are kept as float16, vectors as float32; both are given as float32.
    """

    def __init__(self, folder: Path) -> None:
        meta = load_json(folder / FEATURES_META.name)
        self.views, self._folder = int(meta["views"]), folder
        self._row = {index: row for row, index in enumerate(meta["indices"])}
        self._features = [self._open(f"features_{number}") for number in range(meta["arrays"])]
        self._labels = self._open("labels") if meta["labels"] else None
        self._weights = self._open("weights") if meta["weights"] else None

    @property
    def bytes(self) -> int:
        """Of the arrays, on disk."""
        return sum(file.stat().st_size for file in self._folder.glob("*.npy"))

    def read(self, indices: Array, views: Array, device: torch.device) -> CachedView:
        """Patches by their index, each in the view of this number."""
        rows = np.asarray([self._row[index] for index in np.asarray(indices).tolist()]) * self.views + views
        features = [_tensor(array, rows, device).float() for array in self._features]
        labels = None if self._labels is None else _tensor(self._labels, rows, device).long()
        weights = None if self._weights is None else _tensor(self._weights, rows, device).float()
        return CachedView(features, labels, weights)

    def _open(self, name: str) -> Array:
        return np.load(self._folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)


def features_folder(job_folder: Path) -> Path:
    """Where the caches of a run lie: next to its jobs, or in the folder of a training that belongs to no run."""
    return caches_of_run(job_folder.parent.parent if job_folder.parent.name == "jobs" else job_folder)


def caches_of_run(root: Path) -> Path:
    """Where the caches of a run directory lie."""
    return root / _FOLDER


def open_cache(
    root: Path, about: dict[str, Any], indices: Array, views: int, draw: Draw, limit_gb: float
) -> FeatureCache:
    """The cache of these patches, which is filled where it is not there.

    Args:
        root: of :func:`features_folder`. about: JSON values, all that the features depend on next to the patches drawn.
        indices: of the patches. views: of each.

    Raises:
        TrainingError: it would be larger than ``limit_gb``; its size is reported.
    """
    indices = np.unique(indices)
    name = stable_hash([ALGORITHM, about, views, indices.tolist()])
    folder = root / name
    if not (folder / FEATURES_META.name).is_file():
        aside = root / f"{name}.{os.getpid()}"
        try:
            _fill(aside, about, indices, views, draw, limit_gb=limit_gb, name=name)
            try:
                aside.rename(folder)
            except OSError:  # another process was first with the same
                if not (folder / FEATURES_META.name).is_file():
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return FeatureCache(folder)


def bytes_of(features: Sequence[Tensor]) -> int:
    """What one patch and view of these features ``[N, ...]`` takes on disk."""
    return sum(layer[0].numel() * np.dtype(_kind(layer)).itemsize for layer in features)


def _fill(
    folder: Path, about: dict[str, Any], indices: Array, views: int, draw: Draw, *, limit_gb: float, name: str
) -> None:
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(int(name[:8], 16))
    arrays: dict[str, np.memmap[Any, Any]] = {}
    for view, start, chunk in _chunks(indices, views):
        drawn = draw(chunk, generator)
        if not arrays:
            size = bytes_of(drawn.features) * len(indices) * views / 1e9
            if size > limit_gb:
                raise TrainingError(
                    f"the features of {len(indices)} patches in {views} views would take {size:.1f} GB, more than "
                    f"training.cache.limit_gb ({limit_gb:g})",
                    remedy="Take fewer views, smaller patches or an encoder with fewer features, raise the limit, or "
                    "leave training.cache out",
                )
            arrays = _make_arrays(folder, drawn, len(indices) * views)
        rows = (start + np.arange(len(chunk))) * views + view
        for key, values in _named(drawn):
            arrays[key][rows] = values.cpu().numpy()
    for array in arrays.values():
        array.flush()
    meta = {
        "about": about, "views": views, "indices": indices.tolist(),
        "arrays": sum(key.startswith("features") for key in arrays),
        "labels": "labels" in arrays, "weights": "weights" in arrays,
    }  # fmt: skip
    write_json(folder / FEATURES_META.name, meta)


def _chunks(indices: Array, views: int) -> Iterator[tuple[int, int, Array]]:
    for view in range(views):
        for start in range(0, len(indices), CHUNK):
            yield view, start, indices[start : start + CHUNK]


def _named(drawn: CachedView) -> Iterator[tuple[str, Tensor]]:
    for number, values in enumerate(drawn.features):
        yield f"features_{number}", values
    if drawn.labels is not None:
        yield "labels", drawn.labels
    if drawn.weights is not None:
        yield "weights", drawn.weights


def _make_arrays(folder: Path, drawn: CachedView, rows: int) -> dict[str, np.memmap[Any, Any]]:
    kinds = {"labels": "uint8", "weights": "float32"}
    return {
        key: np.lib.format.open_memmap(
            folder / f"{key}.npy", mode="w+", dtype=kinds.get(key) or _kind(values), shape=(rows, *values.shape[1:])
        )
        for key, values in _named(drawn)
    }


def _kind(features: Tensor) -> str:
    return "float16" if features.dim() > 2 and features.shape[-1] > 1 else "float32"


def _tensor(array: Array, rows: Array, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array[rows])).to(device)
