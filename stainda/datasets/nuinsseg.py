"""NuInsSeg: nuclei of 31 human and mouse organs in H&E, every nucleus numbered.

Layout (README of github.com/masih4/NuInsSeg and public loaders)::

    "human kidney"/tissue images/NAME.png             "human kidney"/label masks modify/NAME.tif
    "human kidney"/vague areas/mask binary/NAME.png   "human kidney"/Imagj_zips/NAME.zip
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from stainda.datasets.entry import FoundSlide, Notes, PublicDataset, files_below, nothing_found, plain
from stainda.datasets.pixels import binary_objects, labelled_objects
from stainda.names import stem

if TYPE_CHECKING:
    import geopandas as gpd

    from stainda.annotations.formats.frame import SlideFrame

_VAGUE = ("mask binary", "mask binary_vague")


def find(folder: Path, notes: Notes) -> list[FoundSlide]:
    images = [path for path in files_below(folder, ".png") if path.parent.name.lower() == "tissue images"]
    if not images:
        raise nothing_found(DATASET.title, DATASET.layout, folder)
    slides_found = []
    for path in images:
        organ = path.parents[1]
        name = plain(
            stem(path) if organ.name.split()[-1].lower() in stem(path).lower() else f"{organ.name}_{stem(path)}"
        )
        mask = organ / "label masks modify" / f"{stem(path)}.tif"
        if not mask.is_file():
            notes.tell("missing", f"no mask {mask.relative_to(folder)}", name)
        slides_found.append(
            FoundSlide(
                name, plain(organ.name), name, 1, "HE", "MedUniVienna", path, scanner="TissueFAXS",
                shapes=functools.partial(_nuclei, stem(path), mask, organ) if mask.is_file() else None,
            )
        )  # fmt: skip
    notes.tell("guessed", "patient: the organ, since all patches of an organ come from one slide")
    notes.tell("guessed", "class Ignore*: areas of nuclei that could not be separated count neither for nor against")
    return slides_found


def _nuclei(base: str, mask: Path, organ: Path, slide: SlideFrame) -> tuple[gpd.GeoDataFrame, list[dict[str, str]]]:
    from stainda.annotations import IGNORE, join_shapes

    nuclei, problems = labelled_objects(mask, slide, "nucleus")
    vague = next((p for name in _VAGUE if (p := organ / "vague areas" / name / f"{base}.png").is_file()), None)
    if vague is None:
        return nuclei, problems
    areas, more = binary_objects(vague, slide, IGNORE)
    return join_shapes([nuclei, areas]), problems + more


DATASET = PublicDataset(
    name="nuinsseg",
    title="NuInsSeg",
    good_for="nuclei in H&E over 31 organs of man and mouse: a source of nuclei for cross-stain work; patches of "
    "512 px, "
    "no consecutive sections",
    stains="HE",
    centres="Medical University of Vienna (one)",
    licence="CC BY 4.0 (as a public loader states it: check)",
    where="kaggle.com/datasets/ipateam/nuinsseg, or zenodo.org/records/10518968",
    layout="ORGAN/tissue images/NAME.png with ORGAN/label masks modify/NAME.tif",
    checked="the README of github.com/masih4/NuInsSeg and several public loaders; no file of it was at hand, so the "
    "names of "
    "the masks of vague areas were not checked",
    find=find,
)
