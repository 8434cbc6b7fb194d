"""The mean and standard deviation that timm gives for published weights, for files that say nothing of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stainda.config import ModelConfig
from stainda.models.known_weights import known_weights

SAME = 1e-3
"""By which two means, or two standard deviations, may differ."""


@dataclass(frozen=True)
class StandardMismatch:
    """The model says otherwise than timm.

    Attributes:
        certain: the file is what the model names as its source, by the name under which it is published or under which
            stainda looks for it. Otherwise the file may be one of somebody's own.
    """

    text: str
    certain: bool


def differ(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two means (or standard deviations) are not the same numbers."""
    return len(one) != len(other) or max(abs(a - b) for a, b in zip(one, other, strict=True)) > SAME


def standard_mismatch(config: ModelConfig, file: Path) -> StandardMismatch | None:
    """What timm says against the model's mean and standard deviation; ``None`` where it agrees or does not know.

    Several published weights of one architecture may have different numbers: those of the model's source count. Where
    the model names no source, it disagrees if none of them has its numbers. Of other publishers timm knows nothing.
    """
    import timm

    facts, encoder = config.pretraining, str(config.params.get("encoder", "")).removeprefix("tu-")
    if facts is None or not timm.is_model(encoder):
        return None
    entries = ((name, timm.get_pretrained_cfg(name)) for name in timm.list_pretrained(f"{encoder}.*"))
    published = {name: entry for name, entry in entries if entry is not None}
    source = [name for name, entry in published.items() if _is_at(config.weights_source, entry.hf_hub_id)]
    if config.weights_source and not source:
        return None
    for name in source or published:
        entry = published[name]
        different = [what for what in ("mean", "std") if differ(getattr(entry, what), getattr(facts, what))]
        if source and different:
            what = different[0]
            return StandardMismatch(
                f"timm gives {name} {what} {list(getattr(entry, what))}, and the model says {what} "
                f"{list(getattr(facts, what))}",
                _is_named(file, name, config.weights_source),
            )
        if not different:
            return None
    if not published:
        return None
    return StandardMismatch(
        f"none of the {len(published)} weights of {encoder} that timm knows has mean {list(facts.mean)} and std "
        f"{list(facts.std)}",
        False,
    )


def _is_at(source: str, hub: str | None) -> bool:
    return bool(hub) and source.rstrip("/").endswith(f"/{hub}")


def _is_named(file: Path, name: str, source: str) -> bool:
    """Whether a file has the name of published weights: those of timm, or those of a model with that source."""
    if file.name in (f"{name}.safetensors", f"{name.split('.')[0]}.safetensors"):
        return True
    return any(entry.config.weights_source == source and entry.file_name == file.name for entry in known_weights())
