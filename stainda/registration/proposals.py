"""The transform that one registration attempt proposes for a section."""

from __future__ import annotations

from dataclasses import dataclass

from stainda.registration.sections import SectionImage
from stainda.registration.transforms import Transform


@dataclass(frozen=True, eq=False)
class Proposal:
    """Transform of a section proposed by one registration attempt.

    Attributes:
        image: the section as it was shown to VALIS. n_matches: ``None`` where it is not known.
        independent: the matches were sought everywhere; ``False`` where the section was laid on the reference before
            and matches were sought nearby only, so that many of them prove little.
        searched: it was laid where ``search`` found the structures to agree best, of all turns and shifts.
        spread: how widely the matches lie on the tissue (``attempts.spread``), ``None`` where they are not known.
    """

    image: SectionImage
    rigid: Transform
    nonrigid: Transform | None
    n_matches: int | None
    attempt: str
    independent: bool = True
    searched: bool = False
    spread: float | None = None
