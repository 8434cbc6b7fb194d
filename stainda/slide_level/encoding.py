"""The bags of all slides: each slide is read and encoded by itself, here or by the workers of a pool."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stainda.cohort import Section
from stainda.config import TrainingConfig
from stainda.config.slide_level import SlideLevelConfig
from stainda.pool import OpenPool, outcomes
from stainda.slide_level.bags import Bag, BagMaker
from stainda.training.machine import choose_device


@dataclass(frozen=True)
class Encoding:
    """What is the same for all slides; small, so that it can be sent to other processes.

    Attributes:
        caches: folder of the caches of features.
        standard: see :class:`~stainda.slide_level.bags.BagMaker`.
        training: says which device is taken.
    """

    settings: SlideLevelConfig
    caches: Path
    standard: tuple[Section, ...]
    training: TrainingConfig

    def maker(self) -> BagMaker:
        return BagMaker(self.settings, self.caches, self.standard, choose_device(self.training))

    def bags(self, sections: Sequence[tuple[Section, str]], pool: OpenPool | None) -> Iterator[tuple[str, Bag | None]]:
        """By slide its bag, or ``None`` without a patch on tissue, in the order in which they are made.

        Args:
            sections: to be encoded, each with its domain.
            pool: of workers that see slides and caches under these paths. Default: here, one after the other.

        Raises:
            SlideError, TrainingError: as of :meth:`~stainda.slide_level.bags.BagMaker.make`.
            UnexpectedError: a worker died with the same slide twice.
        """
        if pool is None:
            maker = self.maker()
            for section, domain in sections:
                yield section.slide, maker.make(section, domain)
            return
        jobs = {section.slide: (self, section, domain) for section, domain in sections}
        with pool(encode_in_pool) as workers:
            for outcome in outcomes(workers, jobs):
                yield outcome.key, outcome.result()


def encode_in_pool(_slide: str, given: tuple[Encoding, Section, str]) -> Bag | None:
    """Encode one slide on a worker of a pool, which keeps the encoder for the next one."""
    global _kept
    encoding, section, domain = given
    if _kept is None or _kept[0] != encoding:
        _kept = encoding, encoding.maker()
    return _kept[1].make(section, domain)


_kept: tuple[Encoding, BagMaker] | None = None
