"""Whether a weights file is what its model says: fingerprint, tensors, a forward pass, mean and standard deviation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stainda.errors import ConfigError
from stainda.files import sha256_of
from stainda.models.encoders import build_encoder
from stainda.models.known_weights import KnownWeights
from stainda.models.weights import check_standard, read_tensors, resized_positions

State = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Comparison:
    """Tensors of a file against those of an encoder, by name.

    Attributes:
        missing: of the encoder, not in the file.
        unexpected: in the file, without a place in the encoder: a classifier, mostly.
        shapes: in both, with the file's shape and the encoder's. Position embeddings for images of another size are
            not among them: they are interpolated.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def fits(self) -> bool:
        return not self.missing and not self.shapes

    def faults(self) -> str:
        """What does not fit, the first few by name."""
        faults = [f"{len(self.missing)} tensors are missing ({_first(self.missing)})"] if self.missing else []
        for name, given, wanted in self.shapes[:3]:
            faults.append(f"{name} is {'x'.join(map(str, given))} and not {'x'.join(map(str, wanted))}")
        more = [f"{len(self.shapes) - 3} more of another shape"] if len(self.shapes) > 3 else []
        rest = (
            [f"{len(self.unexpected)} have no place ({_first(self.unexpected)})"] if faults and self.unexpected else []
        )
        return "; ".join([*faults, *more, *rest])


@dataclass(frozen=True)
class Check:
    """One line about a weights file."""

    what: str
    state: State
    detail: str


def compare_tensors(tensors: Mapping[str, Tensor], encoder: nn.Module) -> Comparison:
    """Names and shapes of tensors against those of an encoder, which may be on the meta device."""
    wanted = {name: tensor for name, tensor in encoder.state_dict().items() if not name.endswith("num_batches_tracked")}
    shapes = tuple(
        (name, tuple(tensors[name].shape), tuple(tensor.shape))
        for name, tensor in wanted.items()
        if name in tensors and tensors[name].shape != tensor.shape and not _interpolates(name, tensors[name], tensor)
    )
    return Comparison(
        tuple(name for name in wanted if name not in tensors),
        tuple(name for name in tensors if name not in wanted and not name.endswith("num_batches_tracked")),
        shapes,
    )


def check_weights(model: KnownWeights, file: Path) -> list[Check]:
    """All that can be said of a model's weights file without other data.

    Raises:
        ConfigError: the file cannot be read.
    """
    tensors, about = read_tensors(file)
    with torch.device("meta"):
        comparison = compare_tensors(tensors, build_encoder(model.config))
    checks = [_fingerprint(model, file), _tensors(comparison, len(tensors)), _standard(model, about, file)]
    if comparison.fits:
        checks.append(_forward(model, tensors))
    return checks


def known_image(size: int) -> Tensor:
    """The image that the forward pass is tried on: ramps along x, y and both, float ``[1, 3, size, size]`` in 0..1."""
    ramp = torch.linspace(0, 1, size)
    rows, columns = ramp[:, None].expand(size, size), ramp[None, :].expand(size, size)
    return torch.stack([columns, rows, (rows + columns) / 2])[None]


def _fingerprint(model: KnownWeights, file: Path) -> Check:
    digest, wanted = sha256_of(file), model.facts.sha256
    if not wanted:
        return Check("SHA-256", "note", f"{digest}; the publisher's is not known")
    same = digest == wanted
    return Check("SHA-256", "ok" if same else "wrong", digest if same else f"{digest}, and the publisher's is {wanted}")


def _tensors(comparison: Comparison, number: int) -> Check:
    extra = f"; without a place in the encoder: {_first(comparison.unexpected)}" if comparison.unexpected else ""
    if comparison.fits:
        return Check("tensors", "ok", f"{number - len(comparison.unexpected)} of the encoder, none missing{extra}")
    return Check("tensors", "wrong", comparison.faults())


def _standard(model: KnownWeights, about: Mapping[str, Any], file: Path) -> Check:
    facts = model.facts
    mean, std = (", ".join(f"{number:g}" for number in numbers) for numbers in (facts.mean, facts.std))
    numbers = f"mean {mean}; std {std}"
    try:
        doubt = check_standard(about, model.config, file)
    except ConfigError as error:
        return Check("standardisation", "wrong", error.message)
    if doubt:
        return Check("standardisation", "note", f"{numbers}; the file does not say them, and {doubt}")
    return Check("standardisation", "ok", numbers + ("; the file says the same" if "mean" in about else ""))


def _forward(model: KnownWeights, tensors: Mapping[str, Tensor]) -> Check:
    facts = model.facts
    encoder = _with_tensors(model, tensors).eval()
    mean, std = (torch.tensor(values)[None, :, None, None] for values in (facts.mean, facts.std))
    with torch.no_grad():
        out = encoder((known_image(facts.input_size or 224) - mean) / std)
    last = out[-1] if isinstance(out, list | tuple) else out
    finite = bool(torch.isfinite(last).all())
    numbers = (
        f"{'x'.join(map(str, last.shape[1:]))} numbers, mean {float(last.mean()):.4f}, std {float(last.std()):.4f}"
    )
    return Check("forward pass", "ok" if finite else "wrong", numbers if finite else "numbers that are not finite")


def _with_tensors(model: KnownWeights, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The encoder with a file's tensors, which are not copied: the largest encoders have 5 GB of them."""
    with torch.device("meta"):
        encoder = build_encoder(model.config)
    state = encoder.state_dict()
    if any(name not in state for name, _ in encoder.named_buffers()):  # made when it is built, as Swin's indices
        encoder = build_encoder(model.config)
    given = {}
    for name, tensor in tensors.items():
        if name in state:
            fitted = tensor if tensor.shape == state[name].shape else resized_positions(tensor, state[name])
            assert fitted is not None
            given[name] = fitted.float() if fitted.is_floating_point() else fitted
    encoder.load_state_dict(given, strict=False, assign=True)
    return encoder


def _interpolates(name: str, given: Tensor, wanted: Tensor) -> bool:
    if name != "pos_embed" or given.ndim != 3 or given.shape[2] != wanted.shape[2]:
        return False
    return resized_positions(torch.zeros(given.shape), torch.zeros(wanted.shape)) is not None


def _first(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
