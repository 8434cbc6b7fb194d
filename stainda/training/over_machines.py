"""One training over several machines: ``torchrun ... -m stainda.training.over_machines RUN/jobs/HASH`` on each of them.

The first process writes the folder of the training, as a worker of the run would have; ``stainda run`` then takes it
as complete. Meanwhile no run works in the run directory.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

from stainda.errors import StaindaError, TrainingError
from stainda.run_directory.folder import RunFolder
from stainda.training.job import Job
from stainda.training.rank_processes import ranks_of_torchrun
from stainda.training.running import seen_data, take_part, train_on


def train_over_machines(folder: Path) -> None:
    """Train the job whose ``settings.json`` is in ``folder``, as one of the processes that torchrun started.

    Raises:
        StaindaError: a run works in the run directory, the settings make another training here, or as of
            :func:`stainda.training.running.train`.
    """
    job, run = Job.load(folder), RunFolder(folder.resolve().parents[1])
    if job.hash != folder.resolve().name:
        raise TrainingError(
            f"these settings make the training {job.hash} here", file=folder,
            remedy="Use the version of stainda, and the weights, that the run was begun with",
        )  # fmt: skip
    data = seen_data(job, run.patches)
    with ranks_of_torchrun(job.training) as ranks:
        if not ranks.leads:
            take_part(job, data, folder, ranks)
            return
        with run.locked():
            result = train_on(job, data, folder, ranks=nullcontext(ranks))
    print(f"{job.strategy.name}, seed {job.seed}: {result.score:.4f} on source validation", file=sys.stderr)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(f"usage: torchrun ... -m {__spec__.name} RUN/jobs/HASH")
    try:
        train_over_machines(Path(sys.argv[1]))
    except StaindaError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
