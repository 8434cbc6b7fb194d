"""The annotations of a cohort as the study wants them: mended, under the study's class names, one set per slide."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda.cohort import Section
from stainda.config import FusionConfig, StudyConfig
from stainda.errors import AnnotationError
from stainda.names import file_name
from stainda.progress import Progress
from stainda.run_directory.folder import RunFolder
from stainda.run_directory.tables import ANNOTATOR_AGREEMENT, ANNOTATORS, CLASSES, REPAIRS

if TYPE_CHECKING:
    from pathlib import Path

    import geopandas as gpd

    from stainda.annotations import ClassMap, Rules
    from stainda.slides import Slide


class Annotating:
    """Reads the annotations of one section after the other, and keeps what has to be reported about them.

    Args:
        folder: the run directory.
        classes: new names of classes; rules: how annotators are fused.
        refuse_unknown: whether a class that ``classes`` does not know is an error.
        ignore_from: what this share of the annotators drew without winning becomes ignored pixels.
    """

    def __init__(
        self,
        folder: RunFolder,
        classes: ClassMap,
        rules: Rules,
        refuse_unknown: bool = False,
        ignore_from: float = FusionConfig().ignore_from,
    ) -> None:
        self.folder, self.classes, self.rules = folder, classes, rules
        self.refuse_unknown, self.ignore_from = refuse_unknown, ignore_from
        self.repairs: list[dict[str, Any]] = []
        self.named: list[dict[str, Any]] = []
        self.annotators: list[dict[str, Any]] = []
        self.agreement: list[dict[str, Any]] = []
        self.fused: set[str] = set()

    @classmethod
    def of_study(cls, config: StudyConfig, folder: RunFolder) -> Annotating:
        """As a study wants it.

        Raises:
            AnnotationError: the table of classes or of reliabilities cannot be read.
        """
        return cls(
            folder, class_map(config), _rules(config), config.unknown_classes == "error", config.fusion.ignore_from
        )

    def read(self, section: Section, slide: Slide | None) -> gpd.GeoDataFrame:
        """The shapes of a section, of all its annotators together; ``slide`` is open, or ``None``: positions unchecked.

        Raises:
            AnnotationError: a file cannot be read, or nothing can be fused.
        """
        from stainda.annotations import annotator_names, bounds_of, fuse_annotators, with_ignored, write_geojson

        files = section.annotation_files
        if len(files) == 1:
            return self._one(section, files[0], slide)
        names = annotator_names(files)
        drawn = {name: self._one(section, path, slide, name) for name, path in zip(names, files, strict=True)}
        if not any(len(shapes) for shapes in drawn.values()):
            return drawn[names[0]]
        for name, shapes in drawn.items():
            write_geojson(shapes, self.folder.drawn(section.slide, name), bounds=bounds_of(slide))
        fusion = fuse_annotators(drawn, self.rules, size=None if slide is None else slide.size)
        self.annotators += [{"slide": section.slide, **row} for row in fusion.annotators]
        self.agreement += [{"slide": section.slide, **row} for row in fusion.agreement]
        self.repairs += [
            {
                "slide": section.slide, "annotator": note["annotator"], "class": note["class"], "action": "dropped",
                "reason": f"{note['shapes']} shapes took no part in the fusion: {note['note']}",
            }
            for note in fusion.notes
        ]  # fmt: skip
        self.fused.add(section.slide)
        path = self.folder.annotations / "dissent" / f"{file_name(section.slide)}.geojson"
        write_geojson(fusion.dissent, path, bounds=bounds_of(slide))
        return with_ignored(fusion, self.ignore_from)

    def _one(self, section: Section, path: Path, slide: Slide | None, annotator: str = "") -> gpd.GeoDataFrame:
        from stainda.annotations import load_shapes, sniff_format

        shapes, report = load_shapes(path, None if slide is None else slide.size, slide, section.annotation_origin)
        who = {"slide": section.slide, "annotator": annotator}
        self.repairs += [{**who, **row} for row in report]
        shapes, rows = self.classes.apply(shapes, section.centre, sniff_format(path).name)
        self.named += [{**who, "centre": section.centre, **row} for row in rows]
        return shapes

    def write(self, progress: Progress) -> None:
        """Write the tables, and tell of classes that nothing in the study names.

        Raises:
            AnnotationError: there are such classes, and the study wants none (``unknown_classes: error``).
        """
        from stainda.annotations import (
            matched_classes,
            unknown_classes,
        )

        place = self.folder.annotations
        REPAIRS.write(place, self.repairs)
        CLASSES.write(place, self.named)
        if self.fused:
            ANNOTATORS.write(place, self.annotators)
            ANNOTATOR_AGREEMENT.write(place, self.agreement)
        current = {f"{file_name(slide)}.geojson" for slide in self.fused}
        for stale in (place / "dissent").glob("*.geojson"):
            if stale.name not in current:
                stale.unlink()
        for kept in (place / "drawn").glob("*"):
            if f"{kept.name}.geojson" not in current:
                shutil.rmtree(kept)
        if matched := matched_classes(self.named):
            progress.message(f"classes matched by spelling: {', '.join(matched)}")
        unknown = unknown_classes(self.named)
        if unknown and self.refuse_unknown:
            raise AnnotationError(
                f"classes that neither the task nor 'classes' names: {', '.join(unknown)}",
                file=CLASSES.inside(place),
                remedy="Name each under 'classes' in the study: a class of the task, 'ignore' or 'drop'",
            )
        if unknown and (self.classes or any("perhaps" in name for name in unknown)):
            progress.message(
                f"classes left as they are, counting as background: {', '.join(unknown)}; see {CLASSES.inside(place)}"
            )


def class_map(config: StudyConfig) -> ClassMap:
    """The study's table of classes; those of the task need no rule."""
    from stainda.annotations import ClassMap, read_class_table

    if isinstance(config.classes, Path):
        return read_class_table(config.classes, config.task.classes)
    return ClassMap.of(config.classes, config.task.classes)


def _rules(config: StudyConfig) -> Rules:
    from stainda.annotations import Rules, read_reliability

    fusion = config.fusion
    reliability = None if fusion.reliability is None else read_reliability(fusion.reliability)
    return Rules(fusion.method, reliability, fusion.resolution, fusion.point_radius)
