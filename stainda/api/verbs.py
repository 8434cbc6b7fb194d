"""The verbs of ``import stainda as st``, in the order of the work."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stainda.api.registration import Propagation, Registration
from stainda.api.run import Run
from stainda.api.scripts import check_main_guard
from stainda.api.showing import chosen_progress

if TYPE_CHECKING:
    import geopandas as gpd

    from stainda.cohort import Cohort
    from stainda.progress import Progress

Stage = Literal["cohort", "register", "propagate", "patches", "train", "evaluate", "report"]
Origin = Literal["auto", "level0", "bounds"]


def read_manifest(
    path: str | Path,
    data: str | Path | None = None,
    *,
    domain_keys: Sequence[str] = ("stain", "centre"),
    check_files: bool = True,
) -> Cohort:
    """Read a manifest: one row per slide (data_manifests/README.md has the columns).

    Args:
        path: the CSV file, UTF-8 and comma-separated.
        data: the folder that relative paths start from; default: the manifest's own folder.
        domain_keys: the columns that together name a domain.
        check_files: whether slides, annotations and landmarks must exist.

    Returns:
        The cohort; ``cohort.to_frame()`` is the table.

    Raises:
        ManifestError: the manifest has faults; all of them, each with its row and what to do.
        LeakError: the only faults are patients or files in two splits.

    Example:
        >>> cohort = st.read_manifest("mine.csv")
        >>> cohort.to_frame()[["slide", "patient", "domain", "mpp"]].head(2)
            slide patient domain  mpp
        0  P0_PAS      P0  PAS@A  2.0
        1   P0_SR      P0   SR@A  2.0
    """
    from stainda import cohort

    return cohort.read_manifest(path, data, domain_keys, check_files)


def phantom(
    out: str | Path,
    *,
    patients: int = 8,
    stains: Sequence[str] = ("PAS", "JONES", "SR", "CD68"),
    centres: Sequence[str] = ("A", "B"),
    size: int = 2048,
    workers: int | None = None,
    progress: bool | Progress | None = None,
    **settings: Any,
) -> Cohort:
    """Make a synthetic kidney cohort with known truth, and read its manifest.

    Args:
        out: the folder to write to: ``manifest.csv``, slides, annotations, landmarks, deformations.
        patients: each belongs to one centre. stains: one section per stain, in this order.
        centres: each with its own scanner and staining.
        size: width and height of a section, level-0 pixels.
        workers: processes side by side; default: the free cores. With more than one, a script needs
            ``if __name__ == "__main__":`` around its calls.
        progress: ``None``: a bar in notebooks; ``True``: also elsewhere; ``False``: nothing.
        settings: further ones of a study's section ``phantom`` (``mpp`` in micrometres per level-0 pixel,
            ``difficulty``, ``artefacts``, ``seed`` …).

    Returns:
        The cohort.

    Raises:
        ConfigError: a setting is wrong, or a stain unknown.
        StaindaError: the folder holds another cohort, or cannot be written to.

    Example:
        >>> cohort = st.phantom("phantom", patients=1, stains=("PAS", "SR"), centres=("A",), size=256, workers=1)
        >>> cohort
        Cohort(manifest.csv: 2 sections, 1 block, 1 patient, domains PAS@A, SR@A)
    """
    from stainda.study.steps import make_phantom

    if workers != 1:
        check_main_guard("phantom")
    values = {"patients": patients, "stains": tuple(stains), "centres": tuple(centres), "size": size, **settings}
    return read_manifest(make_phantom(out, values, workers=workers, progress=chosen_progress(progress)))


def read_shapes(
    path: str | Path, slide: str | Path | None = None, *, origin: Origin = "auto", mpp: float | None = None
) -> gpd.GeoDataFrame:
    """Read annotations of any format (docs/reference/formats.md), repaired.

    Args:
        path: QuPath GeoJSON, ASAP, NDPA …; the format is recognised by looking into the file.
        slide: the slide they belong to. Some formats cannot be placed without it; with it, shapes outside the slide
            are dropped, those across its edge are clipped, and shapes that lie on glass are an error.
        origin: where the file's coordinates begin: at the corner of the slide (``level0``) or of its scanned part
            (``bounds``); ``auto``: as the file says, or as its format's programs count.
        mpp: micrometres per level-0 pixel, where the slide does not say.

    Returns:
        One row per shape in level-0 pixels of the slide (x right, y down): ``geometry``, ``class``, ``name``, ``id``,
        ``score`` and ``confidence`` (NaN: not known), ``source_slide``, ``properties``. What was mended or dropped is
        in ``shapes.attrs["changes"]``, a row each with ``id``, ``class``, ``action`` and ``reason``.

    Raises:
        AnnotationError: the file is broken or of no known format, cannot be placed without the slide, or lies on glass.
        SlideError: the slide cannot be opened.

    Example:
        >>> shapes = st.read_shapes("slides/P0_PAS.geojson", slide="slides/P0_PAS.png")
        >>> shapes["class"].value_counts().to_dict(), shapes.attrs["changes"]
        ({'glomerulus': 4}, [])
    """
    from stainda.annotations import as_origin, load_shapes_of

    shapes, changes = load_shapes_of(path, slide, as_origin(origin), mpp)
    shapes.attrs["changes"] = changes
    return shapes


def register(
    cohort: Cohort | str | Path,
    out: str | Path | None = None,
    *,
    data: str | Path | None = None,
    workers: int | None = None,
    progress: bool | Progress | None = None,
    **settings: Any,
) -> Registration:
    """Register the sections of every block, and check every pair instead of trusting it.

    Blocks that are finished in the run directory are kept.

    Args:
        cohort: a cohort, a manifest, or a study file, whose settings then hold where no others are given.
        out: the run directory. A study has one (``runs/<its name>``); a cohort or manifest needs it.
        data: the folder that a manifest's paths are relative to.
        workers: blocks side by side; default: the free cores.
        progress: ``None``: a bar in notebooks; ``True``: also elsewhere; ``False``: nothing.
        settings: of a study's section ``registration`` (docs/concepts/registration.md): ``method`` (``valis``,
            ``identity`` for sections that are aligned already, ``import``), ``detector``, ``reference``, ``max_dim``
            (longest side of the matched image, pixels), ``nonrigid``, ``imports`` (a table of transforms made
            elsewhere), ``from_run`` (a run directory whose blocks are taken over).

    Returns:
        The registration: its ``quality``, and the transform of every section.

    Raises:
        ManifestError, ConfigError: the manifest, the study or a setting is wrong.
        StaindaError: no run directory was named, or another process works in it.

    A section that cannot be registered is no error: it is refused, and ``quality`` says why.

    Example:
        >>> cohort = st.read_manifest("mine.csv")
        >>> registration = st.register(cohort, out="runs/registered", method="identity")
        >>> registration.quality["status"].value_counts().to_dict()
        {'registered': 5}
    """
    from stainda.study import steps

    root, _ = steps.register(cohort, out, settings, data=data, workers=workers, progress=chosen_progress(progress))
    return Registration(root, cohort)


def propagate(
    given: Registration | Cohort | str | Path,
    out: str | Path | None = None,
    *,
    sources: str | Sequence[str] = (),
    classes: str | Sequence[str] = (),
    data: str | Path | None = None,
    progress: bool | Progress | None = None,
    **settings: Any,
) -> Propagation:
    """Propagate annotations to the other sections of their blocks, each object with a confidence.

    Args:
        given: what :func:`register` returned; or a cohort or manifest that is registered in ``out``, or a study file,
            of which what is missing before is done.
        out: the run directory, as for :func:`register`.
        sources: stains whose annotations are propagated; default: all annotated, of a study its source domains.
        classes: classes to propagate; default: all.
        data: the folder that a manifest's paths are relative to.
        progress: ``None``: a bar in notebooks; ``True``: also elsewhere; ``False``: nothing.
        settings: further ones of a study's section ``propagation`` (docs/concepts/propagation.md).

    Returns:
        The labels by slide, in level-0 pixels of the slide; ``labels.table`` says what was dropped and why.

    Raises:
        StaindaError: nothing is registered there, or no section is annotated with what was requested.
        ConfigError: a setting is wrong.

    Example:
        >>> registration = st.register(st.read_manifest("mine.csv"), out="runs/registered", method="identity")
        >>> labels = st.propagate(registration, sources="PAS", classes="glomerulus")
        >>> list(labels)[:2], len(labels["P0_SR"])
        (['P0_SR', 'P1_SR'], 4)
    """
    from stainda.study import steps

    if isinstance(given, Registration):
        out = given.folder
    known = given.known() if isinstance(given, Registration) else given
    changes = {"sources": _words(sources), "classes": _words(classes)}
    changes = {**{name: value for name, value in changes.items() if value}, **settings}
    root, _ = steps.propagate(known, out, changes, data=data, progress=chosen_progress(progress))
    return Propagation(root)


def run(
    study: str | Path,
    *overrides: str,
    out: str | Path | None = None,
    data: str | Path | None = None,
    until: Stage = "report",
    progress: bool | Progress | None = None,
) -> Run:
    """Run a study from its manifest to its report, or what is missing of it.

    It can be interrupted at any moment; the same call goes on where it stopped. In a script, call it below
    ``if __name__ == "__main__":``: trainings run in processes of their own.

    Args:
        study: a study file.
        overrides: ``key=value`` changes to it, as the command takes them: ``"training.epochs=2"``.
        out: the run directory; default: ``runs/<name of the study>``.
        data: the folder that the manifest's paths are relative to.
        until: the last stage to run.
        progress: ``None``: bars in notebooks; ``True``: also elsewhere; ``False``: nothing.

    Returns:
        The run. Trainings that failed are reported by a warning, and are in ``run.failures``.

    Raises:
        StaindaError: something that the message names has to be mended first; what is complete is kept.

    Example:
        >>> run = st.run("studies/mine.yaml", "training.epochs=1", out="runs/planned", until="cohort")
        >>> run.cohort["role"].value_counts().to_dict()
        {'source': 5, 'target': 5}
    """
    from stainda.study import run_study

    check_main_guard("run")
    folder = run_study(study, out, overrides=overrides, data=data, until=until, progress=chosen_progress(progress))
    finished = Run(folder)
    if finished.failures:
        warnings.warn("\n".join(finished.failures), stacklevel=2)
    return finished


def load_run(folder: str | Path) -> Run:
    """Read a run directory; also one in work, one that was interrupted, and one rotation of a study.

    Raises:
        StaindaError: it is no run directory.

    Example:
        >>> st.load_run("runs/mine").results.columns[:3].tolist()
        ['strategy', 'stain', 'centre']
    """
    return Run(folder)


def predict(
    run: Run | str | Path,
    slides: Cohort | str | Path | Sequence[str | Path],
    out: str | Path = "predictions",
    *,
    strategy: str | None = None,
    job: str | None = None,
    seed: int | None = None,
    checkpoint: str | None = None,
    stain: str | None = None,
    centre: str | None = None,
    mpp: float | None = None,
    threshold: float | None = None,
    maps: bool = False,
    overlay: bool = False,
    to_origin: Origin = "auto",
    data: str | Path | None = None,
    coarse: Run | str | Path | None = None,
    coarse_share: float = 0.3,
    overwrite: bool = False,
    progress: bool | Progress | None = None,
) -> gpd.GeoDataFrame:
    """Find objects on slides with a trained network of a run; what was predicted before in the same way is kept.

    Args:
        run: a run, a run directory, or the folder of a job in one.
        slides: slides, folders of slides and manifests, or a cohort.
        out: the folder to write to: QuPath GeoJSON, tables of objects and of slides (docs/howto/prediction.md).
        strategy: default: the one that the report names first, chosen without target labels.
        job, seed, checkpoint: another training of it; default: the best on source validation.
        stain, centre: of the slides, where no manifest tells.
        mpp: micrometres per level-0 pixel, where neither manifest nor slide tells.
        threshold: in place of those fixed on source validation.
        maps, overlay: also write the probabilities as OME-TIFF, and a picture with the outlines.
        to_origin: where the coordinates of the written GeoJSON begin; ``auto``: as QuPath counts.
        data: the folder that a manifest's paths are relative to.
        coarse: coarse to fine: a run, or a job's folder, whose detector says where to look.
        coarse_share: look where it reaches this share of its own threshold.
        overwrite: predict again what was predicted before.
        progress: ``None``: bars in notebooks; ``True``: also elsewhere; ``False``: nothing.

    Returns:
        One row per object in level-0 pixels of its slide (x right, y down), whatever ``to_origin`` is: ``slide``, then
        the columns of :func:`read_shapes`. ``shapes.attrs`` has the ``strategy``, the ``job`` and the folder ``out``.

    Raises:
        StaindaError: there is no such strategy, job or slide; or some slides could not be used. The message has the
            reason of each, and the others are complete: called again without those, they are read and not predicted.

    Example:
        >>> slides = st.read_manifest("mine.csv").where(domains=["SR@A"])
        >>> shapes = st.predict(st.load_run("runs/mine"), slides, strategy="source_only")
        >>> shapes.columns[:3].tolist(), shapes.attrs["strategy"]
        (['slide', 'geometry', 'class'], 'source_only')
    """
    from stainda.annotations import as_origin
    from stainda.cohort import Cohort
    from stainda.prediction import Wanted
    from stainda.study.predicting import predict_slides

    done = predict_slides(
        run.folder if isinstance(run, Run) else run,
        [slides] if isinstance(slides, (str, Path, Cohort)) else slides,
        out, strategy=strategy, job=job, seed=seed, checkpoint=checkpoint, stain=stain, centre=centre, data=data,
        mpp=mpp, threshold=threshold, wanted=Wanted(maps, overlay, as_origin(to_origin)), overwrite=overwrite,
        coarse=coarse.folder if isinstance(coarse, Run) else coarse, coarse_share=coarse_share,
        progress=chosen_progress(progress),
    )  # fmt: skip
    done.check()
    shapes = done.shapes()
    shapes.attrs |= {"strategy": done.choice.strategy, "job": str(done.choice.folder), "out": str(out)}
    return shapes


def _words(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)
