"""Registration attempts: the ways in which VALIS is run on the sections of a block, in order, until the gates accept.

1. all sections together (those that match clearly better turned over are turned over first);
2. the section alone with the reference, where there are more than two;
3. laid on the reference by our own matches first, through other sections where those match better;
4. alone with the other image processing, and with DISK and LightGlue where their weights are on the machine;
5. laid on the reference by a search over all rotations, as it is and mirrored (``search.py``); at last by the one of
   them that a deformation bears out.

In a long block sections far from the reference are not tried alone with it: ``chaining.py`` lays them on neighbours.

Only where the rigid step passes the gates the non-rigid one, half of the time, is done at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from stainda.arrays import Array
from stainda.config import RegistrationConfig
from stainda.errors import RegistrationError
from stainda.registration import gates
from stainda.registration.isolation import isolated
from stainda.registration.proposals import Proposal
from stainda.registration.search import TriedRotation, search, search_stretched
from stainda.registration.sections import SectionImage
from stainda.registration.valis_import import disk_lightglue_cached

if TYPE_CHECKING:
    from stainda.registration.outcomes import Outcomes
    from stainda.registration.prematch import Prematch

SEARCHED = "laid on the reference first, turned by"
NEAR = 6  # sections: in a longer block those beyond share less with the reference than with what lies between
VALIS_SECONDS = 240.0  # for one section of one call; a pair takes 5 to 20 s on one core at 512 px


class RegistrationAttempts:
    """The registration attempts for one block, in order.

    Args:
        images: working images of all usable sections in the order of the cut; sections that lie upside down are
            replaced by their mirror images here.
        matches: of the images.
        outcomes: says which sections are placed already and whether the gates refuse a proposal; its notes are added
            to.
    """

    def __init__(
        self,
        images: dict[str, SectionImage],
        reference: str,
        config: RegistrationConfig,
        matches: Prematch,
        outcomes: Outcomes,
    ) -> None:
        self.images, self.reference, self.config = images, reference, config
        self.matches, self.outcomes = matches, outcomes

    def proposals(self) -> Iterator[Proposal]:
        """Proposals for every section but the reference; a section that is placed gets no further ones."""
        frame, config = self.images[self.reference], self.config
        for slide, (direct, mirrored) in self.matches.upside_down(self.reference).items():
            self.images[slide] = self.matches.turn(slide)
            self.outcomes.notes.add(slide, f"lies upside down: {mirrored} matches turned over, {direct} as it is")
        together = list(self.images.values())
        yield from self._attempt(together, config, "all sections together")
        order = list(self.images)
        at_reference = order.index(self.reference)
        for place, slide in enumerate(order):
            if slide == self.reference or (len(order) > 2 * NEAR and abs(place - at_reference) > NEAR):
                continue
            image = self.images[slide]
            for images, settings, attempt, in_place in self._for_section(image, frame, len(together) > 2):
                if self.outcomes.placed(slide):
                    break
                yield from self._attempt(images, settings, attempt, in_place, attempt.startswith(SEARCHED))

    def _for_section(
        self, image: SectionImage, frame: SectionImage, others: bool
    ) -> Iterator[tuple[list[SectionImage], RegistrationConfig, str, bool]]:
        """(images, settings, name, laid on the reference before) of the attempts for one section."""
        config, slide = self.config, image.slide
        if others:
            yield [image, frame], config, "alone with the reference", False
        matrix, passed, count = self.matches.way(slide, self.reference)
        if matrix is not None and count >= gates.MIN_WAY:
            by = f", by way of {', '.join(passed[1:-1])}" if len(passed) > 2 else ""
            yield [image.laid_on(frame, matrix), frame], config, f"laid on the reference first{by}", True
        if config.detector != "disk_lightglue" and disk_lightglue_cached():
            other = config.model_copy(update={"detector": "disk_lightglue"})
            yield [image, frame], other, "alone, DISK and LightGlue", False
        processing = "haematoxylin" if config.processing == "optical_density" else "optical_density"
        yield [image, frame], config.model_copy(update={"processing": processing}), f"alone, {processing}", False
        result = search(image, frame)
        stands_out = result is not None and result.peak >= gates.MIN_PEAK
        if result is None or not stands_out:
            height = "nothing to compare" if result is None else f"best turn {result.peak:.1f} standard deviations high"
            self.outcomes.notes.add(slide, f"no turn fits, mirrored or not ({height})")
        else:
            yield _laid(result.best, frame), config, _searched(result.best), True
        if result is None or not config.nonrigid or config.deformation == "valis" or self.outcomes.placed(slide):
            return
        # the best by itself has been tried where it stands out
        stretched = search_stretched(result.turns[1:] if stands_out else result.turns, frame)
        if stretched is not None and stretched[1] >= gates.MIN_PEAK_STRETCHED:
            yield _laid(stretched[0], frame), config, f"{_searched(stretched[0])}, as a deformation shows", True

    def _attempt(
        self,
        images: list[SectionImage],
        config: RegistrationConfig,
        attempt: str,
        in_place: bool = False,
        searched: bool = False,
    ) -> Iterator[Proposal]:
        """One call of VALIS in a child process; a failure is noted for every section it took down."""
        from stainda.registration.valis_run import RawResult, run_valis, to_transform

        frame = next(image for image in images if image.slide == self.reference)
        moving = [image for image in images if image is not frame]

        def propose(image: SectionImage, results: dict[str, RawResult]) -> Proposal:
            raw = results[image.slide]
            full = to_transform(raw, image, results[self.reference], frame)
            nonrigid = full if full.backward is not None else None
            wide = spread(raw.xy, raw.processed_shape, image)
            return Proposal(image, full.rigid, nonrigid, raw.n_matches, attempt, not in_place, searched, wide)

        def worth_deforming(results: dict[str, RawResult]) -> bool:
            waiting = [image for image in moving if not self.outcomes.placed(image.slide)]
            return any(not self.outcomes.would_refuse(propose(image, results)) for image in waiting)

        call = partial(run_valis, in_place=in_place, worth_deforming=worth_deforming)
        limit = VALIS_SECONDS * len(images)
        try:
            results = isolated(call, images, self.reference, config, seconds=limit, what="VALIS")
        except RegistrationError as error:
            for image in moving:
                if not self.outcomes.placed(image.slide):
                    self.outcomes.notes.add(image.slide, f"{error.message} ({attempt})")
            return
        for image in moving:
            if self.outcomes.placed(image.slide):
                continue
            try:
                yield propose(image, results)
            except RegistrationError as error:
                self.outcomes.notes.add(image.slide, f"{error.message} ({attempt})")


def _laid(turn: TriedRotation, frame: SectionImage) -> list[SectionImage]:
    return [turn.image.laid_on(frame, turn.matrix), frame]


def _searched(turn: TriedRotation) -> str:
    return f"{SEARCHED} {turn.degrees:.0f} degrees{' and mirrored' if turn.mirrored else ''}"


def spread(xy: Array, shape: tuple[int, int], image: SectionImage) -> float | None:
    """How widely matches ``xy`` (n, 2) (pixels of an image of ``shape``, rows and columns) lie on a section: the area
    of their covariance ellipse over that of the tissue; 1 is as wide as the tissue, 0 a point or a line."""
    if len(xy) < 3:
        return 0.0 if len(xy) else None
    rows, columns = np.nonzero(image.tissue)
    if len(rows) < 3:
        return None
    scale = np.array([image.tissue.shape[1] / shape[1], image.tissue.shape[0] / shape[0]])
    own = np.linalg.det(np.cov((xy * scale).T))
    tissue = np.linalg.det(np.cov(np.stack([columns, rows])))
    return float(np.sqrt(max(own, 0.0) / max(tissue, 1e-12)))
