"""Files of starting weights: where they are looked for, which one was used, and what it costs where there is none.

Nothing is downloaded. This module does not import torch, so that a study can be planned without it.
"""

from __future__ import annotations

import os
from pathlib import Path

from stainda.config import ModelConfig
from stainda.errors import ConfigError
from stainda.files import sha256_of

COST = (
    "it learns more slowly, and how much worse it stays depends on the data: on a synthetic cohort its Dice in the "
    "source's own domain was .76 for .94 and no different in other stains; one report on real glomeruli (one training) "
    "has .27 for .50 at foreign centres"
)
"""What a random start costs; docs/howto/recipes.md has the numbers."""


def weights_folders() -> list[Path]:
    """Folders searched for a weights file named without one: ``STAINDA_WEIGHTS``, ``weights/`` here, the cache.

    ``STAINDA_WEIGHTS`` names one folder or several, separated as in ``PATH``.
    """
    named = [Path(part).expanduser() for part in os.environ.get("STAINDA_WEIGHTS", "").split(os.pathsep) if part]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [*named, Path.cwd() / "weights", cache / "stainda" / "weights"]


def find_weights(weights: str | Path, encoder: str | None = None, source: str = "") -> Path:
    """The file meant by a model's ``weights``.

    Args:
        weights: a path, or a file name looked for in :func:`weights_folders`.
        encoder: name of the encoder it is for, to say where such a file is published.
        source: where it is published, if that is known.

    Raises:
        ConfigError: there is none; the message says which file to put where.
    """
    if (file := look_for(weights)) is not None:
        return file
    put = where_to_put(weights, encoder, source)
    raise ConfigError(
        f"the weights file {weights} is not here",
        remedy=f"{put}, or remove 'weights' to start at random; stainda downloads no weights",
    )


def where_to_put(weights: str | Path, encoder: str | None = None, source: str = "") -> str:
    """Which file a person with internet puts where: ``Put it, for example model.safetensors of URL, at PATH``."""
    weights = Path(weights).expanduser()
    place = weights if weights.is_absolute() else weights_folders()[0] / weights.name
    if source:
        return f"Put the file of {source} at {place} ('stainda weights list' says how it is got and converted)"
    published = _published(encoder)
    example = f", for example model.safetensors of {published}," if published else ""
    return f"Put it{example} at {place}"


def weights_at_hand(model: ModelConfig) -> Path | None:
    """The file a network starts from; ``None`` where it starts at random.

    Raises:
        ConfigError: a file that is not optional, or that was used before (``weights_sha256``), is not here, or it is
            another file than was used before.
    """
    if model.weights is None:
        return None
    file = look_for(model.weights)
    if file is None:
        if model.weights_optional and not model.weights_sha256:
            return None
        return find_weights(model.weights, model.params.get("encoder"), model.weights_source)
    if model.weights_sha256 and sha256_of(file) != model.weights_sha256:
        raise ConfigError(
            f"the weights file is not the one that was used (SHA-256 {sha256_of(file)[:12]}, wanted "
            f"{model.weights_sha256[:12]})",
            file=file,
            remedy="Put the file of that fingerprint there, or remove the fingerprint to train with this one",
        )
    return file


def pinned(model: ModelConfig) -> ModelConfig:
    """The model with what it starts from here written down: the fingerprint of its weights, or that they are missing.

    A training of a pinned model never starts from anything else, on whatever machine.

    Raises:
        ConfigError: as :func:`weights_at_hand`.
    """
    if model.weights is None:
        return model
    file = weights_at_hand(model)
    if file is None:
        return model.model_copy(update={"weights": None, "weights_missing": model.weights.name})
    return model.model_copy(update={"weights_sha256": sha256_of(file)})


def start_of(model: ModelConfig) -> str:
    """What decides the weights that training starts from, for the name of a training; empty: random ones."""
    if model.weights is None or model.weights_sha256:
        return model.weights_sha256
    file = look_for(model.weights)
    if file is None:
        return "" if model.weights_optional else str(model.weights)
    return sha256_of(file)


_PARTS = {"encoder": "the encoder", "body": "all but the last layer", "network": "the network"}


def trained_start(model: ModelConfig) -> str:
    """Where the weights are from that a training of another study came to (``weights_part``), in words."""
    assert model.weights_part is not None and model.weights is not None
    return f"{_PARTS[model.weights_part]} of {model.weights_source} ({model.weights.parent.name})"


def missing_weights(model: ModelConfig) -> str:
    """Name of the optional weights file that is not here; empty where there is none or it was found."""
    if model.weights_missing or model.weights is None or not model.weights_optional or model.weights_sha256:
        return model.weights_missing
    return "" if look_for(model.weights) else model.weights.name


def random_start(model: ModelConfig) -> str:
    """A sentence for plan, log and page where optional weights are not here; empty else."""
    name = missing_weights(model)
    if not name:
        return ""
    from_where = f"model.safetensors of {model.weights_source}" if model.weights_source else "the file"
    return (
        f"the network starts from random weights, since {name} is not here: {COST}. Put {from_where} at "
        f"{weights_folders()[0] / name} (docs/howto/recipes.md), or set training.start=random, which has settings "
        "of its own in the recipe, or take recipe=small for a first look"
    )


def look_for(weights: str | Path) -> Path | None:
    """The file of a path or name, ``None`` where there is none.

    Raises:
        ConfigError: it is no safetensors file.
    """
    for file in places_of(weights):
        if file.is_file():
            if file.suffix != ".safetensors":
                raise ConfigError(
                    "weights must be a .safetensors file",
                    file=file,
                    remedy=f"Make one of it: stainda weights convert {file.name}",
                )
            return file
    return None


def places_of(weights: str | Path) -> list[Path]:
    """Where a file is looked for, in this order."""
    weights = Path(weights).expanduser()
    return [weights] if weights.is_absolute() else [Path.cwd() / weights, *(f / weights for f in weights_folders())]


def _published(encoder: str | None) -> str | None:
    if encoder is None:
        return None
    import timm

    config = (
        timm.get_pretrained_cfg(encoder.removeprefix("tu-")) if timm.is_model(encoder.removeprefix("tu-")) else None
    )
    return f"https://huggingface.co/{config.hf_hub_id}" if config is not None and config.hf_hub_id else None
