"""Building of a patch store from a cohort; the store is written completely or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from stainda.cohort import Cohort, Roles, Section, check_no_leak
from stainda.config import PatchConfig, TaskConfig
from stainda.errors import AnnotationError, LeakError, StaindaError, did_you_mean
from stainda.files import output_errors
from stainda.patches.crowd import check_count
from stainda.patches.cutting import IGNORED, CutSlide, Request, SlideJob, cut_for_pool, cut_slide
from stainda.patches.details import WITH_DETAILS
from stainda.patches.inputs import inputs_key
from stainda.patches.pixels import working_downsample
from stainda.patches.planning import object_weight
from stainda.patches.store import DIGESTS, DTYPES, TABLE_COLUMNS, PatchStore, array_names, make_digests
from stainda.pool import OpenPool, outcomes
from stainda.progress import SILENT, Progress
from stainda.run_directory.contents import STORE_META, STORE_TISSUE
from stainda.run_directory.tables import PATCHES
from stainda.slides import open_slide

Shapes = Mapping[str, gpd.GeoDataFrame]

CUTTING = 6
"""Raised whenever the same inputs come to give other patches or labels, so that an older store is not used again."""


SINGLE_PATIENT = (
    "There is one patient. Source slides are divided into a band for training and one for validation next to it, one "
    "patch apart; target slides are seen unlabelled in training and tested as a whole; the ceiling (oracle) is "
    "trained on labels of the very slides it is tested on."
)


def build_store(
    cohort: Cohort,
    roles: Roles,
    config: PatchConfig,
    task: TaskConfig,
    shapes: Mapping[str, Shapes],
    out: str | Path,
    *,
    seed: int,
    progress: Progress = SILENT,
    pool: OpenPool | None = None,
    retries: int = 1,
    min_confidence: float = 0.0,
    weights: bool = False,
    drawn: Mapping[str, Shapes] | None = None,
) -> PatchStore:
    """Cut the patches of a study's training and validation patients and write them to a store.

    Source slides give patches around their own annotations and away from them (``labelled``). Annotated source slides
    of training patients and all target slides give patches on tissue at random, by one rule and equally many
    (``unlabelled``). Target slides of training patients also give patches about propagated shapes (``propagated``) and
    about the slide's own annotations (``oracle``). Own annotations of targets reach ``oracle`` rows, which come last,
    and nothing else. Every patch is stored with a margin of the slide around it, labelled by the same shapes, which
    training crops from. Where a slide cannot give what was requested, ``meta["notes"]`` says why. A store that is there
    already is used again where nothing it is made from has changed.

    Args:
        shapes: ``{"own": {slide: shapes}, "propagated": {slide: shapes}}``; a slide without entry has none.
        out: folder of the store; it appears whole or not at all, and replaces an older one.
        seed: positions depend on it and on each slide's name only.
        pool: of workers that cut the slides, one each; they see slides and ``out`` under these paths. Default: here.
        retries: how often a slide is cut again whose worker died.
        min_confidence: propagated shapes below it are ignored in training, neither object nor background.
        weights: store how much each pixel of propagated labels counts: near an object as much as it is sure.
        drawn: by annotator, then by slide, the shapes as each drew them: kept side by side for ``labelled`` patches.

    Raises:
        LeakError: a patient is in two splits.
        SlideError: a slide cannot be read, or lacks the mpp that is requested.
        AnnotationError: no source slide of the train, or of the val split, gives a labelled patch; or no object of a
            class of the task is annotated in any training slide of the sources.
    """
    check_no_leak(cohort)
    out = Path(out)
    own, propagated = shapes.get("own", {}), shapes.get("propagated", {})
    settings = [config.model_dump(), list(task.classes), roles.sources, roles.targets, seed, min_confidence]
    settings += [CUTTING, weights] if task.kind == "segmentation" else [CUTTING, weights, task.kind]
    settings += [task.sigma_um, task.sigma_px] if task.kind == "points" else []
    drawn = dict(sorted((drawn or {}).items()))
    check_count(len(drawn), len(task.classes))
    looked_at = {**shapes, **{f"drawn by {name}": of for name, of in drawn.items()}}
    inputs = inputs_key(cohort.where(splits=["train", "val"]), looked_at, settings)
    if (ready := _usable(out, inputs)) is not None:
        return ready
    _check_classes(cohort, roles, task, own)
    with output_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        for left in out.parent.glob(f".{out.name}-unfinished*"):  # of a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        # of this call alone: a worker that is still busy for an earlier one writes nowhere
        aside = out.with_name(f".{out.name}-unfinished-{uuid.uuid4().hex[:8]}")
        aside.mkdir()
    try:
        wanted = _unlabelled_count(cohort, roles, config, task, own)
        jobs = [
            SlideJob(
                section, cohort.domain(section), requests, config, task, seed, min_confidence,
                aside / f"{i}.npz", weights, _by_annotator(drawn, section.slide, roles.role(cohort.domain(section))),
            )
            for i, section in enumerate(cohort)
            if (requests := _requests(section, roles.role(cohort.domain(section)), own, propagated, wanted))
        ]  # fmt: skip
        results = _cut(jobs, pool, retries, progress)
        notes = [note for result in results for note in result.notes]
        notes += [
            {"slide": section.slide, "kind": "labelled", "reason": "a source slide without annotations gives no patch"}
            for section in cohort.where(domains=roles.sources, splits=["train", "val"])
            if section.slide not in own
        ]
        arrays = array_names(weights, task.kind in WITH_DETAILS, bool(drawn))
        table = _write_arrays(results, config.size + 2 * config.margin_pixels, task.classes, aside, arrays)
        _check_complete(table, cohort, roles, notes)
        meta: dict[str, Any] = {
            "size": config.size,
            "margin": config.margin_pixels,
            "mpp": config.mpp,
            "downsample": {result.slide: result.downsample for result in results},
            "slide_mpp": {result.slide: result.mpp for result in results},
            "classes": list(task.classes),
            "tissue_slides": [result.slide for result in results],
            "sources": list(roles.sources),
            "targets": list(roles.targets),
            "seed": seed,
            "min_confidence": min_confidence,
            "weights": weights,
            **({"details": True} if "details" in arrays else {}),
            **({"annotators": list(drawn)} if drawn else {}),
            "single_patient": SINGLE_PATIENT if any(section.split == "all" for section in cohort) else "",
            "bands": {result.slide: result.bands for result in results if result.bands},
            "notes": notes,
            "inputs": inputs,
        }
        meta["key"] = _write_digests(aside, table, meta)
        STORE_META.inside(aside).write_text(json.dumps(meta, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        _replace_folder(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return PatchStore.open(out)


def _by_annotator(drawn: Mapping[str, Shapes], slide: str, role: str) -> tuple[gpd.GeoDataFrame | None, ...]:
    """What each annotator drew on a source slide; ``None`` for one who did not see it, and on all other slides."""
    return tuple(of.get(slide) if role == "source" else None for of in drawn.values())


def _requests(section: Section, role: str, own: Shapes, propagated: Shapes, unlabelled: int) -> tuple[Request, ...]:
    """What is requested of a slide. The order matters: ``oracle`` is last everywhere."""
    slide, split = section.slide, section.split
    if split not in ("train", "val", "all"):
        return ()
    if role == "source":
        splits = ("train", "val") if split == "all" else (str(split),)
        if slide not in own:
            return ()
        result = (Request("labelled", splits, own[slide]),)
        bands = own[slide] if split == "all" else None
        # drawn as those of targets are, so that what is compared between the two was drawn by one rule
        return result if split == "val" else (*result, Request("unlabelled", ("train",), count=unlabelled, bands=bands))
    if role != "target":
        return ()
    seen = "val" if split == "val" else "train"
    requests = [Request("unlabelled", (seen,), count=unlabelled)]
    if seen == "train" and slide in propagated:
        requests.append(Request("propagated", ("train",), propagated[slide]))
    if seen == "train" and slide in own:
        requests.append(Request("oracle", ("train",), own[slide]))
    return tuple(requests)


def _unlabelled_count(cohort: Cohort, roles: Roles, config: PatchConfig, task: TaskConfig, own: Shapes) -> int:
    """As many unlabelled patches per target slide as a source slide gives on average, by its annotations alone."""
    counts = []
    for section in cohort.where(domains=roles.sources, splits=["train", "val"]):
        if section.slide in own:
            table = own[section.slide]
            chosen = table.geometry.values[table["class"].isin(task.classes).to_numpy(bool)]
            extent = config.size * _downsample(section, config)
            objects = sum(object_weight(shape, extent) for shape in chosen if shape is not None)
            around = min(objects * config.per_object, config.max_per_slide)
            counts.append(around * (1 + config.negatives_per_object))
    return max(config.min_per_slide, round(float(np.mean(counts))) if counts else 0)


def _downsample(section: Section, config: PatchConfig) -> float:
    """Level-0 pixels per pixel of a patch; the slide is opened only where neither settings nor manifest tell."""
    if config.downsample is not None:
        return config.downsample
    if config.mpp and section.mpp:
        return config.mpp / section.mpp
    with open_slide(section.path) as slide:
        return working_downsample(slide, config, section.slide)


def _cut(jobs: Sequence[SlideJob], pool: OpenPool | None, retries: int, progress: Progress) -> list[CutSlide]:
    """Results in the order of the jobs."""
    by_slide = {job.section.slide: job for job in jobs}
    results: dict[str, CutSlide] = {}
    with progress.task("Cutting patches", len(jobs)) as bar:
        if pool is None or len(jobs) <= 1:
            for slide, job in by_slide.items():
                results[slide] = cut_slide(job)
                bar.advance(note=slide)
        else:
            with pool(cut_for_pool) as workers:
                for outcome in outcomes(workers, by_slide, retries=retries):
                    results[outcome.key] = outcome.result()
                    bar.advance(note=outcome.key)
    return [results[slide] for slide in by_slide]


def _write_arrays(
    results: Sequence[CutSlide], side: int, classes: Sequence[str], folder: Path, names: Sequence[str]
) -> pd.DataFrame:
    """Join the parts of all slides, ``oracle`` rows last, and write arrays and table; the parts are removed.

    Args:
        names: of the arrays, see ``store.array_names``.
    """
    counts = [f"px_{name}" for name in classes]
    table = pd.DataFrame(
        [{**row, "_part": i, "_row": j} for i, result in enumerate(results) for j, row in enumerate(result.rows)],
        columns=[*TABLE_COLUMNS, *counts, "_part", "_row"],
    )
    table = table.sort_values("kind", key=lambda kind: kind == "oracle", kind="stable", ignore_index=True)
    table = table.astype({name: "Int64" for name in ("n_objects", *counts)})
    n = max(1, len(table))  # an empty file cannot be mapped
    create = np.lib.format.open_memmap
    arrays = {
        "images": create(folder / "images.npy", "w+", np.uint8, (n, side, side, 3)),
        "own": create(folder / "labels_own.npy", "w+", np.uint8, (n, side, side)),
        "propagated": create(folder / "labels_propagated.npy", "w+", np.uint8, (n, side, side)),
    }
    more = [name for name in names if name not in arrays]
    for name in more:
        arrays[name] = create(folder / f"{name}.npy", "w+", DTYPES.get(name, np.uint8), (n, side, side))
    tissue = []
    for i, result in enumerate(results):
        with np.load(result.part, allow_pickle=False) as part:
            where = np.flatnonzero(table["_part"] == i)
            rows = table["_row"].to_numpy(int)[where]
            kinds = table["kind"].to_numpy(object)[where]
            images, labels = part["images"], part["labels"]
            arrays["images"][where] = images[rows]
            for kind, chosen in (
                ("propagated", kinds == "propagated"),
                ("own", np.isin(kinds, ["labelled", "oracle"])),
            ):
                arrays[kind][where] = np.where(chosen[:, None, None], labels[rows], IGNORED)
            for name in more:
                arrays[name][where] = part[name][rows]
            tissue.append(part["tissue"])
        result.part.unlink()
    for array in arrays.values():
        array.flush()
    np.savez(STORE_TISSUE.inside(folder), *tissue)
    table = table.drop(columns=["_part", "_row"])
    table.to_parquet(PATCHES.inside(folder), index=False)
    return table


def _write_digests(folder: Path, table: pd.DataFrame, meta: Mapping[str, Any]) -> str:
    """Write a hash of every patch; the hash of the whole content."""
    digest = hashlib.sha256(table.to_csv(index=False).encode())
    digest.update(
        json.dumps({name: meta[name] for name in ("size", "margin", "downsample", "classes")}, sort_keys=True).encode()
    )
    hashes = make_digests(
        folder, len(table), array_names(meta["weights"], bool(meta.get("details")), "annotators" in meta)
    )
    np.savez(folder / DIGESTS, **hashes)
    for rows in hashes.values():
        digest.update(rows.tobytes())
    with np.load(STORE_TISSUE.inside(folder), allow_pickle=False) as arrays:
        for name in arrays.files:
            digest.update(arrays[name].tobytes())
    return digest.hexdigest()[:24]


def _usable(out: Path, inputs: str) -> PatchStore | None:
    """The store at ``out``, where it is whole and made from the same inputs."""
    try:
        store = PatchStore.open(out)
    except StaindaError:
        return None
    return store if store.meta.get("inputs") == inputs else None


def _check_classes(cohort: Cohort, roles: Roles, task: TaskConfig, own: Shapes) -> None:
    counts: dict[str, int] = {}
    for section in cohort.where(domains=roles.sources, splits=["train"]):
        if section.slide in own:
            for name, count in own[section.slide]["class"].value_counts().items():
                counts[str(name)] = counts.get(str(name), 0) + int(count)
    for name in task.classes:
        if not counts.get(name):
            raise AnnotationError(
                f"no training slide of the source domains ({', '.join(roles.sources)}) has an object of class {name!r}",
                remedy=f"{did_you_mean(name, counts)}. Set task.classes to a class that is annotated",
            )


def _check_complete(table: pd.DataFrame, cohort: Cohort, roles: Roles, notes: list[dict[str, str]]) -> None:
    tested = {section.patient for section in cohort if section.split == "test"}
    if leaked := sorted(tested & set(table["patient"])):
        raise LeakError(f"test patient {leaked[0]!r} has patches in the store")
    for split in ("train", "val"):
        if not ((table["kind"] == "labelled") & (table["split"] == split)).any():
            reasons = "; ".join(
                f"{note['slide']}: {note['reason']}" for note in notes if note["kind"] in ("labelled", "all")
            )
            raise AnnotationError(
                f"no labelled {split} patch could be cut from the source domains ({', '.join(roles.sources)})"
                + (f": {reasons}" if reasons else ""),
                file=cohort.source,
                remedy="Check annotations and tissue of these slides, or lower patches.size or patches.min_tissue. "
                "Patches are too large or too small where a pixel size is wrong: check the manifest's column mpp",
            )


def _replace_folder(new: Path, out: Path) -> None:
    """Give a finished folder its name; an older store there is moved away first, then removed."""
    old = new.with_name(f"{new.name}-old")
    with output_errors(out):
        shutil.rmtree(old, ignore_errors=True)
        if out.exists():
            out.rename(old)
        new.rename(out)
    shutil.rmtree(old, ignore_errors=True)
