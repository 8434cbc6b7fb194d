"""The part of a patch store that a training job may see; target labels cannot be reached by mistake."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from stainda.arrays import Array
from stainda.cohort import Roles
from stainda.errors import ConfigError, LeakError, did_you_mean
from stainda.patches.crowd import Crowd, CrowdLabels
from stainda.patches.few_shot import FewShot
from stainda.patches.label_objects import LabelObjects
from stainda.patches.label_share import Annotated, ChosenLabels, KnownLabels, LabelShare
from stainda.patches.serial import SerialPairs
from stainda.patches.store import PatchStore
from stainda.patches.windows import OUTSIDE, cut_windows

Labels = Literal["source", "propagated", "few_shot", "all"]
Visible = Literal["targets", "nothing"]

_TABLE_COLUMNS = ["slide", "patient", "block", "stain", "centre", "scanner", "domain", "split", "kind"]
_ROW_COLUMNS = [*_TABLE_COLUMNS, "around", "x", "y", "downsample"]


class TrainingData:
    """A store seen through a protocol and a strategy's label rule.

    Args:
        store: the patches.
        roles: sources and targets of the protocol.
        labels: ``source`` (labels of source domains), ``propagated`` (also those propagated over to targets), ``all``
            (also the targets' own: the ceiling), ``few_shot``
            (also a few of the targets' own: those that ``few_shot`` chooses, and no others).
        visible: ``targets`` (their unlabelled patches may be used: adaptation) or ``nothing`` (generalisation).
        few_shot: how many annotations of targets, for the rule of that name.
        without: a training patient of whom nothing may be seen, in no domain.
        share: which of the source's annotated objects are known, where it is not all of them: what the others cover is
            255 in training labels. Validation keeps all of its labels.
        crowd: whose answers teach, where several annotated the source's training patients: their fused answers are the
            labels of training patches, and :meth:`votes` gives each one's. Patches that none of them saw keep their own
            labels, and so does validation.
        refit: labels of the source's validation patients are learned from too, and nothing is left to validate on.
            Of targets the same is seen as without.

    Raises:
        ConfigError: an unknown word, propagated or few-shot labels where targets may not be seen, or fewer annotations
            than few-shot labels ask for.
    """

    def __init__(
        self,
        store: PatchStore,
        roles: Roles,
        labels: Labels = "source",
        visible: Visible = "targets",
        *,
        few_shot: FewShot | None = None,
        without: str = "",
        refit: bool = False,
        share: LabelShare | ChosenLabels | None = None,
        crowd: Crowd | None = None,
    ) -> None:
        rules = ("source", "propagated", "few_shot", "all")
        for word, options in ((labels, rules), (visible, ("targets", "nothing"))):
            if word not in options:
                raise ConfigError(f"unknown label rule or visibility {word!r}", remedy=did_you_mean(word, options))
        if (labels == "few_shot") != (few_shot is not None):
            raise ConfigError("few-shot labels and how many of them go together", remedy="Give both or neither")
        if labels in ("propagated", "few_shot") and visible == "nothing":
            raise ConfigError(
                f"{labels} labels lie on target slides, which the protocol does not show in training",
                remedy="Set protocol.visible to targets, or leave out this strategy",
            )
        self.store, self.roles, self.rule, self.visible = store, roles, labels, visible
        self._arrays: dict[str, NDArray[np.uint8]] = {}
        table = store.table
        self._kind = table["kind"].to_numpy(object)
        self._gone = (table["patient"].astype(str) == without).to_numpy(bool) if without else np.zeros(len(table), bool)
        self._source = table["domain"].isin(roles.sources).to_numpy(bool)
        split = table["split"].to_numpy(object)
        if refit:
            split = np.where(self._source & (split == "val"), "train", split)
        self._split = np.where(self._gone, "left out", split)
        self._target = table["domain"].isin(roles.targets).to_numpy(bool)
        self._open = np.full(len(table), labels == "all")  # oracle patches that may be seen
        self._alone = np.zeros(len(table), bool)  # patches around which nobody annotated
        if few_shot is not None:
            chosen = few_shot.choose(table, roles.targets)
            self._open[chosen] = True
            self._alone[chosen] = few_shot.unit == "patches"
        self._known: KnownLabels | None = None
        if share is not None:
            some = self._source & (self._kind == "labelled")
            if labels == "propagated":
                some = some | (self._target & (self._kind == "propagated"))
            objects = LabelObjects.open(store)
            self._known = KnownLabels(store, objects, share, some & (self._split == "train"), without, refit)
        self._crowd = None if crowd is None else self._fused(crowd)

    def _fused(self, crowd: Crowd) -> CrowdLabels:
        """Labels of the training patches from the answers of several annotators."""
        rows = self.labelled("train") if self.store.annotators else ()
        patches = (self._codes(np.array([row]), None) for row in rows)
        return CrowdLabels(crowd, self.store.annotators, len(self.classes), patches)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": {}}  # pixels stay in the files

    @property
    def classes(self) -> tuple[str, ...]:
        return self.store.classes

    @property
    def annotated(self) -> Annotated | None:
        """How much annotation is used, where it is a share of the source's; ``None``: all of it."""
        return None if self._known is None else self._known.amount

    @cached_property
    def table(self) -> pd.DataFrame:
        """Where every patch of the store comes from, by index; nothing of what is on it."""
        return self.store.table[_TABLE_COLUMNS]

    def labelled(self, split: Literal["train", "val"] = "train") -> NDArray[np.intp]:
        """Rows with labels that may be used. Validation is on source domains, whatever the strategy."""
        chosen = self._source & (self._kind == "labelled")
        if split == "train" and self.rule == "propagated":
            chosen = chosen | (self._target & (self._kind == "propagated"))
        if split == "train" and self.rule in ("few_shot", "all"):
            chosen = chosen | (self._target & (self._kind == "oracle") & self._open)
        if split == "train" and self._known is not None:
            chosen = chosen & self._known.usable
        return np.flatnonzero(chosen & (self._split == split))

    def unlabelled(self, split: Literal["train", "val"] = "train") -> NDArray[np.intp]:
        """Rows of target domains without labels; none where the protocol shows nothing of them."""
        shown = self._target & (self._kind == "unlabelled") & (self._split == split)
        return np.flatnonzero(shown & (self.visible == "targets"))

    def source_unlabelled(self) -> NDArray[np.intp]:
        """Rows of training patients of source domains, on tissue at random as the targets' are; their labels are not
        used. What is compared between source and target is drawn from these and :meth:`unlabelled`, by one rule."""
        return np.flatnonzero(self._source & (self._kind == "unlabelled") & (self._split == "train"))

    def rows(self, indices: ArrayLike) -> pd.DataFrame:
        """Where patches come from: slide, patient, block, stain, centre, scanner, domain, split, kind, around, x, y."""
        return self.store.table.iloc[self._allowed(indices)][_ROW_COLUMNS]

    @property
    def margin(self) -> int:
        """Pixels stored around a patch on each side, of which windows are cut."""
        return self.store.margin

    def images(self, indices: ArrayLike, windows: ArrayLike | None = None) -> NDArray[np.uint8]:
        """Copies of patches: uint8 (n, size, size, 3).

        Args:
            windows: whole numbers (n, 3), x, y and side in stored pixels (``patches.windows``): these are cut and
                brought to the size of a patch; ``None``: the patches themselves.

        Raises:
            LeakError: patches of targets where none may be seen, or patches cut around a target's own annotations
                outside the ceiling.
        """
        return self._cut("images", self._allowed(indices), windows, smooth=True)

    def labels(self, indices: ArrayLike, windows: ArrayLike | None = None) -> NDArray[np.uint8]:
        """What the network is to answer: uint8 (n, size, size), 0 background, i + 1 class i, 255 ignored.

        Args:
            windows: as for :meth:`images`. Where a few patches of targets are annotated, what lies next to them is 255.

        Raises:
            LeakError: a row of a target domain that the label rule does not give; a row without label.
        """
        indices = np.atleast_1d(np.asarray(indices, dtype=np.intp))
        whole = windows is None and self._known is None and self._crowd is None
        if whole and not np.count_nonzero(self._not_plain[indices]):
            return self._cut("own", indices, None, smooth=False)
        indices = self._learnable(indices)
        propagated = self._is["propagated"][indices]
        out = self._cut("own", indices, windows, smooth=False)
        if propagated.any():
            some = None if windows is None else np.asarray(windows)[propagated]
            out[propagated] = self._cut("propagated", indices[propagated], some, smooth=False)
        if self._crowd is not None and len(taught := np.flatnonzero(self._is_taught[indices])):
            some = None if windows is None else np.asarray(windows)[taught]
            out[taught] = self._crowd.fused(self._codes(indices[taught], some), out[taught])
        if windows is not None and self._alone.any():
            few = self._alone[indices]
            out[few] = np.where(self._inside(np.asarray(windows)[few]), out[few], OUTSIDE)
        return out

    def weights(self, indices: ArrayLike, windows: ArrayLike | None = None) -> NDArray[np.float32] | None:
        """How much each pixel counts: float32 (n, size, size) in 0..1, 1 for everything but propagated labels;
        ``None`` where the study did not ask for weights, or the label rule gives no propagated labels.

        Raises:
            LeakError: as for :meth:`labels`.
        """
        if self.store.weights is None or self.rule != "propagated":
            return None
        indices = self._allowed(indices)
        out = np.ones((len(indices), *[self._size] * 2), np.float32)
        propagated = self._is["propagated"][indices]
        some = None if windows is None else np.asarray(windows)[propagated]
        out[propagated] = self._cut("weights", indices[propagated], some, smooth=False).astype(np.float32) / 255
        return out

    def details(self, indices: ArrayLike, windows: ArrayLike | None = None) -> NDArray[np.uint16] | None:
        """What the task asks of each pixel besides its class: uint16 (n, size, size), see :mod:`patches.details`;
        ``None`` where the store has none. Of no meaning where :meth:`labels` is 255.

        Raises:
            LeakError: as for :meth:`labels`.
        """
        if not self.store.has_details:
            return None
        return np.asarray(self._cut("details", self._learnable(indices), windows, smooth=False), np.uint16)

    @property
    def annotators(self) -> tuple[str, ...]:
        """Names of those whose answers teach; empty without a crowd."""
        return () if self._crowd is None else self._crowd.names

    def votes(self, indices: ArrayLike, windows: ArrayLike | None = None) -> NDArray[np.uint8]:
        """What each of :attr:`annotators` answers: uint8 (A, n, size, size), labels as of :meth:`labels`, 255 silent.

        Raises:
            LeakError: as for :meth:`labels`.
        """
        assert self._crowd is not None
        indices = self._learnable(indices)
        taught = self._is_taught[indices][:, None, None]
        codes = np.where(taught, self._codes(indices, windows), OUTSIDE)
        return np.moveaxis(self._crowd.answers[codes], -1, 0)

    def _codes(self, rows: NDArray[np.intp], windows: ArrayLike | None) -> NDArray[np.uint16]:
        return np.asarray(self._cut("votes", rows, windows, smooth=False), np.uint16)

    @cached_property
    def _is_taught(self) -> NDArray[np.bool_]:
        """Rows whose labels are the crowd's: labelled ones of the source's training patients."""
        return np.asarray(self._source & (self._kind == "labelled") & (self._split == "train"), bool)

    target_labels = labels  # what the network is to answer, not labels of target domains only

    @cached_property
    def serial(self) -> SerialPairs | None:
        """Pairs of patches of registered sections that may be seen: of sources, and of targets where they are visible;
        ``None`` where none were cut."""
        seen = (*self.roles.sources, *(self.roles.targets if self.visible == "targets" else ()))
        pairs = SerialPairs.open(self.store)
        gone = set(self.store.table["slide"].to_numpy(object)[self._gone])
        return None if pairs is None else pairs.within(seen, gone)

    @cached_property
    def tissue_pixels(self) -> dict[str, NDArray[np.uint8]]:
        """Tissue colours, uint8 (n, 3), of the slides that may be seen: sources, and targets where they are visible."""
        seen = self._source | (self._target & (self.visible == "targets" or self.rule == "all"))
        slides = set(self.store.table["slide"].to_numpy(object)[seen & ~self._gone])
        return {slide: pixels for slide, pixels in self.store.tissue_pixels.items() if slide in slides}

    @cached_property
    def key(self) -> str:
        """Hash of everything that can be read here, and of nothing else of the store.

        A job is named by it: where it is the same, a training sees the same bytes in the same order. Patches of
        another label rule, labels that are hidden, and the positions of visible rows in the store do not change it.
        Pairs of serial sections have a key of their own (:attr:`SerialPairs.content`).
        """
        store = self.store
        learned = np.concatenate([self.labelled("train"), self.labelled("val")])
        looked_at = [self.unlabelled("train"), self.unlabelled("val"), self.source_unlabelled()]
        rows = np.union1d(learned, np.concatenate(looked_at))
        about = [store.meta["size"], store.margin, list(store.classes), store.meta.get("mpp"), self.rule, self.visible]
        digest = hashlib.sha256(json.dumps(about).encode())
        digest.update(store.table.iloc[rows][_ROW_COLUMNS].to_csv(index=False).encode())
        digest.update(np.isin(rows, learned).tobytes())
        digest.update(store.digests("images")[rows].tobytes())
        propagated = self._kind[learned] == "propagated"
        alone = self._alone[learned]
        digest.update(store.digests("own")[np.sort(learned[~propagated & ~alone])].tobytes())
        digest.update(store.labels("own")[np.sort(learned[alone])].tobytes())
        digest.update(store.digests("propagated")[np.sort(learned[propagated])].tobytes())
        if self._known is not None:
            train = np.sort(self.labelled("train"))
            for kind in ("own", "propagated"):
                rows_of = train[(self._kind[train] == "propagated") == (kind == "propagated")]
                digest.update(store.digests(kind)[rows_of].tobytes() + self._known.content(rows_of))
        if self.rule == "propagated" and store.weights is not None:
            digest.update(store.digests("weights")[np.sort(learned[propagated])].tobytes())
        if store.has_details:
            digest.update(store.digests("details")[np.sort(learned)].tobytes())
        if self._crowd is not None:
            train = np.sort(self.labelled("train"))
            digest.update(json.dumps(self.annotators).encode() + self._crowd.labels.tobytes())
            digest.update(store.digests("votes")[train].tobytes())
        for slide, pixels in self.tissue_pixels.items():
            digest.update(slide.encode() + np.ascontiguousarray(pixels).tobytes())
        return digest.hexdigest()[:24]

    def _regions(self, name: str) -> NDArray[np.uint8]:
        """As the store's, without the cost that numpy's class of memory maps adds to every slice."""
        if name not in self._arrays:
            self._arrays[name] = np.asarray(self.store.regions(name))
        return self._arrays[name]

    @cached_property
    def _size(self) -> int:
        """Pixels of a patch."""
        return int(self.store.images.shape[1])

    @cached_property
    def _margin(self) -> int:
        return self.store.margin

    def _learnable(self, indices: ArrayLike) -> NDArray[np.intp]:
        """Rows, all of which have labels that may be seen."""
        indices = self._allowed(indices)
        hidden = ~self._may_be_learned[indices]
        if hidden.any():
            row = self.store.table.iloc[int(indices[hidden][0])]
            raise LeakError(
                f"the labels of patch {int(indices[hidden][0])} (slide {row['slide']}, domain {row['domain']}, "
                f"{row['kind']}) may not be seen with labels {self.rule!r}",
                remedy="Use rows of labelled()",
            )
        return indices

    @cached_property
    def _may_be_learned(self) -> NDArray[np.bool_]:
        """Rows whose labels may be seen."""
        learnable = np.zeros(len(self._kind), bool)
        learnable[np.concatenate([self.labelled("train"), self.labelled("val")])] = True
        return learnable

    @cached_property
    def _not_plain(self) -> NDArray[np.bool_]:
        """Rows whose labels are refused or not simply those of the store: looked up for every batch."""
        return self._refused | ~self._may_be_learned | self._is["propagated"]

    @cached_property
    def _is(self) -> dict[str, NDArray[np.bool_]]:
        """Rows of each kind of patch that may need to be refused or labelled otherwise."""
        return {kind: self._kind == kind for kind in ("oracle", "propagated")}

    def _inside(self, windows: Array) -> NDArray[np.bool_]:
        """Which pixels of windows lie in the patch itself: bool (n, size, size)."""
        size, margin = self._size, self.store.margin
        patch = np.pad(np.ones((1, size, size), np.uint8), [(0, 0), (margin, margin), (margin, margin)])
        return cut_windows(patch, np.zeros(len(windows), np.intp), windows, size, smooth=False) == 1

    def _cut(self, name: str, rows: NDArray[np.intp], windows: ArrayLike | None, *, smooth: bool) -> NDArray[np.uint8]:
        regions = self._regions(name)
        if self._known is not None and name in ("own", "propagated"):
            regions, rows = self._regions_of(name, rows), np.arange(len(rows))
        if windows is not None:
            return cut_windows(regions, rows, windows, self._size, smooth=smooth)
        inner = slice(self._margin, self._margin + self._size)
        return regions[rows, inner, inner]

    def _regions_of(self, name: str, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Labels of regions, in training without those that are not annotated: uint8 (n, side, side)."""
        regions, known = self._regions(name)[rows], self._known
        if known is None or not len(rows):
            return regions
        hidden = [
            known.hide(row, region) if known.train[row] else region for row, region in zip(rows, regions, strict=True)
        ]
        return np.stack(hidden)

    def _allowed(self, indices: ArrayLike) -> NDArray[np.intp]:
        indices = np.atleast_1d(np.asarray(indices, dtype=np.intp))
        if np.count_nonzero(self._refused[indices]):  # a third of the time of any()
            self._refuse(indices)
        return indices

    @cached_property
    def _refused(self) -> NDArray[np.bool_]:
        """Rows that may not be seen, for any of the reasons that :meth:`_refuse` gives: looked up for every batch."""
        oracle, propagated, target = self._is["oracle"], self._is["propagated"], self._target
        refused = self._gone | ~(self._source | target) | (oracle & ~self._open)
        if self.visible == "nothing":
            refused |= target & ~oracle
        return refused if self.rule == "propagated" else refused | propagated

    def _refuse(self, indices: NDArray[np.intp]) -> None:
        """Say why some of these rows may not be seen."""
        if self._gone[indices].any():
            raise LeakError("patches of the patient who is left out of this training were requested")
        target, oracle = self._target[indices], self._is["oracle"][indices]
        if not (self._source[indices] | target).all():
            raise LeakError("patches of a domain that is neither source nor target of this protocol were requested")
        if (oracle & ~self._open[indices]).any():
            raise LeakError(
                "patches cut around a target's own annotations were requested",
                remedy="Only labels 'all' may use them, and 'few_shot' those few that it was given",
            )
        if self.visible == "nothing" and (target & ~oracle).any():
            raise LeakError(
                "patches of target domains were requested, and the protocol shows nothing of them in training",
                remedy="Set protocol.visible to targets",
            )
        raise LeakError(f"patches cut around propagated annotations were requested with labels {self.rule!r}")
