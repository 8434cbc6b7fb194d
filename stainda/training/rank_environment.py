"""A rank of a training, as Fabric sees it."""

from __future__ import annotations

from lightning_fabric.plugins.environments import LightningEnvironment


class RankEnvironment(LightningEnvironment):
    """A rank that sees one device, its own: to Fabric a node of one process. Nothing is read from the environment, so
    that a batch system's variables (Slurm's) do not say something else."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self._rank = rank

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def node_rank(self) -> int:
        return self._rank

    def local_rank(self) -> int:
        return 0
