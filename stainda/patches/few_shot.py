"""Selection of the annotated target patches that a few-shot training may see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stainda.errors import ConfigError
from stainda.randomness import generator_for


@dataclass(frozen=True)
class FewShot:
    """A few annotations of the targets.

    Attributes:
        k: patches, or patients, of every target domain.
        unit: what ``k`` counts.
        seed: which ones are drawn.
    """

    k: int
    unit: Literal["patches", "patients"]
    seed: int

    def choose(self, table: pd.DataFrame, targets: Sequence[str]) -> NDArray[np.intp]:
        """Rows of a store's table, in ascending order: of kind ``oracle``, of training patients, of these domains.

        Slide, patient, domain, split and kind are all that is looked at. Patches are drawn domain by domain. Patients
        are put in one random order for all domains, and each domain takes the first ``k`` that it has.

        Raises:
            ConfigError: a target domain has fewer than ``k``.
        """
        usable = table[(table["kind"] == "oracle") & (table["split"] == "train")]
        order = generator_for(self.seed, "few shot patients").permutation(sorted(set(usable["patient"].astype(str))))
        chosen: list[int] = []
        for domain in targets:
            rows = usable[usable["domain"] == domain]
            patients = [patient for patient in order.tolist() if (rows["patient"].astype(str) == patient).any()]
            available = len(rows) if self.unit == "patches" else len(patients)
            if available < self.k:
                raise ConfigError(
                    f"few-shot labels ask for {self.k} {self.unit} of target {domain}, whose training patients have "
                    f"{available} annotated {self.unit}",
                    remedy=f"Set labels.k to {available} at most"
                    if available
                    else "Annotate training patients of this domain, or leave this strategy out",
                )
            if self.unit == "patches":
                drawn = generator_for(self.seed, "few shot patches", domain).permutation(len(rows))[: self.k]
                chosen += table.index.get_indexer(rows.index[np.sort(drawn)]).tolist()
            else:
                taken = rows["patient"].astype(str).isin(patients[: self.k])
                chosen += table.index.get_indexer(rows.index[taken.to_numpy(bool)]).tolist()
        return np.sort(np.asarray(chosen, np.intp))
