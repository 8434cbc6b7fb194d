"""Quick matching of all sections of a block before VALIS: chooses the reference, detects mirrored sections.

KAZE features (Alcantarilla et al., ECCV 2012) of the optical density, Lowe's ratio test, and a similarity by RANSAC.
Runs in the worker process (it needs OpenCV, which comes with VALIS).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stainda.arrays import Array
from stainda.registration import gates
from stainda.registration.sections import SectionImage
from stainda.registration.similarity import optical_density

RATIO = (
    0.85  # of the best to the second best descriptor distance; across stains descriptors differ, so looser than 0.75
)
REPROJECTION = 8.0  # pixels of the matched image: RANSAC's idea of an inlier, wide enough for unmodelled deformation
FEATURES = 2500  # the strongest, per section
NEIGHBOURS = 5  # sections to either side that a reference is chosen by: of 50 sections not all 1225 pairs are matched
REACH = 2  # sections: farther ones share less than their neighbours do


class Features:
    """Key points (n, 2) in pixels of the working image, and descriptors (n, 128), found at most ``max_dim`` wide."""

    def __init__(self, image: SectionImage, max_dim: int) -> None:
        import cv2

        density = optical_density(image.pixels)
        step = max(1.0, max(density.shape) / max_dim)
        if step > 1:
            size = (int(density.shape[1] / step), int(density.shape[0] / step))
            density = cv2.resize(density, size, interpolation=cv2.INTER_AREA)
        top = max(float(np.percentile(density, 95)), 1e-3)
        grey = (np.clip(density / top, 0, 1) * 255).astype(np.uint8)
        detector: Any = getattr(cv2, "KAZE_create")(extended=True, threshold=0.0005)  # noqa: B009  not in its type stubs
        points, descriptors = detector.detectAndCompute(grey, None)
        order = np.argsort([-point.response for point in points], kind="stable")[:FEATURES]
        # back in pixels of the working image
        self.points = (np.array([points[i].pt for i in order], np.float32).reshape(-1, 2) + 0.5) * step - 0.5
        self.step = step
        self.descriptors = descriptors[order] if len(order) else np.zeros((0, 128), np.float32)


@dataclass(frozen=True, eq=False)
class Match:
    """How many matches one similarity transform explains, and that transform (3, 3): working pixels of the first
    section to working pixels of the second; ``None`` where there is none."""

    count: int
    matrix: Array | None


def match(first: Features, second: Features) -> Match:
    """The similarity that explains most matches between two sections."""
    import cv2

    if min(len(first.points), len(second.points)) < 4:
        return Match(0, None)
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(first.descriptors, second.descriptors, k=2)
    good = [best for best, following in pairs if best.distance < RATIO * following.distance]
    if len(good) < 3:
        return Match(0, None)
    source = first.points[[pair.queryIdx for pair in good]]
    target = second.points[[pair.trainIdx for pair in good]]
    cv2.setRNGSeed(0)
    matrix: Any
    inliers: Any
    matrix, inliers = cv2.estimateAffinePartial2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=REPROJECTION * second.step, maxIters=5000,
        confidence=0.999,
    )  # fmt: skip
    if matrix is None:
        return Match(0, None)
    low, high = gates.SCALE_UNKNOWN
    if not low <= float(np.sqrt(abs(np.linalg.det(matrix[:, :2])))) <= high:
        return Match(0, None)
    # several key points may fall on one place: only places count
    places = np.unique(np.round(target[inliers.ravel() > 0] / (4 * second.step)), axis=0)
    return Match(len(places), np.vstack([matrix, [0, 0, 1]]))


class Prematch:
    """Matches between the sections of a block, made once each. ``images`` are in the order of the cut."""

    def __init__(self, images: Mapping[str, SectionImage], max_dim: int) -> None:
        self.images, self.max_dim = dict(images), max_dim
        self._features: dict[tuple[str, bool], Features] = {}
        self._matches: dict[tuple[str, bool, str, bool], Match] = {}

    def _feature(self, slide: str, mirrored: bool) -> Features:
        key = slide, mirrored
        if key not in self._features:
            image = self.images[slide]
            self._features[key] = Features(image.turned_over() if mirrored else image, self.max_dim)
        return self._features[key]

    def match(self, first: str, second: str, mirrored: bool = False) -> Match:
        """Matches of two sections, the first as it is or turned over."""
        key = first, mirrored, second, False
        back = second, False, first, mirrored
        if key not in self._matches and back in self._matches:
            known = self._matches[back]
            return Match(known.count, None if known.matrix is None else np.linalg.inv(known.matrix))
        if key not in self._matches:
            self._matches[key] = match(self._feature(first, mirrored), self._feature(second, False))
        return self._matches[key]

    def count(self, first: str, second: str, mirrored: bool = False) -> int:
        return self.match(first, second, mirrored).count

    def best_connected(self) -> str:
        """The section with most matches with the others, up to ``NEIGHBOURS`` to either side; of equals the one nearest
        the middle of the block. In a long block, where the ends are far from everything else, those within a tenth of
        the best count as equals."""
        names = list(self.images)
        middle = (len(names) - 1) / 2
        # the logarithm keeps one excellent pair from outweighing several good ones
        total = {
            name: sum(
                np.log1p(self.count(name, other))
                for other in names[max(0, place - NEIGHBOURS) : place + NEIGHBOURS + 1]
                if other != name
            )
            for place, name in enumerate(names)
        }
        if len(names) > 2 * NEIGHBOURS + 1:
            good = [name for name in names if total[name] >= 0.9 * max(total.values())]
            return min(good, key=lambda name: abs(names.index(name) - middle))
        return max(names, key=lambda name: (round(total[name], 3), -abs(names.index(name) - middle)))

    def upside_down(self, reference: str) -> dict[str, tuple[int, int]]:
        """Sections whose mirror image matches clearly better: {slide: (matches as it is, matches turned over)}."""
        mirrored_slides: dict[str, tuple[int, int]] = {}
        for slide in self.images:
            if slide == reference:
                continue
            direct = self.count(slide, reference)
            if direct >= gates.FEW_MATCHES:
                continue
            mirrored = self.count(slide, reference, mirrored=True)
            if gates.turned_over(direct, mirrored):
                mirrored_slides[slide] = direct, mirrored
        return mirrored_slides

    def turn(self, slide: str) -> SectionImage:
        """From here on the section is its mirror image."""
        self.images[slide] = self.images[slide].turned_over()
        self._features = {key: value for key, value in self._features.items() if key[0] != slide}
        self._matches = {key: value for key, value in self._matches.items() if slide not in (key[0], key[2])}
        return self.images[slide]

    def way(self, slide: str, reference: str) -> tuple[Array | None, list[str], int]:
        """Where a section lies on the reference, through others if they match better.

        Of all ways the one is taken whose weakest step has most matches (a widest path). Steps reach ``REACH`` sections
        far, and from any section to the reference.

        Returns:
            The matrix (3, 3) from the section's working pixels to the reference's (``None`` where there is no way), the
            sections passed, and the matches of the weakest step.
        """
        names = list(self.images)
        best: dict[str, tuple[int, Array, list[str]]] = {slide: (1 << 30, np.eye(3), [slide])}
        done: set[str] = set()
        while open_ := [name for name in best if name not in done]:
            nearest = max(open_, key=lambda name: best[name][0])
            done.add(nearest)
            width, matrix, path = best[nearest]
            if nearest == reference:
                return matrix, path, width
            for other in names:
                near = abs(names.index(other) - names.index(nearest)) <= REACH or other == reference
                if other in done or not near:
                    continue
                step = self.match(nearest, other)
                reach = min(width, step.count)
                if step.matrix is not None and reach > best.get(other, (0,))[0]:
                    best[other] = reach, step.matrix @ matrix, [*path, other]
        return None, [slide], 0

    def table(self) -> dict[str, Any]:
        """The counts made so far, as JSON values."""
        return {
            f"{a}{' mirrored' if am else ''} / {b}{' mirrored' if bm else ''}": match.count
            for (a, am, b, bm), match in sorted(self._matches.items())
        }
