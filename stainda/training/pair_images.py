"""The images of training without labels: which pairs make up each batch, and how they are augmented."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stainda.config import InitConfig
from stainda.errors import TrainingError
from stainda.randomness import generator_for, seed_for
from stainda.stains import BlurNoise, ColourJitter, Geometry, HedJitter
from stainda.stains.colour import greyscale
from stainda.strategies.detector import Detector
from stainda.training.batches import EpochSampler

if TYPE_CHECKING:
    from stainda.patches.unlabelled_data import UnlabelledData

GEOMETRY = Geometry(scale=0.5, shift=0.1)
GREY = 0.2
"""Share of the patches that lose their colour, where colours change at all (as in SimCLR)."""


class PairImages:
    """Batches of pairs, each of one domain or one pair of domains.

    Attributes:
        steps: batches of an epoch. pairs_used, pairs_left_out: of serial sections.

    Raises:
        TrainingError: fewer than four patches of a domain, or pairs of two domains.
    """

    def __init__(self, config: InitConfig, data: UnlabelledData, detector: Detector, seed: int) -> None:
        self._config, self._data, self._detector, self._seed = config, data, detector, seed
        self.pairs_used = self.pairs_left_out = 0
        self._pairs = None
        if config.pairs == "serial":
            self._pairs, self.pairs_left_out = data.pairs(config.certainty)
            self.pairs_used = len(self._pairs)
            names = np.asarray(self._pairs.kinds, dtype=object)
        else:
            names = data.table["domain"].to_numpy(object)
        self._groups: Mapping[str, NDArray[np.intp]] = {
            name: np.flatnonzero(names == name) for name in dict.fromkeys(names.tolist())
        }
        few = [name for name, members in self._groups.items() if len(members) < 4]
        self._groups = {name: members for name, members in self._groups.items() if name not in few}
        if not self._groups:
            raise TrainingError(
                f"there are too few unlabelled patches to learn from: fewer than 4 of {', '.join(few) or 'any domain'}",
                remedy="Raise patches.min_per_slide",
            )
        self._sizes = {name: max(1, len(members) // config.batch_size) for name, members in self._groups.items()}
        self.steps = sum(self._sizes.values())

    def probe(self) -> Tensor:
        """Some patches as the network takes them."""
        rows = self._data.rows[:2]
        images = self._detector.images(self._data.data.images(rows))
        return self._detector.see(images, self._slides(rows))

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The two sides of each batch, ready for the network, and which of its pairs show the same place."""
        generator = generator_for(self._seed, NAME, epoch)
        draws = torch.Generator().manual_seed(seed_for(self._seed, NAME, "augment", epoch))
        decks = {name: EpochSampler(members, generator) for name, members in self._groups.items()}
        turns = [name for name, count in self._sizes.items() for _ in range(count)]
        for index in generator.permutation(len(turns)):
            name = turns[index]
            size = min(self._config.batch_size, len(self._groups[name]))
            dealt = np.asarray(decks[name].deal(size))
            yield self._serial(dealt, draws) if self._pairs is not None else self._augmented_twice(dealt, draws)

    def _augmented_twice(self, dealt: NDArray[np.intp], draws: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        from stainda.patches.unlabelled_data import nearby

        rows = self._data.rows[dealt]
        images, slides = self._detector.images(self._data.data.images(rows)), self._slides(rows)
        same = nearby(self._data.store.table, rows, self._size)
        sides = [self._view(images, slides, draws) for _ in range(2)]
        return sides[0], sides[1], torch.from_numpy(same)

    def _serial(self, dealt: NDArray[np.intp], draws: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        from stainda.patches.unlabelled_data import nearby

        assert self._pairs is not None
        drawn, table = self._pairs.read(dealt), self._pairs.table.iloc[dealt]
        rows = table["one"].to_numpy(int)
        second = table.rename(columns={"two_slide": "slide"})
        scale = self._data.store.meta["downsample"]
        second = second.assign(downsample=[float(scale[slide]) for slide in second["slide"]])
        same = nearby(self._data.store.table, rows, self._size) | nearby(second, np.arange(len(second)), self._size)
        first_view = self._view(self._detector.images(drawn.one), drawn.one_slides, draws)
        second_view = self._view(self._detector.images(drawn.two), drawn.two_slides, draws)
        return first_view, second_view, torch.from_numpy(same)

    def _view(self, images: Tensor, slides: Sequence[str], draws: torch.Generator) -> Tensor:
        """Normaliser, then augmentation, then views that drop colour, then standardisation, as in training."""
        view = self._detector.strategy.view
        if view.is_colour:
            images = view(images, slides)
        images, _ = GEOMETRY(images, None, draws)
        for change in self._colours():
            images = change(images, draws)
        if not view.is_colour:
            images = view(images, slides)
        return self._detector.standard(images).contiguous(memory_format=torch.channels_last)

    def _colours(self) -> list[Callable[[Tensor, torch.Generator], Tensor]]:
        strength = self._config.colour
        if strength == "none":
            return []
        sigma = 0.2 if strength == "strong" else 0.05
        jitter, dyes, blur = ColourJitter.of(strength), HedJitter(sigma=sigma), BlurNoise()
        changes: list[Callable[[Tensor, torch.Generator], Tensor]] = [
            lambda images, draws: jitter(images, None, draws)[0],
            lambda images, draws: dyes(images, None, draws)[0],
            lambda images, draws: blur(images, None, draws)[0],
        ]
        return [*changes, _some_grey] if strength == "strong" else changes

    def _slides(self, rows: NDArray[np.intp]) -> list[str]:
        return self._data.store.table["slide"].iloc[rows].astype(str).tolist()

    @property
    def _size(self) -> int:
        return int(self._data.store.meta["size"])


NAME = "pretraining"


def _some_grey(images: Tensor, draws: torch.Generator) -> Tensor:
    chosen = (torch.rand(len(images), generator=draws) < GREY).to(images.device)
    return torch.where(chosen[:, None, None, None], greyscale(images).expand_as(images), images)
