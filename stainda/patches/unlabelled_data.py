"""What training without labels may see of a store: patches on tissue at random, and pairs of registered sections."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stainda.cohort import Roles
from stainda.errors import LeakError, TrainingError
from stainda.patches.serial import TISSUE, VALIDATION, SerialPairs
from stainda.patches.store import PatchStore
from stainda.patches.training_data import TrainingData

Pairing = Literal["augmentation", "serial"]


class UnlabelledData:
    """A store seen through a protocol, without any label.

    Training patches are those of kind ``unlabelled``, drawn on tissue at random: patches cut around annotations would
    tell where objects are. They are of training patients of source domains, and of target domains where the protocol
    shows them; test patients are not in the store at all.

    Args:
        store: the patches. roles: sources, targets and what is visible of them.
        without: a training patient of whom nothing may be seen.

    Raises:
        LeakError: the store holds a patch for training that the protocol hides.
    """

    def __init__(self, store: PatchStore, roles: Roles, without: str = "") -> None:
        self.store, self.roles, self._without = store, roles, without
        self.data = TrainingData(store, roles, "source", roles.visible, without=without)
        self.seen = (*roles.sources, *(roles.targets if roles.visible == "targets" else ()))
        self.rows = np.sort(np.concatenate([self.data.source_unlabelled(), self.data.unlabelled("train")]))
        refuse_hidden(store.table.iloc[self.rows], self.seen, without)

    @property
    def table(self) -> pd.DataFrame:
        """Where the training patches come from: slide, domain, patient, x, y, downsample, by row of the store."""
        return self.store.table.iloc[self.rows][["slide", "domain", "patient", "x", "y", "downsample"]]

    def pairs(self, certainty: float) -> tuple[SerialPairs, int]:
        """Pairs of training patients whose registration is at least so certain on average; how many were not.

        Raises:
            TrainingError: there are none.
        """
        pairs = SerialPairs.open(self.store, TISSUE)
        seen = None if pairs is None else pairs.within(self.seen, self._gone)
        if seen is None or not len(seen):
            raise TrainingError(
                "pairs of registered sections are wanted and there are none",
                remedy="Set pairs: augmentation, or check in registration/quality.csv that sections of training "
                "patients are registered and protocol.visible shows them",
            )
        refuse_hidden(self.store.table.iloc[seen.table["one"].to_numpy(int)], self.seen, self._without)
        sure = (seen.table["sure"] >= certainty).to_numpy(bool)
        if not sure.any():
            raise TrainingError(
                f"none of {len(seen)} pairs of registered sections has a certainty of {certainty:g} "
                f"(the highest is {seen.table['sure'].max():.2f})",
                remedy="Lower training.init.certainty, or mend the registration",
            )
        return seen.chosen(sure), int((~sure).sum())

    @cached_property
    def validation_pairs(self) -> SerialPairs | None:
        """Pairs of validation patients that may be seen, ``None`` where there are none."""
        pairs = SerialPairs.open(self.store, VALIDATION)
        seen = None if pairs is None else pairs.within(self.seen)
        return seen if seen is not None and len(seen) else None

    def key(self, pairing: Pairing) -> str:
        """Hash of everything that training may see."""
        digest = hashlib.sha256(self.table.to_csv(index=False).encode())
        digest.update(f"{self.store.meta['size']} {self.store.margin}".encode())
        digest.update(self.store.digests("images")[self.rows].tobytes())
        for slide, pixels in self.data.tissue_pixels.items():
            digest.update(slide.encode() + np.ascontiguousarray(pixels).tobytes())
        if pairing == "serial" and (pairs := SerialPairs.open(self.store, TISSUE)) is not None:
            digest.update(pairs.within(self.seen, self._gone).content.encode())
        return digest.hexdigest()[:24]

    @property
    def _gone(self) -> set[str]:
        table = self.store.table
        return set(table["slide"][table["patient"].astype(str) == self._without]) if self._without else set()


def refuse_hidden(table: pd.DataFrame, seen: tuple[str, ...], without: str = "") -> None:
    """Refuse rows of a store that training without labels may not see.

    Raises:
        LeakError: a row is not of a training patient, of a hidden domain, or of the patient left out.
    """
    wrong = table[
        (table["split"] != "train") | ~table["domain"].isin(seen) | (table["patient"].astype(str) == (without or None))
    ]
    if len(wrong):
        row = wrong.iloc[0]
        raise LeakError(
            f"training without labels would see slide {row['slide']} (domain {row['domain']}, patients of "
            f"{row['split']}), which the protocol hides from it"
        )


def nearby(table: pd.DataFrame, rows: NDArray[np.intp], size: int) -> NDArray[np.bool_]:
    """Which patches show the same tissue: bool ``(n, n)``, of one slide and less than half a patch apart.

    Args:
        table: slide, x, y (level-0 pixels), downsample. rows: positions in it. size: pixels of a patch.
    """
    some = table.iloc[rows]
    slides = pd.factorize(some["slide"])[0]
    reach = size / 2 * some["downsample"].to_numpy(float)
    near = slides[:, None] == slides[None, :]
    for name in ("x", "y"):
        at = some[name].to_numpy(float)
        near &= np.abs(at[:, None] - at[None, :]) < reach[:, None]
    return near
