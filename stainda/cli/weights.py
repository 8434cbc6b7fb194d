"""``stainda weights``: published encoders: which are here, files of other libraries converted, a file checked."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stainda.cli.display import console, show_table

if TYPE_CHECKING:
    from stainda.models.known_weights import KnownWeights

app = typer.Typer(
    help="Published encoders: which are here, files of other libraries converted, a file checked.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Model = Annotated[
    str | None, typer.Option("--model", help="The model whose weights they are; 'stainda weights list' names them.")
]


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="One of them, with all that is known.")] = None,
) -> None:
    """Every model with published weights: whether its file is here, its licence, and how it is got.

    stainda downloads nothing. Files are looked for in the folders of STAINDA_WEIGHTS, in weights/ here, and in
    ~/.cache/stainda/weights.

    Examples:

    - `stainda weights list`
    - `stainda weights list uni`
    """
    from stainda.models.known_weights import known_model, known_weights
    from stainda.models.weight_files import weights_folders

    if name is not None:
        _whole(known_model(name))
        return
    known = known_weights()
    rows = [
        (
            entry.name,
            entry.file or f"missing ({entry.file_name})",
            _scale(entry),
            entry.facts.licence,
            entry.facts.access,
        )
        for entry in known
    ]
    show_table("", ("model", "file", "µm per pixel", "licence of the weights", "access"), rows)
    _say(f"\nlooked for in {', '.join(str(folder) for folder in weights_folders())}")
    _say("how one is got: stainda weights list MODEL; in a study: model: MODEL")


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A .bin, .pt, .pth or .safetensors file.")],
    model: Model = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="File to write, NAME.safetensors. Default: where the model looks for it, or next to FILE."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file to write where there is one.")] = False,
) -> None:
    """Make a safetensors file with timm's names of a published one, which stays as it is.

    Only tensors are read: a file that holds anything else is refused, and nothing in it is run. With --model, names and
    shapes are compared with the architecture before anything is written. Understood are files of timm, DINOv2, the
    Dinov2 of transformers, and vision towers on timm (CONCH, OpenCLIP).

    Examples:

    - `stainda weights convert pytorch_model.bin --model uni`
    - `stainda weights convert model.safetensors --model phikon_v2`
    - `stainda weights convert resnet.pth --out weights/resnet.safetensors`
    """
    from stainda.models.conversion import convert as make
    from stainda.models.known_weights import known_model
    from stainda.models.weight_files import weights_folders
    from stainda.names import with_ending

    known = None if model is None else known_model(model)
    if out is None:
        out = weights_folders()[0] / known.file_name if known else with_ending(source, ".safetensors")
    converted = make(source, out, known, replace=force)
    _say(f"{converted.target}: {converted.tensors} tensors, {converted.numbers / 1e6:.1f} million numbers")
    _say(f"from {converted.source}, {converted.found} tensors ({converted.form})")
    _say(f"SHA-256 {converted.sha256}")
    if known is not None:
        _say(f"in a study: model: {known.name}; licence of the weights: {known.facts.licence}")


@app.command()
def check(
    given: Annotated[
        str | None, typer.Argument(metavar="[FILE|MODEL]", help="Default: every model whose file is here.")
    ] = None,
    model: Model = None,
) -> None:
    """Check weights: fingerprint, tensors against the architecture, a forward pass, mean and standard deviation.

    Ends with status 1 when something is wrong.

    Examples:

    - `stainda weights check`
    - `stainda weights check efficientnet_lite0`
    - `stainda weights check weights/tf_efficientnet_lite0.safetensors --model efficientnet_lite0`
    """
    from stainda.models.weight_checks import check_weights

    wrong = False
    for known, file in _asked(given, model):
        checks = check_weights(known, file)
        wrong = wrong or any(check.state == "wrong" for check in checks)
        _say(f"{known.name}: {file}")
        show_table("", ("", "state", ""), [(check.what, check.state, check.detail) for check in checks])
    if wrong:
        raise typer.Exit(1)


def _asked(given: str | None, model: str | None) -> list[tuple[KnownWeights, Path]]:
    from stainda.errors import ConfigError
    from stainda.models.known_weights import known_model, known_weights
    from stainda.models.weight_files import find_weights, weights_folders

    if given is None and model is None:
        with_file = [(weights, weights.file) for weights in known_weights() if weights.file is not None]
        if not with_file:
            folders = ", ".join(str(folder) for folder in weights_folders())
            raise ConfigError(
                f"no weights are in {folders}",
                remedy="'stainda weights list' says which there are and how they are got",
            )
        return with_file
    file = Path(given) if given is not None else None
    if file is not None and not file.is_file() and (model is not None or _is_path(file)):
        raise ConfigError("there is no such file", file=file, remedy="Check the path")
    if file is not None and file.is_file():
        named = [
            weights
            for weights in known_weights()
            if model == weights.name or (model is None and weights.file_name == file.name)
        ]
        if not named:
            raise ConfigError(
                "is not the file of a known model", file=file, remedy="Name the model whose it is with --model"
            )
        return [(named[0], file)]
    known = known_model(str(model or given))
    assert known.config.weights is not None
    return [(known, find_weights(known.config.weights, source=known.config.weights_source))]


def _is_path(file: Path) -> bool:
    """Whether it names a file, and no model."""
    return len(file.parts) > 1 or "." in file.name


@app.command()
def compare(
    study: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="A study file, see studies/ for examples.")],
    encoders: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ENCODER]...",
            help="MODEL (its own file), MODEL@random, MODEL@FILE, or 'study' for the study's network. "
            "Default: study study@random.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run directory. Default: runs/<name of the study>.")] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder that the manifest's paths are relative to.")
    ] = None,
) -> None:
    """Compare encoders on a study's patches: do their features tell the tissue, or the centre and the stain?

    Robustness index and performance drop after PathoROB (docs/howto/robustness.md), as a table, a CSV and a figure in
    encoders/ of the run directory; the report shows the table. Nothing is trained. Annotations of all domains are read.

    Examples:

    - `stainda weights compare studies/mine/mine.yaml`
    - `stainda weights compare studies/mine/mine.yaml uni resnet50 resnet50@random uni@ours.safetensors`
    """
    import pandas as pd

    from stainda.cli.display import ConsoleProgress
    from stainda.config import load_study
    from stainda.report.encoder_figures import described, robustness_figure
    from stainda.study.encoders import compare_encoders

    root, frame = compare_encoders(load_study(study, (), data), out, encoders or (), ConsoleProgress())
    columns = ("encoder", "start", "against", "robustness_index", "chance", "balanced_accuracy", "performance_drop")
    show_table("", columns, [tuple("" if pd.isna(row[name]) else row[name] for name in columns)
                             for row in frame.to_dict("records")])  # fmt: skip
    figure = robustness_figure(frame)
    for ending in ("svg", "png"):
        figure.savefig(root / "encoders" / f"robustness.{ending}", bbox_inches="tight", dpi=200)
    _say(described(frame))
    _say(f"{root / 'encoders'}: robustness.csv, .svg, .png")


def _whole(known: KnownWeights) -> None:
    facts, config = known.facts, known.config
    rows = [
        ("name in a study", known.name),
        (
            "file",
            known.file or f"missing: {known.file_name}, looked for at {', '.join(str(path) for path in known.looked)}",
        ),
        ("published at", config.weights_source),
        ("licence of the weights", facts.licence),
        ("access", facts.access),
        ("get it by", facts.command),
        ("µm per pixel", _scale(known)),
        ("input", f"{facts.input_size} pixels, mean {_three(facts.mean)}, std {_three(facts.std)}"),
        ("parameters", f"{facts.parameters:g} million" if facts.parameters else ""),
        ("network", f"{config.params.get('encoder')} {config.params.get('options') or ''}".strip()),
        ("not known", facts.unknown),
        ("reference", config.reference),
        ("sources", "\n".join(facts.sources)),
    ]
    _say(textwrap.fill(" ".join(config.description.split()), 110))
    show_table("", ("", ""), [row for row in rows if row[1]])


def _scale(known: KnownWeights) -> str:
    return ", ".join(f"{number:g}" for number in known.facts.mpp)


def _three(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{number:g}" for number in numbers)


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
