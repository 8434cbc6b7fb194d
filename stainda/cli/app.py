"""The commands of ``stainda``, in the order of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stainda.cli import manifest
from stainda.cli.active import active
from stainda.cli.annotations import app as annotations_app
from stainda.cli.cluster import Scheduler, cluster
from stainda.cli.dashboard import dashboard
from stainda.cli.display import Commands, ConsoleProgress, Quiet, console, show_table, silence
from stainda.cli.init import init
from stainda.cli.listing import list_
from stainda.cli.microenvironment import microenvironment
from stainda.cli.plan import plan
from stainda.cli.predict import predict
from stainda.cli.report import compare, plot
from stainda.cli.reproduce import reproduce
from stainda.cli.review import review
from stainda.cli.schema import schema
from stainda.cli.soup import soup
from stainda.cli.status import status
from stainda.cli.transforms import app as transforms_app
from stainda.cli.weights import app as weights_app
from stainda.cli.worker import worker
from stainda.run_directory.result_tables import RESULTS
from stainda.run_directory.tables import PROPAGATION, QUALITY
from stainda.run_directory.training_tables import TRIALS

app = typer.Typer(
    name="stainda",
    cls=Commands,
    help="Labels in one stain from one hospital: will the detector work elsewhere, and which training gets it there?",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
    epilog="Add --debug to any command to see the traceback of an error.",
)
app.add_typer(manifest.app, name="manifest")
app.add_typer(annotations_app, name="annotations")
app.add_typer(transforms_app, name="transform")
app.add_typer(weights_app, name="weights")

app.command()(init)

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="A study file, see studies/ for examples.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the study, e.g. training.epochs=2")
]
Out = Annotated[Path | None, typer.Option("--out", help="Run directory. Default: runs/<name of the study>.")]
Data = Annotated[Path | None, typer.Option("--data", help="Folder that the manifest's paths are relative to.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Processes side by side. Default: free cores.")]


def _version(show: bool) -> None:
    if show:
        from stainda.version import VERSION

        console.print(f"stainda {VERSION}", highlight=False)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    silence(False)


def _run(
    study: Path, overrides: list[str] | None, out: Path | None, data: Path | None, quiet: bool, until: Any, **more: Any
) -> Path:
    from stainda.study import run_study

    progress = ConsoleProgress(quiet)
    return run_study(study, out, overrides=overrides or (), data=data, until=until, progress=progress, **more)


@app.command()
def run(
    *,
    study: StudyFile,
    overrides: Overrides = None,
    out: Out = None,
    data: Data = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    force: Annotated[
        bool, typer.Option("--force", help="Go on where trainings were made with other versions of packages.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Run a study from its manifest to its report, or what is missing of it.

    It can be interrupted at any moment; the same command goes on where it stopped.

    Examples:

    - `stainda run studies/quickstart.yaml`
    - `stainda run studies/quickstart.yaml training.epochs=2 'strategies=[source_only,dann]' --out runs/short`
    - `stainda run studies/rat_kidney.yaml --data ../shared/data`
    - `stainda run studies/quickstart.yaml --workers 4`; `stainda worker runs/quickstart` joins from elsewhere
    - `stainda run studies/quickstart.yaml --scheduler tcp://10.0.0.1:8786` on the workers of a Dask cluster
    """
    from stainda.study.ending import closing_lines

    more = [] if workers is None else [f"workers={workers}"]
    more += [] if scheduler is None else ["engine.name=dask", f"engine.scheduler={scheduler}"]
    for line in closing_lines(_run(study, [*(overrides or ()), *more], out, data, quiet, "report", force=force)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@app.command()
def phantom(
    *,
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the cohort is written.")],
    patients: Annotated[int, typer.Option(min=1, help="Patients; each belongs to one centre.")] = 8,
    stains: Annotated[str, typer.Option(help="One section per stain, in this order.")] = "PAS,JONES,SR,CD68",
    centres: Annotated[str, typer.Option(help="Centres, each with its own scanner and staining.")] = "A,B",
    size: Annotated[int, typer.Option(min=256, help="Width and height of a section in pixels.")] = 2048,
    mpp: Annotated[float, typer.Option(help="Micrometres per pixel at the first centre.")] = 0.5,
    gap: Annotated[int, typer.Option(min=0, help="Sections discarded between two kept ones.")] = 0,
    difficulty: Annotated[float, typer.Option(help="Scales deformation and differences between centres.")] = 1.0,
    artefacts: Annotated[str, typer.Option(help="Any of mirror,tear,fold,bubble,pen,blank.")] = "",
    seed: Annotated[int, typer.Option(help="The same seed makes the same cohort.")] = 1,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Make a synthetic kidney cohort with known truth: slides, annotations, landmarks, deformations, manifest.

    Example: `stainda phantom out/ --patients 4 --stains PAS,JONES,SR,CD68 --centres A,B --size 2048 --seed 1`
    """
    from stainda.study.steps import make_phantom

    values = {
        "patients": patients, "stains": _words(stains), "centres": _words(centres), "size": size, "mpp": mpp,
        "gap_sections": gap, "difficulty": difficulty, "artefacts": _words(artefacts), "seed": seed,
    }  # fmt: skip
    path = make_phantom(out, values, workers=workers, progress=ConsoleProgress(quiet))
    console.print(f"manifest: {path}", highlight=False, soft_wrap=True)


@app.command()
def register(
    *,
    given: Annotated[Path, typer.Argument(metavar="STUDY.yaml|MANIFEST.csv")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Run directory. Default: runs/<name of the study>; a manifest needs one."),
    ] = None,
    data: Data = None,
    detector: Annotated[
        str | None, typer.Option(help="kaze_extended (default), kaze, vgg, daisy, disk_lightglue")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="auto (default), first, or the name of a slide or stain.")
    ] = None,
    max_dim: Annotated[
        int | None, typer.Option(min=128, help="Longest side of the image that is matched, pixels. Default: 512.")
    ] = None,
    rigid_only: Annotated[bool, typer.Option("--rigid-only", help="No non-rigid step.")] = False,
    imports: Annotated[
        Path | None, typer.Option("--imports", metavar="TABLE.csv", help="Transforms made elsewhere, instead of VALIS.")
    ] = None,
    from_run: Annotated[
        Path | None,
        typer.Option("--from", metavar="RUN", help="Take over blocks registered in this run directory."),
    ] = None,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Register the sections of every block with VALIS; every pair is checked, see registration/quality.csv.

    A study's own settings hold where no option is given.

    Examples:

    - `stainda register mine.csv --out runs/mine`
    - `stainda register studies/quickstart.yaml`
    - `stainda register mine.csv --out runs/second --from runs/mine`
    """
    from stainda.study.steps import register as register_given

    values: dict[str, Any] = {
        "detector": detector, "reference": reference, "max_dim": max_dim, "imports": imports, "from_run": from_run,
        "nonrigid": False if rigid_only else None,
    }  # fmt: skip
    values = {name: value for name, value in values.items() if value is not None}
    root, quality = register_given(given, out, values, data=data, workers=workers, progress=ConsoleProgress(quiet))
    show_table(
        str(QUALITY.at(root)),
        ("block", "source", "target", "status", "matches", "TRE px", "reason"),
        [
            (row.block, row.source, row.target, row.status, row.n_matches, row.tre_nonrigid_px, row.reason)
            for row in quality.fillna("").itertuples()
        ],
    )


@app.command()
def propagate(
    given: Annotated[Path, typer.Argument(metavar="STUDY.yaml|MANIFEST.csv")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Run directory. Default: runs/<name of the study>; a manifest needs one."),
    ] = None,
    sources: Annotated[
        str, typer.Option("--from", help="Stains whose annotations are propagated; default: all annotated.")
    ] = "",
    classes: Annotated[str, typer.Option("--classes", help="Classes to propagate; default: all.")] = "",
    data: Data = None,
    quiet: Quiet = False,
) -> None:
    """Propagate annotations to the other sections of their blocks; annotations/propagation.csv says what was dropped.

    A manifest is registered first (`stainda register`); of a study, what is missing before is done. The result can be
    looked at with `stainda review RUN`.

    Examples:

    - `stainda propagate mine.csv --out runs/mine --from PAS --classes glomerulus`
    - `stainda propagate studies/quickstart.yaml`
    """
    from stainda.study.steps import propagate as propagate_given

    values = {name: _words(text) for name, text in (("classes", classes), ("sources", sources)) if text}
    root, table = propagate_given(given, out, values, data=data, progress=ConsoleProgress(quiet))
    counts = table.groupby(["source", "target", "status"], as_index=False).size()
    show_table(str(PROPAGATION.at(root)), ("source", "target", "status", "objects"), counts.values.tolist())


app.command()(microenvironment)


@app.command()
def patches(
    study: StudyFile, overrides: Overrides = None, out: Out = None, data: Data = None, quiet: Quiet = False
) -> None:
    """Cut the patches of a study (and do what must come before, where it is missing).

    Example: `stainda patches studies/quickstart.yaml --out runs/quickstart`
    """
    console.print(f"patches: {_run(study, overrides, out, data, quiet, 'patches') / 'patches'}", highlight=False)


@app.command()
def train(
    study: StudyFile, overrides: Overrides = None, out: Out = None, data: Data = None, quiet: Quiet = False
) -> None:
    """Search and train the strategies of a study (and do what must come before, where it is missing).

    Example: `stainda train studies/quickstart.yaml 'strategies=[source_only,dann]'`
    """
    console.print(f"trials: {TRIALS.at(_run(study, overrides, out, data, quiet, 'train'))}", highlight=False)


@app.command()
def evaluate(
    study: StudyFile, overrides: Overrides = None, out: Out = None, data: Data = None, quiet: Quiet = False
) -> None:
    """Score the trained jobs of a study and write records.parquet and results.csv.

    Example: `stainda evaluate studies/quickstart.yaml`
    """
    console.print(f"results: {RESULTS.at(_run(study, overrides, out, data, quiet, 'evaluate'))}", highlight=False)


@app.command()
def report(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    pdf: Annotated[bool, typer.Option("--pdf", help="Also write report/report.pdf.")] = False,
    quiet: Quiet = False,
) -> None:
    """Make the report page again from the records of a run; nothing is trained or registered.

    Next to the page: every table as CSV, Markdown and LaTeX, every figure as SVG, PNG and CSV, and the model cards.

    Example: `stainda report runs/quickstart --pdf`
    """
    from stainda.study.steps import report_run

    page = report_run(run_folder, pdf=pdf, progress=ConsoleProgress(quiet))
    console.print(f"report: {page}", highlight=False, soft_wrap=True)


app.command()(plot)
app.command()(compare)


app.command()(review)
app.command()(active)
app.command()(plan)
app.command()(status)
app.command()(dashboard)
app.command()(worker)
app.command()(cluster)
app.command()(reproduce)


app.command()(predict)
app.command()(soup)


app.command("list")(list_)
app.command()(schema)


@app.command()
def doctor(
    imports: Annotated[
        bool,
        typer.Option(
            "--imports",
            help="Also import the large packages (torch, timm, ...), and ask torch for the GPU; takes 15 s. Without it "
            "they only have to be installed.",
        ),
    ] = False,
) -> None:
    """What is installed, which weights are found, GPU, what is missing and what that costs.

    Ends with status 1 when something is broken.

    Examples:

    - `stainda doctor`
    - `stainda doctor --imports` where something is installed and still does not work
    """
    from stainda.study import examine

    findings = examine(imports)
    show_table("", ("", "state", ""), [(finding.thing, finding.state, finding.detail) for finding in findings])
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
