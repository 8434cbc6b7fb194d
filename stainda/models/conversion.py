"""Weights of other libraries, once made into safetensors files whose tensors have the names that timm gives them.

A ``.bin``, ``.pt`` or ``.pth`` file is a pickle, which can run code when it is read. It is read by torch with
``weights_only=True``, which makes tensors and plain containers and nothing else; whatever holds more is refused.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stainda.errors import ConfigError
from stainda.files import sha256_of, whole_file
from stainda.models.encoders import build_encoder
from stainda.models.known_weights import KnownWeights
from stainda.models.weight_checks import compare_tensors
from stainda.models.weights import ABOUT, read_tensors
from stainda.names import with_ending

_HOLDERS = ("state_dict", "model_state_dict", "teacher", "model")
"""Keys under which training scripts keep a network's tensors, the first that is there is taken."""


@dataclass(frozen=True)
class Converted:
    """A file made from another one.

    Attributes:
        form: what the tensors were found as (``timm``, ``dinov2``, ``dinov2 of transformers`` …).
        found, tensors: number in the source, and of these (query, key and value count as one) in the file; what has no
            place in the encoder is left out: text towers, classifiers, heads of the training.
        numbers: in all tensors of the file.
    """

    source: Path
    target: Path
    form: str
    found: int
    tensors: int
    numbers: int
    sha256: str


def convert(
    source: str | Path, target: str | Path, model: KnownWeights | None = None, replace: bool = False
) -> Converted:
    """Make a safetensors file of a published one, which stays as it is.

    Args:
        target: ``NAME.safetensors``, written whole or not at all.
        model: whose weights they are. Their names and shapes are then compared with the architecture before anything
            is written, and the file says which mean and standard deviation it was trained with.
        replace: a target that is there.

    Raises:
        ConfigError: the file holds more than tensors, cannot be read, is its own target, or does not fit the model; the
            target is there already or has another ending.
    """
    source, target = Path(source), Path(target)
    if target.exists() and target.samefile(source):
        raise ConfigError("would be replaced by itself", file=source, remedy="Name another file with --out")
    if not target.name.endswith(".safetensors"):
        raise ConfigError(
            "what is written is a safetensors file, and would not be found under this ending",
            file=target,
            remedy=f"Name it {with_ending(target, '.safetensors').name} with --out",
        )
    if target.exists() and not replace:
        raise ConfigError(
            "is there already", file=target, remedy="Name another file with --out, or replace it with --force"
        )
    given = read_checkpoint(source)
    form, tensors = to_timm_names(given)
    if model is not None:
        tensors = _fitted(tensors, model, source)
    if not tensors:
        raise ConfigError("holds no tensors of an encoder", file=source, remedy="Name the file of the weights")
    about: dict[str, Any] = {"from": source.name, "from_sha256": sha256_of(source)}
    if model is not None:
        about |= {"model": model.name, "mean": model.facts.mean, "std": model.facts.std}
    from safetensors.torch import save_file

    with whole_file(target) as aside:
        converted = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
        # one entry: safetensors writes several in any order, and the same weights would have another fingerprint
        save_file(converted, str(aside), {ABOUT: json.dumps(about, sort_keys=True)})
    numbers = sum(tensor.numel() for tensor in tensors.values())
    return Converted(source, target, form, len(given), len(tensors), numbers, sha256_of(target))


def read_checkpoint(file: Path) -> dict[str, Tensor]:
    """The tensors of a ``.bin``, ``.pt``, ``.pth`` or safetensors file by name, without running anything in it.

    Raises:
        ConfigError: there is no such file, it is broken, or it holds something else than tensors.
    """
    if not file.is_file():
        raise ConfigError("there is no such file", file=file, remedy="Check the path")
    if file.name.endswith(".safetensors"):
        return read_tensors(file)[0]
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        _require_torch(file)
        raise ConfigError(
            f"holds more than tensors, and is not read, since reading such a file can run code ({_reason(error)})",
            file=file,
            remedy="Ask its publisher for the state dict alone, or for a safetensors file",
        ) from error
    except (RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, OSError) as error:
        _require_torch(file)
        raise ConfigError(
            f"cannot be read as a file of torch: {_reason(error)}", file=file, remedy="Download the file again"
        ) from error
    return _tensors_in(checkpoint, file)


def _require_torch(file: Path) -> None:
    """Raise where a file is none of torch by its first bytes: a ZIP archive, or a pickle of the versions before."""
    with file.open("rb") as stream:
        first = stream.read(40)
    if not first.startswith((b"PK", b"\x80")):
        raise ConfigError(
            f"is no file of torch: it begins with {first!r}" if first else "is empty",
            file=file,
            remedy="Name the file of the weights; what was saved may be a web page, or a Git LFS pointer to the file",
        )


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _tensors_in(checkpoint: object, file: Path) -> dict[str, Tensor]:
    for key in _HOLDERS:
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
    if not isinstance(checkpoint, Mapping):
        raise ConfigError(
            f"holds a {type(checkpoint).__name__} where tensors by name were expected",
            file=file,
            remedy="Ask its publisher for the state dict",
        )
    if others := [str(name) for name, value in checkpoint.items() if not isinstance(value, Tensor)]:
        raise ConfigError(
            f"holds more than tensors: {', '.join(others[:3])}{' …' if len(others) > 3 else ''}",
            file=file,
            remedy="Ask its publisher for the state dict alone",
        )
    return {str(name): value for name, value in checkpoint.items()}


def to_timm_names(tensors: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """What the names of tensors show them to be, and the tensors under the names of timm.

    Returns:
        ``timm`` and the same names, where no other form is recognised.
    """
    tensors = _without_prefix(tensors, "module.")
    for form, recognised, rename in _FORMS:
        if recognised(tensors):
            return form, rename(tensors)
    return "timm", dict(tensors)


def _without_prefix(tensors: Mapping[str, Tensor], prefix: str, rest: bool = False) -> dict[str, Tensor]:
    """Tensors under a prefix, without it. ``rest``: only these; otherwise all or none must have it."""
    if not rest and not (tensors and all(name.startswith(prefix) for name in tensors)):
        return dict(tensors)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _of_clip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The trunk of a vision tower around a network of timm, as CONCH and OpenCLIP have it."""
    return _without_prefix(tensors, "visual.trunk.", rest=True)


_CHUNK = re.compile(r"^blocks\.\d+\.(\d+)\.")


def _of_dinov2(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2's own vision transformer, in training the ``backbone`` next to heads, and its blocks in chunks.

    Reference: github.com/facebookresearch/dinov2, ``dinov2/models/vision_transformer.py``.
    """
    if any(name.startswith("backbone.") for name in tensors):
        tensors = _without_prefix(tensors, "backbone.", rest=True)
    renamed = {}
    for name, tensor in tensors.items():
        if name == "mask_token":
            continue
        name = _CHUNK.sub(r"blocks.\1.", name)
        name = name.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2.")
        renamed["reg_token" if name == "register_tokens" else name] = tensor
    return renamed


_OF_TRANSFORMERS = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^layernorm\.", "norm."),
    (r"^encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
    (r"^encoder\.layer\.(\d+)\.layer_scale(\d)\.lambda1$", r"blocks.\1.ls\2.gamma"),
    (r"^encoder\.layer\.(\d+)\.mlp\.weights_in\.", r"blocks.\1.mlp.fc1."),
    (r"^encoder\.layer\.(\d+)\.mlp\.weights_out\.", r"blocks.\1.mlp.fc2."),
    (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."),
)
_QUERY = re.compile(r"^encoder\.layer\.(\d+)\.attention\.attention\.query\.(weight|bias)$")


def _of_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``Dinov2Model`` of transformers (Phikon-v2, Midnight): query, key and value become the one product of timm.

    Reference: github.com/huggingface/transformers, ``models/dinov2/modeling_dinov2.py``.
    """
    tensors = {name.removeprefix("dinov2."): tensor for name, tensor in tensors.items()}
    renamed = {}
    for name, tensor in tensors.items():
        if name == "embeddings.mask_token" or (".attention.attention." in name and ".query." not in name):
            continue
        if match := _QUERY.match(name):
            parts = [tensors[name.replace(".query.", f".{part}.")] for part in ("query", "key", "value")]
            renamed[f"blocks.{match[1]}.attn.qkv.{match[2]}"] = torch.cat(parts)
            continue
        for pattern, replacement in _OF_TRANSFORMERS:
            if re.match(pattern, name):
                name = re.sub(pattern, replacement, name)
                break
        renamed[name] = tensor
    return renamed


def _has(*names: str) -> Callable[[Mapping[str, Tensor]], bool]:
    return lambda tensors: any(name in tensors for name in names)


_FORMS: tuple[
    tuple[str, Callable[[Mapping[str, Tensor]], bool], Callable[[Mapping[str, Tensor]], dict[str, Tensor]]], ...
] = (
    ("a vision tower on timm", _has("visual.trunk.patch_embed.proj.weight"), _of_clip),
    (
        "dinov2 of transformers",
        _has("embeddings.patch_embeddings.projection.weight", "dinov2.embeddings.patch_embeddings.projection.weight"),
        _of_transformers,
    ),
    ("dinov2", _has("mask_token", "backbone.mask_token", "backbone.patch_embed.proj.weight"), _of_dinov2),
)


def _fitted(tensors: dict[str, Tensor], model: KnownWeights, source: Path) -> dict[str, Tensor]:
    """The tensors that the model's encoder has; what it lacks or has in another shape is an error."""
    with torch.device("meta"):
        encoder: nn.Module = build_encoder(model.config)
    comparison = compare_tensors(tensors, encoder)
    if not comparison.fits:
        raise ConfigError(
            f"does not fit the architecture of {model.name}: {comparison.faults()}",
            file=source,
            remedy=f"Name the file of {model.config.weights_source or model.name}, or another model with --model",
        )
    return {name: tensor for name, tensor in tensors.items() if name not in comparison.unexpected}
