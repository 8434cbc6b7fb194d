"""KPIs 2024: glomeruli of mouse kidneys in PAS, healthy and of three disease models.

Layout (description in openmedlab's list of data sets, and public loaders)::

    Task2_WSI_level/[train/]MODEL/CASE_wsi.tiff, CASE_mask.tiff
    Task1_patch_level/train/MODEL/CASE/img/NAME_img.jpg, mask/NAME_mask.jpg

MODEL is 56Nx, DN, NEP25 or normal. Where a case has a whole slide, its patches are left out: they are cut from it.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from stainda.cohort import Split
from stainda.datasets.entry import FoundSlide, Notes, PublicDataset, files_below, folders_of, nothing_found, plain
from stainda.datasets.pixels import binary_objects
from stainda.names import stem

_MODELS = {"56nx": "56Nx", "dn": "DN", "nep25": "NEP25", "normal": "normal"}
_SPLITS: dict[str, Split] = {"train": "train", "training": "train", "validation": "val", "val": "val",
                             "test": "test", "testing": "test"}  # fmt: skip
_SECTION = re.compile(r"(\d+-\d+)-\d{1,2}")


def find(folder: Path, notes: Notes) -> list[FoundSlide]:
    slides = [p for p in files_below(folder, ".tiff", ".tif") if stem(p).endswith("_wsi") and _model(p, folder)]
    patches = [p for p in files_below(folder, ".jpg", ".jpeg", ".png") if p.parent.name == "img" and _model(p, folder)]
    if not slides and not patches:
        raise nothing_found(DATASET.title, DATASET.layout, folder)
    slides_found = [_whole(path, folder, notes) for path in slides]
    whole = {slide.block for slide in slides_found}
    kept = [path for path in patches if _block(path, folder, path.parents[1].name) not in whole]
    if len(kept) < len(patches):
        notes.tell("left out", f"{len(patches) - len(kept)} patches that are cut from whole slides found here")
    slides_found += [_patch(path, folder, notes) for path in kept]
    notes.tell("guessed", "patient: the animal, the first two numbers of the case with its disease model")
    notes.tell("guessed", "mask: a pixel belongs to a glomerulus above half the mask's largest value")
    notes.tell(
        "guessed",
        "centre: one; the disease model is in the names of patients (56Nx, DN, NEP25, normal), which were scanned "
        "at two "
        "magnifications: check the pixel sizes",
    )
    return slides_found


def _model(path: Path, folder: Path) -> str | None:
    return next((_MODELS[name.lower()] for name in folders_of(path, folder) if name.lower() in _MODELS), None)


def _split(path: Path, folder: Path) -> Split | None:
    words = [word for name in folders_of(path, folder) for word in re.split(r"[^a-z]+", name.lower())]
    return next((_SPLITS[word] for word in words if word in _SPLITS), None)


def _block(path: Path, folder: Path, case: str) -> str:
    return plain(f"{_model(path, folder)}_{case.replace('_', '-')}")


def _animal(block: str) -> str:
    model, _, case = block.partition("_")
    section = _SECTION.fullmatch(case)
    return f"{model}_{section[1] if section else case}"


def _whole(path: Path, folder: Path, notes: Notes) -> FoundSlide:
    block = _block(path, folder, stem(path).removesuffix("_wsi"))
    mask = path.with_name(path.name.replace("_wsi", "_mask"))
    if not mask.is_file():
        notes.tell("missing", f"no mask {mask.name}", block)
    return FoundSlide(
        block, _animal(block), block, 1, "PAS", "Vanderbilt", path, split=_split(path, folder),
        shapes=functools.partial(binary_objects, mask, cls="glomerulus") if mask.is_file() else None,
    )  # fmt: skip


def _patch(path: Path, folder: Path, notes: Notes) -> FoundSlide:
    block = _block(path, folder, path.parents[1].name)
    name = plain(f"{block}_{stem(path).removesuffix('_img')}")
    masks = path.parents[1] / "mask"
    candidates = [masks / path.name.replace("_img", "_mask"), masks / path.name]
    mask = next((candidate for candidate in candidates if candidate.is_file()), None)
    if mask is None:
        notes.tell("missing", f"no mask {candidates[0].name}", name)
    return FoundSlide(
        name, _animal(block), name, 1, "PAS", "Vanderbilt", path, split=_split(path, folder),
        shapes=None if mask is None else functools.partial(binary_objects, mask, cls="glomerulus"),
    )  # fmt: skip


DATASET = PublicDataset(
    name="kpis",
    title="KPIs 2024",
    good_for="glomeruli of mouse kidneys, more than 10,000: one stain, but four disease models to adapt between; a "
    "species "
    "other than man; no consecutive sections",
    stains="PAS",
    centres="Vanderbilt University (one)",
    licence="terms of the challenge on Synapse: check before passing on",
    where="synapse.org, syn54077668 (account needed); sites.google.com/view/kpis2024",
    layout="MODEL/CASE_wsi.tiff with CASE_mask.tiff, or MODEL/CASE/img/NAME_img.jpg with mask/NAME_mask.jpg",
    checked="a published description of the folders and several public loaders; no file of it was at hand, so the "
    "values of "
    "the masks were not checked",
    find=find,
)
