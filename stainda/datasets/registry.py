"""The list of public data sets."""

from __future__ import annotations

from stainda.datasets import (
    acrobat,
    aidpath,
    anhir,
    camelyon17,
    cima,
    hubmap,
    kpis,
    midog,
    monuseg,
    nuinsseg,
)
from stainda.datasets.entry import PublicDataset
from stainda.errors import ManifestError, did_you_mean

DATASETS: dict[str, PublicDataset] = {
    module.DATASET.name: module.DATASET
    for module in (hubmap, kpis, aidpath, anhir, cima, acrobat, monuseg, nuinsseg, midog, camelyon17)
}


def public_dataset(name: str) -> PublicDataset:
    """The data set of that name, in any case.

    Raises:
        ManifestError: there is none; the nearest is named.
    """
    wanted = name.lower().replace("-", "_")
    if wanted not in DATASETS:
        raise ManifestError(f"unknown data set {name!r}", remedy=did_you_mean(wanted, DATASETS))
    return DATASETS[wanted]
