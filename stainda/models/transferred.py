"""What a training of another study has learned, put into a network that is to learn something else."""

from __future__ import annotations

from pathlib import Path

from stainda.config import WeightsPart
from stainda.errors import ConfigError
from stainda.models.base import Network
from stainda.models.weights import read_tensors


def transfer(network: Network, file: str | Path, part: WeightsPart) -> tuple[str, ...]:
    """Put a part of a trained network into another of the same architecture; the rest of it keeps its start.

    Pretraining on labels of another task, then fine-tuning (Yosinski et al. 2014, arXiv 1411.1792).

    Args:
        network: receives the tensors.
        file: checkpoint of a training (``model.safetensors``).
        part: ``encoder``; ``body``, which is all but the last layer; or ``network``.

    Returns:
        Names of the tensors that were taken.

    Raises:
        ConfigError: the file is not safetensors, or lacks a tensor of the part or has it in another shape.
    """
    given, _ = read_tensors(Path(file))
    state = network.state_dict()
    taken = tuple(name for name in state if _is_of(network, name, part))
    wrong = [name for name in taken if name not in given or given[name].shape != state[name].shape]
    if wrong or not taken:
        raise ConfigError(
            f"it was trained with another network: {len(wrong)} of {len(taken)} tensors of the {part} are not in it or "
            f"have another shape ({', '.join(wrong[:3])})",
            file=file,
            remedy="Give this study the network, view and norm of that training, or start from another one",
        )
    network.load_state_dict({**state, **{name: given[name] for name in taken}})
    return taken


def _is_of(network: Network, name: str, part: WeightsPart) -> bool:
    if part == "encoder":
        return network.in_encoder(name)
    return part == "network" or not name.startswith(network.head_names)
