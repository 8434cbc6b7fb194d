"""A training that was cut off goes on where it was, and ends in the same bytes as one that was not.

``resume.safetensors`` holds every tensor (weights, the part's own networks, the optimiser's state, batch statistics
per domain, generators), ``resume.json`` the rest; the JSON is written last and names the tensors by their hash, so
that a pair that does not belong together is never read. Both are removed when the training ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from stainda.errors import TrainingError
from stainda.files import load_json, whole_file, write_json
from stainda.run_directory.contents import RESUME, RESUME_REST
from stainda.strategies.norm.statistics import DomainStatistics

TENSORS, REST = RESUME.name, RESUME_REST.name

EVERY_SECONDS = 60.0
"""A checkpoint to go on from is written at the end of an epoch, at most this often: short jobs write none."""


@dataclass(frozen=True, eq=False)
class TrainingState:
    """Everything of a training that changes from step to step, and where it is kept.

    Attributes:
        folder: of the training. key: what the state belongs to: the job's hash and the data's.
    """

    folder: Path
    key: str
    networks: Mapping[str, nn.Module]
    optimiser: torch.optim.Optimizer
    generators: Mapping[str, torch.Generator]
    statistics: DomainStatistics | None

    def save(self, rest: Mapping[str, Any]) -> None:
        """Write everything a later process needs to go on.

        Args:
            rest: JSON values (epoch, step, rows, ...).
        """
        blob = save({name: value.detach().cpu().contiguous().clone() for name, value in self._tensors().items()})
        with whole_file(self.folder / TENSORS) as aside:
            aside.write_bytes(blob)
        write_json(self.folder / REST, {"key": self.key, "sha256": hashlib.sha256(blob).hexdigest(), **rest})

    def load(self) -> dict[str, Any] | None:
        """Put back what :meth:`save` wrote and return its ``rest``; ``None`` (and nothing changed) where there is no
        whole state, or it belongs to something else.

        Raises:
            TrainingError: the state is whole and does not fit the network, which is then half changed.
        """
        try:
            rest: dict[str, Any] = load_json(self.folder / REST)
            blob = (self.folder / TENSORS).read_bytes()
        except (OSError, ValueError):
            return None
        if rest.get("key") != self.key or rest.get("sha256") != hashlib.sha256(blob).hexdigest():
            return None
        try:
            self._put_back(load(blob))
        except Exception as error:
            raise TrainingError(
                f"the checkpoint to go on from does not fit ({str(error).splitlines()[0]})",
                file=self.folder / REST,
                remedy=f"Remove {TENSORS} and {REST} in this folder and run the study again",
            ) from error
        return rest

    def _tensors(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for name, network in self.networks.items():
            tensors |= {f"network|{name}|{key}": value for key, value in network.state_dict().items()}
        for number, values in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser|{number}|{name}": torch.as_tensor(value) for name, value in values.items()}
        tensors |= {f"generator|{name}": generator.get_state() for name, generator in self.generators.items()}
        tensors["generator|"] = torch.get_rng_state()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            tensors["cuda|"] = torch.cuda.get_rng_state()
        if self.statistics is not None:
            for domain, kept in self.statistics.kept.items():
                tensors |= {f"statistics|{domain}|{name}": value for name, value in kept.items()}
        return tensors

    def _put_back(self, tensors: Mapping[str, Tensor]) -> None:
        by_kind: dict[str, dict[str, dict[str, Tensor]]] = {}
        for name, value in tensors.items():
            kind, _, tail = name.partition("|")
            first, _, last = tail.rpartition("|") if kind == "statistics" else tail.partition("|")
            by_kind.setdefault(kind, {}).setdefault(first, {})[last] = value
        for name, network in self.networks.items():
            network.load_state_dict(by_kind["network"].get(name, {}))
        moments = {int(number): dict(values) for number, values in by_kind.get("optimiser", {}).items()}
        self.optimiser.load_state_dict({"state": moments, "param_groups": self.optimiser.state_dict()["param_groups"]})
        for name, generator in self.generators.items():
            generator.set_state(tensors[f"generator|{name}"])
        torch.set_rng_state(tensors["generator|"])
        if "cuda|" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["cuda|"])
        if self.statistics is not None:
            for domain, values in by_kind.get("statistics", {}).items():
                self.statistics.put(domain, values)


def remove_state(folder: Path) -> None:
    for name in (REST, TENSORS):
        (folder / name).unlink(missing_ok=True)
