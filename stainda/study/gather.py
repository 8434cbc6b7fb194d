"""The first stage: every slide is opened, every annotation read, and what was found is written down."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda.cohort import COLUMNS, Cohort, Roles, Section
from stainda.config import StudyConfig
from stainda.errors import AnnotationError, SlideError, StaindaError, did_you_mean
from stainda.files import fingerprint, stable_hash, whole_file
from stainda.names import file_name
from stainda.progress import Progress
from stainda.run_directory.folder import RunFolder, relative
from stainda.run_directory.tables import COHORT
from stainda.study.bad_slides import LostSlidesError, lost_in
from stainda.study.looking import look

if TYPE_CHECKING:
    from stainda.slides import Slide


THUMBNAIL_PX = 512

logger = logging.getLogger("stainda")


def gather_cohort(cohort: Cohort, roles: Roles, config: StudyConfig, folder: RunFolder, progress: Progress) -> None:
    """Write ``cohort.csv``, ``thumbnails/``, ``annotations/own/``, ``annotations/repairs.csv`` and ``classes.csv``.

    Where a slide has several annotators, their shapes are fused; what they disagreed about is written to
    ``annotations/dissent/``, ``annotators.csv`` and ``annotator_agreement.csv``.

    Raises:
        LostSlidesError: slides cannot be read.
        StaindaError: every annotation that cannot be used, in one message.
    """
    from stainda.annotations import bounds_of, check_landmarks, write_geojson
    from stainda.slides import open_slide
    from stainda.study.annotating import Annotating

    rows, faults = [], []
    lost: dict[str, str] = {}
    annotating = Annotating.of_study(config, folder)
    classes: set[str] = set()
    with progress.task("Opening slides", len(cohort)) as bar:
        for section in cohort:
            shapes = None
            try:
                with open_slide(section.path, mpp=section.mpp) as slide:
                    if config.patches.mpp is not None:
                        slide.require_mpp(f"the study cuts patches at {config.patches.mpp} µm per pixel")
                    size, mpp, bounds = slide.size, slide.mpp, bounds_of(slide)
                    _thumbnail(slide, folder, section)
                    if section.annotations is not None:
                        shapes = annotating.read(section, slide)
                    if section.landmarks is not None and bounds is not None:
                        check_landmarks(section.landmarks, slide)
            except (SlideError, AnnotationError) as error:
                if unreadable := look(section).unreadable or lost_in([section], [str(error)]).get(section.slide):
                    lost[section.slide] = unreadable
                else:
                    faults.append(_at(error, section))
                bar.advance()
                continue
            n_shapes = None if shapes is None else len(shapes)
            if shapes is not None:
                if roles.role(cohort.domain(section)) == "source":
                    classes |= set(shapes["class"])
                write_geojson(shapes, folder.own / f"{file_name(section.slide)}.geojson", bounds=bounds)
            rows.append(_row(section, cohort, roles, size, mpp, n_shapes=n_shapes, folder=folder))
            bar.advance()
    if faults:
        listed = "; ".join(faults)
        raise StaindaError(
            f"{len(faults)} of {len(cohort)} sections cannot be used: {listed}",
            file=cohort.source,
            remedy="Mend or remove these rows of the manifest",
        )
    if lost:
        raise LostSlidesError(cohort, lost)
    annotating.write(progress)
    if config.strategies and (missing := [name for name in config.task.classes if name not in classes]):
        raise AnnotationError(
            f"no source section has an annotation of class {missing[0]!r}",
            file=cohort.source,
            remedy=did_you_mean(missing[0], classes),
        )
    COHORT.write(folder.root, rows)


def write_cohort(cohort: Cohort, sources: Collection[str], shapes: Mapping[str, Any], folder: RunFolder) -> None:
    """Write ``cohort.csv`` for sections that no study has given roles: what the review needs to know of them.

    Args:
        sources: slides whose annotations are propagated; their domains are written as sources, all others as targets.
        shapes: the annotations by slide.

    Slides that cannot be opened are left out: registration has refused them, and ``quality.csv`` says why.
    """
    from stainda.slides import open_slide

    teaching = tuple(dict.fromkeys(cohort.domain(member) for member in cohort if member.slide in sources))
    roles = Roles(teaching, tuple(name for name in cohort.domains if name not in teaching), cohort.domain_keys)
    rows = []
    for section in cohort:
        try:
            with open_slide(section.path, mpp=section.mpp) as slide:
                size, mpp = slide.size, slide.mpp
                _thumbnail(slide, folder, section)
        except SlideError as error:
            logger.warning("%s is left out of cohort.csv: %s", section.slide, error)
            continue
        count = len(shapes[section.slide]) if section.slide in shapes else None
        rows.append(_row(section, cohort, roles, size, mpp, n_shapes=count, folder=folder))
    COHORT.write(folder.root, rows)


def _at(error: StaindaError, section: Section) -> str:
    return f"row {section.row} ({section.slide}): {error}"


def _row(
    section: Section, cohort: Cohort, roles: Roles, size: tuple[int, int], mpp: float | None, *, n_shapes: int | None,
    folder: RunFolder,
) -> dict[str, Any]:  # fmt: skip
    row: dict[str, Any] = {name: getattr(section, name) for name in COLUMNS}
    for name in ("path", "annotations", "landmarks"):
        if row[name] is not None:
            row[name] = relative(row[name], folder.root)
    if section.more_annotations:
        row["annotations"] = ";".join(relative(path, folder.root) for path in section.annotation_files)
    domain = cohort.domain(section)
    return {
        **row, "mpp": mpp, "domain": domain, "role": roles.role(domain), "width": size[0], "height": size[1],
        "n_shapes": n_shapes,
    }  # fmt: skip


def _thumbnail(slide: Slide, folder: RunFolder, section: Section) -> None:
    from PIL import Image

    path = folder.root / "thumbnails" / f"{file_name(section.slide)}.jpg"
    made_from = stable_hash([THUMBNAIL_PX, fingerprint(section.path)], length=24)
    if path.exists() and _made_from(path) == made_from:
        return
    image, _ = slide.thumbnail(THUMBNAIL_PX)
    with whole_file(path) as aside:
        Image.fromarray(image).save(aside, quality=85, comment=made_from)


def _made_from(thumbnail: Path) -> str:
    """The slide's fingerprint that :func:`_thumbnail` wrote into the comment of the JPEG; empty where there is none.

    Times do not tell: a slide that is replaced by an older file keeps the older time.
    """
    from PIL import Image

    with Image.open(thumbnail) as image:
        comment = image.info.get("comment", b"")
    return comment.decode("ascii", errors="replace")
