"""Target registration error: how far landmarks of one section end from the same landmarks of another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stainda.annotations import read_landmarks
from stainda.registration.transforms import Transform


@dataclass(frozen=True, eq=False)
class LandmarkPair:
    """Landmarks present in both sections, in the same order: level-0 pixels (n, 2) of each."""

    source: np.ndarray
    target: np.ndarray

    @classmethod
    def read(cls, source: Path, target: Path) -> LandmarkPair:
        """Landmarks whose ``id`` occurs in both files.

        Raises:
            AnnotationError: a file cannot be read.
        """
        first, second = read_landmarks(source).set_index("id"), read_landmarks(target).set_index("id")
        shared = first.index.intersection(second.index)
        return cls(first.loc[shared, ["x", "y"]].to_numpy(float), second.loc[shared, ["x", "y"]].to_numpy(float))

    def __len__(self) -> int:
        return len(self.source)

    def errors(self, transform: Transform | None) -> np.ndarray:
        """Distances (n,) in level-0 pixels of the target after ``transform`` (into the target's pixels); ``None``:
        before registration, level-0 pixels being taken for the same (as ANHIR and BIRL do)."""
        moved = self.source if transform is None else transform.to_frame(self.source)
        return np.linalg.norm(moved - self.target, axis=1)
