"""Target registration error (TRE): distance of mapped landmarks from the same landmarks of the target.

Reported as the ANHIR challenge does (J. Borovec et al., IEEE TMI 39(10), 2020): per pair the median, mean, 90th
percentile and maximum, in pixels, micrometres and relative to the diagonal of the target image (rTRE), before
registration and after its rigid and non-rigid steps; and the robustness, the share of landmarks that end nearer to
their partner than they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from stainda.annotations import read_landmarks
from stainda.arrays import Array
from stainda.cohort.types import Cohort, Section
from stainda.errors import AnnotationError, RegistrationError, StaindaError
from stainda.names import ending, stem
from stainda.registration.maps import PointMap
from stainda.registration.results import load_block
from stainda.registration.transforms import Between, Transform
from stainda.run_directory.tables import LANDMARKS

STEPS = ("before", "rigid", "non-rigid")
BETWEEN_ANNOTATORS = "between annotators"
MEAN_OF_PAIRS, MEDIAN_OF_PAIRS = "(mean of pairs)", "(median of pairs)"


@dataclass(frozen=True, eq=False)
class LandmarkPair:
    """Landmarks present in both sections, in the same order: level-0 pixels (n, 2) of each."""

    source: Array
    target: Array

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

    def placed(self, transform: PointMap) -> LandmarkPair:
        """Without the landmarks that have no place: between pieces of tissue, or in one without a partner."""
        known = np.isfinite(transform.to_frame(self.source)).all(axis=1)
        return LandmarkPair(self.source[known], self.target[known])

    def errors(self, transform: PointMap | None) -> Array:
        """Distances (n,) in level-0 pixels of the target after ``transform`` (into the target's pixels); ``None``:
        before registration, level-0 pixels being taken for the same (as ANHIR and BIRL do)."""
        moved = self.source if transform is None else transform.to_frame(self.source)
        return np.linalg.norm(moved - self.target, axis=1)


@dataclass(frozen=True)
class LandmarkErrors:
    """Statistics of the distances of one pair, level-0 pixels of the target."""

    n_landmarks: int
    median: float
    mean: float
    p90: float
    max: float
    robustness: float | None

    @classmethod
    def of(cls, errors: Array, before: Array | None = None) -> LandmarkErrors:
        """``before``: the distances without registration, of the same landmarks, for the robustness."""
        return cls(
            len(errors),
            float(np.median(errors)),
            float(errors.mean()),
            float(np.percentile(errors, 90)),
            float(errors.max()),
            None if before is None else float((errors < before).mean()),
        )

    def row(self, diagonal: float, mpp: float | None) -> dict[str, float | int | None]:
        """The columns of landmarks.csv; ``diagonal`` of the target image and ``mpp`` in its level-0 pixels."""
        sizes = {"median": self.median, "mean": self.mean, "p90": self.p90, "max": self.max}
        return {
            "n_landmarks": self.n_landmarks,
            **{f"tre_{name}_px": _short(value) for name, value in sizes.items()},
            **{f"tre_{name}_um": _short(value * mpp) if mpp else None for name, value in sizes.items()},
            **{f"rtre_{name}": _short(sizes[name] / diagonal) for name in ("median", "mean", "max")},
            "robustness": None if self.robustness is None else _short(self.robustness),
        }


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def annotator_files(landmarks: Path) -> list[Path]:
    """Landmarks of the same section by further annotators: ``NAME.annotator-B.csv`` next to ``NAME.csv``."""
    return sorted(landmarks.parent.glob(f"{_escaped(stem(landmarks))}.annotator-*{_escaped(ending(landmarks))}"))


def _escaped(stem: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in stem)


def landmark_rows(block: str, sections: Sequence[Section], registration: Path) -> list[dict[str, Any]]:
    """The rows of landmarks.csv of one finished block, see :func:`write_landmark_table`."""
    try:
        result = load_block(registration, block)
    except RegistrationError as error:
        return [{"block": block, "reason": str(error)}]
    marked = [row for row in sections if row.landmarks is not None]
    rows: list[dict[str, Any]] = []
    sizes = _Sizes(result.transforms)
    for source, target in _pairs(sections, result.reference):
        if source not in marked or target not in marked:
            continue
        rows += _pair_rows(block, source, target, result.transforms, sizes)
    for section in marked:
        rows += _annotator_rows(block, section, sizes)
    return [*rows, *_summary(block, rows)]


def write_landmark_table(registration: Path, cohort: Cohort) -> Path | None:
    """Write ``landmarks.csv`` into the folder ``registration`` of a run; nothing where no section has landmarks.

    One row per pair of sections with landmarks (each with the block's reference, and each with the next section) and
    step (before, rigid, non-rigid), one per section with two annotators (how far these are apart: no registration can
    be measured finer), and per block and step the mean and the median over its pairs. A refused section has no rows
    after registration. Distances are level-0 pixels of the target, and µm where its pixel size is known.
    """
    rows = [row for block, sections in cohort.blocks().items() if any(section.landmarks for section in sections)
            for row in landmark_rows(block, sections, registration)]  # fmt: skip
    path = LANDMARKS.inside(registration)
    if not rows:
        path.unlink(missing_ok=True)
        return None
    return LANDMARKS.write(registration, rows)


class _Sizes:
    """Diagonal and pixel size of each section, asked of its transform or of the slide once."""

    def __init__(self, transforms: Mapping[str, Transform]) -> None:
        self.transforms = transforms
        self.known: dict[str, tuple[float | None, float | None]] = {}

    def __call__(self, section: Section) -> tuple[float | None, float | None]:
        if section.slide not in self.known:
            self.known[section.slide] = self._look(section)
        return self.known[section.slide]

    def _look(self, section: Section) -> tuple[float | None, float | None]:
        from stainda.slides import open_slide

        placed = self.transforms.get(section.slide)
        try:
            with open_slide(section.path, section.mpp) as slide:
                return float(np.hypot(*slide.size)), slide.mpp
        except StaindaError:  # registration has said so already: the section is refused there, or was removed since
            return (None if placed is None else float(np.hypot(*placed.size))), section.mpp


def _pairs(sections: Sequence[Section], reference: str | None) -> Iterator[tuple[Section, Section]]:
    """Every section with the reference, then neighbours of which neither is the reference."""
    fixed = next((row for row in sections if row.slide == reference), None)
    for row in sections:
        if fixed is not None and row is not fixed:
            yield row, fixed
    for first, second in pairwise(sections):
        if reference not in (first.slide, second.slide):
            yield first, second


def _pair_rows(
    block: str, source: Section, target: Section, transforms: Mapping[str, Transform], sizes: _Sizes
) -> Iterator[dict[str, Any]]:
    head = {"block": block, "source": source.slide, "target": target.slide}
    assert source.landmarks is not None and target.landmarks is not None
    try:
        pair = LandmarkPair.read(source.landmarks, target.landmarks)
    except AnnotationError as error:
        yield head | {"reason": str(error)}
        return
    diagonal, mpp = sizes(target)
    if not len(pair) or diagonal is None:
        reason = "the size of the target is not known" if len(pair) else "no landmark has the same id in both sections"
        yield head | {"n_landmarks": len(pair), "reason": reason}
        return
    before = pair.errors(None)
    yield head | {"step": "before"} | LandmarkErrors.of(before).row(diagonal, mpp)
    first, second = transforms.get(source.slide), transforms.get(target.slide)
    if first is None or second is None:
        return
    steps = {"rigid": Between(first.rigid, second.rigid)}
    if first.bends or second.bends:
        steps["non-rigid"] = Between(first, second)
    for step, between in steps.items():
        shown = pair.placed(between)
        lost = len(pair) - len(shown)
        if not len(shown):
            yield head | {"step": step, "n_landmarks": 0, "reason": "all landmarks lie where no piece has a place"}
            continue
        errors = LandmarkErrors.of(shown.errors(between), shown.errors(None)).row(diagonal, mpp)
        left_out = {"reason": f"{lost} landmarks lie where no piece has a place, and are left out"} if lost else {}
        yield head | {"step": step} | errors | left_out


def _annotator_rows(block: str, section: Section, sizes: _Sizes) -> Iterator[dict[str, Any]]:
    assert section.landmarks is not None
    files = [section.landmarks, *annotator_files(section.landmarks)]
    for number, first in enumerate(files):
        for second in files[number + 1 :]:
            names = "" if len(files) == 2 else f"{first.name} and {second.name}"
            head = {"block": block, "source": section.slide, "target": section.slide, "step": BETWEEN_ANNOTATORS}
            try:
                pair = LandmarkPair.read(first, second)
            except AnnotationError as error:
                yield head | {"reason": str(error)}
                continue
            diagonal, mpp = sizes(section)
            if len(pair) and diagonal:
                yield head | LandmarkErrors.of(pair.errors(None)).row(diagonal, mpp) | {"reason": names}


def _summary(block: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Mean and median over the pairs of a block, of every measure (ANHIR's average and median of medians)."""
    measures = [name for name in LANDMARKS.names if name.startswith(("tre_", "rtre_", "robustness"))]
    for title, reduce in ((MEAN_OF_PAIRS, np.mean), (MEDIAN_OF_PAIRS, np.median)):
        for step in STEPS:
            of_step = [row for row in rows if row.get("step") == step]
            if not of_step:
                continue
            out: dict[str, Any] = {"block": block, "source": title, "step": step}
            out["n_landmarks"] = sum(row["n_landmarks"] for row in of_step)
            for name in measures:
                known = [row[name] for row in of_step if row.get(name) is not None]
                out[name] = _short(float(reduce(known))) if known else None
            yield out
