"""``stainda dashboard``: optuna-dashboard on the search of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stainda.cli.display import console


def dashboard(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, while it runs or afterwards.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of 127.0.0.1; 0 takes a free one.")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, open nothing.")] = False,
) -> None:
    """Look at the search of a run in the browser: trials, importances, parallel coordinates (optuna-dashboard).

    Served on this machine only, to who has the printed address, until Ctrl+C. It reads: nothing of the run changes.

    Example: `stainda dashboard runs/quickstart`
    """
    from stainda.study.dashboard import serve_dashboard

    def ready(url: str) -> None:
        console.print(f"dashboard: {url}\nCtrl+C ends it", highlight=False, markup=False, soft_wrap=True)
        if not no_browser:
            import webbrowser

            webbrowser.open(url)

    serve_dashboard(run_folder, port=port, ready=ready)
