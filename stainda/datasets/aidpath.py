"""AIDPATH kidney (Bueno et al. 2020, Mendeley Data k7nvtgn2x6): human PAS biopsies as whole slides.

Layout (as public repositories unpack it)::

    DATASET_A_DIB/NAME.svs                   whole slides, published without outlines
    DATASET_B_DIB/…/*.png                    pictures of single glomeruli, normal or sclerosed, for classification

Outlines that a user has drawn (or got elsewhere) are taken along where they lie next to the slide under its name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stainda.datasets.entry import FoundSlide, Notes, PublicDataset, files_below, nothing_found, plain
from stainda.names import stem

if TYPE_CHECKING:
    import geopandas as gpd

    from stainda.annotations.formats.frame import SlideFrame


def find(folder: Path, notes: Notes) -> list[FoundSlide]:
    slides = list(files_below(folder, ".svs"))
    if not slides:
        raise nothing_found(DATASET.title, DATASET.layout, folder)
    pictures = [path for path in files_below(folder, ".png", ".jpg", ".tif") if "DATASET_B" in str(path).upper()]
    if pictures:
        notes.tell(
            "left out", f"{len(pictures)} pictures of single glomeruli (DATASET_B): labels of pictures, not outlines"
        )
    slides_found = []
    for path in slides:
        name = plain(stem(path))
        outlined = _beside(path)
        if outlined is None:
            notes.tell("missing", "no outlines: none are published for the whole slides", name)
        slides_found.append(
            FoundSlide(
                name, name, name, 1, "PAS", "AIDPATH", path, scanner="Aperio ScanScope CS",
                shapes=None if outlined is None else _reader(outlined),
            )
        )  # fmt: skip
    notes.tell("guessed", "patient: every slide is taken as a patient of its own; the names tell none")
    notes.tell("guessed", "centre: AIDPATH, as one; slides come from three institutions that the names do not tell")
    return slides_found


def _beside(path: Path) -> Path | None:
    from stainda.annotations.formats import adjacent_annotations

    return next(iter(adjacent_annotations(path)), None)


def _reader(path: Path) -> Callable[[SlideFrame], tuple[gpd.GeoDataFrame, list[dict[str, str]]]]:
    def read(slide: SlideFrame) -> tuple[gpd.GeoDataFrame, list[dict[str, str]]]:
        from stainda.annotations.formats import read_annotations

        problems: list[dict[str, str]] = []
        return read_annotations(path, slide=slide, problems=problems), problems

    return read


DATASET = PublicDataset(
    name="aidpath_kidney",
    title="AIDPATH kidney",
    good_for="an unlabelled PAS domain (adaptation, colour statistics, prediction); to train or score on it, outline "
    "glomeruli yourself: none are published for the slides",
    stains="PAS",
    centres="three institutions in Spain and Lithuania, not recognised by the names",
    licence="CC BY 4.0 (Mendeley Data, version 3)",
    where="doi.org/10.17632/k7nvtgn2x6.3",
    layout="DATASET_A_DIB/NAME.svs",
    checked="the published description and public repositories that use it; the folders themselves were not checked",
    find=find,
)
