"""``stainda review``: the page on which propagated annotations are accepted, rejected, moved and redrawn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stainda.cli.display import console
from stainda.run_directory.tables import COHORT


def review(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory with propagated annotations.")],
    reviewer: Annotated[
        str | None, typer.Option(help="Who decides, written next to every decision. Default: your user name.")
    ] = None,
    block: Annotated[str | None, typer.Option(help="Only this block.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of 127.0.0.1; 0 takes a free one.")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, open nothing.")] = False,
    show_own: Annotated[
        bool,
        typer.Option(
            "--show-own",
            help="Show the targets' own annotations. The study is scored against them: who sees them follows them.",
        ),
    ] = False,
) -> None:
    """Review propagated annotations in the browser; the next `stainda run` honours the decisions.

    The page is served on this machine only, until Ctrl+C. Decisions are saved at once in RUN/review/.

    Example: `stainda review runs/quickstart --reviewer "Dr A. Name"`
    """
    from stainda.review.tables import read_rows

    read_rows(COHORT.at(run_folder))  # a wrong folder is reported before the page's packages are imported
    from stainda.review import serve_review

    def ready(url: str) -> None:
        console.print(
            f"review: {url}\nCtrl+C ends it; decisions: {run_folder / 'review'}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
        if not no_browser:
            import webbrowser

            webbrowser.open(url)

    serve_review(run_folder, _name(reviewer), port=port, block=block, show_own=show_own, ready=ready)


def _name(given: str | None) -> str:
    """The name given, in one line of at most 80 characters; else the user's."""
    if given is None:
        import getpass

        try:
            given = getpass.getuser()
        except (KeyError, OSError):
            given = "unknown"
    return " ".join("".join(c if c.isprintable() else " " for c in given).split())[:80] or "unknown"
