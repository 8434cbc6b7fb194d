"""What of a store a training job may see. Labels of target domains cannot be reached by mistake."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from stainda.cohort import Roles
from stainda.errors import ConfigError, LeakError, did_you_mean
from stainda.patches.store import PatchStore

Labels = Literal["source", "propagated", "all"]
Visible = Literal["targets", "nothing"]

_TABLE_COLUMNS = ["slide", "patient", "block", "stain", "centre", "scanner", "domain", "split", "kind"]
_ROW_COLUMNS = [
    "slide",
    "patient",
    "block",
    "stain",
    "centre",
    "scanner",
    "domain",
    "split",
    "kind",
    "x",
    "y",
    "downsample",
]


class TrainingData:
    """A store seen through a protocol and a strategy's label rule.

    Args:
        store: the patches.
        roles: sources and targets of the protocol.
        labels: ``source`` (labels of source domains), ``propagated`` (also those carried over to targets), ``all``
            (also the targets' own: the ceiling).
        visible: ``targets`` (their unlabelled patches may be used: adaptation) or ``nothing`` (generalisation).

    Raises:
        ConfigError: an unknown word, or propagated labels where targets may not be seen.
    """

    def __init__(
        self, store: PatchStore, roles: Roles, labels: Labels = "source", visible: Visible = "targets"
    ) -> None:
        for word, options in ((labels, ("source", "propagated", "all")), (visible, ("targets", "nothing"))):
            if word not in options:
                raise ConfigError(f"unknown label rule or visibility {word!r}", remedy=did_you_mean(word, options))
        if labels == "propagated" and visible == "nothing":
            raise ConfigError(
                "propagated labels lie on target slides, which the protocol does not show in training",
                remedy="Set protocol.visible to targets, or leave out this strategy",
            )
        self.store, self.roles, self.rule, self.visible = store, roles, labels, visible
        table = store.table
        self._kind = table["kind"].to_numpy(object)
        self._split = table["split"].to_numpy(object)
        self._source = table["domain"].isin(roles.sources).to_numpy(bool)
        self._target = table["domain"].isin(roles.targets).to_numpy(bool)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.store.classes

    @cached_property
    def table(self) -> pd.DataFrame:
        """Where every patch of the store comes from, by index; nothing of what is on it."""
        return self.store.table[_TABLE_COLUMNS]

    def labelled(self, split: Literal["train", "val"] = "train") -> NDArray[np.intp]:
        """Rows with labels that may be used. Validation is on source domains, whatever the strategy."""
        chosen = self._source & (self._kind == "labelled")
        if split == "train" and self.rule == "propagated":
            chosen = chosen | (self._target & (self._kind == "propagated"))
        if split == "train" and self.rule == "all":
            chosen = chosen | (self._target & (self._kind == "oracle"))
        return np.flatnonzero(chosen & (self._split == split))

    def unlabelled(self, split: Literal["train", "val"] = "train") -> NDArray[np.intp]:
        """Rows of target domains without labels; none where the protocol shows nothing of them."""
        shown = self._target & (self._kind == "unlabelled") & (self._split == split)
        return np.flatnonzero(shown & (self.visible == "targets"))

    def rows(self, indices: ArrayLike) -> pd.DataFrame:
        """Where patches come from: slide, patient, block, stain, centre, scanner, domain, split, kind, x, y."""
        return self.store.table.iloc[self._allowed(indices)][_ROW_COLUMNS]

    def images(self, indices: ArrayLike) -> NDArray[np.uint8]:
        """Copies of patches: uint8 (n, size, size, 3).

        Raises:
            LeakError: patches of targets where none may be seen, or patches cut around a target's own annotations
                outside the ceiling.
        """
        return np.asarray(self.store.images[self._allowed(indices)])

    def labels(self, indices: ArrayLike) -> NDArray[np.uint8]:
        """What the network is to answer: uint8 (n, size, size), 0 background, i + 1 class i, 255 ignored.

        Raises:
            LeakError: a row of a target domain that the label rule does not give; a row without label.
        """
        indices = self._allowed(indices)
        hidden = ~np.isin(indices, np.concatenate([self.labelled("train"), self.labelled("val")]))
        if hidden.any():
            row = self.store.table.iloc[int(indices[hidden][0])]
            raise LeakError(
                f"the labels of patch {int(indices[hidden][0])} (slide {row['slide']}, domain {row['domain']}, "
                f"{row['kind']}) may not be seen with labels {self.rule!r}",
                remedy="Use rows of labelled()",
            )
        carried = self._kind[indices] == "propagated"
        out = np.empty((len(indices), *self.store.images.shape[1:3]), np.uint8)
        out[~carried] = self.store.labels("own")[indices[~carried]]
        out[carried] = self.store.labels("propagated")[indices[carried]]
        return out

    target_labels = labels  # what the network is to answer, not labels of target domains only

    @cached_property
    def tissue_pixels(self) -> dict[str, NDArray[np.uint8]]:
        """Tissue colours, uint8 (n, 3), of the slides that may be seen: sources, and targets where they are visible."""
        seen = self._source | (self._target & (self.visible == "targets" or self.rule == "all"))
        slides = set(self.store.table["slide"].to_numpy(object)[seen])
        return {slide: pixels for slide, pixels in self.store.tissue_pixels.items() if slide in slides}

    def _allowed(self, indices: ArrayLike) -> NDArray[np.intp]:
        indices = np.atleast_1d(np.asarray(indices, dtype=np.intp))
        kind, target = self._kind[indices], self._target[indices]
        if not (self._source[indices] | target).all():
            raise LeakError("patches of a domain that is neither source nor target of this protocol were asked for")
        if self.rule != "all" and (kind == "oracle").any():
            raise LeakError(
                "patches cut around a target's own annotations were asked for", remedy="Only labels 'all' may use them"
            )
        if self.visible == "nothing" and (target & (kind != "oracle")).any():
            raise LeakError(
                "patches of target domains were asked for, and the protocol shows nothing of them in training",
                remedy="Set protocol.visible to targets",
            )
        if self.rule == "source" and (kind == "propagated").any():
            raise LeakError("patches cut around propagated annotations were asked for with labels 'source'")
        return indices
