"""The network as torch.compile runs it in training (``training.compile``).

The network itself stays as it is: names of layers and weights, copies, validation and prediction do not know of it.
Compiled are a whole pass through it, with the layers that the strategy and the task read, and one that ends at the
layer of the align part. torch does not look for hooks again once a pass is compiled. A hook that is there for one pass
alone (``strategies/capture.py``) would change nothing, so such a pass runs as without compiling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stainda.errors import TrainingError
from stainda.models import Network
from stainda.strategies.features import find_layer
from stainda.training.batch_pipeline import RunningNetwork

BACKEND = "inductor"
"""Of torch.compile."""


class _Reached(Exception):
    """The layer has been passed; the rest of the pass is not wanted."""


class CompiledNetwork:
    """Passes through a network, compiled whole: where torch could not, the training ends with the reason.

    Args:
        tapped: layer that the align part reads, if it does. layers: further ones that are read.
        autocast: the precision of the training.

    Attributes:
        paused: whether passes run as without compiling, as in steps whose graph is walked more than once: a compiled
            one may have given its memory back.
    """

    def __init__(
        self,
        network: Network,
        tapped: str | None,
        layers: Sequence[str],
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._network, self._autocast, self.paused = network, autocast, False
        self._tapped: list[Tensor] = []
        self._outputs: dict[str, Tensor] = {}
        self._ends_at_layer = False
        for layer in dict.fromkeys(layers):
            find_layer(network, layer).register_forward_hook(self._reader(layer))
        if tapped is not None:
            find_layer(network, tapped).register_forward_hook(self._read_tapped)
        self._hooks = [
            hooks for module in network.modules() for hooks in (module._forward_hooks, module._forward_pre_hooks)
        ]
        self._own_hooks = self._count_hooks()
        self._run = torch.compile(self._whole, fullgraph=True, backend=BACKEND)
        self._run_until = torch.compile(self._first_layers, fullgraph=True, backend=BACKEND)

    @property
    def runs(self) -> bool:
        """Whether the next pass is compiled: not where somebody else reads or changes a layer of the network."""
        return not self.paused and self._count_hooks() == self._own_hooks

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """Logits, features of the align part's layer, and outputs of the further ones by name, all float32."""
        self._network.check_input(images)
        with self._autocast():
            logits, tapped, outputs = self._run(images)
        return logits.float(), tapped[-1].float() if tapped else None, outputs

    def until(self, images: Tensor) -> Tensor:
        """Features of the align part's layer alone, float32; nothing behind it is computed."""
        self._network.check_input(images)
        with self._autocast():
            features: Tensor = self._run_until(images)
        return features.float()

    def _whole(self, images: Tensor) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
        logits = self._network(images)
        return logits, [self._tapped.pop() for _ in range(len(self._tapped))], self._taken()

    def _first_layers(self, images: Tensor) -> Tensor:
        self._ends_at_layer = True
        with suppress(_Reached):
            self._network(images)
        self._ends_at_layer = False
        self._taken()
        return self._tapped.pop()

    def _taken(self) -> dict[str, Tensor]:
        return {layer: self._outputs.pop(layer) for layer in list(self._outputs)}

    def _reader(self, layer: str) -> Callable[[nn.Module, Any, Any], None]:
        def read(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if torch.compiler.is_compiling():
                self._outputs[layer] = _last(output).float()

        return read

    def _read_tapped(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if torch.compiler.is_compiling():
            self._tapped.append(_last(output))
            if self._ends_at_layer:
                raise _Reached

    def _count_hooks(self) -> int:
        return sum(map(len, self._hooks))


def _last(output: Any) -> Tensor:
    result: Tensor = output[-1] if isinstance(output, list | tuple) else output
    return result


@dataclass(frozen=True, eq=False)
class CompiledPasses(RunningNetwork):
    """As :class:`RunningNetwork`, its passes compiled."""

    compiled: CompiledNetwork

    def heard(self, images: Tensor, layers: Sequence[str] = ()) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        if not self.compiled.runs:
            return super().heard(images, layers)
        logits, features, outputs = self.compiled(images)
        return logits, features, [outputs[layer] for layer in layers]

    def until(self, images: Tensor) -> Tensor:
        return self.compiled.until(images) if self.compiled.runs else super().until(images)


@contextmanager
def compiled_steps(given: bool) -> Iterator[None]:
    """Where passes are compiled, what torch's compiler raises becomes an error that says what to do, and what it keeps
    of the network is gone afterwards.

    Raises:
        TrainingError: the network cannot be compiled, or not here.
    """
    if not given:
        yield
        return
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise TrainingError(
            f"torch.compile failed: {' '.join([type(error).__name__, *lines[:2]])}",
            remedy="Set training.compile to false, or mend what the compiler names",
        ) from error
    finally:
        torch.compiler.reset()
