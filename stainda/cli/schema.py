"""``stainda schema``: the JSON schema of study files, for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from stainda.cli.display import console


def schema(
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write it here. Default: print it.")] = None,
) -> None:
    """Print the JSON schema of study files, with which an editor completes keys and marks wrong ones.

    An editor with the YAML language server reads it where the first line of a study is
    `# yaml-language-server: $schema=study.schema.json` (a path from the study's folder, or an address).

    Example: `stainda schema --out studies/study.schema.json`
    """
    from stainda.config.schema import study_schema, write_study_schema

    if out is None:
        typer.echo(json.dumps(study_schema(), indent=1, ensure_ascii=False))
        return
    console.print(f"schema: {write_study_schema(out)}", highlight=False, soft_wrap=True)
