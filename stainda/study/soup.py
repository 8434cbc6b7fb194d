"""The trainings of a strategy as one network: which they are, and where the mean of their weights is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stainda.errors import StaindaError
from stainda.run_directory.folder import RunFolder
from stainda.study.choosing import choose_job, trainings_of

if TYPE_CHECKING:
    from stainda.training.soup import Method, Soup


def soup_of_run(
    root: str | Path, out: str | Path, *, strategy: str | None = None, method: Method = "greedy"
) -> tuple[str, Soup]:
    """Average the weights of all trainings of a strategy's chosen trial, see :func:`stainda.training.soup.make_soup`.

    Args:
        root: a run directory. out: the folder that is written.
        strategy: default the one that the report names.

    Returns:
        The strategy's name, and what was made.

    Raises:
        StaindaError: there is no such strategy, fewer than two of its trainings ended, or they cannot be averaged.
    """
    folder = RunFolder(Path(root))
    chosen = choose_job(folder.root, strategy=strategy)
    if chosen.trial is None:
        raise StaindaError("this is the folder of one training", file=folder.root, remedy="Give the run directory")
    from stainda.training import Job
    from stainda.training.running import seen_data
    from stainda.training.soup import make_soup

    folders = [folder.job(name) for name in trainings_of(folder.root, chosen.strategy, chosen.trial)]
    if len(folders) < 2:
        raise StaindaError(
            f"{chosen.strategy} was trained once", file=folder.root,
            remedy="Set protocol.seeds to 2 or more and run the study again",
        )  # fmt: skip
    data = seen_data(Job.load(folders[0]), folder.patches)
    return chosen.strategy, make_soup(folders, data, out, method)
