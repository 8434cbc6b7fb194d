"""``stainda microenvironment``: cells in relation to structures, across stains."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stainda.cli.display import ConsoleProgress, Quiet, console, show_table


def microenvironment(
    given: Annotated[Path, typer.Argument(metavar="STUDY.yaml|MANIFEST.csv|RUN")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Settings of the section microenvironment, e.g. rings_um=[30,60]"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Run directory. Default: runs/<name of the study>; a manifest needs one."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder that the manifest's paths are relative to.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Count cells in and around structures on every section of a stain; intervals contain the registration error.

    Of a study what is missing before is done, to the propagated annotations (or to the trained detector, with
    outlines: [detected]), and its page shows the result; of one with several rotations each is measured. A manifest is
    registered and its annotations are propagated first, unless the sections themselves are annotated.

    Examples:

    - `stainda microenvironment studies/microenvironment.yaml`
    - `stainda microenvironment runs/mine stains=[CD68] rings_um=[25,50,100]`
    - `stainda microenvironment runs/mine outlines=[detected] detected_on=[PAS] null_models=[shift,csr]`
    - `stainda microenvironment mine.csv --out runs/mine cells=files cell_files=qupath_cells/`
    - `stainda microenvironment runs/mine cells=network cell_run=runs/macrophages`
    """
    from stainda.run_directory.microenvironment_tables import PATIENTS, SLIDES
    from stainda.study.microenvironment import measure

    root = measure(given, out, _settings(settings or []), data=data, progress=ConsoleProgress(quiet))
    slides = SLIDES.rows(SLIDES.at(root).parent)
    rotates = any("rotation" in row for row in slides)
    show_table(
        str(SLIDES.at(root)),
        (*(("rotation",) if rotates else ()), "slide", "zone", "cells", "mm²", "per mm²", "interval"),
        [
            (
                *((row["rotation"],) if rotates else ()), row["slide"], row["zone"], row["cells"], row["area_mm2"],
                row["density"], f"{row['low']} to {row['high']}",
            )
            for row in slides
        ],
    )  # fmt: skip
    console.print(f"patients: {PATIENTS.at(root)}", highlight=False, soft_wrap=True)


def _settings(words: list[str]) -> dict[str, Any]:
    """``key=value`` as nested settings; ``detection.mpp=0.5`` is one of ``detection``."""
    import yaml

    from stainda.errors import ConfigError

    settings: dict[str, Any] = {}
    for word in words:
        key, sign, text = word.partition("=")
        if not sign or not key:
            raise ConfigError(f"{word!r} is no setting", remedy="Write KEY=VALUE, for example rings_um=[25,50]")
        place = settings
        *above, last = key.removeprefix("microenvironment.").split(".")
        for name in above:
            place = place.setdefault(name, {})
        try:
            place[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{text!r} is no value ({error})", remedy="Write it as in a study file") from error
    return settings
