"""Starting weights put into a network; where their files are looked for is :mod:`stainda.models.weight_files`'."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stainda.config import ModelConfig
from stainda.errors import ConfigError
from stainda.models.base import Network
from stainda.models.published_standard import differ, standard_mismatch

ABOUT = "stainda"
"""Entry of a safetensors file's metadata: JSON with the model, ``mean`` and ``std`` that the weights are for."""

_LEAST = 0.9
_FLATTENED = re.compile(r"^(\w+?)_(\d+)\.")


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


def load_weights(model: Network, file: str | Path, config: ModelConfig | None = None) -> WeightsReport:
    """Put a file's tensors into the network: a whole network of stainda, or an encoder as timm publishes it.

    A head with another number of classes is left as it is. A first convolution for another number of channels gets
    the published one averaged over channels, scaled so that a grey image gives the same response. Position embeddings
    of a transformer for images of another size are interpolated.

    Args:
        config: of the network; what it says of the weights must not differ from what the file says, or timm where the
            file says nothing.

    Raises:
        ConfigError: the file is not safetensors, fits neither the network nor its encoder, lacks tensors of the
            encoder, or its weights were trained with another mean or standard deviation than the model says.
    """
    file = Path(file)
    given, about = read_tensors(file)
    if config is not None:
        check_standard(about, config, file)
    state = model.state_dict()
    best: tuple[float, str, dict[str, torch.Tensor], list[str]] | None = None
    for part, prefix in _prefixes(model):
        wanted = [name for name in state if name.startswith(prefix) and not name.startswith(model.head_names)]
        names = {name: _published(name.removeprefix(prefix), given) for name in state if name.startswith(prefix)}
        fitted = {name: _fit(given[key], state[name], key) for name, key in names.items() if key in given}
        usable = {name: tensor for name, tensor in fitted.items() if tensor is not None}
        share = sum(name in usable for name in wanted) / max(1, len(wanted))
        if best is None or share > best[0]:
            best = (share, part, usable, wanted)
    assert best is not None
    share, part, usable, wanted = best
    prefix = dict(_prefixes(model))[part]
    if share < _LEAST:
        raise ConfigError(
            f"only {share:.0%} of the network's tensors are in it (it holds {', '.join(sorted(given)[:3])} …; "
            f"the network expects {', '.join(name.removeprefix(prefix) for name in wanted[:3])} …)",
            file=file,
            remedy="Name the file of this network or of its encoder; files of other libraries become one by "
            "'stainda weights convert FILE'",
        )
    missing = tuple(name for name in wanted if name not in usable)
    if part == "encoder" and (lacking := [name for name in missing if not name.endswith("num_batches_tracked")]):
        raise ConfigError(
            f"it lacks {len(lacking)} tensors of the encoder, which would stay at random "
            f"({', '.join(name.removeprefix(prefix) for name in lacking[:3])} …)",
            file=file,
            remedy="Name the file of this encoder; 'stainda weights check FILE' lists what is missing",
        )
    model.load_state_dict({**state, **usable})
    used = {_published(name.removeprefix(prefix), given) for name in usable}
    return WeightsReport(file, part, tuple(usable), missing, tuple(n for n in given if n not in used))


def read_tensors(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors of a safetensors file by name, and what :mod:`stainda.models.conversion` wrote about it into it.

    Raises:
        ConfigError: it cannot be read as such.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            about = json.loads((opened.metadata() or {}).get(ABOUT, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise ConfigError(
            f"cannot be read as safetensors: {error}", file=file, remedy="Download the file again"
        ) from error
    return tensors, about if isinstance(about, dict) else {}


def check_standard(about: Mapping[str, Any], config: ModelConfig, file: Path) -> str:
    """Refuse a file that was trained with another mean or standard deviation than the model says.

    What the file says counts, as ``stainda weights convert`` writes it; where it says nothing, what timm gives for the
    model's source, if the file is the published one.

    Returns:
        What is doubtful without being certain; empty else.

    Raises:
        ConfigError: they differ by more than a thousandth.
    """
    remedy = "Set pretraining.mean and pretraining.std of the model to those of its weights, or name the right file"
    for what in ("mean", "std") if config.pretraining is not None else ():
        stated = [float(number) for number in about.get(what) or ()]
        wanted = list(getattr(config.pretraining, what))
        if stated and differ(stated, wanted):
            raise ConfigError(
                f"its weights were trained with {what} {stated}, and the model says {what} {wanted}",
                file=file,
                remedy=remedy,
            )
    if "mean" in about or (doubt := standard_mismatch(config, file)) is None:
        return ""
    if doubt.certain:
        raise ConfigError(doubt.text, file=file, remedy=remedy)
    return doubt.text


def _prefixes(model: Network) -> list[tuple[str, str]]:
    from stainda.models.dense_transformer import DenseTransformer
    from stainda.models.linear_decoder import LinearDecoder
    from stainda.models.pretrained import SmpNetwork
    from stainda.models.timm_classifier import TimmClassifier

    prefixes = [("network", "")]
    if isinstance(model, TimmClassifier):
        prefixes.append(("encoder", "net."))
    if isinstance(model, DenseTransformer | LinearDecoder):
        prefixes.append(("encoder", "encoder."))
    if isinstance(model, SmpNetwork):
        inner = "net.encoder.model." if hasattr(model.net.encoder, "model") else "net.encoder."
        prefixes.append(("encoder", inner))
    return prefixes


def _published(name: str, given: Mapping[str, torch.Tensor]) -> str:
    """A tensor's name as it is published: timm flattens the stages of some networks when it takes their features."""
    return name if name in given else _FLATTENED.sub(r"\1.\2.", name)


def _fit(given: torch.Tensor, wanted: torch.Tensor, name: str) -> torch.Tensor | None:
    if given.shape == wanted.shape:
        return given.to(wanted.dtype)
    if name == "pos_embed" and given.ndim == wanted.ndim == 3 and given.shape[2] == wanted.shape[2]:
        return resized_positions(given, wanted)
    rest = (0, 2, 3)
    if given.ndim == wanted.ndim == 4 and given.shape[1] == 3 and all(given.shape[i] == wanted.shape[i] for i in rest):
        channels = wanted.shape[1]  # the first convolution of an RGB network
        return (given.mean(dim=1, keepdim=True) * 3 / channels).expand_as(wanted).to(wanted.dtype).clone()
    return None


def resized_positions(given: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor | None:
    """Position embeddings ``[1, prefix + side², C]`` for another side; the embeddings of prefix tokens stay."""
    from timm.layers import resample_abs_pos_embed

    given_length, wanted_length = int(given.shape[1]), int(wanted.shape[1])
    for prefix in range(min(17, given_length, wanted_length)):
        old, new = math.isqrt(given_length - prefix), math.isqrt(wanted_length - prefix)
        if old**2 == given_length - prefix and new**2 == wanted_length - prefix:
            resized = resample_abs_pos_embed(given.float(), [new, new], [old, old], num_prefix_tokens=prefix)
            return resized.to(wanted.dtype)
    return None
