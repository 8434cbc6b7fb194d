"""``stainda cluster``: what a batch system would be sent."""

from __future__ import annotations

from typing import Annotated

import typer

Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", metavar="tcp://HOST:PORT", help="Work on the workers of this Dask cluster."),
]


def cluster(
    name: Annotated[str, typer.Argument(metavar="CLUSTER.yaml", help="A file, or a name of configs/clusters.")],
) -> None:
    """Print the job script of a cluster's workers; nothing is submitted.

    Examples:

    - `stainda cluster slurm`
    - `stainda cluster mine.yaml`
    """
    from stainda.study.dask_engine import job_script, load_cluster

    typer.echo(job_script(load_cluster(name)))
