"""Models with published weights: what ``configs/models/`` knows of each, and whether its file is here.

This module does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stainda.config import ModelConfig, PretrainingConfig, available, load_piece
from stainda.config.pieces import validated
from stainda.errors import ConfigError, did_you_mean
from stainda.models.weight_files import look_for, places_of


@dataclass(frozen=True)
class KnownWeights:
    """A model file that says what its weights were trained with.

    Attributes:
        name: of the model, as a study names it.
        config: the file.
        file: the weights on this machine; ``None`` where they are in none of ``looked``.
        looked: where they were looked for.
    """

    name: str
    config: ModelConfig
    file: Path | None
    looked: tuple[Path, ...]

    @property
    def facts(self) -> PretrainingConfig:
        assert self.config.pretraining is not None
        return self.config.pretraining

    @property
    def file_name(self) -> str:
        """Name under which the model looks for its weights."""
        assert self.config.weights is not None
        return self.config.weights.name


def known_weights(near: str | Path | None = None) -> list[KnownWeights]:
    """Every model file with ``pretraining`` and ``weights``, in alphabetical order; ``near`` as for ``available``.

    Where several name the same file, that of the encoder alone stands for it: the others are networks around it.
    """
    known = []
    for name, path in available("models", near).items():
        config = validated(ModelConfig, load_piece("models", name, near), path)
        if config.pretraining is not None and config.weights is not None:
            known.append(KnownWeights(name, config, look_for(config.weights), tuple(places_of(config.weights))))
    encoders = {entry.file_name for entry in known if entry.config.name == "encoder"}
    alone = [entry for entry in known if entry.config.name == "encoder" or entry.file_name not in encoders]
    return sorted(alone, key=lambda entry: entry.name)


def known_model(name: str, near: str | Path | None = None) -> KnownWeights:
    """One of :func:`known_weights` by its name.

    Raises:
        ConfigError: there is none of that name; the nearest is named.
    """
    by_name = {weight.name: weight for weight in known_weights(near)}
    if name not in by_name:
        raise ConfigError(f"no model with published weights is named {name!r}", remedy=did_you_mean(name, by_name))
    return by_name[name]


def encoder_table(entries: list[KnownWeights]) -> str:
    """The models as a Markdown table, for docs/howto/encoders.md."""
    rows = ["| model | encoder | input | µm per pixel | million parameters | mean; std | licence of the weights |"]
    rows.append("|---" * 7 + "|")
    for entry in entries:
        facts = entry.facts
        scale = ", ".join(f"{mpp:g}" for mpp in facts.mpp)
        size = f"{facts.parameters:g}" if facts.parameters else ""
        standard = "; ".join(" ".join(f"{share:.3g}" for share in three) for three in (facts.mean, facts.std))
        title = f"[{facts.title}]({entry.config.weights_source})"
        rows.append(
            f"| `{entry.name}` | {title} | {facts.input_size} | {scale} | {size} | {standard} | {facts.licence} |"
        )
    return "\n".join(rows) + "\n"
