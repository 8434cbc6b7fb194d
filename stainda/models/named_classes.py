"""Classes that a model file may name by a word, where timm's networks take a class: a closed table, no other import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stainda.errors import ConfigError, did_you_mean

CLASSES: dict[str, dict[str, str]] = {
    "mlp_layer": {name: "timm.layers" for name in ("Mlp", "GluMlp", "SwiGLU", "SwiGLUPacked")},
    "act_layer": {"GELU": "torch.nn", "ReLU": "torch.nn", "SiLU": "torch.nn", "QuickGELU": "timm.layers"},
    "norm_layer": {"LayerNorm": "timm.layers", "RmsNorm": "timm.layers"},
}
"""Per option of a timm network: the words it takes, and the module that holds the class of that name."""

_OTHERS = ("attn_layer", "block_fn", "embed_layer", "embed_norm_layer")


def with_classes(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a timm network with the class where a word stands for it: ``mlp_layer: SwiGLUPacked``.

    Raises:
        ConfigError: a word that names no class of :data:`CLASSES` (the nearest is named), or an option that takes a
            class and has no word for any.
    """
    return {key: _class_of(key, value) if key in CLASSES or key in _OTHERS else value for key, value in options.items()}


def _class_of(option: str, word: object) -> Any:
    words = CLASSES.get(option, {})
    if word in words:
        import importlib

        return getattr(importlib.import_module(words[word]), word)
    if not words:
        raise ConfigError(f"{option!r} takes a class, and none can be named for it", remedy=f"Remove {option!r}")
    raise ConfigError(f"{option!r} is {word!r}, which names no class", remedy=did_you_mean(str(word), words))
