"""Pictures of the same object in all sections of its block, for the report: ``object_gallery/`` of a run.

Made when a study is scored, for at most ``WORST + 1`` objects of ``MOST_SECTIONS`` sections, each picture ``PIXELS``
wide and high: 50 pictures of some 20 KB. Pixels are warped into the frame of the block, so that every picture of an
object shows the same place at the same scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda.cohort import Cohort, Roles, Section
from stainda.config import StudyConfig
from stainda.errors import RegistrationError, SlideError
from stainda.files import fingerprint, stable_hash, whole_file, write_text
from stainda.names import file_name
from stainda.objects.tracking import Choice, Followed, choose, follow, judge
from stainda.progress import SILENT, Progress
from stainda.run_directory.contents import DONE, GALLERY_INPUTS
from stainda.run_directory.folder import RunFolder
from stainda.run_directory.tables import COHORT, GALLERY, GALLERY_LEFT_OUT
from stainda.run_directory.training_tables import TRIALS
from stainda.study.refitting import read_refits

if TYPE_CHECKING:
    from stainda.registration.results import BlockResult

FOLDER = GALLERY.folder
MOST_SECTIONS = 10
PIXELS = 288
QUALITY = 80
MADE = 3
"""Raised when objects are chosen or pictures made differently."""


def write_object_gallery(
    config: StudyConfig, cohort: Cohort, roles: Roles, folder: RunFolder, progress: Progress = SILENT
) -> Path:
    """Write ``object_gallery/gallery.csv``, its pictures, and ``left_out.csv``: blocks and sections not shown, and why.

    Objects of test sections are ranked by what the strategies without target labels miss on the target sections (on all
    test sections, where a study has no target), each with the first training of its chosen setting. Nothing is done
    where all of it is there already, made from the same registration, annotations, slides and predictions.

    Returns:
        ``gallery.csv``: a row per object and section of its block, in the order of the cut. ``place`` counts the
        objects from 1, ``kind`` is ``worst`` or ``typical``, ``of`` is how many were ranked, ``trainings`` how many
        were compared. ``missed`` of ``tried`` are trainings times sections, ``false_um2`` the area of false detections
        in the field over the same. ``x``, ``y``, ``side``: the field of view in level-0 pixels of the section
        ``frame``; ``shape``: id of the object's outline in ``annotations/own/``, empty where the section lacks it.
        Without an ``image`` there is a ``reason``.
    """
    target = folder.root / FOLDER
    sections = cohort.where(splits=["test"])
    blocks = {name: rows for name, rows in cohort.blocks().items() if name in sections.blocks()}
    trainings = _trainings(config, folder)
    placed, left_out = _placed(blocks, folder)
    key = _key(config, blocks, placed, roles, trainings, folder)
    marker = GALLERY_INPUTS.inside(target)
    if marker.is_file() and marker.read_text(encoding="utf-8") == key and _complete(folder):
        return GALLERY.inside(target)
    marker.unlink(missing_ok=True)
    mpp = _pixel_sizes(folder)
    scored = {section.slide for section in sections if cohort.domain(section) in (roles.targets or roles.sources)}
    objects: list[Followed] = []
    study = _Scored(config, cohort, roles, folder, blocks, placed, mpp)
    with progress.task("Following objects across the sections", len(placed)) as bar:
        for name in placed:
            objects += _ranked(study, name, scored, trainings)
            bar.advance(note=name)
    if not trainings:
        left_out.append({"block": "", "slide": "", "reason": "no strategy without target labels was scored"})
    choice = choose(objects)
    if trainings and placed and not choice.of:
        reason = "no annotated object of a scored section is seen in two registered sections"
        left_out.append({"block": "", "slide": "", "reason": reason})
    rows = _Pictures(study, len(trainings), left_out).of(choice)
    GALLERY_LEFT_OUT.write(target, left_out)
    GALLERY.write(target, rows)
    wanted = {row["image"] for row in rows}
    for stale in target.glob("*.jpg"):
        if f"{FOLDER}/{stale.name}" not in wanted:
            stale.unlink()
    write_text(marker, key)
    return GALLERY.inside(target)


@dataclass(frozen=True, eq=False)
class _Scored:
    """A scored study, and its sections as they are registered.

    Attributes:
        blocks: sections by block. placed: blocks with two sections in one frame.
        mpp: micrometres per level-0 pixel by slide, where known.
    """

    config: StudyConfig
    cohort: Cohort
    roles: Roles
    folder: RunFolder
    blocks: Mapping[str, Sequence[Section]]
    placed: Mapping[str, BlockResult]
    mpp: Mapping[str, float | None]


class _Pictures:
    """Cuts the pictures of the chosen objects; what could not be shown goes to ``left_out``."""

    def __init__(self, study: _Scored, trainings: int, left_out: list[dict[str, Any]]) -> None:
        self.study, self.trainings, self.left_out = study, trainings, left_out

    def of(self, choice: Choice) -> list[dict[str, Any]]:
        """The rows of ``gallery.csv``."""
        shown = [("worst", candidate) for candidate in choice.worst]
        if choice.typical is not None:
            shown.append(("typical", choice.typical))
        rows = []
        for place, (kind, candidate) in enumerate(shown, start=1):
            about = {"place": place, "kind": kind, "of": choice.of, "trainings": self.trainings}
            rows += [{**about, **row} for row in self._object(candidate, place)]
        return rows

    def _object(self, followed: Followed, place: int) -> list[dict[str, Any]]:
        block = self.study.placed[followed.block]
        um_per_px = self.study.mpp.get(str(block.reference))
        about: dict[str, Any] = {
            "block": followed.block, "patient": followed.patient, "object": followed.name, "class": followed.cls,
            "missed": followed.missed,
            "tried": followed.tried, "scored_sections": followed.scored_sections, "frame": block.reference,
            "registration": block.settings, "x": round(followed.x, 2), "y": round(followed.y, 2),
            "side": round(followed.side, 2),
            "um_per_px": um_per_px,
            "false_um2": None if um_per_px is None else round(followed.false_area * um_per_px**2, 1),
        }  # fmt: skip
        rows = []
        for section in self._sections(followed.block):
            image, reason = self._picture(followed, place, section)
            domain = self.study.cohort.domain(section)
            rows.append(
                {
                    **about, "slide": section.slide, "section": section.section, "stain": section.stain,
                    "centre": section.centre, "domain": domain, "role": self.study.roles.role(domain),
                    "shape": followed.outlines.get(section.slide, ""), "image": image, "reason": reason,
                }
            )  # fmt: skip
        return rows

    def _sections(self, block: str) -> list[Section]:
        """At most ``MOST_SECTIONS`` of the block, in the order of the cut; those with a role in the study first."""
        rows = list(self.study.blocks[block])
        first = sorted(rows, key=lambda record: self.study.roles.role(self.study.cohort.domain(record)) == "unused")[
            :MOST_SECTIONS
        ]
        for record in rows:
            reason = f"only {MOST_SECTIONS} sections of a block are shown"
            row = {"block": block, "slide": record.slide, "reason": reason}
            if record not in first and row not in self.left_out:
                self.left_out.append(row)
        return [record for record in rows if record in first]

    def _picture(self, followed: Followed, place: int, section: Section) -> tuple[str, str]:
        """The picture's path in the run, or why there is none."""
        from PIL import Image

        from stainda.registration.warping import warped_region
        from stainda.slides import open_slide

        block = self.study.placed[followed.block]
        if section.slide not in block.transforms:
            return "", f"not registered: {block.refused.get(section.slide, 'it is not in the block')}"
        name = f"{FOLDER}/{place}__{file_name(section.slide)}.jpg"
        region = (followed.x, followed.y, followed.side, followed.side)
        try:
            with open_slide(section.path, mpp=section.mpp) as slide:
                pixels = warped_region(block.transforms[section.slide], slide, region, followed.side / PIXELS)
        except (SlideError, RegistrationError) as error:
            return "", error.message
        with whole_file(self.study.folder.root / name) as aside:
            Image.fromarray(pixels).save(aside, "JPEG", quality=QUALITY, optimize=True)
        return name, ""


def _ranked(study: _Scored, name: str, scored: set[str], trainings: Mapping[str, str]) -> list[Followed]:
    """The objects of a block with what the trainings missed of them."""
    from stainda.annotations import IGNORE_CLASSES, read_shapes
    from stainda.objects.support import SupportRules
    from stainda.study.block_agreement import error_in_frame

    config, folder, sections, block = study.config, study.folder, study.blocks[name], study.placed[name]
    shapes = {
        section.slide: read_shapes(folder.own / f"{file_name(section.slide)}.geojson")
        for section in sections
        if section.annotations is not None
    }
    um_per_px = study.mpp.get(str(block.reference))
    used = [section for section in sections if section.slide in shapes and section.slide in block.transforms]
    result = follow(
        {section.slide: shapes[section.slide] for section in used},
        {section.slide: block.transforms[section.slide].to_frame for section in used},
        SupportRules(error={section.slide: error_in_frame(block, section, sections) for section in used}),
        order={section.slide: float(section.section) for section in used},
        classes=config.task.classes,
        block=block.block,
        patient=sections[0].patient,
        um_per_px=um_per_px,
        least=_least(config, um_per_px),
    )
    for section in used:
        if section.slide in scored:
            paths = [
                folder.job(job) / "predictions" / f"{file_name(section.slide)}.geojson" for job in trainings.values()
            ]
            predictions = [read_shapes(path) for path in paths if path.is_file()]
            to_frame = block.transforms[section.slide].to_frame
            truth = shapes[section.slide]
            ignored = truth[truth["class"].isin(IGNORE_CLASSES)]
            judge(result, section.slide, truth, ignored, predictions, to_frame=to_frame, iou=config.evaluation.iou)
    return result


def _least(config: StudyConfig, um_per_px: float | None) -> float:
    """Area in frame pixels squared below which no strategy reports an object: slivers are not failures."""
    task = config.task
    by_um = task.min_object_um2 / um_per_px**2 if task.min_object_um2 is not None and um_per_px else 0.0
    return max(task.min_object_px, by_um)


def _complete(folder: RunFolder) -> bool:
    """Whether the tables are there, and every picture they name."""
    import pandas as pd

    path = GALLERY.at(folder.root)
    if not path.is_file() or not path.with_name(GALLERY_LEFT_OUT.name).is_file():
        return False
    images = pd.read_csv(path, usecols=["image"])["image"].dropna()
    return all((folder.root / image).is_file() for image in images)


def _trainings(config: StudyConfig, folder: RunFolder) -> dict[str, str]:
    """The first training of the chosen setting of every strategy that learns from no target label."""
    import pandas as pd

    from stainda.report.loading import with_earlier_strategies
    from stainda.strategies import build

    trials = pd.read_csv(TRIALS.at(folder.root), dtype={"job": str})
    config = with_earlier_strategies(config, trials, folder.root)
    rows = trials[trials["chosen"].astype(bool) & (trials["state"] == "complete")].sort_values("seed", kind="stable")
    refits = read_refits(folder).set_index("repeats")["job"]
    rows = rows.assign(job=rows["job"].map(refits).fillna(rows["job"]))
    first = rows.drop_duplicates("strategy").set_index("strategy")["job"]
    return {
        strategy.name: str(first[strategy.name])
        for strategy in config.strategies
        if strategy.name in first.index and not build(strategy).labels.uses_target_truth
    }


def _placed(
    blocks: Mapping[str, Sequence[Section]], folder: RunFolder
) -> tuple[dict[str, BlockResult], list[dict[str, Any]]]:
    """The blocks that have two sections in one frame, and why the others have not."""
    from stainda.registration.results import load_block

    placed: dict[str, BlockResult] = {}
    left_out: list[dict[str, Any]] = []
    for name, sections in blocks.items():
        reason = "holds a single section"
        if len(sections) > 1:
            try:
                block = load_block(folder.registration, name)
                reason = "no two of its sections could be registered"
                if len(block.transforms) > 1:
                    placed[name] = block
                    continue
            except RegistrationError as error:
                reason = error.message
        left_out.append({"block": name, "slide": "", "reason": reason})
    return placed, left_out


def _pixel_sizes(folder: RunFolder) -> dict[str, float | None]:
    """Micrometres per level-0 pixel by slide, as the slides were found."""
    import pandas as pd

    table = pd.read_csv(COHORT.at(folder.root), dtype={"slide": str})
    return {
        slide: None if pd.isna(mpp) else float(mpp) for slide, mpp in zip(table["slide"], table["mpp"], strict=True)
    }


def _key(
    config: StudyConfig,
    blocks: Mapping[str, Sequence[Section]],
    placed: Mapping[str, BlockResult],
    roles: Roles,
    trainings: Mapping[str, str],
    folder: RunFolder,
) -> str:
    """Hash of what the pictures and their choice depend on; a job's ``done`` names the annotations it was scored on."""
    slides = []
    for sections in blocks.values():
        for section in sections:
            drawn = folder.own / f"{file_name(section.slide)}.geojson"
            truth = stable_hash(drawn.read_text(encoding="utf-8")) if drawn.is_file() else ""
            about = [
                section.slide,
                section.patient,
                section.section,
                section.stain,
                section.centre,
                section.split,
                section.mpp,
                truth,
            ]
            slides.append([*about, fingerprint(section.path)])
    jobs = {name: [job, DONE.inside(folder.job(job)).read_text(encoding="utf-8")] for name, job in trainings.items()}
    settings = {name: block.settings for name, block in placed.items()}
    least = [config.task.min_object_um2, config.task.min_object_px]
    depends_on = [roles.targets, roles.sources, list(config.task.classes), config.evaluation.iou, least]
    return stable_hash([MADE, slides, settings, jobs, depends_on], length=24)
