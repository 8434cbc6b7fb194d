"""Starting weights put into a network; where their files are looked for is :mod:`stainda.models.weight_files`'."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from stainda.errors import ConfigError
from stainda.models.base import Network

_LEAST = 0.9


@dataclass(frozen=True)
class WeightsReport:
    """What a weights file gave: names of tensors.

    Attributes:
        file: the file read.
        part: ``network`` or ``encoder``.
        loaded: taken from the file.
        missing: of the network (or its encoder), not in the file; they keep their random start.
        ignored: in the file, without a place in the network (a classifier's last layer, another number of classes).
    """

    file: Path
    part: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    ignored: tuple[str, ...]


def load_weights(model: Network, file: str | Path) -> WeightsReport:
    """Put a file's tensors into the network: a whole network of stainda, or an encoder as timm publishes it.

    A head with another number of classes is left as it is. A first convolution for another number of channels gets
    the published one averaged over channels, scaled so that a grey image gives the same response.

    Raises:
        ConfigError: the file is not safetensors, or fits neither the network nor its encoder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = Path(file)
    try:
        given = load_file(str(file))
    except (SafetensorError, OSError, ValueError) as error:
        raise ConfigError(
            f"cannot be read as safetensors: {error}", file=file, remedy="Download the file again"
        ) from error
    state = model.state_dict()
    best: tuple[float, str, dict[str, torch.Tensor], list[str]] | None = None
    for part, prefix in _prefixes(model):
        wanted = [name for name in state if name.startswith(prefix) and not name.startswith(model.head_names)]
        found = {}
        for name in state:
            if name.startswith(prefix) and name.removeprefix(prefix) in given:
                fitted = _fit(given[name.removeprefix(prefix)], state[name])
                if fitted is not None:
                    found[name] = fitted
        share = sum(name in found for name in wanted) / max(1, len(wanted))
        if best is None or share > best[0]:
            best = (share, part, found, wanted)
    assert best is not None
    share, part, found, wanted = best
    if share < _LEAST:
        raise ConfigError(
            f"only {share:.0%} of the network's tensors are in it (it holds {', '.join(sorted(given)[:3])} …; "
            f"the network expects {', '.join(wanted[:3])} …)",
            file=file,
            remedy="Name the file of this network or of its encoder",
        )
    model.load_state_dict({**state, **found})
    prefix = dict(_prefixes(model))[part]
    used = {name.removeprefix(prefix) for name in found}
    return WeightsReport(
        file, part, tuple(found), tuple(n for n in wanted if n not in found), tuple(n for n in given if n not in used)
    )


def _prefixes(model: Network) -> list[tuple[str, str]]:
    from stainda.models.pretrained import SmpNetwork
    from stainda.models.timm_classifier import TimmClassifier

    found = [("network", "")]
    if isinstance(model, TimmClassifier):
        found.append(("encoder", "net."))
    if isinstance(model, SmpNetwork):
        inner = "net.encoder.model." if hasattr(model.net.encoder, "model") else "net.encoder."
        found.append(("encoder", inner))
    return found


def _fit(given: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor | None:
    if given.shape == wanted.shape:
        return given.to(wanted.dtype)
    rest = (0, 2, 3)
    if given.ndim == wanted.ndim == 4 and given.shape[1] == 3 and all(given.shape[i] == wanted.shape[i] for i in rest):
        channels = wanted.shape[1]  # the first convolution of an RGB network
        return (given.mean(dim=1, keepdim=True) * 3 / channels).expand_as(wanted).to(wanted.dtype).clone()
    return None
