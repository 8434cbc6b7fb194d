"""The opened sections of a block, and its reference section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stainda.registration.jobs import BlockJob
from stainda.registration.outcomes import BlockNotes
from stainda.registration.sections import SectionImage, open_sections, working_dim

if TYPE_CHECKING:
    from stainda.registration.prematch import Prematch


@dataclass(frozen=True, eq=False)
class OpenedBlock:
    """Inputs of the registration of a block.

    Attributes:
        images: working images of all usable sections in the order of the cut; sections that turn out to lie upside
            down are replaced by their mirror images.
        unusable: the reason by slide.
        reference: name of the section whose level-0 pixels are the frame; ``None`` where none is usable.
        matches: of the images, where VALIS is used and there is more than one.
        notes: what happened on the way; those under an empty name are of the block.
    """

    job: BlockJob
    images: dict[str, SectionImage]
    unusable: Mapping[str, str]
    reference: str | None
    matches: Prematch | None
    notes: BlockNotes

    @property
    def frame(self) -> SectionImage | None:
        """The reference's working image."""
        return None if self.reference is None else self.images[self.reference]


def open_block(job: BlockJob) -> OpenedBlock:
    """Open every section of a block and choose its reference."""
    opened = open_sections(job.sections, working_dim(job.config.max_dim, job.config.nonrigid_dim))
    images = {slide: image for slide, image in opened.items() if isinstance(image, SectionImage)}
    unusable = {slide: image.reason for slide, image in opened.items() if not isinstance(image, SectionImage)}
    matches = None
    if job.config.method == "valis" and len(images) > 1:
        from stainda.registration.prematch import Prematch

        matches = Prematch(images, job.config.max_dim)
    notes = BlockNotes()
    reference = _choose_reference(job, list(images), matches, notes) if images else None
    return OpenedBlock(job, images, unusable, reference, matches, notes)


def _choose_reference(job: BlockJob, names: list[str], matches: Prematch | None, notes: BlockNotes) -> str:
    wanted = job.config.reference
    if job.config.method == "import" and wanted == "auto":
        from stainda.registration.imports import named_frame

        return named_frame(job.config, names) or names[0]
    if wanted not in ("auto", "first"):
        stains = {row.slide: row.stain for row in job.sections}
        for slide in names:
            if wanted in (slide, stains[slide]):
                return slide
        notes.add("", f"reference {wanted} is not among the usable sections, so another was chosen")
    if wanted == "first" or matches is None or len(names) == 2:
        # of two sections neither has more matches than the other
        return names[0]
    return matches.best_connected()
