"""The patch store: arrays on disk that several training processes read at memory speed.

A folder of ``images.npy``, ``labels_own.npy``, ``labels_propagated.npy`` and, where the study asks for them,
``weights.npy``, ``details.npy`` and ``votes.npy`` (memory-mapped: the operating system keeps one copy for all
processes), ``table.parquet`` (a row per patch), ``tissue.npz``, ``digests.npz`` (a hash of every patch) and
``meta.json``.

The arrays hold *regions*: a patch and a margin around it, of which training crops another window each time. The patch
itself is the middle, and what :attr:`PatchStore.images`, :meth:`PatchStore.labels` and :attr:`PatchStore.weights` show.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stainda.errors import ConfigError, StaindaError, did_you_mean
from stainda.files import load_json
from stainda.run_directory.contents import STORE_DIGESTS, STORE_META, STORE_TISSUE
from stainda.run_directory.tables import PATCHES

LabelKind = Literal["own", "propagated"]

TABLE_COLUMNS = PATCHES.names
"""Columns of the table; ``px_CLASS`` follow, pixels per class. ``x, y`` is the upper left corner, level-0 pixels.

``kind``: ``labelled`` (source domains), ``unlabelled``, ``propagated``, ``oracle`` (target domains). ``around``: what
the patch was cut around: ``object``, ``near`` (one, for a classification), ``negative``, ``tissue``, ``grid``.
``n_objects`` and pixels are missing where the patch has no label.
"""

DIGESTS = STORE_DIGESTS.name
_ARRAYS = {
    "images": "images",
    "own": "labels_own",
    "propagated": "labels_propagated",
    "weights": "weights",
    "details": "details",
    "votes": "votes",
}
DTYPES: Mapping[str, type[np.generic]] = {"details": np.uint16, "votes": np.uint16}
"""Of arrays that are not of 8 bits."""
_LABELS_OF_KIND: Mapping[str, str] = {"labelled": "own", "oracle": "own", "propagated": "propagated"}


class PatchStore:
    """A store, opened for reading. It can be sent to other processes: they open the same files.

    Attributes:
        folder: where it lies.
        table: one row per patch, see :data:`TABLE_COLUMNS`.
        meta: ``size`` (pixels), ``margin`` (pixels stored around a patch on each side), ``mpp`` (of the patches, or
            ``None``), ``downsample`` and ``slide_mpp`` by slide, ``classes``, ``seed``, ``single_patient`` (empty, or
            what follows from there being one), ``bands`` by slide,
            ``notes`` (slide, kind, reason: what was skipped or found less of), ``inputs`` and ``key`` (hashes of what
            went in and of what came out).
    """

    def __init__(self, folder: str | Path, table: pd.DataFrame, meta: dict[str, Any]) -> None:
        self.folder, self.table, self.meta = Path(folder), table, meta

    @classmethod
    def open(cls, folder: str | Path) -> PatchStore:
        """Open a store for reading.

        Raises:
            StaindaError: there is none, or a file of it is missing or damaged.
        """
        folder = Path(folder)
        try:
            meta = load_json(STORE_META.inside(folder))
            table = pd.read_parquet(PATCHES.inside(folder))
        except (OSError, ValueError) as error:
            raise StaindaError(
                "there is no complete patch store", file=folder, remedy="Cut the patches first (stainda patches)"
            ) from error
        store = cls(folder, table, meta)
        side = meta["size"] + 2 * store.margin
        shape = (len(table), side, side)
        for name in ("images", "own"):
            array = store.regions(name)
            if array.shape[:3] != shape:
                raise StaindaError(
                    f"{name} hold {array.shape[:3]} and not {shape} pixels",
                    file=folder,
                    remedy="Remove the folder and cut the patches again",
                )
        return store

    def __len__(self) -> int:
        return len(self.table)

    def __reduce__(self) -> tuple[Callable[[Path], PatchStore], tuple[Path]]:
        return PatchStore.open, (self.folder,)

    @property
    def key(self) -> str:
        """Hash of the content. What one training sees of it has a key of its own, ``TrainingData.key``."""
        return str(self.meta["key"])

    @property
    def classes(self) -> tuple[str, ...]:
        """The task's classes; label i + 1 is the i-th."""
        return tuple(self.meta["classes"])

    @property
    def margin(self) -> int:
        """Pixels stored around a patch on each side; 0 in stores of earlier versions."""
        return int(self.meta.get("margin", 0))

    def regions(self, name: str) -> NDArray[np.uint8]:
        """Read-only array on disk of patches with their margin: uint8 (n, region, region), of images (..., 3).

        Args:
            name: ``images``, ``own``, ``propagated``, ``weights``, ``details`` or ``votes`` (both uint16).
        """
        return self._regions[name]

    @property
    def images(self) -> NDArray[np.uint8]:
        """Read-only uint8 (n, size, size, 3) on disk."""
        return self._middle("images")

    def labels(self, kind: LabelKind) -> NDArray[np.uint8]:
        """Read-only uint8 (n, size, size) on disk: 0 background, i + 1 class i, 255 ignored or not known."""
        return self._middle(_known(kind))

    def has_labels(self, kind: LabelKind) -> NDArray[np.bool_]:
        """Which patches have labels of this kind: bool (n,)."""
        return (self.table["kind"].map(_LABELS_OF_KIND) == _known(kind)).to_numpy(bool)

    @property
    def weights(self) -> NDArray[np.uint8] | None:
        """Read-only uint8 (n, size, size) on disk: how much each pixel of ``propagated`` labels counts, in 1/255;
        ``None`` where the study did not ask for weights."""
        return self._middle("weights") if self.meta.get("weights") else None

    @cached_property
    def tissue_pixels(self) -> dict[str, NDArray[np.uint8]]:
        """Colours of each slide's tissue, uint8 (n <= 4096, 3), by slide."""
        with np.load(STORE_TISSUE.inside(self.folder), allow_pickle=False) as arrays:
            return {slide: arrays[f"arr_{index}"] for index, slide in enumerate(self.meta["tissue_slides"])}

    @property
    def has_details(self) -> bool:
        """Whether patches hold more of each pixel than its class (:mod:`stainda.patches.details`)."""
        return bool(self.meta.get("details"))

    @property
    def annotators(self) -> tuple[str, ...]:
        """Whose answers are kept side by side (:mod:`stainda.patches.crowd`); empty where the study did not ask."""
        return tuple(self.meta.get("annotators", ()))

    def digests(self, name: Literal["images", "own", "propagated", "weights", "details", "votes"]) -> NDArray[np.uint8]:
        """A hash of every region's pixels, labels, weights, details or votes, uint8 (n, 16): what a job sees.

        Stores of earlier versions lack the file; their arrays are hashed here.
        """
        return self._digests[name]

    @cached_property
    def _digests(self) -> dict[str, NDArray[np.uint8]]:
        try:
            with np.load(self.folder / DIGESTS, allow_pickle=False) as arrays:
                return dict(arrays)
        except (OSError, ValueError):
            return make_digests(self.folder, len(self.table), self._names)

    @cached_property
    def _regions(self) -> dict[str, NDArray[np.uint8]]:
        return {name: self._array(_ARRAYS[name]) for name in self._names}

    @property
    def _names(self) -> tuple[str, ...]:
        return array_names(bool(self.meta.get("weights")), self.has_details, bool(self.annotators))

    def _middle(self, name: str) -> NDArray[np.uint8]:
        inner = slice(self.margin, self.margin + int(self.meta["size"]))
        return self._regions[name][:, inner, inner]

    def _array(self, name: str) -> NDArray[np.uint8]:
        file = self.folder / f"{name}.npy"
        try:
            if len(self.table) == 0:
                return np.load(file, allow_pickle=False)
            return np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOMEM:  # the file is as it should be
                raise
            raise StaindaError(
                "cannot be read", file=file, remedy="Remove the patch folder and cut the patches again"
            ) from error


def array_names(weights: bool, details: bool, votes: bool = False) -> tuple[str, ...]:
    """The arrays of a store that has weights, details of pixels, and answers of several annotators."""
    lacking = {"weights": not weights, "details": not details, "votes": not votes}
    return tuple(name for name in _ARRAYS if not lacking.get(name, False))


def make_digests(folder: Path, count: int, names: Sequence[str]) -> dict[str, NDArray[np.uint8]]:
    """Hash the first ``count`` regions of the arrays of a store: uint8 (count, 16) by array."""
    digests = {}
    for name in names:
        array = np.load(folder / f"{_ARRAYS[name]}.npy", mmap_mode="r", allow_pickle=False)
        rows = [hashlib.blake2b(patch.tobytes(), digest_size=16).digest() for patch in array[:count]]
        digests[name] = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 16)
    return digests


def _known(kind: str) -> str:
    if kind not in ("own", "propagated"):
        raise ConfigError(f"there are no labels {kind!r}", remedy=did_you_mean(kind, ("own", "propagated")))
    return kind
