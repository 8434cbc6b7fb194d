"""A synthetic cohort as files: slides, annotations, landmarks, truth, and the manifest that names them."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from stainda.config import PhantomConfig
from stainda.errors import StaindaError
from stainda.files import load_json, stable_hash, write_csv, write_json
from stainda.names import file_name
from stainda.phantom.section import RenderedSection, SectionPlan, plan_sections
from stainda.phantom.structures import StructureMap
from stainda.phantom.truth import write_law, write_truth
from stainda.progress import SILENT, Progress
from stainda.run_directory.contents import PHANTOM_MANIFEST
from stainda.run_directory.tables import MANIFEST, PHANTOM_ARTEFACTS

MANIFEST_COLUMNS = MANIFEST.without("annotation_origin", "group")
LATER = (
    "groups",
    "macrophage_law",
    "sclerotic_shares",
    "annotated",
    "positive_tubules",
    "annotators",
    "annotated_at",
    "touching",
    "contact_depth",
    "medulla",
)
"""Settings that cohorts of earlier versions do not have; left out of what is written down where they are not used."""
VERSION = 1  # raised when the same configuration renders differently, so that an old folder is not continued

OUTLINES = 2
"""The same of outlines of tubules and vessels, for cohorts that have them on slides finer than their map."""


def make_cohort(config: PhantomConfig, out: str | Path, progress: Progress = SILENT, workers: int = 1) -> Path:
    """Make a synthetic cohort in the folder ``out`` and return the path of its ``manifest.csv``.

    Writes ``slides/<slide>.tif``, ``annotations/<slide>.geojson`` (glomeruli, and what is ``annotated``),
    ``annotations/<annotator>/<slide>.geojson`` (of simulated annotators, which the manifest then names),
    ``macrophages/<slide>.geojson`` (points), ``landmarks/<slide>.csv``, ``truth/<slide>.npz`` (see
    :func:`stainda.phantom.true_map`) and ``artefacts.csv``; where macrophages follow a law, ``law.csv`` (rates by
    section and zone) and ``attraction.csv`` (factor of each glomerulus). Sections that are there from an interrupted
    run with the same configuration are kept.

    Args:
        config: what to make; everything follows from it and its seed.
        out: the folder, made where it is missing.
        progress: informed of every section.
        workers: processes side by side.

    Raises:
        ConfigError: a stain is unknown.
        StaindaError: the folder holds another cohort, or cannot be written to.
    """
    out = Path(out)
    plans = plan_sections(config)
    _claim(config, out)
    todo = [plan for plan in plans if not _finished(plan, out)]
    with progress.task("Making sections", total=len(plans)) as task:
        task.advance(len(plans) - len(todo), earlier=True)
        if workers <= 1 or len(todo) <= 1:
            for plan in todo:
                _make_section(plan, out)
                task.advance(1, plan.slide)
        else:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(min(workers, len(todo)), mp_context=context) as pool:
                futures = {pool.submit(_make_section, plan, out): plan for plan in todo}
                for future in as_completed(futures):
                    future.result()
                    task.advance(1, futures[future].slide)
    write_csv(
        PHANTOM_ARTEFACTS.inside(out),
        [{"slide": plan.slide, "artefact": name} for plan in plans for name in plan.artefacts],
        ("slide", "artefact"),
    )
    if config.macrophage_law is not None:
        write_law(plans, out)
    columns = (*MANIFEST_COLUMNS, "group") if config.groups else MANIFEST_COLUMNS
    rows = [{name: value for name, value in _manifest_row(plan).items() if name in columns} for plan in plans]
    return write_csv(PHANTOM_MANIFEST.inside(out), rows, columns)


def _make_section(plan: SectionPlan, out: Path) -> None:
    """Render one section; its truth file comes last and says that the section is whole."""
    section = RenderedSection(plan)
    section.write(out / "slides" / f"{file_name(plan.slide)}.tif")
    write_truth(section, out)


def _finished(plan: SectionPlan, out: Path) -> bool:
    name = file_name(plan.slide)
    return (out / "truth" / f"{name}.npz").is_file() and (out / "slides" / f"{name}.tif").is_file()


def _claim(config: PhantomConfig, out: Path) -> None:
    """Write down what the folder holds, or refuse to mix two cohorts in it."""
    given = config.model_dump(mode="json")
    settings = {"version": VERSION, **{name: value for name, value in given.items() if value or name not in LATER}}
    drawn = {"tubules", "vessels"} & {*config.annotated}
    if drawn and any(StructureMap.step_of(plan.centre.mpp) > 1 for plan in plan_sections(config)):
        settings["structures"] = OUTLINES
    mark = out / "phantom.json"
    if mark.is_file() and stable_hash(_read_json(mark)) != stable_hash(settings):
        raise StaindaError(
            "this folder holds a synthetic cohort made with other settings",
            file=out,
            remedy="Name another folder, or remove it",
        )
    write_json(mark, settings)


def _read_json(path: Path) -> object:
    return load_json(path)


def _annotations(plan: SectionPlan) -> str:
    """The true outlines, or a file of each annotator."""
    folders = [f"annotations/{file_name(name)}" for name, _ in plan.annotators] or ["annotations"]
    return ";".join(f"{folder}/{file_name(plan.slide)}.geojson" for folder in folders)


def _manifest_row(plan: SectionPlan) -> dict[str, object]:
    return {
        "slide": plan.slide, "patient": plan.patient, "block": plan.block, "section": plan.number, "stain": plan.stain,
        "centre": plan.centre.name, "scanner": plan.centre.scanner, "path": f"slides/{file_name(plan.slide)}.tif",
        "annotations": _annotations(plan),
        "landmarks": f"landmarks/{file_name(plan.slide)}.csv",
        "mpp": None, "split": None, "group": plan.group,
    }  # fmt: skip
