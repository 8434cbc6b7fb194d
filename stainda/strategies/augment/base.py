"""What every augment part is given and gives back (the changes themselves are those of ``stainda.stains``)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.parts import Part

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from stainda.stains import Augmentation


Shown = Callable[[], "Tensor"]
"""Gives some patches, float RGB ``[N, 3, H, W]`` in 0..1 as augmentation meets them; reads them when it is called."""


class Augment(Part):
    """A random change of a batch, every patch with its own draw, in training only."""

    tasks: ClassVar[tuple[str, ...]] = ("segmentation", "classification")

    @property
    def needs_targets(self) -> bool:
        """Whether unlabelled target images have to be visible in training."""
        return False

    @property
    def zoom(self) -> tuple[float, float] | None:
        """Largest relative change of size and the share of patches it falls on, where the part changes sizes."""
        return None

    def without_zoom(self) -> Augment:
        """The part without its change of size, for patches that were cut at another size already."""
        return self

    def prepare(self, network: nn.Module) -> None:
        """Change the network before training (for changes of features); at prediction nothing may come of it."""

    def learn(self, source: Shown, targets: Shown) -> None:
        """Called once before training.

        Args:
            source: some training patches of the source domains.
            targets: some unlabelled training patches of the target domains, where :attr:`needs_targets`.
        """

    def __call__(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Float RGB ``[N, 3, H, W]`` in 0..1 and integer labels ``[N, H, W]`` to the same; a CPU generator."""
        images, changed = self._change(images, labels, generator)
        assert changed is not None
        return images, changed

    @cached_property
    def _change(self) -> Augmentation:
        raise NotImplementedError
